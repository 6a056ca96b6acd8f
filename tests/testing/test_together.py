"""The tools for tests inside of each other, side by side, and with threads that components have started themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from minions import Component, Inbox, Outbox, State, System, UsageError
from minions.testing import FakeClock, harness, running, simulate


class Echo(Component):
    numbers = Inbox(int)
    echoes = Outbox(int, optional=True)
    count = State(int)

    @numbers.handler
    def take(self, number: int) -> None:
        self.count += 1
        self.echoes.send(number)


class Answers(Component):
    def ask(self) -> int:
        return 1


class Source(Component):
    out = Outbox(int)

    def run(self) -> None:
        self.out.send(1)


class Nests(Component):
    """Its handler makes a harness of its own, runs a system, and simulates one."""

    numbers = Inbox(int)

    @numbers.handler
    def take(self, number: int) -> None:
        with harness(Echo()) as inner:
            inner.send(inner.component.numbers, number)
            assert inner.sent(inner.component.echoes) == [number]
        with running(answering("inner")):
            pass
        simulate(answering("simulated"))


def answering(name: str) -> System:
    system = System(name)
    system.add(Answers())
    return system


def test_a_harness_inside_of_a_harness() -> None:
    with harness(Nests()) as h:
        h.send(h.component.numbers, 3)
        assert h.waiting(h.component.numbers) == []


def test_two_harnesses_side_by_side() -> None:
    with harness(Echo()) as one, harness(Echo()) as other:
        one.send(one.component.numbers, 1)
        other.send(other.component.numbers, 2)
        one.crash()
        other.send(other.component.numbers, 3)
        one.restart()
        assert one.sent(one.component.echoes) == [1]
        assert other.sent(other.component.echoes) == [2, 3]


def test_a_system_is_simulated_while_a_harness_and_a_system_run() -> None:
    with harness(Echo()) as h, running(answering("outer")) as run:
        system = System("echoing")
        source, echo = system.add(Source()), system.add(Echo())
        system.connect(source.out, echo.numbers)
        assert simulate(system).finished
        h.send(h.component.numbers, 1)
        run.until_idle()


@pytest.mark.parametrize("clock", [None, FakeClock()], ids=["real time", "one clock for both"])
def test_a_block_that_ends_does_not_take_the_threads_of_another_one_for_its_own(clock: FakeClock | None) -> None:
    first, second = running(answering("same"), clock=clock), running(answering("same"), clock=clock)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.until_idle()
    second.__exit__(None, None, None)


class JustBegins(threading.Thread):
    """Is listed, and cannot be joined before somebody waits for its beginning who has not begun it."""

    def __init__(self) -> None:
        super().__init__(name="late", daemon=True)
        self.is_listed = threading.Event()
        self.is_waited_for = threading.Event()
        begun: threading.Event = self._started  # type: ignore[attr-defined]
        wait = begun.wait

        def waited(timeout: float | None = None) -> bool:
            if threading.current_thread() is threading.main_thread():
                self.is_waited_for.set()
            return wait(timeout)

        begun.wait = waited  # type: ignore[method-assign]

    def _bootstrap_inner(self) -> None:
        self.is_listed.set()
        self.is_waited_for.wait()
        super()._bootstrap_inner()  # type: ignore[misc]


def test_a_thread_that_just_begins_when_a_block_ends_is_waited_for() -> None:
    late, go_on = JustBegins(), threading.Event()

    def start_late() -> None:
        go_on.wait()
        late.start()

    starter = threading.Thread(target=start_late, daemon=True)
    starter.start()
    with running(answering("ending")):
        go_on.set()
        late.is_listed.wait()
    assert not late.is_alive()
    starter.join()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_thread_that_is_left_is_told_by_the_last_block_too(gate: threading.Event) -> None:
    class Starts(Component):
        def on_start(self) -> None:
            threading.Thread(target=gate.wait, name="of its own", daemon=True).start()

        def ask(self) -> None: ...

    system = System("starting")
    system.add(Starts())
    with running(answering("other")):
        with pytest.raises(AssertionError, match="thread of its own is left"), running(system, timeout_s=0.5):
            pass
        gate.set()


def test_a_thread_that_a_component_starts_in_a_harness_is_refused_to_the_test(gate: threading.Event) -> None:
    class Starts(Component):
        numbers = Inbox(int)

        @numbers.handler
        def take(self, number: int) -> None:
            threading.Thread(target=gate.wait, name="of its own", daemon=True).start()

    h = harness(Starts())
    with pytest.raises(
        UsageError, match=r"starts\.take has started the thread 'of its own': a simulation has one thread"
    ):
        h.send(h.component.numbers, 1)
    h.close()
    h = harness(Starts(), raises=False)
    h.send(h.component.numbers, 1)
    [error] = h.raised
    assert isinstance(error, UsageError)
    h.close()

"""The supervisor's thread and the lives that it begins: timing of restarts, stuck threads, damage, and what hangs on it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import (
    Backoff,
    CannotDecode,
    Component,
    Inbox,
    Outbox,
    Restart,
    Retry,
    State,
    StoreTooNew,
    System,
    events,
)
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start, dead_letters, in_virtual_time
from tests.life.counting import Kept


class One(Component):
    """Sends one number, once."""

    value: int = 1
    out = Outbox(Number)
    done = State(bool)

    def run(self) -> None:
        with self.unit():
            if not self.done:
                self.out.send(Number(self.value))
            self.done = True


# Timing ---------------------------------------------------------------------------------------------------------------


def test_a_component_comes_back_exactly_after_its_backoff(system: System) -> None:
    clock, lives = FakeClock(), Log()

    class Failing(Component):
        def run(self) -> None:
            lives.add(clock.monotonic() - 1_000.0)
            raise ValueError("again")

    backoff = Backoff(initial_s=1.0, factor=3.0, longest_s=8.0, jitter_ratio=0.0)
    system.add(Failing(), restart=Restart(failures=4, backoff=backoff))
    with in_virtual_time(system, clock, forever=False, expect_failures=5, expect_problems=1) as run:
        clock.advance(0.999)
        assert lives.entries == [0.0], "not before its time"
        clock.advance(100.0)
        assert run.until_over().reason == "failed"
    assert lives.entries == [0.0, 1.0, 4.0, 12.0, 20.0]


def test_a_message_is_tried_again_exactly_after_its_backoff(system: System) -> None:
    clock, tries = FakeClock(), Log()

    class Failing(Component):
        numbers = Inbox(Number, retry=Retry(attempts=3, backoff=Backoff(initial_s=2.0, factor=5.0, jitter_ratio=0.0)))

        @numbers.handler
        def handle(self, number: Number) -> None:
            tries.add(clock.monotonic() - 1_000.0)
            raise ValueError("again")

    one, failing = system.add(One()), system.add(Failing())
    system.connect(one.out, failing.numbers)
    with in_virtual_time(system, clock, forever=False, expect_failures=3, expect_dead_letters=1) as run:
        clock.advance(1.999)
        assert tries.entries == [0.0], "not before its time"
        clock.advance(100.0)
        assert run.until_over().reason == "finished"
    assert tries.entries == [0.0, 2.0, 12.0]


# Threads that do not end ----------------------------------------------------------------------------------------------


def test_a_thread_that_does_not_end_is_asked_again_then_abandoned_and_can_do_nothing_any_more(
    new_system: Callable[[], System], start: Start
) -> None:
    clock, gate, after, interrupted = FakeClock(), Gate(), Log(), threading.Event()
    came = Gate()
    system = new_system()

    class Keeping(Kept):
        def keep(self, number: Number) -> None:
            came.pass_through()
            super().keep(number)

    class Stuck(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            self.out.send(Number(1))
            gate.pass_through()  # deaf to everything
            for act in (self.send, self.commit):
                try:
                    act()
                except BaseException as error:  # noqa: BLE001 - what the test is about
                    after.add(type(error).__name__)
            self.sent = 99

        def send(self) -> None:
            self.out.send(Number(2))

        def on_interrupt(self) -> None:
            interrupted.set()

    stuck, kept = system.add(Stuck()), system.add(Keeping())
    system.connect(stuck.out, kept.numbers)
    came.open()
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    came.wait_reached()  # otherwise the time that is left for it may be over before its thread has had a turn
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=2.0)
    assert interrupted.wait(PATIENCE_S)
    clock.advance(seconds=4.0)  # the time for draining is over: the rest stops
    run.wait_for(events.ComponentStopped)
    clock.advance(seconds=4.0)

    stopped = run.ended()
    assert stopped.survivors == ("stuck",)
    assert stopped.problems == ("stuck did not stop in time, its thread was abandoned",)
    [abandoned] = run.all(events.ComponentAbandoned)
    assert abandoned.component == "stuck"
    assert "gate.pass_through()  # deaf to everything" in abandoned.stack
    assert "minions/life" not in abandoned.stack.splitlines()[0]
    gate.open()
    assert after.wait_for_count(2)[:2] == ["StaleComponent", "StaleComponent"]
    assert (kept.values, stuck.sent) == ([1], 0)


@pytest.mark.parametrize("place", ["handler", "unit"])
def test_a_unit_that_an_abandoned_thread_completes_late_never_was(system: System, start: Start, place: str) -> None:
    clock, gate, refused = FakeClock(), Gate(), Log()

    class Handling(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)
        seen = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.seen.append(number.value)
            self.out.send(number)
            gate.pass_through()

    class Looping(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)
        seen = State(list[int])

        def run(self) -> None:
            try:
                with self.unit():
                    number = self.numbers.receive()
                    self.seen.append(number.value)
                    self.out.send(number)
                    gate.pass_through()
            except BaseException as error:
                refused.add(type(error).__name__)
                raise

    one, kept = system.add(One()), system.add(Kept())
    stuck: Handling | Looping = Handling() if place == "handler" else Looping()
    system.add(stuck, name="stuck")
    system.connect(one.out, stuck.numbers)
    system.connect(stuck.out, kept.numbers)
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=6.0)
    run.wait_for(events.ComponentStopped)
    clock.advance(seconds=4.0)
    assert run.ended().survivors == ("stuck",)
    left = [thread for thread in threading.enumerate() if thread.name == "test/stuck"]
    gate.open()
    for thread in left:
        thread.join(PATIENCE_S)

    channels = run.runtime.plan.channels
    assert (channels["stuck.numbers"].size, channels["kept.numbers"].size) == (1, 0), "it waits for the next start"
    assert run.runtime.journal.stored_states("stuck").get("seen", b"[]}").endswith(b"[]}")
    assert refused.entries == (["StaleComponent"] if place == "unit" else [])


def test_an_interrupt_that_raises_is_told_and_one_that_hangs_holds_nothing_up(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()

    class Raising(Component):
        def run(self) -> None:
            gate.pass_through()

        def on_interrupt(self) -> None:
            raise OSError("no socket")

    class Hanging(Component):
        def run(self) -> None:
            gate.pass_through()

        def on_interrupt(self) -> None:
            gate.pass_through()

    system.add(Raising())
    system.add(Hanging())
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=2.0)
    [failed] = run.wait_for(events.ComponentFailed)
    assert (failed.component, failed.where, failed.error) == ("raising", "on_interrupt", "OSError: no socket")
    gate.wait_reached()
    clock.advance(seconds=8.0)
    assert set(run.ended().survivors) == {"raising", "hanging"}
    gate.open()


def test_a_machine_without_threads_is_a_failure_to_start(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "test/kept":
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    one, kept = system.add(One()), system.add(Kept(), restart=Restart(failures=2, backoff=Backoff(initial_s=0.0)))
    system.connect(one.out, kept.numbers)

    stopped = start(system, forever=False).ended()

    assert stopped.problems == ("kept failed in on_start: RuntimeError: can't start new thread",)


# The supervisor itself ------------------------------------------------------------------------------------------------


def test_a_defect_of_the_supervisor_ends_everything_and_is_told(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = Log()
    monkeypatch.setattr(threading, "excepthook", lambda report: reported.add(report.exc_value))

    class Waiting(Component):
        def run(self) -> None:
            self.sleep(1e6)

    system.add(Waiting())
    run = start(system).up()
    monkeypatch.setattr(run.runtime._supervisor.supervision, "handle", lambda command, now_s: 1 / 0)
    run.runtime.stop("stopped")

    stopped = run.ended()
    assert stopped.problems == ("the supervisor failed: ZeroDivisionError: division by zero",)
    assert [type(error) for error in reported.entries] == [ZeroDivisionError]


def test_reach_returns_also_after_the_end(system: System, start: Start) -> None:
    system.add(One())
    kept = system.add(Kept())
    system.connect(system._topology.nodes[0].blueprint.out, kept.numbers)  # type: ignore[attr-defined]
    run = start(system, forever=False)
    run.ended()
    run.reach()


def test_quiet_is_looked_at_afresh_by_whoever_waits_for_it(system: System, start: Start) -> None:
    gate = Gate()

    class Poked(Component):
        out = Outbox(Number)

        def run(self) -> None:
            poke.put(self.out.send)

    class Slow(Component):
        numbers = Inbox(Number)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    import queue

    poke: queue.SimpleQueue[Callable[[Number], None]] = queue.SimpleQueue()

    class Still(Poked):
        """A loop that waits for messages only, and whose outbox another thread uses."""

        numbers = Inbox(Number)

        def run(self) -> None:
            poke.put(self.out.send)
            for _ in self.numbers:
                pass

    one, still, slow = system.add(One()), system.add(Still()), system.add(Slow())
    system.connect(one.out, still.numbers)
    system.connect(still.out, slow.numbers)
    run = start(system)
    run.wait_until_quiet()

    send = poke.get(timeout=PATIENCE_S)
    send(Number(7))
    assert not run.runtime.wait_until_quiet(0.0), "a message is in work again"
    gate.wait_reached()
    gate.open()
    run.wait_until_quiet()
    assert slow.values == [7]


# What was kept --------------------------------------------------------------------------------------------------------


def test_message_ids_are_the_same_after_a_restart_of_the_process(
    new_system: Callable[[], System], start: Start
) -> None:
    seen = Log()
    for _ in range(2):
        system = new_system()

        class Failing(Component):
            numbers = Inbox(Number, retry=Retry(attempts=1, then="stop"))

            @numbers.handler
            def handle(self, number: Number) -> None:
                seen.add((self.message_id, number.value))
                raise ValueError("not today")

        one, failing = system.add(One()), system.add(Failing())
        system.connect(one.out, failing.numbers)
        assert start(system, forever=False).ended().left_messages == 1

    assert len(seen.entries) == 2
    assert len(set(seen.entries)) == 1


def leave_a_message(new_system: Callable[[], System], start: Start) -> None:
    """One message waits on disk for `keeper.numbers`."""

    class Refusing(Component):
        numbers = Inbox(Number, retry=Retry(attempts=1, then="stop"))
        values = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            raise ValueError("later")

    system = new_system()
    one, refusing = system.add(One()), system.add(Refusing(), name="keeper")
    system.connect(one.out, refusing.numbers)
    assert start(system, forever=False).ended().left_messages == 1


def test_messages_for_an_inbox_that_is_gone_are_kept_and_told_of(
    new_system: Callable[[], System], start: Start
) -> None:
    leave_a_message(new_system, start)

    without = new_system()
    one, kept = without.add(One()), without.add(Kept(), name="another")
    without.connect(one.out, kept.numbers)
    run = start(without, forever=False)
    run.ended()
    [opened] = run.all(events.StateOpened)
    assert (opened.resumed, opened.waiting_messages, opened.strangers) == (True, 0, ("keeper.numbers",))

    back = new_system()
    one, kept = back.add(One()), back.add(Kept(), name="keeper")
    back.connect(one.out, kept.numbers)
    run = start(back, forever=False)
    run.ended()
    [opened] = run.all(events.StateOpened)
    assert (opened.waiting_messages, opened.strangers) == (1, ())
    assert kept.values == [1]


def test_a_message_whose_class_changed_its_name_is_refused_and_kept(
    new_system: Callable[[], System], start: Start
) -> None:
    leave_a_message(new_system, start)

    @attrs.frozen
    class Numeral:
        value: int

    class Source(Component):
        out = Outbox(Numeral)

        def run(self) -> None: ...

    class Keeper(Component):
        numbers = Inbox(Numeral)

        @numbers.handler
        def handle(self, numeral: Numeral) -> None: ...

    system = new_system()
    source, keeper = system.add(Source()), system.add(Keeper(), name="keeper")
    system.connect(source.out, keeper.numbers)
    with pytest.raises(CannotDecode, match=r"1 messages? of type Number wait for inbox keeper.numbers"):
        start(system)


REFUSED: set[int] = set()


@attrs.frozen
class Changing:
    """A message whose class becomes stricter."""

    value: int = attrs.field()

    @value.validator
    def _check(self, field: object, value: int) -> None:
        if value in REFUSED:
            raise ValueError("not any more")


class FourChanging(Component):
    out = Outbox(Changing)
    done = State(bool)

    def run(self) -> None:
        with self.unit():
            if not self.done:
                for value in range(4):
                    self.out.send(Changing(value))
            self.done = True


class Later(Component):
    messages = Inbox(Changing, retry=Retry(attempts=1, then="stop"))

    @messages.handler
    def refuse(self, message: Changing) -> None:
        raise ValueError("later")


class Pairs(Component):
    messages = Inbox(Changing)
    taken = State(list[list[int]])

    def run(self) -> None:
        while True:
            with self.unit():
                first = self.messages.receive()
                self.taken.append([first.value])
                second = self.messages.receive()
                self.taken[-1].append(second.value)


def test_a_message_that_can_no_longer_be_read_is_set_aside_and_the_rest_of_the_unit_is_whole(
    new_system: Callable[[], System], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_system()
    four, later = first.add(FourChanging()), first.add(Later(), name="pairs")
    first.connect(four.out, later.messages)
    assert start(first, forever=False).ended().left_messages == 4

    monkeypatch.setattr(f"{__name__}.REFUSED", {1})
    second = new_system()
    four, pairs = second.add(FourChanging()), second.add(Pairs())
    second.connect(four.out, pairs.messages)
    stopped = start(second, forever=False).ended()

    assert stopped.problems == ()
    assert pairs.taken == [[0, 2]], "of the last pair there was only one"
    assert stopped.left_messages == 1
    [letter] = dead_letters(second.folder)
    assert (letter.channel, letter.message, letter.attempts) == ("pairs.messages", b'{"value":1}', 1)


@pytest.mark.parametrize("by_handler", [True, False])
def test_a_handler_never_sees_a_message_that_can_no_longer_be_read(
    new_system: Callable[[], System], start: Start, monkeypatch: pytest.MonkeyPatch, by_handler: bool
) -> None:
    first = new_system()
    four, later = first.add(FourChanging()), first.add(Later(), name="taking")
    first.connect(four.out, later.messages)
    start(first, forever=False).ended()

    class Taking(Component):
        messages = Inbox(Changing)
        taken = State(list[int])

        if by_handler:

            @messages.handler
            def take(self, message: Changing) -> None:
                self.taken.append(message.value)

        else:

            def run(self) -> None:
                for message in self.messages:
                    self.taken.append(message.value)

    monkeypatch.setattr(f"{__name__}.REFUSED", {1, 2})
    second = new_system()
    four, taking = second.add(FourChanging()), second.add(Taking())
    second.connect(four.out, taking.messages)
    run = start(second, forever=False)
    run.ended()
    assert taking.taken == [0, 3]
    assert [letter.message for letter in dead_letters(second.folder)] == [b'{"value":1}', b'{"value":2}']
    assert len(run.all(events.MessageSetAside)) == 2
    assert run.all(events.ComponentFailed) == []


@pytest.mark.parametrize("change", ["other fields", "later version"])
def test_a_state_that_cannot_be_loaded_is_refused_and_left_as_it_is(
    new_system: Callable[[], System], start: Start, change: str
) -> None:
    def declare(system: System, fields: dict[str, type], version: int) -> Component:
        made: Any = attrs.make_class(
            "Summary", {name: attrs.field(type=kind, factory=kind) for name, kind in fields.items()}
        )
        made.__annotations__ = fields

        class Summing(Component):
            summary = State(made, version=version, migrations={1: dict} if version > 1 else {})
            runs = State(int)

            def run(self) -> None:
                self.runs += 1

        return system.add(Summing())

    later = new_system()
    summing = declare(later, {"count": int}, version=2)
    start(later, forever=False).ended()
    assert summing.runs == 1  # type: ignore[attr-defined]

    changed = new_system()
    if change == "other fields":
        declare(changed, {"total": str}, version=2)
        with pytest.raises(CannotDecode, match=r"state summing\.summary: .*(count|total)") as caught:
            start(changed)
        assert "left as it is" in str(caught.value)
    else:
        declare(changed, {"count": int}, version=1)
        with pytest.raises(StoreTooNew, match="stored as version 2 of Summary"):
            start(changed)

    same = new_system()
    summing = declare(same, {"count": int}, version=2)
    start(same, forever=False).ended()
    assert summing.runs == 2  # type: ignore[attr-defined]


def test_a_commit_returns_when_everything_so_far_is_on_disk(system: System, start: Start) -> None:
    from minions.flow import rows
    from minions.flow.store import read_rows

    seen = Log()

    class Committing(Component):
        turns = State(int)

        def run(self) -> None:
            for _ in range(3):
                self.turns += 1
                self.commit()
                [(key, body)] = list(read_rows(system.folder, rows.STATES))
                seen.add(rows.states_of(key, body)["turns"])
            self.commit()  # nothing is left to do

    system.add(Committing())
    start(system, forever=False).ended()
    assert [stored[-2:-1] for stored in seen.entries] == [b"1", b"2", b"3"]


def test_lives_are_numbered_and_each_thread_bears_the_components_name(system: System, start: Start) -> None:
    names, fail = Log(), itertools.count()

    class Named(Component):
        def run(self) -> None:
            names.add(threading.current_thread().name)
            if next(fail) < 2:
                raise ValueError("once more")

    system.add(Named(), restart=Restart(backoff=Backoff(initial_s=0.0)))
    run = start(system, forever=False)
    run.ended()
    assert names.entries == ["test/named"] * 3
    assert [started.epoch for started in run.all(events.ComponentStarted)] == [1, 2, 3]
    assert [finished.epoch for finished in run.all(events.ComponentFinished)] == [3]

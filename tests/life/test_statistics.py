"""What a running system counts and measures: by component and inbox, through failures and new lives, and its last minutes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from minions import Component, Histogram, Inbox, Outbox, Restart, Retry, Statistics, System, Watchdog, events
from minions.life.history import MOST_ROWS, Ring
from minions.life.machine import Sample, ThreadCpu
from minions.testing import FakeClock
from tests.life.conftest import Gate, Number, Running, Start


class Numbers(Component):
    """Sends so many numbers."""

    count: int
    between: Callable[[], object] = lambda: None
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            self.out.send(Number(value))
            self.between()


def sink(durable: bool, clock: FakeClock, each_s: float, gate: Gate | None = None) -> Any:
    """A class whose handler takes so long."""

    class Slow(Component):
        numbers = Inbox(Number, durable=durable, retry=Retry(attempts=2))

        @numbers.handler
        def take(self, number: Number) -> None:
            if gate is not None:
                gate.pass_through()
            clock.advance(each_s)

    return Slow()


def quiet(run: Running) -> Statistics:
    run.wait_until_quiet()
    return run.runtime.statistics()


@pytest.mark.parametrize("durable", [False, True])
def test_how_long_messages_take_and_have_waited_is_measured_for_each_inbox(
    system: System, start: Start, durable: bool
) -> None:
    clock, gate = FakeClock(), Gate()
    source = system.add(Numbers(count=200, between=lambda: clock.advance(0.01)))
    slow = system.add(sink(durable, clock, 0.25, gate), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, clock=clock)
    gate.wait_reached()
    run.wait_for(events.ComponentFinished)  # all the others wait
    clock.advance(10.0)
    gate.open()
    found = quiet(run).inboxes["slow.numbers"]
    assert (found.handling.count, found.handled) == (200, 200)
    assert found.handling.max_s == pytest.approx(11.25, abs=1.1)
    assert found.handling.p50_s == pytest.approx(0.25, rel=Histogram.error_ratio)
    assert found.handling.total_s == pytest.approx(11.0 + 200 * 0.25, abs=1.1)
    assert found.waits.max_s == pytest.approx(10.0 + 200 * 0.25, abs=3.0)
    assert found.waits.quantile(0) < 2.1, "the first one was taken soon"
    assert 150 <= found.waits.count <= 200


@pytest.mark.parametrize("durable", [False, True])
def test_each_message_that_comes_alone_is_measured(system: System, start: Start, durable: bool) -> None:
    clock, gate, handled = FakeClock(), threading.Semaphore(0), Gate()
    handled.open()

    class Slowly(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(6):
                gate.acquire()
                self.out.send(Number(value))

    source, slow = system.add(Slowly()), system.add(sink(durable, clock, 0.001, handled), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, clock=clock).up()
    for _ in range(6):
        clock.advance(1.0)
        gate.release()
        handled.wait_reached()
    found = quiet(run).inboxes["slow.numbers"]
    assert (found.waits.count, found.handling.count) == (6, 6)
    assert found.handling.max_s == pytest.approx(0.001)


def test_a_life_that_is_over_and_its_failures_stay_in_the_figures(system: System, start: Start) -> None:
    class Picky(Component):
        numbers = Inbox(Number, retry=Retry(attempts=2))

        @numbers.handler
        def take(self, number: Number) -> None:
            if number.value == 3:
                raise ValueError("three is refused")

    source, picky = system.add(Numbers(count=10)), system.add(Picky(), restart=Restart())
    system.connect(source.out, picky.numbers)
    found = quiet(start(system))
    picked, inbox = found.components["picky"], found.inboxes["picky.numbers"]
    assert (inbox.settled, inbox.handled, inbox.set_aside, inbox.failed, inbox.retried) == (10, 9, 1, 2, 1)
    assert (picked.handled, picked.set_aside, picked.failed, picked.retried) == (9, 1, 2, 1)
    assert (picked.restarts, picked.failures, picked.sent) == (2, 0, 0)
    assert inbox.handling.count == 11, "an attempt that fails takes its time too"
    assert (found.components["numbers"].sent, found.components["numbers"].handled) == (10, 0)
    assert found.components["numbers"].handling == Histogram()


def test_replicas_and_inboxes_add_up_to_their_component(system: System, start: Start) -> None:
    class Both(Component):
        lefts = Inbox(Number, durable=False)
        rights = Inbox(Number)

        @lefts.handler
        def left(self, number: Number) -> None: ...

        @rights.handler
        def right(self, number: Number) -> None: ...

    first, second = system.add(Numbers(count=40)), system.add(Numbers(count=30), name="second")
    both = system.add(Both(), replicas=3)
    system.connect(first.out, both.lefts)
    system.connect(first.out, both.rights)
    system.connect(second.out, both.rights)
    found = quiet(start(system))
    component, left, right = found.components["both"], found.inboxes["both.lefts"], found.inboxes["both.rights"]
    assert (component.handled, left.handled, right.handled) == (110, 40, 70)
    assert (left.handling.count, right.handling.count) == (40, 70)
    assert component.handling == left.handling + right.handling
    assert component.waits == left.waits + right.waits
    assert (found.components["numbers"].sent, found.components["second"].sent) == (80, 30)


def test_what_went_along_a_lane_counts_as_sent_also_when_its_sender_is_over(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()

    class Held(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(70):
                self.out.send(Number(value))
            gate.pass_through()

    source, slow = system.add(Held()), system.add(sink(False, clock, 0.0), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, clock=clock)
    gate.wait_reached()
    assert run.runtime.statistics().components["held"].sent == 70
    gate.open()
    assert quiet(run).components["held"].sent == 70


def test_commits_are_measured_where_anything_is_kept(system: System, start: Start) -> None:
    class Committing(Numbers):
        def run(self) -> None:
            super().run()
            self.commit()

    source, kept = system.add(Committing(count=50)), system.add(sink(True, FakeClock(), 0.0), name="kept")
    system.connect(source.out, kept.numbers)
    found = quiet(start(system))
    assert found.commits >= 1
    assert found.commit_writing.count == found.commit_latency.count >= found.commits
    assert 0 < found.commit_writing.total_s <= found.commit_latency.total_s


def test_the_cpu_of_a_component_is_that_of_all_its_lives(system: System, start: Start) -> None:
    class Busy(Component):
        numbers = Inbox(Number)

        def on_start(self) -> None:
            sum(range(300_000))

        @numbers.handler
        def take(self, number: Number) -> None: ...

    source, busy = system.add(Numbers(count=1)), system.add(Busy())
    system.connect(source.out, busy.numbers)
    run = start(system).up()
    once_s = run.runtime.statistics().components["busy"].cpu_s
    system.restart(busy).result(20.0)
    twice_s = run.runtime.statistics().components["busy"].cpu_s
    assert 0 < once_s < twice_s
    assert twice_s > 1.3 * once_s


def test_the_cpu_of_a_life_is_counted_once_also_where_the_next_one_begins_meanwhile(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A counter that goes back is taken to have begun anew, and all that it had counts once more."""

    class Busy(Component):
        numbers = Inbox(Number)

        def on_start(self) -> None:
            if not lives:
                sum(range(1_000_000))
            lives.append(self)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    lives: list[Component] = []
    source, busy = system.add(Numbers(count=1)), system.add(Busy())
    system.connect(source.out, busy.numbers)
    run = start(system).up()
    run.wait_until_quiet()
    journal = run.runtime.journal
    count = journal.statistics

    def meanwhile(*arguments: Any) -> Any:
        system.restart(busy).result(20.0)
        return count(*arguments)

    with monkeypatch.context() as looking:
        looking.setattr(journal, "statistics", meanwhile)
        early_s = run.runtime.statistics().components["busy"].cpu_s
    assert len(lives) == 2
    assert 0 < early_s <= run.runtime.statistics().components["busy"].cpu_s


# The last minutes -----------------------------------------------------------------------------------------------------


class Inboxed:
    def __init__(self, sent: int = 0, settled: int = 0, length: int = 0) -> None:
        self.sent, self.settled, self.length = sent, settled, length


def test_a_row_of_the_history_has_rates_lengths_cpu_and_memory() -> None:
    ring, inbox = Ring(["a", "b#0"], ["b.in"]), Inboxed()
    for tick, cpu_s in enumerate((1.0, 1.5, 1.5)):
        inbox.sent, inbox.settled, inbox.length = 100 * tick, 80 * tick, 20 * tick
        sample = Sample(rss_bytes=5_000, cpu_ratio=0.25, thread_cpu={11: ThreadCpu("a", cpu_s)})
        ring.add(50.0 + 2.0 * tick, 1e9 + 2.0 * tick, sample, {"a": 11, "b#0": 0}, {"b.in": inbox})
    found = ring.take()
    assert found.moments == (1e9 + 2.0, 1e9 + 4.0), "the first tick has nothing to compare with"
    assert (found.cpu_ratio, found.rss_bytes) == ((0.25, 0.25), (5_000, 5_000))
    assert found.components == {"a": (0.25, 0.0), "b#0": (0.0, 0.0)}
    assert found.inboxes["b.in"].in_per_s == (50.0, 50.0)
    assert found.inboxes["b.in"].out_per_s == (40.0, 40.0)
    assert found.inboxes["b.in"].length == (20, 40)
    assert ring.take(1).moments == found.moments[1:]
    assert ring.take(0).inboxes["b.in"].length == ()


def test_the_history_is_bounded_and_survives_a_clock_that_stands_still_and_a_new_thread() -> None:
    ring, inbox = Ring(["a"], ["b.in"]), Inboxed()
    for tick in range(MOST_ROWS + 50):
        sample = Sample(thread_cpu={tick: ThreadCpu("a", 1.0)})
        ring.add(float(tick), float(tick), sample, {"a": tick}, {"b.in": inbox})
        ring.add(float(tick), float(tick), sample, {"a": tick}, {"b.in": inbox})
    found = ring.take()
    assert len(found.moments) == MOST_ROWS
    assert found.moments[-1] == MOST_ROWS + 49
    assert set(found.components["a"]) == {0.0}, "each tick has another thread, which nothing is known of yet"
    assert found.rss_bytes[0] == 0


def test_a_running_system_has_a_history_and_says_how_late_its_watchdog_was(system: System, start: Start) -> None:
    clock = FakeClock()
    source, slow = system.add(Numbers(count=5)), system.add(sink(True, clock, 0.0), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=1.0))
    run.wait_until_quiet()
    for late_s in (0.0, 0.5, 0.0):
        clock.wait_for_waiters()
        clock.advance(1.0 + late_s)
    clock.wait_for_waiters()
    found = run.runtime.statistics()
    assert found.watchdog.ticks == 4
    assert found.watchdog.late_s == 0.0
    assert found.watchdog.late_most_s == pytest.approx(0.5)
    assert found.process.rss_bytes is not None
    assert found.process.rss_bytes > 1_000_000
    history = run.runtime.history()
    assert len(history.moments) == 3
    assert math.isclose(history.moments[1] - history.moments[0], 1.5)
    assert set(history.inboxes) == {"slow.numbers"}
    assert set(history.components) == {"numbers", "slow"}
    assert len(run.runtime.history(2).moments) == 2

"""Components with schedules, running: what a tick is, when there is none, what follows a failure, ticks at somebody's wish."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from minions import (
    Backoff,
    CallFailed,
    Component,
    Inbox,
    Outbox,
    Restart,
    State,
    System,
    Table,
    UsageError,
    Uses,
    cron,
    events,
    every,
)
from minions.clock import Parkable
from minions.flow import rows
from minions.flow.store import read_rows
from minions.life.lifecycle import Phase
from minions.testing import FakeClock, Running, harness
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start, in_virtual_time

NO_JITTER = Backoff(initial_s=5.0, jitter_ratio=0.0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class WatchedClock(FakeClock):
    """Tells how often somebody has begun to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = Log()

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        self.begun.add((parkable, deadline_s))
        super().wait(parkable, deadline_s)

    def waits_of(self, parkable: Parkable, count: int) -> float | None:
        """Blocks until somebody has begun to wait there so often, and tells for which moment it did then."""
        self.begun.wait_for(lambda begun: sum(other is parkable for other, _ in begun) >= count)
        moments: list[float | None] = [deadline_s for other, deadline_s in self.begun.entries if other is parkable]
        return moments[count - 1]


def until_it_waits(clock: FakeClock, in_s: float) -> None:
    """Blocks until somebody waits for a moment."""
    with clock._changed:
        assert clock._changed.wait_for(lambda: in_s in clock._waits_locked(), PATIENCE_S), clock._waits_locked()


def test_a_tick_is_one_unit_of_work(system: System, clock: FakeClock) -> None:
    log = Log()

    class Ticking(Component):
        out = Outbox(Number)
        count = State(int)
        squares = Table(int, int)

        @every(seconds=10)
        def tick(self) -> None:
            self.count += 1
            self.squares[self.count] = self.count**2
            self.out.send(Number(self.count))
            self.out.send(Number(-self.count))
            count = self.count
            self.after_commit(lambda: log.add(("committed", count)))
            with pytest.raises(UsageError, match="no message in work"):
                _ = self.message_id

    class Taking(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            log.add(number.value)

    ticking, taking = system.add(Ticking()), system.add(Taking())
    system.connect(ticking.out, taking.numbers)
    with in_virtual_time(system, clock):
        for count in (1, 2):
            clock.advance(10.0)
            assert len(log.entries) == 3 * count
    assert [entry for entry in log.entries if isinstance(entry, int)] == [1, -1, 2, -2]
    assert [entry for entry in log.entries if not isinstance(entry, int)] == [("committed", 1), ("committed", 2)]
    assert (ticking.count, dict(ticking.squares)) == (2, {1: 1, 2: 4})


def test_a_tick_that_raises_never_was_and_is_made_by_the_next_life_at_once(system: System, clock: FakeClock) -> None:
    log = Log()

    class Ticking(Component):
        count = State(int)

        @every(seconds=10, missed="none")
        def report(self) -> None:
            self.count += 1
            log.add((self.count, clock.monotonic() - 1_000.0))
            if len(log.entries) < 3:
                raise ValueError("not yet")

    ticking = system.add(Ticking(), restart=Restart(backoff=NO_JITTER))
    with in_virtual_time(system, clock, expect_failures=2) as run:
        clock.advance(25.0)
        assert log.entries == [(1, 10.0), (1, 15.0), (1, 25.0)]
        assert clock.waits() == (5.0,)  # the distances stay: 30 s after the begin
        failed = run.seen(events.ComponentFailed)
    assert [(event.where, event.error, event.attempt) for event in failed] == [("report", "ValueError: not yet", 0)] * 2
    assert len(log.entries) == 3
    assert ticking.count == 1


def test_a_tick_that_fails_too_often_stops_the_system(system: System, clock: FakeClock) -> None:
    class Ticking(Component):
        @every(seconds=10)
        def report(self) -> None:
            raise ValueError("never")

    system.add(Ticking(), restart=Restart(failures=0))
    with in_virtual_time(system, clock, expect_failures=1, expect_problems=1) as run:
        clock.advance(10.0)
        assert run.until_over().problems == ("ticking failed in report: ValueError: never",)


def test_ticks_come_between_messages_and_never_during_one(system: System, start: Start, clock: FakeClock) -> None:
    log, gate, threads = Log(), Gate(), set[int]()

    class Sending(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(4):
                    self.out.send(Number(value))

    class Both(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            threads.add(threading.get_ident())
            log.add(f"message {number.value}")
            if number.value == 1:
                gate.pass_through()
            log.add("handled")

        @every(seconds=10)
        def tick(self) -> None:
            threads.add(threading.get_ident())
            log.add("tick")

    for durable in (True, False):
        Both.numbers.durable = durable
        here = System("both", folder=system.folder.with_name(f"durable {durable}"))
        log, gate = Log(), Gate()
        clock = FakeClock()
        sending, both = here.add(Sending()), here.add(Both())
        here.connect(sending.out, both.numbers)
        run = start(here, clock=clock).up()
        gate.wait_reached()
        clock.advance(35.0)
        gate.open()
        log.wait_for_count(9)
        run.stop()
        assert log.entries == [
            "message 0",
            "handled",
            "message 1",
            "handled",
            "tick",
            *["message 2", "handled"],
            *["message 3", "handled"],
        ]
        assert len(threads) == 1
        threads.clear()


def test_a_component_that_is_paused_makes_no_ticks(system: System, clock: FakeClock) -> None:
    log = Log()

    class Ticking(Component):
        @every(seconds=10)
        def tick(self) -> None:
            log.add("tick")

    ticking = system.add(Ticking())
    with in_virtual_time(system, clock):
        system.pause(ticking).result(PATIENCE_S)
        clock.advance(100.0)
        asked = system.run_now(ticking.tick)
        clock.settle()
        assert log.entries == []
        system.resume(ticking).result(PATIENCE_S)
        clock.settle()
        assert asked.done()
        assert log.entries == ["tick"] * 2  # one for all that were held up, and the one that was asked for
        assert clock.waits() == (10.0,)


def test_a_component_that_is_paused_waits_for_nobody_but_who_resumes_it(system: System, start: Start) -> None:
    log, clock = Log(), WatchedClock()

    class Ticking(Component):
        @every(seconds=10)
        def tick(self) -> None:
            log.add("tick")

    ticking = system.add(Ticking())
    run = start(system, clock=clock).up()
    life = run.runtime._threads["ticking"].life
    assert clock.waits_of(life.parker, 1) == clock.monotonic() + 10.0
    system.pause(ticking).result(PATIENCE_S)
    assert clock.waits_of(life.parker, 2) is None
    clock.advance(35.0)
    life.parker.unpark()
    assert clock.waits_of(life.parker, 3) is None
    assert log.entries == []
    system.resume(ticking).result(PATIENCE_S)
    log.wait_for_count(1)
    until_it_waits(clock, 5.0)


@pytest.mark.parametrize("how", ["pause", "stop"])
def test_what_is_in_hand_is_left_when_the_component_is_paused_or_to_end(how: str, system: System, start: Start) -> None:
    log, gate, clock = Log(), Gate(), WatchedClock()

    class Sending(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(3):
                    self.out.send(Number(value))

    class Both(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            log.add(number.value)
            gate.pass_through()

        @every(seconds=5)
        def tick(self) -> None:
            log.add("tick")

    sending, both = system.add(Sending()), system.add(Both())
    system.connect(sending.out, both.numbers)
    run = start(system, clock=clock).up()
    gate.wait_reached()
    parker = run.runtime._threads["both"].life.parker
    waits = sum(other is parker for other, _ in clock.begun.entries)
    if how == "pause":
        system.pause(both).result(PATIENCE_S)
        clock.advance(6.0)
        gate.open()
        clock.waits_of(parker, waits + 1)
        assert log.entries == [0]
        system.resume(both).result(PATIENCE_S)
        assert log.wait_for_count(4) == [0, "tick", 1, 2]
    else:
        run.runtime.stop("stopped")
        run.reach()
        clock.advance(6.5)  # the time to drain is over, and a tick is due
        run.reach()
        gate.open()
        assert run.ended().left_messages == 2
        assert log.entries == [0]


def test_a_component_that_was_asked_to_stop_makes_no_tick(system: System, start: Start, clock: FakeClock) -> None:
    log, gate = Log(), Gate()

    class Ticking(Component):
        @every(seconds=10, missed="all")
        def tick(self) -> None:
            log.add("tick")
            gate.pass_through()

        def on_stop(self) -> None:
            log.add("stopped")

    system.add(Ticking())
    run = start(system, clock=clock).up()
    until_it_waits(clock, 10.0)
    clock.advance(35.0)  # three are due
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    gate.open()
    run.ended()
    assert log.entries == ["tick", "stopped"]


def test_a_system_with_a_schedule_left_does_not_end(system: System, clock: FakeClock) -> None:
    class Ends(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(1))

    class Ticking(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None: ...

        @every(hours=1)
        def tick(self) -> None: ...

    ends, ticking = system.add(Ends()), system.add(Ticking())
    system.connect(ends.out, ticking.numbers)
    with in_virtual_time(system, clock, forever=False) as run:
        run.until_idle()
        assert run.status(ends)[0].phase is Phase.FINISHED
        assert clock.waits() == (3_600.0,)
        assert not system.wait(0.0)
        assert system.status()
        system.stop(ticking).result(PATIENCE_S)
        run.settle()
        assert system.status()  # somebody may start it again


def test_a_schedule_that_was_given_up_is_not_waited_for(system: System, clock: FakeClock) -> None:
    class Ticking(Component):
        @every(seconds=10)
        def tick(self) -> None:
            raise ValueError("never")

    system.add(Ticking(), restart=Restart(failures=0, on_give_up="isolate"))
    with in_virtual_time(system, clock, forever=False, expect_failures=1, expect_problems=1) as run:
        clock.advance(10.0)
        assert run.until_over().problems == ("ticking failed in tick: ValueError: never",)


def test_a_component_of_schedules_only_that_is_used_stops_after_its_users(system: System, start: Start) -> None:
    log = Log()

    class Database(Component):
        @every(hours=1)
        def vacuum(self) -> None: ...

        def insert(self, value: int) -> None:
            log.add(value)

        def on_stop(self) -> None:
            log.add("closed")

    class Writing(Component):
        database = Uses(Database)

        @every(hours=1)
        def write(self) -> None: ...

        def on_stop(self) -> None:
            self.database.insert(1)

    system.add(Database())
    system.add(Writing())
    assert start(system).up().stop().problems == ()
    assert log.entries == [1, "closed"]


def test_what_waits_for_a_tick_says_so(system: System, clock: FakeClock) -> None:
    class Ticking(Component):
        @cron("0 0 1 1 *")
        def tick(self) -> None: ...

    system.add(Ticking())
    with in_virtual_time(system, clock) as run:
        clock.settle()
        assert clock.waits() == (60.0,)
        [life] = run.runtime.lives()
        assert (life.waits_for, life.open_unit) == ("its next tick", None)


def test_a_tick_at_work_is_seen_at_work(system: System, start: Start, clock: FakeClock) -> None:
    gate = Gate()

    class Ticking(Component):
        @every(seconds=10, at_start=True)
        def report(self) -> None:
            gate.pass_through()

    system.add(Ticking())
    run = start(system, clock=clock).up()
    gate.wait_reached()
    life = run.runtime._threads["ticking"].life
    assert (life.where, life.doing, life.waits_for, life.open_unit is not None) == ("report", "report", "", True)
    gate.open()
    until_it_waits(clock, 10.0)
    assert life.where != "report"


def test_a_tick_that_hangs_in_python_can_be_broken_off(system: System, start: Start) -> None:
    gate, released = Gate(), threading.Event()

    class Spinning(Component):
        @every(hours=1, at_start=True)
        def tick(self) -> None:
            gate.open()
            gate.pass_through()
            while not released.is_set():
                pass

    system.add(Spinning(), async_exception=True)
    run = start(system, stop_timeout_s=0.5).up()
    gate.wait_reached()
    try:
        assert run.stop().problems == ()
    finally:
        released.set()


# ---------------------------------------------------------------------- over restarts
def test_a_tick_that_is_on_disk_is_not_made_again(new_system: Callable[[], System], clock: FakeClock) -> None:
    log = Log()

    class Ticking(Component):
        count = State(int)

        @every(seconds=10)
        def tick(self) -> None:
            self.count += 1
            log.add(self.count)

    def begin() -> Running:
        system = new_system()
        system.add(Ticking())
        return in_virtual_time(system, clock)

    with begin():
        clock.advance(13.0)
        assert log.entries == [1]
    with begin():
        clock.settle()
        [wait_s] = clock.waits()
        assert 6.9 < wait_s < 7.1
    assert log.entries == [1]
    clock.advance(30.0)
    with begin():
        clock.settle()
        assert log.entries == [1, 2]  # one for the three that were missed


def test_where_nothing_is_kept_no_tick_is(system: System, clock: FakeClock) -> None:
    log = Log()

    class Ticking(Component):
        @every(seconds=10)
        def tick(self) -> None:
            log.add(clock.monotonic() - 1_000.0)
            self.commit()
            if len(log.entries) == 1:
                raise ValueError("once")

    system.add(Ticking(), restart=Restart(backoff=NO_JITTER))
    with in_virtual_time(system, clock, expect_failures=1):
        clock.advance(15.0)
        assert log.entries == [10.0, 15.0]
        assert clock.waits() == (5.0,)  # the next life knows when the last tick was, although nothing is on disk
    assert not system.folder.exists()


def test_what_is_on_disk_of_a_schedule_is_one_row(system: System, clock: FakeClock) -> None:
    class Ticking(Component):
        count = State(int)

        @every(seconds=10)
        def often(self) -> None:
            self.count += 1

        @cron("0 0 1 1 *")
        def seldom(self) -> None: ...

    ticking = system.add(Ticking())
    began_s = clock.wall()
    with in_virtual_time(system, clock):
        clock.advance(30.0)
    assert ticking.count == 3
    kept = {key: rows.tick_of(key, body).wall_s - began_s for key, body in read_rows(system.folder, rows.TICKS)}
    assert kept == {"tick/ticking/often": 30.0, "tick/ticking/seldom": 0.0}


# ---------------------------------------------------------------------- at somebody's wish
def test_a_tick_may_be_asked_for(system: System, start: Start, clock: FakeClock) -> None:
    log, gate = Log(), Gate()

    class Ticking(Component):
        count = State(int)

        @every(seconds=10)
        def tick(self) -> None:
            log.add(threading.current_thread().name)
            gate.pass_through()
            self.count += 1

    ticking = system.add(Ticking())
    run = start(system, clock=clock).up()
    until_it_waits(clock, 10.0)
    clock.advance(4.0)
    first, second = system.run_now(ticking.tick), system.run_now("ticking", "tick")
    gate.wait_reached()
    assert len(log.entries) == 1  # the second waits for the first
    assert not first.done()
    gate.open()
    assert (first.result(PATIENCE_S), second.result(PATIENCE_S)) == (None, None)
    assert ticking.count == 2
    until_it_waits(clock, 6.0)  # the regular one comes as it would have
    clock.advance(6.0)
    log.wait_for_count(3)
    run.stop()
    assert set(log.entries) == {"test/ticking"}


def test_a_tick_that_was_asked_for_and_raises_is_told_to_who_asked() -> None:
    class Ticking(Component):
        count = State(int)

        @every(hours=1)
        def tick(self) -> None:
            self.count += 1
            raise ValueError("no")

    with harness(Ticking()) as h:
        with pytest.raises(ValueError, match="no"):
            h.tick("tick")
        assert h.component.count == 0
        assert not [event for event in h.told if isinstance(event, events.ComponentFailed)]


def test_a_tick_can_be_asked_for_only_where_there_is_a_schedule(system: System, start: Start) -> None:
    class Ticking(Component):
        @every(hours=1)
        def tick(self) -> None: ...

        @every(hours=1)
        def tock(self) -> None: ...

        def other(self) -> None: ...

    class Plain(Component):
        def other(self) -> None: ...

    ticking, plain = system.add(Ticking()), system.add(Plain())
    with pytest.raises(UsageError, match=r"test.run_now\(\) works while the system runs"):
        system.run_now(ticking.tick)
    run = start(system).up()
    with pytest.raises(UsageError, match=r"ticking has no schedule 'other': name one of tick, tock"):
        system.run_now(ticking.other)
    with pytest.raises(UsageError, match=r"ticking has no schedule 'other': name one of tick, tock"):
        system.run_now(ticking, "other")
    with pytest.raises(UsageError, match=r"plain has no schedules: mark a method with @every"):
        system.run_now(plain.other)
    with pytest.raises(UsageError, match=r"test has no component 'nobody'"):
        system.run_now("nobody", "tick")
    with pytest.raises(UsageError, match=r"test has no component <function"):
        system.run_now(lambda: None)
    system.stop(ticking).result(PATIENCE_S)
    with pytest.raises(CallFailed):
        system.run_now(ticking.tick)
    assert next(status for status in run.runtime.status() if status.name == "ticking").phase is Phase.STOPPED

"""Virtual time for real threads: whatever waits for a moment gets it, at that moment, in order, and nobody sleeps."""

from __future__ import annotations

import threading
from typing import Literal

import attrs
import pytest

from minions import (
    Backoff,
    CallTimeout,
    Component,
    Inbox,
    LagLimit,
    Outbox,
    Phase,
    Restart,
    Retry,
    State,
    System,
    Uses,
    Watchdog,
    cron,
    events,
    every,
    limit,
)
from minions.testing import FakeClock, running
from minions.testing.sleepers import Sleepers, WatchedThreads
from tests.life.conftest import Gate, Log

QUIET = Watchdog(enabled=False)
FOREVER_S = 10.0**9


@attrs.frozen
class Number:
    value: int


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def system() -> System:
    return System("test", watchdog=QUIET)


class Source(Component):
    """Sends what it is told to; feeds inboxes that a test sends to."""

    out = Outbox(Number)

    def run(self) -> None: ...


class Timed:
    """Notes what happens and when, in seconds since it was made."""

    def __init__(self, clock: FakeClock) -> None:
        self._log = Log()
        self._clock = clock
        self._began_s = clock.monotonic()

    def add(self, what: object) -> None:
        self._log.add((what, round(self._clock.monotonic() - self._began_s, 6)))

    @property
    def entries(self) -> list[tuple[object, float]]:
        return self._log.entries


@pytest.fixture
def timed(clock: FakeClock) -> Timed:
    return Timed(clock)


# Who waits for a moment -----------------------------------------------------------------------------------------------


def test_sleeps(system: System, clock: FakeClock, timed: Timed) -> None:
    class Sleeping(Component):
        def run(self) -> None:
            for seconds in (1.0, 2.5, 3_600.0):
                self.sleep(seconds)
                timed.add(seconds)

    system.add(Sleeping())
    with running(system, clock=clock) as run:
        clock.advance(3.5)
        assert timed.entries == [(1.0, 1.0), (2.5, 3.5)]
        clock.advance(seconds=3_600.0)
        assert timed.entries[2:] == [(3_600.0, 3_603.5)]
        assert run.status()[0].phase is Phase.FINISHED


@pytest.mark.parametrize("missed", ["once", "all", "none"])
def test_a_schedule_ticks_at_each_of_its_moments_however_far_time_moves(
    missed: Literal["once", "all", "none"], system: System, clock: FakeClock, timed: Timed
) -> None:
    class Ticking(Component):
        count = State(int)

        @every(seconds=60, missed=missed)
        def tick(self) -> None:
            self.count += 1
            timed.add(self.count)

    ticking = system.add(Ticking())
    with running(system, clock=clock):
        clock.advance(seconds=3_600.0)
        assert timed.entries == [(number, 60.0 * number) for number in range(1, 61)]
        assert ticking.count == 60


@pytest.mark.parametrize(("missed", "ticks"), [("once", 1), ("all", 60), ("none", 1)])
def test_a_jump_misses_ticks_and_the_schedule_says_what_follows(
    missed: Literal["once", "all", "none"], ticks: int, system: System, clock: FakeClock, timed: Timed
) -> None:
    class Ticking(Component):
        @every(seconds=60, missed=missed)
        def tick(self) -> None:
            timed.add("tick")

    system.add(Ticking())
    with running(system, clock=clock) as run:
        run.settle()
        clock.jump(seconds=3_600.0)
        run.settle()
        assert timed.entries == [("tick", 3_600.0)] * ticks
        clock.advance(60.0)
        assert timed.entries[ticks:] == [("tick", 3_660.0)]


def test_schedules_of_several_components_come_in_the_order_of_their_moments(
    system: System, clock: FakeClock, timed: Timed
) -> None:
    class Slow(Component):
        @every(seconds=50)
        def slow(self) -> None:
            timed.add("slow")

    class Quick(Component):
        @every(seconds=20)
        def quick(self) -> None:
            timed.add("quick")

        @cron("* * * * *")
        def on_the_minute(self) -> None:
            timed.add("minute")

    system.add(Slow())
    system.add(Quick())
    clock.jump(60.0 - clock.wall() % 60.0)
    timed._began_s = clock.monotonic()
    with running(system, clock=clock):
        clock.advance(119.0)
    entries = timed.entries
    assert [entry for entry in entries if entry[1] not in (60.0, 100.0)] == [
        ("quick", 20.0),
        ("quick", 40.0),
        ("slow", 50.0),
        ("quick", 80.0),
    ]
    assert set(entries[3:5]) == {("quick", 60.0), ("minute", 60.0)}, "those of one moment come in any order"
    assert set(entries[6:]) == {("quick", 100.0), ("slow", 100.0)}


def test_what_a_tick_causes_is_done_before_time_goes_on(system: System, clock: FakeClock, timed: Timed) -> None:
    class First(Component):
        out = Outbox(Number)

        @every(seconds=10)
        def tick(self) -> None:
            self.out.send(Number(1))

    class Second(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.out.send(Number(number.value + 1))

    class Third(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: timed.add(number.value))

    first, second, third = system.add(First()), system.add(Second()), system.add(Third())
    system.connect(first.out, second.numbers)
    system.connect(second.out, third.numbers)
    with running(system, clock=clock):
        clock.advance(300.0)
        assert timed.entries == [(2, 10.0 * number) for number in range(1, 31)]


def test_the_backoff_of_a_message(system: System, clock: FakeClock, timed: Timed) -> None:
    retry = Retry(attempts=4, backoff=Backoff(initial_s=10.0, factor=3.0, longest_s=100.0, jitter_ratio=0.0))

    class Failing(Component):
        numbers = Inbox(Number, retry=retry)

        @numbers.handler
        def handle(self, number: Number) -> None:
            timed.add("try")
            raise ValueError("no")

    source, failing = system.add(Source()), system.add(Failing())
    system.connect(source.out, failing.numbers)
    with running(system, clock=clock, expect_failures=4, expect_dead_letters=1) as run:
        run.send(failing.numbers, Number(1))
        clock.advance(39.0)
        assert timed.entries == [("try", 0.0), ("try", 10.0)]
        clock.advance(1_000.0)
        assert timed.entries[2:] == [("try", 40.0), ("try", 130.0)]
        [letter] = system.dead_letters(failing)
        assert letter.attempts == 4


def test_the_backoff_of_a_component(system: System, clock: FakeClock, timed: Timed) -> None:
    class Failing(Component):
        def run(self) -> None:
            timed.add("life")
            if len(timed.entries) < 4:
                raise ValueError("no")

    restart = Restart(failures=9, backoff=Backoff(initial_s=1.0, factor=2.0, jitter_ratio=0.0))
    failing = system.add(Failing(), restart=restart)
    with running(system, clock=clock, expect_failures=3) as run:
        run.settle()
        assert run.status(failing)[0].phase is Phase.BACKOFF
        clock.advance(60.0)
        assert timed.entries == [("life", 0.0), ("life", 1.0), ("life", 3.0), ("life", 7.0)]
        assert run.status(failing)[0].phase is Phase.FINISHED


def test_rate_limits(system: System, clock: FakeClock, timed: Timed) -> None:
    class Limited(Component):
        numbers = Inbox(Number)

        @limit(calls=2, per_s=10.0)
        @numbers.handler
        def handle(self, number: Number) -> None:
            timed.add(number.value)

    source, limited = system.add(Source()), system.add(Limited())
    system.connect(source.out, limited.numbers)
    with running(system, clock=clock) as run:
        run.send(limited.numbers, *[Number(value) for value in range(5)])
        run.settle()
        assert timed.entries == [(0, 0.0), (1, 0.0)]
        clock.advance(60.0)
        assert timed.entries[2:] == [(2, 10.0), (3, 10.0), (4, 20.0)]
        run.until_idle()


def test_the_watchdog(system: System, clock: FakeClock) -> None:
    gate = Gate()

    class Hanging(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            gate.pass_through()

    source, hanging = system.add(Source()), system.add(Hanging(), stall_after_s=30.0)
    system.connect(source.out, hanging.numbers)
    dog = Watchdog(lag=LagLimit(over_s=5.0, for_s=1.0))
    with running(system, clock=clock, watchdog=dog) as run:
        run.settle()
        run.send(hanging.numbers, Number(1), Number(2))
        gate.wait_reached()
        clock.advance(29.0, besides=["hanging"])
        assert run.seen(events.ComponentStalled) == []
        assert [event.limit for event in run.seen(events.LimitExceeded)] == ["lag"]
        clock.advance(3.0, besides=["hanging"])
        [stalled] = run.seen(events.ComponentStalled)
        assert 30.0 <= stalled.evidence.for_s <= 32.0
        gate.open()
        run.until_idle()
        clock.advance(2.0)
        [recovered] = run.seen(events.ComponentRecovered)
        assert recovered.component == "hanging"


def test_the_timeout_of_a_call(system: System, clock: FakeClock, timed: Timed) -> None:
    gate = Gate()

    class Slow(Component):
        def answer(self) -> int:
            gate.pass_through()
            return 42

    class Asking(Component):
        slow = Uses(Slow, timeout_s=30.0)

        @every(hours=1, at_start=True)
        def ask(self) -> None:
            try:
                self.slow.answer()
            except CallTimeout:
                timed.add("timeout")

    system.add(Slow())
    system.add(Asking())
    with running(system, clock=clock):
        gate.wait_reached()
        clock.advance(29.9, besides=["slow"])
        assert timed.entries == []
        clock.advance(0.1, besides=["slow"])
        assert timed.entries == [("timeout", 30.0)]
        gate.open()


def test_two_systems_share_one_time(clock: FakeClock, timed: Timed) -> None:
    systems = [System(name, watchdog=QUIET) for name in ("left", "right")]

    class Ticking(Component):
        seconds: float

        def run(self) -> None:
            while self.running:
                self.sleep(self.seconds)
                if self.running:
                    timed.add(self.seconds)

    for system, seconds in zip(systems, (2.0, 3.0), strict=True):
        system.add(Ticking(seconds=seconds))
    with running(systems[0], clock=clock), running(systems[1], clock=clock):
        clock.advance(5.0)
        assert timed.entries == [(2.0, 2.0), (3.0, 3.0), (2.0, 4.0)]


# What takes time ------------------------------------------------------------------------------------------------------


def test_who_does_not_sleep_again_is_named_and_time_stands_where_it_was_woken(system: System, clock: FakeClock) -> None:
    gate = Gate()

    class Ticking(Component):
        @every(seconds=10)
        def tick(self) -> None:
            gate.pass_through()

    system.add(Ticking())
    with running(system, clock=clock) as run:
        began_s = clock.monotonic()
        with pytest.raises(TimeoutError, match=r"(?s)still at work: test/ticking; .*settle\(besides=.*in pass_through"):
            clock.advance(60.0, timeout_s=0.1)
        assert clock.monotonic() - began_s == 10.0
        assert not clock.is_settled()
        assert clock.is_settled(besides=["ticking"])
        gate.open()
        run.until_idle()
        clock.advance(50.0)
        assert clock.monotonic() - began_s == 60.0


def test_replicas_are_named_by_one_name_or_each_by_its_own(system: System, clock: FakeClock) -> None:
    gate = Gate()

    class Held(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            gate.pass_through()

    source, held = system.add(Source()), system.add(Held(), replicas=2)
    system.connect(source.out, held.numbers)
    with running(system, clock=clock) as run:
        run.send(held.numbers, Number(1), Number(2))
        gate.wait_reached()
        gate.wait_reached()
        clock.settle(besides=["held"])
        clock.settle(besides=["held#0", "held#1"])
        with pytest.raises(TimeoutError, match="still at work: test/held#1;"):
            clock.settle(besides=["held#0"], timeout_s=0.05)
        gate.open()


def test_a_thread_that_cannot_be_started_is_not_waited_for(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    thread = clock.threads.thread(lambda: None, "test/never")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        thread.start()
    clock.settle(timeout_s=0.1)


# Parkers that tell ----------------------------------------------------------------------------------------------------


@pytest.fixture
def sleepers() -> Sleepers:
    return Sleepers()


def test_a_thread_is_awake_from_its_start_to_its_end(sleepers: Sleepers) -> None:
    gate = Gate()
    thread = sleepers.threads.thread(gate.pass_through, "s/one")
    assert sleepers.is_settled()
    thread.start()
    assert not sleepers.is_settled()
    happened = sleepers._version
    gate.open()
    thread.join(10.0)
    assert sleepers.is_settled()
    assert sleepers._version > happened, "whoever waits is told"


def test_who_is_woken_is_awake_at_once(sleepers: Sleepers) -> None:
    threads = WatchedThreads(sleepers)
    parker = threads.parker()

    def park_twice() -> None:
        parker.park(None)
        parker.park(None)

    thread = threads.thread(park_twice, "s/one")
    thread.start()
    sleepers.settle()
    with sleepers._changed:  # without which it cannot go to sleep again
        parker.unpark()
        assert not sleepers.is_settled()
    sleepers.settle()
    assert thread.is_alive()
    parker.unpark()
    thread.join(10.0)
    assert not thread.is_alive()


def test_wake_ups_that_come_before_the_sleep_are_kept_and_count_as_one(sleepers: Sleepers) -> None:
    parker = sleepers.threads.parker()
    parker.unpark()
    parker.unpark()
    parker.park(None)
    parker.park(0.0)
    thread = sleepers.threads.thread(lambda: parker.park(FOREVER_S), "s/one")
    thread.start()
    sleepers.settle()
    assert thread.is_alive(), "the wake-ups were one, and that was taken"
    parker.unpark()
    thread.join(10.0)
    assert not thread.is_alive()


def test_a_sleep_that_ends_by_itself_wakes_its_thread(sleepers: Sleepers) -> None:
    gate, parker = Gate(), sleepers.threads.parker()

    def nap() -> None:
        parker.park(0.001)
        gate.pass_through()
        parker.park(None)

    thread = sleepers.threads.thread(nap, "s/one")
    thread.start()
    gate.wait_reached()
    assert not sleepers.is_settled()
    gate.open()
    sleepers.settle()
    parker.unpark()
    thread.join(10.0)
    assert not thread.is_alive()

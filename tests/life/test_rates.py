"""Rate limits of running components: how often a handler or a method may begin, and what becomes of those that wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions import Component, Inbox, InboxEmpty, Outbox, Rate, State, StopRequested, System, UsageError, every, limit
from minions.life.rates import Pace, Paces
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start, in_virtual_time


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def until_it_waits(clock: FakeClock, in_s: float) -> None:
    """Blocks until somebody waits for a moment."""
    with clock._changed:
        assert clock._changed.wait_for(lambda: in_s in clock._waits_locked(), PATIENCE_S), clock._waits_locked()


class Sending(Component):
    """Sends numbers, and is then done."""

    count: int = 5
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            self.out.send(Number(value))


def fed(system: System, log: Log, rate: Rate) -> Component:
    """A component that notes five numbers, each in its handler, as often as it may."""

    class Limited(Component):
        numbers = Inbox(Number, rate=rate)

        @numbers.handler
        def handle(self, number: Number) -> None:
            log.add(number.value)

    sending, limited = system.add(Sending()), system.add(Limited())
    system.connect(sending.out, limited.numbers)
    return limited


# ---------------------------------------------------------------------- the pace
def test_a_pace_lets_so_many_begin_in_any_span() -> None:
    pace = Pace((Rate(2, per_s=1.0),))
    assert [pace.take(0.0), pace.take(0.75), pace.take(0.75)] == [None, None, 1.0]
    assert (pace.ready_s(0.9), pace.take(0.99)) == (1.0, 1.0)
    assert (pace.ready_s(1.0), pace.take(1.0), pace.take(1.0)) == (1.0, None, 1.75)
    assert pace.ready_s(5.0) == 5.0


def test_several_rates_hold_at_once() -> None:
    pace = Pace((Rate(2, per_s=1.0), Rate(3, per_s=10.0)))
    assert [pace.take(0.0), pace.take(0.0), pace.take(0.5)] == [None, None, 1.0]
    assert [pace.take(1.0), pace.take(1.0)] == [None, 10.0]
    assert [pace.take(10.0), pace.take(10.0), pace.take(10.0)] == [None, None, 11.0]


def test_what_did_not_begin_after_all_counts_no_longer() -> None:
    pace = Pace((Rate(1, per_s=10.0), Rate(2, per_s=1.0)))
    assert [pace.take(0.0), pace.take(5.0)] == [None, 10.0]
    pace.give_back(0.0)
    assert [pace.take(5.0), pace.take(6.0)] == [None, 15.0]
    pace.give_back(99.0)
    assert pace.take(6.0) == 15.0


def test_each_limited_thing_has_one_pace() -> None:
    paces, rates = Paces(), (Rate(1, per_s=1.0),)
    assert paces.of("numbers", rates) is paces.of("numbers", rates) is not paces.of("others", rates)


@given(
    rates=st.lists(st.builds(Rate, st.integers(1, 5), per_s=st.integers(1, 20)), min_size=1, max_size=3),
    steps=st.lists(st.integers(0, 5), max_size=60),
)
def test_no_span_holds_more_than_it_may(rates: list[Rate], steps: list[int]) -> None:
    pace, now, begun = Pace(tuple(rates)), 0, list[int]()
    for step in steps:
        now += step
        again = pace.take(now)
        if again is None:
            begun.append(now)
        else:
            assert again > now
            full = [rate for rate in rates if sum(now - rate.per_s < moment <= now for moment in begun) >= rate.calls]
            assert full  # nobody waits for nothing
    for rate in rates:
        for moment in begun:
            assert sum(moment <= other < moment + rate.per_s for other in begun) <= rate.calls


# ---------------------------------------------------------------------- handlers
@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("how", ["inbox", "handler"])
def test_a_handler_begins_as_often_as_it_may(durable: bool, how: str, system: System, clock: FakeClock) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number, durable=durable, rate=Rate(2, per_s=10.0) if how == "inbox" else None)

        def _handle(self, number: Number) -> None:
            log.add((number.value, clock.monotonic() - 1_000.0))

        _handle.__name__ = "handle"
        handle = numbers.handler(_handle if how == "inbox" else limit(calls=2, per_s=10.0)(_handle))

    sending, limited = system.add(Sending()), system.add(Limited())
    system.connect(sending.out, limited.numbers)
    with in_virtual_time(system, clock) as run:
        for count in (2, 4):
            clock.settle()
            assert clock.waits() == (10.0,)
            life = next(life for life in run.runtime.lives() if life.name == "limited")
            assert (life.waits_for, life.open_unit) == ("its rate limit", None)
            clock.advance(9.0)
            assert len(log.entries) == count
            clock.advance(1.0)
        run.until_idle()
    assert log.entries == [(0, 0.0), (1, 0.0), (2, 10.0), (3, 10.0), (4, 20.0)]


def test_messages_are_counted_apart_from_calls_of_their_handler(system: System, clock: FakeClock) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number)

        @numbers.handler
        @limit(calls=1, per_s=10.0)
        def handle(self, number: Number) -> None:
            log.add((number.value, clock.monotonic() - 1_000.0))

        @every(hours=1, at_start=True)
        def tick(self) -> None:
            self.handle(Number(-1))

    sending, limited = system.add(Sending(count=2)), system.add(Limited())
    system.connect(sending.out, limited.numbers)
    with in_virtual_time(system, clock):
        clock.advance(10.0)
    assert log.entries == [(-1, 0.0), (0, 0.0), (1, 10.0)]


def test_replicas_share_a_rate(system: System, clock: FakeClock) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number, rate=Rate(2, per_s=10.0))

        @numbers.handler
        def handle(self, number: Number) -> None:
            log.add((number.value, clock.monotonic() - 1_000.0))

    sending, limited = system.add(Sending(count=9)), system.add(Limited(), replicas=3)
    system.connect(sending.out, limited.numbers)
    with in_virtual_time(system, clock):
        clock.advance(40.0)
    assert sorted(value for value, _ in log.entries) == list(range(9))
    assert [moment for _, moment in log.entries] == [0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0, 30.0, 40.0]


def test_what_waits_for_its_rate_stays_in_the_inbox_when_it_is_to_stop(
    new_system: Callable[[], System], clock: FakeClock
) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number, rate=Rate(2, per_s=3_600.0))
        seen = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.seen.append(number.value)
            log.add(number.value)

    class Once(Sending):
        sent = State(bool)

        def run(self) -> None:
            if not self.sent:
                with self.unit():
                    super().run()
                    self.sent = True

    limited = Limited()
    for count in (2, 4, 5):
        system = new_system()
        sending, limited = system.add(Once()), system.add(Limited())
        system.connect(sending.out, limited.numbers)
        with in_virtual_time(system, clock):
            clock.settle()
            assert len(log.entries) == count
            if count < 5:
                assert clock.waits() == (3_600.0,)
                system.stop(limited).result(PATIENCE_S)  # at once, whatever the rate
    assert log.entries == list(range(5))
    assert limited.seen == list(range(5))
    assert clock.monotonic() == 1_000.0


def test_a_stop_of_the_system_ends_the_wait_when_the_time_to_drain_is_over(
    system: System, start: Start, clock: FakeClock
) -> None:
    log = Log()
    fed(system, log, Rate(1, per_s=3_600.0))
    run = start(system, clock=clock).up()
    log.wait_for_count(1)
    until_it_waits(clock, 3_600.0)
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(6.0)
    stopped = run.ended()
    assert (stopped.problems, stopped.left_messages, log.entries) == ((), 4, [0])


def test_a_component_that_is_paused_waits_for_nothing_but_to_go_on(system: System, clock: FakeClock) -> None:
    log = Log()
    limited = fed(system, log, Rate(1, per_s=10.0))
    with in_virtual_time(system, clock):
        clock.settle()
        assert clock.waits() == (10.0,)
        system.pause(limited).result(PATIENCE_S)
        clock.settle()
        assert clock.waits() == ()
        clock.advance(50.0)
        assert log.entries == [0]
        system.resume(limited).result(PATIENCE_S)
        clock.settle()
        assert log.entries == [0, 1]
        assert clock.waits() == (10.0,)


def test_ticks_calls_and_other_messages_do_not_wait_for_a_rate(system: System, clock: FakeClock) -> None:
    log = Log()

    class Limited(Component):
        slow = Inbox(Number, rate=Rate(1, per_s=3_600.0))
        fast = Inbox(Number)

        @slow.handler
        def handle_slow(self, number: Number) -> None:
            log.add("slow")

        @fast.handler
        def handle_fast(self, number: Number) -> None:
            log.add("fast")

        @every(seconds=10)
        def tick(self) -> None:
            log.add("tick")

        def ask(self) -> int:
            return 4

    sending, limited = system.add(Sending(count=0)), system.add(Limited())
    system.connect(sending.out, limited.slow)
    system.connect(sending.out, limited.fast)
    with in_virtual_time(system, clock) as run:
        run.send(limited.slow, *map(Number, range(5)))
        clock.settle()
        run.send(limited.fast, *map(Number, range(5)))
        clock.settle()
        assert log.entries == ["slow", *["fast"] * 5]
        assert system.call(limited).ask() == 4
        clock.advance(10.0)
        assert log.entries == ["slow", *["fast"] * 5, "tick"]


# ---------------------------------------------------------------------- loops
def test_a_loop_receives_as_often_as_it_may(system: System, start: Start, clock: FakeClock) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number, rate=Rate(2, per_s=10.0))

        def run(self) -> None:
            for number in self.numbers:
                log.add((number.value, clock.monotonic() - 1_000.0))
            log.add("over")

    sending, limited = system.add(Sending()), system.add(Limited())
    system.connect(sending.out, limited.numbers)
    run = start(system, clock=clock).up()
    log.wait_for_count(2)
    until_it_waits(clock, 10.0)
    life = run.runtime._threads["limited"].life
    assert (life.waits_for, life.open_unit) == ("its rate limit", None)
    clock.advance(10.0)
    log.wait_for_count(4)
    until_it_waits(clock, 10.0)
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(6.0)
    assert run.ended().left_messages == 1
    assert log.entries == [(0, 0.0), (1, 0.0), (2, 10.0), (3, 10.0), "over"]


def test_a_loop_that_waits_for_a_message_has_not_begun(system: System, start: Start, clock: FakeClock) -> None:
    log, gate = Log(), Gate()

    class Late(Sending):
        def run(self) -> None:
            gate.pass_through()
            super().run()

    class Limited(Component):
        numbers = Inbox(Number, rate=Rate(1, per_s=10.0))

        def run(self) -> None:
            for _ in range(2):
                with pytest.raises(InboxEmpty):
                    self.numbers.receive(timeout_s=4.0)
                log.add("none")
            log.add(self.numbers.receive().value)
            with pytest.raises(InboxEmpty):
                self.numbers.receive(timeout_s=4.0)
            log.add("none")
            log.add(self.numbers.receive(timeout_s=6.0).value)
            while self.running:
                self.sleep(1_000.0)

    sending, limited = system.add(Late()), system.add(Limited())
    system.connect(sending.out, limited.numbers)
    start(system, clock=clock).up()
    for count in (1, 2):
        until_it_waits(clock, 4.0)
        clock.advance(4.0)
        log.wait_for_count(count)
    gate.wait_reached()
    gate.open()
    log.wait_for_count(3)
    for wait_s in (4.0, 6.0):
        until_it_waits(clock, wait_s)
        clock.advance(wait_s)
    log.wait_for_count(5)
    assert log.entries == ["none", "none", 0, "none", 1]


# ---------------------------------------------------------------------- methods
def test_a_limited_method_waits_wherever_it_is_called(system: System, start: Start, clock: FakeClock) -> None:
    log = Log()

    class Asking(Component):
        @limit(calls=2, per_s=10.0)
        def ask(self, what: str) -> str:
            log.add((what, clock.monotonic() - 1_000.0, threading.current_thread().name))
            return what.upper()

        @every(seconds=3, at_start=True)
        def tick(self) -> None:
            assert self.ask("tick") == "TICK"

    asking = system.add(Asking())
    run = start(system, clock=clock).up()
    log.wait_for_count(1)
    until_it_waits(clock, 3.0)
    assert system.call(asking).ask("call") == "CALL"
    clock.advance(3.0)
    until_it_waits(clock, 7.0)
    life = run.runtime._threads["asking"].life
    assert (life.waits_for, life.where, life.open_unit is not None) == ("its rate limit", "tick", True)
    clock.advance(7.0)
    log.wait_for_count(3)
    assert log.entries[:3] == [
        (what, at_s, "test/asking") for what, at_s in (("tick", 0.0), ("call", 0.0), ("tick", 10.0))
    ]


def test_a_call_that_waits_for_its_rate_when_it_is_to_stop_never_was(
    new_system: Callable[[], System], start: Start, clock: FakeClock
) -> None:
    log = Log()

    class Limited(Component):
        numbers = Inbox(Number)
        seen = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.seen.append(number.value)
            log.add(f"begun {number.value}")
            self.ask()
            log.add(f"asked {number.value}")

        @limit(calls=1, per_s=3_600.0)
        def ask(self) -> None: ...

    class Once(Sending):
        count: int = 2
        sent = State(bool)

        def run(self) -> None:
            if not self.sent:
                with self.unit():
                    super().run()
                    self.sent = True

    def ends_with(last: str) -> Callable[[list[str]], bool]:
        return lambda entries: entries[-1:] == [last]

    limited = Limited()
    for last in ("begun 1", "asked 1"):
        system = new_system()
        sending, limited = system.add(Once()), system.add(Limited())
        system.connect(sending.out, limited.numbers)
        run = start(system, clock=clock).up()
        log.wait_for(ends_with(last))
        if last == "begun 1":
            until_it_waits(clock, 3_600.0)
            system.stop(limited).result(PATIENCE_S)
            assert limited.seen == [0]
        assert run.stop().problems == ()
    assert log.entries == ["begun 0", "asked 0", "begun 1", "begun 1", "asked 1"]
    assert limited.seen == [0, 1]


def test_replicas_and_threads_of_their_own_share_the_rate_of_a_method(
    system: System, start: Start, clock: FakeClock
) -> None:
    log = Log()

    class Asking(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            thread = threading.Thread(target=self.ask)
            thread.start()
            self.ask()
            thread.join(PATIENCE_S)

        @limit(calls=1, per_s=10.0)
        def ask(self) -> None:
            log.add(clock.monotonic() - 1_000.0)

    sending, asking = system.add(Sending(count=3)), system.add(Asking(), replicas=2)
    system.connect(sending.out, asking.numbers)
    start(system, clock=clock).up()
    for count in range(1, 6):
        log.wait_for_count(count)
        until_it_waits(clock, 10.0)
        clock.advance(10.0)
    assert log.wait_for_count(6) == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert all(later - earlier == 10.0 for earlier, later in pairwise(log.entries))


def test_the_rate_of_a_component_is_that_of_all_its_lives(system: System, start: Start, clock: FakeClock) -> None:
    log = Log()
    limited = fed(system, log, Rate(1, per_s=100.0))
    start(system, clock=clock).up()
    log.wait_for_count(1)
    until_it_waits(clock, 100.0)
    clock.advance(40.0)
    system.restart(limited).result(PATIENCE_S)
    until_it_waits(clock, 60.0)
    assert log.entries == [0]


def test_what_follows_a_commit_and_on_stop_are_left_their_time(system: System, start: Start, clock: FakeClock) -> None:
    log = Log()

    class Asking(Component):
        count = State(int)

        def on_start(self) -> None:
            self.ask("on_start")

        def on_stop(self) -> None:
            self.ask("on_stop")

        @limit(calls=1, per_s=1.0)
        def ask(self, what: str) -> None:
            log.add(what)

    system.add(Asking())
    run = start(system, clock=clock).up()
    run.runtime.stop("stopped")
    run.reach()
    until_it_waits(clock, 1.0)
    clock.advance(1.0)
    assert run.ended().problems == ()
    assert log.entries == ["on_start", "on_stop"]


def test_what_waits_for_its_rate_raises_what_nobody_swallows(system: System, start: Start, clock: FakeClock) -> None:
    log = Log()

    class Asking(Component):
        def run(self) -> None:
            self.ask()
            try:
                self.ask()
            except StopRequested as asked:
                log.add(str(asked))
                raise

        @limit(calls=1, per_s=1_000.0)
        def ask(self) -> None: ...

    system.add(Asking())
    run = start(system, clock=clock).up()
    until_it_waits(clock, 1_000.0)
    assert run.stop().problems == ()
    assert log.entries == ["asking was asked to stop, and ask() waits for its rate limit"]
    with pytest.raises(UsageError):
        Asking().ask()

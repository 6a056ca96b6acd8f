"""Components with a `run()` of their own: units of work in a loop, receiving, stopping, failing."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from minions import (
    Backoff,
    Component,
    Inbox,
    InboxEmpty,
    InboxFull,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    UsageError,
    events,
)
from minions.model.checks import shown
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start, dead_letters, in_virtual_time
from tests.life.counting import Kept

AT_ONCE = Backoff(initial_s=0.0)
ONCE_MORE = Restart(failures=1, backoff=AT_ONCE)


def feeding_kept(system: System, source: Component, restart: Restart = ONCE_MORE) -> Kept:
    kept = Kept()
    system.add(source, restart=restart)
    system.add(kept)
    system.connect(source.out, kept.numbers)  # type: ignore[attr-defined]
    return kept


# Units of a source ----------------------------------------------------------------------------------------------------


def test_each_send_is_a_unit_of_its_own_with_the_state_as_it_is(system: System, start: Start) -> None:
    class Counting(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.sent < 5:
                self.sent += 1
                self.out.send(Number(self.sent))
                if self.sent == 3:
                    self.sent = 99  # never sent with anything, and so it never was
                    raise ValueError("three")

    kept = feeding_kept(system, Counting())
    assert start(system, forever=False).ended().problems == ()
    assert kept.values == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("caught", [True, False])
def test_a_unit_that_raises_never_was(system: System, start: Start, caught: bool) -> None:
    states = Log()
    once = itertools.count()

    class Transfer(Component):
        out = Outbox(Number)
        moved = State(list[int])

        def run(self) -> None:
            try:
                self.move()
            except ValueError:
                if not caught:
                    raise
            states.add(list(self.moved))
            self.move()

        def move(self) -> None:
            with self.unit():
                self.moved.append(1)
                self.out.send(Number(1))
                if next(once) == 0:
                    raise ValueError("in the middle")
                self.moved.append(2)
                self.out.send(Number(2))

    transfer = Transfer()
    kept = feeding_kept(system, transfer)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert kept.values == [1, 2] * (1 if caught else 2)
    assert transfer.moved == kept.values
    assert states.entries == [[]] if caught else [[1, 2]]
    assert len(run.all(events.ComponentFailed)) == (0 if caught else 1)


def test_nothing_of_a_unit_is_seen_before_it_is_whole(system: System, start: Start) -> None:
    gate = Gate()

    class Slow(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                self.out.send(Number(1))
                gate.pass_through()
                self.out.send(Number(2))

    kept = feeding_kept(system, Slow())
    run = start(system, forever=False)
    gate.wait_reached()
    assert run.runtime.plan.channels["kept.numbers"].size == 0
    gate.open()
    run.ended()
    assert kept.values == [1, 2]


def test_state_that_a_run_leaves_behind_is_kept_when_it_returns(system: System, start: Start) -> None:
    class Counting(Component):
        runs = State(int)

        def run(self) -> None:
            self.runs += 1

    counting = system.add(Counting())
    for expected in (1, 2, 3):
        start(system, forever=False).ended()
        assert counting.runs == expected


@pytest.mark.parametrize("where", ["run", "on_start", "on_stop"])
def test_a_unit_inside_a_unit_is_refused(system: System, start: Start, where: str) -> None:
    errors = Log()

    class Nesting(Component):
        def try_it(self, here: str) -> None:
            if here == where:
                with pytest.raises(UsageError) as caught, self.unit():
                    pass
                errors.add(str(caught.value))

        def on_start(self) -> None:
            self.try_it("on_start")

        def run(self) -> None:
            with self.unit():
                self.try_it("run")

        def on_stop(self) -> None:
            self.try_it("on_stop")

    system.add(Nesting())
    assert start(system, forever=False).ended().problems == ()
    assert errors.entries == [
        "nesting: a unit of work is open already: a handler, on_start and on_stop are one unit, and units do not nest"
    ]


def test_a_unit_after_a_receive_is_refused_with_the_remedy(system: System, start: Start) -> None:
    errors = Log()

    class Receiving(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            for _ in self.numbers:
                with pytest.raises(UsageError) as caught, self.unit():
                    pass
                errors.add(str(caught.value))

    fed_by_five(system, Receiving())
    assert start(system, forever=False).ended().problems == ()
    assert len(errors.entries) == 5
    assert "receive inside `with self.unit():` instead" in errors.entries[0]


# Failing --------------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_failing_stops_the_system_and_everything_committed_is_kept(
    system: System, start: Start
) -> None:
    class Failing(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))
            raise ConnectionError(f"lost after {self.sent}")

    failing = Failing()
    kept = feeding_kept(system, failing, Restart(failures=2, backoff=AT_ONCE))
    run = start(system, forever=False)
    stopped = run.ended()

    assert stopped.reason == "failed"
    assert stopped.problems == ("failing failed in run: ConnectionError: lost after 3",)
    assert (failing.sent, kept.values) == (3, [1, 2, 3])
    [gave_up] = run.all(events.GaveUp)
    assert (gave_up.component, gave_up.failures) == ("failing", 3)
    assert [(failed.epoch, failed.restart_in_s) for failed in run.all(events.ComponentFailed)] == [
        (1, 0.0),
        (2, 0.0),
        (3, None),
    ]


# Receiving ------------------------------------------------------------------------------------------------------------


class Five(Component):
    """Sends 0 to 4 in one unit."""

    out = Outbox(Number)
    done = State(bool)

    def run(self) -> None:
        with self.unit():
            if not self.done:
                for value in range(5):
                    self.out.send(Number(value))
            self.done = True


def fed_by_five(system: System, component: Component, restart: Restart = ONCE_MORE) -> None:
    five = system.add(Five())
    system.add(component, restart=restart)
    system.connect(five.out, component.numbers)  # type: ignore[attr-defined]


def test_each_turn_of_a_loop_over_an_inbox_is_one_unit(system: System, start: Start) -> None:
    fail = itertools.count()

    class Doubling(Component):
        numbers = Inbox(Number, retry=Retry(backoff=AT_ONCE))
        out = Outbox(Number)
        ids = State(list[str])

        def run(self) -> None:
            for number in self.numbers:
                self.ids.append(self.message_id)
                self.out.send(Number(2 * number.value))
                if number.value == 2 and next(fail) < 2:
                    raise ValueError("not yet")
                self.out.send(Number(2 * number.value))

    doubling = Doubling()
    fed_by_five(system, doubling, Restart(failures=0))
    kept = system.add(Kept())
    system.connect(doubling.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert kept.values == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]
    assert len(set(doubling.ids)) == 5
    assert [(failed.where, failed.attempt) for failed in run.all(events.ComponentFailed)] == [("run", 1), ("run", 2)]


def test_a_loop_that_fails_at_one_message_sets_it_aside_and_goes_on(system: System, start: Start) -> None:
    class Picky(Component):
        numbers = Inbox(Number, retry=Retry(backoff=AT_ONCE))
        taken = State(list[int])

        def run(self) -> None:
            while True:
                with self.unit():
                    number = self.numbers.receive()
                    self.taken.append(number.value)
                    if number.value == 2:
                        raise ValueError("two")

    picky = Picky()
    fed_by_five(system, picky, Restart(failures=0))
    assert start(system, forever=False).ended().problems == ()
    assert picky.taken == [0, 1, 3, 4]
    [letter] = dead_letters(system.folder)
    assert (letter.message, letter.attempts) == (b'{"value":2}', 3)


def test_a_message_of_a_unit_that_failed_and_was_caught_is_received_again(system: System, start: Start) -> None:
    class Stubborn(Component):
        numbers = Inbox(Number)
        taken = State(list[int])

        def run(self) -> None:
            for attempt in itertools.count():
                try:
                    with self.unit():
                        first = self.numbers.receive()
                        second = self.numbers.receive(timeout_s=0.0) if first.value < 4 else Number(5)
                        self.taken += [first.value, second.value]
                        if attempt % 2 == 0:
                            raise ValueError("every other time")
                except ValueError:
                    continue

    stubborn = Stubborn()
    fed_by_five(system, stubborn)
    assert start(system, forever=False).ended().problems == ()
    assert stubborn.taken == [0, 1, 2, 3, 4, 5]


def test_what_follows_a_receive_is_one_unit_with_it_until_the_next(system: System, start: Start) -> None:
    gate = Gate()

    class Holding(Component):
        numbers = Inbox(Number, capacity=5)
        taken = State(list[int])

        def run(self) -> None:
            for number in self.numbers:
                self.taken.append(number.value)
                if number.value == 3:
                    gate.pass_through()

    holding = Holding()
    fed_by_five(system, holding)
    run = start(system, forever=False)

    gate.wait_reached()
    assert holding.taken == [0, 1, 2], "the fourth is in work"
    assert run.runtime.plan.channels["holding.numbers"].size == 2
    gate.open()
    run.ended()
    assert holding.taken == [0, 1, 2, 3, 4]


def test_receive_gives_up_after_its_timeout_and_loses_nothing(system: System) -> None:
    clock, gate, empty = FakeClock(), Gate(), Log()

    class Late(Component):
        out = Outbox(Number)

        def run(self) -> None:
            gate.pass_through()
            self.out.send(Number(7))

    class Patient(Component):
        numbers = Inbox(Number)
        taken = State(list[int])

        def run(self) -> None:
            while self.running:
                try:
                    self.taken.append(self.numbers.receive(timeout_s=60.0).value)
                except InboxEmpty as error:
                    empty.add(str(error))

    late, patient = system.add(Late()), system.add(Patient())
    system.connect(late.out, patient.numbers)
    with in_virtual_time(system, clock) as run:
        for _ in range(2):
            clock.advance(60.0, besides=["late"])
        assert empty.entries == ["patient: no message came to patient.numbers within the timeout"] * 2
        gate.open()
        run.wait_for(events.ComponentFinished)
    assert patient.taken == [7]


def test_a_timeout_of_zero_takes_what_is_there(system: System, start: Start) -> None:
    class Draining(Component):
        numbers = Inbox(Number)
        taken = State(list[int])

        def run(self) -> None:
            self.numbers.receive()
            with suppress(InboxEmpty):
                while True:
                    self.taken.append(self.numbers.receive(timeout_s=0.0).value)
            self.numbers.receive()  # until it is stopped

    draining = Draining()
    fed_by_five(system, draining)
    assert start(system, forever=False).ended().problems == ()
    assert draining.taken == [1, 2, 3, 4]


@pytest.mark.parametrize("overflow", ["block", "fail", "drop_newest"])
def test_a_unit_that_waits_for_more_than_its_inbox_holds_is_refused(
    system: System, start: Start, overflow: Any
) -> None:
    class Greedy(Component):
        numbers = Inbox(Number, capacity=2, overflow=overflow)

        def run(self) -> None:
            with self.unit():
                for _ in range(3):
                    self.numbers.receive()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(5):
                with suppress(InboxFull):
                    self.out.send(Number(value))

    source, greedy = system.add(Source()), system.add(Greedy(), restart=Restart(failures=0))
    system.connect(source.out, greedy.numbers)
    run = start(system)
    [failed] = run.wait_for(events.ComponentFailed)
    assert failed.component == "greedy"
    assert "UnitTooLarge" in failed.traceback
    assert "has received 2 messages of greedy.numbers, which holds no more, so none can follow" in failed.error
    run.stop()


def test_a_unit_may_hold_all_that_its_inbox_does_and_the_oldest_of_the_rest_go(system: System, start: Start) -> None:
    held = Log()

    class Waiting(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(3):
                self.out.send(Number(value))
                held.wait_for_count(value + 1)

    class Newest(Component):
        numbers = Inbox(Number, capacity=2, overflow="drop_oldest")

        def run(self) -> None:
            with self.unit():
                for _ in range(3):
                    held.add(self.numbers.receive().value)

    waiting, newest = system.add(Waiting()), system.add(Newest())
    system.connect(waiting.out, newest.numbers)
    start(system, forever=False).ended()
    assert held.entries == [0, 1, 2]


def test_several_inboxes_are_received_from_one_by_one_and_settle_together(system: System, start: Start) -> None:
    class Pairing(Component):
        left = Inbox(Number)
        right = Inbox(Number)
        pairs = State(list[list[int]])

        def run(self) -> None:
            while True:
                with self.unit():
                    right = self.right.receive()
                    left = self.left.receive()
                    self.pairs.append([left.value, right.value])

    five, pairing = system.add(Five()), system.add(Pairing())
    system.connect(five.out, pairing.left)
    system.connect(five.out, pairing.right)
    assert start(system, forever=False).ended().left_messages == 0
    assert pairing.pairs == [[value, value] for value in range(5)]


def test_a_loop_over_an_inbox_ends_when_the_component_is_stopped_and_what_follows_it_is_kept(
    system: System, start: Start
) -> None:
    class Summing(Component):
        numbers = Inbox(Number)
        total = State(int)
        ended = State(bool)

        def run(self) -> None:
            for number in self.numbers:
                self.total += number.value
            self.ended = True

    summing = Summing()
    fed_by_five(system, summing)
    run = start(system, forever=False)
    assert run.ended().left_messages == 0
    assert (summing.total, summing.ended) == (10, True)
    assert [stopped.component for stopped in run.all(events.ComponentStopped)] == ["summing"]


def test_a_run_that_returns_leaves_what_it_did_not_receive_for_the_next_start(
    new_system: Callable[[], System], start: Start
) -> None:
    class TakesOne(Component):
        numbers = Inbox(Number)
        taken = State(list[int])

        def run(self) -> None:
            self.taken.append(self.numbers.receive().value)

    for count in range(1, 6):
        system = new_system()
        takes_one = TakesOne()
        fed_by_five(system, takes_one)
        assert start(system, forever=False).ended().left_messages == 5 - count
        assert takes_one.taken == list(range(count))


# Time and threads -----------------------------------------------------------------------------------------------------


def test_sleep_ends_when_its_time_is_over_and_early_when_the_component_is_stopped(system: System) -> None:
    clock, woken = FakeClock(), Log()

    class Sleeper(Component):
        def run(self) -> None:
            while self.running:
                self.sleep(30.0)
                woken.add(self.running)

    system.add(Sleeper())
    with in_virtual_time(system, clock):
        clock.settle()
        assert clock.waits() == (30.0,)
        clock.advance(seconds=29.0)
        assert clock.waits() == (1.0,)
        assert woken.entries == []
        clock.advance(seconds=1.0)
        assert woken.entries == [True]
        assert clock.waits() == (30.0,)
    assert woken.entries == [True, False]
    assert clock.monotonic() == 1_030.0


def test_other_threads_may_send_sleep_and_commit(system: System, start: Start) -> None:
    clock = FakeClock()
    sent = Log()

    class Callbacks(Component):
        out = Outbox(Number)

        def run(self) -> None:
            threads = [threading.Thread(target=self.call_back, args=(value,)) for value in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
            self.sleep(1e6)

        def call_back(self, value: int) -> None:
            self.sleep(1.0)
            self.out.send(Number(value))
            self.commit()
            sent.add(value)

    kept = feeding_kept(system, Callbacks())
    run = start(system, clock=clock)
    clock.wait_for_waiters(8)
    clock.advance(seconds=1.0)
    sent.wait_for_count(8)
    run.stop()
    assert sorted(kept.values) == list(range(8))


def test_a_send_from_another_thread_is_no_part_of_the_open_unit(system: System, start: Start) -> None:
    class Mixed(Component):
        out = Outbox(Number)
        changed = State(int)

        def run(self) -> None:
            try:
                with self.unit():
                    self.changed += 1
                    self.out.send(Number(1))
                    thread = threading.Thread(target=self.out.send, args=(Number(2),))
                    thread.start()
                    thread.join(PATIENCE_S)
                    raise ValueError("the unit never was")
            except ValueError:
                return

    mixed = Mixed()
    kept = feeding_kept(system, mixed)
    start(system, forever=False).ended()
    assert (kept.values, mixed.changed) == ([2], 0)


@pytest.mark.parametrize("method", ["unit", "receive"])
def test_units_and_receiving_belong_to_the_components_own_thread(system: System, start: Start, method: str) -> None:
    errors = Log()

    class Foreign(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            thread = threading.Thread(target=self.try_it)
            thread.start()
            thread.join(PATIENCE_S)
            for _ in self.numbers:
                pass

        def try_it(self) -> None:
            try:
                if method == "unit":
                    with self.unit():
                        pass
                else:
                    self.numbers.receive(timeout_s=0.0)
            except UsageError as error:
                errors.add(str(error))

    foreign = Foreign()
    fed_by_five(system, foreign)
    start(system, forever=False).ended()
    assert errors.entries == [
        f"foreign: {method}() works on the component's own thread only; other threads may send, sleep and commit"
    ]


def test_a_source_that_goes_on_sending_after_it_was_stopped_is_ended_by_it(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()
    stopping = threading.Event()

    class Endless(Component):
        out = Outbox(Number)
        sent = State(int)
        cleaned = State(bool)

        def run(self) -> None:
            while True:
                with self.unit():
                    self.sent += 1
                    self.out.send(Number(self.sent))
                if self.sent == 3:
                    gate.pass_through()
                    assert stopping.wait(PATIENCE_S)

        def on_interrupt(self) -> None:
            stopping.set()

        def on_stop(self) -> None:
            self.cleaned = True

    endless = Endless()
    kept = feeding_kept(system, endless)
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    gate.open()
    clock.advance(seconds=2.0)  # asked again, and interrupted

    assert run.ended().problems == ()
    assert kept.values == [1, 2, 3]
    assert (endless.sent, endless.cleaned) == (3, True)


def test_a_send_that_waits_for_room_gives_up_after_its_timeout_and_has_sent_nothing(
    system: System, start: Start
) -> None:
    clock, gate, full = FakeClock(), Gate(), Log()

    class Pressing(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(4):
                try:
                    self.out.send(Number(value), timeout_s=5.0)
                except InboxFull as error:
                    full.add(str(error))

    class Narrow(Component):
        numbers = Inbox(Number, capacity=2)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    pressing, narrow = system.add(Pressing()), system.add(Narrow())
    system.connect(pressing.out, narrow.numbers)
    run = start(system, clock=clock, forever=False)
    for count in (1, 2):
        clock.wait_for_waiters()
        clock.advance(seconds=1.0)
        assert clock.wait_for_waiters() == (4.0,)
        clock.advance(seconds=4.0)
        assert "inbox narrow.numbers is full" in full.wait_for_count(count)[-1]
    gate.open()
    run.ended()
    assert narrow.values == [0, 1]


def test_outside_of_a_running_component_its_methods_say_so(system: System) -> None:
    five = system.add(Five())
    for call in (five.commit, five.unit, lambda: five.sleep(1.0), lambda: five.message_id, lambda: five.log):
        with pytest.raises(UsageError, match="inside a running component"):
            call()
    with pytest.raises(UsageError, match="inside a running component"):
        five.out.send(Number(1))
    assert not five.running


def test_there_is_no_message_id_without_a_message(system: System, start: Start) -> None:
    errors = Log()

    class Asking(Component):
        def run(self) -> None:
            try:
                errors.add(self.message_id)
            except UsageError as error:
                errors.add(str(error))

    system.add(Asking())
    start(system, forever=False).ended()
    assert errors.entries == ["asking: there is no message in work, and so no message_id"]


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
def test_receiving_outside_of_run_is_refused(system: System, start: Start, hook: str) -> None:
    errors = Log()

    class Early(Component):
        numbers = Inbox(Number)

        def try_it(self) -> None:
            try:
                self.numbers.receive(timeout_s=0.0)
            except UsageError as error:
                errors.add(str(error))

        def on_start(self) -> None:
            if hook == "on_start":
                self.try_it()

        def run(self) -> None:
            for _ in self.numbers:
                pass

        def on_stop(self) -> None:
            if hook == "on_stop":
                self.try_it()

    early = Early()
    fed_by_five(system, early)
    start(system, forever=False).ended()
    [error] = errors.entries
    assert "receive() works in run() only" in error


@pytest.mark.parametrize("wrong", ["1", math.nan, [1.0], 10**310])
@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda loop, wrong: loop.sleep(wrong), "sleep"),
        (lambda loop, wrong: loop.commit(wrong), "timeout_s"),
        (lambda loop, wrong: loop.out.send(Number(1), timeout_s=wrong), "timeout_s"),
        (lambda loop, wrong: loop.numbers.receive(timeout_s=wrong), "timeout_s"),
    ],
    ids=["sleep", "commit", "send", "receive"],
)
def test_a_time_that_is_none_is_refused_at_once(
    system: System, start: Start, ask: Callable[[Any, Any], Any], said: str, wrong: Any
) -> None:
    told = Log()

    class Loop(Component):
        numbers = Inbox(Number, overflow="fail")
        out = Outbox(Number)

        def run(self) -> None:
            try:
                ask(self, wrong)
            except UsageError as error:
                told.add(str(error))
            while self.running:
                self.sleep(1e6)

    loop = system.add(Loop())
    system.connect(loop.out, loop.numbers)
    run = start(system).up()
    assert told.wait_for_count(1) == [f"loop: {said}={shown(wrong)} must be a number of seconds"]
    run.stop()

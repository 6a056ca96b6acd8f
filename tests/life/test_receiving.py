"""`run` of running components that receive: what is one unit, what waits, what is left for the next start."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from minions import Component, Inbox, InboxEmpty, InboxFull, Outbox, Restart, Retry, State, System, events
from minions.testing import FakeClock
from tests.life.committing import AT_ONCE
from tests.life.conftest import Gate, Log, Number, Start, dead_letters, in_virtual_time
from tests.life.counting import Kept
from tests.life.receiving import Five, fed_by_five


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

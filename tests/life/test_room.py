"""Room in inboxes: who holds it, who waits for it, and that it comes home at once."""

from __future__ import annotations

import itertools

import attrs
import pytest

from minions import Backoff, Component, Inbox, InboxFull, Outbox, Retry, State, System, UnitTooLarge, events
from minions.flow import unit as unit_module
from minions.testing import FakeClock
from tests.life.conftest import Gate, Log, Number, Start, in_virtual_time


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_two_ways_to_one_inbox_do_not_wait_for_each_other_in_whatever_order_they_were_added(
    system: System, start: Start, order: tuple[int, ...]
) -> None:
    clock, gate = FakeClock(), Gate()

    class Source(Component):
        short = Outbox(Number)
        long = Outbox(Number)

        def run(self) -> None:
            for value in range(5):
                with self.unit():
                    self.short.send(Number(value))
                    self.long.send(Number(value))

    class Middle(Component):
        numbers = Inbox(Number, capacity=1)
        out = Outbox(Number)

        @numbers.handler
        def pass_on(self, number: Number) -> None:
            gate.pass_through()
            self.out.send(number)

    class End(Component):
        numbers = Inbox(Number, capacity=1)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.values.append(number.value)

    source, middle, end = Source(), Middle(), End()
    for place in order:
        system.add((source, middle, end)[place])
    system.connect(source.short, end.numbers)
    system.connect(source.long, middle.numbers)
    system.connect(middle.out, end.numbers)
    run = start(system, clock=clock, forever=False)

    gate.wait_reached()
    clock.wait_for_waiters()  # the second unit of the source waits for room
    gate.open()
    assert run.ended().problems == ()
    assert sorted(end.values) == sorted([*range(5)] * 2)


# Room of what was handled ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [10, 100, 1_000])
def test_what_was_handled_has_given_its_room_back_although_the_last_of_its_batch_takes_long(
    system: System, start: Start, capacity: int
) -> None:
    gate, sent = Gate(), Log()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(capacity):
                    self.out.send(Number(value))
            gate.wait_reached()
            for _ in range(capacity - capacity // 8 - 1):
                self.out.send(Number(-1), timeout_s=0.0)
            sent.add("all")
            gate.open()

    class Slow(Component):
        numbers = Inbox(Number, capacity=capacity, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == capacity - 1:
                gate.pass_through()

    source, slow = system.add(Source()), system.add(Slow())
    system.connect(source.out, slow.numbers)
    run = start(system, forever=False)

    sent.wait_for_count(1)
    assert run.ended().lost_messages == 0
    assert run.all(events.ComponentFailed) == []


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("capacity", [10, 1_000])
def test_an_inbox_that_fails_when_full_counts_nothing_that_was_handled(
    system: System, start: Start, capacity: int, durable: bool
) -> None:
    gate, full = Gate(), Log()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(capacity):
                    self.out.send(Number(value))
            gate.wait_reached()
            for more in range(capacity):
                try:
                    self.out.send(Number(-1))
                except InboxFull:
                    full.add(more)
            gate.open()

    class Slow(Component):
        numbers = Inbox(Number, capacity=capacity, overflow="fail", durable=durable)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == capacity - 1:
                gate.pass_through()

    source, slow = system.add(Source()), system.add(Slow())
    system.connect(source.out, slow.numbers)
    start(system, forever=False).ended()
    assert full.entries == [capacity - 1], "all but the one in work"


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("capacity", [1, 2, 4])
def test_an_inbox_that_drops_the_oldest_keeps_the_newest_also_where_several_came_at_once(
    system: System, start: Start, capacity: int, durable: bool
) -> None:
    gate = Gate()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(4):
                    self.out.send(Number(value))
            gate.wait_reached()  # the first of those that wait is in work
            for value in range(4, 20):
                self.out.send(Number(value))

    class Latest(Component):
        numbers = Inbox(Number, capacity=capacity, overflow="drop_oldest", durable=durable)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    source, latest = system.add(Source()), system.add(Latest())
    system.connect(source.out, latest.numbers)
    run = start(system, forever=False)

    run.wait_for(events.ComponentFinished)
    gate.open()
    run.ended()
    assert latest.values == [4 - capacity, *range(20 - capacity, 20)]


# Replicas, retries, units that are too large --------------------------------------------------------------------------


def test_a_message_that_failed_waits_out_its_backoff_although_other_replicas_have_nothing_to_do(system: System) -> None:
    clock, tries, others = FakeClock(), Log(), Log()
    began_s = clock.monotonic()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(6):
                self.out.send(Number(value))

    class Failing(Component):
        numbers = Inbox(Number, retry=Retry(attempts=3, backoff=Backoff(initial_s=2.0, factor=2.0, jitter_ratio=0.0)))

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 0:
                tries.add(clock.monotonic() - began_s)
                raise ValueError("never")
            others.add(number.value)

    source, failing = system.add(Source()), system.add(Failing(), replicas=3)
    system.connect(source.out, failing.numbers)
    with in_virtual_time(system, clock, forever=False, expect_failures=3, expect_dead_letters=1) as run:
        clock.settle()
        assert (tries.entries, sorted(others.entries)) == ([0.0], [1, 2, 3, 4, 5])
        clock.advance(6.0)
        assert run.until_over().problems == ()
    assert tries.entries == [0.0, 2.0, 6.0]


@attrs.frozen
class Word:
    text: str


class Words(Component):
    words = Inbox(Word)
    texts = State(list[str])

    @words.handler
    def keep(self, word: Word) -> None:
        self.texts.append(word.text)


@pytest.mark.parametrize(("limit", "most"), [("MOST_MESSAGES", 8), ("MOST_BYTES", 120)])
def test_a_send_that_is_too_large_for_its_unit_is_in_no_inbox_and_smaller_ones_still_go(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(unit_module, limit, most)

    class Writing(Component):
        to_all = Outbox(Word)
        to_one = Outbox(Word)

        def run(self) -> None:
            with self.unit():
                self.to_all.send(Word("first"))
                self.to_all.send(Word("second"))
                with pytest.raises(UnitTooLarge):
                    self.to_all.send(Word("too large" * 10))
                self.to_one.send(Word("third"))

    writing = system.add(Writing())
    readers = [system.add(Words(), name=f"reader{number}") for number in range(3)]
    one = system.add(Words(), name="one")
    for reader in readers:
        system.connect(writing.to_all, reader.words)
    system.connect(writing.to_one, one.words)

    run = start(system, forever=False)
    run.ended()
    assert run.all(events.ComponentFailed) == []
    assert [reader.texts for reader in readers] == [["first", "second"]] * 3
    assert one.texts == ["third"]

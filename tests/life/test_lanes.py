"""Messages that are not durable, along lanes: what running systems promise holds on the short way too."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System, events
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start

AT_ONCE = Retry(attempts=3, backoff=Backoff(initial_s=0.0))


class Counting(Component):
    """Sends so many numbers, some of them in twos as one unit."""

    count: int
    twos: bool = False
    out = Outbox(Number)

    def run(self) -> None:
        numbers = iter(range(self.count))
        for value in numbers:
            if self.twos and value % 5 == 0:
                with self.unit():
                    self.out.send(Number(value))
                    self.out.send(Number(next(numbers)))
            else:
                self.out.send(Number(value))


@pytest.mark.parametrize("twos", [False, True])
@pytest.mark.parametrize("capacity", [1, 2, 7, 100, 1_000])
def test_what_is_not_durable_is_handled_once_in_order_and_counted(
    system: System, start: Start, capacity: int, twos: bool
) -> None:
    handled: list[tuple[str, int]] = []

    class Collecting(Component):
        numbers = Inbox(Number, capacity=capacity, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.append((self.message_id.rpartition("-")[2], number.value))

    source, sink = system.add(Counting(count=500, twos=twos)), system.add(Collecting(), name="sink")
    system.connect(source.out, sink.numbers)
    run = start(system, forever=False)
    assert run.ended().lost_messages == 0
    assert handled == [(str(value + 1), value) for value in range(500)]
    inbox = run.runtime.statistics().inboxes["sink.numbers"]
    assert (inbox.sent, inbox.settled, inbox.length, inbox.waiting) == (500, 500, 0, 0)
    assert 1 <= inbox.high_water <= max(capacity, 1 + twos)


def test_several_senders_and_replicas_share_an_inbox_and_each_message_is_handled_once(
    system: System, start: Start
) -> None:
    handled = Log()

    class Collecting(Component):
        numbers = Inbox(Number, capacity=3, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.add(number.value)

    sink = system.add(Collecting(), replicas=3)
    for number in range(4):
        system.connect(system.add(Counting(count=100), name=f"source{number}").out, sink.numbers)
    start(system, forever=False).ended()
    assert sorted(handled.entries) == sorted(4 * list(range(100)))


def test_an_outbox_that_feeds_several_inboxes_sends_to_each(system: System, start: Start) -> None:
    handled = Log()

    class Collecting(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.add(number.value)

    source = system.add(Counting(count=3))
    for name in ("one", "another"):
        system.connect(source.out, system.add(Collecting(), name=name).numbers)
    start(system, forever=False).ended()
    assert sorted(handled.entries) == [0, 0, 1, 1, 2, 2]


def test_what_a_component_sends_by_two_outboxes_to_one_inbox_keeps_its_order(system: System, start: Start) -> None:
    handled, all_sent = Log(), Gate()

    class Source(Component):
        even = Outbox(Number)
        odd = Outbox(Number)

        def run(self) -> None:
            for value in range(0, 10, 2):
                self.even.send(Number(value))
                self.odd.send(Number(value + 1))
            all_sent.open()

    class Collecting(Component):
        numbers = Inbox(Number, capacity=100, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            all_sent.pass_through()  # so that the others are gathered together
            handled.add(number.value)

    source, sink = system.add(Source()), system.add(Collecting())
    system.connect(source.even, sink.numbers)
    system.connect(source.odd, sink.numbers)
    start(system, forever=False).ended()
    assert handled.entries == list(range(10))


def test_a_message_that_fails_in_the_middle_is_the_only_one_that_is_handled_again(system: System, start: Start) -> None:
    handled, all_sent = Log(), Gate()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(10):
                self.out.send(Number(value))
            all_sent.open()

    class Failing(Component):
        numbers = Inbox(Number, capacity=100, durable=False, retry=AT_ONCE)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 0:
                all_sent.pass_through()  # so that the others are taken together
            handled.add((number.value, self.message_id.rpartition("-")[2]))
            if number.value in (3, 4) and handled.entries.count(handled.entries[-1]) == 1:
                raise ValueError(number.value)

    source, sink = system.add(Source()), system.add(Failing(), name="sink")
    system.connect(source.out, sink.numbers)
    run = start(system, forever=False)
    run.ended()
    expected = [0, 1, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9]
    assert handled.entries == [(value, str(value + 1)) for value in expected]
    failures = run.all(events.ComponentFailed)
    assert [(failure.where, failure.message_id[-2:], failure.attempt) for failure in failures] == [
        ("handle", "-4", 1),
        ("handle", "-5", 1),
    ]
    inbox = run.runtime.statistics().inboxes["sink.numbers"]
    assert (inbox.settled, inbox.failed, inbox.length) == (10, 2, 0)
    assert run.runtime.plan.channels["sink.numbers"].attempts == {}


def test_no_unit_is_open_once_all_is_handled(system: System, start: Start) -> None:
    class Ignoring(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def ignore(self, number: Number) -> None: ...

    source, sink = system.add(Counting(count=10)), system.add(Ignoring(), name="sink")
    system.connect(source.out, sink.numbers)
    run = start(system)
    run.wait_for(events.ComponentFinished)
    run.wait_until_quiet()
    life = run.runtime._threads["sink"].life
    assert run.runtime.statistics().inboxes["sink.numbers"].settled == 10
    assert (life.open_unit, life.current) == (None, None)


def test_a_handler_that_sends_now_and_then_loses_nothing_and_keeps_the_order(system: System, start: Start) -> None:
    handled = Log()

    class Filtering(Component):
        numbers = Inbox(Number, capacity=50, durable=False)
        out = Outbox(Number)

        @numbers.handler
        def filter(self, number: Number) -> None:
            if number.value % 7 < 2:
                self.out.send(number)

    class Collecting(Component):
        numbers = Inbox(Number, capacity=5, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.add(number.value)

    source, middle, sink = system.add(Counting(count=300)), system.add(Filtering()), system.add(Collecting())
    system.connect(source.out, middle.numbers)
    system.connect(middle.out, sink.numbers)
    run = start(system, forever=False)
    run.ended()
    assert run.all(events.ComponentFailed) == []
    assert handled.entries == [value for value in range(300) if value % 7 < 2]
    assert all(inbox.length == 0 and inbox.settled == inbox.sent for inbox in run.runtime.statistics().inboxes.values())


def test_who_was_asked_again_to_stop_handles_no_further_message_and_counts_those_that_it_has(
    system: System, start: Start
) -> None:
    clock, gate, handled = FakeClock(), Gate(), Log()

    class Stuck(Component):
        numbers = Inbox(Number, capacity=100, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            handled.add(number.value)
            if number.value == 3:
                gate.pass_through()

        def on_interrupt(self) -> None:
            gate.open()

    source, stuck = system.add(Counting(count=10)), system.add(Stuck(), name="stuck")
    system.connect(source.out, stuck.numbers)
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    run.wait_for(events.ComponentFinished)
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=6.0)  # asked again
    run.wait_for(events.ComponentStopped)
    assert run.ended().lost_messages == 7  # the one that was broken off among them
    assert handled.entries == [0, 1, 2, 3]
    assert run.runtime.statistics().inboxes["stuck.numbers"].settled == 3


def test_a_sender_that_waits_for_room_gets_it_within_a_millisecond_and_a_message(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, handled, sent, may_handle = FakeClock(), Log(), Log(), threading.Semaphore(0)

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(101):
                self.out.send(Number(value))
            sent.add("all")

    class Slow(Component):
        numbers = Inbox(Number, capacity=100, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            assert may_handle.acquire(timeout=PATIENCE_S)
            handled.add(number.value)

    source, slow = system.add(Source()), system.add(Slow(), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, clock=clock, forever=False)
    journal = run.runtime.journal
    waits, asked = journal.waits, Log()

    def waits_and_tells(*arguments: Any) -> bool:
        answer = waits(*arguments)
        asked.add("again")
        return answer

    clock.wait_for_waiters()  # it waits for room, and will ask once more
    monkeypatch.setattr(journal, "waits", waits_and_tells)
    may_handle.release(3)
    handled.wait_for_count(3)
    assert run.runtime.statistics().inboxes["slow.numbers"].settled == 0, "a few are settled at once"
    clock.advance(seconds=0.002)
    asked.wait_for_count(1)
    may_handle.release()
    sent.wait_for_count(1)
    may_handle.release(100)
    run.ended()
    assert handled.entries == list(range(101))


def test_no_more_is_handled_without_being_settled_than_a_small_part_of_what_the_inbox_holds(
    system: System, start: Start
) -> None:
    gate, unsettled = Gate(), Log()

    class Slow(Component):
        numbers = Inbox(Number, capacity=80, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 0:
                gate.pass_through()
            unsettled.add(number.value - run.runtime.statistics().inboxes["slow.numbers"].settled)

    source, slow = system.add(Counting(count=60)), system.add(Slow(), name="slow")
    system.connect(source.out, slow.numbers)
    run = start(system, forever=False)
    gate.wait_reached()
    run.wait_for(events.ComponentFinished)  # the rest will be taken together
    gate.open()
    run.ended()
    assert max(unsettled.entries) == 9, "and the tenth is settled with the nine before it"


def test_an_abandoned_source_that_wakes_can_send_nothing_more(system: System, start: Start) -> None:
    clock, gate, refused, handled = FakeClock(), Gate(), Log(), Log()

    class Stuck(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(3):
                self.out.send(Number(value))
            gate.pass_through()
            try:
                self.out.send(Number(3))
            except BaseException as error:
                refused.add(type(error).__name__)
                raise

    class Collecting(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.add(number.value)

    stuck, sink = system.add(Stuck(), name="stuck"), system.add(Collecting(), name="sink")
    system.connect(stuck.out, sink.numbers)
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    handled.wait_for_count(3)
    assert run.runtime.plan.channels["sink.numbers"].lanes, "it has room left for the next ones"
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=6.0)  # the time for draining is over: the rest stops
    run.wait_for(events.ComponentStopped)
    clock.advance(seconds=4.0)
    assert run.ended().survivors == ("stuck",)
    left = [thread for thread in threading.enumerate() if thread.name == "test/stuck"]
    gate.open()
    for thread in left:
        thread.join(PATIENCE_S)
    assert refused.entries == ["StaleComponent"]
    assert handled.entries == [0, 1, 2]
    assert run.runtime.statistics().inboxes["sink.numbers"].length == 0


def test_a_component_with_state_sends_its_state_and_its_message_as_one(system: System, start: Start) -> None:
    gate, handled = Gate(), Log()

    class Source(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            self.sent += 1
            self.out.send(Number(0))
            gate.pass_through()

    class Collecting(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def collect(self, number: Number) -> None:
            handled.add(source.sent)

    source, sink = system.add(Source()), system.add(Collecting())
    system.connect(source.out, sink.numbers)
    start(system, forever=False)
    handled.wait_for_count(1)
    assert handled.entries == [1]
    gate.open()

"""Many components: fan-out, fan-in, diamonds, replicas, backpressure and overflow."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Literal

import pytest

from minions import Backoff, Component, Inbox, InboxFull, MessageRefused, Outbox, Retry, State, System, events
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start
from tests.life.counting import Kept, Numbers

AT_ONCE = Backoff(initial_s=0.0)


class Plus(Component):
    """Sends on what it gets, and more."""

    plus: int
    numbers = Inbox(Number, capacity=3)
    out = Outbox(Number)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.out.send(Number(number.value + self.plus))


def test_one_outbox_feeds_several_inboxes_each_in_order(system: System, start: Start) -> None:
    numbers = system.add(Numbers(count=50))
    receivers = [system.add(Kept(), name=f"kept{number}") for number in range(3)]
    for receiver in receivers:
        system.connect(numbers.out, receiver.numbers)

    start(system, forever=False).ended()
    assert [receiver.values for receiver in receivers] == [list(range(50))] * 3


def test_several_outboxes_feed_one_inbox_and_each_senders_order_is_kept(system: System, start: Start) -> None:
    kept = system.add(Kept())
    for place in range(3):
        numbers = system.add(Numbers(count=30), name=f"numbers{place}")
        plus = system.add(Plus(plus=1000 * place), name=f"plus{place}")
        system.connect(numbers.out, plus.numbers)
        system.connect(plus.out, kept.numbers)

    start(system, forever=False).ended()
    assert len(kept.values) == 90
    for place in range(3):
        assert [value - 1000 * place for value in kept.values if value // 1000 == place] == list(range(30))


def test_a_diamond_delivers_by_both_ways(system: System, start: Start) -> None:
    numbers = system.add(Numbers(count=40))
    left, right = system.add(Plus(plus=0), name="left"), system.add(Plus(plus=1000), name="right")
    kept = system.add(Kept())
    system.connect(numbers.out, left.numbers)
    system.connect(numbers.out, right.numbers)
    system.connect(left.out, kept.numbers)
    system.connect(right.out, kept.numbers)

    start(system, forever=False).ended()
    assert sorted(kept.values) == [*range(40), *range(1000, 1040)]


def test_a_cycle_with_a_way_out_runs_and_ends(system: System, start: Start) -> None:
    class Halving(Component):
        numbers = Inbox(Number)
        again = Inbox(Number, overflow="fail")
        back = Outbox(Number)
        seen = State(list[int])

        @numbers.handler
        def first(self, number: Number) -> None:
            self.halve(number)

        @again.handler
        def next(self, number: Number) -> None:
            self.halve(number)

        def halve(self, number: Number) -> None:
            self.seen.append(number.value)
            if number.value:
                self.back.send(Number(number.value // 2))

    class One(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(100))

    one, halving = system.add(One()), system.add(Halving())
    system.connect(one.out, halving.numbers)
    system.connect(halving.back, halving.again)

    assert start(system, forever=False).ended().left_messages == 0
    assert halving.seen == [100, 50, 25, 12, 6, 3, 1, 0]


# Replicas -------------------------------------------------------------------------------------------------------------


def test_replicas_work_on_several_messages_at_once(system: System, start: Start) -> None:
    together = threading.Barrier(4)
    threads = Log()

    class Worker(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def work(self, number: Number) -> None:
            together.wait(PATIENCE_S)  # four at once, or never
            threads.add(threading.current_thread().name)
            self.out.send(number)

    numbers, worker, kept = system.add(Numbers(count=12)), system.add(Worker(), replicas=4), system.add(Kept())
    system.connect(numbers.out, worker.numbers)
    system.connect(worker.out, kept.numbers)
    run = start(system, forever=False)

    run.ended()
    assert sorted(kept.values) == list(range(12))
    assert set(threads.entries) == {f"test/worker#{number}" for number in range(4)}
    assert run.all(events.SystemStarted) == [events.SystemStarted(6)]


def test_what_a_replica_had_in_work_when_it_failed_is_done_by_another_exactly_once(
    system: System, start: Start
) -> None:
    fail = itertools.count()
    gate = Gate()

    class Worker(Component):
        numbers = Inbox(Number, retry=Retry(backoff=Backoff(initial_s=3600.0, longest_s=3600.0, jitter_ratio=0.0)))
        out = Outbox(Number)

        @numbers.handler
        def work(self, number: Number) -> None:
            self.out.send(number)
            if number.value == 1 and next(fail) == 0:
                gate.pass_through()
                raise ValueError("its replica stays down for an hour")

    numbers, worker, kept = system.add(Numbers(count=30)), system.add(Worker(), replicas=2), system.add(Kept())
    system.connect(numbers.out, worker.numbers)
    system.connect(worker.out, kept.numbers)
    clock = FakeClock()
    run = start(system, clock=clock)

    gate.wait_reached()
    gate.open()
    run.wait_for(events.ComponentFailed)
    run.stop()
    assert sorted(kept.values) == list(range(30))


# Backpressure ---------------------------------------------------------------------------------------------------------


def test_a_full_inbox_holds_its_senders_up_the_whole_way(system: System, start: Start) -> None:
    gate, sent = Gate(), Log()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(40):
                self.out.send(Number(value))
                sent.add(value)

    class Narrow(Component):
        numbers = Inbox(Number, capacity=4)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    clock = FakeClock()
    source, plus, narrow = system.add(Source()), system.add(Plus(plus=0)), system.add(Narrow())
    system.connect(source.out, plus.numbers)
    system.connect(plus.out, narrow.numbers)
    run = start(system, clock=clock, forever=False)
    channels = run.runtime.plan.channels

    gate.wait_reached()
    sent.wait_for_count(7)
    clock.wait_for_waiters(1)
    assert (channels["narrow.numbers"].size, channels["plus.numbers"].size) == (4, 3)
    assert sent.entries == list(range(7)), "there is no room for more"
    gate.open()
    clock.advance(seconds=1.0)
    run.ended()
    assert narrow.values == list(range(40))
    assert max(channels["narrow.numbers"].most, channels["plus.numbers"].most) == 4


def test_an_inbox_that_fails_when_full_tells_its_sender_and_takes_nothing_of_the_unit(
    system: System, start: Start
) -> None:
    gate, errors = Gate(), Log()

    class Source(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            with self.unit():
                self.out.send(Number(0))
                self.out.send(Number(1))
            try:
                with self.unit():
                    self.sent += 1
                    self.out.send(Number(2))
            except InboxFull as error:
                errors.add(str(error))

    class Strict(Component):
        numbers = Inbox(Number, capacity=2, overflow="fail")
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    source, strict = system.add(Source()), system.add(Strict())
    system.connect(source.out, strict.numbers)
    run = start(system, forever=False)

    errors.wait_for_count(1)
    gate.open()
    run.ended()
    assert (strict.values, source.sent) == ([0, 1], 0)
    assert errors.entries == [
        'source: inbox strict.numbers is full (2 of 2) and was declared with overflow="fail"; nothing of this unit was sent'
    ]


@pytest.mark.parametrize(
    ("overflow", "durable", "kept"),
    [
        ("drop_oldest", True, [0, 6, 7, 8, 9]),  # what is in work comes on top of what waits
        ("drop_oldest", False, [0, 6, 7, 8, 9]),
        ("drop_newest", True, [0, 1, 2, 3]),
        ("drop_newest", False, [0, 1, 2, 3]),
    ],
)
def test_an_inbox_that_drops_never_holds_its_senders_up(
    system: System,
    start: Start,
    overflow: Literal["drop_oldest", "drop_newest"],
    durable: bool,
    kept: list[int],
) -> None:
    gate = Gate()

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(0))
            gate.wait_reached()  # the first is in work
            for value in range(1, 10):
                self.out.send(Number(value))

    class Dropping(Component):
        numbers = Inbox(Number, capacity=4, overflow=overflow, durable=durable)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    source, dropping = system.add(Source()), system.add(Dropping())
    system.connect(source.out, dropping.numbers)
    run = start(system, forever=False)

    run.wait_for(events.ComponentFinished)
    gate.open()
    assert run.ended().left_messages == 0
    assert dropping.values == kept
    assert run.runtime.plan.channels["dropping.numbers"].dropped == 10 - len(kept)


def test_a_unit_larger_than_an_inbox_goes_in_whole(system: System, start: Start) -> None:
    class Burst(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for _ in range(3):
                with self.unit():
                    for value in range(20):
                        self.out.send(Number(value))

    burst, plus, kept = system.add(Burst()), system.add(Plus(plus=0)), system.add(Kept())
    system.connect(burst.out, plus.numbers)
    system.connect(plus.out, kept.numbers)
    start(system, forever=False).ended()
    assert kept.values == [*range(20)] * 3


def test_an_optional_outbox_that_is_not_connected_drops_what_it_is_sent(system: System, start: Start) -> None:
    class Lonely(Component):
        out = Outbox(Number, optional=True)
        sent = State(int)

        def run(self) -> None:
            self.out.send(Number(1))
            self.sent += 1

    lonely = system.add(Lonely())
    start(system, forever=False).ended()
    assert lonely.sent == 1


def test_messages_that_are_not_durable_are_the_objects_themselves_of_any_class(system: System, start: Start) -> None:
    class Anything:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    sent, got = Anything(), Log()

    class Source(Component):
        out = Outbox(Anything)

        def run(self) -> None:
            self.out.send(sent)

    class Taking(Component):
        things = Inbox(Anything, durable=False)

        @things.handler
        def take(self, thing: Anything) -> None:
            got.add((thing, self.message_id))

    source, taking = system.add(Source()), system.add(Taking())
    system.connect(source.out, taking.things)
    start(system, forever=False).ended()
    [(thing, message_id)] = got.entries
    assert thing is sent
    assert message_id.startswith("taking.things-")
    assert not system.folder.exists(), "where nothing is durable nothing is written"


@pytest.mark.parametrize("durable", [True, False])
def test_a_component_with_several_inboxes_takes_them_in_turn(system: System, start: Start, durable: bool) -> None:
    gate = Gate()

    class Both(Component):
        left = Inbox(Number, durable=durable)
        right = Inbox(Number, durable=durable)
        order = State(list[str])

        @left.handler
        def take_left(self, number: Number) -> None:
            gate.pass_through()
            self.order.append("left")

        @right.handler
        def take_right(self, number: Number) -> None:
            gate.pass_through()
            self.order.append("right")

    both = system.add(Both(), name="both")
    for port in (both.left, both.right):
        system.connect(system.add(Numbers(count=600), name=f"to_{port.name}").out, port)
    run = start(system, forever=False)
    run.wait_for(events.ComponentFinished, 2)
    gate.open()
    run.ended()
    assert Counter(both.order) == {"left": 600, "right": 600}
    longest = max(len(list(same)) for _, same in itertools.groupby(both.order))
    assert longest < 600, "neither starves the other"


def test_a_few_hundred_units_from_many_components_come_exactly_once(system: System, start: Start) -> None:
    kept = system.add(Kept())
    for place in range(16):
        numbers = system.add(Numbers(count=25), name=f"numbers{place}")
        plus = system.add(Plus(plus=100 * place), name=f"plus{place}")
        system.connect(numbers.out, plus.numbers)
        system.connect(plus.out, kept.numbers)
    start(system, forever=False).ended()
    assert sorted(kept.values) == [100 * place + value for place in range(16) for value in range(25)]


def test_an_outbox_of_a_union_carries_each_of_its_members(system: System, start: Start) -> None:
    class Source(Component):
        out = Outbox[int | str](int | str)  # type: ignore[arg-type]

        def run(self) -> None:
            self.out.send(1)
            self.out.send("two")
            with pytest.raises(MessageRefused, match=r"source\.out sends int \| str, not 3\.0 \(float\)"):
                self.out.send(3.0)  # type: ignore[arg-type]

    class Keeping(Component):
        values = Inbox[int | str](int | str)  # type: ignore[arg-type]
        kept = State(list[int | str])

        @values.handler
        def keep(self, value: int | str) -> None:
            self.kept.append(value)

    source, keeping = system.add(Source()), system.add(Keeping())
    system.connect(source.out, keeping.values)
    start(system, forever=False).ended()
    assert keeping.kept == [1, "two"]


def test_what_need_not_be_stored_may_be_of_a_subclass(system: System, start: Start) -> None:
    class Special(Number):
        pass

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Special(1))

    seen = Log()

    class Seeing(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def see(self, number: Number) -> None:
            seen.add(type(number))

    source, seeing = system.add(Source()), system.add(Seeing())
    system.connect(source.out, seeing.numbers)
    start(system, forever=False).ended()
    assert seen.entries == [Special]

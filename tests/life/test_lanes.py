"""What is sent without the lock: the sender with its races held open, running systems, and many hurried threads."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import Backoff, Component, Inbox, MessageRefused, Outbox, Retry, State, System, events
from minions.clock import SystemClock
from minions.errors import InboxFull, StaleComponent
from minions.fence import Fence, Mode
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.lane import Lane
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.life.ports import LaneSender
from minions.testing import FakeClock
from tests.flow.contention import contention
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start

AT_ONCE = Retry(attempts=3, backoff=Backoff(initial_s=0.0))


class OneLife:
    """What a sender asks of its life."""

    def __init__(self, journal: Journal, name: str, epoch: int = 1) -> None:
        self.name = name
        self.fence = Fence(name, epoch)
        self.open_unit: Unit | None = None
        self.parker = Parker()
        self.timeouts: list[float | None] = []  # of what did not go along the lane
        self._journal = journal
        journal.join(self.fence, self.parker)

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None:
        self.timeouts.append(timeout_s)
        unit = self.open_unit
        if unit is not None:
            unit.send(channels, message, shared, stored)
            return
        unit = Unit(self.name)
        unit.send(channels, message, shared, stored)
        self.submit(unit, timeout_s)

    def submit(self, unit: Unit, timeout_s: float | None = None) -> None:
        clock, journal = SystemClock(), self._journal
        deadline_s = None if timeout_s is None else clock.monotonic() + timeout_s
        while (ticket := journal.submit(unit, self.fence, self.parker)) is not None:
            try:
                while journal.waits(ticket, self.fence, deadline_s):
                    clock.wait(self.parker, ticket.look_again_s(deadline_s))
            except BaseException:
                journal.withdraw(unit, ticket)
                raise

    def receive(self, channel: Channel, timeout_s: float | None) -> Any:
        raise AssertionError("it only sends")

    def end(self) -> None:
        self._journal.end_life(Mailbox((), self.parker), self.fence)


def outbox_of(cls: type[Any]) -> Outbox[Any]:
    class Owner(Component):
        out = Outbox(cls)

    return Owner.out


# One sender, step by step ---------------------------------------------------------------------------------------------


class Sent(deque[Any]):
    """What lies in a lane; something happens when a message is about to be brought there."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = before

    def append(self, message: Any) -> None:
        self._before()
        super().append(message)


class Prepared(Journal):
    """A journal whose lanes are such."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(SystemClock(), durable=False)
        self.before = before

    def open_lane(self, channel: Channel, fence: Fence) -> Lane:
        lane = super().open_lane(channel, fence)
        lane.sent = Sent(lambda: self.before())
        return lane


class Pair:
    """A sender and a reader on the test's own thread."""

    def __init__(self, capacity: int = 10) -> None:
        self.journal = Prepared()
        self.channel = Channel("r.in", 0, capacity=capacity)
        self.life = OneLife(self.journal, "s")
        self.sender = LaneSender(self.life, outbox_of(int), self.channel, self.journal)
        self.parker, self.fence = Parker(), Fence("r", 1)
        self.mailbox = Mailbox((self.channel,), self.parker)
        self.journal.attach(self.mailbox, self.fence)

    def take(self) -> list[Any]:
        return [entry[2] for entry in self.journal.take(self.mailbox, self.fence) or ()]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_message_goes_along_the_lane_and_with_the_unit_where_one_is_open(pair: Pair) -> None:
    pair.sender.send(1)
    unit = pair.life.open_unit = Unit("s")
    pair.sender.send(2)
    pair.life.open_unit = None
    pair.sender.send(3)
    assert pair.take() == [1, 3]
    pair.sender.send(4)
    pair.life.submit(unit)
    assert pair.take() == [4, 2]
    assert pair.life.timeouts == [None]


def test_a_message_for_which_there_is_no_room_goes_by_way_of_the_life(pair: Pair) -> None:
    for number in range(10):
        pair.sender.send(number)
    with pytest.raises(InboxFull):
        pair.sender.send(10, timeout_s=0.0)
    assert pair.life.timeouts == [0.0]
    assert pair.take() == list(range(10))


def test_a_message_goes_by_way_of_the_life_with_its_timeout_while_a_unit_is_open_and_where_no_short_way_is_to_be_gone(
    pair: Pair,
) -> None:
    pair.life.open_unit = Unit("s")
    pair.sender.send(1, timeout_s=0.5)
    pair.life.open_unit = None
    pair.sender.no_short_way()
    pair.sender.send(2, timeout_s=0.25)
    assert pair.life.timeouts == [0.5, 0.25]
    assert pair.take() == [2]


def test_a_message_may_be_of_a_subclass_and_of_no_other_class(pair: Pair) -> None:
    pair.sender.send(True)
    with pytest.raises(MessageRefused, match=r"s\.out sends int, not '1' \(str\)"):
        pair.sender.send("1")
    assert pair.take() == [True]


def test_a_reader_that_falls_asleep_just_before_a_message_is_brought_is_woken(pair: Pair) -> None:
    def fall_asleep() -> None:
        assert pair.take() == []

    pair.journal.before = fall_asleep
    pair.sender.send(1)
    assert not pair.mailbox.asleep
    pair.parker.park(PATIENCE_S)
    assert pair.take() == [1]


def test_a_message_has_its_place_before_it_is_brought(pair: Pair) -> None:
    seen: list[bool] = []
    pair.journal.before = lambda: seen.append(pair.channel.take_room_locked(10))
    pair.sender.send(1)
    assert seen == [False]
    pair.sender.send(2)
    assert seen == [False, False], "all room was taken back, and the next message has a place all the same"
    assert (pair.channel.size, pair.life.timeouts) == (2, [])


def test_a_message_that_is_brought_after_the_cut_is_seen_by_nobody_and_the_next_is_refused(pair: Pair) -> None:
    pair.sender.send(1)
    pair.journal.before = pair.life.end
    pair.sender.send(2)
    with pytest.raises(StaleComponent):
        pair.sender.send(3)
    assert pair.take() == [1]
    pair.journal.settle_effectless(pair.mailbox, pair.fence, 1)
    assert (pair.channel.size, pair.channel.lanes) == (0, [])
    assert pair.take() == []


# Running systems ------------------------------------------------------------------------------------------------------


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


# Many hurried threads -------------------------------------------------------------------------------------------------


@attrs.frozen
class Word:
    """A message that says which life has sent it as its how manieth."""

    life: tuple[int, int]
    number: int


class Traffic:
    """Senders and readers on threads of their own; lives on both sides are cut and replaced while they work."""

    SENDERS = 4
    MESSAGES = 400

    def __init__(self, seed: int, capacity: int, *, replicas: int) -> None:
        self.chance = random.Random(seed)
        self.capacity = capacity
        self.journal = Journal(SystemClock(), durable=False)
        self.channel = Channel("r.in", 0, capacity=capacity, shared=replicas > 1)
        self.handled: list[
            tuple[int, Word]
        ] = []  # sequence number and message; append is atomic, as is every one below
        self.returned: dict[tuple[int, int], int] = {}  # how many sends of a life came to their end
        self.whole: set[tuple[int, int]] = set()  # the lives that were not cut
        self.errors: list[BaseException] = []
        self.sending: list[threading.Thread] = []
        self.reading: list[threading.Thread] = []
        self.senders: dict[int, OneLife] = {}
        self.mailboxes: dict[int, tuple[Mailbox, Fence]] = {}
        self.epoch = 0
        self.progress = threading.Semaphore(0)

    def start(self, threads: list[threading.Thread], work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except StaleComponent:
                return
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        threads.append(thread)
        thread.start()

    def begin_sender(self, number: int) -> None:
        self.epoch += 1
        life = self.senders[number] = OneLife(self.journal, f"sender{number}", self.epoch)
        sender = LaneSender(life, outbox_of(Word), self.channel, self.journal)
        self.start(self.sending, self.send, (number, self.epoch), life, sender)

    def send(self, name: tuple[int, int], life: OneLife, sender: LaneSender) -> None:
        chance = random.Random(str(name))
        number = 0
        self.returned[name] = 0
        while number < self.MESSAGES:
            if chance.random() < 0.1 and number + 2 <= self.MESSAGES:
                life.open_unit = unit = Unit(life.name)
                sender.send(Word(name, number))
                sender.send(Word(name, number + 1))
                life.open_unit = None
                life.submit(unit)
                number += 2
            else:
                try:
                    sender.send(Word(name, number), timeout_s=chance.choice([None, 0.0, 0.001]))
                except InboxFull:
                    continue
                number += 1
            self.returned[name] = number
        self.whole.add(name)
        life.end()

    def begin_reader(self, number: int) -> None:
        self.epoch += 1
        parker, fence = Parker(), Fence(f"r#{number}", self.epoch)
        mailbox = Mailbox((self.channel,), parker)
        self.journal.join(fence, parker)
        self.journal.attach(mailbox, fence)
        self.mailboxes[number] = mailbox, fence
        self.start(self.reading, self.read, mailbox, fence, parker)

    def read(self, mailbox: Mailbox, fence: Fence, parker: Parker) -> None:
        chance = random.Random(fence.epoch)
        while (entries := self.journal.take(mailbox, fence, most=chance.choice([1, 8, 256]))) is not None:
            if not entries:
                SystemClock().wait(parker, None)
            while entries:
                with self.journal.turnstile, self.journal.lock:
                    held = sum(len(mailbox.in_hand) for mailbox, _ in self.mailboxes.values())
                    in_lanes = sum(len(lane.sent) for lane in self.channel.lanes)
                    within = len(self.channel.queue) + held + in_lanes <= max(2, self.capacity) >= self.channel.size
                assert within, "more than it holds"
                count = chance.randint(1, len(entries))
                self.journal.settle_effectless(mailbox, fence, count)
                self.handled += [(entry[1], entry[2]) for entry in entries[:count]]
                del entries[:count]
                self.progress.release(count)

    def run(self, replicas: int, cuts: int) -> None:
        for number in range(replicas):
            self.begin_reader(number)
        for number in range(self.SENDERS):
            self.begin_sender(number)
        for _ in range(cuts):
            for _ in range(self.SENDERS * self.MESSAGES // (cuts + 1)):
                assert self.progress.acquire(timeout=PATIENCE_S), self.situation()
            if self.chance.random() < 0.5:
                number = self.chance.randrange(replicas)
                self.journal.end_life(*self.mailboxes[number])
                self.begin_reader(number)
            else:
                number = self.chance.randrange(self.SENDERS)
                self.senders[number].end()
                self.begin_sender(number)
        self.join(self.sending)
        for _, fence in self.mailboxes.values():
            self.journal.advance(fence, Mode.STOPPING)
        self.join(self.reading)

    def join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), self.situation()

    def situation(self) -> str:
        it = self.channel
        lanes = [(len(lane.room), len(lane.sent), lane.lent) for lane in it.lanes]
        return f"asleep with {len(self.handled)} handled; {it.size}, {len(it.queue)}, {len(it.line)}, {lanes}, {self.errors}"

    def check(self) -> None:
        assert not self.errors
        it = self.channel
        assert (it.size, len(it.queue), len(it.line), it.lanes) == (0, 0, 0, [])
        assert it.most <= max(2, self.capacity)
        assert it.settled == len(self.handled) == it.sent
        arrived: dict[tuple[int, int], list[int]] = {name: [] for name in self.returned}
        for _, word in sorted(self.handled, key=lambda each: each[0]):
            arrived[word.life].append(word.number)
        for name, numbers in arrived.items():
            assert numbers == list(range(len(numbers))), "lost, doubled or out of order"
            if name in self.whole:
                assert len(numbers) == self.MESSAGES
            else:
                assert self.returned[name] - 1 <= len(numbers) <= self.returned[name] + 2, (
                    "what a cut may leave in doubt"
                )


@pytest.mark.parametrize("capacity", [1, 20])
def test_threads_that_send_by_one_outbox_keep_their_order_while_units_open_and_close(
    system: System, start: Start, capacity: int
) -> None:
    handled: list[Word] = []

    class Source(Component):
        out = Outbox(Word)

        def run(self) -> None:
            helpers = [threading.Thread(target=self.send, args=(number,)) for number in range(1, 4)]
            for helper in helpers:
                helper.start()
            for number in range(0, 200, 4):
                self.out.send(Word((0, 0), number))
                with self.unit():
                    self.out.send(Word((0, 0), number + 1))
                    self.out.send(Word((0, 0), number + 2))
                self.out.send(Word((0, 0), number + 3))
            for helper in helpers:
                helper.join(PATIENCE_S)

        def send(self, name: int) -> None:
            for number in range(200):
                self.out.send(Word((0, name), number))

    class Collecting(Component):
        words = Inbox(Word, capacity=capacity, durable=False)

        @words.handler
        def collect(self, word: Word) -> None:
            handled.append(word)

    source, sink = system.add(Source()), system.add(Collecting(), name="sink")
    system.connect(source.out, sink.words)
    with contention():
        run = start(system, forever=False)
        assert run.ended().lost_messages == 0
    for name in range(4):
        assert [word.number for word in handled if word.life == (0, name)] == list(range(200))
    inbox = run.runtime.statistics().inboxes["sink.words"]
    assert (inbox.sent, inbox.settled, inbox.length) == (800, 800, 0)
    assert inbox.high_water <= max(2, capacity)


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("capacity", "replicas"), [(1, 1), (3, 1), (3, 3), (20, 1), (200, 1), (200, 3)])
def test_with_many_threads_each_message_is_handled_once_in_order_and_within_the_capacity(
    capacity: int, replicas: int
) -> None:
    traffic = Traffic(capacity, capacity, replicas=replicas)
    with contention():
        traffic.run(replicas, cuts=12)
    traffic.check()

"""Lanes under many hurried threads: each message once, in order, and within the capacity."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, System
from minions.clock import SystemClock
from minions.errors import InboxFull, StaleComponent
from minions.fence import Fence, Mode
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.life.ports import LaneSender
from tests.flow.contention import contention
from tests.life.conftest import PATIENCE_S, Start
from tests.life.one_life import OneLife, outbox_of


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

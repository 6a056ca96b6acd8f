"""The journal with real threads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from minions.clock import Clock, SystemClock
from minions.errors import (
    InboxFull,
    StaleComponent,
)
from minions.fence import Fence, Mode
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from tests.flow.contention import contention
from tests.flow.journal_rig import INT


class Crowd:
    """Senders and readers on threads of their own over one journal; readers are cut and replaced while they work."""

    SENDERS = 4
    MESSAGES = 300

    def __init__(self, seed: int, capacity: int, *, replicas: int) -> None:
        self.chance = random.Random(seed)
        self.clock: Clock = SystemClock()
        self.journal = Journal(self.clock, durable=True)
        self.channels = [Channel(f"{n}.in", n, capacity=capacity, codec=INT, shared=replicas > 1) for n in range(2)]
        self.replicas = replicas
        self.handled: list[tuple[str, int, int]] = []  # channel, sequence, message; append is atomic
        self.errors: list[BaseException] = []
        self.done = threading.Semaphore(0)  # released for each message that was handled
        self.threads: list[threading.Thread] = []
        self.readers: dict[str, tuple[Mailbox, Fence]] = {}
        self.epoch = 0

    def start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except StaleComponent:
                return
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def submit(
        self, unit: Unit, fence: Fence, parker: Parker, mailbox: Mailbox | None, timeout_s: float | None
    ) -> None:
        deadline_s = None if timeout_s is None else self.clock.monotonic() + timeout_s
        ticket = self.journal.submit(unit, fence, parker, mailbox)
        while ticket is not None:
            try:
                while self.journal.waits(ticket, fence, deadline_s):
                    self.clock.wait(parker, ticket.look_again_s(deadline_s))
            except BaseException:
                self.journal.withdraw(unit, ticket)
                raise
            ticket = self.journal.submit(unit, fence, parker, mailbox)

    def send(self, number: int) -> None:
        chance, fence, parker = random.Random(number), Fence(f"sender{number}", 1), Parker()
        self.journal.join(fence, parker)
        sent = 0
        while sent < self.MESSAGES:
            unit = Unit(f"sender{number}")
            for message in range(sent, min(self.MESSAGES, sent + chance.choice([1, 1, 2]))):
                channel = self.channels[message % 2]
                unit.send((channel,), number * 1_000 + message, True, b"%d" % (number * 1_000 + message))
            try:
                self.submit(unit, fence, parker, None, chance.choice([None, 0.0, 0.0005]))
            except InboxFull:
                continue
            sent += len(unit.sends)

    def begin_reader(self, name: str) -> None:
        self.epoch += 1
        parker, fence = Parker(), Fence(name, self.epoch)
        reads = tuple(self.channels) if self.replicas > 1 else (self.channels[int(name)],)
        mailbox = Mailbox(reads, parker)
        self.journal.join(fence, parker)
        self.journal.attach(mailbox, fence)
        self.readers[name] = mailbox, fence
        self.start(self.read, name, mailbox, fence, parker)

    def read(self, name: str, mailbox: Mailbox, fence: Fence, parker: Parker) -> None:
        chance = random.Random(fence.epoch)
        while (entries := self.journal.take(mailbox, fence, most=chance.choice([1, 8]))) is not None:
            if not entries:
                self.clock.wait(parker, None)
            for entry in entries:
                channel, sequence, _, stored, _ = entry
                last = int(self.journal.stored_states(name).get(channel.name, b"0"))
                unit = Unit(name)
                unit.settles.append(entry)
                unit.save({channel.name: b"%d" % sequence})
                self.submit(unit, fence, parker, mailbox, None)
                # Only now: a life that was cut may read what its successor has handled, and learns of it when it submits.
                assert self.replicas > 1 or sequence > last, "out of order"
                self.handled.append((channel.name, sequence, int(stored or b"")))
                self.done.release()

    def write(self) -> None:
        parker = Parker()
        while True:
            sealed = self.journal.commits.seal(parker)
            if sealed is not None:
                self.journal.commits.committed(sealed)
            elif self.journal.commits.finished:
                return
            else:
                parker.park(None)

    def run(self, cuts: int) -> None:
        writer = self.start(self.write)
        names = [str(n) for n in range(self.replicas if self.replicas > 1 else len(self.channels))]
        for name in names:
            self.begin_reader(name)
        for number in range(self.SENDERS):
            self.start(self.send, number)
        work = self.SENDERS * self.MESSAGES
        for _ in range(cuts):
            self.await_handled(work // (cuts + 1))
            name = self.chance.choice(names)
            self.journal.end_life(*self.readers[name])
            self.begin_reader(name)
        self.await_handled(work - cuts * (work // (cuts + 1)))
        for _, fence in self.readers.values():
            self.journal.advance(fence, Mode.STOPPING)
        self.journal.commits.close()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive(), self.situation()
        assert not writer.is_alive()

    def await_handled(self, count: int) -> None:
        for _ in range(count):
            assert self.done.acquire(timeout=20), self.situation()

    def situation(self) -> str:
        sizes = [(channel.size, len(channel.queue), len(channel.line)) for channel in self.channels]
        return f"asleep with {len(self.handled)} handled; size, waiting and line of each inbox: {sizes}; {self.errors}"


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("capacity", "replicas"), [(1, 1), (2, 1), (3, 3), (8, 1), (8, 3)])
def test_with_many_threads_each_message_is_handled_once_and_in_order(capacity: int, replicas: int) -> None:
    crowd = Crowd(capacity, capacity, replicas=replicas)
    with contention():
        crowd.run(cuts=8)
    assert not crowd.errors
    assert len({(channel, sequence) for channel, sequence, _ in crowd.handled}) == len(crowd.handled)
    for number in range(crowd.SENDERS):
        for parity, channel in enumerate(crowd.channels):
            mine = [m for c, _, m in sorted(crowd.handled) if c == channel.name and m // 1_000 == number]
            assert mine == [number * 1_000 + n for n in range(parity, crowd.MESSAGES, 2)]
    for channel in crowd.channels:
        assert (channel.size, len(channel.line), len(channel.queue)) == (0, 0, 0)
        assert channel.most <= capacity
        assert channel.acks.frozen() == (channel.next_sequence - 1, ())

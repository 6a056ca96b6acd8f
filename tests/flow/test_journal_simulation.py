"""The journal in a simulation, in which senders, readers and the writer are generators.

A seeded scheduler steps through them one call at a time, so that a wake-up that is missing is a deadlock that the test sees.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import attrs
import pytest

from minions.errors import (
    InboxFull,
    StaleComponent,
)
from minions.flow import group_commit
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger
from minions.flow.unit import Unit
from tests.flow.journal_rig import INT, Bell, Life, Rows, Time


@attrs.frozen
class Sleep:
    """Until its bell rings, or some moment."""

    bell: Bell
    until_s: float | None


Steps = Iterator[Sleep | None]


class Simulation:
    """Sources send numbered messages to workers, who handle each and send one on to a collector.

    Every source keeps how far it is, every worker and the collector what they have handled, as state in the same unit. So
    for every store, at every moment, each message that a source has counted is in exactly one place.
    """

    SOURCES = 3
    WORKERS = 2
    MESSAGES = 12

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_UNITS", self.chance.choice([1, 3, 1_000]))
        self.time = Time()
        self.journal = Journal(self.time, durable=True)
        self.work = [
            Channel(f"work.{n}", n, capacity=self.chance.randint(1, 4), codec=INT, shared=True) for n in range(2)
        ]
        self.done = Channel("done.in", 2, capacity=self.chance.randint(1, 70), codec=INT)
        self.channels = [*self.work, self.done]
        self.ledger = Ledger(dict.fromkeys([channel.name for channel in self.channels], "int"))
        self.store = Rows()
        self.agents: dict[str, Steps] = {}
        self.sleeping: dict[str, Sleep] = {}
        self.lives: dict[str, Life] = {}
        self.epochs: Counter[str] = Counter()
        self.stale = 0
        self.collected: list[int] = []
        self.units_in_line: dict[int, Unit] = {}
        self.cuts_left = 6
        for n in range(self.SOURCES):
            self.begin(f"source{n}")
        for n in range(self.WORKERS):
            self.begin(f"worker{n}")
        self.begin("collector")
        self.agents["writer"] = self.write(Bell())

    # -------------------------------------------------------------- agents
    def begin(self, name: str) -> None:
        self.epochs[name] += 1
        kind = name.rstrip("0123456789")
        reads = {"source": (), "worker": tuple(self.work), "collector": (self.done,)}[kind]
        life = Life(self.journal, name, *reads, epoch=self.epochs[name])
        self.lives[name] = life
        self.agents[f"{name}/{life.fence.epoch}"] = getattr(self, kind)(life)

    def kept(self, name: str) -> list[int]:
        return [*self.journal.stored_states(name).get("kept", b"")]

    def submit(self, life: Life, unit: Unit, *, impatient: bool = False) -> Iterator[Sleep | None]:
        self.units_in_line[id(unit)] = unit
        try:
            ticket = life.submit(unit)
            while ticket is not None:
                try:
                    while life.waits(ticket):
                        yield Sleep(life.bell, ticket.look_again_s(None))
                        if impatient and self.chance.random() < 0.3:
                            raise InboxFull
                except BaseException:
                    self.journal.withdraw(unit, ticket)
                    raise
                yield None
                ticket = life.submit(unit)
        finally:
            del self.units_in_line[id(unit)]

    def source(self, life: Life) -> Steps:
        number = int(life.name[-1])
        while len(sent := self.kept(life.name)) < self.MESSAGES:
            yield None
            count = self.chance.randint(1, min(3, self.MESSAGES - len(sent)))
            fresh = [number * 50 + len(sent) + more for more in range(count)]
            sends = [(self.work[message % 2], message) for message in fresh]
            unit = life.unit(*sends, kept=bytes(sent + fresh))
            try:
                yield from self.submit(life, unit, impatient=True)
            except InboxFull:
                continue

    def worker(self, life: Life) -> Steps:
        while True:
            only = self.chance.choice([None, None, *self.work])
            entries = life.take(only=only, most=self.chance.randint(1, 3))
            assert entries is not None
            if not entries:
                if only is not None and self.chance.random() < 0.5:
                    self.journal.stay_awake(life.mailbox)
                    yield None
                    continue
                if only is not None:
                    yield Sleep(life.bell, self.time.now_s + self.chance.choice([0.0, 0.002]))
                    self.journal.stay_awake(life.mailbox)
                else:
                    yield Sleep(life.bell, None)
                continue
            yield None
            if self.chance.random() < 0.1:
                self.journal.put_down(life.mailbox, life.fence)
                continue
            for entry in entries:
                message = entry[2] if isinstance(entry[2], int) else INT.decode(entry[3] or b"")
                seen = bytes([*self.kept(life.name), message])
                yield from self.submit(life, life.unit((self.done, message), settles=[entry], kept=seen))
                yield None

    def collector(self, life: Life) -> Steps:
        while True:
            entries = life.take()
            assert entries is not None
            if not entries:
                yield Sleep(life.bell, None)
            for entry in entries:
                yield None
                message = entry[2] if isinstance(entry[2], int) else INT.decode(entry[3] or b"")
                kept = bytes([*self.kept(life.name), message])
                yield from self.submit(life, life.unit(settles=[entry], kept=kept))

    def write(self, bell: Bell) -> Steps:
        while True:
            sealed = self.journal.commits.seal(bell)
            if sealed is None:
                yield Sleep(bell, None)
                continue
            yield None
            self.store.apply(self.ledger, sealed)
            self.check_store()
            yield None
            self.journal.commits.committed(sealed)
            yield None

    # -------------------------------------------------------------- what must hold
    def check_store(self) -> None:
        """Whatever the moment of the crash, each message is counted by its source and is in exactly one place."""
        recovered = Ledger(dict.fromkeys([channel.name for channel in self.channels], "int")).recover(self.store)
        kept = {name: [*states["kept"]] for name, states in recovered.states.items()}
        sent = Counter(message for name, messages in kept.items() if "source" in name for message in messages)
        handled = Counter(message for name, messages in kept.items() if "worker" in name for message in messages)
        waiting = {
            channel.name: Counter(int(stored) for _, stored in recovered.channels[channel.name].waiting)
            for channel in self.channels
            if channel.name in recovered.channels
        }
        to_do = sum((waiting.get(channel.name, Counter()) for channel in self.work), Counter[int]())
        assert sent == handled + to_do
        assert handled == Counter(kept.get("collector", [])) + waiting.get("done.in", Counter())

    def check_room(self) -> None:
        in_hand = Counter(entry[0].name for life in self.lives.values() for entry in life.mailbox.in_hand)
        held = Counter[str]()
        for unit in self.units_in_line.values():
            for channel, count in unit.granted.items():
                held[channel.name] += count
        for channel in self.channels:
            assert channel.size == len(channel.queue) + in_hand[channel.name] + held[channel.name]
            assert channel.size <= channel.capacity or channel.capacity < 3, (
                "only a unit larger than the inbox may be more"
            )
            assert channel.size <= max(3, channel.capacity)

    # -------------------------------------------------------------- the scheduler
    def run(self) -> None:
        for _ in range(50_000):
            self.time.now_s += self.chance.choice([0.0, 0.0, 0.0002])
            if self.cuts_left and self.chance.random() < 0.01:
                self.cuts_left -= 1
                self.cut(self.chance.choice(list(self.lives)))
            ready = [name for name in self.agents if self.is_ready(name)]
            if not ready:
                moments = [s.until_s for s in self.sleeping.values() if s.until_s is not None]
                if not moments:
                    break
                self.time.now_s = max(self.time.now_s, *moments) if len(moments) > 1 else moments[0]
                continue
            self.step(self.chance.choice(ready))
            self.check_room()
        assert [len(self.kept(f"source{n}")) for n in range(self.SOURCES)] == [self.MESSAGES] * self.SOURCES, "asleep"
        assert [channel.size for channel in self.channels] == [0, 0, 0], "asleep"
        assert not any(channel.line for channel in self.channels)
        assert Counter(self.kept("collector")) == Counter(
            number * 50 + n for number in range(self.SOURCES) for n in range(self.MESSAGES)
        )
        for n in range(self.WORKERS):
            handled = self.kept(f"worker{n}")
            assert [message for message in self.kept("collector") if message in handled] == handled, "out of order"
        assert all(channel.acks.frozen() == (channel.next_sequence - 1, ()) for channel in self.channels)
        assert set(self.agents) == {"writer", *(f"{n}/{self.epochs[n]}" for n in self.lives if "source" not in n)}
        assert self.store, "the writer never came"

    def is_ready(self, name: str) -> bool:
        sleep = self.sleeping.get(name)
        if sleep is None or sleep.bell.rung:
            return True
        return sleep.until_s is not None and self.time.now_s >= sleep.until_s

    def step(self, name: str) -> None:
        sleep = self.sleeping.pop(name, None)
        if sleep is not None:
            sleep.bell.rung = 0
        try:
            waits = next(self.agents[name])
        except (StopIteration, StaleComponent) as error:
            self.stale += isinstance(error, StaleComponent)
            del self.agents[name]
            return
        if waits is not None:
            self.sleeping[name] = waits

    def cut(self, name: str) -> None:
        life = self.lives[name]
        life.end(failed=next(iter(life.mailbox.in_hand), None))
        self.begin(name)


@pytest.mark.parametrize("block", range(10))
def test_whatever_the_order_of_the_steps_nothing_is_lost_doubled_or_slept_through(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = 0
    for seed in range(block * 20, block * 20 + 20):
        simulation = Simulation(seed, monkeypatch)
        simulation.run()
        stale += simulation.stale
    assert stale > 20, "hardly a life was cut"

"""Thirty components that fail at random, hurried by a tiny switch interval, stopped and started again: exactly once."""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System
from tests.life.conftest import PATIENCE_S, Running, Start, dead_letters

PER_SOURCE = 25
RETRY = Retry(attempts=4, backoff=Backoff(initial_s=0.0))


@attrs.frozen
class Hop:
    """A message that says which way it has come: every way through the graph ends in another one."""

    way: str

    def by(self, component: str) -> Hop:
        return Hop(f"{self.way}>{component}")


class Trouble:
    """Decides which handler calls fail: a fifth of all messages do, once or twice, before or after they had their effect."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self.raised = 0
        self.handled = 0
        self.stop_at = sys.maxsize
        self.stop: Callable[[], None] = lambda: None

    def strike(self, what: str, moment: str) -> None:
        chance = random.Random(f"{self._seed} {what}")
        fails, when = chance.choice([0] * 8 + [1, 2]), chance.choice(["before", "after"])
        with self._lock:
            self.handled += moment == "before"
            if self.handled == self.stop_at:
                self.stop()
            if moment != when or self._tries[what] >= fails:
                return
            self._tries[what] += 1
            self.raised += 1
        raise ValueError(f"{what} fails {moment} its effects")


@attrs.frozen
class Shape:
    """A random graph: sources, workers in layers (some of them replicas, some with state), and sinks."""

    sources: list[str]
    workers: list[str]
    sinks: list[str]
    links: list[tuple[str, str]]
    replicas: dict[str, int]

    @classmethod
    def random(cls, chance: random.Random) -> Shape:
        sources = [f"source{number}" for number in range(6)]
        layers = [[f"worker{depth}{number}" for number in range(6)] for depth in range(3)]
        sinks = [f"sink{number}" for number in range(6)]
        links: set[tuple[str, str]] = set()
        for above, below in zip([sources, *layers], [*layers, sinks], strict=True):
            for sender in above:
                links |= {(sender, receiver) for receiver in chance.sample(below, chance.choice([1, 1, 2]))}
            links |= {(chance.choice(above), receiver) for receiver in below}
        workers = [worker for layer in layers for worker in layer]
        return cls(sources, workers, sinks, sorted(links), {worker: chance.choice([1, 1, 3]) for worker in workers})

    def ways(self) -> Counter[str]:
        """What arrives, and how often: each way once."""
        found: Counter[str] = Counter()

        def follow(way: str, here: str) -> None:
            if here in self.sinks:
                found[way] += 1
            for _, there in (link for link in self.links if link[0] == here):
                follow(f"{way}>{there}", there)

        for source in self.sources:
            for number in range(PER_SOURCE):
                follow(f"{number}@{source}", source)
        return found


def build(system: System, shape: Shape, trouble: Trouble, chance: random.Random) -> list[Any]:
    """The components of a shape, with inboxes that hold few; returns the sinks."""
    capacities = {name: chance.choice([1, 2, 3, 7]) for name in (*shape.workers, *shape.sinks)}

    class Source(Component):
        name: str
        out = Outbox(Hop)
        sent = State(int)

        def run(self) -> None:
            while self.running and self.sent < PER_SOURCE:
                with self.unit():
                    self.out.send(Hop(f"{self.sent}@{self.name}"))
                    self.sent += 1

    def worker(capacity: int) -> type[Any]:
        class Worker(Component):
            name: str
            hops = Inbox(Hop, capacity=capacity, retry=RETRY)
            out = Outbox(Hop)

            @hops.handler
            def handle(self, hop: Hop) -> None:
                trouble.strike(hop.way + self.name, "before")
                self.out.send(hop.by(self.name))
                trouble.strike(hop.way + self.name, "after")

        return Worker

    def sink(capacity: int) -> type[Any]:
        class Sink(Component):
            name: str
            hops = Inbox(Hop, capacity=capacity, retry=RETRY)
            arrived = State(dict[str, int])

            @hops.handler
            def count(self, hop: Hop) -> None:
                trouble.strike(hop.way + self.name, "before")
                way = hop.by(self.name).way
                self.arrived[way] = self.arrived.get(way, 0) + 1
                trouble.strike(hop.way + self.name, "after")

        return Sink

    made: dict[str, Any] = {name: Source(name=name) for name in shape.sources}
    made |= {name: worker(capacities[name])(name=name) for name in shape.workers}
    made |= {name: sink(capacities[name])(name=name) for name in shape.sinks}
    for name, component in made.items():
        system.add(component, name=name, replicas=shape.replicas.get(name, 1))
    for sender, receiver in shape.links:
        system.connect(made[sender].out, made[receiver].hops)
    return [made[name] for name in shape.sinks]


def stop_when(reached: threading.Event, run: Running) -> None:
    if reached.wait(PATIENCE_S):
        run.runtime.stop("stopped")


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.usefixtures("hurry")
def test_every_message_takes_every_way_exactly_once(new_system: Callable[[], System], start: Start, seed: int) -> None:
    shape = Shape.random(random.Random(seed))
    trouble = Trouble(seed)
    expected = shape.ways()

    def run_until(handled: int) -> tuple[Running, list[Any]]:
        """A program that is stopped once so many messages were handled, or ends before."""
        system = new_system()
        sinks = build(system, shape, trouble, random.Random(seed))
        reached = threading.Event()
        trouble.stop_at, trouble.stop = trouble.handled + handled, reached.set
        run = start(system, forever=False)
        threading.Thread(target=stop_when, args=(reached, run)).start()
        stopped = run.ended()
        reached.set()
        assert (stopped.problems, stopped.survivors) == ((), ())
        return run, sinks

    for _ in range(3):
        run_until(handled=len(expected) // 3)
    run, sinks = run_until(handled=sys.maxsize)

    stopped = run.ended()
    assert (stopped.reason, stopped.left_messages) == ("finished", 0)
    arrived = Counter[str]()
    for sink in sinks:
        arrived.update(sink.arrived)
    assert arrived == expected
    assert trouble.raised > 50
    assert dead_letters(run.system.folder) == []

"""A child of the soak: a random system, drawn from a seed, that runs until it ends by itself or is killed.

    python soak_child.py SEED FOLDER [LIFE]

What the system consists of is written to FOLDER.json, and what is read of it once it has ended to FOLDER.read.json. A line is
printed before and after each commit. The seed alone decides on the system; how fast and how disturbed it runs, and how many
replicas share the partitions, differs from life to life. With SOAK_BREAK=DEFECT in the environment the runtime is broken on
purpose, and its commits are slow.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import attrs

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
    StopRequested,
    System,
    Table,
)
from minions.clock import Parkable
from minions.flow import rows
from minions.flow.channel import Entry, Wakes
from minions.flow.journal import Journal
from minions.flow.store import Store

LONGEST_LIFE_S = 50.0
MOST_ARRIVALS = 40  # of one number, at all components together
MOST_MESSAGES = 15_000
MOST_BYTES = 100 << 20
KEYS = 13  # of the messages, where they are partitioned
SLOTS = 3 * KEYS  # of a table whose entries come and go: those of one slot are of one key
SIFT = 3  # one of so many messages is sent back
ROOMY = 2 * MOST_MESSAGES  # more than ever wait in a way back

SOON = Backoff(initial_s=0.001, longest_s=0.005)
RETRY = Retry(attempts=50, backoff=SOON, then="stop")  # more than any injected errors take
RESTART = Restart(failures=2_000, backoff=SOON)

fate = (
    random.Random()
)  # which errors are injected; one for all lives of a component, or each would fail where the last one did


# What a system consists of --------------------------------------------------------------------------------------------
@attrs.frozen
class Way:
    """One outbox: what it sends ("frozen" or "mutable"), and to whom.

    Attributes:
        into: the name of the receivers' inbox.
        rounds: how often a message may have been sent back before, where it leads back; only some numbers are.
    """

    name: str
    message: str
    receivers: tuple[str, ...]
    into: str = "inbox"
    rounds: int = 0


@attrs.frozen
class Part:
    """One component.

    Attributes:
        kind: which of the classes below it is.
        message: what its inbox carries.
        keeps: whether it has a state, in which it tallies what it receives.
        error_ratio: how likely an error is, at each of the places that have one.
        batch: the most messages of one unit, where it opens its units itself.
        total: how many messages it sends, where it is a source.
        sizes_bytes: of the payloads of these; each has one of them, by its number.
        partition_by: "", or how the key of a message is told: "key" by an attribute, "function".
        table: "", or the type of the keys of a table, which is written beside the state; or "slots": it has an entry for
            each slot in which an odd number of messages has come.
        back: "", or the overflow of a second inbox, which closes a cycle; or "full": it fails, and has little room.
    """

    name: str
    kind: str
    ways: tuple[Way, ...]
    message: str = "frozen"
    capacity: int = 1
    replicas: int = 1
    keeps: bool = True
    error_ratio: float = 0.0
    batch: int = 1
    total: int = 0
    sizes_bytes: tuple[int, ...] = ()
    partition_by: str = ""
    table: str = ""
    back: str = ""


def draw(seed: int) -> list[Part]:
    """The parts of a system, each before those that it feeds."""
    chance = random.Random(f"system {seed}")
    while True:
        sources = [f"source-{number}" for number in range(chance.randint(1, 3))]
        workers = [f"worker-{number}" for number in range(chance.randint(0, 5))]
        sinks = [f"sink-{number}" for number in range(chance.randint(1, 2))]
        feeds = draw_feeds(chance, sources, workers, sinks)
        arrivals = count_arrivals(feeds, sources)
        if arrivals <= MOST_ARRIVALS:
            break
    message = {name: chance.choice(("frozen", "mutable")) for name in workers + sinks}
    error_ratio = chance.choice((0.0, 0.0, 0.001, 0.02))
    parts = [
        *(
            draw_source(chance, name, draw_ways(chance, feeds[name], message), error_ratio, arrivals)
            for name in sources
        ),
        *(draw_worker(chance, name, draw_ways(chance, feeds[name], message), error_ratio, message) for name in workers),
        *(draw_worker(chance, name, (), error_ratio, message) for name in sinks),
    ]
    parts = draw_cycle(chance, draw_partitions(chance, parts))
    further = random.Random(f"further {seed}")
    return draw_slots(further, draw_tables(chance, draw_full(further, parts)))


def draw_partitions(chance: random.Random, parts: list[Part]) -> list[Part]:
    """Some of those that are fed share their messages by key. One that has a state then is a handler."""
    by_name = {part.name: part for part in parts}
    for part in parts:
        if not part.total and chance.random() < (0.6 if part.replicas > 1 else 0.25):
            kind = "handler" if part.keeps else part.kind
            by = chance.choice(("key", "function"))
            by_name[part.name] = attrs.evolve(part, partition_by=by, kind=kind, keeps=kind == "handler")
    return list(by_name.values())


def draw_cycle(chance: random.Random, parts: list[Part]) -> list[Part]:
    """Sometimes one sends back to one that feeds it, or to itself: into an inbox that never is full, or one that drops.

    A sender that waited for room in a cycle could wait for ever.
    """
    by_name = {part.name: part for part in parts}
    fed = {part.name: {name for way in part.ways for name in way.receivers} for part in parts}
    for part in reversed(parts):
        fed[part.name] = {part.name}.union(*(fed[name] for name in fed[part.name]))
    heads = [part for part in parts if not part.total and part.replicas == 1 and not part.partition_by]
    if not heads or chance.random() < 0.4:
        return parts
    head = chance.choice([part for part in heads if part.ways] * 3 + heads)
    back = Way("again", head.message, (head.name,), into="back", rounds=chance.randint(1, 3))
    by_name[head.name] = attrs.evolve(head, kind="handler", keeps=True, back=chance.choice(("fail", "drop_newest")))
    tail = by_name[chance.choice(sorted(fed[head.name]))]
    by_name[tail.name] = attrs.evolve(tail, ways=(*tail.ways, back))
    return list(by_name.values())


def draw_full(chance: random.Random, parts: list[Part]) -> list[Part]:
    """Some of the inboxes that fail when they are full, are full now and then."""
    is_full = chance.random() < 0.6
    return [attrs.evolve(part, back="full") if part.back == "fail" and is_full else part for part in parts]


def draw_slots(chance: random.Random, parts: list[Part]) -> list[Part]:
    """Some of the tables lose entries."""
    return [
        attrs.evolve(part, table="slots") if part.table == "int" and chance.random() < 0.5 else part for part in parts
    ]


def draw_tables(chance: random.Random, parts: list[Part]) -> list[Part]:
    """Some of those that have a state have a table, too. Which numbers come is not known where some do not come back."""
    kinds = ("str",) if any(part.back in ("drop_newest", "full") for part in parts) else ("str", "int")
    tables = {part.name: chance.choice(kinds) for part in parts if not part.total and part.keeps}
    return [attrs.evolve(part, table=tables.get(part.name, "") if chance.random() < 0.6 else "") for part in parts]


def draw_source(chance: random.Random, name: str, ways: tuple[Way, ...], error_ratio: float, arrivals: int) -> Part:
    sizes_bytes = chance.choice(((10,), (3, 10, 100), (100,), (5, 1_000, 20_000), (4, 50, 3_000, 120_000)))
    most = min(MOST_MESSAGES // arrivals, MOST_BYTES * len(sizes_bytes) // (arrivals * sum(sizes_bytes)))
    return Part(
        name=name,
        kind=chance.choice(("units", "sends")) if len(ways) == 1 else "units",
        ways=ways,
        error_ratio=error_ratio,
        batch=chance.choice((1, 1, 3, 30)),
        total=max(20, int(most * chance.uniform(0.3, 1.0))),
        sizes_bytes=sizes_bytes,
    )


def draw_worker(
    chance: random.Random, name: str, ways: tuple[Way, ...], error_ratio: float, message: dict[str, str]
) -> Part:
    """A worker; or a sink, which is one that feeds nobody."""
    replicas = chance.choice((1, 1, 2, 3)) if ways else 1
    return Part(
        name=name,
        kind=chance.choice(("handler", "handler", "loop", "batches")),
        ways=ways,
        message=message[name],
        capacity=chance.choice((1, 2, 10, 100, 1_000)),
        replicas=replicas,
        keeps=not ways or (replicas == 1 and chance.random() < 0.7),
        error_ratio=error_ratio,
        batch=chance.choice((1, 2, 5)),
    )


def draw_feeds(chance: random.Random, sources: list[str], workers: list[str], sinks: list[str]) -> dict[str, list[str]]:
    """Whom each part feeds: a graph without circles, in which everybody is fed and only sinks feed nobody."""
    later = workers + sinks
    feeds: dict[str, list[str]] = {name: [] for name in sources + later}
    for name in sources + workers:
        ahead = later[later.index(name) + 1 :] if name in later else later
        feeds[name] = chance.sample(ahead, k=min(len(ahead), chance.randint(1, 3)))
    for place, name in enumerate(later):
        if not any(name in fed for fed in feeds.values()):
            feeds[chance.choice(sources + workers[:place])].append(name)
    return feeds


def count_arrivals(feeds: dict[str, list[str]], sources: list[str]) -> int:
    """How often one number of each source arrives anywhere. Every part stands before those that it feeds."""
    arriving = dict.fromkeys(feeds, 0) | dict.fromkeys(sources, 1)
    for name, fed in feeds.items():
        for receiver in fed:
            arriving[receiver] += arriving[name]
    return sum(arriving.values()) - len(sources)


def draw_ways(chance: random.Random, fed: list[str], message: dict[str, str]) -> tuple[Way, ...]:
    """The outboxes that reach those fed: one for each, or one for all who take the same messages."""
    if chance.random() < 0.5:
        return tuple(Way(f"to_{name.replace('-', '_')}", message[name], (name,)) for name in fed)
    kinds = sorted({message[name] for name in fed})
    return tuple(Way(kind, kind, tuple(name for name in fed if message[name] == kind)) for kind in kinds)


# The components -------------------------------------------------------------------------------------------------------
def key_of(message: Any) -> str:
    return f"key-{message.number % KEYS}"


@attrs.frozen
class Frozen:
    """A message that its receivers share. The trail names the outboxes that it came through."""

    trail: str
    number: int
    payload: str

    @property
    def key(self) -> str:
        return key_of(self)


@attrs.define
class Mutable:
    """A message of which each receiver has a copy of its own."""

    trail: str
    number: int
    payload: str

    @property
    def key(self) -> str:
        return key_of(self)


MESSAGES: dict[str, type[Frozen] | type[Mutable]] = {"frozen": Frozen, "mutable": Mutable}


@attrs.define
class Tally:
    """What came by one trail.

    Attributes:
        count: how many messages.
        checksum: the sum over their numbers and payloads, whatever their order.
        last: the number of the last one.
        late: how many had a number that was not above the one before.
        last_of_key: the number of the last one of each key.
        late_of_key: how many had a number that was not above the one of the same key before.
    """

    count: int = 0
    checksum: int = 0
    last: int = -1
    late: int = 0
    last_of_key: dict[str, int] = attrs.Factory(dict)
    late_of_key: int = 0

    def add(self, number: int, payload: str) -> None:
        self.count += 1
        self.checksum += zlib.crc32(f"{number}:{payload}".encode())
        self.late += number <= self.last
        self.last = number
        key = f"key-{number % KEYS}"
        self.late_of_key += number <= self.last_of_key.get(key, -1)
        self.last_of_key[key] = number


FULL: list[str] = []  # who has a way back that is full now and then
TRIED: set[str] = set()  # what was in work before in this process, where there is such a way


class InjectedError(Exception):
    """Raised on purpose, anywhere."""


def maybe_fail(part: Part) -> None:
    if part.error_ratio and fate.random() < part.error_ratio:
        raise InjectedError(part.name)


@contextmanager
def half_of_the_errors_caught() -> Iterator[None]:
    """User code goes on after some errors, in the same life, and ends with the others."""
    try:
        yield
    except (InjectedError, InboxFull):
        if fate.random() < 0.5:
            raise


def spoil(message: Frozen | Mutable) -> None:
    """Changes a message that was sent or received, which nobody else may notice."""
    if isinstance(message, Mutable):
        message.trail, message.number, message.payload = "spoiled", -1, ""


def send(component: Component, part: Part, trail: str, number: int, payload: str, *, back: bool = True) -> None:
    for way in part.ways:
        step = f"{part.name}.{way.name}"
        if way.rounds and (not back or number % SIFT or trail.split().count(step) >= way.rounds):
            continue
        message = MESSAGES[way.message](f"{trail} {step}".lstrip(), number, payload)
        getattr(component, way.name).send(message)
        spoil(message)


class Source(Component):
    """Sends the numbers from 0 up, and keeps how far it has come."""

    part: Part
    position = State(int)

    @property
    def goes_on(self) -> bool:
        return self.running and self.position < self.part.total

    def send_next(self) -> None:
        number = self.position
        self.position += 1
        maybe_fail(self.part)
        size_bytes = self.part.sizes_bytes[zlib.crc32(b"%d" % number) % len(self.part.sizes_bytes)]
        payload = (f"{number} " * size_bytes)[:size_bytes]
        send(self, self.part, "", number, payload)


class SourceOfUnits(Source):
    def run(self) -> None:
        while self.goes_on:
            with half_of_the_errors_caught(), self.unit():
                for _ in range(min(self.part.batch, self.part.total - self.position)):
                    self.send_next()
                maybe_fail(self.part)
            if fate.random() < 0.002:
                self.commit()


class SourceOfSends(Source):
    """Each of its sends is a unit of its own, with the position as it is."""

    def run(self) -> None:
        while self.goes_on:
            self.send_next()


class Work(Component):
    """What a component does with a message, however it comes by it."""

    part: Part
    inbox: ClassVar[Any]  # the ports are those of the classes that `component_of` makes
    tallies: ClassVar[Any]
    table: ClassVar[Any]
    differences: ClassVar[Any]  # how often the table was not what the state said

    def work(self, message: Frozen | Mutable) -> None:
        back = not FULL or self.message_id not in TRIED  # perhaps it was the way back that was full
        if FULL:
            TRIED.add(self.message_id)
        maybe_fail(self.part)
        if self.part.keeps:
            self.keep(message)
        send(self, self.part, message.trail, message.number, message.payload, back=back)
        spoil(message)
        maybe_fail(self.part)

    def keep(self, message: Frozen | Mutable) -> None:
        tally = self.tallies.setdefault(message.trail, Tally())
        if self.part.table == "str":
            entry = self.table.setdefault(message.trail, Tally())
            self.differences += entry != tally  # type: ignore[misc]
            entry.add(message.number, message.payload)
        elif self.part.table == "int":
            self.table[message.number] = self.table.get(message.number, 0) + 1
        elif self.part.table == "slots" and self.table.pop(message.number % SLOTS, None) is None:
            self.table[message.number % SLOTS] = 1
        tally.add(message.number, message.payload)


class Loop(Work):
    def run(self) -> None:
        for message in self.inbox:
            self.work(message)


class Batches(Work):
    """Receives a few messages in one unit, or fewer where no more wait."""

    def run(self) -> None:
        while self.running:
            with half_of_the_errors_caught(), self.unit():
                self.work(self.inbox.receive())
                for _ in range(self.part.batch - 1):
                    try:
                        message = self.inbox.receive(timeout_s=0)
                    except (InboxEmpty, StopRequested):
                        break
                    self.work(message)


def handle(self: Work, message: Any) -> None:
    self.work(message)


def handle_back(self: Work, message: Any) -> None:
    self.work(message)


SOURCES = {"units": SourceOfUnits, "sends": SourceOfSends}
KINDS: dict[str, Any] = SOURCES | {"handler": Work, "loop": Loop, "batches": Batches}


def component_of(part: Part) -> Component:
    """A component of a class of its own, because capacities and types are the class's."""
    ports: dict[str, Any] = {way.name: Outbox(MESSAGES[way.message]) for way in part.ways}
    if part.kind not in SOURCES:
        ports["inbox"] = Inbox(MESSAGES[part.message], capacity=part.capacity, retry=RETRY)
        if part.keeps:
            ports["tallies"] = State(dict[str, Tally])
            ports["differences"] = State(int)
        if part.table:
            ports["table"] = Table(str, Tally) if part.table == "str" else Table(int, int)
        if part.back:
            capacity = ROOMY if part.back == "fail" else part.capacity
            overflow: Any = "fail" if part.back == "full" else part.back
            ports["back"] = Inbox(MESSAGES[part.message], capacity=capacity, overflow=overflow, retry=RETRY)
            ports["handle_back"] = ports["back"].handler(handle_back)
        if part.kind == "handler":
            ports["handle"] = ports["inbox"].handler(handle)
    component: Component = type(part.name, (KINDS[part.kind],), ports)(part=part)
    return component


def system_of(parts: list[Part], folder: str, chance: random.Random) -> tuple[System, dict[str, Any]]:
    """The system, and its components by name. How many replicas share the partitions is left to chance."""
    system = System("soak", folder=folder)
    by: dict[str, Any] = {"": None, "key": "key", "function": key_of}
    components: dict[str, Any] = {
        part.name: system.add(
            component_of(part),
            name=part.name,
            replicas=chance.choice((1, 2, 3, 5)) if part.partition_by else part.replicas,
            partition_by=by[part.partition_by],
            restart=RESTART,
        )
        for part in parts
    }
    for part in parts:
        for way in part.ways:
            for receiver in way.receivers:
                system.connect(getattr(components[part.name], way.name), getattr(components[receiver], way.into))
    return system, components


def read(parts: list[Part], system: System, components: dict[str, Any]) -> list[tuple[str, Any]]:
    """What the states and the tables of each component, or of each of its partitions, answer."""
    told: list[tuple[str, Any]] = []
    for part in parts:
        component = components[part.name]
        for place in system.partitions(component) if part.partition_by else (component,):
            if part.keeps and part.kind not in SOURCES:
                tallies = {trail: attrs.asdict(tally) for trail, tally in place.tallies.items()}
                told.append((f"state/{part.name}", tallies | {"differences": place.differences}))
            if part.table == "str":
                told.append(
                    (f"table/{part.name}", {trail: attrs.asdict(entry) for trail, entry in place.table.items()})
                )
            elif part.table:
                told.append((f"table/{part.name}", {str(number): count for number, count in place.table.items()}))
    return told


# Disturbances ---------------------------------------------------------------------------------------------------------
Rows = Sequence[tuple[str, bytes]]


def tell_of_commits(pause_s: float) -> None:
    """Prints a line before and after each commit, which takes `pause_s` longer."""
    commit = Store.commit

    def told(self: Store, puts: Rows, deletes: Sequence[str]) -> int:
        os.write(1, b"commits\n")
        if pause_s:
            threading.Event().wait(pause_s)
        number = commit(self, puts, deletes)
        os.write(1, b"committed\n")
        return number

    Store.commit = told  # type: ignore[method-assign]


def keep_busy() -> None:
    """Has a thread compete for the interpreter."""

    def count() -> None:
        while True:
            sum(range(1_000))

    threading.Thread(target=count, daemon=True).start()


def disturb(chance: random.Random) -> None:
    if chance.random() < 0.2:
        keep_busy()
        sys.setswitchinterval(chance.choice((1e-6, 1e-4)))  # with the usual 5 ms it hardly comes to anything else
    else:
        sys.setswitchinterval(chance.choice((1e-6, 1e-4, 5e-3)))
    tell_of_commits(chance.choice((0.0, 0.0, 0.0, 0.005, 0.01)))


# Defects --------------------------------------------------------------------------------------------------------------
def acknowledge_early() -> None:
    """What a component takes is settled in the epoch of that moment, not in that of the unit which handles it."""
    take = Journal.take

    def broken(self: Journal, *arguments: Any, **named: Any) -> list[Entry] | None:
        entries = take(self, *arguments, **named)
        commits = self.commits
        wakes: Wakes = []
        with self.lock:
            for channel, number, *_ in entries or ():
                channel.acks.add(number)
                commits.epoch.settled(channel)
                commits.epoch.units += 1
            if entries and commits.writer_asleep:
                commits.wake_writer_locked(wakes)
        unpark_all(wakes)
        return entries

    Journal.take = broken  # type: ignore[method-assign]


def unpark_all(parkables: list[Parkable]) -> None:
    for parkable in parkables:
        parkable.unpark()


def keep_outside(prefix: str) -> None:
    """Rows of this kind are written one commit later than the rest of their units."""
    commit, close = Store.commit, Store.close
    kept_back: list[tuple[str, bytes]] = []

    def broken(self: Store, puts: Rows, deletes: Sequence[str]) -> int:
        gone = set(deletes)
        late = [row for row in kept_back if row[0] not in gone]
        now = [*late, *(row for row in puts if not row[0].startswith(prefix))]
        kept_back[:] = [row for row in puts if row[0].startswith(prefix)]
        return commit(self, now, deletes)

    def close_after_all(self: Store) -> None:
        commit(self, kept_back, [])
        close(self)

    Store.commit = broken  # type: ignore[method-assign]
    Store.close = close_after_all  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    "ack_early": acknowledge_early,
    "state_outside": partial(keep_outside, rows.STATES),
    "table_outside": partial(keep_outside, rows.TABLES),
}


if __name__ == "__main__":
    seed, folder, life = int(sys.argv[1]), sys.argv[2], [*sys.argv[3:], "0"][0]
    faulthandler.dump_traceback_later(LONGEST_LIFE_S, exit=True)
    logging.getLogger("minions").addHandler(logging.NullHandler())  # or each injected error would be logged
    parts = draw(seed)
    Path(f"{folder}.json").write_text(json.dumps([attrs.asdict(part) for part in parts], indent=1))
    FULL += [part.name for part in parts if part.back == "full"]
    fate.seed(f"errors {seed} {life}")
    if defect := os.environ.get("SOAK_BREAK"):
        DEFECTS[defect]()
        tell_of_commits(pause_s=0.03)
    else:
        disturb(random.Random(f"disturbances {seed} {life}"))
    system, components = system_of(parts, folder, random.Random(f"replicas {seed} {life}"))
    if (ended := system.run()) != "finished":
        sys.exit(ended)
    Path(f"{folder}.read.json").write_text(json.dumps(read(parts, system, components)))

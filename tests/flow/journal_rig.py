"""What tests of the journal have in common: a journal whose time stands still, and lives on the test's own thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minions.clock import Parkable
from minions.fence import Fence
from minions.flow.channel import Channel, Entry, Ticket
from minions.flow.codec import codec_of
from minions.flow.epoch import Sealed
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger
from minions.flow.mailbox import Mailbox
from minions.flow.unit import Unit

INT = codec_of(int)


class Bell:
    """Where a thread would sleep; says whether it was woken."""

    def __init__(self) -> None:
        self.rung = 0

    def park(self, timeout_s: float | None) -> None:
        raise AssertionError("nothing here waits")

    def unpark(self) -> None:
        self.rung += 1


class Time:
    """Time that stands still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        raise AssertionError("nothing here waits")


class Life:
    """One life on the test's own thread."""

    def __init__(self, journal: Journal, name: str, *reads: Channel, epoch: int = 1) -> None:
        self.journal = journal
        self.name = name
        self.bell = Bell()
        self.fence = Fence(name, epoch)
        self.mailbox = Mailbox(reads, self.bell)
        journal.join(self.fence, self.bell)
        journal.attach(self.mailbox, self.fence)

    def unit(self, *sends: tuple[Channel, int], settles: list[Entry] | None = None, **states: bytes) -> Unit:
        unit = Unit(self.name)
        for channel, message in sends:
            unit.send((channel,), message, True, INT.encode(message) if channel.durable else None)
        unit.settles += settles or []
        unit.save(states)
        return unit

    def submit(self, unit: Unit) -> Ticket | None:
        return self.journal.submit(unit, self.fence, self.bell, self.mailbox if unit.settles else None)

    def put_rows(self, prefix: str, **bodies: bytes | None) -> None:
        unit = self.unit()
        for key, body in bodies.items():
            unit.put(prefix, key, body)
        assert self.submit(unit) is None

    def send(self, *sends: tuple[Channel, int], **states: bytes) -> Ticket | None:
        unit = self.unit(*sends)
        unit.save(states)
        return self.submit(unit)

    def take(self, **options: Any) -> list[Entry] | None:
        return self.journal.take(self.mailbox, self.fence, **options)

    def taken(self, **options: Any) -> list[Entry]:
        entries = self.take(**options)
        assert entries
        return entries

    def take_numbers(self, **options: Any) -> list[int]:
        return [entry[1] for entry in self.take(**options) or ()]

    def settle(self, *entries: Entry) -> None:
        assert self.submit(self.unit(settles=list(entries))) is None

    def waits(self, ticket: Ticket | None, deadline_s: float | None = None) -> bool:
        assert ticket is not None
        return self.journal.waits(ticket, self.fence, deadline_s)

    def end(self, **options: Any) -> None:
        self.journal.end_life(self.mailbox, self.fence, **options)

    def rang(self) -> bool:
        """Whether it was woken since this was asked last."""
        rung, self.bell.rung = self.bell.rung, 0
        return bool(rung)


class Rig:
    """A journal with channels of their own, and time that stands still."""

    def __init__(self) -> None:
        self.time = Time()
        self.journal = Journal(self.time, durable=True)
        self.writer = Bell()
        self.store: dict[str, bytes] = {}
        self.channels = 0

    def channel(self, name: str = "c.in", capacity: int = 2, *, durable: bool = True, **options: Any) -> Channel:
        channel = Channel(name, self.channels, capacity=capacity, codec=INT if durable else None, run_id="r", **options)
        self.channels += 1
        return channel

    def life(self, name: str, *reads: Channel, **options: Any) -> Life:
        return Life(self.journal, name, *reads, **options)

    def seal(self) -> Sealed:
        sealed = self.journal.commits.seal(self.writer)
        assert sealed is not None
        return sealed

    def commit(self) -> None:
        self.journal.commits.committed(self.seal())

    def later(self, seconds: float = 1.0) -> None:
        self.time.now_s += seconds


class Rows(dict[str, bytes]):
    """A store in memory."""

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter([(key, self[key]) for key in sorted(self) if key.startswith(prefix)])

    def apply(self, ledger: Ledger, sealed: Sealed) -> None:
        change = ledger.change(sealed)
        for key in change.deletes:
            del self[key]
        self.update(change.puts)
        ledger.confirm(change)


class Parting:
    """A message or an argument that notes, as it is freed, whether that happens under the journal's lock."""

    def __init__(self, journal: Journal, under_lock: list[bool]) -> None:
        self._lock = journal.lock
        self._under_lock = under_lock

    def __del__(self) -> None:
        self._under_lock.append(self._lock.locked())

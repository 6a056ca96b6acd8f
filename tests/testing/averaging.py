"""What tests of the harness put under it."""

from __future__ import annotations

import threading

import attrs

from minions import Backoff, Component, Inbox, Outbox, Retry, State, Table, Uses, every
from minions.testing import Harness

AT_ONCE = Backoff(initial_s=0.0)


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Mean:
    celsius: float


@attrs.define
class Summary:
    count: int = 0
    total: float = 0.0


class Average(Component):
    readings = Inbox(Reading, retry=Retry(attempts=2, backoff=Backoff(initial_s=5.0, jitter_ratio=0.0)))
    averages = Outbox(Mean)
    summary = State(Summary)
    latest = Table(str, float)

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.summary.count += 1
        self.summary.total += reading.celsius
        self.latest["last"] = reading.celsius
        self.averages.send(Mean(self.summary.total / self.summary.count))
        if reading.celsius < -273.15:
            raise ValueError("colder than cold")

    @every(hours=1)
    def flush(self) -> None:
        self.summary = Summary()

    @every(hours=2)
    def fail(self) -> None:
        raise ValueError("no tick")

    def mean(self, *, digits: int = 1) -> float:
        return round(self.summary.total / self.summary.count, digits)


class Lock:
    """Of this nobody can tell how it is kept."""

    def __init__(self) -> None:
        self.own = threading.Lock()


class Database(Component):
    path: str

    def on_start(self) -> None:
        raise AssertionError("a test has no database")

    def insert(self, reading: Reading, *, twice: bool = False) -> int:
        raise NotImplementedError


class FakeDatabase(Database):
    path: str = ""
    rows = State(list[float])

    def on_start(self) -> None: ...

    def insert(self, reading: Reading, *, twice: bool = False) -> int:
        self.rows.append(reading.celsius)
        return len(self.rows)


class Archive(Component):
    readings = Inbox(Reading, retry=Retry(attempts=1))
    database = Uses(Database)
    count = State(int)

    @readings.handler
    def keep(self, reading: Reading) -> None:
        self.count = self.database.insert(reading, twice=True)


Averaging = Harness[Average]

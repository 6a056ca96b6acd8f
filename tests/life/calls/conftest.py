"""What tests of calls have in common: what is called, who calls, and how both are held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from minions import Backoff, Component, Inbox, Outbox, Restart, State, System, Table, Uses
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Running, Start, Threads

AT_ONCE = Restart(backoff=Backoff(initial_s=0.0))
GATE = Gate()
LOG = Log()
WORK: Callable[[Any, int], Any] = lambda caller, number: None  # noqa: E731


class Feed(Component):
    numbers: int = 1
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.numbers:
            with self.unit():
                self.out.send(Number(self.sent + 1))
                self.sent += 1


class Database(Component):
    """What is called. `hold` holds its thread until the test opens the gate."""

    rows = State(list[int])
    table = Table(str, int)
    out = Outbox(Number, optional=True)

    def insert(self, row: int) -> int:
        self.rows.append(row)
        self.table[str(row)] = row
        return len(self.rows)

    def all(self) -> list[int]:
        return list(self.rows)

    def fail(self, row: int, error: BaseException) -> None:
        self.insert(row)
        self.out.send(Number(row))
        raise error

    def where(self) -> int:
        return threading.get_ident()

    def hold(self, row: int = 0) -> int:
        if row:
            self.insert(row)
        GATE.pass_through()
        return row

    def same(self, value: Any) -> Any:
        return value

    def run_this(self, function: Callable[[Any], Any]) -> Any:
        return function(self)


class Caller(Component):
    """Calls what a test asks for, in its handler; what came of it is in `LOG`."""

    numbers = Inbox(Number)
    database = Uses(Database)
    seen = State(list[int])

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.seen.append(number.value)
        LOG.add(WORK(self, number.value))


@attrs.define
class Bench:
    system: System
    start: Start
    database: Any
    run: Any = None

    def up(self, **options: Any) -> Bench:
        self.run = self.start(self.system, **options).up()
        return self

    def call(self, timeout_s: float | None = PATIENCE_S) -> Database:
        called: Database = self.system.call(self.database, timeout_s=timeout_s)
        return called

    def call_handler(self, work: Callable[[Any, int], Any], numbers: int = 1, **options: Any) -> Caller:
        """A caller whose handler does this with each number; the system is not started."""
        global WORK  # noqa: PLW0603
        WORK = work
        feed = self.system.add(Feed(numbers=numbers))
        caller = self.system.add(Caller(), **options)
        self.system.connect(feed.out, caller.numbers)
        return caller

    def in_calls(self) -> tuple[int, ...]:
        return in_calls(self.run)


def in_calls(run: Running) -> tuple[int, ...]:
    """What must be nothing when nobody calls: waits, beginning lives, waiting and in work."""
    journal = run.runtime.journal
    queues = [plan.calls for plan in run.runtime.plan.nodes.values() if plan.calls is not None]
    return (
        len(journal.calls.graph.waits),
        len(journal.calls.graph.beginning),
        sum(len(queue.waiting) for queue in queues),
        sum(queue.in_work for queue in queues),
    )


@pytest.fixture(autouse=True)
def _fresh(threads: Threads) -> Iterator[None]:  # they are held by the gate, so they end after it is open
    global WORK  # noqa: PLW0603 - for the components, whose configuration is copied for each life
    GATE.close()
    LOG.clear()
    WORK = lambda caller, number: None  # noqa: E731
    yield
    GATE.open()


@pytest.fixture
def bench(system: System, start: Start) -> Bench:
    return Bench(system, start, system.add(Database(), restart=AT_ONCE))

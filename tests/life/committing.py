"""What tests of `after_commit` have in common: components that are fed, and how a test waits."""

from __future__ import annotations

from typing import Any

from minions import (
    Backoff,
    Component,
    Inbox,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    Table,
)
from minions.fence import Fence
from minions.flow.journal import Journal
from minions.flow.parker import Parker
from minions.testing import FakeClock
from minions.testing.clock import RealClock
from tests.life.conftest import PATIENCE_S, Number, Running
from tests.life.counting import StayingNumbers

AT_ONCE = Backoff(initial_s=0.0)
RETRY = Retry(backoff=AT_ONCE)
ONCE_MORE = Restart(failures=1, backoff=AT_ONCE)


def fed(system: System, component: Component, count: int = 1, *, ends: bool = True, **options: Any) -> Any:
    """A component that gets the numbers from 0 to count - 1."""
    numbers = system.add(StayingNumbers(count=count, ends=ends))
    system.add(component, **options)
    system.connect(numbers.out, component.numbers)  # type: ignore[attr-defined]
    return component


def wait_until_asleep(run: Running, *besides: str) -> None:
    """Blocks until every component sleeps but these, while the writer may be held at its commit. The run is a watched one."""
    assert isinstance(run.clock, (FakeClock, RealClock))
    run.clock.settle(besides=["minions-writer", *besides])


def wait_for_epoch(journal: Journal, epoch: int) -> None:
    """Blocks until everything so far is on disk, and an epoch of that number with it."""
    parker, fence = Parker(), Fence("the test", 1)
    while (ticket := journal.commits.ticket(parker)) is not None:
        while journal.commits.waits(ticket, fence, None):
            parker.park(PATIENCE_S)
    assert journal.commits.durable_epoch >= epoch


class Echo(Component):
    """Sends and counts after each commit what it has got."""

    numbers = Inbox(Number)
    out = Outbox(Number)
    echoed = State(list[int])
    entries = Table(int, list[str])
    fails: bool = False

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.entries[number.value] = ["handled"]
        self.after_commit(lambda: self.echo(number.value))

    def echo(self, value: int) -> None:
        self.entries[value].append("echoed")
        self.entries[10 * value] = []
        self.entries.pop(10 * value - 10, None)
        self.out.send(Number(10 * value))
        self.echoed.append(value)
        if self.fails and value == 1:
            self.fails = False
            raise ValueError("one")
        self.out.send(Number(10 * value + 1))

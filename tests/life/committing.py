"""What tests of `after_commit` have in common: components that are fed, and how a test waits."""

from __future__ import annotations

import threading
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
from minions.life.runtime import Runtime
from tests.life.conftest import PATIENCE_S, Number
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


def wait_until_asleep(runtime: Runtime, component: str) -> None:
    """Blocks until a component sleeps in its mailbox."""
    journal, mailbox = runtime.journal, runtime._threads[component].life.mailbox
    tell_supervisor, idle = journal.on_idle, threading.Semaphore(0)

    def tell_both() -> None:
        idle.release()
        tell_supervisor()

    def is_asleep() -> bool:
        with journal.turnstile, journal.lock:
            return mailbox.asleep

    journal.on_idle = tell_both
    journal.watch_idle(True)
    while not is_asleep():
        assert idle.acquire(timeout=PATIENCE_S), "it does not sleep"
    journal.on_idle = tell_supervisor


def wait_for_epoch(journal: Journal, epoch: int) -> None:
    """Blocks until everything so far is on disk, and an epoch of that number with it."""
    parker, fence = Parker(), Fence("the test", 1)
    while (ticket := journal.commit_ticket(parker)) is not None:
        while journal.waits_for_commit(ticket, fence, None):
            parker.park(PATIENCE_S)
    assert journal.durable_epoch >= epoch


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

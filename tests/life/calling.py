"""What tests of calls have in common."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from minions import Backoff, Component, Outbox, Restart, State
from tests.life.conftest import Number, Running

AT_ONCE = Restart(backoff=Backoff(initial_s=0.0))
Threads = Callable[[Callable[[], Any]], Future[Any]]


class Feed(Component):
    numbers: int = 1
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.numbers:
            with self.unit():
                self.out.send(Number(self.sent + 1))
                self.sent += 1


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

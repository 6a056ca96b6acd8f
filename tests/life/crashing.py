"""What tests of crashes have in common: a bug that can be mended, messages to fail at, and a run to the end."""

from __future__ import annotations

from typing import Any

from minions import (
    Backoff,
    Component,
    Crash,
    Outbox,
    Restart,
    Retry,
    State,
    System,
)
from tests.life.conftest import Number, Start

ONCE = Retry(attempts=1)
AT_ONCE = Retry(attempts=2, backoff=Backoff(initial_s=0.0))
NEVER = Restart(failures=0)
ALWAYS = Restart(failures=100, backoff=Backoff(initial_s=0.0))


class Bug:
    """A bug that can be mended."""

    def __init__(self) -> None:
        self.is_there = True

    def strike(self, why: str = "the bug") -> None:
        if self.is_there:
            raise ValueError(why)


class Numbers(Component):
    """Sends the numbers from 1 up, each once."""

    out = Outbox(Number)
    sent = State(int)
    last: int = 3

    def run(self) -> None:
        while self.sent < self.last:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))


def the_crash(system: System, component: str = "") -> Crash:
    [crash] = [crash for crash in system.crashes() if component in ("", crash.component)]
    return crash


def run_to_the_end(system: System, start: Start, **options: Any) -> None:
    run = start(system, **options).up()
    run.wait_until_quiet()
    run.stop()

"""What tests of `wrap` have in common: a sink that tells what it gets, and what a stop looks like."""

from __future__ import annotations

from typing import Any

import attrs

from minions import (
    Backoff,
    Restart,
    System,
    events,
    wrap,
)
from minions.testing.clock import RealClock
from tests.life.conftest import PATIENCE_S, Log, Running

AT_ONCE = Restart(backoff=Backoff(initial_s=0.0))
STOP_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.2 * STOP_TIMEOUT_S
OURS = "wrapped.py"


@attrs.frozen
class Reading:
    celsius: float


def kept(system: System, source: Any, kind: type[Any], **options: Any) -> Log:
    """Connects a sink that tells what it gets."""
    log = Log()
    system.connect(source.out, system.add(wrap.function(log.add, kind, **options), name="sink").inbox)
    return log


def wait_for_thread(run: Running, component: str, waits_for: str) -> None:
    """Blocks until a component's thread waits at a door of the runtime. The run has to be a watched one."""
    assert isinstance(run.clock, RealClock)
    run.clock.until(lambda: run.runtime._threads[component].life.waits_for == waits_for, timeout_s=PATIENCE_S)


def stop_begins(run: Running) -> None:
    """Asks all to stop; returns once the sources were asked."""
    run.runtime.stop("stopped")
    run.reach()


def stopped_in_order(run: Running) -> None:
    stopped = run.ended()
    assert (stopped.problems, stopped.survivors) == ((), ())
    assert run.all(events.ComponentFailed) == []

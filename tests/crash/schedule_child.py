"""A child of the tests: a component with a schedule, and a clock that moves only as far as it is told to.

    python schedule_child.py FOLDER MISSED BEGIN_S MOMENT DEFECT

A tick is due every ten seconds, at 10, 20, 30 seconds of the time that begins with the first run. BEGIN_S is the time of day at
which this run begins. A moment is "before" or "after" the commit of the third tick; or "started": then it makes the ticks that
are due at the start, and ends. At the end it prints how many ticks there were in all.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from minions import Component, State, System, Watchdog, every
from minions.flow import rows
from minions.flow.plain_cache import PlainCache, Step
from minions.flow.unit import Unit
from minions.testing import FakeClock

_SCRIPT, FOLDER, MISSED, BEGIN_S, MOMENT, DEFECT = sys.argv
PATIENCE_S = 30.0
MISSED_AS: Any = MISSED


class Ticking(Component):
    ticks = State(list[float])

    @every(seconds=10, missed=MISSED_AS)
    def tick(self) -> None:
        global made  # noqa: PLW0603 - read by the writer's thread
        made += 1
        self.ticks.append(clock.wall())
        self.after_commit(on_disk.release)


def die_at(moment: str) -> None:
    """Has the process killed at the commit of its third tick."""
    commit = PlainCache.commit

    def deadly(
        self: PlainCache, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str], step: Step | None = None
    ) -> None:
        third = made == 3 and any(key.startswith(rows.STATES) for key, _ in puts)
        if third and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, puts, deletes, step)
        if third and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    PlainCache.commit = deadly  # type: ignore[method-assign]


def forget_the_tick() -> None:
    """The row of a tick is not written in its unit."""
    put = Unit.put

    def broken(self: Unit, prefix: str, key: str, body: bytes | None) -> None:
        if prefix != rows.TICKS or not begun.is_set():
            put(self, prefix, key, body)

    Unit.put = broken  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {"none": lambda: None, "the tick is not noted": forget_the_tick}


def wait_until_it_waits() -> None:
    """Returns when nothing is due any more."""
    while True:
        ahead = clock.wait_for_waiters(1, timeout_s=PATIENCE_S)
        if any(0.0 < in_s <= 10.1 for in_s in ahead):
            return


if __name__ == "__main__":
    clock = FakeClock(monotonic_s=float(os.getpid()), wall_s=1.7e9 + float(BEGIN_S))
    on_disk, begun = threading.Semaphore(0), threading.Event()
    made = 0
    system = System("test", folder=FOLDER, watchdog=Watchdog(enabled=False))
    system._clock = clock
    ticking = system.add(Ticking())
    die_at(MOMENT)
    DEFECTS[DEFECT]()
    with system.started():
        wait_until_it_waits()
        begun.set()
        for _ in range(0 if MOMENT == "started" else 3):
            clock.advance(10.0)
            assert on_disk.acquire(timeout=PATIENCE_S)
            wait_until_it_waits()
    print(len(ticking.ticks))

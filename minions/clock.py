"""The one source of time: durations are monotonic, wall time is for people and time stamps only.

Whoever waits waits through a clock, so that a test can put a clock of its own in its place and hold time still. No lock.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "Parkable", "SystemClock"]


class Parkable(Protocol):
    """What a thread waits on. A wake-up that comes before the wait is kept, so none is lost."""

    def park(self, timeout_s: float | None) -> None:
        """Waits for a wake-up, at most `timeout_s` seconds. May return early: look again at what you wait for."""

    def unpark(self) -> None:
        """Wakes the waiter, now or at its next wait. Never blocks; safe to call from any thread."""


class Clock(Protocol):
    """Time as the runtime sees it. Safe to call from any thread."""

    def monotonic(self) -> float:
        """Seconds since some moment in the past; never goes back."""

    def wall(self) -> float:
        """Seconds since the epoch (UTC), as the machine believes."""

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        """Waits on `parkable` until it is woken or `monotonic()` has reached `deadline_s`; may return early."""


class SystemClock:
    """The machine's own time."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        parkable.park(None if deadline_s is None else max(0.0, deadline_s - time.monotonic()))

"""Time that stands still until a test moves it, for real threads. Runs no thread; one condition guards everything.

The condition's lock is held for a few list operations only; threads are woken outside it.
"""

from __future__ import annotations

import math
import threading

import attrs

from minions.clock import Parkable

__all__ = ["FakeClock"]


@attrs.frozen(eq=False)
class _Waiter:
    """One thread that waits for a moment."""

    parkable: Parkable
    deadline_s: float


class FakeClock:
    """A `minions.clock.Clock` whose time only moves by `advance`. Every method may be called from any thread.

    Args:
        monotonic_s: what `monotonic` begins with.
        wall_s: what `wall` begins with, seconds since the epoch (UTC).
    """

    def __init__(self, *, monotonic_s: float = 1_000.0, wall_s: float = 1_700_000_000.0) -> None:
        self._changed = threading.Condition()
        self._monotonic_s = monotonic_s  # guarded by _changed, as are all below
        self._wall_s = wall_s
        self._waiters: list[_Waiter] = []

    # ------------------------------------------------------------------ the clock
    def monotonic(self) -> float:
        """Seconds since some moment in the past."""
        with self._changed:
            return self._monotonic_s

    def wall(self) -> float:
        """Seconds since the epoch (UTC)."""
        with self._changed:
            return self._wall_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        """Waits on `parkable` until it is woken, or until `advance` has brought the moment `deadline_s`."""
        if deadline_s is None:
            parkable.park(None)
            return
        waiter = _Waiter(parkable, deadline_s)
        with self._changed:
            if self._monotonic_s >= deadline_s:
                return
            self._waiters.append(waiter)
            self._changed.notify_all()
        try:
            parkable.park(None)
        finally:
            with self._changed:
                self._waiters.remove(waiter)
                self._changed.notify_all()

    # ------------------------------------------------------------------ the test's side
    def advance(self, seconds: float) -> None:
        """Moves time on and wakes every thread whose moment has come. Returns at once: what they then do takes its own time.

        Raises:
            ValueError: time does not go back, nor to infinity.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"advance(seconds={seconds!r}): time moves on only")
        with self._changed:
            self._monotonic_s += seconds
            self._wall_s += seconds
            due = [waiter.parkable for waiter in self._waiters if waiter.deadline_s <= self._monotonic_s]
        for parkable in due:
            parkable.unpark()

    def waits(self) -> tuple[float, ...]:
        """How many seconds from now the moments are that threads wait for, the next one first."""
        with self._changed:
            return self._waits_locked()

    def wait_for_waiters(self, count: int = 1, *, timeout_s: float = 10.0) -> tuple[float, ...]:
        """Blocks until at least that many threads wait for a moment that is still to come, and returns as `waits` does.

        Args:
            count: how many threads.
            timeout_s: how long to wait for them, in real seconds.

        Raises:
            TimeoutError: there were fewer.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waits_locked()) >= count, timeout_s):
                found = len(self._waits_locked())
                raise TimeoutError(f"{found} threads wait for a moment, not {count}, after {timeout_s} real seconds")
            return self._waits_locked()

    def _waits_locked(self) -> tuple[float, ...]:
        """Without those that were woken already and have not come round to leave."""
        now_s = self._monotonic_s
        return tuple(sorted(waiter.deadline_s - now_s for waiter in self._waiters if waiter.deadline_s > now_s))

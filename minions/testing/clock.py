"""Time that stands still until a test moves it, for real threads. Runs no thread; one condition guards everything.

The condition's lock is held for a few list operations only; threads are woken outside it.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import attrs

from minions.clock import Parkable
from minions.model import checks
from minions.testing.arguments import finite, names, patience, refuse, refuse_other_times
from minions.testing.sleepers import PATIENCE_S, Sleepers

__all__ = ["FakeClock", "RealClock"]


class RealClock(Sleepers):
    """The machine's own time, and it knows who sleeps."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        """Waits on `parkable` until it is woken or the deadline has come."""
        parkable.park(None if deadline_s is None else max(0.0, deadline_s - time.monotonic()))


@attrs.frozen(eq=False)
class _Waiter:
    """One thread that waits for a moment."""

    parkable: Parkable
    deadline_s: float


class FakeClock(Sleepers):
    """A `minions.clock.Clock` whose time only moves by `advance` and `jump`. Every method may be called from any thread.

    Args:
        monotonic_s: what `monotonic` begins with.
        wall_s: what `wall` begins with, seconds since the epoch (UTC).

    Raises:
        UsageError: that is no finite number.
    """

    def __init__(self, *, monotonic_s: float = 1_000.0, wall_s: float = 1_700_000_000.0) -> None:
        refuse("FakeClock()", finite("monotonic_s", monotonic_s), finite("wall_s", wall_s))
        super().__init__()
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
    def advance(self, seconds: float, *, besides: Collection[str] = (), timeout_s: float = PATIENCE_S) -> None:
        """Moves time on, from one moment that somebody waits for to the next, and blocks until all is done that follows.

        At each of these moments those are woken that wait for it, and time goes on only when everybody sleeps again: see
        `settle`, which is also the first step and the last. So everything happens at its own moment, in order, and a schedule
        misses no tick however far time moves; what takes time itself, by `self.sleep` for example, takes it while time moves.

        Where `running` has started no system on this clock, there is nobody to wait for: who waits for one of the moments is
        woken, and it returns at once.

        Args:
            seconds: how far.
            besides: whom not to wait for, see `settle`.
            timeout_s: how long each step may take, in real seconds.

        Raises:
            UsageError: the arguments do not fit.
            ValueError: time does not go back, nor to infinity.
            TimeoutError: somebody does not sleep again, see `settle`; time has come to the moment that woke it.
        """
        refuse_other_times("advance", seconds)
        refuse("advance()", names("besides", besides), patience("timeout_s", timeout_s))
        with self._changed:
            until_s = self._monotonic_s + seconds
            is_alone = not self._alive
        if is_alone:
            self._move(seconds)
            return
        while True:
            self.settle(besides=besides, timeout_s=timeout_s)
            with self._changed:
                moments = [waiter.deadline_s for waiter in self._waiters if waiter.deadline_s > self._monotonic_s]
                next_s = min([until_s, *moments])
                due = self._move_locked(next_s)
            for parkable in due:
                parkable.unpark()
            if next_s == until_s:
                self.settle(besides=besides, timeout_s=timeout_s)
                return

    def jump(self, seconds: float) -> None:
        """Moves time on in one step, as when the machine was suspended. Returns at once, without waiting for anybody.

        Whoever waits for one of the moments on the way is woken when all of them are over: ticks are late then, or missed.

        Raises:
            UsageError: that is no number.
            ValueError: time does not go back, nor to infinity.
        """
        refuse_other_times("jump", seconds)
        self._move(seconds)

    def _move(self, seconds: float) -> None:
        with self._changed:
            due = self._move_locked(self._monotonic_s + seconds)
        for parkable in due:
            parkable.unpark()

    def _move_locked(self, moment_s: float) -> list[Parkable]:
        """Moves time to a moment; returns whom to wake."""
        self._wall_s += moment_s - self._monotonic_s
        self._monotonic_s = moment_s
        return [waiter.parkable for waiter in self._waiters if waiter.deadline_s <= moment_s]

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
            UsageError: the arguments do not fit.
            TimeoutError: there were fewer.
        """
        refuse("wait_for_waiters()", checks.whole_number("count", count, 0), patience("timeout_s", timeout_s))
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._waits_locked()) >= count, timeout_s):
                found = len(self._waits_locked())
                raise TimeoutError(f"{found} threads wait for a moment, not {count}, after {timeout_s} real seconds")
            return self._waits_locked()

    def _waits_locked(self) -> tuple[float, ...]:
        """Without those that were woken already and have not come round to leave."""
        now_s = self._monotonic_s
        return tuple(sorted(waiter.deadline_s - now_s for waiter in self._waiters if waiter.deadline_s > now_s))

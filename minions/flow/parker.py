"""The parker: where one thread sleeps until it is woken."""

from __future__ import annotations

import threading

__all__ = ["Parker"]


class Parker:
    """A binary permit, for one waiting thread and any number of wakers.

    `unpark` leaves the permit, `park` takes it and waits for it where there is none; so a wake-up that comes just before
    the wait is not lost, and several in a row count as one. Whoever parks looks again at what it waits for, because a
    permit may be older than the wait.

    The permit is the lock being free. That two wakers cannot both release it rests on `Lock.release` being atomic, which it
    is under the GIL.
    """

    __slots__ = ("_permit",)

    def __init__(self) -> None:
        self._permit = threading.Lock()
        self._permit.acquire()

    def park(self, timeout_s: float | None) -> None:
        """Waits for the permit, at most `timeout_s` seconds. Called by the owner only."""
        if timeout_s is None:
            self._permit.acquire()
        else:
            self._permit.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))

    def unpark(self) -> None:
        """Leaves the permit. Never blocks; safe to call from any thread."""
        try:
            self._permit.release()
        except RuntimeError:
            return  # the permit is there already

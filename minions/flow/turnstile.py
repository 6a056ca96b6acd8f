"""The turnstile: where threads wait for a lock beside it, so that none is given the lock in its sleep.

A thread that waits inside of `Lock.acquire` may be given the lock while it sleeps, and then holds it while it waits for the
interpreter (the GIL). Whoever computes meanwhile comes to the lock, finds it taken and has to sleep too: a lock convoy, in which
each acquisition costs a switch of threads, and where a thread beside computes without a pause, up to a switch interval (5 ms).
Here who finds the lock taken sleeps at a place of its own. It is woken when the lock was released, and looks again; it takes the
lock only when it runs, and whoever runs sooner may have it first.

No thread and no lock of its own. It rests on single calls of a deque being atomic, and on all threads seeing these steps in one
order, as they do under the GIL.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from operator import methodcaller

from minions.flow.parker import Parker

__all__ = ["Turnstile"]


class Turnstile:
    """The way to one lock, for all who take it: ``with turnstile, lock:``.

    It keeps nobody from the lock. Who comes to the lock between another's look and that other's taking it makes it wait at the
    lock itself, and one thread that does so is enough for a convoy: `locked` says no until it runs, so that others follow. Hence
    the last look is a property made in C. CPython switches threads after a call, and not between an attribute and what follows.

    Two things make that no wake-up is lost. Who is about to sleep stands in `sleepers` before it looks at the lock for the last
    time, and who holds the lock looks at `sleepers` after it has released it. And who was woken looks again: either it gets
    the lock and wakes the next when it has released it, or whoever has the lock then will wake it. Who leaves with an error
    passes its wake-up on. Where an asynchronous exception hits the few steps of leaving, the next to pass makes it good.

    Attributes:
        is_taken: whether somebody has the lock.
        locked: the lock's method.
        sleepers: where those sleep that found the lock taken, the next to be woken first. Read by whoever has released the lock.
    """

    __slots__ = ("locked", "sleepers")

    is_taken = property(methodcaller("locked"))

    def __init__(self, lock: threading.Lock) -> None:
        self.locked = lock.locked
        self.sleepers: deque[Parker] = deque()

    def __enter__(self) -> None:
        while self.is_taken:
            self.wait()

    def __exit__(self, *_: object) -> None:
        if self.sleepers:
            self.wake_next()

    def wait(self) -> None:
        """Waits while the lock is taken. To be called while a look at it says so; the lock is then to be taken at once."""
        place = Parker()
        sleepers = self.sleepers
        sleepers.append(place)
        try:
            while self.is_taken:
                place.park(None)
                sleepers.appendleft(place)
        except BaseException:  # Ctrl-C, on the main thread
            self._leave(place)
            self.wake_next()
            raise
        self._leave(place)

    def wake_next(self) -> None:
        """Wakes one of those that sleep. To be called after the lock was released, when there are any."""
        with suppress(IndexError):  # somebody else was faster
            self.sleepers.popleft().unpark()

    def _leave(self, place: Parker) -> None:
        with suppress(ValueError):  # it was woken meanwhile, and will wake the next when it has released the lock
            self.sleepers.remove(place)

"""The observer: a thread of its own that tells whoever watches, so that a watcher who is slow delays nobody.

`_lock` guards the events that wait and the count of those that were dropped; user code is never called under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from minions.events import Event

__all__ = ["Observer"]

_MOST_WAITING = 10_000


class Observer:
    """Passes events on, in order, on a thread of its own. Bounded: what does not fit is dropped and counted."""

    def __init__(self, tell: Callable[[Event], None], on_fault: Callable[[BaseException], None], name: str) -> None:
        """Makes the observer; `start` starts its thread.

        Args:
            tell: called with each event, on the observer's thread.
            on_fault: called there with what `tell` raises.
            name: of the thread.
        """
        self._tell = tell
        self._on_fault = on_fault
        self._lock = threading.Condition(threading.Lock())
        self._waiting: deque[Event] = deque()
        self._closing = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._drive, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def post(self, event: Event) -> None:
        """Hands an event over. Returns at once; safe to call from any thread."""
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                self._dropped += 1
                return
            self._waiting.append(event)
            self._lock.notify()

    def close(self, timeout_s: float) -> bool:
        """Ends the thread once everything was told; False when that did not happen in time. Blocks."""
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def dropped(self) -> int:
        """How many events did not fit."""
        with self._lock:
            return self._dropped

    def _drive(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._tell(event)
            except BaseException as error:  # noqa: BLE001 - reported; also SystemExit, for the next event is to be told
                self._on_fault(error)

    def _next(self) -> Event | None:
        with self._lock:
            while not self._waiting and not self._closing:
                self._lock.wait()
            return self._waiting.popleft() if self._waiting else None

"""The observer: a thread of its own that tells whoever watches, so that a watcher who is slow delays nobody.

Events wait in a deque: any thread appends, the observer's takes. `_lock` guards the count of those that were dropped; it is taken
when one is dropped, and by the observer's thread. User code is never called under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from minions.clock import Clock, Parkable
from minions.events import Event, EventsDropped, SystemStopped
from minions.observe.drops import Drops
from minions.observe.hooks import Hooks
from minions.threads import Thread

__all__ = ["Observer"]

_MOST_WAITING = 10_000
_FOR_HOOKS = 0.8
"""The part of the time for the end that the hooks of plugins may take; the rest is for telling what became of them."""


def _daemon(target: Callable[[], None], name: str) -> Thread:
    return threading.Thread(target=target, name=name, daemon=True)


class Observer:
    """Passes events on, in order, on a thread of its own. Bounded: what does not fit is dropped, counted and told."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        on_fault: Callable[[BaseException], None],
        name: str,
        clock: Clock,
        parkable: Parkable,
        hooks: Hooks | None = None,
        thread: Callable[[Callable[[], None], str], Thread] = _daemon,
    ) -> None:
        """Makes the observer; `start` starts its thread.

        Args:
            tell: called with each event, on the observer's thread.
            on_fault: called there with what `tell` raises.
            name: of the thread.
            clock: by which hooks are timed.
            parkable: where its thread waits.
            hooks: those of plugins, which get each event after `tell`.
            thread: makes its thread, as `Threads.thread` does.
        """
        self._tell = tell
        self._on_fault = on_fault
        self._clock = clock
        self._parkable = parkable
        self._hooks = hooks
        self._waiting: deque[Event] = deque()
        self._lock = threading.Lock()
        self._drops = Drops("logs")
        self._news: EventsDropped | None = None  # guarded by _lock, as _drops
        self._closing = False  # written once, before the thread is woken
        self._close_timeout_s = 0.0
        self._thread = thread(self._drive, name)

    def start(self) -> None:
        if self._hooks is not None:
            self._hooks.begin(self.post, self._parkable.unpark)
        self._thread.start()

    def post(self, event: Event) -> None:
        """Hands an event over. Returns at once; safe to call from any thread."""
        # Several threads may find room at once: so many more then wait. The last event is the one that matters most.
        if len(self._waiting) < _MOST_WAITING or isinstance(event, SystemStopped):
            self._waiting.append(event)
        else:
            with self._lock:
                self._news = self._drops.add() or self._news
        self._parkable.unpark()

    def close(self, timeout_s: float) -> bool:
        """Ends the thread once everything was told; False when that did not happen in time. Blocks.

        It may be called before `start`: then there is nothing to tell.
        """
        if self._thread.ident is None:
            return True
        self._close_timeout_s = timeout_s
        self._closing = True
        self._parkable.unpark()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def dropped(self) -> int:
        """How many events did not fit."""
        with self._lock:
            return self._drops.total

    # ------------------------------------------------------------------ on the observer's thread
    def _drive(self) -> None:
        while not self._closing:
            self._tell_all()
            due_s = self._hooks.look() if self._hooks is not None else None
            if not self._waiting and not self._closing:
                self._clock.wait(self._parkable, due_s)
        self._tell_all()
        with self._lock:
            news = self._drops.close(0)
        if news is not None:
            self._pass_on(news)
        if self._hooks is not None:
            hooks, self._hooks = self._hooks, None
            hooks.close(_FOR_HOOKS * self._close_timeout_s)
            self._tell_all()  # what became of them

    def _tell_all(self) -> None:
        while self._waiting:
            self._pass_on(self._waiting.popleft())
            with self._lock:
                news, self._news = self._news or self._drops.room(not self._waiting), None
            if news is not None:
                self._pass_on(news)

    def _pass_on(self, event: Event) -> None:
        try:
            self._tell(event)
        except BaseException as error:  # noqa: BLE001 - reported; also SystemExit, for the next event is to be told
            self._on_fault(error)
        if self._hooks is not None:
            self._hooks.post(event)
            self._hooks.look()

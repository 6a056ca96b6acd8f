"""The pace of something that is limited, shared by all replicas and lives of a component. The lock guards the moments."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable

from minions.model.rates import Rate

__all__ = ["Pace", "Paces"]


class Pace:
    """Lets something begin as often as its rates allow, all of them at once. Any thread; never waits."""

    def __init__(self, rates: tuple[Rate, ...]) -> None:
        self._lock = threading.Lock()
        self._begun: list[tuple[Rate, deque[float]]] = [(rate, deque()) for rate in rates]  # moments, the newest last

    def take(self, now_s: float) -> float | None:
        """Has it begin at the monotonic moment `now_s`: None; or says when to ask again, if it may not begin yet."""
        with self._lock:
            ready_s = self._ready_s_locked(now_s)
            if ready_s > now_s:
                return ready_s
            for rate, begun in self._begun:
                if len(begun) == rate.calls:
                    begun.popleft()
                begun.append(now_s)
            return None

    def give_back(self, begun_s: float) -> None:
        """Says that what was let begin at a moment did not begin after all."""
        with self._lock:
            for _, begun in self._begun:
                if begun_s in begun:
                    begun.remove(begun_s)

    def ready_s(self, now_s: float) -> float:
        """From when on it may begin: `now_s`, or later."""
        with self._lock:
            return self._ready_s_locked(now_s)

    def _ready_s_locked(self, now_s: float) -> float:
        ready_s = now_s
        for rate, begun in self._begun:
            if len(begun) == rate.calls:
                ready_s = max(ready_s, begun[0] + rate.per_s)
        return ready_s


class Paces:
    """The paces of one component: of its inboxes, by their names, and of its methods. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the table
        self._paces: dict[Hashable, Pace] = {}

    def of(self, limited: Hashable, rates: tuple[Rate, ...]) -> Pace:
        """The pace of one of them; its rates are the same each time."""
        with self._lock:
            pace = self._paces.get(limited)
            if pace is None:
                pace = self._paces[limited] = Pace(rates)
            return pace

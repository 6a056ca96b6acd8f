"""Counting what did not fit. No lock: whoever has the queue guards this with it."""

from __future__ import annotations

from minions.events import EventsDropped

__all__ = ["Drops"]


class Drops:
    """How many events were dropped, and what is still to be told of it: the first at once, the others when there is room again.

    Attributes:
        total: how many were dropped.
    """

    def __init__(self, readers: str) -> None:
        self.total = 0
        self._readers = readers
        self._told = 0
        self._goes_on = False
        self._plugin = ""

    def add(self, plugin: str = "") -> EventsDropped | None:
        """Counts one; returns what is to be told now."""
        self.total += 1
        self._plugin = plugin
        if self._goes_on:
            return None
        self._goes_on = True
        return self._untold()

    def room(self, enough: bool) -> EventsDropped | None:
        """Says that one did fit, and whether there is room for many more; returns what is to be told now."""
        if not self._goes_on or not enough:
            return None
        self._goes_on = False
        return self._untold()

    def close(self, more: int) -> EventsDropped | None:
        """Counts those that will never be told; returns what is to be told at last."""
        self.total += more
        return self._untold()

    def _untold(self) -> EventsDropped | None:
        dropped, self._told = self.total - self._told, self.total
        return EventsDropped(self._readers, dropped, self.total, self._plugin) if dropped else None

"""Helpers for tests of hooks: an observer with plugins under a clock that stands still, and what it has told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minions import events
from minions.clock import Clock
from minions.flow.parker import Parker
from minions.observe.observer import Observer
from minions.observe.plugins import Plugins
from minions.testing import FakeClock
from tests.ending import no_thread_is_left

PATIENCE_S = 20.0
"""Only a test that fails waits so long."""


class Told:
    """What was told, in order, by any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Any] = []

    def __call__(self, entry: Any) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def wait_for(self, *wanted: Any) -> list[Any]:
        """Blocks until each of these was told, and returns everything."""
        with self._changed:
            assert self._changed.wait_for(lambda: all(each in self._entries for each in wanted), PATIENCE_S), (
                self._entries
            )
            return list(self._entries)

    def wait_until(self, predicate: Callable[[list[Any]], bool]) -> None:
        """Blocks until the entries are as wished."""
        with self._changed:
            assert self._changed.wait_for(lambda: predicate(self._entries), PATIENCE_S), self._entries

    def wait_for_kind(self, kind: type[Any], count: int = 1) -> list[Any]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._of(kind)) >= count, PATIENCE_S), self._entries
            return self._of(kind)

    def _of(self, kind: type[Any]) -> list[Any]:
        return [entry for entry in self._entries if isinstance(entry, kind)]

    @property
    def entries(self) -> list[Any]:
        with self._changed:
            return list(self._entries)


class Watched:
    """An observer, its plugins, and what it has told."""

    def __init__(self, tell: Callable[[events.Event], None] | None = None, clock: Clock | None = None) -> None:
        self.plugins = Plugins("s")
        self.clock = FakeClock()
        self.told = Told()
        self.faults = Told()
        self.observer: Observer
        self._tell = tell or self.told
        self._clock = clock or self.clock

    def start(self) -> Watched:
        hooks = self.plugins.begin(self._clock, "s/plugins")
        self.observer = Observer(self._tell, self.faults, "s/observer", self._clock, Parker(), hooks)
        self.observer.start()
        return self

    def post(self, *posted: events.Event) -> None:
        for event in posted:
            self.observer.post(event)


@pytest.fixture
def watched() -> Iterator[Watched]:
    """An observer with the plugins that the test registers before it calls `start`; what is installed is left alone."""
    made = Watched()
    made.plugins.configure(installed=False)
    yield made
    if hasattr(made, "observer"):
        made.observer.close(PATIENCE_S)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left(PATIENCE_S):
        yield

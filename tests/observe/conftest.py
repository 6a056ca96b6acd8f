"""Helpers for tests of hooks: an observer with plugins under a clock that stands still, and what it has told."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minions import events
from minions.clock import Clock
from minions.flow.parker import Parker
from minions.hookspecs import hookimpl
from minions.observe.observer import Observer
from minions.observe.plugins import Plugins
from minions.testing import FakeClock
from tests.ending import no_thread_is_left

PATIENCE_S = 20.0
"""Only a test that fails waits so long."""

STARTED = events.SystemStarted(1)
PAUSED = events.ComponentPaused("c", 1, "operator")
RESUMED = events.ComponentResumed("c", 1)


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


class Noting:
    """A plugin that notes everything."""

    def __init__(self) -> None:
        self.told = Told()

    @hookimpl
    def event(self, event: events.Event) -> None:
        self.told(event)


class Hanging:
    """A plugin that hangs when a component is paused, until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.go = threading.Event()

    @hookimpl
    def component_paused(self) -> None:
        self.reached.release()
        assert self.go.wait(PATIENCE_S)

    @hookimpl
    def component_resumed(self) -> None:
        self.reached.release()


def module_of(**functions: Any) -> types.ModuleType:
    module = types.ModuleType("planted")
    for name, function in functions.items():
        function.__module__ = "planted"
        setattr(module, name, function)
    return module


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left(PATIENCE_S):
        yield

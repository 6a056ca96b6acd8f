"""Hooks of plugins that are too slow, or take too much of the processor: what is dropped is counted and told."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from minions import UsageError, events
from minions.hookspecs import hookimpl
from minions.observe import hooks, observer
from minions.observe.drops import Drops
from minions.observe.plugins import Plugins
from tests.observe.conftest import PATIENCE_S, PAUSED, RESUMED, STARTED, Hanging, Noting, Told, Watched
from tests.observe.test_hooks import STOPPED

# What does not fit ----------------------------------------------------------------------------------------------------


def test_what_plugins_are_too_slow_for_is_dropped_counted_and_told(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_MOST_WAITING", 10)
    hanging, noting = Hanging(), Noting()
    watched.plugins.register(noting)
    watched.plugins.register(hanging, "slow")
    watched.start().post(PAUSED)
    assert hanging.reached.acquire(timeout=PATIENCE_S)
    watched.post(*[RESUMED] * 15)
    [first] = watched.told.wait_for_kind(events.EventsDropped)
    assert first == events.EventsDropped("plugins", 1, 1, "slow")
    watched.post(STARTED)
    watched.told.wait_for(STARTED)
    hanging.go.set()
    for _ in range(10):
        assert hanging.reached.acquire(timeout=PATIENCE_S)
    watched.post(STOPPED)
    watched.observer.close(PATIENCE_S)

    dropped = watched.told.wait_for_kind(events.EventsDropped)
    assert sum(event.dropped for event in dropped) == dropped[-1].total == 7  # 5, the first report, and STARTED
    assert noting.told.entries[:11] == [PAUSED, *[RESUMED] * 10]
    assert STOPPED in noting.told.entries
    assert watched.told.entries[:16] == [PAUSED, *[RESUMED] * 15]


def test_the_end_is_told_however_many_wait(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_MOST_WAITING", 10)
    hanging, noting = Hanging(), Noting()
    watched.plugins.register(noting)
    watched.plugins.register(hanging)
    watched.start().post(PAUSED)
    assert hanging.reached.acquire(timeout=PATIENCE_S)
    watched.post(*[RESUMED] * 20, STOPPED)
    watched.told.wait_for(STOPPED)
    hanging.go.set()
    noting.told.wait_for(STOPPED)


def test_what_the_logs_are_too_slow_for_is_dropped_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "_MOST_WAITING", 10)
    told, reached, go = Told(), threading.Event(), threading.Event()

    def tell(event: events.Event) -> None:
        reached.set()
        assert go.wait(PATIENCE_S)
        told(event)

    watched = Watched(tell)
    watched.plugins.configure(installed=False)
    watched.start().post(PAUSED)
    assert reached.wait(PATIENCE_S)
    watched.post(*[RESUMED] * 15, STOPPED)
    assert watched.observer.dropped == 5
    go.set()
    assert watched.observer.close(PATIENCE_S)

    dropped = [event for event in told.entries if isinstance(event, events.EventsDropped)]
    assert [(event.readers, event.dropped, event.total) for event in dropped] == [("logs", 1, 1), ("logs", 4, 5)]
    assert [event for event in told.entries if event not in dropped] == [PAUSED, *[RESUMED] * 10, STOPPED]


def test_drops_are_told_when_they_begin_and_when_there_is_room_again() -> None:
    drops = Drops("logs")
    assert drops.room(True) is None
    assert drops.add() == events.EventsDropped("logs", 1, 1)
    assert drops.add("p") is None
    assert drops.room(False) is None
    assert drops.room(True) == events.EventsDropped("logs", 1, 2, "p")
    assert drops.add() == events.EventsDropped("logs", 1, 3)
    assert drops.room(True) is None
    assert drops.close(0) is None
    assert drops.close(4) == events.EventsDropped("logs", 4, 7)
    assert drops.total == 7


def test_what_the_logs_raise_is_reported_and_the_next_event_is_told() -> None:
    told, error = Told(), SystemExit(3)

    def tell(event: events.Event) -> None:
        told(event)
        raise error

    watched, noting = Watched(tell), Noting()
    watched.plugins.configure(installed=False)
    watched.plugins.register(noting)
    watched.start().post(PAUSED, RESUMED)
    watched.observer.close(PATIENCE_S)
    assert told.entries == noting.told.entries == [PAUSED, RESUMED]
    assert watched.faults.entries == [error, error]


def test_a_plugin_describes_itself_while_nothing_is_locked() -> None:
    plugins = Plugins("s")

    class Describing:
        def __repr__(self) -> str:
            described.append(plugins.list())
            return "Describing"

    described: list[Any] = []

    def unregister() -> None:
        with pytest.raises(UsageError, match="there is no plugin Describing that could be"):
            plugins.unregister(Describing())
        described.append("refused")

    thread = threading.Thread(target=unregister, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert described == [(), "refused"]


# What takes too much ------------------------------------------------------------------------------------------------


class Computing:
    """A plugin that computes for a while whenever a component is paused, and counts how often it has."""

    def __init__(self) -> None:
        self.count = 0
        self.has_had_its_way = threading.Event()

    @hookimpl
    def component_paused(self) -> None:
        until_s = time.thread_time() + 0.002
        while time.thread_time() < until_s:
            pass
        self.count += 1
        if self.count == 100:
            self.has_had_its_way.set()


def test_hooks_may_be_given_a_whole_core(watched: Watched) -> None:
    computing = Computing()
    watched.plugins.register(computing)
    watched.plugins.hook_cpu_ratio = 1.0
    watched.start().post(*[PAUSED] * 300)
    assert computing.has_had_its_way.wait(PATIENCE_S), "a fifth of a second, and ten with the share that is the default"
    watched.observer.close(PATIENCE_S)


def test_hooks_that_compute_get_their_share_of_a_core_and_no_more(watched: Watched) -> None:
    computing = Computing()
    watched.plugins.register(computing)
    watched.start().post(*[PAUSED] * 300)
    assert not computing.has_had_its_way.wait(1.5), "a fifth of a second without pauses, and ten seconds with them"
    watched.observer.close(PATIENCE_S)
    assert computing.count == 300, "at the end there are none"

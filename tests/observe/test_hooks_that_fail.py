"""Hooks of plugins that raise or hang: they are told of and left behind, and harm nobody."""

from __future__ import annotations

import threading

import pytest

from minions import events
from minions.clock import Parkable
from minions.hookspecs import hookimpl
from minions.observe import hooks
from minions.observe.plugin import IMPORT, HookCall, Plugin
from minions.testing import FakeClock
from tests.observe.conftest import PATIENCE_S, PAUSED, RESUMED, STARTED, Hanging, Noting, Told, Watched
from tests.observe.test_hooks import STOPPED

# What raises ----------------------------------------------------------------------------------------------------------


class Indescribable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), Indescribable()])
def test_an_error_is_told_once_with_its_traceback_and_counted_each_time(watched: Watched, error: BaseException) -> None:
    class Raising:
        @hookimpl
        def component_paused(self, event: events.ComponentPaused) -> None:
            raise error

    noting = Noting()
    watched.plugins.register(noting)
    watched.plugins.register(Raising(), "raising")
    watched.start().post(PAUSED, PAUSED, PAUSED, RESUMED)
    noting.told.wait_for(RESUMED)
    watched.observer.close(PATIENCE_S)

    [failed] = watched.told.wait_for_kind(events.PluginFailed)
    assert (failed.plugin, failed.hook) == ("raising", "component_paused")
    assert failed.error.startswith(type(error).__name__)
    assert "raise error" in failed.traceback
    assert hooks.__file__ not in failed.traceback
    assert noting.told.entries[:3] == [PAUSED] * 3
    assert failed in noting.told.entries
    assert [(plugin.name, plugin.calls, plugin.faults) for plugin in watched.plugins.list()][1:] == [("raising", 3, 3)]
    assert watched.faults.entries == []


def test_each_hook_of_a_plugin_has_its_own_first_error(watched: Watched) -> None:
    class Raising:
        @hookimpl
        def component_paused(self) -> None:
            raise ValueError

        @hookimpl
        def event(self) -> None:
            raise OSError

    watched.plugins.register(Raising())
    watched.start().post(PAUSED, PAUSED)
    watched.observer.close(PATIENCE_S)
    told = watched.told.wait_for_kind(events.PluginFailed)
    assert [(failed.hook, failed.error) for failed in told] == [
        ("component_paused", "ValueError"),
        ("event", "OSError"),
    ]


def test_an_error_that_is_only_counted_is_not_described(watched: Watched) -> None:
    described = Told()

    class Dear(Exception):
        def __str__(self) -> str:
            described(PAUSED)
            return "dear"

    class Raising:
        @hookimpl
        def component_paused(self) -> None:
            raise Dear

    noting = Noting()
    watched.plugins.register(noting)
    watched.plugins.register(Raising(), "raising")
    watched.start().post(PAUSED)
    noting.told.wait_for(PAUSED)
    watched.told.wait_for_kind(events.PluginFailed)
    once = len(described.entries)
    watched.observer.post(PAUSED)
    watched.observer.post(RESUMED)
    noting.told.wait_for(RESUMED)
    watched.observer.close(PATIENCE_S)
    assert len(described.entries) == once > 0
    assert [plugin.faults for plugin in watched.plugins.list() if plugin.name == "raising"] == [2]


def test_what_was_counted_begins_anew_with_each_start(watched: Watched) -> None:
    class Raising:
        @hookimpl
        def event(self) -> None:
            raise ValueError

    watched.plugins.register(Raising())
    for _ in range(2):
        watched.start().post(PAUSED)
        watched.observer.close(PATIENCE_S)
        [status] = watched.plugins.list()
        assert (status.calls, status.faults) in [(1, 1), (2, 2)]  # its own failure may be told to it as well
    assert len(watched.told.wait_for_kind(events.PluginFailed)) == 2


# What hangs -----------------------------------------------------------------------------------------------------------


def test_a_hook_that_hangs_is_left_behind_and_the_others_go_on_where_it_was(watched: Watched) -> None:
    hanging, before, behind = Hanging(), Noting(), Noting()
    watched.plugins.register(behind, "behind")
    watched.plugins.register(hanging, "hanging")
    watched.plugins.register(before, "before")
    watched.start().post(PAUSED)
    try:
        assert hanging.reached.acquire(timeout=PATIENCE_S)
        assert watched.clock.wait_for_waiters() == (10.0,)
        watched.post(RESUMED)
        watched.told.wait_for(RESUMED)
        watched.clock.advance(9.5)
        watched.post(STARTED)
        watched.told.wait_for(STARTED)
        assert watched.told.entries == [PAUSED, RESUMED, STARTED]
        assert behind.told.entries == []

        watched.clock.advance(0.5)

        [aside] = watched.told.wait_for_kind(events.PluginSetAside)
        behind.told.wait_for(aside)
        assert behind.told.entries == before.told.entries == [PAUSED, RESUMED, STARTED, aside]
        assert (aside.plugin, aside.hook, aside.hung_s) == ("hanging", "component_paused", 10.0)
        assert "assert self.go.wait(PATIENCE_S)" in aside.stack
        assert hooks.__file__ not in aside.stack
        [status] = [plugin for plugin in watched.plugins.list() if plugin.name == "hanging"]
        assert (status.set_aside, status.calls, status.faults, status.busy_s) == (True, 0, 1, 10.0)
    finally:
        abandoned = [thread for thread in threading.enumerate() if thread.name == "s/plugins"]
        hanging.go.set()
    watched.post(PAUSED, RESUMED)
    watched.observer.close(PATIENCE_S)
    for thread in abandoned:
        thread.join(PATIENCE_S)
    assert not hanging.reached.acquire(blocking=False)
    assert behind.told.entries[-2:] == [PAUSED, RESUMED]
    assert len(watched.told.wait_for_kind(events.PluginSetAside)) == 1
    assert (
        next(plugin for plugin in watched.plugins.list() if plugin.name == "hanging") == status
    )  # its return is not counted


def test_how_long_a_hook_may_take_can_be_said(watched: Watched) -> None:
    hanging = Hanging()
    watched.plugins.register(hanging)
    watched.plugins.hook_timeout_s = 2.5
    watched.start().post(PAUSED)
    try:
        assert hanging.reached.acquire(timeout=PATIENCE_S)
        assert watched.clock.wait_for_waiters() == (2.5,)
        watched.clock.advance(2.5)
        watched.told.wait_for_kind(events.PluginSetAside)
    finally:
        hanging.go.set()


def test_one_that_hangs_after_another_is_left_behind_as_well(watched: Watched) -> None:
    first, second, noting = Hanging(), Hanging(), Noting()
    for name, plugin in {"noting": noting, "second": second, "first": first}.items():
        watched.plugins.register(plugin, name)
    watched.start().post(PAUSED)
    try:
        for name, plugin in {"first": first, "second": second}.items():
            assert plugin.reached.acquire(timeout=PATIENCE_S)
            watched.clock.wait_for_waiters()
            watched.clock.advance(10.0)
            aside = watched.told.wait_for_kind(events.PluginSetAside, 1 if name == "first" else 2)[-1]
            assert aside.plugin == name
        noting.told.wait_for(watched.told.wait_for_kind(events.PluginSetAside, 2)[1])
        assert noting.told.entries[0] == PAUSED
    finally:
        first.go.set()
        second.go.set()


def test_time_between_two_calls_is_not_put_down_to_a_hook(watched: Watched) -> None:
    noting = Noting()
    watched.plugins.register(noting)
    watched.start()
    for number in range(20):
        started = events.SystemStarted(number)
        watched.post(started)
        noting.told.wait_for(started)
        watched.clock.advance(9.0)
    watched.observer.close(PATIENCE_S)
    assert len(noting.told.entries) == 20
    assert len(watched.told.entries) == 20


class RecordingClock(FakeClock):
    """Notes until when threads wait."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Told()

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        self.deadlines(deadline_s)
        super().wait(parkable, deadline_s)


def test_nothing_is_timed_while_no_hook_is_called() -> None:
    clock, hanging = RecordingClock(), Hanging()
    watched = Watched(clock=clock)
    watched.plugins.configure(installed=False)
    watched.plugins.register(hanging)
    watched.start().post(PAUSED)
    assert hanging.reached.acquire(timeout=PATIENCE_S)
    before = len(clock.deadlines.wait_for(clock.monotonic() + 10.0))
    hanging.go.set()
    clock.deadlines.wait_until(lambda entries: None in entries[before:])
    watched.observer.close(PATIENCE_S)


def test_what_happens_while_a_plugin_is_imported_is_told_to_it_afterwards(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go, noting = threading.Event(), threading.Event(), Noting()
    slow = Plugin("slow", "", "installed")

    def load(_: object) -> None:
        reached.set()
        assert go.wait(PATIENCE_S)
        watched.plugins._add(slow, noting)

    monkeypatch.setattr(watched.plugins, "to_load", lambda: [HookCall(slow, IMPORT, load, 60.0)])
    watched.start().post(STARTED)
    assert reached.wait(PATIENCE_S)
    watched.post(PAUSED)
    watched.told.wait_for(PAUSED)
    assert watched.clock.wait_for_waiters() == (60.0,)
    go.set()
    noting.told.wait_for(PAUSED)
    assert noting.told.entries == [STARTED, PAUSED]


def test_an_import_that_hangs_is_left_behind(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    go, late = threading.Event(), Noting()
    hung = Plugin("hung", "", "installed")

    def load(_: object) -> None:
        assert go.wait(PATIENCE_S)
        watched.plugins._add(hung, late)

    monkeypatch.setattr(watched.plugins, "to_load", lambda: [HookCall(hung, IMPORT, load, 60.0)])
    watched.start().post(STARTED)
    try:
        assert watched.clock.wait_for_waiters() == (60.0,)
        watched.clock.advance(60.0)
        [aside] = watched.told.wait_for_kind(events.PluginSetAside)
        assert (aside.plugin, aside.hook, aside.hung_s) == ("hung", "import", 60.0)
    finally:
        abandoned = [thread for thread in threading.enumerate() if thread.name == "s/plugins"]
        go.set()
    watched.observer.close(PATIENCE_S)
    for thread in abandoned:
        thread.join(PATIENCE_S)
    assert watched.plugins.list() == ()
    assert late.told.entries == []


def test_what_could_not_be_told_before_the_end_is_counted(watched: Watched) -> None:
    first, second, third = Hanging(), Hanging(), Hanging()
    for name, plugin in {"third": third, "second": second, "first": first}.items():
        watched.plugins.register(plugin, name)
    watched.start().post(PAUSED)
    assert first.reached.acquire(timeout=PATIENCE_S)
    watched.post(RESUMED, RESUMED, STOPPED)
    try:
        watched.observer.close(0.5)
        [dropped] = watched.told.wait_for_kind(events.EventsDropped)
        assert (dropped.readers, dropped.total) == ("plugins", 3)
    finally:
        for plugin in (first, second, third):
            plugin.go.set()


def test_at_the_end_nobody_waits_for_a_hook_that_hangs_and_the_others_are_told_of_the_end(watched: Watched) -> None:
    hanging, noting = Hanging(), Noting()
    watched.plugins.register(noting)
    watched.plugins.register(hanging, "hanging")
    watched.start().post(PAUSED)
    assert hanging.reached.acquire(timeout=PATIENCE_S)
    watched.post(STOPPED)
    try:
        assert watched.observer.close(1.0)
        assert noting.told.entries == [PAUSED, STOPPED]
        [aside] = watched.told.wait_for_kind(events.PluginSetAside)
        assert aside.plugin == "hanging"
    finally:
        hanging.go.set()

"""Hooks of plugins: what is called with what, on which thread, and what a plugin cannot do to anybody."""

from __future__ import annotations

import inspect
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import minions.hookspecs
from minions import PluginRefused, UsageError, events
from minions.clock import Parkable
from minions.errors import ConfigurationError
from minions.hookspecs import hookimpl
from minions.observe import hooks, hookspecs, observer
from minions.observe.drops import Drops
from minions.observe.plugin import IMPORT, HookCall, Plugin
from minions.observe.plugins import Plugins
from minions.observe.registry import hook_of
from minions.testing import FakeClock
from tests.observe.conftest import PATIENCE_S, Told, Watched

STARTED = events.SystemStarted(1)
PAUSED = events.ComponentPaused("c", 1, "operator")
RESUMED = events.ComponentResumed("c", 1)
STOPPED = events.SystemStopped(reason="finished", problems=(), survivors=(), left_messages=0, lost_messages=0)
KINDS = [kind for name in events.__all__ if issubclass(kind := getattr(events, name), events.Event)]


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


def take(event: Any) -> None: ...


# The hooks that there are ---------------------------------------------------------------------------------------------


def test_there_is_a_documented_hook_for_each_kind_of_event_and_one_for_all() -> None:
    public = {
        name: getattr(minions.hookspecs, name)
        for name in minions.hookspecs.__all__
        if name not in ("hookimpl", "RunningSystem")
    }
    assert set(public) == {hook_of(kind) for kind in KINDS} | {"attached"}
    assert {name for name in vars(hookspecs) if hasattr(getattr(hookspecs, name), "minions_spec")} == set(public)
    for name, hook in public.items():
        assert inspect.getdoc(hook), name
        assert list(inspect.signature(hook).parameters) == ["system" if name == "attached" else "event"]
        kind = next((kind for kind in KINDS if hook_of(kind) == name), None)
        if name != "attached":
            assert kind is not None
            assert hook.__annotations__["event"] == f"events.{kind.__name__}"
    assert list(minions.hookspecs.__all__) == sorted(minions.hookspecs.__all__)


@pytest.mark.parametrize(
    ("kind", "hook"),
    [
        (events.GaveUp, "gave_up"),
        (events.ComponentFailed, "component_failed"),
        (events.AfterCommitDropped, "after_commit_dropped"),
    ],
)
def test_a_hook_is_named_after_its_event(kind: type[events.Event], hook: str) -> None:
    assert hook_of(kind) == hook


# What is refused ------------------------------------------------------------------------------------------------------


async def asynchronous(event: Any) -> None: ...


def generator(event: Any) -> Any:
    yield


def imported(event: Any, other: Any) -> None: ...


def two(event: Any, other: Any) -> None: ...


def named_otherwise(happening: Any) -> None: ...


def by_keyword(*, event: Any) -> None: ...


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "unknown": (
        lambda: module_of(component_faild=hookimpl(lambda event: None)),
        r"component_faild\(\) is marked as a hook, and there is no hook component_faild; did you mean component_failed\?",
    ),
    "unknown by specname": (
        lambda: module_of(x=hookimpl(specname="gaveup")(take)),
        r"x\(\) .* no hook gaveup; did you mean gave_up\?",
    ),
    "not marked": (
        lambda: module_of(gave_up=two, y=hookimpl(specname="event")(take)),
        r"gave_up\(\) is named after a hook and not marked",
    ),
    "no hook": (lambda: object(), "it has no hook: write a function"),
    "a class": (lambda: Noting, r"Noting is a class: give an object of it, such as Noting\(\)"),
    "asynchronous": (lambda: module_of(gave_up=hookimpl(asynchronous)), r"gave_up\(\) would not run when it is called"),
    "a generator": (lambda: module_of(gave_up=hookimpl(generator)), r"gave_up\(\) would not run when it is called"),
    "a wrapper": (lambda: module_of(gave_up=hookimpl(wrapper=True)(generator)), r"gave_up\(\) is marked as a wrapper"),
    "other arguments": (
        lambda: module_of(gave_up=hookimpl(two)),
        r"gave_up\(event: .*, other: .*\) is not called with that",
    ),
    "another name": (
        lambda: module_of(gave_up=hookimpl(named_otherwise)),
        r"gave_up\(happening: .*\) is not called with that",
    ),
    "a keyword": (lambda: module_of(gave_up=hookimpl(by_keyword)), "is not called with that"),
    "one hook twice": (
        lambda: module_of(gave_up=hookimpl(take), z=hookimpl(specname="gave_up")(lambda event: None)),
        r"gave_up\(\) and z\(\) are both the hook gave_up",
    ),
}


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_be_called_or_wrongly_is_refused_by_name(
    make: Callable[[], object], problem: str, watched: Watched
) -> None:
    with pytest.raises(PluginRefused, match=problem) as caught:
        watched.plugins.register(make(), "mine")
    assert caught.value.plugin == "mine"
    assert str(caught.value).startswith("plugin mine was refused")
    assert watched.plugins.list() == ()
    watched.plugins.register(Noting(), "mine")


def test_everything_that_is_wrong_is_told_at_once(watched: Watched) -> None:
    class Wrong:
        @hookimpl
        def gave_upp(self, event: Any) -> None: ...

        @hookimpl
        def gave_up(self, event: Any, more: Any) -> None: ...

        def system_started(self) -> None: ...

    with pytest.raises(PluginRefused) as caught:
        watched.plugins.register(Wrong())
    assert len(caught.value.problems) == 3


def test_two_plugins_cannot_have_one_name_and_one_not_two(watched: Watched) -> None:
    first = Noting()
    assert watched.plugins.register(first) == "Noting"
    with pytest.raises(PluginRefused, match="plugin Noting was refused: there is a plugin of that name"):
        watched.plugins.register(Noting())
    with pytest.raises(
        PluginRefused, match=r"plugin other was refused: this object, .* is registered as Noting already"
    ):
        watched.plugins.register(first, "other")
    assert [plugin.name for plugin in watched.plugins.list()] == ["Noting"]


def test_properties_are_not_looked_at_and_imported_names_are_not_meant(watched: Watched) -> None:
    class Careful(Noting):
        @property
        def precious(self) -> None:
            raise AssertionError

    watched.plugins.register(Careful())
    module = module_of(system_stopped=hookimpl(take))
    module.event = imported  # type: ignore[attr-defined]  # of another module, as `from there import event` makes it
    watched.plugins.register(module)
    assert [plugin.hooks for plugin in watched.plugins.list()] == [("system_stopped",), ("event",)]


def test_an_optional_hook_need_not_exist(watched: Watched) -> None:
    watched.plugins.register(module_of(of_later=hookimpl(optionalhook=True)(two), gave_up=hookimpl(take)), "p")
    assert watched.plugins.list()[0].hooks == ("gave_up",)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "10", None, True])
def test_a_timeout_that_cannot_be_is_refused(watched: Watched, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be above 0"):
        watched.plugins.hook_timeout_s = seconds


# What is called -------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order_with_the_event_itself_on_one_thread_of_their_own(watched: Watched) -> None:
    calls = Told()

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def note(self, hook: str, event: Any) -> None:
            calls((self.name, hook, event, threading.current_thread().name))

        @hookimpl
        def component_paused(self, event: events.ComponentPaused) -> None:
            self.note("component_paused", event)

        @hookimpl
        def component_resumed(self) -> None:
            self.note("component_resumed", None)

        @hookimpl
        def event(self, event: events.Event) -> None:
            self.note("event", event)

    class First(Named):
        @hookimpl(tryfirst=True)
        def component_paused(self, event: events.ComponentPaused) -> None:
            self.note("component_paused", event)

    watched.plugins.register(First("first"), "first")
    watched.plugins.register(Named("a"), "a")
    watched.plugins.register(Named("b"), "b")
    watched.start().post(PAUSED, RESUMED)
    watched.observer.close(PATIENCE_S)

    assert calls.entries == [
        (*call, "s/plugins")
        for call in [
            ("first", "component_paused", PAUSED),
            ("b", "component_paused", PAUSED),
            ("a", "component_paused", PAUSED),
            ("b", "event", PAUSED),
            ("a", "event", PAUSED),
            ("first", "event", PAUSED),
            ("b", "component_resumed", None),
            ("a", "component_resumed", None),
            ("first", "component_resumed", None),
            ("b", "event", RESUMED),
            ("a", "event", RESUMED),
            ("first", "event", RESUMED),
        ]
    ]
    assert watched.told.entries == [PAUSED, RESUMED]
    assert [(plugin.name, plugin.calls, plugin.faults) for plugin in watched.plugins.list()] == [
        ("a", 4, 0),
        ("b", 4, 0),
        ("first", 4, 0),
    ]


def test_every_kind_of_event_reaches_the_hook_of_its_name(watched: Watched) -> None:
    told = Told()
    made: dict[str, Any] = {}
    for kind in KINDS:
        if kind is not events.Event:
            made[hook_of(kind)] = hookimpl(eval(f"lambda event: told({hook_of(kind)!r})", {"told": told}))
    watched.plugins.register(module_of(**made), "all")
    watched.start()
    happened = [object.__new__(kind) for kind in KINDS if kind is not events.Event]
    watched.post(*happened)
    watched.observer.close(PATIENCE_S)
    assert told.entries == [hook_of(type(event)) for event in happened]


def test_a_kind_of_event_that_has_no_hook_is_told_to_those_that_take_all(watched: Watched) -> None:
    @attrs.frozen
    class Own(events.Event): ...

    plugin = Noting()
    watched.plugins.register(plugin)
    watched.start().post(Own())
    plugin.told.wait_for(Own())


def test_a_plugin_may_come_and_go_while_the_system_runs(watched: Watched) -> None:
    first, second = Noting(), Noting()
    watched.plugins.register(first, "first")
    watched.start().post(STARTED)
    first.told.wait_for(STARTED)
    watched.plugins.register(second, "second")
    watched.plugins.unregister(first)
    watched.post(PAUSED)
    second.told.wait_for(PAUSED)
    watched.plugins.unregister("second")
    watched.post(RESUMED)
    watched.told.wait_for(RESUMED)
    watched.observer.close(PATIENCE_S)

    assert (first.told.entries, second.told.entries) == ([STARTED], [PAUSED])
    with pytest.raises(UsageError, match=r"s: there is no plugin 'second' that could be unregistered; there are: none"):
        watched.plugins.unregister("second")


def test_without_plugins_there_is_no_thread_for_them(watched: Watched) -> None:
    watched.start().post(STARTED, PAUSED)
    watched.told.wait_for(PAUSED)
    for thread in threading.enumerate():
        if thread.name == "s/plugins":  # it has looked for what is installed, and ends
            thread.join(PATIENCE_S)
    watched.post(RESUMED)
    watched.told.wait_for(RESUMED)
    assert "s/plugins" not in [thread.name for thread in threading.enumerate()]
    assert watched.clock.waits() == ()


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

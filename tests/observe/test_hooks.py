"""Hooks of plugins: which there are, what is refused, what is called with what, on which thread."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import minions.hookspecs
from minions import PluginRefused, UsageError, events
from minions.errors import ConfigurationError
from minions.hookspecs import hookimpl
from minions.observe import hookspecs
from minions.observe.registry import hook_of
from tests.observe.conftest import PATIENCE_S, PAUSED, RESUMED, STARTED, Noting, Told, Watched, module_of

STOPPED = events.SystemStopped(reason="finished", problems=(), survivors=(), left_messages=0, lost_messages=0)
KINDS = [kind for name in events.__all__ if issubclass(kind := getattr(events, name), events.Event)]


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

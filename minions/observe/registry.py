"""What is registered with pluggy, checked before: a plugin that would never be called, or wrongly, is refused with what is wrong.

Imported only where there is a plugin. No thread; whoever has a registry guards it with a lock.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import attrs
import pluggy

from minions import events
from minions.errors import PluginRefused
from minions.observe import hookspecs
from minions.observe.plugin import ATTACHED, HookCall, Plugin

__all__ = ["Candidate", "Registry", "hook_of"]

_ALL = "event"


def hook_of(kind: type[events.Event]) -> str:
    """The name of the hook for a kind of event: that of its class in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


_KINDS = {
    hook_of(kind): kind
    for name in events.__all__
    if issubclass(kind := getattr(events, name), events.Event) and kind is not events.Event
}
_HOOKS = (*_KINDS, _ALL, ATTACHED)


@attrs.frozen(eq=False)
class _Marked:
    """A function that is marked as a hook: under which name, what it is, and what the marker was given."""

    name: str
    function: Any
    options: Mapping[str, Any]

    @property
    def hook(self) -> str:
        hook: str = self.options["specname"] or self.name
        return hook


class _Manager(pluggy.PluginManager):
    """As pluggy's, but it looks at functions only: to look at a property would be to call it."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if not _is_function(inspect.getattr_static(plugin, name, None)):
            return None
        return super().parse_hookimpl_opts(plugin, name)


class Candidate:
    """A module or object that may become a plugin: what is found in it, without changing anything.

    Args:
        name: under which it is to be registered.
        plugin: the module or object.

    Raises:
        PluginRefused: naming everything that is wrong with it.
    """

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        self.plugin = plugin
        self._marked = list(_marked(plugin))
        problems = list(self._problems())
        if problems:
            raise PluginRefused(name, problems)

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks that it has and that there are."""
        return tuple(sorted({marked.hook for marked in self._marked} & set(_HOOKS)))

    def _problems(self) -> Iterator[str]:
        if isinstance(self.plugin, type):
            yield f"{self.plugin.__qualname__} is a class: give an object of it, such as {self.plugin.__name__}()"
            return
        for name in _unmarked(self.plugin):
            yield f"{name}() is named after a hook and not marked: write @hookimpl (of minions.hookspecs) above it, or rename it"
        taken: dict[str, str] = {}
        for marked in self._marked:
            if marked.hook not in _HOOKS:
                if not marked.options["optionalhook"]:
                    yield f"{_called(marked)} is marked as a hook, and there is no hook {marked.hook}; {_nearest(marked.hook)}"
                continue
            if marked.hook in taken:
                yield f"{taken[marked.hook]}() and {marked.name}() are both the hook {marked.hook}: make one of them"
            taken.setdefault(marked.hook, marked.name)
            yield from _not_callable(marked)
        if not self._marked:
            yield (
                "it has no hook: write a function such as `def component_failed(event): ...`, "
                "with @hookimpl (of minions.hookspecs) above it"
            )


class Registry:
    """The plugins of one system, and which of their hooks are called for which event."""

    def __init__(self) -> None:
        self._manager = _Manager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._plugins: dict[str, Plugin] = {}

    def add(self, candidate: Candidate, plugin: Plugin) -> None:
        """Raises:
        PluginRefused: its name is taken, or it is registered already.
        """
        taken = self._manager.get_name(candidate.plugin)
        if taken is not None:
            raise PluginRefused(
                candidate.name,
                [f"this object, or one that is equal to it, is registered as {taken} already: once is enough"],
            )
        if self._manager.has_plugin(candidate.name):
            raise PluginRefused(
                candidate.name,
                ["there is a plugin of that name: give this one another, with register(plugin, name=...)"],
            )
        try:
            self._manager.register(candidate.plugin, candidate.name)
        except (ValueError, pluggy.PluginValidationError) as error:
            self._manager.unregister(name=candidate.name)
            raise PluginRefused(candidate.name, [str(error)]) from error
        self._plugins[candidate.name] = plugin

    def remove(self, name: str) -> None:
        """Forgets a plugin that is registered."""
        self._manager.unregister(name=name)
        del self._plugins[name]

    def name_of(self, plugin: object) -> str | None:
        """Under which name an object is registered."""
        return self._manager.get_name(plugin)

    def calls(self) -> dict[type[events.Event], tuple[HookCall, ...]]:
        """For each kind of event, what is to be called, in that order; for `Event` itself, what is called for any other kind."""
        every = self._calls_of(_ALL)
        found = {kind: (*self._calls_of(hook), *every) for hook, kind in _KINDS.items()} | {events.Event: every}
        found[events.UnitEnded] = self._calls_of(hook_of(events.UnitEnded))  # far too many for whoever wants everything
        return {kind: calls for kind, calls in found.items() if calls}

    def attaching(self) -> tuple[HookCall, ...]:
        """What is called with the running system before anything else."""
        return self._calls_of(ATTACHED)

    def _calls_of(self, hook: str) -> tuple[HookCall, ...]:
        return tuple(
            HookCall(
                self._plugins[found.plugin_name],
                hook,
                found.function if found.argnames else _without_event(found.function),
            )
            for found in reversed(getattr(self._manager.hook, hook).get_hookimpls())
        )


def _without_event(function: Any) -> Any:
    return lambda _: function()


# ---------------------------------------------------------------------- looking at a plugin
def _marked(plugin: object) -> Iterator[_Marked]:
    for name in dir(plugin):
        if _is_function(inspect.getattr_static(plugin, name, None)):
            function = getattr(plugin, name)
            options = getattr(function, f"{hookspecs.PROJECT}_impl", None)
            if isinstance(options, dict):
                yield _Marked(name, function, {**_NO_OPTIONS, **options})


_NO_OPTIONS = {"specname": None, "optionalhook": False, "wrapper": False, "hookwrapper": False}


def _unmarked(plugin: object) -> list[str]:
    """Functions of its own that are named after a hook; what a module has imported is not meant."""
    found = []
    for hook in _HOOKS:
        function = inspect.getattr_static(plugin, hook, None)
        if _is_function(function):
            function = getattr(function, "__func__", function)
            imported = isinstance(plugin, ModuleType) and getattr(function, "__module__", "") != plugin.__name__
            if not imported and not hasattr(function, f"{hookspecs.PROJECT}_impl"):
                found.append(hook)
    return found


def _is_function(found: object) -> bool:
    return inspect.isroutine(found) or isinstance(found, (staticmethod, classmethod))


def _not_callable(marked: _Marked) -> Iterator[str]:
    """Why it cannot be called as a hook is."""
    function = marked.function
    if marked.options["wrapper"] or marked.options["hookwrapper"]:
        yield f"{_called(marked)} is marked as a wrapper: hooks of events are called one by one, there is nothing to wrap"
    elif (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        yield f"{_called(marked)} would not run when it is called: make it a plain function, without `async` and `yield`"
    given = [
        each for each in inspect.signature(function).parameters.values() if each.default is inspect.Parameter.empty
    ]
    takes = "system" if marked.hook == ATTACHED else "event"
    if [each.name for each in given] not in ([takes], []) or any(each.kind not in _BY_POSITION for each in given):
        names, which = ", ".join(str(each) for each in given), "this" if marked.hook == ATTACHED else "a"
        yield f"{marked.name}({names}) is not called with that: {which} hook takes ({takes}), or nothing"


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _called(marked: _Marked) -> str:
    return f"{marked.name}()"


def _nearest(hook: str) -> str:
    close = difflib.get_close_matches(hook, _HOOKS, 1)
    return f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(_HOOKS))}"

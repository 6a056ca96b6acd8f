"""`Plugins`: which plugins a system has, and where they come from. What calls their hooks is in `hooks`.

`_lock` guards every field; no code of a plugin is run under it, but for an `__eq__` of its own, by which pluggy compares. pluggy
is imported with the first plugin, and what is installed is looked up once a system is up, so that neither `import minions` nor a
start is slower for them.
"""

from __future__ import annotations

import functools
import importlib
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import attrs

from minions import events
from minions.clock import Clock
from minions.errors import ConfigurationError, PluginRefused, UsageError
from minions.model import checks
from minions.observe.hooks import Hooks
from minions.observe.plugin import IMPORT, HookCall, Plugin, PluginStatus
from minions.observe.units import Units

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from minions.observe.registry import Registry

__all__ = ["ENTRY_POINT_GROUP", "HOOK_CPU_RATIO", "HOOK_TIMEOUT_S", "Plugins"]

ENTRY_POINT_GROUP = "minions"
HOOK_TIMEOUT_S = 10.0
HOOK_CPU_RATIO = 0.01
"""What hooks cost the components is a few times as much where they write to files or sockets, because each such call gives up the
interpreter, and takes it away from a component at its return."""
_IMPORT_TIMEOUT_S = 60.0


class Plugins:
    """The plugins of a system: `System.plugins`. Every method may be called from any thread, also while the system runs.

    A plugin is a module or an object with functions that are marked with ``hookimpl`` of `minions.hookspecs`, which documents
    each hook. It is registered here, named in ``minions.toml``, or found by its entry point in the group ``minions``.
    """

    def __init__(self, system: str) -> None:
        self._system = system
        self._lock = threading.Lock()
        self._registry: Registry | None = None
        self._plugins: list[Plugin] = []
        self._seen: set[tuple[str, str]] = set()  # the entry points that are dealt with
        self._attaching: tuple[HookCall, ...] = ()  # replaced as a whole, as _calls
        self._calls: Mapping[type[events.Event], tuple[HookCall, ...]] = {}  # replaced as a whole, never changed
        self._disabled: frozenset[str] = frozenset()
        self._use_installed = True
        self._timeout_s = HOOK_TIMEOUT_S
        self._configured_timeout_s: float | None = None
        self._cpu_ratio = HOOK_CPU_RATIO
        self._configured_cpu_ratio: float | None = None

    # ------------------------------------------------------------------ for users
    @property
    def hook_timeout_s(self) -> float:
        """How long a hook may take, in seconds, by the clock of the system: 10, unless set otherwise, from the next start on.

        Raises:
            ConfigurationError: when it is set to what is no time above 0.
        """
        with self._lock:
            return self._timeout_s if self._configured_timeout_s is None else self._configured_timeout_s

    @hook_timeout_s.setter
    def hook_timeout_s(self, seconds: float) -> None:
        if list(checks.number("hook_timeout_s", seconds, "", most=sys.float_info.max, above=True)):
            raise ConfigurationError("Plugins", [f"hook_timeout_s = {seconds!r}: must be above 0 (seconds)"])
        with self._lock:
            self._timeout_s = seconds

    @property
    def hook_cpu_ratio(self) -> float:
        """How much of one core all hooks together may use for long, up to 1: 0.01, unless set otherwise, from the next start on.

        Beyond that the next hook waits; what is too much to wait is dropped and counted. A higher one costs the components.

        Raises:
            ConfigurationError: when it is set to what is not above 0 and at most 1.
        """
        with self._lock:
            return self._cpu_ratio if self._configured_cpu_ratio is None else self._configured_cpu_ratio

    @hook_cpu_ratio.setter
    def hook_cpu_ratio(self, ratio: float) -> None:
        if list(checks.number("hook_cpu_ratio", ratio, "", most=1.0, above=True)):
            raise ConfigurationError(
                "Plugins", [f"hook_cpu_ratio = {ratio!r}: must be above 0 and at most 1 (of a core)"]
            )
        with self._lock:
            self._cpu_ratio = ratio

    def register(self, plugin: object, name: str | None = None) -> str:
        """Adds a plugin, and returns its name. Its hooks are called for what happens from now on.

        Args:
            plugin: a module, or an object of a class (not the class).
            name: by default that of the module or the class.

        Raises:
            PluginRefused: naming everything that is wrong with it: a hook that does not exist, one that cannot be called with an
                event, no hook at all, or a name that is taken.
        """
        if name is None:
            name = plugin.__name__ if isinstance(plugin, (ModuleType, type)) else type(plugin).__qualname__
        found = Plugin(name, _version_of(plugin), "registered")
        self._add(found, plugin)
        return name

    def unregister(self, plugin: object) -> None:
        """Removes a plugin: no further hook of it is called. A hook that is being called goes on.

        Args:
            plugin: what was registered, or its name.

        Raises:
            UsageError: there is no such plugin.
        """
        with self._lock:
            name = plugin if isinstance(plugin, str) else self._registry and self._registry.name_of(plugin)
            found = next((each for each in self._plugins if each.name == name and each.hooks), None)
            names = ", ".join(sorted(each.name for each in self._plugins if each.hooks)) or "none"
            if found is not None:
                self._remove_locked(found)
        if found is None:  # said without the lock, because how a plugin describes itself is its own code
            raise UsageError(
                f"{self._system}: there is no plugin {plugin!r} that could be unregistered; there are: {names}"
            )

    def list(self) -> tuple[PluginStatus, ...]:
        """Every plugin that is registered or was found, by name, with what was counted since the system was started.

        What is installed is in it once the system is up, or after `load`.
        """
        with self._lock:
            return tuple(sorted((plugin.status for plugin in self._plugins), key=lambda status: status.name))

    def load(self) -> None:
        """Imports the installed plugins now, on this thread, as the system does by itself when it is up. Blocks.

        One that cannot be imported or is not what a plugin must be is in `list()`, with what is wrong.
        """
        for load in self.to_load():
            try:
                load.function(None)
            except Exception:  # noqa: BLE001 - kept as the problem of that plugin, which `list` shows
                continue

    # ------------------------------------------------------------------ for the system
    def configure(
        self,
        *,
        load: Sequence[str] = (),
        disabled: Iterable[str] = (),
        installed: bool = True,
        hook_timeout_s: float | None = None,
        hook_cpu_ratio: float | None = None,
        settings: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    ) -> Sequence[str]:
        """Does what ``minions.toml`` says; returns what is wrong with it, one sentence each. Imports what it names.

        Args:
            load: modules, or objects in modules: ``"package.module"``, ``"package.module:Class"``.
            disabled: names of installed plugins that are not used.
            installed: whether any installed plugin is used.
            hook_timeout_s: how long a hook may take, in the place of what the program says; None: as that says.
            hook_cpu_ratio: likewise how much of a core hooks may use.
            settings: the tables ``[plugins.<name>]``. A plugin that is named there and installed is loaded at once, so that what
                is wrong with its settings is said before anything starts.
        """
        with self._lock:
            self._disabled = frozenset(disabled)
            self._use_installed = installed
            self._configured_timeout_s = hook_timeout_s
            self._configured_cpu_ratio = hook_cpu_ratio
            configured = [plugin.name for plugin in self._plugins if plugin.source == "configured"]
            for plugin in [*self._plugins]:
                unwanted = plugin.name in self._disabled or not installed
                if (plugin.source == "configured" and plugin.name not in load) or (
                    plugin.source == "installed" and unwanted
                ):
                    self._remove_locked(plugin)
        problems = []
        for index, name in enumerate(load):
            if name in load[:index]:
                problems.append(f'[plugins] load[{index}] = "{name}": it is named twice')
            elif name not in configured:
                try:
                    made = _made(_named(name))
                    self._add(Plugin(name, _version_of(made), "configured"), made)
                except PluginRefused as error:
                    problems += [f'[plugins] load[{index}] = "{name}": {problem}' for problem in error.problems]
                except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the import raises is what is wrong
                    problems.append(f'[plugins] load[{index}] = "{name}": {type(error).__name__}: {error}')
        return [*problems, *self._set_all(settings)]

    def _set_all(self, settings: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
        """Gives plugins the settings that a file has for them, and back their own where it has none any more."""
        with self._lock:
            plugins = {plugin.name: plugin for plugin in self._plugins}
        for plugin in plugins.values():
            if plugin.own_settings is not None and plugin.name not in settings:
                plugin.found.settings, plugin.own_settings = plugin.own_settings, None
        problems = []
        for name, table in settings.items():
            found = plugins.get(name)
            if found is None or found.found is None:
                found = self._loaded(name) or found
            if found is None:
                problems.append(
                    f"[plugins.{name}]: it is disabled; enable it, or delete the table"
                    if name in self._disabled
                    else f"[plugins.{name}]: there is no plugin of that name, registered or installed: "
                    "install it, or delete the table"
                )
            elif found.found is None:
                problems.append(f"[plugins.{name}]: {found.problem}")
            else:
                problems += _set(found, table)
        return problems

    def _loaded(self, name: str) -> Plugin | None:
        """The installed plugin of that name, with its `problem` where it cannot be used."""
        calls = [call for call in self.to_load(name) if call.plugin.name == name]
        for call in calls:
            with suppress(BaseException):  # kept as its problem
                call.function(None)
        return calls[0].plugin if calls else None

    def begin(self, clock: Clock, name: str) -> Hooks:
        """The hooks of a run, and everything that was counted begins anew.

        Args:
            clock: by which they are timed.
            name: of the thread that calls them.
        """
        with self._lock:
            for plugin in [*self._plugins]:
                if plugin.source == "installed" and not plugin.hooks:
                    self._remove_locked(plugin)  # it gets another chance
                plugin.begin()
            told = [plugin for plugin in self._plugins if "unit_ended" in plugin.hooks]
        hooks = Hooks(self, clock, timeout_s=self.hook_timeout_s, cpu_ratio=self.hook_cpu_ratio, name=name)
        if told:
            hooks.units = Units(max(map(_unit_ratio, told)))
            hooks.units.tell = hooks.post_unit
        return hooks

    # ------------------------------------------------------------------ for the hooks
    def calls_of(self, kind: type[events.Event]) -> tuple[HookCall, ...]:
        """The hooks for a kind of event, in the order in which they are called."""
        calls = self._calls
        return calls.get(kind) or (calls.get(events.Event, ()) if kind is not events.UnitEnded else ())

    @property
    def attaching(self) -> tuple[HookCall, ...]:
        """The hooks that are called with the running system before any other of their plugin."""
        return self._attaching

    @property
    def any(self) -> bool:
        """Whether there is any hook at all."""
        return bool(self._calls or self._attaching)

    def to_load(self, only: str | None = None) -> Sequence[HookCall]:
        """What loads each installed plugin that is not loaded yet, or only the one of a name. Reads the disk."""
        if not self._use_installed:
            return []
        from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

        found = []
        for entry_point in entry_points(group=ENTRY_POINT_GROUP):
            seen = (entry_point.name, entry_point.value)
            with self._lock:
                if entry_point.name in self._disabled or seen in self._seen or only not in (None, entry_point.name):
                    continue
                self._seen.add(seen)
                plugin = Plugin(entry_point.name, entry_point.dist.version if entry_point.dist else "", "installed")
                self._plugins.append(plugin)
            found.append(
                HookCall(plugin, IMPORT, functools.partial(self._load, plugin, entry_point), _IMPORT_TIMEOUT_S)
            )
        return found

    def _load(self, plugin: Plugin, entry_point: EntryPoint, _: object) -> None:
        try:
            self._add(plugin, _made(entry_point.load()))
        except PluginRefused as error:
            plugin.problem = "; ".join(error.problems)
            raise
        except BaseException as error:  # whatever a module raises that is imported, SystemExit too; `list` shows it
            plugin.problem = f"it cannot be imported: {type(error).__name__}"
            raise

    # ------------------------------------------------------------------ both
    def _add(self, plugin: Plugin, found: object) -> None:
        from minions.observe.registry import Candidate, Registry  # noqa: PLC0415 - with it comes pluggy

        candidate = Candidate(plugin.name, found)
        with self._lock:
            if plugin.set_aside:  # its import has returned after all, too late
                return
            if self._registry is None:
                self._registry = Registry()
            self._registry.add(candidate, plugin)
            plugin.hooks, plugin.found = candidate.hooks, found
            if plugin not in self._plugins:
                self._plugins.append(plugin)
            self._calls, self._attaching = self._registry.calls(), self._registry.attaching()

    def _remove_locked(self, plugin: Plugin) -> None:
        self._plugins.remove(plugin)
        if plugin.source == "installed":
            self._seen = {seen for seen in self._seen if seen[0] != plugin.name}
        if plugin.hooks and self._registry is not None:
            self._registry.remove(plugin.name)
            self._calls, self._attaching = self._registry.calls(), self._registry.attaching()


def _set(plugin: Plugin, table: Mapping[str, Any]) -> list[str]:
    """Gives a plugin the settings that a table says; returns what is wrong with it."""
    from minions.model import configuration  # noqa: PLC0415 - only who has such a file has to pay for it

    own = plugin.own_settings if plugin.own_settings is not None else getattr(plugin.found, "settings", None)
    if own is None or not attrs.has(type(own)):
        return [f"[plugins.{plugin.name}]: this plugin has no settings; delete the table"]
    value, problems = configuration.replaced(own, table, ("plugins", plugin.name))
    if not problems:
        plugin.own_settings, plugin.found.settings = own, value
    return problems


def _unit_ratio(plugin: Plugin) -> float:
    """Of how many units a plugin wants to be told."""
    try:
        return min(1.0, max(0.0, float(getattr(plugin.found, "unit_ratio", 1.0))))
    except Exception:  # noqa: BLE001 - code of a plugin, or no number: it is told of all of them
        return 1.0


def _named(name: str) -> object:
    """What a text such as ``"package.module:Class"`` names."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for step in path.split(".") if path else ():
        found = getattr(found, step)
    return found


def _made(found: object) -> object:
    """The plugin itself, where it is a class that makes it."""
    return found() if isinstance(found, type) else found


def _version_of(plugin: object) -> str:
    module = plugin if isinstance(plugin, ModuleType) else sys.modules.get(type(plugin).__module__)
    version = getattr(module, "__version__", "")
    return version if isinstance(version, str) else ""

"""One plugin of a system: what is known of it, and what is counted. No thread.

The counters are written by the thread that calls the hooks, under its lock, and may be read by any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import attrs

__all__ = ["ATTACHED", "IMPORT", "HookCall", "Plugin", "PluginStatus", "Source"]

IMPORT = "import"
"""In the place of the name of a hook: what loads a plugin."""
ATTACHED = "attached"
"""The hook that is called before any other of a plugin, with the running system."""

Source = Literal["installed", "configured", "registered"]


@attrs.frozen
class PluginStatus:
    """A plugin as it was at one moment.

    Attributes:
        name: that of its entry point, of its module, or what it was registered as.
        version: of the package that it comes from, or its `__version__`; empty where neither is known.
        source: "installed": found by its entry point; "configured": named in ``minions.toml``; "registered": by the program.
        hooks: the names of its hooks, sorted.
        calls: how often one of them was called since the system was started.
        faults: how often one of them raised or did not return in time.
        busy_s: how long they took altogether, in seconds.
        set_aside: whether one of them did not return in time, so that none is called any more until the next start.
        problem: why it is not used; empty where it is.
    """

    name: str
    version: str
    source: Source
    hooks: tuple[str, ...]
    calls: int
    faults: int
    busy_s: float
    set_aside: bool
    problem: str


@attrs.define(eq=False)
class Plugin:
    """The same while it changes.

    Attributes:
        failed_hooks: those of which an error was told.
        found: what was registered; None until it is.
        own_settings: those that it had before ``minions.toml`` said otherwise; None where that says nothing.
        is_attached: whether `attached` was called in this run, or is about to be; guarded by the lock of who calls hooks.
        not_attached: why `attached` has failed in this run, so that no other hook is called; empty where it has not.
    """

    name: str
    version: str
    source: Source
    hooks: tuple[str, ...] = ()
    calls: int = 0
    faults: int = 0
    busy_s: float = 0.0
    set_aside: bool = False
    problem: str = ""
    failed_hooks: set[str] = attrs.Factory(set)
    found: Any = None
    own_settings: Any = None
    is_attached: bool = False
    not_attached: str = ""

    def begin(self) -> None:
        """Forgets what was counted in an earlier run of the system."""
        self.calls, self.faults, self.busy_s, self.set_aside = 0, 0, 0.0, False
        self.failed_hooks = set()
        self.is_attached, self.not_attached = False, ""

    @property
    def is_out(self) -> bool:
        """Whether none of its hooks is called any more in this run."""
        return self.set_aside or bool(self.not_attached)

    @property
    def status(self) -> PluginStatus:
        return PluginStatus(
            self.name,
            self.version,
            self.source,
            self.hooks,
            self.calls,
            self.faults,
            self.busy_s,
            self.set_aside,
            self.problem or self.not_attached,
        )


@attrs.frozen(eq=False)
class HookCall:
    """A hook of a plugin, ready to be called with an event.

    Attributes:
        hook: its name; "import" for what loads the plugin.
        function: takes the event.
        timeout_s: how long it may take; None: as long as any hook.
    """

    plugin: Plugin
    hook: str
    function: Callable[[Any], object]
    timeout_s: float | None = None

"""Minions: long-lived components in managed threads, with lifecycle, supervision and durable state, in one process.

A name is imported from its home when it is first used, so that who needs little, such as a command that asks a running system,
does not wait for all. Safe to use from any thread.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minions.errors import (
        CallFailed,
        CallTimeout,
        CannotDecode,
        CannotEncode,
        CannotStore,
        ChangeFailed,
        CodecError,
        CommitFailed,
        CommitTimeout,
        ConfigurationError,
        CrashRefused,
        DeadlockError,
        DeclarationError,
        InboxEmpty,
        InboxFull,
        Interrupted,
        MessageRefused,
        MinionsError,
        NoSuchDeadLetter,
        PluginRefused,
        StaleComponent,
        StopRequested,
        StoreDamaged,
        StoreError,
        StoreLocked,
        StoreTooNew,
        StoreUnusable,
        SystemFailed,
        TopologyError,
        UnitTooLarge,
        UsageError,
    )
    from minions.flow.histogram import Histogram
    from minions.flow.rows import DeadLetter
    from minions.flow.statistics import InboxStatistics
    from minions.life.crash import Crash
    from minions.life.history import History, InboxHistory
    from minions.life.lifecycle import Phase
    from minions.life.replaying import Replay
    from minions.life.statistics import ComponentStatistics, ProcessStatistics, Statistics, WatchdogStatistics
    from minions.life.status import ComponentStatus
    from minions.model import wrap
    from minions.model.component import Component
    from minions.model.crashes import Crashes
    from minions.model.graph import Graph
    from minions.model.limits import (
        CpuLimit,
        DescriptorLimit,
        DiskFreeLimit,
        ErrorLimit,
        LagLimit,
        LateLimit,
        MemoryLimit,
        Watchdog,
    )
    from minions.model.policy import Backoff, Restart, Retry
    from minions.model.ports import Inbox, Outbox, State, Table, Uses
    from minions.model.rates import Rate, limit
    from minions.model.schedules import cron, every
    from minions.observe.json_formatter import JsonFormatter
    from minions.observe.plugin import PluginStatus
    from minions.observe.plugins import Plugins
    from minions.system import System

__all__ = [
    "Backoff",
    "CallFailed",
    "CallTimeout",
    "CannotDecode",
    "CannotEncode",
    "CannotStore",
    "ChangeFailed",
    "CodecError",
    "CommitFailed",
    "CommitTimeout",
    "Component",
    "ComponentStatistics",
    "ComponentStatus",
    "ConfigurationError",
    "CpuLimit",
    "Crash",
    "CrashRefused",
    "Crashes",
    "DeadLetter",
    "DeadlockError",
    "DeclarationError",
    "DescriptorLimit",
    "DiskFreeLimit",
    "ErrorLimit",
    "Graph",
    "Histogram",
    "History",
    "Inbox",
    "InboxEmpty",
    "InboxFull",
    "InboxHistory",
    "InboxStatistics",
    "Interrupted",
    "JsonFormatter",
    "LagLimit",
    "LateLimit",
    "MemoryLimit",
    "MessageRefused",
    "MinionsError",
    "NoSuchDeadLetter",
    "Outbox",
    "Phase",
    "PluginRefused",
    "PluginStatus",
    "Plugins",
    "ProcessStatistics",
    "Rate",
    "Replay",
    "Restart",
    "Retry",
    "StaleComponent",
    "State",
    "Statistics",
    "StopRequested",
    "StoreDamaged",
    "StoreError",
    "StoreLocked",
    "StoreTooNew",
    "StoreUnusable",
    "System",
    "SystemFailed",
    "Table",
    "TopologyError",
    "UnitTooLarge",
    "UsageError",
    "Uses",
    "Watchdog",
    "WatchdogStatistics",
    "cron",
    "every",
    "limit",
    "wrap",
]

_HOMES = {
    "minions.errors": (
        "CallFailed",
        "CallTimeout",
        "CannotDecode",
        "CannotEncode",
        "CannotStore",
        "ChangeFailed",
        "CodecError",
        "CommitFailed",
        "CommitTimeout",
        "ConfigurationError",
        "CrashRefused",
        "DeadlockError",
        "DeclarationError",
        "InboxEmpty",
        "InboxFull",
        "Interrupted",
        "MessageRefused",
        "MinionsError",
        "NoSuchDeadLetter",
        "PluginRefused",
        "StaleComponent",
        "StopRequested",
        "StoreDamaged",
        "StoreError",
        "StoreLocked",
        "StoreTooNew",
        "StoreUnusable",
        "SystemFailed",
        "TopologyError",
        "UnitTooLarge",
        "UsageError",
    ),
    "minions.flow.histogram": ("Histogram",),
    "minions.flow.rows": ("DeadLetter",),
    "minions.flow.statistics": ("InboxStatistics",),
    "minions.life.crash": ("Crash",),
    "minions.life.history": (
        "History",
        "InboxHistory",
    ),
    "minions.life.lifecycle": ("Phase",),
    "minions.life.replaying": ("Replay",),
    "minions.life.statistics": (
        "ComponentStatistics",
        "ProcessStatistics",
        "Statistics",
        "WatchdogStatistics",
    ),
    "minions.life.status": ("ComponentStatus",),
    "minions.model.component": ("Component",),
    "minions.model.crashes": ("Crashes",),
    "minions.model.graph": ("Graph",),
    "minions.model.limits": (
        "CpuLimit",
        "DescriptorLimit",
        "DiskFreeLimit",
        "ErrorLimit",
        "LagLimit",
        "LateLimit",
        "MemoryLimit",
        "Watchdog",
    ),
    "minions.model.policy": (
        "Backoff",
        "Restart",
        "Retry",
    ),
    "minions.model.ports": (
        "Inbox",
        "Outbox",
        "State",
        "Table",
        "Uses",
    ),
    "minions.model.rates": (
        "Rate",
        "limit",
    ),
    "minions.model.schedules": (
        "cron",
        "every",
    ),
    "minions.observe.json_formatter": ("JsonFormatter",),
    "minions.observe.plugin": ("PluginStatus",),
    "minions.observe.plugins": ("Plugins",),
    "minions.system": ("System",),
}
"""The module that each public name is imported from. The same stands above for type checkers and editors."""

_MODULES = {
    "clock": "minions.clock",
    "errors": "minions.errors",
    "events": "minions.events",
    "fence": "minions.fence",
    "flow": "minions.flow",
    "life": "minions.life",
    "model": "minions.model",
    "observe": "minions.observe",
    "operate": "minions.operate",
    "system": "minions.system",
    "threads": "minions.threads",
    "wrap": "minions.model.wrap",
}
"""The names that are modules themselves; of these only `wrap` is public."""

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def _named(name: str) -> object:
    """The value of a name that is used for the first time; from then on Python finds it without asking here."""
    if name in _MODULES:
        value: object = importlib.import_module(_MODULES[name])
    elif name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = _named

"""Minions: long-lived components in managed threads, with lifecycle, supervision and durable state, in one process."""

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

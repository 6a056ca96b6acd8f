"""What a running system has counted and measured, as frozen values. To read them costs the journal's lock once."""

from __future__ import annotations

import attrs

from minions.flow.histogram import Histogram
from minions.flow.statistics import InboxStatistics

__all__ = ["ComponentStatistics", "ProcessStatistics", "Statistics", "WatchdogStatistics"]


@attrs.frozen(kw_only=True)
class ComponentStatistics:
    """One component with all its replicas and inboxes, since the system was started.

    Attributes:
        sent: messages that its whole units of work have sent; one that goes to several inboxes counts for each.
        handled: messages that it has handled.
        failed: how often a handler has raised for a message.
        retried: how often a message that had failed was given back to be tried again.
        set_aside: messages that were set aside or skipped.
        failures: how often a life of it has failed for another reason than a message.
        restarts: how many of its lives have followed another.
        cpu_s: CPU time that its threads have used, those of lives that are over included, in seconds. What a thread does after it
            was abandoned is not in it.
        waits, handling: those of its inboxes together; see `InboxStatistics`.
    """

    sent: int
    handled: int
    failed: int
    retried: int
    set_aside: int
    failures: int
    restarts: int
    cpu_s: float
    waits: Histogram = attrs.field(repr=False)
    handling: Histogram = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ProcessStatistics:
    """The process and its machine, as the watchdog has seen them at its last tick; None for what cannot be had.

    Attributes:
        cpu_s: CPU time of the process so far, in seconds.
        cpu_ratio: CPU time since the tick before, as a share of the cores that it may use.
        cores: how many these are.
        rss_bytes: resident memory.
        memory_bound_bytes: the memory that it may use.
        memory_ratio: the one as a share of the other.
        descriptors: open file descriptors.
        descriptors_most: how many it may have.
        disk_free_bytes: free space on the file system of the state folder.
        threads: how many threads the process has.
        load: the load average of the machine over the last minute.
    """

    cpu_s: float | None = None
    cpu_ratio: float | None = None
    cores: float | None = None
    rss_bytes: int | None = None
    memory_bound_bytes: int | None = None
    memory_ratio: float | None = None
    descriptors: int | None = None
    descriptors_most: int | None = None
    disk_free_bytes: int | None = None
    threads: int | None = None
    load: float | None = None


@attrs.frozen(kw_only=True)
class WatchdogStatistics:
    """The watchdog itself.

    Attributes:
        ticks: how often it has looked.
        faults: how often it could not.
        cpu_s: CPU time that this has taken, in seconds.
        late_s: how much later than it should the last tick came, in seconds.
        late_most_s: the same of the latest one of all.
    """

    ticks: int = 0
    faults: int = 0
    cpu_s: float = 0.0
    late_s: float = 0.0
    late_most_s: float = 0.0


@attrs.frozen(kw_only=True)
class Statistics:
    """A running system, since it was started.

    Attributes:
        up_for_s: how long that is, in seconds.
        inboxes: each inbox, by ``<component>.<inbox>``.
        components: each component, by its name.
        units_unsaved: units of work that are whole and not on disk yet.
        bytes_unsaved: how many bytes these add to what is kept.
        commits: how many commits were made.
        units_committed: how many units of work these held.
        commit_latency: of each commit, how long its first unit of work was whole before it was on disk: the longest that any
            waited.
        commit_writing: how long each commit took to write.
        process: the process and its machine.
        watchdog: the watchdog itself.
    """

    up_for_s: float
    inboxes: dict[str, InboxStatistics]
    components: dict[str, ComponentStatistics]
    units_unsaved: int
    bytes_unsaved: int
    commits: int
    units_committed: int
    commit_latency: Histogram = attrs.field(repr=False)
    commit_writing: Histogram = attrs.field(repr=False)
    process: ProcessStatistics
    watchdog: WatchdogStatistics

"""What Prometheus is told: each figure of `System.statistics()` under a name after its conventions. No thread; no state.

Units are seconds and bytes, what only grows ends with ``_total``, and the process has the names that all processes have.
A histogram of ours has four buckets to each doubling, of which Prometheus gets every fourth bound: its counts are exact all
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from minions import Histogram, ProcessStatistics, Statistics, WatchdogStatistics

__all__ = ["StatisticsCollector"]

_BOUNDS = range(0, len(Histogram.bounds_s), 4)
_OF_AN_INBOX = ("component", "inbox")

_INBOX_COUNTERS = {
    "sent": ("minions_messages_received", "Messages that were sent to an inbox."),
    "handled": ("minions_messages_handled", "Messages that were handled."),
    "failed": ("minions_messages_failed", "How often a handler has raised for a message."),
    "retried": ("minions_messages_retried", "How often a message that had failed was given back to be tried again."),
    "set_aside": ("minions_messages_set_aside", "Messages that were set aside as dead letters, or skipped."),
    "dropped": ("minions_messages_dropped", "Messages that a full inbox has dropped."),
    "refused": ("minions_messages_refused", "Messages that a full inbox has refused."),
    "blocked": ("minions_inbox_blocks", "How often a sender had to wait for room."),
    "blocked_s": ("minions_inbox_blocked_seconds", "How long senders have waited for room, all together."),
}
_INBOX_GAUGES = {
    "length": ("minions_inbox_length", "Messages that wait, are in work, or for which room is held."),
    "high_water": ("minions_inbox_high_water", "The highest length so far."),
    "capacity": ("minions_inbox_capacity", "How many messages an inbox holds."),
    "senders_waiting": ("minions_inbox_senders_waiting", "How many senders wait for room."),
}
_INBOX_HISTOGRAMS = {
    "waits": ("minions_message_wait_seconds", "How long messages waited in their inbox; sampled."),
    "handling": ("minions_message_handling_seconds", "How long messages took, from their handler to the whole unit."),
}
_COMPONENT_COUNTERS = {
    "sent": ("minions_messages_sent", "Messages that whole units of work of a component have sent."),
    "restarts": ("minions_component_restarts", "How many lives of a component have followed another."),
    "failures": ("minions_component_failures", "How often a life has failed for another reason than a message."),
    "cpu_s": ("minions_component_cpu_seconds", "CPU time of a component's threads."),
}
_COUNTERS = {
    "commits": ("minions_commits", "Commits."),
    "units_committed": ("minions_units_committed", "Units of work that were committed."),
}
_GAUGES = {
    "up_for_s": ("minions_uptime_seconds", "How long ago the system was started."),
    "units_unsaved": ("minions_units_unsaved", "Units of work that are whole and not on disk yet."),
    "bytes_unsaved": ("minions_unsaved_bytes", "How much these add to what is kept."),
}
_HISTOGRAMS = {
    "commit_latency": ("minions_commit_latency_seconds", "How long the first unit of a commit waited to be on disk."),
    "commit_writing": ("minions_commit_writing_seconds", "How long a commit took to write."),
}
_PROCESS_COUNTERS = {"cpu_s": ("process_cpu_seconds", "CPU time of the process.")}
_PROCESS_GAUGES = {
    "rss_bytes": ("process_resident_memory_bytes", "Resident memory of the process."),
    "descriptors": ("process_open_fds", "Open file descriptors."),
    "descriptors_most": ("process_max_fds", "How many file descriptors may be open."),
    "threads": ("process_threads", "Threads of the process."),
    "memory_bound_bytes": ("minions_memory_bound_bytes", "The memory that the process may use."),
    "cores": ("minions_cores", "The cores that the process may use."),
    "disk_free_bytes": ("minions_disk_free_bytes", "Free space on the file system of the state folder."),
    "load": ("minions_load_average", "The load average of the machine over the last minute."),
}
_WATCHDOG_COUNTERS = {
    "ticks": ("minions_watchdog_ticks", "How often the watchdog has looked."),
    "faults": ("minions_watchdog_faults", "How often it could not."),
    "cpu_s": ("minions_watchdog_cpu_seconds", "CPU time of the watchdog."),
}
_WATCHDOG_GAUGES = {
    "late_s": ("minions_watchdog_late_seconds", "How late its last tick was."),
    "late_most_s": ("minions_watchdog_late_max_seconds", "How late its latest tick was."),
}


class StatisticsCollector(Collector):
    """Makes metrics of what a system has counted, each time that it is asked. Any thread."""

    def __init__(self, system: str, statistics: Callable[[], Statistics]) -> None:
        """Args:
        system: its name.
        statistics: answers what was counted.
        """
        self._system = system
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """The metrics of this moment."""
        found = self._statistics()
        yield _gauge("minions_info", "The system that runs.", [((self._system,), 1.0)], ("system",))
        yield from _plain(found, _COUNTERS, _GAUGES)
        for name, (metric, text) in _HISTOGRAMS.items():
            yield _histogram(metric, text, [((), getattr(found, name))], ())
        yield from _of_inboxes(found)
        for name, (metric, text) in _COMPONENT_COUNTERS.items():
            values = [((component,), float(getattr(each, name))) for component, each in found.components.items()]
            yield _counter(metric, text, values, ("component",))
        yield from _plain(found.process, _PROCESS_COUNTERS, _PROCESS_GAUGES)
        yield from _plain(found.watchdog, _WATCHDOG_COUNTERS, _WATCHDOG_GAUGES)


_Names = dict[str, tuple[str, str]]
_Labels = tuple[str, ...]


def _plain(
    found: Statistics | ProcessStatistics | WatchdogStatistics, counters: _Names, gauges: _Names
) -> Iterator[Metric]:
    """What has no labels; what cannot be had is left out."""
    for names, make in ((counters, _counter), (gauges, _gauge)):
        for name, (metric, text) in names.items():
            value = getattr(found, name)
            if value is not None:
                yield make(metric, text, [((), float(value))], ())


def _of_inboxes(found: Statistics) -> Iterator[Metric]:
    inboxes = [((*name.partition(".")[::2],), inbox) for name, inbox in found.inboxes.items()]
    for names, make in ((_INBOX_COUNTERS, _counter), (_INBOX_GAUGES, _gauge)):
        for name, (metric, text) in names.items():
            values = [(labels, float(getattr(inbox, name))) for labels, inbox in inboxes]
            yield make(metric, text, values, _OF_AN_INBOX)
    for name, (metric, text) in _INBOX_HISTOGRAMS.items():
        yield _histogram(metric, text, [(labels, getattr(inbox, name)) for labels, inbox in inboxes], _OF_AN_INBOX)


def _counter(name: str, text: str, values: Sequence[tuple[_Labels, float]], labels: _Labels) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def _gauge(name: str, text: str, values: Sequence[tuple[_Labels, float]], labels: _Labels) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for given, value in values:
        family.add_metric(given, value)
    return family


def _histogram(name: str, text: str, values: Sequence[tuple[_Labels, Histogram]], labels: _Labels) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for given, histogram in values:
        buckets = [(repr(histogram.bounds_s[at]), float(sum(histogram.counts[: at + 1]))) for at in _BOUNDS]
        family.add_metric(given, [*buckets, ("+Inf", float(histogram.count))], histogram.total_s)
    return family

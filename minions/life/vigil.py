"""What the watchdog decides: one look at everything in, a list of findings out. A plain object without threads or waiting.

The watchdog's thread drives it in production; tests and simulations drive the very same object.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias

import attrs

from minions import events
from minions.life.machine import Sample
from minions.model.limits import Limit, Watchdog

__all__ = [
    "Finding",
    "InboxCounts",
    "PauseSources",
    "Pulse",
    "Recovered",
    "RestartComponent",
    "ResumeSources",
    "Stalled",
    "StopSystem",
    "Tell",
    "Vigil",
]

_COUNTED_TICKS = 1.5  # of a longer time between two ticks, no more than this many ticks count for anybody's patience
_RATE_OVER_S = 60.0
_ERRORS_OVER_S = 60.0
_STOPPED_BELOW = 0.25  # of the time in CPU time: a process that was kept from running has hardly any
_HOG_FROM = 0.5  # of the time in CPU time: a thread that ran so much was not kept from running
_GIL_WAITS_PER_S = (
    20  # of the lateness: who waits for the interpreter's lock wakes 200 times a second, fewer on a busy machine
)
_CULPRIT_FROM = 0.5  # of the CPU time of the process
_STARVED_FROM = 0.5  # of the lateness on the run queue

Diagnosis: TypeAlias = Literal["gil_held", "stopped", "starved", "unknown"]


# ---------------------------------------------------------------------- what goes in
class Pulse(NamedTuple):
    """One life of a component, as it is at the moment of a tick. A tuple, because a thousand of them are made each second.

    Attributes:
        component: its name, with the number of the replica where there are several.
        epoch: which life of it.
        token: changes with all progress.
        waits_for: at which door of the runtime's its thread is parked; empty when it is at none.
        in_unit: whether a unit of work is open. That one begins or ends is progress too.
        stall_after_s: after so many seconds without progress it counts as stalled; None for never.
        native_id: the number that the machine has for its thread; None before the thread has begun.
        failures: how often it has failed by itself so far, in all its lives. What is put down to a message, its inbox counts.
    """

    component: str
    epoch: int
    token: Hashable
    waits_for: str = ""
    in_unit: bool = False
    stall_after_s: float | None = None
    native_id: int | None = None
    failures: int = 0


class InboxCounts(Protocol):
    """What is asked of an inbox; `InboxStatistics` has it."""

    @property
    def length(self) -> int:
        """Messages that wait or are in work."""

    @property
    def settled(self) -> int:
        """Messages settled so far."""

    @property
    def failed(self) -> int:
        """How often a handler has raised so far."""


# ---------------------------------------------------------------------- what comes out
@attrs.frozen
class Finding:
    """The root of what follows from a tick."""


@attrs.frozen
class Stalled(Finding):
    """A life makes no progress. Follows once; `Recovered` ends it.

    Attributes:
        for_s: for how long.
        cpu_s: CPU time that its thread has used in that time; None where it cannot be told.
    """

    component: str
    epoch: int
    for_s: float
    cpu_s: float | None


@attrs.frozen
class Recovered(Finding):
    """A life that had stalled goes on, or is over.

    Attributes:
        for_s: for how long it had made no progress.
        ended: whether it is over.
    """

    component: str
    epoch: int
    for_s: float
    ended: bool


@attrs.frozen
class PauseSources(Finding):
    """Pause all sources; they go on when everybody who had them paused has said so.

    Attributes:
        by: who asks, by which `ResumeSources` is known.
    """

    by: str


@attrs.frozen
class ResumeSources(Finding):
    """Takes back the `PauseSources` of that name."""

    by: str


@attrs.frozen
class RestartComponent(Finding):
    """Begin a new life of a component, in all its replicas.

    Attributes:
        component: its name, without the number of a replica.
        reason: one sentence.
    """

    component: str
    reason: str


@attrs.frozen
class StopSystem(Finding):
    """Stop the system in order; it has failed.

    Attributes:
        reason: one sentence.
    """

    reason: str


@attrs.frozen
class Tell(Finding):
    """Tell those who watch."""

    event: events.Event


# ---------------------------------------------------------------------- what is kept between two ticks
@attrs.define(eq=False)
class _Watched:
    """One life: what it was like when it last made progress."""

    mark: tuple[Hashable, bool]
    since_s: float
    cpu_s: float | None
    reported: bool = False


@attrs.define(eq=False)
class _Flow:
    """One inbox: when a message was last settled, and how fast that goes while some wait.

    Attributes:
        settled: how many so far.
        moved_s: when one was settled last, or the first of those that wait now came.
        busy: whether any waited at the tick before.
        rate: messages a second, averaged over about a minute in which some waited; 0 as long as it is not known.
    """

    settled: int
    moved_s: float
    busy: bool = False
    rate: float = 0.0

    def lag_s(self, counts: InboxCounts, now_s: float) -> float:
        """How long the messages that wait now have to wait."""
        length = counts.length
        done, self.settled = counts.settled - self.settled, counts.settled
        took_s = now_s - self.moved_s
        if self.busy and done > 0 and took_s > 0:
            weight = 1.0 - math.exp(-took_s / _RATE_OVER_S) if self.rate else 1.0
            self.rate += weight * (done / took_s - self.rate)
        if done or not self.busy:
            self.moved_s = now_s
        self.busy = length > 0
        if not length:
            return 0.0
        return max(now_s - self.moved_s, length / self.rate if self.rate else 0.0)


@attrs.define(eq=False)
class _Gauge:
    """One limit that is, or is about to be, exceeded.

    Attributes:
        since_s: since when the mark has been passed.
        told_s: when it was told that it is exceeded; None before.
    """

    since_s: float
    told_s: float | None = None


@attrs.frozen
class _Reading:
    """One figure that has a limit.

    Attributes:
        name: of the limit.
        about: the inbox or the component; empty for the whole process.
        text: what was measured, as the beginning of a sentence.
        component: whom to restart.
    """

    name: str
    limit: Limit
    value: float
    about: str
    text: Callable[[], str]
    component: str = ""

    @property
    def by(self) -> str:
        return f"watchdog: {self.name}" + (f" of {self.about}" if self.about else "")


class Vigil:
    """Finds what is wrong, and when it is right again.

    It counts time by its own clock, on which the time of a late tick does not count: when all were held up, nobody has stalled.
    """

    def __init__(self, limits: Watchdog) -> None:
        self._limits = limits
        self._time_s = 0.0  # its own clock
        self._ticked_s: float | None = None
        self._sampled_s = 0.0
        self._sample: Sample | None = None
        self._lives: dict[tuple[str, int], _Watched] = {}
        self._flows: dict[str, _Flow] = {}
        self._gauges: dict[tuple[str, str], _Gauge] = {}
        self._failures: dict[str, int] = {}  # by inbox or life
        self._failed_at: dict[str, deque[tuple[float, int]]] = {}  # by component

    def tick(
        self, now_s: float, sample: Sample, lives: Iterable[Pulse], inboxes: Mapping[str, InboxCounts]
    ) -> list[Finding]:
        """What follows from how things are now.

        Args:
            now_s: monotonic seconds.
            sample: of the process and the machine.
            lives: all lives that have a thread.
            inboxes: all inboxes, by ``<component>.<inbox>``.
        """
        lives = list(lives)
        late_s = self._advance(now_s)
        findings = list(self._late(now_s, late_s, sample, lives))
        findings += self._stalls(lives, sample)
        for reading in self._readings(sample):
            findings += self._judged(reading)
        findings += self._lags(inboxes)
        findings += self._errors(lives, inboxes)
        self._sample, self._sampled_s = sample, now_s
        return findings

    def missed(self, now_s: float) -> None:
        """Instead of `tick`, where that could not be: only time has passed."""
        self._advance(now_s)

    def still_for_s(self, component: str, epoch: int) -> float | None:
        """For how long a life had made no progress at the last tick; None where that is not watched. Any thread may ask."""
        watched = self._lives.get((component, epoch))
        return None if watched is None else max(0.0, self._time_s - watched.since_s)

    def _advance(self, now_s: float) -> float:
        """Moves its own clock on, and tells how late this tick is."""
        before, self._ticked_s = self._ticked_s, now_s
        if before is None:
            return 0.0
        passed_s, tick_s = max(0.0, now_s - before), self._limits.tick_s
        self._time_s += min(passed_s, _COUNTED_TICKS * tick_s)
        return max(0.0, passed_s - tick_s)

    # ------------------------------------------------------------------ lives
    def _stalls(self, lives: list[Pulse], sample: Sample) -> Iterator[Finding]:
        before, self._lives = self._lives, {}
        for pulse in lives:
            if pulse.stall_after_s is None:
                continue
            name = (pulse.component, pulse.epoch)
            watched = before.get(name)
            mark = (pulse.token, pulse.in_unit)
            if watched is None or (watched.reported and (pulse.waits_for or watched.mark != mark)):
                self._lives[name] = _Watched(mark, self._time_s, _cpu_s(pulse, sample))
                continue
            self._lives[name] = before.pop(name)
            if pulse.waits_for or watched.mark != mark:
                watched.mark, watched.since_s, watched.cpu_s = mark, self._time_s, _cpu_s(pulse, sample)
                continue
            for_s = self._time_s - watched.since_s
            if not watched.reported and for_s >= pulse.stall_after_s:
                watched.reported = True
                yield Stalled(pulse.component, pulse.epoch, for_s, _grown(watched.cpu_s, _cpu_s(pulse, sample)))
        # Among the others may be one that goes on, and may now take any time.
        alive = {(pulse.component, pulse.epoch) for pulse in lives} if before else set()
        for (component, epoch), watched in before.items():
            if watched.reported:
                ended = (component, epoch) not in alive
                yield Recovered(component, epoch, self._time_s - watched.since_s, ended)

    # ------------------------------------------------------------------ limits
    def _readings(self, sample: Sample) -> Iterator[_Reading]:
        """The figures of the whole process, so far as they can be had."""
        limits = self._limits
        used = sample.rss_bytes if limits.memory.in_bytes else sample.memory_ratio
        if used is not None:
            yield _Reading("memory", limits.memory, used, "", lambda: _memory_text(sample))
        if sample.descriptors is not None and sample.descriptors_most:
            ratio = sample.descriptors / sample.descriptors_most
            yield _Reading("descriptors", limits.descriptors, ratio, "", lambda: _descriptors_text(sample))
        if (free := sample.disk_free_bytes) is not None:
            yield _Reading(
                "disk_free", limits.disk_free, free, "", lambda: f"{_size(free)} are free for the state folder"
            )
        if (ratio_of_cores := sample.cpu_ratio) is not None:
            yield _Reading("cpu", limits.cpu, ratio_of_cores, "", lambda: _cpu_text(sample))

    def _lags(self, inboxes: Mapping[str, InboxCounts]) -> Iterator[Finding]:
        limit = self._limits.lag
        if not limit.enabled:
            return
        for inbox, counts in inboxes.items():
            flow = self._flows.get(inbox)
            if flow is None:
                flow = self._flows[inbox] = _Flow(counts.settled, self._time_s)
            lag_s = flow.lag_s(counts, self._time_s)
            if self._concerns("lag", inbox, limit, lag_s):
                text = _lag_text(inbox, counts.length, lag_s)
                yield from self._judged(_Reading("lag", limit, lag_s, inbox, text, _owner(inbox)))

    def _errors(self, lives: list[Pulse], inboxes: Mapping[str, InboxCounts]) -> Iterator[Finding]:
        limit = self._limits.errors
        if not limit.enabled:
            return
        for pulse in lives:
            self._count(pulse.component, pulse.failures)
        for inbox, counts in inboxes.items():
            self._count(inbox, counts.failed)
        for component, failed_at in self._failed_at.items():
            while failed_at and failed_at[0][0] <= self._time_s - _ERRORS_OVER_S:
                failed_at.popleft()
            failures = sum(count for _, count in failed_at)
            if self._concerns("errors", component, limit, failures):
                yield from self._judged(_errors_reading(limit, component, failures))

    def _count(self, who: str, failures: int) -> None:
        """Notes the failures since the tick before. An older life of a component, which knows of fewer, adds nothing."""
        new = failures - self._failures.get(who, 0)
        if new > 0:
            self._failures[who] = failures
            self._failed_at.setdefault(_owner(who), deque()).append((self._time_s, new))

    def _concerns(self, name: str, about: str, limit: Limit, value: float) -> bool:
        return (name, about) in self._gauges or limit.exceeded_by(value)

    def _judged(self, reading: _Reading) -> Iterator[Finding]:
        """What follows from one figure."""
        change, for_s = self._turn(reading)
        if change == "exceeded":
            limit = reading.limit
            text = f"{reading.text()}, {limit.side} the limit of {_figure(limit.mark, limit.unit)}"
            text += f" for {for_s:.0f} s" if for_s else ""
            exceeded = events.LimitExceeded(
                reading.name, reading.about, reading.value, limit.mark, limit.unit, for_s, limit.then, text
            )
            yield Tell(exceeded)
            yield from self._answer(reading, text)
        elif change == "kept":
            yield from self._kept(reading, for_s)

    def _turn(self, reading: _Reading) -> tuple[Literal["exceeded", "kept", ""], float]:
        """Whether a limit is now exceeded, and for how long its mark has been passed; or kept again, and how long it was not."""
        limit, key = reading.limit, (reading.name, reading.about)
        if not limit.enabled:
            return "", 0.0
        gauge = self._gauges.get(key)
        if gauge is not None and gauge.told_s is not None:
            if limit.kept_by(reading.value):
                del self._gauges[key]
                return "kept", self._time_s - gauge.told_s
            return "", 0.0
        if not limit.exceeded_by(reading.value):
            self._gauges.pop(key, None)
            return "", 0.0
        if gauge is None:
            gauge = self._gauges[key] = _Gauge(self._time_s)
        for_s = self._time_s - gauge.since_s
        if for_s < limit.for_s:
            return "", 0.0
        gauge.told_s = self._time_s
        return "exceeded", for_s

    def _answer(self, reading: _Reading, text: str) -> Iterator[Finding]:
        match reading.limit.then:
            case "pause_sources":
                yield PauseSources(reading.by)
            case "restart":
                yield RestartComponent(reading.component, text)
            case "stop":
                yield StopSystem(text)

    def _kept(self, reading: _Reading, exceeded_s: float) -> Iterator[Finding]:
        yield Tell(events.LimitKept(reading.name, reading.about, reading.value, reading.limit.unit, exceeded_s))
        if reading.limit.then == "pause_sources":
            yield ResumeSources(reading.by)

    # ------------------------------------------------------------------ a late tick
    def _late(self, now_s: float, late_s: float, sample: Sample, lives: list[Pulse]) -> Iterator[Finding]:
        limit = self._limits.late
        reading = _Reading("late", limit, late_s, "", lambda: f"the watchdog ran {late_s:.1f} s late")
        change, for_s = self._turn(reading)
        if change == "exceeded":
            diagnosis, culprit, cpu_s = self._diagnosed(now_s, late_s, sample, lives)
            yield Tell(events.TickLate(late_s, diagnosis, culprit, cpu_s, limit.then))
            yield from self._answer(reading, reading.text())
        elif change == "kept":
            yield from self._kept(reading, for_s)

    def _diagnosed(
        self, now_s: float, late_s: float, sample: Sample, lives: list[Pulse]
    ) -> tuple[Diagnosis, str, float]:
        """Why nothing ran: the diagnosis, and the name and the CPU time of the thread that is to blame."""
        before = self._sample
        if before is None:
            return "unknown", "", 0.0
        window_s = now_s - self._sampled_s
        busiest, cpu_s = _busiest(before, sample)
        used_s, run_wait_s = _grown(before.cpu_s, sample.cpu_s), _grown(before.run_wait_s, sample.run_wait_s)
        waited_for_lock = (_grown(before.sleeps, sample.sleeps) or 0) >= _GIL_WAITS_PER_S * late_s
        if cpu_s >= _HOG_FROM * window_s or (waited_for_lock and cpu_s >= _CULPRIT_FROM * (used_s or 0.0) > 0):
            names = {pulse.native_id: pulse.component for pulse in lives}
            return "gil_held", names.get(busiest, sample.thread_cpu[busiest].name), cpu_s
        if waited_for_lock:
            return "gil_held", "", 0.0
        if run_wait_s is not None and run_wait_s >= _STARVED_FROM * late_s:
            return "starved", "", 0.0
        if used_s is not None and used_s < _STOPPED_BELOW * window_s:
            return "stopped", "", 0.0
        return "unknown", "", 0.0


def _busiest(before: Sample, sample: Sample) -> tuple[int, float]:
    """The thread that has used the most CPU time between two samples, by its number, and how much; 0 where there is none."""
    used = {
        native_id: now.cpu_s - then.cpu_s if (then := before.thread_cpu.get(native_id)) is not None else now.cpu_s
        for native_id, now in sample.thread_cpu.items()
    }
    return max(used.items(), key=lambda item: item[1], default=(0, 0.0))


def _cpu_s(pulse: Pulse, sample: Sample) -> float | None:
    cpu = sample.thread_cpu.get(pulse.native_id) if pulse.native_id is not None else None
    return None if cpu is None else cpu.cpu_s


def _grown(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else now - before


def _owner(who: str) -> str:
    """The component of an inbox, or of one replica."""
    return who.partition(".")[0].partition("#")[0]


# ---------------------------------------------------------------------- words
def _memory_text(sample: Sample) -> str:
    if sample.rss_bytes is None or sample.memory_ratio is None or sample.memory_bound_bytes is None:
        return f"resident memory is {_size(sample.rss_bytes or 0)}"
    return (
        f"resident memory is {_size(sample.rss_bytes)}, {sample.memory_ratio:.0%} of the {_size(sample.memory_bound_bytes)} that "
        "the process may use"
    )


def _descriptors_text(sample: Sample) -> str:
    return f"{sample.descriptors:,} file descriptors are open, of {sample.descriptors_most:,} that the process may have"


def _cpu_text(sample: Sample) -> str:
    return f"the process uses {sample.cpu_ratio or 0.0:.0%} of the {sample.cores or 0.0:g} cores that it may use"


def _lag_text(inbox: str, length: int, lag_s: float) -> Callable[[], str]:
    return lambda: f"{length:,} messages in {inbox} have to wait about {lag_s:.0f} s"


def _errors_reading(limit: Limit, component: str, failures: int) -> _Reading:
    def text() -> str:
        return f"{component} has failed {failures:,} times within a minute"

    return _Reading("errors", limit, failures, component, text, component)


def _figure(value: float, unit: str) -> str:
    match unit:
        case "ratio":
            return f"{value:.0%}"
        case "bytes":
            return _size(value)
        case "per_minute":
            return f"{value:g} a minute"
    return f"{value:g} s"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"

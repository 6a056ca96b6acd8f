"""What the watchdog looks at and where the limits are, as frozen values. No thread, no clock.

A limit is exceeded once what it measures has been past its mark for `for_s` seconds, and kept again once it has come back to a
second, lower mark. Between the two marks nothing changes, so that a value at the mark is not reported over and over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, TypeAlias

import attrs

from minions.errors import ConfigurationError
from minions.model import checks

__all__ = [
    "CpuLimit",
    "DescriptorLimit",
    "DiskFreeLimit",
    "ErrorLimit",
    "LagLimit",
    "LateLimit",
    "Limit",
    "MemoryLimit",
    "Watchdog",
    "shown",
]

Then: TypeAlias = Literal["report", "pause_sources", "stop"]
ThenOfOne: TypeAlias = Literal["report", "pause_sources", "restart", "stop"]

_Bounds: TypeAlias = tuple[float, str]  # how much it may be, and what it is


def _number_problems(name: str, value: Any, bounds: _Bounds, *, or_zero: bool = False) -> Iterator[str]:
    """What is wrong with a number that must be above 0 (or may be 0) and at most what its bounds say."""
    most, what = bounds
    low = "from 0 up" if or_zero else "above 0"
    high = "" if most == math.inf else f" and at most {most:g}"
    fits = (
        checks.is_number(value) and math.isfinite(value) and (value > 0 or (or_zero and value == 0)) and value <= most
    )
    if not fits:
        yield f"{name} = {shown(value)}: must be a number {low}{high} ({what})"


def _switch_problems(enabled: Any) -> Iterator[str]:
    if not isinstance(enabled, bool):
        yield f"enabled = {shown(enabled)}: must be true or false"


def shown(value: Any) -> str:
    """A value as it is written in a configuration file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else checks.shown(value)


def _part_of(mark: str, ratio: float) -> Any:
    """The default of a lower mark: a part of the mark, where there is one."""

    def derived(limit: Any) -> Any:
        value = getattr(limit, mark)
        return value * ratio if checks.is_number(value) else value

    return attrs.field(default=attrs.Factory(derived, takes_self=True))


@attrs.frozen(kw_only=True)
class Limit:
    """The root of all limits.

    Attributes:
        enabled: whether it is looked at.
        for_s: for how many seconds the mark must have been passed; 0 for at once.
        then: what follows.
        unit: what its marks are measured in: "ratio" (from 0 to 1), "bytes", "s" or "per_minute".
        side: on which side of the mark is too much.
    """

    enabled: bool = True
    for_s: float = 0.0
    then: ThenOfOne = "report"

    _MARK: ClassVar[str]
    _BACK: ClassVar[str]
    _BOUNDS: ClassVar[_Bounds]
    _ANSWERS: ClassVar[tuple[str, ...]] = ("report", "pause_sources", "stop")
    unit: ClassVar[str]
    side: ClassVar[Literal["over", "under"]] = "over"

    @property
    def mark(self) -> float:
        """Where it begins, in its `unit`."""
        mark: float = getattr(self, self._MARK)
        return mark

    @property
    def back(self) -> float:
        """Where it counts as over, in its `unit`."""
        back: float = getattr(self, self._BACK)
        return back

    def exceeded_by(self, value: float) -> bool:
        """Whether a value is past the mark."""
        return value > self.mark

    def kept_by(self, value: float) -> bool:
        """Whether a value has come back to the lower mark. Never true of a value that is past the mark."""
        return value <= self.back

    def __attrs_post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigurationError(type(self).__name__, problems)

    def _problems(self) -> Iterator[str]:
        yield from _switch_problems(self.enabled)
        yield from _number_problems("for_s", self.for_s, (math.inf, "seconds, 0 for at once"), or_zero=True)
        if self.then not in self._ANSWERS:
            answers = ", ".join(f'"{answer}"' for answer in self._ANSWERS)
            yield f"then = {shown(self.then)}: must be one of {answers}"
        yield from self._mark_problems(self._MARK, self._BACK, self._BOUNDS)

    def _mark_problems(self, mark: str, back: str, bounds: _Bounds) -> Iterator[str]:
        value, lower = getattr(self, mark), getattr(self, back)
        problems = list(_number_problems(mark, value, bounds))
        if not problems and lower is not None:
            problems = list(_number_problems(back, lower, bounds, or_zero=True)) or list(
                self._order_problems(mark, back, value, lower)
            )
        yield from problems

    def _order_problems(self, mark: str, back: str, value: float, lower: float) -> Iterator[str]:
        if not lower < value:
            yield (
                f"{back} = {shown(lower)}: must be below {mark} ({shown(value)}), so that a value at the mark is not "
                f"reported over and over; leave {back} out for a mark that fits"
            )


@attrs.frozen(kw_only=True)
class MemoryLimit(Limit):
    """Resident memory of the process: as a share of what it may use, or in bytes.

    What it may use is the least of the limits of its control groups (cgroup v1 and v2, up to the root) and the machine's memory.

    Args:
        over_ratio: the mark, as a share from 0 to 1; 0.9 unless `over_bytes` is given.
        back_ratio: the lower mark; by default nine tenths of the mark.
        over_bytes: the mark in bytes, instead of a share.
        back_bytes: the lower mark in bytes; by default nine tenths of the mark.
        for_s: for how many seconds the mark must have been passed.
        then: "report", "pause_sources" until the lower mark is reached, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_bytes: int | None = None
    back_bytes: float | None = _part_of("over_bytes", 0.9)
    over_ratio: float | None = attrs.field(
        default=attrs.Factory(lambda limit: 0.9 if limit.over_bytes is None else None, takes_self=True)
    )
    back_ratio: float | None = _part_of("over_ratio", 0.9)
    for_s: float = 10.0
    then: Then = "report"

    _MARK: ClassVar[str] = "over_ratio"
    _BACK: ClassVar[str] = "back_ratio"
    _BOUNDS: ClassVar[_Bounds] = (1.0, "a share of the memory that the process may use")

    @property
    def in_bytes(self) -> bool:
        """Whether the marks are bytes, and not shares."""
        return self.over_bytes is not None

    @property
    def unit(self) -> str:  # type: ignore[override] # here it depends on what was given
        """What it is measured in: "bytes" or "ratio"."""
        return "bytes" if self.in_bytes else "ratio"

    @property
    def mark(self) -> float:
        """Where it begins, in its `unit`."""
        mark = self.over_bytes if self.over_bytes is not None else self.over_ratio
        assert mark is not None
        return mark

    @property
    def back(self) -> float:
        """Where it counts as over, in its `unit`."""
        back = self.back_bytes if self.over_bytes is not None else self.back_ratio
        assert back is not None
        return back

    def _mark_problems(self, mark: str, back: str, bounds: _Bounds) -> Iterator[str]:
        if self.in_bytes and self.over_ratio is not None:
            yield f"over_bytes = {shown(self.over_bytes)}: over_ratio is given too; leave one of them out"
        elif self.in_bytes:
            if self.back_ratio is not None:
                yield f"back_ratio = {shown(self.back_ratio)}: goes with over_ratio; with over_bytes give back_bytes"
            yield from super()._mark_problems("over_bytes", "back_bytes", (math.inf, "bytes"))
        else:
            if self.back_bytes is not None:
                yield f"back_bytes = {shown(self.back_bytes)}: goes with over_bytes; with over_ratio give back_ratio"
            yield from super()._mark_problems(mark, back, bounds)


@attrs.frozen(kw_only=True)
class DescriptorLimit(Limit):
    """Open file descriptors, as a share of those that the process may have (the soft ``RLIMIT_NOFILE``).

    Args:
        over_ratio: the mark, from 0 to 1.
        back_ratio: the lower mark; by default nine tenths of the mark.
        for_s: for how many seconds the mark must have been passed.
        then: "report", "pause_sources" until the lower mark is reached, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_ratio: float = 0.8
    back_ratio: float = _part_of("over_ratio", 0.9)
    for_s: float = 10.0
    then: Then = "report"

    _MARK: ClassVar[str] = "over_ratio"
    _BACK: ClassVar[str] = "back_ratio"
    _BOUNDS: ClassVar[_Bounds] = (1.0, "a share of the descriptors that the process may have")
    unit: ClassVar[str] = "ratio"


@attrs.frozen(kw_only=True)
class DiskFreeLimit(Limit):
    """Free space on the file system of the state folder, in bytes. This one is exceeded from above: by too little.

    Args:
        under_bytes: the mark.
        back_bytes: where there is enough again; by default a quarter more than the mark.
        for_s: for how many seconds there must have been too little.
        then: "report", "pause_sources" until there is enough again, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    under_bytes: int = 200_000_000
    back_bytes: float = _part_of("under_bytes", 1.25)
    for_s: float = 10.0
    then: Then = "report"

    _MARK: ClassVar[str] = "under_bytes"
    _BACK: ClassVar[str] = "back_bytes"
    _BOUNDS: ClassVar[_Bounds] = (math.inf, "bytes")
    unit: ClassVar[str] = "bytes"
    side: ClassVar[Literal["over", "under"]] = "under"

    def exceeded_by(self, value: float) -> bool:
        """Whether a value is under the mark."""
        return value < self.mark

    def kept_by(self, value: float) -> bool:
        """Whether there is enough again. Never true of a value that is under the mark."""
        return value >= self.back

    def _order_problems(self, mark: str, back: str, value: float, lower: float) -> Iterator[str]:
        if not lower > value:
            yield (
                f"{back} = {shown(lower)}: must be above {mark} ({shown(value)}), so that a value at the mark is not "
                f"reported over and over; leave {back} out for a mark that fits"
            )


@attrs.frozen(kw_only=True)
class CpuLimit(Limit):
    """CPU time of the process, as a share of the cores that it may use (affinity, and the quotas of its control groups).

    Args:
        over_ratio: the mark, from 0 to 1. Pure Python in several threads uses one core at most.
        back_ratio: the lower mark; by default nine tenths of the mark.
        for_s: for how many seconds the mark must have been passed.
        then: "report", "pause_sources" until the lower mark is reached, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_ratio: float = 0.95
    back_ratio: float = _part_of("over_ratio", 0.9)
    for_s: float = 600.0
    then: Then = "report"

    _MARK: ClassVar[str] = "over_ratio"
    _BACK: ClassVar[str] = "back_ratio"
    _BOUNDS: ClassVar[_Bounds] = (1.0, "a share of the cores that the process may use")
    unit: ClassVar[str] = "ratio"


@attrs.frozen(kw_only=True)
class LateLimit(Limit):
    """How late the watchdog's own tick is, in seconds: nothing else in Python ran in the meantime either.

    Each time it is exceeded, what was the matter is found out: a thread that kept the interpreter's lock (GIL), a process that
    was stopped, or a machine with no core to spare.

    Args:
        over_s: the mark.
        back_s: the lower mark; by default half the mark.
        for_s: for how many seconds ticks must have been late; 0 for the first one.
        then: "report", "pause_sources" until the lower mark is reached, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_s: float = 2.0
    back_s: float = _part_of("over_s", 0.5)
    for_s: float = 0.0
    then: Then = "report"

    _MARK: ClassVar[str] = "over_s"
    _BACK: ClassVar[str] = "back_s"
    _BOUNDS: ClassVar[_Bounds] = (math.inf, "seconds")
    unit: ClassVar[str] = "s"


@attrs.frozen(kw_only=True)
class _LimitOfOne(Limit):
    """A limit of one component or one of its inboxes, so that there is somebody to restart."""

    _ANSWERS: ClassVar[tuple[str, ...]] = ("report", "pause_sources", "restart", "stop")


@attrs.frozen(kw_only=True)
class LagLimit(_LimitOfOne):
    """How long the messages of one inbox have to wait, in seconds; each inbox by itself.

    The larger of two figures: the time since a message was last settled while others wait, and how long those that wait will
    take at the rate of the last minute.

    Args:
        over_s: the mark.
        back_s: the lower mark; by default half the mark.
        for_s: for how many seconds the mark must have been passed.
        then: "report", "pause_sources" until the lower mark is reached, "restart" the component, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_s: float = 3_600.0
    back_s: float = _part_of("over_s", 0.5)
    for_s: float = 60.0
    then: ThenOfOne = "report"

    _MARK: ClassVar[str] = "over_s"
    _BACK: ClassVar[str] = "back_s"
    _BOUNDS: ClassVar[_Bounds] = (math.inf, "seconds")
    unit: ClassVar[str] = "s"


@attrs.frozen(kw_only=True)
class ErrorLimit(_LimitOfOne):
    """Failures of one component within the last minute, those that are tried again included; each component by itself.

    Args:
        over_per_minute: the mark.
        back_per_minute: the lower mark; by default half the mark.
        for_s: for how many seconds the mark must have been passed.
        then: "report", "pause_sources" until the lower mark is reached, "restart" the component, or "stop" the system.
        enabled: whether this limit is looked at.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    over_per_minute: float = 60.0
    back_per_minute: float = _part_of("over_per_minute", 0.5)
    for_s: float = 0.0
    then: ThenOfOne = "report"

    _MARK: ClassVar[str] = "over_per_minute"
    _BACK: ClassVar[str] = "back_per_minute"
    _BOUNDS: ClassVar[_Bounds] = (math.inf, "failures a minute")
    unit: ClassVar[str] = "per_minute"


@attrs.frozen(kw_only=True)
class Watchdog:
    """What the watchdog of a system looks at, and how often. Unless told otherwise it reports, and does nothing else.

    Args:
        enabled: whether there is a watchdog.
        tick_s: how often it looks, in seconds.
        memory: resident memory of the process.
        descriptors: its open file descriptors.
        disk_free: free space for the state folder.
        cpu: its CPU time.
        late: how late a tick is.
        lag: how long messages wait, each inbox by itself.
        errors: failures a minute, each component by itself.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    enabled: bool = True
    tick_s: float = 1.0
    memory: MemoryLimit = MemoryLimit()
    descriptors: DescriptorLimit = DescriptorLimit()
    disk_free: DiskFreeLimit = DiskFreeLimit()
    cpu: CpuLimit = CpuLimit()
    late: LateLimit = LateLimit()
    lag: LagLimit = LagLimit()
    errors: ErrorLimit = ErrorLimit()

    def __attrs_post_init__(self) -> None:
        problems = [
            *_switch_problems(self.enabled),
            *_number_problems("tick_s", self.tick_s, (3_600.0, "seconds")),
            *self._limit_problems(),
        ]
        if problems:
            raise ConfigurationError("Watchdog", problems)

    def _limit_problems(self) -> Iterator[str]:
        for name, kind in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                yield (
                    f"{name} = {shown(value)}: must be a {kind.__name__}(...); to switch this limit off, "
                    f"{kind.__name__}(enabled=False)"
                )


_LIMITS: dict[str, type[Limit]] = {
    "memory": MemoryLimit,
    "descriptors": DescriptorLimit,
    "disk_free": DiskFreeLimit,
    "cpu": CpuLimit,
    "late": LateLimit,
    "lag": LagLimit,
    "errors": ErrorLimit,
}

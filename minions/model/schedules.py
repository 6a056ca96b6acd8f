"""Schedules: when a method of a component is called by itself. Values and pure functions: no thread, no clock.

A schedule counts in seconds of its own time: `Every` in those of any clock, `Cron` in seconds since the epoch (UTC).
"""

from __future__ import annotations

import inspect
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import attrs

from minions.errors import UsageError
from minions.model.checks import is_number, shown

__all__ = ["MOST_MADE_UP", "Cron", "Every", "Missed", "Schedule", "cron", "cron_is_installed", "every", "schedules_of"]

C = TypeVar("C")

Missed = Literal["once", "all", "none"]
"""What follows for ticks that could not be made at their time: one tick for all of them, one for each, none."""

MOST_MADE_UP = 1_000
"""With missed="all", so many of the missed ticks are made up for, the newest; those before them are not."""

_SCHEDULES = "__minions_schedules__"
_SHORTEST_S = 1e-6
_PATIENCE_S = 60.0
_PATIENCE_AT_FIXED_TIMES_S = 3 * 3_600.0
_LONGEST_CHANGE_S = 26 * 3_600.0  # no zone has ever changed its offset by more than a day
_LOCALTIME = Path("/etc/localtime")


@attrs.frozen(kw_only=True)
class Schedule(ABC):
    """When ticks come.

    Attributes:
        jitter_s: each tick is made later by a random time up to this, in seconds.
        missed: what follows for ticks that were missed.
        at_start: whether there is a tick at each start of the system.
    """

    by_wall: ClassVar[bool]
    """Whether it goes by the time of day, and not by the monotonic clock."""

    jitter_s: float = 0.0
    missed: Missed = "once"
    at_start: bool = False

    @abstractmethod
    def next_after(self, moment_s: float) -> float:
        """The first tick after a moment; infinite where there is none."""

    @abstractmethod
    def newest(self, last_s: float, now_s: float, most: int) -> tuple[float, ...]:
        """The newest ticks after `last_s` and not after `now_s`, `most` at most, in their order."""

    @abstractmethod
    def before(self, last_s: float, now_s: float) -> float:
        """The moment before the next tick where the last one seems to come after now, because the clock was set."""

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """What is wrong with it: which argument, which value, what to write instead."""

    def base(self, last_s: float, now_s: float) -> float:
        """The moment after which the next tick is made, so that ticks which are late do not pile up.

        Of several that are late by `now_s` only the newest is left or, with missed="all", the newest 1,000.

        Args:
            last_s: the last tick that was made, or the moment from which they are counted.
            now_s: now.
        """
        if last_s > now_s:
            return self.before(last_s, now_s)
        most = MOST_MADE_UP if self.missed == "all" else 1
        late = self.newest(last_s, now_s, most + 1)
        return late[0] if len(late) > most else last_s

    def base_after_downtime(self, last_s: float, now_s: float) -> float:
        """The same after a time in which nothing ran: with missed="none", no tick of that time is left."""
        if self.missed == "none" and last_s <= now_s:
            return max((last_s, *self.newest(last_s, now_s, 1)))
        return self.base(last_s, now_s)

    def late_by_s(self, chance: float) -> float:
        """By how much one tick is to be late, in seconds.

        Args:
            chance: a number from 0 to 1.
        """
        return self.jitter_s * chance

    def _common_problems(self, decorator: str) -> Iterator[str]:
        if not is_number(self.jitter_s) or not 0.0 <= self.jitter_s < math.inf:
            yield f"@{decorator}(jitter_s={shown(self.jitter_s)}) must be a number of seconds from 0 up"
        if self.missed not in get_args(Missed):
            yield f"@{decorator}(missed={shown(self.missed)}) must be one of {', '.join(get_args(Missed))}"
        at_start: object = self.at_start
        if not isinstance(at_start, bool):
            yield f"@{decorator}(at_start={shown(self.at_start)}) must be True or False"


@attrs.frozen(kw_only=True)
class Every(Schedule):
    """Ticks at equal distances.

    Attributes:
        parts: what the distance adds up from, as it was written: the unit of time, and how many of them.
    """

    by_wall: ClassVar[bool] = False

    parts: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"@every({', '.join(f'{unit}={shown(number)}' for unit, number in self.parts)})"

    @property
    def period_s(self) -> float:
        """The distance between two ticks, in seconds."""
        return sum(_UNITS_S[unit] * number for unit, number in self.parts)

    def next_after(self, moment_s: float) -> float:
        """The tick after one that was made at `moment_s`, or from which they are counted."""
        return moment_s + self.period_s

    def newest(self, last_s: float, now_s: float, most: int) -> tuple[float, ...]:
        period_s = self.period_s
        count = int((now_s - last_s) // period_s)
        return tuple(last_s + number * period_s for number in range(max(1, count - most + 1), count + 1))

    def before(self, last_s: float, now_s: float) -> float:
        """It is counted anew: the next tick comes one period from now."""
        return now_s

    def problems(self) -> Iterator[str]:
        if not self.parts:
            yield "@every() says no time: write @every(seconds=60), or minutes=, hours=, days="
            return
        wrong = [f"{unit}={shown(number)}" for unit, number in self.parts if not is_number(number)]
        if wrong:
            yield f"@every({', '.join(wrong)}) must be a number"
        elif not _SHORTEST_S <= self.period_s < math.inf:
            yield f"{self} must be at least a microsecond, and finite: write @every(seconds=60), or minutes=, hours=, days="
        elif is_number(self.jitter_s) and self.jitter_s >= self.period_s:
            yield f"{self} has jitter_s={shown(self.jitter_s)}, which must be less than the time between two ticks"
        yield from self._common_problems("every")


@attrs.frozen(kw_only=True)
class Cron(Schedule):
    """Ticks at times of day.

    Attributes:
        expression: as crontab(5) has it.
        timezone: the name of a zone of the IANA database, or "local".
    """

    by_wall: ClassVar[bool] = True

    expression: str
    timezone: str

    def __str__(self) -> str:
        return f"@cron({self.expression!r})"

    @property
    def is_at_fixed_times(self) -> bool:
        """Whether it names hours and minutes, as Debian's cron distinguishes them: then a change of the offset is made up for."""
        fields = self.expression.split()
        return len(fields) == 5 and not fields[0].startswith("*") and not fields[1].startswith("*")

    def next_after(self, moment_s: float) -> float:
        ticks = self._simulated(moment_s, reverse=False)
        # The hour that comes twice is looked at as one: what it has from there may have been before.
        return next((tick for tick in ticks if tick > moment_s), math.inf)

    def newest(self, last_s: float, now_s: float, most: int) -> tuple[float, ...]:
        ahead_s = _LONGEST_CHANGE_S if self.is_at_fixed_times and self.timezone != "UTC" else 1.0
        ticks = (tick for tick in self._simulated(now_s + ahead_s, reverse=True) if tick <= now_s)
        return tuple(reversed(list(islice(takewhile(lambda tick: tick > last_s, ticks), most))))

    def before(self, last_s: float, now_s: float) -> float:
        """Where the time of day was put back by little, what was done is not done again; otherwise the new time counts."""
        patience_s = _PATIENCE_AT_FIXED_TIMES_S if self.is_at_fixed_times else _PATIENCE_S
        return last_s if last_s - now_s <= patience_s else now_s

    def _simulated(self, moment_s: float, *, reverse: bool) -> Iterator[float]:
        simulator = _simulator()
        begin = datetime.fromtimestamp(math.floor(moment_s), UTC).astimezone(_zone(self.timezone))
        return (tick.timestamp() for tick in simulator(self.expression, begin, reverse=reverse))

    def problems(self) -> Iterator[str]:
        yield from self._common_problems("cron")
        try:
            _zone(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            yield (
                f"@cron(timezone={self.timezone!r}) is not known: write a name of the IANA database such as 'Europe/Berlin', or "
                "'local'; where the machine has no such database, pip install tzdata"
            )
            return
        if type(self.expression) is not str:
            yield f"@cron({self.expression!r}) must be a text such as '*/5 * * * *'"
        elif cron_is_installed():
            yield from self._expression_problems()

    def _expression_problems(self) -> Iterator[str]:
        from cronsim import CronSimError  # noqa: PLC0415 - only who has such a schedule needs it

        how = "write minute, hour, day, month and weekday as crontab(5) has them, such as '*/5 * * * *'"
        try:
            if self.next_after(_SOME_MOMENT_S) == math.inf:
                yield f"{self} never comes: {how}"
        except CronSimError as error:
            yield f"{self} is no schedule ({error}): {how}"


_SOME_MOMENT_S = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
_UNITS_S = {"days": 86_400.0, "hours": 3_600.0, "minutes": 60.0, "seconds": 1.0}


def every(
    *,
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    days: float = 0,
    jitter_s: float = 0.0,
    missed: Missed = "once",
    at_start: bool = False,
) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Has a method of a component called again and again, at equal distances: ``@every(seconds=60)``.

    A tick is one unit of work, on the component's own thread, between two messages: what it sends and changes is whole, or it
    never was. Ticks of one component never overlap, and do not drift: one that is late does not make the next one late.

    While the system runs it goes by the monotonic clock, so that it does not matter when the time of day is set. Where the system
    keeps anything at all, it is kept when a tick was made, in the unit of the tick itself; and the time from the last tick to the
    next goes on over a restart, by the time of day. Without that it begins anew: the first tick comes when the time is over for
    the first time.

    If the method raises, the component has failed, which counts for its `Restart`; the next life makes the tick at once. While
    the component is paused there is no tick, and none once it was asked to stop.

    Args:
        seconds, minutes, hours, days: the time between two ticks; they are added up.
        jitter_s: each tick is made later by a random time up to this, in seconds, so that many processes do not all do the same
            at the same time. Less than the time between two ticks.
        missed: what follows when ticks were missed while the system did not run: "once" one tick at the start, for all of them;
            "all" as many as were missed, the newest 1,000 at most, one after the other; "none" nothing until the next is due.
            While it runs, ticks that a long handler, a pause or a restart has held up are made late: one for all of them, with
            "all" each.
        at_start: a tick at each start of the system, too; from there the time to the next is counted.
    """
    given = (("days", days), ("hours", hours), ("minutes", minutes), ("seconds", seconds))
    parts = tuple((unit, number) for unit, number in given if number != 0)
    return _marked(Every(parts=parts, jitter_s=jitter_s, missed=missed, at_start=at_start), "every")


def cron(
    expression: str, *, timezone: str = "UTC", jitter_s: float = 0.0, missed: Missed = "once"
) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    """Has a method of a component called at times of day: ``@cron("30 2 * * *", timezone="Europe/Berlin")``.

    What `every` says of ticks holds here too. It goes by the time of day, and looks at the clock anew at least each minute, so
    that it follows when that is set. What was made is not made again when the clock is put back by up to a minute (at fixed
    times, see below: three hours); when it is put back by more, the new time counts. When it is put forward, what lies between
    is late.

    Where a local time is skipped because clocks are put forward, or comes twice because they are put back, the rule is that of
    Debian's cron, as the library cronsim has it. An expression whose minute and hour do not begin with ``*`` is at fixed times:
    a tick in the time that is skipped is made right after it (2:30 at 3:00), once for several; one in the hour that comes twice
    is made the first time only. All others, and those with six fields, go by real time: no tick for what is skipped, one
    each time for what comes twice.

    It needs the library cronsim: ``pip install 'minions-runtime[cron]'``.

    Args:
        expression: minute, hour, day, month and weekday as crontab(5) has them, names of months and days, lists, ranges and
            steps included; ``L`` is the last day of a month, ``FRI#2`` the second Friday, ``5L`` the last one. With six fields
            the first is the second.
        timezone: the name of a zone of the IANA database, or "local" for that of the machine (``TZ``, then ``/etc/localtime``).
        jitter_s: each tick is made later by a random time up to this, in seconds.
        missed: see `every`.
    """
    return _marked(Cron(expression=expression, timezone=timezone, jitter_s=jitter_s, missed=missed), "cron")


def schedules_of(attribute: Any) -> tuple[Schedule, ...]:
    """The schedules that an attribute of a class was marked with, also where another decorator hides the method."""
    if isinstance(attribute, property):
        attribute = attribute.fget
    elif isinstance(attribute, (staticmethod, classmethod)):
        attribute = attribute.__func__
    schedules: tuple[Schedule, ...] = getattr(attribute, _SCHEDULES, ()) if inspect.isfunction(attribute) else ()
    return schedules


def cron_is_installed() -> bool:
    """Whether the library is there that knows cron expressions."""
    try:
        _simulator()
    except ImportError:
        return False
    return True


def _marked(schedule: Schedule, decorator: str) -> Callable[[Callable[[C], None]], Callable[[C], None]]:
    def mark(method: Callable[[C], None]) -> Callable[[C], None]:
        if not inspect.isfunction(method):
            raise UsageError(f"@{decorator} stands above a method of a component, not above {method!r}")
        setattr(method, _SCHEDULES, (*schedules_of(method), schedule))
        return method

    return mark


def _simulator() -> Any:
    from cronsim import CronSim  # noqa: PLC0415 - only who has such a schedule needs it

    return CronSim


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    if name != "local":
        return ZoneInfo(name)
    configured = os.environ.get("TZ", "").lstrip(":")
    if configured:
        return ZoneInfo(configured)
    if not _LOCALTIME.exists():
        return UTC
    with _LOCALTIME.open("rb") as file:
        return ZoneInfo.from_file(file)

"""The timetable of one life: which tick is due now, and when to look again. A plain object on the component's thread.

Where a schedule stands is kept in a row of its own, which is written in the unit of each tick; and in that of the first
`on_start` of each run, so that the time counts from there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import attrs

from minions.clock import Clock
from minions.flow import rows
from minions.flow.rows import Tick
from minions.model.schedules import Schedule

__all__ = ["Timetable"]

_LOOK_AGAIN_AFTER_S = 60.0
_WALL_MAY_DRIFT_S = 0.5


@attrs.define(eq=False)
class _Line:
    """One schedule. Its moments are those of its own time: of the wall clock or of the monotonic one.

    Attributes:
        last_s: the last tick, or the moment from which they are counted.
        next_s: the tick that follows.
        due_s: when that is made, with its jitter.
        looked_s: up to which moment it has been looked for ticks that are late.
    """

    method: str
    schedule: Schedule
    last_s: float
    next_s: float = math.inf
    due_s: float = math.inf
    looked_s: float = -math.inf


class Timetable:
    """The schedules of one life.

    Attributes:
        due_s: when to look at it next, monotonic seconds.
    """

    def __init__(
        self,
        component: str,
        schedules: Mapping[str, Schedule],
        clock: Clock,
        run_id: str,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is due before `begin`.

        Args:
            component: its name.
            schedules: by the name of the method.
            clock: the source of time.
            run_id: tells this run of the system from others, whose monotonic time is not ours.
            chance: numbers from 0 to 1, for jitter.
        """
        self.due_s = math.inf
        self._component = component
        self._schedules = schedules
        self._clock = clock
        self._run_id = run_id
        self._chance = chance
        self._lines: list[_Line] = []
        self._wall_ahead_s = 0.0  # by how much the wall clock was ahead of the monotonic one

    def begin(self, kept: Mapping[str, bytes]) -> dict[str, bytes]:
        """Goes on from where an earlier life, or an earlier run, has come to.

        Args:
            kept: for each schedule that was begun before, its row.

        Returns:
            The rows that are to be kept, by the name of the method, before anything is due.
        """
        mono_s, wall_s = self._clock.monotonic(), self._clock.wall()
        rows_: dict[str, bytes] = {}
        for method, schedule in self._schedules.items():
            row = kept.get(method)
            tick = None if row is None else rows.tick_of(self._component, row)
            if tick is not None and tick.run_id == self._run_id:
                last_s = tick.wall_s if schedule.by_wall else tick.mono_s
            else:
                last_s = _first(schedule, tick, mono_s, wall_s)
                rows_[method] = self._row(schedule, last_s, mono_s, wall_s)
            line = _Line(method, schedule, last_s)
            self._set(line, wall_s if schedule.by_wall else mono_s)
            self._lines.append(line)
        self._plan_next(mono_s, wall_s)
        return rows_

    def due(self) -> str | None:
        """The method of the tick that is due now, the earliest first; None where none is."""
        mono_s, wall_s = self._clock.monotonic(), self._clock.wall()
        if mono_s < self.due_s and abs(wall_s - mono_s - self._wall_ahead_s) < _WALL_MAY_DRIFT_S:
            return None
        for line in self._lines:
            now_s = wall_s if line.schedule.by_wall else mono_s
            if now_s < line.last_s or line.looked_s < line.next_s <= now_s:
                self._set(line, now_s)
        self._plan_next(mono_s, wall_s)
        if mono_s < self.due_s:
            return None
        late = [(self._in_s(line, mono_s, wall_s), number) for number, line in enumerate(self._lines)]
        return self._lines[min(late)[1]].method

    def made(self, method: str) -> dict[str, bytes]:
        """The row that is to be kept in the unit of a tick, by the name of the method."""
        line = self._line(method)
        return {method: self._row(line.schedule, line.next_s, self._clock.monotonic(), self._clock.wall())}

    def is_whole(self, method: str) -> None:
        """Takes note that the unit of a tick is whole."""
        line = self._line(method)
        mono_s, wall_s = self._clock.monotonic(), self._clock.wall()
        line.last_s = line.next_s
        self._next(line)
        self._plan_next(mono_s, wall_s)

    def _line(self, method: str) -> _Line:
        return next(line for line in self._lines if line.method == method)

    def _set(self, line: _Line, now_s: float) -> None:
        """Looks which of the ticks that are late are left."""
        base_s = line.schedule.base(line.last_s, now_s)
        line.looked_s = now_s
        if base_s != line.last_s or line.next_s == math.inf:
            line.last_s = base_s
            self._next(line)

    def _next(self, line: _Line) -> None:
        line.next_s = line.schedule.next_after(line.last_s)
        line.due_s = line.next_s + line.schedule.late_by_s(self._chance())

    def _in_s(self, line: _Line, mono_s: float, wall_s: float) -> float:
        """In how many seconds it is due."""
        return line.due_s - (wall_s if line.schedule.by_wall else mono_s)

    def _plan_next(self, mono_s: float, wall_s: float) -> None:
        self._wall_ahead_s = wall_s - mono_s
        due_s = math.inf
        for line in self._lines:
            in_s = self._in_s(line, mono_s, wall_s)
            due_s = min(due_s, mono_s + (min(in_s, _LOOK_AGAIN_AFTER_S) if line.schedule.by_wall else in_s))
        self.due_s = due_s

    def _row(self, schedule: Schedule, last_s: float, mono_s: float, wall_s: float) -> bytes:
        ahead_s = wall_s - mono_s
        if schedule.by_wall:
            return Tick(wall_s=last_s, mono_s=last_s - ahead_s, run_id=self._run_id).body()
        return Tick(wall_s=last_s + ahead_s, mono_s=last_s, run_id=self._run_id).body()


def _first(schedule: Schedule, tick: Tick | None, mono_s: float, wall_s: float) -> float:
    """The moment after which the first tick of this run is made, in the schedule's own time."""
    last_s = wall_s if tick is None else schedule.base_after_downtime(tick.wall_s, wall_s)
    if schedule.at_start and schedule.next_after(last_s) > wall_s:
        last_s = wall_s - (schedule.next_after(wall_s) - wall_s)
    return last_s if schedule.by_wall else last_s - (wall_s - mono_s)

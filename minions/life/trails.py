"""What a life notes of its unit of work, so that the unit can be replayed if it fails. Component's thread only; no lock."""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from types import FunctionType
from typing import Any

from minions.flow.calls import Call
from minions.flow.channel import Entry
from minions.flow.unit import Unit
from minions.life.capture import Answered, Asked, ClockRead, ClockReads, Read

__all__ = ["MOST_READS", "ClockTrail", "Place", "Trail", "Trails", "place_of"]

MOST_CALLS = 1_000
"""So many calls of one unit are kept; one that makes more cannot be replayed past them."""
_LARGEST_RESULT_BYTES = 256 << 10

MOST_READS = 1_000
"""So many clock reads of one unit are kept, the first ones; of the others it is known how many there were."""

Place = tuple[int, Entry | None, object]
"""What tells a unit of work from the one before: how many there were, the message in work, what stands for the unit itself."""


def place_of(units: int, entry: Entry | None, unit: Unit | None) -> Place:
    """The place of a unit; of what is between two units where there is none."""
    # One of its parts stands for the unit: who keeps the place keeps none of the messages that the unit has sent.
    return units, entry, None if unit is None else unit.granted


class Trail:
    """The calls that one unit of work has made so far. Component's thread only; no lock.

    It is begun anew with the first call of another unit, so that a unit that calls nobody has nothing to do with it.
    """

    __slots__ = ("_asked", "_entry", "_units")

    def __init__(self) -> None:
        self._units = -1
        self._entry: Entry | None = None
        self._asked: list[Asked] = []

    def note(self, units: int, entry: Entry | None, call: Call, answered: Answered, what: Any) -> None:
        """Adds a call.

        Args:
            units: how many units there were before; this and the next tell the unit that makes the call from others.
            entry: the message in work; None where a unit may have several.
        """
        if units != self._units or entry is not self._entry:
            self._units, self._entry, self._asked = units, entry, []
        if _size_of(what) > _LARGEST_RESULT_BYTES:
            answered, what = "too large", None
        if len(self._asked) < MOST_CALLS:
            self._asked.append((call, answered, what))

    def of(self, units: int, entry: Entry | None) -> list[Asked]:
        """The calls of a unit."""
        return list(self._asked) if self._units == units and self._entry is entry else []

    def last(self) -> list[Asked]:
        """The calls of the last unit that has made any."""
        return self._asked

    def forget(self) -> None:
        """Another unit begins, which could not be told from the one before."""
        self._units = -1


class ClockTrail:
    """What one unit of work has read of the clock so far. Component's thread only; no lock.

    It is begun anew with the first read of another unit, so that a unit that does not read the clock has nothing to do with it.
    What a `run` reads between two units belongs to the second one, and so does what a unit had read that never was: a replay
    of the second one makes both again.
    """

    __slots__ = ("_entry", "_more", "_reads", "_unit", "_units")

    def __init__(self) -> None:
        self._units = -1
        self._entry: Entry | None = None
        self._unit: object = None  # that in which the last read was made; None for one between two units
        self._reads: list[ClockRead] = []
        self._more = 0

    def note(self, place: Place, read: ClockRead) -> None:
        """Adds a read."""
        units, entry, unit = place
        if units != self._units or entry is not self._entry or unit is not self._unit:
            if not self._is_of(place):
                self._reads, self._more = [], 0
            self._units, self._entry, self._unit = place
        if len(self._reads) < MOST_READS:
            self._reads.append(read)
        else:
            self._more += 1

    def of(self, place: Place) -> ClockReads:
        """The reads of a unit."""
        return self.last() if self._is_of(place) else ClockReads()

    def last(self) -> ClockReads:
        """The reads of the last unit that has made any."""
        return ClockReads(tuple(self._reads), self._more)

    def unit_is_dropped(self) -> None:
        """The unit of the last reads never was."""
        self._unit = None

    def forget(self) -> None:
        """Another unit begins, which could not be told from the one before."""
        self._units = -1

    def _is_of(self, place: Place) -> bool:
        units, entry, unit = place
        return units == self._units and entry is self._entry and (self._unit is None or self._unit is unit)


class Trails:
    """All that one life notes. Only where crashes are recorded is there one.

    Attributes:
        calls: those that the unit has made of other components.
        clock: what it has read of the clock.
        asked_at_start: the calls that `on_start` had made.
        reads_at_start: what that had read of the clock.
    """

    def __init__(self) -> None:
        self.calls = Trail()
        self.clock = ClockTrail()
        self.asked_at_start: list[Asked] = []
        self.reads_at_start = ClockReads()
        self._other_clock = (
            ClockTrail()
        )  # of what follows a commit; while that is at work, of the unit that it has come between
        self._dropped: tuple[int, dict[str, Read]] | None = None

    def start_is_over(self) -> None:
        """`on_start` has come to its end."""
        self.asked_at_start, self.calls = self.calls.last(), Trail()
        self.reads_at_start = self.clock.last()

    def another_unit(self) -> None:
        """Another unit begins that may not differ in its number from the one before."""
        self.leave_calls()
        self.clock.forget()

    def leave_calls(self) -> None:
        """The same, for what is not looked at before a unit has begun."""
        self.calls.forget()
        self._dropped = None

    def change_clock(self) -> None:
        """What follows a commit begins, or has ended."""
        self.clock, self._other_clock = self._other_clock, self.clock

    def unit_is_dropped(self, units: int, tables: dict[str, Read]) -> None:
        """The open unit is about to be dropped; whether it is the one that its life ends with is not known yet.

        Args:
            units: how many there were before.
            tables: what it has read of tables.
        """
        self._dropped = units, tables
        self.clock.unit_is_dropped()

    def tables(self, units: int, so_far: Callable[[], dict[str, Read]]) -> dict[str, Read]:
        """What the unit with so many before it has read of tables, also where it was dropped meanwhile."""
        return self._dropped[1] if self._dropped is not None and self._dropped[0] == units else so_far()

    def reads(self, place: Place, *, follows_commit: bool) -> ClockReads:
        """What a unit has read of the clock."""
        return (self._other_clock if follows_commit else self.clock).of(place)


def _size_of(what: Any) -> int:
    """How many bytes a value has, without what it refers to; 0 where only Python code of its class could tell.

    That may take as long as it likes, as with a table of objects, and may raise.
    """
    if isinstance(type(what).__sizeof__, FunctionType):
        return 0
    try:
        return getsizeof(what, 0)
    except Exception:  # noqa: BLE001 - how large it is is no reason for the call to fail
        return 0

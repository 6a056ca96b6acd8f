"""What is known of a unit of work at the moment in which it fails: values that are at hand, taken by reference.

On the component's own thread, and quick: nothing is encoded, written or asked of the disk here; the recorder does that later on a
thread of its own. Nothing of it leads to the component's instance, which is to be freed before the next life begins.
"""

from __future__ import annotations

from sys import getsizeof
from types import FunctionType
from typing import Any, Literal

import attrs

from minions.flow.calls import Call
from minions.flow.channel import Entry
from minions.flow.unit import Unit
from minions.model.component import Component

__all__ = [
    "MOST_READS",
    "Answered",
    "Asked",
    "Capture",
    "ClockName",
    "ClockReads",
    "ClockTrail",
    "Kind",
    "Place",
    "Read",
    "Trail",
    "place_of",
]

Kind = Literal["on_start", "handler", "run", "tick", "call", "after_commit", "on_stop"]
"""What kind of unit of work it was."""

MOST_CALLS = 1_000
"""So many calls of one unit are kept; one that makes more cannot be replayed past them."""
_LARGEST_RESULT_BYTES = 256 << 10

Answered = Literal["returned", "raised", "submitted", "too large"]
"""What has come of a call: it was "submitted" where nobody waited for it, and "too large" where its result is not kept."""

Asked = tuple[Call, Answered, Any]
"""A call of another component that a unit has made, and what it returned; class and arguments of what it raised; its future."""

ClockName = Literal["now", "monotonic"]
"""The method of a component that reads the clock."""

ClockRead = tuple[ClockName, float]
"""By which method it was read, and what, in seconds; of the time of day, those since the epoch."""

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


@attrs.frozen
class ClockReads:
    """What was read of the clock.

    Attributes:
        first: the first reads, in order.
        more: how many times more.
    """

    first: tuple[ClockRead, ...] = ()
    more: int = 0


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


@attrs.frozen(eq=False)
class Read:
    """What is known of a table as the last whole unit left it.

    Attributes:
        known: the stored form of each entry, by the text of its key; None where there is none; the last that was read first.
        present: the texts of keys that were met, and whose entries were not read.
        ranges: of which ranges of texts everything is known: the first, and the last; None for the end of the table.
        length: how many entries there are, where that was asked; otherwise None.
    """

    known: dict[str, bytes | None]
    present: frozenset[str]
    ranges: tuple[tuple[str, str | None], ...]
    length: int | None


@attrs.frozen(eq=False, kw_only=True)
class Capture:
    """One failure.

    Attributes:
        component: the name of the component, with the number of the replica.
        of: its class.
        epoch: of its life.
        kind: of the unit.
        where: the method that was at work; "on_start", "run" or "on_stop".
        own_method: of what `after_commit` was handed: whether it is a method of the component.
        error_kind: the class of the error, ``module:name``.
        error, traceback, frames: what was raised, see `traces`.
        message_id: of the message in work, or empty.
        units: how many units the life had made before.
        at: when it failed, wall time; and monotonic.
        partition: whose state was in place; None for the component's own.
        states: the stored forms as of the last whole unit.
        tables: likewise, as far as they were read.
        received: the messages in work.
        called: the call in work.
        asked: the calls that the unit has made.
        asked_at_start: those that `on_start` had made in the same life.
        reads: what the unit has read of the clock; None where nobody knows, as of a process that has died.
        reads_at_start: what `on_start` had read in the same life; likewise.
        attempt: how often the message has failed now; 0 where it is not put down to one.
        set_aside: whether the message has become a dead letter.
    """

    component: str
    of: type[Component]
    epoch: int
    kind: Kind
    where: str
    own_method: bool = False
    error_kind: str = ""
    error: str
    traceback: str = ""
    frames: tuple[str, ...] = ()
    message_id: str
    units: int = 0
    at: float
    monotonic_s: float
    partition: int | None
    states: dict[str, bytes]
    tables: dict[str, Read] = attrs.Factory(dict)
    received: list[Entry]
    called: Call | None = None
    asked: list[Asked] = attrs.Factory(list)
    asked_at_start: list[Asked] = attrs.Factory(list)
    reads: ClockReads | None = None
    reads_at_start: ClockReads | None = None
    attempt: int = 0
    set_aside: bool = False

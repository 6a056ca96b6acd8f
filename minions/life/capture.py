"""What is known of a unit of work at the moment in which it fails: values that are at hand, taken by reference.

On the component's own thread, and quick: nothing is encoded, written or asked of the disk here; the recorder does that later on a
thread of its own. Nothing of it leads to the component's instance, which is to be freed before the next life begins.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from minions.flow.calls import Call
from minions.flow.channel import Entry
from minions.model.component import Component

__all__ = [
    "Answered",
    "Asked",
    "Capture",
    "ClockName",
    "ClockRead",
    "ClockReads",
    "Kind",
    "Read",
]

Kind = Literal["on_start", "handler", "run", "tick", "call", "after_commit", "on_stop"]
"""What kind of unit of work it was."""

Answered = Literal["returned", "raised", "submitted", "too large"]
"""What has come of a call: it was "submitted" where nobody waited for it, and "too large" where its result is not kept."""

Asked = tuple[Call, Answered, Any]
"""A call of another component that a unit has made, and what it returned; class and arguments of what it raised; its future."""

ClockName = Literal["now", "monotonic"]
"""The method of a component that reads the clock."""

ClockRead = tuple[ClockName, float]
"""By which method it was read, and what, in seconds; of the time of day, those since the epoch."""


@attrs.frozen
class ClockReads:
    """What was read of the clock.

    Attributes:
        first: the first reads, in order.
        more: how many times more.
    """

    first: tuple[ClockRead, ...] = ()
    more: int = 0


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

"""Which units of work are told to plugins, and which unit has sent which message.

Only where a plugin had asked for `unit_ended` when the system was started. Components' threads note what they send and look up
what they receive; the thread that calls the hooks writes down what has to be known after a restart. `_lock` guards `_origins`;
nothing is called under it.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from minions.events import UnitEnded

__all__ = ["Origin", "Place", "Units"]

UNITS_FILE = "units.jsonl"
_MOST_ORIGINS = 100_000
_MOST_FILE_BYTES = 8 << 20
_LONGEST_NUMBER = 20  # of digits; far longer ones Python refuses

Place = tuple[str, int]
"""A message: the name of its channel, and its number there."""


@attrs.frozen
class Origin:
    """The unit that has sent a message, as `UnitEnded` names it."""

    trace_id: str
    unit_id: str


class Units:
    """The units of one run.

    Attributes:
        tell: takes what is told; returns at once. Set before anything begins.
        durable: the names of the channels whose messages outlive the process. Set before anything begins.
    """

    def __init__(self, ratio: float, chance: Callable[[], float] = random.random) -> None:
        """Args:
        ratio: how many of the units that no message has led to are told, from 0 to 1; and all that follow from these.
        chance: numbers from 0 to 1.
        """
        self.tell: Callable[[UnitEnded], None] = lambda unit: None
        self.durable: frozenset[str] = frozenset()
        self._ratio = ratio
        self._chance = chance
        self._lock = threading.Lock()
        # The oldest first. Not a dict, in which the way to the first one is longer the more there were before it.
        self._origins: OrderedDict[Place, Origin] = OrderedDict()
        self._file: Path | None = None
        self._descriptor: int | None = None  # of the thread that calls the hooks, from the first line on
        self._size_bytes = 0
        self._kept: UnitEnded | None = None  # the last one that was looked at: each hook that is told of it comes here

    # ------------------------------------------------------------------ on the components' threads
    def wants_root(self) -> bool:
        """Whether a unit that no message has led to is told."""
        return self._ratio >= 1.0 or self._chance() < self._ratio

    @property
    def wants_strays(self) -> bool:
        """Whether a unit is told of whose message nobody knows where it came from."""
        return self._ratio >= 1.0

    def origin_of(self, place: Place) -> Origin | None:
        """Which unit has sent a message; None where it was not told, or that was too long ago."""
        with self._lock:
            return self._origins.get(place)

    def note(self, places: Iterable[Place], origin: Origin) -> None:
        """Notes who has sent some messages; before anybody can receive them."""
        with self._lock:
            for place in places:
                self._origins[place] = origin
            while len(self._origins) > _MOST_ORIGINS:
                self._origins.popitem(last=False)

    def forget(self, places: Iterable[Place]) -> None:
        """Says that some messages were handled."""
        with self._lock:
            for place in places:
                self._origins.pop(place, None)

    # ------------------------------------------------------------------ across restarts
    def resume(self, folder: Path) -> None:
        """Reads what earlier runs have written down, before anything begins. What cannot be read is not known."""
        self._file = folder / UNITS_FILE
        for file in (self._older(), self._file):
            for origin, sent in _lines_of(file):
                self.note(filter(None, map(place_of, sent)), origin)

    def keep(self, unit: UnitEnded) -> None:
        """Writes down what a unit has sent, on the thread that calls the hooks. Where it cannot, a restart forgets it."""
        if self._file is None or unit is self._kept:
            return
        self._kept = unit
        sent = [message for message in unit.sent if (place := place_of(message)) and place[0] in self.durable]
        if not sent:
            return
        line = json.dumps([unit.trace_id, unit.unit_id, *sent], separators=(",", ":")).encode("ascii") + b"\n"
        with suppress(OSError):
            if self._descriptor is not None and self._size_bytes > _MOST_FILE_BYTES:
                self.close()
                self._file.replace(self._older())
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
                self._descriptor = os.open(self._file, flags, 0o600)
                self._size_bytes = os.fstat(self._descriptor).st_size
            self._size_bytes += os.write(self._descriptor, line)

    def close(self) -> None:
        """Lets go of the file. Twice is safe."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _older(self) -> Path:
        assert self._file is not None
        return self._file.with_name(UNITS_FILE + ".1")


def place_of(message_id: str) -> Place | None:
    """The message that an id names; None where it is none."""
    channel, _, number = message_id.rpartition("-")
    channel = channel.rpartition("-")[0]
    return (channel, int(number)) if channel and number.isdecimal() and len(number) < _LONGEST_NUMBER else None


def _lines_of(file: Path) -> Iterator[tuple[Origin, list[str]]]:
    """What a file has, without the lines that are none, such as one that was begun when the process was killed."""
    with suppress(OSError), file.open("rb") as lines:
        for line in lines:
            with suppress(ValueError, RecursionError):
                match json.loads(line):
                    case [str(trace_id), str(unit_id), *sent] if all(isinstance(each, str) for each in sent):
                        yield Origin(trace_id, unit_id), [str(each) for each in sent]

"""Which messages of a channel are settled: a low-water mark and the intervals above it.

Replicas settle out of order. Intervals keep the record small however far one slow message lags behind the rest: there are
never more of them than messages that wait or are in work. Where partitions share an inbox and one of them stands still, that
can be half of what the inbox holds, so nothing here searches all of them for one message.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable

__all__ = ["AckSet", "Acks", "settled", "unsettled"]

Acks = tuple[int, tuple[tuple[int, int], ...]]
"""A frozen copy: everything up to the first number, and the intervals (first, last) above it, ascending."""


class AckSet:
    """The settled sequence numbers of one channel. Guarded by the journal's lock.

    Invariant: the intervals are ascending and disjoint, do not touch each other, and lie above ``low + 1``.

    Attributes:
        low: every message up to this number is settled.
    """

    __slots__ = ("_firsts", "_lasts", "low")

    def __init__(self, low: int = 0, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self.low = low
        self._firsts: list[int] = []  # where each interval begins
        self._lasts: list[int] = []  # where it ends, at the same place
        for first, last in intervals:
            self._firsts.append(first)
            self._lasts.append(last)

    def add(self, sequence: int) -> bool:
        """Settles one message; False when it was settled before."""
        firsts, lasts = self._firsts, self._lasts
        if sequence == self.low + 1:
            if firsts and firsts[0] == sequence + 1:
                del firsts[0]
                self.low = lasts.pop(0)
            else:
                self.low = sequence
            return True
        if sequence <= self.low:
            return False
        place = bisect_right(firsts, sequence)  # of the first interval that begins above it
        before = lasts[place - 1] if place else 0
        if before >= sequence:
            return False
        continues = before == sequence - 1
        if place < len(firsts) and firsts[place] == sequence + 1:
            if continues:
                lasts[place - 1] = lasts.pop(place)
                del firsts[place]
            else:
                firsts[place] = sequence
        elif continues:
            lasts[place - 1] = sequence
        else:
            firsts.insert(place, sequence)
            lasts.insert(place, sequence)
        return True

    def frozen(self) -> Acks:
        return self.low, tuple(zip(self._firsts, self._lasts, strict=True))

    @property
    def highest(self) -> int:
        """The highest settled number."""
        return self._lasts[-1] if self._lasts else self.low


def settled(acks: Acks, first: int, last: int) -> bool:
    """Whether every message from `first` to `last` is settled."""
    low, intervals = acks
    return last <= low or last <= _end_of(intervals, max(first, low + 1))


def unsettled(acks: Acks, sequences: Iterable[int]) -> list[int]:
    """Those of the ascending `sequences` that are not settled."""
    low, intervals = acks
    if not intervals:
        return [sequence for sequence in sequences if sequence > low]
    return [sequence for sequence in sequences if sequence > low and sequence > _end_of(intervals, sequence)]


def _end_of(intervals: tuple[tuple[int, int], ...], sequence: int) -> int:
    """The end of the last interval that begins at a number or below it; 0 where there is none."""
    place = bisect_right(intervals, (sequence, math.inf))
    return intervals[place - 1][1] if place else 0

"""Which messages of a channel are settled: a low-water mark and the intervals above it.

Replicas settle out of order. Intervals keep the record small however far one slow message lags behind the rest: there are
never more of them than messages in work.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["AckSet", "Acks", "settled", "unsettled"]

Acks = tuple[int, tuple[tuple[int, int], ...]]
"""A frozen copy: everything up to the first number, and the intervals (first, last) above it, ascending."""


class AckSet:
    """The settled sequence numbers of one channel. Guarded by the journal's lock.

    Invariant: the intervals are disjoint, do not touch each other, and lie above ``low + 1``.

    Attributes:
        low: every message up to this number is settled.
    """

    __slots__ = ("_first_of", "_last_of", "low")

    def __init__(self, low: int = 0, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self.low = low
        self._last_of = dict(intervals)
        self._first_of = {last: first for first, last in self._last_of.items()}

    def add(self, sequence: int) -> bool:
        """Settles one message; False when it was settled before."""
        if sequence == self.low + 1:
            self.low = self._close(sequence)
            return True
        if sequence <= self.low or sequence in self:
            return False
        first = self._first_of.pop(sequence - 1, sequence)
        self._last_of.pop(first, None)
        last = self._close(sequence)
        self._last_of[first] = last
        self._first_of[last] = first
        return True

    def _close(self, sequence: int) -> int:
        """The last number of the interval that begins just above `sequence`, which it swallows; or `sequence` itself."""
        last = self._last_of.pop(sequence + 1, None)
        if last is None:
            return sequence
        del self._first_of[last]
        return last

    def __contains__(self, sequence: int) -> bool:
        if sequence <= self.low or sequence in self._last_of or sequence in self._first_of:
            return sequence > 0
        return any(first < sequence < last for first, last in self._last_of.items())

    def frozen(self) -> Acks:
        return self.low, tuple(sorted(self._last_of.items()))

    @property
    def highest(self) -> int:
        """The highest settled number."""
        return max(self._first_of, default=self.low)


def settled(acks: Acks, first: int, last: int) -> bool:
    """Whether every message from `first` to `last` is settled."""
    low, intervals = acks
    return last <= low or any(begin <= max(first, low + 1) and last <= end for begin, end in intervals)


def unsettled(acks: Acks, sequences: Iterable[int]) -> list[int]:
    """Those of the ascending `sequences` that are not settled."""
    low, intervals = acks
    if not intervals:
        return [sequence for sequence in sequences if sequence > low]
    return [
        sequence
        for sequence in sequences
        if sequence > low and not any(first <= sequence <= last for first, last in intervals)
    ]

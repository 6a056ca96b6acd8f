"""Histograms of durations: buckets of fixed bounds, so that those of many threads add up. No lock.

A `Recorder` is written by one thread. Any thread may take a `Histogram` of it, which is a frozen value; what is recorded at that
very moment may be in one of its numbers and not yet in another.
"""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterable
from typing import ClassVar

import attrs

__all__ = ["BOUNDS_S", "Histogram", "Recorder"]

_PER_OCTAVE = 4
BOUNDS_S = tuple(1e-6 * 2 ** (step / _PER_OCTAVE) for step in range(30 * _PER_OCTAVE + 1))
"""The upper bounds of the buckets, in seconds: from a microsecond to eighteen minutes, four to each doubling."""

_BUCKETS = len(BOUNDS_S) + 1  # the last one is for what took longer


@attrs.frozen
class Histogram:
    """How long something took, in many cases, as of one moment. Histograms add up: ``one + another``.

    Attributes:
        counts: how many cases each bucket holds. Bucket `i` holds what took at most ``bounds_s[i]`` and longer than the bound
            before; the last one, which has no bound, what took longer than all of them.
        total_s: what all cases took together, in seconds.
        max_s: the longest of all, in seconds; 0 where there was none.
    """

    bounds_s: ClassVar[tuple[float, ...]] = BOUNDS_S
    """The bounds of all histograms, in seconds, ascending: 1 microsecond, and each 19 % above the one before."""
    error_ratio: ClassVar[float] = 2 ** (1 / _PER_OCTAVE) - 1
    """By which part of itself a `quantile` may be too high: 0.19. It never is too low."""

    counts: tuple[int, ...] = attrs.field(default=(0,) * _BUCKETS, repr=False)
    total_s: float = 0.0
    max_s: float = 0.0

    @property
    def count(self) -> int:
        """How many cases there were."""
        return sum(self.counts)

    @property
    def mean_s(self) -> float:
        """What one took on average, in seconds; 0 where there was none."""
        return self.total_s / self.count if any(self.counts) else 0.0

    @property
    def p50_s(self) -> float:
        """Half of the cases took at most so long, in seconds; see `quantile`."""
        return self.quantile(0.5)

    @property
    def p95_s(self) -> float:
        """95 of 100 cases took at most so long, in seconds; see `quantile`."""
        return self.quantile(0.95)

    @property
    def p99_s(self) -> float:
        """99 of 100 cases took at most so long, in seconds; see `quantile`."""
        return self.quantile(0.99)

    def quantile(self, ratio: float) -> float:
        """How long that part of the cases took at most, in seconds; 0 where there was none.

        It is the upper bound of the bucket in which the true value lies, or `max_s` where that is less: never too low, and too
        high by 19 % at most, or by a microsecond for what takes less than one. Beyond the last bound it is `max_s`.

        Args:
            ratio: from 0 to 1: 0.5 for the median.

        Raises:
            ValueError: the ratio is no number from 0 to 1.
        """
        if not 0 <= ratio <= 1:
            raise ValueError(f"quantile({ratio!r}): must be a number from 0 to 1")
        rank, seen = ratio * self.count, 0
        for bound_s, count in zip(BOUNDS_S, self.counts, strict=False):
            seen += count
            if count and seen >= rank:
                return min(bound_s, self.max_s)
        return self.max_s

    def __add__(self, other: Histogram) -> Histogram:
        return Histogram(
            tuple(map(operator.add, self.counts, other.counts)),
            self.total_s + other.total_s,
            max(self.max_s, other.max_s),
        )

    @classmethod
    def merged(cls, histograms: Iterable[Histogram]) -> Histogram:
        """The sum of histograms; an empty one for none."""
        found = list(histograms)
        if len(found) == 1:
            return found[0]
        return cls(
            tuple(map(sum, zip((0,) * _BUCKETS, *(each.counts for each in found), strict=True))),
            sum(each.total_s for each in found),
            max((each.max_s for each in found), default=0.0),
        )


class Recorder:
    """A histogram in the making. One thread adds; any may take what there is."""

    __slots__ = ("_counts", "_max_s", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total_s = 0.0
        self._max_s = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there was no case so far."""
        return not any(self._counts)

    def add(self, seconds: float, count: int = 1) -> None:
        """Adds so many cases that took so long each."""
        self._counts[bisect_left(BOUNDS_S, seconds)] += count
        self._total_s += seconds * count
        if seconds > self._max_s:
            self._max_s = seconds

    def take(self) -> Histogram:
        """What was added so far."""
        return Histogram(tuple(self._counts), self._total_s, self._max_s)

"""Samples and what is worked out from them: pure functions of values.

Ratios are taken between runs of the same round, a few seconds apart, and the median is taken of the ratios: what slows
the machine for a minute slows both sides of a ratio.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import comb
from statistics import median

import attrs


@attrs.frozen
class Sample:
    """One run of one contender. A run that failed has a problem and no figures."""

    round_number: int
    position: int  # in its round, from 1
    name: str
    figures: Mapping[str, float]
    problem: str = ""


@attrs.frozen
class Spread:
    """A median with the smallest and the largest value."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """None for no values."""
    return Spread(median(values), min(values), max(values)) if values else None


@attrs.frozen
class MedianRange:
    """A median, and the range in which that of infinitely many values lies with a probability of 95 %."""

    median: float
    low: float
    high: float


def median_range(values: Sequence[float]) -> MedianRange:
    """From the values' order alone, whatever their distribution; for fewer than six values all that there are."""
    ordered, count = sorted(values), len(values)
    below = 0  # so many values may be cut off at each end
    chance = 0.5**count  # that the true median is below all of them
    while chance <= 0.025 and below < count // 2:
        below += 1
        chance += comb(count, below) * 0.5**count
    cut = max(0, below - 1)
    return MedianRange(median(ordered), ordered[cut], ordered[count - 1 - cut])


def in_turns(names: Sequence[str], rounds: int, seed: int) -> Iterator[tuple[int, int, str]]:
    """Every name once in each round, in a new random order: (round, position, name), both counted from 1."""
    shuffler = random.Random(seed)
    for round_number in range(1, rounds + 1):
        order = list(names)
        shuffler.shuffle(order)
        for position, name in enumerate(order, start=1):
            yield round_number, position, name


def in_turns_by_block(blocks: Sequence[Sequence[str]], rounds: int, seed: int) -> Iterator[tuple[int, int, str]]:
    """As `in_turns`, but the names of a block, which are compared with one another, stay together in every round."""
    shuffler = random.Random(seed)
    for round_number in range(1, rounds + 1):
        order = [name for block in shuffler.sample(blocks, len(blocks)) for name in shuffler.sample(block, len(block))]
        for position, name in enumerate(order, start=1):
            yield round_number, position, name


def values(samples: Sequence[Sample], name: str, value: Callable[[Sample], float]) -> dict[int, float]:
    """Value by round of the runs of `name` that went well."""
    return {sample.round_number: value(sample) for sample in samples if sample.name == name and not sample.problem}


def ratios(numerators: Mapping[int, float], denominators: Mapping[int, float]) -> Spread | None:
    """The ratios within each round that has both; None if there is no such round."""
    return spread([numerators[key] / denominators[key] for key in numerators if denominators.get(key)])

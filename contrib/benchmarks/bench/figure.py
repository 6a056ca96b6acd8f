"""A figure that a benchmark measures of each of its cases, and how it is read out of samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from bench.samples import Sample, Spread, spread, values


@attrs.frozen
class Figure:
    """One figure: its key in a sample, what it is, its unit, how many of the unit make one, what is asked of it."""

    key: str
    title: str
    unit: str
    factor: float = 1.0
    at_most: float | None = None

    def of(self, sample: Sample) -> float:
        return sample.figures[self.key] * self.factor

    def spread(self, samples: Sequence[Sample], name: str) -> Spread | None:
        """Over the runs of a case that went well; None where there are none."""
        return spread(list(values(samples, name, self.of).values()))

    def verdict(self, found: Spread) -> str:
        """Whether what is asked of it was met; empty where nothing is."""
        if self.at_most is None:
            return ""
        return "met" if found.median <= self.at_most else "missed"


def spreads(
    samples: Sequence[Sample], names: Sequence[str], figures: Sequence[Figure]
) -> list[tuple[str, Figure, Spread]]:
    """Each figure of each case that has any run that went well."""
    return [
        (name, figure, found)
        for name in names
        for figure in figures
        if (found := figure.spread(samples, name)) is not None
    ]


def as_dicts(found: Sequence[tuple[str, Figure, Spread]]) -> list[Mapping[str, Any]]:
    return [
        {"case": name, "title": figure.title, "unit": figure.unit, **attrs.asdict(each)} for name, figure, each in found
    ]

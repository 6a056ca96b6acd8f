"""Does a series grow with something? A straight line through means of batches, and how far its slope can be trusted."""

from collections.abc import Sequence
from math import sqrt
from statistics import linear_regression, mean

import attrs

BATCHES = 20
_STUDENT_T = 2.101  # 97.5 % of Student's t with BATCHES - 2 degrees of freedom


@attrs.frozen
class Trend:
    """How much a series grows by each unit of x.

    Attributes:
        slope: of the line.
        uncertainty: with 95 % confidence the slope is off by no more than that.
    """

    slope: float
    uncertainty: float

    @property
    def least(self) -> float:
        return self.slope - self.uncertainty

    @property
    def most(self) -> float:
        return self.slope + self.uncertainty


def trend(x: Sequence[float], y: Sequence[float]) -> Trend:
    """The trend of y over x, both in the order of time.

    What was sampled second by second is no independent sample: a high value is followed by another. The means of batches of many
    seconds hardly depend on each other, so that what they scatter about the line says how uncertain it is.

    Raises:
        ValueError: fewer than two values for a batch, or x does not move.
    """
    size = len(x) // BATCHES
    if size < 2:
        raise ValueError(f"{len(x)} values are too few for {BATCHES} batches of two")
    begin = len(x) - size * BATCHES
    starts = range(begin, len(x), size)
    xs, ys = ([mean(values[start : start + size]) for start in starts] for values in (x, y))
    slope, intercept = linear_regression(xs, ys)
    middle = mean(xs)
    scatter = sum((b - intercept - slope * a) ** 2 for a, b in zip(xs, ys, strict=True)) / (BATCHES - 2)
    return Trend(slope, _STUDENT_T * sqrt(scatter / sum((a - middle) ** 2 for a in xs)))

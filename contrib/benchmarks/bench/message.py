"""The message that every contender carries, and the proof that all of them arrived."""

from collections.abc import Iterator
from itertools import cycle, islice

import attrs


class WrongResult(AssertionError):
    """A contender did not deliver every message exactly once; its time counts for nothing."""


@attrs.frozen
class Reading:
    """About 100 bytes as JSON."""

    sensor: str
    celsius: float
    sequence: int


@attrs.define
class Summary:
    """The small durable state: what every consumer works out."""

    count: int = 0
    total: float = 0.0


class Tally:
    """The handler of every contender without durable state: one method call a message, for all alike."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def add(self, reading: Reading) -> None:
        self.count += 1
        self.total += reading.celsius

    def check(self, messages: int) -> None:
        """Raises: WrongResult: when a message is missing, doubled or changed."""
        check(messages, self.count, self.total)


# Made beforehand and used in turn: what is measured is carrying a message, not constructing one.
# Quarters of a degree are exact in binary, so a sum does not depend on the order of its terms.
_SAMPLES = [
    Reading(
        f"greenhouse-{number % 4}/north/bench-{number % 50:02}/shelf-{number % 3}/thermometer-{number:04}",
        (number + 1) / 4,  # never nothing: a loss shows in the sum
        number,
    )
    for number in range(1_000)
]


def stream(messages: int) -> Iterator[Reading]:
    return islice(cycle(_SAMPLES), messages)


def check(messages: int, count: int, total: float) -> None:
    """Raises: WrongResult: when count and total are not those of `stream(messages)`."""
    expected = sum(reading.celsius for reading in stream(messages))
    if (count, total) != (messages, expected):
        raise WrongResult(f"{messages} messages with the sum {expected} were sent, {count} with {total} arrived")

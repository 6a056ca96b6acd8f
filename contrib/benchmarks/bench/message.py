"""The message that every contender carries, and the proof that all of them arrived."""

from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice

import attrs


class WrongResult(AssertionError):
    """A contender did not deliver every message exactly once; its time counts for nothing."""


@attrs.frozen
class Reading:
    """About 100 bytes as JSON; larger messages have a longer text."""

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


_SAMPLES = 1_000
_SHORTEST_BYTES = 100
_LONG_TEXTS = 16  # shared by the samples of one size: 1,000 texts of 100 KB would be memory that nobody asked for


# Made beforehand and used in turn: what is measured is carrying a message, not constructing one.
@cache
def _samples(size_bytes: int) -> list[Reading]:
    if size_bytes <= _SHORTEST_BYTES:
        texts = [
            f"greenhouse-{number % 4}/north/bench-{number % 50:02}/shelf-{number % 3}/thermometer-{number:04}"
            for number in range(_SAMPLES)
        ]
    else:
        words = "the quick brown fox jumps over the lazy dog "
        length = size_bytes - 45  # what the rest of the message takes as JSON
        texts = [(f"log-{number:02} " + words * (length // len(words) + 1))[:length] for number in range(_LONG_TEXTS)]
    return [Reading(text, _celsius(number), number) for number, text in zip(range(_SAMPLES), cycle(texts))]


def _celsius(number: int) -> float:
    """Quarters are exact in binary, so a sum does not depend on the order of its terms; never 0: a loss shows."""
    return (number % _SAMPLES + 1) / 4


def stream(messages: int, size_bytes: int = _SHORTEST_BYTES) -> Iterator[Reading]:
    return islice(cycle(_samples(size_bytes)), messages)


def check(messages: int, count: int, total: float) -> None:
    """Raises: WrongResult: when count and total are not those of `stream(messages)`."""
    expected = sum(map(_celsius, range(messages)))
    if (count, total) != (messages, expected):
        raise WrongResult(f"{messages} messages with the sum {expected} were sent, {count} with {total} arrived")

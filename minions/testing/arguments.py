"""What is wrong with the arguments of a tool for tests, one sentence for each, as in `minions.model.checks`. Pure."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping

from minions.errors import UsageError
from minions.model import checks

__all__ = ["finite", "function", "mapping", "names", "path", "patience", "refuse", "refuse_other_times"]


def refuse(where: str, *problems: Iterable[str]) -> None:
    """Raises UsageError where there are any, with all of them.

    Args:
        where: what was called, for people.
    """
    if found := [problem for each in problems for problem in each]:
        raise UsageError(f"{where}: {'; '.join(found)}")


def refuse_other_times(method: str, seconds: object) -> None:
    """Raises where time cannot move on by that: UsageError where it is no number, ValueError where no clock moves like that."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UsageError(
            f"{method}(): seconds={checks.shown(seconds)} must be a number of seconds, such as {method}(seconds=60)"
        )
    if not (_is_finite(seconds) and seconds >= 0):
        raise ValueError(
            f"{method}(seconds={checks.shown(seconds)}): time moves on only, by a finite number of seconds"
        )


def patience(name: str, value: object) -> Iterator[str]:
    """A time for which a thread can wait."""
    return checks.number(name, value, "a finite number of real seconds, 0 or more", most=threading.TIMEOUT_MAX)


def finite(name: str, value: object) -> Iterator[str]:
    """A moment of a clock."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        yield f"{name}={checks.shown(value)} must be a finite number of seconds"


def function(name: str, value: object, example: str) -> Iterator[str]:
    """Something that can be called."""
    if not callable(value):
        yield f"{name}={checks.shown(value)} must be a function, such as {example}"


def names(name: str, value: object) -> Iterator[str]:
    """A collection of texts; a single text is one of letters, and would name nobody."""
    fits = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    if not (fits and isinstance(value, Iterable) and all(isinstance(each, str) for each in value)):
        yield f'{name}={checks.shown(value)} must be a list of the names of components, such as ["thermometer"]'


def mapping(name: str, value: object, example: str) -> Iterator[str]:
    """A dictionary."""
    if not isinstance(value, Mapping):
        yield f"{name}={checks.shown(value)} must be a dictionary, such as {example}"


def path(name: str, value: object, what: str) -> Iterator[str]:
    """A text or a path."""
    if not isinstance(value, (str, os.PathLike)):
        yield f"{name}={checks.shown(value)} must be {what}: a text or a Path"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number larger than any time
        return False

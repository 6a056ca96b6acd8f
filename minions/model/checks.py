"""What is wrong with a value that somebody gave, one sentence for each: its name, the value, and what to write instead. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

__all__ = ["choice", "is_number", "kind", "number", "shown", "switch", "text", "whole_number"]

_LONGEST_SHOWN = 200


def is_number(value: object) -> bool:
    """Whether it is a number to calculate with: no NaN, and no whole number that is too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:
        return False


def shown(value: object) -> str:
    """A value as it is written, in a few words at most, whatever its own `repr` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a whole number of 5,000 digits refuses too
        return f"<{type(value).__qualname__}>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def number(
    name: str, value: object, what: str, *, least: float = 0.0, most: float = math.inf, above: bool = False
) -> Iterator[str]:
    """A number within bounds.

    Args:
        what: what it is a number of, with the bounds in words.
        above: whether it must be more than `least`.
    """
    fits = is_number(value) and least <= value <= most  # type: ignore[operator] # it is a number
    if not fits or (above and value == least):
        yield f"{name}={shown(value)} must be {what}"


def whole_number(name: str, value: object, least: int, *, most: int | None = None) -> Iterator[str]:
    """A whole number from `least` up, to `most` where there is such an end."""
    if type(value) is not int or value < least or (most is not None and value > most):
        yield f"{name}={shown(value)} must be a whole number from {least} {'up' if most is None else f'to {most:,}'}"


def choice(name: str, value: object, choices: Sequence[str]) -> Iterator[str]:
    """One of some words."""
    if value not in choices:
        yield f"{name}={shown(value)} must be one of {', '.join(choices)}"


def switch(name: str, value: object) -> Iterator[str]:
    """True or False."""
    if not isinstance(value, bool):
        yield f"{name}={shown(value)} must be True or False"


def kind(name: str, value: object, wanted: type, example: str) -> Iterator[str]:
    """An object of a class."""
    if not isinstance(value, wanted):
        yield f"{name}={shown(value)} must be a {wanted.__name__}, such as {example}"


def text(name: str, value: object) -> Iterator[str]:
    """A text."""
    if not isinstance(value, str):
        yield f"{name}={shown(value)} must be a text"

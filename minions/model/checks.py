"""What is wrong with a value that somebody gave, one sentence for each: its name, the value, and what to write instead. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

__all__ = ["choice", "kind", "number", "switch", "text", "whole_number"]


def number(
    name: str, value: object, what: str, *, least: float = 0.0, most: float = math.inf, above: bool = False
) -> Iterator[str]:
    """A number within bounds.

    Args:
        what: what it is a number of, with the bounds in words.
        above: whether it must be more than `least`.
    """
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
    if not fits or (above and value == least):
        yield f"{name}={value!r} must be {what}"


def whole_number(name: str, value: object, least: int) -> Iterator[str]:
    """A whole number from `least` up."""
    if type(value) is not int or value < least:
        yield f"{name}={value!r} must be a whole number from {least} up"


def choice(name: str, value: object, choices: Sequence[str]) -> Iterator[str]:
    """One of some words."""
    if value not in choices:
        yield f"{name}={value!r} must be one of {', '.join(choices)}"


def switch(name: str, value: object) -> Iterator[str]:
    """True or False."""
    if not isinstance(value, bool):
        yield f"{name}={value!r} must be True or False"


def kind(name: str, value: object, wanted: type, example: str) -> Iterator[str]:
    """An object of a class."""
    if not isinstance(value, wanted):
        yield f"{name}={value!r} must be a {wanted.__name__}, such as {example}"


def text(name: str, value: object) -> Iterator[str]:
    """A text."""
    if not isinstance(value, str):
        yield f"{name}={value!r} must be a text"

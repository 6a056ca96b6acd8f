"""Numbers on the command line, with an error that says what to write instead."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["count", "seconds"]


def seconds(text: str, least: float | None = None) -> float:
    """A time in seconds: above 0, or from `least` up.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value < float("inf") and (value > 0 if least is None else value >= least):
        return value
    which = "above 0" if least is None else f"from {least:g} up"
    raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds {which}")


def count(zero: str) -> Callable[[str], int]:
    """What reads a whole number from 0 up.

    Args:
        zero: what 0 means.
    """

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 ({zero}) up")
        return int(text)

    return read

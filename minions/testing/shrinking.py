"""Makes a failing run short: leaves out faults and switches for as long as it fails for the same reason. Pure functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from minions.testing.choices import Taken

__all__ = ["shrunk"]

Key = tuple[str, int]

_PLAIN_LABELS = ("turn", "pause of ", "without ")
"""Choices that are no faults; these are left out first."""
_DETAIL_LABELS = "its "
"""Choices that say more of a fault."""
_LATER = 5


def shrunk(taken: Taken, fails: Callable[[Taken], Taken | None], most_s: float) -> Taken:
    """The fewest choices that were found in that time with which a run still fails for the same reason.

    Args:
        taken: of the run that has failed.
        fails: makes a run with these choices, and returns those that it has made; None where it does not fail like that.
        most_s: how long to look, in seconds.
    """
    until_s = time.monotonic() + most_s
    best = _alone(taken, fails, until_s)
    while time.monotonic() < until_s:
        before = dict(best)
        best = _without(best, [key for key in best if not _is_fault(key)], fails, until_s)
        best = _without(best, [key for key in best if _is_fault(key)], fails, until_s)
        best = _smaller(best, fails, until_s)
        best = _sooner(best, fails, until_s)
        if best == before:
            break
    return best


def _is_fault(key: Key) -> bool:
    return not key[0].startswith(_PLAIN_LABELS)


def _alone(best: Taken, fails: Callable[[Taken], Taken | None], until_s: float) -> Taken:
    """One of its faults and nothing else; perhaps at another moment, because without the rest all is earlier."""
    faults = [key for key in best if _is_fault(key) and not key[0].startswith(_DETAIL_LABELS)]
    details = {(label, 0): choice for (label, _), choice in best.items() if label.startswith(_DETAIL_LABELS)}
    turns = {key: choice for key, choice in best.items() if not _is_fault(key)}
    for label, last in reversed(faults):
        for number in range(last + _LATER):
            for rest in ({}, turns):
                if time.monotonic() >= until_s:
                    return best
                made = fails({**rest, **details, (label, number): best[label, last]})
                if made is not None and len(made) < len(best):
                    return made
    return best


def _without(best: Taken, keys: Sequence[Key], fails: Callable[[Taken], Taken | None], until_s: float) -> Taken:
    """Leaves out as many of these choices as it can: first all of them, then halves, then smaller and smaller pieces."""
    size = len(keys)
    while size:
        start = 0
        while start < len(keys) and time.monotonic() < until_s:
            piece = set(keys[start : start + size])
            candidate = {key: choice for key, choice in best.items() if key not in piece}
            made = fails(candidate) if len(candidate) < len(best) else best
            if made is not None:
                # What a run has made is what it was given, as far as it came to it, so it is never more.
                best = {key: choice for key, choice in made.items() if key in best}
                keys = [key for key in keys if key in best]
            else:
                start += size
        size //= 2
    return best


def _smaller(best: Taken, fails: Callable[[Taken], Taken | None], until_s: float) -> Taken:
    """Makes single choices smaller."""
    for key in list(best):
        while key in best and best[key] > 1 and time.monotonic() < until_s:
            made = fails({**best, key: best[key] - 1})
            if made is None:
                break
            best = made
    return best


def _sooner(best: Taken, fails: Callable[[Taken], Taken | None], until_s: float) -> Taken:
    """Lets faults happen sooner: where that leads to the same, what comes before them may be left out next."""
    for key in [key for key in best if _is_fault(key)]:
        label, number = key
        for sooner in range(number):
            if time.monotonic() >= until_s or key not in best or (label, sooner) in best:
                break
            rest = {other: choice for other, choice in best.items() if other != key}
            made = fails({**rest, (label, sooner): best[key]})
            if made is not None and len(made) <= len(best):
                best = made
                break
    return best

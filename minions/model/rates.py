"""Rates: how often something may begin. Values, and the mark that a method carries; no thread, no clock."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import attrs

from minions.errors import UsageError
from minions.model import checks

__all__ = ["MOST_CALLS", "Rate", "limit", "rates_of", "unlimited"]

P = ParamSpec("P")
R = TypeVar("R")

MOST_CALLS = 100_000
"""The most calls that a rate may count, because the moments of all of them are remembered."""

_RATES = "__minions_rates__"


@attrs.frozen
class Rate:
    """How often something may begin: in no span of `per_s` seconds, wherever it is laid, more than `calls` times.

    So `calls` may begin at once after a rest. It is counted for a component, all its replicas and all its lives together, in one
    process; a process that is started counts anew.

    Attributes:
        calls: how often, from 1 to 100,000.
        per_s: in how many seconds.
    """

    calls: int
    per_s: float = attrs.field(kw_only=True)

    def problems(self) -> Iterator[str]:
        """What is wrong with it: which argument, which value, what to write instead."""
        if type(self.calls) is not int or not 1 <= self.calls <= MOST_CALLS:
            yield f"calls={checks.shown(self.calls)} must be a whole number from 1 to {MOST_CALLS:,}"
        if not checks.is_number(self.per_s) or not 0.0 < self.per_s < math.inf:
            yield f"per_s={checks.shown(self.per_s)} must be a number of seconds, more than 0"


def limit(*, calls: int, per_s: float) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Limits how often a method of a component is begun: ``@limit(calls=10, per_s=1.0)``. For what a `Rate` says.

    Above a handler it is the same as ``Inbox(..., rate=...)``: the message waits in the inbox. Above another method the call
    waits, on whatever thread makes it. Several may stand above one method; then all of them hold. Where a handler is called as
    a method too, these calls are counted apart from the messages.

    The wait ends when the component is asked to stop: a message that has not been handled stays where it is, and a call raises
    `StopRequested`, so that the unit of work in which it was made never was.

    Args:
        calls: how often, from 1 to 100,000.
        per_s: in how many seconds.
    """

    def mark(method: Callable[P, R]) -> Callable[P, R]:
        rates = (*rates_of(method), Rate(calls, per_s=per_s))
        inner: Callable[P, R] = unlimited(method)

        @functools.wraps(method)
        def limited(*args: P.args, **keywords: P.kwargs) -> R:
            context = getattr(args[0], "_minions", None) if args else None
            if context is None:
                raise UsageError(f"@limit stands above a method of a component, not above {inner!r}")
            context.keep_pace(limited, rates)
            return inner(*args, **keywords)

        limited.__dict__["__wrapped__"] = inner
        limited.__dict__[_RATES] = rates
        return limited

    return mark


def rates_of(method: object) -> tuple[Rate, ...]:
    """The rates that a method was limited to."""
    rates: tuple[Rate, ...] = getattr(method, _RATES, ()) if inspect.isfunction(method) else ()
    return rates


def unlimited(method: Any) -> Any:
    """The method without its limit."""
    return inspect.getattr_static(method, "__wrapped__") if rates_of(method) else method

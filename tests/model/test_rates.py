"""Rates as a class declares them: what is refused, and what a limited method is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from minions.errors import DeclarationError, UsageError
from minions.model.component import Component
from minions.model.ports import Inbox
from minions.model.rates import Rate, limit, rates_of, unlimited


@attrs.frozen
class Number:
    value: int


TEN, HUNDRED = Rate(10, per_s=1.0), Rate(100, per_s=60.0)


class Limited(Component):
    numbers = Inbox(Number, rate=TEN)
    others = Inbox(Number)
    free = Inbox(Number)

    @limit(calls=100, per_s=60.0)
    @numbers.handler
    def handle(self, number: Number) -> None: ...

    @others.handler
    @limit(calls=10, per_s=1.0)
    @limit(calls=100, per_s=60.0)
    def handle_other(self, number: Number) -> None: ...

    @free.handler
    def handle_free(self, number: Number) -> None: ...

    @limit(calls=1, per_s=0.5)
    def ask(self, number: int, *, twice: bool = False) -> int:
        """Asks."""
        return number * (2 if twice else 1)


def test_the_rates_of_an_inbox_are_its_own_and_those_of_its_handler() -> None:
    assert Limited.__minions_declaration__.rates == {"numbers": (TEN, HUNDRED), "others": (HUNDRED, TEN)}


def test_a_limited_method_looks_like_the_method() -> None:
    ask: Any = Limited.__dict__["ask"]
    assert (ask.__name__, ask.__doc__, rates_of(ask)) == ("ask", "Asks.", (Rate(1, per_s=0.5),))
    assert unlimited(ask)(None, 4, twice=True) == 8
    assert unlimited(unlimited(ask)) is unlimited(ask)
    twice: Any = Limited.__dict__["handle_other"]
    assert rates_of(unlimited(twice)) == ()  # several limits are one wrapper, which keeps all of them at once


def test_the_limit_of_a_blueprint_cannot_be_kept() -> None:
    with pytest.raises(UsageError, match=r"Limited.ask\(\), which has a limit, works inside a running component only"):
        Limited().ask(1)

    @limit(calls=1, per_s=1.0)
    def no_method() -> None: ...

    with pytest.raises(UsageError, match=r"@limit stands above a method of a component, not above <function"):
        no_method()


def test_a_subclass_has_the_limits_of_what_it_handles_with() -> None:
    class Sub(Limited):
        def handle(self, number: Number) -> None: ...

    assert Sub.__minions_declaration__.rates == {"numbers": (TEN,), "others": (HUNDRED, TEN)}


@pytest.mark.parametrize(
    ("calls", "per_s", "expected"),
    [
        (0, 1.0, "calls=0 must be a whole number from 1 to 100,000"),
        (1.5, 1.0, "calls=1.5 must be a whole number from 1 to 100,000"),
        (True, 1.0, "calls=True must be a whole number from 1 to 100,000"),
        (100_001, 1.0, "calls=100001 must be a whole number from 1 to 100,000"),
        (1, 0, "per_s=0 must be a number of seconds, more than 0"),
        (1, -1.0, "per_s=-1.0 must be a number of seconds, more than 0"),
        (1, math.inf, "per_s=inf must be a number of seconds, more than 0"),
        (1, math.nan, "per_s=nan must be a number of seconds, more than 0"),
        (1, "1", "per_s='1' must be a number of seconds, more than 0"),
        (1, True, "per_s=True must be a number of seconds, more than 0"),
        pytest.param(1, 10**5_000, "per_s=<int> must be a number of seconds, more than 0", id="digits"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_when_the_class_is_defined(calls: Any, per_s: Any, expected: str) -> None:
    def on_an_inbox() -> None:
        class Wrong(Component):
            numbers = Inbox(Number, rate=Rate(calls, per_s=per_s))

            def run(self) -> None: ...

    def on_a_method() -> None:
        class Wrong(Component):
            @limit(calls=calls, per_s=per_s)
            def ask(self) -> None: ...

    assert problems(on_an_inbox) == (f"numbers: rate: {expected}",)
    assert problems(on_a_method) == (f"ask: @limit: {expected}",)


def test_what_is_no_rate_is_refused() -> None:
    def define() -> None:
        class Wrong(Component):
            numbers = Inbox(Number, rate=10)  # type: ignore[arg-type]

            def run(self) -> None: ...

    assert problems(define) == ("numbers: rate=10 must be a Rate, such as rate=Rate(10, per_s=1.0)",)


def test_what_would_not_run_when_it_is_called_cannot_be_limited() -> None:
    def asynchronous() -> None:
        class Wrong(Component):
            @limit(calls=1, per_s=1.0)
            async def ask(self) -> None: ...

    def generator() -> None:
        class Wrong(Component):
            @limit(calls=1, per_s=1.0)
            def ask(self) -> Iterator[int]:
                yield 1

    def no_function() -> None:
        class Wrong(Component):
            ask = limit(calls=1, per_s=1.0)(print)

    assert problems(asynchronous)[0].startswith("ask: @limit: is async, but components run on threads")
    assert problems(generator)[0].startswith("ask: @limit: is a generator, and would never be run")
    assert problems(no_function) == ("ask: @limit: is no plain method: write def ask(self, ...)",)


def problems(define: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(DeclarationError) as refused:
        define()
    return refused.value.problems

"""What tests of declared components have in common: messages, a state, and how a class is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions.errors import DeclarationError
from minions.model.component import Component
from minions.model.declaration import Declaration


@attrs.frozen
class Reading:
    celsius: float


class Precise(Reading):
    pass


@attrs.frozen
class Alarm:
    text: str


@attrs.define
class Summary:
    count: int = 0


def declaration_of(component: type[Component]) -> Declaration:
    return component.__minions_declaration__


def refusal(define: Callable[[], object]) -> DeclarationError:
    with pytest.raises(DeclarationError) as refused:
        define()
    return refused.value


def problem(define: Callable[[], object]) -> str:
    """The one problem for which a class is refused."""
    problems = refusal(define).problems
    assert len(problems) == 1, problems
    return problems[0]


def defined(**body: Any) -> type[Component]:
    """A component class with this body, as a class statement would make it."""
    return type("Defined", (Component,), {"__module__": __name__, **body})

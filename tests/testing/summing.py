"""What tests of simulations and of explored runs simulate: a source without a body, and what adds up its numbers."""

from __future__ import annotations

from typing import Any

import attrs

from minions import Component, Inbox, Outbox, State, System, Table
from minions.testing import Faults, View


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    out = Outbox(Number)

    def run(self) -> None:
        raise NotImplementedError("a device")


class Sum(Component):
    numbers = Inbox(Number)
    total = State(int)
    seen = Table(int, int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value
        self.seen[number.value] = self.seen.get(number.value, 0) + 1


def summing(**options: Any) -> System:
    system = System("summing", **options)
    numbers, total = system.add(Numbers()), system.add(Sum())
    system.connect(numbers.out, total.numbers)
    return system


SCRIPT = {"numbers": [Number(value) for value in (1, 2, 3, 4)]}
ALL = Faults(errors=0.2, restarts=0.1, crashes=0.1, delays=0.1, disk_errors=0.2, most=10)


def nothing_is_lost(view: View) -> None:
    for moment in (view.whole, view.committed):
        seen = dict(moment["sum"].seen)
        assert set(seen.values()) <= {1}
        assert sum(seen) == moment["sum"].total
        assert not seen.keys() & {number.value for number in moment["sum"].numbers}


def all_came_once(view: View) -> None:
    assert view.at_end
    assert dict(view["sum"].seen) == {1: 1, 2: 1, 3: 1, 4: 1}

"""A State is its value: read, changed, assigned.

Pyright takes every assignment `self.name = ...` inside a class for part of the declaration of a name without an annotation,
whatever descriptor stands there: it refuses a wrong value where the attribute is used next, and mypy at once.
"""

from __future__ import annotations

from typing import assert_type

import attrs

from minions import Component, Inbox, State, System


@attrs.define
class Summary:
    count: int = 0


class Average(Component):
    readings = Inbox(float)
    summary = State(Summary, version=2, migrations={1: lambda old: old})
    seen = State(dict[str, int])
    last = State(float, initial=lambda: 1.5)

    @readings.handler
    def add(self, reading: float) -> None:
        assert_type(self.summary, Summary)
        assert_type(self.seen, dict[str, int])
        self.summary.count += 1
        self.seen["a"] = 1
        self.last = reading
        self.summary = Summary(count=2)
        self.summary.total += 1  # E: mypy pyright
        self.summary.count = "two"  # E: mypy pyright
        self.seen["a"] = "one"  # E: mypy pyright


class Misused(Component):
    summary = State(Summary)
    last = State(float)
    wrong = State(Summary, initial=lambda: 3)  # E: mypy

    def run(self) -> None:
        self.summary = 3  # E: mypy
        self.last = "hot"  # E: mypy
        print(self.summary.count)  # E: pyright
        print(self.last + 1.0)  # E: pyright
        print(self.wrong.count)  # E: pyright


system = System("greenhouse")
average = system.add(Average())
assert_type(average.summary, Summary)
assert_type(average.summary.count, int)
print(average.summary.total)  # E: mypy pyright
average.summary = Summary()
average.summary = 3  # E: mypy pyright
average.last = "hot"  # E: mypy pyright

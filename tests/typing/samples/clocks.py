"""The time of day is an aware datetime, and the monotonic clock a number of seconds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import assert_type

from minions import Component, Inbox, State, System
from minions.testing import harness


class Shift(Component):
    customers = Inbox(str)
    since = State(datetime)
    began_s = State(float)

    @customers.handler
    def greet(self, customer: str) -> None:
        assert_type(self.now(), datetime)
        assert_type(self.monotonic(), float)
        self.since = self.now() - timedelta(hours=1)
        self.began_s = self.monotonic() + 1.5
        self.monotonic() - self.now()  # E: mypy pyright
        print(self.now().seconds)  # E: mypy pyright
        self.now("UTC")  # E: mypy pyright


class Hides(Component):
    def now(self) -> int:  # E: mypy pyright
        return 3


h = harness(Shift())
assert_type(h.now, datetime)
assert_type(h.now_s, float)
assert_type(System("shop").add(Shift()).now(), datetime)

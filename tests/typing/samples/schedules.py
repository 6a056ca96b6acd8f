"""A schedule stands above a method without arguments; a limit leaves the types of a method as they are."""

from __future__ import annotations

from concurrent.futures import Future
from typing import assert_type

import attrs

from minions import Component, Inbox, Rate, System, cron, every, limit


@attrs.frozen
class Reading:
    celsius: float


class Average(Component):
    readings = Inbox(Reading, rate=Rate(10, per_s=1.0))

    @readings.handler
    @limit(calls=10, per_s=1.0)
    def add(self, reading: Reading) -> None:
        assert_type(self.ask("Rome", days=2), float)
        self.ask(4)  # E: mypy pyright
        self.ask("Rome", hours=2)  # E: mypy pyright

    @every(seconds=60, jitter_s=5.0, missed="all", at_start=True)
    def report(self) -> None: ...

    @cron("30 2 * * *", timezone="Europe/Berlin", missed="none")
    @limit(calls=1, per_s=60.0)
    def clean(self) -> None: ...

    @limit(calls=1, per_s=60.0)
    @limit(calls=100, per_s=3_600.0)
    def ask(self, city: str, *, days: int = 1) -> float:
        return float(len(city) * days)

    @every(seconds=60)  # E: mypy pyright
    def report_on(self, reading: Reading) -> None: ...

    @every(seconds=60)  # E: mypy pyright
    def count(self) -> int:
        return 1


system = System("greenhouse")
average = system.add(Average())
assert_type(system.run_now(average.report), Future[None])
assert_type(system.run_now(average, "report"), Future[None])
assert_type(system.run_now("average", "report"), Future[None])
average.report()

system.run_now(average)  # E: mypy pyright
system.run_now(average.add)  # E: mypy pyright
every(60)  # E: mypy pyright
every(seconds=60, missed="some")  # E: mypy pyright
cron("* * * * *", at_start=True)  # E: mypy pyright
Inbox(Reading, rate=10)  # E: mypy pyright
Rate(10, 1.0)  # E: mypy pyright
limit(calls="many", per_s=1.0)  # E: mypy pyright

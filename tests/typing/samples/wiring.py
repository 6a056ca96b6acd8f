"""Ports of one type may be connected, and no others."""

from __future__ import annotations

from typing import assert_type

import attrs

from minions import Component, Inbox, Outbox, System


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Alarm:
    text: str


class Thermometer(Component):
    readings = Outbox(Reading)
    alarms = Outbox(Alarm, optional=True)
    tables = Outbox(dict[str, int], optional=True)


class Average(Component):
    readings = Inbox(Reading, capacity=5, overflow="drop_oldest")
    tables = Inbox(dict[str, int])

    def run(self) -> None:
        for reading in self.readings:
            assert_type(reading, Reading)
        assert_type(self.readings.receive(timeout_s=1.0), Reading)


system = System("greenhouse")
thermometer = system.add(Thermometer(), name="outside", replicas=1)
average = system.add(Average())
assert_type(thermometer, Thermometer)
assert_type(average, Average)
assert_type(thermometer.readings, Outbox[Reading])
assert_type(average.readings, Inbox[Reading])

system.connect(thermometer.readings, average.readings)
system.connect(thermometer.tables, average.tables)

system.connect(thermometer.alarms, average.readings)  # E: mypy pyright
system.connect(thermometer.tables, average.readings)  # E: mypy pyright
system.connect(thermometer.readings, average.tables)  # E: mypy pyright
system.connect(average.readings, thermometer.readings)  # E: mypy pyright
system.connect(thermometer.readings, thermometer.readings)  # E: mypy pyright
system.connect(thermometer.readings, average)  # E: mypy pyright
system.connect(thermometer.readingz, average.readings)  # E: mypy pyright
system.add(Average)  # E: mypy pyright
system.add(3)  # E: mypy pyright
Inbox(Reading, overflow="drop")  # E: mypy pyright
Inbox(Reading, 5)  # E: mypy pyright

"""Annotated names are configuration: by keyword, with their types."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs

from minions import Backoff, Component, Outbox, Restart, Retry, System


class Thermometer(Component):
    port: str
    baud: int = 9_600
    paths: list[Path] = attrs.field(factory=list)
    limit: float = attrs.field(default=1.0, validator=attrs.validators.ge(0.0))
    _token: str = attrs.field(default="", alias="token")
    opened: bool = attrs.field(init=False, default=False)
    readings = Outbox(float)
    constant = 5

    def on_start(self) -> None:
        self._connection = sqlite3.connect(self.port)
        self._rows: list[str] = []

    def on_interrupt(self) -> None:
        self._connection.interrupt()
        self._connection.halt()  # E: mypy pyright
        self._rows.append(1)  # E: mypy pyright


class Outside(Thermometer):
    place: str = "garden"


Thermometer(port="/dev/ttyUSB0")
Thermometer(port="/dev/ttyUSB0", baud=300, paths=[Path("a")], limit=2.0, token="secret")
Outside(port="/dev/ttyUSB0", place="roof")

Thermometer()  # E: mypy pyright
Thermometer("/dev/ttyUSB0")  # E: mypy pyright
Thermometer(prot="/dev/ttyUSB0")  # E: mypy pyright
Thermometer(port=1)  # E: mypy pyright
Thermometer(port="/dev/ttyUSB0", baud="fast")  # E: mypy pyright
Thermometer(port="/dev/ttyUSB0", opened=True)  # E: mypy pyright
Thermometer(port="/dev/ttyUSB0", constant=6)  # E: mypy pyright
Thermometer(port="/dev/ttyUSB0", readings=None)  # E: mypy pyright
Outside(place="roof")  # E: mypy pyright
print(Outside(port="/dev/ttyUSB0").prot)  # E: mypy pyright

system = System("greenhouse", folder=Path("state"), synchronous="FULL", stop_timeout_s=5.0)
system.add(Thermometer(port="a"), restart=Restart(failures=1, backoff=Backoff(initial_s=0.1)))
Retry(attempts=1, then="skip")
System("greenhouse", synchronous="OFF")  # E: mypy pyright
system.add(Thermometer(port="a"), restart=Retry())  # E: mypy pyright
system.add(Thermometer(port="a"), "outside")  # E: mypy pyright
Retry(then="forget")  # E: mypy pyright
Retry(3)  # E: mypy pyright


class Collides(Component):
    log: str = ""  # E: mypy pyright

    def commit(self) -> str:  # E: mypy pyright
        return ""

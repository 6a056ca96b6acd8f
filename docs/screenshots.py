"""Makes the pictures of the command line on the page about it, from a small system that runs: ``python docs/screenshots.py``."""

from __future__ import annotations

import argparse
import io
import socket
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from minions import Component, Inbox, Outbox, State, System
from minions.cli import status, top, why
from minions.cli.shown import rich_table
from minions.operate.client import Client

DOCS = Path(__file__).parent


class Sensor(Component):
    period_s: float
    readings = Outbox(int)

    def run(self) -> None:
        number = 0
        while self.running:
            self.readings.send(number)
            number += 1
            if self.period_s:
                self.sleep(self.period_s)


class Average(Component):
    readings = Inbox(int, capacity=1_000)
    alarms = Outbox(int)
    total = State(int)

    @readings.handler
    def add(self, reading: int) -> None:
        self.total += reading
        if reading % 50 == 0:
            self.alarms.send(reading)


class Mailer(Component):
    """Talks to a server that does not answer."""

    alarms = Inbox(int, capacity=10)

    @alarms.handler
    def send(self, alarm: int) -> None:
        if alarm >= 200_000:
            ours, self._theirs = socket.socketpair()
            with self.blocking(ours):
                ours.recv(1)


def picture(name: str, title: str, *shown: object) -> None:
    """Saves what rich shows as a picture."""
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True)
    for each in shown:
        console.print(each)
    path = DOCS / f"cli-{name}.svg"
    console.save_svg(str(path), title=title, unique_id=name)
    path.write_text(
        "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n", encoding="utf-8"
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        system = System("greenhouse", folder=Path(folder) / ".minions", stop_timeout_s=1.0)
        roof, soil = system.add(Sensor(period_s=0.0), name="roof"), system.add(Sensor(period_s=0.01), name="soil")
        average, mailer = system.add(Average()), system.add(Mailer())
        system.connect(roof.readings, average.readings)
        system.connect(soil.readings, average.readings)
        system.connect(average.alarms, mailer.alarms)
        with system.started(), Client.connect(Path(folder) / ".minions") as client:
            history = top.History()
            for _ in range(16):
                threading.Event().wait(0.5)
                history.add(client.ask("status"), client.ask("history", last=30), time.monotonic())
            found = history.status
            rows = [status.component_row(component) for component in found["components"]]
            inboxes = [
                status.inbox_row(name, inbox, status.out_of(history.past, name))
                for name, inbox in found["inboxes"].items()
            ]
            tables = (rich_table(status.COMPONENTS, rows), rich_table(status.INBOXES, inboxes))
            picture("status", "minions status", Text(status.headline(found)), *tables)
            picture("top", "minions top", top.drawn(history))
            while mailer_is_idle(client):
                threading.Event().wait(0.5)
            threading.Event().wait(3.0)
            [component] = client.ask("why", component="average")["components"]
            lines = why.lines_of(component)
            picture("why", "minions why average", Text("\n".join(lines).replace(str(DOCS.parent), "")))


def mailer_is_idle(client: Client) -> bool:
    return any(
        c["name"] == "average" and not c["waits_for"].startswith("room") for c in client.ask("status")["components"]
    )


if __name__ == "__main__":
    main()

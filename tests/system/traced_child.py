"""A child of the tests of units: a chain of which the last handler waits in the first run, until the process is killed.

Usage: traced_child.py FOLDER FILE, where the units that were told are written to FILE, one line of JSON each.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import attrs

from minions import Component, Inbox, Outbox, System, events
from minions.hookspecs import hookimpl

all_relayed = threading.Event()


class Source(Component):
    out = Outbox(int)

    def run(self) -> None:
        for number in range(3):
            self.out.send(number)


class Relay(Component):
    inbox = Inbox(int)
    out = Outbox(int)

    @inbox.handler
    def relay(self, number: int) -> None:
        self.out.send(number)


class Sink(Component):
    inbox = Inbox(int)
    waits: bool

    @inbox.handler
    def take(self, number: int) -> None:
        if self.waits:
            all_relayed.wait()
            self.commit()
            print("waits", flush=True)
            threading.Event().wait()


class Writing:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._relayed = 0

    @hookimpl
    def unit_ended(self, event: events.UnitEnded) -> None:
        with self._file.open("a") as lines:
            lines.write(json.dumps(attrs.asdict(event)) + "\n")
        if event.component == "relay" and event.where == "relay":
            self._relayed += 1
            if self._relayed == 3:
                all_relayed.set()


def main(folder: Path, file: Path) -> None:
    is_first = not file.exists()
    system = System("traced", folder=folder)
    source = system.add(Source(), name="source" if is_first else "other")
    relay, sink = system.add(Relay()), system.add(Sink(waits=is_first))
    system.connect(source.out, relay.inbox)
    system.connect(relay.out, sink.inbox)
    system.plugins.register(Writing(file))
    system.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

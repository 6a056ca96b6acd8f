"""A child of the power loss tests: a system whose source commits and says so, run twice over one folder.

    python power_child.py FOLDER TOTAL SYNCHRONOUS

A line "acked N" is written to standard output each time that N messages are told to be on disk. With OFF, which System refuses,
SQLite is told so behind its back.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

import attrs

from minions import Component, Inbox, Outbox, State, System
from minions.flow import plain_cache

COMMIT_EVERY = 4
PAGES_UNTIL_CHECKPOINT = 60  # so that even a short run has many


@attrs.frozen
class Number:
    value: int
    text: str


class Source(Component):
    total: int
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.total:
            with self.unit():
                self.out.send(Number(self.sent, f"{self.sent} " * 200))
                self.sent += 1
            if self.sent % COMMIT_EVERY == 0:
                self.commit()
                os.write(1, b"acked %d\n" % self.sent)


class Sink(Component):
    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        assert number.text == f"{number.value} " * 200
        self.values.append(number.value)


def system_over(
    folder: Path, total: int, synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
) -> tuple[System, Source, Sink]:
    """The system, and its components."""
    system = System("power", folder=folder, synchronous=synchronous)
    source, sink = system.add(Source(total=total)), system.add(Sink())
    system.connect(source.out, sink.numbers)
    return system, source, sink


def main(folder: Path, total: int, synchronous: str) -> None:
    plain_cache.SETTINGS["sqlite_wal_autocheckpoint"] = PAGES_UNTIL_CHECKPOINT
    if synchronous == "OFF":
        plain_cache.SYNCHRONOUS["NORMAL"] = 0
    for share in (total // 2, total):
        system_over(folder, share, "FULL" if synchronous == "FULL" else "NORMAL")[0].run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])

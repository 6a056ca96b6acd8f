"""Minions at full speed for minutes, with one consumer that is far too slow: what its memory does is noted meanwhile.

Four streams at once, each as fast as it goes: not durable, durable, durable into the full inbox of the slow consumer
(which blocks the sender), and not durable into an inbox of it that drops the oldest message when it is full.
"""

import json
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from bench import footprint
from bench.message import Reading, Summary, stream
from minions import Component, Inbox, Outbox, State, System

_BATCH = 100
_SLOW_S = 0.01  # a message

# One system a process: what each component counted, left here by its own thread when it stops.
counts: dict[str, int] = {}


class Source(Component):
    """Sends until the time is up; bare `monotonic` because it is the benchmark's time, not the system's."""

    label: str
    seconds: float
    size_bytes: int
    readings = Outbox(Reading)

    def run(self) -> None:
        end, sent = monotonic() + self.seconds, 0
        while self.running and monotonic() < end:
            for reading in stream(_BATCH, self.size_bytes):
                self.readings.send(reading)
            sent += _BATCH
        counts[self.label] = sent


class Counting(Component):
    readings = Inbox(Reading, durable=False)
    _count = 0

    @readings.handler
    def add(self, reading: Reading) -> None:
        self._count += 1

    def on_stop(self) -> None:
        counts["handled, not durable"] = self._count


class Durable(Component):
    readings = Inbox(Reading)
    summary = State(Summary)

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.summary.count += 1
        self.summary.total += reading.celsius

    def on_stop(self) -> None:
        counts["handled, durable"] = self.summary.count


class Slow(Component):
    full = Inbox(Reading, capacity=100)
    latest = Inbox(Reading, capacity=100, durable=False, overflow="drop_oldest")
    summary = State(Summary)

    @full.handler
    def add(self, reading: Reading) -> None:
        sleep(_SLOW_S)
        self.summary.count += 1

    @latest.handler
    def add_latest(self, reading: Reading) -> None:
        sleep(_SLOW_S)
        self.summary.total += 1

    def on_stop(self) -> None:
        counts["handled, slow"] = self.summary.count + round(self.summary.total)


def run(folder: Path, seconds: float, size_bytes: int, every_s: float = 1.0) -> dict[str, int]:
    """Blocks for `seconds` and until what was sent has been handled; messages sent or handled, by component.

    What the process takes meanwhile is noted in the file `moments.csv`, each `every_s` seconds.
    """
    system = System("memory", folder=folder)
    slow = system.add(Slow(), name="slow")
    inboxes: list[tuple[str, Any]] = [
        ("not durable", system.add(Counting(), name="counting").readings),
        ("durable", system.add(Durable(), name="durable").readings),
        ("durable, to the slow one's full inbox", slow.full),
        ("not durable, to the slow one's inbox that drops", slow.latest),
    ]
    for number, (name, inbox) in enumerate(inboxes):
        source = system.add(
            Source(label=f"sent, {name}", seconds=seconds, size_bytes=size_bytes), name=f"source-{number}"
        )
        system.connect(source.readings, inbox)

    def sent() -> int:
        return sum(inbox.sent for inbox in system.statistics().inboxes.values())

    with system.started() as running, footprint.noted(folder / "moments.csv", folder, sent, every_s):
        running.wait()
    return counts


if __name__ == "__main__":
    figures = run(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    Path(sys.argv[1], "counts.json").write_text(json.dumps(figures))

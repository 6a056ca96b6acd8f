"""A child of the tests: what is wrapped runs, and the process is killed at one moment of that.

    python wrap_child.py FOLDER WHAT MOMENT DEFECT

What is run: "count" or "offset", a source that can be resumed, by number or by a position of its own, and then print what has
arrived, in order; or "command", a child process that starts another one, which print their numbers and stay. A moment is the name
of a place and how often it is passed before it is deadly, as "parse 3"; or "never".
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import attrs

from minions import Component, Inbox, State, System, wrap
from minions.flow.plain_cache import PlainCache
from minions.model.wrapped import Resumable

_, FOLDER, WHAT, MOMENT, DEFECT = sys.argv
COUNT = 40
passed: Counter[str] = Counter()


def here(place: str) -> None:
    passed[place] += 1
    if f"{place} {passed[place]}" == MOMENT:
        os.kill(os.getpid(), signal.SIGKILL)


@attrs.frozen
class Line:
    offset: int
    text: str


@attrs.frozen
class Record:
    offset: int


def lines(first: int) -> Iterator[Line]:
    for offset in range(first, COUNT):
        here("read")
        yield Line(offset, f"line {offset}")
        here("sent")


def parse(line: Line) -> Record:
    here("parse")
    return Record(line.offset)


class Kept(Component):
    records = Inbox(Record)
    offsets = State(list[int])

    @records.handler
    def keep(self, record: Record) -> None:
        self.offsets.append(record.offset)
        here("keep")


def die_in_commits() -> None:
    commit = PlainCache.commit

    def deadly(self: PlainCache, *arguments: Any, **options: Any) -> None:
        here("before commit")
        commit(self, *arguments, **options)
        here("after commit")

    PlainCache.commit = deadly  # type: ignore[method-assign]


def keep_the_position_apart(*, first: bool) -> None:
    """What belongs in one unit is done in two."""

    def broken(self: Any, item: Any) -> None:
        def move() -> None:
            self.position = (self.position or 0) + 1
            self.commit()

        if first:
            move()
            here("between")
            self.out.send(item)
        else:
            self.out.send(item)
            self.commit()
            here("between")
            move()

    Resumable._send = broken  # type: ignore[method-assign]


if __name__ == "__main__":
    system = System("test", folder=FOLDER)
    if WHAT == "command":
        script = "sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' & echo $$; wait"
        child = system.add(wrap.command(["sh", "-c", script]), name="child")

        def tell(line: str) -> None:
            print(line, flush=True)

        system.connect(child.out, system.add(wrap.function(tell, str)).inbox)
        system.run()
    else:
        if DEFECT != "none":
            keep_the_position_apart(first=DEFECT == "position first")
        die_in_commits()
        by: Any = (
            {"resume": lines}
            if WHAT == "count"
            else {"resume": lambda offset: lines(offset + 1), "position": lambda line: line.offset}
        )
        source: Any = system.add(wrap.iterable(lambda: lines(0), Line, **by), name="lines")
        worker = system.add(wrap.function(parse, Line, Record))
        kept = system.add(Kept())
        system.connect(source.out, worker.inbox)
        system.connect(worker.out, kept.records)
        system.run()
        print(json.dumps(kept.offsets))

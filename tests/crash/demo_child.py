"""A child of the tests: ``minions demo``, which halts at one moment, says so, and waits there to be killed or stopped.

    python demo_child.py MOMENT DEFECT [OPTION ...]

A moment is written ``[durable] before|after PLACE NUMBER, ...``, one step or several, each of which waits for the one before:
the NUMBER-th time that the place is passed. At a durable step the component first waits until everything so far is on disk.
A defect is a way to break the runtime.
"""

from __future__ import annotations

import functools
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import minions.cli
from minions.demo import Counter, Index, Reader, Walker
from minions.flow import rows
from minions.flow.acks import unsettled
from minions.flow.channel import Entry, Wakes
from minions.flow.epoch import Sealed
from minions.flow.journal import Journal
from minions.flow.ledger import Change, Ledger
from minions.flow.mailbox import Mailbox
from minions.flow.mark import Mark
from minions.flow.plain_cache import PlainCache
from minions.flow.store import Store
from minions.flow.unit import Unit
from minions.flow.writer import Writer
from minions.life.life import Life
from minions.system import System


class Told:
    """Places that no method of the runtime stands for."""

    def totals_sealed(self) -> None:
        """The writer is about to commit an epoch in which the totals have changed."""


def tell_of_sealed_totals() -> None:
    change = Ledger.change

    def told(self: Ledger, sealed: Sealed) -> Change:
        if "counter" in sealed.states:
            Told().totals_sealed()
        return change(self, sealed)

    Ledger.change = told  # type: ignore[method-assign]


PLACES: dict[str, tuple[type, str]] = {
    "run": (System, "run"),
    "open": (Writer, "open"),
    "recover": (Ledger, "recover"),
    "begin": (Writer, "begin"),
    "totals-sealed": (Told, "totals_sealed"),
    "commit": (PlainCache, "commit"),
    "mark": (Mark, "write"),
    "close": (Store, "close"),
    "walk": (Walker, "run"),
    "send": (Life, "unit"),  # of the walker; nobody else opens a unit
    "read": (Reader, "read"),
    "count": (Counter, "count"),
    "index-start": (Index, "on_start"),
    "index": (Index, "index"),
    "index-stop": (Index, "on_stop"),
}


def on(moment: str, place: str, number: int, gate: threading.Event, act: Callable[[Any], None]) -> None:
    """Has `act` called, with the object whose method it is, when the place is passed for the `number`-th time since the gate
    was opened.
    """
    owner, name = PLACES[place]
    method = getattr(owner, name)
    passed = itertools.count(1)

    def look(passing: Any) -> None:
        if gate.is_set() and next(passed) == number:
            act(passing)

    @functools.wraps(method)
    def watched(self: Any, *arguments: Any, **named: Any) -> Any:
        if moment == "before":
            look(self)
        result = method(self, *arguments, **named)
        if moment == "after":
            look(self)
        return result

    setattr(owner, name, watched)


def arm(moment: str) -> None:
    """Has the child halt at a moment: each of its steps opens the gate to the next one, the last one halts."""
    steps = [step.split() for step in moment.split(", ")]
    gates = [threading.Event() for _ in steps]
    gates[0].set()
    for step, gate, following in zip(steps, gates, [*gates[1:], None], strict=True):
        *durable, moment, place, number = step

        def act(passing: Any, durable: list[str] = durable, following: threading.Event | None = following) -> None:
            if durable:
                passing.commit(timeout_s=60)
            if following is not None:
                following.set()
            else:
                os.write(1, b"reached\n")
                while getattr(passing, "running", True):
                    threading.Event().wait(0.02)

        on(moment, place, int(number), gate, act)


# Defects --------------------------------------------------------------------------------------------------------------
Rows = Sequence[tuple[str, bytes]]


def commit_in_two(*, acks_first: bool) -> None:
    """What belongs in one transaction is committed in two: what is settled, and all the rest."""
    commit = Store.commit

    def broken(self: Store, puts: Rows, deletes: Sequence[str]) -> int:
        acks = [row for row in puts if row[0].startswith(rows.ACKS)], deletes
        rest: tuple[Rows, Sequence[str]] = [row for row in puts if not row[0].startswith(rows.ACKS)], []
        for half in (acks, rest) if acks_first else (rest, acks):
            commit(self, *half)
        return self.commit_number

    Store.commit = broken  # type: ignore[method-assign]


def acknowledge_before_handling() -> None:
    """A message is settled in a unit of its own, and then handled."""
    handle = Life._handle

    def broken(self: Life, entry: Entry) -> None:
        early = Unit(self.name)
        early.settles.append(entry)
        self._submit(early, None)
        handle(self, entry)

    merge = Journal._merge_locked

    def merge_but_once(self: Journal, unit: Unit, now_s: float, wakes: Wakes, mailbox: Mailbox | None) -> None:
        unit.settles = [entry for entry in unit.settles if unsettled(entry[0].acks.frozen(), [entry[1]])]
        merge(self, unit, now_s, wakes, mailbox)

    Life._handle = broken  # type: ignore[method-assign]
    Journal._merge_locked = merge_but_once  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "acknowledged in an earlier transaction": lambda: commit_in_two(acks_first=True),
    "acknowledged in a later transaction": lambda: commit_in_two(acks_first=False),
    "acknowledged before it is handled": acknowledge_before_handling,
}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test that runs in the background has it ignored
    tell_of_sealed_totals()
    DEFECTS[sys.argv[2]]()
    arm(sys.argv[1])
    sys.exit(minions.cli.main(["demo", *sys.argv[3:]]))

"""A child of the tests: dead letters are retried or dropped, and it is killed at one moment of that.

    python retry_child.py FOLDER WHAT MOMENT DEFECT

What it does: "leave" some dead letters, "retry" or "drop" the first one while the system does not run, "retry running" or "drop
running", or "end": start with nothing left to refuse, and print how often each message was handled, and what is still set aside.
A moment is one of the commit that the retry or drop needs: "before", "after" (before the mark is written), "told" (when the
call has returned), or "never".
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from minions import Component, Inbox, Outbox, Retry, State, System
from minions.flow import rows
from minions.flow.plain_cache import PlainCache, Step
from minions.flow.store import Store

_, FOLDER, WHAT, MOMENT, DEFECT = sys.argv


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    out = Outbox(Number)
    sent = State(bool)

    def run(self) -> None:
        if not self.sent:
            with self.unit():
                for value in range(4):
                    self.out.send(Number(value))
                self.sent = True


class Picky(Component):
    numbers = Inbox(Number, retry=Retry(attempts=1))
    handled = State(list[tuple[int, str]])

    @numbers.handler
    def handle(self, number: Number) -> None:
        if WHAT == "leave" and number.value in (1, 2):
            raise ValueError("not yet")
        self.handled.append((number.value, self.message_id))


def die_at(moment: str) -> None:
    """From now on, at the commit that deletes a dead letter."""
    commit = PlainCache.commit

    def deadly(
        self: PlainCache, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str], step: Step | None = None
    ) -> None:
        ours = any(key.startswith(rows.DEAD) for key in deletes)
        if ours and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        commit(self, puts, deletes, step)
        if ours and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    PlainCache.commit = deadly  # type: ignore[method-assign]


def commit_in_two(*, deletes_first: bool) -> None:
    """What belongs in one transaction is committed in two."""
    commit = Store.commit

    def broken(self: Store, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> int:
        halves: list[Any] = [([], deletes), (puts, [])]
        for half in halves if deletes_first else halves[::-1]:
            commit(self, *half)
            if any(key.startswith(rows.DEAD) for key in deletes):
                os.kill(os.getpid(), signal.SIGKILL)
        return self.commit_number

    Store.commit = broken  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "deleted in an earlier transaction": lambda: commit_in_two(deletes_first=True),
    "deleted in a later transaction": lambda: commit_in_two(deletes_first=False),
}


if __name__ == "__main__":
    system = System("test", folder=FOLDER)
    numbers, picky = system.add(Numbers()), system.add(Picky())
    system.connect(numbers.out, picky.numbers)
    verb, _, running = WHAT.partition(" ")
    act = {"retry": system.retry_dead_letters, "drop": system.drop_dead_letters}.get(verb)
    if act is None:
        with system.started():
            system.wait(30.0)
        letters = [(system.message_of(letter).value, letter.message_id) for letter in system.dead_letters()]
        print(json.dumps({"handled": picky.handled, "letters": letters}))
    else:
        letter = system.dead_letters()[0]
        DEFECTS[DEFECT]()
        die_at(MOMENT)
        if running:
            with system.started():
                act(letter)
                if MOMENT == "told":
                    os.kill(os.getpid(), signal.SIGKILL)
        else:
            act(letter)
            if MOMENT == "told":
                os.kill(os.getpid(), signal.SIGKILL)

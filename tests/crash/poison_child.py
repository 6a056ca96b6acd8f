"""A child of the tests: a system in which some messages kill the process.

    python poison_child.py FOLDER OPTIONS

The options are JSON: see `Options`. A run that ends in order prints what was handled, and what was set aside.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System, SystemFailed
from minions.clock import Parkable
from minions.flow.board import Board, Marks
from minions.flow.channel import Ticket
from minions.flow.epoch import Sealed
from minions.flow.group_commit import GroupCommit
from minions.life.life import Life

HOW: dict[str, Callable[[], Any]] = {
    "segmentation fault": lambda: ctypes.string_at(0),
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),  # as the kernel does when memory is out
    "abort": os.abort,
    "exit": lambda: os._exit(3),
}


@attrs.frozen
class Options:
    """What the child is told.

    Attributes:
        kind: of the component that receives.
        deadly: the numbers that kill the process.
        leaves: send all at once, handle nothing, and end in order: all is on disk for the next start.
        how: in which way it dies.
        count: how many numbers are sent in all.
        retry: of the inbox.
        lazy: commit only when somebody waits for it, so that what was just sent is not on disk.
        defect: a way to break the runtime.
    """

    kind: str = "handler"
    deadly: list[int] = attrs.Factory(list)
    leaves: bool = False
    how: str = "SIGKILL"
    count: int = 20
    retry: dict[str, Any] = attrs.Factory(dict)
    lazy: bool = False
    defect: str = ""


options = Options(**json.loads(sys.argv[2]))
retry = Retry(attempts=1, then="stop") if options.leaves else Retry(backoff=Backoff(initial_s=0.0), **options.retry)


def meet(value: int) -> int:
    """What user code does with a number."""
    if value in options.deadly:
        HOW[options.how]()
    return value


def leave() -> None:
    if options.leaves:
        raise ValueError("later")


@attrs.frozen
class Number:
    value: int


@attrs.frozen
class Deadly:
    """A number that kills whoever reads it from disk."""

    value: int = attrs.field(converter=meet)


Message: Any = Deadly if options.kind == "unread" else Number


class Numbers(Component):
    count: int
    out = Outbox(Message)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.count:
            with self.unit():
                for _ in range(self.count if options.leaves else 1):
                    self.out.send(Message(self.sent))
                    self.sent += 1


class Handling(Component):
    numbers = Inbox(Message, retry=retry)
    handled = State(list[int])

    @numbers.handler
    def handle(self, number: Any) -> None:
        leave()
        self.handled.append(meet(number.value))


class Worker(Component):
    numbers = Inbox(Message, retry=retry)
    out = Outbox(Number)

    @numbers.handler
    def handle(self, number: Any) -> None:
        self.out.send(Number(meet(number.value)))


class Looping(Component):
    numbers = Inbox(Message, retry=retry)
    handled = State(list[int])

    def run(self) -> None:
        for number in self.numbers:
            leave()
            self.handled.append(meet(number.value))


class Batching(Component):
    """Four at a time, and looked at afterwards."""

    numbers = Inbox(Message, retry=retry)
    handled = State(list[int])

    def run(self) -> None:
        while True:
            with self.unit():
                for number in [self.numbers.receive() for _ in range(4)]:
                    self.handled.append(meet(number.value))


def commit_only_when_asked() -> None:
    seal, commit_ticket = GroupCommit.seal, GroupCommit.ticket

    def lazy_seal(self: GroupCommit, writer: Parkable) -> Sealed | None:
        with self._lock:
            self._writer = writer
            wanted = self._line or self.closing
        return seal(self, writer) if wanted else None

    def asking(self: GroupCommit, parker: Parkable) -> Ticket | None:
        ticket = commit_ticket(self, parker)
        if ticket is not None and self._writer is not None:
            self._writer.unpark()
        return ticket

    GroupCommit.seal = lazy_seal  # type: ignore[method-assign]
    GroupCommit.ticket = asking  # type: ignore[method-assign]


def note_nothing() -> None:
    Board.marks = lambda self, life, channels: Marks.nowhere()  # type: ignore[method-assign]


def take_no_care() -> None:
    Life._wait_until_on_disk = lambda self, entry: None  # type: ignore[method-assign]


def never_leave() -> None:
    """What was in work once stays on the board after it was handled; the next one comes on top of it."""
    Marks.clear = lambda self: None  # type: ignore[method-assign]


DEFECTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "nothing is noted": note_nothing,
    "no care": take_no_care,
    "never cleared": never_leave,
}


def build(folder: str) -> tuple[System, Any]:
    system = System("test", folder=folder)
    numbers = system.add(Numbers(count=options.count))
    if options.kind == "replicas":
        worker, handling = system.add(Worker(), replicas=3), system.add(Handling())
        system.connect(numbers.out, worker.numbers)
        system.connect(worker.out, handling.numbers)
        return system, handling
    kinds: dict[str, type[Any]] = {"handler": Handling, "unread": Handling, "loop": Looping, "batches": Batching}
    receiving = system.add(kinds[options.kind](), name="receiving")
    system.connect(numbers.out, receiving.numbers)
    return system, receiving


if __name__ == "__main__":
    DEFECTS[options.defect]()
    if options.lazy:
        commit_only_when_asked()
    system, receiving = build(sys.argv[1])
    with suppress(SystemFailed), system.started():
        system.wait(30.0)
    letters = [
        {"value": json.loads(letter.message)["value"], "attempts": letter.attempts, "error": letter.error}
        for letter in system.dead_letters()
    ]
    print(json.dumps({"handled": receiving.handled, "letters": letters}))

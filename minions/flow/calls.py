"""Calls between components: what is asked of one, waits for its thread, and is answered. Guarded by the journal's lock.

Calls in flight and full channels make a wait-for graph: each life whose own thread waits points at the lives that could end its
wait. A life waits for ever when all that it points at do, so a call that would close such a circle is refused at once.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from minions.clock import Parkable
from minions.errors import CallFailed, CallTimeout, DeadlockError
from minions.fence import Fence
from minions.flow.channel import Wakes

__all__ = ["Call", "CallQueue", "Served", "WaitGraph", "deadlock"]

MOST_WAITING = 1_000
"""How many calls of one component may wait that nobody stands behind: those that were submitted."""


class Served(Protocol):
    """What a thread may wait for: a queue of calls, or a channel without room."""

    @property
    def name(self) -> str: ...
    @property
    def readers(self) -> Any: ...


class Stage(enum.Enum):
    """How far a call has come."""

    WAITING = 1
    IN_WORK = 2
    DONE = 3


class Call:
    """One call of one method.

    Attributes:
        queue: of the component that is called.
        method: the name of the method.
        arguments, keywords: as they were given; the same objects.
        caller: the life whose own thread waits for the answer; None where nobody's does.
        by: who calls, for people.
        parker: where the caller waits; None where it has a future.
        future: what the answer goes to; None where somebody waits.
        result, error: the answer. Written before `stage` is DONE.
        stage: guarded by the journal's lock; may be read without it by whoever waits, who looks again when woken.
    """

    __slots__ = (
        "arguments",
        "by",
        "caller",
        "error",
        "future",
        "keywords",
        "method",
        "parker",
        "queue",
        "result",
        "stage",
    )

    def __init__(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        by: str,
        *,
        caller: Fence | None = None,
        parker: Parkable | None = None,
        future: Future[Any] | None = None,
    ) -> None:
        self.queue = queue
        self.method = method
        self.arguments = arguments
        self.keywords = keywords
        self.by = by
        self.caller = caller
        self.parker = parker
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.stage = Stage.WAITING

    @property
    def is_done(self) -> bool:
        return self.stage is Stage.DONE

    def __str__(self) -> str:
        return f"{self.queue.name}.{self.method}()"

    def answer_locked(self, result: Any, error: BaseException | None, wakes: Wakes) -> None:
        """Answers, unless it was answered or given up before. A future is settled by `settle`, outside of the lock."""
        if self.stage is Stage.DONE:
            return
        self.result, self.error = result, error
        self.stage = Stage.DONE
        if self.parker is not None:
            wakes.append(self.parker)

    def settle(self) -> None:
        """Hands the answer to the future, which may call back. Never under the lock."""
        if self.future is None or self.stage is not Stage.DONE or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class CallQueue:
    """The calls that wait for one component, in order, whichever of its replicas takes them.

    Attributes:
        name: of the component.
        waiting: calls that nobody has taken.
        readers: the mailboxes of its lives.
        in_work: calls that a life has taken and not answered.
        closed: why nobody will ever take one; empty while somebody may.
        calls: how many were taken so far.
    """

    __slots__ = ("calls", "closed", "in_work", "name", "readers", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: deque[Call] = deque()
        self.readers: list[Any] = []
        self.in_work = 0
        self.closed = ""
        self.calls = 0

    def put_locked(self, call: Call, wakes: Wakes) -> None:
        """Appends a call and wakes a reader.

        Raises:
            CallFailed: nobody will take it.
        """
        if self.closed:
            raise CallFailed(f"{call.by}: {call} cannot be called: {self.closed}")
        if call.future is not None and len(self.waiting) >= MOST_WAITING:
            raise CallFailed(
                f"{call.by}: {MOST_WAITING} calls wait for {self.name} already; call it without submit(), which waits, or "
                "wait for the answers"
            )
        self.waiting.append(call)
        self.wake_reader_locked(wakes)

    def take_locked(self) -> Call | None:
        """The next call that somebody still wants to have answered."""
        while self.waiting:
            call = self.waiting.popleft()
            if call.future is not None and not call.future.set_running_or_notify_cancel():
                call.stage = Stage.DONE
                continue
            if call.stage is Stage.WAITING:
                call.stage = Stage.IN_WORK
                self.in_work += 1
                self.calls += 1
                return call
        return None

    def wake_reader_locked(self, wakes: Wakes) -> None:
        for reader in self.readers:
            if reader.asleep:
                reader.asleep = False
                wakes.append(reader.parker)
                return

    def close_locked(self, why: str, wakes: Wakes) -> list[Call]:
        """Fails what waits, and what comes; returns it, to be settled."""
        self.closed = why
        failed = list(self.waiting)
        self.waiting.clear()
        for call in failed:
            call.answer_locked(None, CallFailed(f"{call.by}: {call} was not called: {why}"), wakes)
        return failed

    def give_up_locked(self, call: Call, timeout_s: float | None) -> CallTimeout:
        """What is raised when the time for a call is over; it is not taken any more when it was not."""
        begun = call.stage is Stage.IN_WORK
        if call in self.waiting:
            self.waiting.remove(call)
        call.stage = Stage.DONE
        within = "" if timeout_s is None else f" within {timeout_s:g} s"
        then = "it was at work on it, and goes on; the answer is dropped" if begun else "it was not called"
        return CallTimeout(f"{call.by}: {call} did not answer{within}: {then}")


class WaitGraph:
    """Who waits for whom: the own threads of lives that wait for an answer, or for room.

    Attributes:
        waits: for each life that waits, what for.
        calls: the calls that somebody waits for, the youngest last.
    """

    __slots__ = ("calls", "waits")

    def __init__(self) -> None:
        self.waits: dict[Fence, Served] = {}
        self.calls: dict[Call, None] = {}

    def circle_locked(self, waiter: Fence, target: Served) -> list[Fence]:
        """The lives of a circle that `waiter` would close by waiting for `target`, itself first; empty where it closes none.

        A life can go on when any that it waits for can; so what is left when all of these are taken away can never go on (a
        greatest fixed point).
        """
        if all(reader.fence not in self.waits and reader.fence is not waiter for reader in target.readers):
            return []
        points_at = self._reached(waiter, target)
        stuck = set(points_at)
        free = True
        while free:
            free = False
            for life in list(stuck):
                servers = points_at[life]
                if not servers or any(server not in stuck for server in servers):
                    stuck.discard(life)
                    free = True
        return _round(waiter, points_at) if waiter in stuck else []

    def _reached(self, waiter: Fence, target: Served) -> dict[Fence, list[Fence]]:
        """For each life that can be come to from `waiter`, those that could end its wait; none where it does not wait."""
        points_at: dict[Fence, list[Fence]] = {}
        ahead: list[tuple[Fence, Served | None]] = [(waiter, target)]
        while ahead:
            life, waits_for = ahead.pop()
            if life in points_at:
                continue
            servers = [] if waits_for is None else [reader.fence for reader in waits_for.readers]
            points_at[life] = servers
            ahead += [(server, self.waits.get(server)) for server in servers if server not in points_at]
        return points_at

    def youngest_locked(self, lives: list[Fence]) -> Call | None:
        """The youngest call that one of these lives waits for."""
        among = set(lives)
        return next((call for call in reversed(self.calls) if call.caller in among and not call.is_done), None)


def deadlock(call: Call, circle: list[Fence]) -> DeadlockError:
    """What is raised for a call that can never be answered."""
    way = " waits for ".join([*(life.component for life in circle), circle[0].component])
    return DeadlockError(
        f"{call.by}: {call} can never be answered: {way}; let one of them submit() its call or send a message instead",
        tuple(life.component for life in circle),
    )


def _round(waiter: Fence, points_at: Mapping[Fence, list[Fence]]) -> list[Fence]:
    """A way from `waiter` round to a life that was passed before, and only the circle of it."""
    way: list[Fence] = []
    life = waiter
    while life not in way:
        way.append(life)
        life = points_at[life][0]
    return way[way.index(life) :]

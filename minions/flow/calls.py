"""Calls between components: what is asked of one, waits for its thread, and is answered. Guarded by the journal's lock.

A call waits in the queue of its component until a life takes it, or is handed at once to a life that sleeps. It is answered by
that life, or given up by whoever waits for it, whichever comes first.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from minions.clock import Parkable
from minions.errors import CallFailed, CallTimeout
from minions.fence import Fence, Mode
from minions.flow.channel import Wakes
from minions.threads import report_unhandled

__all__ = ["Answer", "Call", "CallQueue", "Stage", "Taker"]

MOST_WAITING = 1_000
"""How many calls of one component may wait that nobody stands behind: those that were submitted."""

Answer = tuple[Any, "BaseException | None"]
"""What has come of a call: what it returned, or what it raised."""


class Stage(enum.Enum):
    """How far a call has come."""

    WAITING = 1
    """Nobody has taken it."""
    HANDED = 2
    """A life has it, and is at work on it or about to be."""
    DONE = 3
    """It was answered, or nobody wants the answer any more."""


_WAITING, _HANDED, _DONE = Stage.WAITING, Stage.HANDED, Stage.DONE  # an attribute of an enum costs more than a name


class Taker(Protocol):
    """Who takes calls. Guarded by the journal's lock.

    Attributes:
        parker: where its thread sleeps.
        asleep: it found nothing and sleeps, or is about to; whoever clears it owes it a wake-up.
        fence: of the life; None before it has begun.
        call: the one that it has and that is not answered.
    """

    parker: Parkable
    asleep: bool
    fence: Fence | None
    call: Call | None

    def hand_locked(self, call: Call) -> None:
        """Gives it a call, to be answered before it takes anything else."""


class Call:
    """One call of one method.

    Attributes:
        queue: of the component that is called.
        method: the name of the method.
        arguments, keywords: as they were given; the same objects.
        by: who calls, for people.
        fence: of the life that calls; None for a caller from outside.
        waiter: the fence of the life whose own thread waits for the answer; None where no life's does.
        parker: where the caller waits; None where it has a future.
        future: what the answer goes to; None where somebody waits, and once it is settled.
        result, error: the answer. Written before `stage` is DONE; the error is taken out by whoever raises it.
        worker: the fence of the life that has it; None while it waits.
        begun: whether the method has begun. Written by the thread of that life, without the lock.
        origin: the unit of work in which it was called; there only where units are told, see `minions.life.traced`.
        stage: guarded by the journal's lock. May be read without it: DONE is the last.
    """

    __slots__ = (
        "arguments",
        "begun",
        "by",
        "error",
        "fence",
        "future",
        "keywords",
        "method",
        "origin",
        "parker",
        "queue",
        "result",
        "stage",
        "waiter",
        "worker",
    )
    origin: Any

    def __init__(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        by: str,
        fence: Fence | None = None,
        waiter: Fence | None = None,
        parker: Parkable | None = None,
        future: Future[Any] | None = None,
    ) -> None:
        self.queue = queue
        self.method = method
        self.arguments = arguments
        self.keywords = keywords
        self.by = by
        self.fence = fence
        self.waiter = waiter
        self.parker = parker
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None
        self.worker: Fence | None = None
        self.begun = False
        self.stage = _WAITING

    @property
    def is_done(self) -> bool:
        return self.stage is _DONE

    def __str__(self) -> str:
        return f"{self.queue.name}.{self.method}()"

    def begin(self) -> bool:
        """On the thread of the life that has it: whether the method is to be run. False where nobody wants it any more."""
        if self.stage is _DONE:
            return False
        if self.future is not None and not _claimed(self.future):
            return False
        self.begun = True
        return True

    def answer_locked(self, result: Any, error: BaseException | None, wakes: Wakes) -> None:
        """Answers, unless it was answered or given up before. A future is settled by `settle`, outside of the lock."""
        if self.stage is _DONE:
            return
        self.result, self.error = result, error
        self.stage = _DONE
        if self.parker is not None:
            wakes.append(self.parker)

    def settle(self) -> None:
        """Hands the answer to the future, which may call back. Never under the lock; raises nothing."""
        future, self.future = self.future, None
        if future is None:
            return
        error, self.error = self.error, None  # its traceback has frames that hold this call, which would keep it alive
        if future.done() or not (self.begun or _claimed(future)):
            return
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(self.result)
        except BaseException as raised:  # noqa: BLE001 - reported: what was called back is the caller's, not this thread's
            report_unhandled(raised)


class CallQueue:
    """The calls that wait for one component, in order, whichever of its replicas takes them.

    Attributes:
        name: of the component.
        replicas: how many lives it has when all of them are up.
        waiting: calls that nobody has taken.
        readers: the mailboxes of its lives.
        closed: why nobody will ever take one; empty while somebody may.
    """

    __slots__ = ("closed", "name", "readers", "replicas", "waiting")

    def __init__(self, name: str, replicas: int = 1) -> None:
        self.name = name
        self.replicas = replicas
        self.waiting: deque[Call] = deque()
        self.readers: list[Taker] = []
        self.closed = ""

    @property
    def in_work(self) -> int:
        """How many calls a life has taken and not answered."""
        return sum(reader.call is not None for reader in self.readers)

    def hand_over_locked(self, call: Call, wakes: Wakes) -> bool:
        """Hands a call to a reader that sleeps, which is then to be woken; False where there is none."""
        if self.waiting:
            return False
        for reader in self.readers:
            if reader.asleep and reader.fence is not None and not reader.fence.yields:
                self._hand_locked(call, reader)
                wakes.append(reader.parker)
                return True
        return False

    def put_locked(self, call: Call) -> None:
        """Appends a call that could not be handed over: who could take it is awake, and looks here before it sleeps.

        Raises:
            CallFailed: nobody will take it, or too many that were submitted wait.
        """
        if self.closed:
            raise CallFailed(f"{call.by}: {call} was not called: {self.closed}")
        if call.future is not None and len(self.waiting) >= MOST_WAITING:
            raise CallFailed(
                f"{call.by}: {MOST_WAITING:,} calls wait for {self.name} already; call it without submit(), which waits, or "
                "wait for the answers"
            )
        self.waiting.append(call)

    def take_locked(self, reader: Taker) -> bool:
        """Hands the next call that somebody still wants to have answered to a reader; False where there is none."""
        while self.waiting:
            call = self.waiting.popleft()
            if call.future is None and call.fence is not None and call.fence.mode is Mode.CUT:
                call.stage = _DONE  # its caller is no more, and does it again in its next life
            else:
                self._hand_locked(call, reader)
                return True
        return False

    def _hand_locked(self, call: Call, reader: Taker) -> None:
        call.stage = _HANDED
        call.worker = reader.fence
        reader.hand_locked(call)

    def give_back_locked(self, call: Call, wakes: Wakes) -> None:
        """Puts a call back to the front that a reader was handed and did not begin."""
        call.worker = None
        if call.stage is _HANDED:
            call.stage = _WAITING
            self.waiting.appendleft(call)
            self.wake_reader_locked(wakes)

    def wake_reader_locked(self, wakes: Wakes) -> None:
        for reader in self.readers:
            if reader.asleep:
                reader.asleep = False
                wakes.append(reader.parker)
                return

    def take_back_locked(self, call: Call, wakes: Wakes) -> None:
        """Has a call never been, however much of handing it over, or of appending it, was done. A life that has it drops it."""
        call.stage = _DONE
        if call in self.waiting:
            self.waiting.remove(call)
        for reader in self.readers:
            if reader.call is call:
                reader.asleep = False
                wakes.append(reader.parker)

    def close_locked(self, why: str, wakes: Wakes) -> list[Call]:
        """Fails what waits, and what comes; returns it, to be settled."""
        self.closed = why
        failed = list(self.waiting)
        self.waiting.clear()
        for call in failed:
            call.answer_locked(None, CallFailed(f"{call.by}: {call} was not called: {why}"), wakes)
        return failed

    def give_up_locked(self, call: Call) -> None:
        """Forgets a call of which nobody wants the answer any more. One that a life has goes on, and its answer is dropped."""
        if call.stage is _WAITING:
            self.waiting.remove(call)
        call.stage = _DONE


def timeout(call: Call, timeout_s: float | None) -> CallTimeout:
    """What is raised when the time for a call is over, before it is given up."""
    within = "" if timeout_s is None else f" within {timeout_s:g} s"
    at_work = "its component is at work on it and goes on; the answer is dropped"
    then = at_work if call.stage is _HANDED else "it was not called"
    return CallTimeout(f"{call.by}: {call} did not answer{within}: {then}")


def _claimed(future: Future[Any]) -> bool:
    """Takes a future in work, so that it cannot be cancelled any more; False where it was cancelled, or settled by others."""
    try:
        return future.set_running_or_notify_cancel()
    except Exception:  # noqa: BLE001 - somebody has set a result on it: then nobody waits for ours
        return False

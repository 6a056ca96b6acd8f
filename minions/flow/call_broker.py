"""What becomes of calls between components: who waits for which answer, who has it in work, and what can never be answered.

No thread and no lock of its own: it works under that of the journal, which owns it.
"""

from __future__ import annotations

import threading

from minions.clock import Clock
from minions.errors import CallFailed, StopRequested
from minions.fence import Fence, Mode
from minions.flow.calls import Answer, Call, CallQueue, timeout
from minions.flow.channel import Ticket, Wakes
from minions.flow.mailbox import Mailbox
from minions.flow.turnstile import Turnstile
from minions.flow.wait_graph import WaitGraph, deadlock

__all__ = ["CallBroker"]


class CallBroker:
    """The calls of one running system.

    Every method is safe to call from any thread and returns at once; those named ``_locked`` are for who holds the lock.

    Attributes:
        graph: who waits for what; guarded by the lock.
    """

    def __init__(self, lock: threading.Lock, turnstile: Turnstile, clock: Clock) -> None:
        """Args:
        lock: that of the journal, which also guards every `Call` and `CallQueue`.
        turnstile: where threads wait that find it taken.
        clock: the source of time.
        """
        self.graph = WaitGraph()
        self._lock = lock
        self._turnstile = turnstile
        self._clock = clock

    # ------------------------------------------------------------------ the caller's side
    def place(self, call: Call) -> None:
        """Has a call wait for the component that it is for. Who stands behind it waits while `waits` says so.

        Raises:
            StaleComponent: the fence of the caller is cut.
            StopRequested: the caller was asked to stop a while ago.
            CallFailed: nobody will ever take it.
            DeadlockError: it could never be answered.
        """
        wakes: Wakes = []
        fence, waiter = call.fence, call.waiter
        lock, turnstile = self._lock, self._turnstile  # as in `Journal.submit`
        while turnstile.is_taken:
            turnstile.wait()
        try:
            with lock:
                if fence is not None and fence.yields:
                    fence.check_locked()
                    if fence.mode is Mode.ENDING:
                        raise StopRequested(f"{fence.component} was asked to stop")
                if not call.queue.hand_over_locked(call, wakes):
                    if waiter is not None and (stuck := self.graph.stuck_locked(waiter, call)):
                        raise deadlock(call, stuck)
                    call.queue.put_locked(call)
                if waiter is not None:
                    self.graph.waits[waiter] = call
            if turnstile.sleepers:
                turnstile.wake_next()
            for parkable in wakes:
                parkable.unpark()
        except BaseException:  # whatever it is, Ctrl-C too: a life that was handed it, and not woken, would sleep on
            self._take_back(call)  # which passes the turnstile
            raise

    def _take_back(self, call: Call) -> None:
        wakes: Wakes = []
        with self._turnstile, self._lock:
            self._forget_locked(call)
            call.queue.take_back_locked(call, wakes)
        for parkable in wakes:
            parkable.unpark()

    def waits(self, call: Call, deadline_s: float | None, timeout_s: float | None) -> bool:
        """Whether the answer to a call is still to be waited for. When this raises, the call is given up.

        Raises:
            StaleComponent: the fence of the caller is cut.
            StopRequested: the caller was asked to stop a while ago.
            CallTimeout: the deadline is past.
        """
        with self._turnstile, self._lock:
            fence = call.fence
            if fence is not None and fence.mode is Mode.CUT:
                self._give_up_locked(call)
                fence.check_locked()
            if call.is_done:
                return False
            if fence is not None and fence.mode is Mode.ENDING:
                self._give_up_locked(call)
                raise StopRequested(f"{fence.component} was asked to stop")
            if deadline_s is None or self._clock.monotonic() < deadline_s:
                return True
            late = timeout(call, timeout_s)
            self._give_up_locked(call)
            raise late

    def give_up(self, call: Call) -> None:
        """Says that nobody waits for the answer any more. Without effect when it was answered."""
        with self._turnstile, self._lock:
            self._give_up_locked(call)

    def _give_up_locked(self, call: Call) -> None:
        self._forget_locked(call)
        if not call.is_done:
            call.queue.give_up_locked(call)

    def _forget_locked(self, call: Call) -> None:
        """Notes that nobody waits for the answer any more."""
        waiter = call.waiter
        if waiter is not None and self.graph.waits.get(waiter) is call:
            del self.graph.waits[waiter]

    def note_wait(self, fence: Fence, ticket: Ticket | None) -> None:
        """Notes that a life's own thread waits for room, or no longer does; a call that this keeps from being answered fails.

        Args:
            ticket: what it waits with, for as long as it takes; None when it does not wait any more.
        """
        wakes: Wakes = []
        with self._turnstile, self._lock:
            graph = self.graph
            if ticket is None:
                graph.waits.pop(fence, None)
                return
            if ticket.granted or fence.mode is Mode.CUT:
                return
            stuck = graph.stuck_locked(fence, ticket)
            call = graph.youngest_call_locked(stuck)
            graph.waits[fence] = ticket
            if call is not None:
                error = deadlock(call, stuck)
                self._forget_locked(call)
                if call.worker is None:
                    call.queue.waiting.remove(call)
                call.answer_locked(None, error, wakes)
        for parkable in wakes:
            parkable.unpark()

    # ------------------------------------------------------------------ the side of who is called
    def answer(self, mailbox: Mailbox, fence: Fence, answer: Answer) -> None:
        """Answers the call that a life has taken. Where it has a future, that may call back, on this thread.

        Raises:
            StaleComponent: the fence is cut; the caller was told when it was.
        """
        wakes: Wakes = []
        with self._turnstile, self._lock:
            fence.check_locked()
            call = mailbox.call
            self.answer_locked(mailbox, answer, wakes)
        for parkable in wakes:
            parkable.unpark()
        if call is not None:
            call.settle()

    def answer_locked(self, mailbox: Mailbox, answer: Answer, wakes: Wakes) -> Call:
        """Answers the call that a mailbox has; returns it, to be held until the lock is free, see `Freed`."""
        call, mailbox.call = mailbox.call, None
        assert call is not None
        self._forget_locked(call)
        call.answer_locked(*answer, wakes)
        return call

    def open(self, queue: CallQueue) -> None:
        """Says that calls will be taken (again)."""
        with self._turnstile, self._lock:
            queue.closed = ""

    def close(self, queue: CallQueue, why: str) -> None:
        """Fails the calls that wait and those that come, because nobody will take them. Futures may call back, on this thread."""
        wakes: Wakes = []
        with self._turnstile, self._lock:
            failed = queue.close_locked(why, wakes)
            for call in failed:
                self._forget_locked(call)
        for parkable in wakes:
            parkable.unpark()
        for call in failed:
            call.settle()

    # ------------------------------------------------------------------ lives, as the journal tells of them
    def life_begins_locked(self, mailbox: Mailbox, fence: Fence) -> None:
        self.graph.beginning[fence] = mailbox

    def life_is_up_locked(self, mailbox: Mailbox, fence: Fence) -> None:
        """From now on it takes calls."""
        self.graph.beginning.pop(fence, None)
        if mailbox.calls is not None:
            mailbox.calls.readers.append(mailbox)

    def life_ends_locked(self, mailbox: Mailbox, fence: Fence, wakes: Wakes) -> Call | None:
        """Takes a life out of everything that has to do with calls; returns the one that it has not answered."""
        self.graph.beginning.pop(fence, None)
        waited = self.graph.waits.pop(fence, None)
        if isinstance(waited, Call):
            waited.queue.give_up_locked(waited)
        queue, call = mailbox.calls, mailbox.call
        if queue is not None and mailbox in queue.readers:
            queue.readers.remove(mailbox)
        if call is None or not call.begun:
            return None  # `Mailbox.put_down_locked` gives back what was not begun
        ended = f"the life of {fence.component} that was at work on it has ended, and what it had changed and sent never was"
        self.answer_locked(mailbox, (None, CallFailed(f"{call.by}: {call} was not answered: {ended}")), wakes)
        return call

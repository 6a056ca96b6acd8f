"""What `after_commit()` was handed: functions that are called once the unit of work that they belong to is on disk.

They belong to one life and live in memory. Component's thread only, and no lock, but for the end of a life that is abandoned
(see `give_up`); the journal is told that its component still has something to do, so that the system is not taken for finished,
and wakes its thread when a commit was made.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable

import attrs

from minions.clock import Parkable
from minions.errors import StaleComponent, StopRequested, StoreError, UnitTooLarge, UsageError
from minions.fence import Fence, Mode
from minions.flow.journal import Journal

__all__ = ["MOST_WAITING", "AfterCommit", "Call"]

MOST_WAITING = 8_192
"""As many functions may wait for a commit before the component waits too; and as many may be handed over in one unit."""


@attrs.frozen(eq=False)
class Call:
    """A function that waits for its commit.

    Attributes:
        function: takes no arguments; what it returns is not looked at.
        message_id: of the message in whose unit it was handed over; empty where there was none.
        partition: whose state was in place then; None where the component has no partitions.
        epoch: what has to be on disk first; 0 while its unit is open.
    """

    function: Callable[[], object]
    message_id: str
    partition: int | None
    epoch: int = 0


class AfterCommit:
    """The functions of one life, in the order in which they were handed over.

    Attributes:
        handed: those of the open unit.
        waiting: those of whole units.
        current: the one whose turn it is.
        has_begun: whether that one was called: until then its life may find out that it is over.
        owing: whether the journal was told that there is something to do, and not yet that it is done.
    """

    __slots__ = (
        "_call",
        "_failure",
        "_fence",
        "_given_up",
        "_journal",
        "_lock",
        "_over",
        "_parker",
        "_wait_for_commit",
        "current",
        "handed",
        "has_begun",
        "owing",
        "waiting",
    )

    def __init__(
        self,
        journal: Journal,
        fence: Fence,
        parker: Parkable,
        call: Callable[[Call], None],
        wait_for_commit: Callable[[], None],
    ) -> None:
        """Nothing waits yet.

        Args:
            journal: of the system.
            fence: of the life.
            parker: where its thread sleeps, to be woken when a commit was made.
            call: calls one function as one unit of work.
            wait_for_commit: returns when everything so far is on disk.
        """
        self._journal = journal
        self._fence = fence
        self._parker = parker
        self._call = call
        self._wait_for_commit = wait_for_commit
        self._failure: tuple[BaseException, Call] | None = None  # the last error that came out of a call
        self.handed: list[Call] = []
        self.waiting: deque[Call] = deque()
        self._over = False  # the life has failed, and is to be taken for busy until the supervisor has heard of it
        self.current: Call | None = None
        self.has_begun = False
        self.owing = False
        self._lock = threading.Lock()  # a leaf
        self._given_up = 0  # by `_lock`: how many of `waiting` the supervisor has told of as dropped

    # ------------------------------------------------------------------ handing over
    def hand_over(self, function: Callable[[], object], message_id: str, partition: int | None) -> None:
        """Takes a function into the open unit; see `Call`.

        Raises:
            UsageError: it cannot be called as it is meant to be.
            UnitTooLarge: one unit hands over too many.
        """
        if reason := _unsuitable(function):
            raise UsageError(
                f"{self._fence.component}: after_commit({function!r}) {reason}: hand over a function without arguments, such "
                "as after_commit(self.notify) or after_commit(lambda: self.notify(order))"
            )
        if len(self.handed) >= MOST_WAITING:
            raise UnitTooLarge(
                f"{self._fence.component}: one unit of work hands over more than {MOST_WAITING:,} functions to after_commit(); "
                "hand over one that does all of it"
            )
        self.handed.append(Call(function, message_id, partition))

    def unit_ends(self) -> None:
        """Says, before the open unit becomes whole, that something is still to be done after it."""
        self._journal.owe(self._fence, self._parker)
        self.owing = True

    def unit_is_whole(self) -> None:
        """From now on the functions of the open unit wait for the commit."""
        epoch = self._journal.commits.last_epoch()
        self.waiting.extend(attrs.evolve(call, epoch=epoch) for call in self.handed)
        self.handed.clear()

    def forget(self) -> None:
        """Forgets the functions of the open unit, which never was."""
        if self.handed:
            self.handed.clear()
            self._pay_if_done()

    # ------------------------------------------------------------------ calling
    def call_ready(self) -> None:
        """Calls what waits for a commit that was made; between two units only. Where too much waits, it waits for the commit.

        Raises:
            StopRequested: the component was asked to stop a while ago, and too much waits.
            BaseException: whatever a function raises; those behind it go on waiting.
        """
        if len(self.waiting) >= MOST_WAITING:
            self._wait_for_commit()
        while (
            self.waiting
            and self.waiting[0].epoch <= self._journal.commits.durable_epoch
            and self._fence.mode < Mode.ENDING
        ):
            with self._lock:
                if self._given_up:
                    return
                call = self.current = self.waiting.popleft()
            self.has_begun = False
            try:
                self._call(call)
            except BaseException as error:  # whatever the function raises: where it came from is to be told
                self._failure = (error, call)
                if isinstance(error, StaleComponent) and not self.has_begun:
                    self.waiting.appendleft(call)  # to be counted with those that nobody calls any more
                raise
            finally:
                self.current = None
        self._pay_if_done()

    def call_rest(self) -> None:
        """Waits for the commit of all that waits for one, and calls it; leaves it where the life has to end at once."""
        while self.waiting and self._fence.mode < Mode.ENDING:
            try:
                self._wait_for_commit()
            except (StopRequested, StoreError):
                return
            self.call_ready()

    def call_last(self, on_error: Callable[[BaseException, str], None]) -> None:
        """As `call_rest`, in a life that has failed: what a function raises is told of, and those behind it are called."""
        self._over = True
        while True:
            try:
                return self.call_rest()
            except BaseException as error:  # noqa: BLE001 - reported
                call = self.failed(error)
                if call is None or isinstance(error, (StaleComponent, StopRequested)):
                    return None
                on_error(error, call.message_id)

    def failed(self, error: BaseException) -> Call | None:
        """The call that this error has come out of; None where it has come from somewhere else."""
        return self._failure[1] if self._failure is not None and self._failure[0] is error else None

    def give_up(self) -> int:
        """How many functions wait in a life that is abandoned: nobody calls them any more. By the supervisor, which tells of it.

        Its thread may be about to make a unit whole: `drop` counts what that adds, should the thread ever come so far.
        """
        with self._lock:
            self._given_up = len(self.waiting)
            return self._given_up

    def drop(self) -> int:
        """Gives up what waits, and says how many functions that were of which nobody was told. Last in a life."""
        self._failure = None  # its traceback holds the instance, which has to be freed before the next life
        with self._lock:
            count = len(self.waiting) - self._given_up
            self._given_up = 0
            self.waiting.clear()
        self._pay_if_done()
        return count

    def _pay_if_done(self) -> None:
        if self.owing and not self.waiting and self.current is None and not self._over:
            self.owing = False
            self._journal.pay(self._fence)


def _unsuitable(function: object) -> str:
    if not callable(function):
        return "is not a function"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return "is async, and would never be run"
    if inspect.isgeneratorfunction(function):
        return "is a generator, and would never be run"
    return ""

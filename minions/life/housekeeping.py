"""Units of work that belong to no component: the system itself puts its messages in order. No lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from minions.clock import Clock
from minions.fence import Fence
from minions.flow.channel import Ticket
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.flow.unit import Unit
from minions.threads import Threads

__all__ = ["Housekeeping", "undisturbed"]

R = TypeVar("R")


def undisturbed(work: Callable[[], R], threads: Threads) -> R:
    """Does some work where Ctrl-C does not come, which Python raises at any step of the main thread. Blocks until it is done.

    What Ctrl-C breaks off is the wait; the work goes on to its end.
    """
    if threads is not OS_THREADS or threading.current_thread() is not threading.main_thread():
        return work()
    done: Future[R] = Future()

    def do() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            done.set_exception(error)

    thread = threads.thread(do, "minions-housekeeping")
    try:
        thread.start()
    except RuntimeError:  # there is no further thread to be had
        return work()
    result = done.result()
    thread.join()
    return result


class Housekeeping:
    """Makes such units whole, on the thread that calls it; for one thread at a time."""

    def __init__(self, journal: Journal, clock: Clock, name: str, threads: Threads = OS_THREADS) -> None:
        """Args:
        journal: of the system.
        clock: for waiting.
        name: what to call it where an error names a component.
        threads: that of the caller is one of them.
        """
        self._journal = journal
        self._clock = clock
        self._fence = Fence(name, 0)
        self._parker = threads.parker()

    def unit(self) -> Unit:
        return Unit(self._fence.component)

    def submit(self, unit: Unit) -> None:
        """Makes a unit whole; blocks while too much is not on disk yet.

        Raises:
            StoreError: the store has failed for good.
        """
        self._until_whole(lambda: self._journal.submit(unit, self._fence, self._parker))

    def redeliver(self, unit: Unit, message_id: str) -> None:
        """Makes a unit whole that sends one message which had been set aside, or drops one; see `Journal.redeliver`.

        Blocks as `submit`. Raises UsageError where the system has come to its end.
        """
        self._until_whole(lambda: self._journal.redeliver(unit, message_id, self._parker))

    def wait_for_commit(self) -> None:
        """Blocks until every unit so far is on disk. Raises StoreError where that will not be."""
        ticket = self._journal.commits.ticket(self._parker)
        while ticket is not None and self._journal.commits.waits(ticket, self._fence, None):
            self._clock.wait(self._parker, None)

    def _until_whole(self, submit: Callable[[], Ticket | None]) -> None:
        while (ticket := submit()) is not None:
            while self._journal.waits(ticket, self._fence, None):
                self._clock.wait(self._parker, None)

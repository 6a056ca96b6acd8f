"""Calls from outside of the components: by the main thread, a web handler, a test. Any thread but those of components."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from minions.clock import Clock
from minions.errors import UsageError
from minions.flow.calls import Call, CallQueue
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.life.calling import wait_for_answer
from minions.threads import Threads

__all__ = ["Outsider"]


class Outsider:
    """Calls components, and is none.

    Attributes:
        name: for people.
    """

    def __init__(self, name: str, journal: Journal, clock: Clock, threads: Threads = OS_THREADS) -> None:
        self.name = name
        self._journal = journal
        self._clock = clock
        self._threads = threads
        self._own = threads.local()  # `parker`: where a thread sleeps

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        """Calls a method and blocks until it is answered."""
        own = self._journal.threads.get(self._threads.get_ident())
        if own is not None:
            raise UsageError(
                f"{own.component}: System.call() is for threads outside of the components: declare `... = Uses(...)` in "
                f"{own.component} to call {queue.name}.{method}()"
            )
        try:
            parker = self._own.parker
        except AttributeError:
            parker = self._own.parker = self._threads.parker()
        deadline_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
        call = Call(queue, method, arguments, keywords, self.name, None, None, parker)
        self._journal.calls.place(call)
        return wait_for_answer(call, self._journal.calls, self._clock, deadline_s, timeout_s)

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        """Has a method run, and returns at once."""
        future: Future[Any] = Future()
        self._journal.calls.place(Call(queue, method, arguments, keywords, self.name, future=future))
        return future

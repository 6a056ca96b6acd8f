"""Calls from outside of the components: by the main thread, a web handler, a test. Any thread; no state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from minions.clock import Clock
from minions.flow.calls import Call, CallQueue
from minions.flow.journal import Journal
from minions.flow.parker import Parker

__all__ = ["Outsider"]


class Outsider:
    """Calls components, and is none.

    Attributes:
        name: for people.
    """

    def __init__(self, name: str, journal: Journal, clock: Clock) -> None:
        self.name = name
        self._journal = journal
        self._clock = clock

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        """Calls a method and blocks until it is answered."""
        deadline_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
        parker = Parker()
        call = Call(queue, method, arguments, keywords, self.name, parker=parker)
        self._journal.call(call, None)
        while self._journal.waits_for_call(call, None, deadline_s, timeout_s):
            self._clock.wait(parker, deadline_s)
        if call.error is not None:
            raise call.error
        return call.result

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        """Has a method run, and returns at once."""
        future: Future[Any] = Future()
        self._journal.call(Call(queue, method, arguments, keywords, self.name, future=future), None)
        return future

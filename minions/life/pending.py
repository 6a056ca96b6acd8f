"""What callers wait for of a running system: that a change has come about, or that all is over. A future for each.

Any thread makes them and answers them; each is answered once. No lock: an entry is taken before it is answered, and who finds
none left was slower.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress

from minions.errors import ChangeFailed

__all__ = ["Pending"]


class Pending:
    """The futures of one run."""

    def __init__(self, name: str, on_fault: Callable[[BaseException], None]) -> None:
        """Args:
        name: of the system.
        on_fault: told of what a future calls back and that raises.
        """
        self._name = name
        self._on_fault = on_fault
        self._changes: dict[
            int, Future[None]
        ] = {}  # an entry is made before its command is posted, and taken by its answer
        self._numbers = itertools.count(1)
        self._ends: deque[Future[None]] = deque()

    def change(self) -> tuple[int, Future[None]]:
        """A future for a change, and the number under which it is answered."""
        future = _running()
        number = next(self._numbers)
        self._changes[number] = future
        return number, future

    def end(self) -> Future[None]:
        """A future that is done when all is over."""
        future = _running()
        self._ends.append(future)
        return future

    def keep(self, number: int, broken: str) -> None:
        """Answers a change; where it did not come about, with why."""
        future = self._changes.pop(number, None)
        if future is not None:  # otherwise another thread was faster, because all is over
            self._settle(future, ChangeFailed(f"{self._name}: {broken}") if broken else None)

    def all_is_over(self, why: str) -> None:
        """Answers whoever waits for something; `why` a change will not come about."""
        for number in list(self._changes):
            self.keep(number, why)
        while self._ends:
            with suppress(IndexError):  # another thread was faster
                self._settle(self._ends.popleft())

    def _settle(self, future: Future[None], error: ChangeFailed | None = None) -> None:
        """Answers a future; what that calls back may raise whatever it likes."""
        try:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(None)
        except BaseException as raised:  # noqa: BLE001 - reported: it is no reason for the supervisor to fail
            self._on_fault(raised)


def _running() -> Future[None]:
    """A future that cannot be cancelled."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future

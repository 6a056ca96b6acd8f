"""What a plugin may ask of the system that runs. No thread; any may call it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

__all__ = ["RunningSystem"]


class RunningSystem:
    """A system while it runs, as a plugin is given it by the hook `attached`. It can be looked at and not changed.

    Attributes:
        name: of the system.
    """

    def __init__(
        self, name: str, statistics: Callable[[], Any], post_to_supervisor: Callable[[Callable[[], None]], None]
    ) -> None:
        """Args:
        name: of the system.
        statistics: answers what was counted.
        post_to_supervisor: takes what the supervisor's thread is to call when it has done what it was told before.
        """
        self.name = name
        self._statistics = statistics
        self._post_to_supervisor = post_to_supervisor
        self._lock = threading.Lock()
        self._asked: threading.Event | None = None  # what was posted last; guarded by _lock

    def statistics(self) -> Any:
        """What was counted since the start, as `System.statistics` has it; also after the end. Brief."""
        return self._statistics()

    def supervisor_answers(self, timeout_s: float) -> bool:
        """Whether the supervisor, which starts, stops and restarts everything, deals with what it is told. Blocks.

        Something is handed to its thread, and comes back when all that was handed over before is dealt with. While that has not
        come back, further calls wait for it and hand over nothing more.

        Args:
            timeout_s: how long to wait, in seconds of real time.

        Returns:
            False when nothing came back in time.
        """
        with self._lock:
            asked = self._asked
            posts = asked is None or asked.is_set()
            if asked is None or posts:
                asked = self._asked = threading.Event()
        if posts:
            self._post_to_supervisor(asked.set)
        return asked.wait(timeout_s)

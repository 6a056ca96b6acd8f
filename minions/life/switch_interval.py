"""The switch interval: after how long CPython takes the interpreter from a thread that computes when another one waits for it.

There is one for the whole process. So one object here keeps count for all systems in it: the shortest that any running system
has asked for holds, and when the last of them has ended, what held before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minions.errors import UsageError

__all__ = ["switch_interval"]

_SHORTEST_S, _LONGEST_S = 1e-6, 1.0


class _Asked:
    """What the systems of this process ask for.

    Attributes:
        lock: guards the other two, and the switch interval itself against other systems.
        intervals_s: of each system that has asked and not ended.
        before_s: what held before the first of them asked.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.intervals_s: list[float] = []
        self.before_s = 0.0

    def add(self, interval_s: float) -> None:
        with self.lock:
            if not self.intervals_s:
                self.before_s = sys.getswitchinterval()
            self.intervals_s.append(interval_s)
            sys.setswitchinterval(min(self.intervals_s))

    def remove(self, interval_s: float) -> None:
        with self.lock:
            self.intervals_s.remove(interval_s)
            sys.setswitchinterval(min(self.intervals_s, default=self.before_s))


_asked = _Asked()


@contextmanager
def switch_interval(asker: str, interval_s: float | None) -> Iterator[None]:
    """Sets the switch interval while a block lasts; None leaves it alone. Any thread; does not wait.

    Args:
        asker: who asks, for the error.
        interval_s: in seconds; CPython counts in whole microseconds.

    Raises:
        UsageError: it is not a number of seconds from a microsecond to a second; nothing was changed.
    """
    if interval_s is None:
        yield
        return
    if not _is_interval(interval_s):
        raise UsageError(
            f"{asker}: switch_interval_s={interval_s!r} must be a number of seconds from 0.000001 to 1, such as 0.0005, or None "
            "to leave it as it is (0.005, if nobody has set it)"
        )
    _asked.add(interval_s)
    try:
        yield
    finally:
        _asked.remove(interval_s)


def _is_interval(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return _SHORTEST_S <= value <= _LONGEST_S  # which NaN is not

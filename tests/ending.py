"""Threads that a test has begun, waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_thread_is_left"]


@contextmanager
def no_thread_is_left(patience_s: float) -> Iterator[None]:
    """What a test starts, it ends: fails where a thread that begins within the block is there so long after it."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread._started.wait(patience_s)  # type: ignore[attr-defined]  # one that just begins cannot be joined yet
        thread.join(patience_s)
        assert not thread.is_alive(), f"{thread.name} is left"

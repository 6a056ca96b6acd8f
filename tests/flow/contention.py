"""A machine on which everything happens at the most awkward moment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contention() -> Iterator[None]:
    """A thread that never gives the interpreter up by itself, and hand-overs at almost every instruction."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            pass

    before, busy = sys.getswitchinterval(), threading.Thread(target=burn, daemon=True)
    sys.setswitchinterval(1e-6)
    busy.start()
    try:
        yield
    finally:
        over.set()
        sys.setswitchinterval(before)
        busy.join(10)

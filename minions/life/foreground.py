"""The main thread of a program that is one running system: it waits for signals and for the end, and does nothing else.

A signal handler does nothing but put a word into a `SimpleQueue`, which is safe to call from one; the main thread waits on
that queue, holding no lock.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

__all__ = ["Foreground", "leave_now"]

ENDED = 0
"""The word for: the system has ended. All others are numbers of signals."""

_SAME_KEY_PRESS_S = 0.5  # a second signal within this time is the same wish, sent again by a wrapper


class Foreground:
    """Waits for the end of a system in the foreground."""

    def __init__(self) -> None:
        self._words: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.signal_number = 0

    def ended(self) -> None:
        """Says that the system has ended. Safe to call from any thread."""
        self._words.put(ENDED)

    def wait(self, stop: Callable[[str], None], end_at_once: Callable[[int], None]) -> None:
        """Blocks until the system has ended.

        Args:
            stop: called with "interrupted" or "terminated" at the first Ctrl-C or SIGTERM.
            end_at_once: called with the number of a signal that comes after that; should not return.
        """
        first_at_s = 0.0
        while (word := self._words.get()) != ENDED:
            if not self.signal_number:
                self.signal_number = word
                first_at_s = time.monotonic()
                stop("terminated" if word == signal.SIGTERM else "interrupted")
            elif time.monotonic() - first_at_s >= _SAME_KEY_PRESS_S:
                end_at_once(word)

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Handles Ctrl-C and SIGTERM while this lasts, and lets SIGUSR1 print all stacks; on the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def put(number: int, frame: FrameType | None) -> None:
            self._words.put(number)

        before: dict[int, Any] = {
            number: signal.signal(number, put)
            for number in (signal.SIGINT, signal.SIGTERM)
            if signal.getsignal(number) is not signal.SIG_IGN  # as in the background of a shell: it is meant so
        }
        stacks = _dump_stacks_on_request()
        try:
            yield
        finally:
            if stacks:
                faulthandler.unregister(signal.SIGUSR1)
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _dump_stacks_on_request() -> bool:
    try:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__ or 2, all_threads=True)
    except (OSError, ValueError, AttributeError):
        return False  # no standard error to print to
    return True


def leave_now(exit_code: int, report: str, flush_timeout_s: float = 1.0) -> NoReturn:
    """Ends the process although threads are left that cannot be ended; writes a last line to standard error.

    What is buffered is flushed by a helper, because a full pipe would block it.
    """
    helper = threading.Thread(target=_flush, args=(report,), daemon=True)
    helper.start()
    helper.join(flush_timeout_s)
    os._exit(exit_code)


def _flush(report: str) -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.stderr is not None:
        sys.stderr.write(f"{report}\n")
        sys.stderr.flush()

"""The main thread of a program that is one running system: it waits for signals and for the end, and does nothing else.

It waits on a socket, holding no lock, and a signal writes its number there (`signal.set_wakeup_fd`). A lock or a queue would
not do: the kernel may give a signal to any thread, and only the main one runs Python's handlers, which it does not while it
waits for a lock; the second of two signals in a row is lost that way.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, TextIO

__all__ = ["Foreground", "end_although_somebody_hangs", "last_word", "leave_now"]

ENDED = 0
"""The word for: the system has ended. All others are numbers of signals."""

_OURS = (signal.SIGINT, signal.SIGTERM)
_STACKS = signal.SIGUSR1

_LAST_WORD_S = 1.0
_SAME_KEY_PRESS_S = 0.2  # a second signal within this time is the same wish, sent again by a wrapper


class Foreground:
    """Waits for the end of a system in the foreground."""

    def __init__(self) -> None:
        self._words, self._told = socket.socketpair()  # a word is one byte
        self._told.setblocking(False)
        self._over = (
            False  # written before the word is sent; there may be no room for the word among those of other signals
        )
        self._before: dict[int, Any] = {}

    def ended(self) -> None:
        """Says that the system has ended. Safe to call from any thread."""
        self._over = True
        with suppress(OSError):  # closed: nobody waits any more; or full: whoever reads that looks at the flag
            self._told.send(bytes([ENDED]))

    def wait(self, stop: Callable[[str], None], end_at_once: Callable[[int], None]) -> None:
        """Blocks until the system has ended.

        Args:
            stop: called with "interrupted" or "terminated" at the first Ctrl-C or SIGTERM.
            end_at_once: called with the number of a signal that comes after that; should not return.
        """
        first_at_s: float | None = None
        while (word := self._next_word()) != ENDED:
            now_s = time.monotonic()
            if word == _STACKS and word in self._before:
                _print_stacks()
            if word not in _OURS:
                continue  # a signal that the program handles itself
            if first_at_s is None:
                first_at_s = now_s
                stop("terminated" if word == signal.SIGTERM else "interrupted")
            elif now_s - first_at_s >= _SAME_KEY_PRESS_S:
                end_at_once(word)

    def _next_word(self) -> int:
        """Waits for a word, unless all is over; then only what was told before is still to be read."""
        if self._over:
            self._words.setblocking(False)
        try:
            return self._words.recv(1)[0]
        except BlockingIOError:
            return ENDED

    @contextmanager
    def handlers(self) -> Iterator[None]:
        """Handles Ctrl-C and SIGTERM while this lasts, and lets SIGUSR1 print all stacks; on the main thread only.

        It lasts as long as anybody waits; after it this object is used up.
        """
        with closing(self._words), closing(self._told):
            if threading.current_thread() is threading.main_thread():
                with self._signals_heard():
                    yield
            else:
                yield

    @contextmanager
    def _signals_heard(self) -> Iterator[None]:
        woken_before = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, _nothing)
            for number in (*_OURS, _STACKS)
            if signal.getsignal(number) is not signal.SIG_IGN  # as in the background of a shell: it is meant so
        }
        _listening.append(self)
        try:
            yield
        finally:
            try:
                _listening.remove(self)
                self._handle_as_before()
            finally:
                signal.set_wakeup_fd(woken_before)

    def _handle_as_before(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def let_go(self) -> None:
        """In a forked child: what is told to the child is no news for the parent."""
        with suppress(OSError, ValueError):
            signal.set_wakeup_fd(-1)
            self._handle_as_before()
        self._words.close()
        self._told.close()


_listening: list[Foreground] = []  # those that handle signals now; written by the main thread


def _let_go_in_child() -> None:
    for foreground in _listening:
        foreground.let_go()
    _listening.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


def _nothing(number: int, frame: FrameType | None) -> None:
    """What is to be done is done by whoever reads the number; with a handler, the signal does not end the process."""


def _print_stacks() -> None:
    """Prints the stacks of all threads to standard error.

    They are gathered while no other thread runs Python: `faulthandler.register` looks at them in the midst of their work, and now
    and then brings the process down. They are written when the others run again, because standard error may be a full pipe.
    """
    with suppress(OSError, ValueError), os.fdopen(os.memfd_create("stacks"), "rb") as file:  # no standard error
        faulthandler.dump_traceback(file.fileno(), all_threads=True)
        file.seek(0)
        stacks = memoryview(file.read())
        descriptor = 2 if sys.__stderr__ is None else sys.__stderr__.fileno()
        while stacks:
            stacks = stacks[os.write(descriptor, stacks) :]


def end_although_somebody_hangs(exit_code: int = 0) -> None:
    """Has the process end by itself although a thread hangs in writing to standard error, which Python would wait for.

    What the program does after this is done; then nothing more is waited for.

    Args:
        exit_code: of the process, unless an error ends it, which makes it 1; what the program gives to `sys.exit` is not known.
    """
    atexit.register(lambda: leave_now(max(exit_code, int(hasattr(sys, "last_value"))), ""))


def last_word(report: str) -> str | int:
    """What `SystemExit` is given so that a line is written to standard error and the exit code is 1.

    That is the line, which Python prints. Where standard error takes nothing more just now, as a full pipe that nobody reads,
    Python would hang in that: then a thread of its own writes it, which is left behind, and this is the exit code.
    """
    if _takes_more(sys.stderr):
        return report
    end_although_somebody_hangs(1)
    helper = threading.Thread(target=_flush, args=(report,), daemon=True)
    with suppress(RuntimeError):  # the machine gives no further thread: the exit code has to do
        helper.start()
        helper.join(_LAST_WORD_S)
    return 1


def _takes_more(stream: TextIO | None) -> bool:
    """Whether something can be written to a stream without waiting for long, as far as that can be told."""
    try:
        poll = select.poll()
        poll.register(stream.fileno() if stream is not None else -1, select.POLLOUT)
        return bool(poll.poll(1_000 * _LAST_WORD_S))
    except (
        OSError,
        ValueError,
        TypeError,
        AttributeError,
    ):  # it is no file, or there is none, or an object of the user's
        return True


def leave_now(exit_code: int, report: str, flush_timeout_s: float = 1.0) -> NoReturn:
    """Ends the process although threads are left that cannot be ended; writes a last line to standard error.

    What is buffered is flushed by a helper, because a full pipe would block it.
    """
    try:
        helper = threading.Thread(target=_flush, args=(report,), daemon=True)
        helper.start()
        helper.join(flush_timeout_s)
    finally:
        os._exit(exit_code)


def _flush(report: str) -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
    if sys.stderr is not None:
        sys.stderr.write(f"{report}\n" if report else "")
        sys.stderr.flush()

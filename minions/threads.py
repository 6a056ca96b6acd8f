"""The seam between the runtime and its threads: who starts them, tells them apart, and what they wait on.

In production these are the threads of the operating system (`minions.flow.os_threads`). A simulation puts others in their
place, all of which run on one thread, and decides itself who goes on.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from minions.clock import Parkable

__all__ = ["Signal", "Thread", "Threads", "reading_frames", "report_unhandled"]


_reading = threading.Lock()  # guards the two below; a leaf
_readers = 0
_collects = True  # whether garbage was collected before the first of those readers


@contextmanager
def reading_frames() -> Iterator[None]:
    """For a look at the frames of threads that run: while it lasts no garbage is collected, so it has to be brief.

    CPython 3.11 may collect garbage where it makes the object of a frame, as `f_back` does too. What is freed may let other
    threads run; when it goes on the frame may be gone, and the process dies of a segmentation fault.
    """
    global _readers, _collects  # noqa: PLW0603 - the collector is one for the process, and so is who has stopped it
    entered = False
    try:
        with _reading:
            if not _readers:
                _collects = gc.isenabled()
                gc.disable()
            _readers += 1
            entered = True
        yield
    finally:
        if entered:
            with _reading:
                _readers -= 1
                if not _readers and _collects:
                    gc.enable()


def _read_by_nobody() -> None:
    """In a forked child: whoever read frames is not there."""
    global _readers, _reading  # noqa: PLW0603 - as above
    _reading = threading.Lock()
    if _readers and _collects:
        gc.enable()
    _readers = 0


os.register_at_fork(after_in_child=_read_by_nobody)


def report_unhandled(error: BaseException) -> None:
    """Reports an error that nobody handles as Python reports one that ends a thread; raises nothing, whatever that hook does."""
    hook = threading.ExceptHookArgs((type(error), error, error.__traceback__, threading.current_thread()))
    with suppress(Exception):  # standard error may be closed, and this may be the supervisor's thread
        threading.excepthook(hook)


class Thread(Protocol):
    """A thread, as `threading.Thread` is one."""

    @property
    def ident(self) -> int | None:
        """Its number, from its start on."""

    def start(self) -> None:
        """Starts it, once.

        Raises:
            RuntimeError: there is no further thread to be had.
        """

    def join(self, timeout: float | None = None) -> None:
        """Blocks until it has ended, at most that many seconds. It has been started."""

    def is_alive(self) -> bool:
        """Whether it has been started and has not ended."""


class Signal(Protocol):
    """What one thread says once and others wait for, as `threading.Event` is one."""

    def is_set(self) -> bool: ...

    def set(self) -> None: ...

    def clear(self) -> None: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Threads(Protocol):
    """Where the threads of a run come from. Safe to call from any thread.

    Attributes:
        get_ident: the number of the calling thread; never 0, and no other thread's while that one is alive.
        get_native_id: the same as the kernel counts, for whoever asks the kernel; 0 where it knows of no such thread.
    """

    @property
    def get_ident(self) -> Callable[[], int]: ...

    @property
    def get_native_id(self) -> Callable[[], int]: ...

    def thread(self, target: Callable[[], None], name: str) -> Thread:
        """A thread that is not started. It does not keep the process from ending."""

    def is_current(self, thread: Thread) -> bool:
        """Whether the caller is on that thread."""

    def parker(self) -> Parkable:
        """What one thread waits on."""

    def signal(self) -> Signal:
        """A signal that is not set."""

    def local(self) -> Any:
        """An object whose attributes are each thread's own."""

    def show_name(self, name: str) -> None:
        """Shows a name for the calling thread to whoever looks at the process from outside, as far as that can be had."""

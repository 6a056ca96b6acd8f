"""The exception that is thrown into a handler which hangs in pure Python: at most one a life, and only inside of its window.

CPython can set an exception in another thread (`PyThreadState_SetAsyncExc`), which gets it between two of its next steps,
wherever it is by then. What makes that bearable is here: the window is open only while a handler runs, on the handler's thread;
closing it takes back an exception that has not come through; and whoever throws does so under the lock that closing takes too.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from contextlib import AbstractContextManager
from types import TracebackType

from minions.life.system_calls import place_of

__all__ = ["Injection"]


class Injection:
    """The window of one life, and who may throw through it.

    The order of things, as the thread of the component sees it: the window opens; the handler runs; the window closes under the
    lock. An exception that was thrown may come through at any step between opening and the end of closing, so it may also come
    out of the `with` statement itself, before the handler's first line or after its last. It never comes later: to throw shuts
    the window for further throws at once, so there is nothing left to be done by the code that it hits, and closing takes
    back, on the thread itself, what has not come through. `with` on a lock is never left half-done by such an exception.

    Code of the runtime that a handler calls has a shelter: inside of it nothing comes through, so that nothing is left half-done
    that other threads rely on.

    Opening and closing together take 0.3 microseconds, a shelter 0.4 (CPython 3.11).
    """

    __slots__ = ("_ident", "_lock", "_native_id", "_open", "_shelter", "_sheltered", "_thrown")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False  # set by the component's thread, reset by whoever holds the lock
        self._thrown = False  # guarded by the lock; never reset
        self._ident = 0  # of the component's thread; written by it before the window opens
        self._native_id = 0  # likewise
        self._sheltered = (
            0  # how many shelters the component's thread is in; raised by it under the lock, lowered by it without
        )
        self._shelter = _Shelter(self)

    def window(self) -> Injection:
        """The window, for one `with` statement at a time around a call of a handler. On the component's own thread only."""
        return self

    def __enter__(self) -> None:
        if not self._ident:
            self._native_id = threading.get_native_id()
            self._ident = threading.get_ident()
        self._open = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._open = False
            self._take_back_locked()

    def shelter(self) -> AbstractContextManager[None]:
        """For a `with` statement around what must not be hit, inside of a window or outside. On the component's own thread only.

        Shelters may be nested. An exception that was thrown and has not come through when a shelter is entered comes through at
        its door, before anything inside is done, or is taken back.
        """
        return self._shelter

    def throw(self, error_class: type[BaseException]) -> bool:
        """Throws an exception into the thread, if its window is open, it computes, and none was thrown before.

        Safe to call from any thread but the component's own. Does not wait for the exception to come through: Python lets it in
        between two steps of Python code, 0.1 ms to 0.8 s later where other threads are busy, and never while the thread is in
        C code. The handler may swallow it, and then no other follows.

        Args:
            error_class: what is raised; the thread makes the instance, without arguments.

        Returns:
            whether it was thrown. False also where it cannot be told whether the thread computes: without `/proc`.
        """
        with self._lock:
            if self._thrown or not self._open or self._sheltered or not place_of(self._native_id).on_cpu:
                return False
            # Looking has let the thread run on, but neither to the end of the window nor into a shelter: these need the lock.
            self._thrown = True
            self._open = False
            return _set_pending(self._ident, error_class)

    def _take_back_locked(self) -> None:
        if self._thrown:
            _set_pending(self._ident, None)


class _Shelter(AbstractContextManager[None]):
    __slots__ = ("_injection",)

    def __init__(self, injection: Injection) -> None:
        self._injection = injection

    def __enter__(self) -> None:
        injection = self._injection
        with injection._lock:
            injection._sheltered += 1
            injection._take_back_locked()

    def __exit__(self, *_: object) -> None:
        self._injection._sheltered -= 1


def _set_pending(ident: int, error_class: type[BaseException] | None) -> bool:
    """Sets or takes back the exception that a thread gets next; whether there is such a thread."""
    if sys.implementation.name != "cpython":
        return False
    pending = ctypes.py_object() if error_class is None else ctypes.py_object(error_class)
    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), pending))

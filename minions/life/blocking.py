"""What the threads of one life are blocked in by their own account, and how each of these things is woken from outside.

Nothing is ever closed: `close` from another thread wakes nobody and may hang whoever calls it. Nothing is imported for the sake
of a resource either: what belongs to a library that is not loaded cannot be here.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs

from minions.errors import UsageError
from minions.life.descriptors import is_socket, shut_down
from minions.life.traces import describe
from minions.threads import reading_frames

__all__ = ["Blocking"]

_LOCK_TIMEOUT_S = 0.5
_HTTP_LIBRARIES = {"http", "requests", "urllib3"}
_BENEATH_HTTP = {*_HTTP_LIBRARIES, "socket", "ssl"}
_STATEMENT_RUNS = 1  # PQTRANS_ACTIVE of libpq

Waker = Callable[[Any, int, bool], object]
"""Wakes the threads that are blocked in a resource: the resource, or what was found of it; the ident of the thread that has
registered it; whether this is asked for again. Raises what explains why it could not."""


class _CannotWake(Exception):
    """Why a resource could not be woken, for people."""


@attrs.frozen
class _Kind:
    """How resources of one kind are woken.

    Attributes:
        wake: see `Waker`.
        quick: whether that can neither block nor run code of users (but for what a subclass of theirs makes of it), so that it
            may be done under the lock.
        find: what of the resource is woken, such as its descriptor; done first and without the lock. None: itself.
    """

    wake: Waker
    quick: bool = True
    find: Callable[[Any], Any] | None = None


class Blocking:
    """What one life has registered: the resources in which its threads may hang.

    Its lock guards the list of what is registered. What is known to be quick is woken under it: leaving the `with` statement
    takes the lock too, so that a resource is woken only while it is registered, not when it serves another purpose already.
    What may block, and whatever runs code of users, is done outside of the lock.
    """

    def __init__(self, component: str) -> None:
        """Args:
        component: the name of the component, for what is told.
        """
        self._component = component
        self._lock = threading.Lock()
        self._registered: dict[_Registration, None] = {}  # in order; guarded by the lock

    def on(self, resource: Any, wake: Callable[[], object] | None = None) -> _Registration:
        """For a `with` statement around calls that block in a resource, on any thread of the component.

        Registering and leaving take 1.2 microseconds together.

        Args:
            resource: a socket, a child process (`subprocess.Popen`), an SQLite connection, an event, a condition, a queue (Python
                3.13), a future or task, an HTTP connection or session, a PostgreSQL connection, whatever else has the descriptor
                of a socket, or a callable without arguments that wakes the thread.
            wake: what is called to wake the thread instead of what would be done with the resource.

        Raises:
            UsageError: nothing is known that wakes a thread which is blocked in such a thing; `wake` is the remedy. Or that is no
                function.
        """
        if wake is not None and not callable(wake):
            raise UsageError(f"{self._component}: blocking(..., wake={wake!r}) takes a function without arguments")
        kind = _Kind(lambda *_: wake(), quick=False) if wake is not None else _kind_of(resource, self._component)
        return _Registration(self, resource, kind)

    def unblock(self, *, again: bool = False, before: Callable[[], None] = lambda: None) -> list[str]:
        """Does to each registered resource what wakes the threads that are blocked in it.

        Called by any thread but those of the component. May block for as long as a callable of the component does, and briefly
        for a condition. What is registered later is not woken: while the thread hangs, it does no harm to call this again.

        Args:
            again: that it did not help the first time, so that sterner measures are taken: a child process is killed, not
                asked to end, the connection to a database is ended, and a queue loses what is in it.
            before: called first where anything is registered.

        Returns:
            one sentence for each resource that could not be woken.
        """
        with self._lock:
            registered = list(self._registered)
        if registered:
            before()
        problems = []
        for registration in registered:
            try:
                self._wake(registration, again)
            except BaseException as error:  # noqa: BLE001 - told; the next resource may be the one that counts
                reason = str(error) if isinstance(error, _CannotWake) else describe(error)
                problems.append(
                    f"{self._component}: what is blocked in {_name(registration.resource)} was not woken: {reason}"
                )
        return problems

    def _wake(self, registration: _Registration, again: bool) -> None:
        kind = registration.kind
        if not kind.quick:
            kind.wake(registration.resource, registration.ident, again)
            return
        try:
            found = registration.resource if kind.find is None else kind.find(registration.resource)
        except Exception:  # whatever a class of users raises, which is to be told, unless it was left meanwhile
            with self._lock:
                if registration not in self._registered:
                    return
            raise
        with self._lock:
            if registration in self._registered:
                kind.wake(found, registration.ident, again)


class _Registration:
    """One resource in one `with` statement.

    Attributes:
        resource: what was registered.
        kind: how it is woken.
        ident: the thread that has registered it, which is likely to be the one that hangs.
    """

    __slots__ = ("_blocking", "ident", "kind", "resource")

    def __init__(self, blocking: Blocking, resource: Any, kind: _Kind) -> None:
        self._blocking = blocking
        self.resource = resource
        self.kind = kind
        self.ident = 0

    def __enter__(self) -> None:
        self.ident = threading.get_ident()
        with self._blocking._lock:
            self._blocking._registered[self] = None

    def __exit__(self, *_: object) -> None:
        with self._blocking._lock:
            self._blocking._registered.pop(self, None)


# ------------------------------------------------------------------ how each kind is woken


def _descriptor_of(resource: Any) -> int:
    descriptor: int = resource.fileno()
    return descriptor


def _shut_descriptor_down(descriptor: int, _ident: int, _again: bool) -> None:
    """Not by the method of the socket: that of a TLS socket would forget that what follows must be encrypted."""
    if descriptor < 0:
        raise _CannotWake("it is closed")
    shut_down(descriptor)


def _end_process(resource: Any, _ident: int, again: bool) -> None:
    """Signals the child, with its group where it leads one. It is not asked whether it has ended, which would reap it."""
    if resource.returncode is not None:
        raise _CannotWake(
            "the child process has ended; what it left behind cannot be found: start it with start_new_session=True"
        )
    how = signal.SIGKILL if again else signal.SIGTERM
    try:
        if os.getpgid(resource.pid) == resource.pid:
            os.killpg(resource.pid, how)
        else:
            os.kill(resource.pid, how)
    except ProcessLookupError:
        raise _CannotWake("the child process has ended") from None


def _interrupt_query(resource: Any, _ident: int, _again: bool) -> None:
    resource.interrupt()


def _set_event(resource: threading.Event, _ident: int, _again: bool) -> None:
    resource.set()


def _notify(resource: threading.Condition, _ident: int, _again: bool) -> None:
    if not resource.acquire(timeout=_LOCK_TIMEOUT_S):
        raise _CannotWake(f"its lock was not free within {_LOCK_TIMEOUT_S} s")
    try:
        resource.notify_all()
    finally:
        resource.release()


def _shut_queue_down(resource: Any, _ident: int, again: bool) -> None:
    """Gets and puts that wait end with `ShutDown`; asked again, also `join`, and what is in the queue is lost."""
    resource.shutdown(immediate=again)


def _cancel_future(resource: Any, _ident: int, _again: bool) -> None:
    if not resource.cancel():
        raise _CannotWake(
            "it has ended" if resource.done() else "it is being worked on, and cannot be cancelled any more"
        )


def _cancel_task(resource: Any, _ident: int, _again: bool) -> None:
    resource.get_loop().call_soon_threadsafe(resource.cancel)


def _cancel_statement(resource: Any, ident: int, again: bool) -> None:
    """Asks the server to cancel, by a connection of its own; when asked again, ends the connection.

    So it does at once where no statement runs, as while the thread waits for notifications: there is nothing to cancel then.
    """
    status = getattr(getattr(resource, "info", None), "transaction_status", _STATEMENT_RUNS)
    if again or status != _STATEMENT_RUNS:
        _shut_descriptor_down(_descriptor_of(resource), ident, again)
    else:
        resource.cancel()


def _shut_http_down(resource: Any, ident: int, _again: bool) -> None:
    """Shuts down the socket that the thread is at work with.

    A connection in use is in no pool, and a response knows its socket only by detours. But the thread that hangs has the
    socket in one of its innermost frames, which are those of the HTTP library and of what is beneath.
    """
    connected = getattr(resource, "sock", None)
    if not isinstance(connected, socket.socket):
        with reading_frames():
            connected = next(_sockets_of(sys._current_frames().get(ident)), None)
    if connected is None:
        raise _CannotWake("its thread is not in a request, or has no socket yet, as while it looks up a name")
    shut_down(connected.fileno())


def _sockets_of(frame: FrameType | None) -> Iterator[socket.socket]:
    """The sockets in the frames of the HTTP library, the innermost first."""
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _BENEATH_HTTP:
        variables = frame.f_locals
        owner = variables.get("self")
        for found in (owner, getattr(owner, "_sock", None), getattr(owner, "sock", None), variables.get("sock")):
            if isinstance(found, socket.socket) and found.fileno() >= 0:
                yield found
        frame = frame.f_back


def _call(resource: Callable[[], object], _ident: int, _again: bool) -> None:
    resource()


_KINDS = (
    ("socket", "socket", _Kind(_shut_descriptor_down, find=_descriptor_of)),
    ("subprocess", "Popen", _Kind(_end_process)),
    ("sqlite3", "Connection", _Kind(_interrupt_query)),
    ("threading", "Event", _Kind(_set_event, quick=False)),
    ("threading", "Condition", _Kind(_notify, quick=False)),
    ("concurrent.futures", "Future", _Kind(_cancel_future, quick=False)),
    ("asyncio", "Future", _Kind(_cancel_task)),
)
"""Module, class, and how its objects are woken."""


def _kind_of(resource: Any, component: str) -> _Kind:
    """How a resource is woken.

    Raises:
        UsageError: in no way that is known.
    """
    found = _kind_by_class(resource) or _kind_by_library(resource)
    if found is not None:
        return found
    if _is_open_socket(resource):
        return _Kind(_shut_descriptor_down, find=_descriptor_of)
    if callable(resource) and not isinstance(resource, type):
        return _Kind(_call, quick=False)
    raise UsageError(
        f"{component}: nothing is known that wakes a thread which is blocked in {_name(resource)}; {_remedy(resource)}"
    )


def _kind_by_class(resource: Any) -> _Kind | None:
    for module, name, kind in _KINDS:
        base = getattr(sys.modules.get(module), name, None)
        if base is not None and isinstance(resource, base):
            return kind
    return None


def _kind_by_library(resource: Any) -> _Kind | None:
    libraries = {kind.__module__.partition(".")[0] for kind in type(resource).__mro__}
    if "queue" in libraries and callable(getattr(resource, "shutdown", None)):
        return _Kind(_shut_queue_down, quick=False)
    if libraries & _HTTP_LIBRARIES:
        return _Kind(_shut_http_down)
    if libraries & {"psycopg", "psycopg2"} and callable(getattr(resource, "cancel", None)):
        return _Kind(_cancel_statement, quick=False)
    return None


def _is_open_socket(resource: Any) -> bool:
    try:
        descriptor = resource.fileno()
    except Exception:  # noqa: BLE001 - whatever it is, it has no descriptor
        return False
    return isinstance(descriptor, int) and is_socket(descriptor)


def _remedy(resource: Any) -> str:
    if type(resource).__module__ in ("queue", "_queue"):
        return "pass a callable that puts what tells the thread to end: blocking(queue, wake=lambda: queue.put(END))"
    if isinstance(resource, type(threading.Lock()) | type(threading.RLock())):
        return "acquire the lock with a timeout instead, in a loop that looks at self.running"
    return "pass a callable that does: blocking(resource, wake=function)"


def _name(resource: Any) -> str:
    """The class of a resource; its own way of describing itself is code of users."""
    kind = type(resource)
    if callable(resource) and hasattr(resource, "__qualname__"):
        return f"{kind.__qualname__} {resource.__qualname__}"
    return f"{kind.__module__}.{kind.__qualname__}"

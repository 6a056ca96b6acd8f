"""The server behind the control socket.

Two daemon threads of its own, so that it answers whatever the components do. One moves bytes: it never blocks on a client, keeps
one request and one answer of each at most, and closes who is rude, silent or does not read. The other answers, one request after
the other; what has to wait for the system is a future, and blocks nobody. Both use a tenth of a core at most, apart from bursts,
however many ask.

The clients belong to the first thread. `_requests` and `_answers` are how the two meet. It needs no lock but that of `withdraw`,
which may come from two threads.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from minions.clock import Clock, SystemClock
from minions.errors import MinionsError
from minions.observe.pace import Pace
from minions.operate.place import Place, peer_uid
from minions.operate.protocol import Lines, Refused, Request, answer_line, refusal_line, request_of

__all__ = ["Control", "Limits", "Result"]

Result: TypeAlias = Mapping[str, Any]

_READ_AT_ONCE = 64 << 10
_AFTER_ACCEPT_FAILED_S = 1.0
_LAST_ANSWERS_S = 1.0
_NOTHING = memoryview(b"")


@attrs.frozen(kw_only=True)
class Limits:
    """What clients may use.

    Attributes:
        clients: at once; one more has the one closed that has been idle for longest.
        idle_s: a client that asks for nothing, or whose answer does not come, is closed after so long.
        stalled_s: a client that does not read its answer is closed after so long.
    """

    clients: int = 64
    idle_s: float = 120.0
    stalled_s: float = 10.0


@attrs.define(eq=False)
class _Client:
    """One connection.

    Attributes:
        lines: what has arrived and was not asked yet.
        unsent: of the answer, or of several errors.
        asks: whether a request of it is at work.
        has_ended: nothing more will come from it.
        is_last: it is closed when the answer is sent.
        moved_s: when anything has moved last.
        events: what it is registered for.
        answer: of that request, where it comes later. Written by the answering thread.
        is_closed: written by the thread that moves bytes; the other one may learn of it late.
    """

    socket: socket.socket
    moved_s: float
    lines: Lines = attrs.Factory(Lines)
    unsent: memoryview = _NOTHING
    asks: bool = False
    has_ended: bool = False
    is_last: bool = False
    events: int = selectors.EVENT_READ
    answer: Future[Result] | None = None
    is_closed: bool = False

    def wait_for(self, answer: Future[Result]) -> None:
        """On the answering thread: says that the answer comes later."""
        self.answer = answer
        if self.is_closed:  # just now, and whoever has closed it saw no answer yet
            answer.cancel()

    @property
    def is_gone(self) -> bool:
        """Whether the other end is closed; not where it has only said that nothing more comes from it."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return any(found & select.POLLHUP for _, found in poll.poll(0))

    @property
    def is_done(self) -> bool:
        return (self.has_ended or self.is_last) and not self.asks and not self.unsent


class Control:
    """The control socket of one run of a system."""

    def __init__(
        self,
        name: str,
        folder: Path,
        answer: Callable[[Request], Result | Future[Result]],
        log: logging.Logger,
        *,
        limits: Limits = Limits(),
        clock: Clock | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the system.
            folder: its state folder.
            answer: answers a request, on a thread of this object; may raise `Refused`, and must not block for long.
            log: takes what is to be said of the control socket itself.
            limits: what clients may use.
            clock: by which clients lose patience; the machine's own, because they live in the machine's time.
        """
        self._name = name
        self._folder = folder
        self._answer = answer
        self._log = log
        self._limits = limits
        self._clock = clock or SystemClock()
        self._withdrawing = threading.Lock()
        self._place: Place | None = None
        self._selector: selectors.BaseSelector | None = None
        self._clients: set[_Client] = set()
        self._requests: queue.SimpleQueue[tuple[_Client, Request, Future[Result] | None] | None] = queue.SimpleQueue()
        self._answers: deque[tuple[_Client, bytes]] = deque()
        self._listens_again_s: float | None = None
        self._closing = threading.Event()
        self._all_answered = False  # written by the answering thread, last
        self._told: socket.socket | None = None
        self._heard: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._reported: set[type[BaseException]] = set()  # answering thread only

    # ------------------------------------------------------------------ the owner's side
    def open(self, *, in_folder: bool) -> bool:
        """Makes the socket and starts to listen; False, with a warning in the log, where that cannot be. Never raises.

        Args:
            in_folder: whether the state folder is there, and this run has it.
        """
        try:
            self._place = Place.claim(self._folder, in_folder=in_folder)
            self._heard, self._told = socket.socketpair()
            for end in (self._heard, self._told):
                end.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._heard, selectors.EVENT_READ)
            self._selector.register(self._place.listener, selectors.EVENT_READ)
            for name, drive in (("answers", self._drive_answers), ("control", self._serve)):
                thread = threading.Thread(target=drive, name=f"{self._name}/{name}", daemon=True)
                self._threads.append(thread)  # before it begins: Ctrl-C may come while that is waited for
                thread.start()
        except (OSError, RuntimeError, MinionsError) as error:
            self._log.warning("%s runs without a control socket, and cannot be operated: %s", self._name, error)
            self.close()
            return False
        _open.add(self)
        return True

    @property
    def path(self) -> Path | None:
        """Of the socket; None where there is none."""
        return None if self._place is None else self._place.path

    def withdraw(self) -> None:
        """Gives up the socket's place, for the next system; who is connected is served on. Brief; any thread; twice is safe."""
        with self._withdrawing:
            if self._place is not None:
                self._place.withdraw()

    def close(self) -> None:
        """Sends the last answers, and ends. Blocks for a few seconds at most; twice is safe."""
        self.withdraw()
        _open.discard(self)
        self._requests.put(None)
        self._closing.set()
        self._wake()
        begun = [thread for thread in self._threads if thread.ident is not None]
        for thread in begun:
            thread.join(2 * _LAST_ANSWERS_S)
        if len(begun) < 2:  # otherwise the thread that moves bytes does so, last
            self._close_all()

    def _close_all(self) -> None:
        for client in [*self._clients]:
            self._drop(client)
        if self._selector is not None:
            self._selector.close()
        for end in (self._heard, self._told, self._place.listener if self._place is not None else None):
            if end is not None:
                end.close()

    def leave_to_parent(self) -> None:
        """In a forked child, where none of the threads is."""
        if self._place is not None:
            self._place.leave_to_parent()
        for client in self._clients:
            client.socket.close()

    def _wake(self) -> None:
        if self._told is not None:
            with suppress(OSError):  # full: it wakes anyway; closed: nobody is there
                self._told.send(b"\0")

    # ------------------------------------------------------------------ the thread that answers
    def _drive_answers(self) -> None:
        pace = Pace()
        used_s = time.thread_time()
        while (asked := self._requests.get()) is not None:
            client, request, future = asked
            line = self._line_for(client, request, future)
            if line is not None:
                self._answers.append((client, line))
                self._wake()
            before_s, used_s = used_s, time.thread_time()
            if pause_s := pace.spent(used_s - before_s, self._clock.monotonic()):
                self._closing.wait(pause_s)
        self._all_answered = True
        self._wake()

    def _line_for(self, client: _Client, request: Request, future: Future[Result] | None) -> bytes | None:
        """The answer to a request; None where it comes later, or nobody is there to be told."""
        if client.is_closed:
            return None
        try:
            client.answer = None
            found = self._answer(request) if future is None else future.result()
            if isinstance(found, Future):
                client.wait_for(found)
                found.add_done_callback(lambda done: self._requests.put((client, request, done)))
                return None
            return answer_line(request.number, found)
        except Refused as refused:
            return refusal_line(request.number, refused)
        except MinionsError as error:
            return refusal_line(request.number, Refused("failed", str(error)))
        except BaseException as error:  # noqa: BLE001 - told to whoever asks, and once in the log
            if type(error) not in self._reported:
                self._reported.add(type(error))
                self._log.error("a request at the control socket (%s) failed", request.do[:100], exc_info=error)
            return refusal_line(request.number, Refused("failed", f"{type(error).__name__}: {error}"))

    # ------------------------------------------------------------------ the thread that moves bytes
    def _serve(self) -> None:
        pace = Pace()
        used_s = time.thread_time()
        until_s: float | None = None
        try:
            while not self._is_over(until_s):
                if self._closing.is_set() and until_s is None:
                    until_s = self._clock.monotonic() + _LAST_ANSWERS_S
                    continue
                self._turn(until_s)
                before_s, used_s = used_s, time.thread_time()
                if pause_s := pace.spent(used_s - before_s, self._clock.monotonic()):
                    self._closing.wait(pause_s)
        finally:
            self._close_all()

    def _is_over(self, until_s: float | None) -> bool:
        """Whether all is closing and the last answers are sent, or nobody waits for them any longer."""
        if until_s is None:
            return False
        if self._clock.monotonic() >= until_s:
            return True
        return self._all_answered and not self._answers and not any(client.unsent for client in self._clients)

    def _turn(self, until_s: float | None) -> None:
        """Waits until something moves, or somebody's patience is over, and deals with it."""
        assert self._selector is not None
        assert self._place is not None
        for key, events in self._selector.select(self._patience_s(until_s)):
            if key.fileobj is self._heard:
                with suppress(OSError):
                    self._heard.recv(_READ_AT_ONCE)
            elif key.fileobj is self._place.listener:
                self._accept(self._place.listener)
            elif not key.data.is_closed:
                self._move(key.data, events)
        while self._answers:
            client, line = self._answers.popleft()
            client.asks = False
            if not client.is_closed:
                self._say(client, line)
                self._go_on(client)
        self._close_impatiently()

    def _patience_s(self, until_s: float | None) -> float | None:
        moments = [self._deadline_s(client) for client in self._clients]
        moments += [moment for moment in (until_s, self._listens_again_s) if moment is not None]
        if not moments:
            return None
        return max(0.0, min(moments) - self._clock.monotonic())

    def _deadline_s(self, client: _Client) -> float:
        return client.moved_s + (self._limits.stalled_s if client.unsent else self._limits.idle_s)

    def _close_impatiently(self) -> None:
        now_s = self._clock.monotonic()
        if self._listens_again_s is not None and now_s >= self._listens_again_s and self._place is not None:
            self._listens_again_s = None
            with suppress(KeyError, ValueError, OSError):
                self._selector_of().register(self._place.listener, selectors.EVENT_READ)
        for client in [client for client in self._clients if now_s >= self._deadline_s(client)]:
            self._drop(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:  # no descriptor is left: it would fail again at once, so nobody is let in for a moment
            self._selector_of().unregister(listener)
            self._listens_again_s = self._clock.monotonic() + _AFTER_ACCEPT_FAILED_S
            return
        if self._closing.is_set() or not _may_ask(connection):
            connection.close()
            return
        connection.setblocking(False)
        if len(self._clients) >= self._limits.clients and not self._make_room():
            refused = Refused("busy", f"{self._limits.clients} others are being answered; try again")
            with suppress(OSError):
                connection.send(refusal_line(None, refused))
            connection.close()
            return
        client = _Client(connection, self._clock.monotonic())
        self._clients.add(client)
        self._selector_of().register(connection, selectors.EVENT_READ, client)

    def _make_room(self) -> bool:
        """Closes those that have gone away, or the one that has been idle for longest; False where all are being answered.

        From who is being answered nothing is read, so that nobody has noticed yet that it has gone.
        """
        gone = [client for client in self._clients if client.is_gone]
        for client in gone:
            self._drop(client)
        if gone:
            return True
        idle = [client for client in self._clients if not client.asks]
        if idle:
            self._drop(min(idle, key=lambda client: client.moved_s))
        return bool(idle)

    def _move(self, client: _Client, events: int) -> None:
        if events & selectors.EVENT_WRITE and client.unsent:
            self._say(client, b"")
        if events & selectors.EVENT_READ and not client.is_closed and not client.has_ended:
            try:
                data = client.socket.recv(_READ_AT_ONCE)
            except BlockingIOError:
                return
            except OSError:
                self._drop(client)
                return
            client.moved_s = self._clock.monotonic()
            client.has_ended = not data
            client.lines.feed(data)
        self._go_on(client)

    def _go_on(self, client: _Client) -> None:
        """Takes the next request of a client that waits for nothing, and closes it where nothing more is to be said."""
        while not (client.is_closed or client.asks or client.unsent or client.is_last):
            try:
                line = client.lines.next()
                if line is None:
                    break
                request = request_of(line)
            except Refused as refused:
                client.is_last = True  # what comes behind it cannot be told from what it had to say
                self._say(client, refusal_line(None, refused))
                break
            client.asks = True
            client.moved_s = self._clock.monotonic()
            self._requests.put((client, request, None))
        if client.is_closed:
            return
        if client.is_done:
            self._drop(client)
        else:
            self._listen_to(client)

    def _listen_to(self, client: _Client) -> None:
        """From who is being answered nothing is read: what it sends waits in the socket, and then at its own end."""
        events = selectors.EVENT_WRITE if client.unsent else 0
        if not (client.unsent or client.asks or client.has_ended or client.is_last):
            events |= selectors.EVENT_READ
        if events == client.events:
            return
        selector = self._selector_of()
        if not client.events:
            selector.register(client.socket, events, client)
        elif not events:
            selector.unregister(client.socket)
        else:
            selector.modify(client.socket, events, client)
        client.events = events

    def _say(self, client: _Client, line: bytes) -> None:
        """Sends as much as goes without waiting."""
        if line:  # nothing is unsent then
            client.unsent = memoryview(line)
        try:
            sent = client.socket.send(client.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        if sent:
            client.unsent = client.unsent[sent:]
            client.moved_s = self._clock.monotonic()

    def _drop(self, client: _Client) -> None:
        if client.is_closed:
            return
        client.is_closed = True
        client.unsent = _NOTHING
        self._clients.discard(client)
        if (answer := client.answer) is not None:
            answer.cancel()  # where it can be: nobody is to be told any more
        if client.events and self._selector is not None:
            with suppress(KeyError, ValueError, OSError):
                self._selector.unregister(client.socket)
        client.socket.close()

    def _selector_of(self) -> selectors.BaseSelector:
        assert self._selector is not None
        return self._selector


def _may_ask(connection: socket.socket) -> bool:
    """Whether the one at the other end is the user who runs this process, or root."""
    try:
        uid = peer_uid(connection)
    except OSError:
        return False
    return uid is None or uid in (os.geteuid(), 0)


_open: weakref.WeakSet[Control] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    for control in list(_open):
        control.leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)

"""What a component can hang in, really, and a system with a component that hangs once.

Time moves only where a test moves it. The calls are real, and so are the threads that hang in them.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import select
import socket
import sqlite3
import subprocess
import sys
import threading
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from minions import Component, Inbox, Outbox, State, System, Watchdog, events
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Log, Number, Running, Start
from tests.life.stuck import Stuck

COUNT = 5
HANGS_AT = 2
STOP_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.2 * STOP_TIMEOUT_S
THROW_S = 0.8 * STOP_TIMEOUT_S


# ---------------------------------------------------------------------- what a component can hang in
class Call:
    """A call that hangs. It is made by a component; all else is done by the test.

    Attributes:
        system_calls: in which of them its thread is seen; none where it computes.
        resource: a part of what is then said of what it waits for.
        raises: how the error begins with which it ends when it is woken; empty where it returns.
    """

    system_calls: tuple[str, ...] = ()
    resource: str = ""
    raises: str = ""

    def __init__(self, keep: ExitStack) -> None:
        keep.callback(self.let_go)

    def hang(self) -> None:
        raise NotImplementedError

    @property
    def registered(self) -> tuple[Any, ...]:
        """What the component hands to `blocking`."""
        return (self.wake,)

    def wake(self) -> None:
        """What the component does in `on_interrupt`."""

    def let_go(self) -> None:
        """At the end of the test, where nobody could wake it."""
        with suppress(OSError, AttributeError):
            self.wake()


class TcpReceive(Call):
    system_calls = ("recvfrom",)
    resource = "socket 127.0.0.1:"
    raises = "ConnectionResetError: the other side has hung up"

    def __init__(self, keep: ExitStack) -> None:
        server = keep.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.connection = keep.enter_context(socket.create_connection(server.getsockname()))
        keep.enter_context(server.accept()[0])
        super().__init__(keep)

    def hang(self) -> None:
        if not self.connection.recv(1):
            raise ConnectionResetError("the other side has hung up")

    @property
    def registered(self) -> tuple[Any, ...]:
        return (self.connection,)

    def wake(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)


class TcpSend(TcpReceive):
    system_calls = ("sendto",)
    raises = "BrokenPipeError"

    def hang(self) -> None:
        self.connection.sendall(bytes(50_000_000))


class Request(Call):
    """A server that takes the request and never answers."""

    system_calls = ("recvfrom",)
    resource = "socket 127.0.0.1:"
    raises = "RemoteDisconnected"

    def __init__(self, keep: ExitStack) -> None:
        server = keep.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.connection = http.client.HTTPConnection(*server.getsockname())
        keep.callback(self.connection.close)
        super().__init__(keep)

    def hang(self) -> None:
        self.connection.request("GET", "/")
        self.connection.getresponse()

    @property
    def registered(self) -> tuple[Any, ...]:
        return (self.connection,)

    def wake(self) -> None:
        self.connection.sock.shutdown(socket.SHUT_RDWR)


class PipeRead(Call):
    system_calls = ("read",)
    resource = "pipe"

    def __init__(self, keep: ExitStack) -> None:
        self.reading, self.writing = os.pipe()
        keep.callback(os.close, self.reading)
        keep.callback(os.close, self.writing)
        super().__init__(keep)

    def hang(self) -> None:
        os.read(self.reading, 1)

    def wake(self) -> None:
        os.write(self.writing, b"x")


class ChildProcess(Call):
    """A child process that does not end."""

    system_calls = ("wait4",)
    resource = "child process"
    raises = "ChildProcessError: it was ended by signal 15"

    def __init__(self, keep: ExitStack) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", "import signal; print(flush=True); signal.pause()"], stdout=subprocess.PIPE
        )
        keep.callback(self.process.communicate)
        keep.callback(self.process.kill)
        assert self.process.stdout is not None
        self.process.stdout.readline()
        super().__init__(keep)

    def hang(self) -> None:
        code = self.process.wait()
        raise ChildProcessError(f"it was ended by signal {-code}")

    @property
    def registered(self) -> tuple[Any, ...]:
        return (self.process,)

    def wake(self) -> None:
        self.process.send_signal(15)


class Query(Call):
    """A query that takes for ever."""

    raises = "OperationalError: interrupted"

    def __init__(self, keep: ExitStack) -> None:
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        keep.callback(self.connection.close)
        self.is_at_it = threading.Event()  # an interruption that comes before the query would be lost
        self.connection.set_progress_handler(self._tell, 10_000)
        super().__init__(keep)

    def _tell(self) -> None:
        """Called in the midst of the query, once: from then on it needs Python no more."""
        self.connection.set_progress_handler(None, 0)
        self.is_at_it.set()

    def hang(self) -> None:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        self.connection.execute(endless).fetchone()

    @property
    def registered(self) -> tuple[Any, ...]:
        return (self.connection,)

    def wake(self) -> None:
        self.connection.interrupt()


class Loop(Call):
    """A loop in pure Python."""

    def __init__(self, keep: ExitStack) -> None:
        self.go_on = True
        super().__init__(keep)

    def hang(self) -> None:
        turns = 0
        while self.go_on:
            turns += 1

    def wake(self) -> None:
        self.go_on = False


class EventWait(Call):
    system_calls = ("futex",)
    resource = "threading.Event"

    def __init__(self, keep: ExitStack) -> None:
        self.event = threading.Event()
        super().__init__(keep)

    def hang(self) -> None:
        event = self.event
        event.wait()

    @property
    def registered(self) -> tuple[Any, ...]:
        return (self.event,)

    def wake(self) -> None:
        self.event.set()


class Lock(Call):
    """A lock that another thread has."""

    system_calls = ("futex",)
    resource = "lock lock (threading.RLock)"
    holder = "the holder"

    def __init__(self, keep: ExitStack) -> None:
        self.lock = threading.RLock()
        self._taken, self._done = threading.Event(), threading.Event()
        holder = threading.Thread(target=self._hold, name=self.holder)
        holder.start()
        assert self._taken.wait(PATIENCE_S)
        keep.callback(holder.join)
        super().__init__(keep)

    def _hold(self) -> None:
        with self.lock:
            self._taken.set()
            assert self._done.wait(3 * PATIENCE_S)

    def hang(self) -> None:
        lock = self.lock
        with lock:
            return

    def let_go(self) -> None:
        self._done.set()


class FileLock(Call):
    """The lock on a file, which somebody else has."""

    system_calls = ("flock",)
    resource = "/the.lock"

    def __init__(self, keep: ExitStack, folder: Path) -> None:
        self._path = folder / "the.lock"
        self._holder = keep.enter_context(self._path.open("w"))
        fcntl.flock(self._holder, fcntl.LOCK_EX)
        super().__init__(keep)

    def hang(self) -> None:
        with self._path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    def let_go(self) -> None:
        fcntl.flock(self._holder, fcntl.LOCK_UN)


class SleepInC(Call):
    """A sleep that nothing ends but time; with a time-out, so that the test comes to an end."""

    system_calls = ("pselect6", "select")
    seconds = 0.5

    def hang(self) -> None:
        select.select([], [], [], self.seconds)


Way = Literal["blocking", "on_interrupt", "async_exception", "abandoned"]
Kind = Literal["durable", "memory", "lanes"]
Trigger = Literal["restart", "stall"]

WOKEN = (TcpReceive, TcpSend, Request, PipeRead, ChildProcess, Query, Loop, EventWait)
HANGS: list[tuple[type[Call], Way]] = [
    *((call, "blocking") for call in WOKEN),
    *((call, "on_interrupt") for call in WOKEN),
    (Loop, "async_exception"),
    (Lock, "abandoned"),
    (FileLock, "abandoned"),
    (SleepInC, "abandoned"),
]
every_hang = pytest.mark.parametrize(("kind_of_call", "way"), HANGS, ids=[f"{c.__name__} {way}" for c, way in HANGS])


def make_call(kind: type[Call], keep: ExitStack, folder: Path) -> Call:
    return FileLock(keep, folder) if kind is FileLock else kind(keep)


# ---------------------------------------------------------------------- a system with a component that hangs once
class Source(Component):
    count: int = COUNT
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


class Bench:
    """A source, a component that hangs at one of its messages, once, and one that keeps what comes out.

    Attributes:
        begun: (life, number) of each call of the handler.
        done: (life, number) of each that has come to its end.
    """

    def __init__(self, system: System, start: Start, call: Call, way: Way, kind: Kind, **options: Any) -> None:
        begun, done, seen = Log(), Log(), set[int]()
        self.begun, self.done, self.call = begun, done, call
        durable = kind == "durable"

        class Hanging(Component):
            numbers = Inbox(Number, durable=durable)
            out = Outbox(Number)

            @numbers.handler
            def take(self, number: Number) -> None:
                life = self._minions.fence.epoch
                begun.add((life, number.value))
                self.out.send(Number(10 * number.value))
                self.note(number.value)
                if number.value == HANGS_AT and number.value not in seen:
                    seen.add(number.value)
                    with self.blocking(*call.registered) if way == "blocking" else nullcontext():
                        call.hang()
                done.add((life, number.value))

            def note(self, value: int) -> None:
                """Keeps nothing."""

            def on_interrupt(self) -> None:
                if way == "on_interrupt":
                    call.wake()

        class HangingWithState(Hanging):
            taken = State(list[int])

            def note(self, value: int) -> None:
                self.taken.append(value)

        class Kept(Component):
            numbers = Inbox(Number, durable=durable)
            values = State(list[int])

            @numbers.handler
            def keep(self, number: Number) -> None:
                self.values.append(number.value)

        self.system, self.clock = system, FakeClock()
        self.source = system.add(Source())
        self.hanging: Any = system.add(
            Hanging() if kind == "lanes" else HangingWithState(),
            name="hanging",
            async_exception=way == "async_exception",
            **options,
        )
        self.kept = system.add(Kept())
        system.connect(self.source.out, self.hanging.numbers)
        system.connect(self.hanging.out, self.kept.numbers)
        self.run = start(
            system, clock=self.clock, watched=True, stop_timeout_s=STOP_TIMEOUT_S, watchdog=Watchdog(tick_s=1.0)
        ).up()

    def see_it_hang(self) -> None:
        """Blocks until the thread is in the call."""
        self.begun.wait_for(lambda begun: (1, HANGS_AT) in begun)
        see(self.run, "hanging", self.call)

    def wait_for_stall(self) -> events.ComponentStalled:
        return wait_for_stall(self.run, self.clock)

    def pass_s(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.run.reach()

    def expect_exactly_once(self) -> None:
        """Blocks until all is handled, and compares."""
        self.run.wait_until_quiet()
        assert self.kept.values == [10 * number for number in range(COUNT)]
        if hasattr(self.hanging, "taken"):
            assert self.hanging.taken == list(range(COUNT))
        assert self.run.all(events.ComponentFailed) == []

    def expect_to_be_told_how(self, way: Way) -> None:
        """Compares what was told of the life that has hung, and by which life the message was handled."""
        was_woken, raises = way in ("blocking", "on_interrupt"), self.call.raises
        lives = [life for life, number in self.done.entries if number == HANGS_AT]
        assert lives[0] == (1 if was_woken and not raises else 2)
        interrupted = self.run.all(events.ComponentInterrupted)
        if was_woken and raises:
            [event] = interrupted
            assert (event.component, event.epoch, event.where) == ("hanging", 1, "take")
            assert event.error.startswith(raises)
        else:
            assert interrupted == []
        abandoned = self.run.all(events.ComponentAbandoned)
        if way == "abandoned":
            [gone] = abandoned
            assert (gone.component, gone.epoch, gone.zombies) == ("hanging", 1, 1)
            assert "in hang\n" in gone.stack
            self.call.let_go()
        else:
            assert abandoned == []
            assert len(self.run.all(events.ComponentStopped)) == 1
            assert self.run.stop().problems == ()


def see(run: Running, component: str, call: Call) -> None:
    """Blocks until a component's thread hangs in a call."""
    life = run.runtime._threads[component].life
    stuck = Stuck.__new__(Stuck)
    stuck._body, stuck._result, stuck.error = call.hang, None, None
    stuck.ident, stuck.native_id = life.ident, life.native_id
    [stuck._thread] = [thread for thread in threading.enumerate() if thread.ident == life.ident]
    if isinstance(call, Query):
        assert call.is_at_it.wait(PATIENCE_S)
    if call.system_calls:
        stuck.see(*call.system_calls)
    else:
        stuck.see_on_cpu()


def tick(run: Running, clock: FakeClock, *, tick_s: float = 1.0) -> None:
    """Lets the watchdog look once more, and blocks until what it has found was dealt with, and was told."""
    clock.advance(tick_s, besides=run.components)


def wait_for_stall(run: Running, clock: FakeClock, *, after_ticks: int = 10) -> events.ComponentStalled:
    """Lets the watchdog look until it has found a stall, and no further."""
    for _ in range(after_ticks):
        tick(run, clock)
        if stalled := run.all(events.ComponentStalled):
            return stalled[-1]
    raise AssertionError(run.told.entries)


class Keeping(Component):
    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        self.values.append(number.value)

"""Components that hang in real calls: they are found out, woken or replaced, and what they had in work happens exactly once.

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
import time
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System, Watchdog, events
from minions.errors import Interrupted, StaleComponent
from minions.flow.journal import Journal
from minions.flow.store import Store
from minions.life.injection import Injection
from minions.life.life import Life
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Running, Start
from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc

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
        self.run = start(system, clock=self.clock, stop_timeout_s=STOP_TIMEOUT_S, watchdog=Watchdog(tick_s=1.0)).up()

    def see_it_hang(self) -> None:
        """Blocks until the thread is in the call."""
        self.begun.wait_for(lambda begun: (1, HANGS_AT) in begun)
        see(self.run, "hanging", self.call)

    def wait_for_stall(self) -> events.ComponentStalled:
        return wait_for_stall(self.run, self.clock)

    def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
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
    looked(run, 1)
    ticks = run.runtime._patrol.seen.ticks
    clock.advance(tick_s)
    looked(run, ticks + 1)
    hear(run)


def looked(run: Running, ticks: int) -> None:
    """Blocks until the watchdog has looked so often. It tells nobody, so this asks again and again, and not for ever."""
    give_up_s = time.monotonic() + PATIENCE_S
    while run.runtime._patrol.seen.ticks < ticks:
        assert time.monotonic() < give_up_s


@attrs.frozen
class AllTold(events.Event):
    """Comes after everything that has been told so far."""

    number: int


def hear(run: Running) -> None:
    """Blocks until what the watchdog has found was dealt with, and everything that follows was told."""
    run.reach()
    last = AllTold(len(run.told.entries))
    run.runtime._observer.post(last)
    run.told.wait_for(lambda told: last in told)


def wait_for_stall(run: Running, clock: FakeClock, *, after_ticks: int = 10) -> events.ComponentStalled:
    """Lets the watchdog look until it has found a stall, and no further."""
    for _ in range(after_ticks):
        tick(run, clock)
        if stalled := run.all(events.ComponentStalled):
            return stalled[-1]
    raise AssertionError(run.told.entries)


# ---------------------------------------------------------------------- woken or replaced
@every_hang
@pytest.mark.parametrize("kind", ["durable", "memory", "lanes"])
@pytest.mark.parametrize("trigger", ["restart", "stall"])
def test_what_hangs_is_woken_or_replaced_and_its_message_is_handled_once(
    system: System,
    start: Start,
    keep: ExitStack,
    tmp_path: Path,
    kind_of_call: type[Call],
    way: Way,
    kind: Kind,
    trigger: Trigger,
) -> None:
    call = make_call(kind_of_call, keep, tmp_path)
    answer: dict[str, Any] = {"stall_after_s": 3.0, "on_stall": "restart"} if trigger == "stall" else {}
    bench = Bench(system, start, call, way, kind, **answer)
    bench.see_it_hang()
    if trigger == "restart":
        system.restart(bench.hanging)
        bench.run.reach()
    else:
        assert bench.wait_for_stall().answer == "restart"

    bench.pass_s(ASK_AGAIN_S)
    if way == "async_exception":
        bench.pass_s(THROW_S - ASK_AGAIN_S)
    elif way == "abandoned":
        assert bench.run.all(events.ComponentAbandoned) == []
        bench.pass_s(STOP_TIMEOUT_S - ASK_AGAIN_S)
    bench.run.wait_for(events.ComponentStarted, 4)
    bench.expect_exactly_once()
    bench.expect_to_be_told_how(way)


def test_a_restart_that_was_wished_has_come_about_when_the_next_life_is_up(
    system: System, start: Start, keep: ExitStack
) -> None:
    bench = Bench(system, start, TcpReceive(keep), "blocking", "durable")
    bench.see_it_hang()
    restarted = system.restart(bench.hanging)
    bench.run.reach()
    assert not restarted.done()
    bench.pass_s(ASK_AGAIN_S)
    restarted.result(PATIENCE_S)
    assert [status.epoch for status in bench.run.runtime.status() if status.name == "hanging"] == [2]


@pytest.mark.parametrize("at", ["on_start", "run", "unit", "on_stop"])
@pytest.mark.parametrize("way", ["blocking", "abandoned"])
def test_what_hangs_outside_of_handlers_is_woken_or_replaced_too(
    system: System, start: Start, keep: ExitStack, at: str, way: str
) -> None:
    clock, gate, ended, lives = FakeClock(), Gate(), Log(), Log()
    call = PipeRead(keep)
    hanging, kept = system.add(hanging_at(at, call, way, gate, ended, lives)), system.add(Keeping())
    system.connect(hanging.out, kept.numbers)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.open()
    if at == "on_stop":
        lives.wait_for_count(1)
    else:
        gate.wait_reached()
        see(run, "hanging", call)
    restarted = system.restart(hanging)
    run.reach()
    if at == "on_stop":
        gate.wait_reached()
        see(run, "hanging", call)

    clock.advance(ASK_AGAIN_S)
    if way == "abandoned":
        run.reach()
        clock.advance(STOP_TIMEOUT_S - ASK_AGAIN_S)
    restarted.result(PATIENCE_S)
    lives.wait_for(lambda lives: 2 in lives)
    run.stop()
    assert kept.values == list(range(COUNT))
    assert hanging.sent == COUNT
    begun = at != "on_start"  # an on_start that was broken off never was, and has nothing to be ended
    assert (1 in ended.entries) is (way == "blocking" and begun)
    assert run.all(events.ComponentFailed) == []


def hanging_at(at: str, call: Call, way: str, gate: Gate, ended: Log, lives: Log) -> Any:
    """A source of which the first life hangs somewhere.

    Args:
        gate: passed just before.
        ended: is told of each life that has come to the end of `on_stop`.
        lives: is told of each that has sent everything.
    """

    class Hanging(Component):
        out = Outbox(Number)
        sent = State(int)

        def hang_at(self, where: str) -> None:
            if where == at and self._minions.fence.epoch == 1:
                gate.pass_through()
                with self.blocking(*call.registered) if way == "blocking" else nullcontext():
                    call.hang()

        def on_start(self) -> None:
            self.hang_at("on_start")

        def run(self) -> None:
            self.hang_at("run")
            while self.running and self.sent < COUNT:
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1
                    if self.sent == HANGS_AT:
                        self.hang_at("unit")
            lives.add(self._minions.fence.epoch)
            while self.running:
                self.sleep(1e6)

        def on_stop(self) -> None:
            self.hang_at("on_stop")
            ended.add(self._minions.fence.epoch)

    return Hanging()


class Keeping(Component):
    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        self.values.append(number.value)


# ---------------------------------------------------------------------- the exception
def test_a_loop_that_does_not_compute_at_the_one_moment_is_looked_at_again(
    system: System, start: Start, keep: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    throw, looks = Injection.throw, iter([False] * 100)

    def look(injection: Injection, error_class: type[BaseException]) -> bool:
        return next(looks, True) and throw(injection, error_class)

    monkeypatch.setattr(Injection, "throw", look)
    bench = Bench(system, start, Loop(keep), "async_exception", "durable")
    bench.see_it_hang()
    system.restart(bench.hanging)
    bench.run.reach()
    bench.pass_s(ASK_AGAIN_S)
    bench.pass_s(THROW_S - ASK_AGAIN_S)
    bench.run.wait_for(events.ComponentStarted, 4)
    bench.expect_exactly_once()
    assert bench.run.all(events.ComponentAbandoned) == []


def test_a_run_that_computes_gets_the_exception_too(system: System, start: Start, keep: ExitStack) -> None:
    clock, call, ended = FakeClock(), Loop(keep), Log()

    class Computing(Component):
        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                call.hang()

        def on_stop(self) -> None:
            ended.add(self._minions.fence.epoch)

    computing = system.add(Computing(), async_exception=True)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    run.wait_for(events.ComponentStarted)
    see(run, "computing", call)
    system.restart(computing)
    run.reach()
    clock.advance(THROW_S)
    run.wait_for(events.ComponentStarted, 2)
    run.wait_for(events.ComponentFinished)
    assert ended.entries == [1, 2]
    assert run.stop().problems == ()


def test_without_consent_no_exception_comes(system: System, start: Start, keep: ExitStack) -> None:
    bench = Bench(system, start, Loop(keep), "abandoned", "durable")
    bench.see_it_hang()
    system.restart(bench.hanging)
    bench.run.reach()
    bench.pass_s(ASK_AGAIN_S)
    bench.pass_s(THROW_S - ASK_AGAIN_S)
    bench.pass_s(STOP_TIMEOUT_S - THROW_S)
    bench.run.wait_for(events.ComponentAbandoned)
    bench.call.let_go()
    bench.expect_exactly_once()


def test_what_a_handler_raises_before_anything_was_broken_off_is_a_failure_and_counts(
    system: System, start: Start
) -> None:
    gate = Gate()

    class Failing(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            if number.value == 0 and self._minions.fence.epoch == 1:
                gate.pass_through()
                raise ValueError("on its own account")

    source, failing = system.add(Source(count=1)), system.add(Failing())
    system.connect(source.out, failing.numbers)
    run = start(system, clock=FakeClock())
    gate.wait_reached()
    restarted = system.restart(failing)
    run.reach()
    gate.open()
    [failed] = run.wait_for(events.ComponentFailed)
    assert (failed.where, failed.error, failed.attempt) == ("take", "ValueError: on its own account", 1)
    assert run.all(events.ComponentInterrupted) == []
    run.end_by_force()
    assert restarted.done()


@pytest.mark.parametrize("error", [Interrupted, StaleComponent, OSError])
def test_what_would_interrupt_but_was_not_asked_for_is_a_failure(
    system: System, start: Start, error: type[BaseException]
) -> None:
    class Raising(Component):
        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                raise error("of its own accord")

    system.add(Raising())
    run = start(system, forever=False)
    assert run.ended().problems == ()
    [failed] = run.all(events.ComponentFailed)
    assert (failed.where, failed.error) == ("run", f"{error.__name__}: of its own accord")


# ---------------------------------------------------------------------- on_interrupt
def test_an_on_interrupt_that_raises_is_told_and_the_ladder_goes_on(
    system: System, start: Start, keep: ExitStack
) -> None:
    bench = Bench(system, start, Request(keep), "on_interrupt", "durable")
    bench.see_it_hang()
    bench.call.connection.sock, sock = None, bench.call.connection.sock  # type: ignore[attr-defined]
    restarted = system.restart(bench.hanging)
    bench.run.reach()
    bench.pass_s(ASK_AGAIN_S)
    [failed] = bench.run.wait_for(events.ComponentFailed)
    assert (failed.component, failed.epoch, failed.where, failed.attempt) == ("hanging", 1, "on_interrupt", 0)
    assert failed.error.startswith("AttributeError")
    assert "in on_interrupt" in failed.traceback
    assert failed.restart_in_s is None
    bench.pass_s(STOP_TIMEOUT_S - ASK_AGAIN_S)
    restarted.result(PATIENCE_S)
    assert len(bench.run.wait_for(events.ComponentAbandoned)) == 1
    bench.call.connection.sock = sock  # type: ignore[attr-defined]
    bench.call.let_go()
    bench.run.wait_until_quiet()
    assert bench.kept.values == [10 * number for number in range(COUNT)]


def test_an_on_interrupt_that_hangs_holds_nobody_up(system: System, start: Start) -> None:
    clock, gate, hung = FakeClock(), Gate(), Gate()

    class Hanging(Component):
        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                with self.blocking(resource, wake=lambda: None):
                    gate.pass_through()

        def on_interrupt(self) -> None:
            hung.pass_through()

    resource = object()
    hanging = system.add(Hanging())
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.wait_reached()
    restarted = system.restart(hanging)
    run.reach()
    clock.advance(ASK_AGAIN_S)
    hung.wait_reached()
    clock.advance(STOP_TIMEOUT_S)
    restarted.result(PATIENCE_S)
    hung.open()
    gate.open()


def test_a_machine_without_further_threads_is_told_and_the_life_is_abandoned_in_time(
    system: System, start: Start, keep: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(system, start, Lock(keep), "abandoned", "durable")
    bench.see_it_hang()
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if "/interrupt " in thread.name:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    system.restart(bench.hanging)
    bench.run.reach()
    bench.pass_s(STOP_TIMEOUT_S)
    bench.run.wait_for(events.ComponentAbandoned)
    assert [failed.error for failed in bench.run.wait_for(events.ComponentFailed, 2)] == [
        "RuntimeError: can't start new thread"
    ] * 2
    bench.call.let_go()
    bench.run.wait_until_quiet()
    assert bench.kept.values == [10 * number for number in range(COUNT)]


# ---------------------------------------------------------------------- the evidence
@every_hang
def test_the_report_says_what_it_hangs_in(
    system: System, start: Start, keep: ExitStack, tmp_path: Path, kind_of_call: type[Call], way: Way
) -> None:
    call = make_call(kind_of_call, keep, tmp_path)
    if isinstance(call, SleepInC):
        call.seconds = 5.0
    bench = Bench(system, start, call, way, "durable", stall_after_s=2.0)
    bench.see_it_hang()
    stalled = bench.wait_for_stall()
    evidence = stalled.evidence
    assert (stalled.component, stalled.epoch, stalled.answer) == ("hanging", 1, "report")
    assert (evidence.component, evidence.epoch, evidence.doing) == ("hanging", 1, "handling take")
    assert (evidence.for_s, evidence.message_id) == (2.0, message_id_of(bench, HANGS_AT))
    assert "in take\n" in evidence.stack
    assert "in hang\n" in evidence.stack
    if call.system_calls:
        assert evidence.system_call in call.system_calls
        assert evidence.on_cpu is False
        assert call.resource in evidence.resource
        assert evidence.holder == getattr(call, "holder", "")
    else:
        assert evidence.on_cpu
    assert bench.run.runtime._patrol.seen.faults == 0
    call.let_go()


def message_id_of(bench: Bench, number: int) -> str:
    channel = bench.run.runtime.plan.channels["hanging.numbers"]
    return channel.message_id(number + 1)


def test_what_was_reported_goes_on_and_that_is_told(system: System, start: Start, keep: ExitStack) -> None:
    bench = Bench(system, start, PipeRead(keep), "abandoned", "durable", stall_after_s=2.0)
    bench.see_it_hang()
    bench.wait_for_stall()
    tick(bench.run, bench.clock)
    bench.call.let_go()
    bench.expect_exactly_once()
    tick(bench.run, bench.clock)
    [recovered] = bench.run.all(events.ComponentRecovered)
    assert recovered == events.ComponentRecovered("hanging", 1, 4.0, False)
    assert bench.run.all(events.ComponentStopped) == [], "nothing else has followed"


def test_unless_told_otherwise_a_unit_of_work_stalls_after_a_minute_and_waiting_outside_of_one_never(
    system: System, start: Start
) -> None:
    clock, inside, outside = FakeClock(), Gate(), Gate()

    class Inside(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            inside.pass_through()

    class Outside(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(1))
            outside.pass_through()

    source, sink = system.add(Outside()), system.add(Inside())
    system.connect(source.out, sink.numbers)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=20.0)).up()
    inside.wait_reached()
    outside.wait_reached()
    for _ in range(5):
        tick(run, clock, tick_s=20.0)
        if run.all(events.ComponentStalled):
            break
    tick(run, clock, tick_s=20.0)
    [stalled] = run.all(events.ComponentStalled)
    assert (stalled.component, stalled.evidence.for_s) == ("inside", 60.0)
    outside.open()
    inside.open()
    run.wait_until_quiet()
    tick(run, clock, tick_s=20.0)
    [recovered] = run.all(events.ComponentRecovered)
    assert (recovered.component, recovered.epoch, recovered.ended) == ("inside", 1, False)


def test_who_is_asked_to_stop_is_dealt_with_and_not_reported(system: System, start: Start, keep: ExitStack) -> None:
    bench = Bench(system, start, PipeRead(keep), "abandoned", "durable", stall_after_s=2.0)
    bench.see_it_hang()
    system.restart(bench.hanging)
    bench.run.reach()
    for _ in range(5):
        tick(bench.run, bench.clock)
    bench.call.let_go()
    bench.expect_exactly_once()
    tick(bench.run, bench.clock)
    assert bench.run.all(events.ComponentStalled) == []
    assert bench.run.all(events.ComponentRecovered) == []


def test_what_a_thread_is_at_can_be_asked_while_it_goes_on() -> None:
    class GoesOn(Life):
        @property
        def current(self) -> Any:  # type: ignore[override]
            return entries.pop()

    life = GoesOn.__new__(GoesOn)
    life._hook, life._called = "run", ""
    life._handlers = {}
    entries: list[Any] = [None, (object(), 1, None, None, 0)]  # the second is looked at first
    assert life.doing == "run"


# ---------------------------------------------------------------------- what is no stall
class Doors(Component):
    """Waits at one of the runtime's doors until the test lets it go on.

    Attributes:
        door: which.
    """

    door: str
    out = Outbox(Number)
    calls = State(int)

    def run(self) -> None:
        while self.running:
            self.calls += 1
            match self.door:
                case "room":
                    self.out.send(Number(1))
                case "room in a unit":
                    with self.unit():
                        self.out.send(Number(1))
                case "commit":
                    self.commit()
                case "sleep":
                    self.sleep(1e6)


class Waits(Component):
    """Holds what it gets."""

    numbers = Inbox(Number, capacity=1)

    @numbers.handler
    def take(self, number: Number) -> None:
        GATES[-1].pass_through()


GATES: list[Gate] = []


@pytest.mark.parametrize("door", ["room", "room in a unit", "commit", "sleep", "pause"])
def test_who_waits_at_a_door_of_the_runtime_has_not_stalled(
    system: System, start: Start, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, committing = FakeClock(), Gate()
    GATES.append(Gate())
    commit = Store.commit

    def held(store: Store, *arguments: Any) -> Any:
        if door == "commit":
            committing.pass_through()
        return commit(store, *arguments)

    source = system.add(Doors(door="room" if door == "pause" else door), stall_after_s=2.0)
    sink = system.add(Waits(), stall_after_s=None)
    system.connect(source.out, sink.numbers)
    monkeypatch.setattr(Store, "commit", held)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=1.0)).up()
    life = run.runtime._threads["doors"].life
    if door == "pause":
        system.pause(source).result(PATIENCE_S)
        GATES[-1].open()
    waits = {
        "room": "room in waits.numbers",
        "room in a unit": "room in waits.numbers",
        "commit": "a commit",
        "sleep": "its sleep to end",
        "pause": "somebody to resume it",
    }[door]
    parked_at(life, waits)
    for _ in range(6):
        tick(run, clock)
    assert run.all(events.ComponentStalled) == []
    committing.open()
    GATES[-1].open()


def parked_at(life: Life, door: str) -> None:
    """Blocks until the thread of a life waits there. Nobody is told of that, so this asks again and again, and not for ever."""
    give_up_s = time.monotonic() + PATIENCE_S
    while life.waits_for != door:
        assert time.monotonic() < give_up_s, life.waits_for


def test_a_long_handler_that_sends_makes_progress(system: System, start: Start) -> None:
    clock, turns = FakeClock(), [Gate() for _ in range(5)]

    class Slow(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            for gate in turns:
                gate.pass_through()
                self.out.send(number)

    class Once(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(1))

    once, slow, kept = system.add(Once()), system.add(Slow(), stall_after_s=2.0), system.add(Keeping())
    system.connect(once.out, slow.numbers)
    system.connect(slow.out, kept.numbers)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=1.0)).up()
    for gate in turns[:-1]:
        gate.wait_reached()
        tick(run, clock)
        gate.open()
    turns[-1].wait_reached()
    tick(run, clock)
    assert run.all(events.ComponentStalled) == [], "it has sent something within each two seconds"
    wait_for_stall(run, clock, after_ticks=2)
    turns[-1].open()


@pytest.mark.parametrize("durable", [True, False])
def test_a_source_that_sends_now_and_then_makes_progress_by_whatever_way(
    system: System, start: Start, durable: bool
) -> None:
    clock, turns = FakeClock(), [Gate() for _ in range(6)]

    class Slow(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for gate in turns:
                gate.pass_through()
                self.out.send(Number(1))

    class Takes(Component):
        numbers = Inbox(Number, durable=durable)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    slow, takes = system.add(Slow(), stall_after_s=2.0), system.add(Takes())
    system.connect(slow.out, takes.numbers)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=1.0)).up()
    for gate in turns[:-1]:
        gate.wait_reached()
        tick(run, clock)
        gate.open()
    turns[-1].wait_reached()
    tick(run, clock)
    assert run.all(events.ComponentStalled) == []
    assert wait_for_stall(run, clock, after_ticks=2).evidence.doing == "run"
    turns[-1].open()


@pytest.mark.parametrize("durable", [True, False])
def test_what_its_receiver_takes_is_no_progress_of_a_source(system: System, start: Start, durable: bool) -> None:
    clock, hang, taking, taken = FakeClock(), Gate(), Gate(), Log()

    class Hanging(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(1))
            taking.wait_reached()
            self.out.send(Number(2))
            hang.pass_through()

    class Takes(Component):
        numbers = Inbox(Number, durable=durable)

        @numbers.handler
        def take(self, number: Number) -> None:
            if number.value == 1:
                taking.pass_through()
            taken.add(number.value)

    hanging, takes = system.add(Hanging(), stall_after_s=2.0), system.add(Takes())
    system.connect(hanging.out, takes.numbers)
    run = start(system, clock=clock, watchdog=Watchdog(tick_s=1.0)).up()
    hang.wait_reached()
    tick(run, clock)
    tick(run, clock)
    taking.open()
    taken.wait_for_count(2)
    assert wait_for_stall(run, clock, after_ticks=1).component == "hanging"
    hang.open()


# ---------------------------------------------------------------------- abandoned
def test_what_after_commit_had_taken_in_a_life_that_is_abandoned_is_told(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, gate, committing, called = FakeClock(), Gate(), Gate(), Log()
    commit = Store.commit

    def held(store: Store, *arguments: Any) -> Any:
        committing.pass_through()
        return commit(store, *arguments)

    class Hanging(Component):
        turns = State(int)

        def run(self) -> None:
            if self._minions.fence.epoch > 1:
                return
            for turn in range(3):
                with self.unit():
                    self.turns += 1
                    self.after_commit(partial(called.add, turn))
            gate.pass_through()

    hanging = system.add(Hanging())
    monkeypatch.setattr(Store, "commit", held)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.wait_reached()
    [zombie] = [thread for thread in threading.enumerate() if thread.name == "test/hanging"]
    restarted = system.restart(hanging)
    run.reach()
    clock.advance(STOP_TIMEOUT_S)
    [dropped] = run.wait_for(events.AfterCommitDropped)
    assert dropped == events.AfterCommitDropped("hanging", 1, 3)
    committing.open()
    restarted.result(PATIENCE_S)
    gate.open()
    zombie.join(PATIENCE_S)
    assert run.stop().problems == ()
    assert called.entries == []
    assert hanging.turns == 3
    assert len(run.all(events.AfterCommitDropped)) == 1


def test_what_a_zombie_hands_to_after_commit_in_the_unit_in_which_it_is_abandoned_is_told(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, gate, called = FakeClock(), Gate(), Log()
    last_epoch = Journal.last_epoch

    def held(journal: Journal) -> int:
        gate.pass_through()  # the unit is whole, and nobody has noted yet what follows it
        return last_epoch(journal)

    class Hanging(Component):
        turns = State(int)

        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                with self.unit():
                    self.turns += 1
                    self.after_commit(partial(called.add, "called"))

    hanging = system.add(Hanging())
    monkeypatch.setattr(Journal, "last_epoch", held)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.wait_reached()
    [zombie] = [thread for thread in threading.enumerate() if thread.name == "test/hanging"]
    restarted = system.restart(hanging)
    run.reach()
    clock.advance(STOP_TIMEOUT_S)
    restarted.result(PATIENCE_S)
    gate.open()
    zombie.join(PATIENCE_S)
    assert run.stop().problems == ()
    assert (called.entries, hanging.turns) == ([], 1)
    assert run.all(events.AfterCommitDropped) == [events.AfterCommitDropped("hanging", 1, 1)]


def test_a_zombie_that_ends_with_an_error_of_its_own_is_no_news(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()

    class Hanging(Component):
        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                gate.pass_through()
                raise ConnectionError("too late")

    hanging = system.add(Hanging())
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.wait_reached()
    [zombie] = [thread for thread in threading.enumerate() if thread.name == "test/hanging"]
    restarted = system.restart(hanging)
    run.reach()
    clock.advance(STOP_TIMEOUT_S)
    restarted.result(PATIENCE_S)
    gate.open()
    zombie.join(PATIENCE_S)
    assert run.stop().problems == (), "no thread was left at the end"
    assert run.all(events.ComponentInterrupted) == []
    assert run.all(events.ComponentFailed) == []

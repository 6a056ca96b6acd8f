"""Calls between running components: on which thread they run, what is a unit, what comes back, and what follows when lives end.

Real threads, held by gates.
"""

from __future__ import annotations

import contextlib
import gc
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System, Table, Uses, events, every
from minions.errors import (
    CallFailed,
    CallTimeout,
    CannotEncode,
    DeadlockError,
    InboxFull,
    StopRequested,
    UnitTooLarge,
    UsageError,
)
from minions.life import commands
from minions.testing import FakeClock
from tests.life.calling import AT_ONCE, Feed, Threads, in_calls
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start


class Database(Component):
    """What is called. `hold` holds its thread until the test opens the gate."""

    rows = State(list[int])
    table = Table(str, int)
    out = Outbox(Number, optional=True)

    def insert(self, row: int) -> int:
        self.rows.append(row)
        self.table[str(row)] = row
        return len(self.rows)

    def all(self) -> list[int]:
        return list(self.rows)

    def fail(self, row: int, error: BaseException) -> None:
        self.insert(row)
        self.out.send(Number(row))
        raise error

    def where(self) -> int:
        return threading.get_ident()

    def hold(self, row: int = 0) -> int:
        if row:
            self.insert(row)
        GATE.pass_through()
        return row

    def same(self, value: Any) -> Any:
        return value

    def run_this(self, function: Callable[[Any], Any]) -> Any:
        return function(self)


class Caller(Component):
    """Calls what a test asks for, in its handler; what came of it is in `LOG`."""

    numbers = Inbox(Number)
    database = Uses(Database)
    seen = State(list[int])

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.seen.append(number.value)
        LOG.add(WORK(self, number.value))


GATE = Gate()
LOG = Log()
WORK: Callable[[Any, int], Any] = lambda caller, number: None  # noqa: E731


@pytest.fixture(autouse=True)
def _fresh(threads: Threads) -> Iterator[None]:  # they are held by the gate, so they end after it is open
    global GATE, LOG, WORK  # noqa: PLW0603 - for the components, whose configuration is copied for each life
    GATE, LOG = Gate(), Log()
    WORK = lambda caller, number: None  # noqa: E731
    yield
    GATE.open()


@attrs.define
class Bench:
    system: System
    start: Start
    database: Any
    run: Any = None

    def up(self, **options: Any) -> Bench:
        self.run = self.start(self.system, **options).up()
        return self

    def call(self, timeout_s: float | None = PATIENCE_S) -> Database:
        called: Database = self.system.call(self.database, timeout_s=timeout_s)
        return called

    def call_handler(self, work: Callable[[Any, int], Any], numbers: int = 1, **options: Any) -> Caller:
        """A caller whose handler does this with each number; the system is not started."""
        global WORK  # noqa: PLW0603
        WORK = work
        feed = self.system.add(Feed(numbers=numbers))
        caller = self.system.add(Caller(), **options)
        self.system.connect(feed.out, caller.numbers)
        return caller

    def in_calls(self) -> tuple[int, ...]:
        return in_calls(self.run)


@pytest.fixture
def bench(system: System, start: Start) -> Bench:
    return Bench(system, start, system.add(Database(), restart=AT_ONCE))


# ---------------------------------------------------------------------- what a call is
def test_a_method_runs_on_its_own_components_thread_and_returns_what_it_returned(bench: Bench) -> None:
    bench.call_handler(lambda caller, number: (caller.database.where(), threading.get_ident()))
    bench.up()
    [(there, here)] = LOG.wait_for_count(1)
    assert there == bench.call().where()
    assert len({there, here, threading.get_ident()}) == 3
    assert bench.run.stop().problems == ()


def test_arguments_and_results_are_the_same_objects(bench: Bench) -> None:
    value = object()
    bench.up()
    assert bench.call().same(value) is value
    assert bench.call().same(value=value) is value


def test_a_call_is_a_unit_that_is_whole_before_it_returns(bench: Bench) -> None:
    bench.call_handler(lambda caller, number: (caller.database.insert(number), bench.database.rows), numbers=3)
    bench.up()
    assert LOG.wait_for_count(3) == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]
    assert dict(bench.database.table) == {"1": 1, "2": 2, "3": 3}


def test_the_callees_unit_stays_although_the_callers_fails(bench: Bench) -> None:
    def work(caller: Any, number: int) -> None:
        caller.database.insert(number)
        if len(bench.database.rows) == 1:
            raise ValueError("once")

    caller = bench.call_handler(work, restart=AT_ONCE)
    bench.up()
    LOG.wait_for_count(1)
    bench.run.wait_until_quiet()
    assert bench.database.rows == [1, 1]
    assert caller.seen == [1]


def test_what_a_call_raises_undoes_its_unit_and_reaches_the_caller_with_both_tracebacks(bench: Bench) -> None:
    error = ValueError("bad row")

    def work(caller: Any, number: int) -> Any:
        try:
            caller.database.fail(number, error)
        except ValueError as raised:
            return raised, "".join(traceback.format_exception(raised))

    bench.call_handler(work)
    run = bench.up().run
    [(raised, trace)] = LOG.wait_for_count(1)
    assert raised is error
    for frame in ("in work", "in _answer", "in fail"):
        assert frame in trace
    assert trace.index("in work") < trace.index("in fail")
    assert raised.__notes__ == ["raised in database.fail(), life 1, called by caller"]
    assert bench.database.rows == []
    assert dict(bench.database.table) == {}
    assert bench.call().insert(7) == 1
    assert run.all(events.ComponentFailed) == []


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), CancelledError()]
)
def test_whatever_a_method_raises_is_the_callers(bench: Bench, error: BaseException) -> None:
    run = bench.up().run
    with pytest.raises(type(error)) as raised:
        bench.call().fail(1, error)
    assert raised.value is error
    assert bench.call().all() == []
    assert run.all(events.ComponentFailed) == []


class Unwilling(Exception):
    """Bears no note."""

    def add_note(self, note: str) -> None:
        raise TypeError("no notes")


@attrs.frozen
class Frozen(Exception):
    """Bears no attribute, and so no note."""

    code: int


@pytest.mark.parametrize("error", [Unwilling("no"), Frozen(4)])
def test_an_error_that_bears_no_note_arrives_without(bench: Bench, error: Exception) -> None:
    run = bench.up().run
    with pytest.raises(type(error)) as raised:
        bench.call().fail(1, error)
    assert raised.value is error
    assert run.all(events.ComponentFailed) == []


def test_an_error_that_is_raised_again_and_again_is_noted_once(bench: Bench) -> None:
    error = ValueError("the only one")
    bench.up()
    for _ in range(3):
        with pytest.raises(ValueError, match="the only one"):
            bench.call().fail(1, error)
    assert error.__notes__ == ["raised in database.fail(), life 1, called by test"]


def test_what_an_error_holds_is_freed_with_it(bench: Bench) -> None:
    class Held:
        pass

    def fail(_: Any) -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise ValueError("bad")

    kept: list[Any] = []
    bench.up()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            bench.call().run_this(fail)
        assert bench.call().same(1) == 1  # the callee has gone on
        assert kept[0]() is None
        run_this: Any = bench.call().run_this
        with contextlib.suppress(ValueError):
            run_this.submit((fail,), {}).result(PATIENCE_S)
        assert bench.call().same(1) == 1
        assert kept[1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [100_001, 1])
def test_a_unit_that_cannot_be_made_whole_is_the_answer(system: System, start: Start, size: int) -> None:
    class Full(Component):
        numbers = Inbox(Number, capacity=1, overflow="fail")

        @numbers.handler
        def take(self, number: Number) -> None:
            GATE.pass_through()

    class Sender(Component):
        out = Outbox(Number)
        kept = State(list[float])

        def send(self, count: int) -> None:
            self.kept.append(count)
            for number in range(count):
                self.out.send(Number(number))

        def keep(self, value: Any) -> None:
            self.kept.append(value)

        def all(self) -> list[float]:
            return list(self.kept)

    full, sender = system.add(Full()), system.add(Sender())
    system.connect(sender.out, full.numbers)
    run = start(system).up()
    calls = system.call(sender)
    calls.send(1)
    GATE.wait_reached()
    with pytest.raises(InboxFull if size == 1 else UnitTooLarge):
        calls.send(size)
    with pytest.raises(CannotEncode):
        calls.keep("text")
    assert calls.all() == [1]
    assert sender.kept == [1]
    GATE.open()
    assert run.all(events.ComponentFailed) == []


def test_a_called_method_may_send_and_hand_over_what_follows_the_commit(system: System, start: Start) -> None:
    class Sender(Component):
        out = Outbox(Number)
        kept = State(int)

        def send(self, value: int) -> None:
            self.kept = value
            self.out.send(Number(value))
            self.after_commit(lambda: LOG.add(("committed", value, threading.get_ident())))

        def fail(self) -> None:
            self.after_commit(lambda: LOG.add("never"))
            raise ValueError("bad")

        def id(self) -> str:
            return self.message_id

        def where(self) -> int:
            return threading.get_ident()

    class Receiver(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            LOG.add(number.value)

    sender, receiver = system.add(Sender()), system.add(Receiver())
    system.connect(sender.out, receiver.numbers)
    run = start(system).up()
    calls = system.call(sender)
    calls.send(5)
    with pytest.raises(ValueError, match="bad"):
        calls.fail()
    with pytest.raises(UsageError, match="there is no message in work"):
        calls.id()
    entries = LOG.wait_for_count(2)
    run.wait_until_quiet()
    assert set(entries) == {5, ("committed", 5, calls.where())}
    assert len(LOG.entries) == 2


def test_of_a_component_that_keeps_nothing_calls_are_units_too(system: System, start: Start) -> None:
    class Sender(Component):
        out = Outbox(Number)

        def send(self, value: int) -> None:
            self.out.send(Number(value))
            if value < 0:
                raise ValueError("negative")

        def later(self) -> None:
            self.after_commit(lambda: LOG.add("later"))

    class Receiver(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            LOG.add(number.value)

    sender, receiver = system.add(Sender()), system.add(Receiver())
    system.connect(sender.out, receiver.numbers)
    run = start(system).up()
    calls = system.call(sender)
    with pytest.raises(ValueError, match="negative"):
        calls.send(-1)
    calls.send(1)
    LOG.wait_for_count(1)
    calls.later()
    assert LOG.wait_for_count(2) == [1, "later"]
    run.wait_until_quiet()
    assert len(LOG.entries) == 2


# ---------------------------------------------------------------------- from where
class Everywhere(Component):
    """Calls wherever user code runs."""

    numbers = Inbox(Number)
    database = Uses(Database)

    def on_start(self) -> None:
        LOG.add(("on_start", self.database.insert(1)))

    @numbers.handler
    def handle(self, number: Number) -> None:
        LOG.add(("handler", self.database.insert(2)))
        self.after_commit(lambda: LOG.add(("after_commit", self.database.insert(3))))
        helper = threading.Thread(target=lambda: LOG.add(("thread", self.database.insert(4))))
        helper.start()
        helper.join()

    def relay(self, row: int) -> int:
        return self.database.insert(row)

    def relay_failure(self, error: Exception) -> None:
        self.database.fail(1, error)

    def on_stop(self) -> None:
        LOG.add(("on_stop", self.database.insert(5)))


class Loop(Component):
    database = Uses(Database)

    def run(self) -> None:
        with self.unit():
            LOG.add(("unit", self.database.insert(6)))
        LOG.add(("run", self.database.insert(7)))


def test_calls_work_wherever_user_code_runs(bench: Bench) -> None:
    everywhere = bench.system.add(Everywhere())
    feed = bench.system.add(Feed())
    bench.system.add(Loop())
    bench.system.connect(feed.out, everywhere.numbers)
    bench.up()
    LOG.wait_for(lambda entries: {"after_commit", "unit", "run"} <= {where for where, _ in entries})
    assert bench.run.stop().problems == ()
    places = [where for where, _ in LOG.entries]
    assert sorted(places) == ["after_commit", "handler", "on_start", "on_stop", "run", "thread", "unit"]
    assert places[-1] == "on_stop"
    assert sorted(count for _, count in LOG.entries) == [1, 2, 3, 4, 5, 6, 7]


def test_calls_go_through_several_components(bench: Bench) -> None:
    everywhere = bench.system.add(Everywhere())
    feed = bench.system.add(Feed(numbers=0))
    bench.system.connect(feed.out, everywhere.numbers)
    bench.up()
    calls = bench.system.call(everywhere)
    assert calls.relay(9) == 2
    error = ValueError("far away")
    with pytest.raises(ValueError, match="far away"):
        calls.relay_failure(error)
    assert error.__notes__ == [
        "raised in database.fail(), life 1, called by everywhere",
        "raised in everywhere.relay_failure(), life 1, called by test",
    ]


def test_calls_from_outside_are_refused_on_a_components_thread(bench: Bench) -> None:
    def work(caller: Any, number: int) -> str:
        with pytest.raises(UsageError) as refused:
            bench.call().all()
        return str(refused.value)

    bench.call_handler(work)
    bench.up()
    [said] = LOG.wait_for_count(1)
    assert said.startswith(
        "caller: System.call() is for threads outside of the components: declare `... = Uses(...)` in caller"
    )


def test_what_cannot_be_called_is_refused_with_the_reason(bench: Bench) -> None:
    class Odd(Component):
        field: int = 3
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None: ...

        def generate(self) -> Iterator[int]:
            yield 1

        @contextlib.contextmanager
        def hold(self) -> Iterator[int]:
            yield 1

        async def wait(self) -> None: ...

        def lazily(self) -> Iterator[int]:
            return (number for number in range(3))

        def manager(self) -> Any:
            return contextlib.nullcontext()

        def _private(self) -> None: ...

    odd = bench.system.add(Odd())
    feed = bench.system.add(Feed(numbers=0))
    bench.system.connect(feed.out, odd.numbers)
    bench.up()
    calls: Any = bench.system.call(odd)
    for name, reason in {
        "generate": "it is a generator (or a context manager)",
        "hold": "it is a generator (or a context manager)",
        "wait": "it is async",
        "lazily": "it returned a generator",
        "manager": "it returned a context manager",
        "_private": "it is private",
        "handle": "it is a handler; send a message",
        "field": "only plain methods can be called",
        "nothing": "Odd has no such method",
        "on_stop": "it is the runtime's",
        "commit": "it is the runtime's",
    }.items():
        with pytest.raises(UsageError) as refused:
            getattr(calls, name)()
        assert reason in str(refused.value)
        assert "odd." + name in str(refused.value)
    with pytest.raises(UsageError, match=r"odd\.field belongs to another component"):
        calls.field = 4
    assert bench.run.all(events.ComponentFailed) == []


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "2", True])
def test_a_timeout_that_is_none_is_refused(bench: Bench, bad: Any) -> None:
    def work(caller: Any, number: int) -> str:
        with pytest.raises(UsageError) as refused, caller.call_timeout(bad):
            raise AssertionError("it was entered")
        return str(refused.value)

    bench.call_handler(work)
    bench.up()
    assert LOG.wait_for_count(1) == [f"caller: call_timeout(): {bad!r} must be a number of seconds above 0"]
    with pytest.raises(UsageError, match=r"test.call\(timeout_s=...\): .* must be a number of seconds above 0"):
        bench.system.call(bench.database, timeout_s=bad)


# ---------------------------------------------------------------------- time
def test_a_call_that_takes_too_long_is_given_up_and_goes_on(bench: Bench, threads: Threads) -> None:
    clock = FakeClock()
    bench.up(clock=clock)
    waiting = threads(lambda: bench.call(timeout_s=2.0).hold(8))
    GATE.wait_reached()
    [left_s] = clock.wait_for_waiters()
    assert left_s == 2.0
    clock.advance(2.0)
    error = waiting.exception(PATIENCE_S)
    assert isinstance(error, CallTimeout)
    assert str(error) == (
        "test: database.hold() did not answer within 2 s: its component is at work on it and goes on; the answer is dropped"
    )
    GATE.open()
    assert bench.call(timeout_s=None).all() == [8]
    assert bench.in_calls() == (0, 0, 0, 0)


def test_the_innermost_timeout_counts_for_the_calls_of_its_thread(bench: Bench) -> None:
    clock = FakeClock()

    def work(caller: Any, number: int) -> Any:
        found = []
        for seconds in (30.0, 5.0, 2.0, 5.0):
            with contextlib.ExitStack() as stack:
                if seconds < 30.0:
                    stack.enter_context(caller.call_timeout(5.0))
                if seconds == 2.0:
                    stack.enter_context(caller.call_timeout(2.0))
                try:
                    caller.database.hold()
                except CallTimeout as late:
                    found.append(str(late).partition(" within ")[2].partition(":")[0])
        return found

    bench.call_handler(work)
    bench.up(clock=clock)
    for seconds in (30.0, 5.0, 2.0, 5.0):
        clock.wait_for_waiters()
        assert clock.waits() == (seconds,)
        clock.advance(seconds)
    assert LOG.wait_for_count(1) == [["30 s", "5 s", "2 s", "5 s"]]


def test_the_watchdog_is_told_for_what_a_caller_waits(bench: Bench) -> None:
    bench.call_handler(lambda caller, number: caller.database.hold())
    bench.up()
    GATE.wait_reached()
    life = bench.run.runtime._threads["caller"].life
    assert life.waits_for == "database.hold() to answer"
    callee = bench.run.runtime._threads["database"].life
    assert (callee.where, callee.doing, callee.waits_for) == ("hold", "answering hold", "")
    GATE.open()
    LOG.wait_for_count(1)
    bench.run.wait_until_quiet()
    assert callee.waits_for == "a message"


def test_calls_without_effect_are_progress(bench: Bench) -> None:
    bench.up()
    life = bench.run.runtime._threads["database"].life
    before = life.progress[0]
    for _ in range(5):
        bench.call().same(1)
    assert life.progress[0] == before + 5


# ---------------------------------------------------------------------- submit
def test_submit_gives_a_future_and_does_not_wait(bench: Bench) -> None:
    def work(caller: Any, number: int) -> Any:
        held = caller.submit(caller.database.hold, 1)
        futures = [caller.submit(caller.database.insert, row=row) for row in (2, 3)]
        failed = caller.submit(caller.database.fail, 4, ValueError("bad"))
        return held, futures, failed

    bench.call_handler(work)
    bench.up()
    [(held, futures, failed)] = LOG.wait_for_count(1)
    GATE.wait_reached()
    assert not any(future.done() for future in (held, *futures, failed))
    GATE.open()
    assert [future.result(PATIENCE_S) for future in (held, *futures)] == [1, 2, 3]
    assert isinstance(failed.exception(PATIENCE_S), ValueError)
    assert bench.call().all() == [1, 2, 3]


def test_what_waits_can_be_cancelled(bench: Bench) -> None:
    def work(caller: Any, number: int) -> Any:
        return caller.submit(caller.database.hold), caller.submit(caller.database.insert, 2)

    bench.call_handler(work)
    bench.up()
    [(held, waiting)] = LOG.wait_for_count(1)
    GATE.wait_reached()
    assert not held.cancel()
    assert waiting.cancel()
    GATE.open()
    assert held.result(PATIENCE_S) == 0
    assert bench.call().all() == []
    bench.run.wait_until_quiet()
    assert bench.in_calls() == (0, 0, 0, 0)


def test_only_methods_of_what_is_used_can_be_submitted(bench: Bench) -> None:
    def work(caller: Any, number: int) -> str:
        with pytest.raises(UsageError) as refused:
            caller.submit(print, "x")
        return str(refused.value)

    bench.call_handler(work)
    bench.up()
    [said] = LOG.wait_for_count(1)
    assert said.startswith(
        "caller: submit() takes a method of a component that this one uses, such as self.database.insert, not"
    )


def test_a_callback_that_raises_or_calls_harms_nobody(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: reported.append(hook.exc_value))
    told = Log()
    stop = StopRequested("from a callback")

    def call_back(caller: Any) -> None:
        for call in (caller.database.all, bench.call().all):
            try:
                told.add(call())
            except Exception as error:  # noqa: BLE001 - the test looks at it
                told.add(error)
        raise stop

    def work(caller: Any, number: int) -> None:
        caller.submit(caller.database.hold).add_done_callback(lambda _: call_back(caller))

    bench.call_handler(work)
    bench.up()
    GATE.wait_reached()
    LOG.wait_for_count(1)
    GATE.open()
    itself, outside = told.wait_for_count(2)
    assert isinstance(itself, DeadlockError)  # it would wait for the very thread that it is called back on
    assert itself.components == ("database",)
    assert isinstance(outside, UsageError)
    assert bench.call().insert(1) == 1
    assert reported == [stop]
    assert bench.run.all(events.ComponentFailed) == []
    assert bench.in_calls() == (0, 0, 0, 0)


def test_run_ends_when_what_was_submitted_is_done(system: System) -> None:
    class Submits(Component):
        database = Uses(Database)

        def run(self) -> None:
            self.submit(self.database.hold, 1)
            for row in (2, 3):
                self.submit(self.database.insert, row)
            LOG.add("submitted")
            GATE.open()

    database = system.add(Database())
    system.add(Submits())
    assert system.run() == "finished"
    assert database.rows == [1, 2, 3]


# ---------------------------------------------------------------------- lives that end
def test_a_call_waits_while_the_other_one_restarts(bench: Bench, threads: Threads) -> None:
    release = Gate()

    class Slow(Database):
        def on_start(self) -> None:
            if self._minions.fence.epoch > 1:
                release.pass_through()

    slow = bench.system.add(Slow(), restart=AT_ONCE)
    run = bench.up().run
    bench.system.restart(slow)
    release.wait_reached()
    waiting = threads(lambda: bench.system.call(slow).insert(5))
    run.reach()
    assert not waiting.done()
    release.open()
    assert waiting.result(PATIENCE_S) == 1


def test_a_call_to_a_paused_component_waits_until_it_goes_on(bench: Bench, threads: Threads) -> None:
    clock = FakeClock()
    bench.up(clock=clock)
    bench.system.pause(bench.database).result(PATIENCE_S)
    waiting = threads(lambda: bench.call().insert(5))
    clock.wait_for_waiters()
    assert not waiting.done()
    assert bench.in_calls() == (0, 0, 1, 0)
    bench.system.resume(bench.database).result(PATIENCE_S)
    assert waiting.result(PATIENCE_S) == 1


def test_the_caller_is_told_at_once_when_the_life_at_work_fails(bench: Bench) -> None:
    run = bench.up().run
    with pytest.raises(CallFailed, match="the life of database that was at work on it has ended"):
        bench.call().fail(3, StopRequested("not asked at all"))
    [failed] = run.wait_for(events.ComponentFailed)
    assert (failed.component, failed.where) == ("database", "fail")
    assert bench.call().all() == []


def test_an_abandoned_life_answers_nothing(system: System, start: Start, threads: Threads) -> None:
    clock = FakeClock()
    database = system.add(Database())
    run = start(system, clock=clock).up()
    waiting = threads(lambda: system.call(database, timeout_s=None).hold(1))
    GATE.wait_reached()
    zombie = run.runtime._threads["database"]
    system.restart(database)
    run.reach()
    for _ in range(4):
        clock.advance(10.0)
        run.reach()
    assert isinstance(waiting.exception(PATIENCE_S), CallFailed)
    run.wait_for(events.ComponentAbandoned)
    assert system.call(database, timeout_s=None).insert(2) == 1  # by the next life
    GATE.open()
    zombie.join(PATIENCE_S)
    assert system.call(database, timeout_s=None).all() == [2]


def test_a_caller_that_is_asked_to_stop_waits_on_for_a_while_and_then_no_longer(system: System, start: Start) -> None:
    clock = FakeClock()
    bench = Bench(system, start, system.add(Database()))
    caller = bench.call_handler(lambda caller, number: caller.database.hold(number))
    run = bench.up(clock=clock).run
    GATE.wait_reached()
    stopped = system.stop(caller)
    run.reach()
    assert not stopped.done()
    clock.advance(2.0)
    run.reach()
    stopped.result(PATIENCE_S)
    assert LOG.entries == []
    assert bench.in_calls()[:3] == (0, 0, 0)
    GATE.open()
    assert bench.call(timeout_s=None).all() == [1]
    system.start(caller).result(PATIENCE_S)
    assert LOG.wait_for_count(1) == [1]  # the message is handled again
    assert bench.call(timeout_s=None).all() == [1, 1]


def test_calls_to_a_component_that_was_stopped_fail_at_once_until_it_is_started(bench: Bench) -> None:
    bench.up()
    bench.system.stop(bench.database).result(PATIENCE_S)
    with pytest.raises(CallFailed, match=r"database.all\(\) was not called: database has ended"):
        bench.call().all()
    bench.system.start(bench.database).result(PATIENCE_S)
    assert bench.call().all() == []


def test_what_is_used_stops_after_its_users(bench: Bench) -> None:
    class Ends(Database):
        def on_stop(self) -> None:
            LOG.add("used")

    class User(Component):
        ends = Uses(Ends)

        def on_stop(self) -> None:
            LOG.add(self.ends.insert(1))

    bench.system.add(User())
    ends = bench.system.add(Ends())
    assert bench.up().run.stop().problems == ()
    assert LOG.entries == [1, "used"]
    assert ends.rows == [1]


def test_a_failing_on_stop_after_a_broken_off_call_is_reported_as_such(system: System, start: Start) -> None:
    class Broken(Database):
        def wait(self) -> None:
            LOG.add("waiting")
            self.sleep(1_000.0)
            self.sleep(1_000.0)

        def on_stop(self) -> None:
            LOG.add(self._minions.where)

    clock = FakeClock()
    broken = system.add(Broken())
    run = start(system, clock=clock).up()
    future: Future[Any] = Future()

    def call() -> None:
        try:
            system.call(broken, timeout_s=None).wait()
        except CallFailed as error:
            future.set_result(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    LOG.wait_for_count(1)
    system.stop(broken)
    run.reach()
    clock.advance(2.0)
    said = future.result(PATIENCE_S)
    assert said.startswith("test: broken.wait() was not answered: broken was asked to stop while it was at work on it")
    assert LOG.wait_for_count(2) == ["waiting", "on_stop"]
    thread.join()
    run.reach()


def test_ctrl_c_takes_back_a_call_that_has_not_begun(
    bench: Bench, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.up().run
    holding = threads(lambda: bench.call().hold())
    GATE.wait_reached()

    class Interrupting:
        monotonic = staticmethod(run.runtime._clock.monotonic)

        def wait(self, parkable: Any, deadline_s: float | None) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run.runtime.outsider, "_clock", Interrupting())
        with pytest.raises(KeyboardInterrupt):
            bench.call().insert(1)
    GATE.open()
    assert holding.result(PATIENCE_S) == 0
    assert bench.call().all() == []
    assert bench.in_calls() == (0, 0, 0, 0)


def test_after_the_end_calls_fail_at_once(bench: Bench) -> None:
    with pytest.raises(UsageError, match=r"test.call\(\) works while the system runs"):
        bench.call()
    run = bench.up().run
    calls = bench.call(timeout_s=None)
    assert calls.all() == []
    run.stop()
    with pytest.raises(CallFailed, match="was not called: test has ended"):
        calls.all()


def test_when_the_supervisor_fails_nobody_waits_in_vain(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda hook: None)
    run = bench.up().run
    calls = bench.call(timeout_s=None)

    def fail() -> None:
        raise ValueError("a defect")

    run.runtime.post(commands.Reached(fail))
    assert run.ended().problems
    with pytest.raises(CallFailed):
        calls.all()


def test_an_answer_does_not_wait_for_a_tick_that_is_due(system: System, start: Start) -> None:
    clock = FakeClock()

    class Ticks(Component):
        @every(seconds=60)
        def tick(self) -> None:
            LOG.add("tick")
            raise ValueError("in a tick")

        def get(self) -> int:
            clock.advance(60.0)
            return 7

    ticks = system.add(Ticks())
    run = start(system, clock=clock).up()
    assert system.call(ticks, timeout_s=None).get() == 7
    run.wait_for(events.ComponentFailed)


# ---------------------------------------------------------------------- replicas
def test_replicas_share_the_calls(system: System, start: Start, threads: Threads) -> None:
    class Worker(Component):
        def hold(self) -> int:
            GATE.pass_through()
            return threading.get_ident()

    worker = system.add(Worker(), replicas=3)
    start(system).up()
    waiting = [threads(system.call(worker).hold) for _ in range(3)]
    for _ in range(3):
        GATE.wait_reached()
    GATE.open()
    assert len({future.result(PATIENCE_S) for future in waiting}) == 3

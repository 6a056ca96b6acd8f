"""Calls between running components: from where, for how long, and without waiting. Real threads, held by gates."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from minions import Component, Inbox, System, Uses, events
from minions.errors import CallTimeout, DeadlockError, StopRequested, UsageError
from minions.model.checks import shown
from minions.testing import FakeClock
from tests.life.calls.conftest import GATE, LOG, Bench, Database, Feed
from tests.life.conftest import PATIENCE_S, Log, Number, Threads


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


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), "2", True, 10**310])
def test_a_timeout_that_is_none_is_refused(bench: Bench, bad: Any) -> None:
    def work(caller: Any, number: int) -> str:
        with pytest.raises(UsageError) as refused, caller.call_timeout(bad):
            raise AssertionError("it was entered")
        return str(refused.value)

    bench.call_handler(work)
    bench.up()
    assert LOG.wait_for_count(1) == [f"caller: call_timeout(): {shown(bad)} must be a number of seconds above 0"]
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

"""Calls between running components: what follows when lives end, and who of several answers. Real threads, held by gates."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from minions import Component, System, Uses, events, every
from minions.errors import CallFailed, StopRequested, UsageError
from minions.life import commands
from minions.testing import FakeClock
from tests.life.calls.conftest import AT_ONCE, GATE, LOG, Bench, Database
from tests.life.conftest import PATIENCE_S, Gate, Start, Threads


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

"""Components that hang in real calls: they are found out, woken or replaced, and what they had in work happens exactly once."""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minions import Component, Inbox, Outbox, State, System, events
from minions.errors import Interrupted, StaleComponent
from minions.flow.group_commit import GroupCommit
from minions.flow.store import Store
from minions.life.injection import Injection
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Running, Start
from tests.life.hanging import (
    ASK_AGAIN_S,
    COUNT,
    HANGS_AT,
    STOP_TIMEOUT_S,
    THROW_S,
    Bench,
    Call,
    Keeping,
    Kind,
    Lock,
    Loop,
    PipeRead,
    Request,
    Source,
    TcpReceive,
    Trigger,
    Way,
    every_hang,
    make_call,
    see,
)
from tests.life.stuck import needs_proc

pytestmark = needs_proc


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


# ---------------------------------------------------------------------- abandoned
def end_as_zombie(run: Running, component: Component, gate: Gate) -> None:
    """The life that is held at the gate is abandoned for the next one; then its thread goes on, to its end."""
    gate.wait_reached()
    [zombie] = [thread for thread in threading.enumerate() if thread.name == "test/hanging"]
    restarted = run.system.restart(component)
    run.reach()
    assert isinstance(run.clock, FakeClock)
    run.clock.advance(STOP_TIMEOUT_S)
    restarted.result(PATIENCE_S)
    gate.open()
    zombie.join(PATIENCE_S)


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
    last_epoch = GroupCommit.last_epoch

    def held(commits: GroupCommit) -> int:
        gate.pass_through()  # the unit is whole, and nobody has noted yet what follows it
        return last_epoch(commits)

    class Hanging(Component):
        turns = State(int)

        def run(self) -> None:
            if self._minions.fence.epoch == 1:
                with self.unit():
                    self.turns += 1
                    self.after_commit(partial(called.add, "called"))

    hanging = system.add(Hanging())
    monkeypatch.setattr(GroupCommit, "last_epoch", held)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    end_as_zombie(run, hanging, gate)
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
    end_as_zombie(run, hanging, gate)
    assert run.stop().problems == (), "no thread was left at the end"
    assert run.all(events.ComponentInterrupted) == []
    assert run.all(events.ComponentFailed) == []

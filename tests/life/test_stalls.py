"""What is told of a component that hangs, and what is no stall although it takes long."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from minions import Component, Inbox, Outbox, State, System, Watchdog, events
from minions.flow.store import Store
from minions.life.life import Life
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Running, Start
from tests.life.hanging import (
    HANGS_AT,
    Bench,
    Call,
    Keeping,
    PipeRead,
    SleepInC,
    Way,
    every_hang,
    make_call,
    tick,
    wait_for_stall,
)
from tests.life.stuck import needs_proc

pytestmark = needs_proc


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
    run = start(system, clock=clock, watched=True, watchdog=Watchdog(tick_s=20.0)).up()
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
    run = start(system, clock=clock, watched=True, watchdog=Watchdog(tick_s=1.0)).up()
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
    held_ones = {"commit": ["waits", "minions-writer"], "pause": []}
    others = held_ones.get(door, ["waits"])  # who waits at a gate of this test and not at a door
    clock.settle(besides=others)
    assert life.waits_for == waits
    for _ in range(6):
        clock.advance(1.0, besides=others)
    assert run.all(events.ComponentStalled) == []
    committing.open()
    GATES[-1].open()


def let_through_all_but_the_last(turns: list[Gate], run: Running, clock: FakeClock) -> None:
    """A tick for each gate at which a thread is held, also for the last one, at which it stays."""
    for gate in turns[:-1]:
        gate.wait_reached()
        tick(run, clock)
        gate.open()
    turns[-1].wait_reached()
    tick(run, clock)


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
    run = start(system, clock=clock, watched=True, watchdog=Watchdog(tick_s=1.0)).up()
    let_through_all_but_the_last(turns, run, clock)
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
    run = start(system, clock=clock, watched=True, watchdog=Watchdog(tick_s=1.0)).up()
    let_through_all_but_the_last(turns, run, clock)
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
    run = start(system, clock=clock, watched=True, watchdog=Watchdog(tick_s=1.0)).up()
    hang.wait_reached()
    tick(run, clock)
    tick(run, clock)
    taking.open()
    taken.wait_for_count(2)
    assert wait_for_stall(run, clock, after_ticks=1).component == "hanging"
    hang.open()

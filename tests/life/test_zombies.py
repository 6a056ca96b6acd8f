"""Threads that were abandoned and wake after all: whatever they then do, nothing is lost, doubled or out of order.

Each test is some dozens of races: a life is held at a gate, abandoned, and let go before, while or after another takes its place.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from minions import Component, Inbox, Outbox, State, System, Table, events
from minions.errors import StaleComponent
from minions.fence import Fence
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Running, Start

STOP_TIMEOUT_S = 10.0
RACES = 120
EVERY = 3
COUNT = RACES * EVERY
WHEN = ("before", "while", "after")

Order = tuple[Any, Any]


class Gates:
    """Holds whoever comes with a number that is a multiple of three, once each."""

    def __init__(self) -> None:
        self._seen: set[int] = (
            set()
        )  # its users come one after the other: of one component only one life begins a number
        self.held: queue.Queue[Gate] = queue.Queue()

    def pass_through(self, value: int) -> None:
        if value % EVERY == 0 and value not in self._seen:
            self._seen.add(value)
            gate = Gate()
            self.held.put(gate)
            gate.pass_through()


def race(run: Running, clock: FakeClock, system: System, victim: Component, gate: Gate, when: str) -> None:
    """Has a life abandoned that is held at a gate, and lets it go; returns when another life is up."""
    gate.wait_reached()
    restarted = system.restart(victim)
    run.reach()
    clock.advance(0.8 * STOP_TIMEOUT_S)
    run.reach()
    letting_go = threading.Thread(target=gate.open)
    if when == "before":
        gate.open()
    elif when == "while":
        letting_go.start()
    clock.advance(0.2 * STOP_TIMEOUT_S)
    restarted.result(PATIENCE_S)
    if when == "while":
        letting_go.join()
    gate.open()


def run_races(start: Start, system: System, victim: Component, gates: Gates, *, races: int = RACES) -> Running:
    """Runs a system until each race is over and all is handled."""
    clock = FakeClock()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S, most_zombies=races)
    for number in range(races):
        race(run, clock, system, victim, gates.held.get(timeout=PATIENCE_S), WHEN[number % len(WHEN)])
    run.wait_until_quiet()
    join_zombies(run)
    return run


def join_zombies(run: Running) -> None:
    """Blocks until those that were abandoned have ended, and what they have told is heard."""
    abandoned = {event.component for event in run.all(events.ComponentAbandoned)}
    current = {thread.ident for thread in run.runtime._threads.values()}
    for thread in threading.enumerate():
        if thread.name.removeprefix("test/") in abandoned and thread.ident not in current:
            thread.join(PATIENCE_S)
    run.reach()


def expect_exactly_once_and_in_order(values: list[int], count: int = COUNT) -> None:
    doubled = [value for value, times in Counter(values).items() if times > 1]
    lost = sorted(set(range(count)) - set(values))
    assert (doubled, lost) == ([], [])
    assert values == list(range(count))


# ---------------------------------------------------------------------- those that take part
def sink(*, durable: bool) -> Any:
    class Sink(Component):
        numbers = Inbox(Number, capacity=10, durable=durable)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.values.append(number.value)

    return Sink()


class Numbers(Component):
    """Sends all numbers, once."""

    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < COUNT:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


def held_source(gates: Gates) -> Any:
    """The same, and is held in the middle of its units."""

    class Source(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.running and self.sent < COUNT:
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1
                    gates.pass_through(self.sent - 1)

    return Source()


def tries_of(component: Any, stray: Callable[[int], None]) -> dict[str, Callable[[], Any]]:
    """What a thread can ask of the runtime on which its life could leave a trace."""
    return {
        "send": lambda: stray(-1),
        "commit": component.commit,
        "sleep": lambda: component.sleep(0.0),
        "after_commit": lambda: component.after_commit(lambda: stray(-2)),
    }


# ---------------------------------------------------------------------- the races
@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("durable", [True, False])
def test_a_source_in_the_middle_of_its_units(system: System, start: Start, durable: bool) -> None:
    gates = Gates()
    source, kept = system.add(held_source(gates), name="source"), system.add(sink(durable=durable), name="sink")
    system.connect(source.out, kept.numbers)
    run = run_races(start, system, source, gates)
    expect_exactly_once_and_in_order(kept.values)
    assert source.sent == COUNT
    assert len(run.all(events.ComponentAbandoned)) >= RACES // 3
    assert run.all(events.ComponentFailed) == []


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("durable", [True, False])
def test_a_handler_with_state_a_table_messages_and_calls_after_commit(
    system: System, start: Start, durable: bool
) -> None:
    gates, called, answers = Gates(), Log(), Log()

    class Worker(Component):
        numbers = Inbox(Number, capacity=10, durable=durable)
        out = Outbox(Number)
        total = State(int)
        seen = Table(int, int)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.total += number.value
            self.seen[number.value] = self.seen.get(number.value, 0) + 1
            self.out.send(number)
            gates.pass_through(number.value)
            self.after_commit(lambda: called.add(number.value))
            if not self._minions.fence.mode < 3:
                self.try_from_another_thread()

        def try_from_another_thread(self) -> None:
            def attempt() -> None:
                for what, ask in tries_of(self, lambda value: self.out.send(Number(value))).items():
                    if what == "after_commit":
                        continue  # on its own thread only
                    try:
                        answers.add((what, ask()))
                    except StaleComponent:
                        answers.add((what, "stale"))

            thread = threading.Thread(target=attempt)
            thread.start()
            thread.join()

    numbers, worker = system.add(Numbers()), system.add(Worker())
    kept = system.add(sink(durable=durable), name="sink")
    system.connect(numbers.out, worker.numbers)
    system.connect(worker.out, kept.numbers)
    run = run_races(start, system, worker, gates)
    expect_exactly_once_and_in_order(kept.values)
    assert worker.total == sum(range(COUNT))
    assert dict(worker.seen.items()) == dict.fromkeys(range(COUNT), 1)
    assert len(run.all(events.ComponentAbandoned)) >= RACES // 3
    dropped = sum(event.functions for event in run.all(events.AfterCommitDropped))
    assert max(Counter(called.entries).values()) == 1
    assert len(called.entries) + dropped >= COUNT
    assert {answer for _, answer in answers.entries} <= {"stale"}


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("durable", [True, False])
def test_a_loop_that_receives_and_tries_everything_when_it_wakes(system: System, start: Start, durable: bool) -> None:
    gates, answers = Gates(), Log()

    class Loop(Component):
        numbers = Inbox(Number, capacity=10, durable=durable)
        out = Outbox(Number)
        total = State(int)

        def run(self) -> None:
            for number in self.numbers:
                self.total += number.value
                self.out.send(number)
                gates.pass_through(number.value)
                if self._minions.fence.mode == 3:
                    self.try_everything()

        def try_everything(self) -> None:
            tries = tries_of(self, lambda value: self.out.send(Number(value)))
            tries["receive"] = lambda: self.numbers.receive(timeout_s=0.0)
            del tries["send"]  # it is part of the unit that never was
            for what, ask in tries.items():
                try:
                    answers.add((what, ask()))
                except StaleComponent:
                    answers.add((what, "stale"))

    numbers, loop = system.add(Numbers()), system.add(Loop())
    kept = system.add(sink(durable=durable), name="sink")
    system.connect(numbers.out, loop.numbers)
    system.connect(loop.out, kept.numbers)
    run = run_races(start, system, loop, gates)
    expect_exactly_once_and_in_order(kept.values)
    assert loop.total == sum(range(COUNT))
    assert len(run.all(events.ComponentAbandoned)) >= RACES // 3
    assert {answer for _, answer in answers.entries} == {"stale"}
    assert {what for what, _ in answers.entries} == {"commit", "sleep", "after_commit", "receive"}


@pytest.mark.usefixtures("hurry")
def test_messages_that_go_along_a_lane(system: System, start: Start) -> None:
    """A source that keeps nothing goes on with the next number; those with which a life was held may be lost, with it."""
    gates, sent, numbers = Gates(), Log(), iter(range(COUNT))

    class Source(Component):
        out = Outbox(Number)

        def run(self) -> None:
            while self.running:
                value = next(numbers, None)
                if value is None:
                    return
                gates.pass_through(value)
                self.out.send(Number(value))
                sent.add(value)

    class Sink(Component):
        numbers = Inbox(Number, capacity=10, durable=False)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.values.append(number.value)

    source, kept = system.add(Source()), system.add(Sink())
    system.connect(source.out, kept.numbers)
    run = run_races(start, system, source, gates)
    values = kept.values
    assert values == sorted(set(values)), "in order, and none twice"
    held = set(range(0, COUNT, EVERY))
    assert set(range(COUNT)) - set(values) <= held, "only what a life was held with"
    abandoned = len(run.all(events.ComponentAbandoned))
    assert abandoned >= RACES // 3
    assert len(values) <= COUNT - RACES // 3, "who was let go afterwards has sent nothing"


@pytest.mark.parametrize("replicas", [3])
@pytest.mark.usefixtures("hurry")
def test_replicas_of_which_some_are_abandoned(system: System, start: Start, replicas: int) -> None:
    gates = Gates()

    class Worker(Component):
        numbers = Inbox(Number, capacity=10)
        out = Outbox(Number)
        handled = State(int)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.out.send(number)
            self.handled += 1
            gates.pass_through(number.value)

    numbers, worker = system.add(Numbers()), system.add(Worker(), replicas=replicas, partition_by="value")
    kept = system.add(sink(durable=True), name="sink")
    system.connect(numbers.out, worker.numbers)
    system.connect(worker.out, kept.numbers)
    clock = FakeClock()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S, most_zombies=COUNT)
    held = 0
    while held < RACES:
        batch = [gates.held.get(timeout=PATIENCE_S)]
        while not gates.held.empty():
            batch.append(gates.held.get())
        held += len(batch)
        for gate in batch:
            gate.wait_reached()
        restarted = system.restart(worker)
        run.reach()
        clock.advance(STOP_TIMEOUT_S)
        restarted.result(PATIENCE_S)
        for gate in batch:
            gate.open()
    run.wait_until_quiet()
    assert sorted(kept.values) == list(range(COUNT))
    assert len(run.all(events.ComponentAbandoned)) >= RACES // 3


# ---------------------------------------------------------------------- the checks see what they are for
@pytest.mark.usefixtures("hurry")
def test_without_the_fence_the_check_finds_what_is_doubled(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = Gates()
    monkeypatch.setattr(Fence, "check_locked", lambda fence: None)
    source, kept = system.add(held_source(gates), name="source"), system.add(sink(durable=True), name="sink")
    system.connect(source.out, kept.numbers)
    run = run_races(start, system, source, gates)
    assert len(run.all(events.ComponentAbandoned)) >= RACES // 3
    with pytest.raises(AssertionError):
        expect_exactly_once_and_in_order(kept.values)


# ---------------------------------------------------------------------- how many there may be
def test_zombies_that_end_are_no_longer_counted(system: System, start: Start) -> None:
    gates = Gates()
    source, kept = system.add(held_source(gates), name="source"), system.add(sink(durable=True), name="sink")
    system.connect(source.out, kept.numbers)
    clock = FakeClock()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S, most_zombies=1)
    for _ in range(5):
        race(run, clock, system, source, gates.held.get(timeout=PATIENCE_S), "after")
        join_zombies(run)
    assert run.runtime.stopped is None
    assert [gone.zombies for gone in run.wait_for(events.ComponentAbandoned, 5)] == [1] * 5
    gates._seen.update(range(COUNT))
    gates.held.get(timeout=PATIENCE_S).open()
    run.wait_until_quiet()
    expect_exactly_once_and_in_order(kept.values)


def test_one_more_than_there_may_be_stops_the_system_and_says_so(system: System, start: Start) -> None:
    gates = Gates()
    source, kept = system.add(held_source(gates), name="source"), system.add(sink(durable=True), name="sink")
    system.connect(source.out, kept.numbers)
    clock = FakeClock()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S, most_zombies=1)
    held = []
    for _ in range(2):
        held.append(gates.held.get(timeout=PATIENCE_S))
        held[-1].wait_reached()
        system.restart(source)
        run.reach()
        clock.advance(STOP_TIMEOUT_S)
        run.wait_for(events.ComponentAbandoned, len(held))
    stopped = run.ended()
    assert stopped.reason == "failed"
    assert "2 threads that could not be ended are alive, and 1 may be (most_zombies)" in stopped.problems
    assert stopped.survivors == ("source",)
    assert [gone.zombies for gone in run.all(events.ComponentAbandoned)] == [1, 2]
    for gate in held:
        gate.open()


# ---------------------------------------------------------------------- what they raise
def test_what_a_thread_raises_that_was_abandoned_is_nobodys_failure(system: System, start: Start) -> None:
    gate, lives = Gate(), iter([1, 2])

    class Failing(Component):
        begun = State(int)

        def run(self) -> None:
            self.begun += 1
            if next(lives) == 1:
                gate.pass_through()
                raise ValueError("too late")
            while self.running:
                self.sleep(1_000.0)

    failing = system.add(Failing())
    clock = FakeClock()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S, forever=True)
    race(run, clock, system, failing, gate, "after")
    join_zombies(run)
    assert run.all(events.ComponentAbandoned)
    assert run.all(events.ComponentFailed) == []
    assert system.status()[0].restarts == 1
    run.runtime.end()
    assert system.crashes() == []

"""What is on the board while a system runs: what user code has in work, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, InboxEmpty, Outbox, Restart, Retry, State, System, events
from minions.flow.board import BOARD_FILE, Board
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.testing import FakeClock
from tests.life.conftest import Gate, Log, Number, Start, dead_letters

AT_ONCE = Backoff(initial_s=0.0)


class Numbers(Component):
    count: int
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            self.out.send(Number(value))


def in_work(system: System) -> list[tuple[str, int, int]]:
    """By life, the first and the last message."""
    left = Board.left(system.folder)
    assert not left.ended
    return [(held.life, held.first, held.last) for held in left.held]


def ended_in_order(system: System) -> bool:
    left = Board.left(system.folder)
    return left.ended and not left.held


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_message_is_in_work_while_its_handler_runs(system: System, start: Start, replicas: int) -> None:
    gate = Gate()

    class Handling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            gate.pass_through()

    numbers, handling = system.add(Numbers(count=9)), system.add(Handling(), replicas=replicas)
    system.connect(numbers.out, handling.numbers)
    run = start(system).up()
    for _ in range(replicas):
        gate.wait_reached()
    names = ["handling"] if replicas == 1 else [f"handling#{number}" for number in range(replicas)]
    held = in_work(system)
    assert [name for name, _, _ in held] == names
    assert sorted(first for _, first, _ in held) == sorted(last for _, _, last in held) == list(range(1, replicas + 1))
    gate.open()
    run.wait_until_quiet()
    assert in_work(system) == []
    run.stop()
    assert ended_in_order(system)


def test_a_message_is_no_longer_in_work_while_what_it_sends_waits_for_room(system: System, start: Start) -> None:
    gate, clock = Gate(), FakeClock()

    class Passing(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.out.send(number)

    class Slow(Component):
        numbers = Inbox(Number, capacity=1)

        @numbers.handler
        def handle(self, number: Number) -> None:
            gate.pass_through()

    numbers, passing, slow = system.add(Numbers(count=2)), system.add(Passing()), system.add(Slow())
    system.connect(numbers.out, passing.numbers)
    system.connect(passing.out, slow.numbers)
    run = start(system, clock=clock).up()
    gate.wait_reached()
    clock.wait_for_waiters()  # for room, which it asks for again after a millisecond
    assert in_work(system) == [("slow", 1, 1)]
    gate.open()
    run.wait_until_quiet()


def test_what_a_loop_has_received_is_in_work_until_the_unit_ends_and_not_while_it_waits(
    system: System, start: Start
) -> None:
    gates = [Gate() for _ in range(4)]
    clock = FakeClock()

    class Looping(Component):
        numbers = Inbox(Number)
        got = State(list[int])

        def run(self) -> None:
            with self.unit():
                for _ in range(2):
                    self.got.append(self.numbers.receive().value)
                gates[0].pass_through()  # two in work
                self.got.append(self.numbers.receive().value)
                gates[1].pass_through()  # three
                with pytest.raises(InboxEmpty):
                    self.numbers.receive(timeout_s=5.0)  # waits, with three in hand
                gates[2].pass_through()  # three
            gates[3].pass_through()  # none

    numbers, looping = system.add(Numbers(count=3)), system.add(Looping())
    system.connect(numbers.out, looping.numbers)
    run = start(system, clock=clock)
    for gate, expected in zip(gates, [(1, 2), (1, 3), (1, 3), None], strict=True):
        if gate is gates[2]:
            clock.wait_for_waiters()
            assert in_work(system) == []
            clock.advance(seconds=5.0)
        gate.wait_reached()
        assert in_work(system) == ([] if expected is None else [("looping", *expected)])
        gate.open()
    run.stop()
    assert ended_in_order(system)
    assert looping.got == [0, 1, 2]


def test_each_turn_of_a_loop_has_its_own_message_in_work(system: System, start: Start) -> None:
    gates = [Gate() for _ in range(3)]

    class Looping(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            for number in self.numbers:
                gates[number.value].pass_through()

    numbers, looping = system.add(Numbers(count=3)), system.add(Looping())
    system.connect(numbers.out, looping.numbers)
    run = start(system).up()
    for number, gate in enumerate(gates, 1):
        gate.wait_reached()
        assert in_work(system) == [("looping", number, number)]
        gate.open()
    run.wait_until_quiet()
    assert in_work(system) == []


@pytest.mark.parametrize("kind", ["handler", "loop", "unit"])
def test_a_message_that_failed_is_in_work_again_only_when_it_is_tried_again(
    system: System, start: Start, kind: str
) -> None:
    clock, fails = FakeClock(), itertools.count()

    class Handling(Component):
        numbers = Inbox(Number, retry=Retry(backoff=Backoff(initial_s=5.0)))

        @numbers.handler
        def handle(self, number: Number) -> None:
            if next(fails) == 0:
                raise ValueError("once")

    class Looping(Component):
        numbers = Inbox(Number, retry=Retry(backoff=Backoff(initial_s=5.0)))

        def run(self) -> None:
            while True:
                if kind == "unit":
                    with self.unit():
                        self.numbers.receive()
                        self.fail_once()
                else:
                    self.numbers.receive()
                    self.fail_once()

        def fail_once(self) -> None:
            if next(fails) == 0:
                raise ValueError("once")

    numbers = system.add(Numbers(count=1))
    failing = system.add(Handling() if kind == "handler" else Looping(), name="failing")
    system.connect(numbers.out, failing.numbers)
    run = start(system, clock=clock)
    run.wait_for(events.ComponentFailed)
    assert in_work(system) == []
    clock.advance(seconds=10.0)
    run.wait_until_quiet()
    assert in_work(system) == []


def test_what_a_unit_had_received_that_never_was_is_not_in_work(system: System, start: Start) -> None:
    gate = Gate()

    class Looping(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            with suppress(ValueError), self.unit():
                self.numbers.receive()
                raise ValueError("not now")
            gate.pass_through()
            self.numbers.receive()

    numbers, looping = system.add(Numbers(count=1)), system.add(Looping())
    system.connect(numbers.out, looping.numbers)
    run = start(system).up()
    gate.wait_reached()
    assert in_work(system) == []
    gate.open()
    run.wait_until_quiet()


def test_an_abandoned_thread_has_nothing_in_work_and_its_end_is_in_order(
    new_system: Callable[[], System], start: Start
) -> None:
    gate, over = Gate(), Log()

    class Deaf(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            gate.pass_through()
            over.add("over")

    def declare() -> System:
        system = new_system()
        numbers, deaf = system.add(Numbers(count=1)), system.add(Deaf())
        system.connect(numbers.out, deaf.numbers)
        return system

    clock, system = FakeClock(), declare()
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    assert in_work(system) == [("deaf", 1, 1)]
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=10.0)
    assert run.ended().survivors == ("deaf",)
    assert ended_in_order(system)
    gate.open()
    over.wait_for_count(1)
    assert ended_in_order(system), "also after it has woken"
    again = start(declare(), forever=False)
    again.ended()
    assert again.all(events.MessageOutlivedProcess) == []


def test_what_earlier_processes_died_of_is_told_and_set_aside_before_anything_runs(
    new_system: Callable[[], System], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk_before_the_count_is_gone = Log()

    def make(folder: Path, *arguments: Any) -> Board:
        on_disk_before_the_count_is_gone.add(len(dead_letters(folder)))
        return Board.make(folder, *arguments)

    monkeypatch.setattr("minions.flow.storage.Board", SimpleNamespace(left=Board.left, make=make))

    class Later(Component):
        """Leaves its messages to the next start."""

        numbers = Inbox(Number, retry=Retry(attempts=1, then="stop"))

        @numbers.handler
        def refuse(self, number: Number) -> None:
            raise ValueError("later")

    class Taking(Component):
        numbers = Inbox(Number, retry=Retry(deaths=2))
        taken = State(list[int])

        @numbers.handler
        def take(self, number: Number) -> None:
            self.taken.append(number.value)

    system = new_system()
    numbers, later = system.add(Numbers(count=3)), system.add(Later(), name="taking")
    system.connect(numbers.out, later.numbers)
    left = start(system, forever=False).ended().left_messages
    assert left

    leave_as_if_dead_of_the_first(system, deaths_before=0)
    system = new_system()
    numbers, later = system.add(Numbers(count=0)), system.add(Later(), name="taking")
    system.connect(numbers.out, later.numbers)
    run = start(system, forever=False)
    run.ended()
    [told] = run.all(events.MessageOutlivedProcess)
    assert (told.component, told.deaths) == ("taking", 1)
    assert run.all(events.MessageSetAside) == []
    assert Board.left(system.folder).deaths == {"taking.numbers": {1: 1}}

    leave_as_if_dead_of_the_first(system, deaths_before=1)
    system = new_system()
    numbers, taking = system.add(Numbers(count=0)), system.add(Taking())
    system.connect(numbers.out, taking.numbers)
    run = start(system, forever=False)
    run.ended()
    [aside] = run.all(events.MessageSetAside)
    assert (aside.component, aside.message_id, aside.attempts, aside.kept) == ("taking", told.message_id, 2, True)
    assert aside.error == "the process died 2 times in a row while this message was in work"
    kinds = [type(event) for event in run.told.entries]
    assert kinds.index(events.MessageSetAside) < kinds.index(events.ComponentStarted)
    [opened] = run.all(events.StateOpened)
    assert opened.waiting_messages == left - 1
    [letter] = system.dead_letters()
    assert (letter.message_id, letter.attempts, letter.traceback) == (told.message_id, 2, "")
    assert system.message_of(letter) == Number(0)
    assert taking.taken == list(range(1, left))
    assert on_disk_before_the_count_is_gone.entries == [0, 0, 1]


def leave_as_if_dead_of_the_first(system: System, deaths_before: int) -> None:
    """A board as a process leaves it that died with message 1 of `taking.numbers` in work."""
    board = Board.make(system.folder, [("taking", "taking.numbers")], {"taking.numbers": {1: deaths_before}}, {})
    channel = Channel("taking.numbers", 0, codec=codec_of(int))
    board.marks("taking", [channel]).received(channel, 1)
    written = (system.folder / BOARD_FILE).read_bytes()
    board.close()
    (system.folder / BOARD_FILE).write_bytes(written)


def test_a_component_that_fails_by_itself_dies_of_no_message(system: System, start: Start) -> None:
    fails = itertools.count()

    class Failing(Component):
        numbers = Inbox(Number)

        def on_start(self) -> None:
            if next(fails) < 3:
                raise OSError("not yet")

        @numbers.handler
        def handle(self, number: Number) -> None: ...

    numbers, failing = system.add(Numbers(count=1)), system.add(Failing(), restart=Restart(backoff=AT_ONCE))
    system.connect(numbers.out, failing.numbers)
    run = start(system, forever=False)
    assert run.ended().problems == ()
    assert ended_in_order(system)

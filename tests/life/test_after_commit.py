"""What is called after a commit: when, on which thread, in which unit of work, and when never."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from minions import (
    CommitFailed,
    Component,
    Inbox,
    Outbox,
    State,
    System,
    UnitTooLarge,
    UsageError,
    events,
)
from minions.flow import rows
from minions.flow.journal import Journal
from minions.flow.store import read_rows
from minions.testing import FakeClock
from tests.life.committing import RETRY, fed, wait_for_epoch, wait_until_asleep
from tests.life.conftest import PATIENCE_S, Commits, Gate, Log, Number, Start

# When -----------------------------------------------------------------------------------------------------------------


def test_what_handlers_hand_over_is_called_in_order_on_their_thread_once_their_units_are_on_disk(
    system: System, start: Start, commits: Commits
) -> None:
    told = Log()

    class Telling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add((number.value, "first", threading.current_thread().name)))
            self.after_commit(lambda: told.add((number.value, "second", threading.current_thread().name)))
            told.add((number.value, "handled", threading.current_thread().name))

    fed(system, Telling(), 3)
    run = start(system, forever=False)
    commits.wait_reached()
    assert [what for _, what, _ in told.wait_for_count(3)] == ["handled"] * 3, "the disk has nothing yet"
    commits.open()
    assert run.ended().problems == ()
    assert told.entries[3:] == [(value, what, "test/telling") for value in range(3) for what in ("first", "second")]
    assert {name for _, _, name in told.entries} == {"test/telling"}


def test_what_a_unit_hands_over_waits_for_that_unit_and_not_for_those_behind_it(
    system: System, start: Start, commits: Commits
) -> None:
    told, begun, gate = Log(), Gate(), Gate()

    class Telling(Component):
        def run(self) -> None:
            begun.pass_through()  # until what the life began with is on disk
            for value in range(2):
                with self.unit():
                    self.count += 1
                    self.after_commit(partial(told.add, value))
                gate.pass_through()
            self.sleep(1e6)

        count = State(int)

    system.add(Telling())
    run = start(system, clock=FakeClock()).up()
    begun.wait_reached()
    commits.let_one()
    wait_for_epoch(run.runtime.journal, 1)
    commits.wait_reached()
    begun.open()
    commits.wait_reached()  # of the first unit, and nothing else
    gate.wait_reached()
    gate.open()
    gate.wait_reached()
    commits.let_one()
    assert told.wait_for_count(1) == [0]
    commits.wait_reached()  # of the second
    assert told.entries == [0]
    commits.let_one()
    assert told.wait_for_count(2) == [0, 1]
    commits.open()
    run.stop()


@pytest.mark.parametrize("where", ["sleep", "receive", "the mailbox"])
def test_a_component_that_sleeps_is_woken_by_the_commit_and_by_nothing_else(
    system: System, start: Start, commits: Commits, where: str
) -> None:
    told, handed, clock = Log(), Log(), FakeClock()

    class Sleeping(Component):
        turns = State(int)

        def run(self) -> None:
            with self.unit():
                self.turns += 1
                self.after_commit(lambda: told.add(threading.current_thread().name))
            while self.running:
                self.sleep(1e6)

    class Receiving(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            for number in self.numbers:
                self.after_commit(lambda: told.add(threading.current_thread().name))
                handed.add(number.value)

    class Handling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add(threading.current_thread().name))
            handed.add(number.value)

    if where == "sleep":
        system.add(Sleeping(), name="asleep")
    else:
        fed(system, Receiving() if where == "receive" else Handling(), name="asleep")
    run = start(system, clock=clock, watched=True).up()
    commits.wait_reached()
    if where != "sleep":
        handed.wait_for_count(1)
    wait_until_asleep(run)
    assert told.entries == []
    commits.open()
    assert told.wait_for_count(1) == ["test/asleep"]
    assert run.stop().problems == ()


@pytest.mark.parametrize("door", ["send", "unit", "commit", "after_commit"])
def test_a_loop_calls_what_is_ready_when_it_comes_to_the_runtime(system: System, start: Start, door: str) -> None:
    told = Log()

    class Looping(Component):
        out = Outbox(Number)
        turns = State(int)

        def run(self) -> None:
            self.turns = 1
            self.after_commit(lambda: told.add("called"))
            told.add("handed over")
            wait_until_committed()
            match door:
                case "send":
                    self.out.send(Number(1))
                case "unit":
                    with self.unit():
                        told.add("in the unit")
                case "commit":
                    self.commit()
                case _:
                    self.after_commit(lambda: None)
            told.add("went on")

    class Kept(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def keep(self, number: Number) -> None: ...

    looping, kept = system.add(Looping()), system.add(Kept())
    system.connect(looping.out, kept.numbers)
    committed = Gate()

    def wait_until_committed() -> None:
        committed.pass_through()

    run = start(system, forever=False)
    committed.wait_reached()
    wait_for_epoch(run.runtime.journal, 1)
    committed.open()
    assert run.ended().problems == ()
    assert [entry for entry in told.entries if entry != "in the unit"] == ["handed over", "called", "went on"]
    assert told.entries.index("called") == (2 if door == "unit" else 1)


def test_nothing_is_called_inside_a_unit(system: System, start: Start) -> None:
    told, held = Log(), Gate()

    class Looping(Component):
        turns = State(int)

        def run(self) -> None:
            self.turns = 1
            self.after_commit(lambda: told.add("called"))
            held.pass_through()  # until it is on disk
            with self.unit():
                self.sleep(0.0)
                self.commit()
                told.add("unit")
            told.add("after")

    system.add(Looping())
    run = start(system, forever=False)
    held.wait_reached()
    wait_for_epoch(run.runtime.journal, 1)
    held.open()
    assert run.ended().problems == ()
    assert told.entries == ["unit", "called", "after"]


def test_on_start_hands_over_too_and_a_loop_that_receives(system: System, start: Start) -> None:
    told = Log()

    class Receiving(Component):
        numbers = Inbox(Number)
        started = State(int)

        def on_start(self) -> None:
            self.started += 1
            self.after_commit(lambda: told.add("started"))

        def run(self) -> None:
            for number in self.numbers:
                self.after_commit(partial(told.add, number.value))

    fed(system, Receiving(), 3)
    assert start(system, forever=False).ended().problems == ()
    assert told.entries == ["started", 0, 1, 2]


def test_in_a_loop_the_state_as_it_is_is_on_disk_when_it_is_called(
    system: System, start: Start, commits: Commits
) -> None:
    told, begun, held = Log(), Gate(), Gate()

    class Looping(Component):
        turns = State(int)

        def run(self) -> None:
            begun.pass_through()  # until the unit of on_start is being written
            self.turns = 7
            self.after_commit(self.tell)
            held.pass_through()  # until that is on disk
            self.sleep(0.0)
            told.add("went on")

        def tell(self) -> None:
            [(key, body)] = list(read_rows(system.folder, rows.STATES))
            told.add(rows.states_of(key, body)["turns"][-2:-1])

    system.add(Looping())
    run = start(system, forever=False)
    commits.wait_reached()
    begun.open()
    held.wait_reached()
    commits.let_one()
    commits.wait_reached()  # of the state as it was handed over with
    commits.open()
    wait_for_epoch(run.runtime.journal, 2)
    held.open()
    assert run.ended().problems == ()
    assert told.entries == [b"7", "went on"]


@pytest.mark.parametrize("way", ["handler", "run"])
def test_without_anything_durable_it_is_called_right_after_the_unit(system: System, start: Start, way: str) -> None:
    told = Log()

    class Sending(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(2):
                if way == "run":
                    self.after_commit(partial(told.add, f"called {value}"))
                self.out.send(Number(value))
                if way == "run":
                    told.add(f"sent {value}")

    class Plain(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if way == "handler":
                self.after_commit(lambda: told.add(f"called {number.value}"))
                told.add(f"handled {number.value}")

    sending, plain = system.add(Sending()), system.add(Plain())
    system.connect(sending.out, plain.numbers)
    assert start(system, forever=False).ended().problems == ()
    assert not system.folder.exists()
    if way == "handler":
        assert told.entries == ["handled 0", "called 0", "handled 1", "called 1"]
    else:
        assert told.entries == ["called 0", "sent 0", "called 1", "sent 1"]


def test_it_is_called_between_two_messages_that_were_taken_together(
    system: System, start: Start, commits: Commits
) -> None:
    told, got, all_sent, on_disk = Log(), Log(), Gate(), Gate()

    class Source(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            for value in range(5):
                self.sent += 1
                self.out.send(Number(value))
            all_sent.open()
            self.commit()
            on_disk.open()

    class Plain(Component):
        numbers = Inbox(Number, durable=False, retry=RETRY)
        out = Outbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 0:
                all_sent.pass_through()
                self.after_commit(lambda: told.add("called"))
            if number.value == 2:
                commits.open()
                on_disk.pass_through()
            told.add(number.value)
            if number.value == 3:
                self.out.send(number)
                if told.entries.count(3) == 1:
                    raise ValueError("only the second time")

    class Last(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def handle(self, number: Number) -> None:
            got.add(number.value)

    source, plain, last = system.add(Source()), system.add(Plain()), system.add(Last())
    system.connect(source.out, plain.numbers)
    system.connect(plain.out, last.numbers)
    start(system, forever=False).ended()
    assert told.entries == [0, 1, 2, "called", 3, 3, 4]
    assert got.entries == [3]


# Units that fail ------------------------------------------------------------------------------------------------------


def test_what_a_unit_that_fails_has_handed_over_is_forgotten(system: System, start: Start) -> None:
    told, tries = Log(), itertools.count()

    class Failing(Component):
        numbers = Inbox(Number, retry=RETRY)

        @numbers.handler
        def handle(self, number: Number) -> None:
            attempt = next(tries)
            self.after_commit(lambda: told.add(attempt))
            if attempt < 2:
                raise ValueError("not yet")

    fed(system, Failing())
    assert start(system, forever=False).ended().problems == ()
    assert told.entries == [2]


def test_a_unit_of_a_loop_that_fails_and_is_caught_has_handed_over_nothing(system: System, start: Start) -> None:
    told = Log()

    class Looping(Component):
        turns = State(int)

        def run(self) -> None:
            with suppress(ValueError), self.unit():
                self.after_commit(lambda: told.add("never"))
                raise ValueError("in the middle")
            with self.unit():
                self.turns += 1
                self.after_commit(lambda: told.add("whole"))

    system.add(Looping())
    run = start(system)
    run.wait_for(events.ComponentFinished)
    run.wait_until_quiet()
    assert run.stop().problems == ()
    assert told.entries == ["whole"]


def test_when_a_later_handler_fails_what_whole_units_handed_over_is_called_before_the_next_life(
    system: System, start: Start, commits: Commits
) -> None:
    told, fails = Log(), itertools.count()

    class Failing(Component):
        numbers = Inbox(Number, retry=RETRY)
        handled = State(list[int])

        def on_start(self) -> None:
            told.add("a life")

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.handled.append(number.value)
            if number.value == 1 and next(fails) == 0:
                told.add("fails")
                raise ValueError("one")
            self.after_commit(lambda: told.add((number.value, list(self.handled))))

    failing = fed(system, Failing(), 2)
    run = start(system, forever=False)
    commits.wait_reached()
    told.wait_for(lambda entries: "fails" in entries)
    run.reach()
    assert told.entries == ["a life", "fails"], "its units are not on disk"
    assert run.all(events.ComponentFailed) == []
    commits.open()
    assert run.ended().problems == ()
    assert told.entries == ["a life", "fails", (0, [0]), "a life", (1, [0, 1])], "and with the state of whole units"
    assert failing.handled == [0, 1]


def test_what_waits_when_nothing_can_be_written_any_more_is_dropped_with_a_word(
    system: System, start: Start, commits: Commits
) -> None:
    told, handled = Log(), Log()

    class Telling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add(number.value))
            handled.add(number.value)

        def on_stop(self) -> None:
            told.add("on_stop")

    fed(system, Telling(), 2)
    run = start(system, watched=True)
    commits.wait_reached()
    handled.wait_for_count(2)
    wait_until_asleep(run)  # both units are whole
    commits.error = CommitFailed("the disk is gone", permanent=True)
    commits.open()
    stopped = run.ended()
    assert stopped.reason == "failed"
    assert told.entries == ["on_stop"]
    assert run.all(events.AfterCommitDropped) == [events.AfterCommitDropped("telling", 1, 2)]


# Bounds and refusals --------------------------------------------------------------------------------------------------


def test_a_component_that_outruns_the_disk_waits_for_it(
    system: System, start: Start, commits: Commits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minions.life.after_commit.MOST_WAITING", 3)
    told = Log()

    class Handling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add(f"called {number.value}"))
            told.add(f"handled {number.value}")

    fed(system, Handling(), 10)
    run = start(system, forever=False)
    commits.wait_reached()
    told.wait_for_count(3)
    wait_until_it_waits_for_a_commit(run.runtime.journal)
    assert told.entries == [f"handled {value}" for value in range(3)]
    commits.open()
    assert run.ended().problems == ()
    assert [entry for entry in told.entries if entry.startswith("called")] == [f"called {value}" for value in range(10)]


def wait_until_it_waits_for_a_commit(journal: Journal) -> None:
    """Blocks until somebody stands in the line of those who wait for a commit."""
    waited = threading.Event()

    class Line(list[Any]):
        def append(self, entry: Any) -> None:
            super().append(entry)
            waited.set()

    with journal.turnstile, journal.lock:
        line = journal.commits._line
        journal.commits._line = Line(line)
        if line:
            return
    assert waited.wait(PATIENCE_S)


def test_one_unit_may_not_hand_over_more_than_may_wait(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minions.life.after_commit.MOST_WAITING", 3)
    errors, told = Log(), Log()

    class Handling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            for value in range(3):
                self.after_commit(partial(told.add, value))
            with pytest.raises(UnitTooLarge) as caught:
                self.after_commit(lambda: told.add("too many"))
            errors.add(str(caught.value))

    fed(system, Handling())
    assert start(system, forever=False).ended().problems == ()
    assert told.entries == [0, 1, 2]
    [error] = errors.entries
    assert error.startswith("handling: one unit of work hands over more than 3 functions to after_commit()")


async def asynchronous() -> None: ...


async def asynchronous_generator() -> Any:
    yield


def generator() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (None, "after_commit(None) is not a function: hand over a function without arguments"),
        (asynchronous, "is async, and would never be run"),
        (asynchronous_generator, "is async, and would never be run"),
        (generator, "is a generator, and would never be run"),
    ],
)
def test_what_cannot_be_called_is_refused_where_it_is_handed_over(
    system: System, start: Start, function: Any, said: str
) -> None:
    errors = Log()

    class Handing(Component):
        def run(self) -> None:
            with pytest.raises(UsageError) as caught:
                self.after_commit(function)
            errors.add(str(caught.value))

    system.add(Handing())
    assert start(system, forever=False).ended().problems == ()
    [error] = errors.entries
    assert error.startswith("handing: after_commit(")
    assert said in error


def test_another_thread_may_not_hand_over(system: System, start: Start) -> None:
    errors = Log()

    class Handing(Component):
        def run(self) -> None:
            thread = threading.Thread(target=self.try_it)
            thread.start()
            thread.join()

        def try_it(self) -> None:
            with pytest.raises(UsageError) as caught:
                self.after_commit(print)
            errors.add(str(caught.value))

    system.add(Handing())
    assert start(system, forever=False).ended().problems == ()
    assert errors.entries == [
        "handing: after_commit() works on the component's own thread only; other threads may send, sleep and commit"
    ]


def test_a_message_goes_to_another_replica_while_one_is_busy_with_a_function(
    system: System, start: Start, commits: Commits
) -> None:
    gate, handled, first, second = Gate(), Log(), Gate(), Gate()

    class Sending(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value, gate in enumerate((first, second)):
                gate.pass_through()
                self.out.send(Number(value))

    class Replica(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            handled.add((number.value, threading.current_thread().name.removeprefix("test/")))
            if number.value == 0:
                self.after_commit(gate.pass_through)

    sending, replica = system.add(Sending()), system.add(Replica(), replicas=2)
    system.connect(sending.out, replica.numbers)
    run = start(system, watched=True).up()
    wait_until_asleep(run, "sending")
    first.open()  # the message wakes the one that is asked first
    [(_, busy)] = handled.wait_for_count(1)
    wait_until_asleep(run, "sending")
    commits.open()
    gate.wait_reached()  # one replica is busy with a function
    second.open()  # and the next message comes
    assert [name == busy for _, name in handled.wait_for_count(2)] == [True, False]
    gate.open()
    assert run.stop().problems == ()

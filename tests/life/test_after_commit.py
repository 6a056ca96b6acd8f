"""What is called after a commit: when, on which thread, in which unit of work, and when never."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from minions import (
    Backoff,
    CommitFailed,
    Component,
    Inbox,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    Table,
    UnitTooLarge,
    UsageError,
    events,
)
from minions.fence import Fence
from minions.flow import rows
from minions.flow.journal import Journal
from minions.flow.parker import Parker
from minions.flow.store import Store, read_rows
from minions.flow.unit import Unit
from minions.life.life import Life
from minions.life.runtime import Runtime
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start

AT_ONCE = Backoff(initial_s=0.0)
RETRY = Retry(backoff=AT_ONCE)
ONCE_MORE = Restart(failures=1, backoff=AT_ONCE)


class Commits:
    """The disk, held until the test lets it write."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()
        self.error: Exception | None = None

    def pass_through(self) -> None:
        self._reached.release()
        if not self._open.is_set():
            assert self._permits.acquire(timeout=PATIENCE_S), "nobody lets the writer write"
        if self.error is not None:
            raise self.error

    def wait_reached(self) -> None:
        """Blocks until the writer has one more commit to make."""
        assert self._reached.acquire(timeout=PATIENCE_S), "there is nothing to commit"

    def let_one(self) -> None:
        self._permits.release()

    def open(self) -> None:
        """Lets everything be written, from now on."""
        self._open.set()
        self._permits.release()


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Commits]:
    held, commit = Commits(), Store.commit

    def wait_and_commit(store: Store, *change: Any) -> Any:
        held.pass_through()
        return commit(store, *change)

    monkeypatch.setattr(Store, "commit", wait_and_commit)
    yield held
    held.open()


class Numbers(Component):
    """Sends 0 to count - 1, each once, and finishes, or sleeps for ever."""

    count: int
    ends: bool = True
    sent = State(int)
    out = Outbox(Number)

    def run(self) -> None:
        while self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1
        while self.running and not self.ends:
            self.sleep(1e6)


def fed(system: System, component: Component, count: int = 1, *, ends: bool = True, **options: Any) -> Any:
    """A component that gets the numbers from 0 to count - 1."""
    numbers = system.add(Numbers(count=count, ends=ends))
    system.add(component, **options)
    system.connect(numbers.out, component.numbers)  # type: ignore[attr-defined]
    return component


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
    run = start(system, clock=clock).up()
    commits.wait_reached()
    if where == "sleep":
        clock.wait_for_waiters()
    else:
        handed.wait_for_count(1)
        wait_until_asleep(run.runtime, "asleep")
    assert told.entries == []
    commits.open()
    assert told.wait_for_count(1) == ["test/asleep"]
    assert run.stop().problems == ()


def wait_until_asleep(runtime: Runtime, component: str) -> None:
    """Blocks until a component sleeps in its mailbox."""
    journal, mailbox = runtime.journal, runtime._threads[component].life.mailbox
    tell_supervisor, idle = journal.on_idle, threading.Semaphore(0)

    def tell_both() -> None:
        idle.release()
        tell_supervisor()

    def is_asleep() -> bool:
        with journal.turnstile, journal.lock:
            return mailbox.asleep

    journal.on_idle = tell_both
    journal.watch_idle(True)
    while not is_asleep():
        assert idle.acquire(timeout=PATIENCE_S), "it does not sleep"
    journal.on_idle = tell_supervisor


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


def wait_for_epoch(journal: Journal, epoch: int) -> None:
    """Blocks until everything so far is on disk, and an epoch of that number with it."""
    parker, fence = Parker(), Fence("the test", 1)
    while (ticket := journal.commit_ticket(parker)) is not None:
        while journal.waits_for_commit(ticket, fence, None):
            parker.park(PATIENCE_S)
    assert journal.durable_epoch >= epoch


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
    run = start(system)
    commits.wait_reached()
    handled.wait_for_count(2)
    wait_until_asleep(run.runtime, "telling")  # both units are whole
    commits.error = CommitFailed("the disk is gone", permanent=True)
    commits.open()
    stopped = run.ended()
    assert stopped.reason == "failed"
    assert told.entries == ["on_stop"]
    assert run.all(events.AfterCommitDropped) == [events.AfterCommitDropped("telling", 1, 2)]


# What is called is a unit of work -------------------------------------------------------------------------------------


class Echo(Component):
    """Sends and counts after each commit what it has got."""

    numbers = Inbox(Number)
    out = Outbox(Number)
    echoed = State(list[int])
    entries = Table(int, list[str])
    fails: bool = False

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.entries[number.value] = ["handled"]
        self.after_commit(lambda: self.echo(number.value))

    def echo(self, value: int) -> None:
        self.entries[value].append("echoed")
        self.entries[10 * value] = []
        self.entries.pop(10 * value - 10, None)
        self.out.send(Number(10 * value))
        self.echoed.append(value)
        if self.fails and value == 1:
            self.fails = False
            raise ValueError("one")
        self.out.send(Number(10 * value + 1))


class Kept(Component):
    """Keeps what it gets."""

    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        self.values.append(number.value)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_function_sends_and_changes_is_whole_or_never_was(system: System, start: Start, fails: bool) -> None:
    echo = fed(system, Echo(fails=fails), 3, restart=ONCE_MORE)
    kept = system.add(Kept())
    system.connect(echo.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    done = [0, 2] if fails else [0, 1, 2]
    assert echo.echoed == done
    both = ["handled", "echoed"]
    assert dict(echo.entries) == ({0: [], 1: ["handled"], 2: both, 20: []} if fails else {1: both, 2: both, 20: []})
    assert kept.values == [value for number in done for value in (10 * number, 10 * number + 1)]
    assert len(run.all(events.ComponentFailed)) == fails


def test_what_a_function_hands_over_follows_the_commit_of_its_own_unit(
    system: System, start: Start, commits: Commits
) -> None:
    told, begun, held = Log(), Gate(), Gate()

    class Chained(Component):
        turns = State(list[str])

        def run(self) -> None:
            begun.pass_through()  # until what the life began with is on disk
            with self.unit():
                self.turns.append("run")
                self.after_commit(self.first)
            held.pass_through()  # until that is on disk
            for _ in range(2):
                self.sleep(0.0)
            told.add("went on")

        def first(self) -> None:
            self.turns.append("first")
            self.after_commit(lambda: told.add("second"))
            told.add("first")

    system.add(Chained())
    run = start(system, forever=False)
    for number, gate in enumerate((begun, held), 1):
        gate.wait_reached()
        commits.wait_reached()
        commits.let_one()
        wait_for_epoch(run.runtime.journal, number)
        gate.open()
    assert told.wait_for_count(2) == ["first", "went on"]
    commits.open()
    assert run.ended().problems == ()
    assert told.entries == ["first", "went on", "second"]


def test_the_message_id_of_a_function_is_that_of_the_message_in_whose_unit_it_was_handed_over(
    system: System, start: Start
) -> None:
    told = Log()

    class Asking(Component):
        numbers = Inbox(Number)
        started = State(int)

        def on_start(self) -> None:
            self.started += 1
            self.after_commit(self.ask_in_vain)

        def ask_in_vain(self) -> None:
            with pytest.raises(UsageError, match="no message in work"):
                _ = self.message_id
            told.add("in vain")

        @numbers.handler
        def handle(self, number: Number) -> None:
            told.add(("handled", number.value, self.message_id))
            self.after_commit(lambda: self.call(number))

        def call(self, number: Number) -> None:
            told.add(("called", number.value, self.message_id))
            self.after_commit(lambda: told.add(("called again", number.value, self.message_id)))

    fed(system, Asking(), 5)
    assert start(system, forever=False).ended().problems == ()
    assert "in vain" in told.entries
    tuples = [entry for entry in told.entries if entry != "in vain"]
    ids = {value: message_id for what, value, message_id in tuples if what == "handled"}
    assert len(set(ids.values())) == 5
    for again in ("called", "called again"):
        assert {value: message_id for what, value, message_id in tuples if what == again} == ids


def test_a_function_works_on_the_state_of_the_partition_that_it_belongs_to(system: System, start: Start) -> None:
    class PerKey(Component):
        numbers = Inbox(Number)
        handled = State(list[int])
        called = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.handled.append(number.value)
            self.after_commit(lambda: self.called.append(number.value))

    numbers = system.add(Numbers(count=40))
    per_key = system.add(PerKey(), replicas=2, partition_by=lambda number: number.value % 4)
    system.connect(numbers.out, per_key.numbers)
    run = start(system, forever=False)
    assert run.ended().problems == ()
    partitions = [states for states in run.runtime.journal.states.values() if "handled" in states]
    assert len(partitions) > 1
    assert all(states["called"] == states["handled"] for states in partitions)


# Functions that fail --------------------------------------------------------------------------------------------------


def test_a_function_that_raises_is_a_failure_of_the_component_and_its_message_stays_handled(
    system: System, start: Start
) -> None:
    ids, told = Log(), Log()

    class Failing(Component):
        numbers = Inbox(Number, retry=RETRY)
        handled = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.handled.append(number.value)
            ids.add(self.message_id)
            self.after_commit(lambda: self.tell(number.value))

        def tell(self, value: int) -> None:
            told.add(value)
            raise ConnectionError(f"no way {value}")

    failing = fed(system, Failing(), 1, restart=Restart(failures=3, backoff=AT_ONCE))
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert (failing.handled, told.entries) == ([0], [0])
    [failed] = run.all(events.ComponentFailed)
    assert (failed.where, failed.message_id, failed.attempt) == ("after_commit", ids.entries[0], 0)
    assert failed.error == "ConnectionError: no way 0"
    assert failed.traceback.splitlines()[1].endswith(", in <lambda>")
    assert failed.restart_in_s == 0.0
    assert run.all(events.MessageSetAside) == []


def test_the_system_is_not_taken_for_finished_before_the_supervisor_has_heard_of_the_failure(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, forget, told = Gate(), Life.forget, Log()

    def be_slow_to_report(life: Life) -> None:
        forget(life)
        if life.name == "failing" and life.fence.epoch == 1:
            gate.pass_through()

    monkeypatch.setattr(Life, "forget", be_slow_to_report)

    class Failing(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(self.fail)
            self.after_commit(lambda: told.add("called"))

        def fail(self) -> None:
            raise ConnectionError("no way")

    fed(system, Failing(), 1, restart=ONCE_MORE)
    run = start(system, forever=False)
    gate.wait_reached()
    assert not run.runtime.wait_until_quiet(0.0)
    gate.open()
    assert run.ended().problems == ()
    assert told.entries == ["called"]
    assert [started.epoch for started in run.all(events.ComponentStarted) if started.component == "failing"] == [1, 2]


def test_functions_that_go_on_failing_stop_the_system_as_its_restart_says(system: System, start: Start) -> None:
    class Failing(Component):
        numbers = Inbox(Number, retry=RETRY)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(self.tell)
            self.commit()  # so that each is called before the next is handled

        def tell(self) -> None:
            raise ConnectionError("no way")

    fed(system, Failing(), 9, restart=Restart(failures=2, backoff=AT_ONCE))
    run = start(system)
    stopped = run.ended()
    assert stopped.reason == "failed"
    assert stopped.problems == ("failing failed in after_commit: ConnectionError: no way",)
    assert [gave_up.failures for gave_up in run.all(events.GaveUp)] == [3]


def test_those_behind_a_function_that_raises_are_called_and_told_of_when_they_raise_too(
    system: System, start: Start, commits: Commits
) -> None:
    told = Log()

    class Failing(Component):
        numbers = Inbox(Number, retry=RETRY)

        @numbers.handler
        def handle(self, number: Number) -> None:
            told.add(f"handled {number.value} {self.message_id}")
            self.after_commit(lambda: self.tell(number.value))

        def tell(self, value: int) -> None:
            told.add(value)
            if value < 3:
                raise ConnectionError(f"no way {value}")

    fed(system, Failing(), 4, restart=ONCE_MORE)
    run = start(system, forever=False)
    commits.wait_reached()
    handled = told.wait_for_count(4)
    commits.open()
    assert run.ended().problems == ()
    assert told.entries[4:] == [0, 1, 2, 3]
    assert [failed.error for failed in run.all(events.ComponentFailed)] == ["ConnectionError: no way 0"]
    assert [(failed.component, failed.error, failed.message_id) for failed in run.all(events.AfterCommitFailed)] == [
        ("failing", f"ConnectionError: no way {value}", handled[value].split()[2]) for value in (1, 2)
    ]


def test_a_loop_that_catches_what_a_function_raises_goes_on_with_its_last_whole_state(
    system: System, start: Start
) -> None:
    told, held = Log(), Gate()

    class Catching(Component):
        turns = State(list[str])

        def run(self) -> None:
            self.after_commit(self.fail)
            held.pass_through()  # until everything so far is on disk
            self.turns.append("run")
            with pytest.raises(ConnectionError):
                self.sleep(0.0)
            told.add(list(self.turns))
            with self.unit():
                self.turns.append("on")

        def fail(self) -> None:
            self.turns.append("fail")
            raise ConnectionError("no way")

    catching = system.add(Catching())
    run = start(system, forever=False)
    held.wait_reached()
    wait_for_epoch(run.runtime.journal, 1)
    held.open()
    assert run.ended().problems == ()
    assert run.all(events.ComponentFailed) == []
    assert told.entries == [["run"]]
    assert catching.turns == ["run", "on"]


def test_a_later_failure_of_a_loop_is_not_put_down_to_a_function_that_it_had_caught(
    system: System, start: Start
) -> None:
    class Catching(Component):
        turns = State(int)

        def run(self) -> None:
            self.turns += 1
            self.after_commit(self.fail)
            with pytest.raises(ConnectionError):
                self.commit()
            if self.turns == 1:
                raise ValueError("something else")

        def fail(self) -> None:
            raise ConnectionError("no way")

    system.add(Catching(), restart=ONCE_MORE)
    run = start(system, forever=False)
    assert run.ended().problems == ()
    assert [(failed.where, failed.error) for failed in run.all(events.ComponentFailed)] == [
        ("run", "ValueError: something else")
    ]


def test_what_a_function_raised_does_not_keep_the_instance_from_being_freed(system: System, start: Start) -> None:
    instances: list[weakref.ref[Component]] = []
    alive = Log()

    class Failing(Component):
        numbers = Inbox(Number)

        def on_start(self) -> None:
            alive.add([instance() is not None for instance in instances])
            instances.append(weakref.ref(self))

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(self.fail)

        def fail(self) -> None:
            raise ConnectionError("no way")

    fed(system, Failing(), 1, restart=ONCE_MORE)
    gc.disable()
    try:
        assert start(system, forever=False).ended().problems == ()
    finally:
        gc.enable()
    assert alive.entries == [[], [False]]


# Ends -----------------------------------------------------------------------------------------------------------------


def test_an_orderly_end_waits_for_the_commit_and_calls_what_waits_before_on_stop(
    system: System, start: Start, commits: Commits
) -> None:
    told = Log()

    class Ending(Component):
        numbers = Inbox(Number)
        ended = State(int)

        @numbers.handler
        def handle(self, number: Number) -> None:
            told.add("handled")
            self.after_commit(lambda: told.add("called"))

        def on_stop(self) -> None:
            told.add("on_stop")
            self.ended += 1
            self.after_commit(lambda: told.add("called after on_stop"))

    fed(system, Ending(), ends=False)
    run = start(system, clock=FakeClock()).up()
    commits.wait_reached()
    told.wait_for_count(1)
    run.runtime.stop("stopped")
    run.reach()
    assert told.entries == ["handled"]
    commits.open()
    assert run.ended().problems == ()
    assert told.entries == ["handled", "called", "on_stop", "called after on_stop"]
    assert run.all(events.AfterCommitDropped) == []


def test_a_source_that_has_finished_calls_what_waits_and_is_not_finished_before(
    system: System, start: Start, commits: Commits
) -> None:
    told = Log()

    class Source(Component):
        turns = State(int)

        def run(self) -> None:
            self.turns += 1
            self.after_commit(lambda: told.add("called"))

    system.add(Source())
    run = start(system, forever=False)
    commits.wait_reached()
    run.reach()
    assert run.all(events.ComponentFinished) == []
    commits.open()
    assert run.ended().problems == ()
    assert told.entries == ["called"]


def test_the_system_is_not_taken_for_finished_while_a_function_waits_or_is_called(
    system: System, start: Start, commits: Commits
) -> None:
    gate, handled = Gate(), Log()

    class Slow(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(self.call)
            handled.add(number.value)

        def call(self) -> None:
            gate.pass_through()
            self.out.send(Number(5))

    slow, kept = fed(system, Slow()), system.add(Kept())
    system.connect(slow.out, kept.numbers)
    run = start(system, forever=False)
    handled.wait_for_count(1)
    wait_until_asleep(run.runtime, "slow")
    assert not run.runtime.wait_until_quiet(0.0), "a function waits"
    commits.open()
    gate.wait_reached()
    assert not run.runtime.wait_until_quiet(0.0), "a function is being called"
    assert run.all(events.ComponentStopped) == []
    gate.open()
    assert run.ended().reason == "finished"
    assert kept.values == [5]


def test_the_system_is_not_taken_for_finished_between_a_unit_and_what_it_handed_over(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, submit, told = Gate(), Journal.submit, Log()

    def submit_and_wait(journal: Journal, unit: Unit, *rest: Any) -> Any:
        ticket = submit(journal, unit, *rest)
        if unit.settles:
            gate.pass_through()
        return ticket

    monkeypatch.setattr(Journal, "submit", submit_and_wait)

    class Telling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add("called"))

    fed(system, Telling())
    run = start(system, forever=False)
    run.wait_for(events.ComponentFinished)  # the source
    gate.wait_reached()  # and its message is settled
    assert not run.runtime.wait_until_quiet(0.0)
    gate.open()
    assert run.ended().problems == ()
    assert told.entries == ["called"]


def test_one_that_is_asked_again_to_stop_ends_without_calling_what_waits_and_says_so(
    system: System, start: Start, commits: Commits
) -> None:
    clock, told = FakeClock(), Log()

    class Ending(Component):
        turns = State(int)

        def run(self) -> None:
            self.turns += 1
            for _ in range(2):
                self.after_commit(lambda: told.add("called"))
            told.add("waits")
            self.sleep(1e6)

        def on_stop(self) -> None:
            told.add("on_stop")

    system.add(Ending())
    run = start(system, clock=clock, stop_timeout_s=10.0).up()
    commits.wait_reached()
    clock.wait_for_waiters()
    run.runtime.stop("stopped")
    run.reach()
    assert told.entries == ["waits"]
    clock.advance(seconds=2.0)  # asked again
    told.wait_for_count(2)
    commits.open()
    assert run.ended().problems == ()
    assert told.entries == ["waits", "on_stop"]
    assert run.all(events.AfterCommitDropped) == [events.AfterCommitDropped("ending", 1, 2)]


def test_a_life_that_was_abandoned_calls_nothing_any_more(system: System, start: Start, commits: Commits) -> None:
    clock, gate, told = FakeClock(), Gate(), Log()

    class Stuck(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(lambda: told.add("called"))
            if number.value == 1:
                gate.pass_through()

    fed(system, Stuck(), 2, ends=False)
    run = start(system, clock=clock, stop_timeout_s=10.0).up()
    gate.wait_reached()
    [stuck] = [thread for thread in threading.enumerate() if thread.name == "test/stuck"]
    run.runtime.stop("stopped")
    run.wait_for(events.ComponentStopped)  # the source
    clock.advance(seconds=8.0)
    run.reach()
    clock.advance(seconds=2.0)
    run.wait_for(events.ComponentAbandoned)
    commits.open()
    wait_for_epoch(run.runtime.journal, 1)
    gate.open()
    stuck.join(PATIENCE_S)
    assert run.ended().survivors == ("stuck",)
    assert told.entries == []


def test_a_life_that_was_abandoned_in_one_function_does_not_call_the_next(system: System, start: Start) -> None:
    clock, gate, told = FakeClock(), Gate(), Log()

    class Stuck(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.after_commit(gate.pass_through)
            self.after_commit(lambda: told.add("called"))

    fed(system, Stuck(), 1, ends=False)
    run = start(system, clock=clock, stop_timeout_s=10.0).up()
    gate.wait_reached()
    [stuck] = [thread for thread in threading.enumerate() if thread.name == "test/stuck"]
    run.runtime.stop("stopped")
    run.wait_for(events.ComponentStopped)  # the source
    clock.advance(seconds=8.0)
    run.reach()
    clock.advance(seconds=2.0)
    assert run.ended().survivors == ("stuck",)
    gate.open()
    stuck.join(PATIENCE_S)
    assert told.entries == []


def test_a_function_that_fails_at_the_end_is_a_problem_of_the_run_and_nothing_begins_anew(
    system: System, start: Start
) -> None:
    told = Log()

    class Late(Component):
        turns = State(int)

        def run(self) -> None:
            told.add("run")
            self.turns += 1
            self.after_commit(self.fail)

        def fail(self) -> None:
            raise ConnectionError("no way")

        def on_stop(self) -> None:
            told.add("on_stop")

    system.add(Late(), restart=ONCE_MORE)
    run = start(system, forever=False)
    assert run.ended().problems == ("late failed in after_commit: ConnectionError: no way",)
    assert told.entries == ["run"]


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
        line = journal._commit_line
        journal._commit_line = Line(line)
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
    run = start(system).up()
    for name in [name for name in run.runtime._threads if name.startswith("replica")]:
        wait_until_asleep(run.runtime, name)
    first.open()  # the message wakes the one that is asked first
    [(_, busy)] = handled.wait_for_count(1)
    wait_until_asleep(run.runtime, busy)
    commits.open()
    gate.wait_reached()  # one replica is busy with a function
    second.open()  # and the next message comes
    assert [name == busy for _, name in handled.wait_for_count(2)] == [True, False]
    gate.open()
    assert run.stop().problems == ()

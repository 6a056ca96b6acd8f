"""What is called after a commit is a unit of work itself, and may fail."""

from __future__ import annotations

import gc
import weakref

import pytest

from minions import (
    Component,
    Inbox,
    Restart,
    State,
    System,
    UsageError,
    events,
)
from minions.life.life import Life
from tests.life.committing import AT_ONCE, ONCE_MORE, RETRY, Echo, fed, wait_for_epoch
from tests.life.conftest import Commits, Gate, Log, Number, Start
from tests.life.counting import Kept, StayingNumbers

# What is called is a unit of work -------------------------------------------------------------------------------------


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

    numbers = system.add(StayingNumbers(count=40))
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

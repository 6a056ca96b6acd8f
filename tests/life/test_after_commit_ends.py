"""What is called after a commit when lives end, and when the system does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from minions import (
    Component,
    Inbox,
    Outbox,
    State,
    System,
    events,
)
from minions.errors import StaleComponent
from minions.fence import Fence
from minions.flow.journal import Journal
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.life.after_commit import AfterCommit, Call
from minions.testing import FakeClock
from tests.life.committing import ONCE_MORE, fed, wait_for_epoch, wait_until_asleep
from tests.life.conftest import PATIENCE_S, Commits, Gate, Log, Number, Start
from tests.life.counting import Kept

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
    run = start(system, forever=False, watched=True)
    handled.wait_for_count(1)
    wait_until_asleep(run)
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


# Races that are held open ---------------------------------------------------------------------------------------------
class Functions:
    """What one life was handed, on the test's own thread; nothing here is durable, so that all of it is ready at once."""

    def __init__(self, call: Callable[[Functions], None]) -> None:
        self.called = 0
        journal, fence, parker = Journal(FakeClock(), durable=False), Fence("c", 1), Parker()

        def one(_: Call) -> None:
            self.called += 1
            call(self)

        self.calls = AfterCommit(journal, fence, parker, one, lambda: None)

    def hand_over(self) -> None:
        self.calls.hand_over(lambda: None, "", None)
        self.calls.unit_ends()
        self.calls.unit_is_whole()


@pytest.mark.parametrize(("begins", "dropped"), [(False, 2), (True, 1)])
def test_a_function_counts_as_dropped_unless_it_was_begun(begins: bool, dropped: int) -> None:
    def stale(functions: Functions) -> None:
        functions.calls.has_begun = begins
        raise StaleComponent("c, life 1: this life is over")

    functions = Functions(stale)
    functions.hand_over()
    functions.hand_over()
    with pytest.raises(StaleComponent):
        functions.calls.call_ready()
    assert functions.calls.drop() == dropped


def test_what_was_told_of_as_dropped_is_not_called_by_a_thread_that_has_just_looked() -> None:
    functions = Functions(lambda functions: None)
    functions.hand_over()
    assert functions.calls.give_up() == 1
    functions.calls.call_ready()  # its fence is not cut yet, as far as it has seen
    assert functions.called == 0
    functions.hand_over()
    assert functions.calls.drop() == 1, "of which nobody was told"

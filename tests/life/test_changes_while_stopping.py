"""What becomes of wishes, restarts and pauses when the system stops."""

from __future__ import annotations

import pytest

from minions.life import commands
from minions.life.actions import AskToStop, End, Launch, WatchIdle
from minions.life.commands import Idle, Stop
from minions.life.lifecycle import Phase
from tests.life.bench import doings
from tests.life.changes import STOPPING, up

# While the system stops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [commands.Start, commands.Restart, commands.Pause, commands.Resume])
def test_nothing_more_is_wished_of_a_system_that_stops(kind: type[commands.Change]) -> None:
    bench = up()
    bench.tell(Stop("stopped"))

    assert bench.wish(kind, "worker1") == []
    assert bench.answered() == STOPPING
    assert bench.phases()["worker1"] is Phase.RUNNING


def test_a_component_is_stopped_with_the_system_that_stops() -> None:
    bench = up()
    bench.halt("source")
    first = bench.promise
    bench.tell(Stop("stopped"))
    assert bench.answers == {}

    assert bench.halt("worker1") == []
    assert doings(bench.stop_of("source")) == [AskToStop("worker1")]
    assert bench.answers == {first: ""}
    bench.stop_of("worker1")
    assert bench.answered() == ""


def test_open_wishes_are_answered_when_the_system_stops() -> None:
    bench = up()
    bench.restart("source")
    bench.halt("worker1")
    bench.start("worker1")
    assert bench.answered() is None

    bench.tell(Stop("stopped"))

    assert sorted(bench.answers.values()) == [STOPPING, STOPPING, "worker1 was started again"]


def test_a_start_of_what_was_stopped_is_refused_because_the_system_stops() -> None:
    bench = up()
    bench.halt("worker1")
    bench.stop_of("worker1")
    bench.tell(Stop("stopped"))
    bench.start("worker1")
    assert bench.answered() == STOPPING


@pytest.mark.parametrize("kind", [commands.Start, commands.Halt, commands.Restart, commands.Pause, commands.Resume])
def test_what_is_wished_after_the_end_is_answered(kind: type[commands.Change]) -> None:
    bench = up({"source": []})
    bench.tell(Stop("stopped"))
    bench.stop_of("source")

    assert bench.wish(kind) == []
    assert bench.answered() == "the system has ended"
    assert bench.supervision.handle(kind(), bench.now_s) == []


def test_a_system_with_a_stopped_component_stops_without_it() -> None:
    bench = up()
    bench.halt("worker1")
    bench.stop_of("worker1")

    assert doings(bench.tell(Stop("stopped"))) == [WatchIdle(), AskToStop("source"), AskToStop("worker2")]
    bench.stop_of("source")
    assert bench.stop_of("worker2")[-1] == End("stopped", (), ())


@pytest.mark.parametrize("rises", [False, True])
def test_a_system_stops_in_the_middle_of_a_restart(rises: bool) -> None:
    bench = up()
    bench.busy = {"worker1", "worker2"}
    bench.restart()
    bench.stop_of("source")
    bench.stop_of("worker1")
    if rises:
        bench.stop_of("worker2")
        bench.start_of("worker2")

    actions = doings(bench.tell(Stop("stopped")))

    assert bench.phases()["source"] is Phase.STOPPED, "it would only send more"
    assert rises or Launch("worker1", 2) in actions, "what waits for it is handled"
    assert bench.phases()["worker1"] is Phase.STARTING
    bench.start_of("worker1")
    if not rises:
        assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
        bench.start_of("worker2")
    bench.busy = set()
    assert AskToStop("worker1") in bench.tell(Idle())
    assert AskToStop("worker2") in bench.stop_of("worker1")
    assert bench.stop_of("worker2")[-1] == End("stopped", (), ())
    assert bench.epoch("source") == 1


def test_what_waits_to_come_back_has_a_last_life_when_the_system_stops() -> None:
    bench = up()
    bench.restart()
    for name in ("source", "worker1", "worker2"):
        bench.stop_of(name)
    assert bench.phases()["worker1"] is Phase.WAITING

    assert Launch("worker1", 2) in bench.tell(Stop("stopped"))


def test_a_failure_in_on_stop_is_a_problem_also_of_a_life_that_followed_another() -> None:
    bench = up({"source": []})
    bench.restart("source")
    bench.stop_of("source")
    bench.start_of("source")
    bench.tell(Stop("stopped"))

    bench.fail("source", "on_stop")
    assert bench.problems == ("source failed in on_stop: ValueError: bad",)


@pytest.mark.parametrize("down", ["unwanted", "paused"])
def test_what_would_handle_nothing_gets_no_last_life(down: str) -> None:
    bench = up()
    bench.fail("worker1", "handle")
    bench.pause("worker1") if down == "paused" else bench.halt("source", "worker1")
    assert bench.phases()["worker1"] is Phase.BACKOFF

    actions = doings(bench.tell(Stop("stopped")))

    assert not any(isinstance(action, Launch) for action in actions)
    assert bench.phases()["worker1"] is Phase.STOPPED


def test_a_message_that_fails_where_nobody_wants_it_handled_waits_for_the_next_start() -> None:
    bench = up()
    bench.halt("source", "worker1")
    bench.busy = {"worker1"}
    bench.tell(Stop("stopped"))

    bench.fail_message("worker1")
    assert bench.phases()["worker1"] is Phase.STOPPED


def test_a_message_that_fails_in_what_is_paused_waits_for_the_next_start() -> None:
    bench = up()
    bench.pause("worker1")
    bench.tell(Stop("stopped"))

    assert not any(isinstance(action, Launch) for action in bench.fail_message("worker1"))
    assert bench.phases()["worker1"] is Phase.STOPPED


def test_what_restarts_when_its_turn_to_stop_comes_and_nothing_waits_does_not_come_back() -> None:
    bench = up()
    bench.restart("worker2")
    bench.tell(Stop("stopped"))
    bench.stop_of("source")
    bench.stop_of("worker1")

    assert bench.stop_of("worker2")[-1] == End("stopped", (), ())


def test_a_component_that_is_paused_when_the_system_stops_is_not_waited_for() -> None:
    bench = up()
    bench.pause("worker1")
    bench.busy = {"worker1"}
    bench.tell(Stop("stopped"))

    assert doings(bench.stop_of("source")) == [AskToStop("worker1")]

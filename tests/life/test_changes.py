"""What is wished of components while the system runs, as tables: one command in, actions out, without a thread."""

from __future__ import annotations

import sys

import pytest

from minions import Restart, events
from minions.life import commands
from minions.life.actions import Abandon, AskToStop, Hold, Launch, Quieted, Throw, WatchIdle
from minions.life.commands import Begin, Finished, Idle, Started
from minions.life.lifecycle import Phase
from tests.life.bench import DEADLINES, Bench, doings, told
from tests.life.changes import CHAIN, asks, up

# Stopping a component -------------------------------------------------------------------------------------------------


def test_a_component_is_stopped_without_draining_and_stays_down() -> None:
    bench = up()

    assert bench.halt("worker1") == asks("worker1")
    assert bench.answered() is None
    assert told(bench.stop_of("worker1")) == [events.ComponentStopped("worker1", 1)]
    assert bench.answered() == ""
    assert bench.pass_s(1_000.0) == []
    assert bench.phases() == {"worker2": Phase.RUNNING, "worker1": Phase.STOPPED, "source": Phase.RUNNING}


def test_producers_are_stopped_before_consumers() -> None:
    bench = up()

    assert bench.halt("worker2", "worker1", "source") == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == asks("worker2")
    assert bench.answered() is None
    bench.stop_of("worker2")
    assert bench.answered() == ""


def test_one_that_was_taken_out_of_a_stop_again_is_not_asked_when_its_turn_would_have_come() -> None:
    bench = up({"source": ["worker1", "worker2"], "worker1": [], "worker2": []})
    assert bench.halt("source", "worker1", "worker2") == asks("source")
    bench.start("worker1")
    assert doings(bench.stop_of("source")) == asks("worker2")
    assert bench.phases()["worker1"] is Phase.RUNNING


def test_components_of_one_level_are_stopped_at_once() -> None:
    bench = up({"source1": ["worker"], "source2": ["worker"], "worker": []}, replicas={"worker": 2})

    assert bench.halt() == asks("source1", "source2")
    assert doings(bench.stop_of("source2")) == []
    assert doings(bench.stop_of("source1")) == asks("worker#0", "worker#1")


def test_a_cycle_is_stopped_at_once() -> None:
    bench = up({"source": ["worker1"], "worker1": ["worker2"], "worker2": ["worker1"]})

    assert bench.halt("worker1", "worker2") == asks("worker1", "worker2")


def test_a_component_that_starts_is_asked_at_once() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())

    assert bench.halt("worker2") == [*asks("worker2"), Launch("worker1", 1)], "nobody waits for what nobody wants"
    assert bench.start_of("worker2") == [], "it had not heard of it yet"
    assert doings(bench.stop_of("worker2")) == []
    assert bench.answered() == ""


def test_what_waits_to_start_never_does() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())

    assert bench.halt("source", "worker1") == []
    assert bench.answered() == ""
    assert doings(bench.start_of("worker2")) == []


def test_what_waits_for_its_next_life_gets_none() -> None:
    bench = up()
    bench.fail("source")

    assert bench.halt("source") == []
    assert bench.answered() == ""
    assert bench.pass_s(1_000.0) == []
    assert bench.phases()["source"] is Phase.STOPPED


def test_a_second_wish_to_stop_changes_nothing() -> None:
    bench = up()
    bench.halt("source")
    first = bench.promise

    assert bench.halt("source") == []
    bench.stop_of("source")
    assert bench.answers == {first: "", bench.promise: ""}
    assert bench.halt("source") == []
    assert bench.answered() == ""


def test_a_component_that_lingers_is_asked_again_thrown_at_and_abandoned() -> None:
    bench = up()
    bench.halt("source")

    assert bench.pass_s(DEADLINES.ask_again_s) == [AskToStop("source", again=True)]
    assert bench.pass_s(DEADLINES.throw_s - DEADLINES.ask_again_s) == [Throw("source")]
    assert bench.pass_s(DEADLINES.abandon_s - DEADLINES.throw_s) == [Abandon("source", 1)]
    assert bench.answered() == ""
    assert bench.supervision.zombies == 1
    bench.tell(commands.ZombieEnded("source", 1))
    assert bench.supervision.zombies == 0


def test_a_component_that_fails_while_it_is_stopped_stays_down_and_escalates_nothing() -> None:
    for where in ("run", "on_stop"):
        bench = up(restart=Restart(failures=0))
        bench.halt("source", "worker1")

        assert doings(bench.fail("source", where)) == asks("worker1")
        assert bench.stop_of("worker1")
        assert bench.answered() == ""


def test_a_component_that_fails_for_the_last_time_before_its_turn_to_stop_escalates_nothing() -> None:
    bench = up(restart=Restart(failures=0))
    bench.halt("source", "worker1")

    [failed] = told(bench.fail("worker1", "handle"))

    assert isinstance(failed, events.ComponentFailed)
    assert failed.restart_in_s is None
    assert bench.phases()["worker1"] is Phase.STOPPED
    bench.stop_of("source")
    assert bench.answered() == ""
    assert bench.supervision.stopping is None


def test_run_stays_while_a_component_is_down_that_may_be_started_again() -> None:
    bench = up()
    bench.halt("worker2")
    bench.stop_of("worker2")
    assert doings(bench.tell(Finished("source", 1), Idle())) == []
    bench.start("worker2")
    assert doings(bench.start_of("worker2"))[-2:] == [Quieted(True), AskToStop("worker1")]


def test_a_source_that_has_finished_may_be_stopped_and_that_keeps_nothing_up() -> None:
    bench = up({"source1": ["worker"], "source2": ["worker"], "worker": []})
    bench.tell(Finished("source1", 1))

    assert bench.halt("source1") == []
    assert bench.answered() == ""
    assert Quieted(True) in bench.tell(Finished("source2", 1))


# Starting a component -------------------------------------------------------------------------------------------------


def test_what_was_stopped_is_started_again() -> None:
    bench = up()
    bench.halt("worker1")
    bench.stop_of("worker1")

    assert bench.start("worker1") == [Launch("worker1", 2)]
    assert bench.answered() is None
    assert told(bench.start_of("worker1")) == [events.ComponentStarted("worker1", 2)]
    assert bench.answered() == ""
    assert bench.status("worker1").restarts == 1


def test_a_wish_to_start_what_is_up_is_fulfilled() -> None:
    bench = up()
    assert bench.start() == []
    assert bench.answered() == ""


def test_a_source_that_has_finished_runs_again() -> None:
    bench = up({"source1": ["worker"], "source2": ["worker"], "worker": []})
    bench.tell(Finished("source1", 1))

    assert bench.start("source1") == [Launch("source1", 2)]
    bench.start_of("source1")
    assert bench.answered() == ""
    assert doings(bench.tell(Finished("source2", 1))) == [], "the other is at work"
    assert AskToStop("worker") in bench.tell(Finished("source1", 2))


def test_what_was_never_up_is_waited_for_by_its_producers() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())
    bench.halt()
    bench.stop_of("worker2")

    assert bench.start() == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 1)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 1)]
    assert events.SystemStarted(3) not in told(bench.start_of("source"))


def test_that_the_system_is_up_is_told_once_what_was_started_after_all_is_up() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.tell(Begin())
    bench.halt("source")
    bench.start("source")

    assert told(bench.start_of("worker")) == [events.ComponentStarted("worker", 1)]
    assert told(bench.start_of("source")) == [events.ComponentStarted("source", 1), events.SystemStarted(2)]


def test_a_start_takes_back_a_stop_that_is_under_way() -> None:
    bench = up()
    bench.halt("source")
    stopped = bench.promise

    assert bench.start("source") == []
    assert bench.answers == {stopped: "source was started again"}
    assert doings(bench.stop_of("source")) == [Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""


@pytest.mark.parametrize("kind", [commands.Start, commands.Restart])
def test_a_start_takes_back_a_stop_whose_turn_has_not_come(kind: type[commands.Change]) -> None:
    bench = up()
    bench.halt("source", "worker1")

    again = doings(bench.wish(kind, "worker1"))
    bench.stop_of("source")

    if kind is commands.Start:
        assert again == []
        assert bench.phases()["worker1"] is Phase.RUNNING
        assert bench.answered() == ""
    else:
        assert again == asks("worker1")
        assert doings(bench.stop_of("worker1")) == [Launch("worker1", 2)]
        assert bench.answered() is None
        bench.start_of("worker1")
        assert bench.answered() == ""
    assert bench.phases()["source"] is Phase.STOPPED


def test_a_start_takes_back_a_stop_of_what_waits_for_its_next_life() -> None:
    bench = up()
    bench.fail("worker1")
    bench.halt("source", "worker1")
    assert bench.pass_s(1.0) == [], "its moment comes while the source is still asked"

    assert bench.start("worker1") == [Launch("worker1", 2)]
    bench.start_of("worker1")
    assert bench.answered() == ""


def test_a_start_takes_back_a_stop_of_what_waits_to_start() -> None:
    sends_to = {"source": [], "worker1": ["worker2"], "worker2": []}
    bench = Bench(sends_to)
    bench.tell(Begin())
    bench.start_of("source")
    bench.halt("worker1", "worker2")
    assert bench.phases()["worker1"] is Phase.WAITING, "it has its turn after what has a thread"

    bench.start("worker1")
    bench.stop_of("worker2")

    assert bench.phases() == {"source": Phase.RUNNING, "worker2": Phase.STOPPED, "worker1": Phase.STARTING}


def test_a_start_leaves_what_restarts_where_it_is() -> None:
    bench = up(restart={"worker2": Restart(with_dependents=True)})
    bench.restart("worker2")
    assert bench.phases()["source"] is Phase.STOPPING
    assert bench.answered() is None, "worker2 is up, and still in the life that it had"

    assert bench.start("source") == []
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == asks("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""


def test_a_stop_takes_back_a_start() -> None:
    bench = up()
    bench.halt("source")
    bench.stop_of("source")
    bench.start("source")
    started = bench.promise

    assert bench.halt("source") == asks("source")
    assert bench.answers[started] == "source was stopped"
    assert doings(bench.stop_of("source")) == []
    assert bench.answered() == ""


def test_a_start_of_what_fails_waits_for_a_life_that_is_up() -> None:
    bench = up()
    bench.halt("source")
    bench.stop_of("source")
    bench.start("source")
    bench.fail("source", "on_start")
    assert bench.answered() is None

    assert bench.pass_s(1.0) == [Launch("source", 3)]
    bench.start_of("source")
    assert bench.answered() == ""


def test_a_start_forgets_earlier_failures() -> None:
    bench = up(restart=Restart(failures=1))
    bench.fail("source")
    bench.halt("source")
    bench.start("source")
    bench.start_of("source")

    bench.fail("source")
    assert bench.supervision.stopping is None


# Pausing --------------------------------------------------------------------------------------------------------------


def test_a_paused_component_is_held_and_goes_on_when_nobody_pauses_it() -> None:
    bench = up()

    actions = bench.pause("worker1")
    assert doings(actions) == [Hold("worker1", True)]
    assert told(actions) == [events.ComponentPaused("worker1", 1, "operator")]
    assert bench.answered() == ""
    assert bench.phases()["worker1"] is Phase.PAUSED
    assert bench.pause("worker1") == [], "once"
    assert bench.pause("worker1", by="watchdog") == []
    assert bench.resume("worker1") == []
    assert bench.phases()["worker1"] is Phase.PAUSED
    actions = bench.resume("worker1", by="watchdog")
    assert doings(actions) == [Hold("worker1", False)]
    assert told(actions) == [events.ComponentResumed("worker1", 1)]
    assert bench.resume("worker1", by="watchdog") == []
    assert bench.phases()["worker1"] is Phase.RUNNING


def test_a_component_that_starts_is_held_before_it_is_up() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())

    assert doings(bench.pause("worker2")) == [Hold("worker2", True)]
    assert bench.pause("worker2", by="watchdog") == bench.resume("worker2", by="watchdog") == []
    bench.pause("worker2")
    assert bench.phases()["worker2"] is Phase.STARTING
    assert bench.answered() is None
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 1)], "what is paused is up"
    assert bench.answered() == ""
    assert bench.phases()["worker2"] is Phase.PAUSED


def test_a_pause_that_is_over_before_the_start_is() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())
    bench.pause("worker2")

    assert doings(bench.resume("worker2")) == [Hold("worker2", False)]
    bench.start_of("worker2")
    assert bench.phases()["worker2"] is Phase.RUNNING


@pytest.mark.parametrize("way", ["waiting", "backoff", "stopped", "restarted", "finished"])
def test_the_next_life_of_what_is_paused_begins_paused(way: str) -> None:
    bench = (
        Bench({"source": ["worker"], "worker": []}) if way == "waiting" else up({"source": ["worker"], "worker": []})
    )
    match way:
        case "waiting":
            bench.tell(Begin())
        case "backoff":
            bench.fail("source")
        case "stopped":
            bench.halt("source")
            bench.stop_of("source")
        case "restarted":
            bench.restart("source")
        case _:
            bench.busy = {"worker"}
            bench.tell(Finished("source", 1))
    assert doings(bench.pause("source")) == []
    assert bench.answered() == ""

    match way:
        case "waiting":
            actions = bench.start_of("worker")
        case "backoff":
            actions = bench.pass_s(1.0)
        case "restarted":
            actions = bench.stop_of("source")
        case _:
            actions = bench.start("source")

    assert doings(actions) == [Launch("source", bench.epoch("source"), held=True)]
    bench.start_of("source")
    assert bench.phases()["source"] is Phase.PAUSED


def test_a_resume_while_it_restarts_lets_the_next_life_go() -> None:
    bench = up()
    bench.pause("source")
    bench.restart("source")

    assert bench.resume("source") == [], "the life that ends is not held back, and not let go either"
    assert doings(bench.stop_of("source")) == [Launch("source", 2)]


def test_a_paused_source_keeps_the_system_up_and_a_paused_worker_with_nothing_waiting_does_not() -> None:
    bench = up({"source": ["worker"], "worker": []})
    bench.pause()
    assert doings(bench.tell(Idle())) == []
    bench.busy = {"worker"}
    bench.resume("source")
    assert doings(bench.tell(Finished("source", 1), Idle())) == [WatchIdle()], "a message waits for the worker"

    bench.busy = set()
    assert Quieted(True) in bench.tell(Idle())


def test_a_paused_component_may_fail_and_finish() -> None:
    bench = up()
    bench.pause("source", "worker1")
    bench.fail("worker1", "handle")
    assert bench.pass_s(1.0) == [Launch("worker1", 2, held=True)]
    bench.tell(Finished("source", 1))
    assert bench.phases()["source"] is Phase.FINISHED


# Figures --------------------------------------------------------------------------------------------------------------


def test_a_status_says_where_a_component_is() -> None:
    bench = up()
    bench.pause("worker2")
    bench.now_s += 5.0
    bench.fail("source")
    bench.now_s += 0.04

    worker, source = bench.status("worker2").at(bench.now_s), bench.status("source").at(bench.now_s)

    assert (worker.phase, worker.epoch, worker.paused_by, worker.next_life_in_s) == (
        Phase.PAUSED,
        1,
        ("operator",),
        None,
    )
    assert worker.up_for_s == pytest.approx(5.04)
    assert (source.phase, source.restarts, source.up_for_s) == (Phase.BACKOFF, 0, None)
    assert source.next_life_in_s == pytest.approx(0.06)
    assert bench.status("source").at(bench.now_s + 1.0).next_life_in_s == 0.0


def test_what_is_kept_about_moments_and_waits_does_not_grow_with_what_is_wished() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())
    for _ in range(200):
        bench.halt("source", "worker1")
        bench.start("source", "worker1")
    bench.start_of("worker2")
    bench.start_of("worker1")
    bench.start_of("source")
    for _ in range(200):
        bench.restart("source")
        bench.stop_of("source")
        bench.start_of("source")
        bench.pass_s(0.001)

    supervision = bench.supervision
    assert len(supervision._due) < 50
    assert sum(map(len, supervision._held.values())) < 10
    assert len(supervision._rounds) == len(supervision._promises) == 0


def test_a_producer_that_never_was_up_waits_for_a_consumer_that_somebody_has_started_meanwhile() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.tell(commands.Halt(("worker",)))
    assert doings(bench.tell(Begin())) == [Launch("source", 1)]  # nobody waits for what is not wanted
    bench.fail("source", "on_start")
    assert doings(bench.tell(commands.Start(("worker",)))) == [Launch("worker", 1)]

    assert doings(bench.pass_s(10.0)) == []
    assert doings(bench.tell(Started("worker", 1))) == [Launch("source", 2)]


# How much it costs ----------------------------------------------------------------------------------------------------


def calls_of_a_restart_of_all(pairs: int) -> int:
    """How many calls the supervision makes to restart so many sources with a worker each, and to stop and start them."""
    bench = Bench(
        {**{f"source{i}": [f"worker{i}"] for i in range(pairs)}, **{f"worker{i}": [] for i in range(pairs)}},
        forever=True,
    )
    bench.bring_up()
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        for wish in (bench.restart, bench.halt, bench.start):
            wish()
            while moving := {
                name: phase for name, phase in bench.phases().items() if phase in (Phase.STOPPING, Phase.STARTING)
            }:
                for name, phase in moving.items():
                    (bench.stop_of if phase is Phase.STOPPING else bench.start_of)(name)
            assert bench.answered() == ""
    finally:
        sys.setprofile(None)
    return calls


def test_what_a_wish_costs_grows_with_the_number_of_those_whom_it_names_and_no_faster() -> None:
    assert calls_of_a_restart_of_all(120) < 3 * calls_of_a_restart_of_all(60)

"""When a component comes back and when it does not: giving up, isolation, kinds of restart, stalls."""

from __future__ import annotations

from typing import Literal

import pytest

from minions import Backoff, Restart, events
from minions.life import commands
from minions.life.actions import Abandon, Action, AskToStop, End, Launch, Quieted, WatchIdle
from minions.life.commands import Begin, Due, Finished, Started, Stop
from minions.life.lifecycle import Phase
from tests.life.bench import DEADLINES, Bench, doings, told
from tests.life.changes import CHAIN, ISOLATING, asks, up

# Giving up ------------------------------------------------------------------------------------------------------------


def test_what_is_given_up_is_isolated_with_what_sends_to_it() -> None:
    sends_to = {"source1": ["worker1"], "worker1": ["worker2"], "worker2": [], "source2": ["worker3"], "worker3": []}
    bench = up(sends_to, restart={"worker2": ISOLATING})

    actions = bench.fail("worker2", "handle")
    assert doings(actions) == asks("source1")
    assert told(actions)[-1] == events.GaveUp("worker2", 1, 60.0, "isolate")
    assert doings(bench.stop_of("source1")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == []
    assert {name for name in sends_to if bench.status(name).isolated} == {"source1", "worker1", "worker2"}

    assert AskToStop("worker3") in bench.tell(Finished("source2", 1)), "it ends when the rest has nothing to do"
    assert bench.stop_of("worker3")[-1] == End("finished", (), ("worker2 failed in handle: ValueError: bad",))


def test_the_other_replicas_and_a_cycle_are_isolated_too() -> None:
    sends_to = {"source": ["worker1"], "worker1": ["worker2"], "worker2": ["worker1"]}
    bench = up(sends_to, replicas={"worker1": 2}, restart=ISOLATING)

    assert doings(bench.fail("worker1#0", "handle")) == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker1#1", "worker2")


def test_what_is_isolated_may_be_started_again_and_then_the_failure_is_forgotten() -> None:
    bench = up(restart={"worker2": ISOLATING}, forever=True)
    bench.fail("worker2", "handle")
    bench.stop_of("source")
    bench.stop_of("worker1")

    assert bench.start() == [Launch("worker2", 2), Quieted(False)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""
    assert not any(bench.status(name).isolated for name in CHAIN)
    bench.tell(Stop("stopped"))
    for name in ("source", "worker1", "worker2"):
        bench.stop_of(name)
    assert bench.problems == ()


def test_a_start_during_the_isolation_takes_it_back() -> None:
    bench = up(restart={"worker2": ISOLATING})
    bench.fail("worker2", "handle")
    assert bench.phases()["source"] is Phase.STOPPING

    assert bench.start() == [Launch("worker2", 2)]
    assert bench.phases()["worker1"] is Phase.RUNNING
    assert doings(bench.stop_of("source")) == [Launch("source", 2)]


def test_a_wish_that_ends_in_isolation_is_broken() -> None:
    bench = up(restart={"worker2": ISOLATING})
    bench.restart("worker2", "source")
    bench.fail("worker2", "handle")

    assert bench.answered() == "worker2 was given up; source was given up"


def test_a_stop_of_what_is_isolated_changes_nothing() -> None:
    bench = up(restart={"worker2": ISOLATING})
    bench.fail("worker2", "handle")
    bench.stop_of("source")
    bench.halt()
    assert bench.answered() is None
    assert bench.status("worker2").isolated

    assert bench.stop_of("worker1")[-1] == End("finished", (), ("worker2 failed in handle: ValueError: bad",))


def test_a_restart_of_all_leaves_isolated_what_is() -> None:
    bench = up({**CHAIN, "source2": []}, restart={"worker2": ISOLATING})
    bench.fail("worker2", "handle")
    bench.stop_of("source")
    bench.stop_of("worker1")

    assert bench.restart() == asks("source2")
    bench.stop_of("source2")
    bench.start_of("source2")
    assert bench.answered() == ""
    assert bench.status("worker2").isolated


def test_giving_up_while_a_group_restarts_isolates_what_sends_and_brings_the_others_back() -> None:
    bench = up(
        {"source": ["worker1"], "worker1": [], "worker2": []},
        restart={"worker1": ISOLATING},
        groups={"one_for_all": ["worker1", "worker2"]},
    )
    bench.restart("worker2")
    assert bench.phases() == {"worker1": Phase.STOPPING, "source": Phase.RUNNING, "worker2": Phase.STOPPING}

    assert doings(bench.fail("worker1", "on_stop")) == asks("source")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]


# When a component comes back ------------------------------------------------------------------------------------------


def test_a_temporary_component_never_comes_back_and_the_rest_goes_on() -> None:
    bench = up(restart={"worker2": Restart(when="temporary")})

    [failed] = told(bench.fail("worker2", "handle"))
    assert isinstance(failed, events.ComponentFailed)
    assert failed.restart_in_s is None
    assert bench.phases()["worker2"] is Phase.STOPPED
    assert bench.pass_s(1_000.0) == []
    assert AskToStop("worker1") in bench.tell(Finished("source", 1)), "it keeps nothing up"
    assert bench.stop_of("worker1")[-1] == End("finished", (), ())


def test_a_temporary_component_is_restarted_by_hand() -> None:
    bench = up(restart={"worker2": Restart(when="temporary")})
    bench.restart("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    bench.start_of("worker2")
    bench.fail("worker2", "handle")
    assert bench.start("worker2") == [Launch("worker2", 3)]
    bench.fail("worker2", "on_start")
    assert bench.answered() == "worker2 is stopped"


def test_a_producer_does_not_wait_for_a_temporary_consumer_that_failed_to_start() -> None:
    bench = Bench(CHAIN, restart={"worker2": Restart(when="temporary")})
    bench.tell(Begin())

    assert doings(bench.fail("worker2", "on_start")) == [Launch("worker1", 1)]
    bench.start_of("worker1")
    assert told(bench.start_of("source"))[-1] == events.SystemStarted(2)


def test_a_permanent_component_runs_again_when_its_run_has_returned() -> None:
    bench = up({"source": []}, restart=Restart(when="permanent", failures=1))

    [failed] = told(bench.tell(Finished("source", 1)))
    assert isinstance(failed, events.ComponentFailed)
    assert failed.error == "its run() returned, and it was added with Restart(when='permanent')"
    assert failed.restart_in_s == 0.1
    assert bench.pass_s(0.1) == [Launch("source", 2)]
    bench.start_of("source")
    assert End("failed", (), (f"source failed in run: {failed.error}",)) in bench.tell(Finished("source", 2))


@pytest.mark.parametrize("asked_by", ["halt", "stop"])
def test_a_permanent_component_that_finishes_when_it_was_asked_to_stop_has_finished(asked_by: str) -> None:
    bench = up({"source": []}, restart=Restart(when="permanent"))
    bench.halt("source") if asked_by == "halt" else bench.tell(Stop("stopped"))

    assert events.ComponentFinished("source", 1) in told(bench.tell(Finished("source", 1)))
    assert bench.phases()["source"] is Phase.FINISHED


def test_a_life_that_was_up_for_long_begins_the_backoff_anew() -> None:
    backoff = Backoff(initial_s=1.0, jitter_ratio=0.0)
    bench = up({"source": []}, restart=Restart(failures=9, within_s=1_000.0, healthy_s=30.0, backoff=backoff))

    waits = []
    for up_s in (0.0, 0.0, 29.9, 30.0, 0.0, 0.0, 31.0):
        bench.now_s += up_s
        [failed] = told(bench.fail("source"))
        assert isinstance(failed, events.ComponentFailed)
        assert failed.restart_in_s is not None
        waits.append(failed.restart_in_s)
        bench.pass_s(failed.restart_in_s)
        bench.start_of("source")

    assert waits == [1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 1.0]


def test_a_life_that_was_long_in_on_start_was_not_healthy() -> None:
    backoff = Backoff(initial_s=1.0, jitter_ratio=0.0)
    bench = up({"source": []}, restart=Restart(healthy_s=30.0, backoff=backoff))
    bench.fail("source")
    bench.pass_s(1.0)
    bench.now_s += 30.0

    [failed] = told(bench.fail("source", "on_start"))
    assert isinstance(failed, events.ComponentFailed)
    assert failed.restart_in_s == 2.0


def test_a_component_that_has_a_loop_may_not_finish_before_those_who_send_to_it() -> None:
    bench = up({"source": ["loop"], "loop": []})
    assert AskToStop("source") in bench.tell(Finished("loop", 1))

    bench = up({"source": ["loop"], "loop": []})
    bench.halt("source")
    bench.stop_of("source")
    bench.tell(Finished("loop", 1))
    assert bench.supervision.stopping is None, "nobody is left to wait"


# Stalls ---------------------------------------------------------------------------------------------------------------


def test_a_stalled_component_is_reported_restarted_or_stops_the_system() -> None:
    bench = up(on_stall="report")
    [stalled] = bench.stall("worker1")
    [event] = told([stalled])
    assert isinstance(event, events.ComponentStalled)

    bench = up(on_stall="restart")
    assert doings(bench.stall("worker1")) == asks("worker1")
    assert bench.stall("worker1") == [], "it is being dealt with"
    assert doings(bench.stop_of("worker1")) == [Launch("worker1", 2)]

    bench = up(on_stall="stop")
    assert doings(bench.stall("worker1")) == [WatchIdle(), AskToStop("source")]
    bench.tell(Due())
    for name in ("source", "worker1", "worker2"):
        bench.stop_of(name)
    assert bench.problems is not None
    assert bench.problems[0].startswith("worker1 makes no progress: ")


def stalled_too_often(on_give_up: Literal["stop", "isolate"]) -> tuple[Bench, list[Action]]:
    """A worker that was restarted after a stall, as often as it may be, and has stalled again."""
    bench = up(on_stall="restart", restart=Restart(failures=1, on_give_up=on_give_up), forever=True)
    assert doings(bench.stall("worker1")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == [Launch("worker1", 2)]
    bench.tell(Started("worker1", 2))
    return bench, bench.stall("worker1")


def test_a_component_that_stalls_too_often_stops_the_system() -> None:
    bench, actions = stalled_too_often("stop")
    [_, gave_up, stopping] = told(actions)
    assert gave_up == events.GaveUp("worker1", 2, 60.0, "stop")
    assert stopping == events.SystemStopping("failed", 10.0)
    assert doings(actions) == [WatchIdle(), AskToStop("source")]
    bench.tell(Due())
    for name in ("source", "worker1", "worker2"):
        bench.stop_of(name)
    assert bench.problems is not None
    assert [problem.partition(":")[0] for problem in bench.problems] == ["worker1 makes no progress"]


def test_a_component_that_stalls_too_often_is_isolated_with_what_sends_to_it() -> None:
    bench, actions = stalled_too_often("isolate")
    assert events.GaveUp("worker1", 2, 60.0, "isolate") in told(actions)
    assert doings(actions) == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert not any(isinstance(action, (AskToStop, Launch)) for action in doings(bench.stop_of("worker1")))
    assert bench.supervision.statuses["worker2"].phase is Phase.RUNNING


def test_stalls_that_are_far_apart_are_answered_by_a_restart_each() -> None:
    bench = up(on_stall="restart", restart=Restart(failures=1))
    for epoch in range(2, 6):
        assert doings(bench.stall("worker1")) == asks("worker1")
        bench.stop_of("worker1")
        bench.tell(Started("worker1", epoch))
        bench.pass_s(61.0)


def test_a_component_that_stalls_while_the_system_stops_is_left_to_the_deadline() -> None:
    bench = up()
    bench.busy = {"worker1"}
    bench.tell(Stop("stopped"))

    assert doings(bench.stall("worker1")) == []
    bench.stop_of("source")
    actions = [action for _ in range(4) for action in doings(bench.pass_s(DEADLINES.drain_s))]
    assert Abandon("worker1", 2) in actions
    assert bench.ended


def test_word_of_a_stall_of_a_life_that_is_over_is_ignored() -> None:
    bench = up()
    bench.restart("worker1")
    bench.stop_of("worker1")
    assert bench.tell(commands.Stalled("worker1", 1, events.Evidence("", 0, "", "", 0, 0, None, "", "", "", ""))) == []

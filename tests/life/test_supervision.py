"""What the supervisor decides, as tables: one command in, actions out, without a thread."""

from __future__ import annotations

import pytest

from minions import Backoff, Restart, events
from minions.life import commands
from minions.life.actions import Abandon, AskToStop, End, Launch, Notify, Quieted, Throw, WatchIdle
from minions.life.commands import Begin, Command, Due, Failed, Finished, Idle, Started, Stop, Stopped, StoreFailed
from minions.life.lifecycle import MOVES, Phase
from tests.life.bench import DEADLINES, Bench, doings, told

# Starting -------------------------------------------------------------------------------------------------------------


def test_producers_begin_when_every_consumer_of_theirs_is_up() -> None:
    bench = Bench({"source": ["worker1", "worker2"], "worker1": ["worker2"], "worker2": []})

    assert bench.tell(Begin()) == [Launch("worker2", 1)]
    assert doings(bench.tell(Started("worker2", 1))) == [Launch("worker1", 1)]
    assert doings(bench.tell(Started("worker1", 1))) == [Launch("source", 1)]
    assert told(bench.tell(Started("source", 1))) == [events.ComponentStarted("source", 1), events.SystemStarted(3)]


def test_components_that_do_not_depend_on_each_other_begin_at_once() -> None:
    bench = Bench({"source1": ["worker1"], "source2": ["worker2"], "worker1": [], "worker2": []})

    assert bench.tell(Begin()) == [Launch("worker1", 1), Launch("worker2", 1)]
    assert doings(bench.tell(Started("worker2", 1))) == [Launch("source2", 1)]


def test_all_replicas_are_up_before_a_producer_begins() -> None:
    bench = Bench({"source": ["worker"], "worker": []}, replicas={"worker": 2})

    assert bench.tell(Begin()) == [Launch("worker#0", 1), Launch("worker#1", 1)]
    assert doings(bench.tell(Started("worker#1", 1))) == []
    assert doings(bench.tell(Started("worker#0", 1))) == [Launch("source", 1)]


def test_a_cycle_begins_together_before_those_who_feed_it() -> None:
    bench = Bench({"source": ["worker1"], "worker1": ["worker2"], "worker2": ["worker1"]})

    assert bench.tell(Begin()) == [Launch("worker1", 1), Launch("worker2", 1)]
    assert doings(bench.tell(Started("worker1", 1))) == []
    assert doings(bench.tell(Started("worker2", 1))) == [Launch("source", 1)]


def test_a_producer_waits_for_a_consumer_that_fails_to_start() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.tell(Begin())

    assert doings(bench.fail("worker", "on_start")) == []
    assert bench.wake_at_s == pytest.approx(bench.now_s + 0.1)
    assert doings(bench.pass_s(0.1)) == [Launch("worker", 2)]
    assert doings(bench.tell(Started("worker", 2))) == [Launch("source", 1)]
    assert told(bench.tell(Started("source", 1)))[-1] == events.SystemStarted(2)


def test_that_the_system_is_up_is_told_once_however_many_lives_it_took() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()
    bench.fail("source")
    bench.pass_s(1.0)
    assert told(bench.tell(Started("source", 2))) == [events.ComponentStarted("source", 2)]

    bench = Bench({"source": []})
    bench.tell(Begin())
    bench.fail("source", "on_start")
    bench.pass_s(1.0)
    assert told(bench.tell(Started("source", 2))) == [events.ComponentStarted("source", 2), events.SystemStarted(1)]


def test_a_producer_begins_although_a_consumer_that_was_up_is_down_again() -> None:
    bench = Bench({"source": ["worker1"], "worker1": ["worker2"], "worker2": []})
    bench.tell(Begin(), Started("worker2", 1))
    bench.fail("worker2")

    assert doings(bench.tell(Started("worker1", 1))) == [Launch("source", 1)]


# Restarts -------------------------------------------------------------------------------------------------------------


def test_waits_between_lives_grow_up_to_their_cap_with_jitter() -> None:
    backoff = Backoff(initial_s=1.0, factor=2.0, longest_s=5.0, jitter_ratio=0.5)
    bench = Bench({"source": []}, restart=Restart(failures=9, backoff=backoff), chance=[0.5, 0.0, 1.0, 0.5])
    bench.bring_up()

    waits = []
    for life in (1, 2, 3, 4):
        [failed] = told(bench.fail("source"))
        assert isinstance(failed, events.ComponentFailed)
        assert failed.restart_in_s is not None
        assert bench.wake_at_s == bench.now_s + failed.restart_in_s
        waits.append(failed.restart_in_s)
        assert bench.pass_s(failed.restart_in_s - 0.001) == [], "not before its time"
        assert bench.pass_s(0.002) == [Launch("source", life + 1)]
        bench.tell(Started("source", life + 1))

    assert waits == [1.0, 1.0, 6.0, 5.0]  # 1, 2 - 50 %, 4 + 50 %, 8 capped


def test_a_component_that_failed_once_too_often_stops_the_system() -> None:
    bench = Bench({"source": ["worker"], "worker": []}, restart=Restart(failures=2, within_s=60.0))
    bench.bring_up()
    for _ in range(2):
        bench.fail("source")
        bench.pass_s(1.0)
        bench.tell(Started("source", bench.epoch("source")))

    actions = bench.fail("source", error="ValueError: the third")

    failed, gave_up, stopping = told(actions)
    assert stopping == events.SystemStopping("failed", 10.0)
    assert isinstance(failed, events.ComponentFailed)
    assert failed.restart_in_s is None
    assert gave_up == events.GaveUp("source", 3, 60.0)
    assert AskToStop("worker") in actions
    assert bench.stop_of("worker")[-1] == End("failed", (), ("source failed in run: ValueError: the third",))


def test_failures_long_ago_no_longer_count() -> None:
    bench = Bench({"source": []}, restart=Restart(failures=1, within_s=60.0, backoff=Backoff(jitter_ratio=0.0)))
    bench.bring_up()

    for _ in range(5):
        [failed] = told(bench.fail("source"))
        assert isinstance(failed, events.ComponentFailed)
        assert failed.restart_in_s == 0.1, "the backoff begins anew as well"
        bench.pass_s(0.2)
        bench.tell(Started("source", bench.epoch("source")))
        bench.pass_s(60.0)


def test_failures_of_messages_do_not_count() -> None:
    bench = Bench({"source": ["worker"], "worker": []}, restart=Restart(failures=0))
    bench.bring_up()

    for attempt in range(1, 20):
        report = Failed("worker", attempt, "handle", "E", "T", message_id="m", attempt=attempt, retry_delay_s=0.25)
        [failed] = told(bench.tell(report))
        assert isinstance(failed, events.ComponentFailed)
        assert (failed.message_id, failed.attempt, failed.restart_in_s) == ("m", attempt, 0.25)
        assert bench.pass_s(0.25) == [Launch("worker", attempt + 1)]
        bench.tell(Started("worker", attempt + 1))


def test_after_a_message_was_set_aside_the_next_life_begins_at_once() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()

    actions = bench.tell(Failed("worker", 1, "handle", "E", "T", message_id="m", attempt=3))

    assert doings(actions) == [Launch("worker", 2)]


def test_a_message_that_stops_the_system_does_so() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()

    actions = bench.tell(Failed("worker", 1, "handle", "E", "T", message_id="m", attempt=1, stop_system=True))

    assert not any(isinstance(event, events.GaveUp) for event in told(actions))
    assert AskToStop("source") in actions
    assert bench.stop_of("source")[-1] == End("failed", (), ("worker failed in handle: E",))


@pytest.mark.parametrize("report", [Started, Finished, Stopped])
def test_word_of_a_life_that_is_over_is_ignored(report: type[Started | Finished | Stopped]) -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.fail("source")
    bench.pass_s(1.0)
    before = bench.phases()

    assert bench.tell(report("source", 1), Failed("source", 1, "run", "E", "T")) == []
    assert bench.phases() == before


# The end by itself ----------------------------------------------------------------------------------------------------


def test_the_system_ends_when_sources_have_finished_and_nothing_is_left() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()
    bench.busy = {"worker"}

    assert WatchIdle() in bench.tell(Finished("source", 1))
    assert bench.tell(Idle()) == []
    bench.busy = set()
    assert doings(bench.tell(Idle())) == [Quieted(True), AskToStop("worker")]
    assert bench.stop_of("worker")[-1] == End("finished", (), ())


def test_a_source_at_work_keeps_the_system_up() -> None:
    bench = Bench({"source1": ["worker"], "source2": ["worker"], "worker": []})
    bench.bring_up()

    assert doings(bench.tell(Finished("source1", 1), Idle())) == []
    assert doings(bench.tell(Finished("source2", 1))) == [WatchIdle(), Quieted(True), AskToStop("worker")]


def test_a_loop_that_is_awake_keeps_the_system_up() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()
    bench.awake = {"worker"}

    assert AskToStop("worker") not in bench.tell(Finished("source", 1), Idle())
    bench.awake = set()
    assert AskToStop("worker") in bench.tell(Idle())


@pytest.mark.parametrize("down", ["in backoff", "starting"])
def test_a_component_that_is_down_keeps_the_system_up(down: str) -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()
    bench.tell(Failed("worker", 1, "handle", "E", "T", message_id="m", attempt=1, retry_delay_s=1.0))
    if down == "starting":
        assert bench.pass_s(1.0) == [Launch("worker", 2)]

    assert doings(bench.tell(Finished("source", 1), Idle())) == []


def test_a_source_that_failed_has_not_finished() -> None:
    bench = Bench({"source": []})
    bench.bring_up()

    assert doings(bench.fail("source")) == []
    assert not bench.supervision.quiet
    bench.pass_s(1.0)
    assert End("finished", (), ()) in bench.tell(Started("source", 2), Finished("source", 2))


def test_forever_means_that_quiet_is_told_and_nothing_stops() -> None:
    bench = Bench({"source": ["worker"], "worker": []}, forever=True)
    bench.bring_up()

    assert doings(bench.tell(Finished("source", 1))) == [WatchIdle(), Quieted(True)]
    assert bench.tell(Idle(), Idle()) == []
    bench.busy = {"worker"}
    assert bench.tell(Idle()) == [Quieted(False)]
    bench.busy = set()
    assert bench.tell(Idle()) == [Quieted(True)]


def test_a_source_whose_on_stop_fails_after_it_has_finished_does_not_run_again() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.bring_up()

    actions = bench.fail("source", "on_stop")

    assert bench.phases()["source"] is Phase.STOPPED
    assert AskToStop("worker") in actions, "nothing can happen any more"
    assert bench.stop_of("worker")[-1] == End("finished", (), ("source failed in on_stop: ValueError: bad",))


# Stopping -------------------------------------------------------------------------------------------------------------

CHAIN = {"source": ["worker1"], "worker1": ["worker2"], "worker2": []}


def test_sources_stop_first_and_each_next_group_once_nothing_waits_for_it() -> None:
    bench = Bench(CHAIN)
    bench.bring_up()
    bench.busy = {"worker1", "worker2"}

    assert doings(bench.tell(Stop("interrupted"))) == [WatchIdle(), AskToStop("source")]
    assert doings(bench.stop_of("source")) == []
    bench.busy = {"worker2"}
    assert bench.tell(Idle()) == [AskToStop("worker1")]
    assert doings(bench.stop_of("worker1")) == []
    bench.busy = set()
    assert bench.tell(Idle()) == [AskToStop("worker2")]
    assert bench.stop_of("worker2") == [
        Notify(events.ComponentStopped("worker2", 1)),
        End("interrupted", (), ()),
    ]


def test_a_group_is_not_asked_while_a_source_above_it_still_runs_although_nothing_waits() -> None:
    bench = Bench({"source1": ["worker"], "source2": ["worker"], "worker": []})
    bench.bring_up()

    assert set(doings(bench.tell(Stop("stopped")))) == {WatchIdle(), AskToStop("source1"), AskToStop("source2")}
    assert doings(bench.stop_of("source1")) == []
    assert doings(bench.stop_of("source2")) == [AskToStop("worker")]


def test_a_component_that_lingers_is_asked_again_and_at_last_abandoned() -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))

    assert bench.wake_at_s == bench.now_s + DEADLINES.ask_again_s
    assert bench.pass_s(DEADLINES.ask_again_s - 0.1) == []
    assert bench.pass_s(0.1) == [AskToStop("source", again=True)]
    assert bench.pass_s(1.0) == [], "once"
    assert bench.pass_s(DEADLINES.throw_s - DEADLINES.ask_again_s - 1.0) == [Throw("source")]
    assert bench.pass_s(DEADLINES.abandon_s) == [
        Abandon("source"),
        End("stopped", ("source",), ("source did not stop in time, its thread was abandoned",)),
    ]


def test_each_component_has_its_own_grace_from_when_it_was_asked() -> None:
    bench = Bench(CHAIN)
    bench.bring_up()
    bench.tell(Stop("stopped"))
    bench.pass_s(1.5)
    assert AskToStop("worker1") in bench.stop_of("source")

    assert bench.pass_s(1.0) == []
    assert bench.pass_s(1.0) == [AskToStop("worker1", again=True)]


@pytest.mark.parametrize("began_s", [0.1, 54.1, 100.7, 12345.678])
def test_a_deadline_is_met_at_its_very_moment(began_s: float) -> None:
    bench = Bench({"source": []})
    bench.now_s = began_s
    bench.bring_up()
    bench.tell(Stop("stopped"))

    for _ in range(4):
        assert not bench.ended
        assert bench.wake_at_s is not None
        bench.now_s = bench.wake_at_s  # not a moment later
        bench.tell(Due())
    assert bench.ended, "nobody would have woken the supervisor again"


def test_after_the_time_for_draining_all_are_asked_at_once() -> None:
    bench = Bench(CHAIN)
    bench.bring_up()
    bench.busy = {"worker1", "worker2"}
    bench.tell(Stop("stopped"))
    bench.stop_of("source")
    bench.pass_s(3.0)
    assert bench.wake_at_s == pytest.approx(bench.now_s + DEADLINES.drain_s - 3.0), "no moment that is past"

    assert bench.pass_s(DEADLINES.drain_s - 3.0) == [
        AskToStop("worker1"),
        AskToStop("worker2"),
        AskToStop("worker2", again=True),
        AskToStop("worker1", again=True),
    ]
    assert bench.stop_of("worker2")[-1:] == [Notify(events.ComponentStopped("worker2", 1))]
    assert bench.stop_of("worker1")[-1] == End("stopped", (), ()), "what was not drained is no failure: it is kept"


def test_a_stop_before_the_start_ends_at_once() -> None:
    bench = Bench(CHAIN)

    actions = bench.tell(Stop("stopped"))
    assert told(actions) == [events.SystemStopping("stopped", 10.0)]
    assert doings(actions) == [WatchIdle(), End("stopped", (), ())]
    assert set(bench.phases().values()) == {Phase.STOPPED}
    assert bench.tell(Begin()) == []


def test_a_stop_during_the_start_is_not_lost() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())

    assert doings(bench.tell(Stop("stopped"))) == [WatchIdle(), AskToStop("worker2")]
    assert bench.phases() == {"source": Phase.STOPPED, "worker1": Phase.STOPPED, "worker2": Phase.STOPPING}
    assert bench.tell(Started("worker2", 1)) == [], "it had not heard of the stop yet"
    assert bench.stop_of("worker2")[-1] == End("stopped", (), ())


def test_a_component_in_backoff_has_stopped_when_the_system_stops() -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.fail("source")

    assert doings(bench.tell(Stop("terminated"))) == [WatchIdle(), End("terminated", (), ())]


@pytest.mark.parametrize("where", ["run", "on_start"])
def test_a_failure_during_the_stop_has_no_life_after_it(where: str) -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))

    failed, end = bench.fail("source", where)

    assert isinstance(failed, Notify)
    assert isinstance(failed.event, events.ComponentFailed)
    assert failed.event.restart_in_s is None
    assert end == End("stopped", (), ())


def test_a_failure_in_on_stop_is_a_problem() -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))

    assert bench.fail("source", "on_stop")[-1] == End("stopped", (), ("source failed in on_stop: ValueError: bad",))


def test_a_source_that_finishes_just_when_it_was_asked_to_stop_has_ended() -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))

    assert bench.tell(Finished("source", 1)) == [
        Notify(events.ComponentFinished("source", 1)),
        End("stopped", (), ()),
    ]


def test_the_first_reason_to_stop_is_the_one_that_counts() -> None:
    bench = Bench({"source": []})
    bench.bring_up()

    assert doings(bench.tell(Stop("interrupted"), Stop("terminated"))) == [WatchIdle(), AskToStop("source")]
    assert bench.stop_of("source")[-1] == End("interrupted", (), ())


def test_when_nothing_can_be_kept_nothing_is_drained() -> None:
    bench = Bench(CHAIN)
    bench.bring_up()
    bench.busy = {"worker1", "worker2"}

    actions = bench.tell(StoreFailed("disk full"))

    assert doings(actions) == [WatchIdle(), AskToStop("source"), AskToStop("worker1"), AskToStop("worker2")]
    bench.stop_of("worker2")
    bench.stop_of("worker1")
    assert bench.stop_of("source")[-1] == End("failed", (), ("disk full",))


def test_a_store_that_fails_during_the_stop_ends_the_draining() -> None:
    bench = Bench(CHAIN)
    bench.bring_up()
    bench.busy = {"worker1", "worker2"}
    bench.tell(Stop("stopped"))

    assert doings(bench.tell(StoreFailed("disk full"))) == [AskToStop("worker1"), AskToStop("worker2")]


def test_after_the_end_nothing_follows() -> None:
    bench = Bench({"source": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))
    bench.stop_of("source")

    reports: list[Command] = [
        Begin(),
        Stop("again"),
        Started("source", 1),
        Stopped("source", 1),
        Finished("source", 1),
        Failed("source", 1, "run", "E", "T"),
        StoreFailed("late"),
        Idle(),
        Due(),
    ]
    assert [bench.tell(report) for report in reports] == [[]] * len(reports)


def test_word_of_an_abandoned_life_is_ignored() -> None:
    bench = Bench({"source1": [], "source2": []})
    bench.bring_up()
    bench.tell(Stop("stopped"))
    bench.supervision.statuses["source1"].move(Phase.ABANDONED)

    assert bench.tell(Stopped("source1", 1), Failed("source1", 1, "run", "E", "T")) == []
    assert bench.phases()["source1"] is Phase.ABANDONED


# The table of moves ---------------------------------------------------------------------------------------------------


def test_every_phase_is_in_the_table_and_those_that_have_ended_lead_to_a_new_life_only() -> None:
    assert set(MOVES) == set(Phase)
    assert all(MOVES[phase] <= {Phase.WAITING, Phase.BACKOFF} for phase in Phase if phase.has_ended)


def test_every_phase_can_be_reached_and_can_end() -> None:
    reached = {Phase.WAITING}
    while more := {after for phase in reached for after in MOVES[phase]} - reached:
        reached |= more
    assert reached == set(Phase)
    assert not any(phase.has_thread and phase.has_ended for phase in Phase)


def test_a_move_that_is_not_in_the_table_is_a_defect() -> None:
    bench = Bench({"source": []})
    with pytest.raises(AssertionError, match="does not move to"):
        bench.supervision.statuses["source"].move(Phase.RUNNING)


def test_commands_are_values() -> None:
    assert commands.Started("a", 1) == commands.Started("a", 1)
    assert hash(commands.Stop("x")) == hash(commands.Stop("x"))

"""What follows where somebody restarts components, as tables: one command in, actions out, without a thread."""

from __future__ import annotations

import pytest

from minions import Backoff, Restart, events
from minions.life import commands
from minions.life.actions import Abandon, End, Launch
from minions.life.commands import Begin, Failed, Finished, Idle, Stop, Stopped
from minions.life.lifecycle import Phase
from tests.life.bench import DEADLINES, Bench, doings, told
from tests.life.changes import CHAIN, asks, up


def test_a_restart_stops_and_starts() -> None:
    bench = up()

    assert bench.restart("worker1") == asks("worker1")
    actions = bench.stop_of("worker1")
    assert told(actions) == [events.ComponentStopped("worker1", 1)]
    assert doings(actions) == [Launch("worker1", 2)]
    assert bench.answered() is None
    bench.start_of("worker1")
    assert bench.answered() == ""


def test_a_restart_of_all_stops_producers_first_and_starts_consumers_first() -> None:
    bench = up()

    assert bench.restart() == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == asks("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]
    assert bench.answered() is None
    bench.start_of("source")
    assert bench.answered() == ""
    assert doings(bench.tell(Idle())) == []


def test_a_restart_of_all_leaves_down_what_is_down() -> None:
    bench = up({"source1": ["worker1"], "source2": ["worker1"], "worker1": [], "worker2": ["worker1"]})
    bench.tell(Finished("source1", 1))
    bench.halt("worker2")
    bench.stop_of("worker2")

    assert bench.restart() == asks("source2")
    assert doings(bench.stop_of("source2")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source2", 2)]
    bench.start_of("source2")
    assert bench.answered() == "", "it is over what was up"


def test_a_restart_by_name_starts_what_is_down() -> None:
    bench = up()
    bench.halt("worker1")
    bench.stop_of("worker1")

    assert bench.restart("worker1") == [Launch("worker1", 2)]
    bench.start_of("worker1")
    assert bench.answered() == ""


def test_a_restart_of_what_is_stopped_and_of_what_is_up_starts_them_in_order() -> None:
    bench = up()
    bench.halt("worker2")
    bench.stop_of("worker2")

    assert bench.restart("worker2", "worker1") == asks("worker1")
    assert doings(bench.stop_of("worker1")) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]


def test_a_restart_during_a_stop_brings_it_back() -> None:
    bench = up()
    bench.halt("source")

    assert bench.restart("source") == []
    assert doings(bench.stop_of("source")) == [Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""


def test_a_stop_during_a_restart_is_the_last_word() -> None:
    bench = up()
    bench.restart("source", "worker1")
    restarted = bench.promise
    assert bench.halt("source", "worker1") == []
    assert bench.answers == {restarted: "source was stopped; worker1 was stopped"}

    assert doings(bench.stop_of("source")) == asks("worker1")
    assert bench.phases()["source"] is Phase.STOPPED
    assert doings(bench.stop_of("worker1")) == []
    assert bench.answered() == ""
    assert bench.phases() == {"worker2": Phase.RUNNING, "worker1": Phase.STOPPED, "source": Phase.STOPPED}


def test_a_stop_of_one_lets_the_others_of_a_restart_come_back() -> None:
    bench = up()
    bench.restart()
    bench.stop_of("source")

    assert bench.halt("worker1") == asks("worker2")
    assert doings(bench.stop_of("worker1")) == []
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2), Launch("source", 2)]


def test_a_stop_while_a_restart_rises() -> None:
    bench = up()
    bench.restart()
    for name in ("source", "worker1", "worker2"):
        bench.stop_of(name)
    assert bench.phases() == {"worker2": Phase.STARTING, "worker1": Phase.WAITING, "source": Phase.WAITING}

    assert bench.halt("worker1") == [Launch("source", 2)], "nobody waits for what nobody wants"
    assert doings(bench.start_of("worker2")) == []


def test_a_restart_during_a_restart_begins_again_where_that_has_got_to() -> None:
    bench = up()
    bench.restart("source", "worker1")
    bench.stop_of("source")
    first = bench.promise

    assert bench.restart("source", "worker1") == [], "worker1 was asked; both come back once"
    assert doings(bench.stop_of("worker1")) == [Launch("worker1", 2)]
    assert bench.restart("worker1") == [*asks("worker1"), Launch("source", 2)], "the source waits for nobody who was up"
    third = bench.promise
    bench.stop_of("worker1")
    assert bench.phases()["worker1"] is Phase.STARTING
    bench.start_of("worker1")
    bench.start_of("source")
    assert bench.answers == {first: "", first + 1: "", third: ""}


def test_a_restart_during_backoff_waits_no_longer_and_forgets_the_failures() -> None:
    bench = up(restart=Restart(failures=1, backoff=Backoff(initial_s=10.0)))
    bench.fail("source")

    assert bench.restart("source") == [Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""
    bench.fail("source")
    assert bench.supervision.stopping is None
    assert bench.pass_s(9.9) == []
    assert bench.pass_s(0.2) == [Launch("source", 3)]


def test_a_restart_of_what_starts() -> None:
    bench = Bench(CHAIN)
    bench.tell(Begin())

    assert bench.restart() == asks("worker2")
    bench.start_of("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 1)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 1)]
    assert told(bench.start_of("source"))[-1] == events.SystemStarted(3)
    assert bench.answered() == ""


@pytest.mark.parametrize("kind", [commands.Halt, commands.Restart, commands.Start, commands.Pause])
def test_what_is_wished_before_anything_has_begun_is_not_lost(kind: type[commands.Change]) -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.wish(kind, "worker")
    actions = doings(bench.tell(Begin()))

    match kind:
        case commands.Halt:
            assert actions == [Launch("source", 1)]
        case commands.Pause:
            assert actions == [Launch("worker", 1, held=True)]
        case _:
            assert bench.phases()["worker"] is Phase.STARTING
            assert bench.epoch("worker") == 1


def test_a_source_that_finishes_when_it_is_asked_to_restart_runs_again() -> None:
    bench = up()
    bench.restart("source")

    actions = bench.tell(Finished("source", 1))
    assert told(actions) == [events.ComponentFinished("source", 1)]
    assert doings(actions) == [Launch("source", 2)]


def test_a_source_that_finishes_before_its_turn_to_restart_has_finished() -> None:
    bench = up({"source1": ["worker1"], "worker1": ["worker2"], "worker2": [], "source2": ["worker2"]})
    bench.restart("source1", "source2")
    assert bench.phases()["source2"] is Phase.RUNNING, "source1 is higher"

    bench.tell(Finished("source2", 1))
    bench.stop_of("source1")
    bench.start_of("source1")
    assert bench.answered() == ""
    assert bench.phases()["source2"] is Phase.FINISHED


def test_a_component_that_fails_on_its_way_down_comes_back_after_its_backoff() -> None:
    bench = up(restart=Restart(backoff=Backoff(initial_s=5.0)))
    bench.restart("worker1", "worker2")

    assert doings(bench.fail("worker1", "on_stop")) == asks("worker2")
    assert doings(bench.stop_of("worker2")) == [], "they come back together"
    assert bench.pass_s(4.9) == []
    assert bench.pass_s(0.2) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]


def test_a_thread_that_does_not_end_is_abandoned_and_the_next_life_begins() -> None:
    bench = up()
    bench.restart("source")
    for name in ("worker1", "worker2"):
        assert bench.phases()[name] is Phase.RUNNING

    bench.pass_s(DEADLINES.ask_again_s)
    bench.pass_s(DEADLINES.throw_s - DEADLINES.ask_again_s)
    assert bench.pass_s(DEADLINES.abandon_s - DEADLINES.throw_s) == [Abandon("source", 1), Launch("source", 2)]
    bench.start_of("source")
    assert bench.answered() == ""


@pytest.mark.parametrize("report", [Stopped("source", 1), Finished("source", 1), Failed("source", 1, "run", "E", "T")])
def test_any_last_word_of_an_abandoned_thread_counts(report: commands.Command) -> None:
    bench = up()
    bench.restart("source")
    for _ in range(3):
        bench.pass_s(DEADLINES.abandon_s)
    assert bench.supervision.zombies == 1

    assert bench.tell(report) == []
    assert bench.supervision.zombies == 0


def test_an_abandoned_thread_that_is_alive_at_the_end_is_told_and_no_orderly_end() -> None:
    bench = up({"source": []})
    bench.restart("source")
    for _ in range(3):
        bench.pass_s(DEADLINES.abandon_s)
    bench.start_of("source")
    bench.tell(Stop("stopped"))

    [end] = [action for action in bench.stop_of("source") if isinstance(action, End)]
    assert end.survivors == ("source",)
    assert end.failed == ("source: a thread that was abandoned is still alive",)


def test_too_many_abandoned_threads_stop_the_system() -> None:
    bench = up({"source": []}, most_zombies=1)
    for life in (1, 2):
        assert not bench.ended
        bench.restart("source")
        for _ in range(3):
            bench.pass_s(DEADLINES.abandon_s)
        assert bench.epoch("source") == 2
        if life == 1:
            bench.start_of("source")

    assert bench.problems is not None
    assert bench.problems[0] == "2 threads that could not be ended are alive, and 1 may be (most_zombies)"
    assert bench.ended, "the source gets no other life"


def test_on_start_that_hangs_and_is_given_up_has_not_come_up() -> None:
    bench = Bench({"source": ["worker"], "worker": []})
    bench.tell(Begin())
    bench.stall("worker")

    actions = [action for _ in range(3) for action in bench.pass_s(DEADLINES.abandon_s)]
    assert doings(actions)[-1] == Launch("worker", 2)
    assert told(actions) == []
    bench.start_of("worker")
    assert told(bench.start_of("source"))[-1] == events.SystemStarted(2)

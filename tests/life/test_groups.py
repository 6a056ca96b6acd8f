"""Who is restarted with whom: groups, and those who send to a component that restarts."""

from __future__ import annotations

import pytest

from minions import Restart
from minions.life.actions import AskToStop, Launch
from minions.life.commands import Stop
from minions.life.lifecycle import Phase
from minions.model.policy import Strategy
from tests.life.bench import doings
from tests.life.changes import THREE, asks, up

# Groups and dependents ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "failing", "others"),
    [
        ("one_for_one", "worker2", []),
        ("one_for_all", "worker2", ["worker1", "worker3"]),
        ("one_for_all", "worker1", ["worker2", "worker3"]),
        ("rest_for_one", "worker1", ["worker2", "worker3"]),
        ("rest_for_one", "worker2", ["worker3"]),
        ("rest_for_one", "worker3", []),
    ],
)
def test_a_group_restarts_as_its_strategy_says(strategy: Strategy, failing: str, others: list[str]) -> None:
    bench = up(THREE, groups={strategy: ["worker1", "worker2", "worker3"]})

    asked = doings(bench.fail(failing, "handle"))
    while stopping := [name for name, phase in bench.phases().items() if phase is Phase.STOPPING]:
        asked += doings(bench.stop_of(stopping[0]))

    assert sorted(action.component for action in asked if isinstance(action, AskToStop)) == others
    bench.pass_s(0.1)
    while starting := [name for name, phase in bench.phases().items() if phase is Phase.STARTING]:
        bench.start_of(starting[0])
    assert bench.all_up()
    expected = {name: 2 if name == failing or name in others else 1 for name in THREE}
    assert {name: bench.epoch(name) for name in THREE} == expected


def test_a_group_stops_and_starts_in_the_order_of_the_graph_whatever_its_own_is() -> None:
    bench = up(groups={"one_for_all": ["worker2", "source", "worker1"]})

    assert doings(bench.fail("worker1", "handle")) == asks("source")
    assert bench.pass_s(1.0) == [], "the others stop first"
    assert doings(bench.stop_of("source")) == asks("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]


def test_a_group_restarts_when_one_of_it_is_restarted() -> None:
    bench = up(groups={"one_for_all": ["worker2", "source"]})

    assert bench.restart("worker2") == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker2")


def test_what_is_down_in_a_group_stays_down() -> None:
    bench = up(groups={"one_for_all": ["worker2", "worker1"]})
    bench.halt("worker1")
    bench.stop_of("worker1")

    bench.fail("worker2", "handle")
    assert bench.pass_s(1.0) == [Launch("worker2", 2)]
    bench.start_of("worker2")
    assert bench.phases()["worker1"] is Phase.STOPPED


def test_a_group_of_replicas_restarts_whole() -> None:
    sends_to = {"source": ["worker1"], "worker1": ["worker2"], "worker2": []}
    bench = up(sends_to, replicas={"worker1": 2}, groups={"one_for_all": ["worker1", "worker2"]})

    assert doings(bench.fail("worker1#0", "handle")) == asks("worker1#1")
    assert doings(bench.stop_of("worker1#1")) == asks("worker2")


def test_a_replica_that_fails_restarts_alone_without_a_group() -> None:
    bench = up({"source": ["worker"], "worker": []}, replicas={"worker": 2})

    assert doings(bench.fail("worker#0", "handle")) == []
    assert bench.phases()["worker#1"] is Phase.RUNNING


def test_a_consumer_restarts_with_what_sends_to_it() -> None:
    bench = up(restart={"worker2": Restart(with_dependents=True)})

    assert doings(bench.fail("worker2", "handle")) == asks("source")
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == [], "the wait after the failure is not over"
    assert bench.pass_s(1.0) == [Launch("worker2", 2)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 2)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]
    assert not bench.all_up()
    bench.start_of("source")
    assert bench.all_up()


def test_a_dependent_does_not_restart_what_it_sends_to() -> None:
    bench = up(restart=Restart(with_dependents=True))

    assert doings(bench.fail("worker1", "handle")) == asks("source")
    assert bench.phases()["worker2"] is Phase.RUNNING


def test_the_group_of_a_dependent_restarts_too() -> None:
    sends_to = {"source": ["worker1"], "worker1": [], "worker2": ["worker3"], "worker3": [], "source2": ["worker3"]}
    bench = up(
        sends_to,
        restart={"worker1": Restart(with_dependents=True), "worker3": Restart(with_dependents=True)},
        groups={"one_for_all": ["source", "worker3"]},
    )

    assert bench.restart("worker1") == asks("source", "worker2", "source2")


def test_a_member_that_fails_again_while_all_come_back_takes_the_others_along_again() -> None:
    bench = up(restart={"worker2": Restart(with_dependents=True)})
    bench.fail("worker2", "handle")
    bench.stop_of("source")
    bench.stop_of("worker1")
    bench.pass_s(1.0)
    bench.start_of("worker2")

    assert doings(bench.fail("worker2", "handle")) == asks("worker1"), "which had begun"
    bench.pass_s(1.0)
    assert doings(bench.stop_of("worker1")) == [Launch("worker2", 3)]
    assert doings(bench.start_of("worker2")) == [Launch("worker1", 3)]
    assert doings(bench.start_of("worker1")) == [Launch("source", 2)]


def test_a_member_of_a_group_that_fails_while_others_restart_takes_its_own_group_along() -> None:
    sends_to = {"source1": ["worker1"], "worker1": ["worker2"], "worker2": [], "worker3": []}
    bench = up(sends_to, groups={"one_for_all": ["worker2", "worker3"]})
    bench.restart("source1", "worker1")
    assert bench.phases()["source1"] is Phase.STOPPING

    assert doings(bench.fail("worker2", "handle")) == asks("worker3")
    assert doings(bench.stop_of("worker3")) == []
    bench.stop_of("source1")
    bench.stop_of("worker1")
    bench.pass_s(1.0)
    while starting := [name for name, phase in bench.phases().items() if phase is Phase.STARTING]:
        bench.start_of(starting[0])
    assert bench.all_up()
    assert {name: bench.epoch(name) for name in sends_to} == dict.fromkeys(sends_to, 2)


def test_a_failure_on_the_way_down_takes_the_group_along_too() -> None:
    bench = up({"source": ["worker1"], "worker1": [], "worker2": []}, groups={"one_for_all": ["worker1", "worker2"]})
    bench.halt("worker1")
    bench.start("worker1")

    assert doings(bench.fail("worker1", "on_stop")) == asks("worker2")


def test_a_message_that_fails_while_the_system_stops_takes_nobody_along() -> None:
    bench = up({"source": ["worker1"], "worker1": [], "worker2": []}, groups={"one_for_all": ["worker1", "worker2"]})
    bench.busy = {"worker1", "worker2"}
    bench.tell(Stop("stopped"))

    assert doings(bench.fail_message("worker1")) == [Launch("worker1", 2)]
    assert bench.phases()["worker2"] is Phase.RUNNING


def test_two_rounds_that_touch_become_one() -> None:
    bench = up()
    bench.restart("source", "worker1")
    first = bench.promise

    assert bench.restart("worker1", "worker2") == []
    assert doings(bench.stop_of("source")) == asks("worker1")
    assert doings(bench.stop_of("worker1")) == asks("worker2")
    assert doings(bench.stop_of("worker2")) == [Launch("worker2", 2)]
    bench.start_of("worker2")
    bench.start_of("worker1")
    assert bench.answered() == ""
    assert first not in bench.answers
    bench.start_of("source")
    assert bench.answers[first] == ""

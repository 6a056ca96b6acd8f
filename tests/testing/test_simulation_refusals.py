"""`simulate`: what it refuses, in words that say what to do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from minions import Component, Inbox, Outbox, System, TopologyError, UsageError
from minions.testing import Faults, Send, SimulationFailed, View, Wait, simulate
from tests.testing.summing import SCRIPT, Number, Numbers, Sum, summing


def refused(match: str, system: Any = None, seed: Any = 0, **options: Any) -> None:
    with pytest.raises(UsageError, match=match):
        simulate(summing() if system is None else system, seed, **{"sources": SCRIPT, **options})


async def is_never_looked_at(view: View) -> None:
    raise AssertionError


def is_never_run(view: View) -> Any:
    yield
    raise AssertionError


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_seed_is_a_number(seed: Any) -> None:
    refused(f"seed={seed!r}: a seed is a number, 0 or more", seed=seed)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"sources": {"nobody": []}}, "'nobody': .*those with one are numbers"),
        ({"sources": {"sum": []}}, "'sum': .*those with one are numbers"),
        ({"sources": {"numbers": Number(1)}}, r"'numbers': Number\(value=1\).*a script is a list of messages"),
        ({"sources": {"numbers": [Send("in", Number(1))]}}, "numbers has no outbox 'in'.*: out"),
        ({"invariants": [1]}, "invariants: 1 is no function"),
        ({"at_end": ["x"]}, "at_end: 'x' is no function"),
        ({"steps": 0}, "steps=0: this is a number of turns"),
        ({"faults": 0.1}, r"faults=0.1: give Faults\(...\)"),
        ({"choices": "x"}, "'x' is no choice"),
        ({"sources": [Number(1)]}, r"sources=\[Number\(value=1\)\]: give a dictionary"),
        ({"sources": {"numbers": ["one"]}}, "the script of numbers sends 'one', and out carries Number"),
        ({"invariants": None}, "invariants=None: give a function of a view"),
        ({"allow": [1]}, "allow: 1 is no class of errors"),
        ({"allow": KeyError}, "allow=<class 'KeyError'>: give a list of classes of errors"),
        ({"shrink_s": "1"}, "shrink_s='1': this is a number of seconds, 0 or more"),
        ({"shrink_s": -1}, "shrink_s=-1: this is a number of seconds, 0 or more"),
        ({"invariants": is_never_looked_at}, "invariants: .*is_never_looked_at.* does nothing when it is called"),
        ({"at_end": [is_never_run]}, "at_end: .*is_never_run.* does nothing when it is called"),
        ({"invariants": lambda view: view["nobody"]}, "no component 'nobody'.*numbers, sum"),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(options: dict[str, Any], match: str) -> None:
    refused(match, **options)


@pytest.mark.parametrize("seconds", [-1, "1", float("inf"), None, True])
def test_a_wait_is_a_number_of_seconds(seconds: Any) -> None:
    with pytest.raises(UsageError, match=rf"Wait\({seconds!r}\): this is a number of seconds"):
        Wait(seconds)


@pytest.mark.parametrize("made", [None, 1, "system"])
def test_only_systems_are_simulated(made: Any) -> None:
    refused("simulate\\(\\) takes a System", system=lambda: made)


@pytest.mark.parametrize(("name", "value"), [("errors", 1.5), ("crashes", -0.1), ("delays", "often"), ("most", -1)])
def test_a_likelihood_is_a_number_from_0_to_1(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"Faults\({name}={value!r}\)"):
        Faults(**{name: value})


def test_a_name_that_no_component_has_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(SimulationFailed, match=r"sum has no state, table or inbox 'sum'.*total, seen, numbers"):
        simulate(summing(), sources=SCRIPT, invariants=lambda view: view["sum"].sum)


def test_a_system_that_runs_is_not_simulated(tmp_path: Any) -> None:
    class Idle(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    class Resting(Component):
        out = Outbox(Number)

        def run(self) -> None:
            while self.running:
                self.sleep(60.0)

    system = System("running", folder=tmp_path / "state")
    resting, idle = system.add(Resting()), system.add(Idle())
    system.connect(resting.out, idle.numbers)
    with system.started():
        refused("running runs: a system that is simulated must not be running", system=system, sources={})


def test_a_component_that_starts_a_thread_is_refused_by_its_name() -> None:
    done = threading.Event()

    class Threading(Sum):
        numbers = Inbox(Number)

        @numbers.handler
        def add(self, number: Number) -> None:
            threading.Thread(target=done.wait, args=(20.0,), name="of its own", daemon=True).start()

    system = System("threading")
    numbers, other = system.add(Numbers()), system.add(Threading())
    system.connect(numbers.out, other.numbers)
    try:
        refused("threading.add has started the thread 'of its own'.*make a component of what it does", system=system)
    finally:
        done.set()


def test_what_is_wrong_with_a_system_is_told_as_ever() -> None:
    system = System("unconnected")
    system.add(Numbers())
    with pytest.raises(TopologyError, match="out"):
        simulate(system)


def test_a_system_that_is_not_under_control_is_told_of() -> None:
    seen: list[int] = []

    def once_only(view: View) -> None:
        seen.append(1)
        assert len(seen) != 10

    with pytest.raises(SimulationFailed) as failed:
        simulate(summing(), sources=SCRIPT, invariants=once_only, shrink_s=0.0)
    assert "is not under the simulation's control" in failed.value.story[-1]

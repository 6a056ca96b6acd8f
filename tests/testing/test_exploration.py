"""`explore` makes many runs, in other processes where these can import what is simulated, and stops at the smallest seed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, State, System, UsageError
from minions.testing import Explored, Faults, SimulationFailed, View, explore, simulate
from minions.testing.references import Reference
from tests.testing.summing import Number, Numbers


class Sums(Component):
    """Adds, and forgets what came from an order of events that is rare."""

    left = Inbox(Number)
    right = Inbox(Number)
    got = State(list[int])

    @left.handler
    def take_left(self, number: Number) -> None:
        self.got.append(number.value)

    @right.handler
    def take_right(self, number: Number) -> None:
        self.got.append(-number.value)


def make() -> System:
    system = System("two")
    left, right = system.add(Numbers(), name="left"), system.add(Numbers(), name="right")
    sums = system.add(Sums())
    system.connect(left.out, sums.left)
    system.connect(right.out, sums.right)
    return system


SCRIPTS = {"left": [Number(1), Number(2), Number(3)], "right": [Number(1), Number(2), Number(3)]}
RARE = [1, -1, -2, 2, 3, -3]


def never_in_this_order(view: View) -> None:
    assert view["sums"].got != RARE


def nothing_twice(view: View) -> None:
    got = view["sums"].got
    assert len(set(got)) == len(got)


def everything(view: View) -> None:
    assert sorted(view["sums"].got) == [-3, -2, -1, 1, 2, 3]


def smallest_seed(runs: int) -> int:
    for seed in range(runs):
        try:
            simulate(make, seed, sources=SCRIPTS, invariants=never_in_this_order, faults=Faults.none(), shrink_s=0.0)
        except SimulationFailed:
            return seed
    raise AssertionError(f"no seed below {runs} fails")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_seed_is_tried_once(workers: int) -> None:
    told: list[str] = []
    explored = explore(
        make,
        101,
        sources=SCRIPTS,
        invariants=[nothing_twice],
        at_end=everything,
        workers=workers,
        progress=told.append,
    )
    assert (explored.runs, explored.processes) == (101, workers)
    assert explored.turns == sum(simulate(make, seed, sources=SCRIPTS).turns for seed in range(101))
    assert explored.runs_per_s == pytest.approx(101 / explored.seconds)
    assert told[-1].startswith("101 runs held, ")
    assert told[-1].endswith(" a second on one core" if workers == 1 else " a second on 2 cores")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_smallest_seed_that_fails_is_told_whoever_finds_it(workers: int) -> None:
    told: list[str] = []
    with pytest.raises(SimulationFailed) as failed:
        explore(
            make,
            2_000,
            sources=SCRIPTS,
            invariants=never_in_this_order,
            faults=Faults.none(),
            workers=workers,
            progress=told.append,
        )
    assert failed.value.seed == smallest_seed(2_000)
    assert told[-1].startswith(f"seed {failed.value.seed} fails, after ")
    assert failed.value.story[-1].startswith("the invariant never_in_this_order does not hold")


@pytest.mark.parametrize("workers", [1, 2])
def test_what_has_to_hold_at_the_end_is_looked_at_in_some_run(workers: int) -> None:
    def explored(steps: int) -> Explored:
        return explore(
            make, 4, sources=SCRIPTS, at_end=everything, steps=steps, workers=workers, progress=lambda _: None
        )

    assert explored(5_000).finished == 4
    with pytest.raises(UsageError, match="at_end was looked at in none of 4 runs: in each the 5 steps were used up"):
        explored(5)


LIMITS = {"most": 100}


def none_is_too_large(view: View) -> None:
    assert max(map(abs, view["sums"].got), default=0) < LIMITS["most"]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_test_has_changed_meanwhile_is_seen(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setitem(SCRIPTS, "left", [*SCRIPTS["left"], Number(7)])
    explored = explore(make, 20, sources=SCRIPTS, workers=workers, progress=told.append)
    assert (explored.runs, explored.processes) == (20, 1)
    if workers == 2:
        assert told[0].startswith(
            "on one core: with seed 0 another process makes another run: what is simulated was changed"
        )
    monkeypatch.setitem(LIMITS, "most", 3)
    with pytest.raises(SimulationFailed, match="none_is_too_large"):
        explore(make, 20, sources=SCRIPTS, invariants=none_is_too_large, workers=workers, progress=told.append)


def test_what_can_be_gone_through_only_once_is_the_script_of_each_run() -> None:
    scripts = {name: iter(script) for name, script in SCRIPTS.items()}
    explore(make, 5, sources=scripts, at_end=everything, progress=lambda _: None)


def is_seed(*seeds: int) -> bool:
    """Whether this is the run with one of these seeds: nothing was drawn in it so far."""
    return any(random.getstate() == random.Random(seed).getstate() for seed in seeds)


def slow_for_odd_seeds(view: View) -> None:
    if is_seed(*range(1, 37, 2)):
        threading.Event().wait(0.005)
    assert not is_seed(37, 40)


def slow_for_even_seeds(view: View) -> None:
    if is_seed(*range(0, 30, 2)):
        threading.Event().wait(0.005)
    assert not is_seed(37, 40)


@pytest.mark.parametrize("invariant", [slow_for_odd_seeds, slow_for_even_seeds])
def test_of_two_seeds_that_fail_the_smaller_is_told_whichever_comes_first(invariant: Callable[[View], None]) -> None:
    with pytest.raises(SimulationFailed) as failed:
        explore(make, 300, sources=SCRIPTS, invariants=invariant, faults=Faults.none(), workers=2, shrink_s=0.0)
    assert failed.value.seed == 37


def test_the_first_seed_can_be_chosen() -> None:
    seed = smallest_seed(2_000)
    options: dict[str, Any] = {"sources": SCRIPTS, "invariants": never_in_this_order, "faults": Faults.none()}
    with pytest.raises(SimulationFailed) as failed:
        explore(make, 1, first_seed=seed, shrink_s=0.0, **options)
    assert failed.value.seed == seed
    if seed:
        explore(make, seed, workers=1, **options)


def test_what_cannot_be_imported_is_run_on_the_calling_thread() -> None:
    told: list[str] = []
    explored = explore(lambda: make(), 60, sources=SCRIPTS, workers=2, progress=told.append)
    assert explored.processes == 1
    assert "not at the top of a module" in told[0]


def test_a_system_and_lists_at_the_top_of_a_module_are_found_by_their_names(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            from tests.testing.test_exploration import *
            system = make()
            both = [nothing_twice, lambda view: True]
            if __name__ == "__main__":
                explored = explore(system, 80, sources=SCRIPTS, invariants=both, workers=2)
                guarded = make()
                second = explore(guarded, 80, sources=SCRIPTS, invariants=both, workers=2)
                print(explored.runs, explored.processes, second.runs, second.processes)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "80 2 80 1\n"
    assert "on one core: " in done.stderr
    assert "has no 'guarded'" in done.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"runs": 0}, r"explore\(runs=0\)"),
        ({"runs": 1.5}, r"explore\(runs=1.5\)"),
        ({"workers": 0}, r"explore\(workers=0\)"),
        ({"first_seed": -1}, "seed=-1"),
        ({"sources": {"nobody": []}}, "'nobody'"),
        ({"invariants": [1]}, "1 is no function"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_started(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        explore(make, **{"sources": SCRIPTS, **options})


def test_a_process_that_dies_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "dying.py"
    module.write_text(
        "import os, sys\nif 'pytest' not in sys.modules: os._exit(3)\nfrom tests.testing.test_exploration import make\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    dying = __import__("dying")
    made = FunctionType(make.__code__, make.__globals__, "make")
    made.__module__ = "dying"
    vars(dying)["make"] = made
    with pytest.raises(UsageError, match="ended with exit code 3"):
        explore(made, 60, sources=SCRIPTS, workers=2)


# References -----------------------------------------------------------------------------------------------------------


def test_a_reference_leads_back_to_the_thing() -> None:
    for thing in (make, never_in_this_order, SCRIPTS, Numbers):
        reference = Reference.of(thing, [__name__])
        assert reference is not None
        assert reference.thing() is thing
    assert Reference.of(object(), [__name__]) is None
    assert Reference.of(lambda: None, [__name__]) is None


def test_a_reference_to_what_is_not_there_is_refused() -> None:
    reference = Reference.of(make, [])
    assert reference is not None
    with pytest.raises(UsageError, match="has no 'gone' when it is imported by another process"):
        attrs.evolve(reference, name="gone").thing()

"""Somebody retries or drops dead letters while a system is simulated, and nothing is lost or done twice by that."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import pytest

from minions import Backoff, Component, Inbox, Outbox, Retry, State, System, Table
from minions.flow.unit import Unit
from minions.testing import Faults, Result, SimulationFailed, View, simulate
from minions.testing.run import Run

NOW_AND_THEN = Retry(attempts=2, backoff=Backoff(initial_s=0.0))


@attrs.frozen
class Number:
    value: int


class NotYet(Exception):
    """It will be possible later."""


class Numbers(Component):
    out = Outbox(Number)

    def run(self) -> None:
        raise NotImplementedError("a device")


class Sum(Component):
    """Takes even numbers, and odd ones not before it has seen four."""

    numbers = Inbox(Number, retry=NOW_AND_THEN)
    seen = Table(int, int)
    count = State(int)

    @numbers.handler
    def add(self, number: Number) -> None:
        if number.value % 2 and self.count < 4:
            raise NotYet(number.value)
        self.count += 1
        self.seen[number.value] = self.seen.get(number.value, 0) + 1


def summing() -> System:
    system = System("summing")
    numbers, total = system.add(Numbers()), system.add(Sum())
    system.connect(numbers.out, total.numbers)
    return system


VALUES = (1, 2, 3, 4, 6, 8, 10)
SCRIPT: Any = {"numbers": [Number(value) for value in VALUES]}


def each_is_in_one_place(view: View) -> None:
    for moment in (view.whole, view.committed):
        places = Counter(number.value for number in moment["sum"].numbers)
        places.update(number.value for number in moment.dead_letters("sum"))
        places.update(dict(moment["sum"].seen))
        assert set(places.values()) <= {1}, places


def all_are_somewhere(view: View) -> None:
    places = {*view["sum"].seen, *(number.value for number in view.whole.dead_letters("sum"))}
    assert places == set(VALUES)
    assert not view["sum"].numbers


def runs(faults: Faults, seeds: int = 150, at_end: Any = all_are_somewhere) -> list[Result]:
    return [
        simulate(
            summing(),
            seed,
            sources=SCRIPT,
            invariants=each_is_in_one_place,
            at_end=at_end,
            allow=[NotYet],
            faults=faults,
        )
        for seed in range(seeds)
    ]


QUIET = Faults(errors=0.0, crashes=0.0, restarts=0.0, delays=0.0, disk_errors=0.0)
RETRIES = attrs.evolve(QUIET, retries=0.2, most=12)
DROPS = attrs.evolve(QUIET, retries=0.0, drops=0.2, most=12)
ALL = Faults(errors=0.1, crashes=0.1, restarts=0.05, delays=0.1, disk_errors=0.1, retries=0.2, most=12)


def test_dead_letters_are_retried_and_no_message_is_lost_or_in_two_places() -> None:
    results = runs(RETRIES, seeds=100)
    assert sum(result.retries for result in results) > 50
    assert sum(result.drops for result in results) == 0
    assert max(result.retries for result in results) <= 12


def test_a_letter_that_is_retried_in_time_is_handled() -> None:
    handled: Counter[int] = Counter()

    def note(view: View) -> None:
        handled.update(dict(view["sum"].seen))

    runs(RETRIES, seeds=60, at_end=note)
    assert handled[1] > 0
    assert handled[3] > 0


def test_dead_letters_are_dropped_where_that_is_asked_for() -> None:
    there: Counter[int] = Counter()

    def note(view: View) -> None:
        there[len(view["sum"].seen) + len(view.whole.dead_letters("sum"))] += 1

    results = runs(DROPS, at_end=note)
    dropped = sum(result.drops for result in results)
    assert dropped > 50
    assert sum(result.retries for result in results) == 0
    assert sum((len(VALUES) - found) * times for found, times in there.items()) == dropped


def test_an_operator_retries_by_default_and_drops_nothing() -> None:
    results = runs(Faults(), seeds=100)
    assert sum(result.retries for result in results) > 5
    assert sum(result.drops for result in results) == 0
    assert sum(result.retries for result in runs(Faults.none(), 20)) == 0


def test_together_with_all_other_faults_nothing_is_lost_or_in_two_places() -> None:
    results = runs(ALL, seeds=200)
    assert sum(result.retries for result in results) > 50
    assert sum(result.crashes for result in results) > 50


def test_the_story_says_what_the_operator_does_and_its_choices_lead_there_again() -> None:
    def has_seen_no_three(view: View) -> None:
        assert 3 not in view["sum"].seen

    def go(seed: int, **options: Any) -> None:
        simulate(summing(), seed, sources=SCRIPT, at_end=has_seen_no_three, allow=[NotYet], faults=RETRIES, **options)

    found: SimulationFailed | None = None
    for seed in range(100):
        try:
            go(seed)
        except SimulationFailed as failure:
            found = failure
            break
    assert found is not None
    assert "the operator retried the dead letter sum.numbers-run1-3 of sum.numbers" in found.story
    assert "dead letters sent Number(value=3) to sum.numbers" in found.story
    with pytest.raises(SimulationFailed) as again:
        go(found.seed, choices=found.choices)
    assert again.value.story == found.story


def test_without_dead_letters_the_same_seeds_make_the_same_runs_as_without_operators() -> None:
    script = {"numbers": [Number(value) for value in (2, 4)]}
    for seed in range(30):
        likely, never = (
            simulate(summing(), seed, sources=script, faults=Faults(retries=likely)) for likely in (1.0, 0.0)
        )
        assert likely == never


def test_an_operator_who_stands_still_is_no_component_that_could_be_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    restarted: Counter[str] = Counter()
    restart = Run._restart

    def note(run: Run, name: str, why: str) -> None:
        restarted[name] += 1
        restart(run, name, why)

    monkeypatch.setattr(Run, "_restart", note)
    runs(attrs.evolve(QUIET, retries=1.0, delays=1.0, restarts=0.01, most=300), seeds=40)
    assert restarted.keys() == {"numbers", "sum"}


def test_the_system_stays_until_the_operator_is_done() -> None:
    """Otherwise a message that is retried in the last moment would wait for the next start."""
    script = {"numbers": [Number(1)]}
    likely = attrs.evolve(QUIET, retries=1.0, most=3)
    for seed in range(100):
        simulate(
            summing(),
            seed,
            sources=script,
            at_end=lambda view: not view["sum"].numbers,
            allow=[NotYet],
            faults=likely,
        )


def test_a_letter_that_is_retried_and_kept_all_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Unit.put

    def put_and_keep(unit: Unit, prefix: str, key: str, body: bytes | None) -> None:
        if body is not None:
            put(unit, prefix, key, body)

    monkeypatch.setattr(Unit, "put", put_and_keep)
    with pytest.raises(SimulationFailed, match="each_is_in_one_place does not hold"):
        runs(RETRIES)


def test_without_mercy_a_component_may_be_given_up_and_a_service_manager_starts_the_system_again() -> None:
    merciless = attrs.evolve(QUIET, errors=0.5, retries=0.2, most=20, spare=False)
    given_up: Counter[bool] = Counter()

    def note(view: View) -> None:
        all_are_somewhere(view)
        given_up[view.now_s > 1_001.0] += 1

    results = runs(merciless, seeds=60, at_end=note)
    assert all(result.finished for result in results)
    assert sum(given_up.values()) == 60
    assert given_up[True] > 5

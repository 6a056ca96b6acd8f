"""The choices that a failing run has shown make it again; where they do not lead there any more, that is said."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minions import Component, Inbox, Outbox, State, System, UsageError
from minions.testing import Faults, SimulationFailed, View, simulate


class Source(Component):
    out = Outbox(int)

    def run(self) -> None:
        for number in (1, 2):
            self.out.send(number)


class Sum(Component):
    numbers = Inbox(int)
    total = State(int)

    @numbers.handler
    def add(self, number: int) -> None:
        self.total += number


def summing() -> System:
    system = System("summing")
    source, total = system.add(Source()), system.add(Sum())
    system.connect(source.out, total.numbers)
    return system


def never_three(view: View) -> None:
    assert view["sum"].total != 3


CRASHES = Faults(crashes=0.5, errors=0.0, restarts=0.0, delays=0.0, disk_errors=0.0)


def no_crash(view: View) -> None:
    assert not view.crashes


def failure_of(system: System, invariant: Callable[[View], None], faults: Faults) -> SimulationFailed:
    for seed in range(50):
        try:
            simulate(system, seed, invariants=invariant, faults=faults)
        except SimulationFailed as failure:
            return failure
    pytest.fail("nothing was found")


def leads_there_again(
    found: SimulationFailed, system: System, invariant: Callable[[View], None], faults: Faults
) -> None:
    with pytest.raises(SimulationFailed) as again:
        simulate(system, found.seed, invariants=invariant, faults=faults, choices=found.choices)
    assert again.value.story == found.story
    assert not hasattr(again.value, "__notes__")


def test_choices_that_were_shown_are_all_taken() -> None:
    found = failure_of(summing(), no_crash, CRASHES)
    assert found.choices
    leads_there_again(found, summing(), no_crash, CRASHES)


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ("nobody:0=1", "there is no choice 'nobody' in this run"),
        ("error_in_sum.take:0=1", r"there is no choice 'error in sum\.take' in this run"),
        ("turn:99999=1", r"there are \d+ choices 'turn' in this run, numbered from 0"),
        ("turn:0=99", r"it was \d+, the last that there was to choose"),
    ],
)
def test_choices_that_never_come_are_refused_with_their_label_and_where(choice: str, why: str) -> None:
    with pytest.raises(
        UsageError, match=rf"choices: '{choice}': {why}.*give seed=\.\.\. without choices, or explore again"
    ):
        simulate(summing(), choices=f"turn:1=1 {choice}")


def test_all_of_them_are_named() -> None:
    with pytest.raises(UsageError, match=r"'nobody:0=1': .*; 'nothing:2=1': ") as caught:
        simulate(summing(), choices="turn:1=1 nobody:0=1 nothing:2=1")
    assert "turn:1" not in str(caught.value)


def test_a_run_that_fails_without_having_come_to_all_of_them_says_so_beside_its_story() -> None:
    with pytest.raises(SimulationFailed) as caught:
        simulate(summing(), invariants=never_three, choices="nobody:0=1 turn:99999=1")
    [note] = caught.value.__notes__
    assert note.startswith("this is not the run that was shown: choices: 'nobody:0=1': there is no choice 'nobody'")
    assert "'turn:99999=1'" in note


def test_plain_choices_never_have_to_come() -> None:
    assert simulate(summing(), choices="turn:99999=0 nobody:0=0").finished


class WindTurbine(Component):
    """Its name has an underscore: ``wind_turbine``."""

    numbers = Inbox(int)

    @numbers.handler
    def take_in(self, number: int) -> None: ...


def test_names_with_underscores_are_the_same_again() -> None:
    system = System("wind")
    source, turbine = system.add(Source()), system.add(WindTurbine())
    system.connect(source.out, turbine.numbers)
    errors = Faults(errors=0.9, crashes=0.0, restarts=0.0, delays=0.0, disk_errors=0.0)

    def no_error(view: View) -> None:
        assert view["wind_turbine"].numbers == () or view.now_s < 1_000.1

    found = failure_of(system, no_error, errors)
    assert "in_wind~turbine." in found.choices
    leads_there_again(found, system, no_error, errors)

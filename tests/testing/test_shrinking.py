"""A failing run is made shorter for as long as it fails for the same reason."""

from __future__ import annotations

from collections.abc import Callable

from minions.testing.choices import Choices, Taken, said, understood
from minions.testing.shrinking import shrunk


def needing(*sets: Taken) -> tuple[Callable[[Taken], Taken | None], list[Taken]]:
    """Runs that fail where one of these sets of choices is made, and what was tried."""
    tried: list[Taken] = []

    def fails(candidate: Taken) -> Taken | None:
        tried.append(dict(candidate))
        return dict(candidate) if any(needed.items() <= dict(candidate).items() for needed in sets) else None

    return fails, tried


MANY: Taken = {("turn", number): 1 for number in range(40)} | {
    ("crashes", 3): 1,
    ("mint", 2): 2,
    ("its seconds", 0): 2,
    ("error in mint.run", 0): 1,
    ("without delays", 0): 2,
}


def test_what_is_not_needed_is_left_out() -> None:
    needed: Taken = {("turn", 7): 1, ("turn", 31): 1, ("mint", 2): 2, ("its seconds", 0): 2}
    fails, tried = needing(needed)
    assert shrunk(MANY, fails, 10.0) == needed
    assert len(tried) < 200


def test_one_fault_alone_is_tried_at_other_moments_too() -> None:
    fails, tried = needing({("mint", 0): 2}, {("mint", 2): 2, ("crashes", 3): 1})
    assert shrunk(MANY, fails, 10.0) == {("mint", 0): 2}
    assert len(tried) < 200


def test_a_choice_is_made_smaller() -> None:
    fails, _ = needing({("mint", 2): 2}, {("mint", 2): 1})
    assert shrunk({("mint", 2): 2}, fails, 10.0) == {("mint", 2): 1}


def test_a_fault_is_made_to_happen_sooner() -> None:
    fails, _ = needing({("mint", 9): 1, ("desk", 4): 1}, {("mint", 1): 1, ("desk", 4): 1})
    assert shrunk({("mint", 9): 1, ("desk", 4): 1}, fails, 10.0) == {("mint", 1): 1, ("desk", 4): 1}


def test_without_time_everything_stays() -> None:
    fails, tried = needing(MANY)
    assert shrunk(MANY, fails, 0.0) == MANY
    assert tried == []


def test_a_run_that_always_fails_needs_nothing() -> None:
    assert shrunk(MANY, lambda candidate: dict(candidate), 10.0) == {}


def test_choices_are_told_in_one_line_and_understood_again() -> None:
    assert understood(said(MANY)) == MANY
    assert said({("error in desk#1.take", 2): 1}) == "error_in_desk#1.take:2=1"
    assert understood("") == {}


def test_choices_that_were_taken_make_the_same_choices_again() -> None:
    drawn = Choices(7)
    first = [(drawn.below("turn", 4), drawn.one_of("mint", (0.2, 0.5))) for _ in range(50)]
    given = Choices(0, drawn.taken)
    assert [(given.below("turn", 4), given.one_of("mint", (0.2, 0.5))) for _ in range(50)] == first
    assert given.taken == drawn.taken
    assert {choice for _, choice in first} == {0, 1, 2}
    plain = Choices(0, {})
    assert [(plain.below("turn", 4), plain.one_of("mint", (1.0,))) for _ in range(5)] == [(0, 0)] * 5


def test_a_choice_that_is_not_there_any_more_becomes_the_last_one() -> None:
    assert Choices(0, {("turn", 0): 9}).below("turn", 3) == 2
    assert Choices(0, {("mint", 0): 9}).one_of("mint", (0.1, 0.2)) == 2

"""What does not fit is refused with the name of the argument, its value and what would fit, by every tool for tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from minions import Component, Inbox, Outbox, State, System, UsageError, every
from minions.events import SystemStarted
from minions.model import checks
from minions.testing import (
    FakeClock,
    Faults,
    Harness,
    Running,
    Send,
    View,
    Wait,
    explore,
    harness,
    replay,
    running,
    simulate,
)

HUGE = 10**400
"""No float is so large."""


class Strange:
    def __repr__(self) -> str:
        return "<strange>"


NO_NUMBERS: list[Any] = [None, "x", b"x", True, [], {}, Strange(), int]
NO_PATIENCE: list[Any] = [*NO_NUMBERS[1:], math.nan, math.inf, -1, -0.5, HUGE]
NO_COUNTS: list[Any] = [*NO_NUMBERS, math.nan, math.inf, -1, 1.5]
NO_SWITCHES: list[Any] = [None, "x", 0, 1, [], Strange()]
NO_FUNCTIONS: list[Any] = [None, "x", 1, True, [], Strange()]
NO_NAMES: list[Any] = [None, "thermometer", b"x", 1, True, [1], [None], {"a": 1}, Strange()]
NO_PATHS: list[Any] = [None, 1, True, math.nan, b"x", [], {}, Strange()]


class Source(Component):
    out = Outbox(int)

    def run(self) -> None:
        self.out.send(1)


class Sum(Component):
    numbers = Inbox(int)
    total = State(int)

    @numbers.handler
    def add(self, number: int) -> None:
        self.total += number

    @every(seconds=60)
    def tick(self) -> None: ...


class Kept(Component):
    numbers = Inbox(int)
    total = State(int)

    @numbers.handler
    def add(self, number: int) -> None:
        self.total += number


def summing() -> System:
    system = System("summing")
    source, total = system.add(Source()), system.add(Kept(), name="sum")
    system.connect(source.out, total.numbers)
    return system


def refused(call: Callable[[Any], object], value: Any, *words: str) -> None:
    """The error names all of these words, and the value."""
    with pytest.raises(UsageError) as caught:
        call(value)
    for word in (*words, checks.shown(value)):
        assert word in str(caught.value)


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", NO_NUMBERS)
@pytest.mark.parametrize("move", ["advance", "jump"])
def test_time_moves_by_a_number(move: str, value: Any) -> None:
    refused(getattr(FakeClock(), move), value, f"{move}()", "seconds=", "a number of seconds")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, HUGE])
@pytest.mark.parametrize("move", ["advance", "jump"])
def test_time_moves_on_only(move: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{move}\(seconds=.*\): time moves on only"):
        getattr(FakeClock(), move)(value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, math.inf, HUGE])
@pytest.mark.parametrize("name", ["monotonic_s", "wall_s"])
def test_a_clock_begins_with_a_number(name: str, value: Any) -> None:
    refused(lambda value: FakeClock(**{name: value}), value, "FakeClock()", f"{name}=", "a finite number")


@pytest.mark.parametrize("method", ["advance", "settle", "is_settled"])
@pytest.mark.parametrize("value", NO_NAMES)
def test_a_clock_is_told_names(method: str, value: Any) -> None:
    clock = FakeClock()
    arguments = (0.0,) if method == "advance" else ()
    refused(
        lambda value: getattr(clock, method)(*arguments, besides=value),
        value,
        f"{method}()",
        "besides=",
        '["thermometer"]',
    )


@pytest.mark.parametrize("value", [None, *NO_PATIENCE])
def test_a_clock_is_told_how_long_to_wait(value: Any) -> None:
    clock = FakeClock()
    for call in (
        lambda value: clock.advance(0.0, timeout_s=value),
        lambda value: clock.settle(timeout_s=value),
        lambda value: clock.until(lambda: True, timeout_s=value),
        lambda value: clock.wait_for_waiters(0, timeout_s=value),
    ):
        refused(call, value, "timeout_s=", "a finite number of real seconds")


@pytest.mark.parametrize("value", NO_COUNTS)
def test_a_clock_is_told_how_many_to_wait_for(value: Any) -> None:
    refused(FakeClock().wait_for_waiters, value, "wait_for_waiters()", "count=", "a whole number from 0 up")


@pytest.mark.parametrize("value", NO_FUNCTIONS)
def test_a_clock_is_told_what_to_ask(value: Any) -> None:
    refused(FakeClock().until, value, "until()", "predicate=", "a function")


# running --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("folder", NO_PATHS[1:]),
        ("forever", NO_SWITCHES),
        ("until_up", NO_SWITCHES),
        ("control", NO_SWITCHES),
        ("timeout_s", [None, *NO_PATIENCE]),
        ("stop_timeout_s", [*NO_PATIENCE, 0]),
        ("watchdog", NO_NUMBERS[1:]),
        ("expect_failures", NO_COUNTS[1:]),
        ("expect_dead_letters", NO_COUNTS[1:]),
        ("expect_zombies", NO_COUNTS[1:]),
        ("expect_problems", NO_COUNTS[1:]),
    ],
)
def test_what_running_refuses(name: str, values: list[Any]) -> None:
    for value in values:
        refused(lambda value: running(summing(), **{name: value}), value, "running('summing')", f"{name}=", "must be")


@pytest.fixture(scope="module")
def run() -> Iterator[Running]:
    with running(summing()) as run:
        yield run


@pytest.mark.parametrize("value", NO_PATIENCE)
def test_how_long_a_run_is_waited_for(run: Running, value: Any) -> None:
    for call in (
        lambda value: run.until(lambda: True, timeout_s=value),
        lambda value: run.wait_for(SystemStarted, timeout_s=value),
        lambda value: run.until_idle(timeout_s=value),
        lambda value: run.settle(timeout_s=value),
        lambda value: run.until_over(timeout_s=value),
    ):
        refused(call, value, "timeout_s=", "a finite number of real seconds")


@pytest.mark.parametrize("value", NO_NAMES)
def test_whom_a_run_does_not_wait_for(run: Running, value: Any) -> None:
    refused(lambda value: run.until_idle(besides=value), value, "summing: until_idle()", "besides=")
    refused(lambda value: run.settle(besides=value), value, "summing: settle()", "besides=")


def test_somebody_who_is_not_there_is_not_left_out(run: Running) -> None:
    for wait in (run.until_idle, run.settle):
        with pytest.raises(UsageError, match=r"besides=\['nobody', 'sum'\]: there is no component nobody; there are s"):
            wait(besides=["nobody", "sum"])


@pytest.mark.parametrize("value", NO_COUNTS)
def test_how_many_events_a_run_is_waited_for(run: Running, value: Any) -> None:
    refused(lambda value: run.wait_for(SystemStarted, value), value, "summing: wait_for()", "count=")


@pytest.mark.parametrize("value", NO_FUNCTIONS)
def test_what_a_run_is_asked(run: Running, value: Any) -> None:
    refused(run.until, value, "predicate=", "a function")


# harness --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def h() -> Iterator[Harness[Sum]]:
    with harness(Sum()) as h:
        yield h


@pytest.mark.parametrize("value", NO_SWITCHES)
def test_whether_a_harness_raises(value: Any) -> None:
    refused(lambda value: harness(Sum(), raises=value), value, "harness()", "raises=", "True or False")


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_harness_moves_time_by_a_number(h: Harness[Sum], value: Any) -> None:
    refused(h.advance, value, "advance()", "seconds=")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, HUGE])
def test_a_harness_moves_time_on_only(h: Harness[Sum], value: float) -> None:
    with pytest.raises(ValueError, match="time moves on only"):
        h.advance(value)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_harness_reads_dead_letters(h: Harness[Sum], value: Any) -> None:
    refused(h.message_of, value, "sum: message_of()", "letter=", "h.dead_letters")


def test_a_harness_has_partitions_of_keys() -> None:
    with (
        harness(Kept(), partition_by=lambda number: number) as h,
        pytest.raises(UsageError, match=r"kept: partition\(key\): 1.5"),
    ):
        h.partition(1.5)


def _shrinking(function: Callable[..., object], shrink_s: Any) -> None:
    function(summing(), shrink_s=shrink_s)


# simulate and explore -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, True, math.nan, b"x", [], {}, Strange()])
def test_choices_are_a_text(value: Any) -> None:
    refused(lambda value: simulate(summing(), choices=value), value, "simulate()", "choices=", "a text")


@pytest.mark.parametrize("value", [None, "x", True, math.nan, -1, []])
def test_how_long_to_look_for_a_shorter_run(value: Any) -> None:
    for function in (simulate, explore):
        refused(partial(_shrinking, function), value, "shrink_s=", "a number of seconds")


def test_it_may_be_looked_for_for_ever_and_ever() -> None:
    assert simulate(summing(), shrink_s=HUGE).finished


@pytest.mark.parametrize("value", NO_FUNCTIONS[1:])
def test_who_is_told_how_far_it_has_come(value: Any) -> None:
    refused(lambda value: explore(summing(), progress=value), value, "explore()", "progress=", "a function")


def test_an_invariant_takes_a_view() -> None:
    for name in ("invariants", "at_end"):
        for function in (lambda: True, lambda view, other: True):
            arguments: dict[str, Any] = {name: function}
            with pytest.raises(UsageError, match=f"{name}: .* does not take one argument, the view"):
                simulate(summing(), **arguments)


@pytest.mark.parametrize("value", NO_SWITCHES)
def test_faults_spare_or_do_not(value: Any) -> None:
    refused(lambda value: Faults(spare=value), value, "Faults(spare=", "True or False")


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, math.inf, -1, HUGE])
def test_a_script_waits_for_a_time(value: Any) -> None:
    refused(Wait, value, "Wait(", "a number of seconds")


@pytest.mark.parametrize("value", NO_NUMBERS[2:])
def test_a_script_sends_through_an_outbox_of_a_name(value: Any) -> None:
    refused(lambda value: Send(value, 1), value, "Send(", "name of the outbox")


def test_a_source_has_one_script() -> None:
    system = System("two")
    source, total = system.add(Source()), system.add(Kept())
    system.connect(source.out, total.numbers)
    with pytest.raises(UsageError, match="source has two scripts, by its name and by itself: give it one"):
        simulate(system, sources={"source": [1], source: [2]})


def test_a_script_sends_what_the_outbox_carries_and_no_subclass() -> None:
    with pytest.raises(UsageError, match="the script of source sends True, and out carries int"):
        simulate(summing(), sources={"source": [True]})


def test_an_invariant_asks_for_partitions_where_there_are_some() -> None:
    def looks(view: View) -> None:
        view["sum"].partition("ada")

    with pytest.raises(UsageError, match=r"sum has no partitions: say view\['sum'\] without partition\('ada'\)"):
        simulate(summing(), invariants=looks)


def test_an_invariant_asks_for_partitions_by_their_keys() -> None:
    system = System("parts")
    source, total = system.add(Source()), system.add(Kept(), partition_by=lambda number: number)
    system.connect(source.out, total.numbers)

    def looks(view: View) -> None:
        view["kept"].partition(1.5)

    with pytest.raises(UsageError, match=r"view\['kept'\]\.partition\(key\): 1\.5, and a float cannot be a key"):
        simulate(system, invariants=looks)


# replay ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", NO_PATHS)
def test_what_is_replayed(value: Any) -> None:
    refused(lambda value: replay(value, app="app.py"), value, "replay()", "crash=", "a text or a Path")
    refused(lambda value: replay("crash.json", app=value), value, "replay()", "app=", "a text or a Path")


@pytest.mark.parametrize("value", [None, "x", 1, [1], Strange()])
def test_what_calls_answer(value: Any) -> None:
    refused(
        lambda value: replay(Path("crash.json"), app="app.py", answers=value),
        value,
        "replay()",
        "answers=",
        "a dictionary",
    )


# What invariants do ---------------------------------------------------------------------------------------------------


class Listed(Component):
    numbers = Inbox(int)
    seen = State(list[int])
    names = State(set[str])

    @numbers.handler
    def add(self, number: int) -> None:
        self.seen.append(number)
        self.names.add(str(number))


@pytest.mark.parametrize("value", [99, "of another type"])
@pytest.mark.parametrize("name", ["invariants", "at_end"])
def test_an_invariant_that_changes_what_it_was_shown_is_refused(name: str, value: Any) -> None:
    system = System("listing")
    source, listed = system.add(Source()), system.add(Listed())
    system.connect(source.out, listed.numbers)

    def changes(view: View) -> None:
        view[listed].seen.append(value)

    def looks(view: View) -> None:
        sorted(view[listed].seen)
        set(view[listed].names)
        assert view[listed].names >= set()

    arguments: dict[str, Any] = {name: changes}
    with pytest.raises(
        UsageError, match=r"an invariant has changed what it was shown, a State of list\[int\].*copy it first"
    ):
        simulate(system, **arguments)
    arguments = {name: looks}
    assert explore(system, 20, progress=lambda line: None, **arguments).runs == 20


def test_an_invariant_assigns_to_nothing() -> None:
    def assigns(view: View) -> None:
        view["sum"].total = 5

    with pytest.raises(UsageError, match=r"view\['sum'\]\.total = \.\.\.: an invariant looks, and changes nothing"):
        simulate(summing(), invariants=assigns)

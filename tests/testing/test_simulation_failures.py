"""`simulate`: what counts as a failure, and how it is told."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from minions import (
    Backoff,
    CallFailed,
    Component,
    Inbox,
    InboxFull,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    UsageError,
    Uses,
)
from minions.testing import Faults, InjectedError, SimulationFailed, View, simulate
from tests.testing.summing import ALL, SCRIPT, Number, Numbers, Sum, summing

AT_ONCE = Backoff(initial_s=0.0)


def never_three(view: View) -> None:
    assert view["sum"].total < 3, "three"


def failing(**options: Any) -> SimulationFailed:
    with pytest.raises(SimulationFailed) as failed:
        simulate(summing(), 5, sources=SCRIPT, invariants=never_three, **options)
    return failed.value


def test_a_failure_tells_its_story_and_how_to_see_it_again() -> None:
    failure = failing()
    assert isinstance(failure, AssertionError)
    assert failure.seed == 5
    assert failure.failure.startswith("the invariant never_three does not hold: three")
    assert failure.failure.endswith("[sum.total = 3]")
    text = str(failure)
    assert "   1. " in text
    assert "numbers.run sent Number(value=1) to sum.numbers" in text
    assert "sum handled Number(value=2), left total = 3 and left seen[2] = 1" in text
    assert "simulate(system, seed=5, ...)" in text
    assert f"choices={failure.choices!r}" in text
    assert failure.story[-1] == failure.failure
    again = failing(choices=failure.choices, shrink_s=0.0)
    assert again.story == failure.story


def test_a_failure_that_needs_no_fault_is_told_without_one() -> None:
    failure = failing(faults=ALL)
    assert failure.choices == ""
    assert not any(word in line for line in failure.story for word in ("died", "injected", "stood still", "restarted"))


def test_an_invariant_may_say_no_by_what_it_returns_or_by_any_error() -> None:
    with pytest.raises(SimulationFailed, match="the invariant <lambda> does not hold"):
        simulate(summing(), sources=SCRIPT, invariants=lambda view: view["sum"].total < 3)
    with pytest.raises(SimulationFailed, match=r"does not hold \(ZeroDivisionError\)"):
        simulate(summing(), sources=SCRIPT, invariants=lambda view: 1 / (view["sum"].total - 3))


class Asynchronous:
    async def __call__(self, view: View) -> None:
        raise AssertionError


def test_an_invariant_says_no_by_an_exit_and_by_the_false_of_numpy() -> None:
    def fails_once(view: View) -> None:
        if view["sum"].total == 3:
            pytest.fail("three")

    with pytest.raises(SimulationFailed, match=r"the invariant fails_once does not hold .*three \[sum.total = 3\]"):
        simulate(summing(), sources=SCRIPT, invariants=fails_once, faults=Faults.none())

    class NumpyBool(int):
        pass

    NumpyBool.__module__, NumpyBool.__name__ = "numpy", "bool_"

    def is_small(view: View) -> object:
        return NumpyBool(view["sum"].total < 3)

    with pytest.raises(SimulationFailed, match="the invariant is_small does not hold"):
        simulate(summing(), sources=SCRIPT, invariants=is_small, faults=Faults.none())
    with pytest.raises(UsageError, match="the invariant Asynchronous is asynchronous"):
        simulate(summing(), sources=SCRIPT, at_end=Asynchronous(), faults=Faults.none())


def test_what_has_to_hold_at_the_end_is_looked_at_then_only() -> None:
    def nothing_came(view: View) -> None:
        assert not view["sum"].seen

    with pytest.raises(SimulationFailed, match="the invariant nothing_came does not hold") as failed:
        simulate(summing(), sources=SCRIPT, at_end=nothing_came)
    assert sum(line.startswith("sum handled") for line in failed.value.story) == 4


def test_an_error_that_no_fault_explains_is_a_failure_unless_it_is_allowed() -> None:
    class NotCovered(Exception):
        pass

    class Picky(Sum):
        numbers = Inbox(Number, retry=Retry(attempts=1, then="skip"))

        @numbers.handler
        def add(self, number: Number) -> None:
            if number.value == 3:
                raise NotCovered("three")

    system = System("picky")
    numbers, picky = system.add(Numbers()), system.add(Picky())
    system.connect(numbers.out, picky.numbers)
    with pytest.raises(SimulationFailed, match=r"picky.add with Number\(value=3\) raised NotCovered: three") as failed:
        simulate(system, sources=SCRIPT)
    assert isinstance(failed.value.__cause__, NotCovered)
    simulate(system, sources=SCRIPT, allow=[NotCovered])


@pytest.mark.parametrize("error", [CallFailed, InboxFull])
def test_an_error_of_the_runtime_needs_a_fault_that_explains_it(error: type[Exception]) -> None:
    class Fails(Sum):
        numbers = Inbox(Number)

        @numbers.handler
        def add(self, number: Number) -> None:
            raise error("without any fault")

    system = System("failing")
    numbers, fails = system.add(Numbers()), system.add(Fails())
    system.connect(numbers.out, fails.numbers)
    with pytest.raises(SimulationFailed, match=f"{error.__name__}: without any fault"):
        simulate(system, sources=SCRIPT, faults=Faults.none())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_is_an_error_like_any_other(error: type[BaseException]) -> None:
    class Leaves(Sum):
        numbers = Inbox(Number)

        @numbers.handler
        def add(self, number: Number) -> None:
            raise error

    system = System("leaving")
    numbers, leaves = system.add(Numbers()), system.add(Leaves())
    system.connect(numbers.out, leaves.numbers)
    with pytest.raises(SimulationFailed, match=rf"leaves.add with Number\(value=1\) raised {error.__name__}"):
        simulate(system, sources=SCRIPT, faults=Faults.none())
    assert simulate(system, sources=SCRIPT, faults=Faults.none(), allow=[error]).units > 4


class HandsOn(Sum):
    numbers = Inbox(Number)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value
        self.after_commit(self.tell)

    def tell(self) -> None:
        raise ConnectionError("nobody listens")


def test_what_after_commit_was_handed_is_looked_at_too() -> None:
    system = System("handing on")
    numbers, hands_on = system.add(Numbers()), system.add(HandsOn())
    system.connect(numbers.out, hands_on.numbers)
    with pytest.raises(SimulationFailed, match=r"hands_on\.after_commit raised ConnectionError: nobody listens"):
        simulate(system, sources=SCRIPT, faults=Faults.none())
    simulate(system, sources=SCRIPT, faults=Faults.none(), allow=[ConnectionError])


class IsInterrupted(Sum):
    numbers = Inbox(Number)

    @numbers.handler
    def add(self, number: Number) -> None:
        signal.raise_signal(signal.SIGINT)
        self.total += number.value


def test_ctrl_c_ends_a_simulation_and_is_no_failure_of_a_component() -> None:
    system = System("interrupted")
    numbers, total = system.add(Numbers()), system.add(IsInterrupted())
    system.connect(numbers.out, total.numbers)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            simulate(system, sources=SCRIPT, faults=Faults.none())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):  # also where the runtime's own thread has the turn
        simulate(
            summing(),
            sources=SCRIPT,
            invariants=lambda view: signal.raise_signal(signal.SIGINT),
            faults=Faults.none(),
        )


def test_what_a_called_method_raises_is_an_answer() -> None:
    class Refusing(Component):
        def ask(self) -> None:
            raise LookupError("no")

    class Asking(Component):
        numbers = Inbox(Number)
        refusing = Uses(Refusing)
        refused = State(int)

        @numbers.handler
        def ask(self, number: Number) -> None:
            with pytest.raises(LookupError):
                self.refusing.ask()
            self.refused += 1

    system = System("refusing")
    numbers, asking = system.add(Numbers()), system.add(Asking())
    system.add(Refusing())
    system.connect(numbers.out, asking.numbers)
    simulate(system, sources=SCRIPT, at_end=lambda view: view["asking"].refused == 4, faults=Faults.none())


def test_a_component_that_ends_for_good_is_a_failure() -> None:
    class Broken(Component):
        out = Outbox(Number)

        def run(self) -> None:
            raise InjectedError("the device is gone")

    system = System("broken")
    broken, total = system.add(Broken(), restart=Restart(failures=1, backoff=AT_ONCE)), system.add(Sum())
    system.connect(broken.out, total.numbers)
    with pytest.raises(SimulationFailed, match="has ended and not in order: broken"):
        simulate(system)


def test_a_sender_that_waits_for_room_for_months_is_stopped_when_the_steps_are_used_up() -> None:
    class Waiting(Component):
        out = Outbox(Number)

        def run(self) -> None:
            while True:
                self.out.send(Number(1))

    class Deaf(Component):
        numbers = Inbox(Number, capacity=1)

        def run(self) -> None:
            for number in self.numbers:
                self.sleep(10_000_000.0 * number.value)

    system = System("deaf")
    waiting, deaf = system.add(Waiting()), system.add(Deaf())
    system.connect(waiting.out, deaf.numbers)
    result = simulate(system, faults=Faults.none(), steps=50)
    assert not result.finished
    assert result.simulated_s >= 10_000_000.0


def test_a_system_that_goes_on_for_ever_is_stopped_after_its_steps() -> None:
    class Endless(Component):
        out = Outbox(Number)

        def run(self) -> None:
            while self.running:
                self.out.send(Number(0))

    system = System("endless")
    endless, total = system.add(Endless()), system.add(Sum())
    system.connect(endless.out, total.numbers)
    result = simulate(system, steps=300)
    assert not result.finished
    assert 300 <= result.turns < 6_000

"""Calls from outside of a simulated system: who calls is drawn, goes on through crashes, and is told what it would be told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from minions import CallFailed, CallTimeout, Component, Inbox, Outbox, State, System, UsageError, wrap
from minions.testing import Call, Faults, Result, SimulationFailed, View, Wait, explore, simulate


class TooMuch(Exception):
    """There is not so much."""


class Accounts(Component):
    balance = State(int)

    def deposit(self, amount: int, *, note: str = "") -> int:
        self.balance += amount
        return self.balance

    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise TooMuch(f"there is {self.balance}")
        self.balance -= amount
        return self.balance


class Slow(Component):
    def take(self, seconds: float) -> str:
        self.sleep(seconds)
        return "taken"


class Basket(Component):
    items = State(list[str])

    def put(self, items: list[str]) -> None:
        items.append("and more")
        self.items = items


class Numbers(Component):
    """A source, which answers no calls."""

    out = Outbox(int, optional=True)

    def run(self) -> None:
        self.out.send(1)

    def ask(self) -> None: ...


class Handles(Component):
    numbers = Inbox(int)

    @numbers.handler
    def take(self, number: int) -> None: ...


def bank() -> System:
    system = System("bank")
    system.add(Accounts())
    return system


def alone(component: Component) -> System:
    system = System("alone")
    system.add(component)
    return system


CALLS = {
    "web": [Call("accounts", Accounts.deposit, 10), Call("accounts", Accounts.deposit, 1)],
    "app": [Call("accounts", Accounts.deposit, 100)],
}
AT_LEAST_ONCE = {who: [call.until_answered() for call in calls] for who, calls in CALLS.items()}
CRASHES = Faults(crashes=0.3, errors=0.0, restarts=0.0, delays=0.0, disk_errors=0.0)
RESTARTS = Faults(crashes=0.0, errors=0.0, restarts=0.5, delays=0.5, disk_errors=0.0)


def all_came(view: View) -> None:
    assert view["accounts"].balance == 111
    assert [each.arguments for each in view.called("web")] == [(10,), (1,)]
    assert [each.component for each in view.called("app")] == ["accounts"]


# What happens ---------------------------------------------------------------------------------------------------------


def test_calls_are_made_and_the_system_ends_when_all_were() -> None:
    result = simulate(bank, calls=CALLS, at_end=all_came, faults=Faults.none())
    assert result.finished
    assert result.calls == 3


def test_a_caller_gets_the_answer_or_what_the_method_has_raised() -> None:
    calls = {"web": [Call("accounts", Accounts.withdraw, 1), Call("accounts", Accounts.deposit, 3, note="more")]}
    told = []

    def listen(view: View) -> None:
        told.append(view.called("web"))

    simulate(bank, calls=calls, at_end=listen, faults=Faults.none())
    [[failed, answered]] = told
    assert isinstance(failed.error, TooMuch)
    assert failed.answer is None
    assert (answered.component, answered.method, answered.arguments) == ("accounts", "deposit", (3,))
    assert answered.keywords == {"note": "more"}
    assert (answered.answer, answered.error) == (3, None)
    assert repr(answered) == "accounts.deposit(3, note='more'): 3"
    assert repr(failed) == "accounts.withdraw(1): raised TooMuch('there is 0')"


def test_the_order_of_calls_of_several_callers_is_drawn_and_each_one_keeps_its_own() -> None:
    orders: Counter[tuple[int, ...]] = Counter()

    def note(view: View) -> None:
        answers = [each.answer for who in ("web", "app") for each in view.called(who)]
        orders[tuple(answers)] += 1

    for seed in range(150):
        simulate(bank, seed, calls=CALLS, at_end=note, faults=Faults.none())
    assert orders.keys() == {(10, 11, 111), (10, 111, 110), (110, 111, 100)}


def test_who_calls_waits_for_as_long_as_it_says_and_the_system_stays() -> None:
    calls: dict[str, list[Call | Wait]] = {
        "web": [Wait(1_800), Wait(1_800), Call("accounts", Accounts.deposit, 1), Wait(60)]
    }
    result = simulate(bank, calls=calls, faults=Faults.none())
    assert result.finished
    assert 3_660 <= result.simulated_s < 3_662


def test_who_calls_begins_when_the_system_is_up() -> None:
    class Late(Accounts):
        def on_start(self) -> None:
            self.sleep(100)

    calls = {"web": [Call("late", Late.deposit, 1)]}

    def was_answered(view: View) -> None:
        assert view.called("web")[0].answer == 1

    assert simulate(alone(Late()), calls=calls, at_end=was_answered, faults=Faults.none()).simulated_s >= 100


def test_a_method_of_what_was_added_is_enough() -> None:
    system = System("bank")
    accounts = system.add(Accounts(), name="savings")
    simulate(
        system,
        calls={"web": [Call(accounts.deposit, 5), Call(accounts, Accounts.deposit, 5)]},
        at_end=lambda view: view[accounts].balance == 10,
        faults=Faults.none(),
    )


def test_an_object_that_is_wrapped_is_called_by_its_class() -> None:
    class Counting:
        def __init__(self) -> None:
            self.count = 0

        def up(self, by: int) -> int:
            self.count += by
            return self.count

    system = System("wrapped")
    system.add(wrap.object(Counting), name="counting")
    simulate(
        system,
        calls={"web": [Call("counting", Counting.up, 2), Call("counting", Counting.up, by=3)]},
        at_end=lambda view: [each.answer for each in view.called("web")] == [2, 5],
        faults=Faults.none(),
    )


def test_no_run_leaves_anything_in_the_arguments_of_the_next() -> None:
    calls = {"web": [Call("basket", Basket.put, ["apple"])]}
    for seed in range(3):
        simulate(
            alone(Basket()),
            seed,
            calls=calls,
            at_end=lambda view: view["basket"].items == ["apple", "and more"],
            faults=Faults.none(),
        )


def test_a_call_that_takes_too_long_is_told_so() -> None:
    calls = {"web": [Call("slow", Slow.take, 31.0), Call("slow", Slow.take, 1.0)]}

    def told(view: View) -> None:
        late, in_time = view.called("web")
        assert isinstance(late.error, CallTimeout)
        assert in_time.answer == "taken"

    simulate(alone(Slow()), calls=calls, at_end=told, faults=Faults.none())


# Faults ---------------------------------------------------------------------------------------------------------------


def crashed(calls: Any, faults: Faults, seeds: int = 100) -> tuple[list[Result], Counter[int], Counter[type | None]]:
    """The results, how much was there at the end, and what callers were told, over many seeds."""
    ends: Counter[int] = Counter()
    told: Counter[type | None] = Counter()

    def note(view: View) -> None:
        ends[view["accounts"].balance] += 1
        for who in calls:
            told.update(None if each.error is None else type(each.error) for each in view.called(who))
            assert len(view.called(who)) == len(calls[who])

    results = [simulate(bank, seed, calls=calls, at_end=note, faults=faults) for seed in range(seeds)]
    assert sum(ends.values()) == seeds
    return results, ends, told


def test_a_call_that_the_process_died_under_was_not_answered_and_the_next_one_is_made() -> None:
    results, ends, told = crashed(CALLS, CRASHES)
    assert told[CallFailed] > 5
    assert told.keys() == {None, CallFailed}
    assert {result.calls for result in results} == {3}  # none is made again
    assert max(ends) == 111
    assert len(ends) > 2  # what was answered and not on disk may be lost, too


def test_a_call_that_has_to_be_answered_is_made_again() -> None:
    results, ends, told = crashed(AT_LEAST_ONCE, CRASHES)
    assert told.keys() == {None}
    assert max(result.calls for result in results) > 3
    assert max(ends) > 111  # it was done, and on disk, and nobody had heard of it


def test_it_is_made_again_where_the_component_was_restarted_under_it() -> None:
    told = crashed(CALLS, RESTARTS)[2]
    assert told[CallFailed] > 0
    told = crashed(AT_LEAST_ONCE, RESTARTS)[2]
    assert told.keys() == {None}


def test_it_is_not_made_again_for_ever() -> None:
    calls = {"web": [Call("slow", Slow.take, 100.0).until_answered()]}

    def told(view: View) -> None:
        [late] = view.called("web")
        assert isinstance(late.error, CallTimeout)

    assert simulate(alone(Slow()), calls=calls, at_end=told, faults=Faults.none()).calls == 10


def test_what_is_called_may_be_looked_at_after_each_step() -> None:
    def nothing_is_twice(view: View) -> None:
        answered = sum(each.arguments[0] for who in CALLS for each in view.called(who) if each.error is None)
        assert view.crashes or view["accounts"].balance >= answered

    for seed in range(50):
        simulate(bank, seed, calls=CALLS, invariants=nothing_is_twice)


# What is told ---------------------------------------------------------------------------------------------------------


def test_the_story_says_who_called_and_who_was_not_answered_and_its_choices_lead_there_again() -> None:
    def all_or_nothing(view: View) -> None:
        assert view["accounts"].balance in (0, 10)

    calls = {"web": [Call("accounts", Accounts.deposit, 10).until_answered()]}
    with pytest.raises(SimulationFailed) as caught:
        explore(bank, 300, calls=calls, at_end=all_or_nothing, workers=1, faults=CRASHES, progress=lambda line: None)
    found = caught.value
    assert "accounts answered deposit(10), called by web: 10" in found.story
    assert any(line.startswith("web has no answer to accounts.deposit(10), and calls again: ") for line in found.story)
    with pytest.raises(SimulationFailed) as again:
        simulate(bank, found.seed, calls=calls, at_end=all_or_nothing, faults=CRASHES, choices=found.choices)
    assert again.value.story == found.story


def test_other_processes_make_the_same_calls() -> None:
    explored = explore(
        bank, 100, calls=CALLS, at_end=all_came, faults=Faults.none(), workers=2, progress=lambda line: None
    )
    assert explored.processes == 2
    assert explored.finished == 100


any_call: Any = Call
"""Without the help of a type checker."""


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        (None, "give a dictionary"),
        ([Call("accounts", Accounts.deposit, 1)], "give a dictionary"),
        ({1: []}, "say by a name who calls"),
        ({"": []}, "say by a name who calls"),
        ({"a~b": []}, "say by a name who calls"),
        ({"web\n": []}, "say by a name who calls"),
        ({"web": None}, r"a script is a list of Call\(...\) and Wait\(...\)"),
        ({"web": "accounts"}, r"a script is a list of Call\(...\) and Wait\(...\)"),
        ({"web": [1]}, r"a script is a list of Call\(...\) and Wait\(...\)"),
        (
            {"web": [Call("bank", Accounts.deposit, 1)]},
            r"deposit\(1\).*there is no component 'bank'.*there are accounts",
        ),
        ({"web": [Call(Accounts(), Accounts.deposit, 1)]}, "there is no component"),
        ({"web": [Call("accounts", Basket.put, [])]}, "accounts.put cannot be called: Accounts has no such method"),
        ({"web": [Call("accounts", Component.on_start)]}, "accounts.on_start cannot be called: it is the runtime's"),
        ({"web": [any_call("accounts", Accounts.deposit)]}, "accounts.deposit does not take that: missing a required"),
        ({"web": [any_call("accounts", Accounts.deposit, 1, 2)]}, "accounts.deposit does not take that: too many"),
    ],
)
def test_a_script_that_cannot_be_is_refused(calls: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        simulate(bank, calls=calls)
    with pytest.raises(UsageError, match=why):
        explore(bank, calls=calls)


def test_a_component_that_answers_no_calls_is_refused() -> None:
    with pytest.raises(UsageError, match=r"numbers answers no calls: .*it has a run"):
        simulate(alone(Numbers()), calls={"web": [Call("numbers", Numbers.ask)]})


@pytest.mark.parametrize(
    "arguments", [(), (None,), (1,), ("accounts",), ("accounts", "deposit"), (Accounts,), (len, 1)]
)
def test_what_is_no_method_is_no_call(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(
        (UsageError, TypeError), match=r"say first which component|say which component|positional argument"
    ):
        any_call(*arguments)


def test_arguments_that_cannot_be_copied_are_refused() -> None:
    from threading import Lock

    with pytest.raises(UsageError, match=r"put.*the arguments cannot be copied.*cannot pickle"):
        simulate(alone(Basket()), calls={"web": [any_call("basket", Basket.put, Lock())]})


def test_a_caller_that_is_not_there_has_called_nothing() -> None:
    with pytest.raises(UsageError, match=r"view\.called\('nobody'\): there is no such caller.*there are 'web', 'app'"):
        simulate(bank, calls=CALLS, invariants=lambda view: view.called("nobody"))

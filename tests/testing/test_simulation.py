"""What `simulate` runs, what it injects, what it answers, and what it refuses."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import attrs
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
    Table,
    TopologyError,
    UsageError,
    Uses,
    every,
)
from minions.testing import Faults, InjectedError, Result, Send, SimulationFailed, View, Wait, simulate

AT_ONCE = Backoff(initial_s=0.0)


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    out = Outbox(Number)

    def run(self) -> None:
        raise NotImplementedError("a device")


class Sum(Component):
    numbers = Inbox(Number)
    total = State(int)
    seen = Table(int, int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value
        self.seen[number.value] = self.seen.get(number.value, 0) + 1


def summing(**options: Any) -> System:
    system = System("summing", **options)
    numbers, total = system.add(Numbers()), system.add(Sum())
    system.connect(numbers.out, total.numbers)
    return system


SCRIPT = {"numbers": [Number(value) for value in (1, 2, 3, 4)]}
ALL = Faults(errors=0.2, restarts=0.1, crashes=0.1, delays=0.1, disk_errors=0.2, most=10)


def nothing_is_lost(view: View) -> None:
    for moment in (view.whole, view.committed):
        seen = dict(moment["sum"].seen)
        assert set(seen.values()) <= {1}
        assert sum(seen) == moment["sum"].total
        assert not seen.keys() & {number.value for number in moment["sum"].numbers}


def all_came_once(view: View) -> None:
    assert view.at_end
    assert dict(view["sum"].seen) == {1: 1, 2: 1, 3: 1, 4: 1}


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_without_faults_is_the_system_from_its_start_to_its_end() -> None:
    result = simulate(
        summing(), 3, sources=SCRIPT, invariants=nothing_is_lost, at_end=all_came_once, faults=Faults.none()
    )
    assert attrs.evolve(result, turns=0, commits=0) == Result(
        seed=3, units=9
    )  # 4 sent, 4 handled, and the first state of the sum
    assert result.turns > 10
    assert 1 <= result.commits <= 10


def test_the_same_seed_makes_the_same_run_and_others_make_others() -> None:
    first = [simulate(summing(), seed, sources=SCRIPT, faults=ALL) for seed in range(20)]
    assert [simulate(summing(), seed, sources=SCRIPT, faults=ALL) for seed in range(20)] == first
    assert len({(result.turns, result.commits, result.crashes) for result in first}) > 10


def test_the_same_seed_makes_the_same_run_in_another_process_with_other_hashes() -> None:
    code = (
        "from tests.testing.test_simulation import *\n"
        "for seed in range(12): print(simulate(summing(), seed, sources=SCRIPT, faults=ALL))"
    )
    told = set()
    for hashes in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": hashes},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        told.add(done.stdout)
    here = "".join(f"{simulate(summing(), seed, sources=SCRIPT, faults=ALL)}\n" for seed in range(12))
    assert told == {here}


def test_each_fault_is_injected_and_everything_holds_all_the_same() -> None:
    injected: Counter[str] = Counter()
    for seed in range(150):
        result = simulate(summing(), seed, sources=SCRIPT, invariants=nothing_is_lost, at_end=all_came_once, faults=ALL)
        for name in ("crashes", "errors", "restarts", "delays", "disk_errors"):
            injected[name] += getattr(result, name)
        assert sum(injected.values()) <= 10 * (seed + 1)
    assert min(injected.values()) > 20, injected


class SlowSum(Component):
    """Has a message in work while others go on; two deaths of the process are put down to it."""

    numbers = Inbox(Number, retry=Retry(deaths=2))
    seen = Table(int, int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.sleep(1.5)
        self.seen[number.value] = self.seen.get(number.value, 0) + 1


def slowly() -> System:
    system = System("slowly")
    numbers, total = system.add(Numbers()), system.add(SlowSum(), name="sum")
    system.connect(numbers.out, total.numbers)
    return system


PACED = {"numbers": [step for number in SCRIPT["numbers"] for step in (number, Wait(1.0))]}
DEADLY = Faults(crashes=0.1, errors=0, restarts=0, delays=0, disk_errors=0, most=30)


def test_crashes_spare_a_message_that_would_be_taken_for_their_cause() -> None:
    for seed in range(60):
        simulate(slowly(), seed, sources=PACED, at_end=all_came_once, faults=DEADLY)


def test_without_sparing_a_message_may_be_taken_for_the_cause_of_crashes() -> None:
    set_aside: list[Any] = []

    def note(view: View) -> None:
        set_aside.extend(view.whole.dead_letters("sum"))

    for seed in range(60):
        simulate(slowly(), seed, sources=PACED, at_end=note, faults=attrs.evolve(DEADLY, spare=False))
    assert set_aside


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_a_loss_of_power_leaves_a_consistent_state_and_takes_nothing_that_is_full(synchronous: Any) -> None:
    kept: list[tuple[int, int]] = []  # the committed total, and how often the process had died

    def goes_back_only_with_normal(view: View) -> None:
        nothing_is_lost(view)
        total = view.committed["sum"].total
        if kept and kept[-1][1] <= view.crashes:
            went_back.append(total < kept[-1][0])
        kept.append((total, view.crashes))

    went_back: list[bool] = []
    for seed in range(100):
        kept.clear()
        simulate(
            summing(synchronous=synchronous),
            seed,
            sources=SCRIPT,
            invariants=goes_back_only_with_normal,
            at_end=all_came_once,
            faults=Faults(crashes=0.03, power_losses=1.0, errors=0, restarts=0, delays=0, disk_errors=0),
        )
    assert any(went_back) is (synchronous == "NORMAL")


def test_a_factory_is_called_for_each_run_and_the_folder_of_a_system_is_not_touched(tmp_path: Any) -> None:
    made = []

    def make() -> System:
        made.append(True)
        return summing(folder=tmp_path / "state")

    simulate(make, sources=SCRIPT)
    assert made == [True]
    assert not (tmp_path / "state").exists()


def test_what_is_not_durable_is_lost_with_its_process_and_nothing_else_is() -> None:
    class Light(Component):
        numbers = Inbox(Number, durable=False)

        @numbers.handler
        def take(self, number: Number) -> None:
            taken.append(number.value)

    taken: list[int] = []
    system = System("light")
    numbers, light = system.add(Numbers()), system.add(Light())
    system.connect(numbers.out, light.numbers)
    simulate(system, 1, sources=SCRIPT, faults=Faults.none())
    assert taken == [1, 2, 3, 4]
    for seed in range(20):
        taken.clear()
        simulate(system, seed, sources=SCRIPT, faults=Faults(errors=0, delays=0.2, restarts=0.2, crashes=0))
        assert taken == [1, 2, 3, 4]


def test_schedules_calls_groups_partitions_and_rates_run_in_simulated_time() -> None:
    class Clerk(Component):
        numbers = Inbox(Number)
        sums = Uses(Sum)
        ticks = State(int)

        @numbers.handler
        def ask(self, number: Number) -> None:
            self.sleep(100.0)

        @every(seconds=3600)
        def tick(self) -> None:
            self.ticks += 1

    class Kept(Component):
        numbers = Inbox(Number)
        counts = State(dict[int, int])

        @numbers.handler
        def count(self, number: Number) -> None:
            self.counts[number.value] = self.counts.get(number.value, 0) + 1

    def make() -> System:
        system = System("many")
        numbers, clerk, total = system.add(Numbers()), system.add(Clerk()), system.add(Sum())
        kept = system.add(Kept(), partition_by="value", replicas=2)
        for inbox in (clerk.numbers, total.numbers, kept.numbers):
            system.connect(numbers.out, inbox)
        system.group("both", [clerk, total])
        return system

    def partitions_count_once(view: View) -> None:
        for value in (1, 2, 3, 4):
            assert view["kept"].partition(value).counts.get(value, 0) <= 1

    began_s = time.monotonic()
    ticks = []
    for seed in range(10):
        result = simulate(
            make,
            seed,
            sources=SCRIPT,
            invariants=[nothing_is_lost, partitions_count_once, lambda view: ticks.append(view["clerk"].ticks)],
            steps=1_500,
        )
        assert not result.finished, "a schedule never ends"
        assert result.simulated_s > 3 * 3_600
    assert max(ticks) > 3
    assert time.monotonic() - began_s < 60


def test_the_module_random_is_seeded_in_a_run_and_left_as_it_was() -> None:
    drawn: list[float] = []

    class Dice(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def throw(self, number: Number) -> None:
            drawn.append(random.random())

    def make() -> System:
        system = System("dice")
        numbers, dice = system.add(Numbers()), system.add(Dice())
        system.connect(numbers.out, dice.numbers)
        return system

    random.seed(1)
    expected = random.random()
    random.seed(1)
    for seed in (7, 7, 8):
        simulate(make, seed, sources=SCRIPT, faults=Faults.none())
    assert random.random() == expected
    assert drawn[:4] == drawn[4:8] != drawn[8:]


# Scripts --------------------------------------------------------------------------------------------------------------


def test_a_script_waits_names_outboxes_and_goes_on_where_it_was() -> None:
    class Two(Component):
        left = Outbox(Number)
        right = Outbox(Number)

        def run(self) -> None:
            raise NotImplementedError

    class Pair(Component):
        left = Inbox(Number)
        right = Inbox(Number)
        got = State(list[tuple[str, int]])

        @left.handler
        def take_left(self, number: Number) -> None:
            self.got.append(("left", number.value))

        @right.handler
        def take_right(self, number: Number) -> None:
            self.got.append(("right", number.value))

    def each_once(view: View) -> None:
        assert sorted(view["pair"].got) == [("left", 1), ("left", 3), ("right", 2)]

    system = System("two")
    two, pair = system.add(Two()), system.add(Pair())
    system.connect(two.left, pair.left)
    system.connect(two.right, pair.right)
    script = [Send("left", Number(1)), Wait(50.0), Send("right", Number(2)), Send("left", Number(3))]
    for seed in range(40):
        result = simulate(system, seed, sources={two: script}, at_end=each_once, faults=ALL)
        assert result.simulated_s >= 50.0


# Failures -------------------------------------------------------------------------------------------------------------


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


# What invariants see --------------------------------------------------------------------------------------------------


def test_the_view_of_what_is_whole_runs_ahead_of_what_is_committed() -> None:
    ahead = set()
    waiting = set()

    def look(view: View) -> None:
        ahead.add(view["sum"].total - view.committed["sum"].total)
        waiting.add((len(view["sum"].numbers), len(view.committed["sum"].numbers)))
        assert view["sum"].total >= view.committed["sum"].total

    for seed in range(20):
        simulate(summing(), seed, sources=SCRIPT, invariants=look, faults=Faults.none())
    assert max(ahead) >= 3
    assert {(1, 0), (0, 1), (0, 0)} <= waiting


def test_the_view_shows_what_was_set_aside() -> None:
    class Picky(Component):
        numbers = Inbox(Number, retry=Retry(attempts=1))

        @numbers.handler
        def refuse(self, number: Number) -> None:
            if number.value > 2:
                raise LookupError("no")

    def those_over_two(view: View) -> None:
        assert view.whole.dead_letters("picky") == (Number(3), Number(4))

    system = System("picky")
    numbers, picky = system.add(Numbers()), system.add(Picky())
    system.connect(numbers.out, picky.numbers)
    simulate(system, sources=SCRIPT, at_end=those_over_two, allow=[LookupError], faults=Faults.none())


def test_blueprints_answer_too_while_a_run_is_looked_at() -> None:
    system = System("summing")
    numbers, total = system.add(Numbers()), system.add(Sum())
    system.connect(numbers.out, total.numbers)

    def same(view: View) -> None:
        if not view.at_end:
            assert total.total == view[total].total

    simulate(system, sources=SCRIPT, invariants=same)


# Wrong use ------------------------------------------------------------------------------------------------------------


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


def test_real_time_does_not_pass_where_a_component_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sleepy(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.sleep(86_400.0)
            self.out.send(Number(1))

    system = System("sleepy")
    sleepy, total = system.add(Sleepy()), system.add(Sum())
    system.connect(sleepy.out, total.numbers)
    result = simulate(system, faults=Faults.none(), at_end=lambda view: view["sum"].total == 1)
    assert result.simulated_s >= 86_400.0

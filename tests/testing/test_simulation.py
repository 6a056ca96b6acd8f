"""`simulate`: what it runs, what it injects, and what its invariants see."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, Retry, State, System, Table, Uses, every
from minions.testing import Faults, Result, Send, View, Wait, simulate
from tests.testing.summing import ALL, SCRIPT, Number, Numbers, Sum, all_came_once, nothing_is_lost, summing

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
        "from minions.testing import simulate\n"
        "from tests.testing.summing import ALL, SCRIPT, summing\n"
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

    made: list[float] = []

    def make() -> System:
        made.append(random.random())
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
    assert made[0] == made[1] != made[2], "what makes the system draws from the seed, too"


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

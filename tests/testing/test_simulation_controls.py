"""Defects that are planted in the runtime are found by `simulate`, each in a moment: the proof that it looks where it says."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System
from minions.fence import Fence
from minions.flow.channel import Channel, Entry, Wakes
from minions.flow.journal import Journal
from minions.flow.unit import Unit
from minions.life.life import Life
from minions.life.working_state import WorkingState
from minions.testing import Faults, SimulationFailed, View, simulate

SEEDS = 1_000
"""So many are tried before a defect counts as not found; they take a few seconds."""


@attrs.frozen
class Coin:
    value: int


class Mint(Component):
    """Sends a few coins and knows how many."""

    coins = Outbox(Coin)
    made = State(int)
    pause_s: float = 0.1

    def run(self) -> None:
        while self.made < 4 and self.running:
            with self.unit():
                self.coins.send(Coin(1))
                self.made += 1
            self.sleep(self.pause_s)


class Purse(Component):
    """Counts them."""

    coins = Inbox(Coin)
    held = State(int)

    def on_start(self) -> None:
        self.sleep(0.01)

    @coins.handler
    def take(self, coin: Coin) -> None:
        self.held += coin.value


class Desk(Component):
    """Passes them on, and keeps nothing."""

    coins = Inbox(Coin)
    out = Outbox(Coin)

    def on_start(self) -> None:
        self.sleep(0.01)

    @coins.handler
    def take(self, coin: Coin) -> None:
        self.out.send(coin)


def make(desks: int = 1, pause_s: float = 0.1) -> System:
    system = System("bank")
    mint, desk, purse = system.add(Mint(pause_s=pause_s)), system.add(Desk(), replicas=desks), system.add(Purse())
    system.connect(mint.coins, desk.coins)
    system.connect(desk.out, purse.coins)
    return system


def no_coin_is_lost_or_made(view: View) -> None:
    for moment in (view.whole, view.committed):
        on_their_way = len(moment["desk"].coins) + len(moment["purse"].coins)
        assert moment["mint"].made == on_their_way + moment["purse"].held


def all_have_arrived(view: View) -> None:
    assert view["purse"].held == 4


def found(faults: Faults, desks: int = 1, pause_s: float = 0.1) -> SimulationFailed:
    """The first failure among the first seeds."""
    system = make(desks, pause_s)
    for seed in range(SEEDS):
        try:
            simulate(
                system,
                seed,
                invariants=no_coin_is_lost_or_made,
                at_end=all_have_arrived,
                faults=faults,
                shrink_s=3.0,
            )
        except SimulationFailed as failure:
            return failure
    pytest.fail(f"the defect was not found with {SEEDS} seeds")


def replays(failure: SimulationFailed, faults: Faults, desks: int = 1) -> bool:
    """Whether the choices that it has shown lead to the same story once more."""
    with pytest.raises(SimulationFailed) as again:
        simulate(
            make(desks),
            failure.seed,
            invariants=no_coin_is_lost_or_made,
            at_end=all_have_arrived,
            faults=faults,
            choices=failure.choices,
            shrink_s=0.0,
        )
    return again.value.story == failure.story


CRASHES = Faults(crashes=0.1, errors=0.0, delays=0.0, restarts=0.0, disk_errors=0.0)
HANGS = Faults(crashes=0.0, errors=0.0, delays=0.2, restarts=0.2, disk_errors=0.0)


@pytest.mark.parametrize("faults", [CRASHES, HANGS, Faults()], ids=["crashes", "hangs", "everything"])
@pytest.mark.parametrize("desks", [1, 2])
def test_without_a_defect_nothing_is_found(faults: Faults, desks: int) -> None:
    system = make(desks)
    for seed in range(40):
        simulate(system, seed, invariants=no_coin_is_lost_or_made, at_end=all_have_arrived, faults=faults)


def test_a_message_that_is_acknowledged_before_its_unit_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Journal._take_locked

    def take_and_acknowledge(journal: Journal, *arguments: Any) -> list[Entry] | None:
        entries = take(journal, *arguments)
        for channel, sequence, *_ in entries or ():
            channel.acks.add(sequence)
            journal.commits.epoch.settled(channel)
            journal.commits.epoch.units += 1
        return entries

    monkeypatch.setattr(Journal, "_take_locked", take_and_acknowledge)
    failure = found(CRASHES)
    assert "no_coin_is_lost_or_made" in failure.failure
    assert len(failure.story) < 25
    assert replays(failure, CRASHES)


def test_a_state_that_is_saved_outside_of_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = WorkingState.gather
    submit = Life._submit

    def gather_nothing(state: WorkingState, unit: Unit) -> None:
        if state.home != "purse":
            gather(state, unit)

    def submit_and_save(life: Life, unit: Unit, timeout_s: float | None) -> None:
        submit(life, unit, timeout_s)
        if life.name == "purse":
            state = Unit(life.name)
            gather(life._state, state)
            submit(life, state, timeout_s)

    monkeypatch.setattr(WorkingState, "gather", gather_nothing)
    monkeypatch.setattr(Life, "_submit", submit_and_save)
    failure = found(CRASHES)
    assert "no_coin_is_lost_or_made" in failure.failure


def test_a_wake_up_that_is_lost_when_a_message_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back = Channel.give_back_locked

    def give_back_silently(channel: Channel, entries: list[Entry], wakes: Wakes) -> None:
        give_back(channel, entries, [])

    monkeypatch.setattr(Channel, "give_back_locked", give_back_silently)
    faults = Faults(crashes=0.0, errors=0.2, delays=0.3, restarts=0.0, disk_errors=0.0)
    failure = found(faults, desks=2)
    assert "sleeps although" in failure.failure
    assert replays(failure, faults, desks=2)


def test_a_restart_that_forgets_the_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fence, "check_locked", lambda fence: None)
    failure = found(HANGS, pause_s=10.0)
    assert "no_coin_is_lost_or_made" in failure.failure
    assert any("abandoned" in line for line in failure.story)

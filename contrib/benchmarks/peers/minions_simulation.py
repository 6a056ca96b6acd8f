"""Simulated runs of Minions: how many a second `explore` makes, of a pair and of a small bank."""

import attrs

from bench.contender import Options
from minions import Component, Inbox, Outbox, State, System
from minions.testing import Faults, View, explore


@attrs.frozen
class Coin:
    """What is sent."""

    value: int


class Mint(Component):
    """Its script sends the coins."""

    coins = Outbox(Coin)

    def run(self) -> None:
        raise NotImplementedError


class Desk(Component):
    """Passes coins on."""

    coins = Inbox(Coin)
    out = Outbox(Coin)

    @coins.handler
    def take(self, coin: Coin) -> None:
        self.out.send(coin)


class Purse(Component):
    """Counts coins."""

    coins = Inbox(Coin)
    held = State(int)

    @coins.handler
    def take(self, coin: Coin) -> None:
        self.held += coin.value


COINS = {"mint": [Coin(1), Coin(2), Coin(3)]}


def pair() -> System:
    """A source and who takes from it."""
    system = System("pair")
    mint, purse = system.add(Mint()), system.add(Purse())
    system.connect(mint.coins, purse.coins)
    return system


def bank() -> System:
    """A source, two desks that share an inbox, and who counts."""
    system = System("bank")
    mint, desk, purse = system.add(Mint()), system.add(Desk(), replicas=2), system.add(Purse())
    system.connect(mint.coins, desk.coins)
    system.connect(desk.out, purse.coins)
    return system


PAIR, BANK = pair(), bank()


def all_arrived(view: View) -> None:
    """Looked at once in each run."""
    assert view["purse"].held == 6


def none_too_many(view: View) -> None:
    """Looked at after each step."""
    assert view["purse"].held <= 6


def pair_runs(workers: int, options: Options) -> dict[str, float]:
    """Of the pair, by so many processes; `options.capacity` is the number of runs."""
    return _runs(PAIR, workers, options.capacity)


def bank_runs(workers: int, options: Options) -> dict[str, float]:
    """Of the bank, likewise."""
    return _runs(BANK, workers, options.capacity)


def _runs(system: System, workers: int, runs: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, faults in (("plain", Faults.none()), ("faults", Faults())):
        explored = explore(
            system,
            runs,
            sources=COINS,
            invariants=[none_too_many],
            at_end=[all_arrived],
            faults=faults,
            workers=workers,
            progress=_say_nothing,
        )
        if (explored.runs, explored.processes) != (runs, workers):
            raise AssertionError(f"not what was asked for: {explored}")
        figures[f"{name}_runs_per_s"] = explored.runs_per_s
        figures[f"{name}_turns_per_s"] = explored.turns / explored.seconds
    return figures


def _say_nothing(line: str) -> None:
    return

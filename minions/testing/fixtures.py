"""The types of the fixtures of the pytest plugin, for annotations: ``def test_it(harness: HarnessFixture) -> None``.

Each is the type of the function of that name; the fixtures `fake_clock` and `project_folder` are a `FakeClock` and a `Path`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, TypeVar

from minions.model.component import Component
from minions.model.limits import Watchdog
from minions.model.partition import PartitionBy
from minions.model.policy import Restart
from minions.system import System
from minions.testing.clock import FakeClock
from minions.testing.exploration import Explored, explore
from minions.testing.faults import Faults
from minions.testing.harness import Harness, harness
from minions.testing.outcome import Result
from minions.testing.running import Running, running
from minions.testing.simulation import Calls, Invariants, Make, Sources, simulate
from minions.testing.sleepers import PATIENCE_S

__all__ = ["ExploreFixture", "HarnessFixture", "RunningFixture", "SimulateFixture"]

C = TypeVar("C", bound=Component)


class HarnessFixture(Protocol):
    """What the fixture `harness` is; see `minions.testing.harness`."""

    def __call__(
        self,
        component: C,
        *,
        name: str | None = None,
        restart: Restart = Restart(),
        partition_by: PartitionBy | None = None,
        raises: bool = True,
        steps: int = 100_000,
    ) -> Harness[C]: ...


class RunningFixture(Protocol):
    """What the fixture `running` is; see `minions.testing.running`."""

    def __call__(
        self,
        system: System,
        *,
        clock: FakeClock | None = None,
        folder: str | Path | None = None,
        forever: bool = True,
        until_up: bool = True,
        timeout_s: float = PATIENCE_S,
        watchdog: Watchdog | None = None,
        stop_timeout_s: float | None = None,
        control: bool = False,
        expect_failures: int | None = 0,
        expect_dead_letters: int | None = 0,
        expect_zombies: int | None = 0,
        expect_problems: int | None = 0,
    ) -> Running: ...


class SimulateFixture(Protocol):
    """What the fixture `simulate` is; see `minions.testing.simulate`."""

    def __call__(
        self,
        system: Make,
        seed: int = 0,
        *,
        sources: Sources = MappingProxyType({}),
        invariants: Invariants = (),
        at_end: Invariants = (),
        calls: Calls = MappingProxyType({}),
        faults: Faults = Faults(),
        steps: int = 5_000,
        allow: Sequence[type[BaseException]] = (),
        choices: str | None = None,
        shrink_s: float = 10.0,
    ) -> Result: ...


class ExploreFixture(Protocol):
    """What the fixture `explore` is; see `minions.testing.explore`."""

    def __call__(
        self,
        system: Make,
        runs: int = 1_000,
        *,
        first_seed: int = 0,
        sources: Sources = MappingProxyType({}),
        invariants: Invariants = (),
        at_end: Invariants = (),
        calls: Calls = MappingProxyType({}),
        faults: Faults = Faults(),
        steps: int = 5_000,
        allow: Sequence[type[BaseException]] = (),
        shrink_s: float = 10.0,
        workers: int | None = None,
        progress: Callable[[str], object] | None = None,
    ) -> Explored: ...


# A type checker sees here that each is what its function is; a test sees that no argument is missing.
_harness: HarnessFixture = harness
_running: RunningFixture = running
_simulate: SimulateFixture = simulate
_explore: ExploreFixture = explore

"""Tools for tests of components and systems. No other room imports them."""

from minions.testing.callers import Call, Called
from minions.testing.clock import FakeClock
from minions.testing.exploration import Explored, explore
from minions.testing.faults import Faults, InjectedError
from minions.testing.fixtures import ExploreFixture, HarnessFixture, RunningFixture, SimulateFixture
from minions.testing.harness import Harness, harness
from minions.testing.outcome import Result, SimulationFailed
from minions.testing.replaying import replay
from minions.testing.running import Running, running
from minions.testing.scripts import Send, Wait
from minions.testing.simulation import simulate
from minions.testing.view import View

__all__ = [
    "Call",
    "Called",
    "ExploreFixture",
    "Explored",
    "FakeClock",
    "Faults",
    "Harness",
    "HarnessFixture",
    "InjectedError",
    "Result",
    "Running",
    "RunningFixture",
    "Send",
    "SimulateFixture",
    "SimulationFailed",
    "View",
    "Wait",
    "explore",
    "harness",
    "replay",
    "running",
    "simulate",
]

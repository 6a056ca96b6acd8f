"""The fixtures of the pytest plugin have types: a test that is annotated with them knows what they give."""

from pathlib import Path
from typing import assert_type

from minions import Component, Inbox, State, System
from minions.testing import (
    Explored,
    ExploreFixture,
    FakeClock,
    Harness,
    HarnessFixture,
    Result,
    Running,
    RunningFixture,
    SimulateFixture,
)


class Average(Component):
    readings = Inbox(float)
    count = State(int)

    @readings.handler
    def add(self, reading: float) -> None: ...


def test_harness(harness: HarnessFixture) -> None:
    h = harness(Average(), name="mean", steps=10)
    assert_type(h, Harness[Average])
    h.send(h.component.readings, 1.0)
    h.send(h.component.readings, "warm")  # E: mypy pyright
    harness("average")  # E: mypy pyright
    harness(Average(), named="mean")  # E: mypy pyright


def test_running(running: RunningFixture, fake_clock: FakeClock, project_folder: Path) -> None:
    with running(System("typed"), clock=fake_clock, folder=project_folder) as run:
        assert_type(run, Running)
    running(Average())  # E: mypy pyright
    running(System("typed"), clock=1.0)  # E: mypy pyright


def test_simulations(simulate: SimulateFixture, explore: ExploreFixture) -> None:
    assert_type(simulate(System("typed"), seed=3), Result)
    assert_type(explore(lambda: System("typed"), runs=3), Explored)
    simulate(System("typed"), runs=3)  # E: mypy pyright
    explore(System("typed"), runs="many")  # E: mypy pyright

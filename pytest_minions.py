"""The pytest plugin of Minions: fixtures, options, and what there was to be seen of the components when a test has failed.

pytest loads this module in every run of tests where Minions is installed. So it imports nothing but pytest, which is there
already; `minions` is imported by the first fixture that is used.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from minions import System
    from minions.testing import (
        ExploreFixture,
        FakeClock,
        Harness,
        HarnessFixture,
        Running,
        RunningFixture,
        SimulateFixture,
    )

F = TypeVar("F", bound="Callable[..., Any]")

_MADE: pytest.StashKey[list[Any]] = pytest.StashKey()
"""What the fixtures have made for a test, each with a name."""
_HAS_FAILED: pytest.StashKey[bool] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """See `pytest --help`."""
    group = parser.getgroup("minions", "minions")
    group.addoption(
        "--minions-seed",
        type=_whole_number(0),
        default=None,
        metavar="SEED",
        help="the (first) seed of the runs that the fixtures `simulate` and `explore` make, in the place of what the test says",
    )
    group.addoption(
        "--minions-runs",
        type=_whole_number(1),
        default=None,
        metavar="RUNS",
        help="how many runs the fixture `explore` makes, in the place of what the test says",
    )


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from {least} up")
        return int(text)

    return parse


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds a section to the report of a test that has failed, for each system and each harness that its fixtures have made."""
    report = yield
    if report.when != "teardown" and report.failed:
        item.stash[_HAS_FAILED] = True
        for name, made in item.stash.get(_MADE, []):
            report.sections.append((f"minions: {name}", getattr(made, "report", "") or made.look()))
    return report


@pytest.fixture
def fake_clock() -> FakeClock:
    """Virtual time; see `minions.testing.FakeClock`."""
    from minions.testing import FakeClock

    return FakeClock()


@pytest.fixture
def running(request: pytest.FixtureRequest) -> RunningFixture:
    """The function `minions.testing.running`; what there was to be seen is in the report of a test that has failed."""
    from minions.testing import running

    made = request.node.stash.setdefault(_MADE, [])

    @functools.wraps(running)
    def begin(system: System, **options: Any) -> Running:
        run = running(system, **options)
        made.append((system.name, run))
        return run

    return begin


@pytest.fixture
def harness(request: pytest.FixtureRequest) -> Iterator[HarnessFixture]:
    """The function `minions.testing.harness`; what it makes is stopped after the test.

    What there was to be seen is in the report of a test that has failed. Then nothing is stopped in order.
    """
    from minions.testing import harness

    made = request.node.stash.setdefault(_MADE, [])
    mine: list[Any] = []

    @functools.wraps(harness)
    def make(component: Any, **options: Any) -> Harness[Any]:
        h = harness(component, **options)
        made.append((type(component).__qualname__, h))
        mine.append(h)
        return h

    yield make
    has_failed = request.node.stash.get(_HAS_FAILED, False)
    with contextlib.ExitStack() as stack:  # which goes on where an `on_stop` raises
        for h in mine:
            stack.callback(h.close if has_failed else h.stop)


@pytest.fixture
def simulate(pytestconfig: pytest.Config) -> SimulateFixture:
    """The function `minions.testing.simulate`; the option ``--minions-seed`` goes before what the test says."""
    from minions.testing import simulate

    return _with(simulate, seed=pytestconfig.getoption("--minions-seed"))


@pytest.fixture
def explore(pytestconfig: pytest.Config) -> ExploreFixture:
    """The function `minions.testing.explore`; ``--minions-seed`` and ``--minions-runs`` go before what the test says."""
    from minions.testing import explore

    runs, seed = pytestconfig.getoption("--minions-runs"), pytestconfig.getoption("--minions-seed")
    return _with(explore, runs=runs, first_seed=seed)


def _with(function: F, **options: int | None) -> F:
    """A function with some arguments fixed, whatever it is called with."""
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        return function
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        bound.arguments.update(given)
        return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]  # which has the arguments of the function


@pytest.fixture
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is the working directory while the test runs, and from which it can import what it writes there."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]

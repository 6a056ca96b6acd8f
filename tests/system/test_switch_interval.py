"""`switch_interval_s`: it holds while a system runs, and not a moment longer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from minions import Component, Restart, System, SystemFailed, UsageError
from minions.life.switch_interval import switch_interval

BEFORE_S = 0.004


@pytest.fixture(autouse=True)
def before() -> Iterator[None]:
    outside_s = sys.getswitchinterval()
    sys.setswitchinterval(BEFORE_S)
    yield
    sys.setswitchinterval(outside_s)


def holds(interval_s: float) -> bool:
    return sys.getswitchinterval() == pytest.approx(interval_s)


class Looking(Component):
    """Notes what holds while it works."""

    def run(self) -> None:
        seen.append(sys.getswitchinterval())


seen: list[float] = []


@pytest.fixture
def system(tmp_path: Path) -> System:
    seen.clear()
    system = System("test", folder=tmp_path)
    system.add(Looking())
    return system


def test_it_holds_while_the_system_runs(system: System) -> None:
    assert system.run(switch_interval_s=0.0005) == "finished"
    assert seen == [pytest.approx(0.0005)]
    assert holds(BEFORE_S)


def test_it_is_left_alone_unless_it_is_asked_for(system: System) -> None:
    system.run()
    with system.started():
        assert holds(BEFORE_S)
        sys.setswitchinterval(0.003)
    assert seen[0] == pytest.approx(BEFORE_S)
    assert holds(0.003), "nobody has put it back"


def test_it_holds_while_the_block_lasts(system: System) -> None:
    with system.started(switch_interval_s=0.0005):
        assert holds(0.0005)
    assert holds(BEFORE_S)


def test_what_held_before_holds_again_after_an_error_in_the_block(system: System) -> None:
    with pytest.raises(KeyError, match="mine"), system.started(switch_interval_s=0.0005):
        raise KeyError("mine")
    assert holds(BEFORE_S)


def test_what_held_before_holds_again_after_a_failure(tmp_path: Path) -> None:
    class Failing(Component):
        def on_start(self) -> None:
            raise ValueError("cannot begin")

    system = System("test", folder=tmp_path, stop_timeout_s=1.0)
    system.add(Failing(), restart=Restart(failures=0))
    with pytest.raises(SystemFailed), system.started(switch_interval_s=0.0005):
        pass
    assert holds(BEFORE_S)


def test_of_two_systems_the_shortest_holds_and_the_last_one_out_puts_it_back() -> None:
    with switch_interval("long", 0.001):
        short = switch_interval("short", 0.0005)
        short.__enter__()
        assert holds(0.0005)
        longer = switch_interval("longer", 0.002)
        longer.__enter__()
        assert holds(0.0005)
        short.__exit__(None, None, None)
        assert holds(0.001)
    assert holds(0.002)
    longer.__exit__(None, None, None)
    assert holds(BEFORE_S)


@pytest.mark.parametrize("wrong", [0, -0.001, 1e-7, 5, float("nan"), True, "0.0005", [0.001]])
def test_what_is_no_switch_interval_is_refused_before_anything_starts(system: System, wrong: object) -> None:
    expected = r"test: switch_interval_s=.* must be a number of seconds from 0.000001 to 1, such as 0.0005, or None"
    with pytest.raises(UsageError, match=expected):
        system.run(switch_interval_s=wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=expected), system.started(switch_interval_s=wrong):  # type: ignore[arg-type]
        pass
    assert seen == []
    assert holds(BEFORE_S)

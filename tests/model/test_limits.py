"""Limits as values: what is allowed, what follows from leaving something out."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions import (
    ConfigurationError,
    CpuLimit,
    DescriptorLimit,
    DiskFreeLimit,
    ErrorLimit,
    LagLimit,
    LateLimit,
    MemoryLimit,
    Watchdog,
)
from minions.model.limits import Limit

ALL: list[type[Limit]] = [MemoryLimit, DescriptorLimit, DiskFreeLimit, CpuLimit, LateLimit, LagLimit, ErrorLimit]


def refused(make: Any, **values: Any) -> tuple[str, ...]:
    """The problems of what cannot be made."""
    with pytest.raises(ConfigurationError) as caught:
        make(**values)
    return caught.value.problems


def test_the_watchdog_is_on_and_reports_only() -> None:
    watchdog = Watchdog()
    limits = [value for value in attrs.asdict(watchdog, recurse=False).values() if isinstance(value, Limit)]

    assert watchdog.enabled
    assert watchdog.tick_s == 1.0
    assert {type(limit) for limit in limits} == set(ALL)
    assert {(limit.enabled, limit.then) for limit in limits} == {(True, "report")}


@pytest.mark.parametrize(
    ("limit", "unit", "mark", "back"),
    [
        (MemoryLimit(), "ratio", 0.9, 0.81),
        (MemoryLimit(over_ratio=0.5), "ratio", 0.5, 0.45),
        (MemoryLimit(over_ratio=0.5, back_ratio=0.1), "ratio", 0.5, 0.1),
        (MemoryLimit(over_bytes=1_000), "bytes", 1_000, 900),
        (MemoryLimit(over_bytes=1_000, back_bytes=10), "bytes", 1_000, 10),
        (DescriptorLimit(), "ratio", 0.8, 0.72),
        (DiskFreeLimit(), "bytes", 200_000_000, 250_000_000),
        (DiskFreeLimit(under_bytes=100), "bytes", 100, 125),
        (CpuLimit(), "ratio", 0.95, 0.855),
        (LateLimit(over_s=3.0), "s", 3.0, 1.5),
        (LagLimit(), "s", 3_600.0, 1_800.0),
        (ErrorLimit(over_per_minute=10), "per_minute", 10, 5),
    ],
)
def test_the_lower_mark_follows_from_the_mark(limit: Limit, unit: str, mark: float, back: float) -> None:
    assert limit.unit == unit
    assert [limit.mark, limit.back] == pytest.approx([mark, back])


@pytest.mark.parametrize("kind", ALL)
@given(value=st.floats(allow_nan=False), part=st.floats(0.01, 0.99))
def test_no_value_is_on_both_sides(kind: type[Limit], value: float, part: float) -> None:
    limit = kind()
    assert not (limit.exceeded_by(value) and limit.kept_by(value))
    between = limit.back + part * (limit.mark - limit.back)
    assert not limit.exceeded_by(between)
    assert not limit.kept_by(between)
    assert not limit.exceeded_by(limit.mark)
    assert limit.kept_by(limit.back)


def test_space_runs_out_downwards_and_all_else_upwards() -> None:
    assert DiskFreeLimit().exceeded_by(0)
    assert DiskFreeLimit().side == "under"
    for kind in ALL:
        if kind is not DiskFreeLimit:
            assert kind().exceeded_by(1e18)
            assert kind().side == "over"


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("wrong", [-1.0, math.inf, math.nan, True, "10", None, 10**400])
def test_a_patience_that_is_none_is_refused(kind: type[Limit], wrong: Any) -> None:
    [problem] = refused(kind, for_s=wrong)
    assert problem.startswith("for_s = ")
    assert problem.endswith(": must be a number from 0 up (seconds, 0 for at once)")


@pytest.mark.parametrize("kind", ALL)
def test_an_unknown_answer_is_refused_with_those_that_there_are(kind: type[Limit]) -> None:
    answers = '"report", "pause_sources", "stop"'
    if kind in (LagLimit, ErrorLimit):
        answers = '"report", "pause_sources", "restart", "stop"'
    wrong: Any = kind
    assert refused(wrong, then="stopp") == (f'then = "stopp": must be one of {answers}',)


@pytest.mark.parametrize("kind", [MemoryLimit, DescriptorLimit, DiskFreeLimit, CpuLimit, LateLimit])
def test_only_where_a_component_is_to_blame_it_can_be_restarted(kind: Any) -> None:
    assert "restart" not in refused(kind, then="restart")[0].partition("must")[2]
    assert LagLimit(then="restart").then == ErrorLimit(then="restart").then == "restart"


@pytest.mark.parametrize(
    ("make", "values", "expected"),
    [
        (
            MemoryLimit,
            {"over_ratio": 1.5},
            "over_ratio = 1.5: must be a number above 0 and at most 1 (a share of the memory",
        ),
        (MemoryLimit, {"over_ratio": 0}, "over_ratio = 0: must be a number above 0"),
        (MemoryLimit, {"over_ratio": None}, "over_ratio = None: must be a number above 0"),
        (MemoryLimit, {"back_ratio": 0.95}, "back_ratio = 0.95: must be below over_ratio (0.9)"),
        (MemoryLimit, {"back_ratio": 0.9}, "back_ratio = 0.9: must be below over_ratio (0.9)"),
        (MemoryLimit, {"over_bytes": 10**400}, "over_bytes = 1000"),
        (MemoryLimit, {"back_ratio": -0.1}, "back_ratio = -0.1: must be a number from 0 up and at most 1"),
        (
            MemoryLimit,
            {"over_bytes": 5, "over_ratio": 0.5},
            "over_bytes = 5: over_ratio is given too; leave one of them out",
        ),
        (
            MemoryLimit,
            {"over_bytes": 5, "back_ratio": 0.5},
            "back_ratio = 0.5: goes with over_ratio; with over_bytes give",
        ),
        (MemoryLimit, {"back_bytes": 5}, "back_bytes = 5: goes with over_bytes; with over_ratio give back_ratio"),
        (MemoryLimit, {"over_bytes": 5, "back_bytes": 6}, "back_bytes = 6: must be below over_bytes (5)"),
        (MemoryLimit, {"over_bytes": -5}, "over_bytes = -5: must be a number above 0 (bytes)"),
        (
            DescriptorLimit,
            {"over_ratio": 80},
            "over_ratio = 80: must be a number above 0 and at most 1 (a share of the descr",
        ),
        (DiskFreeLimit, {"back_bytes": 5}, "back_bytes = 5: must be above under_bytes (200000000)"),
        (DiskFreeLimit, {"under_bytes": "1 GB"}, 'under_bytes = "1 GB": must be a number above 0 (bytes)'),
        (
            CpuLimit,
            {"over_ratio": True},
            "over_ratio = true: must be a number above 0 and at most 1 (a share of the cores",
        ),
        (LateLimit, {"back_s": 2.0}, "back_s = 2.0: must be below over_s (2.0)"),
        (LagLimit, {"over_s": math.inf}, "over_s = inf: must be a number above 0 (seconds)"),
        (ErrorLimit, {"over_per_minute": -1}, "over_per_minute = -1: must be a number above 0 (failures a minute)"),
        (ErrorLimit, {"enabled": "no"}, 'enabled = "no": must be true or false'),
        (Watchdog, {"tick_s": 0}, "tick_s = 0: must be a number above 0 and at most 3600 (seconds)"),
        (Watchdog, {"enabled": None}, "enabled = None: must be true or false"),
        (
            Watchdog,
            {"memory": 0.9},
            "memory = 0.9: must be a MemoryLimit(...); to switch this limit off, MemoryLimit(enabled=F",
        ),
        (Watchdog, {"cpu": MemoryLimit()}, "cpu = MemoryLimit("),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_field_and_the_remedy(
    make: Any, values: dict[str, Any], expected: str
) -> None:
    [problem] = refused(make, **values)
    assert problem.startswith(expected)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    problems = refused(MemoryLimit, for_s=-1, then="kill", over_ratio=2, enabled=1)
    assert [problem.partition(" ")[0] for problem in problems] == ["enabled", "for_s", "then", "over_ratio"]

    problems = refused(Watchdog, tick_s=-1, late=None, lag=3)
    assert [problem.partition(" ")[0] for problem in problems] == ["tick_s", "late", "lag"]


def test_what_is_refused_says_of_which_class_it_is() -> None:
    with pytest.raises(ValueError, match="LagLimit was refused: over_s = 0: "):
        LagLimit(over_s=0)


def test_limits_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        MemoryLimit().for_s = 3.0  # type: ignore[misc]

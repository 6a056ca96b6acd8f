"""How failures are answered, as tables: no thread, no clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.errors import ConfigurationError
from minions.model.policy import Backoff, Restart, Retry, Verdict


class TestBackoff:
    @pytest.mark.parametrize(
        ("backoff", "expected"),
        [
            (Backoff(), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]),
            (Backoff(initial_s=1.0, factor=3.0, longest_s=10.0), [1.0, 3.0, 9.0, 10.0]),
            (Backoff(initial_s=2.0, factor=1.0), [2.0, 2.0, 2.0]),
            (Backoff(initial_s=5.0, longest_s=1.0), [1.0, 1.0]),
            (Backoff(initial_s=0.0), [0.0, 0.0, 0.0]),
        ],
    )
    def test_waits_grow_up_to_a_cap(self, backoff: Backoff, expected: list[float]) -> None:
        assert [backoff.delay_s(failures) for failures in range(1, len(expected) + 1)] == pytest.approx(expected)

    @pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.8), (0.25, 0.9), (0.5, 1.0), (0.75, 1.1), (1.0, 1.2)])
    def test_jitter_makes_a_wait_longer_or_shorter(self, chance: float, expected: float) -> None:
        assert Backoff(initial_s=1.0, jitter_ratio=0.2).delay_s(1, chance) == pytest.approx(expected)

    def test_slow_growth_reaches_the_cap_too(self) -> None:
        assert Backoff(initial_s=0.1, factor=1.01, longest_s=30.0).delay_s(1_000) == 30.0

    @pytest.mark.parametrize("factor", [2, 2.0, 1e6, 1e300])
    def test_any_number_of_failures_has_a_wait(self, factor: float) -> None:
        assert Backoff(factor=factor).delay_s(1_000_000) == 30.0
        assert Backoff(factor=factor, initial_s=0.0).delay_s(1_000_000) == 0.0

    @given(
        st.builds(
            Backoff,
            initial_s=st.floats(0, 1e6),
            factor=st.floats(1, 1e6),
            longest_s=st.floats(0, 1e6),
            jitter_ratio=st.floats(0, 1),
        ),
        st.integers(1, 10_000),
        st.floats(0, 1),
    )
    def test_every_wait_is_finite_and_within_its_bounds(self, backoff: Backoff, failures: int, chance: float) -> None:
        delay_s = backoff.delay_s(failures, chance)
        assert math.isfinite(delay_s)
        assert 0 <= delay_s <= backoff.longest_s * (1 + backoff.jitter_ratio) + 1e-9
        assert backoff.delay_s(failures) <= backoff.delay_s(failures + 1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"initial_s": -1.0},
            {"initial_s": math.nan},
            {"factor": 0.9},
            {"longest_s": -0.1},
            {"jitter_ratio": 1.1},
            {"jitter_ratio": -0.1},
        ],
    )
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Backoff(**wrong)


class TestRetry:
    @pytest.mark.parametrize("then", ["dead_letter", "skip", "stop"])
    def test_tries_again_until_its_attempts_are_used_up(self, then: Any) -> None:
        retry = Retry(attempts=3, then=then)
        assert [retry.answer(failures) for failures in (1, 2, 3, 4)] == ["again", "again", then, then]

    def test_may_try_once_only(self) -> None:
        assert Retry(attempts=1).answer(1) == "dead_letter"

    @pytest.mark.parametrize("wrong", [{"attempts": 0}, {"then": "again"}])
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Retry(**wrong)


class TestRestart:
    RESTART = Restart(failures=2, within_s=10.0, backoff=Backoff(initial_s=1.0, jitter_ratio=0.5))

    @pytest.mark.parametrize(
        ("failed_at", "now", "delay_s"),
        [
            ([0.0], 0.0, 1.0),
            ([0.0, 5.0], 5.0, 2.0),
            ([0.0, 5.0, 9.0], 9.0, None),
            ([0.0, 5.0, 10.0], 10.0, None),  # the window includes its edge
            ([0.0, 5.0, 10.5], 10.5, 2.0),
            ([0.0, 1.0, 2.0, 30.0], 30.0, 1.0),  # and the backoff begins anew
            ([0.0], 100.0, 1.0),
        ],
    )
    def test_gives_up_after_too_many_failures_within_the_window(
        self, failed_at: list[float], now: float, delay_s: float | None
    ) -> None:
        assert self.RESTART.verdict(failed_at, now) == Verdict(delay_s)

    def test_spreads_the_waits_by_chance(self) -> None:
        assert self.RESTART.verdict([0.0], 0.0, chance=1.0) == Verdict(1.5)
        assert self.RESTART.verdict([0.0], 0.0, chance=0.0) == Verdict(0.5)

    def test_may_give_up_at_once(self) -> None:
        assert Restart(failures=0).verdict([7.0], 7.0) == Verdict(None)

    def test_forgets_what_is_outside_the_window(self) -> None:
        assert self.RESTART.recent([0.0, 1.0, 9.0, 12.0], 11.0) == (1.0, 9.0, 12.0)

    @pytest.mark.parametrize("wrong", [{"failures": -1}, {"within_s": 0.0}, {"within_s": 10**400}])
    def test_what_makes_no_sense_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Restart(**wrong)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"when": "always"},
            {"healthy_s": 0.0},
            {"healthy_s": -1.0},
            {"on_give_up": "restart"},
        ],
    )
    def test_a_word_or_a_time_that_is_none_is_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Restart(**wrong)

    def test_by_default_a_failure_brings_another_life_and_giving_up_stops_the_system(self) -> None:
        restart = Restart()
        assert (restart.when, restart.on_give_up, restart.with_dependents) == ("transient", "stop", False)
        assert restart.healthy_s is None

    def test_what_is_temporary_never_comes_back(self) -> None:
        assert Restart(when="temporary").verdict([0.0], 0.0) == Verdict(None)
        assert Restart(when="permanent", backoff=Backoff(initial_s=1.0)).verdict([0.0], 0.0) == Verdict(1.0)

    @pytest.mark.parametrize(
        ("healthy_s", "up_since", "now", "healthy"),
        [
            (None, 0.0, 1e9, False),
            (10.0, None, 1e9, False),
            (10.0, 5.0, 14.9, False),
            (10.0, 5.0, 15.0, True),
            (10.0, 5.0, 16.0, True),
        ],
    )
    def test_a_life_is_healthy_after_some_time_up(
        self, healthy_s: float | None, up_since: float | None, now: float, healthy: bool
    ) -> None:
        assert Restart(healthy_s=healthy_s).was_healthy(up_since, now) is healthy

    @pytest.mark.parametrize(
        ("failed_at", "anew_at", "delay_s"),
        [
            ([1.0, 2.0, 3.0], None, 4.0),
            ([1.0, 2.0, 3.0], 3.0, 1.0),
            ([1.0, 2.0, 3.0], 2.0, 2.0),
            ([1.0, 2.0, 3.0], 0.5, 4.0),
            ([1.0, 2.0, 3.0], 9.0, 1.0),
            ([1.0, 2.0, 3.0, 3.5], 3.5, None),
        ],
    )
    def test_failures_before_a_healthy_life_count_for_giving_up_and_not_for_the_backoff(
        self, failed_at: list[float], anew_at: float | None, delay_s: float | None
    ) -> None:
        restart = Restart(failures=3, within_s=10.0, backoff=Backoff(initial_s=1.0, jitter_ratio=0.0))
        assert restart.verdict(failed_at, failed_at[-1], anew_at=anew_at) == Verdict(delay_s)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Backoff, {"initial_s": "1", "factor": None, "longest_s": math.inf, "jitter_ratio": True}),
        (Retry, {"attempts": 2.5, "backoff": 5, "then": [], "deaths": "3"}),
        (Restart, {"when": None, "failures": True, "within_s": "60", "backoff": 5}),
        (Restart, {"healthy_s": "1", "on_give_up": 0, "with_dependents": 1}),
    ],
)
def test_every_value_that_is_none_is_named_at_once(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        kind(**wrong)
    assert refused.value.subject == kind.__name__
    assert [problem.partition(" must be ")[0] for problem in refused.value.problems] == [
        f"{name}={value!r}" for name, value in wrong.items()
    ]

"""How fast a thread may work that serves outsiders."""

from __future__ import annotations

import pytest

from minions.observe.pace import Pace


def test_a_burst_is_free_and_what_is_over_it_is_paid_for() -> None:
    pace = Pace(share=0.1, burst_s=0.05, longest_pause_s=10.0)
    assert pace.spent(0.05, 100.0) == 0.0
    assert pace.spent(0.01, 100.0) == pytest.approx(0.1)


def test_what_was_owed_is_paid_with_time() -> None:
    pace = Pace(share=0.1, burst_s=0.05)
    pace.spent(0.05, 100.0)
    assert pace.spent(0.05, 100.5) == 0.0
    assert pace.spent(0.04, 100.5) > 0.0


def test_a_pause_has_an_end_and_the_rest_stays_owed() -> None:
    pace = Pace(share=0.1, burst_s=0.0, longest_pause_s=0.5)
    assert pace.spent(1.0, 100.0) == 0.5
    assert pace.spent(0.0, 100.5) == 0.5
    assert pace.spent(0.0, 110.0) == 0.0


def test_in_the_long_run_no_more_than_the_share_is_used() -> None:
    pace, now_s, used_s = Pace(share=0.1, burst_s=0.05), 0.0, 0.0
    while now_s < 100.0:
        used_s += 0.02
        now_s += 0.02 + pace.spent(0.02, now_s + 0.02)
    assert used_s == pytest.approx(10.0, rel=0.05)


def test_a_clock_that_goes_back_does_no_harm() -> None:
    pace = Pace(share=0.1, burst_s=0.0)
    pace.spent(0.01, 100.0)
    assert pace.spent(0.0, 50.0) == pytest.approx(0.1)

"""Histograms: what they say of a quantile, and how far that may be off."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions import Histogram
from minions.flow.histogram import Recorder

DURATIONS = st.lists(st.floats(0.0, 3_000.0), min_size=1, max_size=200)


def recorded(durations_s: list[float]) -> Histogram:
    recorder = Recorder()
    for seconds in durations_s:
        recorder.add(seconds)
    return recorder.take()


@given(DURATIONS, st.floats(0.0, 1.0))
def test_a_quantile_is_never_too_low_and_too_high_by_the_stated_part_at_most(
    durations_s: list[float], ratio: float
) -> None:
    histogram = recorded(durations_s)
    true_s = sorted(durations_s)[max(0, math.ceil(ratio * len(durations_s)) - 1)]
    said_s = histogram.quantile(ratio)
    assert true_s <= said_s <= histogram.max_s
    if true_s <= Histogram.bounds_s[-1]:
        assert said_s <= max(true_s * (1 + Histogram.error_ratio) * (1 + 1e-9), Histogram.bounds_s[0])


@given(DURATIONS, DURATIONS)
def test_histograms_add_up_to_that_of_all_cases(some: list[float], others: list[float]) -> None:
    together = recorded(some) + recorded(others)
    assert together == Histogram.merged([recorded(some), recorded(others)])
    of_all = recorded(some + others)
    assert (together.counts, together.max_s) == (of_all.counts, of_all.max_s)
    assert together.total_s == pytest.approx(of_all.total_s)


def test_an_empty_histogram_says_nothing_but_zeros() -> None:
    empty = Histogram.merged([])
    assert empty == Histogram() == Recorder().take()
    assert (empty.count, empty.mean_s, empty.p50_s, empty.p99_s, empty.max_s) == (0, 0.0, 0.0, 0.0, 0.0)


def test_cases_may_be_added_many_at_a_time() -> None:
    recorder = Recorder()
    recorder.add(0.001, 98)
    recorder.add(2.0, 2)
    histogram = recorder.take()
    assert (histogram.count, histogram.max_s) == (100, 2.0)
    assert histogram.total_s == pytest.approx(4.098)
    assert histogram.mean_s == pytest.approx(0.04098)
    assert histogram.p50_s == pytest.approx(0.001, rel=Histogram.error_ratio)
    assert histogram.p95_s == histogram.p50_s
    assert histogram.p99_s == 2.0


def test_a_case_belongs_to_the_bucket_whose_bound_it_just_reaches() -> None:
    for place, bound_s in enumerate(Histogram.bounds_s):
        assert recorded([bound_s]).counts[place] == 1
    assert recorded([Histogram.bounds_s[-1] * 1.01]).counts[-1] == 1


@pytest.mark.parametrize("ratio", [-0.1, 1.1, math.nan])
def test_what_is_no_part_of_all_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        Histogram().quantile(ratio)

"""The demo is killed with SIGKILL at many moments and run again: it ends as if nothing had happened.

Each moment is an event in the child, which halts there and reports; nothing is timed, so every run hits the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

MOMENTS = [
    # before anything is stored
    "before run 1",
    "before open 1",
    "before commit 1",
    "before recover 1",
    "before index-start 1",
    "before walk 1",
    "before commit 2",
    "before mark 1",
    # in the middle
    "before read 1",
    "durable before count 1",
    "after index 30",
    "durable before count 120, before totals-sealed 1, before commit 1",
    "durable before count 120, before totals-sealed 1, after commit 1",
    "after count 90, before mark 1",
    "durable before count 120",
    "before send 100",
    "after read 150",
    "after count 180, after commit 1",
    "durable before index 210",
    "after index 240, before commit 1",
    # the drain, and the end
    "after walk 1",
    "durable before count LAST",
    "after count LAST",
    "after count LAST, after commit 1",
    "after index-stop 1",
    "before close 1",
    "after close 1",
    "after run 1",
]

_BETWEEN = "durable before count 120, before totals-sealed 1, after commit 1"
DEFECTS = {
    "acknowledged in an earlier transaction": _BETWEEN,
    "acknowledged in a later transaction": _BETWEEN,
    "acknowledged before it is handled": "durable before count 120",
}
"""Ways to break the runtime, each with one of these moments, at which it must be caught."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_killed_at_any_moment_ends_as_if_nothing_had_happened(
    moment: str, demo: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    demo.until_killed(tmp_path, moment)

    assert demo.to_the_end(tmp_path) == uninterrupted


def test_what_is_killed_again_and_again_ends_as_if_nothing_had_happened(
    demo: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    for moment in (
        "before mark 3",
        "after count 40",
        "before index-start 1",
        "after read 40",
        "after count 20, before commit 1",
        "durable before index 30",
        "before recover 1",
        "after index 30, after commit 1",
        "durable before count 30",
        "after walk 1",
        "before close 1",
    ):
        demo.until_killed(tmp_path, moment)

    assert demo.to_the_end(tmp_path) == uninterrupted


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_runtime_that_loses_or_doubles_messages_is_caught(
    defect: str, demo: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    moment = DEFECTS[defect]
    assert moment in MOMENTS
    demo.until_killed(tmp_path, moment, defect)

    assert demo.to_the_end(tmp_path) != uninterrupted

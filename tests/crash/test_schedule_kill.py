"""A process is killed at the commit of a tick: what is on disk is not made again, and what was missed follows its policy."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 60.0
_CHILD = Path(__file__).with_name("schedule_child.py")


def child(
    folder: Path, missed: str, begin_s: float, moment: str, defect: str = "none"
) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, _CHILD, folder, missed, str(begin_s), moment, defect]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def ticks_after_start(folder: Path, missed: str, begin_s: float) -> int:
    """How many ticks there were in all, once those that are due at a start at that time of day are made."""
    ended = child(folder, missed, begin_s, "started")
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


def killed(folder: Path, missed: str, moment: str, defect: str = "none") -> None:
    ended = child(folder, missed, 0.0, moment, defect)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize(
    ("missed", "moment", "soon", "late"),
    [
        ("once", "before", 3, 4),  # the third never was; at 35 seconds it is made
        ("once", "after", 3, 4),
        ("all", "before", 3, 7),  # at 75 seconds: those of 30, 40, 50, 60 and 70
        ("all", "after", 3, 7),
        ("none", "before", 2, 2),
        ("none", "after", 3, 3),
    ],
)
def test_what_was_on_disk_is_not_made_again_and_what_was_missed_follows_its_policy(
    missed: str, moment: str, soon: int, late: int, tmp_path: Path
) -> None:
    killed(tmp_path / "state", missed, moment)
    assert ticks_after_start(tmp_path / "state", missed, 35.0) == soon
    assert ticks_after_start(tmp_path / "state", missed, 75.0) == late
    assert ticks_after_start(tmp_path / "state", missed, 79.0) == late
    assert ticks_after_start(tmp_path / "state", missed, 81.0) == late + (missed != "none")


def test_a_clock_that_was_put_back_makes_no_tick_again(tmp_path: Path) -> None:
    killed(tmp_path / "state", "all", "after")
    for begin_s in (29.0, -3_600.0, -3_591.0):
        assert ticks_after_start(tmp_path / "state", "all", begin_s) == 3
    assert ticks_after_start(tmp_path / "state", "all", -3_589.0) == 4  # counted anew from there


def test_a_runtime_that_does_not_note_its_ticks_is_caught(tmp_path: Path) -> None:
    killed(tmp_path / "state", "all", "after", "the tick is not noted")
    assert ticks_after_start(tmp_path / "state", "all", 35.0) == 6

"""A process is killed while it retries or drops a dead letter: the letter is in one place then, never in two, never in none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
_CHILD = Path(__file__).with_name("retry_child.py")


def child(folder: Path, what: str, moment: str = "never", defect: str = "none") -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, _CHILD, folder, what, moment, defect]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def told(folder: Path, what: str) -> dict[str, list[Any]]:
    """What a run that ends in order says: the messages that were ever handled, and those that are set aside."""
    ended = child(folder, what)
    assert ended.returncode == 0, ended.stderr
    said: dict[str, list[Any]] = json.loads(ended.stdout)
    return {"handled": sorted(said["handled"]), "letters": said["letters"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of four messages two are dead letters."""
    folder = tmp_path / "state"
    assert [value for value, _ in told(folder, "leave")["letters"]] == [1, 2]
    return folder


def killed(folder: Path, what: str, moment: str, defect: str = "none") -> None:
    ended = child(folder, what, moment, defect)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("running", ["", " running"])
@pytest.mark.parametrize(("moment", "is_done"), [("before", False), ("after", True), ("told", True)])
def test_a_retry_has_happened_or_not(running: str, moment: str, is_done: bool, folder: Path) -> None:
    before = told(folder, "end")
    killed(folder, f"retry{running}", moment)
    after = told(folder, "end")
    first, second = before["letters"]
    assert after["letters"] == ([second] if is_done else [first, second])
    assert after["handled"] == sorted([*before["handled"], first] if is_done else before["handled"])
    assert told(folder, "end") == after


@pytest.mark.parametrize("running", ["", " running"])
@pytest.mark.parametrize(("moment", "is_done"), [("before", False), ("after", True), ("told", True)])
def test_a_drop_has_happened_or_not(running: str, moment: str, is_done: bool, folder: Path) -> None:
    before = told(folder, "end")
    killed(folder, f"drop{running}", moment)
    after = told(folder, "end")
    first, second = before["letters"]
    assert after == {"handled": before["handled"], "letters": [second] if is_done else [first, second]}


def test_a_retry_that_is_killed_again_and_again_is_made_once(folder: Path) -> None:
    before = told(folder, "end")
    for what, moment in (
        ("retry", "before"),
        ("retry running", "before"),
        ("retry", "after"),
        ("retry running", "before"),
        ("retry running", "after"),
    ):
        killed(folder, what, moment)
    assert told(folder, "end") == {"handled": sorted([*before["handled"], *before["letters"]]), "letters": []}


@pytest.mark.parametrize("running", ["", " running"])
@pytest.mark.parametrize(
    ("defect", "places"), [("deleted in an earlier transaction", 0), ("deleted in a later transaction", 2)]
)
def test_a_runtime_that_loses_or_doubles_it_is_caught(running: str, defect: str, places: int, folder: Path) -> None:
    first = told(folder, "end")["letters"][0]
    killed(folder, f"retry{running}", "never", defect)
    after = told(folder, "end")
    assert (first in after["handled"]) + (first in after["letters"]) == places

"""A message that kills the process: after three deaths in a row the next start sets it aside, and those behind it are handled.

The processes die for real, of a null pointer, of SIGKILL, of an abort, in the handler of the message.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minions.flow.board import Board

PATIENCE_S = 60.0
"""Only a test that fails waits so long."""

_CHILD = Path(__file__).with_name("poison_child.py")
_DIES = {"segmentation fault": -signal.SIGSEGV, "SIGKILL": -signal.SIGKILL, "abort": -signal.SIGABRT, "exit": 3}
THREE_TIMES = "the process died 3 times in a row while this message was in work"


class Starts:
    """One system in one folder, started as often as it takes, each time in a process of its own."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.options: dict[str, Any] = {"count": 20, **options}

    def start(self, **options: Any) -> subprocess.CompletedProcess[str]:
        told = json.dumps(self.options | options)
        command: list[str | Path] = [sys.executable, "-X", "faulthandler=0", _CHILD, self.folder, told]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def dies(self, **options: Any) -> None:
        ended = self.start(**options)
        assert (ended.returncode, ended.stdout) == (_DIES[(self.options | options).get("how", "SIGKILL")], ""), (
            ended.stderr
        )

    def leaves(self) -> None:
        """All messages are on disk, none is handled, and the end is in order."""
        assert self.ends(deadly=[], leaves=True, defect="") == ([], [])
        left = Board.left(self.folder)
        assert (left.held, left.ended) == ((), True)

    def ends(self, **options: Any) -> tuple[list[int], list[dict[str, Any]]]:
        """What was handled, and what was set aside, in the order of their values."""
        ended = self.start(**options)
        assert ended.returncode == 0, ended.stderr
        said = json.loads(ended.stdout)
        return sorted(said["handled"]), sorted(said["letters"], key=lambda letter: int(letter["value"]))


def all_but(*values: int, count: int = 20) -> list[int]:
    return [value for value in range(count) if value not in values]


@pytest.mark.parametrize("kind", ["handler", "loop", "replicas"])
@pytest.mark.parametrize("poison", [0, 7, 19])
def test_after_three_deaths_it_is_set_aside_and_those_behind_it_are_handled(
    kind: str, poison: int, tmp_path: Path
) -> None:
    starts = Starts(tmp_path / "state", kind=kind, deadly=[poison])
    for _ in range(3):
        starts.dies()
    handled, letters = starts.ends()
    aside = [letter["value"] for letter in letters]
    assert handled == all_but(*aside)
    assert {"value": poison, "attempts": 3, "error": THREE_TIMES} in letters
    assert aside == [poison] or kind == "replicas", "others may have been in work beside it, all three times"
    assert starts.ends() == (handled, letters), "and it stays so"


def test_also_one_that_kills_while_it_is_being_read(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", kind="unread", deadly=[7])
    starts.leaves()
    for _ in range(3):
        starts.dies()
    assert starts.ends() == (all_but(7), [{"value": 7, "attempts": 3, "error": THREE_TIMES}])


@pytest.mark.parametrize("how", _DIES)
def test_whatever_the_process_dies_of(how: str, tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], how=how)
    for _ in range(3):
        starts.dies()
    assert starts.ends()[0] == all_but(3)


@pytest.mark.parametrize("kind", ["handler", "loop", "replicas"])
def test_also_where_the_first_death_came_before_the_message_was_on_disk(kind: str, tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", kind=kind, deadly=[7], lazy=True)
    for _ in range(3):
        starts.dies()
    handled, letters = starts.ends()
    assert {"value": 7, "attempts": 3, "error": THREE_TIMES} in letters
    assert len(letters) == 1 or kind == "replicas"
    assert handled == all_but(*(letter["value"] for letter in letters))


def test_several_one_after_the_other(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[2, 5])
    for _ in range(6):
        starts.dies()
    handled, letters = starts.ends()
    assert handled == all_but(2, 5)
    assert [letter["value"] for letter in letters] == [2, 5]


def test_the_messages_of_one_unit_are_set_aside_together(tmp_path: Path) -> None:
    """Which of them it was cannot be told; none of them is lost."""
    starts = Starts(tmp_path / "state", kind="batches", deadly=[6])
    for _ in range(3):
        starts.dies()
    handled, letters = starts.ends()
    assert [letter["value"] for letter in letters] == [4, 5, 6, 7]
    assert {letter["error"] for letter in letters} == {THREE_TIMES}
    assert handled == all_but(4, 5, 6, 7)


def test_two_deaths_and_then_an_end_in_order_count_for_nothing(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[7])
    starts.dies()
    starts.dies()
    starts.leaves()
    starts.dies()
    starts.dies()
    assert starts.ends(deadly=[]) == (all_but(), [])


def test_two_deaths_and_then_success_leave_nothing_behind(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[7])
    starts.dies()
    starts.dies()
    assert starts.ends(deadly=[]) == (all_but(), [])
    left = Board.left(starts.folder)
    assert (left.held, left.ended) == ((), True)
    assert starts.ends(deadly=[]) == (all_but(), [])
    assert Board.left(starts.folder).deaths == {}


def test_deaths_of_different_messages_do_not_add_up(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state")
    for poison in (1, 4, 4, 9, 9, 15):
        starts.dies(deadly=[poison])
    assert starts.ends() == (all_but(), [])


@pytest.mark.parametrize("deaths", [1, 2, 5])
def test_the_inbox_says_how_many_deaths(deaths: int, tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], retry={"deaths": deaths})
    starts.leaves()
    for _ in range(deaths):
        starts.dies()
    handled, letters = starts.ends()
    assert (handled, [letter["attempts"] for letter in letters]) == (all_but(3), [deaths])


def test_it_is_dropped_where_the_inbox_says_so(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], retry={"then": "skip"})
    for _ in range(3):
        starts.dies()
    assert starts.ends() == (all_but(3), [])


def test_it_stays_where_it_is_where_the_inbox_says_so(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], retry={"then": "stop"})
    for _ in range(5):
        starts.dies()
    assert starts.ends(deadly=[]) == (all_but(), [])


# Negative controls: what these tests would say of a runtime that does not do it -----------------------------------------


def test_a_runtime_that_notes_nothing_is_caught(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], defect="nothing is noted")
    for _ in range(5):
        starts.dies()


def test_a_runtime_that_handles_what_is_not_on_disk_is_caught(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", deadly=[3], lazy=True, defect="no care")
    for _ in range(5):
        starts.dies()


def test_a_runtime_that_does_not_clear_its_notes_is_caught(tmp_path: Path) -> None:
    starts = Starts(tmp_path / "state", kind="loop", deadly=[7], defect="never cleared")
    starts.leaves()
    for _ in range(3):
        starts.dies()
    assert [letter["value"] for letter in starts.ends()[1]] != [7]

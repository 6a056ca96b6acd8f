"""The process is killed while a wrapped source is read: it goes on exactly behind the last item; a command dies with it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 60.0
COUNT = 40
_CHILD = Path(__file__).with_name("wrap_child.py")

MOMENTS = [
    "read 1",
    "sent 1",
    "read 17",
    "sent 17",
    "sent 40",
    "parse 1",
    "parse 23",
    "keep 1",
    "keep 40",
    "before commit 1",
    "after commit 1",
    "before commit 2",
    "after commit 2",
]


def command(folder: Path, what: str, moment: str, defect: str) -> list[str | Path]:
    return [sys.executable, _CHILD, folder, what, moment, defect]


def run(folder: Path, what: str, moment: str = "never", defect: str = "none") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, what, moment, defect), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def killed(folder: Path, what: str, moment: str, defect: str = "none") -> None:
    ended = run(folder, what, moment, defect)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


def arrived(folder: Path, what: str) -> list[int]:
    """What has arrived when all has, in order."""
    ended = run(folder, what)
    assert ended.returncode == 0, ended.stderr
    offsets: list[int] = json.loads(ended.stdout)
    return offsets


@pytest.mark.parametrize("what", ["count", "offset"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_each_item_arrives_once_whenever_the_process_is_killed(what: str, moment: str, tmp_path: Path) -> None:
    killed(tmp_path, what, moment)
    assert arrived(tmp_path, what) == list(range(COUNT))


def test_each_item_arrives_once_when_it_is_killed_again_and_again(tmp_path: Path) -> None:
    for moment in ("parse 5", "sent 3", "before commit 2", "keep 7", "after commit 2", "read 4"):
        run(tmp_path, "offset", moment)
    assert arrived(tmp_path, "offset") == list(range(COUNT))
    assert arrived(tmp_path, "offset") == list(range(COUNT))


@pytest.mark.parametrize(("defect", "wrong"), [("position first", "lost"), ("position last", "doubled")])
def test_a_position_that_is_kept_apart_from_its_item_is_caught(defect: str, wrong: str, tmp_path: Path) -> None:
    killed(tmp_path, "count", "between 9", defect)
    offsets = arrived(tmp_path, "count")
    assert len(offsets) == (COUNT - 1 if wrong == "lost" else COUNT + 1)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the end of a stranger's process can be waited for on Linux")
def test_a_command_and_what_it_has_started_end_with_the_process_that_is_killed(tmp_path: Path) -> None:
    system = subprocess.Popen(
        command(tmp_path, "command", "never", "none"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert system.stdout is not None
    with system, system.stdout:
        descriptors = [os.pidfd_open(int(system.stdout.readline())) for _ in range(2)]
        try:
            system.kill()
            for descriptor in descriptors:
                assert select.select([descriptor], [], [], PATIENCE_S)[0], "it goes on"
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

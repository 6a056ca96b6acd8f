"""The demo is asked to stop, by Ctrl-C or SIGTERM, and what a second process may do meanwhile."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

IN_THE_MIDDLE = "before send 100"  # which is then still sent


@pytest.mark.parametrize(
    ("number", "word", "exit_code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 0)]
)
def test_what_is_asked_to_stop_counts_what_was_sent_and_goes_on_from_there(
    number: signal.Signals, word: str, exit_code: int, demo: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    with demo.halted(tmp_path, IN_THE_MIDDLE) as child:
        child.send_signal(number)
        printed, errors = child.communicate(timeout=60)

    assert printed == ""
    assert errors.splitlines()[-1] == f"{word}: 100 files are counted; run it again and it goes on from there"
    assert "Traceback" not in errors
    assert child.returncode == exit_code

    again = subprocess.run(demo.command(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert again.stderr.startswith(f"resumes: 100 of {demo.files} files are counted\n")
    assert f"checksum: {uninterrupted.report['checksum']}\n" in again.stdout
    assert demo.to_the_end(tmp_path) == uninterrupted


@pytest.mark.parametrize("options", [(), ("--json",), ("--fresh",)])
def test_a_second_process_says_in_one_sentence_who_has_the_folder(
    options: tuple[str, ...], demo: Any, uninterrupted: Any, tmp_path: Path
) -> None:
    state = tmp_path / ".minions"
    with demo.halted(tmp_path, IN_THE_MIDDLE) as child:
        before = {path.name: path.stat().st_ino for path in state.iterdir()}
        second = subprocess.run(
            demo.command(tmp_path, *options), capture_output=True, text=True, timeout=60, check=False
        )
        assert {path.name: path.stat().st_ino for path in state.iterdir()} == before

    assert second.stdout == ""
    assert second.stderr == (
        f"minions: the state folder {tmp_path}/.minions is in use by process {child.pid}; "
        "stop it first, or use another folder\n"
    )
    assert second.returncode == 1
    assert demo.to_the_end(tmp_path) == uninterrupted


def test_what_is_indexed_can_be_searched_while_the_demo_runs(demo: Any, tmp_path: Path) -> None:
    with demo.halted(tmp_path, "after index 50"):
        found = subprocess.run(
            demo.command(tmp_path, "--search", "kappa"), capture_output=True, text=True, timeout=60, check=False
        )

    assert (found.returncode, found.stderr) == (0, "")
    assert "[kappa]" in found.stdout

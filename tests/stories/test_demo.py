"""What a user sees of the demo: what it counts, what it finds, what it says of a folder that is not as expected."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minions.demo

Demo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """Runs ``minions demo`` with some arguments, in an empty folder that stays the same during a test."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minions.cli", "demo", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False, **options)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "a/b").mkdir(parents=True)
    (folder / "one.py").write_text("import sys\n\nprint(sys.path)\n")
    (folder / "a/two.PY").write_text("no end of line")
    (folder / "a/b/header.txt").write_text("the header, and ünïcode\n")
    (folder / "a/b/empty").touch()
    (folder / "image.png").write_bytes(b"\x89PNG\xff")
    return folder


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def checksum(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    (found,) = re.findall(r"^checksum: ([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    return str(found)


# Counting -------------------------------------------------------------------------------------------------------------


def test_lines_words_and_bytes_are_counted_by_type(demo: Demo, folder: Path) -> None:
    printed = report(demo(folder, "--json"))

    assert printed["types"] == {
        ".py": {"files": 2, "lines": 3, "words": 7, "size_bytes": 28 + 14 + 0},
        ".txt": {"files": 1, "lines": 1, "words": 4, "size_bytes": 26},
        "(none)": {"files": 1, "lines": 0, "words": 0, "size_bytes": 0},
        "(unreadable)": {"files": 1, "lines": 0, "words": 0, "size_bytes": 0},
    } | {".py": {"files": 2, "lines": 3, "words": 3 + 4, "size_bytes": 42}}
    assert (printed["files"], printed["lines"], printed["words"], printed["size_bytes"]) == (5, 4, 11, 68)
    assert printed["unreadable"] == ["image.png: not UTF-8"]
    assert printed["resumed"] is False

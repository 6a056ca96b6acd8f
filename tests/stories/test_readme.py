"""The quick start of README.md, run as its reader would run it: a script in a folder of its own."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]
README = HOUSE / "README.md"
A_SCREEN_LINES = 50


@pytest.fixture
def blocks() -> dict[str, str]:
    """The blocks of the quick start by their language."""
    section = README.read_text(encoding="utf-8").partition("<!-- quickstart: start -->")[2]
    section = section.partition("<!-- quickstart: end -->")[0]
    found = re.findall(r"^```(\w+)\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    assert [language for language, _ in found if language in ("python", "text")] == ["python", "text"]
    return dict(found)


@pytest.fixture
def script(blocks: dict[str, str], tmp_path: Path) -> Path:
    path = tmp_path / "quickstart.py"
    path.write_text(blocks["python"], encoding="utf-8")
    return path


def run_python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "MYPYPATH": str(HOUSE)},  # mypy does not see an editable install
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_quick_start_ends_in_order_and_prints_what_the_readme_shows(blocks: dict[str, str], script: Path) -> None:
    result = run_python("-u", "-W", "error", script, cwd=script.parent)

    assert result.returncode == 0, result.stdout
    same = doctest.OutputChecker().check_output(blocks["text"], result.stdout, doctest.ELLIPSIS)
    assert same, f"the README shows\n{blocks['text']}\nand the quick start prints\n{result.stdout}"


def test_the_quick_start_satisfies_a_strict_type_checker(script: Path) -> None:
    result = run_python("-m", "mypy", "--strict", "--follow-imports=silent", script, cwd=script.parent)

    assert result.returncode == 0, result.stdout


def test_the_quick_start_fits_on_a_screen(blocks: dict[str, str]) -> None:
    assert len(blocks["python"].splitlines()) <= A_SCREEN_LINES

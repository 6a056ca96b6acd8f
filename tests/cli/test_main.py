"""The command `minions` itself: what it says of itself, and how it ends."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import minions.cli

MINIONS = (sys.executable, "-m", "minions.cli")


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MINIONS, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.{number}").write_text("one line\n")
    return folder


def test_the_version_is_that_of_the_distribution() -> None:
    assert run("--version").stdout == f"minions {importlib.metadata.version('minions-runtime')}\n"


def test_the_command_that_is_installed_is_this_one() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="minions")
    assert script.load() is minions.cli.main


@pytest.mark.parametrize("command", [(), *((name,) for name in minions.cli.COMMANDS)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")

    assert done.returncode == 0
    assert "examples:" in done.stdout


@pytest.mark.parametrize("arguments", [(), ("nonsense",), ("demo", "--nonsense"), ("demo", "one", "two")])
def test_wrong_arguments_end_with_2_and_one_line_on_what_is_wrong(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"^minions.*: error: .*$", done.stderr, re.MULTILINE)


def test_asking_for_the_version_loads_no_command() -> None:
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "minions.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = set(re.findall(r"\| +([\w.]+)$", listed.stderr, re.MULTILINE))
    assert "minions.cli" in loaded
    assert {"minions.cli.demo", "minions.demo", "rich"} & loaded == set()


@pytest.mark.parametrize("arguments", [("--version",), ("demo", "folder"), ("demo", "folder", "--json")])
def test_a_reader_that_goes_away_leaves_no_traceback(arguments: tuple[str, ...], folder: Path, tmp_path: Path) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*MINIONS, *arguments],
            cwd=folder.parent,
            env=buffered,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)

    assert done.returncode == 1
    assert "rror" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_harms_nothing(closed: str, folder: Path, tmp_path: Path) -> None:
    script = f'exec "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *MINIONS, "demo", folder], cwd=tmp_path, check=False, capture_output=True
    )
    again = run("demo", "--json", cwd=tmp_path)

    assert done.returncode == 0
    assert again.returncode == 0, again.stderr
    assert '"files": 30' in again.stdout


def test_no_other_file_takes_the_place_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    script = "import os, minions.cli; minions.cli.main(['demo', '--search', 'x']); os.mkdir(os.readlink('/proc/self/fd/1')[1:])"
    (tmp_path / "dev").mkdir()
    subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", script], cwd=tmp_path, check=False)

    assert (tmp_path / "dev/null").is_dir()


def test_what_the_terminal_cannot_show_is_written_out(folder: Path, tmp_path: Path) -> None:
    (folder / "ü.txt").write_bytes(b"\xff")
    done = run("demo", folder, cwd=tmp_path, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert done.returncode == 0, done.stderr
    assert "\\xfc.txt: not UTF-8" in done.stdout


@pytest.mark.parametrize("options", [(), ("--fresh",), ("--search", "one")])
def test_a_folder_that_cannot_be_looked_into_is_named_in_one_sentence(
    options: tuple[str, ...], folder: Path, tmp_path: Path
) -> None:
    too_long = tmp_path / ("x" * 300)
    done = run("demo", folder, "--work", too_long, *options)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"minions: .*{too_long}.*\n", done.stderr)

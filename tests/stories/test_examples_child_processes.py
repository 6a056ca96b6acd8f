"""The example of child processes: one that never ends, one that hangs in a FIFO, one that fails. Each file has one digest."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.stories.example import Example

A_LIFE = 8
"""So many new files for each life."""


@pytest.fixture
def example(tmp_path: Path) -> Example:
    example = Example("child_processes", tmp_path)
    example.configure()
    (tmp_path / "files.txt").touch()
    return example


def ask(example: Example, *names: str) -> None:
    """Writes files and adds them to the list that is followed."""
    for name in names:
        path = example.folder / name
        if not path.exists():
            path.write_text(f"the text of {name}", encoding="utf-8")
    with (example.folder / "files.txt").open("a", encoding="utf-8") as lines:
        lines.writelines(f"{name}\n" for name in names)


def digests(*names: str) -> list[str]:
    return sorted(f"{name} {hashlib.sha256(f'the text of {name}'.encode()).hexdigest()}" for name in names)


def test_it_stops_while_one_child_follows_and_another_hangs(example: Example) -> None:
    os.mkfifo(example.folder / "fifo")
    ask(example, "a", "fifo", "b")
    with example.running() as child:
        child.see_all("digest of a$", "digest of b$")
        assert child.interrupt() == 0
        assert child.lines[-2:] == digests("a", "b")

    (example.folder / "fifo").unlink()
    ask(example, "c")
    (example.folder / "fifo").write_text("the text of fifo", encoding="utf-8")
    with example.running() as child:
        child.see_all("digest of fifo$", "digest of c$")
        assert child.interrupt() == 0
        assert child.lines[-4:] == digests("a", "b", "c", "fifo")


def test_each_file_has_one_digest_however_often_it_is_killed(example: Example) -> None:
    names: list[str] = []
    for life in range(3):
        new = [f"file-{life}-{number}" for number in range(A_LIFE)]
        names += new
        ask(example, *new)
        with example.running() as child:
            child.see(f"digest of file-{life}-{life * 2}$")
            child.kill()
    with example.running() as child:
        ask(example, "last")
        child.see("digest of last$")
        assert child.interrupt() == 0
        assert child.lines[-len(names) - 1 :] == digests(*names, "last")


def test_a_file_that_is_not_there_is_set_aside_and_keeps_nobody_waiting(example: Example) -> None:
    with (example.folder / "files.txt").open("a", encoding="utf-8") as lines:
        lines.write("missing\n")
    with example.running() as child:
        ask(example, "a")
        child.see_all("digest of a$", "dead letter")
        assert child.interrupt() == 0
        assert child.lines[-1:] == digests("a")

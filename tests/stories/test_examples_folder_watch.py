"""A folder that is watched, on a thread of watchdog: each file counts once, also what came while nobody watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories.example import Example

FILES = 20
WORDS = sum(range(1, FILES + 1))


@pytest.fixture
def example(tmp_path: Path) -> Example:
    (tmp_path / "incoming").mkdir()
    example = Example("folder_watch", tmp_path)
    example.configure()
    return example


def arrive(example: Example, *numbers: int) -> None:
    for number in numbers:
        path = example.folder / f"incoming/{number}.part"
        path.write_text("word " * number, encoding="utf-8")
        path.rename(path.with_suffix(".txt"))


def test_it_stops_while_it_watches_and_finds_what_came_meanwhile(example: Example) -> None:
    arrive(example, 1)
    with example.running() as child:
        child.see("file 1.txt$")
        arrive(example, 2, 3)
        child.see("file 3.txt$")
        assert child.interrupt() == 0  # it waits for the thread of watchdog, which waits for the kernel
        assert child.lines[-1] == "3 files, 6 words"

    arrive(example, 4)
    assert example.run_until("file 4.txt$") == "4 files, 10 words"


def test_each_file_counts_once_however_often_it_is_killed(example: Example) -> None:
    arrive(example, 1)
    for number in range(2, FILES, 4):
        with example.running() as child:
            child.see("started: 2 components")
            arrive(example, *range(number, min(number + 4, FILES)))
            child.see(f"file {number + 1}.txt$")
            child.kill()
    with example.running() as child:
        arrive(example, FILES)
        child.see(f"file {FILES}.txt$")
        assert child.interrupt() == 0
        assert child.lines[-1] == f"{FILES} files, {WORDS} words"

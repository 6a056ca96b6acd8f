"""A folder of real files, and the demo run over it in child processes. At the end, how much the soak has done."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

_CHILD = Path(__file__).with_name("demo_child.py")
_FILES = 330
_WORDS = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "мю",
    "νῦ",
    "ξ",
)
_OF_THIS_RUN = ("seconds", "resumed", "files_before")


@attrs.frozen
class Outcome:
    """What can be told of a run that is complete; of two runs over one folder it has to be equal."""

    report: dict[str, Any]
    pages: list[tuple[int, str, str]]


@attrs.frozen
class DemoRuns:
    """Runs the demo over one folder, as often as it takes, each time in a process of its own."""

    folder: Path
    files: int

    def command(self, work: Path, *options: str) -> list[str | Path]:
        return [sys.executable, "-m", "minions.cli", "demo", self.folder, "--work", work, *options]

    def to_the_end(self, work: Path) -> Outcome:
        """Runs it until it has ended by itself."""
        command = self.command(work, "--json")
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        report = {name: value for name, value in json.loads(done.stdout).items() if name not in _OF_THIS_RUN}
        with closing(sqlite3.connect(work / "index.db")) as connection:
            connection.execute("INSERT INTO pages (pages) VALUES ('integrity-check')")
            return Outcome(report, connection.execute("SELECT rowid, path, text FROM pages ORDER BY rowid").fetchall())

    @contextmanager
    def halted(self, work: Path, moment: str, *options: str, defect: str = "none") -> Iterator[subprocess.Popen[str]]:
        """A run that has come to a moment (see demo_child.py; LAST is the number of files) and halts there.

        It is killed when the block is left, unless it has ended by then.
        """
        moment = moment.replace("LAST", str(self.files))
        child = subprocess.Popen(
            [sys.executable, _CHILD, moment, defect, self.folder, "--work", work, *options],
            cwd=work,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        try:
            if (reported := child.stdout.readline()) != "reached\n":
                child.kill()
                pytest.fail(f"{moment} never came: {reported}{child.communicate(timeout=60)}")
            yield child
        finally:
            child.kill()
            child.communicate(timeout=60)

    def until_killed(self, work: Path, moment: str, defect: str = "none") -> None:
        """Runs it until it is killed at a moment."""
        with self.halted(work, moment, "--json", defect=defect):
            pass


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRuns:
    """Over files of several types, some of which cannot be read; always the same."""
    chance = random.Random(11)
    folder = tmp_path_factory.mktemp("folder")
    for number in range(_FILES - 10):
        here = folder / chance.choice(["a", "a/b", "a-b", "ä", "z/deep/deeper"])
        here.mkdir(parents=True, exist_ok=True)
        suffix = chance.choice([".py", ".txt", ".TXT", ".md", ""])
        lines = (" ".join(chance.choices(_WORDS, k=chance.randrange(9))) for _ in range(chance.randrange(40)))
        (here / f"file-{number}{suffix}").write_text("\n".join(lines), encoding="utf-8")
    for number in range(5):
        (folder / f"a/{number}.bin").write_bytes(chance.randbytes(300) + b"\xff")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("its name is not UTF-8")
    (folder / "secret.txt").write_text("nobody may read this")
    (folder / "secret.txt").chmod(0)
    return DemoRuns(folder, _FILES)


@pytest.fixture(scope="module")
def uninterrupted(demo: DemoRuns, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome = demo.to_the_end(tmp_path_factory.mktemp("uninterrupted"))
    assert outcome.report["files"] == demo.files
    assert len(outcome.pages) == demo.files - outcome.report["types"]["(unreadable)"]["files"] > 300
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how much the soak has done, where it ran."""
    ended = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    kills = [value for report in ended for name, value in report.user_properties if name == "kills"]
    if kills:
        terminalreporter.write_line(f"soak: {len(kills)} systems were killed {sum(kills)} times in all")

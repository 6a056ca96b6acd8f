"""An SQLite connection that refuses other threads: a long query, a locked database, kills. Each row is there once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.stories.example import Example

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
READINGS = 250


@pytest.fixture
def example(tmp_path: Path) -> Example:
    example = Example("sqlite_archive", tmp_path)
    example.configure()
    write(example, READINGS)
    return example


def write(example: Example, count: int) -> None:
    """The file with so many readings."""
    lines = [f"{'attic' if number % 2 else 'cellar'},{number}" for number in range(1, count + 1)]
    (example.folder / "readings.csv").write_text("\n".join(lines), encoding="utf-8")


def rows(example: Example) -> list[int]:
    with closing(sqlite3.connect(example.folder / "archive.db")) as connection:
        return [int(celsius) for (celsius,) in connection.execute("SELECT celsius FROM readings ORDER BY celsius")]


ONCE_EACH = list(range(1, READINGS + 1))


def test_it_stops_while_a_query_does_not_end_and_goes_on(example: Example) -> None:
    example.configure(keeper={"query": ENDLESS})
    assert example.run_until("100 kept, asking for the means$") == "99 readings kept"

    example.configure()
    with example.running() as child:
        assert child.end() == 0
        assert child.lines[-1] == f"{READINGS} readings kept"
    assert rows(example) == ONCE_EACH


def test_each_row_is_there_once_however_often_it_is_killed(example: Example) -> None:
    for number, line in ((150, "^100 kept"), (250, "^200 kept"), (350, "started: 3 components"), (450, "^400 kept")):
        write(example, number)  # so there is something left to do in each life
        with example.running() as child:
            child.see(line)
            child.kill()
    write(example, 500)
    with example.running() as child:
        assert child.end() == 0
        assert child.lines[-1] == "500 readings kept"
    assert rows(example) == list(range(1, 501))


@pytest.mark.parametrize("commits", [True, False])
def test_without_the_commit_a_row_is_there_twice_after_a_kill(example: Example, commits: bool) -> None:
    """Its reading was not on disk, and comes again under another id."""
    if not commits:
        example.change("        self.commit()  #", "        #")
    with example.running("--no-commits") as child:
        child.see("started: 3 components" if commits else "100 kept")
        child.kill()
    with example.running() as child:
        assert child.end() == 0
        assert child.lines[-1] == f"{READINGS} readings kept"
    assert (rows(example) == ONCE_EACH) == commits


def test_a_database_that_somebody_else_has_locked_is_waited_for(example: Example) -> None:
    with closing(sqlite3.connect(example.folder / "archive.db", isolation_level=None)) as other:
        with example.running() as child:
            child.see("100 kept")
            child.kill()
        write(example, READINGS + 1)  # so there is something left to do
        other.execute("BEGIN IMMEDIATE")
        with example.running() as child:
            child.see("OperationalError: database is locked")
            other.execute("ROLLBACK")
            assert child.end() == 0
            assert child.lines[-1] == f"{READINGS + 1} readings kept"
    assert rows(example) == [*ONCE_EACH, READINGS + 1]


def test_without_a_component_of_its_own_the_connection_refuses(example: Example) -> None:
    example.change("self._connection = sqlite3.connect(", "Archive.shared = self._connection = sqlite3.connect(")
    example.change(
        "        self.archive.insert(", '        Archive.shared.execute("SELECT 1")\n        self.archive.insert('
    )
    with example.running() as child:
        child.see("SQLite objects created in a thread can only be used in that same thread")

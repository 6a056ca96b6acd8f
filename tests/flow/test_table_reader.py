"""Rows read beside the thread that writes them: one connection for as long as the system runs, and none that is left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from minions.errors import StoreUnusable
from minions.flow.store import Store
from minions.flow.table_reader import TableReader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(Store.open(tmp_path)) as store:
        store.commit([(f"table/a/t/{number}", b"%d" % number) for number in range(5)], [])
    return tmp_path


def opened(folder: Path) -> int:
    """How many descriptors of this process lead to the database."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        found += descriptor.is_symlink() and descriptor.readlink() == folder / "cache.db"
    return found


def test_one_connection_serves_until_it_is_closed_and_then_each_look_has_its_own(folder: Path) -> None:
    reader = TableReader(folder)
    assert opened(folder) == 0
    for _ in range(3):
        assert reader.row("table/a/t/3") == b"3"
        assert opened(folder) == 1
    reader.close()
    assert opened(folder) == 0
    assert reader.row("table/a/t/3") == b"3"
    assert [key for key, _ in reader.keys("table/a/t/", "table/a/t0", 2)] == ["table/a/t/0", "table/a/t/1"]
    assert reader.count("table/a/t/", "table/a/t0", {"table/a/t/9": True, "table/a/t/1": False}) == 5
    assert opened(folder) == 0


def test_an_error_in_the_middle_of_counting_is_told_and_leaves_no_transaction_open(folder: Path) -> None:
    reader = TableReader(folder)

    class Unreadable(dict[str, bool]):
        def items(self) -> None:  # type: ignore[override]
            assert reader._connection is not None
            reader._connection.execute("COMMIT")  # as SQLite does it by itself at many errors
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

    with pytest.raises(StoreUnusable, match="disk I/O error"):
        reader.count("table/a/t/", "table/a/t0", Unreadable())
    assert reader.count("table/a/t/", "table/a/t0", {}) == 5
    reader.close()

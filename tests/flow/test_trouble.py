"""What errors mean: each says what to do, and whether to try again."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from minions.errors import StoreDamaged, StoreError, StoreUnusable
from minions.flow.trouble import DatabaseBusy, Overtaken, commit_failure, opening_failure


def sqlite_error(code: int | None) -> Exception:
    error = sqlite3.OperationalError("what SQLite says")
    if code is not None:
        error.sqlite_errorcode = code
        error.sqlite_errorname = "SQLITE_NAME"
    return error


@pytest.mark.parametrize(
    ("error", "permanent", "said"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), False, "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device"), False, "the disk is full"),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), False, "the disk or file system fails"),
        (sqlite_error(sqlite3.SQLITE_BUSY), False, "another program holds the database locked"),
        (sqlite_error(sqlite3.SQLITE_BUSY_RECOVERY), False, "another program holds the database locked"),
        (DatabaseBusy("locked"), False, "another program holds the database locked"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), False, "readable and writable"),
        (MemoryError(), False, "MemoryError"),
        (OSError(errno.EIO, "Input/output error"), False, "Input/output error"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), True, "restore a snapshot"),
        (sqlite_error(sqlite3.SQLITE_NOTADB), True, "restore a snapshot"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), True, "cannot be written"),
        (sqlite_error(sqlite3.SQLITE_ERROR), True, "SQLITE_NAME"),
        (sqlite3.ProgrammingError("closed"), True, "closed"),
        (Overtaken("somebody else"), True, "two processes"),
    ],
)
def test_a_failed_commit_says_why_and_whether_to_try_again(
    tmp_path: Path, error: Exception, permanent: bool, said: str
) -> None:
    failure = commit_failure(error, tmp_path / "cache.db")
    assert failure.permanent is permanent
    assert said in str(failure)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite_error(sqlite3.SQLITE_CORRUPT), StoreDamaged),
        (sqlite_error(sqlite3.SQLITE_NOTADB), StoreDamaged),
        (sqlite_error(None), StoreDamaged),  # text that is not UTF-8
        (sqlite_error(sqlite3.SQLITE_BUSY), StoreUnusable),
        (sqlite_error(sqlite3.SQLITE_FULL), StoreUnusable),
        (PermissionError(errno.EACCES, "Permission denied"), StoreUnusable),
    ],
)
def test_a_failed_opening_tells_damage_from_what_can_be_put_right(
    tmp_path: Path, error: Exception, kind: type[StoreError]
) -> None:
    failure = opening_failure(error, tmp_path / "gone" / "cache.db")
    assert type(failure) is kind
    assert str(tmp_path / "gone" / "cache.db") in str(failure)

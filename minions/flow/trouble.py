"""What an error of SQLite or of the operating system means for a store, in words. Pure; no thread, no lock."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from minions.errors import CommitFailed, StoreDamaged, StoreError, StoreUnusable

__all__ = ["NO_DESCRIPTOR", "REMEDY", "DatabaseBusy", "Overtaken", "commit_failure", "opening_failure"]

REMEDY = "restore a snapshot, or move the folder away to start afresh; nothing was overwritten"

NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_MAY_PASS = _BUSY | {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
_MIB = 2**20
_LITTLE_ROOM_BYTES = 2**17
_FILES_OF_A_DATABASE = 4  # itself, its log, the index of that, and the folder while it is fsynced


class DatabaseBusy(sqlite3.DatabaseError):
    """Another program holds the database locked. No OperationalError: that, diskcache would try again for 60 seconds."""


class Overtaken(sqlite3.DatabaseError):
    """The last commit in the database is not the one that this cache made."""


def opening_failure(error: Exception, database: Path) -> StoreError:
    """For an error while a store is opened or read."""
    code = _primary_code(error)
    # Python's own error, for text that is not UTF-8, has no code
    undecodable = isinstance(error, sqlite3.OperationalError) and code is None
    if undecodable or code in _DAMAGED:
        return StoreDamaged(f"{database} is damaged ({error}); {REMEDY}")
    return StoreUnusable(f"cannot use {database}: {_in_words(error, code, database)}")


def commit_failure(error: Exception, database: Path) -> CommitFailed:
    """For an error while rows are committed."""
    code = _primary_code(error)
    permanent = code not in _MAY_PASS and not isinstance(error, OSError)
    return CommitFailed(f"cannot commit to {database}: {_in_words(error, code, database)}", permanent=permanent)


def _primary_code(error: Exception) -> int | None:
    if isinstance(error, DatabaseBusy):
        return sqlite3.SQLITE_BUSY
    if isinstance(error, MemoryError):  # what Python makes of SQLITE_NOMEM
        return sqlite3.SQLITE_NOMEM
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _in_words(error: Exception, code: int | None, database: Path) -> str:
    if isinstance(error, Overtaken):
        return f"{error}, so two processes use this folder: was its lock file deleted?"
    if code in _BUSY:
        return "another program holds the database locked (an sqlite3 shell, a backup?); let it finish or stop it"
    if code in _DAMAGED:
        return f"the database is damaged ({error}); {REMEDY}"
    if code == sqlite3.SQLITE_READONLY:
        return (
            f"it cannot be written ({error}); the folder and the files in it must be writable, on a file system that is"
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return f"a row is larger than SQLite can store ({error})"
    if _wants_descriptor(error, code):
        return f"no file descriptor is free ({error}); let some be closed, or raise the limit on open files (ulimit -n)"
    free_bytes = _free_bytes(database.parent)
    full = code == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    # SQLite tells a full disk as an I/O error where it meets it outside the database and its log
    maybe_full = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
    if full or (maybe_full and free_bytes is not None and free_bytes < _LITTLE_ROOM_BYTES):
        free = "" if free_bytes is None else f", {free_bytes / _MIB:.1f} MiB free"
        return f"the disk is full ({error}{free}); make room on it"
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    if code == sqlite3.SQLITE_IOERR:
        return f"the disk or file system fails, or a limit on file size is met ({error}: {name})"
    return f"{error} ({name}); are the folder and the files in it readable and writable for this user?"


def _wants_descriptor(error: Exception, code: int | None) -> bool:
    """Whether files could not be opened because the process, or the machine, has as many open as it may."""
    if code != sqlite3.SQLITE_CANTOPEN:  # all that SQLite says, and it has closed again what it could open
        return getattr(error, "errno", None) in NO_DESCRIPTOR
    opened: list[int] = []
    try:
        for _ in range(_FILES_OF_A_DATABASE):
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401 - those before the error count
    except OSError as now:
        return now.errno in NO_DESCRIPTOR
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def _free_bytes(folder: Path) -> int | None:
    try:
        figures = os.statvfs(folder)
    except OSError:
        return None
    return figures.f_bavail * figures.f_frsize

"""The store: sealed rows in one database in one folder, committed many at a time.

A `Store` is owned by one thread, which opens it, reads it, commits to it and closes it. It starts no thread and has no lock of
its own; the folder lock keeps other processes out.

The folder holds `cache.db` with its write-ahead log, `lock` and `mark`. Every value is `crc32 + body`; the keys under
`meta/` are the store's own: `meta/format`, and `meta/commit` with the number of the last commit as decimal digits.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from minions.errors import CommitFailed, StoreDamaged, StoreUnusable, UsageError
from minions.flow.folder_lock import FolderLock
from minions.flow.inspection import (
    COMMIT_KEY,
    FORMAT,
    FORMAT_KEY,
    find_commit_number,
    read_row_from,
    read_rows_from,
    reading,
    refuse_foreign,
)
from minions.flow.mark import MARK_FILE, UNKNOWN_LOOKS, Mark
from minions.flow.own_file import sync_folder
from minions.flow.plain_cache import DATABASE_FILE, SYNCHRONOUS, PlainCache, Step
from minions.flow.seal import seal
from minions.flow.trouble import REMEDY, commit_failure, opening_failure

__all__ = ["Store", "has_store", "read_rows"]

_SMALL_BYTES = 8 << 20  # read in some 20 ms
_TICK_NS = 20_000_000  # twice the longest step of the clock that files get their times from
_ROUGH_NS = 1_000_000
_NURSERY = ".store-being-created"  # a new database grows up in here, so that a half-made one is never taken for a store


class Store:
    """An open store. Only the thread that opened it may call it.

    Attributes:
        commits_lost: more than 0 where the power was lost with synchronous NORMAL: what is there is consistent, but so many of
            the last commits are gone, or more. Told at each opening until the next commit.
        perhaps_lost: the machine went down with synchronous NORMAL, and whether commits are gone cannot be seen. Told likewise.
        commit_number: the number of the last commit; 0 in a new store.
    """

    def __init__(self, cache: PlainCache, lock: FolderLock, mark: Mark, *, commit_number: int, at_risk: bool) -> None:
        self._cache = cache
        self._lock = lock
        self._mark = mark
        self._database = Path(cache.directory, DATABASE_FILE)
        self._identity = _identity(self._database)
        self._owner = threading.get_ident()
        self._at_risk = at_risk
        self.commit_number = commit_number
        self.commits_lost = max(0, mark.commit_number - commit_number)
        self.perhaps_lost = mark.at_risk and not mark.same_boot and not self.commits_lost
        self._leave_mark = self.commits_lost > 0 or self.perhaps_lost  # until a commit has been made

    @classmethod
    def open(cls, folder: Path, *, synchronous: Literal["NORMAL", "FULL"] = "NORMAL") -> Store:
        """Open the store in a folder; both are created where there are none.

        Waits a second at most where another program has the database locked. Nothing is overwritten when it raises.

        Args:
            synchronous: what a power loss may cost. NORMAL: it may fall back to an earlier commit. FULL: nothing, at one fsync
                for each commit. Neither loses anything when the process is killed.

        Raises:
            StoreLocked: another process, or another store in this one, has the folder.
            StoreUnusable: the folder cannot be created, read or written, or holds something else.
            StoreDamaged: what is there is not what was written.
            StoreTooNew: a later version of Minions has written it.
        """
        folder = folder.absolute()
        _make_folder(folder)
        lock = FolderLock.acquire(folder)
        try:
            return cls._open_locked(folder, lock, synchronous)
        except (sqlite3.Error, OSError, MemoryError) as error:
            lock.release()
            raise opening_failure(error, folder / DATABASE_FILE) from error
        except BaseException:  # what is wrong with the store, and Ctrl-C: the folder must not stay locked
            lock.release()
            raise

    @classmethod
    def _open_locked(cls, folder: Path, lock: FolderLock, synchronous: str) -> Store:
        mark = Mark(folder)
        found = find_commit_number(folder, trusted=_is_as_it_was_left(folder / DATABASE_FILE, mark))
        missing = max(0, mark.commit_number - (found or 0))
        if missing and (found is None or mark.same_boot):
            raise StoreDamaged(
                f"{folder / DATABASE_FILE} lacks the last {missing} of {mark.commit_number} commits: the database or its"
                f" write-ahead log was removed, replaced or damaged; {REMEDY}. If an older database was put there on"
                f" purpose, delete {folder / MARK_FILE}"
            )
        if found is None:
            _create(folder)
        cache = PlainCache(folder, sqlite_synchronous=SYNCHRONOUS[synchronous])
        try:
            (journal_mode,) = cache.connection.execute("PRAGMA journal_mode").fetchone()
            if journal_mode != "wal":
                raise StoreUnusable(
                    f"the file system of {folder} has no shared memory; keep the state folder on a local disk"
                )
            mark.open()
            store = cls(cache, lock, mark, commit_number=found or 0, at_risk=synchronous == "NORMAL")
            store._begin_mark()
            return store
        except BaseException:  # the same: neither file is to stay open
            mark.close()
            cache.close()
            raise

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        """Key and body of each row whose key starts with the prefix, in key order. Exhaust it before the next commit.

        Raises:
            StoreDamaged: a row is not what was written; the message names it.
        """
        self._check_door()
        return read_rows_from(self._cache.connection, self._database, prefix)

    def get(self, key: str) -> bytes | None:
        """The body stored under the key, or None. Raises StoreDamaged as `rows` does."""
        self._check_door()
        return read_row_from(self._cache.connection, self._database, key)

    def commit(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> int:
        """Delete rows, then write rows, in one transaction; the number of the commit is returned once it is on disk.

        With synchronous NORMAL "on disk" holds against the death of the process, with FULL against a power loss too.
        Blocks for a second at most where another program has the database locked.

        Raises:
            CommitFailed: nothing was committed; `permanent` says whether the same rows may be tried again. (Where only the
                mark could not be written, they are committed, and to commit them again changes nothing.)
        """
        self._check_door()
        number = self.commit_number + 1
        sealed = [(key, seal(key, body)) for key, body in puts]
        step = Step(COMMIT_KEY, _sealed_number(self.commit_number), _sealed_number(number))
        try:
            self._cache.commit(sealed, deletes, step)
            self.commit_number = number
            self._check_still_there()
            self._mark.write(number, at_risk=self._at_risk, looks=_lasting_looks(self._database))
            self._leave_mark = False
        except (sqlite3.Error, OSError, MemoryError) as error:
            self._leave_mark = True
            raise commit_failure(error, self._database) from error
        return number

    def close(self) -> None:
        """Tidy up the database and let others have the folder. It is safe to call this twice."""
        if not self._lock.held:
            return
        self._check_door()
        try:
            if self._cache.checkpoint() and not self._leave_mark:
                self._mark.write(self.commit_number, looks=_lasting_looks(self._database, closed=True))
        except (sqlite3.Error, OSError):
            pass  # what stays in the write-ahead log is read from there at the next opening
        finally:
            self._cache.close()
            self._mark.close()
            self._lock.release()

    def _begin_mark(self) -> None:
        """Notes that from now on a power loss may take commits, before it can; what a power loss has taken stays noted.

        The name of a new mark lasts from the first commit on, because SQLite then fsyncs the folder for its log.
        """
        if self._at_risk and not self._leave_mark:
            self._mark.write(self.commit_number, at_risk=True, looks=_lasting_looks(self._database))

    def _check_door(self) -> None:
        if threading.get_ident() != self._owner:
            raise UsageError(f"the store {self._database.parent} is used by a thread that did not open it")
        if not self._lock.held:
            raise UsageError(f"the store {self._database.parent} is closed, or this is a forked child of its process")

    def _check_still_there(self) -> None:
        """SQLite writes on into a database that has been deleted."""
        if _identity(self._database) != self._identity:
            raise CommitFailed(
                f"{self._database} was deleted, moved or replaced while it was in use; this commit may be lost with it",
                permanent=True,
            )


def has_store(folder: Path) -> bool:
    """Whether anything was ever stored in a folder. Raises StoreUnusable where that cannot be seen."""
    database = folder.absolute() / DATABASE_FILE
    try:
        status = database.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise opening_failure(error, database) from error
    return stat.S_ISREG(status.st_mode) and status.st_size > 0


def read_rows(folder: Path, prefix: str) -> list[tuple[str, bytes]]:
    """The rows of a store as of its last commit, without its lock: whether or not a process runs it.

    It may be called from any thread and changes nothing. Where no process has the store open, SQLite leaves an empty log and
    its index behind (`cache.db-wal`, `cache.db-shm`), which the next opening tidies up.

    Raises:
        StoreUnusable: there is no store in the folder, or it cannot be read.
        StoreDamaged, StoreTooNew: as `Store.open`, without its check of the whole database.
    """
    database = folder.absolute() / DATABASE_FILE
    if not has_store(folder):
        raise StoreUnusable(f"there is no store in {folder}: no file {DATABASE_FILE} with anything in it")
    with reading(database) as connection:
        refuse_foreign(connection, database)
        return list(read_rows_from(connection, database, prefix))


def _make_folder(folder: Path) -> None:
    if os.path.expandvars(folder) != str(folder):
        raise StoreUnusable(f"the name of {folder} holds a $ with a variable, which diskcache would put in; rename it")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnusable(
            f"cannot create the state folder {folder}: {error.strerror}; create it, or choose one that this user may create"
        ) from error


def _create(folder: Path) -> None:
    """Put an empty store where nothing was stored yet. A kill at any moment leaves either nothing or the whole of it."""
    nursery = folder / _NURSERY
    if nursery.exists():
        shutil.rmtree(nursery)
    nursery.mkdir(mode=0o700)
    cache = PlainCache(nursery)
    try:
        cache.index_expiry_sparsely()
        cache.commit([(FORMAT_KEY, seal(FORMAT_KEY, FORMAT)), (COMMIT_KEY, _sealed_number(0))], [])
        if not cache.checkpoint():
            raise StoreUnusable(f"another program reads the database that is being created in {nursery}; try again")
    finally:
        cache.close()
    # A file of its own: where something still holds a statement of that connection, SQLite keeps the other file open, and
    # its locks go by the file.
    database = nursery / f"whole-{DATABASE_FILE}"
    _write_new(database, (nursery / DATABASE_FILE).read_bytes())
    for suffix in (
        "-wal",
        "-shm",
        "-journal",
    ):  # left by what held nothing; SQLite must not take them for the new one's
        (folder / (DATABASE_FILE + suffix)).unlink(missing_ok=True)
    database.rename(folder / DATABASE_FILE)
    for left in nursery.iterdir():
        left.unlink()
    nursery.rmdir()
    _sync_names(folder)


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file, to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(descriptor, content[written:], written)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    """Make the names in a folder last, and its own, and those of the folders above it that may be as new.

    A power loss could take any of them, and with it what was committed. What can be new is on the same file system.
    """
    device = folder.stat().st_dev
    for path in (folder, *folder.parents):
        if path.stat().st_dev != device:
            return
        with suppress(PermissionError):  # a folder that this user may enter but not list was not made by us
            sync_folder(path)


def _sealed_number(number: int) -> bytes:
    return seal(COMMIT_KEY, b"%d" % number)


def _is_as_it_was_left(database: Path, mark: Mark) -> bool:
    """Whether nobody has written to a database file since the mark was: then it is whole if it was.

    After the machine went down that holds where the store had been closed, because all of it was fsynced then.
    """
    if mark.looks == UNKNOWN_LOOKS:
        return False
    return mark.looks == _looks(database, closed=True) or (mark.same_boot and mark.looks == _looks(database))


def _looks(database: Path, *, closed: bool = False) -> bytes:
    """What a database file looks like from outside: the same as long as nobody writes to it, moves it or copies it.

    `UNKNOWN_LOOKS` where it is small, and reading it whole takes no time; and where the file system has no fine times.
    """
    try:
        status = database.stat()
    except FileNotFoundError:
        return UNKNOWN_LOOKS
    if status.st_size < _SMALL_BYTES or not status.st_mtime_ns % _ROUGH_NS:
        return UNKNOWN_LOOKS
    seen = (closed, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return blake2b(repr(seen).encode(), digest_size=len(UNKNOWN_LOOKS)).digest()


def _lasting_looks(database: Path, *, closed: bool = False) -> bytes:
    """As `_looks`, where the next one who writes cannot leave the same time; otherwise `UNKNOWN_LOOKS`.

    Args:
        closed: nothing more will be written, and there is time to wait until that is so.
    """
    looks = _looks(database, closed=closed)
    if looks != UNKNOWN_LOOKS and abs(time.time_ns() - database.stat().st_mtime_ns) < _TICK_NS:
        if not closed:
            return UNKNOWN_LOOKS
        time.sleep(_TICK_NS / 1e9)  # noqa: TID251 - until the clock of the file system goes on, which tells nobody
    return looks


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino

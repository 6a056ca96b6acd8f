"""diskcache, held to what is safe for a durable store: plain rows in one database, nothing evicted, no pickle, no value files.

The cache is used by the one thread that made it (diskcache keeps a connection for each thread); it starts none and has no lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from diskcache import Cache, Disk
from diskcache.core import DBNAME, MODE_RAW

from minions.errors import StoreError
from minions.flow.trouble import DatabaseBusy, Overtaken

__all__ = ["DATABASE_FILE", "SETTINGS", "SYNCHRONOUS", "PlainCache", "PlainDisk", "Step"]

DATABASE_FILE: str = DBNAME
BUSY_TIMEOUT_S = 1.0  # short, because SQLite's wait for another program's lock cannot be interrupted

_Item = TypeVar("_Item")

_NEVER = 2**62
SETTINGS = {
    # diskcache evicts by default: 1 GiB, the oldest first
    "eviction_policy": "none",
    "cull_limit": 0,
    "size_limit": _NEVER,
    "statistics": 0,
    "tag_index": 0,
    # a value in a file of its own is not transactional: a rollback keeps the row and loses the value
    "disk_min_file_size": _NEVER,
    "disk_pickle_protocol": 0,
    "sqlite_journal_mode": "wal",
    "sqlite_auto_vacuum": 0,
    "sqlite_secure_delete": 0,
    "sqlite_mmap_size": 0,
    "sqlite_cache_size": -16384,
    "sqlite_wal_autocheckpoint": 1000,
    "sqlite_journal_size_limit": 2**25,
    # what SQLite sets aside during a commit would go to files elsewhere: on a disk that may be full, with descriptors to be had
    "sqlite_temp_store": 2,
    "sqlite_trusted_schema": 0,
}
SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}

_STEP = "UPDATE Cache SET value = ? WHERE key = ? AND raw = 1 AND value = ?"
_UPSERT_END = " ON CONFLICT(key, raw) DO UPDATE SET value = excluded.value"
# Each execution of a statement gives up the GIL, and executemany executes once for each row: beside one busy Python thread,
# 512 rows took 650 ms that way and take 50 ms in statements of many rows (2.9 and 1.9 ms where no thread is busy). The sizes are
# powers of two, so that few different statements have to be prepared.
_MOST_ROWS = 256
_SIZES = [2**power for power in range(_MOST_ROWS.bit_length())]
_DELETES = {size: f"DELETE FROM Cache WHERE raw = 1 AND key IN ({', '.join('?' * size)})" for size in _SIZES}
_UPSERTS = {
    size: f"INSERT INTO Cache(key, raw, mode, value) VALUES {', '.join(['(?, 1, 1, ?)'] * size)}" + _UPSERT_END
    for size in _SIZES
}
_PLAIN_TYPES = (bytes, str, int, float)


class Step(NamedTuple):
    """A row that goes from one value to another, if it still has the first."""

    key: str
    before: bytes
    after: bytes


class PlainDisk(Disk):  # type: ignore[misc]
    """Keys and values are bytes, str, int or float, inside the database; all else is refused, on the way in and out."""

    def __init__(self, directory: str, min_file_size: int = 0, pickle_protocol: int = 0) -> None:
        super().__init__(directory, min_file_size=_NEVER, pickle_protocol=0)

    def put(self, key: Any) -> tuple[Any, bool]:
        _refuse_unless_plain("key", key)
        return key, True

    def get(self, key: Any, raw: bool) -> Any:
        if not raw:
            raise StoreError(f"a key in {self._directory} is stored as a pickle; pickle is never loaded")
        return key

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, Any]:
        if read:
            raise TypeError("an open file cannot be stored")
        _refuse_unless_plain("value", value)
        return 0, MODE_RAW, None, value

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        if mode != MODE_RAW or filename is not None or read:
            raise StoreError(f"a value in {self._directory} is stored as a pickle or in a file; neither is ever loaded")
        return value

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        raise TypeError("values are never stored in files of their own")

    def remove(self, file_path: str) -> None:
        raise StoreError(f"a row in {self._directory} names the file {file_path}; no file is ever removed for a row")


class PlainCache(Cache):  # type: ignore[misc]
    """A `diskcache.Cache` of plain rows that commits many of them at once.

    It must be closed by the thread that made it.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        try:
            super().__init__(str(folder), timeout=BUSY_TIMEOUT_S, disk=PlainDisk, **{**SETTINGS, **settings})
        except BaseException:  # whatever it is, Ctrl-C too: half-opened, its connection would keep the file
            self.close()
            raise

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection = self._con
        return connection

    def commit(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str], step: Step | None = None) -> None:
        """Take the step, delete, then write rows, in one transaction or not at all.

        Raises:
            Overtaken: the row of the step is not what it was: somebody else has written.
            sqlite3.Error: as SQLite says.
        """
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            if step is not None and connection.execute(_STEP, (step.after, step.key, step.before)).rowcount != 1:
                raise Overtaken("the last commit in the database was made by somebody else")
            for some_keys in _portions(deletes):
                connection.execute(_DELETES[len(some_keys)], some_keys)
            for some_rows in _portions(puts):
                connection.execute(_UPSERTS[len(some_rows)], tuple(chain.from_iterable(some_rows)))
            connection.execute("COMMIT")
        except BaseException:  # whatever it is: nothing is to be left half-written, nor the transaction open
            if connection.in_transaction:  # many errors have rolled back already
                connection.execute("ROLLBACK")
            raise

    def index_expiry_sparsely(self) -> None:
        """Index the rows that expire only, of which there are none: each row would cost an entry in diskcache's index."""
        self.connection.execute("DROP INDEX Cache_expire_time")
        self.connection.execute("CREATE INDEX Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL")

    def checkpoint(self) -> bool:
        """Move the write-ahead log into the database and empty it; False where a reader is in the way."""
        (busy, _, _) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    # diskcache opens its first connection without any patience, and then tries a locked database again for 60 s at each of
    # some 40 statements, at full speed. Here each statement waits for the busy timeout, and the first one that fails is the end.

    @property
    def _timeout(self) -> float:
        return BUSY_TIMEOUT_S

    @_timeout.setter
    def _timeout(self, seconds: float) -> None:
        pass

    @property
    def _sql(self) -> Callable[..., sqlite3.Cursor]:
        execute = self.connection.execute

        def bounded(statement: str, *parameters: Any) -> sqlite3.Cursor:
            try:
                return execute(statement, *parameters)
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise DatabaseBusy(str(error)) from error
                raise

        return bounded


def _portions(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """The items in order, cut into as few portions of a size in `_SIZES` as can be."""
    start, size = 0, _MOST_ROWS
    while remaining := len(items) - start:
        size = min(size, 1 << (remaining.bit_length() - 1))
        yield items[start : start + size]
        start += size


def _refuse_unless_plain(what: str, value: object) -> None:
    if type(value) not in _PLAIN_TYPES:
        raise TypeError(
            f"a {what} of type {type(value).__qualname__} cannot be stored: only bytes, str, int and float can"
        )

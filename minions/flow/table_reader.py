"""Reads single rows and ranges of rows from the database of a running store, or of one that nobody runs.

One read-only connection for a whole system, made when it is first needed, because descriptors are few. Any thread may call it;
the lock guards the connection. No transaction is left open, so that the write-ahead log can always be emptied.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minions.errors import StoreDamaged
from minions.flow.plain_cache import BUSY_TIMEOUT_S, DATABASE_FILE
from minions.flow.seal import unseal
from minions.flow.store import has_store
from minions.flow.trouble import REMEDY, opening_failure

__all__ = ["TableReader"]

_ROW = "SELECT value FROM Cache WHERE key = ? AND raw = 1"
_THERE = "SELECT 1 FROM Cache WHERE key = ? AND raw = 1"
_RANGE = "SELECT CAST(key AS BLOB), value FROM Cache WHERE key {} ? AND key < ? AND raw = 1 ORDER BY key LIMIT ?"
_FROM, _AFTER = _RANGE.format(">="), _RANGE.format(">")
_KEYS = "SELECT CAST(key AS BLOB) FROM Cache WHERE key {} ? AND key < ? AND raw = 1 ORDER BY key LIMIT ?"
_KEYS_FROM, _KEYS_AFTER = _KEYS.format(">="), _KEYS.format(">")
_COUNT = "SELECT COUNT(*) FROM Cache WHERE key >= ? AND key < ? AND raw = 1"


class TableReader:
    """Rows as of the last commit. Blocks for as long as the disk takes."""

    def __init__(self, folder: Path, *, lasting: bool = True) -> None:
        """Opens nothing yet.

        Args:
            folder: where the store is.
            lasting: keep the connection until `close`; otherwise, and from then on, each call makes its own.
        """
        self._folder = folder
        self._database = folder.absolute() / DATABASE_FILE
        self._lock = threading.Lock()  # guards the two below
        self._lasting = lasting
        self._connection: sqlite3.Connection | None = None

    def row(self, key: str) -> bytes | None:
        """The body of a row, or None where there is none.

        Raises:
            StoreDamaged: the row is not what was written.
            StoreError: the database cannot be read.
        """
        found = self._all(_ROW, key)
        return self._unsealed(key.encode(), found[0][0]) if found else None

    def rows(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bytes]]:
        """Key and body of the rows from `first` (or after it) up to but not including `end`, in order, `most` at most."""
        found = self._all(_AFTER if after else _FROM, first, end, most)
        return [(key.decode(), self._unsealed(key, value)) for key, value in found]

    def keys(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bool]]:
        """As `rows`, without the bodies: each key with True. They are read from the index alone, and nothing is checked."""
        found = self._all(_KEYS_AFTER if after else _KEYS_FROM, first, end, most)
        return [(key.decode(), True) for (key,) in found]

    def count(self, first: str, end: str, known: Mapping[str, bool]) -> int:
        """How many rows there are from `first` up to but not including `end`, if those in `known` are there or not as it says."""
        with self._connected() as connection:
            if connection is None:
                return sum(known.values())
            try:
                connection.execute("BEGIN")  # all of it as of one commit
                try:
                    (count,) = connection.execute(_COUNT, (first, end)).fetchone()
                    for key, there in known.items():
                        count += there - (connection.execute(_THERE, (key,)).fetchone() is not None)
                finally:
                    if connection.in_transaction:  # many errors have ended it already
                        connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise opening_failure(error, self._database) from error
        found: int = count
        return found

    def close(self) -> None:
        """Closes the connection. Whoever asks later is answered all the same: a system ends while others look at it."""
        with self._lock:
            self._lasting = False
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _all(self, statement: str, *parameters: str | int) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            if connection is None:
                return []
            try:
                return connection.execute(statement, parameters).fetchall()
            except sqlite3.Error as error:
                raise opening_failure(error, self._database) from error

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection | None]:
        with self._lock:
            try:
                yield self._connected_locked()
            finally:
                if not self._lasting and self._connection is not None:
                    self._connection.close()
                    self._connection = None

    def _connected_locked(self) -> sqlite3.Connection | None:
        if self._connection is None and has_store(self._folder):
            try:
                self._connection = sqlite3.connect(
                    f"{self._database.as_uri()}?mode=ro",
                    uri=True,
                    timeout=BUSY_TIMEOUT_S,
                    isolation_level=None,
                    check_same_thread=False,
                )
            except sqlite3.Error as error:
                raise opening_failure(error, self._database) from error
        return self._connection

    def _unsealed(self, key: bytes, value: object) -> bytes:
        try:
            if not isinstance(value, bytes):
                raise StoreDamaged(f"row {key.decode(errors='backslashreplace')!r} holds no bytes")
            return unseal(key, value)
        except StoreDamaged as error:
            raise StoreDamaged(f"{self._database}: {error}; {REMEDY}") from error

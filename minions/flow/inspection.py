"""Looking at a database before anything may write to it, and reading from one that is not ours to write.

diskcache writes whenever it opens a folder, runs what it finds in the Settings table as pragmas, and unpickles what a row calls a
pickle. So a database is first opened read-only, and refused if it holds what this runtime never writes. Reading this way
does not even move the write-ahead log into the database. Runs on the caller's thread; no lock.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from diskcache.core import DEFAULT_SETTINGS, METADATA, MODE_PICKLE

from minions.errors import StoreDamaged, StoreTooNew, StoreUnusable
from minions.flow.plain_cache import BUSY_TIMEOUT_S, DATABASE_FILE, SETTINGS
from minions.flow.seal import unseal
from minions.flow.trouble import REMEDY, opening_failure

__all__ = [
    "COMMIT_KEY",
    "FORMAT",
    "FORMAT_KEY",
    "find_commit_number",
    "read_row_from",
    "read_rows_from",
    "reading",
    "refuse_foreign",
]

FORMAT_KEY = "meta/format"  # its row stays as it is in every later version of the format
FORMAT = b"minions-store-1"
COMMIT_KEY = "meta/commit"

_LAST_CHARACTER = "\U0010ffff"  # a noncharacter, so it ends the keys with a prefix
_ROWS = "SELECT CAST(key AS BLOB), value FROM Cache WHERE key >= ? AND key < ? AND raw = 1 ORDER BY key"
_ROW = "SELECT CAST(key AS BLOB), value FROM Cache WHERE key = ? AND raw = 1"
_FOREIGN = (
    "SELECT CAST(key AS BLOB), raw, mode, filename FROM Cache WHERE (raw IS NOT 1 OR mode IS NOT 1 OR filename IS NOT NULL"
    " OR expire_time IS NOT NULL OR tag IS NOT NULL OR typeof(key) != 'text' OR typeof(value) != 'blob')"
)
_FOREIGN_ROWS = f"{_FOREIGN} LIMIT 1"
# the entries are skipped by way of the index; '0' is the character behind '/'
_FOREIGN_ROWS_BUT_ENTRIES = f"{_FOREIGN} AND (key < 'table/' OR key >= 'table0' OR key IS NULL) LIMIT 1"
_KNOWN_SETTINGS = {*DEFAULT_SETTINGS, *METADATA, *SETTINGS}
_KNOWN_SCHEMA = {
    ("table", "Settings"),
    ("table", "Cache"),
    ("index", "sqlite_autoindex_Settings_1"),
    ("index", "Cache_key_raw"),
    ("index", "Cache_expire_time"),
    ("trigger", "Settings_count_insert"),
    ("trigger", "Settings_count_delete"),
    ("trigger", "Settings_size_insert"),
    ("trigger", "Settings_size_update"),
    ("trigger", "Settings_size_delete"),
}
_KNOWN_TRIGGER = re.compile(
    r"CREATE TRIGGER \w+ AFTER (INSERT|UPDATE|DELETE) ON Cache FOR EACH ROW BEGIN"
    r' UPDATE Settings SET value = value [^;()]* WHERE key = "(count|size)"; END'
)


def find_commit_number(folder: Path, *, trusted: bool = False) -> int | None:
    """The last commit in the folder's database, or None where nothing was ever stored; the database is checked on the way.

    Args:
        trusted: nobody but this runtime can have written to the database file since it was whole, so that not all of it has to
            be read, of which the most are entries of tables.

    Raises:
        StoreDamaged, StoreTooNew, StoreUnusable: it must not be opened. Nothing in it was changed.
    """
    database = folder / DATABASE_FILE
    _refuse_odd_files(database)
    if not database.exists() or database.stat().st_size == 0:
        return None
    with reading(database) as connection:
        # not quick_check, which takes half the time (25 ms for 100,000 rows): a flipped byte in a key goes unnoticed by it
        problems = [] if trusted else [problem for (problem,) in connection.execute("PRAGMA integrity_check(3)")]
        if problems not in ([], ["ok"]):
            raise StoreDamaged(f"{database} is damaged ({'; '.join(problems)}); {REMEDY}")
        if _holds_nothing(connection):
            return None
        refuse_foreign(connection, database, in_tables=not trusted)
        commit = read_row_from(connection, database, COMMIT_KEY)
        if commit is None or not commit.isdigit():
            raise StoreDamaged(f"{database} has lost its row {COMMIT_KEY!r}; {REMEDY}")
        return int(commit)


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection in a read transaction; its errors become the store's."""
    try:
        with closing(
            sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise opening_failure(error, database) from error


def read_rows_from(connection: sqlite3.Connection, database: Path, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Key and body of each row whose key starts with the prefix, in key order, each checked against its seal."""
    return _unsealed(connection, database, _ROWS, (prefix, prefix + _LAST_CHARACTER))


def read_row_from(connection: sqlite3.Connection, database: Path, key: str) -> bytes | None:
    """The body stored under a key, checked against its seal; None where there is none."""
    return next((body for _, body in _unsealed(connection, database, _ROW, (key,))), None)


def _unsealed(
    connection: sqlite3.Connection, database: Path, statement: str, parameters: tuple[str, ...]
) -> Iterator[tuple[str, bytes]]:
    try:
        with closing(connection.execute(statement, parameters)) as cursor:
            for key, value in cursor:
                body = unseal(key, value)
                yield key.decode(), body
    except sqlite3.Error as error:
        raise opening_failure(error, database) from error
    except StoreDamaged as error:
        raise StoreDamaged(f"{database}: {error}; {REMEDY}") from error


def refuse_foreign(connection: sqlite3.Connection, database: Path, *, in_tables: bool = False) -> None:
    """Raise unless the database holds only what a store of this format writes.

    Args:
        in_tables: look at the entries of tables, too. There may be millions, and whoever reads one checks it.
    """
    _refuse_other_format(connection, database)
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        known = (kind, name) in _KNOWN_SCHEMA or name.startswith("sqlite_stat")
        if not known or (kind == "trigger" and not _KNOWN_TRIGGER.fullmatch(" ".join((sql or "").split()))):
            raise _foreign(database, f"the {kind} {name!r}")
    for (key,) in connection.execute("SELECT key FROM Settings"):
        if key not in _KNOWN_SETTINGS:
            raise _foreign(database, f"the setting {key!r}")
    for key, raw, mode, filename in connection.execute(_FOREIGN_ROWS if in_tables else _FOREIGN_ROWS_BUT_ENTRIES):
        name = repr(key.decode(errors="backslashreplace")) if raw == 1 else "with a pickled key"
        if raw != 1 or mode == MODE_PICKLE:
            raise _foreign(database, f"the row {name} as a pickle (pickle is never loaded)")
        raise _foreign(database, f"the row {name}" + (f" in a file, {filename!r}" if filename is not None else ""))


def _refuse_odd_files(database: Path) -> None:
    for path in (database, *(database.with_name(database.name + suffix) for suffix in ("-wal", "-shm", "-journal"))):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise opening_failure(error, database) from error
        if not stat.S_ISREG(status.st_mode):
            raise StoreUnusable(
                f"{path} is not a regular file; the database must be in the folder itself, link the folder instead"
            )
        if status.st_nlink > 1:
            # the folder lock would not keep two processes apart that come by two names, and each would have a log of its own
            raise StoreUnusable(f"{path} has {status.st_nlink} names (hard links); replace it by a copy of its own")
        if not os.access(path, os.W_OK):
            # found now, because SQLite gives the log that a reader creates the permissions of the database
            raise StoreUnusable(f"{path} cannot be written by this user; change its owner or its permissions")
    if not database.exists() or database.stat().st_size == 0:
        # SQLite would delete a log that belongs to no database
        for suffix in ("-wal", "-journal"):
            log = database.with_name(database.name + suffix)
            if log.exists() and log.stat().st_size > 0:
                raise StoreDamaged(
                    f"{log} is there, but {database} is {'empty' if database.exists() else 'gone'}; {REMEDY}"
                )


def _holds_nothing(connection: sqlite3.Connection) -> bool:
    schema = set(connection.execute("SELECT type, name FROM sqlite_master"))
    if not schema <= _KNOWN_SCHEMA:
        return False
    return ("table", "Cache") not in schema or connection.execute("SELECT 1 FROM Cache LIMIT 1").fetchone() is None


def _refuse_other_format(connection: sqlite3.Connection, database: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    found = read_row_from(connection, database, FORMAT_KEY) if {"Cache", "Settings"} <= tables else None
    if found is None:
        raise StoreUnusable(
            f"{database} is a database of something else: it has no row {FORMAT_KEY!r}; use another folder"
        )
    if found == FORMAT:
        return
    name, _, version = found.rpartition(b"-")
    if name == FORMAT.rpartition(b"-")[0] and version.isdigit():
        raise StoreTooNew(
            f"{database} was written by a later version of Minions, in the format {found.decode()!r};"
            f" this version knows {FORMAT.decode()!r}: upgrade"
        )
    raise StoreUnusable(f"{database} has the unknown format {found!r}; use another folder")


def _foreign(database: Path, what: str) -> StoreDamaged:
    return StoreDamaged(f"{database} holds {what}, which this runtime never writes; {REMEDY}")

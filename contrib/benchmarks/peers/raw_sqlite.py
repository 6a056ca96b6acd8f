"""The sqlite3 module by hand, exactly once: one transaction puts a message, one takes it and changes the state.

Faster than most people would write it: nothing is serialized, the fields are columns.
"""

import sqlite3
from contextlib import closing

from bench.contender import Options
from bench.message import Reading, check
from bench.pair import time_in_turns

_SCHEMA = """
CREATE TABLE message (id INTEGER PRIMARY KEY, sensor TEXT, celsius REAL, sequence INTEGER);
CREATE TABLE summary (component TEXT PRIMARY KEY, count INTEGER, total REAL);
INSERT INTO summary VALUES ('sink', 0, 0.0);
"""


def normal(messages: int, options: Options) -> float:
    return _carry(messages, options, "NORMAL")


def full(messages: int, options: Options) -> float:
    return _carry(messages, options, "FULL")


def _carry(messages: int, options: Options, synchronous: str) -> float:
    with closing(sqlite3.connect(options.folder / "queue.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.executescript(_SCHEMA)

        def put(reading: Reading) -> None:
            connection.execute(
                "INSERT INTO message (sensor, celsius, sequence) VALUES (?, ?, ?)",
                (reading.sensor, reading.celsius, reading.sequence),
            )

        def take() -> None:
            connection.execute("BEGIN IMMEDIATE")
            number, *fields = connection.execute("SELECT * FROM message ORDER BY id LIMIT 1").fetchone()
            reading = Reading(*fields)
            connection.execute("UPDATE summary SET count = count + 1, total = total + ?", (reading.celsius,))
            connection.execute("DELETE FROM message WHERE id = ?", (number,))
            connection.execute("COMMIT")

        seconds = time_in_turns(messages, options, put, take)
        count, total = connection.execute("SELECT count, total FROM summary").fetchone()
        (waiting,) = connection.execute("SELECT count(*) FROM message").fetchone()
    check(messages, count - waiting, total)
    return seconds

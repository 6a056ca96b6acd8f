"""DBOS on SQLite: a workflow for each message, whose argument is the message.

A finished workflow stays in the database with its argument and its result: DBOS keeps a history, which the others do not.
"""

import threading
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import sqlalchemy
from dbos import DBOS

from bench.contender import Options
from bench.message import Reading, Tally, check, stream

_QUEUE = "readings"
_POLL_S = 0.01  # of the queue's worker (DBOS itself: 1 s), and of the wait for the last result to be written

# The registry of workflows is the process's, so what they fill is too; workers of the queue are several threads.
_lock = threading.Lock()
_tally = Tally()


@DBOS.workflow()
def add(reading: Reading) -> None:
    with _lock:
        _tally.add(reading)


def in_place(messages: int, options: Options) -> float:
    """The workflow is called by the one who has the message, with WAL and NORMAL: the fastest that was found."""
    engine = _launch(options.folder, ["journal_mode=WAL", "synchronous=NORMAL"])
    start = perf_counter()
    for reading in stream(messages, options.size_bytes):
        add(reading)
    return _checked(messages, engine, perf_counter() - start)


def queued(messages: int, options: Options) -> float:
    """Enqueued by one, executed by the worker of a DBOS queue, with SQLite as DBOS sets it up.

    WAL does not make it faster: enqueuing and executing go on at the same time and wait at SQLite's lock.
    """
    engine = _launch(options.folder, [])
    DBOS.register_queue(_QUEUE, polling_interval_sec=_POLL_S)
    DBOS.enqueue_workflow(_QUEUE, add, next(stream(1))).get_result()  # its worker thread comes a second later
    _reset(_tally)
    start = perf_counter()
    for reading in stream(messages, options.size_bytes):
        DBOS.enqueue_workflow(_QUEUE, add, reading)
    while _succeeded(engine) < messages + 1:
        sleep(_POLL_S)
    return _checked(messages, engine, perf_counter() - start, before=1)


def _launch(folder: Path, pragmas: list[str]) -> sqlalchemy.Engine:
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / 'dbos.sqlite'}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # this and the next two as DBOS does for an engine of its own
        for pragma in ["busy_timeout=30000", "foreign_keys=ON", *pragmas]:
            connection.execute(f"PRAGMA {pragma}")

    _reset(_tally)
    DBOS(config={"name": "benchmark", "system_database_engine": engine, "log_level": "ERROR"})
    DBOS.launch()
    return engine


def _reset(tally: Tally) -> None:
    tally.count, tally.total = 0, 0.0


def _succeeded(engine: sqlalchemy.Engine) -> int:
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'"))
        count: int = found.scalar_one()
    return count


def _checked(messages: int, engine: sqlalchemy.Engine, seconds: float, before: int = 0) -> float:
    recorded = _succeeded(engine) - before
    DBOS.destroy()
    engine.dispose()
    _tally.check(messages)
    check(messages, recorded, _tally.total)
    return seconds

"""huey on SQLite: tasks enqueued and executed; at most once, and no durable state.

What is timed is the work of huey's own worker (dequeue, execute) without its polling.
"""

from huey import SqliteHuey

from bench.contender import Options
from bench.message import Reading, Tally, check
from bench.pair import time_in_turns


def default(messages: int, options: Options) -> float:
    """fsync left as it is: SQLite's own default, which is FULL."""
    return _carry(messages, options, None)


def without_fsync(messages: int, options: Options) -> float:
    return _carry(messages, options, False)


def _carry(messages: int, options: Options, fsync: bool | None) -> float:
    huey = SqliteHuey(filename=str(options.folder / "huey.db"), fsync=fsync)
    tally = Tally()

    def add(reading: Reading) -> None:
        tally.add(reading)

    enqueue = huey.task()(add)

    def take() -> None:
        huey.execute(huey.dequeue())

    seconds = time_in_turns(messages, options, enqueue, take)
    waiting = huey.pending_count()
    huey.storage.close()
    check(messages, tally.count - waiting, tally.total)
    return seconds

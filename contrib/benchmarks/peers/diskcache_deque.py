"""diskcache.Deque: append and popleft on SQLite at its default (NORMAL); at most once, and no durable state."""

from diskcache import Deque

from bench.contender import Options
from bench.message import Tally, check
from bench.pair import time_in_turns


def append_popleft(messages: int, options: Options) -> float:
    deque = Deque(directory=str(options.folder))
    tally = Tally()

    def take() -> None:
        tally.add(deque.popleft())

    seconds = time_in_turns(messages, options, deque.append, take)
    waiting = len(deque)
    deque.cache.close()
    check(messages, tally.count - waiting, tally.total)
    return seconds

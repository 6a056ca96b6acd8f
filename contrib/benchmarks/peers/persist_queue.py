"""persist-queue: put, get, ack on SQLite at its default settings; at least once, and no durable state."""

from persistqueue import SQLiteAckQueue

from bench.contender import Options
from bench.message import Tally, check
from bench.pair import time_in_turns


def ack_queue(messages: int, options: Options) -> float:
    queue = SQLiteAckQueue(str(options.folder), multithreading=True)
    tally = Tally()

    def take() -> None:
        item = queue.get(block=False, raw=True)
        tally.add(item["data"])
        queue.ack(id=item["pqid"])

    seconds = time_in_turns(messages, options, queue.put, take)
    acknowledged = queue.acked_count()
    queue.close()
    tally.check(messages)
    check(messages, acknowledged, tally.total)
    return seconds

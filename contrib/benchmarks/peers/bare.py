"""Two bare threads and a queue of the standard library."""

from queue import Queue, SimpleQueue

from bench.contender import Options
from bench.message import Reading, Tally, stream
from bench.pair import time_pair


def bounded_queue(messages: int, options: Options) -> float:
    """`queue.Queue(maxsize)`: what one writes without a framework."""
    return _carry(messages, Queue(maxsize=options.capacity))


def simple_queue(messages: int, options: Options) -> float:
    """`queue.SimpleQueue`: unbounded and written in C, the ceiling of what one process can do."""
    return _carry(messages, SimpleQueue())


def _carry(messages: int, channel: "Queue[Reading] | SimpleQueue[Reading]") -> float:
    tally = Tally()

    def produce() -> None:
        for reading in stream(messages):
            channel.put(reading)

    def consume() -> None:
        for _ in range(messages):
            tally.add(channel.get())

    seconds = time_pair(produce, consume)
    tally.check(messages)
    return seconds

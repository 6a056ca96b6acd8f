"""Bare threads and queues of the standard library: for each pair two threads and a queue between them."""

from collections.abc import Callable, Sequence
from queue import Queue, SimpleQueue

from bench.contender import Options
from bench.message import Reading, Tally, stream
from bench.pair import time_threads


def bounded_queue(messages: int, options: Options) -> float:
    """`queue.Queue(maxsize)`: what one writes without a framework."""
    return _carry(messages, options, [Queue(maxsize=options.capacity) for _ in range(options.pairs)])


def simple_queue(messages: int, options: Options) -> float:
    """`queue.SimpleQueue`: unbounded and written in C, the ceiling of what one process can do."""
    return _carry(messages, options, [SimpleQueue() for _ in range(options.pairs)])


def _carry(messages: int, options: Options, channels: "Sequence[Queue[Reading] | SimpleQueue[Reading]]") -> float:
    each = messages // options.pairs
    tallies = [Tally() for _ in channels]
    jobs = [
        job for channel, tally in zip(channels, tallies, strict=True) for job in _jobs(each, options, channel, tally)
    ]
    seconds = time_threads(jobs)
    for tally in tallies:
        tally.check(each)
    return seconds


def _jobs(
    messages: int, options: Options, channel: "Queue[Reading] | SimpleQueue[Reading]", tally: Tally
) -> tuple[Callable[[], None], Callable[[], None]]:
    def produce() -> None:
        for reading in stream(messages, options.size_bytes):
            channel.put(reading)

    def consume() -> None:
        for _ in range(messages):
            tally.add(channel.get())

    return produce, consume

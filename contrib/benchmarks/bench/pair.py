"""The stopwatches of the contenders that do not bring their own."""

import threading
from collections.abc import Callable, Sequence
from itertools import islice
from queue import SimpleQueue
from time import perf_counter

from bench.contender import Options
from bench.message import Reading, stream


def time_threads(jobs: Sequence[Callable[[], None]]) -> float:
    """Seconds from the moment when a thread for each job stands ready until all have returned.

    What one of them raises is raised here at once; the others are daemons and die with the process of the run.
    """
    outcomes: SimpleQueue[BaseException | None] = SimpleQueue()
    ready = threading.Semaphore(0)
    gate = threading.Event()

    def job(function: Callable[[], None]) -> None:
        ready.release()
        gate.wait()
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting thread
            outcomes.put(error)
        else:
            outcomes.put(None)

    for function in jobs:
        threading.Thread(target=job, args=(function,), daemon=True).start()
        ready.acquire()
    start = perf_counter()
    gate.set()
    for _ in jobs:
        error = outcomes.get()
        if error is not None:
            raise error
    return perf_counter() - start


def time_in_turns(
    messages: int, options: Options, put: Callable[[Reading], object], take: Callable[[], object]
) -> float:
    """Seconds for one thread to put as many messages as the capacity, take them, and so on.

    It is how SQLite is fastest. A producer and a consumer that run at the same time get in each other's way at its lock,
    whose waiters sleep: measured, a thread for each costs diskcache and huey a fifth of their rate, sqlite3 by hand two
    fifths (NORMAL), huey without fsync two thirds. So the peers get their best: none polls, and each has backpressure.
    """
    start = perf_counter()
    readings = stream(messages, options.size_bytes)
    while batch := list(islice(readings, options.capacity)):
        for reading in batch:
            put(reading)
        for _ in batch:
            take()
    return perf_counter() - start

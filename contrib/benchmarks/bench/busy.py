"""A neighbour in the process that computes in pure Python and never waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def busy_thread(wanted: bool) -> Iterator[None]:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            total = 0
            for number in range(1_000):
                total += number

    neighbour = threading.Thread(target=compute, daemon=True)
    if wanted:
        neighbour.start()
    try:
        yield
    finally:
        stop.set()
        if wanted:
            neighbour.join()

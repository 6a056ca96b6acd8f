"""A request to another thread and its reply, over and over: bare locks, queues and Minions.

Each function measures every single round trip on the thread that asks, and returns the median and the 99th percentile, in
seconds, and how many requests a second were answered.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Queue
from statistics import quantiles
from time import perf_counter
from typing import Any

from bench.contender import Options
from minions import Component, System, Uses

_WARM_UP = 200
_IN_FLIGHT = 100


def timed(requests: int, ask: Callable[[int], Any]) -> dict[str, float]:
    for number in range(_WARM_UP):
        _check(ask(number), number)
    taken = []
    began_s = perf_counter()
    for number in range(requests):
        before_s = perf_counter()
        answer = ask(number)
        taken.append(perf_counter() - before_s)
        _check(answer, number)
    return _figures(taken, requests / (perf_counter() - began_s))


def _check(answer: object, number: int) -> None:
    if answer != number + 1:
        raise AssertionError(f"{number} was asked, and {answer!r} answered")


def _figures(taken: list[float], per_s: float) -> dict[str, float]:
    cuts = quantiles(taken, n=100)
    return {"median_s": cuts[49], "p99_s": cuts[98], "requests_per_s": per_s}


def locks(requests: int, _: Options) -> dict[str, float]:
    """Two locks, each released by one thread and waited for by the other: the least that a switch there and back can be."""
    asked, answered = threading.Lock(), threading.Lock()
    asked.acquire()
    answered.acquire()
    box = [0, 0]

    def answer() -> None:
        for _ in range(_WARM_UP + requests):
            asked.acquire()
            box[1] = box[0] + 1
            answered.release()

    def ask(number: int) -> int:
        box[0] = number
        asked.release()
        answered.acquire()
        return box[1]

    return _with_thread(answer, partial(timed, requests, ask))


def queues(requests: int, _: Options) -> dict[str, float]:
    """Two `queue.Queue`, one for requests and one for replies."""
    asked: Queue[int] = Queue()
    answered: Queue[int] = Queue()

    def answer() -> None:
        for _ in range(_WARM_UP + requests):
            answered.put(asked.get() + 1)

    def ask(number: int) -> int:
        asked.put(number)
        return answered.get()

    return _with_thread(answer, partial(timed, requests, ask))


def _with_thread(answer: Callable[[], None], measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    figures = measure()
    thread.join()
    return figures


class Called(Component):
    def following(self, number: int) -> int:
        return number + 1


class Calls(Component):
    called = Uses(Called)
    requests: int

    def run(self) -> None:
        self.measured(timed(self.requests, self.called.following))

    def measured(self, figures: dict[str, float]) -> None:
        _MEASURED.append(figures)


class Submits(Calls):
    """Measures round trips one by one, and then the rate with some in flight."""

    def run(self) -> None:
        figures = timed(self.requests, lambda number: self.submit(self.called.following, number).result())
        in_flight: deque[Any] = deque()
        began_s = perf_counter()
        for number in range(self.requests):
            in_flight.append(self.submit(self.called.following, number))
            if len(in_flight) >= _IN_FLIGHT:
                in_flight.popleft().result()
        while in_flight:
            in_flight.popleft().result()
        self.measured(figures | {"requests_per_s": self.requests / (perf_counter() - began_s)})


_MEASURED: list[dict[str, float]] = []


def uses(requests: int, options: Options) -> dict[str, float]:
    """A component calls another one through a `Uses`."""
    return _run(Calls(requests=requests), options)


def submit(requests: int, options: Options) -> dict[str, float]:
    """A component submits a call and waits for the future; the rate is with 100 of them in flight."""
    return _run(Submits(requests=requests), options)


def _run(component: Calls, options: Options) -> dict[str, float]:
    system = System("requests", folder=options.folder)
    system.add(Called())
    system.add(component)
    system.run()
    return _MEASURED.pop()


class Source(Component):
    """Is there: where no source is at work, each call that ends has the supervisor see whether anything can still happen."""

    def run(self) -> None:
        while self.running:
            self.sleep(60.0)


def outside(requests: int, options: Options) -> dict[str, float]:
    """The main thread calls a component through `System.call`."""
    system = System("requests", folder=options.folder)
    called = system.add(Called())
    system.add(Source())
    with system.started():
        return timed(requests, system.call(called).following)

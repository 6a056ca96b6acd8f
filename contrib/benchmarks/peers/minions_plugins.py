"""What plugins cost: messages a second with one plugin or none, while a bystander is paused and resumed all the time.

Each pause and each resumption is an event that the plugin is told of, so that its hooks are at work while messages are timed.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.contender import Options
from bench.message import Reading, Tally, stream
from minions import Component, Inbox, Outbox, System, events
from minions.hookspecs import hookimpl

_PERIOD_S = 0.005  # of the pauses of the bystander: 200 a second, and as many resumptions
_gate, _done = threading.Event(), threading.Event()
_let_go = threading.Event()
_tally = Tally()


class Source(Component):
    messages: int
    readings = Outbox(Reading)

    def run(self) -> None:
        _gate.wait()
        for reading in stream(self.messages, 100):
            self.readings.send(reading)


class Sink(Component):
    messages: int
    readings = Inbox(Reading, capacity=1_000, durable=False)

    @readings.handler
    def add(self, reading: Reading) -> None:
        _tally.add(reading)
        if _tally.count == self.messages:
            _done.set()


class Bystander(Component):
    nothing = Inbox(Reading, durable=False)

    @nothing.handler
    def take(self, reading: Reading) -> None: ...


class Listens:
    @hookimpl
    def event(self, event: events.Event) -> None: ...


class Raises:
    @hookimpl
    def event(self, event: events.Event) -> None:
        raise ValueError(type(event).__name__)


class Sleeps:
    @hookimpl
    def component_paused(self) -> None:
        _let_go.wait()


class Floods:
    """Writes twenty lines to a file at each event."""

    def __init__(self, folder: str) -> None:
        self._path = Path(folder, "flood.txt")

    @hookimpl
    def event(self, event: events.Event) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(f"{number} {event}\n" for number in range(20))


class Computes:
    """Computes without end: what no runtime in one process can keep from its neighbours."""

    @hookimpl
    def component_paused(self) -> None:
        while not _let_go.is_set():
            pass


_PLUGINS: dict[str, Callable[[str], Any]] = {
    "none": lambda folder: None,
    "listens": lambda folder: Listens(),
    "raises": lambda folder: Raises(),
    "sleeps": lambda folder: Sleeps(),
    "floods": Floods,
    "computes": lambda folder: Computes(),
}


def _rate(name: str, messages: int, options: Options) -> dict[str, float]:
    system = System("benchmark", folder=options.folder)
    source, sink = system.add(Source(messages=messages)), system.add(Sink(messages=messages))
    bystander, feeder = system.add(Bystander()), system.add(Source(messages=0), name="feeder")
    system.connect(source.readings, sink.readings)
    system.connect(feeder.readings, bystander.nothing)
    system.plugins.hook_timeout_s = 0.5
    plugin = _PLUGINS[name](str(options.folder))
    if plugin is not None:
        system.plugins.register(plugin, name)
    ended = threading.Event()

    def unsettle() -> None:
        while not ended.wait(_PERIOD_S):
            system.pause(bystander)
            system.resume(bystander)

    unsettling = threading.Thread(target=unsettle)
    with system.started():
        unsettling.start()
        _done.wait(0.2)  # the first pauses are told before the clock starts
        begin_s = perf_counter()
        _gate.set()
        _done.wait()
        seconds = perf_counter() - begin_s
        ended.set()
        unsettling.join()
        status = next(iter(system.plugins.list()), None)
        _let_go.set()
    return {
        "per_s": messages / seconds,
        "calls": float(status.calls if status else 0),
        "faults": float(status.faults if status else 0),
        "set_aside": float(status.set_aside if status else 0),
    }


def none(messages: int, options: Options) -> dict[str, float]:
    return _rate("none", messages, options)


def listens(messages: int, options: Options) -> dict[str, float]:
    return _rate("listens", messages, options)


def raises(messages: int, options: Options) -> dict[str, float]:
    return _rate("raises", messages, options)


def sleeps(messages: int, options: Options) -> dict[str, float]:
    return _rate("sleeps", messages, options)


def floods(messages: int, options: Options) -> dict[str, float]:
    return _rate("floods", messages, options)


def computes(messages: int, options: Options) -> dict[str, float]:
    return _rate("computes", messages, options)

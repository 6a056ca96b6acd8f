"""What plugins cost: messages that go through one running system, with plugins and without them in turns.

All pairs of measurements are taken in one process, a tenth of a second each, one right after the other, so that what slows the
machine slows both of a pair. Meanwhile a bystander is paused and resumed all the time: each is an event that the plugins are told
of, so that their hooks are at work while messages are timed.
"""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from bench.contender import Options
from bench.message import Reading, stream
from minions import Component, Inbox, Outbox, System, events
from minions.hookspecs import hookimpl
from minions.observe import hooks

_PERIOD_S = 0.005  # of the pauses of the bystander: 200 a second, and as many resumptions
_HOOK_TIMEOUT_S = 0.02
_SETTLES_S = 0.5
"""What was registered is at work then, and what hangs is left behind: that is once for each run of a system."""
hooks._BURST_S = 0.002  # what hooks may use at once is used up: what is measured is what they may use for long
_asked: queue.SimpleQueue[int] = queue.SimpleQueue()
_done = threading.Semaphore(0)
_let_go = threading.Event()


class Source(Component):
    readings = Outbox(Reading)

    def run(self) -> None:
        while messages := _asked.get():
            for reading in stream(messages, 100):
                self.readings.send(reading)


class Sink(Component):
    messages: int
    readings = Inbox(Reading, capacity=1_000, durable=False)

    def on_start(self) -> None:
        self._count = 0

    @readings.handler
    def add(self, reading: Reading) -> None:
        self._count += 1
        if self._count == self.messages:
            self._count = 0
            _done.release()


class Bystander(Component):
    nothing = Inbox(Reading, durable=False)

    @nothing.handler
    def take(self, reading: Reading) -> None: ...


class Feeder(Component):
    nothing = Outbox(Reading)

    def run(self) -> None: ...


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


_PLUGINS: dict[str, Callable[[str], list[Any]]] = {
    "none": lambda folder: [],
    "listens": lambda folder: [Listens()],
    "raises": lambda folder: [Raises()],
    "sleeps": lambda folder: [Sleeps()],
    "floods": lambda folder: [Floods(folder)],
    "all": lambda folder: [Raises(), Sleeps(), Floods(folder)],
    "computes": lambda folder: [Computes()],
}


class _Bench:
    """The running system, and how plugins come and go."""

    def __init__(self, system: System, messages: int) -> None:
        self._system = system
        self._messages = messages
        self.calls = self.faults = self.set_aside = 0

    def measure(self, plugins: list[Any]) -> tuple[float, float]:
        """Microseconds and CPU microseconds for each message, while these plugins are registered."""
        names = [self._system.plugins.register(plugin) for plugin in plugins]
        _let_go.wait(_SETTLES_S)  # without plugins too: what was idle for longer begins slower
        began_s, cpu_s = perf_counter(), process_time()
        _asked.put(self._messages)
        _done.acquire()
        each = 1e6 / self._messages
        found = (perf_counter() - began_s) * each, (process_time() - cpu_s) * each
        for status in self._system.plugins.list():
            self.calls += status.calls
            self.faults += status.faults
            self.set_aside += status.set_aside
        for name in names:
            self._system.plugins.unregister(name)
        return found


def _pairs(name: str, messages: int, options: Options) -> dict[str, float]:
    system = System("benchmark", folder=options.folder)
    source, sink = system.add(Source()), system.add(Sink(messages=messages))
    bystander, feeder = system.add(Bystander()), system.add(Feeder())
    system.connect(source.readings, sink.readings)
    system.connect(feeder.nothing, bystander.nothing)
    system.plugins.hook_timeout_s = _HOOK_TIMEOUT_S
    ended = threading.Event()

    def unsettle() -> None:
        while not ended.wait(_PERIOD_S):
            system.pause(bystander)
            system.resume(bystander)

    unsettling = threading.Thread(target=unsettle)
    bench, figures = _Bench(system, messages), {}
    with system.started():
        unsettling.start()
        bench.measure([])
        for pair in range(options.pairs):
            found = {}
            for with_plugins in (False, True) if pair % 2 else (True, False):
                found[with_plugins] = bench.measure(_PLUGINS[name](str(options.folder)) if with_plugins else [])
            for label, value in zip(("wall_us", "cpu_us"), found[True], strict=True):
                figures[f"{label}.{pair}"] = value
            for label, value in zip(("none_wall_us", "none_cpu_us"), found[False], strict=True):
                figures[f"{label}.{pair}"] = value
            if name == "computes":
                _let_go.set()
                _let_go.clear()
        ended.set()
        unsettling.join()
        _let_go.set()
        _asked.put(0)
    return figures | {
        "calls": float(bench.calls),
        "faults": float(bench.faults),
        "set_aside": float(bench.set_aside),
    }


def none(messages: int, options: Options) -> dict[str, float]:
    return _pairs("none", messages, options)


def listens(messages: int, options: Options) -> dict[str, float]:
    return _pairs("listens", messages, options)


def raises(messages: int, options: Options) -> dict[str, float]:
    return _pairs("raises", messages, options)


def sleeps(messages: int, options: Options) -> dict[str, float]:
    return _pairs("sleeps", messages, options)


def floods(messages: int, options: Options) -> dict[str, float]:
    return _pairs("floods", messages, options)


def all_three(messages: int, options: Options) -> dict[str, float]:
    return _pairs("all", messages, options)


def computes(messages: int, options: Options) -> dict[str, float]:
    return _pairs("computes", messages, options)

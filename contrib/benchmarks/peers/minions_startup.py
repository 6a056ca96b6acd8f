"""Minions: starting and stopping idle components; filling an inbox, being killed, going on."""

import logging
import os
import signal
import threading
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any, ClassVar

import psutil

from bench.child import leave_answer
from bench.contender import Options
from bench.message import Reading, Summary, check, stream
from minions import Backoff, Component, Inbox, Outbox, Restart, State, System

_CRASHES = 21
_SETTLED_S = 2.0  # by then everything is told of the start, and the watchdog has looked once
_IDLE_S = 3.0

# One system a process, so module-wide is enough: what components tell the benchmark, each from its own thread.
_filled = threading.Event()
_first_at: list[float] = []
_results: list[Summary] = []


class Idle(Component):
    """Waits for messages that its source never sends."""

    readings = Inbox(Reading, durable=False)

    @readings.handler
    def add(self, reading: Reading) -> None:
        raise AssertionError("nobody sends")


class Silent(Component):
    """A source that says nothing; optional, because alone it is the one idle component."""

    readings = Outbox(Reading, optional=True)

    def run(self) -> None:
        while self.running:
            self.sleep(3_600)


class Crashing(Component):
    """Fails a few times, each time as soon as it is up; then it waits."""

    failed_at: ClassVar[list[float]] = []
    up_at: ClassVar[list[float]] = []

    def run(self) -> None:
        self.up_at.append(perf_counter())
        if len(self.failed_at) < _CRASHES:
            self.sleep(_SETTLED_S / _CRASHES)
            self.failed_at.append(perf_counter())
            raise ConnectionError("on purpose")
        _filled.set()
        self.sleep(3_600)


def restart(components: int, options: Options) -> dict[str, float]:
    """From the failure of one component among so many, the others idle, until its next life is up: the median."""
    logging.disable()
    system = System("restart", folder=options.folder)
    source = system.add(Silent(), name="source")
    for number in range(components - 2):
        system.connect(source.readings, system.add(Idle(), name=f"idle-{number}").readings)
    at_once = Restart(failures=_CRASHES, backoff=Backoff(initial_s=0.0))
    system.add(Crashing(), name="crashing", restart=at_once)
    with system.started():
        _filled.wait()
    return {"restart_s": median(up - failed for failed, up in zip(Crashing.failed_at, Crashing.up_at[1:], strict=True))}


def idle(components: int, options: Options) -> dict[str, float]:
    """Start and stop of so many components that wait, all fed by one; what they hold and burn in between."""
    process = psutil.Process()
    before_bytes = process.memory_info().rss
    start = perf_counter()
    system = System("idle", folder=options.folder)
    source = system.add(Silent(), name="source")
    for number in range(components - 1):
        waiting = system.add(Idle(), name=f"idle-{number}")
        system.connect(source.readings, waiting.readings)
    with system.started():
        started = perf_counter()
        size_bytes = process.memory_info().rss - before_bytes
        sleep(_SETTLED_S)
        burnt_before = process_time()
        sleep(_IDLE_S)
        cpu_ratio = (process_time() - burnt_before) / _IDLE_S
        stopping = perf_counter()
    stopped = perf_counter()
    return {
        "start_s": started - start,
        "stop_s": stopped - stopping,
        "size_bytes": size_bytes / components,
        "cpu_ratio": cpu_ratio,
    }


class Source(Component):
    messages: int
    readings = Outbox(Reading)

    def run(self) -> None:
        for reading in stream(self.messages):
            self.readings.send(reading)
        if self.messages:
            self.commit()
            _filled.set()


def _system(folder: Path, messages: int, capacity: int, hold: bool) -> System:
    class Sink(Component):
        readings = Inbox(Reading, capacity=capacity)
        summary = State(Summary)

        @readings.handler
        def add(self, reading: Reading) -> None:
            if hold:
                threading.Event().wait()  # for ever: the process is about to be killed
            if not _first_at:
                _first_at.append(perf_counter())
            self.summary.count += 1
            self.summary.total += reading.celsius

        def on_stop(self) -> None:
            _results.append(Summary(self.summary.count, self.summary.total))

    system = System("resume", folder=folder)
    source = system.add(Source(messages=messages), name="source")
    sink: Any = system.add(Sink(), name="sink")
    system.connect(source.readings, sink.readings)
    return system


def fill(messages: int, options: Options) -> dict[str, float]:
    """Leaves `messages` committed messages, none of them handled, and ends the process with SIGKILL."""
    with _system(options.folder, messages, messages + 1, hold=True).started():
        _filled.wait()
        leave_answer(options.folder.parent, {"waiting": messages})
        os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed before")


def resume(messages: int, options: Options) -> dict[str, float]:
    """From `System(...)` on what `fill` left to the first message, and to the last, committed and stopped."""
    start = perf_counter()
    with _system(options.folder, 0, messages + 1, hold=False).started() as running:
        running.wait()
    stopped = perf_counter()
    (summary,) = _results
    check(messages, summary.count, summary.total)
    return {"first_s": _first_at[0] - start, "all_s": stopped - start}

"""Minions: components in a `System`, with the same message and the same work in the handler.

The clock starts when every component stands ready and the sources are let go; it stops when the system has drained,
committed and stopped, which the other contenders' clocks do not wait for. Durable results are checked from the disk: a
second life of the same folder, whose sources send nothing, must find the finished state and no message waiting.
"""

import threading
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import attrs

from bench.contender import Options
from bench.message import Reading, Summary, Tally, WrongResult, check, stream
from minions import Component, Inbox, Outbox, State, System

# One system at a time, so module-wide is enough: what components tell the benchmark, each from its own thread.
_gate = threading.Event()
_tallies: list[Tally] = []
_noted: list[Summary] = []


class Source(Component):
    messages: int
    size_bytes: int = 100
    readings = Outbox(Reading)

    def run(self) -> None:
        _gate.wait()
        for reading in stream(self.messages, self.size_bytes):
            self.readings.send(reading)


class Kinds(NamedTuple):
    """Classes; Any, because a class made in a function has no name for a type checker."""

    volatile: Any
    durable: Any
    relay: Any


@cache
def _kinds(capacity: int) -> Kinds:
    """The receiving components; made here because the capacity of an inbox belongs to its declaration."""

    class VolatileSink(Component):
        readings = Inbox(Reading, capacity=capacity, durable=False)

        def on_start(self) -> None:
            self._tally = Tally()

        @readings.handler
        def add(self, reading: Reading) -> None:
            self._tally.add(reading)

        def on_stop(self) -> None:
            _tallies.append(self._tally)

    class DurableSink(Component):
        readings = Inbox(Reading, capacity=capacity)
        summary = State(Summary)

        def on_start(self) -> None:
            _note(self.summary)

        @readings.handler
        def add(self, reading: Reading) -> None:
            self.summary.count += 1
            self.summary.total += reading.celsius

        def on_stop(self) -> None:
            _note(self.summary)

    class Relay(Component):
        incoming = Inbox(Reading, capacity=capacity)
        outgoing = Outbox(Reading)
        summary = State(Summary)

        def on_start(self) -> None:
            _note(self.summary)

        @incoming.handler
        def add(self, reading: Reading) -> None:
            self.summary.count += 1
            self.summary.total += reading.celsius
            self.outgoing.send(reading)

        def on_stop(self) -> None:
            _note(self.summary)

    return Kinds(VolatileSink, DurableSink, Relay)


def volatile(messages: int, options: Options) -> float:
    """Outbox, channel, mailbox, handler; nothing durable."""
    each = messages // options.pairs
    system = System("benchmark", folder=options.folder)
    for number in range(options.pairs):
        _add_pair(system, number, each, options, _kinds(options.capacity).volatile())
    _tallies.clear()
    seconds = _timed(system)
    if len(_tallies) != options.pairs:
        raise WrongResult(f"{options.pairs} components were to leave a tally, {len(_tallies)} did")
    for tally in _tallies:
        tally.check(each)
    return seconds


def normal(messages: int, options: Options) -> float:
    return _pairs(messages, options, "NORMAL")


def full(messages: int, options: Options) -> float:
    return _pairs(messages, options, "FULL")


def eight_pairs(messages: int, options: Options) -> float:
    """16 components: eight sources with a sink each."""
    return _pairs(messages, attrs.evolve(options, pairs=8), "NORMAL")


def chain(messages: int, options: Options) -> float:
    """16 components in a row: a source, 14 relays that each change their state and send on, a sink."""

    def build(to_send: int) -> System:
        kinds = _kinds(options.capacity)
        system = _durable_system(options.folder, "NORMAL")
        source = system.add(Source(messages=to_send, size_bytes=options.size_bytes), name="source")
        outgoing = source.readings
        for number in range(14):
            relay = system.add(kinds.relay(), name=f"relay-{number:02}")
            system.connect(outgoing, relay.incoming)
            outgoing = relay.outgoing
        sink = system.add(kinds.durable(), name="sink")
        system.connect(outgoing, sink.readings)
        return system

    seconds = _timed(build(messages))
    for summary in _second_life(build(0), 15):
        check(messages, summary.count, summary.total)
    return seconds


def _pairs(messages: int, options: Options, synchronous: Literal["NORMAL", "FULL"]) -> float:
    each = messages // options.pairs

    def build(to_send: int) -> System:
        system = _durable_system(options.folder, synchronous)
        for number in range(options.pairs):
            _add_pair(system, number, to_send, options, _kinds(options.capacity).durable())
        return system

    seconds = _timed(build(each))
    for summary in _second_life(build(0), options.pairs):
        check(each, summary.count, summary.total)
    return seconds


def _durable_system(folder: Path, synchronous: Literal["NORMAL", "FULL"]) -> System:
    return System("benchmark", folder=folder, synchronous=synchronous)


def _add_pair(system: System, number: int, messages: int, options: Options, sink: Any) -> None:
    source = system.add(Source(messages=messages, size_bytes=options.size_bytes), name=f"source-{number}")
    sink = system.add(sink, name=f"sink-{number}")
    system.connect(source.readings, sink.readings)


def _timed(system: System) -> float:
    _gate.clear()
    with system.started() as running:
        start = perf_counter()
        _gate.set()
        running.wait()
    return perf_counter() - start


def _note(summary: Summary) -> None:
    _noted.append(Summary(summary.count, summary.total))


def _second_life(system: System, components: int) -> list[Summary]:
    """The states at the start and at the end of a life whose sources send nothing.

    At its start they show what was on disk; at its end that no message had been left waiting there.
    """
    _noted.clear()
    _timed(system)
    if len(_noted) != 2 * components:
        raise WrongResult(f"{components} states were to be noted twice in the second life, {len(_noted)} were")
    return list(_noted)

"""The watchdog of a running system: what it measures is real, and what follows is done."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minions import (
    Backoff,
    Component,
    DescriptorLimit,
    ErrorLimit,
    Inbox,
    LagLimit,
    MemoryLimit,
    Outbox,
    Phase,
    Restart,
    Retry,
    System,
    Watchdog,
    events,
)
from tests.life.conftest import Gate, Log, Number, Start

TICK_S = 0.01


class Numbers(Component):
    out = Outbox(Number)

    def run(self) -> None:
        number = 0
        while self.running:
            self.out.send(Number(number))
            number += 1


class Sink(Component):
    numbers = Inbox(Number, capacity=10)

    @numbers.handler
    def take(self, number: Number) -> None: ...


def numbers_to(system: System, sink: Component) -> None:
    source, sink = system.add(Numbers()), system.add(sink)
    system.connect(source.out, sink.numbers)  # type: ignore[attr-defined]


@contextmanager
def descriptors_at_most(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_sources_are_paused_while_too_many_descriptors_are_open_and_go_on_when_they_are_closed(
    system: System, start: Start
) -> None:
    numbers_to(system, Sink())
    opened = []
    with descriptors_at_most(512):
        limit = DescriptorLimit(over_ratio=0.8, back_ratio=0.7, for_s=0.0, then="pause_sources")
        run = start(system, watchdog=Watchdog(descriptors=limit, tick_s=TICK_S)).up()
        try:
            opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(440)]
            [exceeded] = run.wait_for(events.LimitExceeded)
            assert (exceeded.limit, exceeded.then, exceeded.unit) == ("descriptors", "pause_sources", "ratio")
            [paused] = run.wait_for(events.ComponentPaused)
            assert paused.component == "numbers"
            [source] = [status for status in run.runtime.status() if status.name == "numbers"]
            assert (source.phase, source.paused_by) == (Phase.PAUSED, ("watchdog: descriptors",))
        finally:
            for descriptor in opened:
                os.close(descriptor)
        run.wait_for(events.LimitKept)
        run.wait_for(events.ComponentResumed)
        assert {status.phase for status in run.runtime.status()} == {Phase.RUNNING}
        assert run.stop().problems == ()


def test_the_system_stops_in_order_before_memory_is_used_up(system: System, start: Start) -> None:
    numbers_to(system, Sink())
    limit = MemoryLimit(over_bytes=1_000_000, for_s=0.0, then="stop")  # this process needs more as it is
    run = start(system, watchdog=Watchdog(memory=limit, tick_s=TICK_S), forever=False)

    stopped = run.ended()
    assert stopped.reason == "failed"
    [problem] = stopped.problems
    assert "resident memory" in problem
    assert stopped.survivors == ()


def test_a_component_that_lets_messages_wait_too_long_is_restarted_and_handles_them(
    system: System, start: Start
) -> None:
    first, handled = Gate(), Log()

    class Stuck(Component):
        numbers = Inbox(Number, capacity=10)

        @numbers.handler
        def take(self, number: Number) -> None:
            if not handled.entries:
                first.pass_through()  # until it is abandoned
            handled.add(number.value)

    numbers_to(system, Stuck())
    limit = LagLimit(over_s=0.5, for_s=0.0, then="restart")
    run = start(system, watchdog=Watchdog(lag=limit, tick_s=TICK_S), stop_timeout_s=1.0).up()

    run.wait_for(events.ComponentAbandoned)
    first.open()
    handled.wait_for(lambda values: values.count(0) >= 2 and len(values) >= 100)
    run.stop()
    first_seen = list(dict.fromkeys(handled.entries))
    assert first_seen == list(range(len(first_seen))), "in order, and none is missing"
    repeated = {value for value in first_seen if handled.entries.count(value) > 1}
    assert repeated == {0}, "the abandoned thread has gone on too: what it does outside cannot be undone"
    assert run.all(events.LimitExceeded)[0].about == "stuck.numbers"


def test_a_component_that_fails_too_often_stops_the_system_where_that_is_wished(system: System, start: Start) -> None:
    class Failing(Component):
        numbers = Inbox(Number, capacity=10, retry=Retry(attempts=1))

        @numbers.handler
        def take(self, number: Number) -> None:
            raise ValueError("bad")

    numbers_to(system, Failing())
    limit = ErrorLimit(over_per_minute=20, then="stop")
    run = start(system, watchdog=Watchdog(errors=limit, tick_s=TICK_S), forever=False)

    [problem] = run.ended().problems
    assert "failing has failed" in problem


def test_a_component_that_ends_by_itself_again_and_again_is_seen_too(system: System, start: Start) -> None:
    class Ending(Component):
        def run(self) -> None:
            raise ValueError("bad")

    system.add(Ending(), restart=Restart(failures=10_000, backoff=Backoff(initial_s=0.0)))
    run = start(system, watchdog=Watchdog(errors=ErrorLimit(over_per_minute=20, then="report"), tick_s=TICK_S))

    [exceeded, *_] = run.wait_for(events.LimitExceeded)
    assert (exceeded.limit, exceeded.about) == ("errors", "ending")
    run.stop()


@pytest.mark.parametrize("enabled", [True, False])
def test_its_thread_runs_where_it_is_enabled_and_ends_with_the_system(
    system: System, start: Start, enabled: bool
) -> None:
    numbers_to(system, Sink())
    run = start(system, watchdog=Watchdog(enabled=enabled)).up()
    assert (run.runtime._patrol._watchdog._thread.ident is not None) is enabled
    run.stop()
    assert not run.runtime._patrol._watchdog._thread.is_alive()

"""Calls from many threads at once, while other things happen to those who call and who are called. Real threads."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from minions import CallFailed, Component, Inbox, State, System, Uses, events
from tests.life.calls.conftest import AT_ONCE, Feed, in_calls
from tests.life.conftest import PATIENCE_S, Log, Number, Start, Threads


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("replicas", [1, 3])
def test_every_call_is_answered_once_whatever_else_goes_on(
    system: System, start: Start, threads: Threads, replicas: int
) -> None:
    class Counter(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def handle(self, number: Number) -> None:
            log.add(number.value)

        def add(self, key: tuple[int, int]) -> tuple[int, int]:
            counted.append(key)
            return key

    class Caller(Component):
        counter = Uses(Counter)
        number: int

        def run(self) -> None:
            for turn in range(rounds):
                if turn % 3 == 2:
                    future = self.submit(self.counter.add, (self.number, turn))
                    assert future.result(PATIENCE_S) == (self.number, turn)
                else:
                    assert self.counter.add((self.number, turn)) == (self.number, turn)
            log.add("done")

    log = Log()
    counted: list[tuple[int, int]] = []
    rounds, callers = 150, 4
    counter = system.add(Counter(), replicas=replicas)
    feed = system.add(Feed(numbers=300))
    system.connect(feed.out, counter.numbers)
    for number in range(callers):
        system.add(Caller(number=number), name=f"caller{number}")
    run = start(system).up()

    def outside() -> None:
        for turn in range(rounds):
            assert system.call(counter).add((99, turn)) == (99, turn)

    waiting = threads(outside)
    log.wait_for(lambda entries: entries.count("done") == callers and len(entries) == callers + 300)
    waiting.result(PATIENCE_S)
    run.wait_until_quiet()
    expected = {(number, turn) for number in (*range(callers), 99) for turn in range(rounds)}
    assert len(counted) == len(expected)
    assert set(counted) == expected
    assert run.all(events.ComponentFailed) == []
    assert in_calls(run) == (0, 0, 0, 0)


@pytest.mark.usefixtures("hurry")
def test_callers_and_the_called_may_end_at_any_moment(system: System, start: Start, threads: Threads) -> None:
    """Each call is answered or fails; a unit is counted once for each answer, and nothing is left waiting."""
    over = threading.Event()

    class Kept(Component):
        count = State(int)

        def add(self) -> int:
            self.count += 1
            return self.count

        def get(self) -> int:
            return self.count

    class Relay(Component):
        kept = Uses(Kept)

        def add(self) -> int:
            return self.kept.add()

    kept = system.add(Kept(), restart=AT_ONCE)
    relay = system.add(Relay(), replicas=2, restart=AT_ONCE)
    run = start(system).up()

    def call(component: Any) -> int:
        answered = 0
        while not over.is_set():
            with contextlib.suppress(CallFailed):
                system.call(component, timeout_s=PATIENCE_S).add()
                answered += 1
        return answered

    waiting = [threads(lambda: call(relay)) for _ in range(2)] + [threads(lambda: call(kept))]
    for _ in range(15):
        system.restart(kept).result(PATIENCE_S)
        system.restart(relay).result(PATIENCE_S)
        system.pause(relay).result(PATIENCE_S)
        system.resume(relay).result(PATIENCE_S)
    over.set()
    answered = sum(future.result(PATIENCE_S) for future in waiting)
    run.wait_until_quiet()
    assert answered > 0
    assert answered <= system.call(kept).get() <= answered + 15 * 2 * 3  # a relay may end between the two answers
    assert in_calls(run) == (0, 0, 0, 0)
    assert run.all(events.ComponentFailed) == []

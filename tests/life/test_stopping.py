"""How a run ends: by itself, or when it is asked to, whatever its components are doing. Time moves only where a test moves it."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from minions import (
    Backoff,
    CommitFailed,
    Component,
    Inbox,
    InboxEmpty,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    UsageError,
    events,
)
from minions.flow.store import Store
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start
from tests.life.counting import Kept, StayingNumbers

AT_ONCE = Backoff(initial_s=0.0)


# Loops ----------------------------------------------------------------------------------------------------------------


class Polling(Component):
    """Looks up from its inbox every minute."""

    numbers = Inbox(Number)
    values = State(list[int])

    def run(self) -> None:
        while self.running:
            with suppress(InboxEmpty):
                number = self.numbers.receive(timeout_s=60.0)
                self.values.append(number.value)


class Gathering(Component):
    """Works on ten at a time."""

    numbers = Inbox(Number)
    batches = State(list[list[int]])

    def run(self) -> None:
        while self.running:
            with self.unit():
                self.batches.append([self.numbers.receive().value for _ in range(10)])


def test_a_loop_that_looks_up_now_and_then_does_not_keep_the_system_from_its_end(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()

    class Held(StayingNumbers):
        def on_start(self) -> None:
            gate.pass_through()

    numbers, polling = system.add(Held(count=5)), system.add(Polling())
    system.connect(numbers.out, polling.numbers)
    run = start(system, clock=clock, forever=False)

    for _ in range(3):
        clock.wait_for_waiters()
        clock.advance(seconds=60.0)
    gate.open()
    assert run.ended().reason == "finished"
    assert polling.values == list(range(5))


def test_a_loop_that_looks_up_now_and_then_stops_at_once_with_everything_handled(system: System, start: Start) -> None:
    clock = FakeClock()
    numbers, polling = system.add(StayingNumbers(count=5, ends=False)), system.add(Polling())
    system.connect(numbers.out, polling.numbers)
    run = start(system, clock=clock).up()

    clock.wait_for_waiters(2)  # both sleep: everything was sent
    assert run.stop().problems == ()
    assert polling.values == list(range(5))


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_loop_that_is_left_with_part_of_a_batch_ends_at_once_and_finds_it_at_the_next_start(
    new_system: Callable[[], System], start: Start, by_itself: bool
) -> None:
    for count, batches, left in ((25, 2, 5), (31, 3, 1)):
        clock, system = FakeClock(), new_system()
        numbers, gathering = system.add(StayingNumbers(count=count, ends=by_itself)), system.add(Gathering())
        system.connect(numbers.out, gathering.numbers)
        run = start(system, clock=clock, forever=not by_itself)

        if not by_itself:
            clock.wait_for_waiters()  # the source: everything was sent
        stopped = run.ended() if by_itself else run.stop()
        assert (stopped.problems, stopped.left_messages) == ((), left)
        assert gathering.batches == [list(range(first, first + 10)) for first in range(0, 10 * batches, 10)]


def test_a_loop_that_returns_while_it_is_still_fed_is_a_problem_with_a_name(system: System, start: Start) -> None:
    clock = FakeClock()

    class Endless(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in itertools.count():
                self.out.send(Number(value))

    class Impatient(Component):
        numbers = Inbox(Number, capacity=2)

        def run(self) -> None:
            for number in self.numbers:
                if number.value == 10:
                    return

    endless, impatient = system.add(Endless()), system.add(Impatient())
    system.connect(endless.out, impatient.numbers)
    run = start(system, clock=clock, forever=False, stop_timeout_s=10.0)

    run.wait_for(events.ComponentFinished)
    run.reach()
    clock.advance(seconds=2.0)  # the source, which stands before a full inbox, is asked again
    stopped = run.ended()
    assert stopped.reason == "failed"
    [problem] = stopped.problems
    assert problem.startswith("impatient.run() returned although components that send to it are at work")


# Stopping while something is wrong ------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_a_consumer_that_waits_out_its_backoff_comes_back_at_once_to_handle_what_was_sent(
    system: System, start: Start, durable: bool
) -> None:
    fails, handled = itertools.count(), Log()

    class Endless(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.running:
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1

    class Middle(Component):
        numbers = Inbox(Number, capacity=2)
        out = Outbox(Number)

        @numbers.handler
        def pass_on(self, number: Number) -> None:
            self.out.send(number)

    class Failing(Component):
        numbers = Inbox(
            Number, capacity=2, durable=durable, retry=Retry(backoff=Backoff(initial_s=3600.0, longest_s=3600.0))
        )

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 5 and next(fails) == 0:
                raise ValueError("for an hour")
            handled.add(number.value)

    endless, middle, failing = system.add(Endless()), system.add(Middle()), system.add(Failing())
    system.connect(endless.out, middle.numbers)
    system.connect(middle.out, failing.numbers)
    run = start(system, clock=FakeClock())

    run.wait_for(events.ComponentFailed)
    stopped = run.stop()
    assert (stopped.problems, stopped.left_messages, stopped.lost_messages) == ((), 0, 0)
    assert handled.entries == list(range(endless.sent))


def test_a_commit_that_never_comes_gives_way_to_a_stop_and_the_stop_keeps_its_deadline(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, ends = FakeClock(), Log()

    def find_no_room(store: Store, puts: list[tuple[str, bytes]], deletes: list[str]) -> None:
        raise CommitFailed("the disk is full", permanent=False)

    monkeypatch.setattr(Store, "commit", find_no_room)
    monkeypatch.setattr("minions.life.runtime._LEAST_TIME_FOR_LAST_COMMIT_S", 0.01)

    class Committing(Component):
        count = State(int)

        def run(self) -> None:
            self.count = 1
            try:
                self.commit()
            finally:
                ends.add("commit")

    system.add(Committing())
    run = start(system, clock=clock, stop_timeout_s=0.1)
    run.wait_for(events.CommitTrouble)
    run.runtime.stop("stopped")
    run.reach()
    assert ends.entries == []
    clock.advance(seconds=0.03)  # asked again

    stopped = run.ended()
    assert ends.entries == ["commit"]
    assert (stopped.survivors, len(stopped.problems)) == ((), 1)
    assert stopped.problems[0].startswith("the last units were not on disk in time: the disk is full; ")
    Store.open(system.folder).close()  # nobody goes on trying


@contextmanager
def logged_by(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("minions.test")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def test_a_log_handler_that_blocks_delays_neither_the_components_nor_the_stop(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minions.life.runtime._LAST_WORDS_TIMEOUT_S", 0.01)
    system._clock = FakeClock()
    records, fails, released, told = itertools.count(), itertools.count(), threading.Event(), Log()

    class Blocking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if next(records) == 0:
                told.add("blocks")
                told.add("was released" if released.wait(PATIENCE_S) else "was waited for")

    class Failing(Kept):
        def on_start(self) -> None:
            if next(fails) < 3:
                raise OSError("not yet")

    numbers, failing = system.add(StayingNumbers(count=5)), system.add(Failing(), restart=Restart(backoff=AT_ONCE))
    system.connect(numbers.out, failing.numbers)
    with logged_by(Blocking()):
        with system.started():
            told.wait_for_count(1)
            assert system.wait(PATIENCE_S)
        assert failing.values == list(range(5))
        released.set()
        assert told.wait_for_count(2) == ["blocks", "was released"]


def test_a_system_whose_stop_was_broken_off_says_that_it_still_stops_and_can_be_started_later(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    def press_ctrl_c(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    class Slow(Component):
        lives = State(int)

        def run(self) -> None:
            gate.pass_through()
            self.lives += 1

    slow = system.add(Slow())

    def leave_and_press_ctrl_c() -> None:
        with system.started():
            gate.wait_reached()
            assert system._runtime is not None
            monkeypatch.setattr(system._runtime._all_told, "wait", press_ctrl_c)

    with pytest.raises(KeyboardInterrupt):
        leave_and_press_ctrl_c()
    monkeypatch.undo()

    for attempt in (system.run, system.started().__enter__):
        with pytest.raises(UsageError, match="still stopping"):
            attempt()
    gate.open()
    assert system._runtime is not None
    system._runtime.end()
    with system.started():
        assert system.wait(PATIENCE_S)
    assert slow.lives == 2


def test_a_last_commit_that_fails_for_good_is_a_problem_of_the_run(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Store.commit
    broken = threading.Event()

    def fail(self: Store, *change: Any) -> int:
        if broken.is_set():
            raise CommitFailed("the disk is gone", permanent=True)
        return commit(self, *change)

    monkeypatch.setattr(Store, "commit", fail)

    class Last(Kept):
        def on_stop(self) -> None:
            self.commit()
            broken.set()
            self.values.append(-1)  # which can only be committed when nobody is left to hear of it

    numbers, last = system.add(StayingNumbers(count=3)), system.add(Last())
    system.connect(numbers.out, last.numbers)
    stopped = start(system, forever=False).ended()
    assert stopped.reason == "failed"
    assert any("the disk is gone" in problem for problem in stopped.problems)


def test_a_loop_that_waits_for_some_time_only_finishes_its_batch_before_the_end(system: System, start: Start) -> None:
    clock, received = FakeClock(), Log()

    class Batching(Component):
        numbers = Inbox(Number)
        batches = State(list[list[int]])

        def run(self) -> None:
            while self.running:
                with self.unit():
                    batch: list[int] = []
                    with suppress(InboxEmpty):
                        while len(batch) < 5:
                            batch.append(self.numbers.receive(timeout_s=3.0).value)
                            received.add(batch[-1])
                    if batch:
                        self.batches.append(batch)

    numbers, batching = system.add(StayingNumbers(count=13)), system.add(Batching())
    system.connect(numbers.out, batching.numbers)
    run = start(system, forever=False, clock=clock)
    run.wait_for(events.ComponentFinished)
    received.wait_for_count(13)  # before that, it may be asleep with a wake-up under way, for a message that was sent
    assert clock.wait_for_waiters() == (3.0,), "three are in hand, and it waits for more"
    clock.advance(seconds=3.0)
    assert run.ended().left_messages == 0
    assert [len(batch) for batch in batching.batches] == [5, 5, 3]

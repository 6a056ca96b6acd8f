"""`harness`: one component on its own, without threads, in the runtime that runs it in production."""

from __future__ import annotations

import logging
import signal
import threading

import pytest

from minions import (
    Backoff,
    CallTimeout,
    Component,
    Inbox,
    Outbox,
    Phase,
    Restart,
    Retry,
    State,
    UsageError,
    events,
    limit,
)
from minions.testing import harness
from tests.testing.averaging import Average, Averaging, Lock, Mean, Reading, Summary

# What it does ---------------------------------------------------------------------------------------------------------


def test_a_message_is_handled_when_send_returns(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0), Reading(2.0))
    assert h.sent(h.component.averages) == [Mean(1.0), Mean(1.5)]
    assert h.component.summary == Summary(2, 3.0)
    assert dict(h.component.latest.items()) == {"last": 2.0}
    assert h.waiting(h.component.readings) == []
    assert h.status.phase is Phase.RUNNING


def test_no_thread_is_started() -> None:
    before = threading.active_count()
    with harness(Average()) as h:
        h.send(h.component.readings, Reading(1.0))
        assert threading.active_count() == before


def test_it_starts_with_the_first_thing_that_is_done_with_it() -> None:
    class Starts(Component):
        started = State(int)
        numbers = Inbox(int)

        def on_start(self) -> None:
            self.started += 1

        @numbers.handler
        def handle(self, number: int) -> None: ...

    h = harness(Starts())
    assert h.told == []
    h.send(h.component.numbers, 1)
    h.start()
    h.settle()
    assert h.component.started == 1
    h.stop()
    h.stop()
    assert h.component.started == 1, "as it is on disk"


def test_the_block_ends_with_on_stop() -> None:
    class Stops(Component):
        stopped = State(int)
        numbers = Inbox(int)

        @numbers.handler
        def handle(self, number: int) -> None: ...

        def on_stop(self) -> None:
            self.stopped += 1
            self.sleep(1.0)
            self.sleep(1.0)

    with harness(Stops()) as h:
        pass
    assert h.component.stopped == 1
    failing = harness(Stops())
    with pytest.raises(ZeroDivisionError), failing:
        failing.send(failing.component.numbers, 1 // 0)
    assert failing.component.stopped == 0, "a test that has failed stops nothing in order"


def test_a_method_is_called_as_others_call_it(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0), Reading(2.25))
    assert h.call.mean() == 1.6
    assert h.call.mean(digits=3) == 1.625
    with pytest.raises(UsageError, match=r"average.add cannot be called from another component: it is a handler"):
        h.call.add(Reading(1.0))


def test_what_a_called_method_raises_is_raised_to_who_calls(h: Averaging) -> None:
    with pytest.raises(ZeroDivisionError):
        h.call.mean()
    assert h.raised == []


def test_a_schedule_ticks_when_it_is_asked_to(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0))
    h.tick("flush")
    assert h.component.summary == Summary()
    h.send(h.component.readings, Reading(1.0))
    h.tick(h.component.flush)
    assert h.component.summary == Summary()
    with pytest.raises(ValueError, match="no tick"):
        h.tick("fail")


def test_a_schedule_ticks_when_its_time_comes(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0))
    h.advance(3_599.0)
    assert h.component.summary == Summary(1, 1.0)
    h.advance(1.0)
    assert h.component.summary == Summary()
    with pytest.raises(ValueError, match="no tick"):
        h.advance(3_600.0)
    with pytest.raises(ValueError, match="no tick"):
        h.stop()  # it is made up for before the end


def test_rate_limits_and_sleeps_take_the_time_that_the_test_gives() -> None:
    class Limited(Component):
        numbers = Inbox(int)
        out = Outbox(int)

        @limit(calls=1, per_s=10.0)
        @numbers.handler
        def handle(self, number: int) -> None:
            self.sleep(1.0)
            self.out.send(number)

    with harness(Limited()) as h:
        h.send(h.component.numbers, 1, 2)
        assert h.sent(h.component.out) == []
        h.advance(1.0)
        assert h.sent(h.component.out) == [1]
        assert h.waiting(h.component.numbers) == [2]
        began_s = h.now_s
        h.advance(10.0)
        assert h.sent(h.component.out) == [1, 2]
        assert h.now_s == began_s + 10.0


def test_a_call_takes_the_time_that_it_needs_but_not_for_ever() -> None:
    class Slow(Component):
        def answer(self, after_s: float) -> int:
            self.sleep(after_s)
            return 42

    with harness(Slow()) as h:
        began_s = h.now_s
        assert h.call.answer(5.0) == 42
        assert h.now_s == began_s + 5.0
        with pytest.raises(
            CallTimeout, match=r"slow.answer\(\) was not answered within 30 s of its time; it is running"
        ):
            h.call.answer(50.0)


def test_a_source_runs_as_far_as_it_can() -> None:
    class Source(Component):
        out = Outbox(int)
        locks = Outbox(Lock)

        def run(self) -> None:
            for number in range(3):
                self.out.send(number)
                self.locks.send(Lock())
                self.sleep(10.0)

    with harness(Source()) as h:
        assert h.sent(h.component.out) == [0]
        h.advance(10.0)
        assert h.sent(h.component.out) == [0, 1]
        assert len(h.sent(h.component.locks)) == 2, "what cannot be stored is sent all the same"


def test_a_loop_receives() -> None:
    class Loop(Component):
        numbers = Inbox(int)
        out = Outbox(int)

        def run(self) -> None:
            for number in self.numbers:
                self.out.send(2 * number)

    with harness(Loop()) as h:
        h.send(h.component.numbers, 1, 2)
        assert h.sent(h.component.out) == [2, 4]
        with pytest.raises(UsageError, match=r"loop answers no calls: .* it has a run\(\) of its own"):
            h.call  # noqa: B018


def test_partitions() -> None:
    class Counting(Component):
        names = Inbox(str)
        count = State(int)

        @names.handler
        def handle(self, name: str) -> None:
            self.count += 1

    with harness(Counting(), partition_by=str.upper, name="parted") as h:
        h.send(h.component.names, "a", "b", "A")
        assert h.partition("A").count == 2
        h.crash()
        assert h.partition("A").count == 2
        h.restart()
        assert h.partition("B").count == 1


def test_what_it_logs_is_seen(caplog: pytest.LogCaptureFixture) -> None:
    class Logging(Component):
        def on_start(self) -> None:
            self.log.info("hello")

    with caplog.at_level(logging.INFO), harness(Logging()):
        pass
    assert "hello" in caplog.text


# What fails -----------------------------------------------------------------------------------------------------------


def test_what_a_handler_raises_is_raised_and_the_unit_never_was(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0))
    with pytest.raises(ValueError, match="colder than cold") as caught:
        h.send(h.component.readings, Reading(-300.0))
    assert caught.traceback[-1].name == "add", "where it was raised"
    assert h.sent(h.component.averages) == [Mean(1.0)]
    assert h.component.summary == Summary(1, 1.0)
    assert dict(h.component.latest.items()) == {"last": 1.0}
    assert h.waiting(h.component.readings) == [Reading(-300.0)]
    assert h.status.phase is Phase.BACKOFF
    assert h.dead_letters == []
    with pytest.raises(ValueError, match="colder than cold"):
        h.advance(5.0)
    [letter] = h.dead_letters
    assert (letter.attempts, letter.error) == (2, "ValueError: colder than cold")
    assert h.message_of(letter) == Reading(-300.0)
    assert h.sent(h.component.averages) == [Mean(1.0)]
    h.send(h.component.readings, Reading(2.0))
    assert h.component.summary == Summary(2, 3.0)
    h.stop()
    assert len(h.dead_letters) == 1


def test_what_is_raised_may_be_looked_at_instead() -> None:
    with harness(Average(), raises=False) as h:
        h.send(h.component.readings, Reading(-300.0))
        h.advance(5.0)
        assert [str(error) for error in h.raised] == ["colder than cold"] * 2
        failed = [event for event in h.told if isinstance(event, events.ComponentFailed)]
        assert [event.attempt for event in failed] == [1, 2]


def test_what_on_start_raises_is_raised_by_start() -> None:
    class Never(Component):
        numbers = Inbox(int)

        def on_start(self) -> None:
            raise ValueError("no start")

        @numbers.handler
        def handle(self, number: int) -> None: ...

    h = harness(Never(), restart=Restart(failures=0))
    with pytest.raises(ValueError, match="no start"):
        h.start()
    with pytest.raises(
        UsageError, match=r"never has ended for good \(never failed in on_start: ValueError: no start\): h.restart"
    ):
        h.send(h.component.numbers, 1)
    with pytest.raises(ValueError, match="no start"):
        h.restart()
    h.stop()


def test_what_on_stop_raises_is_raised_at_the_end() -> None:
    class Never(Component):
        def on_stop(self) -> None:
            raise ValueError("no stop")

        def answer(self) -> None: ...

    with pytest.raises(ValueError, match="no stop"), harness(Never()) as h:
        h.call.answer()


# Errors of all kinds --------------------------------------------------------------------------------------------------


class Leaves(Average):
    readings = Inbox(Reading, retry=Retry(attempts=2, backoff=Backoff(initial_s=5.0, jitter_ratio=0.0)))

    @readings.handler
    def add(self, reading: Reading) -> None:
        raise SystemExit(3)


def test_an_exit_is_raised_like_any_other_error() -> None:
    with harness(Leaves()) as h:
        with pytest.raises(SystemExit):
            h.send(h.component.readings, Reading(1.0))
        assert h.waiting(h.component.readings) == [Reading(1.0)]
        with pytest.raises(SystemExit):
            h.advance(10)
        assert len(h.dead_letters) == 1


class HandsOn(Average):
    readings = Inbox(Reading)

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.summary.count += 1
        self.after_commit(self.tell)

    def tell(self) -> None:
        raise ConnectionError("nobody listens")


def test_what_after_commit_was_handed_raises_where_the_test_has_caused_it() -> None:
    with harness(HandsOn()) as h:
        with pytest.raises(ConnectionError, match="nobody listens"):
            h.send(h.component.readings, Reading(1.0))
        assert h.component.summary.count == 1
        assert h.waiting(h.component.readings) == []


class IsInterrupted(Average):
    readings = Inbox(Reading)

    @readings.handler
    def add(self, reading: Reading) -> None:
        signal.raise_signal(signal.SIGINT)
        self.summary.count += 1


def test_ctrl_c_is_for_the_test_and_no_failure_of_the_component() -> None:
    with harness(IsInterrupted()) as h:
        with pytest.raises(KeyboardInterrupt):
            h.send(h.component.readings, Reading(1.0))
        h.settle()
        assert (h.component.summary.count, h.raised) == (1, [])

"""`harness`: one component on its own, without threads, in the runtime that runs it in production."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from typing import Any, cast
from unittest.mock import create_autospec

import attrs
import pytest

from minions import (
    Backoff,
    CallFailed,
    CallTimeout,
    Component,
    Inbox,
    InboxFull,
    MessageRefused,
    Outbox,
    Phase,
    Restart,
    Retry,
    State,
    System,
    Table,
    TopologyError,
    UsageError,
    Uses,
    events,
    every,
    limit,
    wrap,
)
from minions.testing import Harness, harness

AT_ONCE = Backoff(initial_s=0.0)


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Mean:
    celsius: float


@attrs.define
class Summary:
    count: int = 0
    total: float = 0.0


class Average(Component):
    readings = Inbox(Reading, retry=Retry(attempts=2, backoff=Backoff(initial_s=5.0, jitter_ratio=0.0)))
    averages = Outbox(Mean)
    summary = State(Summary)
    latest = Table(str, float)

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.summary.count += 1
        self.summary.total += reading.celsius
        self.latest["last"] = reading.celsius
        self.averages.send(Mean(self.summary.total / self.summary.count))
        if reading.celsius < -273.15:
            raise ValueError("colder than cold")

    @every(hours=1)
    def flush(self) -> None:
        self.summary = Summary()

    @every(hours=2)
    def fail(self) -> None:
        raise ValueError("no tick")

    def mean(self, *, digits: int = 1) -> float:
        return round(self.summary.total / self.summary.count, digits)


class Lock:
    """Of this nobody can tell how it is kept."""

    def __init__(self) -> None:
        self.own = threading.Lock()


class Database(Component):
    path: str

    def on_start(self) -> None:
        raise AssertionError("a test has no database")

    def insert(self, reading: Reading, *, twice: bool = False) -> int:
        raise NotImplementedError


class FakeDatabase(Database):
    path: str = ""
    rows = State(list[float])

    def on_start(self) -> None: ...

    def insert(self, reading: Reading, *, twice: bool = False) -> int:
        self.rows.append(reading.celsius)
        return len(self.rows)


class Archive(Component):
    readings = Inbox(Reading, retry=Retry(attempts=1))
    database = Uses(Database)
    count = State(int)

    @readings.handler
    def keep(self, reading: Reading) -> None:
        self.count = self.database.insert(reading, twice=True)


@pytest.fixture
def h() -> Any:
    with harness(Average(), raises=True) as made:
        yield made


Averaging = Harness[Average]


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


# Crashes --------------------------------------------------------------------------------------------------------------


def test_a_crash_inside_a_handler_leaves_nothing_of_the_unit(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0))
    h.crash_in("add")
    h.send(h.component.readings, Reading(3.0))
    assert h.crashed
    assert h.component.summary == Summary(1, 1.0), "as it is on disk"
    assert dict(h.component.latest.items()) == {"last": 1.0}
    with pytest.raises(UsageError, match=r"average: its process has crashed: h.restart\(\) starts it"):
        h.sent(h.component.averages)
    h.restart()
    assert h.status.phase is Phase.RUNNING
    assert h.sent(h.component.averages) == [Mean(1.0), Mean(2.0)], "the message was handled again, and once"
    assert h.component.summary == Summary(2, 4.0)


def test_what_crashes_has_done_all_of_it_before() -> None:
    class Two(Component):
        numbers = Inbox(int)

        @numbers.handler
        def handle(self, number: int) -> None:
            done.append("first")
            done.append("second")

    done: list[str] = []
    h = harness(Two())
    h.crash_in("handle")
    h.send(h.component.numbers, 1)
    assert (h.crashed, done) == (True, ["first", "second"])
    h.restart()
    assert done == ["first", "second"] * 2
    h.stop()


def test_each_unit_is_on_disk_as_soon_as_it_is_whole() -> None:
    class Source(Component):
        out = Outbox(int)
        sent = State(int)

        def run(self) -> None:
            while self.sent < 3:
                with self.unit():
                    self.out.send(self.sent)
                    self.sent += 1

    h = harness(Source())
    h.crash_in("run")
    h.start()
    assert (h.crashed, h.component.sent) == (True, 3)
    h.restart()
    assert h.sent(h.component.out) == [0, 1, 2]
    h.stop()


def test_a_crash_may_come_at_a_later_time(h: Averaging) -> None:
    h.crash_in(h.component.add, nth=3)
    h.send(h.component.readings, *[Reading(1.0)] * 5)
    assert h.crashed
    assert h.component.summary.count == 2
    h.restart()
    assert h.component.summary.count == 3, "two more were never sent"
    h.send(h.component.readings, Reading(1.0))
    assert h.component.summary.count == 4


def test_a_crash_between_two_units_loses_nothing(h: Averaging) -> None:
    h.send(h.component.readings, Reading(1.0))
    h.crash()
    assert h.component.summary == Summary(1, 1.0)
    h.restart()
    assert h.sent(h.component.averages) == [Mean(1.0)]
    h.send(h.component.readings, Reading(2.0))
    assert h.component.summary == Summary(2, 3.0)


def test_a_crash_in_a_tick_a_call_and_a_hook() -> None:
    class Hooks(Component):
        numbers = Inbox(int)
        done = State(list[str])

        def on_start(self) -> None:
            self.done.append("start")

        @numbers.handler
        def handle(self, number: int) -> None: ...

        @every(hours=1)
        def tick(self) -> None:
            self.done.append("tick")

        def answer(self) -> int:
            self.done.append("call")
            return 1

        def on_stop(self) -> None:
            self.done.append("stop")

    h = harness(Hooks())
    h.crash_in("on_start")
    h.start()
    assert h.crashed
    assert h.component.done == []
    h.restart()
    assert h.component.done == ["start"]
    h.crash_in("tick")
    h.tick("tick")
    assert h.crashed
    h.restart()
    h.crash_in("tick")
    h.advance(3_600.0)
    assert h.crashed
    assert h.component.done == ["start"] * 2
    h.restart()
    assert h.component.done == ["start", "start", "start", "tick"], "the tick is made up for"
    h.crash_in("answer")
    assert h.call.answer() is None
    assert h.crashed
    h.restart()
    h.crash_in("on_stop")
    h.stop()
    assert h.crashed
    h.restart()
    assert h.component.done[4:] == ["start", "start"]
    h.stop()


def test_a_call_that_a_crash_elsewhere_ends_says_so() -> None:
    class Busy(Component):
        numbers = Inbox(int)

        @numbers.handler
        def handle(self, number: int) -> None:
            self.sleep(10.0)

        def answer(self) -> None: ...

    h = harness(Busy())
    h.send(h.component.numbers, 1)
    h.crash_in("handle")
    with pytest.raises(CallFailed, match=r"busy has crashed before it has answered answer\(\)"):
        h.call.answer()
    assert h.crashed


def test_a_restart_is_in_order_where_it_runs() -> None:
    class Stops(Component):
        done = State(list[str])

        def on_stop(self) -> None:
            self.done.append("stop")

        def answer(self) -> None: ...

    with harness(Stops()) as h:
        began_s = h.now_s
        h.advance(10.0)
        h.restart()
        assert h.component.done == ["stop"]
        assert h.now_s == began_s + 10.0, "time goes on from where it was"


def test_a_crash_needs_something_that_runs_and_a_method_that_is_there(h: Averaging) -> None:
    with pytest.raises(
        UsageError, match=r"average has no method 'nothing' to crash in: name one of add, flush, fail, on_start"
    ):
        h.crash_in("nothing")
    with pytest.raises(UsageError, match=r"average: crash_in\('add', nth=0\): must be a whole number from 1 up"):
        h.crash_in("add", nth=0)
    h.stop()
    with pytest.raises(UsageError, match=r"average: it does not run: h.restart\(\) starts it"):
        h.crash()


def test_commits_are_counted(h: Averaging) -> None:
    before = h.commits
    h.send(h.component.readings, Reading(1.0), Reading(2.0))
    assert h.commits == before + 2
    with pytest.raises(ValueError, match="colder"):
        h.send(h.component.readings, Reading(-300.0))
    assert h.commits == before + 2
    with pytest.raises(ValueError, match="colder"):
        h.advance(5.0)
    assert h.commits == before + 3, "it was set aside"
    before = h.commits - 2
    h.call.mean()
    assert h.commits == before + 2, "it has changed nothing"


def test_what_is_not_durable_is_lost_with_its_process() -> None:
    class Passing(Component):
        numbers = Inbox(int, durable=False)
        out = Outbox(int)

        @numbers.handler
        def handle(self, number: int) -> None:
            self.out.send(number)

    class Locking(Component):
        numbers = Inbox(int, durable=False)
        locks = Outbox(Lock)

        @numbers.handler
        def handle(self, number: int) -> None:
            self.locks.send(Lock())

    with harness(Locking()) as locking:
        locking.send(locking.component.numbers, 1)
        assert len(locking.sent(locking.component.locks)) == 1
        assert locking.commits == 0
    with harness(Passing()) as h:
        h.send(h.component.numbers, 1)
        h.crash_in("handle")
        h.send(h.component.numbers, 2)
        h.restart()
        assert h.sent(h.component.out) == [1]


# Fakes ----------------------------------------------------------------------------------------------------------------


def test_a_fake_component_stands_in() -> None:
    h = harness(Archive())
    fake = FakeDatabase()
    h.uses(h.component.database, fake)
    h.send(h.component.readings, Reading(1.0), Reading(2.0))
    assert fake.rows == [1.0, 2.0]
    assert h.component.count == 2
    h.stop()


def test_any_object_that_fits_stands_in() -> None:
    class Plain:
        def __init__(self) -> None:
            self.rows: list[Reading] = []

        def insert(self, reading: Reading, **keywords: bool) -> int:
            self.rows.append(reading)
            return len(self.rows)

    plain, mock = Plain(), create_autospec(Database, instance=True)
    mock.insert.return_value = 7
    for fake, count in ((plain, 1), (mock, 7), (wrap.object(lambda: plain, cast(type[Plain], Database)), 2)):
        h = harness(Archive())
        h.uses(h.component.database, cast(Database, fake))
        h.send(h.component.readings, Reading(1.0))
        assert h.component.count == count
        h.stop()
    mock.insert.assert_called_once_with(Reading(1.0), twice=True)


def test_what_a_fake_raises_comes_to_its_caller() -> None:
    class Broken(FakeDatabase):
        def insert(self, reading: Reading, *, twice: bool = False) -> int:
            raise OSError("disk full")

    h = harness(Archive())
    h.uses(h.component.database, Broken())
    with pytest.raises(OSError, match="disk full"):
        h.send(h.component.readings, Reading(1.0))
    assert h.dead_letters[0].error == "OSError: disk full"
    assert len(h.raised) == 1
    h.stop()


def test_a_fake_may_have_ports_of_its_own() -> None:
    class Echoing(FakeDatabase):
        wishes = Inbox(int)
        echoes = Outbox(int)

        @wishes.handler
        def echo(self, wish: int) -> None:
            self.echoes.send(wish)

    h = harness(Archive())
    fake = Echoing()
    h.uses(h.component.database, fake)
    h.send(fake.wishes, 3)
    assert h.sent(fake.echoes) == [3]
    h.stop()


def test_what_is_used_needs_a_fake_and_one_that_fits() -> None:
    h = harness(Archive())
    for step in (h.start, h.settle, lambda: h.send(h.component.readings, Reading(1.0))):
        with pytest.raises(
            UsageError,
            match=r"archive.database uses Database, and nothing stands in for it: say what, h.uses\(h.component.database",
        ):
            step()

    class Empty: ...

    class Other:
        def insert(self, reading: Reading) -> int:
            return 0

    for fake, problem in (
        (Empty(), r"it has no method insert\(\); give it one, or make it of a subclass of Database"),
        (
            Other(),
            r"insert\(reading: .*Reading.*\) -> .*int.* does not take what Database.insert\(\) is given: got an unexpected",
        ),
        (FakeDatabase, r"it is a class: give an object, FakeDatabase\(\)"),
        (Average(), r"it has no method insert\(\)"),
    ):
        with pytest.raises(UsageError, match=rf"archive.database uses Database, and .* does not fit: {problem}"):
            h.uses(h.component.database, cast(Database, fake))
    with pytest.raises(
        UsageError, match=r"archive: uses\(\) takes first a Uses of the component \(h.component.database\), not 'db'"
    ):
        h.uses(cast(Database, "db"), FakeDatabase())
    with pytest.raises(UsageError, match="takes first a Uses of the component"):
        h.uses(Archive().database, FakeDatabase())
    h.uses(h.component.database, FakeDatabase())
    h.start()
    with pytest.raises(UsageError, match="before the harness has started"):
        h.uses(h.component.database, FakeDatabase())
    h.stop()


# Wrong use ------------------------------------------------------------------------------------------------------------


def test_only_a_component_of_its_own_goes_under_a_harness() -> None:
    with pytest.raises(
        UsageError, match=r"harness\(\) takes a component, such as harness\(Average\(\)\), not <class .*Average'>; give"
    ):
        harness(cast(Average, Average))
    with pytest.raises(UsageError, match=r"not 'average'$"):
        harness(cast(Average, "average"))
    system = System("other")
    with pytest.raises(
        UsageError, match=r"harness\(Average\): this object belongs to a system \(or a harness\) already"
    ):
        harness(system.add(Average()))
    component = Average()
    harness(component)
    with pytest.raises(UsageError, match="belongs to a system"):
        harness(component)


def test_a_component_that_is_not_sound_is_not_started() -> None:
    class Unsound(Component):
        locks = Inbox(Lock)

        @locks.handler
        def handle(self, lock: Lock) -> None: ...

    with pytest.raises(TopologyError, match="durable=False"):
        harness(Unsound()).start()


def test_a_port_that_is_none_is_refused(h: Averaging) -> None:
    stranger = Average()
    for port in (stranger.readings, h.component.averages, Average.readings, "readings"):
        with pytest.raises(
            UsageError, match=r"average: send\(\) takes an inbox of the component \(h.component.readings\), not"
        ):
            h.send(cast(Inbox[Reading], port), Reading(1.0))
    for method in ("sent", "waiting"):
        with pytest.raises(UsageError, match=rf"average: {method}\(\) takes an (in|out)box of the component"):
            getattr(h, method)(stranger.readings)


def test_a_message_of_another_class_is_refused(h: Averaging) -> None:
    with pytest.raises(MessageRefused, match=r"average.readings takes Reading, not 1.0 \(float\)"):
        h.send(h.component.readings, cast(Reading, 1.0))


def test_a_tick_of_what_has_no_schedule_is_refused(h: Averaging) -> None:
    for method in ("mean", h.component.mean, "nothing", len):
        with pytest.raises(UsageError, match=r"average has no schedule '\w+': name one of flush, fail"):
            h.tick(cast(str, method))


def test_an_inbox_that_is_full_says_so() -> None:
    class Sleeping(Component):
        some = Inbox(int, capacity=2)
        failing = Inbox(int, capacity=2, overflow="fail")

        @some.handler
        def handle(self, number: int) -> None:
            self.sleep(100.0)

        @failing.handler
        def take(self, number: int) -> None: ...

    with harness(Sleeping()) as h:
        h.send(h.component.some, 1, 2)
        with pytest.raises(UsageError, match=r"sleeping.some is full \(2 messages\): have its component handle some"):
            h.send(h.component.some, 3)
        with pytest.raises(InboxFull):
            h.send(h.component.failing, 1, 2, 3)
        h.advance(100.0)


def test_a_thread_of_its_own_is_refused() -> None:
    class Forking(Component):
        numbers = Inbox(int, retry=Retry(attempts=1))

        @numbers.handler
        def handle(self, number: int) -> None:
            thread = threading.Thread(target=gate.wait, name="own")
            thread.start()

    gate = threading.Event()
    with harness(Forking(), raises=False) as h:
        h.send(h.component.numbers, 1)
        assert "has started the thread 'own'" in h.dead_letters[0].error
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "own":
            thread.join(10.0)


def test_without_greenlet_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(UsageError, match=r"needs the library greenlet, .* pip install 'minions-runtime\[testing\]'"):
        harness(Average())


def test_a_harness_that_nobody_stops_lets_go_of_its_process() -> None:
    h = harness(Average())
    h.send(h.component.readings, Reading(1.0))
    process = h._process
    component = h.component
    del h
    gc.collect()
    assert process.over or process._world.over
    assert component is not None


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


def test_a_state_that_a_test_assigns_to_is_refused_because_it_would_hide_what_is_kept() -> None:
    with harness(Average()) as h:
        h.send(h.component.readings, Reading(1.0))
        h.component.summary = Summary(count=7)
        with pytest.raises(UsageError, match=r"average.summary was assigned from outside, which changes nothing"):
            h.send(h.component.readings, Reading(1.0))
        del h.component.summary
        assert h.component.summary.count == 1


def test_a_crash_that_never_came_is_told_of_at_the_end_of_the_block() -> None:
    h = harness(Average()).start()
    h.crash_in("flush")
    h.send(h.component.readings, Reading(1.0))
    with pytest.raises(UsageError, match=r"average: crash_in\('flush'\): it never came to that: 1 more"):
        h.__exit__(None, None, None)
    with harness(Average()) as h:
        h.crash_in("on_stop")
    assert h.crashed

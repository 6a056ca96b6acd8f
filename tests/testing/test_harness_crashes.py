"""`harness`: what a component has done and what of it is left after a crash at a chosen place."""

from __future__ import annotations

import gc

import pytest

from minions import CallFailed, Component, Inbox, Outbox, Phase, State, UsageError, every
from minions.testing import harness
from tests.testing.averaging import Average, Averaging, Lock, Mean, Reading, Summary


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


def test_a_crash_that_never_came_is_told_of_at_the_end_of_the_block() -> None:
    h = harness(Average()).start()
    h.crash_in("flush")
    h.send(h.component.readings, Reading(1.0))
    with pytest.raises(UsageError, match=r"average: crash_in\('flush'\): it never came to that: 1 more"):
        h.__exit__(None, None, None)
    with harness(Average()) as h:
        h.crash_in("on_stop")
    assert h.crashed


def test_code_under_a_harness_may_free_another_one() -> None:
    """As the collector of garbage does, wherever it happens to run, with one that a failed test has left behind."""
    others = [harness(Average()).start(), harness(Average()).start()]

    class Frees(Component):
        numbers = Inbox(int)
        total = State(int)

        @numbers.handler
        def handle(self, number: int) -> None:
            others.clear()
            gc.collect()
            self.total += number

    with harness(Frees()) as h:
        h.send(h.component.numbers, 1, 2)
        assert h.component.total == 3

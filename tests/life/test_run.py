"""`run` of running components: its units, its failures, its time, its threads."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest

from minions import Component, Inbox, InboxFull, Outbox, Restart, State, System, UsageError, events
from minions.model.checks import shown
from minions.testing import FakeClock
from tests.life.committing import AT_ONCE, ONCE_MORE
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start, in_virtual_time
from tests.life.counting import Kept
from tests.life.receiving import Five, fed_by_five


def feeding_kept(system: System, source: Component, restart: Restart = ONCE_MORE) -> Kept:
    kept = Kept()
    system.add(source, restart=restart)
    system.add(kept)
    system.connect(source.out, kept.numbers)  # type: ignore[attr-defined]
    return kept


# Units of a source ----------------------------------------------------------------------------------------------------


def test_each_send_is_a_unit_of_its_own_with_the_state_as_it_is(system: System, start: Start) -> None:
    class Counting(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.sent < 5:
                self.sent += 1
                self.out.send(Number(self.sent))
                if self.sent == 3:
                    self.sent = 99  # never sent with anything, and so it never was
                    raise ValueError("three")

    kept = feeding_kept(system, Counting())
    assert start(system, forever=False).ended().problems == ()
    assert kept.values == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("caught", [True, False])
def test_a_unit_that_raises_never_was(system: System, start: Start, caught: bool) -> None:
    states = Log()
    once = itertools.count()

    class Transfer(Component):
        out = Outbox(Number)
        moved = State(list[int])

        def run(self) -> None:
            try:
                self.move()
            except ValueError:
                if not caught:
                    raise
            states.add(list(self.moved))
            self.move()

        def move(self) -> None:
            with self.unit():
                self.moved.append(1)
                self.out.send(Number(1))
                if next(once) == 0:
                    raise ValueError("in the middle")
                self.moved.append(2)
                self.out.send(Number(2))

    transfer = Transfer()
    kept = feeding_kept(system, transfer)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert kept.values == [1, 2] * (1 if caught else 2)
    assert transfer.moved == kept.values
    assert states.entries == [[]] if caught else [[1, 2]]
    assert len(run.all(events.ComponentFailed)) == (0 if caught else 1)


def test_nothing_of_a_unit_is_seen_before_it_is_whole(system: System, start: Start) -> None:
    gate = Gate()

    class Slow(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                self.out.send(Number(1))
                gate.pass_through()
                self.out.send(Number(2))

    kept = feeding_kept(system, Slow())
    run = start(system, forever=False)
    gate.wait_reached()
    assert run.runtime.plan.channels["kept.numbers"].size == 0
    gate.open()
    run.ended()
    assert kept.values == [1, 2]


def test_state_that_a_run_leaves_behind_is_kept_when_it_returns(system: System, start: Start) -> None:
    class Counting(Component):
        runs = State(int)

        def run(self) -> None:
            self.runs += 1

    counting = system.add(Counting())
    for expected in (1, 2, 3):
        start(system, forever=False).ended()
        assert counting.runs == expected


@pytest.mark.parametrize("where", ["run", "on_start", "on_stop"])
def test_a_unit_inside_a_unit_is_refused(system: System, start: Start, where: str) -> None:
    errors = Log()

    class Nesting(Component):
        def try_it(self, here: str) -> None:
            if here == where:
                with pytest.raises(UsageError) as caught, self.unit():
                    pass
                errors.add(str(caught.value))

        def on_start(self) -> None:
            self.try_it("on_start")

        def run(self) -> None:
            with self.unit():
                self.try_it("run")

        def on_stop(self) -> None:
            self.try_it("on_stop")

    system.add(Nesting())
    assert start(system, forever=False).ended().problems == ()
    assert errors.entries == [
        "nesting: a unit of work is open already: a handler, on_start and on_stop are one unit, and units do not nest"
    ]


def test_a_unit_after_a_receive_is_refused_with_the_remedy(system: System, start: Start) -> None:
    errors = Log()

    class Receiving(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            for _ in self.numbers:
                with pytest.raises(UsageError) as caught, self.unit():
                    pass
                errors.add(str(caught.value))

    fed_by_five(system, Receiving())
    assert start(system, forever=False).ended().problems == ()
    assert len(errors.entries) == 5
    assert "receive inside `with self.unit():` instead" in errors.entries[0]


# Failing --------------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_failing_stops_the_system_and_everything_committed_is_kept(
    system: System, start: Start
) -> None:
    class Failing(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))
            raise ConnectionError(f"lost after {self.sent}")

    failing = Failing()
    kept = feeding_kept(system, failing, Restart(failures=2, backoff=AT_ONCE))
    run = start(system, forever=False)
    stopped = run.ended()

    assert stopped.reason == "failed"
    assert stopped.problems == ("failing failed in run: ConnectionError: lost after 3",)
    assert (failing.sent, kept.values) == (3, [1, 2, 3])
    [gave_up] = run.all(events.GaveUp)
    assert (gave_up.component, gave_up.failures) == ("failing", 3)
    assert [(failed.epoch, failed.restart_in_s) for failed in run.all(events.ComponentFailed)] == [
        (1, 0.0),
        (2, 0.0),
        (3, None),
    ]


# Time and threads -----------------------------------------------------------------------------------------------------


def test_sleep_ends_when_its_time_is_over_and_early_when_the_component_is_stopped(system: System) -> None:
    clock, woken = FakeClock(), Log()

    class Sleeper(Component):
        def run(self) -> None:
            while self.running:
                self.sleep(30.0)
                woken.add(self.running)

    system.add(Sleeper())
    with in_virtual_time(system, clock):
        clock.settle()
        assert clock.waits() == (30.0,)
        clock.advance(seconds=29.0)
        assert clock.waits() == (1.0,)
        assert woken.entries == []
        clock.advance(seconds=1.0)
        assert woken.entries == [True]
        assert clock.waits() == (30.0,)
    assert woken.entries == [True, False]
    assert clock.monotonic() == 1_030.0


def test_other_threads_may_send_sleep_and_commit(system: System, start: Start) -> None:
    clock = FakeClock()
    sent = Log()

    class Callbacks(Component):
        out = Outbox(Number)

        def run(self) -> None:
            threads = [threading.Thread(target=self.call_back, args=(value,)) for value in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
            self.sleep(1e6)

        def call_back(self, value: int) -> None:
            self.sleep(1.0)
            self.out.send(Number(value))
            self.commit()
            sent.add(value)

    kept = feeding_kept(system, Callbacks())
    run = start(system, clock=clock)
    clock.wait_for_waiters(8)
    clock.advance(seconds=1.0)
    sent.wait_for_count(8)
    run.stop()
    assert sorted(kept.values) == list(range(8))


def test_a_send_from_another_thread_is_no_part_of_the_open_unit(system: System, start: Start) -> None:
    class Mixed(Component):
        out = Outbox(Number)
        changed = State(int)

        def run(self) -> None:
            try:
                with self.unit():
                    self.changed += 1
                    self.out.send(Number(1))
                    thread = threading.Thread(target=self.out.send, args=(Number(2),))
                    thread.start()
                    thread.join(PATIENCE_S)
                    raise ValueError("the unit never was")
            except ValueError:
                return

    mixed = Mixed()
    kept = feeding_kept(system, mixed)
    start(system, forever=False).ended()
    assert (kept.values, mixed.changed) == ([2], 0)


@pytest.mark.parametrize("method", ["unit", "receive"])
def test_units_and_receiving_belong_to_the_components_own_thread(system: System, start: Start, method: str) -> None:
    errors = Log()

    class Foreign(Component):
        numbers = Inbox(Number)

        def run(self) -> None:
            thread = threading.Thread(target=self.try_it)
            thread.start()
            thread.join(PATIENCE_S)
            for _ in self.numbers:
                pass

        def try_it(self) -> None:
            try:
                if method == "unit":
                    with self.unit():
                        pass
                else:
                    self.numbers.receive(timeout_s=0.0)
            except UsageError as error:
                errors.add(str(error))

    foreign = Foreign()
    fed_by_five(system, foreign)
    start(system, forever=False).ended()
    assert errors.entries == [
        f"foreign: {method}() works on the component's own thread only; other threads may send, sleep and commit"
    ]


def test_a_source_that_goes_on_sending_after_it_was_stopped_is_ended_by_it(system: System, start: Start) -> None:
    clock, gate = FakeClock(), Gate()
    stopping = threading.Event()

    class Endless(Component):
        out = Outbox(Number)
        sent = State(int)
        cleaned = State(bool)

        def run(self) -> None:
            while True:
                with self.unit():
                    self.sent += 1
                    self.out.send(Number(self.sent))
                if self.sent == 3:
                    gate.pass_through()
                    assert stopping.wait(PATIENCE_S)

        def on_interrupt(self) -> None:
            stopping.set()

        def on_stop(self) -> None:
            self.cleaned = True

    endless = Endless()
    kept = feeding_kept(system, endless)
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    gate.open()
    clock.advance(seconds=2.0)  # asked again, and interrupted

    assert run.ended().problems == ()
    assert kept.values == [1, 2, 3]
    assert (endless.sent, endless.cleaned) == (3, True)


def test_a_send_that_waits_for_room_gives_up_after_its_timeout_and_has_sent_nothing(
    system: System, start: Start
) -> None:
    clock, gate, full = FakeClock(), Gate(), Log()

    class Pressing(Component):
        out = Outbox(Number)

        def run(self) -> None:
            for value in range(4):
                try:
                    self.out.send(Number(value), timeout_s=5.0)
                except InboxFull as error:
                    full.add(str(error))

    class Narrow(Component):
        numbers = Inbox(Number, capacity=2)
        values = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            gate.pass_through()
            self.values.append(number.value)

    pressing, narrow = system.add(Pressing()), system.add(Narrow())
    system.connect(pressing.out, narrow.numbers)
    run = start(system, clock=clock, forever=False)
    for count in (1, 2):
        clock.wait_for_waiters()
        clock.advance(seconds=1.0)
        assert clock.wait_for_waiters() == (4.0,)
        clock.advance(seconds=4.0)
        assert "inbox narrow.numbers is full" in full.wait_for_count(count)[-1]
    gate.open()
    run.ended()
    assert narrow.values == [0, 1]


def test_outside_of_a_running_component_its_methods_say_so(system: System) -> None:
    five = system.add(Five())
    for call in (five.commit, five.unit, lambda: five.sleep(1.0), lambda: five.message_id, lambda: five.log):
        with pytest.raises(UsageError, match="inside a running component"):
            call()
    with pytest.raises(UsageError, match="inside a running component"):
        five.out.send(Number(1))
    assert not five.running


def test_there_is_no_message_id_without_a_message(system: System, start: Start) -> None:
    errors = Log()

    class Asking(Component):
        def run(self) -> None:
            try:
                errors.add(self.message_id)
            except UsageError as error:
                errors.add(str(error))

    system.add(Asking())
    start(system, forever=False).ended()
    assert errors.entries == ["asking: there is no message in work, and so no message_id"]


@pytest.mark.parametrize("hook", ["on_start", "on_stop"])
def test_receiving_outside_of_run_is_refused(system: System, start: Start, hook: str) -> None:
    errors = Log()

    class Early(Component):
        numbers = Inbox(Number)

        def try_it(self) -> None:
            try:
                self.numbers.receive(timeout_s=0.0)
            except UsageError as error:
                errors.add(str(error))

        def on_start(self) -> None:
            if hook == "on_start":
                self.try_it()

        def run(self) -> None:
            for _ in self.numbers:
                pass

        def on_stop(self) -> None:
            if hook == "on_stop":
                self.try_it()

    early = Early()
    fed_by_five(system, early)
    start(system, forever=False).ended()
    [error] = errors.entries
    assert "receive() works in run() only" in error


@pytest.mark.parametrize("wrong", ["1", math.nan, [1.0], 10**310])
@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda loop, wrong: loop.sleep(wrong), "sleep"),
        (lambda loop, wrong: loop.commit(wrong), "timeout_s"),
        (lambda loop, wrong: loop.out.send(Number(1), timeout_s=wrong), "timeout_s"),
        (lambda loop, wrong: loop.numbers.receive(timeout_s=wrong), "timeout_s"),
    ],
    ids=["sleep", "commit", "send", "receive"],
)
def test_a_time_that_is_none_is_refused_at_once(
    system: System, start: Start, ask: Callable[[Any, Any], Any], said: str, wrong: Any
) -> None:
    told = Log()

    class Loop(Component):
        numbers = Inbox(Number, overflow="fail")
        out = Outbox(Number)

        def run(self) -> None:
            try:
                ask(self, wrong)
            except UsageError as error:
                told.add(str(error))
            while self.running:
                self.sleep(1e6)

    loop = system.add(Loop())
    system.connect(loop.out, loop.numbers)
    run = start(system).up()
    assert told.wait_for_count(1) == [f"loop: {said}={shown(wrong)} must be a number of seconds"]
    run.stop()

"""What goes wrong in a component is reported under its name, is put down to nobody else, and leaves nothing behind."""

from __future__ import annotations

import itertools
import threading
import weakref
from contextlib import suppress

import pytest

from minions import (
    Backoff,
    Component,
    Inbox,
    Outbox,
    Restart,
    Retry,
    StaleComponent,
    State,
    System,
    events,
)
from minions.flow.os_threads import OsThreads
from minions.testing import FakeClock
from tests.life.conftest import Gate, Log, Number, Start, dead_letters
from tests.life.counting import Kept

AT_ONCE = Backoff(initial_s=0.0)
ONCE_MORE = Restart(failures=1, backoff=AT_ONCE)


class Numbers(Component):
    count: int
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            self.out.send(Number(value))


# What is reported -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raised", [AttributeError, RecursionError, SystemExit])
@pytest.mark.parametrize("where", ["on_start", "run", "handle", "on_stop"])
def test_an_error_that_cannot_describe_itself_is_reported_like_any_other(
    system: System, start: Start, where: str, raised: type[BaseException]
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise raised

    class Failing(Component):
        def fail_in(self, here: str) -> None:
            if here == where:
                raise Mute

        def on_start(self) -> None:
            self.fail_in("on_start")

        def on_stop(self) -> None:
            self.fail_in("on_stop")

    class Source(Failing):
        def run(self) -> None:
            self.fail_in("run")

    class Handling(Failing):
        numbers = Inbox(Number, retry=Retry(attempts=1))

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.fail_in("handle")

    restart = Restart(failures=1, within_s=3600.0, backoff=AT_ONCE)
    if where == "handle":
        numbers, handling = system.add(Numbers(count=1)), system.add(Handling(), restart=restart, name="failing")
        system.connect(numbers.out, handling.numbers)
    else:
        system.add(Source(), restart=restart, name="failing")
    run = start(system, clock=FakeClock(), forever=False)

    run.ended()
    failed = run.all(events.ComponentFailed)
    assert {(event.component, event.where) for event in failed} == {("failing", where)}
    if issubclass(raised, Exception):
        assert failed[0].error == "Mute: <it cannot be described>"


def test_a_component_that_the_machine_had_no_thread_for_at_first_handles_everything_later(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, refusals = threading.Thread.start, itertools.count()

    def refuse_twice(thread: threading.Thread) -> None:
        if thread.name == "test/kept" and next(refusals) < 2:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_twice)
    numbers, kept = system.add(Numbers(count=3)), system.add(Kept(), restart=Restart(failures=5, backoff=AT_ONCE))
    system.connect(numbers.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert kept.values == [0, 1, 2]
    assert [failed.epoch for failed in run.all(events.ComponentFailed)] == [1, 2]


def test_whoever_meets_the_dead_life_of_another_component_has_failed_itself(system: System, start: Start) -> None:
    gate, dead = Gate(), Log()

    class Short(Component):
        out = Outbox(Number, optional=True)

        def on_start(self) -> None:
            dead.add(self)

        def run(self) -> None: ...

    class Meddling(Component):
        def run(self) -> None:
            gate.pass_through()
            dead.entries[0].out.send(Number(1))

    system.add(Short())
    system.add(Meddling(), restart=ONCE_MORE)
    run = start(system, forever=False)

    run.wait_for(events.ComponentFinished)
    gate.open()
    assert run.ended().problems == ("meddling failed in run: StaleComponent: short, life 1: this life is over",)
    assert [failed.component for failed in run.all(events.ComponentFailed)] == ["meddling"] * 2


@pytest.mark.parametrize("attempts", [1, 9])
def test_a_unit_of_several_messages_that_fails_is_put_down_to_none_of_them(
    system: System, start: Start, attempts: int
) -> None:
    fails = itertools.count()

    class Gathering(Component):
        numbers = Inbox(Number, retry=Retry(attempts=attempts, backoff=AT_ONCE))
        batches = State(list[list[int]])

        def run(self) -> None:
            while self.running:
                with self.unit():
                    batch = [self.numbers.receive().value for _ in range(5)]
                    if 2 in batch and next(fails) < 2:
                        raise ValueError("one of them, but which?")
                    self.batches.append(batch)

    numbers, gathering = system.add(Numbers(count=10)), system.add(Gathering(), restart=Restart(backoff=AT_ONCE))
    system.connect(numbers.out, gathering.numbers)
    run = start(system, forever=False)

    stopped = run.ended()
    assert (stopped.problems, stopped.left_messages) == ((), 0)
    assert gathering.batches == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    failed = run.all(events.ComponentFailed)
    assert [(event.where, event.message_id, event.attempt) for event in failed] == [("run", "", 0)] * 2
    assert {event.error for event in failed} == {"ValueError: one of them, but which?"}
    assert dead_letters(system.folder) == []


# What is left -----------------------------------------------------------------------------------------------------------


def test_a_unit_that_raises_leaves_what_was_changed_before_it(system: System, start: Start) -> None:
    seen = Log()

    class Changing(Component):
        value = State(int)
        values = State(list[int])

        def run(self) -> None:
            self.value = 5
            self.values.append(5)
            with suppress(ValueError), self.unit():
                self.value = 6
                self.values.append(6)
                raise ValueError("never was")
            seen.add((self.value, list(self.values)))

    changing = system.add(Changing())
    start(system, forever=False).ended()
    assert seen.entries == [(5, [5])]
    assert (changing.value, changing.values) == (5, [5])


@pytest.mark.parametrize("where", ["on_start", "run", "handle"])
def test_what_a_failed_life_held_is_gone_before_the_next_one_begins(system: System, start: Start, where: str) -> None:
    held: list[weakref.ref[Resource]] = []
    left, fails = Log(), itertools.count()

    class Resource:
        """Such as a port that only one can listen on."""

    class Holding(Component):
        def on_start(self) -> None:
            left.add([ref() for ref in held if ref() is not None])
            self.resource = Resource()
            held.append(weakref.ref(self.resource))
            self.fail_in("on_start")

        def fail_in(self, here: str) -> None:
            if here == where and next(fails) == 0:
                raise OSError("once")

    class Source(Holding):
        def run(self) -> None:
            self.fail_in("run")

    class Handling(Holding):
        numbers = Inbox(Number, retry=Retry(backoff=AT_ONCE))

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.fail_in("handle")

    if where == "handle":
        numbers, handling = system.add(Numbers(count=1)), system.add(Handling())
        system.connect(numbers.out, handling.numbers)
    else:
        system.add(Source(), restart=Restart(backoff=AT_ONCE))
    assert start(system, forever=False).ended().problems == ()
    assert left.entries == [[], []]


# Dead lives -----------------------------------------------------------------------------------------------------------


def test_a_dead_life_sends_nothing_although_its_threads_identifier_was_given_to_another(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OsThreads, "get_ident", staticmethod(lambda: 7))
    monkeypatch.setattr("minions.life.life.get_ident", lambda: 7)
    lives, refused = Log(), Log()

    class Passing(Component):
        numbers = Inbox(Number, retry=Retry(backoff=AT_ONCE))
        out = Outbox(Number)

        @numbers.handler
        def pass_on(self, number: Number) -> None:
            lives.add(self)
            self.out.send(number)
            if len(lives.entries) == 1:
                raise ValueError("the first life")
            dead = lives.entries[0]
            for act in (lambda: dead.out.send(Number(9)), dead.commit, lambda: dead.sleep(0.0)):
                with pytest.raises(StaleComponent):
                    act()
                refused.add(number.value)

    numbers, passing, kept = system.add(Numbers(count=2)), system.add(Passing()), system.add(Kept())
    system.connect(numbers.out, passing.numbers)
    system.connect(passing.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert refused.entries == [0, 0, 0, 1, 1, 1]
    assert kept.values == [0, 1]
    assert len(run.all(events.ComponentFailed)) == 1


def test_sleep_in_a_life_that_was_abandoned_ends_it(system: System, start: Start) -> None:
    clock, gate, ends = FakeClock(), Gate(), Log()

    class Deaf(Component):
        def run(self) -> None:
            gate.pass_through()
            for turn in range(3):
                try:
                    self.sleep(1.0)
                except BaseException as error:
                    ends.add((turn, type(error)))
                    raise
            ends.add("slept on")

    system.add(Deaf())
    run = start(system, clock=clock, stop_timeout_s=10.0)
    gate.wait_reached()
    run.runtime.stop("stopped")
    run.reach()
    clock.advance(seconds=10.0)
    assert run.ended().survivors == ("deaf",)
    gate.open()
    assert ends.wait_for_count(1) == [(0, StaleComponent)]


def test_a_loop_that_only_sleeps_is_ended_by_a_stop_and_does_not_spin_until_then(system: System, start: Start) -> None:
    clock, slept = FakeClock(), Log()

    class Sleeping(Component):
        def run(self) -> None:
            while True:
                self.sleep(1.0)
                slept.add("once")

    system.add(Sleeping())
    run = start(system, clock=clock, stop_timeout_s=10.0)
    clock.wait_for_waiters()
    run.runtime.stop("stopped")
    run.reach()
    assert slept.wait_for_count(1) == ["once"]
    assert clock.wait_for_waiters(2) == (1.0, 2.0), "it sleeps again, and the supervisor waits to ask again"
    assert slept.entries == ["once"]
    clock.advance(seconds=2.0)  # asked again
    assert run.ended().problems == ()

"""Calls between running components: on which thread they run, what is a unit, what comes back. Real threads, held by gates."""

from __future__ import annotations

import contextlib
import gc
import threading
import traceback
import weakref
from concurrent.futures import CancelledError
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System, events
from minions.errors import CannotEncode, InboxFull, UnitTooLarge, UsageError
from tests.life.calls.conftest import AT_ONCE, GATE, LOG, Bench
from tests.life.conftest import PATIENCE_S, Number, Start


def test_a_method_runs_on_its_own_components_thread_and_returns_what_it_returned(bench: Bench) -> None:
    bench.call_handler(lambda caller, number: (caller.database.where(), threading.get_ident()))
    bench.up()
    [(there, here)] = LOG.wait_for_count(1)
    assert there == bench.call().where()
    assert len({there, here, threading.get_ident()}) == 3
    assert bench.run.stop().problems == ()


def test_arguments_and_results_are_the_same_objects(bench: Bench) -> None:
    value = object()
    bench.up()
    assert bench.call().same(value) is value
    assert bench.call().same(value=value) is value


def test_a_call_is_a_unit_that_is_whole_before_it_returns(bench: Bench) -> None:
    bench.call_handler(lambda caller, number: (caller.database.insert(number), bench.database.rows), numbers=3)
    bench.up()
    assert LOG.wait_for_count(3) == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]
    assert dict(bench.database.table) == {"1": 1, "2": 2, "3": 3}


def test_the_callees_unit_stays_although_the_callers_fails(bench: Bench) -> None:
    def work(caller: Any, number: int) -> None:
        caller.database.insert(number)
        if len(bench.database.rows) == 1:
            raise ValueError("once")

    caller = bench.call_handler(work, restart=AT_ONCE)
    bench.up()
    LOG.wait_for_count(1)
    bench.run.wait_until_quiet()
    assert bench.database.rows == [1, 1]
    assert caller.seen == [1]


def test_what_a_call_raises_undoes_its_unit_and_reaches_the_caller_with_both_tracebacks(bench: Bench) -> None:
    error = ValueError("bad row")

    def work(caller: Any, number: int) -> Any:
        try:
            caller.database.fail(number, error)
        except ValueError as raised:
            return raised, "".join(traceback.format_exception(raised))

    bench.call_handler(work)
    run = bench.up().run
    [(raised, trace)] = LOG.wait_for_count(1)
    assert raised is error
    for frame in ("in work", "in _answer", "in fail"):
        assert frame in trace
    assert trace.index("in work") < trace.index("in fail")
    assert raised.__notes__ == ["raised in database.fail(), life 1, called by caller"]
    assert bench.database.rows == []
    assert dict(bench.database.table) == {}
    assert bench.call().insert(7) == 1
    assert run.all(events.ComponentFailed) == []


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1), CancelledError()]
)
def test_whatever_a_method_raises_is_the_callers(bench: Bench, error: BaseException) -> None:
    run = bench.up().run
    with pytest.raises(type(error)) as raised:
        bench.call().fail(1, error)
    assert raised.value is error
    assert bench.call().all() == []
    assert run.all(events.ComponentFailed) == []


class Unwilling(Exception):
    """Bears no note."""

    def add_note(self, note: str) -> None:
        raise TypeError("no notes")


@attrs.frozen
class Frozen(Exception):
    """Bears no attribute, and so no note."""

    code: int


@pytest.mark.parametrize("error", [Unwilling("no"), Frozen(4)])
def test_an_error_that_bears_no_note_arrives_without(bench: Bench, error: Exception) -> None:
    run = bench.up().run
    with pytest.raises(type(error)) as raised:
        bench.call().fail(1, error)
    assert raised.value is error
    assert run.all(events.ComponentFailed) == []


def test_an_error_that_is_raised_again_and_again_is_noted_once(bench: Bench) -> None:
    error = ValueError("the only one")
    bench.up()
    for _ in range(3):
        with pytest.raises(ValueError, match="the only one"):
            bench.call().fail(1, error)
    assert error.__notes__ == ["raised in database.fail(), life 1, called by test"]


def test_what_an_error_holds_is_freed_with_it(bench: Bench) -> None:
    class Held:
        pass

    def fail(_: Any) -> None:
        held = Held()
        kept.append(weakref.ref(held))
        raise ValueError("bad")

    kept: list[Any] = []
    bench.up()
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            bench.call().run_this(fail)
        assert bench.call().same(1) == 1  # the callee has gone on
        assert kept[0]() is None
        run_this: Any = bench.call().run_this
        with contextlib.suppress(ValueError):
            run_this.submit((fail,), {}).result(PATIENCE_S)
        assert bench.call().same(1) == 1
        assert kept[1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [100_001, 1])
def test_a_unit_that_cannot_be_made_whole_is_the_answer(system: System, start: Start, size: int) -> None:
    class Full(Component):
        numbers = Inbox(Number, capacity=1, overflow="fail")

        @numbers.handler
        def take(self, number: Number) -> None:
            GATE.pass_through()

    class Sender(Component):
        out = Outbox(Number)
        kept = State(list[float])

        def send(self, count: int) -> None:
            self.kept.append(count)
            for number in range(count):
                self.out.send(Number(number))

        def keep(self, value: Any) -> None:
            self.kept.append(value)

        def all(self) -> list[float]:
            return list(self.kept)

    full, sender = system.add(Full()), system.add(Sender())
    system.connect(sender.out, full.numbers)
    run = start(system).up()
    calls = system.call(sender)
    calls.send(1)
    GATE.wait_reached()
    with pytest.raises(InboxFull if size == 1 else UnitTooLarge):
        calls.send(size)
    with pytest.raises(CannotEncode):
        calls.keep("text")
    assert calls.all() == [1]
    assert sender.kept == [1]
    GATE.open()
    assert run.all(events.ComponentFailed) == []


class Receiver(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def take(self, number: Number) -> None:
        LOG.add(number.value)


def test_a_called_method_may_send_and_hand_over_what_follows_the_commit(system: System, start: Start) -> None:
    class Sender(Component):
        out = Outbox(Number)
        kept = State(int)

        def send(self, value: int) -> None:
            self.kept = value
            self.out.send(Number(value))
            self.after_commit(lambda: LOG.add(("committed", value, threading.get_ident())))

        def fail(self) -> None:
            self.after_commit(lambda: LOG.add("never"))
            raise ValueError("bad")

        def id(self) -> str:
            return self.message_id

        def where(self) -> int:
            return threading.get_ident()

    sender, receiver = system.add(Sender()), system.add(Receiver())
    system.connect(sender.out, receiver.numbers)
    run = start(system).up()
    calls = system.call(sender)
    calls.send(5)
    with pytest.raises(ValueError, match="bad"):
        calls.fail()
    with pytest.raises(UsageError, match="there is no message in work"):
        calls.id()
    entries = LOG.wait_for_count(2)
    run.wait_until_quiet()
    assert set(entries) == {5, ("committed", 5, calls.where())}
    assert len(LOG.entries) == 2


def test_of_a_component_that_keeps_nothing_calls_are_units_too(system: System, start: Start) -> None:
    class Sender(Component):
        out = Outbox(Number)

        def send(self, value: int) -> None:
            self.out.send(Number(value))
            if value < 0:
                raise ValueError("negative")

        def later(self) -> None:
            self.after_commit(lambda: LOG.add("later"))

    sender, receiver = system.add(Sender()), system.add(Receiver())
    system.connect(sender.out, receiver.numbers)
    run = start(system).up()
    calls = system.call(sender)
    with pytest.raises(ValueError, match="negative"):
        calls.send(-1)
    calls.send(1)
    LOG.wait_for_count(1)
    calls.later()
    assert LOG.wait_for_count(2) == [1, "later"]
    run.wait_until_quiet()
    assert len(LOG.entries) == 2

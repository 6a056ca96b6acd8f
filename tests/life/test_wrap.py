"""What `wrap` has made lives like any other component: it is stopped, woken, restarted, replaced, and it sends each thing once.

What blocks blocks really: in sockets, queues and queries. Time moves only where a test moves it.
"""

from __future__ import annotations

import queue
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest

from minions import (
    Backoff,
    CallFailed,
    Component,
    Inbox,
    Outbox,
    Restart,
    Retry,
    System,
    UsageError,
    Uses,
    events,
    wrap,
)
from minions.life.traces import stack_of
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start
from tests.life.stuck import needs_proc
from tests.life.wrapping import (
    ASK_AGAIN_S,
    AT_ONCE,
    OURS,
    STOP_TIMEOUT_S,
    Reading,
    kept,
    stop_begins,
    stopped_in_order,
    wait_for_thread,
)

# ---------------------------------------------------------------------- iterables


def test_each_item_is_sent_and_then_it_has_finished(system: System, start: Start) -> None:
    source = system.add(wrap.iterable(lambda: map(Number, range(5)), Number), name="numbers")
    log = kept(system, source, Number)
    run = start(system, forever=False)
    stopped_in_order(run)
    assert log.entries == [Number(value) for value in range(5)]


def test_an_iterable_that_fails_is_made_afresh_and_the_trace_is_that_of_its_user(system: System, start: Start) -> None:
    lives: list[int] = []

    def numbers() -> Iterator[Number]:
        lives.append(1)
        yield Number(len(lives))
        if len(lives) < 3:
            raise OSError("unplugged")

    source = system.add(wrap.iterable(numbers, Number), restart=AT_ONCE)
    log = kept(system, source, Number)
    run = start(system, forever=False)
    run.ended()
    assert log.entries == [Number(1), Number(2), Number(3)]
    failed = run.all(events.ComponentFailed)
    assert [(failure.where, failure.error) for failure in failed] == [("run", "OSError: unplugged")] * 2
    assert "in numbers\n" in failed[0].traceback
    assert OURS not in failed[0].traceback


def test_what_cannot_be_iterated_over_is_said_with_the_factory(system: System, start: Start) -> None:
    nothing: Any = lambda: 5  # noqa: E731
    source = system.add(wrap.iterable(nothing, Number), name="numbers")
    kept(system, source, Number)
    [failed, *_] = start(system, clock=FakeClock()).wait_for(events.ComponentFailed)
    assert failed.error == "wrap.iterable(<lambda>): it made 5, which cannot be iterated over"


def test_it_goes_on_behind_the_last_item_that_was_sent(system: System, start: Start) -> None:
    asked: list[int] = []

    def from_position(position: int) -> Iterator[Number]:
        asked.append(position)
        for value in range(position, 6):
            yield Number(value)
            if len(asked) < 3:
                raise OSError("unplugged")

    source = system.add(
        wrap.iterable(lambda: from_position(0), Number, resume=from_position), name="n", restart=AT_ONCE
    )
    log = kept(system, source, Number)
    start(system, forever=False).ended()
    assert asked == [0, 1, 2]
    assert log.entries == [Number(value) for value in range(6)]
    assert source.position == 6


def test_a_position_of_its_own_outlives_the_run(new_system: Callable[[], System], start: Start) -> None:
    """The next start goes on there; one that had finished finds nothing more."""
    names = ("ann", "bob", "cid")
    asked: list[str] = []
    log = Log()

    def behind(name: str) -> Iterator[str]:
        asked.append(name)
        return (other for other in names if other > name)

    for kept_before in (None, "cid", "cid"):
        system = new_system()
        source = system.add(
            wrap.iterable(lambda: behind(""), str, resume=behind, position=lambda name: name, position_type=str),
            name="names",
        )
        system.connect(source.out, system.add(wrap.function(log.add, str), name="sink").inbox)
        assert source.position == kept_before
        start(system, forever=False).ended()
        assert source.position == "cid"
    assert asked == ["", "cid", "cid"]
    assert log.entries == ["ann", "bob", "cid"]


def test_an_item_without_a_position_is_not_sent(system: System, start: Start) -> None:
    def position(number: Number) -> int:
        if number.value == 2:
            raise ValueError("no position")
        return number.value

    source = system.add(
        wrap.iterable(
            lambda: map(Number, range(4)), Number, resume=lambda at: map(Number, range(at + 1, 4)), position=position
        ),
        name="numbers",
        restart=Restart(failures=0),
    )
    log = kept(system, source, Number)
    run = start(system)
    run.ended()
    assert log.entries == [Number(0), Number(1)]
    assert source.position == 1


@attrs.define
class Closing:
    """An iterable that says who closes it, and when."""

    log: Log
    items: Callable[[], Iterator[Number]]

    def __iter__(self) -> Iterator[Number]:
        try:
            yield from self.items()
        finally:
            self.log.add(("iterator", threading.current_thread().name))

    def close(self) -> None:
        self.log.add(("iterable", threading.current_thread().name))


@pytest.mark.parametrize("how", ["finished", "failed", "stopped"])
def test_what_was_made_is_closed_on_its_own_thread(system: System, start: Start, how: str) -> None:
    closed, gate = Log(), Gate()

    def items() -> Iterator[Number]:
        yield Number(1)
        if how == "failed":
            raise OSError("unplugged")
        if how == "stopped":
            gate.pass_through()
            yield Number(2)
            yield Number(3)

    source = system.add(wrap.iterable(lambda: Closing(closed, items), Number), name="n", restart=Restart(failures=0))
    kept(system, source, Number)
    run = start(system, forever=how == "stopped")
    if how == "stopped":
        gate.wait_reached()
        stop_begins(run)
        gate.open()
    run.ended()
    assert closed.entries == [("iterator", "test/n"), ("iterable", "test/n")]


def test_an_item_that_comes_after_the_stop_is_sent_still_and_none_after_it(system: System, start: Start) -> None:
    gate = Gate()

    def items() -> Iterator[Number]:
        gate.pass_through()
        yield Number(1)
        yield Number(2)

    source = system.add(wrap.iterable(items, Number))
    log = kept(system, source, Number)
    run = start(system)
    gate.wait_reached()
    stop_begins(run)
    gate.open()
    stopped_in_order(run)
    assert log.entries == [Number(1)]


def test_it_waits_for_room(system: System, start: Start) -> None:
    made, gate = Log(), Gate()

    def items() -> Iterator[Number]:
        for value in range(6):
            made.add(value)
            yield Number(value)

    source = system.add(wrap.iterable(items, Number), name="numbers")
    handled: list[Number] = []

    def handle(number: Number) -> None:
        gate.pass_through()
        handled.append(number)

    system.connect(source.out, system.add(wrap.function(handle, Number, capacity=2), name="sink").inbox)
    run = start(system, forever=False, watched=True)
    gate.wait_reached()
    wait_for_thread(run, "numbers", "room in sink.inbox")
    assert made.entries == [0, 1, 2]
    gate.open()
    stopped_in_order(run)
    assert handled == [Number(value) for value in range(6)]


@needs_proc
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("resumable", [False, True])
def test_one_that_hangs_in_a_socket_is_woken_and_half_a_line_is_not_sent(
    system: System, start: Start, resumable: bool, durable: bool
) -> None:
    clock = FakeClock()
    here, there = socket.socketpair()
    with here, there, here.makefile("r", encoding="utf-8") as file:
        resume: Any = {"resume": lambda position: file} if resumable else {}
        source: Any = system.add(wrap.iterable(lambda: file, str, blocking=lambda made: here, **resume), name="lines")
        log = kept(system, source, str, durable=durable)
        run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S).up()
        there.sendall(b"one\ntw")
        log.wait_for_count(1)
        stop_begins(run)
        clock.advance(ASK_AGAIN_S)
        stopped_in_order(run)
    assert log.entries == ["one\n"]
    if resumable:
        assert source.position == 1


class Mailbag:
    """A client of a broker: it waits for messages, and may be told from another thread to give up."""

    def __init__(self) -> None:
        self._messages: queue.Queue[Number | None] = queue.Queue()
        self.woken_by = ""
        self._messages.put(Number(1))

    def __iter__(self) -> Iterator[Number]:
        while (message := self._messages.get()) is not None:
            yield message
        raise ConnectionAbortedError("woken")

    def wake(self) -> None:
        self.woken_by = threading.current_thread().name
        self._messages.put(None)


def test_one_that_hangs_is_woken_by_its_own_means_and_is_not_to_blame(system: System, start: Start) -> None:
    clock, made = FakeClock(), list[Mailbag]()

    def connect() -> Mailbag:
        made.append(Mailbag())
        return made[-1]

    source = system.add(wrap.iterable(connect, Number, on_interrupt=Mailbag.wake), name="broker")
    log = kept(system, source, Number)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S).up()
    log.wait_for_count(1)
    restarted = system.restart(source)
    run.reach()
    clock.advance(ASK_AGAIN_S)
    restarted.result(PATIENCE_S)
    log.wait_for_count(2)
    assert made[0].woken_by == "test/interrupt broker"
    stop_begins(run)
    clock.advance(ASK_AGAIN_S)
    stopped_in_order(run)
    assert [told.error for told in run.all(events.ComponentInterrupted)] == ["ConnectionAbortedError: woken"] * 2
    assert len(made) == 2


def test_one_that_nothing_wakes_is_abandoned_and_sends_nothing_more(system: System, start: Start) -> None:
    clock, gate, closed = FakeClock(), Gate(), Log()

    def items() -> Iterator[Number]:
        try:
            gate.pass_through()
            yield Number(1)
        finally:
            closed.add("closed")

    source = system.add(wrap.iterable(items, Number), name="numbers")
    log = kept(system, source, Number)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    gate.wait_reached()
    stop_begins(run)
    clock.advance(0.6 * STOP_TIMEOUT_S)
    run.wait_for(events.ComponentStopped)
    run.reach()
    clock.advance(0.4 * STOP_TIMEOUT_S)
    assert run.ended().problems == ("numbers did not stop in time, its thread was abandoned",)
    gate.open()
    closed.wait_for_count(1)
    assert log.entries == []


# ---------------------------------------------------------------------- functions


def feed(system: System, inbox: Inbox[Number], count: int) -> None:
    source = system.add(wrap.iterable(lambda: map(Number, range(count)), Number), name="source")
    system.connect(source.out, inbox)


def test_what_a_function_returns_is_sent_and_none_is_not(system: System, start: Start) -> None:
    def halve(number: Number) -> str | None:
        return f"half of {number.value}" if number.value % 2 == 0 else None

    worker = system.add(wrap.function(halve, Number, str))
    feed(system, worker.inbox, 4)
    log = kept(system, worker, str)
    stopped_in_order(start(system, forever=False))
    assert log.entries == ["half of 0", "half of 2"]


@pytest.mark.parametrize("kind", [list, iter])
def test_many_items_are_sent_each(system: System, start: Start, kind: Callable[[Iterable[int]], Iterable[int]]) -> None:
    worker = system.add(
        wrap.function(lambda number: kind(range(number.value)) if number.value else None, Number, int, many=True)
    )
    feed(system, worker.inbox, 4)
    log = kept(system, worker, int)
    stopped_in_order(start(system, forever=False))
    assert log.entries == [0, 0, 1, 0, 1, 2]


def test_of_many_items_all_are_sent_or_none(system: System, start: Start) -> None:
    tried: list[int] = []

    def spell(number: Number) -> Iterator[int]:
        tried.append(number.value)
        yield 10 * number.value
        if tried == [0, 1]:
            raise OSError("unplugged")
        yield 10 * number.value + 1

    worker = system.add(
        wrap.function(spell, Number, int, many=True, retry=Retry(backoff=Backoff(initial_s=0.0))), name="spell"
    )
    feed(system, worker.inbox, 2)
    log = kept(system, worker, int)
    start(system, forever=False).ended()
    assert tried == [0, 1, 1]
    assert log.entries == [0, 1, 10, 11]


def test_a_result_of_another_class_is_refused_with_the_remedy(system: System, start: Start) -> None:
    returns: Any = lambda number: "x" if number.value else [Reading(1.0)]  # noqa: E731
    worker = system.add(wrap.function(returns, Number, Reading, retry=Retry(attempts=1)), name="measure")
    feed(system, worker.inbox, 2)
    kept(system, worker, Reading)
    run = start(system, forever=False)
    run.ended()
    first, second = [failed.error for failed in run.all(events.ComponentFailed)]
    assert first == (
        "measure.out sends Reading, not [Reading(celsius=1.0)] (list); to send each item of what <lambda> returns, "
        "say wrap.function(..., many=True)"
    )
    assert second == "measure.out sends Reading, not 'x' (str)"


def test_a_failure_names_the_function_and_its_trace_begins_there(system: System, start: Start) -> None:
    def divide(number: Number) -> int:
        return 1 // number.value

    worker = system.add(wrap.function(divide, Number, int, retry=Retry(attempts=1)))
    feed(system, worker.inbox, 2)
    log = kept(system, worker, int)
    run = start(system, forever=False)
    run.ended()
    [failed] = run.all(events.ComponentFailed)
    assert (failed.component, failed.where, failed.message_id[:13]) == ("divide", "divide", "divide.inbox-")
    assert failed.traceback.splitlines()[1].endswith("in divide")
    assert OURS not in failed.traceback
    assert log.entries == [1]
    [letter] = system.dead_letters(worker)
    assert letter.error.startswith("ZeroDivisionError")


def test_what_is_seen_of_its_thread_begins_with_the_function(system: System, start: Start) -> None:
    gate = Gate()

    def wait(number: Number) -> None:
        gate.pass_through()

    sink = system.add(wrap.function(wait, Number))
    feed(system, sink.inbox, 1)
    run = start(system, forever=False)
    gate.wait_reached()
    life = run.runtime._threads["wait"].life
    assert life.doing == "handling wait"
    assert stack_of(life.ident).splitlines()[0].endswith("in wait")
    gate.open()
    run.ended()


def test_replicas_call_it_at_the_same_time(system: System, start: Start) -> None:
    together = threading.Barrier(4, timeout=PATIENCE_S)

    def meet(number: Number) -> int:
        together.wait()
        return number.value

    worker = system.add(wrap.function(meet, Number, int), name="pool", replicas=4)
    feed(system, worker.inbox, 8)
    log = kept(system, worker, int)
    stopped_in_order(start(system, forever=False))
    assert sorted(log.entries) == list(range(8))


def test_a_function_that_hangs_is_woken_and_its_message_is_handled_again(
    new_system: Callable[[], System], start: Start
) -> None:
    clock, begun, woken, log = FakeClock(), Log(), threading.Event(), Log()

    def wake() -> None:
        woken.set()

    def ask(number: Number) -> int:
        begun.add(number.value)
        if not woken.is_set():
            woken.wait(PATIENCE_S)
            raise ConnectionResetError("woken")
        return number.value

    def make() -> tuple[System, Any]:
        system = new_system()
        worker = system.add(wrap.function(ask, Number, int, on_interrupt=wake))
        feed(system, worker.inbox, 0 if woken.is_set() else 1)
        system.connect(worker.out, system.add(wrap.function(log.add, int), name="sink").inbox)
        return system, worker

    system, _ = make()
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    begun.wait_for_count(1)
    stop_begins(run)
    clock.advance(0.6 * STOP_TIMEOUT_S)
    run.ended()
    assert run.all(events.ComponentFailed) == []
    system, _ = make()
    start(system, forever=False).ended()
    assert (begun.entries, log.entries) == ([0, 0], [0])


# ---------------------------------------------------------------------- objects


class Camera:
    """A library that must stay on one thread, and has names that the runtime has too."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.frames = 0
        self.shutter = self.snap
        self._note("made")

    def _note(self, what: str) -> None:
        self._log.add((what, threading.current_thread().name))

    def snap(self, count: int = 1) -> int:
        self._note("snap")
        self.frames += count
        return self.frames

    def jam(self) -> None:
        raise OSError("jammed")

    def commit(self) -> str:
        return "committed"

    def run(self) -> str:
        return "ran"

    @property
    def ready(self) -> bool:
        return True

    @staticmethod
    def models() -> list[str]:
        return ["a", "b"]

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    def stream(self) -> Iterator[int]:
        yield 1

    def close(self) -> None:
        self._note("closed")


@pytest.fixture
def log() -> Log:
    return Log()


def test_an_object_is_made_called_and_closed_on_its_own_thread(system: System, start: Start, log: Log) -> None:
    camera = system.add(wrap.object(lambda: Camera(log), Camera, close=Camera.close), name="camera")
    run = start(system).up()
    assert system.call(camera).snap(count=2) == 2
    assert system.call(camera).snap() == 3
    run.stop()
    assert log.entries == [(what, "test/camera") for what in ("made", "snap", "snap", "closed")]


def test_a_component_calls_it_by_its_class(system: System, start: Start, log: Log) -> None:
    class Photographer(Component):
        camera = Uses(Camera)
        numbers = Inbox(Number)
        taken = Outbox(int)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.taken.send(self.camera.snap(number.value) + self.submit(self.camera.snap, 0).result(PATIENCE_S))

    photographer = system.add(Photographer())
    system.add(wrap.object(lambda: Camera(log), Camera), name="camera")
    feed(system, photographer.numbers, 3)
    taken = Log()
    system.connect(photographer.taken, system.add(wrap.function(taken.add, int), name="sink").inbox)
    stopped_in_order(start(system, forever=False))
    assert taken.entries == [0, 2, 6]
    assert {thread for _, thread in log.entries} == {"test/camera"}


def test_what_a_method_raises_goes_to_the_caller_and_the_object_stays(system: System, start: Start, log: Log) -> None:
    camera = system.add(wrap.object(lambda: Camera(log), Camera), name="camera")
    run = start(system).up()
    system.call(camera).snap()
    with pytest.raises(OSError, match="jammed") as caught:
        system.call(camera).jam()
    assert caught.value.__notes__ == ["raised in camera.jam(), life 1, called by test"]
    assert system.call(camera).snap() == 2
    assert run.all(events.ComponentFailed) == []


@pytest.mark.parametrize("kind", [Camera, None])
def test_all_its_public_methods_can_be_called_also_those_that_are_named_as_ours(
    system: System, start: Start, log: Log, kind: type[Camera] | None
) -> None:
    camera = system.add(wrap.object(lambda: Camera(log), kind), name="camera")
    start(system).up()
    view = system.call(camera)
    assert (view.commit(), view.run(), view.models(), view.name(), view.shutter()) == (
        "committed",
        "ran",
        ["a", "b"],
        "Camera",
        1,
    )


def test_the_methods_of_a_class_that_is_written_in_c_can_be_called(system: System, start: Start) -> None:
    shelf = system.add(wrap.object(dict[str, int], dict), name="shelf")
    start(system).up()
    system.call(shelf).update(a=1)
    assert system.call(shelf).get("a") == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_note", "it is private"),
        ("ready", "only methods can be called, not attributes: wrap an object that has a method which returns it"),
        ("stream", "it is a generator (or a context manager), which would run on the caller's thread: return a list"),
    ],
)
def test_what_cannot_be_called_is_said_before_the_call(
    system: System, start: Start, log: Log, name: str, reason: str
) -> None:
    camera = system.add(wrap.object(lambda: Camera(log), Camera), name="camera")
    start(system).up()
    with pytest.raises(UsageError) as caught:
        getattr(system.call(camera), name)
    assert str(caught.value) == f"test: camera.{name} cannot be called from another component: {reason}"


def test_a_method_that_is_not_there_is_the_objects_own_error(system: System, start: Start, log: Log) -> None:
    camera: Any = system.add(wrap.object(lambda: Camera(log)), name="camera")
    start(system).up()
    with pytest.raises(AttributeError, match="'Camera' object has no attribute 'snpa'"):
        system.call(camera).snpa()


def test_a_restart_closes_the_object_and_makes_another(system: System, start: Start, log: Log) -> None:
    camera = system.add(wrap.object(lambda: Camera(log), Camera, close=Camera.close), name="camera")
    start(system).up()
    system.call(camera).snap(5)
    system.restart(camera).result(PATIENCE_S)
    assert system.call(camera).snap() == 1
    assert [what for what, _ in log.entries] == ["made", "snap", "closed", "made", "snap"]


def test_an_object_that_cannot_be_made_is_tried_again(system: System, start: Start, log: Log) -> None:
    tried: list[int] = []

    def connect() -> Camera:
        tried.append(1)
        if len(tried) < 3:
            raise ConnectionRefusedError("not yet")
        return Camera(log)

    camera = system.add(wrap.object(connect), restart=AT_ONCE)
    run = start(system).up()
    assert system.call(camera).snap() == 1
    failed = run.wait_for(events.ComponentFailed, 2)
    assert [(failure.component, failure.where) for failure in failed] == [("connect", "on_start")] * 2
    assert "in connect\n" in failed[0].traceback
    assert OURS not in failed[0].traceback


def test_each_replica_has_an_object_of_its_own(system: System, start: Start, log: Log) -> None:
    together = threading.Barrier(2, timeout=PATIENCE_S)

    class Client:
        def meet(self) -> int:
            together.wait()
            return id(self)

    clients = system.add(wrap.object(Client), replicas=2)
    start(system).up()
    met: list[int] = []
    callers = [threading.Thread(target=lambda: met.append(system.call(clients).meet())) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE_S)
    assert len(set(met)) == 2


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_call_that_hangs_is_broken_off_and_its_caller_told(system: System, start: Start) -> None:
    clock, at_it = FakeClock(), threading.Event()

    class Store:
        def __init__(self) -> None:
            self._connection = sqlite3.connect(":memory:")
            self._connection.set_progress_handler(at_it.set, 10_000)

        def count(self) -> Any:
            return self._connection.execute(ENDLESS).fetchone()

        def interrupt(self) -> None:
            self._connection.interrupt()

        def close(self) -> None:
            self._connection.close()

    store = system.add(wrap.object(Store, on_interrupt=Store.interrupt, close=Store.close))
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S).up()
    raised: list[BaseException] = []

    def call() -> None:
        try:
            system.call(store).count()
        except (sqlite3.OperationalError, CallFailed) as error:
            raised.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    assert at_it.wait(PATIENCE_S)
    restarted = system.restart(store)
    run.reach()
    clock.advance(ASK_AGAIN_S)
    restarted.result(PATIENCE_S)
    caller.join(PATIENCE_S)
    assert [str(error) for error in raised] == ["interrupted"]
    run.stop()


def test_while_it_is_being_made_there_is_nothing_to_interrupt(system: System, start: Start, log: Log) -> None:
    gate = Gate()

    def connect() -> Camera:
        gate.pass_through()
        return Camera(log)

    def never(camera: Camera) -> None:
        raise AssertionError("there is no camera")

    system.add(wrap.object(connect, on_interrupt=never, close=Camera.close))
    run = start(system)
    gate.wait_reached()
    run.runtime._threads["connect"].life.instance.on_interrupt()  # as the ladder does
    gate.open()
    run.up().runtime.stop("stopped")
    stopped_in_order(run)
    assert [what for what, _ in log.entries] == ["made", "closed"]

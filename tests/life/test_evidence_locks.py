"""What is seen of a thread that waits for a lock, or for what is made of locks: its name, its holder."""

from __future__ import annotations

import concurrent.futures
import queue
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc


GLOBAL_LOCK = threading.Lock()


class Held:
    """Things to wait for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reentrant = threading.RLock()
        self.queue: queue.Queue[int] = queue.Queue(3)
        self.simple: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.event = threading.Event()
        self.condition = threading.Condition()
        self.locks = {"a": threading.Lock(), "b": self.lock}
        self.pair = (1, self.lock)


@attrs.define
class Slotted:
    guard: Any


def held_by(lock: Any, name: str) -> tuple[threading.Thread, threading.Event]:
    """A thread that holds a lock until the event is set."""
    has, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            let_go.wait()

    thread = threading.Thread(target=hold, name=name)
    thread.start()
    has.wait()
    return thread, let_go


def test_a_lock_is_named_as_the_code_writes_it() -> None:
    self = Held()
    self.lock.acquire()

    def body() -> None:
        with self.lock:
            pass

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert (seen.resource, seen.holder) == ("lock self.lock (threading.Lock)", "")
    self.lock.release()
    stuck.result()


def test_the_holder_of_a_reentrant_lock_is_named() -> None:
    self = Held()
    holder, let_go = held_by(self.reentrant, "greenhouse/database")

    def body() -> None:
        with self.reentrant:
            pass

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert (seen.resource, seen.holder) == ("lock self.reentrant (threading.RLock)", "greenhouse/database")
    assert (
        "waits for lock self.reentrant (threading.RLock), held by thread greenhouse/database (in futex)"
        in seen.sentence
    )
    let_go.set()
    holder.join()
    stuck.result()


def named(text: str) -> Callable[[Callable[[Held, Any], None]], Any]:
    return lambda body: pytest.param(body, text, id=body.__name__)


@named("lock slotted.guard (threading.Lock)")
def in_a_slot(held: Held, slotted: Any) -> None:
    with slotted.guard:
        pass


@named("lock GLOBAL_LOCK (threading.Lock)")
def global_(held: Held, _: Any) -> None:
    with GLOBAL_LOCK:
        pass


@named("lock held.locks[...] (threading.Lock)")
def in_a_dictionary(held: Held, _: Any) -> None:
    with held.locks["b"]:
        pass


@named("lock held.pair[1] (threading.Lock)")
def in_a_tuple(held: Held, _: Any) -> None:
    with held.pair[1]:
        pass


@pytest.mark.parametrize(("body", "text"), [in_a_slot, global_, in_a_dictionary, in_a_tuple])
def test_a_lock_is_found_where_it_is_kept(body: Callable[[Held, Any], None], text: str) -> None:
    held = Held()
    lock = GLOBAL_LOCK if body is global_.values[0] else held.lock
    slotted = Slotted(held.lock)

    with lock:
        stuck = Stuck(lambda: body(held, slotted))
        assert stuck.see("futex").resource == text
    stuck.result()


WAITS: list[tuple[str, str, Callable[[Held], Any], Callable[[Held], Any]]] = [
    (
        "get",
        "held.queue (queue.Queue, 0 items of at most 3)",
        lambda held: held.queue.get(),
        lambda held: held.queue.put(1),
    ),
    ("event", "held.event (threading.Event, not set)", lambda held: held.event.wait(), lambda held: held.event.set()),
    (
        "event, timed",
        "held.event (threading.Event, not set)",
        lambda held: held.event.wait(99),
        lambda held: held.event.set(),
    ),
]


@pytest.mark.parametrize(("text", "wait", "end"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
def test_what_is_waited_for_is_named(text: str, wait: Callable[[Held], Any], end: Callable[[Held], Any]) -> None:
    held = Held()
    stuck = Stuck(lambda: wait(held))

    assert stuck.see("futex").resource == text
    end(held)
    stuck.result()


def test_a_full_queue_a_condition_a_future_and_a_thread_are_named() -> None:
    full: queue.Queue[int] = queue.Queue(1)
    full.put(1)
    stuck = Stuck(lambda: full.put(2))
    assert stuck.see("futex").resource == "full (queue.Queue, 1 items of at most 1)"
    full.get()
    stuck.result()

    condition = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait()

    stuck = Stuck(wait)
    assert stuck.see("futex").resource == "condition (threading.Condition)"
    thread = stuck._thread
    joining = Stuck(lambda: thread.join())
    assert joining.see("futex").resource == "the end of thread stuck"
    with condition:
        condition.notify()
    stuck.result()
    joining.result()

    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    stuck = Stuck(lambda: future.result())
    assert stuck.see("futex").resource == "future (concurrent.futures._base.Future)"
    future.set_result(1)
    stuck.result()


def test_no_code_of_users_is_run_by_looking() -> None:
    class Counted:
        """What a queue of users keeps its items in."""

        def __init__(self) -> None:
            self.items: list[int] = []

        def __len__(self) -> int:
            ran.append(threading.current_thread())
            return len(self.items)

        def __format__(self, specification: str) -> str:
            ran.append(threading.current_thread())
            return "counted"

    class Own(queue.Queue[int]):
        def _init(self, maxsize: int) -> None:
            self.queue = Counted()
            self.maxsize = Counted()  # type: ignore[assignment]

        def _get(self) -> int:
            items: Any = self.queue
            number: int = items.items.pop()
            return number

        def _put(self, item: int) -> None:
            items: Any = self.queue
            items.items.append(item)

    class Hidden:
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            ran.append(threading.current_thread())
            return {}

    ran: list[threading.Thread] = []
    own, hidden = Own(), Hidden()

    def wait_with_both() -> int:
        assert hidden is not None
        return own.get()

    stuck = Stuck(wait_with_both)
    resource = stuck.see("futex").resource
    with own.mutex:  # as `put` would do it, which asks how many there are
        own._put(7)
        own.not_empty.notify()
    assert stuck.result() == 7
    assert "own (" in resource
    assert threading.current_thread() not in ran


def test_a_thread_that_waits_for_the_mutex_of_a_queue_is_not_said_to_wait_for_items() -> None:
    items: queue.Queue[int] = queue.Queue()
    with items.mutex:
        stuck = Stuck(lambda: items.get_nowait())
        assert stuck.see("futex").resource == "lock _lock of threading.Condition (threading.Lock)"
    stuck.result()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="from 3.13 on, a SimpleQueue has no lock of its own")
def test_a_simple_queue_is_named() -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    stuck = Stuck(lambda: items.get())

    assert stuck.see("futex").resource == "items (queue.SimpleQueue)"
    items.put(1)
    stuck.result()


def test_of_two_locks_the_one_that_is_waited_for_is_named() -> None:
    first, second = threading.Lock(), threading.Lock()

    def body() -> None:
        with first, second:
            pass

    with second:
        stuck = Stuck(body)
        assert stuck.see("futex").resource == "lock second (threading.Lock)"
    stuck.result()


def test_a_thread_that_was_made_for_one_wait_is_not_said_to_wait_for_itself() -> None:
    event = threading.Event()
    stuck = Stuck(event.wait, bare=True)
    assert stuck.see("futex").resource == "a threading.Event, not set"
    event.set()
    stuck.result()


def test_no_code_of_users_is_run_to_find_a_lock() -> None:
    ran = []

    class Nosy:
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def __repr__(self) -> str:
            ran.append("repr")
            return "nosy"

        @property
        def guard(self) -> threading.Lock:
            ran.append("property")
            return GLOBAL_LOCK

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            ran.append("class")
            return Nosy

    nosy = Nosy()
    slotted = Slotted(threading.Lock())

    def body() -> None:
        _ = nosy
        with slotted.guard:
            pass

    with slotted.guard:
        stuck = Stuck(body)
        assert stuck.see("futex").resource == "lock slotted.guard (threading.Lock)"
    stuck.result()
    assert ran == []


def test_nothing_of_the_thread_is_kept_alive() -> None:
    event = threading.Event()

    def body() -> Any:
        held = Held()
        seen = weakref.ref(held)
        event.wait()
        return seen

    stuck = Stuck(body)
    stuck.see("futex")
    event.set()
    assert stuck.result()() is None

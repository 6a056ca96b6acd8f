"""The turnstile: nobody is given a lock in its sleep, and no wake-up is lost."""

from __future__ import annotations

import ast
import inspect
import os
import random
import threading
from operator import methodcaller
from types import ModuleType

import pytest

from minions.clock import SystemClock
from minions.errors import InboxFull, StaleComponent
from minions.fence import Fence, Mode
from minions.flow import call_broker, journal, turnstile
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.turnstile import Turnstile
from minions.flow.unit import Unit

PATIENCE_S = 10.0
pytestmark = pytest.mark.timeout(60)


class Place(Parker):
    """A parker that says when its thread is about to sleep, and keeps one that was woken from going on until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Semaphore(0)
        self.woken = threading.Semaphore(0)
        self.may_go_on = threading.Semaphore(0)

    def park(self, timeout_s: float | None) -> None:
        self.asleep.release()
        super().park(timeout_s)
        assert self.may_go_on.acquire(timeout=PATIENCE_S)

    def unpark(self) -> None:
        super().unpark()
        self.woken.release()

    def was_woken(self) -> bool:
        return self.woken.acquire(blocking=False)


class Crossroads:
    """One lock with its turnstile, and threads that come to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lock = threading.Lock()
        self.turnstile = Turnstile(self.lock)
        self.passed: list[str] = []
        self.threads: list[threading.Thread] = []
        self._places: list[Place] = []
        self._made = threading.Semaphore(0)
        monkeypatch.setattr(turnstile, "Parker", self._make)

    def _make(self) -> Place:
        place = Place()
        self._places.append(place)
        self._made.release()
        return place

    def sleeper(self, name: str) -> Place:
        """The place of a further thread, which finds the lock taken and sleeps."""

        def come() -> None:
            with self.turnstile, self.lock:
                self.passed.append(name)

        thread = threading.Thread(target=come, daemon=True)
        self.threads.append(thread)
        thread.start()
        assert self._made.acquire(timeout=PATIENCE_S)
        place = self._places[-1]
        assert place.asleep.acquire(timeout=PATIENCE_S)
        return place

    def pass_by(self) -> None:
        """Takes the lock and releases it, which wakes one that sleeps."""
        with self.turnstile, self.lock:
            pass

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"asleep for ever; passed: {self.passed}"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Crossroads:
    return Crossroads(monkeypatch)


def test_who_was_woken_does_not_have_the_lock_before_it_runs(here: Crossroads) -> None:
    with here.turnstile, here.lock:
        place = here.sleeper("a")
    assert place.was_woken()
    assert here.lock.acquire(blocking=False), "it was given the lock, and nobody knows when it will run"
    here.lock.release()
    place.may_go_on.release()
    here.join()
    assert here.passed == ["a"]


def test_each_release_wakes_one_the_first_to_come_first(here: Crossroads) -> None:
    with here.turnstile, here.lock:
        first, second = here.sleeper("first"), here.sleeper("second")
        assert not first.was_woken()
    assert first.was_woken()
    assert not second.was_woken()
    here.pass_by()
    assert second.was_woken()
    for place in (second, first):
        place.may_go_on.release()
    here.join()
    assert not here.turnstile.sleepers


def test_who_was_woken_wakes_the_next(here: Crossroads) -> None:
    with here.turnstile, here.lock:
        first, second = here.sleeper("first"), here.sleeper("second")
    for place in (first, second):
        place.may_go_on.release()
    here.join()
    assert here.passed == ["first", "second"]


def test_who_finds_the_lock_taken_again_keeps_its_place_at_the_front(here: Crossroads) -> None:
    with here.turnstile, here.lock:
        first, second = here.sleeper("first"), here.sleeper("second")
    with here.turnstile, here.lock:
        assert second.was_woken() is False
        assert first.was_woken()
        first.may_go_on.release()
        assert first.asleep.acquire(timeout=PATIENCE_S)
    assert first.was_woken()
    assert not second.was_woken()
    for place in (first, second):
        place.may_go_on.release()
    here.join()
    assert here.passed == ["first", "second"]


def test_who_finds_the_lock_free_at_the_last_look_leaves_its_place(here: Crossroads) -> None:
    looks = iter([True, False, False])
    here.turnstile.locked = lambda: next(looks)
    here.pass_by()
    assert not here.turnstile.sleepers


def test_the_last_look_is_made_in_c() -> None:
    """CPython may switch threads after each call that Python code makes, and another thread may then take the lock."""
    look = vars(Turnstile)["is_taken"].fget
    assert isinstance(look, methodcaller)


def test_who_leaves_with_an_error_passes_its_wake_up_on(here: Crossroads, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does to the main thread: here in the moment in which it was woken."""

    class Interrupted(Parker):
        def park(self, timeout_s: float | None) -> None:
            here.turnstile.sleepers.rotate()  # it is the next to be woken
            here.lock.release()
            here.turnstile.wake_next()
            raise KeyboardInterrupt

    here.lock.acquire()
    other = here.sleeper("other")
    monkeypatch.setattr(turnstile, "Parker", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        here.pass_by()
    assert other.was_woken()
    other.may_go_on.release()
    here.join()


def test_who_leaves_with_an_error_leaves_its_place(here: Crossroads, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Parker):
        def park(self, timeout_s: float | None) -> None:
            raise KeyboardInterrupt

    with here.turnstile, here.lock:
        other = here.sleeper("other")
        monkeypatch.setattr(turnstile, "Parker", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            here.turnstile.wait()
        assert other.was_woken(), "for nothing: it looks again"
        assert not here.turnstile.sleepers
        other.may_go_on.release()
        assert other.asleep.acquire(timeout=PATIENCE_S)
    other.may_go_on.release()
    here.join()


def test_waking_the_next_does_nothing_where_nobody_sleeps(here: Crossroads) -> None:
    here.turnstile.wake_next()
    here.pass_by()


def test_many_threads_pass_and_none_stays_asleep() -> None:
    lock = threading.Lock()
    way = Turnstile(lock)
    passed = inside = 0

    def come(seed: int) -> None:
        nonlocal passed, inside
        chance = random.Random(seed)
        for _ in range(500):
            with way, lock:
                inside += 1
                assert inside == 1
                if chance.random() < 0.5:
                    os.sched_yield()  # gives the interpreter away with the lock in hand
                passed += 1
                inside -= 1

    threads = [threading.Thread(target=come, args=(seed,), daemon=True) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert passed == 8 * 500
    assert not way.sleepers


# ---------------------------------------------------------------------- the journal's lock
class Rig:
    """A journal with one inbox that is full and fails, and a thread that sleeps at the journal's lock."""

    def __init__(self) -> None:
        self.journal = Journal(SystemClock(), durable=False)
        self.channel = Channel("a.in", 0, capacity=1, overflow="fail")
        self.fence = Fence("sender", 1)
        self.place = Place()

    def submit(self) -> None:
        unit = Unit("sender")
        unit.send((self.channel,), "message", True, None)
        self.journal.turnstile.sleepers.append(self.place)
        self.journal.submit(unit, self.fence, Parker())


def test_a_unit_wakes_who_sleeps_at_the_lock() -> None:
    rig = Rig()
    rig.submit()
    assert rig.place.was_woken()


@pytest.mark.parametrize("error", [InboxFull, StaleComponent])
def test_a_unit_that_is_refused_wakes_who_sleeps_at_the_lock(error: type[BaseException]) -> None:
    rig = Rig()
    rig.submit()
    assert rig.place.was_woken()
    if error is StaleComponent:
        rig.fence.advance_locked(Mode.CUT)
    with pytest.raises(error):
        rig.submit()
    assert rig.place.was_woken()


@pytest.mark.parametrize("fate", ["takes", "stale"])
def test_who_takes_wakes_who_sleeps_at_the_lock_even_if_its_life_is_over(fate: str) -> None:
    rig = Rig()
    mailbox = Mailbox((rig.channel,), Parker())
    rig.journal.attach(mailbox, rig.fence)
    rig.journal.turnstile.sleepers.append(rig.place)
    if fate == "stale":
        rig.fence.advance_locked(Mode.CUT)
        with pytest.raises(StaleComponent):
            rig.journal.take(mailbox, rig.fence)
    else:
        rig.journal.take(mailbox, rig.fence)
    assert rig.place.was_woken()


def test_a_unit_waits_for_the_lock_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, place = Rig(), Place()
    monkeypatch.setattr(turnstile, "Parker", lambda: place)
    unit = Unit("sender")
    unit.send((rig.channel,), "message", True, None)
    thread = threading.Thread(target=rig.journal.submit, args=(unit, rig.fence, Parker()), daemon=True)
    with rig.journal.turnstile, rig.journal.lock:
        thread.start()
        assert place.asleep.acquire(timeout=PATIENCE_S)
    assert rig.journal.lock.acquire(blocking=False)
    rig.journal.lock.release()
    place.may_go_on.release()
    thread.join(PATIENCE_S)
    assert rig.channel.size == 1


@pytest.mark.parametrize(
    ("module", "at_least", "short_ways"), [(journal, 20, 2), (call_broker, 5, 1)], ids=["journal", "call_broker"]
)
def test_the_journals_lock_is_never_taken_but_through_the_turnstile(
    module: ModuleType, at_least: int, short_ways: int
) -> None:
    """A release of which the turnstile does not hear leaves threads asleep; and that shows only now and then."""
    tree = ast.parse(inspect.getsource(module))
    blocks = [
        (node, [ast.unparse(item) for item in node.items]) for node in ast.walk(tree) if isinstance(node, ast.With)
    ]
    taken = [items for _, items in blocks if {"self.lock", "self._lock"} & set(items)]
    assert len(taken) >= at_least
    assert [
        items for items in taken if items not in (["self.turnstile", "self.lock"], ["self._turnstile", "self._lock"])
    ] == []

    # Those that take the short way, by names of their own, pass their wake-up on when they raise, too.
    passing_on = [
        line
        for attempt in ast.walk(tree)
        if isinstance(attempt, ast.Try) and _passes_on(attempt)
        for line in attempt.body
    ]
    short = [node for node, items in blocks if items == ["lock"]]
    assert len(short) == short_ways
    assert [ast.unparse(node) for node in short if node not in passing_on] == []


def _passes_on(attempt: ast.Try) -> bool:
    leaving = [*attempt.finalbody, *(line for handler in attempt.handlers for line in handler.body)]
    return any(word in ast.unparse(line) for line in leaving for word in ("wake_next", "withdraw", "_take_back"))

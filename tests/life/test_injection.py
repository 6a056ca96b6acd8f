"""The exception that is thrown into a handler: once, only while it computes, and never outside of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from minions.errors import Interrupted
from minions.life import injection as injection_module
from minions.life.injection import Injection
from minions.life.system_calls import Place
from tests.life.conftest import PATIENCE_S
from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc


def throw_until_taken(injection: Injection, stuck: Stuck) -> None:
    """Throws into a thread that computes. It may be caught between two looks at anything else, so once more where need be."""
    stuck.see_on_cpu()
    while not injection.throw(Interrupted):
        stuck.see_on_cpu()


def in_window(injection: Injection, handler: Callable[[], object]) -> Stuck:
    def body() -> str:
        try:
            with injection.window():
                handler()
        except Interrupted:
            return "interrupted"
        return "returned"

    return Stuck(body)


def spin() -> None:
    while True:
        pass


def test_a_handler_that_loops_is_interrupted() -> None:
    injection = Injection()
    stuck = in_window(injection, spin)
    throw_until_taken(injection, stuck)

    assert stuck.result() == "interrupted"


def test_nothing_is_thrown_outside_of_a_window() -> None:
    injection, over = Injection(), threading.Event()
    assert not injection.throw(Interrupted)

    def work() -> None:
        with injection.window():
            pass
        while not over.is_set():
            pass

    stuck = Stuck(work)
    stuck.see_on_cpu()
    assert not any(injection.throw(Interrupted) for _ in range(20))
    over.set()
    stuck.result()
    assert stuck.error is None


def test_nothing_is_thrown_at_a_thread_that_is_blocked() -> None:
    injection, event = Injection(), threading.Event()
    stuck = in_window(injection, event.wait)
    stuck.see("futex")

    assert not injection.throw(Interrupted)
    event.set()
    assert stuck.result() == "returned"


def test_nothing_is_thrown_where_nothing_is_known_of_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injection_module, "place_of", lambda native_id: Place(None))
    injection = Injection()
    with injection.window():
        assert not injection.throw(Interrupted)


def test_one_that_was_swallowed_is_not_followed_by_another() -> None:
    injection, swallowed, over = Injection(), threading.Event(), threading.Event()

    def handler() -> None:
        try:
            spin()
        except Interrupted:
            swallowed.set()
        while not over.is_set():
            pass

    stuck = in_window(injection, handler)
    throw_until_taken(injection, stuck)
    assert swallowed.wait(PATIENCE_S)
    stuck.see_on_cpu()
    assert not any(injection.throw(Interrupted) for _ in range(20))
    over.set()
    assert stuck.result() == "returned"


def test_a_later_window_of_the_same_life_can_not_be_thrown_into_either() -> None:
    injection, second, over = Injection(), threading.Event(), threading.Event()

    def work() -> None:
        try:
            with injection.window():
                spin()
        except Interrupted:
            second.set()
        with injection.window():
            while not over.is_set():
                pass

    stuck = Stuck(work)
    throw_until_taken(injection, stuck)
    assert second.wait(PATIENCE_S)
    stuck.see_on_cpu()
    assert not any(injection.throw(Interrupted) for _ in range(20))
    over.set()
    stuck.result()
    assert stuck.error is None


def held_look(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Holds whoever throws while it looks at the thread."""
    looking, go_on = threading.Event(), threading.Event()

    def look(native_id: int) -> Place:
        looking.set()
        assert go_on.wait(PATIENCE_S)
        return Place(True)

    monkeypatch.setattr(injection_module, "place_of", look)
    return looking, go_on


@pytest.mark.parametrize("round_", range(20))
def test_a_handler_that_ends_while_it_is_looked_at_is_hit_at_the_window_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, round_: int
) -> None:
    looking, go_on = held_look(monkeypatch)
    injection, over, outside = Injection(), threading.Event(), threading.Event()

    def work() -> str:
        told = "returned"
        try:
            with injection.window():
                over.wait(PATIENCE_S)
        except Interrupted:
            told = "interrupted"
        try:
            outside.set()
            for _ in range(10_000):
                pass
        except Interrupted:
            return "escaped"
        return told

    stuck = Stuck(work)
    throwing = Stuck(lambda: injection.throw(Interrupted))
    while not looking.is_set() and not outside.is_set():
        if not throwing._thread.is_alive():
            throwing = Stuck(lambda: injection.throw(Interrupted))  # the window was not open yet
    over.set()
    stuck.see("futex")  # at the door: it may not leave before the other has made up its mind
    assert not outside.is_set()
    go_on.set()
    assert throwing.result() is True
    assert stuck.result() in ("interrupted", "returned")


def test_closing_takes_back_what_has_not_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    pending: list[object] = []
    monkeypatch.setattr(injection_module, "place_of", lambda native_id: Place(True))

    def set_pending(ident: int, error_class: type[BaseException] | None) -> bool:
        pending.append((ident, error_class))
        return True

    monkeypatch.setattr(injection_module, "_set_pending", set_pending)
    injection = Injection()
    with injection.window():
        pass
    assert pending == []
    with injection.window():
        assert injection.throw(Interrupted)
    me = threading.get_ident()
    assert pending == [(me, Interrupted), (me, None)]


def test_nothing_comes_through_in_a_shelter() -> None:
    injection, over, left = Injection(), threading.Event(), threading.Event()

    def handler() -> None:
        with injection.shelter(), injection.shelter():
            pass
        with injection.shelter():
            with injection.shelter():
                pass
            while not over.is_set():
                pass
        left.set()
        spin()

    stuck = in_window(injection, handler)
    while "over.is_set()" not in stuck.see_on_cpu().stack:
        continue
    assert not any(injection.throw(Interrupted) for _ in range(20))
    over.set()
    assert left.wait(PATIENCE_S)
    throw_until_taken(injection, stuck)
    assert stuck.result() == "interrupted"


def test_a_shelter_waits_for_who_is_about_to_throw(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, go_on = held_look(monkeypatch)
    injection, open_, enter, inside = Injection(), threading.Event(), threading.Event(), []

    def handler() -> None:
        open_.set()
        enter.wait(PATIENCE_S)
        with injection.shelter():
            inside.append(1)
            for _ in range(10_000):
                pass
            inside.append(2)

    stuck = in_window(injection, handler)
    assert open_.wait(PATIENCE_S)
    throwing = Stuck(lambda: injection.throw(Interrupted))
    assert looking.wait(PATIENCE_S)
    enter.set()
    stuck.see("futex")
    assert inside == []
    go_on.set()
    throwing.result()
    stuck.result()
    assert inside in ([], [1, 2])


def test_a_shelter_outside_of_a_window_does_not_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injection_module, "place_of", lambda native_id: Place(True))
    injection = Injection()
    with injection.window():
        pass
    with injection.shelter():
        assert not injection.throw(Interrupted)
    assert not injection.throw(Interrupted)


def test_none_of_many_lives_is_hit_outside_of_its_window() -> None:
    """Each life is thrown at from the first moment on, with handlers of all lengths about as long as a throw takes."""
    lives = [Injection() for _ in range(400)]
    reached = [threading.Event() for _ in lives]
    escaped, hit = [], []

    def work() -> None:
        for number, injection in enumerate(lives):
            try:
                reached[number].set()
                try:
                    with injection.window():
                        for _ in range(number * 50):
                            pass
                except Interrupted:
                    hit.append(number)
                for _ in range(200):
                    pass
            except Interrupted:
                escaped.append(number)

    stuck = Stuck(work)
    for number, injection in enumerate(lives):
        assert reached[number].wait(PATIENCE_S)
        for _ in range(10):
            if injection.throw(Interrupted):
                break
    stuck.result()

    assert stuck.error is None
    assert escaped == []
    assert hit

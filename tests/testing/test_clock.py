"""The fake clock: time stands still until it is moved, and then wakes exactly those whose moment has come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minions.clock import Clock
from minions.flow.parker import Parker
from minions.testing import FakeClock

PATIENCE_S = 10.0


@contextmanager
def waiting(clock: FakeClock, seconds: float | None, parker: Parker | None = None) -> Iterator[threading.Event]:
    """A thread that waits; the event says that it has come back."""
    back = threading.Event()
    parker = parker or Parker()

    def wait() -> None:
        clock.wait(parker, None if seconds is None else clock.monotonic() + seconds)
        back.set()

    thread = threading.Thread(target=wait)
    thread.start()
    yield back
    parker.unpark()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_it_is_a_clock() -> None:
    clock: Clock = FakeClock(monotonic_s=5.0, wall_s=100.0)
    assert (clock.monotonic(), clock.wall()) == (5.0, 100.0)


def test_both_times_move_together_and_only_when_told() -> None:
    clock = FakeClock(monotonic_s=5.0, wall_s=100.0)
    clock.advance(seconds=2.5)
    clock.advance(seconds=0)
    assert (clock.monotonic(), clock.wall()) == (7.5, 102.5)


@pytest.mark.parametrize("move", ["advance", "jump"])
@pytest.mark.parametrize("seconds", [-0.1, float("inf"), float("nan")])
def test_time_does_not_go_back(seconds: float, move: str) -> None:
    clock = FakeClock()
    before = clock.monotonic()
    with pytest.raises(ValueError, match=rf"{move}\(seconds={seconds}\): time moves on only"):
        getattr(clock, move)(seconds=seconds)
    assert clock.monotonic() == before


def test_who_waits_until_a_moment_is_woken_by_it_and_not_before() -> None:
    clock = FakeClock()
    with waiting(clock, 10.0) as back:
        assert clock.wait_for_waiters() == (10.0,)
        clock.advance(seconds=9.5)
        assert clock.waits() == (0.5,)
        assert not back.is_set()
        clock.advance(seconds=0.5)
        assert back.wait(PATIENCE_S)
    assert clock.waits() == ()


def test_only_those_are_woken_whose_moment_has_come() -> None:
    clock = FakeClock()
    with waiting(clock, 1.0) as early, waiting(clock, 3.0) as late:
        assert clock.wait_for_waiters(2) == (1.0, 3.0)
        clock.advance(seconds=2.0)
        assert early.wait(PATIENCE_S)
        assert clock.wait_for_waiters(1) == (1.0,)
        assert not late.is_set()


def test_a_moment_that_is_past_is_not_waited_for() -> None:
    clock = FakeClock()
    clock.wait(Parker(), clock.monotonic())
    clock.wait(Parker(), clock.monotonic() - 1.0)
    assert clock.waits() == ()


def test_a_wake_up_ends_the_wait_before_its_time() -> None:
    clock, parker = FakeClock(), Parker()
    with waiting(clock, 10.0, parker) as back:
        clock.wait_for_waiters()
        parker.unpark()
        assert back.wait(PATIENCE_S)
    assert clock.waits() == ()


def test_a_wake_up_that_came_before_the_wait_is_not_lost() -> None:
    clock, parker = FakeClock(), Parker()
    parker.unpark()
    clock.wait(parker, clock.monotonic() + 10.0)
    parker.unpark()
    clock.wait(parker, None)


def test_waiting_without_a_moment_is_not_ended_by_time() -> None:
    clock = FakeClock()
    with waiting(clock, None) as back:
        clock.advance(seconds=1e9)
        assert clock.waits() == ()
        assert not back.is_set()


def test_too_few_waiters_is_an_error_that_says_how_many_there_are() -> None:
    clock = FakeClock()
    with waiting(clock, 1.0):
        clock.wait_for_waiters()
        with pytest.raises(TimeoutError, match="1 threads wait for a moment, not 2"):
            clock.wait_for_waiters(2, timeout_s=0.01)


def test_many_threads_in_lockstep_lose_no_tick() -> None:
    clock = FakeClock()
    count, rounds = 8, 50
    ticks = [0] * count

    def tick(number: int) -> None:
        parker = Parker()
        for turn in range(1, rounds + 1):
            while clock.monotonic() < 1_000.0 + turn:
                clock.wait(parker, 1_000.0 + turn)
            ticks[number] += 1

    threads = [threading.Thread(target=tick, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for _ in range(rounds):
        clock.wait_for_waiters(count)
        clock.advance(seconds=1.0)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert ticks == [rounds] * count

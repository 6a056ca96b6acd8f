"""The parker: a permit that is never lost, and never counted twice."""

from __future__ import annotations

import threading
import time

import pytest

from minions.flow.parker import Parker


def has_permit(parker: Parker) -> bool:
    """Whether a permit is there, which is taken."""
    began_s = time.monotonic()
    parker.park(0.02)
    return time.monotonic() - began_s < 0.02


def test_a_wake_up_that_comes_before_the_wait_is_kept() -> None:
    parker = Parker()
    parker.unpark()
    parker.park(None)


def test_several_wake_ups_count_as_one() -> None:
    parker = Parker()
    parker.unpark()
    parker.unpark()
    parker.park(None)
    assert not has_permit(parker)


def test_a_wait_ends_at_its_timeout() -> None:
    assert not has_permit(Parker())
    Parker().park(0.0)


def test_a_timeout_may_be_as_long_as_it_likes() -> None:
    parker = Parker()
    parker.unpark()
    parker.park(1e300)


@pytest.mark.timeout(20)
def test_two_threads_hand_a_turn_to_each_other() -> None:
    ping, pong, seen = Parker(), Parker(), []

    def answer() -> None:
        for _ in range(1_000):
            ping.park(None)
            seen.append("ping")
            pong.unpark()

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    for _ in range(1_000):
        ping.unpark()
        pong.park(None)
        seen.append("pong")
    thread.join(10)
    assert seen == ["ping", "pong"] * 1_000


@pytest.mark.timeout(20)
def test_many_wakers_never_lose_what_they_announced() -> None:
    """Each announces, then wakes; the sleeper looks, then sleeps."""
    parker, announced, seen = Parker(), [0] * 4, [0] * 4
    start = threading.Barrier(5)

    def wake(number: int) -> None:
        start.wait()
        for _ in range(500):
            announced[number] += 1
            parker.unpark()

    threads = [threading.Thread(target=wake, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    while sum(seen) < 2_000:
        parker.park(5)
        seen = list(announced)
    assert seen == [500] * 4

"""What callers wait for of a running system, as plain futures: each is answered once, whatever it calls back."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from minions import ChangeFailed
from minions.life.pending import Pending

FAULTS: list[BaseException] = []


@pytest.fixture
def pending() -> Pending:
    FAULTS.clear()
    return Pending("test", FAULTS.append)


def test_a_change_that_has_come_about_is_answered_with_nothing(pending: Pending) -> None:
    number, future = pending.change()
    pending.keep(number, "")
    assert future.result(0) is None


def test_a_change_that_did_not_come_about_says_why(pending: Pending) -> None:
    (first, future), (second, other) = pending.change(), pending.change()
    assert first != second
    pending.keep(first, "a has ended")
    assert not other.done()
    with pytest.raises(ChangeFailed, match=r"^test: a has ended$"):
        future.result(0)


def test_a_change_is_answered_once(pending: Pending) -> None:
    number, future = pending.change()
    pending.all_is_over("the system has ended")
    pending.keep(number, "")
    with pytest.raises(ChangeFailed, match="the system has ended"):
        future.result(0)
    assert FAULTS == []


def test_whoever_waits_for_the_end_is_answered_with_it_and_in_order(pending: Pending) -> None:
    told: list[Future[None]] = []
    ends = [pending.end() for _ in range(3)]
    for end in ends:
        end.add_done_callback(told.append)
    pending.keep(1, "")
    assert not any(end.done() for end in ends)
    pending.all_is_over("the system has ended")
    pending.all_is_over("the system has ended")
    assert told == ends
    assert [end.result(0) for end in ends] == [None] * 3


def test_none_of_them_can_be_cancelled(pending: Pending) -> None:
    assert not pending.change()[1].cancel()
    assert not pending.end().cancel()


def test_what_an_answer_calls_back_may_wish_for_more(pending: Pending) -> None:
    later: list[Future[None]] = []
    pending.end().add_done_callback(lambda _: later.append(pending.end()))
    pending.all_is_over("the system has ended")
    assert later[0].done()


def test_an_exit_in_what_is_called_back_is_reported_and_the_others_are_answered(pending: Pending) -> None:
    def leave(_: Future[None]) -> None:
        raise SystemExit(3)

    number, change = pending.change()
    change.add_done_callback(leave)
    end = pending.end()
    pending.keep(number, "")
    pending.all_is_over("the system has ended")
    assert end.done()
    assert [type(fault) for fault in FAULTS] == [SystemExit]

"""A lane step by step: one sender and one reader on the test's own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from minions import MessageRefused
from minions.clock import SystemClock
from minions.errors import InboxFull, StaleComponent
from minions.fence import Fence
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.lane import Lane
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.life.ports import LaneSender
from tests.life.conftest import PATIENCE_S
from tests.life.one_life import OneLife, outbox_of


class Sent(deque[Any]):
    """What lies in a lane; something happens when a message is about to be brought there."""

    def __init__(self, before: Callable[[], None]) -> None:
        super().__init__()
        self._before = before

    def append(self, message: Any) -> None:
        self._before()
        super().append(message)


class Prepared(Journal):
    """A journal whose lanes are such."""

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        super().__init__(SystemClock(), durable=False)
        self.before = before

    def open_lane(self, channel: Channel, fence: Fence) -> Lane:
        lane = super().open_lane(channel, fence)
        lane.sent = Sent(lambda: self.before())
        return lane


class Pair:
    """A sender and a reader on the test's own thread."""

    def __init__(self, capacity: int = 10) -> None:
        self.journal = Prepared()
        self.channel = Channel("r.in", 0, capacity=capacity)
        self.life = OneLife(self.journal, "s")
        self.sender = LaneSender(self.life, outbox_of(int), self.channel, self.journal)
        self.parker, self.fence = Parker(), Fence("r", 1)
        self.mailbox = Mailbox((self.channel,), self.parker)
        self.journal.attach(self.mailbox, self.fence)

    def take(self) -> list[Any]:
        return [entry[2] for entry in self.journal.take(self.mailbox, self.fence) or ()]


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_a_message_goes_along_the_lane_and_with_the_unit_where_one_is_open(pair: Pair) -> None:
    pair.sender.send(1)
    unit = pair.life.open_unit = Unit("s")
    pair.sender.send(2)
    pair.life.open_unit = None
    pair.sender.send(3)
    assert pair.take() == [1, 3]
    pair.sender.send(4)
    pair.life.submit(unit)
    assert pair.take() == [4, 2]
    assert pair.life.timeouts == [None]


def test_a_message_for_which_there_is_no_room_goes_by_way_of_the_life(pair: Pair) -> None:
    for number in range(10):
        pair.sender.send(number)
    with pytest.raises(InboxFull):
        pair.sender.send(10, timeout_s=0.0)
    assert pair.life.timeouts == [0.0]
    assert pair.take() == list(range(10))


def test_a_message_goes_by_way_of_the_life_with_its_timeout_while_a_unit_is_open_and_where_no_short_way_is_to_be_gone(
    pair: Pair,
) -> None:
    pair.life.open_unit = Unit("s")
    pair.sender.send(1, timeout_s=0.5)
    pair.life.open_unit = None
    pair.sender.no_short_way()
    pair.sender.send(2, timeout_s=0.25)
    assert pair.life.timeouts == [0.5, 0.25]
    assert pair.take() == [2]


def test_a_message_may_be_of_a_subclass_and_of_no_other_class(pair: Pair) -> None:
    pair.sender.send(True)
    with pytest.raises(MessageRefused, match=r"s\.out sends int, not '1' \(str\)"):
        pair.sender.send("1")
    assert pair.take() == [True]


def test_a_reader_that_falls_asleep_just_before_a_message_is_brought_is_woken(pair: Pair) -> None:
    def fall_asleep() -> None:
        assert pair.take() == []

    pair.journal.before = fall_asleep
    pair.sender.send(1)
    assert not pair.mailbox.asleep
    pair.parker.park(PATIENCE_S)
    assert pair.take() == [1]


def test_a_message_has_its_place_before_it_is_brought(pair: Pair) -> None:
    seen: list[bool] = []
    pair.journal.before = lambda: seen.append(pair.channel.take_room_locked(10))
    pair.sender.send(1)
    assert seen == [False]
    pair.sender.send(2)
    assert seen == [False, False], "all room was taken back, and the next message has a place all the same"
    assert (pair.channel.size, pair.life.timeouts) == (2, [])


def test_a_message_that_is_brought_after_the_cut_is_seen_by_nobody_and_the_next_is_refused(pair: Pair) -> None:
    pair.sender.send(1)
    pair.journal.before = pair.life.end
    pair.sender.send(2)
    with pytest.raises(StaleComponent):
        pair.sender.send(3)
    assert pair.take() == [1]
    pair.journal.settle_effectless(pair.mailbox, pair.fence, 1)
    assert (pair.channel.size, pair.channel.lanes) == (0, [])
    assert pair.take() == []

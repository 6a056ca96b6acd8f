"""Lanes: what is sent without the lock arrives in order, within the capacity, and only while its sender may send.

A sender is stepped by hand here: it uses up a place of its lane, brings its message, and looks whether it is awaited. What
happens to come between two such steps is what the tests are about.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.clock import SystemClock
from minions.errors import StaleComponent
from minions.fence import Fence, Mode
from minions.flow.channel import Channel, Ticket
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.lane import Lane
from minions.flow.mailbox import Mailbox
from minions.flow.unit import Unit

LATER_S = 1.0  # after everybody in line has lost patience


class Bell:
    """Where a thread would sleep; says whether it was woken."""

    def __init__(self) -> None:
        self.rung = False

    def park(self, timeout_s: float | None) -> None:
        raise AssertionError("nothing here waits")

    def unpark(self) -> None:
        self.rung = True


def channel(capacity: int = 1_000, **options: Any) -> Channel:
    return Channel("c.in", 0, capacity=capacity, run_id="r", **options)


def lent(it: Channel, lane: Lane) -> int:
    """Lends a lane some room and returns how much."""
    before = it.size
    assert it.lend_locked(lane)
    return it.size - before


def send(it: Channel, lane: Lane, *messages: Any) -> None:
    for message in messages:
        if lane.room:
            lane.room.pop()
        else:
            assert it.lend_locked(lane)
        lane.sent.append(message)


def waiting(it: Channel) -> list[tuple[int, Any]]:
    it.gather_locked()
    return [(entry[1], entry[2]) for entry in it.queue]


def join(it: Channel, need: int = 1) -> Ticket:
    return it.join_line_locked({}, need, Bell(), 0.0)


class TestRoom:
    @pytest.mark.parametrize(("free", "places"), [(1, 1), (2, 1), (3, 2), (100, 50), (1_000, 64)])
    def test_is_lent_a_few_places_at_a_time_and_half_of_what_there_is_at_most(self, free: int, places: int) -> None:
        it, lane = channel(1_000), Lane()
        assert it.take_room_locked(1_000 - free)
        assert lent(it, lane) == places
        assert len(lane.room) == places - 1, "and one is the caller's at once"

    def test_that_was_taken_back_was_not_used(self) -> None:
        it, lane = channel(20), Lane()
        send(it, lane, "a", "b")
        assert lane.room
        it.recall_locked()
        assert lane.used == 2
        it.gather_locked()
        assert lane.gathered == 2

    def test_is_never_lent_beyond_the_capacity(self) -> None:
        it, lane = channel(5), Lane()
        send(it, lane, *"abcde")
        assert not lane.room
        assert not it.lend_locked(lane)
        assert it.size == 5

    def test_is_lent_again_to_a_lane_that_has_some_left_without_looking_there_twice(self) -> None:
        it, lane = channel(100), Lane()
        send(it, lane, "a")
        assert it.lend_locked(lane)
        assert it.lanes == [lane]
        lane.sent.append("b")
        assert (it.length, it.size) == (2, 50 + 25)

    def test_is_not_lent_while_somebody_stands_in_line(self) -> None:
        it = channel(3)
        assert it.take_room_locked(2)
        join(it, need=2)
        assert not it.lend_locked(Lane())

    def test_that_is_lent_is_there_for_who_needs_it(self) -> None:
        it, lane = channel(10), Lane()
        assert lent(it, lane) == 5
        assert it.take_room_locked(9), "all but the place that the sender has taken in hand"
        assert (it.size, len(lane.room)) == (10, 0)

    def test_that_is_lent_to_one_is_lent_to_another_instead_when_there_is_no_other(self) -> None:
        it, one, other = channel(3), Lane(), Lane()
        assert lent(it, one) == 2
        assert lent(it, other) == 1
        other.sent.append("x")
        assert len(one.room) == 1
        assert it.lend_locked(other)
        assert (it.size, len(one.room)) == (3, 0)
        assert not it.lend_locked(other), "the last place is in the hand of the other"

    def test_that_is_lent_does_not_keep_a_large_unit_out_that_needs_the_inbox_empty(self) -> None:
        it, lane = channel(4), Lane()
        send(it, lane, "a")
        waiting(it)
        it.settle_locked(1, 0.0, [])
        assert it.take_room_locked(9)

    def test_is_all_taken_back_before_somebody_joins_the_line_and_goes_to_those_in_line_first(self) -> None:
        it, lane = channel(4), Lane()
        assert lent(it, lane) == 2
        assert it.take_room_locked(1)
        assert not it.take_room_locked(3)
        assert (len(lane.room), it.size) == (0, 2)
        ticket = join(it, need=3)
        assert not it.lend_locked(lane)
        it.release_room_locked(1, LATER_S, [])
        assert ticket.granted

    def test_that_is_not_used_is_no_part_of_the_length(self) -> None:
        it, lane = channel(10), Lane()
        lent(it, lane)
        assert (it.size, it.length, it.most) == (5, 1, 0), "a sender has a place in hand"
        lane.sent.append("a")
        assert it.length == 1
        send(it, lane, "b")
        assert it.length == 2

    def test_used_up_between_two_looks_still_shows_in_the_highest_length(self) -> None:
        it, lane = channel(10), Lane()
        send(it, lane, "a", "b")
        waiting(it)
        assert it.most == 2
        send(it, lane, "c")
        it.settle_locked(1, 0.0, [])
        it.gather_locked()
        assert (it.length, it.most) == (2, 3)
        send(it, lane, "d")
        send(it, lane, "e")
        it.release_room_locked(1, 0.0, [])
        assert (it.length, it.most) == (3, 4)

    @settings(deadline=None)
    @given(st.integers(1, 7), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(1, 4))))
    def test_is_neither_lost_nor_given_twice(self, capacity: int, steps: list[tuple[int, int, int]]) -> None:
        model = Model(capacity)
        moves = [model.send, model.gather, model.take_room, model.release_room, model.handle]
        for which, move, need in steps:
            moves[move](which, need)
            model.check()
        model.handle(0, 0)
        assert model.arrived == model.sent


class Model:
    """A channel with three lanes, a unit that takes room beside them, and a reader."""

    def __init__(self, capacity: int) -> None:
        self.channel, self.lanes = channel(capacity), [Lane(), Lane(), Lane()]
        self.sent: list[list[int]] = [[], [], []]
        self.arrived: list[list[int]] = [[], [], []]
        self.others = 0

    def send(self, which: int, need: int) -> None:
        lane = self.lanes[which]
        if not lane.room and not self.channel.lend_locked(lane):
            assert self.channel.size >= self.channel.capacity
            assert not any(lane.room for lane in self.lanes)
            return
        if len(lane.room) + len(lane.sent) == lane.lent:  # it was not lent a place in person just now
            lane.room.pop()
        message = len(self.sent[which])
        lane.sent.append((which, message))
        self.sent[which].append(message)

    def gather(self, which: int, need: int) -> None:
        self.channel.gather_locked()

    def take_room(self, which: int, need: int) -> None:
        if self.channel.take_room_locked(need):
            self.others += need

    def release_room(self, which: int, need: int) -> None:
        self.channel.release_room_locked(self.others, LATER_S, [])
        self.others = 0

    def handle(self, which: int, need: int) -> None:
        self.channel.gather_locked()
        while self.channel.queue:
            _, sequence, (sender, message), *_ = self.channel.queue.popleft()
            self.arrived[sender].append(message)
            self.channel.settle_locked(sequence, 0.0, [])

    def check(self) -> None:
        it = self.channel
        unused = sum(len(lane.room) for lane in self.lanes)
        assert it.length == len(it.queue) + sum(len(lane.sent) for lane in self.lanes) + self.others
        assert it.size == it.length + unused
        assert it.size <= max(it.capacity, self.others)
        assert it.length <= it.most or any(lane.sent for lane in self.lanes)
        assert all(lane.lent == len(lane.sent) + len(lane.room) for lane in self.lanes)
        assert {id(lane) for lane in it.lanes} == {id(lane) for lane in self.lanes if lane.lent}


class TestMessages:
    def test_are_numbered_when_they_are_gathered(self) -> None:
        it, one, other = channel(), Lane(), Lane()
        send(it, one, "a", "b")
        send(it, other, "x")
        it.gather_locked()
        assert list(it.queue) == [(it, 1, "a", None, 0), (it, 2, "b", None, 0), (it, 3, "x", None, 0)]
        assert (it.next_sequence, it.sent) == (4, 3)
        it.gather_locked()
        assert len(it.queue) == 3

    def test_come_before_what_the_same_sender_sends_later_in_another_way(self) -> None:
        it, lane = channel(), Lane()
        send(it, lane, "a", "b")
        assert it.take_room_locked(1)
        assert it.deliver_locked("c", None, []) == 3
        assert waiting(it) == [(1, "a"), (2, "b"), (3, "c")]

    def test_come_behind_what_is_given_back(self) -> None:
        it, lane = channel(), Lane()
        send(it, lane, "a")
        it.gather_locked()
        taken = it.queue.popleft()
        send(it, lane, "b")
        it.give_back_locked([taken], [])
        assert waiting(it) == [(1, "a"), (2, "b")]

    def test_that_came_along_lanes_wake_one_sleeper_each_beside_those_that_are_given_back(self) -> None:
        it, lane, wakes = channel(), Lane(), list[Any]()
        sleepers = [Mailbox((it,), Bell()) for _ in range(3)]
        it.readers += sleepers
        send(it, lane, "a")
        it.gather_locked()
        taken = it.queue.popleft()
        send(it, lane, "b")
        for sleeper in sleepers:
            sleeper.fall_asleep_locked(None, timed=False)
        it.give_back_locked([taken], wakes)
        assert wakes == [sleeper.parker for sleeper in sleepers[:2]]
        awaited = it.awaited
        assert awaited, "by the third"

    def test_of_a_lane_without_room_or_messages_are_not_looked_for(self) -> None:
        it, lane = channel(2), Lane()
        send(it, lane, "a")
        assert it.lanes == [lane]
        it.gather_locked()
        assert it.lanes == []
        send(it, lane, "b")
        assert waiting(it) == [(1, "a"), (2, "b")]

    def test_are_found_also_where_the_lane_looked_forgotten_while_they_were_on_their_way(self) -> None:
        it, lane = channel(1), Lane()
        assert lent(it, lane) == 1
        it.gather_locked()
        it.recall_locked()
        lane.sent.append("a")
        assert waiting(it) == [(1, "a")]

    @pytest.mark.parametrize(
        ("options", "may"),
        [
            ({}, True),
            ({"shared": True}, True),
            ({"overflow": "fail"}, False),
            ({"overflow": "drop_oldest"}, False),
            ({"codec": codec_of(int)}, False),
            ({"partition_of": hash}, False),
        ],
    )
    def test_come_along_lanes_where_nothing_but_the_room_is_to_be_looked_at(self, options: Any, may: bool) -> None:
        assert channel(**options).takes_lanes is may


class Rig:
    """A journal, one channel, a sender and the readers of the channel."""

    def __init__(
        self, capacity: int = 10, *, readers: int = 1, shared: bool = False, others: int = 0, place: str = "first"
    ) -> None:
        self.journal = Journal(SystemClock(), durable=False)
        self.channel = channel(capacity, shared=shared)
        self.others = [Channel(f"o{n}.in", n + 1) for n in range(others)]
        self.fence, self.bell = Fence("s", 1), Bell()
        self.journal.join(self.fence, self.bell)
        self.lane = self.journal.open_lane(self.channel, self.fence)
        self.bells = [Bell() for _ in range(readers)]
        read = (self.channel, *self.others) if place == "first" else (*self.others, self.channel)
        self.mailboxes = [Mailbox(read, bell) for bell in self.bells]
        self.fences = [Fence(f"r#{n}", 1) for n in range(readers)]
        for mailbox, fence in zip(self.mailboxes, self.fences, strict=True):
            self.journal.attach(mailbox, fence)

    def use_room(self) -> None:
        """The first step of a sender."""
        try:
            self.lane.room.pop()
        except IndexError:
            assert self.journal.lend(self.channel, self.lane, self.fence)

    def bring(self, message: Any) -> None:
        """The second step."""
        self.lane.sent.append(message)

    def look(self) -> None:
        """The third step."""
        if self.channel.awaited:
            self.journal.ring(self.channel, self.lane)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.use_room()
            self.bring(message)
            self.look()

    def take(self, reader: int = 0, **options: Any) -> list[Any] | None:
        entries = self.journal.take(self.mailboxes[reader], self.fences[reader], **options)
        return None if entries is None else [entry[2] for entry in entries]

    def end(self) -> None:
        """Ends the sender's life."""
        self.journal.end_life(Mailbox((), self.bell), self.fence)

    def quiet(self) -> bool:
        return self.journal.quiet([self.channel], self.mailboxes)

    def rang(self) -> list[bool]:
        """Which readers were woken since this was asked last."""
        rung = [bell.rung for bell in self.bells]
        for bell in self.bells:
            bell.rung = False
        return rung


class Sent(deque[Any]):
    """What lies in a lane; tells when a reader looks."""

    def __init__(self, *when_looked_at: Callable[[], None]) -> None:
        super().__init__()
        self._when_looked_at: Iterator[Callable[[], None]] = iter(when_looked_at)

    def __len__(self) -> int:
        length = super().__len__()
        next(self._when_looked_at, lambda: None)()
        return length


class TestWaking:
    def test_a_sleeping_reader_is_rung_for(self) -> None:
        rig = Rig()
        assert rig.take() == []
        rig.send("a", "b")
        assert rig.rang() == [True]
        assert rig.take() == ["a", "b"]

    def test_a_reader_that_is_awake_is_not_rung_for(self) -> None:
        rig = Rig()
        rig.send("a")
        assert rig.take() == ["a"]
        rig.send("b")
        assert rig.rang() == [False]

    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_reader_of_several_inboxes_is_rung_for_whichever_it_comes_to(self, place: str) -> None:
        rig = Rig(others=1, place=place)
        assert rig.take() == []
        rig.send("a")
        assert rig.rang() == [True]
        assert rig.take() == ["a"]

    def test_nobody_is_rung_for_again_once_all_are_awake_who_would_take_it(self) -> None:
        rig = Rig(readers=2, shared=True, others=1)
        assert rig.take(0) == []
        assert rig.take(1, only=rig.others[0]) == []
        awaited = [rig.channel.awaited]
        rig.send("a")
        awaited.append(rig.channel.awaited)
        assert rig.rang() == [True, False]
        assert awaited == [True, False], "senders go on without the lock"

    @pytest.mark.parametrize("place", ["first", "last"])
    def test_a_reader_finds_what_came_just_before_it_said_that_it_sleeps(self, place: str) -> None:
        rig = Rig(others=1, place=place)
        rig.use_room()

        def between_its_looks() -> None:
            rig.bring("a")
            rig.look()

        rig.lane.sent = Sent(between_its_looks)
        assert rig.take() == ["a"]
        assert not rig.mailboxes[0].asleep

    def test_a_reader_is_rung_for_by_who_comes_just_after_its_last_look(self) -> None:
        rig, seen = Rig(), list[bool]()
        rig.use_room()

        def after_its_last_look() -> None:
            rig.bring("a")
            seen.append(rig.channel.awaited)

        rig.lane.sent = Sent(lambda: None, after_its_last_look)
        assert rig.take() == []
        assert seen == [True]
        rig.look()
        assert rig.rang() == [True]
        assert rig.take() == ["a"]

    def test_a_reader_that_looks_once_more_takes_no_more_than_it_asked_for(self) -> None:
        rig = Rig()
        rig.use_room()
        rig.use_room()

        def between_its_looks() -> None:
            rig.bring("a")
            rig.bring("b")

        rig.lane.sent = Sent(between_its_looks)
        assert rig.take(most=1) == ["a"]
        assert rig.take(most=1) == ["b"]

    def test_a_reader_that_looks_once_more_takes_from_no_other_inbox_than_it_asked_for(self) -> None:
        rig = Rig(others=1)
        rig.use_room()
        rig.bring("a")
        assert rig.take(only=rig.others[0]) == []
        assert rig.mailboxes[0].asleep
        assert rig.take() == ["a"]

    @pytest.mark.parametrize("only", ["this", "another", "any"])
    def test_only_who_would_take_it_is_rung_for(self, only: str) -> None:
        rig = Rig(others=1)
        assert rig.take(only={"this": rig.channel, "another": rig.others[0], "any": None}[only]) == []
        rig.send("a")
        assert rig.rang() == [only != "another"]

    def test_each_message_of_a_shared_inbox_wakes_one_who_sleeps(self) -> None:
        rig = Rig(readers=3, shared=True)
        assert [rig.take(n) for n in range(3)] == [[], [], []]
        rig.send("a")
        assert rig.rang() == [True, False, False]
        rig.send("b")
        assert rig.rang() == [False, True, False]
        assert rig.take(0) == ["a"]
        rig.send("c", "d")
        assert rig.rang() == [False, False, True]
        assert [rig.take(n) for n in (1, 2, 0)] == [["b"], ["c"], ["d"]]

    @pytest.mark.parametrize("way", ["stay_awake", "put_down", "end_life"])
    def test_a_wake_up_that_is_not_used_is_passed_on_for_what_lies_in_a_lane(self, way: str) -> None:
        rig = Rig(readers=2, shared=True)
        assert [rig.take(n) for n in range(2)] == [[], []]
        rig.send("a")
        assert rig.rang() == [True, False]
        if way == "stay_awake":
            rig.journal.stay_awake(rig.mailboxes[0])
        elif way == "put_down":
            rig.journal.put_down(rig.mailboxes[0], rig.fences[0])
        else:
            rig.journal.end_life(rig.mailboxes[0], rig.fences[0])
        assert rig.rang() == [False, True]
        assert rig.take(1) == ["a"]

    def test_the_message_of_a_sender_that_never_came_to_look_is_rung_for_when_its_life_ends(self) -> None:
        rig = Rig()
        assert rig.take() == []
        rig.use_room()
        rig.bring("a")
        rig.end()
        assert rig.rang() == [True]
        assert rig.take() == ["a"]


class TestTheFence:
    @pytest.mark.parametrize(("mode", "may"), [*zip(Mode, (True, True, False, False), strict=True)])
    def test_has_to_be_open_for_room_to_be_lent(self, mode: Mode, may: bool) -> None:
        rig = Rig()
        rig.journal.advance(rig.fence, mode)
        assert rig.journal.lend(rig.channel, rig.lane, rig.fence) is may
        assert (rig.channel.size > 0) is may

    def test_that_is_cut_has_no_lane(self) -> None:
        rig = Rig()
        rig.end()
        with pytest.raises(StaleComponent):
            rig.journal.open_lane(rig.channel, rig.fence)

    def test_takes_the_room_back_from_a_life_that_was_asked_to_stop_again(self) -> None:
        rig = Rig()
        rig.send("a", "b")
        rig.journal.advance(rig.fence, Mode.STOPPING)
        assert rig.lane.room
        rig.journal.advance(rig.fence, Mode.ENDING)
        assert not rig.lane.room
        assert rig.channel.size == 2
        assert rig.take() == ["a", "b"]

    def test_lets_pass_what_was_sent_before_the_cut_and_nothing_after(self) -> None:
        rig = Rig()
        rig.send("a")
        rig.use_room()
        rig.end()
        rig.bring("too late")
        rig.look()
        assert not rig.lane.room
        assert not rig.journal.lend(rig.channel, rig.lane, rig.fence)
        assert rig.take() == ["a"]
        rig.journal.settle_effectless(rig.mailboxes[0], rig.fences[0], 1)
        assert rig.channel.size == 0
        assert rig.channel.lanes == []
        assert rig.take() == []

    def test_that_is_cut_leaves_nothing_behind(self) -> None:
        rig = Rig()
        rig.send("a")
        rig.use_room()
        rig.end()
        assert rig.journal._lanes == {}, "lives may follow each other for ever"

    def test_has_one_lane_to_each_channel(self) -> None:
        rig = Rig(others=1)
        assert rig.journal.open_lane(rig.channel, rig.fence) is rig.lane
        assert rig.journal.open_lane(rig.others[0], rig.fence) is not rig.lane
        assert rig.journal.open_lane(rig.channel, Fence("s", 2)) is not rig.lane

    def test_is_of_one_life_others_go_on(self) -> None:
        rig = Rig()
        another = Fence("s", 2)
        lane = rig.journal.open_lane(rig.channel, another)
        rig.send("a")
        send(rig.channel, lane, "b")
        rig.end()
        send(rig.channel, lane, "c")
        assert rig.take() == ["a", "b", "c"]

    def test_gives_the_place_of_a_message_that_comes_too_late_to_those_in_line(self) -> None:
        rig = Rig(capacity=1)
        rig.use_room()
        unit = Unit("another")
        unit.send((rig.channel,), "b", True, None)
        bell = Bell()
        ticket = rig.journal.submit(unit, Fence("another", 1), bell)
        assert ticket is not None
        granted = [ticket.granted]
        rig.end()
        assert [*granted, ticket.granted] == [False, True]
        assert bell.rung


class TestQuiet:
    def test_is_not_what_has_a_message_in_a_lane(self) -> None:
        rig = Rig()
        assert rig.take() == []
        assert rig.quiet()
        rig.send("a")
        assert not rig.quiet()

    def test_is_not_what_has_a_sender_with_a_place_in_hand(self) -> None:
        rig = Rig()
        assert rig.take() == []
        rig.use_room()
        assert not rig.quiet()

    def test_is_what_has_only_lent_room(self) -> None:
        rig = Rig()
        rig.send("a")
        assert rig.take() == ["a"]
        rig.journal.settle_effectless(rig.mailboxes[0], rig.fences[0], 1)
        assert rig.take() == []
        assert rig.lane.room
        assert rig.quiet()

    def test_is_counted_with_what_lies_in_lanes_and_without_the_room_that_was_lent(self) -> None:
        rig = Rig()
        rig.send("a", "b", "c")
        inbox = rig.journal.statistics([rig.channel]).inboxes["c.in"]
        assert (inbox.waiting, inbox.length, inbox.high_water, inbox.sent) == (3, 3, 3, 3)

    def test_is_not_changed_by_who_counts_it(self) -> None:
        """Whoever watches a system may be broken off by Ctrl-C: then what was gathered and not yet in the queue would be lost."""
        rig = Rig()
        rig.send("a", "b", "c")
        rig.journal.statistics([rig.channel])
        assert list(rig.lane.sent) == ["a", "b", "c"]
        assert not rig.channel.queue

    def test_is_counted_so_that_it_adds_up_though_a_sender_goes_on_meanwhile(self) -> None:
        rig = Rig()
        rig.send("a")
        rig.lane.room = Room(rig.lane.room)
        inbox = rig.journal.statistics([rig.channel]).inboxes["c.in"]
        assert (inbox.length, inbox.high_water) == (2, 2)


class Room(deque[None]):
    """Room of which a place is used up at each look."""

    def __len__(self) -> int:
        self.pop()
        return super().__len__()

"""The channel, as a plain object on one thread: room, the line for it, overflow, wake-ups."""

from __future__ import annotations

from collections import deque
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.clock import Parkable
from minions.fence import Fence
from minions.flow.acks import AckSet
from minions.flow.channel import UNREAD, Channel, Entry, Ticket, Wakes
from minions.flow.codec import codec_of
from minions.flow.meter import Meter

LATER_S = 1.0  # after everybody in line has lost patience


class Bell:
    """Where a thread would sleep; nobody does."""

    def park(self, timeout_s: float | None) -> None:
        raise AssertionError("nothing here waits")

    def unpark(self) -> None: ...


class Reader:
    """A reader that sleeps."""

    def __init__(self, only: Channel | None = None, part: int = 0) -> None:
        self.meters: dict[Channel, Meter] = {}
        self.part = part
        self.parker: Parkable = Bell()
        self.asleep = True
        self.timed = False
        self.in_hand: deque[Entry] = deque()
        self.fence: Fence | None = None
        self.only = only


def channel(capacity: int = 3, **options: Any) -> Channel:
    return Channel("c.in", 0, capacity=capacity, **options)


def asleep(it: Channel, *readers: Reader) -> None:
    """Has them read it, who sleep."""
    it.readers += readers
    it.awaited = True


def join(it: Channel, need: int = 1, now_s: float = 0.0) -> Ticket:
    return it.join_line_locked({}, need, Bell(), now_s)


def filled(it: Channel, count: int) -> Channel:
    """With this many messages that wait."""
    for number in range(count):
        assert it.take_room_locked(1)
        it.deliver_locked(number, str(number).encode(), [])
    return it


def granted(*tickets: Ticket) -> list[bool]:
    return [ticket.granted for ticket in tickets]


def waiting(it: Channel) -> list[int]:
    return [entry[1] for entry in it.queue]


class TestRoom:
    def test_is_there_up_to_the_capacity(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(2)
        assert not it.take_room_locked(2)
        assert it.take_room_locked(1)
        assert not it.take_room_locked(1)
        assert (it.size, it.most) == (3, 3)

    def test_for_more_than_there_ever_is_is_given_when_the_channel_is_empty(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(10)
        assert it.size == 10
        assert not it.take_room_locked(1)
        it.release_room_locked(9, LATER_S, [])
        assert not it.take_room_locked(10)
        it.release_room_locked(1, LATER_S, [])
        assert it.take_room_locked(10)

    def test_is_not_given_past_those_who_stand_in_line(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(2)
        join(it, need=2)
        assert not it.take_room_locked(1)

    def test_is_given_back_when_a_message_is_settled(self) -> None:
        it = filled(channel(capacity=1), 1)
        it.queue.popleft()
        assert not it.take_room_locked(1)
        it.settle_locked(1, LATER_S, [])
        assert it.take_room_locked(1)
        assert it.settled == 1


class TestTheLine:
    def test_is_served_in_order_each_exactly_once(self) -> None:
        it = channel(capacity=2)
        assert it.take_room_locked(2)
        tickets = [join(it) for _ in range(3)]
        wakes: Wakes = []
        it.release_room_locked(1, LATER_S, wakes)
        assert granted(*tickets) == [True, False, False]
        it.release_room_locked(1, LATER_S, wakes)
        it.serve_line_locked(LATER_S, wakes)
        assert granted(*tickets) == [True, True, False]
        assert wakes == [ticket.parker for ticket in tickets[:2]]
        assert it.size == 2
        assert list(it.line) == tickets[2:]

    def test_notes_down_the_room_that_it_gives(self) -> None:
        it = channel(capacity=2)
        assert it.take_room_locked(2)
        room: dict[Channel, int] = {}
        ticket = it.join_line_locked(room, 2, Bell(), 0.0)
        it.release_room_locked(1, LATER_S, [])
        assert room == {}
        it.release_room_locked(1, LATER_S, [])
        assert room == {it: 2}
        assert ticket.granted
        assert it.most == 2

    def test_fills_the_channel_to_its_highest_when_it_is_served(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(2)
        join(it, need=2)
        it.release_room_locked(1, LATER_S, [])
        assert (it.size, it.most) == (3, 3)

    def test_is_not_left_by_a_small_unit_before_a_large_one(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(3)
        large, small = join(it, need=3), join(it, need=1)
        it.release_room_locked(2, LATER_S, [])
        assert granted(large, small) == [False, False]
        it.release_room_locked(1, LATER_S, [])
        assert granted(large, small) == [True, False]

    def test_gives_a_unit_larger_than_the_channel_its_turn_when_it_is_empty(self) -> None:
        it = channel(capacity=3)
        assert it.take_room_locked(2)
        ticket = join(it, need=5)
        it.release_room_locked(1, LATER_S, [])
        assert granted(ticket) == [False]
        it.release_room_locked(1, LATER_S, [])
        assert granted(ticket) == [True]
        assert it.size == 5

    def test_is_served_when_somebody_leaves_it(self) -> None:
        it = channel(capacity=4)
        assert it.take_room_locked(2)
        first, large, small, last = join(it), join(it, need=2), join(it), join(it)
        wakes: Wakes = []
        it.serve_line_locked(LATER_S, wakes)
        assert granted(first, large, small, last) == [True, False, False, False]
        it.leave_line_locked(large, LATER_S, wakes)
        assert granted(large, small, last) == [False, True, False]
        assert wakes == [first.parker, small.parker]
        assert list(it.line) == [last]

    def test_keeps_room_back_from_who_just_came_until_several_places_are_free(self) -> None:
        it = channel(capacity=1_000)
        assert it.take_room_locked(1_000)
        tickets = [join(it) for _ in range(40)]
        wakes: Wakes = []
        it.release_room_locked(31, 0.0, wakes)
        assert not wakes
        it.release_room_locked(1, 0.0, wakes)
        assert granted(*tickets[:2]) == [True, False]  # and the rest is kept back again
        it.serve_line_locked(LATER_S, wakes)
        assert sum(granted(*tickets)) == 32

    def test_keeps_room_back_for_no_longer_than_a_millisecond(self) -> None:
        it = channel(capacity=1_000)
        assert it.take_room_locked(1_000)
        ticket = join(it, now_s=5.0)
        it.release_room_locked(1, 5.0009, [])
        assert granted(ticket) == [False]
        it.serve_line_locked(5.001, [])
        assert granted(ticket) == [True]

    def test_presses_while_the_first_in_it_has_no_patience_left(self) -> None:
        it = channel(capacity=1_000)
        assert it.take_room_locked(1_000)
        first, second = join(it, now_s=5.0), join(it, now_s=6.0)
        pressed = []
        for now_s in (5.0009, 5.001):
            it.serve_line_locked(now_s, [])
            pressed.append(it.pressed)
        it.release_room_locked(1, 5.5, [])
        pressed.append(it.pressed)
        it.release_room_locked(1, 6.5, [])
        pressed.append(it.pressed)
        assert granted(first, second) == [True, True]
        assert pressed == [False, True, False, False]

    def test_keeps_nothing_back_in_a_channel_that_is_empty(self) -> None:
        it = channel(capacity=1)
        assert it.take_room_locked(1)
        ticket = join(it)
        it.release_room_locked(1, 0.0, [])
        assert ticket.granted

    def test_has_who_waits_ask_again_once_where_room_may_be_kept_back(self) -> None:
        ticket = join(channel(), now_s=5.0)
        assert ticket.look_again_s(None) == 5.001
        assert ticket.look_again_s(5.0005) == 5.0005
        assert ticket.look_again_s(9.0) == 5.001
        ticket.asked_s = 5.0009
        assert ticket.look_again_s(None) == 5.001
        ticket.asked_s = 5.001
        assert ticket.look_again_s(None) is None
        assert ticket.look_again_s(9.0) == 9.0
        assert Ticket(Bell(), 5.0).look_again_s(None) is None

    @settings(deadline=None)
    @given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.integers(1, 8)), max_size=40))
    def test_never_gives_more_than_there_is_nor_out_of_turn(self, capacity: int, steps: list[tuple[bool, int]]) -> None:
        it = channel(capacity)
        held: list[int] = []
        line: list[Ticket] = []
        now_s = 0.0
        for comes, need in steps:
            now_s += LATER_S
            if comes:
                if it.take_room_locked(need):
                    assert not line
                    held.append(need)
                else:
                    line.append(join(it, need, now_s))
            elif held:
                it.release_room_locked(held.pop(need % len(held)), now_s + LATER_S, [])
            while line and line[0].granted:
                held.append(line.pop(0).need)
            assert not any(ticket.granted for ticket in line)
            assert it.size == sum(held)
            assert it.size <= capacity or len(held) == 1
            assert not (line and (it.size + line[0].need <= capacity or not held)), (
                "room is free and the first in line waits"
            )


class TestOverflow:
    def test_may_drop_the_oldest_that_waits(self) -> None:
        it = filled(channel(2, overflow="drop_oldest", codec=codec_of(int)), 2)
        it.attempts[1] = 2
        assert it.make_room_locked([])
        assert it.deliver_locked(2, b"2", []) == 3
        assert waiting(it) == [2, 3]
        assert (it.size, it.dropped) == (2, 1)
        assert it.acks.frozen() == (1, ())
        assert it.attempts == {}

    def test_may_drop_the_newest(self) -> None:
        it = filled(channel(2, overflow="drop_newest"), 2)
        assert not it.make_room_locked([])
        assert waiting(it) == [1, 2]
        assert (it.size, it.dropped, it.next_sequence) == (2, 1, 3)

    @pytest.mark.parametrize(("overflow", "goes_in"), [("drop_oldest", True), ("drop_newest", False)])
    def test_bounds_what_waits_where_the_oldest_go_and_all_there_is_where_the_newest_do(
        self, overflow: Any, goes_in: bool
    ) -> None:
        it = filled(channel(2, overflow=overflow), 2)
        it.queue.clear()  # they are in work
        assert it.make_room_locked([]) is goes_in
        assert (it.size, it.dropped) == (2 + goes_in, not goes_in)

    def test_drops_all_that_an_earlier_run_left_beyond_the_capacity(self) -> None:
        it = channel(2, overflow="drop_oldest", codec=codec_of(int))
        it.restore(6, AckSet(), [(number, b"%d" % number) for number in range(1, 6)])
        assert it.make_room_locked([])
        it.deliver_locked(6, b"6", [])
        assert waiting(it) == [5, 6]
        assert (it.size, it.dropped) == (2, 4)

    def test_drops_nothing_while_there_is_room(self) -> None:
        it = filled(channel(3, overflow="drop_oldest"), 2)
        assert it.make_room_locked([])
        assert (it.size, it.dropped) == (3, 0)


class TestMessages:
    def test_have_numbers_in_order_and_the_first_sleeper_is_woken(self) -> None:
        it, first, second = channel(), Reader(), Reader()
        asleep(it, first, second)
        wakes: Wakes = []
        assert [it.deliver_locked(message, None, wakes) for message in "abc"] == [1, 2, 3]
        assert wakes == [first.parker, second.parker]
        assert not first.asleep
        assert list(it.queue) == [(it, 1, "a", None, 0), (it, 2, "b", None, 0), (it, 3, "c", None, 0)]

    def test_wake_only_who_would_take_them(self) -> None:
        it, other = channel(), channel()
        elsewhere, here = Reader(only=other), Reader(only=it)
        asleep(it, elsewhere, here)
        wakes: Wakes = []
        it.deliver_locked("a", None, wakes)
        it.deliver_locked("b", None, wakes)
        assert wakes == [here.parker]
        assert elsewhere.asleep

    def test_are_looked_at_by_none_of_many_replicas_while_all_are_at_work(self) -> None:
        class Busy(list[Any]):
            def __iter__(self) -> NoReturn:
                raise AssertionError("they were looked through")

        it = channel(shared=True)
        asleep(it, Reader())
        wakes: Wakes = []
        it.deliver_locked("a", None, wakes)
        assert len(wakes) == 1, "and that was the last who slept"
        it.readers = Busy([Reader() for _ in range(1_000)])
        it.deliver_locked("b", None, wakes)
        assert len(wakes) == 1

    def test_of_each_partition_wake_its_own_reader_whoever_is_awake(self) -> None:
        it = channel(partition_of=hash, parts=2)
        first, second = Reader(part=0), Reader(part=1)
        asleep(it, first, second)
        wakes: Wakes = []
        it.deliver_locked("a", None, wakes, 0)
        it.deliver_locked("b", None, wakes, 0)
        it.deliver_locked("c", None, wakes, 1)
        assert wakes == [first.parker, second.parker]

    def test_have_an_id_of_the_run_that_sent_them_first_which_is_the_same_after_a_crash(self) -> None:
        it = channel(codec=codec_of(int), run_id="r2")
        it.restore(9, AckSet(3), [(4, b"4")], [(4, "r0"), (6, "r1")])
        assert [it.message_id(number) for number in (4, 5, 6, 8, 9, 20)] == [
            *("c.in-r0-4", "c.in-r0-5", "c.in-r1-6", "c.in-r1-8", "c.in-r2-9", "c.in-r2-20")
        ]
        assert channel(run_id="r").message_id(7) == "c.in-r-7"

    def test_are_given_back_to_the_front_in_order(self) -> None:
        it = filled(channel(5), 4)
        taken = [it.queue.popleft() for _ in range(3)]
        it.give_back_locked(taken, [])
        assert waiting(it) == [1, 2, 3, 4]

    def test_that_are_given_back_wake_who_sleeps(self) -> None:
        it, reader = filled(channel(5), 1), Reader()
        taken = it.queue.popleft()
        asleep(it, reader)
        wakes: Wakes = []
        it.give_back_locked([taken], wakes)
        assert wakes == [reader.parker]
        assert not reader.asleep

    def test_are_given_back_to_as_many_as_can_take_them(self) -> None:
        it = filled(channel(5), 3)
        taken = [it.queue.popleft() for _ in range(2)]
        it.queue.clear()
        asleep(it, Reader(), Reader(), Reader())
        wakes: Wakes = []
        it.give_back_locked(taken, wakes)
        assert wakes == [reader.parker for reader in it.readers[:2]]
        wakes.clear()
        channel().give_back_locked([], wakes)
        assert not wakes

    @pytest.mark.parametrize(
        ("codec", "message", "expected"),
        [(None, [1], [1]), (codec_of(int), 1, 1), (codec_of(list[int]), [1], UNREAD)],
    )
    def test_that_can_change_are_read_afresh_when_they_were_given_back(
        self, codec: Any, message: Any, expected: Any
    ) -> None:
        it = channel(codec=codec)
        it.deliver_locked(message, b"1", [])
        it.give_back_locked([it.queue.popleft()], [])
        assert it.queue[0][2:] == (expected, b"1", 0)

    def test_of_an_earlier_run_are_put_back_and_may_be_more_than_there_is_room_for(self) -> None:
        it = channel(capacity=2, codec=codec_of(int))
        it.restore(9, AckSet(3, [(5, 5)]), [(4, b"4"), (6, b"6"), (7, b"7")])
        assert [entry[1:4] for entry in it.queue] == [(4, UNREAD, b"4"), (6, UNREAD, b"6"), (7, UNREAD, b"7")]
        assert (it.size, it.most, it.next_sequence) == (3, 3, 9)
        assert not it.take_room_locked(1)
        for number in (4, 6, 7):
            it.settle_locked(number, 0.0, [])
        assert it.acks.frozen() == (7, ())
        assert it.size == 0

    def test_that_failed_are_forgotten_when_they_are_settled(self) -> None:
        it = filled(channel(), 2)
        it.attempts.update({1: 2, 2: 1})
        it.settle_locked(1, 0.0, [])
        assert it.attempts == {2: 1}

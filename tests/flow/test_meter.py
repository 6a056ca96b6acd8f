"""How handling and waiting are sampled: groups of messages, marks, and what each stands for."""

from __future__ import annotations

from collections import deque

import pytest

from minions import Histogram
from minions.flow.channel import Channel, Wakes
from minions.flow.lane import Lane
from minions.flow.mailbox import Mailbox
from minions.flow.meter import Mark, Marker, Meter
from minions.flow.parker import Parker


def run(meter: Meter, durations_s: list[float]) -> Histogram:
    """Handles messages as a life does: in groups, as long as the meter says."""
    now_s, number = 0.0, 0
    while number < len(durations_s):
        group = durations_s[number : number + meter.group]
        number += len(group)
        meter.handled(len(group), now_s, now_s + sum(group), number)
        now_s += sum(group)
    meter.settle()
    return meter.handling.take()


@pytest.mark.parametrize("each_s", [1e-7, 4e-7, 3e-6, 5e-5, 0.004, 2.0])
def test_every_message_is_counted_and_the_total_is_right_whatever_the_group(each_s: float) -> None:
    found = run(Meter(), [each_s] * 3_000)
    assert found.count == 3_000
    assert found.total_s == pytest.approx(3_000 * each_s)
    assert found.p50_s == pytest.approx(each_s, rel=0.25, abs=1e-6)


def test_a_slow_message_is_a_group_of_its_own() -> None:
    meter = Meter()
    found = run(meter, [0.001] * 20)
    assert meter.group == 1
    assert found.counts.count(0) == len(found.counts) - 1


def test_a_slow_message_among_fast_ones_gets_what_is_beyond_the_usual() -> None:
    durations_s = [2e-6] * 5_000
    durations_s[2_750] = 0.5
    found = run(Meter(), durations_s)
    assert found.count == 5_000
    assert found.max_s == pytest.approx(0.5, rel=0.01)
    assert found.total_s == pytest.approx(sum(durations_s))
    assert found.p99_s < 5e-6
    assert sum(count for bound_s, count in zip(found.bounds_s, found.counts, strict=False) if bound_s > 0.1) == 1


def test_messages_that_take_no_time_by_the_clock_are_groups_as_large_as_there_are() -> None:
    meter = Meter()
    meter.handled(1, 0.0, 1.0, 1)
    for number in range(2, 6_000):  # as under a fake clock: the usual time goes towards 0
        meter.handled(1, 1.0, 1.0, number)
        meter.settle()
    assert meter.handling.take().count == 5_999
    assert meter.group == 2_048


def test_what_gets_slower_is_soon_timed_alone() -> None:
    meter = Meter()
    run(meter, [1e-6] * 2_000)
    assert meter.group > 200
    found = run(meter, [0.01] * 1_200)
    assert meter.group == 1
    assert found.p99_s == pytest.approx(0.01)
    assert found.max_s == pytest.approx(0.01), "not one message of a second"


def test_nothing_is_left_out_when_a_life_settles_before_it_sleeps() -> None:
    meter = Meter()
    run(meter, [1e-6] * 2_000)
    meter.handled(3, 0.0, 3e-6, 9)
    assert meter.handling.take().count == 2_000
    meter.settle()
    assert meter.handling.take().count == 2_003
    meter.settle()
    assert meter.handling.take().count == 2_003
    meter.handled(100, 1.0, 1.5, 200)  # one of these was slow, and nothing follows that would tell
    meter.settle()
    assert meter.handling.take().count == 2_103
    assert meter.handling.take().max_s == pytest.approx(0.5, rel=0.01)


def test_nothing_is_left_out_once_a_reader_counts_as_asleep() -> None:
    """A system is quiet from then on, and whoever has waited for that reads the figures."""
    channel = Channel("b.in", 0)
    mailbox = Mailbox((channel,), Parker())
    meter = mailbox.meters[channel]
    run(meter, [1e-6] * 2_000)
    meter.handled(3, 0.0, 3e-6, 9)
    mailbox.fall_asleep_locked(None, timed=False)
    assert meter.handling.take().count == 2_003


def marked(moments_s: list[float], capacity: int = 1_000) -> list[Mark]:
    """The marks that messages get which come at these moments."""
    marker, due = Marker(1, capacity), 1
    for sequence, now_s in enumerate(moments_s, 1):
        if sequence >= due:
            due = sequence + marker.mark_locked(sequence, 0, now_s)
            assert due > sequence
    return list(marker.queues[0])


def test_each_message_is_marked_while_they_come_slowly() -> None:
    assert [mark[0] for mark in marked([number * 0.01 for number in range(30)])] == list(range(1, 31))


def test_of_many_a_few_are_marked_and_stand_for_all() -> None:
    marks = marked([number * 1e-6 for number in range(50_000)], capacity=1_000_000)
    assert len(marks) < 150
    assert sum(weight for _, _, weight in marks) == marks[-1][0]


def test_marks_are_bounded_although_nobody_takes_them() -> None:
    assert len(marked([number * 0.01 for number in range(5_000)], capacity=5_000)) <= 128


def test_a_mark_tells_how_long_its_message_has_waited_until_the_group_was_begun() -> None:
    marker, meter = Marker(1, 100), Meter()
    for sequence, now_s in ((1, 10.0), (2, 11.0), (3, 12.0)):
        marker.mark_locked(sequence, 0, now_s)
    marker.take_locked(0, 2, meter.marks)
    assert [mark[0] for mark in meter.marks] == [1, 2]
    meter.handled(1, 15.0, 15.5, 1)
    assert meter.waits.take().max_s == 5.0
    meter.handled(1, 15.5, 16.0, 2)
    assert meter.waits.take().count == 2
    assert meter.waits.take().total_s == pytest.approx(9.5)
    assert not meter.marks
    assert len(marker.queues[0]) == 1


def test_a_message_that_is_dropped_has_not_waited_until_the_next_one_was_begun() -> None:
    channel, meter, wakes = Channel("b.in", 0, capacity=2, overflow="drop_oldest"), Meter(), Wakes()
    for number in range(1, 11):
        assert channel.make_room_locked(wakes)
        sequence = channel.deliver_locked(number, None, wakes)
        if sequence >= channel.mark_due:
            channel.mark_locked(sequence, 0, float(number))
    channel.marker.take_locked(0, 10, meter.marks)
    meter.begun(10.5, 10)
    assert meter.waits.take().count == 2
    assert meter.waits.take().max_s == 1.5


def test_marks_go_along_a_lane_with_their_messages() -> None:
    channel, lane = Channel("b.in", 0, capacity=100), Lane()
    assert channel.lend_locked(lane)
    lane.sent.append("one")
    lane.mark_locked(lane.used - 1, 7.0)
    for _ in range(2):
        lane.room.pop()
    lane.sent.append("two")
    lane.mark_locked(2, 8.0)  # its message is not there yet
    channel.gather_locked()
    assert [mark[:2] for mark in channel.marker.queues[0]] == [(1, 7.0)]
    lane.sent.append("three")
    channel.gather_locked()
    assert [mark[:2] for mark in channel.marker.queues[0]] == [(1, 7.0), (3, 8.0)]
    assert channel.marker.queues == (deque(channel.marker.queues[0]),)

"""The epoch: what units add up to, and what of it survives to be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.epoch import Epoch, Sealed


def sealed(acks: tuple[int, tuple[tuple[int, int], ...]], *sent: int) -> Sealed:
    messages = [(number, str(number).encode()) for number in sent]
    return Sealed(1, 1, 0, states={}, acks={"c": acks}, sent={"c": messages}, keyed={})


@pytest.mark.parametrize(
    ("acks", "sent", "left"),
    [
        ((0, ()), [1, 2, 3], [1, 2, 3]),
        ((2, ()), [1, 2, 3], [3]),
        ((3, ()), [1, 2, 3], []),
        ((9, ()), [1, 2, 3], []),
        ((0, ((2, 2),)), [1, 2, 3], [1, 3]),
        ((1, ((3, 4),)), [2, 3, 4, 5], [2, 5]),
        ((0, ((1, 3),)), [1, 2, 3], []),
        ((5, ()), [], []),
        ((2, ((4, 9),)), [3], [3]),
    ],
)
def test_what_was_sent_and_settled_cancels(
    acks: tuple[int, tuple[tuple[int, int], ...]], sent: list[int], left: list[int]
) -> None:
    assert sealed(acks, *sent).survivors("c") == [(number, str(number).encode()) for number in left]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_survivors_are_what_a_set_would_keep(steps: list[tuple[bool, int]]) -> None:
    channel, epoch = Channel("c", 0, codec=codec_of(int)), Epoch(1)
    open_numbers: list[int] = []
    for is_send, which in steps:
        if is_send:
            number = channel.deliver_locked(0, b"0", [])
            epoch.sent(channel, number, b"0")
            open_numbers.append(number)
        elif which < len(open_numbers):
            channel.acks.add(open_numbers.pop(which))
            epoch.settled(channel)
    if steps and channel in epoch.touched:
        assert [number for number, _ in epoch.seal().survivors("c")] == open_numbers


def test_a_sealed_epoch_does_not_change_with_what_follows() -> None:
    channel, epoch = Channel("c", 0, codec=codec_of(int)), Epoch(7)
    epoch.units, epoch.size_bytes = 2, 10
    kept = {"summary": b"1"}
    epoch.states["component"] = kept
    epoch.sent(channel, 1, b"x")
    value = epoch.seal()
    kept["summary"] = b"2"
    channel.acks.add(1)
    assert value.states == {"component": {"summary": b"1"}}
    assert value.acks == {"c": (0, ())}
    assert value.survivors("c") == [(1, b"x")]
    assert (value.number, value.units, value.size_bytes) == (7, 2, 10)


def test_a_channel_in_which_something_was_only_settled_is_part_of_it() -> None:
    channel, epoch = Channel("c", 0, codec=codec_of(int)), Epoch(1)
    channel.acks.add(1)
    epoch.settled(channel)
    value = epoch.seal()
    assert value.acks == {"c": (1, ())}
    assert value.survivors("c") == []

"""The record of what is settled, against a plain set."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from minions.flow.acks import AckSet, settled, unsettled

NUMBERS = st.lists(st.integers(1, 40), max_size=60)


@given(NUMBERS)
def test_an_ack_set_is_a_set(numbers: list[int]) -> None:
    acks, model = AckSet(), set[int]()
    for number in numbers:
        assert acks.add(number) is (number not in model)
        model.add(number)
        assert set(range(1, 45)).difference(unsettled(acks.frozen(), range(1, 45))) == model
        assert acks.highest == max(model)


@given(NUMBERS)
def test_its_frozen_copy_is_as_short_as_can_be_and_makes_it_again(numbers: list[int]) -> None:
    acks = AckSet()
    for number in numbers:
        acks.add(number)
    low, intervals = acks.frozen()
    edges = [low, *(edge for interval in intervals for edge in interval)]
    assert edges == sorted(edges)
    for (_, last), (first, _) in zip([(0, low), *intervals], intervals, strict=False):
        assert first > last + 1, "two intervals touch each other"
    again = AckSet(low, intervals)
    assert again.frozen() == (low, intervals)
    for number in range(1, 45):
        assert again.add(number) is acks.add(number)
    assert again.frozen() == acks.frozen() == (44, ())


@given(NUMBERS, st.integers(1, 42), st.integers(0, 10))
def test_what_is_settled_and_what_is_not_is_told_of_the_frozen_copy(numbers: list[int], first: int, more: int) -> None:
    acks = AckSet()
    for number in numbers:
        acks.add(number)
    span = range(first, first + more + 1)
    assert settled(acks.frozen(), span[0], span[-1]) is set(span).issubset(numbers)
    assert unsettled(acks.frozen(), span) == [number for number in span if number not in numbers]


def test_a_frozen_copy_does_not_change() -> None:
    acks = AckSet()
    acks.add(1)
    acks.add(5)
    frozen = acks.frozen()
    acks.add(2)
    acks.add(6)
    assert frozen == (1, ((5, 5),))


def test_there_are_never_more_intervals_than_messages_in_work() -> None:
    in_work, acks, chance = list(range(1, 9)), AckSet(), random.Random(7)
    for number in range(9, 2_000):
        acks.add(in_work.pop(chance.randrange(len(in_work))))
        in_work.append(number)
        assert len(acks.frozen()[1]) <= len(in_work)
    assert acks.low >= min(in_work) - 1


class Counted(int):
    """A number that counts how often it is compared."""

    looks = 0

    def __lt__(self, other: int) -> bool:
        Counted.looks += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        Counted.looks += 1
        return int(self) > other


def test_one_message_is_settled_without_a_look_at_all_the_intervals() -> None:
    """Of two partitions that take turns one stands still, so that every other message is settled."""
    many = 10_000
    acks = AckSet(0, [(number, number) for number in range(3, many, 2)])
    Counted.looks = 0
    assert acks.add(Counted(many + 1)), "behind all of them"
    assert acks.add(Counted(many // 2)), "between two of them"
    assert not acks.add(Counted(many // 2))
    assert unsettled(acks.frozen(), [Counted(many // 2), Counted(many + 3)]) == [many + 3]
    assert settled(acks.frozen(), Counted(many // 2 - 1), Counted(many // 2 + 1))
    assert Counted.looks < 200

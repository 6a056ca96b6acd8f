"""Keys and partitions: the same in every process, equal for equal keys, and a clear word where there is none."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections import Counter
from typing import Any

import attrs
import pytest

from minions.errors import MessageRefused
from minions.model.partition import PARTITIONS, Partitioning, home_of, node_of, partition_of_key

UTC = datetime.UTC
CET = datetime.timezone(datetime.timedelta(hours=1))


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    __slots__ = ()


@attrs.frozen
class Order:
    customer: Any


@pytest.mark.parametrize(
    ("key", "partition"),
    [
        ("sensor-1", 4),
        (b"sensor-1", 54),
        (17, 0),
        (-17, 27),
        (None, 82),
        (("a", 1), 35),
        ((), 119),
        ("", 11),
        (2**80, 109),
    ],
)
def test_a_key_has_the_same_partition_in_every_version(key: Any, partition: int) -> None:
    assert partition_of_key(key) == partition


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Name("a"), "a"),
        (datetime.datetime(2026, 1, 1, 12, tzinfo=UTC), datetime.datetime(2026, 1, 1, 13, tzinfo=CET)),
        (uuid.UUID(int=7), uuid.UUID(int=7)),
        ((1, "a"), (True, "a")),
    ],
)
def test_equal_keys_share_a_partition(one: Any, other: Any) -> None:
    assert partition_of_key(one) == partition_of_key(other)


@pytest.mark.parametrize("keys", [range(10_000), [f"sensor-{number}" for number in range(10_000)]])
def test_keys_are_spread_evenly(keys: Any) -> None:
    used = Counter(map(partition_of_key, keys))
    assert len(used) == PARTITIONS
    assert max(used.values()) < 2 * 10_000 / PARTITIONS


@pytest.mark.parametrize(
    ("one", "other"), [(("ab", "c"), ("a", "bc")), ((("a",), "b"), ("a", ("b",))), ("1", 1), (b"a", "a")]
)
def test_what_differs_is_not_thrown_together(one: Any, other: Any) -> None:
    assert partition_of_key(one) != partition_of_key(other)


@pytest.mark.parametrize("key", [1.5, [1], {"a": 1}, object(), Order("x"), ("a", [1])])
def test_what_cannot_be_a_key_is_refused(key: Any) -> None:
    with pytest.raises(MessageRefused, match=r"count\.orders: .*cannot be a key: use str, int") as refusal:
        Partitioning("count.orders", "customer").partition_of(Order(key))
    assert "partition_by='customer'" in str(refusal.value)


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


def _nested(depth: int) -> tuple[Any, ...]:
    key: tuple[Any, ...] = ()
    for _ in range(depth):
        key = (key,)
    return key


@pytest.mark.parametrize(
    "key",
    [
        10**5_000,
        _nested(5_000),
        datetime.datetime.min.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=5))),
        Unprintable(),
    ],
    ids=["digits", "depth", "year 0", "repr"],
)
def test_a_key_that_is_past_all_bounds_is_refused_like_any_other(key: Any) -> None:
    with pytest.raises(
        MessageRefused, match=r"count\.orders: the partition of .* cannot be told: partition_by='customer' gave"
    ):
        Partitioning("count.orders", "customer").partition_of(Order(key))


def test_a_message_without_a_key_is_refused() -> None:
    with pytest.raises(MessageRefused, match="partition_by='custmer' raised AttributeError"):
        Partitioning("count.orders", "custmer").partition_of(Order("x"))

    def broken(order: Order) -> str:
        raise ValueError("no key today")

    with pytest.raises(MessageRefused, match="broken raised ValueError: no key today"):
        Partitioning("count.orders", broken).partition_of(Order("x"))


def test_the_name_of_a_partition_s_home_tells_both_parts() -> None:
    assert node_of(home_of("count", 17)) == ("count", 17)
    assert node_of("count") == ("count", None)

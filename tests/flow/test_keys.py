"""Keys as text: they come back as they were, and SQLite sorts them as Python does."""

from __future__ import annotations

import datetime as dt
import enum
import math
import sqlite3
import uuid
import zoneinfo
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minions.errors import CannotDecode, CannotEncode, CannotStore
from minions.flow.keys import key_codec_of


class Level(enum.Enum):  # neither the names nor their order are those of the values
    HIGH = 30
    LOW = -2
    MIDDLE = 7
    ALSO_LOW = -2  # noqa: PIE796 - an alias is the same member


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green\x01"
    BLUE = "green"


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TRUE = "true"


class Listed(enum.Enum):
    ONE = [1]  # noqa: RUF012 - that is what is refused


class NotANumber(enum.Enum):
    NAN = math.nan


class Empty(enum.Enum):
    pass


class Point(NamedTuple):
    x: int
    y: int


class Name(str):
    __slots__ = ()


@attrs.frozen
class Record:
    x: int


# The characters on which an encoding by bytes might stumble, more often than chance would bring them.
CHARACTERS = st.sampled_from("\x00\x01\x02\x03\x04\x05ab\x7f\x80\xff\ud7ff\ue000\uffff\U00010000\U0010ffff")
TEXTS = st.text(CHARACTERS, max_size=6) | st.text(max_size=6)
POWERS = st.builds(
    lambda sign, bits, by: sign * (1 << bits) + by, st.sampled_from([-1, 1]), st.integers(0, 1200), st.integers(-1, 1)
)
INTS = st.integers(-40, 40) | POWERS | st.integers()
MOMENTS = st.datetimes().map(lambda moment: moment.replace(fold=0))

KEYS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: INTS,
    float: st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324]),
    bool: st.booleans(),
    bytes: st.binary(max_size=4),
    dt.date: st.dates(),
    dt.datetime: MOMENTS,
    uuid.UUID: st.uuids(),
    Level: st.sampled_from(Level),
    Colour: st.sampled_from(Colour),
}

Typed = tuple[Any, Any, Any]
"""A type, and two keys of it."""


def scalars() -> st.SearchStrategy[tuple[Any, st.SearchStrategy[Any]]]:
    return st.sampled_from(list(KEYS.items()))


def tupled(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, min_size=1, max_size=4).map(
        lambda parts: (tuple[tuple(cls for cls, _ in parts)], st.tuples(*(keys for _, keys in parts)))  # type: ignore[misc]
    )


@st.composite
def typed_keys(draw: st.DrawFn, shapes: st.SearchStrategy[Any]) -> Typed:
    declared, keys = draw(shapes)
    first = draw(keys)
    return declared, first, draw(keys | st.just(first))


def by_value(key: Any) -> Any:
    """What the order of a key is: plain enums have none of their own."""
    if isinstance(key, tuple):
        return tuple(map(by_value, key))
    return key.value if isinstance(key, enum.Enum) else key


def check_pair(declared: Any, a: Any, b: Any) -> None:
    codec = key_codec_of(declared)
    texts = codec.encode(a), codec.encode(b)
    first, second = (text.encode() for text in texts)
    assert (first < second) is (by_value(a) < by_value(b))
    assert (first == second) is (a == b)
    for key, text in zip((a, b), texts, strict=True):
        again = codec.decode(text)
        assert again == key
        assert types_of(again) == types_of(key)
        assert "\x00" not in text


def types_of(key: Any) -> Any:
    return tuple(map(types_of, key)) if type(key) is tuple else type(key)


@pytest.mark.parametrize("declared", KEYS, ids=lambda declared: declared.__name__)
def test_a_key_comes_back_and_two_are_in_their_order(declared: Any) -> None:
    @given(KEYS[declared], KEYS[declared])
    def check(a: Any, b: Any) -> None:
        check_pair(declared, a, b)

    check()


@given(typed_keys(st.recursive(tupled(scalars()), lambda inner: tupled(inner | scalars()), max_leaves=6)))
@example((tuple[str, str], ("a", "b"), ("a\x01b", "")))
@example((tuple[str, str], ("a", "\x05"), ("a\x00", "")))
@example((tuple[tuple[bytes, str], int], ((b"", "a"), 1), ((b"", "a\x02"), 0)))
def test_tuples_of_any_shape_come_back_and_are_in_their_order(typed: Typed) -> None:
    check_pair(*typed)


@given(MOMENTS, MOMENTS)
def test_moments_in_utc_keep_their_zone_and_stand_apart_from_naive_ones(a: dt.datetime, b: dt.datetime) -> None:
    codec = key_codec_of(dt.datetime)
    check_pair(dt.datetime, a.replace(tzinfo=dt.UTC), b.replace(tzinfo=dt.UTC))
    assert codec.decode(codec.encode(a.replace(tzinfo=dt.UTC))).tzinfo is dt.UTC
    assert codec.encode(a) < codec.encode(b.replace(tzinfo=dt.UTC))


@given(st.lists(st.tuples(TEXTS, INTS), min_size=1, max_size=12, unique=True), st.data())
def test_sqlite_sorts_the_keys_and_finds_ranges_of_them(keys: list[tuple[str, int]], data: st.DataObject) -> None:
    codec = key_codec_of(tuple[str, int])
    low, high = data.draw(st.sampled_from(keys)), data.draw(st.sampled_from(keys))
    with_lengths = "SELECT key, length(key) FROM entries "
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE entries (key TEXT COLLATE BINARY PRIMARY KEY) WITHOUT ROWID")
        connection.executemany("INSERT INTO entries VALUES (?)", [(codec.encode(key),) for key in keys])
        everything = connection.execute(with_lengths + "ORDER BY key").fetchall()
        between = connection.execute(
            with_lengths + "WHERE key >= ? AND key < ? ORDER BY key", (codec.encode(low), codec.encode(high))
        ).fetchall()
    finally:
        connection.close()
    assert [codec.decode(text) for text, _ in everything] == sorted(keys)
    assert [codec.decode(text) for text, _ in between] == [key for key in sorted(keys) if low <= key < high]
    assert all(length == len(text) for text, length in everything), "SQLite stopped reading inside a key"


def test_a_negative_zero_is_stored_as_zero() -> None:
    codec = key_codec_of(float)
    assert math.copysign(1, codec.decode(codec.encode(-0.0))) == 1


def test_an_int_of_more_digits_than_python_prints_is_a_key() -> None:
    check_pair(int, 16**9000, -(16**9000))


@pytest.mark.parametrize(
    ("declared", "key", "text"),
    [  # folders hold them: a change here makes them unreadable
        (str, "a\x00\x01\x02b", "a\x02\x02\x02\x03\x02\x04b"),
        (tuple[str, int, tuple[bool, bytes]], ("é", -1, (True, b"\xff")), "é\x01neee\x011\x01ff"),
        (tuple[int, int], (0, 255), "p110\x01p12ff"),
        (tuple[float, float], (1.0, -1.0), "bff0000000000000\x01400fffffffffffff"),
        (dt.date, dt.date(1, 2, 3), "0001-02-03"),
        (dt.datetime, dt.datetime(2024, 1, 2), "n2024-01-02T00:00:00.000000"),  # noqa: DTZ001
        (dt.datetime, dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "u2024-01-02T00:00:00.000000"),
        (uuid.UUID, uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (tuple[Level, Colour], (Level.LOW, Colour.RED), "need\x01red"),
    ],
)
def test_the_stored_forms_stay(declared: Any, key: Any, text: str) -> None:
    assert key_codec_of(declared).encode(key) == text
    assert key_codec_of(declared).decode(text) == key


@pytest.mark.parametrize(
    ("declared", "key", "why"),
    [
        (int, True, "expected int, got True; convert it"),
        (int, 1.0, "expected int, got 1.0"),
        (float, 1, "expected float, got 1"),
        (bool, 1, "expected bool, got 1"),
        (str, b"a", "expected str, got b'a'"),
        (str, None, "expected str, got None"),
        (str, Name("a"), "expected str, got 'a' of Name"),
        (str, Colour.RED, "expected str, got .* of Colour"),
        (str, "\ud800", "lone surrogate, which is no text; use bytes"),
        (bytes, bytearray(b"a"), "expected bytes, got bytearray"),
        (float, math.nan, "nan has no place in an order"),
        (dt.date, dt.datetime(2024, 1, 1), "expected date, got datetime"),  # noqa: DTZ001
        (dt.datetime, dt.date(2024, 1, 1), "expected datetime, got .*of date"),
        (dt.datetime, dt.datetime(2024, 1, 1, fold=1), "fold=1"),  # noqa: DTZ001
        (
            dt.datetime,
            dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/London")),
            "not in datetime.UTC; use .as",
        ),
        (uuid.UUID, str(uuid.UUID(int=1)), "expected UUID, got"),
        (Level, 7, "expected Level, got 7; use a member"),
        (Level, Colour.RED, "expected Level, got"),
        (tuple[int, int], Point(1, 2), "expected a tuple of 2, got Point"),
        (tuple[int, int], [1, 2], "expected a tuple of 2, got"),
        (tuple[int, int], (1,), "expected a tuple of 2, got"),
        (tuple[int, tuple[str, int]], (1, ("a", "b")), r"at \[1\] at \[1\] expected int, got 'b'"),
    ],
)
def test_a_key_of_another_type_is_refused(declared: Any, key: Any, why: str) -> None:
    with pytest.raises(CannotEncode, match=f"key of type .*{why}"):
        key_codec_of(declared).encode(key)


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (str, "\x00"),
        (str, "a\x01b"),
        (str, "\x02"),
        (str, "\x02\x05"),
        (str, "\ud800"),
        (int, ""),
        (int, "p"),
        (int, "7"),
        (int, "q115"),
        (int, "p1205"),
        (int, "p11 5"),
        (int, "nee"),
        (int, "nef"),
        (int, "neef"),  # minus zero
        (bool, "2"),
        (bytes, "F0"),
        (bytes, "f"),
        (float, "-1"),
        (float, "1" * 17),
        (float, "f" * 16),  # not a number
        (float, "7" + "f" * 15),  # minus zero
        (dt.date, "20240101"),
        (dt.datetime, "2024-01-01T00:00:00.000000"),
        (dt.datetime, "n2024-01-01T00:00:00"),
        (dt.datetime, "n2024-01-01T00:00:00.000000+00:00"),
        (uuid.UUID, "{00000000-0000-0000-0000-000000000001}"),
        (Level, key_codec_of(int).encode(8)),
        (tuple[int, int], "p115"),
        (tuple[str, str], "a\x01b\x01c"),
        (tuple[str, int], "a\x01b"),
    ],
)
def test_what_was_never_written_is_refused(declared: Any, text: str) -> None:
    with pytest.raises(CannotDecode, match=r"is not the text of such a key; declare the type"):
        key_codec_of(declared).decode(text)


@given(st.sampled_from([*KEYS, tuple[str, int], tuple[float, Level]]), TEXTS | st.text("0123456789abcdefnpu-:T.\x01"))
def test_a_text_is_decoded_only_if_it_is_written_again(declared: Any, text: str) -> None:
    codec = key_codec_of(declared)
    try:
        key = codec.decode(text)
    except CannotDecode:
        return
    assert codec.encode(key) == text


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        (list, "^list cannot be a key of a table; use str, int, "),
        (dict[str, int], r"^dict\[str, int\] cannot be a key"),
        (Any, "^Any cannot be a key"),
        (None, "^None cannot be a key"),
        (str | None, r"^str \| None cannot be a key"),
        (Literal["a"], "cannot be a key"),
        (Decimal, "^Decimal cannot be a key"),
        (object, "^object cannot be a key"),
        (Name, "^Name cannot be a key"),
        (Record, "^Record cannot be a key"),
        (Point, "^Point cannot be a key"),
        (tuple, "^tuple cannot be a key"),
        (tuple[()], "cannot be a key .* with a fixed length"),
        (tuple[int, ...], r"^tuple\[int, \.\.\.\] cannot be a key .* with a fixed length"),
        (tuple[str, tuple[list[int]]], r"^list\[int\] cannot be a key"),
        ("str", "^str cannot be a key"),
        ([int], "cannot be a key"),
        (Permission, "^Permission cannot be a key .* flags combine to more than its members; use int"),
        (Mixed, "^Mixed cannot be a key .* values of one type, not int, str"),
        (Empty, "^Empty cannot be a key .* values of one type, not none"),
        (Listed, "^Listed cannot be a key .* values of its members: list cannot be a key"),
        (NotANumber, "^NotANumber cannot be a key .* nan has no place"),
    ],
)
def test_what_has_no_order_or_no_end_cannot_be_a_key(declared: Any, why: str) -> None:
    with pytest.raises(CannotStore, match=why):
        key_codec_of(declared)


def test_a_codec_has_the_name_of_its_type() -> None:
    assert key_codec_of(tuple[str, tuple[Level, dt.date]]).name == "tuple[str, tuple[Level, date]]"
    assert key_codec_of(uuid.UUID).name == "UUID"

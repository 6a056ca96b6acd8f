"""The codec: what can be declared can be stored and comes back equal."""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.util
import itertools
import json
import subprocess
import sys
import threading
import tracemalloc
import typing
import uuid
import zoneinfo
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Optional

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions.errors import CannotDecode, CannotEncode, CannotStore
from minions.flow.codec import TypeCodec, codec_of, state_codec_of, verify
from minions.flow.shapes.sameness import is_same
from tests.flow.codec_samples import (
    BERLIN,
    EXAMPLES,
    JSONS,
    NAN,
    OFFSET,
    Alarm,
    Box,
    ByIdentity,
    Color,
    Even,
    FrozenNode,
    FrozenPlain,
    FrozenTotal,
    Level,
    Node,
    Options,
    Pair,
    Plain,
    Portfolio,
    Position,
    Private,
    Reading,
    Right,
    UserId,
    decode_refusal,
    each,
    encode_refusal,
    refusal,
    there_and_back,
)

# What comes back


@pytest.mark.parametrize(("declared", "value"), each(EXAMPLES))
def test_a_value_comes_back_as_it_was_and_either_json_reads_the_other(declared: Any, value: Any) -> None:
    codecs = [codec_of(declared, json=library) for library in JSONS]
    for writer in codecs:
        for reader in codecs:
            data = writer.encode(value)
            assert isinstance(data, bytes)
            assert is_same(value, reader.decode(data))
            json.loads(data, parse_constant=pytest.fail)


@pytest.mark.parametrize(("declared", "value"), each(EXAMPLES))
def test_a_state_comes_back_as_it_was(declared: Any, value: Any) -> None:
    codec = state_codec_of(declared)
    verify(codec, value)
    assert json.loads(codec.encode(value))["type"] == codec.name


def test_what_was_changed_after_init_comes_back() -> None:
    value = Private("s", 2, by_keyword=True)
    value.total = 7
    assert there_and_back(Private, value).total == 7


def test_what_a_frozen_class_has_set_itself_comes_back() -> None:
    value = FrozenTotal((1, 2))
    object.__setattr__(value, "total", 100)
    assert there_and_back(FrozenTotal, value).total == 100


def test_a_zone_comes_back_as_a_zone_and_an_offset_as_an_offset() -> None:
    winter = there_and_back(dt.datetime, dt.datetime(2024, 1, 1, tzinfo=BERLIN))
    assert winter.tzinfo is BERLIN
    assert (winter + dt.timedelta(days=180)).utcoffset() == dt.timedelta(hours=2)
    assert there_and_back(dt.datetime, dt.datetime(2024, 1, 1, tzinfo=OFFSET)).tzinfo == OFFSET


def test_an_int_among_floats_comes_back_as_the_equal_float() -> None:
    assert there_and_back(Reading, Reading("a", 21)) == Reading("a", 21.0)
    assert type(there_and_back(list[float | None], [3])[0]) is float
    assert type(there_and_back(float | str, 3)) is float


def test_a_class_inside_a_function_may_contain_itself() -> None:
    @attrs.define
    class Local:
        inner: Local | None = None

    assert there_and_back(Local, Local(Local())) == Local(Local())


def test_a_copy_shares_nothing() -> None:
    value = Portfolio("me", {"k": Position(1)})
    copy = there_and_back(Portfolio, value)
    copy.positions["k"].quantity = 9
    assert value.positions["k"].quantity == 1


def test_the_bytes_are_plain_json_that_people_can_read(either_json: Literal["orjson", "stdlib"]) -> None:
    codec = codec_of(Portfolio, json=either_json)
    data = codec.encode(Portfolio("Zoë", {"k": Position(1)}, Reading("a", NAN, 2**64)))
    expected = (
        '{"owner":"Zoë","positions":{"k":{"quantity":1,"price":"1.0"}},'
        '"latest":{"sensor":"a","celsius":"nan","count":"0x10000000000000000"}}'
    )
    assert data.decode() == expected


def test_stored_forms_stay_as_they_are() -> None:
    """What an earlier version has written must be read by every later one: changing a line here loses data of users."""
    stored: list[tuple[Any, Any, str]] = [
        (bytes, b"\xff\x00", '"/wA="'),
        (dt.timedelta, dt.timedelta(1, 2, 3), "[1,2,3]"),
        (
            dt.datetime,
            dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
            '"2024-10-27T02:30:00+01:00[Europe/Berlin][_fold=1]"',
        ),
        (Color, Color.GREEN, '"GREEN"'),
        (Right, Right.READ | Right.WRITE, '"0x3"'),
        (deque[int], deque([1], 5), "[5,[1]]"),
        (dict[int, int], {1: 2}, '{"1":2}'),
        (dict[tuple[int, str], int], {(1, "a"): 2}, '{"[1,\\"a\\"]":2}'),
        (dict[Color, int], {Color.RED: 2}, '{"RED":2}'),
        (int | str, "a", '{"$str":"a"}'),
        (Reading | Alarm, Alarm("a", Level.LOW), '{"$Alarm":{"sensor":"a","level":"LOW"}}'),
        (Pair, Pair(1), '{"first":1,"second":null}'),
        (complex, 1j, "[0.0,1.0]"),
    ]
    for declared, value, text in stored:
        assert codec_of(declared).encode(value).decode() == text
        assert is_same(codec_of(declared).decode(text.encode()), value)


# What is told of a type


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (Reading, "Reading"),
        (dict[str, int], "dict[str, int]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Reading | Alarm | None, "Reading | Alarm | None"),
        (Box[list[int]], "Box[list[int]]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Path, "Path"),
        (UserId, "int"),
        (None, "None"),
    ],
)
def test_a_type_has_a_name_without_its_module(declared: Any, name: str) -> None:
    assert codec_of(declared).name == name


def test_the_name_of_a_local_class_has_no_function_in_it() -> None:
    @attrs.frozen
    class Local:
        x: int

    assert codec_of(Local).name == "Local"


SHARED: list[Any] = [int, float, bool, str, None, bytes, complex, Decimal, uuid.UUID, Path, Color, Level, Right]
SHARED += [dt.date, dt.time, dt.datetime, dt.timedelta, tuple[int, ...], tuple[int, Reading], frozenset[Color], Pair]
SHARED += [Reading, FrozenPlain, FrozenNode, FrozenTotal, int | None, Reading | Alarm, Literal["a"]]
COPIED: list[Any] = [bytearray, list[int], set[int], dict[str, int], deque[int], dict, list, tuple[list[int], ...]]
COPIED += [
    Portfolio,
    Position,
    Node,
    Plain,
    Options,
    Box[int],
    Even,
    Reading | Position,
    Position | None,
    FrozenNode | Node,
]


@pytest.mark.parametrize("declared", SHARED)
def test_what_cannot_change_is_shared(declared: Any) -> None:
    assert codec_of(declared).immutable


@pytest.mark.parametrize("declared", COPIED)
def test_what_can_change_anywhere_inside_is_copied(declared: Any) -> None:
    assert not codec_of(declared).immutable


# Classes that run code of their own


def halve(x: int) -> int:
    return x if x < 10 else x // 2


def in_order(words: list[str]) -> list[str]:
    return sorted(words)


@attrs.define
class Sorted:
    words: list[str] = attrs.field(converter=in_order)


@attrs.frozen
class Halved:
    """Even numbers below ten come back as they were only by luck."""

    x: int = attrs.field(converter=halve)


@attrs.define
class NotEmpty:
    words: list[str] = attrs.field(validator=attrs.validators.min_len(1))


@attrs.frozen
class Even2:
    x: int = attrs.field(validator=attrs.validators.in_((2, 4)))


@attrs.define
class Normal:
    text: str

    def __attrs_post_init__(self) -> None:
        self.text = self.text.strip()


@attrs.define
class OwnOrder:
    x: int
    y: int

    def __init__(self, y: int, x: int) -> None:
        self.x, self.y = x, y


def test_a_converter_that_takes_what_it_made_is_fine() -> None:
    assert there_and_back(Sorted, Sorted(["b", "a"])) == Sorted(["a", "b"])


def test_a_converter_that_would_change_a_value_is_found_at_that_value() -> None:
    codec = codec_of(Halved)
    assert codec.decode(codec.encode(Halved(4))) == Halved(4)
    assert "would come back as Halved(x=20)" in encode_refusal(Halved, Halved(80))


def test_what_a_validator_would_refuse_when_it_is_loaded_is_not_stored() -> None:
    value = NotEmpty(["a"])
    value.words.clear()
    assert "could not be loaded again" in encode_refusal(NotEmpty, value)
    assert "could not be loaded again" in encode_refusal(list[NotEmpty], [value])


def test_a_class_whose_validator_takes_no_made_up_example_can_be_stored() -> None:
    assert there_and_back(Even2, Even2(4)) == Even2(4)
    assert decode_refusal(Even2, b'{"x":3}').startswith("Even2: the class refuses what was stored: ValueError")


def test_a_class_that_changes_its_fields_after_init_is_tried_with_each_value() -> None:
    value = Normal("a")
    assert there_and_back(Normal, value) == value
    value.text = " a"
    assert "would come back as Normal(text='a')" in encode_refusal(Normal, value)


def test_an_init_of_the_users_own_is_called_by_keyword() -> None:
    assert there_and_back(OwnOrder, OwnOrder(x=1, y=2)) == OwnOrder(x=1, y=2)


# To verify a value


def test_verify_passes_what_comes_back_and_refuses_what_does_not() -> None:
    verify(codec_of(ByIdentity), ByIdentity(NAN))
    with pytest.raises(CannotStore, match=r"Reading\.count: expected int"):
        verify(codec_of(Reading), Reading("a", 1.0, "x"))  # type: ignore[arg-type]


def test_verify_looks_at_the_fields_and_not_at_equality() -> None:
    @attrs.define
    class AlwaysEqual:
        x: int

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    forgetful: TypeCodec[Any] = TypeCodec(AlwaysEqual, "AlwaysEqual", False, lambda _: b"", lambda _: AlwaysEqual(0))
    with pytest.raises(CannotStore, match="would come back as"):
        verify(forgetful, AlwaysEqual(1))


DIFFERENT: list[tuple[Any, Any]] = [
    *[(1, True), (1.0, 1), (1, 1.5), (0.0, -0.0), (NAN, 1.0), (1.0, NAN), (complex(0, 0.0), complex(0, -0.0))],
    *[(Decimal("1.0"), Decimal("1.00")), (dt.time(1), dt.time(1, fold=1)), (Reading("a", 1.0), Reading("a", 2.0))],
    *[([1], (1,)), ([1], [1, 2]), ({1}, {2}), ({NAN}, {1.0}), (deque([1], 2), deque([1], 3)), (Plain(1), Plain(2))],
    *[({"a": 1}, {"a": 2}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (defaultdict(int), defaultdict(float))],
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_sameness_sees_every_difference(one: Any, other: Any) -> None:
    assert is_same(one, one)
    assert not is_same(one, other)


# numpy


def test_numpy_arrays_come_back_as_they_were() -> None:
    numpy: Any = importlib.import_module("numpy")
    codec = codec_of(numpy.ndarray)
    numbers = [numpy.array([1, 2], ">i2"), numpy.array([NAN, 1]), numpy.array([1j]), numpy.array([True])]
    others = [numpy.array(["a", "bc"]), numpy.array([b"a"]), numpy.array(["2024-01-01"], "M8[ns]")]
    layouts = [numpy.arange(6.0).reshape(2, 3), numpy.asfortranarray(numpy.ones((2, 3))), numpy.arange(10)[::3]]
    empty = [numpy.array(5), numpy.zeros((0, 3)), numpy.zeros(0, "U1")]
    for array in numbers + others + layouts + empty:
        again = codec.decode(codec.encode(array))
        assert is_same(array, again)
        assert again.flags.writeable
    assert not codec.immutable


def test_numpy_arrays_that_would_not_come_back_are_refused() -> None:
    numpy: Any = importlib.import_module("numpy")
    codec = codec_of(numpy.ndarray)
    objects = [numpy.array([object()]), numpy.zeros(2, [("a", int)]), numpy.zeros(2, "V3")]
    for wrong in [*objects, numpy.ma.masked_array([1]), numpy.float64(1.5), [1.0]]:
        with pytest.raises(CannotEncode, match=r"expected ndarray|array of"):
            codec.encode(wrong)
    with pytest.raises(CannotDecode):
        codec.decode(b'{"dtype":"|O","shape":[1],"data":"AAAAAAAAAAA="}')
    assert "in a set" in refusal(set[numpy.ndarray])
    assert "declare int, float or numpy.ndarray" in refusal(numpy.int64)


def test_a_declared_dtype_is_kept_to() -> None:
    numpy: Any = importlib.import_module("numpy")
    arrays: Any = importlib.import_module("numpy.typing").NDArray
    codec = codec_of(arrays[numpy.float64])
    verify(codec, numpy.ones(3))
    with pytest.raises(CannotEncode, match="expected ndarray of float64, got one of int"):
        codec.encode(numpy.arange(3))
    verify(codec_of(arrays[numpy.floating]), numpy.ones(3))
    verify(codec_of(dict[str, arrays[Any]]), {"a": numpy.arange(3)})


# What it costs


def test_a_stored_form_takes_no_more_memory_than_its_bytes(either_json: Literal["orjson", "stdlib"]) -> None:
    codecs: list[TypeCodec[Any]] = [codec_of(str, json=either_json), state_codec_of(str, json=either_json)]
    for codec, length in itertools.product(codecs, (100, 5_000)):
        tracemalloc.start()
        try:
            kept = [codec.encode("x" * length) for _ in range(100)]
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert taken < 100 * (len(kept[0]) + 100) + 10_000


# Many threads, few imports


def test_a_codec_serves_many_threads_at_once() -> None:
    codec = codec_of(Portfolio)
    values = [Portfolio(str(number), {str(k): Position(k) for k in range(number)}) for number in range(20)]
    together = threading.Barrier(4)

    def work(_: int) -> list[Portfolio]:
        together.wait(10)
        codec_of(Node)
        return [codec.decode(codec.encode(value)) for value in values for _ in range(20)][::20]

    with ThreadPoolExecutor(4) as pool:
        assert all(result == values for result in pool.map(work, range(4)))


def test_importing_the_codec_imports_neither_orjson_nor_numpy_nor_pickle_of_ours() -> None:
    script = "import sys, minions.flow.codec; print([name for name in ('orjson', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# Any values of any types


Typed = tuple[Any, st.SearchStrategy[Any]]


def scalars() -> st.SearchStrategy[Typed]:
    zones = st.one_of(
        st.none(),
        st.integers(-86_399, 86_399).map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds))),
        st.sampled_from([BERLIN, zoneinfo.ZoneInfo("Australia/Lord_Howe"), zoneinfo.ZoneInfo("UTC")]),
    )
    return st.sampled_from(
        [
            (int, st.integers()),
            (float, st.floats()),
            (str, st.text()),
            (bool, st.booleans()),
            (bytes, st.binary()),
            (Decimal, st.decimals()),
            (uuid.UUID, st.uuids()),
            (dt.date, st.dates()),
            (dt.time, st.times(timezones=zones)),
            (dt.datetime, st.datetimes(timezones=zones)),
            (dt.timedelta, st.timedeltas()),
            (Color, st.sampled_from(Color)),
            (Fraction, st.fractions()),
        ]
    )


LIST, TUPLE, DICT, OPTIONAL = (typing.cast("Any", generic) for generic in (list, tuple, dict, Optional))


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def record(fields: list[Typed], frozen: bool) -> Typed:
        made = attrs.make_class(
            "Made", {f"f{n}": attrs.field(type=t) for n, (t, _) in enumerate(fields)}, frozen=frozen
        )
        return made, st.builds(made, *[values for _, values in fields])

    return st.one_of(
        inner.map(lambda item: (LIST[item[0]], st.lists(item[1], max_size=3))),
        inner.map(lambda item: (TUPLE[item[0], ...], st.lists(item[1], max_size=3).map(tuple))),
        inner.map(lambda item: (DICT[str, item[0]], st.dictionaries(st.text(), item[1], max_size=3))),
        inner.map(lambda item: (OPTIONAL[item[0]], st.none() | item[1])),
        inner.map(lambda item: (item[0] | Reading, item[1] | st.builds(Reading, st.text(), st.floats()))),
        scalars().map(
            lambda key: (DICT[key[0], int], st.dictionaries(key[1].filter(_is_hashable), st.integers(), max_size=3))
        ),
        st.builds(record, st.lists(inner, min_size=1, max_size=3), st.booleans()),
    )


def _is_hashable(value: Any) -> bool:
    return not (isinstance(value, Decimal) and value.is_snan()) and value == value


@settings(max_examples=150, deadline=None)
@given(st.recursive(scalars(), containers, max_leaves=4), st.data())
def test_any_value_of_any_type_comes_back_through_either_json(typed: Typed, data: st.DataObject) -> None:
    declared, values = typed
    value = data.draw(values)
    for writer in JSONS:
        stored = codec_of(declared, json=writer).encode(value)
        for reader in JSONS:
            assert is_same(codec_of(declared, json=reader).decode(stored), value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
ANY_TYPE = st.sampled_from([declared for declared, _ in EXAMPLES])


@settings(max_examples=300, deadline=None)
@given(ANY_TYPE, PLAIN)
def test_any_data_is_loaded_or_refused_and_what_is_loaded_can_be_stored(declared: Any, plain: Any) -> None:
    codec = codec_of(declared)
    try:
        value = codec.decode(json.dumps(plain).encode())
    except CannotDecode:
        return
    verify(codec, value)


@settings(max_examples=300, deadline=None)
@given(ANY_TYPE, st.sampled_from([value for _, values in EXAMPLES for value in values]))
def test_any_value_is_refused_or_comes_back(declared: Any, value: Any) -> None:
    codec = codec_of(declared)
    try:
        data = codec.encode(value)
    except CannotEncode:
        return
    assert is_same(value, codec.decode(data))

"""The codec: what can be declared can be stored and comes back equal; what cannot is refused, with place and remedy."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import importlib.util
import itertools
import json
import math
import re
import socket
import subprocess
import sys
import threading
import tracemalloc
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from minions.errors import CannotDecode, CannotEncode, CannotStore, StoreTooNew
from minions.flow.codec import MAX_DEPTH, TypeCodec, codec_of, state_codec_of, verify
from minions.flow.shapes.sameness import is_same

JSONS: list[Literal["orjson", "stdlib"]] = ["orjson", "stdlib"] if importlib.util.find_spec("orjson") else ["stdlib"]
T = TypeVar("T")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.fixture(params=JSONS)
def either_json(request: pytest.FixtureRequest) -> Literal["orjson", "stdlib"]:
    library: Literal["orjson", "stdlib"] = request.param
    return library


def there_and_back(declared: Any, value: Any) -> Any:
    codec = codec_of(declared)
    return codec.decode(codec.encode(value))


def refusal(declared: Any) -> str:
    with pytest.raises(CannotStore) as caught:
        codec_of(declared)
    return str(caught.value)


def encode_refusal(declared: Any, value: Any) -> str:
    """Both JSON libraries refuse a value, in the same words."""
    texts = set()
    for library in JSONS:
        with pytest.raises(CannotEncode) as caught:
            codec_of(declared, json=library).encode(value)
        texts.add(str(caught.value))
    [text] = texts
    return text


def decode_refusal(declared: Any, data: bytes) -> str:
    for library in JSONS[1:]:
        with pytest.raises(CannotDecode):
            codec_of(declared, json=library).decode(data)
    with pytest.raises(CannotDecode) as caught:
        codec_of(declared, json=JSONS[0]).decode(data)
    return str(caught.value)


class Color(enum.Enum):
    RED = 1
    GREEN = "two"
    BLUE = (0, 0, 255)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(enum.StrEnum):
    CELSIUS = "°C"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Bits(enum.IntFlag):
    ONE = 1
    TWO = 2


@attrs.frozen
class Reading:
    sensor: str
    celsius: float
    count: int = 0


@attrs.frozen
class Alarm:
    sensor: str
    level: Level


@attrs.define
class Position:
    quantity: int
    price: Decimal = Decimal("1.0")


@attrs.define
class Portfolio:
    owner: str
    positions: dict[str, Position] = attrs.field(factory=dict)
    latest: Reading | None = None


@attrs.define
class Private:
    _secret: str
    shown_as: int = attrs.field(alias="shown")
    total: int = attrs.field(init=False, default=0)
    by_keyword: bool = attrs.field(kw_only=True)


@attrs.frozen
class FrozenTotal:
    parts: tuple[int, ...]
    total: int = attrs.field(init=False)

    @total.default
    def _sum(self) -> int:
        return sum(self.parts)


@attrs.define
class Node:
    value: int
    children: list[Node] = attrs.field(factory=list)
    after: Node | None = None


@attrs.frozen
class FrozenNode:
    value: int
    children: tuple[FrozenNode, ...] = ()


@attrs.define
class Even:
    odd: Odd | None = None


@attrs.define
class Odd:
    evens: list[Even] = attrs.field(factory=list)


@attrs.frozen
class Box(Generic[T]):
    content: T
    more: list[T] = attrs.field(factory=list)


@attrs.frozen
class IntBox(Box[int]):
    label: str = ""


@attrs.define(eq=False)
class ByIdentity:
    value: float


@attrs.frozen(slots=False)
class Base:
    base: int


@attrs.frozen(slots=False)
class Derived(Base):
    derived: str


@attrs.frozen
class OddNames:
    """Fields named as arguments of what generates the code."""

    cls: int
    converter: str
    attrs: float
    value: int
    unfit: int
    o: int = 1
    plain: int = 2


@dataclasses.dataclass
class Plain:
    x: int
    tags: set[str] = dataclasses.field(default_factory=set)
    later: float = dataclasses.field(init=False, default=0.5)
    key: str = dataclasses.field(kw_only=True, default="k")


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenPlain:
    x: int
    y: Color = Color.RED


class Pair(NamedTuple):
    first: int
    second: str | None = None


class Options(TypedDict):
    name: str
    depth: NotRequired[int]


class Recursive(TypedDict, total=False):
    inner: Recursive
    value: int


UserId = NewType("UserId", int)
Metres = TypeAliasType("Metres", float)
Pairs = TypeAliasType("Pairs", list[tuple[T, T]], type_params=(T,))

NAN, INFINITY = math.nan, math.inf
OFFSET = dt.timezone(dt.timedelta(hours=5, minutes=45))

EXAMPLES: list[tuple[Any, list[Any]]] = [
    (int, [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**64, 10**5000]),
    (float, [0.0, -0.0, 1.5, 1e300, 5e-324, 1e16, 0.1, NAN, INFINITY, -INFINITY]),
    (bool, [True, False]),
    (str, ["", "text", 'ü€😀\x00\n"\\', "nan", "0x1"]),
    (type(None), [None]),
    (None, [None]),
    (bytes, [b"", bytes(range(256))]),
    (bytearray, [bytearray(b"\x00\xff")]),
    (complex, [1 + 2j, complex(NAN, -0.0)]),
    (Decimal, [Decimal(text) for text in ("1.50", "-0", "0E+5", "1E-400", "NaN", "sNaN12", "-Infinity", "9" * 60)]),
    (Fraction, [Fraction(1, 3), Fraction(-7)]),
    (uuid.UUID, [uuid.UUID(int=5)]),
    (dt.date, [dt.date.min, dt.date(2024, 2, 29), dt.date.max]),
    (dt.time, [dt.time(1, 2, 3, 4), dt.time(12, tzinfo=dt.UTC), dt.time(2, 30, fold=1), dt.time(2, tzinfo=BERLIN)]),
    (dt.timedelta, [dt.timedelta.min, dt.timedelta(microseconds=-1), dt.timedelta(days=3), dt.timedelta.max]),
    (
        dt.datetime,
        [
            dt.datetime(2024, 2, 29, 12, 30, 0, 1),  # noqa: DTZ001
            dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
            dt.datetime(2024, 2, 29, 1, 2, 3, 999999, tzinfo=OFFSET),
            dt.datetime(2024, 2, 29, tzinfo=dt.timezone(-dt.timedelta(seconds=1))),
            dt.datetime(2024, 7, 1, 12, tzinfo=BERLIN),
            dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN),
            dt.datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
            dt.datetime(2024, 10, 27, 2, 30, fold=1),  # noqa: DTZ001
            dt.datetime.min,  # noqa: DTZ901
            dt.datetime.max,  # noqa: DTZ901
        ],
    ),
    (Path, [Path("a/b"), Path(), Path("/")]),
    (PurePosixPath, [PurePosixPath("a")]),
    (Color, list(Color)),
    (Level, list(Level)),
    (Unit, list(Unit)),
    (Right, [Right(0), Right.READ, Right.READ | Right.WRITE]),
    (Bits, [Bits(0), Bits.ONE | Bits.TWO, Bits(8)]),
    (list[int], [[], [1, 2, 2**70]]),
    (list[list[str | None]], [[["a", None], []]]),
    (tuple[int, ...], [(), (1, 2)]),
    (tuple[int, str, Reading], [(1, "a", Reading("s", 1.0))]),
    (tuple[()], [()]),
    (set[str], [set(), {"a", "b"}]),
    (set[float], [{1.5, NAN}]),
    (frozenset[Color], [frozenset(Color)]),
    (set[tuple[int, Reading]], [{(1, Reading("a", 1.0))}]),
    (deque[int], [deque([1, 2]), deque([1, 2], maxlen=3), deque(maxlen=0)]),
    (dict[str, int], [{}, {"b": 1, "a": 2, "": 3}]),
    (dict[int, str], [{1: "a", -(2**70): "b"}]),
    (dict[bool, int], [{True: 1, False: 0}]),
    (dict[float, int], [{1.5: 1, INFINITY: 2, NAN: 3, 1e16: 4}]),
    (dict[Color, int], [{Color.RED: 1, Color.BLUE: 2}]),
    (dict[Level, int], [{Level.LOW: 1}]),
    (dict[Right, int], [{Right.READ | Right.WRITE: 1}]),
    (dict[uuid.UUID, int], [{uuid.UUID(int=1): 1}]),
    (dict[dt.date, int], [{dt.date(2024, 1, 1): 1}]),
    (dict[dt.datetime, int], [{dt.datetime(2024, 1, 1, tzinfo=OFFSET): 1}]),
    (dict[Decimal, int], [{Decimal("1.0"): 1}]),
    (dict[Path, int], [{Path("a"): 1}]),
    (dict[bytes, int], [{b"\xff": 1}]),
    (dict[tuple[int, str], int], [{(1, "a"): 1, (2, "a"): 2}]),
    (dict[Reading, int], [{Reading("a", NAN): 1}]),
    (dict[str | int | None, int], [{"1": 1, 1: 2, None: 3}]),
    (dict[Literal["a", "b"], int], [{"a": 1}]),
    (OrderedDict[str, int], [OrderedDict([("b", 1), ("a", 2)])]),
    (Counter[str], [Counter("abca")]),
    (defaultdict[str, list[int]], [defaultdict(list, {"a": [1]})]),
    (dict, [{"a": [1, 2.5, None, True, {"b": "c"}]}]),
    (list, [[1, ["a", {"b": None}]]]),
    (dict[str, dict], [{"a": {"b": [1]}}]),  # type: ignore[type-arg]
    (int | None, [None, 1, 2**70]),
    (Optional[Reading], [None, Reading("a", 1.0)]),  # noqa: UP045 - as users write it
    (int | str, [1, "1", 2**70, "0x1"]),
    (int | float | bool | None, [1, 1.0, True, None, NAN]),
    (Reading | Alarm, [Reading("a", 1.0), Alarm("a", Level.HIGH)]),
    (Reading | list[int] | Color | None, [None, [1], Color.RED, Reading("b", 2.0)]),
    (Literal["a", 1, True, None, Level.LOW], ["a", 1, True, None, Level.LOW]),
    (UserId, [UserId(5)]),
    (Metres, [1.5]),
    (Pairs[str], [[("a", "b")]]),
    (typing.Annotated[int, "in metres"], [5]),
    (Reading, [Reading("a", 21.5, 3), Reading("a", NAN, 2**64)]),
    (Portfolio, [Portfolio("me", {"k": Position(1, Decimal("2.50"))}, Reading("a", 1.0)), Portfolio("me")]),
    (Private, [Private("s", 2, by_keyword=True)]),
    (FrozenTotal, [FrozenTotal((1, 2, 3))]),
    (Node, [Node(1, [Node(2), Node(3, [Node(4)])], Node(5))]),
    (FrozenNode, [FrozenNode(1, (FrozenNode(2),))]),
    (Even, [Even(Odd([Even(), Even(Odd())]))]),
    (Box[int], [Box(1, [2])]),
    (Box[Box[str]], [Box(Box("a", ["b"]))]),
    (Box[Reading | None], [Box(None), Box(Reading("a", 1.0))]),
    (IntBox, [IntBox(1, [2], "x")]),
    (ByIdentity, [ByIdentity(1.5)]),
    (Derived, [Derived(1, "a")]),
    (OddNames, [OddNames(1, "c", 1.5, 2, 3)]),
    (Plain, [Plain(1, {"a"}, key="x")]),
    (FrozenPlain, [FrozenPlain(1, Color.BLUE)]),
    (Pair, [Pair(1), Pair(2, "a")]),
    (Options, [{"name": "a"}, {"name": "a", "depth": 1}]),
    (Recursive, [{}, {"inner": {"inner": {}, "value": 1}}]),
    (list[Node | Pair | Options], [[Node(1), Pair(1), {"name": "n"}]]),
]


def each(table: list[tuple[Any, list[Any]]]) -> list[Any]:
    """One test for each value of each type."""
    return [
        pytest.param(declared, value, id=f"{getattr(declared, '__name__', declared)}-{number}")
        for declared, values in table
        for number, value in enumerate(values)
    ]


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


# What is refused at the declaration


@attrs.frozen
class WithSocket:
    name: str
    socket: socket.socket


@attrs.frozen
class WithTwoProblems:
    sockets: list[socket.socket]
    anything: dict[str, Any]
    fine: int


@attrs.frozen
class Outer:
    inner: WithSocket | None


def test_a_refusal_names_class_and_field_and_remedy() -> None:
    assert refusal(WithSocket) == (
        "WithSocket.socket: a socket.socket cannot be stored; keep it in a private attribute of the component, "
        "or declare the inbox with durable=False"
    )
    assert "WithSocket.socket" in refusal(Outer)
    assert "WithSocket.socket" in refusal(dict[str, list[Outer]])


def test_all_problems_of_a_type_are_refused_at_once() -> None:
    first, second = refusal(WithTwoProblems).splitlines()
    assert first.startswith("WithTwoProblems.sockets: a socket.socket cannot be stored")
    assert second.startswith("WithTwoProblems.anything: a typing.Any cannot be stored; name the type")


class Celsius(float):
    pass


class Bag(dict[str, int]):
    pass


class PlainClass:
    pass


class Empty(enum.Enum):
    pass


UNBOUND: Any = T
ODD_LITERAL: Any = typing.cast("Any", Literal)[socket.AF_INET, PlainClass]
REFUSED_TYPES: dict[str, list[Any]] = {
    "values of such types": [ODD_LITERAL],
    "anything": [Any, object, list[Any], dict[str, object], tuple[Any, ...], Box[Any]],
    "things of the process": [
        socket.socket,
        threading.Lock,
        int | socket.socket,
        socket.socket | None,
        lambda: None,
        json,
    ],
    "functions and classes": [Callable, Callable[[int], int], type, type[int], PlainClass, re.Pattern, re.Pattern[str]],
    "containers of what?": [tuple, set, frozenset, deque, Counter, OrderedDict, defaultdict, typing.Tuple, typing.Set],  # noqa: UP006
    "containers of which class?": [Sequence[int], Mapping[str, int], typing.Iterable[int], range, memoryview],
    "subclasses of builtins": [Celsius, Bag, Exception],
    "enumerations without members": [enum.Enum, Empty],
    "no types": [UNBOUND, list[UNBOUND], Box, Box[UNBOUND], "Reading", Ellipsis, 5, typing.Self, dt.tzinfo],
}


@pytest.mark.parametrize("declared", [declared for several in REFUSED_TYPES.values() for declared in several])
def test_a_type_that_cannot_be_stored_is_refused(declared: Any) -> None:
    for problem in refusal(declared).splitlines():
        assert re.search(r"^.+: .+; .+", problem), problem


@attrs.define
class Mutable:
    x: int


@attrs.frozen(eq=False)
class FrozenByIdentity:
    x: int


@attrs.frozen
class HashesList:
    xs: list[int]


@pytest.mark.parametrize(
    "key", [list[int], Mutable, FrozenByIdentity, HashesList, Box[int], tuple[HashesList, int], Options]
)
def test_a_key_that_could_not_be_found_again_is_refused(key: Any) -> None:
    assert "a key that is stored; use a text, a number, a tuple or a frozen class" in refusal(dict[key, int])
    assert "in a set that is stored" in refusal(set[key])


@attrs.frozen
class KeyedByItself:
    inner: tuple[dict[KeyedByItself, int], ...] = ()


def test_a_class_that_is_the_key_of_its_own_dict_is_refused() -> None:
    assert "KeyedByItself can change" in refusal(KeyedByItself)


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        (list[int] | list[str], "are a list and cannot be told apart"),
        (dict[str, int] | Options, "are a dict and cannot be told apart"),
        (Literal["a"] | str, "are a str and cannot be told apart"),
        (Box[int] | Box[str], "are a Box and cannot be told apart"),
        (Literal["RED", Color.RED], "same stored form"),
    ],
)
def test_alternatives_that_cannot_be_told_apart_are_refused(declared: Any, reason: str) -> None:
    assert reason in refusal(declared)


class Garden:
    @attrs.frozen
    class Config:
        x: int


class Kitchen:
    @attrs.frozen
    class Config:
        x: int


def test_classes_inside_classes_are_told_apart_by_their_full_names() -> None:
    codec = codec_of(Garden.Config | Kitchen.Config)
    assert codec.encode(Kitchen.Config(1)) == b'{"$Kitchen.Config":{"x":1}}'
    verify(codec, Kitchen.Config(1))


def test_a_type_in_quotes_is_refused() -> None:
    assert "write the type itself" in refusal("Reading")
    assert "write the type itself" in refusal(list["Reading"])


def test_two_classes_of_one_name_are_not_alternatives() -> None:
    other = attrs.make_class("Reading", {"x": attrs.field(type=int)})
    assert "two of Reading | Reading are a Reading" in refusal(Reading | other)


def test_a_class_that_would_come_back_as_its_base_is_refused() -> None:
    class Undecorated(Reading):
        pass

    class MorePair(Pair):
        pass

    @dataclasses.dataclass
    class Dict(dict):  # type: ignore[type-arg]
        x: int = 1

    assert "decorate it too" in refusal(Undecorated)
    assert "decorate it too" in refusal(MorePair)
    assert "as a dict it holds what is no field" in refusal(Dict)


def test_a_class_that_cannot_be_made_again_is_refused() -> None:
    @dataclasses.dataclass
    class WithInitVar:
        x: int
        y: dataclasses.InitVar[int]

    @attrs.define
    class OwnInit:
        x: int

        def __init__(self, other: str) -> None:
            self.x = len(other)

    assert "WithInitVar.y: an InitVar is not kept" in refusal(WithInitVar)
    assert "__init__ does not take x" in refusal(OwnInit)


def test_a_field_without_a_type_or_with_an_unknown_one_is_refused() -> None:
    untyped = attrs.make_class("Untyped", ["x"])

    @attrs.define
    class Lost:
        x: NotDefinedAnywhere  # type: ignore[name-defined] # noqa: F821

    assert refusal(untyped) == "Untyped.x: it has no type; annotate it"
    assert "NotDefinedAnywhere" in refusal(Lost)


@attrs.frozen
class Growing(Generic[T]):
    inner: Growing[list[T]] | None = None


def test_a_type_without_end_is_refused() -> None:
    assert "has no end" in refusal(Growing[int])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is of Python 3.12")
def test_an_alias_that_contains_itself_is_refused() -> None:
    namespace: dict[str, Any] = {}
    exec("type Endless = list[Endless]", namespace)
    assert "make it a class" in refusal(namespace["Endless"])


def test_a_converter_that_does_not_take_what_it_made_is_refused_at_once() -> None:
    @attrs.frozen
    class Doubled:
        x: int = attrs.field(converter=double)

    assert "Doubled" in refusal(Doubled)


# What is refused at the value


WRONG_VALUES: list[tuple[Any, list[Any]]] = [
    (int, ["7", 1.0, True, None, Level.LOW]),
    (float, ["1", True, None, 2**53 + 1, 10**400, 10**5000, Celsius(1), Decimal(1)]),
    (str, [1, b"a", None, Unit.CELSIUS]),
    (bool, [1, 0, None]),
    (bytes, ["a", bytearray(b"a")]),
    (dt.date, [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "2024-01-01"]),
    (dt.timedelta, [1]),
    (Color, [1, "RED", Level.LOW]),
    (Path, ["a", PurePosixPath("a")]),
    (None, [0, False]),
    (list[int], [(1,), {1}, None, [1, "2"], [None], "12", deque([1])]),
    (tuple[int, str], [(1,), (1, "a", 2), [1, "a"], ("a", 1), Pair(1, "a")]),
    (set[int], [frozenset({1}), {"a"}, [1]]),
    (dict[str, int], [{1: 1}, {"a": "b"}, [], OrderedDict(a=1), defaultdict(int), {Unit.CELSIUS: 1}]),
    (dict[int, int], [{"1": 1}, {True: 1}, {Level.LOW: 1}]),
    (defaultdict[str, int], [defaultdict(float), defaultdict(lambda: 1), {}]),
    (int | None, ["a", 1.5]),
    (int | str, [1.5, None, True, b"a"]),
    (Literal["a", 1], ["b", True, 1.0, None, []]),
    (Literal[True], [1]),
    (Reading | Alarm, [None, Position(1), "Reading"]),
    (Reading, [None, {"sensor": "a", "celsius": 1.0}, Alarm("a", Level.LOW)]),
    (Options, [{}, {"name": 1}, {"name": "a", "x": 1}, OrderedDict(name="a")]),
    (Pair, [(1, None), Pair("1")]),  # type: ignore[arg-type]
    (Box[int], [Box("a"), IntBox(1)]),
]


@pytest.mark.parametrize(("declared", "value"), each(WRONG_VALUES))
def test_a_value_that_is_not_what_was_declared_is_refused(declared: Any, value: Any) -> None:
    assert "expected" in encode_refusal(declared, value)


NOT_PLAIN: list[tuple[Any, list[Any]]] = [
    (dict, [{1: 1}, {"a": (1,)}, {"a": math.nan}, {"a": 2**64}, {"a": b""}, {"a": {1: 2}}]),
    (list, [[object()], [Reading("a", 1.0)], [dt.date(2024, 1, 1)], [Level.LOW], [OrderedDict()]]),
]


@pytest.mark.parametrize(("declared", "value"), each(NOT_PLAIN))
def test_a_bare_dict_or_list_takes_nothing_but_plain_json_data(declared: Any, value: Any) -> None:
    assert "; declare " in encode_refusal(declared, value)
    assert "expected" in encode_refusal(declared, ())


def test_the_path_leads_to_the_value() -> None:
    wrong: Any = "abc"
    assert encode_refusal(Reading, Reading("a", 1.0, wrong)) == "Reading.count: expected int, got 'abc'"
    assert encode_refusal(Reading, Reading("a", wrong)) == "Reading.celsius: expected float, got 'abc'"
    portfolio = Portfolio("me", {"k": Position(wrong)})
    assert encode_refusal(Portfolio, portfolio) == "Portfolio.positions['k'].quantity: expected int, got 'abc'"
    assert encode_refusal(dict[str, Portfolio], {"p": portfolio}).startswith("$['p'].positions['k'].quantity: ")
    assert (
        encode_refusal(Portfolio, Portfolio("me", {}, wrong)) == "Portfolio.latest: expected Reading | None, got 'abc'"
    )
    assert encode_refusal(list[tuple[int, str]], [(1, "a"), (2, wrong, 3)]).startswith("$[1]: expected tuple[int, str]")
    assert encode_refusal(dict[int, int], {wrong: 1}) == "$.key 'abc': expected int, got 'abc'"
    assert (
        encode_refusal(Node | Pair, Node(1, [Node(2), Node(wrong)])) == "$.children[1].value: expected int, got 'abc'"
    )
    assert encode_refusal(set[int], {wrong}) == "${'abc'}: expected int, got 'abc'"
    assert encode_refusal(dict, {"a": [{"b": {1}}]}).startswith("$['a'][0]['b']: {1} is not plain JSON data")


def test_an_instance_of_a_subclass_is_refused_with_the_remedy() -> None:
    text = encode_refusal(Base, Derived(1, "a"))
    assert text == "Base: expected Base, got Derived(base=1, derived='a'); declare Base | Derived"
    assert there_and_back(Base | Derived, Derived(1, "a")) == Derived(1, "a")


@pytest.mark.parametrize("value", ["\ud800", "a\udfff"])
def test_a_lone_surrogate_is_refused(value: str) -> None:
    text = encode_refusal(Reading, Reading(value, 1.0))
    assert text.startswith("Reading.sensor: ")
    assert "lone surrogate" in text
    assert "lone surrogate" in encode_refusal(Path, Path(value))
    assert "lone surrogate" in encode_refusal(dict[str, int], {value: 1})
    assert encode_refusal(list, [value]).startswith("$[0]: ")


def test_a_time_zone_that_could_not_be_found_again_is_refused() -> None:
    class Zone(dt.tzinfo):
        def utcoffset(self, _: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=1)

        def dst(self, _: dt.datetime | None) -> None:
            return None

        def tzname(self, _: dt.datetime | None) -> None:
            return None

    for zone in (Zone(), dt.timezone(dt.timedelta(microseconds=1))):
        assert "use a ZoneInfo, datetime.UTC or" in encode_refusal(dt.datetime, dt.datetime(2024, 1, 1, tzinfo=zone))
        assert "use a ZoneInfo, datetime.UTC or" in encode_refusal(dt.time, dt.time(1, tzinfo=zone))


def test_a_class_of_time_that_is_not_the_standard_one_is_refused() -> None:
    class Stamp(dt.datetime):
        pass

    assert "expected datetime" in encode_refusal(dt.datetime, Stamp(2024, 1, 1, tzinfo=dt.UTC))


def test_a_member_that_its_enumeration_does_not_list_is_refused() -> None:
    class Open(enum.Enum):
        KNOWN = 1

        @classmethod
        def _missing_(cls, value: object) -> Open:
            member = object.__new__(cls)
            member._name_, member._value_ = "KNOWN", value
            return member

    assert "is not among the members of Open" in encode_refusal(Open, Open(2))


def test_keys_that_would_become_one_are_refused() -> None:
    two_nans: dict[float, int] = {float("nan"): 1, float("nan"): 2}
    assert "two keys have the same stored form" in encode_refusal(dict[float, int], two_nans)


def test_a_field_that_was_never_set_is_refused() -> None:
    @attrs.define
    class Unset:
        x: int = attrs.field(init=False)

    assert "x was never set" in encode_refusal(Unset, Unset())


def test_a_value_that_holds_itself_is_refused(either_json: Literal["orjson", "stdlib"]) -> None:
    node = Node(1)
    node.children.append(node)
    with pytest.raises(CannotEncode, match="holds itself"):
        codec_of(Node, json=either_json).encode(node)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CannotEncode, match="holds itself"):
        codec_of(list, json=either_json).encode(endless)


def test_what_is_nested_too_deep_to_be_read_is_not_written(either_json: Literal["orjson", "stdlib"]) -> None:
    def chain(length: int) -> Node:
        node = Node(0)
        for value in range(1, length):
            node = Node(value, after=node)
        return node

    codec = codec_of(Node, json=either_json)
    deepest = chain(MAX_DEPTH - 1)  # the empty list of children is a level of its own
    assert codec.decode(codec.encode(deepest)) == deepest
    with pytest.raises(CannotEncode, match=f"nested deeper than {MAX_DEPTH} levels"):
        codec.encode(chain(MAX_DEPTH + 1))


def test_a_repr_that_raises_does_not_hide_the_error() -> None:
    class Nasty:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    nasty: Any = Nasty()
    assert encode_refusal(Reading, Reading(nasty, 1.0)).startswith("Reading.sensor: expected str, got <Nasty instance")


# Classes that run code of their own


def double(x: int) -> int:
    return 2 * x


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


# What is refused when it is loaded


WRONG_DATA: list[tuple[Any, list[Any]]] = [
    (int, ['"7"', "1.0", "true", "null", '"0x7"', '"0xg"', "[1]"]),
    (float, ['"1.5"', "true", "null", '"NaN"', "NaN", "Infinity"]),
    (str, ["1", "null", '["a"]']),
    (bool, ["1", "0", '"true"', "null"]),
    (None, ["0", "false", '""']),
    (bytes, ['"ü"', '"abc"', "[1]", '"YQ==\\n"']),
    (complex, ["[1]", '["1",2.0]']),
    (Decimal, ['"x"', "1.5"]),
    (uuid.UUID, ['"x"', "5"]),
    (dt.date, ['"2024-13-01"', '"2024-01-01T00:00:00"', "20240101"]),
    (dt.datetime, ['"2024-01-01"', '"soon"', "0", '"2024-01-01T00:00:00[No/Where]"', '"2024-01-01T00:00:00[../etc]"']),
    (dt.timedelta, ["[1]", '["1",2,3]', "5"]),
    (Color, ['"PINK"', "1", "null", '"two"']),
    (Right, ['"0x8"', '"READ"', "1"]),
    (list[str], ['"abc"', '{"a":1}', "null", "[1]"]),
    (tuple[int, int], ["[1]", "[1,2,3]", '{"1":1,"2":2}', '"12"']),
    (deque[int], ["[1]", '[null,"a"]', "[true,[]]", '[null,["a"]]', "[-1,[]]"]),
    (dict[str, int], ["[]", '[["a",1]]', '{"a":"1"}', '"a"']),
    (dict[int, int], ['{"a":1}', '{"1.0":1}', '{"":1}', '{"true":1}']),
    (dict, ["[]", "null", '"a"']),
    (int | str, ["null", '{"$float":1.5}', '{"$int":"a"}', "[]"]),
    (Literal["a", 1], ['"b"', "true", "1.0", "[]"]),
    (Reading, ['{"sensor":"a"}', "[]", '"sensor"', "null", "1"]),
    (Portfolio, ["{}", '{"owner":1}', '{"owner":"a","positions":[]}']),
    (Options, ["{}", '{"name":1}', '{"name":"a","x":1}', "[]"]),
]


@pytest.mark.parametrize(("declared", "data"), each(WRONG_DATA))
def test_data_that_is_not_what_was_declared_is_refused(declared: Any, data: str) -> None:
    decode_refusal(declared, data.encode())


def test_the_path_leads_to_the_stored_data() -> None:
    assert decode_refusal(Reading, b'{"sensor":"a","celsius":"hot"}') == "Reading.celsius: expected float, got 'hot'"
    data = b'{"owner":"a","positions":{"k":{"quantity":"7","price":"1"}}}'
    assert decode_refusal(Portfolio, data) == "Portfolio.positions['k'].quantity: expected int, got '7'"
    assert decode_refusal(list[Portfolio], b"[" + data + b"]").startswith("$[0].positions['k'].quantity")
    assert decode_refusal(dict[int, int], b'{"a":1}') == "$.key 'a': expected int, got 'a'"
    assert (
        decode_refusal(Reading | Alarm, b'{"$Alarm":{"sensor":"a","level":"MID"}}')
        == "$.level: expected Level, got 'MID'"
    )
    assert decode_refusal(Reading, b'{"sensor":"a"}').startswith(
        "Reading: celsius is missing; give the field a default"
    )
    assert decode_refusal(Private, b'{"_secret":"a","shown_as":1,"by_keyword":true,"total":"x"}').startswith(
        "Private.total: "
    )


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"\x80\x04K\x01.", b'{"sensor":"a","celsius":1.0}x'])
def test_bytes_that_are_not_json_are_refused(data: bytes, either_json: Literal["orjson", "stdlib"]) -> None:
    with pytest.raises(CannotDecode, match="Reading: the stored bytes are not JSON"):
        codec_of(Reading, json=either_json).decode(data)


# Classes change


def test_a_new_field_with_a_default_needs_no_migration() -> None:
    assert codec_of(Reading).decode(b'{"sensor":"a","celsius":1.5}') == Reading("a", 1.5, 0)
    assert codec_of(Pair).decode(b'{"first":1}') == Pair(1)
    assert codec_of(Plain).decode(b'{"x":1}') == Plain(1)
    assert codec_of(FrozenTotal).decode(b'{"parts":[1],"total":5}').total == 5


def test_a_stored_field_that_the_class_does_not_have_is_refused_unless_ignored() -> None:
    data = b'{"sensor":"a","celsius":1.5,"old":1}'
    assert decode_refusal(Reading, data) == (
        "Reading: 'old' is not declared; give the field a default, keep it, or give a migration"
    )
    assert codec_of(Reading, unknown_fields="ignore").decode(data) == Reading("a", 1.5)
    assert codec_of(Options, unknown_fields="ignore").decode(b'{"name":"a","old":1}') == {"name": "a"}


def test_an_int_field_can_become_a_float_field() -> None:
    assert codec_of(float).decode(b"5") == 5.0
    assert type(codec_of(list[float]).decode(b"[5]")[0]) is float


def test_a_field_can_become_optional_or_a_union() -> None:
    assert codec_of(int | None).decode(codec_of(int).encode(5)) == 5
    assert codec_of(int | str).decode(codec_of(int).encode(5)) == 5
    assert type(codec_of(int | float).decode(b"5")) is int
    assert type(codec_of(int | float).decode(b"5.0")) is float
    assert codec_of(Reading | Alarm).decode(codec_of(Reading).encode(Reading("a", 1.0))) == Reading("a", 1.0)


def test_what_was_stored_as_a_former_alternative_is_not_taken_for_another() -> None:
    assert "stored as Gone, which is none of dict[str, float] | int" in decode_refusal(
        dict[str, float] | int, b'{"$Gone":1.5}'
    )


def test_data_that_two_alternatives_could_be_is_not_guessed() -> None:
    assert "which fits 2 of them" in decode_refusal(dt.date | str, b'"2024-01-01"')


@attrs.define
class Summary:
    count: int = 0
    mean: float = 0.0


def rename_total(plain: Any) -> Any:
    plain["mean"] = plain.pop("total") / max(plain["count"], 1)
    return plain


def test_a_state_carries_its_type_and_version() -> None:
    codec = state_codec_of(Summary, version=2, migrations={1: rename_total})
    assert json.loads(codec.encode(Summary(1, 2.0))) == {
        "type": "Summary",
        "version": 2,
        "value": {"count": 1, "mean": 2.0},
    }


def test_a_state_is_migrated_step_by_step() -> None:
    codec = state_codec_of(
        Summary, version=3, migrations={1: lambda total: {"count": 4, "total": total}, 2: rename_total}
    )
    assert codec.decode(b'{"type":"Summary","version":1,"value":8.0}') == Summary(4, 2.0)
    assert codec.decode(b'{"type":"Summary","version":2,"value":{"count":2,"total":3.0}}') == Summary(2, 1.5)
    assert codec.decode(codec.encode(Summary(1, 1.0))) == Summary(1, 1.0)


def test_a_state_of_a_later_version_is_refused() -> None:
    with pytest.raises(
        StoreTooNew, match="Summary: stored as version 9 of Summary, and this program knows versions up to 1"
    ):
        state_codec_of(Summary).decode(b'{"type":"Summary","version":9,"value":{}}')


def test_a_state_of_another_type_is_refused_unless_a_migration_takes_it_over() -> None:
    data = b'{"type":"Total","version":1,"value":{"count":1,"total":2.0}}'
    with pytest.raises(CannotDecode, match="Summary: stored as Total; declare that, or raise the version"):
        state_codec_of(Summary).decode(data)
    assert state_codec_of(Summary, version=2, migrations={1: rename_total}).decode(data) == Summary(1, 2.0)


@pytest.mark.parametrize(
    ("version", "steps", "reason"),
    [
        (2, [], "from version 1 to 2 is missing"),
        (4, [1, 3], "from version 2 to 3 is missing"),
        (4, [2], "from version 3 to 4 is missing"),
        (2, [1, 2], "a migration from version 2 leads to none"),
        (2, [0, 1], "a migration from version 0 leads to none"),
        (0, [], "version 0 is not a whole number from 1"),
        (True, [], "version True is not"),
    ],
)
def test_a_missing_or_needless_migration_is_refused_at_once(version: int, steps: list[int], reason: str) -> None:
    with pytest.raises(CannotStore, match=reason):
        state_codec_of(Summary, version=version, migrations=dict.fromkeys(steps, rename_total))


def test_a_state_older_than_the_oldest_migration_is_refused() -> None:
    codec = state_codec_of(Summary, version=4, migrations={3: rename_total})
    with pytest.raises(CannotDecode, match="stored as version 1, and the migration from version 1 to 2 is missing"):
        codec.decode(b'{"type":"Summary","version":1,"value":{}}')


def test_a_migration_that_fails_or_makes_something_else_is_named() -> None:
    codec = state_codec_of(Summary, version=2, migrations={1: rename_total})
    with pytest.raises(CannotDecode, match="migration from version 1 to 2 failed: KeyError: 'total'") as caught:
        codec.decode(b'{"type":"Summary","version":1,"value":{"count":1}}')
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(CannotDecode, match=r"Summary\.count: expected int, got 'a'"):
        codec.decode(b'{"type":"Summary","version":2,"value":{"count":"a"}}')


@pytest.mark.parametrize(
    "data", [b"{}", b"[]", b'{"count":1}', b'{"type":"Summary","version":"1","value":{}}', b"null"]
)
def test_bytes_without_an_envelope_are_no_state(data: bytes) -> None:
    with pytest.raises(CannotDecode, match="the stored bytes are no state"):
        state_codec_of(Summary).decode(data)


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

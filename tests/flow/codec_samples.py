"""What tests of the codec have in common: classes of every kind, a value of each, and how refusals are asked for."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import importlib.util
import math
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict, TypeVar

import attrs
import pytest
from typing_extensions import TypeAliasType

from minions.errors import CannotDecode, CannotEncode, CannotStore
from minions.flow.codec import codec_of

JSONS: list[Literal["orjson", "stdlib"]] = ["orjson", "stdlib"] if importlib.util.find_spec("orjson") else ["stdlib"]
T = TypeVar("T")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


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


def double(x: int) -> int:
    return 2 * x

"""The codec refuses what cannot be stored: at the declaration, at the value, or when it is loaded."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import re
import socket
import sys
import threading
import typing
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal

import attrs
import pytest

from minions.errors import CannotDecode, CannotEncode
from minions.flow.codec import MAX_DEPTH, codec_of, verify
from tests.flow.codec_samples import (
    Alarm,
    Base,
    Box,
    Color,
    Derived,
    IntBox,
    Level,
    Node,
    Options,
    Pair,
    Portfolio,
    Position,
    Private,
    Reading,
    Right,
    T,
    Unit,
    decode_refusal,
    double,
    each,
    encode_refusal,
    refusal,
    there_and_back,
)

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

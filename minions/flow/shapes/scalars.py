"""The shapes of values without parts, each with its stored form. No thread, no lock.

Where JSON has no form for a value, or a form that is read back as something else, the value is stored as text. The
stored forms are for ever: a folder written by this version must be readable by the next.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import enum
import functools
import math
import pathlib
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from minions.flow.shapes.shape import Shape, Unfit, shown

LOWEST_INT, HIGHEST_INT = -(2**63), 2**63 - 1

_NOT_FINITE = {"nan", "inf", "-inf"}


class IntShape(Shape):
    """An int of any size. Over 64 bits it is stored as hexadecimal text: JSON readers make floats of such numbers."""

    name = "int"
    takes = (int,)
    inline = f"(type({{v}}) is int and {LOWEST_INT} <= {{v}} <= {HIGHEST_INT})"

    def unstructure(self, value: Any) -> Any:
        if type(value) is not int:
            raise self.unfit(value)
        return value if LOWEST_INT <= value <= HIGHEST_INT else hex(value)

    def structure(self, plain: Any, _: object = None) -> Any:
        if type(plain) is int:
            return plain
        if type(plain) is str and plain.startswith(("0x", "-0x")):
            value = int(plain, 16)
            if not LOWEST_INT <= value <= HIGHEST_INT:
                return value
        raise self.unfit(plain)

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return 1


class FloatShape(Shape):
    """A float. NaN and infinity are stored as text. An int is taken where it equals the float that comes back."""

    name = "float"
    takes = (float,)
    inline = "(type({v}) is float and {v} - {v} == 0.0)"

    def unstructure(self, value: Any) -> Any:
        if type(value) is float:
            return value if math.isfinite(value) else str(value)
        if type(value) is int and abs(value) < 2**1023 and float(value) == value:
            return float(value)
        raise self.unfit(value)

    def structure(self, plain: Any, _: object = None) -> Any:
        if type(plain) is float:
            return plain
        if type(plain) is int:
            return float(plain)
        if type(plain) is str and plain in _NOT_FINITE:
            return float(plain)
        raise self.unfit(plain)

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return 0.5


class ItselfShape(Shape):
    """A value that JSON has: str, bool, None."""

    def __init__(self, cls: type, example: Any) -> None:
        self.name = "None" if example is None else cls.__name__
        self.takes = (cls,)
        self.text = cls is str
        self.inline = "{v} is None" if example is None else f"type({{v}}) is {cls.__name__}"
        self._example = example

        def check(value: Any, _: object = None) -> Any:
            if type(value) is not cls:
                raise self.unfit(value)
            return value

        self.unstructure = self.structure = check

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return self._example


class ScalarShape(Shape):
    """A value that has a stored form of its own: a point in time, bytes, a member of an enumeration."""

    def __init__(
        self,
        cls: type,
        to_plain: Callable[[Any], Any],
        from_plain: Callable[[Any], Any],
        example: Any,
        *,
        name: str = "",
        plain: type = str,
        fixed: bool = True,
    ) -> None:
        self.name = name or cls.__name__
        self.takes = (cls,)
        self.text = plain is str
        self.fixed = fixed
        self._example = example

        def unstructure(value: Any) -> Any:
            if type(value) is not cls:
                raise self.unfit(value)
            return to_plain(value)

        def structure(stored: Any, _: object = None) -> Any:
            if type(stored) is not plain:
                raise self.unfit(stored)
            return from_plain(stored)

        self.unstructure = unstructure
        self.structure = structure

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        return self._example


def enum_shape(cls: type[enum.Enum], name: str) -> Shape:
    """Members by name: inserting one among `auto()` values must not change what was stored. Flags by their bits."""
    if issubclass(cls, enum.Flag):
        return ScalarShape(cls, lambda member: hex(member.value), lambda text: cls(int(text, 16)), hex(0), name=name)
    members = cls.__members__

    def to_plain(member: enum.Enum) -> str:
        if members.get(member.name) is not member:
            raise Unfit(f"{shown(member)} is not among the members of {name}")
        return member.name

    return ScalarShape(cls, to_plain, members.__getitem__, next(iter(members)), name=name)


# Points in time -------------------------------------------------------------------------------------------------------
#
# ISO 8601, with what it lacks in brackets as RFC 9557 writes it: the time zone's key, and the second of two equal hours.
# 2024-10-27T02:30:00+01:00[Europe/Berlin][_fold=1]

_FOLD = "[_fold=1]"


def moment_to_text(moment: Any) -> str:
    """The stored form of a datetime or a time."""
    zone = moment.tzinfo
    text: str = moment.isoformat()
    if type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        text += f"[{zone.key}]"
    elif zone is not None and (type(zone) is not dt.timezone or zone.utcoffset(None).microseconds):
        # (Of an offset under a second, `fromisoformat` makes UTC.)
        raise Unfit(
            f"the time zone {shown(zone)} cannot be stored; use a ZoneInfo, datetime.UTC or an offset in seconds"
        )
    return text + _FOLD if moment.fold else text


def _moment_from_text(cls: Any, text: str) -> Any:
    fold = text.endswith(_FOLD)
    text, bracket, zone = text.removesuffix(_FOLD).partition("[")
    if cls is dt.datetime and len(text) < len("2024-10-27T00"):
        raise ValueError("a date without a time")
    moment = cls.fromisoformat(text)
    if bracket:  # the wall clock counts: rules for the zone may have changed since, its offset with them
        moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone.removesuffix("]")))
    return moment.replace(fold=1) if fold else moment


def _date_from_text(text: str) -> dt.date:
    if len(text) != len("2024-10-27"):
        raise ValueError("more than a date")
    return dt.date.fromisoformat(text)


def bytes_to_text(value: bytes | bytearray) -> str:
    """Base64."""
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def bytes_from_text(text: str) -> bytes:
    """The bytes of base64. Raises ValueError for any other text."""
    return base64.b64decode(text, validate=True)


def _complex_to_plain(value: complex) -> list[Any]:
    return [FloatShape().unstructure(value.real), FloatShape().unstructure(value.imag)]


def _complex_from_plain(plain: list[Any]) -> complex:
    real, imag = plain
    return complex(FloatShape().structure(real), FloatShape().structure(imag))


def _timedelta_from_plain(plain: list[Any]) -> dt.timedelta:
    days, seconds, microseconds = map(IntShape().structure, plain)
    return dt.timedelta(days, seconds, microseconds)


def _path_shape(cls: type[pathlib.PurePath]) -> Shape:
    return ScalarShape(type(cls()), str, cls, "a/b", name=cls.__name__)


SCALARS: dict[Any, Callable[[], Shape]] = {
    int: IntShape,
    float: FloatShape,
    str: lambda: ItselfShape(str, "text"),
    bool: lambda: ItselfShape(bool, True),
    type(None): lambda: ItselfShape(type(None), None),
    bytes: lambda: ScalarShape(bytes, bytes_to_text, bytes_from_text, "AAE="),
    bytearray: lambda: ScalarShape(
        bytearray, bytes_to_text, lambda text: bytearray(bytes_from_text(text)), "AAE=", fixed=False
    ),
    complex: lambda: ScalarShape(complex, _complex_to_plain, _complex_from_plain, [0.5, 1.0], plain=list),
    Decimal: lambda: ScalarShape(Decimal, str, Decimal, "1.50"),
    Fraction: lambda: ScalarShape(Fraction, str, Fraction, "1/3"),
    uuid.UUID: lambda: ScalarShape(uuid.UUID, str, uuid.UUID, "00000000-0000-4000-8000-000000000001"),
    dt.date: lambda: ScalarShape(dt.date, dt.date.isoformat, _date_from_text, "2024-02-29"),
    dt.datetime: lambda: ScalarShape(
        dt.datetime,
        moment_to_text,
        functools.partial(_moment_from_text, dt.datetime),
        "2024-02-29T12:30:00.000001+02:00",
    ),
    dt.time: lambda: ScalarShape(
        dt.time, moment_to_text, functools.partial(_moment_from_text, dt.time), "12:30:00.000001"
    ),
    dt.timedelta: lambda: ScalarShape(
        dt.timedelta,
        lambda span: [span.days, span.seconds, span.microseconds],
        _timedelta_from_plain,
        [1, 2, 3],
        plain=list,
    ),
    **{
        cls: functools.partial(_path_shape, cls)
        for cls in (
            pathlib.Path,
            type(pathlib.Path()),
            pathlib.PurePath,
            pathlib.PurePosixPath,
            pathlib.PureWindowsPath,
        )
    },
}

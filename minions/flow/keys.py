"""The keys of a durable table as text whose order is the order of the keys. No thread, no lock.

SQLite compares text by its UTF-8 bytes, and so by code points, as Python does. Each type therefore has a form, the leaf,
that sorts as its values do. A tuple is its leaves with a separator between them that sorts below all that a leaf holds:
what begins with the same leaves stands together. No text holds NUL, at which SQLite's own functions and its
shell stop reading.

The forms are for ever: a folder written by this version must be readable by the next.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
import struct
import typing
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from minions.errors import CannotDecode, CannotEncode, CannotStore
from minions.flow.shapes.annotations import name_of
from minions.flow.shapes.shape import Unfit, shown

__all__ = ["KeyCodec", "key_codec_of"]

_SEPARATOR = "\x01"
_KEY_TYPES = (
    "use str, int, float, bool, bytes, datetime.date, datetime.datetime, uuid.UUID, an enum of these, "
    "or a tuple of these with a fixed length"
)


@attrs.frozen
class KeyCodec:
    """Makes text of the keys of one type, and keys of the text. Any thread may use it.

    `encode(a) < encode(b)` exactly when `a < b`, and equal keys, and no others, have the same text.

    Attributes:
        name: the name of the type: `tuple[str, int]`.
    """

    name: str
    _write: Callable[[Any], Sequence[str]]
    _read: Callable[[Iterator[str]], Any]

    def encode(self, key: Any) -> str:
        """The text of a key.

        Raises:
            CannotEncode: the key is not exactly of the type, or would not come back equal or in its order.
        """
        try:
            return _SEPARATOR.join(self._write(key))
        except Unfit as error:
            raise CannotEncode(f"key of type {self.name}: {error}") from error

    def decode(self, text: str) -> Any:
        """The key of a text.

        Raises:
            CannotDecode: it is not what `encode` writes.
        """
        leaves = iter(text.split(_SEPARATOR))
        try:
            key = self._read(leaves)
            if _SEPARATOR.join(self._write(key)) != text:  # what reads a leaf takes more than was ever written
                raise Unfit("it would be written in another way")
        except (ValueError, LookupError, OverflowError, StopIteration, Unfit) as error:
            what = f"{shown(text)} is not the text of such a key"
            raise CannotDecode(f"key of type {self.name}: {what}; declare the type that it was written with") from error
        return key


def key_codec_of(declared: Any) -> KeyCodec:
    """The codec of a type of keys.

    Raises:
        CannotStore: the type cannot be a key; the message says which part of it, and what can.
    """
    for cls, write, read in _KINDS:
        if declared is cls:
            return _scalar_codec(cls, write, read)
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) is tuple and arguments and Ellipsis not in arguments:
        return _tuple_codec(name_of(declared), [key_codec_of(argument) for argument in arguments])
    if isinstance(declared, type) and issubclass(declared, enum.Enum):
        return _enum_codec(declared)
    raise CannotStore(f"{name_of(declared)} cannot be a key of a table; {_KEY_TYPES}")


def _scalar_codec(cls: type, write: Callable[[Any], str], read: Callable[[str], Any]) -> KeyCodec:
    def checked(key: Any) -> Sequence[str]:
        if type(key) is not cls:  # a subclass would come back as the declared class
            raise Unfit(f"expected {cls.__name__}, got {shown(key)}; convert it, or declare its type")
        return (write(key),)

    return KeyCodec(cls.__name__, checked, lambda leaves: read(next(leaves)))


def _tuple_codec(name: str, parts: Sequence[KeyCodec]) -> KeyCodec:
    """Tuples in tuples are written flat: their lengths are known."""

    def write(key: Any) -> Sequence[str]:
        if type(key) is not tuple or len(key) != len(parts):
            raise Unfit(f"expected a tuple of {len(parts)}, got {shown(key)}; make it a plain tuple of that length")
        leaves: list[str] = []
        for index, (part, value) in enumerate(zip(parts, key, strict=True)):
            try:
                leaves += part._write(value)
            except Unfit as error:
                raise Unfit(f"at [{index}] {error}") from error
        return leaves

    return KeyCodec(name, write, lambda leaves: tuple([part._read(leaves) for part in parts]))


def _enum_codec(cls: type[enum.Enum]) -> KeyCodec:
    """Members in the order of their values."""
    refused = f"{name_of(cls)} cannot be a key of a table"
    if issubclass(cls, enum.Flag):
        raise CannotStore(f"{refused}: flags combine to more than its members; use int")
    types = list(dict.fromkeys(type(member.value) for member in cls))
    if len(types) != 1:
        found = ", ".join(map(name_of, types)) or "none"
        raise CannotStore(f"{refused}: give its members values of one type, not {found}")
    try:
        value = key_codec_of(types[0])
        text_of = {member.name: value.encode(member.value) for member in cls}
    except (CannotStore, CannotEncode) as error:
        raise CannotStore(f"{refused} by the values of its members: {error}") from error
    member_of = {text_of[member.name]: member for member in cls}

    def write(key: Any) -> Sequence[str]:
        if not isinstance(key, cls):  # a class with members has no subclass
            raise Unfit(f"expected {name_of(cls)}, got {shown(key)}; use a member of the enum")
        return (text_of[key.name],)

    return KeyCodec(name_of(cls), write, lambda leaves: member_of[next(leaves)])


# The leaves -----------------------------------------------------------------------------------------------------------

_ESCAPED = {"\x00": "\x02\x02", "\x01": "\x02\x03", "\x02": "\x02\x04"}  # all above the separator, in their order
_TO_ESCAPED = str.maketrans(_ESCAPED)
_PLAIN = {escaped: plain for plain, escaped in _ESCAPED.items()}


def _write_str(key: str) -> str:
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise Unfit(f"{shown(key)} holds a lone surrogate, which is no text; use bytes") from error
    return key.translate(_TO_ESCAPED)


def _read_str(text: str) -> str:
    return re.sub("\x02[\x02-\x04]", lambda found: _PLAIN[found[0]], text)


_MIRRORED = str.maketrans("0123456789abcdef", "fedcba9876543210")


def _write_int(key: int) -> str:
    """Sign, length of the length, length, digits, so that a longer number is higher; mirrored where it is lower."""
    digits = f"{abs(key):x}"
    length = f"{len(digits):x}"
    text = f"{len(length):x}{length}{digits}"
    return f"n{text.translate(_MIRRORED)}" if key < 0 else f"p{text}"


def _read_int(text: str) -> int:
    rest = text[1:].translate(_MIRRORED) if text.startswith("n") else text[1:]
    magnitude = int(rest[1 + int(rest[0], 16) :], 16)
    return -magnitude if text.startswith("n") else magnitude


_SIGN, _ALL_BITS = 1 << 63, (1 << 64) - 1


def _write_float(key: float) -> str:
    """The bits of the number, which sort as the positive ones do; those of a negative one are all turned over."""
    if key != key:
        raise Unfit("nan has no place in an order; leave it out, or use another number for it")
    bits = int.from_bytes(struct.pack(">d", key + 0.0))  # makes 0.0 of -0.0, which equals it
    return f"{bits ^ (_ALL_BITS if bits & _SIGN else _SIGN):016x}"


def _read_float(text: str) -> float:
    bits = int(text, 16)
    return float(*struct.unpack(">d", (bits ^ (_SIGN if bits & _SIGN else _ALL_BITS)).to_bytes(8)))


def _write_datetime(key: dt.datetime) -> str:
    if key.fold:
        raise Unfit(f"{shown(key)} has fold=1, which its order and equality ignore; use a time in UTC")
    if key.tzinfo not in (None, dt.UTC):
        raise Unfit(f"{shown(key)} is not in datetime.UTC; use .astimezone(datetime.UTC)")
    return ("u" if key.tzinfo else "n") + key.replace(tzinfo=None).isoformat(timespec="microseconds")


def _read_datetime(text: str) -> dt.datetime:
    moment = dt.datetime.fromisoformat(text[1:])
    return moment.replace(tzinfo=dt.UTC) if text.startswith("u") else moment


_KINDS: list[tuple[type, Callable[[Any], str], Callable[[str], Any]]] = [
    (str, _write_str, _read_str),
    (int, _write_int, _read_int),
    (float, _write_float, _read_float),
    (bool, lambda key: str(int(key)), {"0": False, "1": True}.__getitem__),
    (bytes, bytes.hex, bytes.fromhex),
    (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    (dt.datetime, _write_datetime, _read_datetime),
    (uuid.UUID, str, uuid.UUID),
]

"""The rows of the store: which keys there are, and how their bodies are laid out. Pure functions, no thread.

====================================  ==========================================================================
``state/<component>``                 its states: for each, name and stored form
``acks/<channel>``                    what is settled: JSON, the low-water mark and the intervals above it
``chan/<channel>/<first number>``     messages in order: type, origin, number and stored form of each
``dead/<channel>/<number>``           a dead letter: JSON with the error and its traceback, then the stored message
``tick/<component>/<method>``          where a schedule stands: JSON
``table/<home>/<table>/<key>``        an entry of a table: the stored form of its value; the home is the component, or a partition
====================================  ==========================================================================

Numbers in keys have 16 hexadecimal digits, so that the order of the keys is that of the messages. The origin of messages is
the id of the run that sent them, from which their own ids follow; or ``=`` and the id of the one message in the row, which had
been set aside and kept the id that it had.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence

import attrs

from minions.errors import StoreDamaged
from minions.flow.acks import Acks

__all__ = [
    "ACKS",
    "CHANNELS",
    "DEAD",
    "STATES",
    "TABLES",
    "TICKS",
    "DeadLetter",
    "Tick",
    "acks_body",
    "acks_of",
    "channel_key",
    "dead_number",
    "dead_place",
    "dead_prefix",
    "message_id_of",
    "messages_body",
    "messages_of",
    "origin_of",
    "states_body",
    "states_of",
    "table_place",
    "table_prefix",
    "tick_key",
    "tick_of",
]

STATES = "state/"
ACKS = "acks/"
CHANNELS = "chan/"
DEAD = "dead/"
TABLES = "table/"
TICKS = "tick/"

_OWN_ID = "="
_LENGTH = struct.Struct(">I")
_MESSAGE = struct.Struct(">QI")


@attrs.frozen
class DeadLetter:
    """A message that was set aside.

    Attributes:
        channel: the inbox that it was sent to, ``<component>.<inbox>``.
        message_id: its id, as the handler saw it; when it is retried it keeps this id.
        type: the name of its type.
        message: its stored form, which is JSON; `System.message_of` makes the object of it.
        attempts: how often it was tried; where the process died of it, how many times in a row.
        error: type and text of the last error, one line.
        traceback: of the last error, as Python prints it; empty where there was none.
        at: when it was set aside, seconds since the epoch (UTC).
    """

    channel: str
    message_id: str
    type: str
    message: bytes
    attempts: int
    error: str
    traceback: str
    at: float

    def body(self) -> bytes:
        kept = attrs.asdict(self, filter=lambda field, _: field.name != "message")
        return _pack([json.dumps(kept).encode(), self.message])

    @classmethod
    def of(cls, key: str, body: bytes) -> DeadLetter:
        try:
            kept, message = _unpack(key, body)
            return cls(message=message, **json.loads(kept))
        except (ValueError, TypeError) as error:
            raise _malformed(key) from error


@attrs.frozen
class Tick:
    """Where a schedule stands: its last tick, or the moment from which its ticks are counted.

    Attributes:
        wall_s: that moment, seconds since the epoch (UTC).
        mono_s: the same, monotonic seconds of the run.
        run_id: the run.
    """

    wall_s: float
    mono_s: float
    run_id: str

    def body(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()


def tick_key(component: str, method: str) -> str:
    """The key of the row of a schedule, without `TICKS`."""
    return f"{component}/{method}"


def tick_of(key: str, body: bytes) -> Tick:
    try:
        kept = json.loads(body)
        return Tick(float(kept["wall_s"]), float(kept["mono_s"]), str(kept["run_id"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _malformed(key) from error


def channel_key(channel: str, first: int) -> str:
    return f"{CHANNELS}{channel}/{first:016x}"


def table_prefix(home: str, table: str) -> str:
    """How the keys of a table's entries begin; the rest is the entry's key, whose order as text is that of the keys."""
    return f"{TABLES}{home}/{table}/"


def table_place(key: str) -> tuple[str, str, str]:
    """The parts of the key of a table's entry: its home, the table, the entry's key."""
    home, table, entry = key.removeprefix(TABLES).split("/", 2)
    return home, table, entry


def dead_prefix(channel: str) -> str:
    """How the keys of a channel's dead letters begin; the rest is `dead_number`."""
    return f"{DEAD}{channel}/"


def dead_number(number: int) -> str:
    return f"{number:016x}"


def dead_place(key: str) -> tuple[str, str]:
    """The two parts of the key of a dead letter, `dead_prefix` and `dead_number`."""
    prefix, slash, number = key.rpartition("/")
    return prefix + slash, number


def states_body(states: dict[str, bytes]) -> bytes:
    return _pack([part for name, stored in states.items() for part in (name.encode(), stored)])


def states_of(key: str, body: bytes) -> dict[str, bytes]:
    parts = _unpack(key, body)
    try:
        return {name.decode(): stored for name, stored in zip(parts[::2], parts[1::2], strict=True)}
    except ValueError as error:
        raise _malformed(key) from error


def acks_body(acks: Acks) -> bytes:
    low, above = acks
    return b'{"low": %d, "above": %b}' % (low, json.dumps(above).encode() if above else b"[]")


def acks_of(key: str, body: bytes) -> Acks:
    try:
        kept = json.loads(body)
        return int(kept["low"]), tuple((int(first), int(last)) for first, last in kept["above"])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _malformed(key) from error


def origin_of(message_id: str) -> str:
    """The origin of a message that has an id of its own."""
    return _OWN_ID + message_id


def message_id_of(origin: str) -> str | None:
    """The id that an origin says; None where it is the id of a run."""
    return origin.removeprefix(_OWN_ID) if origin.startswith(_OWN_ID) else None


def messages_body(type_name: str, origin: str, messages: Sequence[tuple[int, bytes]]) -> bytes:
    parts = [_pack((type_name.encode(), origin.encode()))]
    for number, stored in messages:
        parts += (_MESSAGE.pack(number, len(stored)), stored)
    return b"".join(parts)


def messages_of(key: str, body: bytes) -> tuple[str, str, list[tuple[int, bytes]]]:
    """The name of the type, the origin, and number and stored form of each message, ascending."""
    try:
        type_name, at = _text_at(body, 0)
        origin, at = _text_at(body, at)
        messages = []
        while at < len(body):
            number, length = _MESSAGE.unpack_from(body, at)
            at += _MESSAGE.size
            messages.append((number, body[at : at + length]))
            at += length
    except (struct.error, UnicodeDecodeError) as error:
        raise _malformed(key) from error
    if at != len(body) or not messages:
        raise _malformed(key)
    return type_name, origin, messages


def _text_at(body: bytes, at: int) -> tuple[str, int]:
    (length,) = _LENGTH.unpack_from(body, at)
    at += _LENGTH.size
    return body[at : at + length].decode(), at + length


def _pack(parts: Iterable[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def _unpack(key: str, body: bytes) -> list[bytes]:
    parts = []
    at = 0
    try:
        while at < len(body):
            (length,) = _LENGTH.unpack_from(body, at)
            at += _LENGTH.size
            parts.append(body[at : at + length])
            at += length
    except struct.error as error:
        raise _malformed(key) from error
    if at != len(body):
        raise _malformed(key)
    return parts


def _malformed(key: str) -> StoreDamaged:
    return StoreDamaged(
        f"row {key!r} is not laid out as this version of the store writes it, though its checksum is right: "
        "was the folder written by another program?"
    )

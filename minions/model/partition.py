"""Partitions: which messages belong together, and so to one replica. Pure functions of a message; no thread and no I/O.

The keys of all messages are spread over a fixed number of partitions, and these over the replicas that there are in a run.
So what is kept for a partition stays with its keys however many replicas share them (the "key groups" of Flink, the
partitions of Kafka).
"""

from __future__ import annotations

import datetime
import enum
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import attrs

from minions.errors import MessageRefused
from minions.model.checks import shown

__all__ = ["PARTITIONS", "PartitionBy", "Partitioning", "home_of", "node_of", "partition_of_key"]

PARTITIONS = 128
"""How many partitions there are in every partitioned component, and so the most replicas. Part of the format of the store."""

PartitionBy = str | Callable[[Any], Any]
"""What a message's key is: the name of one of its attributes, or a function of the message."""


def home_of(component: str, partition: int) -> str:
    """The name under which a partition's state is kept."""
    return f"{component}@{partition}"


def node_of(home: str) -> tuple[str, int | None]:
    """The component that a name of `home_of` belongs to, and the partition; None for the component itself."""
    component, _, partition = home.partition("@")
    return component, int(partition) if partition else None


def partition_of_key(key: Any) -> int:
    """The partition of a key; the same in every process, and for keys that are equal and of one type.

    Raises:
        TypeError: it cannot be a key.
    """
    try:
        written = _bytes_of(key)
    except (ValueError, OverflowError, RecursionError) as error:  # too many digits, a moment before year 1, too deep
        raise TypeError(f"a {type(key).__qualname__} that cannot be one: {error}") from error
    return zlib.crc32(written) % PARTITIONS


@attrs.frozen
class Partitioning:
    """How the messages of one inbox are spread.

    Attributes:
        inbox: which one, ``<component>.<inbox>``.
        by: what their key is.
    """

    inbox: str
    by: PartitionBy

    def partition_of(self, message: Any) -> int:
        """The partition that a message belongs to. Calls the user's function, so never under a lock.

        Raises:
            MessageRefused: the message has no key, or one that cannot be one.
        """
        try:
            key = getattr(message, self.by) if isinstance(self.by, str) else self.by(message)
        except Exception as error:  # whatever the user's function, or attribute, raises; told with the message
            raise MessageRefused(
                f"{self.inbox}: the partition of {shown(message)} cannot be told: partition_by={self._written} raised "
                f"{type(error).__name__}: {error}"
            ) from error
        try:
            return partition_of_key(key)
        except TypeError as error:
            raise MessageRefused(
                f"{self.inbox}: the partition of {shown(message)} cannot be told: partition_by={self._written} gave {error}"
            ) from None

    @property
    def _written(self) -> str:
        return repr(self.by) if isinstance(self.by, str) else getattr(self.by, "__qualname__", shown(self.by))


def _bytes_of(key: Any) -> bytes:
    """The same bytes for equal keys, others for others."""
    match key:
        case enum.Enum():
            return _bytes_of(key.value)
        case str():
            return b"s" + key.encode("utf-8", "surrogatepass")
        case bytes():
            return b"b" + key
        case int():  # True is 1, as in a dict
            return b"i%d" % key
        case None:
            return b"n"
        case uuid.UUID():
            return b"u" + key.bytes
        case datetime.datetime() if key.tzinfo is not None:
            return b"t" + key.astimezone(datetime.UTC).isoformat().encode()
        case datetime.date():
            return b"d" + key.isoformat().encode()
        case tuple():
            parts = [_bytes_of(part) for part in key]
            return b"(" + b"".join(b"%d:" % len(part) + part for part in parts)
        case _:
            raise TypeError(
                f"{shown(key)}, and a {type(key).__qualname__} cannot be a key: use str, int, bytes, an enum, UUID, date, "
                "datetime, None, or a tuple of these"
            )

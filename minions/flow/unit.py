"""The unit of work: what one handler call received, changed and sent, gathered until it is whole.

A unit belongs to the thread that fills it and has no lock; the journal takes it as one.
"""

from __future__ import annotations

from typing import Any

from minions.errors import UnitTooLarge
from minions.flow.channel import UNREAD, Channel, Entry

__all__ = ["MOST_BYTES", "MOST_MESSAGES", "Keyed", "Unit"]

Keyed = dict[str, dict[str, "bytes | None"]]
"""Rows that are kept one by one: the prefix of their keys, the rest of the key, and the body (None where the row is deleted)."""

MOST_MESSAGES = 100_000
"""More messages than this are never admitted as one unit."""
MOST_BYTES = 64 << 20
"""More bytes of durable messages than this are never admitted as one unit."""


class Unit:
    """One unit of work.

    Attributes:
        component: the name of the component.
        home: the name under which its state is kept: the component's, or that of one of its partitions.
        sends: what it sends: the channel, the message, its stored form (None where the channel is not durable), its partition.
        settles: what it received and settles, in the order in which it was taken.
        states: the new stored forms of the states that changed.
        keyed: the rows that it writes and deletes by itself: dead letters, entries of tables.
        granted: how much room it holds in each channel; written under the journal's lock.
        size_bytes: how many bytes it adds to what is not yet on disk.
    """

    __slots__ = ("component", "granted", "home", "keyed", "sends", "settles", "size_bytes", "states")

    def __init__(self, component: str, home: str | None = None) -> None:
        self.component = component
        self.home = component if home is None else home
        self.sends: list[tuple[Channel, Any, bytes | None, int]] = []
        self.settles: list[Entry] = []
        self.states: dict[str, bytes] = {}
        self.keyed: Keyed = {}
        self.granted: dict[Channel, int] = {}
        self.size_bytes = 0

    def send(self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None) -> None:
        """Adds one message for some channels.

        Args:
            shared: whether receivers get the object itself; otherwise each makes its own from the stored form.
            stored: the stored form, for the channels that are durable.

        Raises:
            UnitTooLarge: the unit would be larger than is ever admitted; nothing was added.
            MessageRefused: its partition cannot be told; nothing was added.
        """
        size_bytes = self.size_bytes + (len(stored) * len(channels) if stored is not None else 0)
        if len(self.sends) + len(channels) > MOST_MESSAGES or size_bytes > MOST_BYTES:
            raise UnitTooLarge(
                f"{self.component}: one unit of work sends more than {MOST_MESSAGES:,} messages or {MOST_BYTES >> 20} MiB; "
                "send from run() in pieces, each `with self.unit():`"
            )
        sends: list[tuple[Channel, Any, bytes | None, int]] = []
        for channel in channels:
            partition = 0 if channel.partition_of is None else channel.partition_of(message)
            if channel.codec is None:
                sends.append((channel, message, None, partition))
            else:
                sends.append((channel, message if shared else UNREAD, stored, partition))
        self.size_bytes = size_bytes
        self.sends += sends

    def save(self, states: dict[str, bytes]) -> None:
        """Adds the stored forms of the states that changed."""
        self.states = states
        for stored in states.values():
            self.size_bytes += len(stored)

    def put(self, prefix: str, key: str, body: bytes | None) -> None:
        """Writes one row of those that are kept one by one, or deletes it (None)."""
        self.keyed.setdefault(prefix, {})[key] = body
        self.size_bytes += len(key) + (0 if body is None else len(body))

    @property
    def is_empty(self) -> bool:
        return not (self.sends or self.settles or self.states or self.keyed)

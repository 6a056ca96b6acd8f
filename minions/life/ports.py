"""What stands in a running component under the names of its ports: senders and receivers.

They are called by user code on the component's thread (a sender on any thread); they hold no lock and no state of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from minions.errors import MessageRefused, StopRequested
from minions.fence import Fence
from minions.flow.channel import UNREAD, Channel, Entry
from minions.flow.codec import TypeCodec
from minions.flow.journal import Journal
from minions.flow.unit import Unit
from minions.model.ports import Outbox, classes_of, type_name

__all__ = ["Door", "LaneSender", "Receiver", "Sender", "message_of"]


class Door(Protocol):
    """The life that a port belongs to.

    Attributes:
        name: of the component.
        fence: what the life may still do.
        open_unit: the unit in work on the component's own thread.
    """

    name: str
    fence: Fence
    open_unit: Unit | None

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None: ...

    def receive(self, channel: Channel, timeout_s: float | None) -> Any: ...


class Sender:
    """A live outbox.

    A message for a durable inbox is encoded here, at the sending line, so that one that cannot be stored fails where it was
    made. Its receivers get the object itself where it is immutable, and a copy of their own, made from the stored form, where
    it is not.
    """

    __slots__ = ("_channels", "_classes", "_encode", "_life", "_outbox", "_shared")

    def __init__(
        self, life: Door, outbox: Outbox[Any], channels: tuple[Channel, ...], codec: TypeCodec[Any] | None
    ) -> None:
        self._life = life
        self._outbox = outbox
        self._channels = channels
        self._classes = classes_of(outbox.type)
        self._encode = codec.encode if codec is not None else None
        self._shared = codec is None or codec.immutable

    @property
    def progress(self) -> tuple[int, ...]:
        """Numbers of which one changes with each message that goes past the life. May be read by any thread."""
        return ()

    def no_short_way(self) -> None:
        """From now on every message goes by way of the life, which has something to do after it."""

    def send(self, message: Any, *, timeout_s: float | None = None) -> None:
        """See `Outbox.send`."""
        if message.__class__ not in self._classes:
            self._look_closely(message)
        self._send(message, timeout_s)

    def _send(self, message: Any, timeout_s: float | None) -> None:
        stored = self._encode(message) if self._encode is not None else None
        self._life.send(self._channels, message, self._shared, stored, timeout_s)

    def _look_closely(self, message: Any) -> None:
        """Refuses a message that is of none of the classes; one of a subclass too where it may have to be stored."""
        expected = type_name(self._outbox.type)
        where = f"{self._life.name}.{self._outbox.name}"
        if isinstance(message, tuple(self._classes)):
            if self._encode is None:
                return
            raise MessageRefused(
                f"{where} sends {expected}, not its subclass {type_name(type(message))}: what the subclass adds would be lost "
                f"in the store; send {expected}, or give the subclass an outbox of its own"
            )
        raise MessageRefused(f"{where} sends {expected}, not {message!r} ({type_name(type(message))})")


class LaneSender(Sender):
    """A live outbox of a component that keeps nothing, which feeds one inbox that takes lanes.

    Outside of an open unit each message is a unit of its own, of which nothing is kept. It goes the shortest way there is:
    along the lane, while room lasts that was lent.
    """

    __slots__ = ("_append", "_channel", "_is_short", "_journal", "_lane", "_use_room")

    def __init__(self, life: Door, outbox: Outbox[Any], channel: Channel, journal: Journal) -> None:
        super().__init__(life, outbox, (channel,), None)
        self._channel = channel
        self._journal = journal
        self._lane = journal.open_lane(channel, life.fence)
        self._use_room = self._lane.room.pop
        self._append = self._lane.sent.append
        self._is_short = True

    @property
    def progress(self) -> tuple[int, ...]:
        return (self._lane.used,)

    def no_short_way(self) -> None:
        self._is_short = False

    def send(self, message: Any, *, timeout_s: float | None = None) -> None:
        """See `Outbox.send`."""
        if message.__class__ not in self._classes:
            self._look_closely(message)
        if self._life.open_unit is not None or not self._is_short:
            self._send(message, timeout_s)
            return
        try:
            self._use_room()
        except IndexError:
            if not self._journal.lend(self._channel, self._lane, self._life.fence):
                self._send(message, timeout_s)
                return
        self._append(message)
        if self._channel.awaited:
            self._journal.ring(self._channel, self._lane)


class Receiver:
    """A live inbox of a component that has a `run()` of its own."""

    __slots__ = ("_channel", "_life")

    def __init__(self, life: Door, channel: Channel) -> None:
        self._life = life
        self._channel = channel

    def receive(self, *, timeout_s: float | None = None) -> Any:
        """See `Inbox.receive`."""
        return self._life.receive(self._channel, timeout_s)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._life.receive(self._channel, None)
        except StopRequested:
            raise StopIteration from None  # the loop is over; the cause says no more than that


def message_of(entry: Entry) -> Any:
    """The message of an entry, decoded where only its stored form is in memory.

    Raises:
        CannotDecode: the stored form is not what the class says.
    """
    channel, _, message, stored, _ = entry
    if message is not UNREAD:
        return message
    assert channel.codec is not None
    assert stored is not None
    return channel.codec.decode(stored)

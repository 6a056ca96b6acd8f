"""The feeder: messages that come from a test and not from a component. No thread, and no lock of its own."""

from __future__ import annotations

from typing import Any

from minions.errors import MessageRefused
from minions.fence import Fence
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.model.ports import Inbox, classes_of, type_name

__all__ = ["Feeder"]


class Feeder:
    """Feeds one inbox, on one thread. Nothing here blocks."""

    def __init__(self, journal: Journal, channel: Channel, inbox: Inbox[Any]) -> None:
        """Args:
        journal: of the run.
        channel: of the inbox.
        inbox: that is fed.
        """
        self._journal = journal
        self._channel = channel
        self._inbox = inbox
        self._name = channel.name
        self._fence = Fence("the test", 0)
        self._parker = Parker()

    def unit(self, message: Any) -> Unit:
        """A unit of work that sends a message.

        Raises:
            MessageRefused: it is of another class.
            CannotEncode: it cannot be stored.
        """
        if type(message) not in classes_of(self._inbox.type):
            expected = type_name(self._inbox.type)
            raise MessageRefused(f"{self._name} takes {expected}, not {message!r} ({type_name(type(message))})")
        codec = self._channel.codec
        stored = None if codec is None else codec.encode(message)
        unit = Unit(self._fence.component)
        unit.send((self._channel,), message, codec is None or codec.immutable, stored)
        return unit

    def offer(self, unit: Unit) -> bool:
        """Makes a unit whole, if there is room for it now; False where there is none, and nothing was sent.

        Raises:
            InboxFull: the inbox is full, and refuses what does not fit.
            StoreError: the store has failed for good.
        """
        ticket = self._journal.submit(unit, self._fence, self._parker)
        if ticket is not None:
            self._journal.withdraw(unit, ticket)
        return ticket is None

    def full(self, after: str) -> str:
        """What to say when there was no room."""
        return (
            f"{self._name} is full ({self._channel.size} messages){after}: have its component handle some before more are sent, "
            "or raise its capacity"
        )

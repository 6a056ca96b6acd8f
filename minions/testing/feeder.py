"""The feeder: messages that come from a test and not from a component. No thread, and no lock of its own."""

from __future__ import annotations

import time
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
    """Feeds one inbox, on one thread."""

    def __init__(self, journal: Journal, channel: Channel, inbox: Inbox[Any], name: str) -> None:
        """Args:
        journal: of the run.
        channel: of the inbox.
        inbox: that is fed.
        name: of the inbox, for people.
        """
        self._journal = journal
        self._channel = channel
        self._inbox = inbox
        self._name = name
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

    def send(self, message: Any, timeout_s: float) -> None:
        """Sends a message; blocks while there is no room.

        Raises:
            MessageRefused, CannotEncode: see `unit`.
            InboxFull: the inbox is full, and says so.
            TimeoutError: there was no room within so many real seconds.
        """
        unit = self.unit(message)
        give_up_s = time.monotonic() + timeout_s
        while (ticket := self._journal.submit(unit, self._fence, self._parker)) is not None:
            while self._journal.waits(ticket, self._fence, None):
                left_s = give_up_s - time.monotonic()
                if left_s <= 0:
                    self._journal.withdraw(unit, ticket)
                    raise TimeoutError(
                        f"{self._name} has been full for {timeout_s:g} real seconds ({self._channel.size} messages): have its "
                        "component handle some before you send more, or raise its capacity"
                    )
                self._parker.park(left_s)

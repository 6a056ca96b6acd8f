"""The epoch: what all units since the last commit add up to, and what of it has to be written.

What was sent and settled within one epoch cancels and never touches the disk; of several states the last one wins. Plain
values: the open epoch is guarded by the journal's lock, a sealed one belongs to the writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from minions.flow.acks import Acks, unsettled
from minions.flow.unit import Keyed

if TYPE_CHECKING:
    from minions.flow.channel import Channel

__all__ = ["Epoch", "Sealed"]


@attrs.frozen
class Sealed:
    """One epoch, closed: what the writer makes rows of.

    Attributes:
        number: counted from 1 in this run.
        units: how many units it holds.
        size_bytes: how many bytes those units added.
        states: all states, by name, of each component of which any changed.
        acks: of each channel in which anything was sent or settled, what is settled.
        sent: of each of these channels, in order, the number and stored form of what was sent.
        first_s: when the first of the units was whole, monotonic seconds.
        ids: of each channel, the ids that do not follow from the number, by number: of messages that had been set aside.
        keyed: the rows that are kept one by one, as `Unit.keyed` has them.
    """

    number: int
    units: int
    size_bytes: int
    states: dict[str, dict[str, bytes]]
    acks: dict[str, Acks]
    sent: dict[str, list[tuple[int, bytes]]]
    keyed: Keyed
    first_s: float = 0.0
    ids: dict[str, dict[int, str]] = attrs.Factory(dict)

    def survivors(self, channel: str) -> list[tuple[int, bytes]]:
        """What was sent to a channel in this epoch and was not settled in it."""
        sent, acks = self.sent[channel], self.acks[channel]
        if not sent or sent[-1][0] <= acks[0]:
            return []
        left = set(unsettled(acks, (number for number, _ in sent)))
        return [pair for pair in sent if pair[0] in left]


class Epoch:
    """The open epoch. Guarded by the journal's lock."""

    __slots__ = ("first_s", "keyed", "number", "size_bytes", "states", "touched", "units")

    def __init__(self, number: int) -> None:
        self.number = number
        self.units = 0
        self.first_s = 0.0
        self.size_bytes = 0
        self.states: dict[str, dict[str, bytes]] = {}
        self.touched: dict[Channel, list[tuple[int, bytes]]] = {}
        self.keyed: Keyed = {}

    def sent(self, channel: Channel, sequence: int, stored: bytes) -> None:
        messages = self.touched.get(channel)
        if messages is None:
            messages = self.touched[channel] = []
        messages.append((sequence, stored))

    def settled(self, channel: Channel) -> None:
        if channel not in self.touched:
            self.touched[channel] = []

    def keep(self, keyed: Keyed) -> None:
        """Takes over the rows of a unit; the last word on a row wins."""
        for prefix, bodies in keyed.items():
            known = self.keyed.get(prefix)
            if known is None:
                self.keyed[prefix] = bodies
            else:
                known.update(bodies)

    def seal(self) -> Sealed:
        """What it adds up to, as a value that no later unit can change."""
        return Sealed(
            number=self.number,
            units=self.units,
            size_bytes=self.size_bytes,
            states={component: dict(states) for component, states in self.states.items()},
            acks={channel.name: channel.acks.frozen() for channel in self.touched},
            sent={channel.name: sent for channel, sent in self.touched.items()},
            keyed=self.keyed,
            first_s=self.first_s,
            ids={
                channel.name: {number: channel.ids[number] for number, _ in sent if number in channel.ids}
                for channel, sent in self.touched.items()
                if channel.ids
            },
        )

"""The mailbox: the one wait of a component for all its inboxes, and what it has in hand. Guarded by the journal's lock."""

from __future__ import annotations

from collections import deque

from minions.clock import Parkable
from minions.fence import Fence
from minions.flow.calls import Call, CallQueue
from minions.flow.channel import Channel, Entry, Wakes
from minions.flow.meter import Meter

__all__ = ["MOST_AT_ONCE", "Mailbox"]

MOST_AT_ONCE = 256
"""How many messages a component takes in one go, unless it shares its inbox."""


class Mailbox:
    """What one life receives.

    Attributes:
        channels: the channels that it reads, shared with the other replicas.
        parker: where its thread sleeps.
        asleep: its thread found nothing and sleeps, or is about to; whoever clears it owes it a wake-up.
        timed: while it sleeps, whether it will wake by itself.
        only: while it sleeps, the one channel that it would take from; None for all of them.
        calls: those for its component, shared with the other replicas; None where nobody may call it.
        fence: of the life that reads; None until it is attached.
        call: the call that it has and that is not answered. Written under the lock; its thread may read it without, when it was
            woken: what was handed to it stays until it answers.
        in_hand: taken and not settled, in the order in which it was taken and will be settled; the first may be in work.
        part: which of a channel's queues it takes from, where the channels have partitions.
        meters: what is measured of each channel.
        held_back: the channels that it takes nothing from for now. Written by its own thread only, while it does not take.
    """

    __slots__ = (
        "_messages_first",
        "_turn",
        "asleep",
        "call",
        "calls",
        "channels",
        "fence",
        "held_back",
        "in_hand",
        "meters",
        "only",
        "parker",
        "part",
        "timed",
    )

    def __init__(
        self, channels: tuple[Channel, ...], parker: Parkable, part: int = 0, calls: CallQueue | None = None
    ) -> None:
        self.channels = channels
        self.calls = calls
        self.call: Call | None = None
        self.fence: Fence | None = None
        self.part = part
        self.parker = parker
        self.asleep = False
        self.timed = False
        self.only: Channel | None = None
        self.in_hand: deque[Entry] = deque()
        self.held_back: tuple[Channel, ...] = ()
        self.meters = {channel: Meter() for channel in channels}
        self._turn = 0
        self._messages_first = False

    def take_locked(self, only: Channel | None = None, most: int = MOST_AT_ONCE) -> list[Entry]:
        """Takes what waits in one inbox, each inbox in its turn; an empty list when nothing waits, or when a call was taken.

        Calls and messages take turns; a call that was taken is in `call`.

        From a channel that is shared it takes one at a time, because what it has in hand cannot be worked on by the others; from
        one that drops too, because what it has in hand cannot be dropped.
        """
        calls = self.calls
        if calls is not None and calls.waiting and not self._messages_first and calls.take_locked(self):
            return []
        self._messages_first = False
        channels = self.channels
        for step in range(len(channels)):
            channel = channels[(self._turn + step) % len(channels)]
            if only is not None and channel is not only:
                continue
            if channel.lanes:
                channel.gather_locked()
            queue = channel.queues[self.part]
            if not queue or channel in self.held_back:
                continue
            self._turn = (self._turn + step + 1) % len(channels)
            count = min(len(queue), most) if not channel.shared and channel.overflow == "block" else 1
            popleft = queue.popleft
            entries = [popleft() for _ in range(count)]
            self.in_hand.extend(entries)
            if channel.marker.queues[self.part]:
                channel.marker.take_locked(self.part, entries[-1][1], self.meters[channel].marks)
            return entries
        if calls is not None and calls.waiting:
            calls.take_locked(self)
        return []

    def hand_locked(self, call: Call) -> None:
        """Gives it a call, to be answered before it takes anything else; a message comes after that."""
        self.call = call
        self.asleep = False
        self._messages_first = True

    def put_down_call_locked(self, wakes: Wakes) -> None:
        """Gives back a call that it was handed and has not begun."""
        if self.call is not None and not self.call.begun:
            call, self.call = self.call, None
            call.queue.give_back_locked(call, wakes)

    def fall_asleep_locked(self, only: Channel | None, timed: bool) -> bool:
        """Says that its thread is about to sleep; whether it has to look once more before, because something may have come.

        Along a lane, that is, from a sender that saw nobody asleep: all others hold the lock that the caller holds. What was
        measured is put down before, because from then on the system may be quiet, and its figures are to be complete.
        """
        self.put_down_measured()
        self.asleep = True
        self.only = only
        self.timed = timed
        has_lanes = False
        for channel in self.channels:
            channel.awaited = True
            if channel.lanes:
                has_lanes = True
        return has_lanes

    def put_down_measured(self) -> None:
        """Has what was measured in the histograms. On its own thread, with or without the lock."""
        for meter in self.meters.values():
            meter.settle()

    def put_down_locked(self, wakes: Wakes, but: Entry | None = None) -> None:
        """Gives what is in hand back to the front of its channels, and passes on the wake-ups that this reader will not use.

        Args:
            but: an entry that stays in hand.
        """
        self.asleep = False
        self.put_down_call_locked(wakes)
        kept = [entry for entry in self.in_hand if entry is but]
        for channel in self.channels:
            channel.give_back_locked(
                [entry for entry in self.in_hand if entry[0] is channel and entry is not but], wakes
            )
        self.in_hand = deque(kept)
        if self.calls is not None and self.calls.waiting:
            self.calls.wake_reader_locked(wakes)

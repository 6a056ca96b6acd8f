"""The channel: the bounded queue of one inbox. A plain object without a lock or a thread of its own.

Every field is guarded by the journal's lock, as is every method with the suffix `_locked`. A method that makes somebody
runnable collects the parker to wake, because nobody is woken under the lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import count, repeat
from typing import TYPE_CHECKING, Any, Final, Protocol

from minions.clock import Parkable
from minions.errors import CannotDecode
from minions.fence import Fence
from minions.flow.acks import AckSet
from minions.flow.lane import Lane
from minions.flow.meter import Marker, Meter
from minions.model.policy import Retry
from minions.model.ports import Overflow

if TYPE_CHECKING:
    from minions.flow.codec import TypeCodec

__all__ = ["UNREAD", "Channel", "Entry", "Freed", "Reader", "Ticket", "Wakes"]

UNREAD: Final = object()
"""Stands for a message of which only the stored form is in memory."""

Entry = tuple["Channel", int, Any, "bytes | None", int]
"""A message in a channel: the channel, its sequence number, the message (or UNREAD), its stored form (None where the channel
is not durable), its partition (0 where the channel has none)."""

Wakes = list[Parkable]
"""Who is to be woken once the lock is free again; and what is to be freed only then, see `Freed`."""


class Freed:
    """Among those who are to be woken: holds what may be the last reference to a message until the lock is free again.

    What an object does as it is freed (`__del__`) is user code.
    """

    __slots__ = ("_held",)

    def __init__(self, held: object) -> None:
        self._held = held

    def park(self, timeout_s: float | None) -> None:
        """Nobody waits here."""

    def unpark(self) -> None:
        """Nobody waits here."""


class Reader(Protocol):
    """Who takes from a channel. Guarded by the journal's lock.

    Attributes:
        parker: where its thread sleeps.
        asleep: it found nothing and sleeps, or is about to; whoever clears it owes it a wake-up.
        only: while it sleeps, the one channel that it would take from; None for all of them.
        timed: while it sleeps, whether it will wake by itself.
        in_hand: what it has taken and not settled.
        part: which of a channel's queues it takes from.
        fence: of the life that reads; None before it has begun.
        meters: what is measured of each channel; written by its thread.
    """

    meters: dict[Channel, Meter]
    part: int
    parker: Parkable
    asleep: bool
    fence: Fence | None
    only: Channel | None
    timed: bool
    in_hand: deque[Entry]


_WAKE_SENDERS_EVERY = 32
_MOST_UNSETTLED = 32
_MOST_LENT = 64
_LONGEST_WAIT_WITH_ROOM_S = 0.001


class Ticket:
    """A place in a line; `granted` is what its holder waits for. Guarded by the journal's lock.

    Attributes:
        parker: where the holder sleeps.
        joined_s: when it joined the line, monotonic seconds.
        patient_until_s: until when it may be left waiting though there is room, monotonic seconds.
        asked_s: when its holder last asked whether it still has to wait, monotonic seconds.
        channel: the channel whose room is waited for; None in the lines that are not a channel's.
        need: for how many messages.
        room: where the room that is granted is noted down, by channel.
    """

    __slots__ = ("asked_s", "channel", "granted", "joined_s", "need", "parker", "patient_until_s", "room")

    def __init__(
        self,
        parker: Parkable,
        joined_s: float,
        *,
        channel: Channel | None = None,
        need: int = 0,
        room: dict[Channel, int] | None = None,
    ) -> None:
        self.parker = parker
        self.joined_s = joined_s
        self.patient_until_s = joined_s + _LONGEST_WAIT_WITH_ROOM_S
        self.asked_s = joined_s
        self.channel = channel
        self.need = need
        self.room = room
        self.granted = False

    def look_again_s(self, deadline_s: float | None) -> float | None:
        """Until when its holder may sleep before it asks again; None for as long as nobody wakes it.

        Where room was kept back from it, and nobody else comes by who would give it, it has to ask once more itself.
        """
        if self.channel is None or self.asked_s >= self.patient_until_s:
            return deadline_s
        return self.patient_until_s if deadline_s is None else min(self.patient_until_s, deadline_s)


class Channel:
    """The messages of one inbox that were sent and are not settled yet.

    Attributes:
        name: ``<component>.<inbox>``, which is also its name in the store.
        index: its place in the fixed order in which a unit takes room in several channels.
        capacity: how many messages may wait or be in work.
        overflow: what becomes of a message for which there is no room.
        retry: what becomes of a message with which a handler fails.
        codec: how its messages are stored; None when it is not durable.
        run_id: of the run, a part of the ids of the messages that are sent in it.
        next_sequence: the number of the next message. In one store none is given out twice that was ever on disk.
        acks: which messages are settled; only where it is durable.
        size: messages that wait, are in work, or for which room is held or lent. Never over `capacity`, but for a unit that is
            larger than the whole inbox and went in alone, for what an earlier run left behind, and for what had been set aside.
        queue: the messages that wait, once `gather_locked` has brought those that lie in lanes; where the channel has partitions,
            those of the first of `queues`.
        queues: one queue, or, where the channel has partitions, one for each replica.
        partition_of: tells the partition of a message; None where the channel has none. Calls user code: never under the lock.
        lanes: where room is lent or messages lie. While somebody stands in line no room is lent.
        awaited: whether a reader that sleeps, or is about to, would take from it. Senders read it without the lock, each after
            it has appended to a lane; a reader sets it before it looks into the lanes for the last time. So one of the two
            sees the other, as long as all threads see these steps in one order, as they do under the GIL. It may be true for no
            reason, which costs a sender a needless look. Where the channel has partitions it is said of none of them.
        attempts: how often the message of that number has failed.
        delayed: what failed in a shared channel and waits for the next life of the replica in which it did.
        shared: whether replicas take from it, each one message at a time.
        replicas: how many lives read it when all of them are up.
        eras: from which number on messages were first sent in the run of which id, ascending.
        ids: the ids of messages that had been set aside and were sent here once more, by their new numbers, until they are
            settled. Written under the lock; read by the component that has the message in hand.
        careful_until: messages below this number are handled only once they are on disk. Fixed before anything runs.
        most_unsettled: how many handled messages may be settled together.
        line: the senders that wait for room; the first to come is the first to be served.
        readers: the mailboxes that take from it; several where there are replicas.
        sent: messages sent in this run.
        settled: messages settled in this run.
        dropped: messages that `overflow` dropped in this run.
        most: the highest `length` so far.
        blocked: how often a sender had to wait for room.
        blocked_s: how long senders have waited for room, all together, in seconds; those that wait now are not in it.
        failed: how often a handler has failed with one of its messages.
        set_aside: how many messages were set aside, or skipped, because they failed too often or could not be read.
        retried: how often a message that had failed was given back to be tried again.
        mark_due: messages from this number on are to be marked.
        marker: which of its messages are marked with the moment when they came, and what was measured by lives that are over.
        refused: how many messages were refused because `overflow` is "fail", or because of a timeout.
        pressed: whether the first in line has lost patience, so that what was handled is not to be settled much later. May be
            read without the lock: who reads it too early learns of it with the next message.
        wake_at: while the size is above it, those in line who have patience left are left waiting.
    """

    __slots__ = (
        "acks",
        "attempts",
        "awaited",
        "blocked",
        "blocked_s",
        "capacity",
        "careful_until",
        "codec",
        "delayed",
        "dropped",
        "eras",
        "failed",
        "ids",
        "index",
        "lanes",
        "line",
        "mark_due",
        "marker",
        "most",
        "most_unsettled",
        "name",
        "next_sequence",
        "overflow",
        "partition_of",
        "pressed",
        "queue",
        "queues",
        "readers",
        "refused",
        "replicas",
        "retried",
        "retry",
        "run_id",
        "set_aside",
        "settled",
        "shared",
        "size",
        "wake_at",
    )

    def __init__(
        self,
        name: str,
        index: int,
        *,
        capacity: int = 1_000,
        overflow: Overflow = "block",
        retry: Retry = Retry(),
        codec: TypeCodec[Any] | None = None,
        shared: bool = False,
        run_id: str = "",
        partition_of: Callable[[Any], int] | None = None,
        parts: int = 1,
        replicas: int = 1,
    ) -> None:
        self.name = name
        self.index = index
        self.capacity = capacity
        self.overflow = overflow
        self.retry = retry
        self.codec = codec
        self.shared = shared
        self.replicas = replicas
        self.run_id = run_id
        self.eras = [(1, run_id)]
        self.ids: dict[int, str] = {}
        self.careful_until = 0
        self.partition_of = partition_of
        self.queues: tuple[deque[Entry], ...] = tuple(deque() for _ in range(parts))
        self.queue = self.queues[0]
        self.size = 0
        self.most = 0
        self.next_sequence = 1
        self.acks = AckSet()
        self.attempts: dict[int, int] = {}
        self.delayed: list[Entry] = []
        self.lanes: list[Lane] = []
        self.awaited = False
        self.line: deque[Ticket] = deque()
        self.pressed = False
        self.readers: list[Reader] = []
        self.settled = 0
        self.dropped = 0
        self.blocked = 0
        self.blocked_s = 0.0
        self.failed = 0
        self.refused = 0
        self.set_aside = 0
        self.retried = 0
        self.marker = Marker(parts, capacity)
        self.mark_due = 1
        self.wake_at = capacity - min(_WAKE_SENDERS_EVERY, capacity // 4)
        self.most_unsettled = max(1, min(_MOST_UNSETTLED, capacity // 8)) if overflow == "block" else 1

    @property
    def durable(self) -> bool:
        return self.codec is not None

    @property
    def takes_lanes(self) -> bool:
        """Whether what is sent to it may come along a lane: numbered late, and known to nobody but its receiver."""
        return self.codec is None and self.overflow == "block" and self.partition_of is None

    def message_id(self, sequence: int) -> str:
        """The id of a message: the same at every retry, and through a crash where the channel is durable."""
        if self.ids and (kept := self.ids.get(sequence)) is not None:
            return kept
        run_id = next(run_id for first, run_id in reversed(self.eras) if first <= sequence)
        return f"{self.name}-{run_id}-{sequence}"

    @property
    def sent(self) -> int:
        return self.next_sequence - self.eras[-1][0]

    @property
    def length(self) -> int:
        """The `size` without room that is lent and not used up."""
        length = self.size
        for lane in self.lanes:
            length -= len(lane.room)
        return length

    @property
    def waiting(self) -> int:
        """How many messages wait; without those that lie in lanes."""
        return sum(map(len, self.queues))

    # ------------------------------------------------------------------ room
    def has_room_locked(self, need: int) -> bool:
        """Whether `need` messages go in now; more than the inbox holds go in whole once it is empty."""
        return self.size + need <= self.capacity or self.size == 0

    def take_room_locked(self, need: int) -> bool:
        """Holds room for `need` messages, unless somebody stands in line before."""
        if self.line:
            return False
        if not self.has_room_locked(need):
            self.recall_locked()
            if not self.has_room_locked(need):
                return False
        self.size += need
        if self.size > self.most:
            self._note_length_locked()
        return True

    def lend_locked(self, lane: Lane) -> bool:
        """Lends a lane room for its next messages; False where there is none, or somebody stands in line.

        Half of what there is at most, so that a few that send now and then do not take back each other's room all the time.
        """
        if self.line:
            return False
        if self.size >= self.capacity:
            self.recall_locked()
            if self.size >= self.capacity:
                return False
        if not lane.lent:
            self.lanes.append(lane)
        places = min(_MOST_LENT, (self.capacity - self.size + 1) // 2)
        lane.lend_locked(places)
        self.size += places
        return True

    def recall_locked(self) -> None:
        """Takes back all room that is lent and not used up."""
        for lane in self.lanes:
            self.size -= lane.recall_locked()
        self.lanes = [lane for lane in self.lanes if lane.lent]

    def close_lane_locked(self, lane: Lane, now_s: float, wakes: Wakes) -> None:
        """Keeps what has come along a lane and forgets it, with the place of a message that comes too late."""
        self.size -= lane.recall_locked()
        self.gather_locked()
        if lane in self.lanes:
            self.lanes.remove(lane)
        self.release_room_locked(lane.lent, now_s, wakes)
        if self.queue:
            self.wake_reader_locked(wakes)

    def _note_length_locked(self) -> None:
        """Keeps `most` right: called when `size` has grown and, because messages come along lanes unseen, before it shrinks."""
        length = self.length
        if length > self.most:
            self.most = length

    def join_line_locked(self, room: dict[Channel, int], need: int, parker: Parkable, now_s: float) -> Ticket:
        ticket = Ticket(parker, now_s, channel=self, need=need, room=room)
        self.line.append(ticket)
        self.blocked += 1
        return ticket

    def leave_line_locked(self, ticket: Ticket, now_s: float, wakes: Wakes) -> None:
        """Gives up a place in the line; those behind it may now have room."""
        self.line.remove(ticket)
        self.blocked_s += now_s - ticket.joined_s
        self.serve_line_locked(now_s, wakes)

    def release_room_locked(self, places: int, now_s: float, wakes: Wakes) -> None:
        """Gives back room for that many messages and serves the line."""
        if self.lanes:
            self._note_length_locked()
        self.size -= places
        if self.line:
            self.serve_line_locked(now_s, wakes)

    def serve_line_locked(self, now_s: float, wakes: Wakes, *, at_once: bool = False) -> None:
        """Gives room to those in line, in order.

        A sender that just came is left waiting until a few places are free, so that a fast consumer does not pay for a
        switch of threads with every message; one that has waited for a millisecond gets the first place there is.

        Args:
            at_once: whoever is in line gets every place there is.
        """
        line = self.line
        while line:
            head = line[0]
            self.pressed = now_s >= head.patient_until_s
            if not self.has_room_locked(head.need):
                return
            if self.size > self.wake_at and self.size and now_s < head.patient_until_s and not at_once:
                return
            line.popleft()
            self.size += head.need
            self._note_length_locked()
            head.granted = True
            self.blocked_s += now_s - head.joined_s
            if head.room is not None:
                head.room[self] = head.need
            wakes.append(head.parker)
        self.pressed = False

    def make_room_locked(self, wakes: Wakes) -> bool:
        """Room for one message in a channel that drops: taken, or made by dropping the oldest one that waits.

        False when the new message is the one to drop. Where the oldest is dropped, the capacity bounds what waits; what is in
        work comes on top, because there is nothing to be gained from refusing news for its sake.
        """
        if self.overflow == "drop_newest":
            has_room = self.take_room_locked(1)
            self.dropped += not has_room
            return has_room
        while self.waiting >= self.capacity:  # more than one where an earlier run, with more capacity, left them
            wakes.append(Freed(self._drop_oldest_locked()))
        self.size += 1
        self.most = max(self.most, self.size)
        return True

    def _drop_oldest_locked(self) -> Entry:
        self.dropped += 1
        self.size -= 1
        dropped = min(filter(None, self.queues), key=lambda queue: queue[0][1]).popleft()
        oldest = dropped[1]
        self.marker.drop_locked(dropped[4] % len(self.queues), oldest)
        if self.codec is not None:
            self.acks.add(oldest)
        self.attempts.pop(oldest, None)
        self.ids.pop(oldest, None)
        return dropped

    # ------------------------------------------------------------------ messages
    def restore(
        self,
        next_sequence: int,
        acks: AckSet,
        waiting: Iterable[tuple[int, bytes]],
        eras: Iterable[tuple[int, str]] = (),
        ids: Mapping[int, str] = {},
    ) -> None:
        """Puts back what earlier runs left here, before anything runs."""
        self.next_sequence = next_sequence
        self.marker.begin(next_sequence)
        self.mark_due = next_sequence
        self.eras = [*eras, (next_sequence, self.run_id)]
        self.ids = dict(ids)
        self.acks = acks
        for sequence, stored in waiting:
            partition = self._partition_of_stored(stored)
            self._queue_of(partition).append((self, sequence, UNREAD, stored, partition))
        self.size = self.most = self.waiting

    def take_out(self, sequence: int) -> Entry | None:
        """Takes one message out of those that wait, before anything runs; None where it does not wait."""
        for queue in self.queues:
            for place, entry in enumerate(queue):
                if entry[1] == sequence:
                    del queue[place]
                    return entry
        return None

    def _partition_of_stored(self, stored: bytes) -> int:
        if self.partition_of is None or self.codec is None:
            return 0
        try:
            return self.partition_of(self.codec.decode(stored))
        except CannotDecode:
            return 0  # whoever takes it sets it aside

    def _queue_of(self, partition: int) -> deque[Entry]:
        return self.queues[partition % len(self.queues)]

    def gather_locked(self) -> None:
        """Numbers what has come along the lanes, and puts it behind what waits.

        To be called before one asks what waits, and before a message is put there in another way: its sender may have sent
        others before.
        """
        for lane in self.lanes:
            first = lane.gathered if lane.marks else 0
            messages = lane.gather_locked()
            if lane.marks:
                self._take_marks_locked(lane, first, len(messages))
            self.queue.extend(zip(repeat(self), count(self.next_sequence), messages, repeat(None), repeat(0)))
            self.next_sequence += len(messages)
        self.lanes = [lane for lane in self.lanes if lane.lent]
        self._note_length_locked()

    def mark_locked(self, sequence: int, partition: int, now_s: float) -> int:
        """Marks a message with the moment when it came; returns how far the next one is to be apart."""
        apart = self.marker.mark_locked(sequence, partition % len(self.queues), now_s)
        self.mark_due = sequence + apart
        return apart

    def _take_marks_locked(self, lane: Lane, first: int, count: int) -> None:
        """Takes over the marks of messages that are being gathered: so many, from that number of the lane's on."""
        later = []
        for number, now_s in lane.marks:
            if number >= first + count:
                later.append((number, now_s))
            elif number >= first:
                lane.apart = self.mark_locked(self.next_sequence + number - first, 0, now_s)
                lane.mark_due = number + lane.apart
        lane.marks = later

    def deliver_locked(self, message: Any, stored: bytes | None, wakes: Wakes, partition: int = 0) -> int:
        """Appends a message for which room is held and returns its sequence number."""
        if self.lanes:
            self.gather_locked()
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        self._queue_of(partition).append((self, sequence, message, stored, partition))
        self.wake_reader_locked(wakes, partition % len(self.queues))
        return sequence

    def wake_reader_locked(self, wakes: Wakes, part: int = 0) -> None:
        """Makes one sleeping reader runnable; a wake-up that a reader cannot use is passed on by calling this again.

        Args:
            part: in which of the queues there is something to take.
        """
        if not self.awaited and self.partition_of is None:
            return  # all are at work, and there may be hundreds
        woken = False
        for reader in self.readers:
            if reader.asleep and reader.part == part and (reader.only is None or reader.only is self):
                if woken:
                    return  # this one is awaiting the next message
                woken = True
                reader.asleep = False
                wakes.append(reader.parker)
        self.awaited = False

    def settle_locked(self, sequence: int, now_s: float, wakes: Wakes) -> None:
        """Settles one message: it was handled, or set aside, or dropped."""
        if self.codec is not None:
            self.acks.add(sequence)
        self.settled += 1
        if self.attempts:
            self.attempts.pop(sequence, None)
        if self.ids:
            self.ids.pop(sequence, None)
        if self.lanes:
            self._note_length_locked()
        self.size -= 1
        if self.line:
            self.serve_line_locked(now_s, wakes)

    def give_back_locked(self, entries: list[Entry], wakes: Wakes) -> None:
        """Puts what was taken and not settled back to the front, in order, to be read afresh."""
        stays = self.codec is None or self.codec.immutable
        for _, sequence, message, stored, partition in reversed(entries):
            self._queue_of(partition).appendleft((self, sequence, message if stays else UNREAD, stored, partition))
        if not stays:
            wakes.append(Freed(entries))
        if self.lanes:
            self.gather_locked()
        for part, queue in enumerate(self.queues):
            for _ in range(min(len(queue), len(self.readers))):
                self.wake_reader_locked(wakes, part)

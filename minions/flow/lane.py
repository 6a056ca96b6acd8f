"""The lane: how one life sends messages to one channel without taking the journal's lock for each.

The journal lends the lane some room in the channel. Who sends uses up one place of it and appends the message; who takes from
the channel, or needs to know what waits there, gathers what lies in the lane, under the journal's lock. When the life is over
its lane is gathered once more and given up: what a stale thread appends after that nobody reads.

Each side of the lane rests on one call of a deque being atomic (append, pop, popleft), which it is under the GIL and, by its
own lock, in free-threaded CPython.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import Any

__all__ = ["Lane"]


class Lane:
    """What one life has sent to one channel and nobody has gathered yet.

    Attributes:
        room: one element for each place that is lent and not used up. Filled under the journal's lock; emptied one by one, by
            whoever sends and by `recall_locked`: who gets an element has the place.
        sent: the messages, in order. Appended to by whoever has got a place, on any thread; emptied under the journal's lock.
        lent: places that were lent and neither came back nor were gathered with their message. Guarded by the journal's lock.
            It counts also what a sender has just taken from `room` and not yet brought to `sent`.
        granted: all places that were ever lent and did not come back. Guarded by the journal's lock, and read without it.
        marks: of some messages, counted from 0 since the lane was opened, when they were sent. Guarded by the journal's lock.
        apart: how far the next mark is to be from the one before. Guarded likewise.
        mark_due: messages from this number on are to be marked, when the lock is taken for them anyway. Guarded likewise.
    """

    __slots__ = ("apart", "granted", "lent", "mark_due", "marks", "room", "sent")

    def __init__(self) -> None:
        self.room: deque[None] = deque()
        self.sent: deque[Any] = deque()
        self.lent = self.granted = 0
        self.marks: list[tuple[int, float]] = []
        self.mark_due = 0
        self.apart = 1

    @property
    def used(self) -> int:
        """How many places were used up so far. Any thread, without a lock: while room is lent or recalled it may be off."""
        return self.granted - len(self.room)

    @property
    def gathered(self) -> int:
        """How many messages were gathered so far. Guarded by the journal's lock."""
        return self.granted - self.lent

    def mark_locked(self, number: int, now_s: float) -> None:
        """Marks a message; who gathers it says how far apart the next is to be."""
        self.marks.append((number, now_s))
        self.mark_due = number + self.apart

    def lend_locked(self, count: int) -> None:
        """Lends room for `count` messages: one to the caller, who appends at once, and the rest to whoever sends next."""
        self.lent += count
        self.granted += count
        self.room.extend(repeat(None, count - 1))

    def recall_locked(self) -> int:
        """Takes back the room that is not used up and returns how much it is."""
        count = 0
        try:
            while True:
                self.room.pop()
                count += 1
        except IndexError:
            self.lent -= count
            self.granted -= count
            return count

    def gather_locked(self) -> list[Any]:
        """Takes what was sent; what is appended meanwhile stays for the next time."""
        popleft = self.sent.popleft
        messages = [popleft() for _ in range(len(self.sent))]
        self.lent -= len(messages)
        return messages

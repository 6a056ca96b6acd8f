"""What one life measures of one inbox: how long messages waited, and how long they took.

A meter is written by the thread of its life, and reads no clock: it is told moments. Only `marks` is filled by whoever takes for
the life, under the journal's lock, which is on that same thread.

**How handling is sampled.** To read the clock for each message would cost a fast handler a tenth of its speed. So messages that
are handled one after the other are timed in groups, which are chosen so that a group takes about half a millisecond: a
message that takes longer is a group of its own, and of faster ones up to 2,048 are one. All of a group are put down with
their mean. Where a group took far longer than those before let expect, the next message is timed alone: if that one is as fast as
ever, one of the group was slow, and gets what is beyond the usual.

**How waiting is sampled.** Of the messages that come to a channel some are marked with the moment: each one while they come a
millisecond apart or slower, otherwise about one in so much time. A mark stands for all messages since the mark before.
"""

from __future__ import annotations

import math
from collections import deque

from minions.flow.histogram import Histogram, Recorder

__all__ = ["Mark", "Marker", "Meter"]

Mark = tuple[int, float, int]
"""The number of a message, when it came (monotonic seconds), and for how many messages it stands."""

_GROUP_S = 0.0005
_MOST_IN_GROUP = 2_048
_APART_S = 0.001
_MOST_APART = 4_096
_MANY = 64  # marks that are out before they are set further apart
_MOST_MARKS = 2 * _MANY


class Meter:
    """The histograms of one life and one inbox.

    Attributes:
        handling: how long messages took, from the moment when they were taken in hand until their unit of work was whole.
        waits: how long messages waited until then.
        marks: those of messages that the life has taken and not handled, in order.
        group: how many messages to handle before `handled` is called; fewer where no more are there.
    """

    __slots__ = ("_count", "_odd", "_seconds", "_usual_s", "group", "handling", "marks", "waits")

    def __init__(self) -> None:
        self.handling = Recorder()
        self.waits = Recorder()
        self.marks: deque[Mark] = deque()
        self.group = 1
        self._usual_s = 0.0
        self._count = 0  # handled and not yet in `handling`, as the next
        self._seconds = 0.0
        self._odd: tuple[int, float] | None = None  # a group that took far too long, and has not been put down yet

    def handled(self, count: int, began_s: float, now_s: float, last: int) -> None:
        """Takes note of messages that were handled one after the other, between two moments.

        Args:
            count: how many.
            began_s: when the first was begun, monotonic seconds.
            now_s: when the last one was done.
            last: its number.
        """
        if self.marks:
            self.begun(began_s, last)
        self._count += count
        self._seconds += now_s - began_s
        if self._count >= self.group or self._seconds >= _GROUP_S:  # often less than a group at a time
            self._put_down()

    def begun(self, now_s: float, last: int) -> None:
        """Takes note that messages up to the number `last` were begun."""
        marks = self.marks
        while marks and marks[0][0] <= last:
            _, came_s, weight = marks.popleft()
            self.waits.add(max(0.0, now_s - came_s), weight)

    def settle(self) -> None:
        """Puts down all that was noted. To be called before the life sleeps, so that nothing is left out while it is idle."""
        self._put_down()
        self._decide(self._usual_s)

    def _put_down(self) -> None:
        count, seconds = self._count, self._seconds
        if not count:
            return
        self._count, self._seconds = 0, 0.0
        mean_s = seconds / count
        if self._odd is not None:
            self._decide(mean_s)
        usual_s = self._usual_s
        if count > 1 and seconds > 2 * _GROUP_S and seconds > 2 * (count - 1) * usual_s:
            self._odd = count, seconds
            self.group = 1
            return
        self.handling.add(mean_s, count)
        self._expect(mean_s if not usual_s else usual_s + (mean_s - usual_s) / 4)

    def _expect(self, usual_s: float) -> None:
        self._usual_s = usual_s
        # Not divided before that is known: a time that goes towards 0 would be too small for it.
        is_fast = usual_s * _MOST_IN_GROUP <= _GROUP_S
        self.group = _MOST_IN_GROUP if is_fast else max(1, int(_GROUP_S / usual_s))

    def _decide(self, next_s: float) -> None:
        """Puts down a group that took far too long: as one slow message, or, if the next is as slow, as slow ones all.

        Args:
            next_s: what the next took.
        """
        if self._odd is None:
            return
        (count, seconds), usual_s, self._odd = self._odd, self._usual_s, None
        mean_s = seconds / count
        if next_s * next_s > mean_s * usual_s:
            self.handling.add(mean_s, count)
            self._expect(mean_s)
        else:
            self.handling.add(usual_s, count - 1)
            self.handling.add(seconds - (count - 1) * usual_s)
            self._expect(usual_s)


class Marker:
    """Which messages of a channel are marked. Guarded by the journal's lock.

    Attributes:
        queues: the marks of messages that wait, a queue for each queue of the channel.
        waits, handling: of lives that are over.
    """

    __slots__ = ("_marked", "_marked_s", "_stretch", "handling", "queues", "waits")

    def __init__(self, parts: int, capacity: int) -> None:
        self.queues: tuple[deque[Mark], ...] = tuple(deque(maxlen=_MOST_MARKS) for _ in range(parts))
        self.waits = Histogram()
        self.handling = Histogram()
        self._marked = 0
        self._marked_s = -math.inf
        self._stretch = capacity // _MANY + 1

    def begin(self, next_sequence: int) -> None:
        """Says that the numbers go on from there."""
        self._marked = next_sequence - 1

    def mark_locked(self, sequence: int, part: int, now_s: float) -> int:
        """Marks a message; returns how far the next one is to be apart."""
        weight = sequence - self._marked
        if weight <= 0:
            return 1
        queue = self.queues[part]
        queue.append((sequence, now_s, weight))
        each_s = max(0.0, now_s - self._marked_s) / weight
        apart = 1 if each_s >= _APART_S else min(_MOST_APART, int(_APART_S / each_s) + 1) if each_s else _MOST_APART
        if len(queue) >= _MANY:
            apart = max(apart, self._stretch)
        self._marked, self._marked_s = sequence, now_s
        return apart

    def take_locked(self, part: int, last: int, marks: deque[Mark]) -> None:
        """Moves the marks of messages up to the number `last`, which were taken."""
        queue = self.queues[part]
        while queue and queue[0][0] <= last:
            marks.append(queue.popleft())

    def drop_locked(self, part: int, last: int) -> None:
        """Forgets the marks of messages up to the number `last`, which nobody will take."""
        queue = self.queues[part]
        while queue and queue[0][0] <= last:
            queue.popleft()

    def keep_locked(self, meter: Meter) -> None:
        """Keeps what a life has measured that is over."""
        if not meter.waits.is_empty:
            self.waits += meter.waits.take()
        if not meter.handling.is_empty:
            self.handling += meter.handling.take()

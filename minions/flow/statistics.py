"""What the flow counts, as frozen values. The counters are kept anyway; to read them costs the journal's lock once."""

from __future__ import annotations

import attrs

from minions.flow.histogram import Histogram

__all__ = ["FlowStatistics", "InboxStatistics"]


@attrs.frozen(kw_only=True)
class InboxStatistics:
    """One inbox, since the system was started.

    Attributes:
        capacity: how many messages it holds before it overflows.
        waiting: messages that wait now.
        length: messages that wait, are in work, or for which room is held.
        high_water: the highest `length` so far.
        sent: messages that were sent to it.
        settled: messages that were handled, set aside or skipped.
        failed: how often a handler has raised for one of its messages.
        retried: how often a message that had failed was given back to be tried again.
        set_aside: messages that were set aside as dead letters, or skipped, because they failed too often or could not be read.
        dropped: messages that ``overflow="drop_oldest"`` or ``"drop_newest"`` has dropped.
        refused: messages that were refused, by ``overflow="fail"`` or because a sender's timeout was over.
        senders_waiting: how many senders wait for room now.
        blocked: how often a sender had to wait for room.
        blocked_s: how long senders have waited, all together, in seconds; those that wait now are not in it yet.
        waits: how long messages waited from when they came until a component began with them; sampled. What an earlier run left
            is not in it.
        handling: how long messages took, from then until their unit of work was whole, the wait for room included. Empty for a
            component with a ``run()`` of its own, of which nobody knows what it does with a message.
    """

    capacity: int
    waiting: int
    length: int
    high_water: int
    sent: int
    settled: int
    failed: int
    retried: int
    set_aside: int
    dropped: int
    refused: int
    senders_waiting: int
    blocked: int
    blocked_s: float
    waits: Histogram = attrs.field(repr=False)
    handling: Histogram = attrs.field(repr=False)

    @property
    def handled(self) -> int:
        """Messages that were handled: settled, and not set aside."""
        return self.settled - self.set_aside


@attrs.frozen(kw_only=True)
class FlowStatistics:
    """What the journal has counted since the system was started.

    Attributes:
        inboxes: each inbox, by ``<component>.<inbox>``.
        units_unsaved: units of work that are whole and not on disk yet.
        bytes_unsaved: how many bytes these add to what is kept.
        commits: how many commits were made.
        units_committed: how many units of work these held.
        sent: how many messages each thread of a component has sent, by its name, in whole units of work. One that goes to
            several inboxes counts for each.
    """

    inboxes: dict[str, InboxStatistics]
    units_unsaved: int
    bytes_unsaved: int
    commits: int
    units_committed: int
    sent: dict[str, int]

"""What the flow counts, as frozen values. The counters are kept anyway; to read them costs the journal's lock once."""

from __future__ import annotations

import attrs

__all__ = ["InboxStatistics", "Statistics"]


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
        dropped: messages that ``overflow="drop_oldest"`` or ``"drop_newest"`` has dropped.
        refused: messages that were refused, by ``overflow="fail"`` or because a sender's timeout was over.
        senders_waiting: how many senders wait for room now.
        blocked: how often a sender had to wait for room.
        blocked_s: how long senders have waited, all together, in seconds; those that wait now are not in it yet.
    """

    capacity: int
    waiting: int
    length: int
    high_water: int
    sent: int
    settled: int
    failed: int
    dropped: int
    refused: int
    senders_waiting: int
    blocked: int
    blocked_s: float


@attrs.frozen(kw_only=True)
class Statistics:
    """A running system, since it was started.

    Attributes:
        inboxes: each inbox, by ``<component>.<inbox>``.
        units_unsaved: units of work that are whole and not on disk yet.
        bytes_unsaved: how many bytes these add to what is kept.
        commits: how many commits were made.
        units_committed: how many units of work these held.
    """

    inboxes: dict[str, InboxStatistics]
    units_unsaved: int
    bytes_unsaved: int
    commits: int
    units_committed: int

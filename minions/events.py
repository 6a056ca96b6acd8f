"""What happened, as frozen values: posted by the supervisor, read by logs, tests and (later) hooks. No thread, no lock."""

from __future__ import annotations

import attrs

__all__ = [
    "CommitTrouble",
    "ComponentAbandoned",
    "ComponentFailed",
    "ComponentFinished",
    "ComponentStarted",
    "ComponentStopped",
    "Event",
    "GaveUp",
    "MessageSetAside",
    "StateOpened",
    "SystemStarted",
    "SystemStopped",
]


@attrs.frozen
class Event:
    """The root of all events."""


@attrs.frozen
class StateOpened(Event):
    """The state folder is open, and what an earlier run left is back in its place.

    Attributes:
        folder: where it is.
        resumed: whether an earlier run had left anything.
        waiting_messages: how many messages wait in the channels.
        commits_lost: how many of the last commits were lost with the power; only with synchronous NORMAL.
        strangers: the inboxes for which messages are kept, but which the system does not have (any more).
    """

    folder: str
    resumed: bool
    waiting_messages: int
    commits_lost: int
    strangers: tuple[str, ...]


@attrs.frozen
class SystemStarted(Event):
    """Every component has started.

    Attributes:
        components: how many threads of components there are.
    """

    components: int


@attrs.frozen
class SystemStopped(Event):
    """The system has ended.

    Attributes:
        reason: "finished", "stopped", "interrupted", "terminated" or "failed".
        problems: what went wrong, one sentence each; empty after an orderly end.
        survivors: the components whose threads could not be ended.
        left_messages: how many messages wait in the store for the next start.
        lost_messages: how many messages of inboxes that are not durable were dropped.
    """

    reason: str
    problems: tuple[str, ...]
    survivors: tuple[str, ...]
    left_messages: int
    lost_messages: int


@attrs.frozen
class ComponentStarted(Event):
    component: str
    epoch: int


@attrs.frozen
class ComponentFinished(Event):
    """`run()` has returned: there is nothing more to do for it, and it has not failed."""

    component: str
    epoch: int


@attrs.frozen
class ComponentStopped(Event):
    component: str
    epoch: int


@attrs.frozen
class ComponentFailed(Event):
    """A life ended with an error.

    Attributes:
        where: "on_start", "run", "on_stop" or the name of the handler.
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
        message_id: the message that was being handled, or empty.
        attempt: the how manieth failure of that message this was; 0 without one.
        restart_in_s: when a new life begins, or None when none will.
    """

    component: str
    epoch: int
    where: str
    error: str
    traceback: str
    message_id: str
    attempt: int
    restart_in_s: float | None


@attrs.frozen
class MessageSetAside(Event):
    """A message failed as often as its inbox allows and is kept as a dead letter (or dropped: `kept` is False)."""

    component: str
    message_id: str
    attempts: int
    error: str
    kept: bool


@attrs.frozen
class GaveUp(Event):
    """A component failed too often within the window of its restart policy; the system stops."""

    component: str
    failures: int
    within_s: float


@attrs.frozen
class ComponentAbandoned(Event):
    """A thread did not end in time; its fence is cut and it can do nothing any more.

    Attributes:
        stack: where the thread is, as Python prints it.
    """

    component: str
    epoch: int
    stack: str


@attrs.frozen
class CommitTrouble(Event):
    """A commit failed and is tried again; nothing is lost, components wait once the window is full.

    Attributes:
        attempt: how many times this commit has failed.
        error: what is wrong, and with which file.
        given_up: whether this was the last attempt, so that the system stops.
    """

    attempt: int
    error: str
    given_up: bool

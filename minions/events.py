"""What happened, as frozen values: posted by the supervisor, read by logs, tests and (later) hooks. No thread, no lock."""

from __future__ import annotations

import attrs

__all__ = [
    "AfterCommitDropped",
    "AfterCommitFailed",
    "CommitTrouble",
    "ComponentAbandoned",
    "ComponentFailed",
    "ComponentFinished",
    "ComponentStarted",
    "ComponentStopped",
    "Event",
    "GaveUp",
    "MessageOutlivedProcess",
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
        commits_lost: how many of the last commits, at least, were lost with the power; only with synchronous NORMAL.
        strangers: the inboxes for which messages are kept, but which the system does not have (any more).
        perhaps_lost: whether the machine went down while the state was in use, and it cannot be seen whether commits were lost;
            only with synchronous NORMAL.
    """

    folder: str
    resumed: bool
    waiting_messages: int
    commits_lost: int
    strangers: tuple[str, ...]
    perhaps_lost: bool = False


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
        left_messages: how many messages wait in the store for the next start. 0 where the last units could not be committed:
            those in memory are not what is on disk, and the next start counts them.
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
        where: "on_start", "run", "on_stop", "after_commit" or the name of the handler.
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
        message_id: the message that was being handled, or in whose unit what failed was handed to `after_commit`; or empty.
        attempt: the how manieth failure of that message this was; 0 where the failure is not put down to a message.
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
class AfterCommitFailed(Event):
    """A function that `after_commit` had taken raised in a life that had failed before; those behind it are called.

    Attributes:
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
        message_id: the message in whose unit it was handed over, or empty.
    """

    component: str
    epoch: int
    error: str
    traceback: str
    message_id: str


@attrs.frozen
class AfterCommitDropped(Event):
    """A life had to end before it could call what `after_commit` had taken: asked again to stop, or nothing can be written.

    Attributes:
        functions: how many functions were not called.
    """

    component: str
    epoch: int
    functions: int


@attrs.frozen
class MessageOutlivedProcess(Event):
    """At the start: an earlier process died, not in order, while this message was in work. It is tried again.

    Attributes:
        deaths: how many processes in a row.
    """

    component: str
    message_id: str
    deaths: int


@attrs.frozen
class MessageSetAside(Event):
    """A message failed as often as its inbox allows and is kept as a dead letter (or dropped: `kept` is False).

    Attributes:
        attempts: how often it has failed; where the process died of it, how many times in a row.
    """

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

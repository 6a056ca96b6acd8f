"""What the supervisor is told, as frozen values: by the threads of components, by whoever runs the system, by time."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from minions.events import Event, Evidence

__all__ = [
    "Begin",
    "Change",
    "Command",
    "Due",
    "Fail",
    "Failed",
    "Finished",
    "Halt",
    "Idle",
    "Noted",
    "Pause",
    "Reached",
    "Restart",
    "Resume",
    "Stalled",
    "Start",
    "Started",
    "Stop",
    "Stopped",
    "StoreFailed",
    "ZombieEnded",
]


@attrs.frozen
class Command:
    """The root of all commands."""


@attrs.frozen
class Begin(Command):
    """Start everything, in order."""


@attrs.frozen
class Stop(Command):
    """Stop everything, in order, within the deadline.

    Attributes:
        reason: "finished", "stopped", "interrupted", "terminated" or "failed".
    """

    reason: str


@attrs.frozen
class Change(Command):
    """The root of what somebody wishes of some components while the system runs. It is never lost, and may be asked twice.

    Attributes:
        components: the names of components; None for all of them.
        by: who wishes it: "operator", "watchdog".
        promise: the number of what is kept or broken when it has come about; 0 where nobody waits for that.
    """

    components: tuple[str, ...] | None = None
    by: str = "operator"
    promise: int = 0


@attrs.frozen
class Start(Change):
    """Begin those that are down: stopped by somebody, finished, isolated, or never to be restarted."""


@attrs.frozen
class Halt(Change):
    """Stop them between two units of work, producers first; their inboxes keep what waits and what arrives."""


@attrs.frozen
class Restart(Change):
    """Stop them as `Halt` does, with what is to be restarted with them, and begin again, consumers first."""


@attrs.frozen
class Pause(Change):
    """Have them take nothing more; what is in work is finished, and a `run` waits when it sends or receives."""


@attrs.frozen
class Resume(Change):
    """Let them go on, unless somebody else has paused them too."""


@attrs.frozen
class Stalled(Command):
    """A life makes no progress.

    Attributes:
        evidence: what its thread is at.
    """

    component: str
    epoch: int
    evidence: Evidence


@attrs.frozen
class ZombieEnded(Command):
    """The thread of a life that had been abandoned has ended after all."""

    component: str
    epoch: int


@attrs.frozen
class Started(Command):
    component: str
    epoch: int


@attrs.frozen
class Finished(Command):
    """A `run` has returned without having been asked to."""

    component: str
    epoch: int


@attrs.frozen
class Stopped(Command):
    """A life has ended because it was asked to."""

    component: str
    epoch: int


@attrs.frozen
class Failed(Command):
    """A life has ended with an error.

    Attributes:
        where: "on_start", "run", "on_stop", "after_commit" or the name of a handler.
        error: type and text, one line.
        traceback: as Python prints it.
        message_id: the message that was in work, or empty.
        attempt: how often that message has failed; 0 where the failure is not put down to a message.
        retry_delay_s: the wait before the message is tried again.
        stop_system: whether the system cannot go on.
        at_end: whether the component had done its work, and only what belongs to an orderly end was left.
    """

    component: str
    epoch: int
    where: str
    error: str
    traceback: str
    message_id: str = ""
    attempt: int = 0
    retry_delay_s: float = 0.0
    stop_system: bool = False
    at_end: bool = False


@attrs.frozen
class Fail(Command):
    """Something is wrong with the whole: stop in order, and say so.

    Attributes:
        problem: what, in one sentence.
    """

    problem: str


@attrs.frozen
class StoreFailed(Command):
    """Nothing can be written any more."""

    error: str


@attrs.frozen
class Idle(Command):
    """Some component has found nothing to do: look whether that goes for all."""


@attrs.frozen
class Due(Command):
    """A moment that the supervisor had asked to be woken at has come."""


@attrs.frozen
class Noted(Command):
    """Something to be passed on to those who watch events."""

    event: Event


@attrs.frozen
class Reached(Command):
    """Does nothing but call back: everything posted before has been dealt with."""

    callback: Callable[[], None]

"""What the supervisor is told, as frozen values: by the threads of components, by whoever runs the system, by time."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from minions.events import Event

__all__ = [
    "Begin",
    "Command",
    "Due",
    "Failed",
    "Finished",
    "Idle",
    "Noted",
    "Reached",
    "Started",
    "Stop",
    "Stopped",
    "StoreFailed",
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

"""What the supervision decides, as frozen values: the supervisor's thread carries them out, one after the other."""

from __future__ import annotations

import attrs

from minions import events

__all__ = [
    "Abandon",
    "Action",
    "AskToStop",
    "End",
    "Hold",
    "Keep",
    "Launch",
    "Notify",
    "Quieted",
    "Throw",
    "Unserved",
    "WakeAt",
    "WatchIdle",
]


@attrs.frozen
class Action:
    """The root of what the supervisor's thread does on behalf of a decision."""


@attrs.frozen
class Launch(Action):
    """Begin a life. When no thread can be had, that is reported as a failure of the life.

    Attributes:
        held: whether it begins paused.
    """

    component: str
    epoch: int
    held: bool = False


@attrs.frozen
class Hold(Action):
    """Have a life take nothing more between two units of work, or let it go on."""

    component: str
    held: bool


@attrs.frozen
class AskToStop(Action):
    """Ask a life to stop.

    Attributes:
        drain: whether what waits for it is to be handled before; otherwise it stays where it is.
        again: asked before: now what waits ends too, and what blocks its thread is interrupted.
    """

    component: str
    drain: bool = True
    again: bool = False


@attrs.frozen
class Throw(Action):
    """Raise an exception in the thread of a life that still does not end, where its component allows that."""

    component: str


@attrs.frozen
class Unserved(Action):
    """A component has no life any more, and none to come unless somebody asks for one."""

    component: str


@attrs.frozen
class Abandon(Action):
    """Cut the fence of a life whose thread does not end.

    Attributes:
        zombies: how many threads of this system that were abandoned are still alive, this one among them.
    """

    component: str
    zombies: int = 1


@attrs.frozen
class WakeAt(Action):
    """Send `Due` at this moment, monotonic seconds."""

    at_s: float


@attrs.frozen
class WatchIdle(Action):
    """From now on, components that find nothing to do say so."""


@attrs.frozen
class Quieted(Action):
    """Nothing can happen any more (or, again, something can)."""

    quiet: bool


@attrs.frozen
class Notify(Action):
    """Tell those who watch."""

    event: events.Event


@attrs.frozen
class Keep(Action):
    """Keep the promise that was given with a command.

    Attributes:
        promise: its number.
        broken: why it cannot be kept; empty where it is.
    """

    promise: int
    broken: str = ""


@attrs.frozen
class End(Action):
    """All is over: no component has a thread that could still do anything.

    Attributes:
        reason: why it stopped.
        survivors: the components with threads that had to be abandoned and are still alive.
        failed: what went wrong, one sentence each; empty after an orderly end.
    """

    reason: str
    survivors: tuple[str, ...]
    failed: tuple[str, ...]

"""The lifecycle of a component: its phases and the only moves between them. Plain values; one writer, the supervisor."""

from __future__ import annotations

import enum

__all__ = ["MOVES", "Phase"]


class Phase(enum.Enum):
    """Where a component is in its lifecycle."""

    WAITING = "waiting"
    """Not started yet: something that it sends to is not up."""
    STARTING = "starting"
    """Its thread is in `on_start`."""
    RUNNING = "running"
    """It handles messages, or is in `run`."""
    BACKOFF = "backoff"
    """It failed; its next life begins when the wait is over."""
    FINISHED = "finished"
    """Its `run` has returned; it has not failed, and there is nothing more to do for it."""
    STOPPING = "stopping"
    """It was asked to stop."""
    STOPPED = "stopped"
    """Its thread has ended after it was asked to, or it never had one."""
    ABANDONED = "abandoned"
    """Its thread did not end in time; its fence is cut."""

    @property
    def has_ended(self) -> bool:
        """Whether no life of this run will follow."""
        return self in (Phase.FINISHED, Phase.STOPPED, Phase.ABANDONED)

    @property
    def has_thread(self) -> bool:
        """Whether a thread of this component is at work."""
        return self in (Phase.STARTING, Phase.RUNNING, Phase.STOPPING)


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.RUNNING: frozenset({Phase.FINISHED, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.BACKOFF: frozenset({Phase.STARTING, Phase.STOPPED}),
    Phase.STOPPING: frozenset({Phase.FINISHED, Phase.STOPPED, Phase.ABANDONED}),
    Phase.FINISHED: frozenset(),
    Phase.STOPPED: frozenset(),
    Phase.ABANDONED: frozenset(),
}
"""From each phase, those that may follow it."""

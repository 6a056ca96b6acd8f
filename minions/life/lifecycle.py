"""The lifecycle of a component: its phases and the only moves between them. Plain values; one writer, the supervisor."""

from __future__ import annotations

import enum

__all__ = ["MOVES", "Phase"]


class Phase(enum.Enum):
    """Where a component is in its lifecycle."""

    WAITING = "waiting"
    """It is to start: something that it sends to is not up yet."""
    STARTING = "starting"
    """Its thread is in `on_start`."""
    RUNNING = "running"
    """It handles messages, or is in `run`."""
    PAUSED = "paused"
    """Its thread takes nothing more; its inboxes keep what arrives."""
    BACKOFF = "backoff"
    """Its next life begins when the wait is over: after a failure, or when those that restart with it have stopped."""
    FINISHED = "finished"
    """Its `run` has returned; it has not failed, and there is nothing more to do for it."""
    STOPPING = "stopping"
    """It was asked to stop."""
    STOPPED = "stopped"
    """Its thread has ended after it was asked to or because it failed for good, or it never had one."""
    ABANDONED = "abandoned"
    """Its thread did not end in time; its fence is cut."""

    @property
    def has_ended(self) -> bool:
        """Whether no life follows unless somebody asks for one."""
        return self in _ENDED

    @property
    def has_thread(self) -> bool:
        """Whether a thread of this component is at work."""
        return self in _WITH_THREAD

    @property
    def is_up(self) -> bool:
        """Whether it has started and was not asked to stop."""
        return self is Phase.RUNNING or self is Phase.PAUSED


_ENDED = frozenset({Phase.FINISHED, Phase.STOPPED, Phase.ABANDONED})
_WITH_THREAD = frozenset({Phase.STARTING, Phase.RUNNING, Phase.PAUSED, Phase.STOPPING})


MOVES: dict[Phase, frozenset[Phase]] = {
    Phase.WAITING: frozenset({Phase.STARTING, Phase.BACKOFF, Phase.STOPPED}),
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.PAUSED, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.RUNNING: frozenset({Phase.PAUSED, Phase.FINISHED, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.PAUSED: frozenset({Phase.RUNNING, Phase.FINISHED, Phase.BACKOFF, Phase.STOPPING, Phase.STOPPED}),
    Phase.BACKOFF: frozenset({Phase.WAITING, Phase.STARTING, Phase.STOPPED}),
    Phase.STOPPING: frozenset({Phase.FINISHED, Phase.BACKOFF, Phase.STOPPED, Phase.ABANDONED}),
    Phase.FINISHED: frozenset({Phase.WAITING, Phase.BACKOFF}),
    Phase.STOPPED: frozenset({Phase.WAITING}),
    Phase.ABANDONED: frozenset({Phase.WAITING, Phase.BACKOFF}),
}
"""From each phase, those that may follow it."""

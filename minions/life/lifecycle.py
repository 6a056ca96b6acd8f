"""The lifecycle of a component: its phases and the only moves between them. Plain values; one writer, the supervisor."""

from __future__ import annotations

import enum

__all__ = ["MOVES", "Phase"]


_ENDED = frozenset({"finished", "stopped", "abandoned"})
_UP = frozenset({"running", "paused"})
_WITH_THREAD = frozenset({"starting", "stopping"}) | _UP


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

    def __init__(self, value: str) -> None:
        self.has_ended = value in _ENDED
        """Whether no life follows unless somebody asks for one."""
        self.has_thread = value in _WITH_THREAD
        """Whether a thread of this component is at work."""
        self.is_up = value in _UP
        """Whether it has started and was not asked to stop."""


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

"""The fence of a life: what the thread of one life of a component may still do.

A fence belongs to one life. The supervisor moves its mode forward, under the journal's lock; every door of the runtime
(send, receive, settle, save) looks at it inside that same lock, so after a cut no late effect can slip through. It may be
read without the lock where a late answer does no harm (`running`).
"""

from __future__ import annotations

import enum

from minions.clock import Parkable
from minions.errors import StaleComponent

__all__ = ["Fence", "Mode"]


class Mode(enum.IntEnum):
    """The modes of a fence, in the only order in which they may follow each other."""

    LIVE = 0
    """Everything is allowed."""
    STOPPING = 1
    """Asked to end; everything is still allowed, so that what is under way can be finished."""
    ENDING = 2
    """Asked again: a unit that would have to wait, and a source that goes on sending, get StopRequested."""
    CUT = 3
    """The life is over; its thread gets StaleComponent at whatever it asks of the runtime."""


class Fence:
    """The right of one life to act.

    Attributes:
        component: the name of the component, with the number of the replica where there are several.
        epoch: the number of the life, counted from 1 since the process started.
        mode: guarded by the journal's lock; it only ever moves forward.
        held: whether it is paused: its thread takes nothing more, and when it is asked to stop it ends without handling what
            waits. Guarded by the journal's lock.
        yields: whether its thread is to look at the fence before it goes on with what it has taken. Guarded as `mode`, and read
            without the lock between two messages, where a late answer does no harm.
        parkers: where its threads may be asleep, to be woken when the mode moves; guarded by the journal's lock.
        sent: how many messages its whole units have sent, but for those that went along lanes; guarded by the journal's lock.
    """

    __slots__ = ("component", "epoch", "held", "mode", "parkers", "sent", "yields")

    def __init__(self, component: str, epoch: int) -> None:
        self.component = component
        self.epoch = epoch
        self.mode = Mode.LIVE
        self.held = False
        self.yields = False
        self.parkers: list[Parkable] = []
        self.sent = 0

    def advance_locked(self, mode: Mode) -> None:
        """Moves the mode forward; a mode that is already past stays. The caller holds the journal's lock."""
        if mode > self.mode:
            self.mode = mode
        self.yields = self.held or self.mode >= Mode.ENDING

    def hold_locked(self, held: bool) -> None:
        """Pauses, or lets go on. The caller holds the journal's lock."""
        self.held = held
        self.yields = held or self.mode >= Mode.ENDING

    def check_locked(self) -> None:
        """Raises StaleComponent once the fence was cut. The caller holds the journal's lock."""
        if self.mode is Mode.CUT:
            raise StaleComponent(
                f"{self.component}, life {self.epoch}: this life is over, another may have taken its place"
            )

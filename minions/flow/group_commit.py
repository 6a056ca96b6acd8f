"""Group commit: units that are whole gather in the open epoch, until the writer takes it; who waits for the disk waits here.

No thread and no lock of its own: it works under that of the journal, which owns it.
"""

from __future__ import annotations

import threading

from minions.clock import Clock, Parkable
from minions.errors import CommitTimeout, StopRequested, StoreError
from minions.fence import Fence, Mode
from minions.flow.channel import Ticket, Wakes
from minions.flow.epoch import Epoch, Sealed
from minions.flow.turnstile import Turnstile

__all__ = ["GroupCommit"]

_MOST_UNSAVED_UNITS = 8_192
_MOST_UNSAVED_BYTES = 64 << 20


class GroupCommit:
    """What of one running system is whole, and what of that is on disk.

    Every method is safe to call from any thread and returns at once; those named ``_locked`` are for who holds the lock, which
    guards all fields.

    Attributes:
        epoch: the open one. The journal adds each unit to it where it makes the unit whole.
        durable_units: how many are on disk.
        writer_asleep: whether the writer has to be woken for the next unit.
        owing: who has something to do after a commit, by the name of the life, and is woken at each until it is done.
        failure: with what the store has failed for good; None while it has not.
        closing: whether no unit will follow.
    """

    def __init__(self, lock: threading.Lock, turnstile: Turnstile, clock: Clock) -> None:
        """Args:
        lock: that of the journal.
        turnstile: where threads wait that find it taken.
        clock: the source of time.
        """
        self.epoch = Epoch(1)
        self.durable_units = 0
        self.writer_asleep = False
        self.owing: dict[str, Parkable] = {}
        self.failure: StoreError | None = None
        self.closing = False
        self._lock = lock
        self._turnstile = turnstile
        self._clock = clock
        self._sealed: Sealed | None = None  # what is being written; so many units and bytes are in it
        self._sealed_units = 0
        self._sealed_bytes = 0
        self._window_line: list[Ticket] = []
        self._durable_epoch = 0  # everything up to this epoch is on disk
        self._line: list[tuple[int, Ticket]] = []
        self._writer: Parkable | None = None

    # ------------------------------------------------------------------ units that become whole
    def admit_locked(self, parker: Parkable, now_s: float) -> Ticket | None:
        """A ticket where too much is not on disk yet.

        Raises:
            StoreError: the store has failed for good.
        """
        if self.failure is not None:
            raise self.failure
        epoch = self.epoch
        if (
            epoch.units + self._sealed_units < _MOST_UNSAVED_UNITS
            and epoch.size_bytes + self._sealed_bytes < _MOST_UNSAVED_BYTES
        ):
            return None
        ticket = Ticket(parker, now_s)
        self._window_line.append(ticket)
        return ticket

    def leave_window_locked(self, ticket: Ticket) -> None:
        """Gives up a ticket of `admit_locked`."""
        self._window_line.remove(ticket)

    def wake_writer_locked(self, wakes: Wakes) -> None:
        self.writer_asleep = False
        if self._writer is not None:
            wakes.append(self._writer)

    # ------------------------------------------------------------------ who waits for the disk
    def ticket(self, parker: Parkable) -> Ticket | None:
        """A ticket that is granted when every unit so far is on disk; None when it is already.

        Raises:
            StoreError: the store has failed for good.
        """
        with self._turnstile, self._lock:
            if self.failure is not None:
                raise self.failure
            last = self._last_epoch_locked()
            if self._durable_epoch >= last:
                return None
            ticket = Ticket(parker, self._clock.monotonic())
            self._line.append((last, ticket))
            return ticket

    def waits(self, ticket: Ticket, fence: Fence, deadline_s: float | None) -> bool:
        """Whether a ticket of `ticket` is still to be waited for.

        Raises:
            StaleComponent: the fence is cut.
            StopRequested: the component was asked to stop a while ago.
            CommitTimeout: the deadline is past.
            StoreError: the store has failed for good.
        """
        with self._turnstile, self._lock:
            fence.check_locked()
            if ticket.granted:
                return False
            if self.failure is not None:
                raise self.failure
            if fence.mode is Mode.ENDING:
                self._leave_line_locked(ticket)
                raise StopRequested(f"{fence.component} was asked to stop")
            if deadline_s is None or self._clock.monotonic() < deadline_s:
                return True
            self._leave_line_locked(ticket)
        raise CommitTimeout(f"{fence.component}: not everything was on disk within the timeout; the writer goes on")

    def _last_epoch_locked(self) -> int:
        """The epoch that holds the last unit so far."""
        return self.epoch.number if self.epoch.units else self.epoch.number - 1

    @property
    def durable_epoch(self) -> int:
        """Everything up to this epoch is on disk. Read without the lock: who owes is woken after it has changed."""
        return self._durable_epoch

    def last_epoch(self) -> int:
        """The epoch with which everything so far is on disk."""
        with self._turnstile, self._lock:
            return self._last_epoch_locked()

    def _leave_line_locked(self, ticket: Ticket) -> None:
        self._line = [(epoch, other) for epoch, other in self._line if other is not ticket]

    # ------------------------------------------------------------------ the writer
    def seal(self, writer: Parkable) -> Sealed | None:
        """The epoch that is to be written next; None when there is none, then `writer` is woken at the next unit."""
        with self._turnstile, self._lock:
            epoch = self.epoch
            if epoch.units:
                self.epoch = Epoch(epoch.number + 1)
                self._sealed = epoch.seal()
                self._sealed_units, self._sealed_bytes = epoch.units, epoch.size_bytes
                return self._sealed
            self._writer = writer
            self.writer_asleep = True
            return None

    def committed(self, sealed: Sealed) -> None:
        """Says that an epoch is on disk: frees its part of the window and wakes who waited for it."""
        wakes: Wakes = []
        with self._turnstile, self._lock:
            self._durable_epoch = sealed.number
            self._sealed = None
            self._sealed_units = self._sealed_bytes = 0
            self.durable_units += sealed.units
            ready = self._window_line
            self._window_line = []
            if self._line:
                ready += [ticket for epoch, ticket in self._line if epoch <= sealed.number]
                self._line = [(epoch, ticket) for epoch, ticket in self._line if epoch > sealed.number]
            for ticket in ready:
                ticket.granted = True
                wakes.append(ticket.parker)
            if self.owing:
                wakes += self.owing.values()
        for parkable in wakes:
            parkable.unpark()

    def fail(self, failure: StoreError) -> None:
        """Says that nothing can be written any more: whoever waits for the store, or needs it from now on, gets this error."""
        with self._turnstile, self._lock:
            self.failure = failure
            waiting = [*self._window_line, *(ticket for _, ticket in self._line)]
        for ticket in waiting:
            ticket.parker.unpark()

    def has_failed_with(self, error: BaseException) -> bool:
        """Whether this is the error with which `fail` was called."""
        with self._turnstile, self._lock:
            return error is self.failure

    def close(self) -> None:
        """Says that no unit will follow: the writer is woken and ends when everything is written."""
        wakes: Wakes = []
        with self._turnstile, self._lock:
            self.closing = True
            self.wake_writer_locked(wakes)
        for parkable in wakes:
            parkable.unpark()

    @property
    def finished(self) -> bool:
        """Whether no unit will follow and the last one was given to the writer."""
        with self._turnstile, self._lock:
            return self.closing and not self.epoch.units

    # ------------------------------------------------------------------ looking
    @property
    def unsaved_units(self) -> int:
        """How many units are in the open epoch and in the one that is being written."""
        return self.epoch.units + self._sealed_units

    @property
    def unsaved_bytes(self) -> int:
        """How large these are."""
        return self.epoch.size_bytes + self._sealed_bytes

    def unsaved(self, prefix: str) -> dict[str, bytes | None]:
        """The rows with a prefix that whole units have written or deleted (None) and that may not be on disk yet.

        Whoever reads the disk after it, and lets these have the last word, sees every whole unit.
        """
        with self._turnstile, self._lock:
            being_written = {} if self._sealed is None else self._sealed.keyed.get(prefix, {})
            return being_written | self.epoch.keyed.get(prefix, {})

    def unsaved_beginning(self, beginning: str) -> dict[str, bytes | None]:
        """What `unsaved` says of every prefix that begins so, by whole keys."""
        unsaved: dict[str, bytes | None] = {}
        with self._turnstile, self._lock:
            for keyed in ({} if self._sealed is None else self._sealed.keyed, self.epoch.keyed):
                for prefix, bodies in keyed.items():
                    if prefix.startswith(beginning):
                        unsaved |= {prefix + key: body for key, body in bodies.items()}
        return unsaved

    def unsaved_row(self, prefix: str, key: str) -> tuple[bytes | None] | None:
        """What `unsaved` says of one row, in a tuple; None where it says nothing and the disk is right."""
        with self._turnstile, self._lock:
            for keyed in (self.epoch.keyed, {} if self._sealed is None else self._sealed.keyed):
                bodies = keyed.get(prefix)
                if bodies is not None and key in bodies:
                    return (bodies[key],)
            return None

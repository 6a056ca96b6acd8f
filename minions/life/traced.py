"""Lives whose units of work are told to plugins, in the place of `Life` where a plugin asks for that.

Elsewhere none of this is in the way of a message. Here every message takes the long way: each is a unit that is seen.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from minions.clock import Clock
from minions.events import UnitEnded
from minions.flow.call_broker import CallBroker
from minions.flow.calls import Answer
from minions.flow.calls import Call as RemoteCall
from minions.flow.channel import Channel, Entry, Wakes
from minions.flow.journal import Journal
from minions.flow.unit import Unit
from minions.life.after_commit import Call
from minions.life.life import Life
from minions.life.sheltered import ShelteredLife
from minions.life.traces import describe
from minions.observe.units import Origin, Place, Units, place_of

__all__ = ["TracedJournal", "TracedLife", "TracedShelteredLife"]


class Work:
    """A unit of work that is told when it has ended. It belongs to the thread of its life.

    Attributes:
        where: what user code is at.
        began_at: when it began, by the wall clock.
        began_s: the same by the monotonic clock.
        received: the ids of the messages that it has received.
        places: the same, as `Units` has them.
        origins: the units that have led to it, the parent first.
        sent: what it has sent, for each channel the first number and the one behind the last. Written under the journal's lock.
    """

    def __init__(self, where: str, clock: Clock) -> None:
        self.where = where
        self.began_at, self.began_s = clock.wall(), clock.monotonic()
        self.received: list[str] = []
        self.places: list[Place] = []
        self.origins: list[Origin] = []
        self.trace_id = f"{random.getrandbits(128) or 1:032x}"  # all zeros is no id
        self.unit_id = f"{random.getrandbits(64) or 1:016x}"
        self.sent: list[tuple[Channel, int, int]] = []

    def follows(self, origin: Origin) -> None:
        """Says which unit has led to it; the first one is its parent."""
        if not self.origins:
            self.trace_id = origin.trace_id
        self.origins.append(origin)

    @property
    def origin(self) -> Origin:
        """This unit, for those that follow from it."""
        return Origin(self.trace_id, self.unit_id)


class TracedJournal(Journal):
    """A journal that notes which unit has sent which message, and has made which call.

    Attributes:
        lives: by their own threads, as `threading` counts. Each thread writes its own entry.
    """

    def __init__(self, clock: Clock, *, durable: bool, get_ident: Callable[[], int], units: Units) -> None:
        super().__init__(clock, durable=durable, get_ident=get_ident)
        self.lives: dict[int, TracedLife] = {}
        self.calls = TracedBroker(self._work_of_this_thread, self.lock, self.turnstile, clock)
        self._units = units

    def _work_of_this_thread(self) -> Work | None:
        life = self.lives.get(self._get_ident())
        return None if life is None else life.unit_work

    def _deliver_locked(self, unit: Unit, now_s: float, wakes: Wakes) -> bool:
        work = self._work_of_this_thread()
        if work is None:
            return super()._deliver_locked(unit, now_s, wakes)
        # The numbers of a unit follow one another: no life that is traced sends along lanes, which are numbered late.
        firsts = {channel: channel.next_sequence for channel, _, _, _ in unit.sends}
        durable = super()._deliver_locked(unit, now_s, wakes)
        work.sent = [(channel, first, channel.next_sequence) for channel, first in firsts.items()]
        # Before the lock is free again: who receives it looks up where it came from.
        self._units.note(
            ((channel.name, number) for channel, first, behind in work.sent for number in range(first, behind)),
            work.origin,
        )
        return durable


class TracedBroker(CallBroker):
    """What hands calls over, with the unit in which each was made."""

    def __init__(self, work_of_this_thread: Callable[[], Work | None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._work_of_this_thread = work_of_this_thread

    def place(self, call: RemoteCall) -> None:
        work = self._work_of_this_thread()
        call.origin = None if work is None else work.origin
        super().place(call)


class TracedLife(Life):
    """A life whose units are told; when each begins and ends is what `UnitEnded` says.

    Attributes:
        unit_work: the unit in work; None where there is none, or it is not to be told. Its own thread only.
    """

    puts_lanes = False
    _journal: TracedJournal

    def __init__(self, units: Units, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unit_work: Work | None = None
        self._units = units

    def _begin_work(self, where: str, entry: Entry | None = None, origin: Origin | None = None) -> None:
        """A unit begins, with the message that leads to it, if there is one, or what else has led to it."""
        self.unit_work = None
        if entry is not None:
            origin = self._units.origin_of(_place_of(entry))
        is_root = entry is None and origin is None
        if origin is not None or (self._units.wants_root() if is_root else self._units.wants_strays):
            work = self.unit_work = Work(where, self._clock)
            if entry is not None:
                self._receives(entry, origin)
            elif origin is not None:
                work.follows(origin)

    def _receives(self, entry: Entry, origin: Origin | None) -> None:
        if self.unit_work is not None:
            self.unit_work.received.append(entry[0].message_id(entry[1]))
            self.unit_work.places.append(_place_of(entry))
            if origin is not None:
                self.unit_work.follows(origin)

    def _end_work(self, error: BaseException | None = None) -> None:
        """Tells of the unit that has just become whole, or has failed."""
        work, self.unit_work = self.unit_work, None
        if work is None:
            return
        duration_s = self._clock.monotonic() - work.began_s
        if error is None:
            self._units.forget(work.places)
        self._units.tell(
            UnitEnded(
                component=self.name,
                epoch=self.fence.epoch,
                where=work.where,
                trace_id=work.trace_id,
                unit_id=work.unit_id,
                parent_id=work.origins[0].unit_id if work.origins else "",
                links=tuple((origin.trace_id, origin.unit_id) for origin in work.origins[1:]),
                received=tuple(work.received),
                sent=tuple(
                    channel.message_id(number)
                    for channel, first, behind in work.sent
                    for number in range(first, behind)
                ),
                began_at=work.began_at,
                duration_s=duration_s,
                error="" if error is None else describe(error),
            )
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Around a unit that has begun."""
        try:
            yield
        except BaseException as error:  # whatever ends the unit: it is raised on, and told
            self._end_work(error)
            raise
        self._end_work()  # where it has changed nothing, and so was not submitted

    def _submit_with(self, unit: Unit, parker: Any, deadline_s: float | None) -> None:
        super()._submit_with(unit, parker, deadline_s)
        if self._is_own_thread():
            self._end_work()

    # ------------------------------------------------------------------ where units begin
    def begin(self) -> None:
        self._journal.lives[threading.get_ident()] = self
        super().begin()

    def forget(self) -> None:
        self._journal.lives.pop(threading.get_ident(), None)
        self.unit_work = None
        super().forget()

    def _handle_effectless(self, channel: Channel, entries: list[Entry]) -> int:
        for handled, entry in enumerate(entries):
            if self.fence.yields or (self._waiting_calls and entry is not entries[0]):
                return handled
            self._handle(entry)
        return len(entries)

    def _handle(self, entry: Entry) -> None:
        self._begin_work(self._handlers[entry[0]].__name__, entry)
        with self._told():
            super()._handle(entry)

    def set_aside(
        self, entry: Entry, attempts: int, error: BaseException, traceback: str, *, keep: bool = True
    ) -> None:
        work, self.unit_work = self.unit_work, None
        super().set_aside(entry, attempts, error, traceback, keep=keep)
        self.unit_work = work
        if self._hook != "run":  # a message that cannot be read; a run goes on with the next one, in the same unit
            self._end_work(error)

    def _whole(self, hook: Callable[[], None], ticks: Mapping[str, bytes] = {}) -> None:
        self._begin_work(self._hook)
        with self._told():
            super()._whole(hook, ticks)

    def _answer_to(self, call: RemoteCall) -> Answer:
        self._begin_work(call.method, origin=call.origin)
        with self._told():
            answer = super()._answer_to(call)
            if answer[1] is not None:
                self._end_work(answer[1])
            return answer

    def _call(self, call: Call) -> None:
        self._begin_work("after_commit")
        with self._told():
            super()._call(call)

    @contextmanager
    def unit(self) -> Iterator[None]:
        with super().unit():
            self._begin_work(self._hook)
            try:
                yield
            except BaseException as error:  # whatever ends the unit: it is raised on, and told
                self._end_work(error)
                raise

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None:
        if self.open_unit is not None or not self._is_own_thread():
            super().send(channels, message, shared, stored, timeout_s)
            return
        self._begin_work(self._hook)
        with self._told():
            super().send(channels, message, shared, stored, timeout_s)

    def _next_message(self, channel: Channel, deadline_s: float | None) -> tuple[Entry, Any]:
        is_first = self.open_unit is None
        entry, message = super()._next_message(channel, deadline_s)
        if is_first:
            self._begin_work(self._hook, entry)
        else:
            self._receives(entry, self._units.origin_of(_place_of(entry)))
        return entry, message

    def _run(self) -> None:
        try:
            super()._run()
        except BaseException as error:  # whatever ends the unit: it is raised on, and told
            self._end_work(error)
            raise


class TracedShelteredLife(TracedLife, ShelteredLife):
    """The same where an exception may be thrown into its thread."""

    def _begin_work(self, where: str, entry: Entry | None = None, origin: Origin | None = None) -> None:
        with self._shelter():
            super()._begin_work(where, entry, origin)

    def _end_work(self, error: BaseException | None = None) -> None:
        with self._shelter():
            super()._end_work(error)


def _place_of(entry: Entry) -> Place:
    """A message, by the id under which its sender was noted."""
    channel, sequence = entry[0], entry[1]
    if channel.ids:  # it may have been set aside, and is here once more
        return place_of(channel.message_id(sequence)) or (channel.name, sequence)
    return channel.name, sequence

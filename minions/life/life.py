"""One life of a component: its instance, its unit in work, its place in the flow.

A life decides what belongs to which unit, and drives user code with it. It starts no thread: whoever drives it calls `begin`,
then `work`, then `end`, on one thread, which becomes the component's. What user code calls on another thread is named below.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from threading import get_ident
from types import MappingProxyType
from typing import Any

import attrs

from minions.clock import Clock, Parkable
from minions.errors import (
    CallFailed,
    CannotDecode,
    InboxEmpty,
    InboxFull,
    Interrupted,
    StaleComponent,
    StopRequested,
    StoreError,
    UnitTooLarge,
    UsageError,
)
from minions.fence import Fence, Mode
from minions.flow import rows
from minions.flow.board import Marks
from minions.flow.calls import Answer, CallQueue
from minions.flow.calls import Call as RemoteCall
from minions.flow.channel import Channel, Entry
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.mailbox import MOST_AT_ONCE, Mailbox
from minions.flow.meter import Meter
from minions.flow.os_threads import OS_THREADS
from minions.flow.storage import RowReader
from minions.flow.unit import Unit
from minions.life.after_commit import AfterCommit, Call
from minions.life.blocking import Blocking
from minions.life.calling import Proxy, RemoteMethod, lazy, refuse_bad_seconds, told_where, wait_for_answer
from minions.life.capture import Capture, ClockName, Kind
from minions.life.plan import NodePlan
from minions.life.ports import LaneSender, Receiver, Sender, message_of
from minions.life.recorder import Recorder
from minions.life.timetable import Timetable
from minions.life.traces import describe, frames_of, trace_of
from minions.life.trails import Place, Trails, place_of
from minions.life.working_state import WorkingState
from minions.model.checks import shown
from minions.model.component import Component, copy_of
from minions.model.ports import Outbox, State, Table
from minions.model.rates import Rate, unlimited
from minions.model.wrapped import called_on
from minions.observe.field_logger import FieldLogger
from minions.threads import Threads

__all__ = ["Life"]

Way = Callable[[Channel, list[Entry]], int]
"""Handles messages of one inbox until something comes in between; says how many."""

_SETTLE_AT_LEAST_EVERY_S = 0.001
_RATE = "its rate limit"
_NO_TICKS: Mapping[str, bytes] = MappingProxyType({})
_MOST_BETWEEN_CALLS = 16
"""How many messages a component takes at once after a call has come in between; then twice as many with each time."""


class Life:
    """One life of a component. It is the context that its instance asks for everything.

    All fields but `fence` are written by the component's thread only.

    Attributes:
        name: the name of the component, with the number of the replica where there are several.
        fence: what this life may still do.
        mailbox: what it receives.
        parker: where its thread sleeps.
        instance: the component, from `begin` to `forget`.
        current: the message in work. Without an open unit it is left over from one that failed.
        calls: what it was handed by `after_commit`.
        blocked_in: what its threads have said that they may hang in.
        waits_for: what its own thread waits for in the runtime; empty while it does not. Read by the watchdog.
        ident: its own thread, as `threading` counts; 0 before it has begun and once it is over.
        native_id: the same, as the kernel counts.
        cpu_s: CPU time that its own thread has used, in seconds; 0 until it is over.
        interrupted: whether somebody has broken off what it is at. What a call that was woken returns or raises is not to be
            relied on, so the unit that it belongs to never was, and no other follows but that of `on_stop`.
        has_begun: whether `on_start` has come to its end.
        has_worked: whether `run`, or the handling of messages, has come to its end in order.
        open_unit: the unit in work.
    """

    instance: Component
    puts_lanes = True  # whether messages may go the short way, past this object

    def __init__(
        self,
        plan: NodePlan,
        fence: Fence,
        journal: Journal,
        clock: Clock,
        parker: Parkable,
        log: logging.Logger,
        on_set_aside: Callable[[rows.DeadLetter, bool], None],
        disk: RowReader,
        marks: Marks | None = None,
        threads: Threads = OS_THREADS,
        recorder: Recorder | None = None,
    ) -> None:
        self.name = fence.component
        self.fence = fence
        self._threads = threads
        self.parker = parker
        self.mailbox = Mailbox(tuple(plan.reads.values()), parker, plan.part_of(self.name), plan.calls)
        self._most = MOST_AT_ONCE  # messages to take at once: fewer while calls come in between
        self._waiting_calls: Collection[object] = (
            () if plan.calls is None else plan.calls.waiting
        )  # read without the lock
        self._sets_timeouts = False  # whether call_timeout was ever entered; set by any thread, and never reset
        self._timeouts = threads.local()  # `seconds`: what the innermost call_timeout of a thread says
        self.current: Entry | None = None
        self.has_begun = False
        self.has_worked = False
        self.waits_for = ""
        self.native_id = 0
        self.cpu_s = 0.0
        self.interrupted = False
        self.blocked_in = Blocking(self.name)
        self.units = 0  # grows with each unit and each call; not with what other threads of the component send
        self._hook = "on_start"
        self._called = ""  # the method that is at work because it was called
        self._plan = plan
        self._journal = journal
        self._clock = clock
        self._log_of = log  # of the component
        self._log: FieldLogger | None = None  # the same with the fields of this life; made by the first to ask for it
        self._on_set_aside = on_set_aside
        self.ident = 0
        self._handlers: dict[Channel, Callable[[Any], None]] = {}
        self._ways: dict[Channel, tuple[Way, Meter]] = {}
        self._monotonic = clock.monotonic
        declared = plan.node.declaration
        self._ticks: dict[str, Callable[[], None]] = {}  # the methods with a schedule, by name
        self._timetable = Timetable(self.name, declared.schedules, clock, plan.run_id) if declared.schedules else None
        self._paces = {plan.reads[inbox]: plan.paces.of(inbox, rates) for inbox, rates in declared.rates.items()}
        self._goes_by_time = bool(self._timetable is not None or self._paces)
        self._state = WorkingState(self.name, plan, journal, disk, notes_reads=recorder is not None)
        self._senders: list[Sender] = []
        self.open_unit: Unit | None = None
        self._received_here = False  # the open unit was opened by a receive() and ends with the next one
        self._received = 0  # how many messages the open unit has received, or the last one had
        self._spare = Unit(self.name)  # an empty unit for the next handler, which may have no use for it
        self._sleep_was_cut_short = False
        self._letters: list[tuple[rows.DeadLetter, bool]] = []  # what the open unit sets aside, told once it is whole
        self._effectless = 0  # messages handled, first in hand, that are settled all at once because nobody can tell
        self._settled_at_s = 0.0
        self._marks = marks if marks is not None else Marks.nowhere()
        self._is_careful = any(channel.careful_until for channel in plan.reads.values())
        self._recorder = recorder
        self._trails = None if recorder is None else Trails()
        self._is_replayed_whole = not (plan.keeps or plan.reads)  # its `run`, which cannot begin in the middle
        self._on_disk: dict[Channel, int] = {}  # up to which number all messages of a channel are on disk
        self.calls = AfterCommit(journal, fence, parker, self._call, self._wait_for_commit)

    # ------------------------------------------------------------------ the life, as it is driven
    def begin(self) -> None:
        """Makes the instance, restores its state, and runs `on_start` as one unit of work."""
        self.ident, self.native_id = self._threads.get_ident(), self._threads.get_native_id()
        self._journal.begin_life(self.mailbox, self.fence)
        declaration = self._plan.node.declaration
        self.instance = copy_of(self._plan.node.blueprint, self, self._plan.configured)
        mine = self.instance.__dict__
        self._senders = [self._sender(outbox) for outbox in declaration.outboxes.values()]
        mine |= zip(declaration.outboxes, self._senders, strict=True)
        for name, channel in self._plan.reads.items():
            mine[name] = Receiver(self, channel)
            if name in declaration.handlers:
                self._handlers[channel] = self._method(declaration.handlers[name])
                self._ways[channel] = self._way_of(channel), self.mailbox.meters[channel]
        self._state.begin(mine)
        for name, (queue, component) in self._plan.uses.items():
            mine[name] = Proxy(self, queue, component, declaration.uses[name].timeout_s)
        self._ticks = {name: getattr(self.instance, name) for name in declaration.schedules}
        timetable = self._timetable
        begun = {} if timetable is None else timetable.begin(self._journal.ticks_of(self.name))
        self._whole(self.instance.on_start, begun)
        if self._trails is not None:
            self._trails.start_is_over()
        if self._plan.partitioned:
            self._state.refuse_strays(self._hook)
        self.has_begun = True
        self._journal.attach(self.mailbox, self.fence)

    def _way_of(self, channel: Channel) -> Way:
        """How messages of an inbox are handled."""
        if self._goes_by_time:
            return self._handle_in_time
        return self._handle_each if channel.durable or self._plan.keeps else self._handle_effectless

    def _method(self, name: str) -> Callable[[Any], None]:
        """The handler of that name, without a limit, which is kept before a message is taken to it."""
        method: Callable[[Any], None] = unlimited(getattr(type(self.instance), name)).__get__(self.instance)
        return method

    def _sender(self, outbox: Outbox[Any]) -> Sender:
        channels = self._plan.feeds[outbox.name]
        if self.puts_lanes and len(channels) == 1 and channels[0].takes_lanes and not self._plan.keeps:
            return LaneSender(self, outbox, channels[0], self._journal)
        return Sender(self, outbox, channels, self._plan.message_codecs[outbox.name])

    def work(self) -> None:
        """Runs `run`, or handles messages, until it is over: the source has finished, or the component was asked to stop."""
        if self._plan.node.declaration.has_run:
            self._hook = "run"
            self._run()
            self._close_if_open()
            self._save_if_changed()
            return
        answer: Answer | None = None  # what has come of the last call, to be told with the next look into the mailbox
        entries: list[Entry] | None = []
        while True:
            if self.calls.owing:
                self.calls.call_ready()
            wake_s = self._before_taking() if self._goes_by_time else None
            if answer is not None or self.mailbox.call is None:
                entries = self._journal.take(
                    self.mailbox, self.fence, most=self._most, timed=wake_s is not None, answer=answer
                )
                answer = None
                if entries is None:
                    return
            if self.mailbox.call is not None:
                answer = self._answer(self.mailbox.call)
            elif entries:
                self.handle_all(entries)
                self._most = min(2 * self._most, MOST_AT_ONCE)
                if self.mailbox.in_hand:  # it was broken off; the fence may say otherwise by now
                    self._put_down()
                    self._most = _MOST_BETWEEN_CALLS
            else:
                if self.fence.held:  # otherwise the mailbox has done it, before anybody took this life to be asleep
                    self.mailbox.put_down_measured()
                self._wait(self.parker, wake_s, "a message" if wake_s is None else self._awaited())

    def _before_taking(self) -> float | None:
        """Makes a tick that is due, and holds back what may not be handled yet; says when to look again."""
        self._tick_if_due()
        if self.fence.held:
            return None
        now_s = self._clock.monotonic()
        moments = [] if self._timetable is None else [self._timetable.due_s]
        held_back = []
        for channel, pace in self._paces.items():
            ready_s = pace.ready_s(now_s)
            if ready_s > now_s:
                held_back.append(channel)
                moments.append(ready_s)
        self.mailbox.held_back = tuple(held_back)
        return min(moments, default=None)

    def _awaited(self) -> str:
        """What it waits for, for people: read without the lock."""
        if any(channel.queues[self.mailbox.part] for channel in self.mailbox.held_back):
            return _RATE
        if self._timetable is None:
            return "a message"
        return "a message or its next tick" if self.mailbox.channels else "its next tick"

    def _tick_if_due(self) -> None:
        """Makes one tick, if one is due; between two units only."""
        timetable = self._timetable
        if timetable is None or self.fence.held or self.fence.mode is not Mode.LIVE:
            return
        method = timetable.due()
        if method is None:
            return
        self._journal.stay_awake(self.mailbox)
        hook, self._hook = self._hook, method
        self._whole(self._ticks[method], timetable.made(method))
        timetable.is_whole(method)
        self._hook = hook
        if self.calls.owing:
            self.calls.call_ready()

    def _run(self) -> None:
        self.instance.run()

    def _answer(self, call: RemoteCall) -> Answer | None:
        """Runs a method that was called, as one unit of work. What it raises is the answer.

        Returns:
            The answer, to be told when this unit is whole, which it is; None where it was told already.
        """
        answer = self._answer_to(call) if call.begin() else (None, None)
        try:
            if call.future is None and not self.calls.owing and not self._goes_by_time:
                return answer
            self._journal.calls.answer(self.mailbox, self.fence, answer)
            return None
        finally:
            del answer  # the traceback of an error leads to this frame, which would keep it alive

    def _answer_to(self, call: RemoteCall) -> Answer:
        unit = self.open_unit = self._spare
        self._called = call.method
        self.units += 1
        try:
            result = self._run_called(call)
            if unit.sends or self._plan.keeps or self.calls.handed:
                self._spare = Unit(self.name)
                self._submit_changed(unit)
        except (StaleComponent, StopRequested, Interrupted, StoreError):
            raise
        except BaseException as raised:  # noqa: BLE001 - it is the caller's
            if self._recorder is not None and self._recorder.wants(self.name, call.method, type(raised)):
                self.record(self.captured(raised, trace_of(raised)))
            self._spare = Unit(self.name)
            self.drop_unit()
            self._state.restore()
            self._called = ""
            return None, told_where(raised, call, self.fence.epoch)
        self.open_unit = None
        self._called = ""
        return result, None

    def _run_called(self, call: RemoteCall) -> Any:
        result = getattr(called_on(self.instance), call.method)(*call.arguments, **call.keywords)
        if reason := lazy(result):
            raise UsageError(f"{call} cannot be called from another component: {reason}")
        return result

    def end(self, *, interrupted: bool = False) -> None:
        """Calls what waits for a commit, and runs `on_stop` as one unit of work.

        Args:
            interrupted: user code was left in the middle of a unit, which is forgotten.
        """
        self.flush()
        self._put_down()
        if interrupted:
            self.drop_unit()
            self._state.restore()
        if self._called:
            self._fail_call()
        self.has_worked = True
        self.calls.call_rest()
        self._hook = "on_stop"
        self._state.leave()
        self._whole(self.instance.on_stop)
        self.calls.call_rest()

    def _fail_call(self) -> None:
        """Says that the method in work was broken off."""
        call, self._called = self.mailbox.call, ""
        if call is not None:
            ended = f"{self.name} was asked to stop while it was at work on it, and what it had changed never was"
            error = CallFailed(f"{call.by}: {call} was not answered: {ended}")
            self._journal.calls.answer(self.mailbox, self.fence, (None, error))

    def forget(self) -> None:
        """Lets go of the instance, so that what it holds is freed before the next life needs it. Last on its own thread."""
        self.cpu_s = time.thread_time() if self.native_id else 0.0
        self.ident = self.native_id = 0  # the numbers may be given to another thread, which is not this one
        self._journal.forget_thread()
        self.open_unit = self.current = None
        self._handlers.clear()
        self._ways.clear()
        self._state.forget()
        if hasattr(self, "instance"):
            del self.instance

    @property
    def is_source(self) -> bool:
        """Whether it works by itself and receives nothing."""
        return self._plan.node.is_source

    @property
    def is_ending(self) -> bool:
        """Whether `on_stop` has begun."""
        return self._hook == "on_stop"

    @property
    def where(self) -> str:
        """What user code is at work: "on_start", "run", "on_stop", the name of a handler or of a method that was called."""
        if self._called:
            return self._called
        entry = self.current  # read once: the watchdog asks while the thread goes on
        handler = self._handlers.get(entry[0]) if entry is not None else None
        return self._hook if handler is None else handler.__name__

    @property
    def doing(self) -> str:
        """What its thread is at, for people. May be read by any thread, and may then be late."""
        where = self.where
        if where == self._called:
            return f"answering {where}"
        if where != self._hook:
            return f"handling {where}"
        return "between two units of work" if where == "on_start" and self.has_begun else where

    @property
    def message_id_seen(self) -> str:
        """The id of the message in work, or empty. May be read by any thread, and may then be late."""
        return self._message_id()

    @property
    def stall_after_s(self) -> float | None:
        """After how long without progress it counts as stalled, as far as its component says so."""
        return self._plan.node.stall_after_s

    @property
    def progress(self) -> tuple[int, ...]:
        """Numbers of which one changes with all that its own thread does for the system. May be read by any thread."""
        entry, unit = self.current, self.open_unit
        sent = 0 if unit is None else len(unit.sends)
        lanes = [number for sender in self._senders for number in sender.progress]
        return (self.units, 0 if entry is None else entry[1], id(unit), sent, *lanes)

    @property
    def blamed(self) -> Entry | None:
        """The message that a failure is put down to; None where there is none, or more than one in the unit that failed."""
        return self.current if self._hook != "run" or self._received == 1 else None

    def handle_all(self, entries: list[Entry]) -> None:
        """Handles messages of one inbox, each as one unit of work.

        Stops between two of them when it is to end or is paused, and after one when somebody calls.
        """
        channel, total = entries[0][0], len(entries)
        way, meter = self._ways[channel]
        if total <= meter.group:
            self._handle_timed(way, meter, entries)
        else:
            done = 0
            while done < total and not (done and self._waiting_calls):
                group = entries[done : done + meter.group]
                if self._handle_timed(way, meter, group) < len(group):
                    break
                done += len(group)
        self.flush()

    def _handle_timed(self, way: Way, meter: Meter, entries: list[Entry]) -> int:
        """Handles messages of one inbox until something comes in between, and times them together; says how many."""
        monotonic = self._monotonic
        began_s = monotonic()
        try:
            count = way(entries[0][0], entries)
        except BaseException:  # whatever a handler raises: it is raised on, and its time is counted
            failed = self.current
            if failed is not None and any(entry is failed for entry in entries):  # it has taken its time all the same
                meter.handled(_place_of(failed, entries) + 1, began_s, monotonic(), failed[1])
            raise
        if count:
            meter.handled(count, began_s, monotonic(), entries[count - 1][1])
        return count

    def _handle_each(self, _: Channel, entries: list[Entry]) -> int:
        """Handles messages one by one; says how many."""
        for entry in entries:
            if self.fence.yields or (self._waiting_calls and entry is not entries[0]):
                return _place_of(entry, entries)
            self._handle(entry)
        return len(entries)

    def _handle_in_time(self, channel: Channel, entries: list[Entry]) -> int:
        """Handles messages one by one, with ticks between them, and as many as their pace allows; says how many."""
        pace, timetable, monotonic = self._paces.get(channel), self._timetable, self._clock.monotonic
        for entry in entries:
            if timetable is not None and monotonic() >= timetable.due_s:
                self._tick_if_due()
            if self._is_careful:
                self._wait_until_on_disk(entry)
            if self.fence.yields or (self._waiting_calls and entry is not entries[0]):
                return _place_of(entry, entries)
            if pace is not None and pace.take(monotonic()) is not None:
                return _place_of(entry, entries)
            self._handle(entry)
        return len(entries)

    def _handle_effectless(self, channel: Channel, entries: list[Entry]) -> int:
        """Handles messages that are not durable, in a component that keeps nothing: unless it sends, a handler changes nothing.

        Nobody can tell when exactly such a message is settled, so a few are settled at once. Few in relation to the capacity,
        because what is not settled keeps its room, and sooner where somebody who waits for room has lost patience. Those that
        are not settled in the end are left for `flush`, or for the next time.

        Returns:
            How many were handled.
        """
        fence, calls, handle, most = self.fence, self.calls, self._handlers[channel], channel.most_unsettled
        waiting, first = self._waiting_calls, entries[0]
        unit = self.open_unit = self._spare
        done = self._effectless
        handled = len(entries)
        try:
            for entry in entries:
                if fence.yields or (waiting and entry is not first):
                    handled = _place_of(entry, entries)
                    break
                self.current = entry
                handle(entry[2])
                if unit.sends or calls.handed:
                    self._effectless, done = done, 0
                    self._spare = Unit(self.name)
                    self._finish(entry, unit)
                    unit = self.open_unit = self._spare
                    continue
                done += 1
                if done >= most or calls.owing or (channel.pressed and self._is_settling_late()):
                    if self.interrupted:
                        handled = _place_of(entry, entries)
                        break
                    self._effectless, done = done, 0
                    self.flush()
                    if calls.owing:
                        self.open_unit = self.current = None
                        calls.call_ready()
                        self.open_unit = unit
            if done and self.interrupted:
                done -= 1  # the last one is handled again, before any other
                handled = min(handled, len(entries) - 1)
        finally:
            self._effectless = done
        self.open_unit = self.current = None
        return handled

    def _handle(self, entry: Entry) -> None:
        """Handles one message as one unit of work."""
        if self._is_careful:
            self._wait_until_on_disk(entry)
        self.current = entry
        channel, marks = entry[0], self._marks
        place = marks.places.get(channel, 0)
        marks.words[place] = entry[1]
        try:
            try:
                message = message_of(entry)
            except CannotDecode as error:
                marks.words[place] = 0
                self._set_aside_unread(entry, error)
                return
            if self._plan.partitioned:
                self._state.enter(entry[4])
            unit = self.open_unit = Unit(self.name, self._state.home)
            self._handlers[channel](message)
        finally:
            marks.words[place] = 0  # looked up afresh: an abandoned life writes where nobody looks
        self._finish(entry, unit)

    def _wait_until_on_disk(self, entry: Entry) -> None:
        """Waits for the commit of a message that may kill the process, so that the next start knows which one it was."""
        channel, sequence = entry[0], entry[1]
        if self._on_disk.get(channel, channel.eras[-1][0] - 1) < sequence < channel.careful_until:
            last = channel.next_sequence - 1  # read without the lock: what was sent later is waited for later
            self._wait_for_commit()
            self._on_disk[channel] = last

    def _finish(self, entry: Entry, unit: Unit) -> None:
        self.flush()
        unit.settles.append(entry)
        self._submit_changed(unit)
        self.open_unit = self.current = None
        if self.calls.owing:
            self.calls.call_ready()

    def _is_settling_late(self) -> bool:
        """Whether nothing was settled for a while."""
        return self._clock.monotonic() - self._settled_at_s > _SETTLE_AT_LEAST_EVERY_S

    def flush(self) -> None:
        """Settles what was handled and is not settled yet."""
        if self._effectless:
            count, self._effectless = self._effectless, 0
            self._settled_at_s = self._clock.monotonic()
            self._journal.settle_effectless(self.mailbox, self.fence, count)

    def set_aside(
        self, entry: Entry, attempts: int, error: BaseException, traceback: str, *, keep: bool = True
    ) -> None:
        """Settles a message that cannot be handled, the first in hand, and keeps it as a dead letter in the same unit of work.

        With a unit that user code has opened, it becomes part of that unit.

        Args:
            keep: whether a dead letter is kept; where the message is not durable there is nothing to keep.
        """
        channel, sequence, _, stored, _ = entry
        letter = rows.DeadLetter(
            channel=channel.name,
            message_id=channel.message_id(sequence),
            type=channel.codec.name if channel.codec is not None else "",
            message=stored if stored is not None else b"",
            attempts=attempts,
            error=describe(error),
            traceback=traceback,
            at=self._clock.wall(),
        )
        unit = self.open_unit if self.open_unit is not None else Unit(self.name)
        unit.settles.append(entry)
        keep = keep and channel.codec is not None
        if keep:
            unit.put(rows.dead_prefix(channel.name), rows.dead_number(sequence), letter.body())
        self._letters.append((letter, keep))
        if unit is not self.open_unit:
            self.flush()
            self._submit(unit, None)
            self.current = None

    def _set_aside_unread(self, entry: Entry, error: CannotDecode) -> None:
        """Sets a message aside that is not what its class says."""
        self.record(self.captured(error, ""), attempt=1, set_aside=True)
        self.set_aside(entry, 1, error, "")

    def captured(self, error: BaseException, traceback: str) -> Capture | None:
        """What is known of the unit in work, which has failed; before it is dropped. On its own thread, and never raises.

        None where crashes are not recorded, or the store is to blame.
        """
        recorder, trails = self._recorder, self._trails
        if recorder is None or trails is None or isinstance(error, StoreError):
            return None
        try:
            return self._capture(error, traceback, trails)
        except Exception as fault:  # noqa: BLE001 - told: the failure itself has to be dealt with all the same
            recorder.missed(f"{self.name}: {describe(fault)}")
            return None

    def record(self, capture: Capture | None, *, attempt: int = 0, set_aside: bool = False) -> None:
        """Hands a failure to the recorder, and does not wait for it.

        Args:
            attempt: how often its message has failed.
            set_aside: whether that has been set aside.
        """
        if capture is not None and self._recorder is not None:
            self._recorder.take(attrs.evolve(capture, attempt=attempt, set_aside=set_aside))

    def _capture(self, error: BaseException, traceback: str, trails: Trails) -> Capture:
        handed = self.calls.failed(error)
        kind = self._kind_of_unit() if handed is None else "after_commit"
        entry = self.current
        received = [entry] if kind == "handler" and entry is not None else []
        return Capture(
            component=self.name,
            of=type(self._plan.node.blueprint),
            epoch=self.fence.epoch,
            kind=kind,
            where=self.where if handed is None else getattr(handed.function, "__name__", ""),
            own_method=handed is not None and getattr(handed.function, "__self__", None) is self.instance,
            error_kind=f"{type(error).__module__}:{type(error).__qualname__}",
            error=describe(error),
            traceback=traceback,
            frames=frames_of(error),
            message_id=handed.message_id if handed is not None else self._message_id(),
            units=self.units + sum(number for sender in self._senders for number in sender.progress),
            at=self._clock.wall(),
            monotonic_s=self._clock.monotonic(),
            partition=self._state.partition,
            states=self._state.states.kept(),
            tables=trails.tables(self.units, self._state.seen_of_tables),
            received=list(self.mailbox.in_hand) if kind == "run" else received,
            called=self.mailbox.call if kind == "call" else None,
            asked=trails.calls.of(self.units, self._only_message()),
            asked_at_start=trails.asked_at_start,
            reads=trails.reads(self._place(), follows_commit=handed is not None),
            reads_at_start=trails.reads_at_start,
        )

    def _kind_of_unit(self) -> Kind:
        if self._called:
            return "call"
        if self._hook in self._ticks:
            return "tick"
        if self.current is not None and self._hook != "run":
            return "handler"
        return "on_stop" if self._hook == "on_stop" else "run" if self._hook == "run" else "on_start"

    def _only_message(self) -> Entry | None:
        """The message in work, where a unit has no more than one."""
        return None if self._hook == "run" else self.current

    def _place(self) -> Place:
        """Which unit a read of the clock belongs to."""
        if self._hook != "run":
            return place_of(self.units, self.current, self.open_unit)
        return (0, None, None) if self._is_replayed_whole else place_of(self.units, None, self.open_unit)

    def _keep_seen(self) -> None:
        """The open unit is about to be dropped."""
        if self._trails is not None:
            self._trails.unit_is_dropped(self.units, self._state.seen_of_tables())

    def interrupt(self) -> None:
        """Says that what it is at is about to be broken off. By the thread that does it, before it does."""
        self.interrupted = True

    def give_up(self, *, failed: Entry | None = None) -> None:
        """Ends this life for good: its fence is cut and what it had in hand is given back. Safe to call from any thread.

        Args:
            failed: a message that has failed once more.
        """
        self._marks.let_go()
        if self._is_own_thread():
            self.mailbox.put_down_measured()
        self._journal.end_life(self.mailbox, self.fence, failed=failed)

    # ------------------------------------------------------------------ what the instance asks (the context)
    @property
    def log(self) -> logging.Logger:
        if self._log is None:
            self._log = FieldLogger(self._log_of, self._log_fields)
        return self._log

    def _log_fields(self) -> dict[str, Any]:
        """What each line that it logs carries."""
        fields = {"component": self.name, "epoch": self.fence.epoch}
        message_id = self._message_id()
        return {**fields, "message_id": message_id} if message_id else fields

    @property
    def running(self) -> bool:
        return self.fence.mode is Mode.LIVE  # read without the lock: the answer may be late by one turn of a loop

    @property
    def message_id(self) -> str:
        message_id = self._message_id()
        if not message_id:
            raise UsageError(f"{self.name}: there is no message in work, and so no message_id")
        return message_id

    def _message_id(self) -> str:
        """The id of the message in work, or of the one that what is being called after a commit belongs to; or empty."""
        entry, call = self.current, self.calls.current
        if entry is not None:
            return entry[0].message_id(entry[1])
        return call.message_id if call is not None else ""

    def now(self) -> datetime:
        """On any thread."""
        return datetime.fromtimestamp(self._read_clock("now"), UTC)

    def monotonic(self) -> float:
        """On any thread."""
        return self._read_clock("monotonic")

    def _read_clock(self, clock: ClockName) -> float:
        seconds = self._clock.wall() if clock == "now" else self._monotonic()
        trails = self._trails
        if trails is not None and (get_ident() == self.ident or self._is_own_thread()):
            trails.clock.note(self._place(), (clock, seconds))
        return seconds

    def read_state(self, state: State[Any]) -> Any:
        if self._plan.partitioned:
            raise UsageError(
                f"{self.name}.{state.name} has a value for each partition (partition_by), which is there while a message is "
                "handled: read it in a handler"
            )
        raise UsageError(f"{self.name}.{state.name} was deleted: assign a new value instead")

    def read_table(self, table: Table[Any, Any]) -> Any:
        raise UsageError(f"{self.name}.{table.name} is a table of a life that is over")

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        """On any thread."""
        if self._sets_timeouts:
            timeout_s = getattr(self._timeouts, "seconds", timeout_s)
        clock = self._clock
        deadline_s = None if timeout_s is None else clock.monotonic() + timeout_s
        if get_ident() != self.ident and not self._is_own_thread():  # the first alone says no in production
            waiter = self._journal.threads.get(self._threads.get_ident())  # another life's, where a future calls back
            with self._parker_of_this_thread() as parker:
                call = RemoteCall(queue, method, arguments, keywords, self.name, self.fence, waiter, parker)
                self._journal.calls.place(call)
                return wait_for_answer(call, self._journal.calls, clock, deadline_s, timeout_s)
        call = RemoteCall(queue, method, arguments, keywords, self.name, self.fence, self.fence, self.parker)
        self._journal.calls.place(call)
        self.waits_for = f"{queue.name}.{method}() to answer"
        try:
            answer = wait_for_answer(call, self._journal.calls, clock, deadline_s, timeout_s)
        except Exception as error:  # whatever the other component raises: it is raised on, and noted for a replay
            if self._trails is not None:  # not the error itself: its traceback leads to the instance
                self._trails.calls.note(self.units, self._only_message(), call, "raised", (type(error), error.args))
            raise
        finally:
            self.waits_for = ""
        if self._trails is not None:
            self._trails.calls.note(self.units, self._only_message(), call, "returned", answer)
        return answer

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        """On any thread."""
        future: Future[Any] = Future()
        call = RemoteCall(queue, method, arguments, keywords, self.name, self.fence, future=future)
        self._journal.calls.place(call)
        if self._trails is not None and self._is_own_thread():
            self._trails.calls.note(self.units, self._only_message(), call, "submitted", future)
        return future

    def submit(self, method: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Future[Any]:
        """On any thread."""
        if not isinstance(method, RemoteMethod):
            raise UsageError(
                f"{self.name}: submit() takes a method of a component that this one uses, such as self.database.insert, "
                f"not {method!r}"
            )
        return method.submit(arguments, keywords)

    @contextmanager
    def call_timeout(self, seconds: float) -> Iterator[None]:
        """On any thread."""
        refuse_bad_seconds(seconds, f"{self.name}: call_timeout()")
        self._sets_timeouts = True
        mine = self._timeouts.__dict__
        before = dict(mine)
        mine["seconds"] = seconds
        try:
            yield
        finally:
            mine.clear()
            mine |= before

    def blocking(self, resource: Any, wake: Callable[[], object] | None) -> AbstractContextManager[None]:
        """On any thread."""
        return self.blocked_in.on(resource, wake)

    def sleep(self, seconds: float) -> None:
        """On any thread."""
        deadline_s = self._moment_s(seconds, "sleep")
        until = Mode.STOPPING if not self._sleep_was_cut_short else Mode.ENDING
        with self._parker_of_this_thread() as parker:
            self._call_ready_if_between_units()
            while self.fence.mode < until and self._clock.monotonic() < deadline_s:
                self._wait(parker, deadline_s, "its sleep to end")
                self._call_ready_if_between_units()
        # Only the one sleep that the stop comes upon ends early: a loop that does not look at `running` must not spin.
        self._sleep_was_cut_short |= self.fence.mode >= Mode.STOPPING
        if self.fence.mode is Mode.CUT or not self.is_ending:
            self._stop_if_ending()

    def commit(self, timeout_s: float | None) -> None:
        """On any thread."""
        self._refuse_if_over()
        deadline_s = self._deadline_s(timeout_s)
        if self._is_own_thread() and self.open_unit is None:
            self._save_if_changed()
        self._wait_for_commit(deadline_s)
        self._call_ready_if_between_units()

    def _wait_for_commit(self, deadline_s: float | None = None) -> None:
        with self._parker_of_this_thread() as parker:
            ticket = self._journal.commits.ticket(parker)
            while ticket is not None and self._journal.commits.waits(ticket, self.fence, deadline_s):
                self._wait(parker, deadline_s, "a commit")

    def keep_pace(self, method: Callable[..., Any], rates: tuple[Rate, ...]) -> None:
        """On any thread."""
        pace = self._plan.paces.of(method, rates)
        with self._parker_of_this_thread() as parker:
            while (ready_s := pace.take(self._clock.monotonic())) is not None:
                self._refuse_if_over()
                # What follows a commit, and on_stop, have begun because it is to stop: they are left their time.
                is_last = self.has_worked or self.calls.current is not None
                if self.fence.mode >= (Mode.ENDING if is_last else Mode.STOPPING):
                    raise StopRequested(
                        f"{self.name} was asked to stop, and {method.__name__}() waits for its rate limit"
                    )
                self._wait(parker, ready_s, _RATE)

    def after_commit(self, function: Callable[[], object]) -> None:
        self._own_thread_only("after_commit()")
        self._refuse_if_over()
        for sender in self._senders:
            sender.no_short_way()
        if self.open_unit is not None:
            self.calls.hand_over(function, self._message_id(), self._state.partition)
            return
        self.calls.call_ready()
        self._save_if_changed()
        self.calls.hand_over(function, "", None)
        self.calls.unit_ends()
        self.calls.unit_is_whole()

    def decoder_of(self, declared: Any) -> Callable[[bytes], Any]:
        """What makes a value of a type from its JSON."""
        return codec_of(declared).decode

    @contextmanager
    def woken_at_stop(self, parkable: Parkable) -> Iterator[None]:
        """Has something woken whenever `running` may have changed, for a thread that waits elsewhere than here."""
        self._journal.join(self.fence, parkable)
        try:
            yield
        finally:
            self._journal.leave(self.fence, parkable)

    @contextmanager
    def unit(self) -> Iterator[None]:
        self._own_thread_only("unit()")
        if self.open_unit is not None:
            raise UsageError(
                f"{self.name}: a unit of work is open already: "
                + (
                    "what follows a receive() is one unit until the next one; receive inside `with self.unit():` instead"
                    if self._received_here
                    else "a handler, on_start and on_stop are one unit, and units do not nest"
                )
            )
        self._stop_if_ending()
        self._put_down()
        self._save_if_changed()
        if self._trails is not None:
            self._trails.leave_calls()
        unit = self.open_unit = Unit(self.name)
        self._received = 0
        try:
            yield
            self._marks.clear()
            self._submit_changed(unit)
        except BaseException:  # whatever the block raises, which may catch it: nothing of the unit ever was
            self._keep_seen()
            self.drop_unit()
            self._state.restore()
            raise
        self.open_unit = self.current = None
        if self.calls.owing:
            self.calls.call_ready()

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None:
        """Sends a message to some channels: with the open unit, or as a unit of its own. On any thread.

        Args:
            shared: whether receivers get the object itself; otherwise each makes its own from the stored form.
        """
        own = self._is_own_thread()
        unit = self.open_unit if own else None
        if unit is not None:
            unit.send(channels, message, shared, stored)
            return
        self._stop_if_ending()
        unit = Unit(self.name)
        unit.send(channels, message, shared, stored)
        if own:
            self._state.gather(unit)
            self._submit(unit, timeout_s)
            if self.calls.owing:
                self.calls.call_ready()
            return
        with self._parker_of_this_thread() as parker:
            self._submit_with(unit, parker, self._deadline_s(timeout_s))

    def receive(self, channel: Channel, timeout_s: float | None) -> Any:
        self._own_thread_only("receive()")
        if self._hook != "run":
            raise UsageError(f"{self.name}: receive() works in run() only; a handler is given its messages one by one")
        self._close_if_open()
        if self.open_unit is None:
            self._put_down()
            self._save_if_changed()
            self._received = 0
        entry, message = self._next_message(channel, self._deadline_s(timeout_s))
        if self.open_unit is None:
            self.open_unit = Unit(self.name)
            self._received_here = True
        self.open_unit.settles.append(entry)
        self._received += 1
        return message

    def _next_message(self, channel: Channel, deadline_s: float | None) -> tuple[Entry, Any]:
        """The next message that can be read; one that cannot be is set aside."""
        while True:
            entry = self._next_entry(channel, deadline_s)
            if self._is_careful:
                self._wait_until_on_disk(entry)
            self._marks.received(channel, entry[1])
            meter = self.mailbox.meters[channel]
            if meter.marks:
                meter.begun(self._clock.monotonic(), entry[1])
            try:
                message = message_of(entry)
            except CannotDecode as error:
                self._mark_received()
                self._received += 1
                self._set_aside_unread(entry, error)
                continue
            self.current = entry
            return entry, message

    def _next_entry(self, channel: Channel, deadline_s: float | None) -> Entry:
        pace = self._paces.get(channel) if self._paces else None
        while True:
            self._call_ready_if_between_units()
            wake_s, ready_s, begun_s = deadline_s, None, 0.0
            if pace is not None:
                begun_s = self._clock.monotonic()
                ready_s = pace.take(begun_s)
                self.mailbox.held_back = () if ready_s is None else (channel,)
                wake_s = min((moment for moment in (ready_s, deadline_s) if moment is not None), default=None)
            timed = wake_s is not None
            entries = self._journal.take(self.mailbox, self.fence, only=channel, most=1, timed=timed)
            if pace is not None and ready_s is None and not entries:
                pace.give_back(begun_s)
            if entries is None:
                raise StopRequested(f"{self.name} was asked to stop, and nothing is left to receive")
            if entries:
                return entries[0]
            if deadline_s is not None and self._clock.monotonic() >= deadline_s:
                self._journal.stay_awake(self.mailbox)
                raise InboxEmpty(f"{self.name}: no message came to {channel.name} within the timeout")
            if deadline_s is None:
                self._refuse_to_hold_all(channel)
            self._marks.clear()  # while it waits for the next one, nothing is done with those that it has
            self._wait(self.parker, wake_s, f"a message in {channel.name}" if ready_s is None else _RATE)
            self._mark_received()

    def _refuse_to_hold_all(self, channel: Channel) -> None:
        """Refuses to wait for a message that cannot come, because those in hand have all the room that there is."""
        in_hand = self.mailbox.in_hand
        if (
            len(in_hand) >= channel.capacity
            and channel.overflow != "drop_oldest"  # which bounds what waits
            and sum(entry[0] is channel for entry in in_hand) >= channel.capacity
        ):
            self._journal.stay_awake(self.mailbox)
            raise UnitTooLarge(
                f"{self.name}: the open unit has received {channel.capacity:,} messages of {channel.name}, which holds no more, "
                "so none can follow; end the unit before, receive with a timeout_s, or give the inbox a larger capacity"
            )

    def _mark_received(self) -> None:
        """Notes what the open unit has received."""
        self._marks.clear()
        for channel, sequence, _, _, _ in self.open_unit.settles if self.open_unit is not None else ():
            self._marks.received(channel, sequence)

    # ------------------------------------------------------------------ units
    def _whole(self, hook: Callable[[], None], ticks: Mapping[str, bytes] = _NO_TICKS) -> None:
        """Runs a hook as one unit of work.

        Args:
            ticks: the rows of schedules that are written with it, by the names of their methods.
        """
        if self._trails is not None:
            self._trails.another_unit()
        unit = self.open_unit = Unit(self.name)
        hook()
        for method, row in ticks.items():
            unit.put(rows.TICKS, rows.tick_key(self.name, method), row)
        self._submit_changed(unit)
        self.open_unit = None

    def _submit_changed(self, unit: Unit) -> None:
        """Makes a unit whole, with what has changed of the state; waits for room."""
        self._state.gather(unit)
        if not self.calls.handed:
            self._submit(unit, None)
            return
        self.calls.unit_ends()
        self._submit(unit, None)
        self.calls.unit_is_whole()

    def _submit(self, unit: Unit, timeout_s: float | None) -> None:
        state = self._state
        if not unit.is_empty:
            self._submit_with(unit, self.parker, self._deadline_s(timeout_s))
            self.units += 1  # not before: where the unit is refused, the failure is its own
            state.states.saved(unit.states, state.values)
            letters, self._letters = self._letters, []
            for letter, kept in letters:
                self._on_set_aside(letter, kept)
        for table in state.tables.values():
            table.saved()

    def _submit_with(self, unit: Unit, parker: Parkable, deadline_s: float | None) -> None:
        journal, fence = self._journal, self.fence
        if self.interrupted and not self.is_ending:
            raise StopRequested(f"{self.name} was broken off in {self.where}, and what it had begun never was")
        if fence.held and self._hook == "run":
            self._wait_while_held(parker, deadline_s)
        mailbox = self.mailbox if unit.settles else None
        ticket = journal.submit(unit, fence, parker, mailbox)
        while ticket is not None:
            what = "the disk" if ticket.channel is None else f"room in {ticket.channel.name}"
            # Others may wait for its answers. A send with a timeout ends by itself, and blocks nobody for ever.
            noted = self._plan.with_calls and parker is self.parker and deadline_s is None
            try:
                if noted:
                    journal.calls.note_wait(fence, ticket)
                while journal.waits(ticket, fence, deadline_s):
                    self._wait(parker, ticket.look_again_s(deadline_s), what)
            except BaseException:  # whatever ends the wait: the unit leaves the line, and its room is free
                journal.withdraw(unit, ticket)
                raise
            finally:
                if noted:
                    journal.calls.note_wait(fence, None)
            ticket = journal.submit(unit, fence, parker, mailbox)

    def _wait_while_held(self, parker: Parkable, deadline_s: float | None) -> None:
        """Waits with a unit of a `run` until the component goes on, or is asked to stop."""
        fence = self.fence
        while fence.held and fence.mode is Mode.LIVE:
            if deadline_s is not None and self._clock.monotonic() >= deadline_s:
                raise InboxFull(f"{self.name} is paused, and did not go on within the timeout; nothing was sent")
            self._wait(parker, deadline_s, "somebody to resume it")

    def _wait(self, parker: Parkable, deadline_s: float | None, what: str) -> None:
        """Waits, and says for what where it is the component's own thread that does."""
        if parker is not self.parker:
            self._clock.wait(parker, deadline_s)
            return
        self.waits_for = what
        self._clock.wait(parker, deadline_s)
        self.waits_for = ""

    def _save_if_changed(self) -> None:
        self._submit_changed(Unit(self.name))

    def _close_if_open(self) -> None:
        """Ends the unit that a receive() had opened."""
        unit = self.open_unit
        if unit is not None and self._received_here:
            self._marks.clear()
            self._submit_changed(unit)
            self.open_unit = self.current = None
            self._received_here = False

    def drop_unit(self) -> None:
        """Forgets the open unit: nothing of it was. What it received is still in hand."""
        self.open_unit = None
        self._received_here = False
        self._marks.clear()
        self._letters.clear()
        self._state.restore_tables()
        self.calls.forget()

    def _put_down(self) -> None:
        """Gives back what is in hand, to be received again."""
        self._journal.put_down(self.mailbox, self.fence)
        self.current = None

    # ------------------------------------------------------------------ what is called after a commit
    def _call_ready_if_between_units(self) -> None:
        """On any thread; does nothing but on the component's own."""
        if self.calls.owing and self._is_own_thread() and self.open_unit is None:
            self.calls.call_ready()

    def _call(self, call: Call) -> None:
        """Calls one function as one unit of work, with the state of the partition that it belongs to."""
        self.flush()
        self._journal.stay_awake(self.mailbox)
        if self._hook == "run":
            self._save_if_changed()
        if call.partition is None:
            self._state.leave()
        else:
            self._state.enter(call.partition)
        self.current = None
        if self._trails is not None:
            self._trails.change_clock()
            self._trails.another_unit()
        unit = self.open_unit = Unit(self.name, self._state.home)
        try:
            self.calls.has_begun = True
            call.function()
            self._submit_changed(unit)
        except BaseException:  # whatever the function raises, which a `run` may catch: nothing of the unit ever was
            self._keep_seen()
            self.drop_unit()
            self._state.restore()
            raise
        finally:
            self.open_unit = self.current = None
            if self._trails is not None:
                self._trails.change_clock()

    def call_last(self, on_error: Callable[[BaseException, str], None]) -> None:
        """Calls what waits for a commit in a life that has failed: the units that it belongs to are whole all the same.

        Args:
            on_error: told of what a function raises, with the id of its message.
        """
        if self.calls.owing:
            self.drop_unit()
            self._state.restore()
            self.calls.call_last(on_error)

    # ------------------------------------------------------------------ threads
    def _is_own_thread(self) -> bool:
        return get_ident() == self.ident

    def _own_thread_only(self, method: str) -> None:
        if not self._is_own_thread():
            raise UsageError(
                f"{self.name}: {method} works on the component's own thread only; other threads may send, sleep and commit"
            )

    @contextmanager
    def _parker_of_this_thread(self) -> Iterator[Parkable]:
        if self._is_own_thread():
            yield self.parker
            return
        parker = self._threads.parker()
        self._journal.join(self.fence, parker)
        try:
            yield parker
        finally:
            self._journal.leave(self.fence, parker)

    def _refuse_if_over(self) -> None:
        if self.fence.mode is Mode.CUT:
            raise StaleComponent(f"{self.name}, life {self.fence.epoch}: this life is over")

    def _stop_if_ending(self) -> None:
        self._refuse_if_over()
        if self.fence.mode is Mode.ENDING:
            raise StopRequested(f"{self.name} was asked to stop")

    def _deadline_s(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._moment_s(timeout_s, "timeout_s")

    def _moment_s(self, seconds: float, what: str) -> float:
        """The moment so many seconds from now."""
        try:
            moment_s = self._clock.monotonic() + seconds
            if not math.isnan(moment_s):  # which would never be past
                return moment_s
        except (TypeError, OverflowError):
            pass  # no number to calculate with; the same is to be said
        raise UsageError(f"{self.name}: {what}={shown(seconds)} must be a number of seconds")


def _place_of(entry: Entry, entries: list[Entry]) -> int:
    """Where an entry is among entries; by identity, because to compare messages would be to call code of users."""
    return next(place for place, each in enumerate(entries) if each is entry)

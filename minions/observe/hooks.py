"""The plugins of one run of a system: their hooks are called on a thread of their own, and one that hangs is left behind.

Threads: the observer's hands events over (`post`) and looks whether a hook hangs (`look`); a caller, which is the thread
``<system>/plugins``, loads the installed plugins and calls the hooks. When a hook does not return, its caller is abandoned and
the next one takes over what is left to do. `_lock` guards every field; no user code, and nothing that blocks, is called under it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Protocol

import attrs

from minions import events
from minions.clock import Clock
from minions.errors import ConfigurationError, PluginRefused
from minions.observe.drops import Drops
from minions.observe.pace import Pace
from minions.observe.plugin import ATTACHED, IMPORT, HookCall
from minions.observe.running import RunningSystem
from minions.observe.units import Units
from minions.threads import reading_frames

__all__ = ["Hooks", "Listeners"]

_MOST_WAITING = 10_000
_MOST_UNITS = 5_000
"""With so many waiting no further unit is: the rest is for events that matter more."""
_BURST_S = 0.1
_LONGEST_PAUSE_S = 0.5
_ONCE = (IMPORT, ATTACHED)  # what they use is no part of that
_TOO_EARLY = (events.StateOpened, events.ComponentStarted)
"""Nothing is loaded before the system is up (or fails to come up), so that its start is not slower for it."""


class Listeners(Protocol):
    """What is to be called. Any thread may ask."""

    def calls_of(self, kind: type[events.Event]) -> tuple[HookCall, ...]:
        """The hooks for a kind of event, in the order in which they are called."""

    @property
    def attaching(self) -> tuple[HookCall, ...]:
        """The hooks that are called with the running system before any other of their plugin."""

    @property
    def any(self) -> bool:
        """Whether there is any hook at all."""

    def to_load(self) -> Sequence[HookCall]:
        """What loads each installed plugin that is not loaded yet. Reads the disk."""


_Fault = events.PluginFailed | events.PluginNotLoaded


@attrs.frozen(eq=False)
class _Job:
    """A hook that is being called, and since when."""

    call: HookCall
    started_s: float


class _Caller:
    """A thread that calls hooks, and what it is at; `job` is guarded by the lock of its owner."""

    def __init__(self, drive: Callable[[_Caller], None], name: str) -> None:
        self.job: _Job | None = None
        self.thread = threading.Thread(target=drive, args=(self,), name=name, daemon=True)


class Hooks:
    """Calls hooks with events, in order. Bounded: what does not fit is dropped and counted.

    Attributes:
        system: what the hook `attached` is called with; None where there is none. Set before anything is posted.
        units: which units of work are told; None where none are. Set before anything is posted.
    """

    system: RunningSystem | None = None
    units: Units | None = None

    def __init__(self, listeners: Listeners, clock: Clock, *, timeout_s: float, cpu_ratio: float, name: str) -> None:
        """Starts nothing: the thread begins with the first event that somebody may listen to.

        Args:
            listeners: what is to be called.
            clock: by which hooks are timed.
            timeout_s: how long a hook may take.
            cpu_ratio: how much of one core all hooks together may use for long.
            name: of the thread.
        """
        self._listeners = listeners
        self._clock = clock
        self._timeout_s = timeout_s
        self._name = name
        self._report: Callable[[events.Event], None] = lambda event: None
        self._wake: Callable[[], None] = lambda: None
        self._lock = threading.Condition(threading.Lock())
        self._waiting: deque[events.Event] = deque()
        self._rest: deque[tuple[HookCall, events.Event | None]] = deque()  # of the event that is being told
        self._caller: _Caller | None = None
        self._looked_up = False  # what is installed
        self._loaded = False  # all of that is imported, or refused
        self._closing = False
        self._ends = threading.Event()  # set with `_closing`
        self._pace = Pace(share=cpu_ratio, burst_s=_BURST_S, longest_pause_s=_LONGEST_PAUSE_S)
        self._drops = Drops("plugins")
        self._unit_drops = Drops("units")

    # ------------------------------------------------------------------ on the observer's thread
    def begin(self, report: Callable[[events.Event], None], wake: Callable[[], None]) -> None:
        """Says how the observer is reached, before anything is posted; both return at once and may be called from any thread.

        Args:
            report: takes what is to be told.
            wake: has the observer call `look` once more.
        """
        self._report = report
        self._wake = wake

    def post(self, event: events.Event) -> None:
        """Hands an event over. Returns at once."""
        if self._loaded and not self._listeners.any:  # read without the lock: it is written once
            return
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING and not isinstance(event, events.SystemStopped):
                dropped = self._drops.add(self._plugin_locked())
            else:
                self._waiting.append(event)
                self._lock.notify_all()
                dropped = self._drops.room(len(self._waiting) <= _MOST_WAITING // 2)
            begins = self._caller is None and not (isinstance(event, _TOO_EARLY) and not self._listeners.any)
        if dropped is not None:
            self._report(dropped)
        if begins:
            self._start_caller()

    def post_unit(self, unit: events.UnitEnded) -> None:
        """Hands a unit of work over, past the observer. Returns at once; on any thread."""
        with self._lock:
            begins_again = not self._waiting and not self._rest
            if len(self._waiting) >= _MOST_UNITS:
                dropped = self._unit_drops.add()
            else:
                self._waiting.append(unit)
                self._lock.notify_all()
                dropped = self._unit_drops.room(len(self._waiting) <= _MOST_UNITS // 2)
        if dropped is not None:
            self._report(dropped)
        if begins_again:
            self._wake()  # the hook has to be timed

    def look(self) -> float | None:
        """Leaves a hook behind that has not returned in time.

        Returns:
            When to look again, by the clock; None: after the next event.
        """
        with self._lock:
            caller, now_s = self._caller, self._clock.monotonic()
            if caller is None:
                return None
            job = caller.job
            if job is None:
                busy = self._rest or (self._waiting and self._listeners.any)
                return now_s + self._timeout_s if busy else None
            due_s = job.started_s + (job.call.timeout_s or self._timeout_s)
            if now_s < due_s:
                return due_s
        self._abandon(caller, job, now_s - job.started_s)
        return now_s + self._timeout_s

    def close(self, timeout_s: float) -> None:
        """Tells what is still to be told, and ends. Blocks for `timeout_s` real seconds at most; a hook gets half of that."""
        give_up_s = time.monotonic() + timeout_s
        with self._lock:
            self._closing = True
            self._ends.set()
            self._lock.notify_all()
            caller = self._caller
            job = caller.job if caller is not None else None
        while caller is not None:
            caller.thread.join(max(0.0, min(timeout_s / 2, give_up_s - time.monotonic())))
            with self._lock:
                current = self._caller
                same = current is caller and job is not None and caller.job is job
            if current is None:
                break
            if same and job is not None:
                self._abandon(caller, job, self._clock.monotonic() - job.started_s)
            if time.monotonic() >= give_up_s:
                break
            with self._lock:
                caller = self._caller
                job = caller.job if caller is not None else None
        with self._lock:
            self._caller = None  # whoever comes back now does nothing more
            units = sum(isinstance(event, events.UnitEnded) for event in self._waiting)
            untold = (self._drops.close(len(self._waiting) - units), self._unit_drops.close(units))
        if self.units is not None:
            self.units.close()
        for dropped in untold:
            if dropped is not None:
                self._report(dropped)

    def _abandon(self, caller: _Caller, job: _Job, hung_s: float) -> None:
        stack = _stack_of(caller.thread)
        with self._lock:
            if self._caller is not caller or caller.job is not job:
                return  # it has returned in the last moment
            job.call.plugin.set_aside = True
            job.call.plugin.faults += 1
            job.call.plugin.busy_s += hung_s
            self._caller = None
            self._rest = deque(rest for rest in self._rest if rest[0].plugin is not job.call.plugin)
        self._report(events.PluginSetAside(job.call.plugin.name, job.call.hook, hung_s, stack))
        self._start_caller()

    def _start_caller(self) -> None:
        caller = _Caller(self._drive, self._name)
        with self._lock:
            self._caller = caller
        try:
            caller.thread.start()
        except RuntimeError as error:  # the machine gives no further thread; the next event tries again
            with self._lock:
                self._caller = None
            logging.getLogger("minions").warning("%s: cannot start: %s; it is tried again", self._name, error)

    def _plugin_locked(self) -> str:
        return self._caller.job.call.plugin.name if self._caller is not None and self._caller.job is not None else ""

    # ------------------------------------------------------------------ on a caller's thread
    def _drive(self, caller: _Caller) -> None:
        self._load()
        while (job := self._next(caller)) is not None:
            call, event = job
            if isinstance(event, events.UnitEnded) and self.units is not None:
                self.units.keep(event)
            failed, fault, began_s = False, None, time.thread_time()
            try:
                call.function(self.system if call.hook == ATTACHED else event)
            except BaseException as error:  # noqa: BLE001 - a plugin may raise whatever it likes: it is counted and told
                failed = True
                if self._is_to_be_told(call):  # to describe an error takes a hundred times as long as to count it
                    fault = self._fault(call, error)
            self._note(caller, call, failed, fault)
            if call.hook not in _ONCE and (pause_s := self._pause_after_s(caller, time.thread_time() - began_s)):
                self._ends.wait(pause_s)  # what happens meanwhile waits; what does not fit is dropped, counted and told

    def _load(self) -> None:
        with self._lock:
            if self._looked_up:
                return
            self._looked_up = True
        try:
            loads = [(load, None) for load in self._listeners.to_load()]
        except Exception:  # what is installed cannot be read; what is registered is called all the same
            logging.getLogger("minions").exception("%s: what is installed cannot be looked up", self._name)
            return
        with self._lock:
            self._rest.extend(loads)
        self._wake()  # an import has to be timed

    def _next(self, caller: _Caller) -> tuple[HookCall, events.Event | None] | None:
        """What is to be called next, once there is anything; None when this thread is no longer to call anything."""
        with self._lock:
            while self._caller is caller:
                self._loaded = self._loaded or not self._rest
                if self._rest:
                    call, event = self._rest.popleft()
                    if not call.plugin.is_out:
                        caller.job = _Job(call, self._clock.monotonic())
                        return call, event
                elif self._waiting:
                    event = self._waiting.popleft()
                    self._rest.extend((call, None) for call in self._to_attach_locked())
                    self._rest.extend((call, event) for call in self._listeners.calls_of(type(event)))
                elif self._closing or not self._listeners.any:
                    self._caller = None
                else:
                    self._wake()  # nothing has to be timed any more
                    self._lock.wait()
        return None

    def _to_attach_locked(self) -> list[HookCall]:
        """What is called first of plugins that are new in this run."""
        if self.system is None:
            return []
        new = [call for call in self._listeners.attaching if not call.plugin.is_attached]
        for call in new:
            call.plugin.is_attached = True
        return new

    def _pause_after_s(self, caller: _Caller, used_s: float) -> float:
        """How long nothing is to be called, so that hooks take no more of the interpreter than their share, in seconds."""
        with self._lock:
            is_left = self._caller is not caller
            return 0.0 if is_left or self._closing else self._pace.spent(used_s, time.monotonic())

    def _is_to_be_told(self, call: HookCall) -> bool:
        """Whether an error of a hook is the first of that one."""
        with self._lock:
            return call.hook not in call.plugin.failed_hooks

    def _fault(self, call: HookCall, error: BaseException) -> _Fault:
        """What is told of an error. Also what an error says of itself is code of the plugin's, so it still counts as the call."""
        trace = error.__traceback__
        own = trace.tb_next if trace is not None and trace.tb_next is not None else trace
        try:
            text = " ".join(str(error).split())
            lines = traceback.format_exception(type(error), error, own)
        except BaseException:  # noqa: BLE001 - an error that cannot be described; where it was raised can be said
            text, lines = "<it cannot be described>", [*traceback.format_tb(own), type(error).__name__]
        if isinstance(error, PluginRefused):
            return events.PluginNotLoaded(call.plugin.name, "; ".join(error.problems), "")
        if isinstance(error, ConfigurationError) and call.hook == ATTACHED:
            return events.PluginNotLoaded(call.plugin.name, "; ".join(error.problems), "")
        described = f"{type(error).__name__}: {text}" if text else type(error).__name__
        if call.hook == ATTACHED:
            return events.PluginNotLoaded(call.plugin.name, f"it cannot be used: {described}", "".join(lines))
        if call.hook == IMPORT:
            return events.PluginNotLoaded(call.plugin.name, f"it cannot be imported: {described}", "".join(lines))
        return events.PluginFailed(call.plugin.name, call.hook, described, "".join(lines))

    def _note(self, caller: _Caller, call: HookCall, failed: bool, fault: _Fault | None) -> None:
        plugin = call.plugin
        with self._lock:
            if self._caller is not caller or caller.job is None:
                return  # it was abandoned
            plugin.busy_s += self._clock.monotonic() - caller.job.started_s
            plugin.calls += call.hook != IMPORT
            caller.job = None
            if failed:
                plugin.faults += 1
                plugin.failed_hooks.add(call.hook)
                if call.hook == ATTACHED and isinstance(fault, events.PluginNotLoaded):
                    plugin.not_attached = fault.problem
        if fault is not None:
            self._report(fault)


def _stack_of(thread: threading.Thread) -> str:
    """Where a thread is, as Python prints it, without the frames that are not the plugin's; empty when it has ended."""
    with reading_frames():
        frame: FrameType | None = sys._current_frames().get(thread.ident or 0)
        frames = [(each, line) for each, line in traceback.walk_stack(frame)] if frame is not None else []
    ours = (__file__, threading.__file__)
    while frames and frames[-1][0].f_code.co_filename in ours:
        frames.pop()
    return "".join(traceback.StackSummary.extract(reversed(frames)).format())

"""Runs the unit of work of a recorded crash once more: one life, driven on the caller's thread, with nothing around it.

What the unit read comes from the record: its messages, states and tables, the answers of other components, the time. What it
sends and keeps goes nowhere. Where the component asks for what was not recorded, the replay stops and says so, rather than going
on with something made up. No thread is started, no lock is taken that another thread knows, nothing is written.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import MappingProxyType
from typing import Any, NoReturn

import attrs

from minions.clock import Parkable
from minions.errors import CannotDecode, CannotStore, CrashRefused, InboxEmpty, StoreTooNew, UsageError
from minions.fence import Fence
from minions.flow.calls import Call as RemoteCall
from minions.flow.calls import CallQueue
from minions.flow.channel import UNREAD, Channel, Entry
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.parker import Parker
from minions.flow.rows import table_place
from minions.flow.unit import Unit
from minions.life.after_commit import Call
from minions.life.calling import not_callable
from minions.life.capture import ClockName
from minions.life.crash import Crash, KeptCall, KeptReads, KeptTable
from minions.life.crash_values import CannotRecord, KeptValue, error_of, keep_value, value_of
from minions.life.life import Life
from minions.life.plan import NodePlan, Plan
from minions.life.traces import describe, frames_of, trace_of
from minions.model.checks import is_number, shown
from minions.model.partition import home_of

__all__ = ["Replay", "replay"]

_MOST_WAITS = 10_000
_EXAMPLES = {"now": "datetime(2026, 1, 31, tzinfo=UTC)", "monotonic": "1000.0"}
"""What may be said of clock reads that were not recorded, by the method that reads."""
_NO_ENTRY = object()
_FROM_THE_TOP = "a replay begins with the first line of run(), and has what was read since the unit before"


class _NotRecorded(BaseException):
    """Ends a replay that came to what was not recorded; no `Exception`, because user code must not swallow it."""


class _Over(BaseException):
    """Ends the `run` of a replay: the unit that had failed is whole."""


@attrs.frozen(kw_only=True, eq=False)
class Replay:
    """What came of running the unit of a crash once more.

    Attributes:
        crash: which one.
        failed: whether it has failed again.
        same: whether it has failed with the same class of error, at the same lines of the same functions.
        error: type and text of the error, one line; empty where it has not failed.
        traceback: as Python prints it.
        stopped: why it could not go to its end, one sentence; empty where it did.
        sent: the messages that the unit sent, inbox and message, where it did not fail.
        raised: the error itself.
    """

    crash: Crash
    failed: bool = False
    same: bool = False
    error: str = ""
    traceback: str = ""
    stopped: str = ""
    sent: tuple[tuple[str, Any], ...] = ()
    raised: BaseException | None = attrs.field(default=None, repr=False)

    def check(self) -> None:
        """Returns where the unit does not fail any more: for a test that fails until the bug is fixed.

        Raises:
            CrashRefused: it came to what was not recorded, so that it cannot be told.
            BaseException: whatever the unit has raised.
        """
        if self.stopped:
            raise CrashRefused(f"crash {self.crash.id or self.crash.component}: {self.stopped}")
        if self.raised is not None:
            raise self.raised


def replay(
    crash: Crash,
    plan: Plan,
    log: logging.Logger,
    module: str = "",
    answers: Mapping[str, Any] = MappingProxyType({}),
) -> Replay:
    """Runs the unit of a crash once more, on the thread that calls. Blocks for as long as the code of the component does.

    Args:
        crash: what was recorded.
        plan: of the system as it is now; its channels are used up.
        log: of the system.
        module: what the module of the program that makes it is called now.
        answers: what calls answer that were not recorded; see `System.replay`.

    Raises:
        CrashRefused: it cannot be replayed with this system; nothing of the component was run.
    """
    node = _node_of(crash, plan)
    _refuse_strange_answers(answers, node)
    life = _ReplayedLife(crash, node, log, _entries_of(crash, node), _aliases(crash, node, module), answers)
    outcome = Replay(crash=crash)
    try:
        life.replay()
    except (_Over, _NotRecorded):
        pass  # the second is what `stopped` says
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - it is what was looked for
        same = frames_of(error) == crash.frames and _kind_of(error, life.aliases) == crash.error_kind
        outcome = attrs.evolve(
            outcome, failed=True, same=same, error=describe(error), traceback=trace_of(error), raised=error
        )
    if life.stopped:
        return Replay(crash=crash, stopped=life.stopped)
    return outcome if outcome.failed else attrs.evolve(outcome, sent=tuple(life.sent))


# What is refused before anything runs ---------------------------------------------------------------------------------


def _node_of(crash: Crash, plan: Plan) -> NodePlan:
    name = crash.component.partition("#")[0]
    node = plan.nodes.get(name)
    if node is None:
        raise CrashRefused(
            f"{crash.component} has crashed, and the program has no component of that name; it has "
            f"{', '.join(plan.nodes) or 'none'}: name the program that has it"
        )
    now, then = type(node.node.blueprint).__qualname__, crash.class_name.partition(":")[2]
    if now != then:
        raise CrashRefused(
            f"{name} was of class {then}, and is of {now} now: give the class its former name, or replay with the program "
            "that has crashed"
        )
    if node.partitioned is not (crash.partition is not None) and crash.kind == "handler":
        kept, has = ("in no partition", "has") if node.partitioned else ("in a partition", "has no")
        raise CrashRefused(f"{name} has crashed {kept}, and {has} partitions (partition_by) now: add it as before")
    if crash.left_out:
        needed = [part for part in crash.left_out if part not in ("tables", "calls", "reads")]
        if needed:
            raise CrashRefused(
                f"{', '.join(needed)} of {name} were too large to be recorded: raise size_bytes of Crashes(...), or in the table "
                "[crashes] of minions.toml, for the next time"
            )
    _refuse_strange_method(crash, node)
    for state, stored in crash.states.items():
        codec = node.state_codecs.get(state)
        if codec is not None:
            try:
                codec.decode(stored.encode())
            except (CannotDecode, StoreTooNew) as error:
                raise CrashRefused(f"state {name}.{state} of the crash cannot be loaded: {error}") from error
    return node


def _refuse_strange_answers(answers: Mapping[str, Any], node: NodePlan) -> None:
    used = {queue.name: component for queue, component in node.uses.values()}
    for name, answer in answers.items():
        if name in _EXAMPLES:
            if not callable(answer) and _seconds_of(answer, name) is None:
                raise UsageError(
                    f"{node.node.name}: answers={{{name!r}: {shown(answer)}}}: self.{name}() cannot read that: say what it "
                    f"reads, such as {_EXAMPLES[name]}, or a function that returns it"
                )
            continue
        component, _, method = name.partition(".")
        if component not in used or not method:
            raise UsageError(
                f"{node.node.name}: answers={{{name!r}: ...}}: name a method of a component that it uses, such as "
                f"{next(iter(used), 'database')}.find; it uses {', '.join(used) or 'none'}; or now or "
                "monotonic, which read the clock"
            )
        if reason := not_callable(used[component], method):
            raise UsageError(f"{node.node.name}: answers={{{name!r}: ...}}: it cannot be called: {reason}")


def _seconds_of(answer: Any, clock: str) -> float | None:
    """What is read of the clock, in seconds; None where it is nothing that could be."""
    if clock == "now":
        return answer.timestamp() if isinstance(answer, datetime) and answer.utcoffset() is not None else None
    return float(answer) if is_number(answer) and math.isfinite(answer) else None


def _refuse_strange_method(crash: Crash, node: NodePlan) -> None:
    declared, name = node.node.declaration, node.node.name
    inboxes = [message.inbox for message in crash.messages]
    match crash.kind:
        case "handler":
            gone = [f"handler of {inbox}" for inbox in inboxes if inbox not in declared.handlers]
        case "run":
            gone = [f"inbox {inbox}" for inbox in inboxes if inbox not in node.reads]
            gone += [] if declared.has_run else ["run()"]
        case "tick":
            gone = [] if crash.where in declared.schedules else [f"schedule {crash.where}"]
        case "call":
            there = node.calls is not None and crash.called is not None
            gone = [] if there else [f"method {crash.where} that may be called"]
        case "after_commit":
            if not crash.own_method:
                raise CrashRefused(
                    f"{name} has crashed in {crash.where}, which after_commit() was handed and which is no method of the "
                    "component: what it was made from is not recorded; hand over a method, after_commit(self.notify)"
                )
            gone = [] if hasattr(type(node.node.blueprint), crash.where) else [f"method {crash.where}"]
        case _:
            gone = []
    if gone:
        raise CrashRefused(f"{name} has no {', no '.join(gone)} any more, which has crashed: give it its former name")


def _entries_of(crash: Crash, node: NodePlan) -> list[Entry]:
    """The messages, as entries of the channels of today. They are decoded when they are received, as ever."""
    entries: list[Entry] = []
    for message in crash.messages:
        where = f"{node.node.name}.{message.inbox}"
        if not message.stored:
            raise CrashRefused(f"the message to {where} was not recorded: {message.missing}")
        channel = node.reads[message.inbox]
        codec = channel.codec or _codec_of_inbox(node, message.inbox)
        if codec.name != message.type:
            raise CrashRefused(
                f"the message to {where} is of type {message.type}, and the inbox now carries {codec.name}: give the class its "
                "former name"
            )
        stored, partition = message.stored.encode(), crash.partition or 0
        if channel.codec is not None:
            entries.append((channel, message.number, UNREAD, stored, partition))
            continue
        try:
            entries.append((channel, message.number, codec.decode(stored), None, partition))
        except CannotDecode as error:
            raise CrashRefused(f"the message to {where} cannot be read any more: {error}") from error
    if crash.kind == "handler" and len(entries) != 1:
        raise CrashRefused(f"a handler has one message, and the crash holds {len(entries)}")
    return entries


def _codec_of_inbox(node: NodePlan, inbox: str) -> Any:
    declared = node.node.declaration.inboxes[inbox].type
    try:
        return codec_of(declared)
    except CannotStore as error:
        raise CrashRefused(f"messages to {node.node.name}.{inbox} cannot be stored any more: {error}") from error


def _aliases(crash: Crash, node: NodePlan, module: str) -> dict[str, str]:
    """What the modules of the program and of the component were called, and are called now."""
    aliases = {crash.class_name.partition(":")[0]: type(node.node.blueprint).__module__}
    return aliases | ({crash.module: module} if crash.module and module else {})


def _kind_of(error: BaseException, aliases: Mapping[str, str]) -> str:
    """The class of an error, as it was called when the program was run."""
    kind = type(error)
    former = {now: then for then, now in aliases.items()}
    return f"{former.get(kind.__module__, kind.__module__)}:{kind.__qualname__}"


# What stands in the place of a running system -------------------------------------------------------------------------


class _ReplayedClock:
    """Time as it was when the unit failed. It moves only while somebody waits, and nobody waits in vain."""

    def __init__(self, crash: Crash, stop: Callable[[str], None]) -> None:
        self._monotonic_s = crash.monotonic_s
        self._wall_s = crash.at
        self._waits = 0
        self._stop = stop

    def monotonic(self) -> float:
        return self._monotonic_s

    def wall(self) -> float:
        return self._wall_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        self._waits += 1
        if deadline_s is None or self._waits > _MOST_WAITS:
            self._stop("it waits for something that never comes in a replay")
        elif deadline_s > self._monotonic_s:
            self._wall_s += deadline_s - self._monotonic_s
            self._monotonic_s = deadline_s


class _RecordedTables:
    """The entries of tables that were recorded, in the place of the disk."""

    def __init__(self, tables: Mapping[str, KeptTable], stop: Callable[[str], None]) -> None:
        self._tables = tables
        self._stop = stop

    def row(self, key: str) -> bytes | None:
        name, text, kept = self._place(key)
        if text in kept.known:
            stored = kept.known[text]
            return None if stored is None else stored.encode()
        if text in kept.present or not _is_covered(kept, text):
            self._stop(f"it reads an entry of table {name} that was not recorded")
        return None

    def rows(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bytes]]:
        found = []
        for key, _ in self.keys(first, end, most, after=after):
            stored = self.row(key)
            if stored is not None:
                found.append((key, stored))
        return found

    def keys(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bool]]:
        """Those that are there, as far as all of them are known; asked for more than that, the replay stops."""
        name, begin, kept = self._place(first)
        prefix = first[: len(first) - len(begin)]
        upto = _known_upto(kept, begin)
        if upto is _NO_ENTRY:
            self._stop(f"it goes through entries of table {name} that were not recorded")
        there = {text for text, stored in kept.known.items() if stored is not None}.union(kept.present)
        found = [
            (prefix + text, True)
            for text in sorted(there)
            if (text > begin or (text == begin and not after))
            and prefix + text < end
            and (upto is None or text <= str(upto))
        ]
        if not found and upto is not None and prefix + str(upto) + "\0" < end:
            self._stop(f"it goes through more entries of table {name} than were recorded")
        return found[:most]

    def count(self, first: str, end: str, known: Mapping[str, bool]) -> int:
        name, _, kept = self._place(first)
        if kept.length is None:
            self._stop(f"it asks for the length of table {name}, which was not recorded")
        length = kept.length or 0
        for key, there in known.items():
            length += there - (self.row(key) is not None)
        return length

    def close(self) -> None:
        """There is nothing to close."""

    def _place(self, key: str) -> tuple[str, str, KeptTable]:
        _, name, text = table_place(key)
        return name, text, self._tables.get(name, KeptTable())


def _is_covered(kept: KeptTable, text: str) -> bool:
    return any(begin <= text and (last is None or text <= last) for begin, last in kept.ranges)


def _known_upto(kept: KeptTable, begin: str) -> object:
    """Up to which text all entries from a first one on are known; None for the end, `_NO_ENTRY` where not even that one is."""
    ends = [last for first, last in kept.ranges if first <= begin and (last is None or last >= begin)]
    if not ends:
        return _NO_ENTRY
    return None if None in ends else max(str(last) for last in ends)


class _Answers:
    """The calls that were recorded, each to be answered once; for the others, what somebody says who replays them."""

    def __init__(
        self, calls: Sequence[KeptCall], complete: bool, aliases: Mapping[str, str], others: Mapping[str, Any]
    ) -> None:
        self._others = others
        self._calls = list(calls)
        self._methods = {(call.component, call.method) for call in calls}
        self._complete = complete
        self._aliases = aliases

    def to(self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """What was answered to such a call then; returns it, or raises it.

        Raises:
            CannotRecord: that was not recorded.
        """
        call = self._taken(queue.name, method, arguments, keywords)
        if call is None:
            other = self._others[f"{queue.name}.{method}"]
            return other(*arguments, **keywords) if callable(other) else other
        named = f"{queue.name}.{method}()"
        if call.answer == "returned" and call.returned is not None:
            return value_of(call.returned, self._aliases)
        if call.answer == "raised" and call.raised is not None:
            raise error_of(call.raised, self._aliases)
        why = "its answer was too large" if call.answer == "too large" else call.answer
        raise CannotRecord(f"the answer of {named} was not recorded: {why}")

    def _taken(
        self, component: str, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> KeptCall | None:
        named = f"{component}.{method}()"
        asked = (
            tuple(keep_value(each) for each in arguments),
            {name: keep_value(each) for name, each in keywords.items()},
        )
        for place, call in enumerate(self._calls):
            if (call.component, call.method) == (component, method) and self._is_same(call, *asked):
                return self._calls.pop(place)
        if f"{component}.{method}" in self._others:
            return None
        remedy = f'; say what it answers: replay(..., answers={{"{component}.{method}": ...}})'
        if not self._complete:
            raise CannotRecord(f"it calls {named}, and the calls were too large to be recorded{remedy}")
        again = " once more, or with other arguments" if (component, method) in self._methods else ""
        raise CannotRecord(f"it calls {named}{again}, which it did not before it failed{remedy}")

    def _is_same(self, call: KeptCall, arguments: tuple[KeptValue, ...], keywords: dict[str, KeptValue]) -> bool:
        """Whether the arguments are the same, as far as that can be told."""
        if len(call.arguments) != len(arguments) or call.keywords.keys() != keywords.keys():
            return False
        pairs = [*zip(call.arguments, arguments, strict=True)]
        pairs += [(call.keywords[name], keywords[name]) for name in keywords]
        return all(self._looks_the_same(then, now) for then, now in pairs)

    def _looks_the_same(self, then: KeptValue, now: KeptValue) -> bool:
        if not then.stored or not now.stored:
            return bool(then.stored) == bool(now.stored)
        stored = then.stored
        for former, current in self._aliases.items():
            stored = stored.replace(f'"of": "{former}:', f'"of": "{current}:')
        return stored == now.stored


class _Reads:
    """The clock reads that were recorded, each to be read once and in order; beyond that, what somebody says who replays them."""

    def __init__(self, kept: KeptReads, others: Mapping[str, Any], where: str) -> None:
        self._kept = kept
        self._others = others
        self._where = where
        self._left = {clock: deque(read.seconds for read in kept.first if read.clock == clock) for clock in _EXAMPLES}

    def next(self, clock: ClockName) -> float:
        """What was read next.

        Raises:
            CannotRecord: that was not recorded.
        """
        left = self._left[clock]
        if left:
            return left.popleft()
        if clock not in self._others:
            raise CannotRecord(
                f"{self._why_not(clock)}; say what it reads: replay(..., answers={{{clock!r}: {_EXAMPLES[clock]}}})"
            )
        other = self._others[clock]
        answer = other() if callable(other) else other
        seconds = _seconds_of(answer, clock)
        if seconds is None:
            raise CannotRecord(
                f"self.{clock}() cannot read {shown(answer)}, as answers={{{clock!r}: ...}} says: say {_EXAMPLES[clock]}, "
                "for example"
            )
        return seconds

    def _why_not(self, clock: str) -> str:
        reads = f"it reads self.{clock}()"
        if self._kept.missing:
            return f"{reads}, and what it had read of the clock was not recorded: {self._kept.missing}"
        kept = len(self._kept.first)
        if self._kept.more:
            return f"{reads} once more, and of {kept + self._kept.more:,} clock reads only the first {kept:,} were recorded"
        once_more = " once more" if any(read.clock == clock for read in self._kept.first) else ""
        return f"{reads}{once_more}, which it had not before it failed{self._where}"


class _Unanswered(Future[Any]):
    """Of a call that was submitted and of which no answer was recorded: who waits for it ends the replay."""

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__()
        self._stop = stop

    def result(self, timeout: float | None = None) -> Any:
        self._stop()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._stop()
        return None


class _ReplayedLife(Life):
    """A life that gets everything from a record.

    Attributes:
        stopped: why the replay could not go on; empty while it can.
        sent: what the unit has sent: inbox and message.
        aliases: the modules that are called otherwise now than when it crashed.
    """

    puts_lanes = False

    def __init__(
        self,
        crash: Crash,
        plan: NodePlan,
        log: logging.Logger,
        entries: list[Entry],
        aliases: Mapping[str, str],
        answers: Mapping[str, Any],
    ) -> None:
        clock = _ReplayedClock(crash, self._stop)
        journal = Journal(clock, durable=False)
        home = crash.component.partition("#")[0]
        if crash.partition is not None:
            home = home_of(home, crash.partition)
        journal.states = {home: {name: stored.encode() for name, stored in crash.states.items()}}
        complete = "tables" not in crash.left_out
        super().__init__(
            plan,
            Fence(crash.component, crash.epoch),
            journal,
            clock,
            Parker(),
            log.getChild(crash.component),
            lambda letter, kept: None,
            _RecordedTables(crash.tables if complete else {}, self._stop),
        )
        self.stopped = ""
        self.sent: list[tuple[str, Any]] = []
        self.aliases = aliases
        self._crash = crash
        self._waiting = deque(entries)
        self._in_hand: list[Entry] = []  # received, and not settled yet
        self._preparing = crash.kind != "on_start"
        complete = "calls" not in crash.left_out
        self._to_start = _Answers(crash.calls_at_start, complete, self.aliases, answers)
        self._to_unit = _Answers(crash.calls, complete, self.aliases, answers)
        self._made = 0
        self._most_units = crash.units + 1 if self._is_replayed_whole else 1
        where = "" if crash.kind != "run" or self._is_replayed_whole else f" ({_FROM_THE_TOP})"
        self._reads_to_start = _Reads(crash.reads_at_start, answers, "")
        self._reads_to_unit = _Reads(crash.reads, answers, where)

    def _stop(self, why: str) -> NoReturn:
        self.stopped = self.stopped or why
        raise _NotRecorded(why)

    # ------------------------------------------------------------------ driving
    def replay(self) -> None:
        """Runs the unit.

        Raises:
            BaseException: whatever it raises.
        """
        crash = self._crash
        try:
            self.begin()
        except Exception as error:  # whatever on_start raises: it is raised on, and said
            if self._preparing:  # nothing can be told of the unit itself
                self.stopped = f"on_start() fails here, before the unit that had failed: {describe(error)}"
            raise
        self._preparing = False
        match crash.kind:
            case "handler":
                self._handle(self._waiting.popleft())
            case "tick":
                self._hook = crash.where
                self._whole(self._ticks[crash.where])
            case "call":
                self._replay_call()
            case "run":
                self._hook = "run"
                self.instance.run()
                self._close_if_open()
            case "after_commit":
                function = getattr(self.instance, crash.where)
                self._call(Call(function, crash.message_id, crash.partition))
            case "on_stop":
                self._hook = "on_stop"
                self._whole(self.instance.on_stop)
            case _:
                pass  # on_start has run

    def _replay_call(self) -> None:
        called, queue = self._crash.called, self._plan.calls
        assert called is not None
        assert queue is not None
        try:
            arguments = tuple(value_of(each, self.aliases) for each in called.arguments)
            keywords = {name: value_of(each, self.aliases) for name, each in called.keywords.items()}
        except CannotRecord as error:
            self._stop(f"an argument of {called.method}() was not recorded: {error}")
        self._called = called.method
        unit = self.open_unit = Unit(self.name)
        self._run_called(RemoteCall(queue, called.method, arguments, keywords, called.by))
        self._submit_changed(unit)

    # ------------------------------------------------------------------ what it would do with the system
    def _message_id(self) -> str:
        return self._crash.message_id

    def _submit_changed(self, unit: Unit) -> None:
        if self._preparing:  # what on_start did was part of what the record begins with
            self.drop_unit()
            self._state.restore()
            return
        self.calls.handed.clear()
        super()._submit_changed(unit)

    def _put_down(self) -> None:
        """A unit was dropped, and what it had received is received once more."""
        self._waiting.extendleft(reversed(self._in_hand))
        self._in_hand.clear()
        self.current = None

    def _submit_with(self, unit: Unit, parker: Parkable, deadline_s: float | None) -> None:
        if unit.settles:
            self._in_hand.clear()
        self._made += 1
        if not self._preparing:
            self.sent += [
                (
                    channel.name,
                    message if message is not UNREAD or channel.codec is None else channel.codec.decode(stored or b""),
                )
                for channel, message, stored, _ in unit.sends
            ]
        if self._crash.kind != "run" or self._preparing or self._waiting:
            return
        if unit.settles if self._crash.messages else self._made >= self._most_units:
            raise _Over

    def set_aside(
        self, entry: Entry, attempts: int, error: BaseException, traceback: str, *, keep: bool = True
    ) -> None:
        raise error

    def after_commit(self, function: Callable[[], object]) -> None:
        if self.open_unit is not None:
            super().after_commit(function)

    def commit(self, timeout_s: float | None) -> None:
        """Everything is taken to be on disk."""
        if self.open_unit is None:
            self._save_if_changed()

    def _next_entry(self, channel: Channel, deadline_s: float | None) -> Entry:
        self._call_ready_if_between_units()
        place = next((place for place, entry in enumerate(self._waiting) if entry[0] is channel), None)
        if place == 0 or (place is not None and deadline_s is None):
            entry = self._waiting[place]
            del self._waiting[place]
            self._in_hand.append(entry)
            return entry
        if deadline_s is not None and (self._waiting or self.open_unit is not None):
            self._clock.wait(self.parker, deadline_s)
            raise InboxEmpty(f"{self.name}: no message came to {channel.name} within the timeout")
        if self._waiting:
            self._stop(f"it receives from {channel.name}, where no message was received when it failed")
        raise _Over

    def _read_clock(self, clock: ClockName) -> float:
        if not self._is_own_thread():
            return super()._read_clock(clock)
        reads = self._reads_to_start if self._preparing else self._reads_to_unit
        try:
            return reads.next(clock)
        except CannotRecord as error:
            self._stop(str(error))

    # ------------------------------------------------------------------ calls
    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        answers = self._to_start if self._preparing else self._to_unit
        try:
            return answers.to(queue, method, arguments, keywords)
        except CannotRecord as error:
            self._stop(str(error))

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        answers = self._to_start if self._preparing else self._to_unit
        future: Future[Any] = Future()
        try:
            future.set_result(answers.to(queue, method, arguments, keywords))
        except CannotRecord as error:
            why = str(error)
            return _Unanswered(lambda: self._stop(why))
        except Exception as error:  # noqa: BLE001 - it is the answer
            future.set_exception(error)
        return future

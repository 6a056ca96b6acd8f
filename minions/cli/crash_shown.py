"""All that the record of one crash holds, as JSON and as lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs

from minions import Crash
from minions.life.crash import KeptCall, KeptReads

__all__ = ["as_json", "as_lines", "head_of", "time_text"]

_MOST_READS_SHOWN = 20


def time_text(at: float) -> str:
    try:
        return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):  # a file that somebody has changed
        return f"{at!r} s"


def head_of(crash: Crash) -> dict[str, Any]:
    """What tells it from others; not what went into it."""
    names = (
        "id", "system", "component", "class_name", "epoch", "kind", "where", "error", "traceback", "at", "message_id",
        "attempt", "set_aside", "left_out",
    )  # fmt: skip
    return {name: getattr(crash, name) for name in names}


def as_json(crash: Crash) -> dict[str, Any]:
    """All that the file holds, with the JSON of stored forms as what it is."""
    return attrs.asdict(crash) | {
        "messages": [attrs.asdict(message) | {"stored": _value(message.stored)} for message in crash.messages],
        "states": {name: _value(stored) for name, stored in crash.states.items()},
    }


def as_lines(crash: Crash) -> Iterator[str]:
    """The same for people."""
    unit = crash.where if crash.where == crash.kind else f"{crash.where} ({crash.kind})"
    yield f"{crash.component}, life {crash.epoch}, failed in {unit} at {time_text(crash.at)}: {crash.error}"
    if crash.message_id:
        attempt = f", attempt {crash.attempt}" if crash.attempt else ""
        yield f"message id: {crash.message_id}{attempt}{', set aside' if crash.set_aside else ''}"
    if crash.partition is not None:
        yield f"partition: {crash.partition}"
    yield from _what_went_in(crash)
    if crash.left_out:
        yield f"left out, because the file would have been too large: {', '.join(crash.left_out)}"
    yield crash.traceback.rstrip("\n") or crash.error


def _what_went_in(crash: Crash) -> Iterator[str]:
    for message in crash.messages:
        yield f"received from {message.inbox}: {message.stored or message.missing}"
    if crash.called is not None:
        yield f"called by {crash.called.by}: {_call_text(crash.called)}"
    for name, stored in crash.states.items():
        yield f"state {name}: {_state_text(stored)}"
    for name, table in crash.tables.items():
        yield f"table {name}: {len(table.known):,} entries that it had read, or might have"
    yield from _asked("on_start had ", crash.calls_at_start, crash.reads_at_start)
    yield from _asked("", crash.calls, crash.reads)
    if crash.reads.missing:
        yield f"what it had read of the clock was not recorded: {crash.reads.missing}"


def _asked(where: str, calls: tuple[KeptCall, ...], reads: KeptReads) -> Iterator[str]:
    for call in calls:
        yield f"{where}called {_call_text(call)}: {_answer_text(call)}"
    for read in _reads_told(reads):
        yield f"{where}read {read}"


def _reads_told(reads: KeptReads) -> Iterator[str]:
    for read in reads.first[:_MOST_READS_SHOWN]:
        yield f"self.{read.clock}(): {_moment_text(read.seconds) if read.clock == 'now' else f'{read.seconds!r} s'}"
    if further := len(reads.first[_MOST_READS_SHOWN:]):
        yield f"the clock {further:,} times more, which --json shows"
    if reads.more:
        yield f"the clock {reads.more:,} times more, which was not recorded"


def _moment_text(seconds: float) -> str:
    try:
        return str(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, OSError, ValueError):  # a file that somebody has changed
        return f"{seconds!r} s since the epoch"


def _call_text(call: KeptCall) -> str:
    arguments = [each.shown for each in call.arguments]
    arguments += [f"{name}={each.shown}" for name, each in call.keywords.items()]
    return f"{call.component}.{call.method}({', '.join(arguments)})"


def _answer_text(call: KeptCall) -> str:
    if call.returned is not None:
        return call.returned.shown
    return f"raised {call.raised.shown}" if call.raised is not None else call.answer


def _state_text(stored: str) -> str:
    value = _value(stored)
    plain = value["value"] if isinstance(value, dict) and value.keys() == {"type", "version", "value"} else value
    return json.dumps(plain, ensure_ascii=False)


def _value(stored: str) -> Any:
    """A stored form as the JSON that it is."""
    try:
        return json.loads(stored)
    except ValueError:
        return stored

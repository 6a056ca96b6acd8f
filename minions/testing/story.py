"""The story of one simulated run: what happened, in order, in plain words. A plain object.

Only a run that has failed is told, once more and with the same choices, so that a story costs the others nothing.
"""

from __future__ import annotations

import logging
from typing import Any

from minions import events
from minions.errors import CannotDecode
from minions.flow import rows
from minions.flow.calls import Call
from minions.flow.channel import UNREAD, Channel
from minions.flow.unit import Unit
from minions.life.plan import Plan
from minions.life.ports import message_of

__all__ = ["Story", "clipped", "short"]

_MOST_CHARACTERS = 160
_MOST_IN_A_LINE = 1_000


class Story:
    """Lines, each a sentence.

    Attributes:
        lines: so far.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(clipped(line))

    def unit(self, unit: Unit, where: str, plan: Plan) -> None:
        """A unit of work is whole."""
        did = [f"handled {short(message_of(entry))}" for entry in unit.settles]
        did += [_sent(channel, message, stored) for channel, message, stored, _ in unit.sends]
        did += [f"left {name} = {short(_state(plan, unit, name, stored))}" for name, stored in unit.states.items()]
        did += [row for prefix, bodies in unit.keyed.items() for row in _rows(plan, prefix, bodies)]
        if did:
            name = unit.home if not where or unit.settles else f"{unit.home}.{where}"
            self.say(f"{name} {_joined(did)}")

    def call(self, component: str, call: Call, outcome: str) -> None:
        """A method that was called has returned or raised."""
        arguments = [short(each) for each in call.arguments]
        arguments += [f"{name}={short(each)}" for name, each in call.keywords.items()]
        self.say(f"{component} answered {call.method}({', '.join(arguments)}), called by {call.by}: {outcome}")

    def event(self, event: events.Event) -> None:
        """Of what the runtime tells, what no other line says."""
        match event:
            case events.ComponentFailed(component=component, where=where, error=error, restart_in_s=again_s):
                then = "it is given up" if again_s is None else f"its next life begins in {again_s:g} s"
                self.say(f"{component} failed in {where} ({error}); {then}")
            case events.ComponentAbandoned(component=component, epoch=epoch):
                self.say(f"{component}, life {epoch}, did not stop in time and was abandoned")
            case events.MessageSetAside(message_id=message_id, attempts=attempts, error=error):
                self.say(f"the message {message_id} was set aside after {attempts} attempts: {error}")
            case events.CommitTrouble(attempt=attempt, error=error):
                self.say(f"commit failed, attempt {attempt}: {error}")

    def log(self, record: logging.LogRecord) -> None:
        """What a component logs."""
        component = getattr(record, "component", "a component")
        self.say(f"{component} logged {record.levelname.lower()}: {record.getMessage()}")


def short(value: object) -> str:
    """A value for people, not longer than a line."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not hide what it was a part of
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 3]}..."


def clipped(text: str, most: int = _MOST_IN_A_LINE) -> str:
    """A text for people, of so many characters at most: errors may show a value whole, however large it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def _sent(channel: Channel, message: Any, stored: bytes | None) -> str:
    if message is UNREAD and channel.codec is not None and stored is not None:
        message = channel.codec.decode(stored)
    return f"sent {short(message)} to {channel.name}"


def _state(plan: Plan, unit: Unit, name: str, stored: bytes) -> Any:
    return plan.nodes[unit.component.partition("#")[0]].state_codecs[name].decode(stored)


def _rows(plan: Plan, prefix: str, bodies: dict[str, bytes | None]) -> list[str]:
    if prefix.startswith(rows.TABLES):
        _, home, table, _ = prefix.split("/")
        codecs = (
            plan.nodes[home.partition("#")[0].partition("@")[0]].table_codecs.get(table) if home in plan.nodes else None
        )
        told = []
        for key, body in bodies.items():
            if codecs is None:
                told.append(f"changed {table}[{key}]")
                continue
            entry = f"{table}[{short(codecs.keys.decode(key))}]"
            try:
                told.append(
                    f"deleted {entry}" if body is None else f"left {entry} = {short(codecs.values.decode(body))}"
                )
            except CannotDecode:
                told.append(f"changed {entry}")
        return told
    if prefix.startswith(rows.DEAD):
        return ["set a message aside" for body in bodies.values() if body is not None]
    return []


def _joined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

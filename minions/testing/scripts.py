"""Scripted sources: what a component sends in a simulation, in the place of its own `run`.

A script goes on where it was, through any crash: how far it has come is kept in a row of its own, written in the unit of work of
each message, as a source of its own would keep its offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from minions.errors import UsageError
from minions.fence import Mode
from minions.model import checks
from minions.model.component import Component
from minions.model.ports import Outbox, classes_of, type_name
from minions.model.topology import Topology
from minions.testing.arguments import finite
from minions.testing.process import Process, SimulatedLife

__all__ = ["Script", "Send", "Wait", "scripts_of"]

_ROWS = "script/"


def _not_negative(wait: Wait, field: attrs.Attribute[float], value: object) -> None:
    if any(finite("seconds", value)) or value < 0:  # type: ignore[operator]
        raise UsageError(f"Wait({checks.shown(value)}): this is a number of seconds, 0 or more")


def _a_name(send: Send, field: attrs.Attribute[str], value: object) -> None:
    if not isinstance(value, str):
        raise UsageError(f"Send({value!r}, ...): say first the name of the outbox, such as Send('readings', message)")


@attrs.frozen
class Wait:
    """In a script: nothing for so many seconds, of the simulation's time."""

    seconds: float = attrs.field(validator=_not_negative)


@attrs.frozen
class Send:
    """In a script: a message through the outbox of that name, for a component that has several."""

    outbox: str = attrs.field(validator=_a_name)
    message: Any


class Script:
    """What one component sends."""

    def __init__(self, component: str, steps: Sequence[Send | Wait]) -> None:
        self._component = component
        self._steps = tuple(steps)

    def play(self, process: Process, life: SimulatedLife) -> None:
        """Does what is still to be done. On the thread of the life."""
        at = self._position(process)
        while at < len(self._steps) and life.running:
            step = self._steps[at]
            at += 1
            if isinstance(step, Wait):
                life.sleep(step.seconds)
                if life.fence.mode is not Mode.LIVE:  # it was cut short, and the next life waits once more
                    return
                process.kept[self._component] = at
                continue
            with life.unit():
                getattr(life.instance, step.outbox).send(step.message)
                assert life.open_unit is not None
                life.open_unit.put(_ROWS, self._component, b"%d" % at)
            process.kept[self._component] = at

    def _position(self, process: Process) -> int:
        runtime = process.runtime
        unsaved = runtime.journal.commits.unsaved_row(_ROWS, self._component)
        row = unsaved[0] if unsaved is not None else runtime.disk.row(_ROWS + self._component)
        return max(0 if row is None else int(row), process.kept.get(self._component, 0))


def scripts_of(sources: Mapping[Any, Iterable[Any]], topology: Topology) -> dict[str, Script]:
    """The scripts by the names of their components.

    Args:
        sources: by component that was added, or its name: messages, `Wait`s, and `Send`s where it has several outboxes.

    Raises:
        UsageError: there is no such component, or it is no source, or that is no script.
    """
    if not isinstance(sources, Mapping):
        raise UsageError(f"sources={sources!r}: give a dictionary: by component, or its name, the list of its messages")
    own = {node.name: node for node in topology.nodes if node.declaration.has_run}
    scripts = {}
    for who, steps in sources.items():
        node = topology.node_of(who) if isinstance(who, Component) else own.get(who)
        if node is None or node.name not in own:
            raise UsageError(
                f"sources={{{who!r}: ...}}: there is no component of that name with a run() that a script could take the place "
                f"of; those with one are {', '.join(own) or 'none at all'}"
            )
        if node.name in scripts:
            raise UsageError(f"sources={{...}}: {node.name} has two scripts, by its name and by itself: give it one")
        outboxes = node.declaration.outboxes
        scripts[node.name] = Script(node.name, [_step(node.name, step, outboxes) for step in _listed(node.name, steps)])
    return scripts


def _listed(name: str, steps: Any) -> Iterable[Any]:
    if isinstance(steps, (str, bytes)) or not isinstance(steps, Iterable):
        raise UsageError(f"sources={{{name!r}: {steps!r}}}: a script is a list of messages")
    return steps


def _step(name: str, step: Any, outboxes: Mapping[str, Outbox[Any]]) -> Send | Wait:
    if isinstance(step, Wait):
        return step
    send = step if isinstance(step, Send) else _by_the_only_one(name, step, list(outboxes))
    outbox = outboxes.get(send.outbox)
    if outbox is None:
        raise UsageError(f"{name} has no outbox {send.outbox!r}, which its script names: {', '.join(outboxes)}")
    if type(send.message) not in classes_of(outbox.type):
        raise UsageError(
            f"the script of {name} sends {send.message!r}, and {send.outbox} carries {type_name(outbox.type)}"
        )
    return send


def _by_the_only_one(name: str, message: Any, outboxes: list[str]) -> Send:
    if len(outboxes) != 1:
        raise UsageError(
            f"{name} has {len(outboxes)} outboxes: its script has to say which one, such as Send({outboxes[0]!r}, {message!r})"
            if outboxes
            else f"{name} has no outbox, so that no script can send {message!r}"
        )
    return Send(outboxes[0], message)

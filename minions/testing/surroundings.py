"""What feeds a component under test and what it feeds: components that do nothing, for a test to put in and to look at."""

from __future__ import annotations

from typing import Any

from minions.errors import CannotStore
from minions.flow.codec import codec_of
from minions.model.component import Component
from minions.model.ports import Inbox, Outbox
from minions.system import System

__all__ = ["surround"]

_ROOM = 10_000
"""How many messages an outbox may send before its component has to wait."""

_BEFORE = "what-feeds-it"
_AFTER = "what-it-feeds"


def surround(system: System) -> None:
    """Connects every port of a system that is not running to one of the other side."""
    ports = [
        (getattr(node.blueprint, port), f"{port}_of_{node.name.replace('-', '_')}")
        for node in system._topology.nodes
        for port in (*node.declaration.inboxes, *node.declaration.outboxes)
    ]
    feeding = {other: Outbox(port.type) for port, other in ports if isinstance(port, Inbox)}
    fed = {
        other: Inbox(port.type, capacity=_ROOM, durable=_is_storable(port.type))
        for port, other in ports
        if isinstance(port, Outbox)
    }
    before, after = (_component_of(made) if made else None for made in (feeding, fed))
    for component, name in ((before, _BEFORE), (after, _AFTER)):
        if component is not None:
            system.add(component, name=name)
    for port, other in ports:
        if isinstance(port, Inbox):
            system.connect(getattr(before, other), port)
        else:
            system.connect(port, getattr(after, other))


def _component_of(ports: dict[str, Any]) -> Component:
    """A component that has these ports, and does nothing with them."""

    def run(self: Component) -> None:
        while self.running:
            self.sleep(1e9)

    made: Component = type("Elsewhere", (Component,), {**ports, "run": run, "__module__": __name__})()
    return made


def _is_storable(declared: Any) -> bool:
    try:
        codec_of(declared)
    except CannotStore:
        return False
    return True

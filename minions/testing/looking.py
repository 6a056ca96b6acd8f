"""What there is to be seen of a run, for people: as lines of text. Functions of values; no thread, no lock."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from minions import events
from minions.life.life import Life
from minions.life.runtime import Runtime
from minions.life.traces import stack_of
from minions.system import System
from minions.testing.story import clipped

__all__ = ["HIDES", "hidden_states", "indented", "last_events", "line_of", "look_at"]

_MOST_EVENTS_SHOWN = 20
HIDES = "was assigned from outside, which changes nothing in the component and hides what it keeps: let it change that itself"
_LONG = ("traceback", "stack", "evidence")


def look_at(runtime: Runtime, now_s: float) -> str:
    """Each component with what it is at, and each inbox in which something waits."""
    lines = ["components:"]
    lives = {life.name: life for life in runtime.lives()}
    for status in runtime.statuses_seen(now_s):
        line = f"  {status.name}: {status.phase.value}, life {status.epoch}"
        life = lives.get(status.name)
        if status.next_life_in_s is not None:
            line += f", next life in {status.next_life_in_s:.3g} s"
        if life is not None and status.phase.has_thread:
            line += _at(life)
        lines.append(line.rstrip())
    sizes = {name: channel.size for name, channel in runtime.plan.channels.items() if channel.size}
    lines += ["inboxes:", *(f"  {name}: {size} waiting" for name, size in sizes.items())] if sizes else []
    return "\n".join(lines)


def last_events(told: Sequence[events.Event]) -> str:
    """The last events, one line each."""
    skipped = len(told) - _MOST_EVENTS_SHOWN
    lines = [f"  ({skipped} before)"] if skipped > 0 else []
    return "\n".join(["events:", *lines, *(f"  {line_of(event)}" for event in told[-_MOST_EVENTS_SHOWN:])])


def line_of(event: events.Event) -> str:
    """An event in one line."""
    told = {field.name: getattr(event, field.name) for field in attrs.fields(type(event))}
    values = [
        f"{name}={clipped(repr(value))}"
        for name, value in told.items()
        if name not in _LONG and value not in ("", (), None)
    ]
    return f"{type(event).__name__}({', '.join(values)})"


def indented(text: str) -> str:
    return "".join(f"    {clipped(line)}\n" for line in text.splitlines())


def _at(life: Life) -> str:
    """What a life is at."""
    waits_for = life.waits_for
    return f", waits for {waits_for}" if waits_for else f", in {life.doing}\n{indented(stack_of(life.ident))}"


def hidden_states(system: System) -> list[str]:
    """The states that a test has assigned to from outside, each as ``component.state``.

    Then the object answers what was assigned, and no more what its component keeps.
    """
    return [
        f"{node.name}.{name}"
        for node in system._topology.nodes
        for name in node.declaration.states
        if name in vars(node.blueprint)
    ]

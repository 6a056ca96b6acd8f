"""What is seen of the components of a running system from outside, as frozen values, and why one of them does not go on.

A look is taken by any thread but a component's, holds no lock and runs no code of users. Each figure may be older than the next
by a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from minions.events import ComponentFailed, Evidence
from minions.life.lifecycle import Phase
from minions.life.status import ComponentStatus

__all__ = ["Link", "Look", "chain_of", "links_of", "sentence_of"]

_MOST_LINKS = 8
_ROOM, _CALL, _MESSAGE = "room in ", "() to answer", "a message"
_MOVING_FROM = 0.5  # of a core
_TELL_FROM_S = 1.0


@attrs.frozen(kw_only=True)
class Look:
    """One thread of a component, at one moment.

    Attributes:
        status: where it is in its lifecycle.
        doing: what it is at, for people; empty where it has no thread.
        door: at which door of the runtime's its thread waits; empty where it is at none.
        evidence: what its thread does otherwise; None where it has none, or waits at a door.
        cpu_ratio: how much of one core its thread uses now; None where that is not known.
        still_for_s: for how long it has made no progress, in seconds; None where that is not watched.
        failure: how it failed last, in this run of the system; None where it has not.
        not_up: what it uses or sends to and waits for, because that is not up.
        waiting: how many messages wait for it.
    """

    status: ComponentStatus
    doing: str = ""
    door: str = ""
    evidence: Evidence | None = None
    cpu_ratio: float | None = None
    still_for_s: float | None = None
    failure: ComponentFailed | None = None
    not_up: Sequence[str] = ()
    waiting: int = 0

    @property
    def name(self) -> str:
        return self.status.name

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.status.phase is Phase.RUNNING and self.door.startswith(_MESSAGE)


@attrs.frozen
class Link:
    """Whom a component waits for.

    Attributes:
        component: without the number of a replica.
        how: as the beginning of a sentence about that one.
    """

    component: str
    how: str


def links_of(look: Look, rooms: Mapping[str, tuple[int, int]], system: str) -> Iterator[Link]:
    """The components that one waits for just now.

    Args:
        rooms: of each inbox, how many messages it holds, and how many it may.
        system: its name, by which the threads of its components are known.
    """
    if look.status.phase is Phase.WAITING:
        for name in look.not_up:
            yield Link(_component(name), f"{name}, which has to be up before it,")
    elif look.door.startswith(_ROOM):
        inbox = look.door.removeprefix(_ROOM)
        length, capacity = rooms.get(inbox, (0, 0))
        component = inbox.partition(".")[0]
        yield Link(component, f"{inbox} holds {length:,} of {capacity:,} messages; {component}, which takes from it,")
    elif look.door.endswith(_CALL):
        component = look.door.partition(".")[0]
        yield Link(component, component)
    elif look.evidence is not None and look.evidence.holder.startswith(f"{system}/"):
        name = look.evidence.holder.removeprefix(f"{system}/")
        yield Link(_component(name), f"{name}, which holds it,")


def chain_of(
    first: Look, find: Callable[[str], Sequence[Look]], rooms: Mapping[str, tuple[int, int]], system: str
) -> list[tuple[Look, str]]:
    """A component, whom that waits for, whom this one waits for, and so on; each with how it comes after the one before.

    Args:
        find: takes looks at all threads of a component.
        rooms, system: see `links_of`.
    """
    chain = [(first, "")]
    seen = {first.name}
    while len(chain) < _MOST_LINKS:
        link = next(links_of(chain[-1][0], rooms, system), None)
        if link is None:
            break
        looks = find(link.component)
        if not looks:
            break
        look = next((look for look in looks if not look.is_idle), looks[0])
        chain.append((look, link.how))
        if look.name in seen:
            break
        seen.add(look.name)
    return chain


def sentence_of(chain: Sequence[tuple[Look, str]]) -> str:
    """Why the first of a chain does not go on, in a sentence or a few."""
    first, _ = chain[0]
    text = f"{first.name} {_state_of(first)}"
    seen = {first.name}
    for look, how in chain[1:]:
        if look.name in seen:
            return f"{text}; {how} is {look.name} again: they wait for each other"
        seen.add(look.name)
        text += f"; {how} {_state_of(look)}"
    return text


def _state_of(look: Look) -> str:
    """What a component is at, as the end of a sentence."""
    down = _DOWN.get(look.status.phase)
    if down is not None:
        return down(look)
    if look.status.phase is Phase.PAUSED:
        by = " and ".join(look.status.paused_by) or "somebody"
        return f"is paused by {by}, and takes nothing more (its thread {_thread_of(look)})"
    if look.status.phase is Phase.STOPPING:
        return f"was asked to stop, and {_thread_of(look)}"
    if look.status.phase is Phase.STARTING and look.doing:
        return f"{_thread_of(look)}{_failed(look)}"
    return _thread_of(look)


def _thread_of(look: Look) -> str:
    if look.is_idle:
        waiting = f", though {look.waiting:,} are there" if look.waiting else ""
        return f"has nothing to do: it waits for {look.door}{waiting}"
    doing = f"is {look.doing}" if " " in look.doing else f"is in {look.doing}"
    if not look.doing:
        doing = f"is {look.status.phase.value}{_failed(look)}"
    long = f", for {_seconds(look.still_for_s)}" if (look.still_for_s or 0.0) >= _TELL_FROM_S else ""
    if look.door:
        return f"{doing} and waits for {look.door}{long}"
    evidence = look.evidence
    if evidence is None:
        return f"{doing}{long}"
    if evidence.on_cpu or (look.cpu_ratio or 0.0) >= _MOVING_FROM:
        return f"{doing} and computes, {_place_of(evidence)}{long}"
    if evidence.resource:
        held = f", which thread {evidence.holder} holds" if evidence.holder else ""
        call = f" in {evidence.system_call}" if evidence.system_call not in ("", "futex", "clock_nanosleep") else ""
        return f"{doing} and waits for {evidence.resource}{call}{held}, {_place_of(evidence)}{long}"
    if evidence.system_call:
        return f"{doing} and is blocked in the system call {evidence.system_call}, {_place_of(evidence)}{long}"
    return f"{doing}, {_place_of(evidence)}{long}"


def _place_of(evidence: Evidence) -> str:
    """The innermost line of the stack of user code."""
    lines = [line.strip() for line in evidence.stack.splitlines() if line.lstrip().startswith("File ")]
    return f"at {lines[-1].removeprefix('File ')}" if lines else "at no line of Python"


def _waiting(look: Look) -> str:
    if not look.not_up:
        return f"is about to start{_failed(look)}"
    are = "is" if len(look.not_up) == 1 else "are"
    return f"has not started, because {' and '.join(look.not_up)} {are} not up{_failed(look)}"


def _backoff(look: Look) -> str:
    left_s = look.status.next_life_in_s
    when = "as soon as those that restart with it have stopped" if left_s is None else f"in {_seconds(left_s)}"
    return f"is down, and its next life begins {when}{_failed(look)}"


def _stopped(look: Look) -> str:
    if look.status.isolated:
        return f"was given up, or sends to what was, and stays down until somebody starts it{_failed(look)}"
    return f"was stopped, and stays down until somebody starts it{_failed(look)}"


def _failed(look: Look) -> str:
    failure = look.failure
    return "" if failure is None else f"; it failed last in {failure.where}: {failure.error}"


_DOWN: dict[Phase, Callable[[Look], str]] = {
    Phase.WAITING: _waiting,
    Phase.BACKOFF: _backoff,
    Phase.FINISHED: lambda look: "has finished: its run() has returned, and there is nothing more to do for it",
    Phase.STOPPED: _stopped,
    Phase.ABANDONED: lambda look: f"was abandoned, because its thread could not be ended{_failed(look)}",
}


def _seconds(seconds: float | None) -> str:
    return f"{seconds or 0.0:,.1f} s"


def _component(name: str) -> str:
    return name.partition("#")[0]

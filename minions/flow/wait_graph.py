"""The wait-for graph: who of the lives waits for whom, and whether anybody can ever go on. Guarded by the journal's lock.

Each life whose own thread waits, for the answer to a call or for room in an inbox, points at the lives of which any could end
its wait. A life can go on when it does not wait, or when one of those can; the others wait for ever (a greatest fixed point). So
a wait that would close such a circle is found before it begins.

What can end by itself is no wait here: a send with a timeout, room that is there and only not given yet, and what a life may
serve that is not up. The timeout of a call does not count: it is for what takes too long, not for what can never be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from minions.errors import DeadlockError
from minions.fence import Fence
from minions.flow.calls import Call, CallQueue
from minions.flow.channel import Channel, Ticket

__all__ = ["Beginner", "WaitGraph", "deadlock"]

Stuck = dict[Fence, list[Fence]]
"""Lives that can never go on, and for each whom it waits for."""


class Beginner(Protocol):
    """The mailbox of a life that has begun and reads nothing yet."""

    channels: tuple[Channel, ...]
    calls: CallQueue | None


class WaitGraph:
    """Who waits for whom.

    Attributes:
        waits: for each life whose own thread waits, what for; the last to begin waiting is the last here.
        beginning: the lives that have begun and read nothing yet: they are in `on_start`.
    """

    __slots__ = ("beginning", "waits")

    def __init__(self) -> None:
        self.waits: dict[Fence, Call | Ticket] = {}
        self.beginning: dict[Fence, Beginner] = {}

    def stuck_locked(self, waiter: Fence, waited: Call | Ticket) -> Stuck:
        """What would never go on if `waiter` waited for `waited`, as far as it waits for it; empty where it would go on."""
        first = self._servers(waited)
        if any(life is not waiter and life not in self.waits for life in first):
            return {}
        points_at: Stuck = {}
        ahead = deque([waiter])
        while ahead:
            life = ahead.popleft()
            if life not in points_at:
                what = waited if life is waiter else self.waits.get(life)
                points_at[life] = [] if what is None else self._servers(what)
                ahead += points_at[life]
        stuck = _never_going_on(points_at)
        return stuck if waiter in stuck else {}

    def _servers(self, waited: Call | Ticket) -> list[Fence]:
        """The lives of which any could end a wait; none where it may end without them."""
        served: CallQueue | Channel
        if isinstance(waited, Call):
            if waited.is_done:
                return []
            if waited.worker is not None:
                return [waited.worker]
            served = waited.queue
        else:
            if waited.granted or waited.channel is None or _has_room(waited, waited.channel):
                return []
            served = waited.channel
        readers: Iterable[Fence | None] = [reader.fence for reader in served.readers]
        lives = [fence for fence in readers if fence is not None]
        for fence, mailbox in self.beginning.items():
            if served is mailbox.calls or served in mailbox.channels:
                lives.append(fence)
        return lives if len(lives) >= served.replicas else []  # one that is not up may come up and serve

    def youngest_call_locked(self, stuck: Stuck) -> Call | None:
        """The call of those lives that was made last."""
        for life in reversed(self.waits):
            waited = self.waits[life]
            if life in stuck and isinstance(waited, Call):
                return waited
        return None


def deadlock(call: Call, stuck: Stuck) -> DeadlockError:
    """What is raised for a call that can never be answered."""
    assert call.waiter is not None
    circle = _circle(call.waiter, stuck)
    way = " waits for ".join([*(life.component for life in circle), circle[0].component])
    return DeadlockError(
        f"{call.by}: {call} can never be answered: {way}; let one of them submit() its call, or send a message instead",
        tuple(life.component for life in circle),
    )


def _has_room(ticket: Ticket, channel: Channel) -> bool:
    """Whether a sender that stands in line would get its room without anybody's doing: it is only kept waiting a little."""
    need = 0
    for other in channel.line:
        need += other.need
        if other is ticket:
            break
    return channel.has_room_locked(need)


def _never_going_on(points_at: Stuck) -> Stuck:
    """What is left when all are taken away that can go on."""
    pointed_at_by: dict[Fence, list[Fence]] = {}
    for life, servers in points_at.items():
        for server in servers:
            pointed_at_by.setdefault(server, []).append(life)
    stuck = dict(points_at)
    free = [life for life, servers in points_at.items() if not servers]
    while free:
        life = free.pop()
        if stuck.pop(life, None) is not None:
            free += pointed_at_by.get(life, ())
    return stuck


def _circle(start: Fence, stuck: Mapping[Fence, list[Fence]]) -> list[Fence]:
    """A shortest circle through `start`, itself first; where there is none, one that can be come to from there."""
    before: dict[Fence, Fence] = {}
    ahead = deque([start])
    while ahead:
        life = ahead.popleft()
        for server in stuck[life]:
            if server is start:
                way = [life]
                while way[-1] is not start:
                    way.append(before[way[-1]])
                return way[::-1]
            if server not in before:
                before[server] = life
                ahead.append(server)
    way = []
    life = start
    while life not in way:
        way.append(life)
        life = stuck[life][0]
    return way[way.index(life) :]

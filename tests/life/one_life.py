"""What tests of lanes have in common: the one life that sends, without a component."""

from __future__ import annotations

from typing import Any

from minions import Component, Outbox
from minions.clock import SystemClock
from minions.fence import Fence
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit


class OneLife:
    """What a sender asks of its life."""

    def __init__(self, journal: Journal, name: str, epoch: int = 1) -> None:
        self.name = name
        self.fence = Fence(name, epoch)
        self.open_unit: Unit | None = None
        self.parker = Parker()
        self.timeouts: list[float | None] = []  # of what did not go along the lane
        self._journal = journal
        journal.join(self.fence, self.parker)

    def send(
        self, channels: tuple[Channel, ...], message: Any, shared: bool, stored: bytes | None, timeout_s: float | None
    ) -> None:
        self.timeouts.append(timeout_s)
        unit = self.open_unit
        if unit is not None:
            unit.send(channels, message, shared, stored)
            return
        unit = Unit(self.name)
        unit.send(channels, message, shared, stored)
        self.submit(unit, timeout_s)

    def submit(self, unit: Unit, timeout_s: float | None = None) -> None:
        clock, journal = SystemClock(), self._journal
        deadline_s = None if timeout_s is None else clock.monotonic() + timeout_s
        while (ticket := journal.submit(unit, self.fence, self.parker)) is not None:
            try:
                while journal.waits(ticket, self.fence, deadline_s):
                    clock.wait(self.parker, ticket.look_again_s(deadline_s))
            except BaseException:
                journal.withdraw(unit, ticket)
                raise

    def receive(self, channel: Channel, timeout_s: float | None) -> Any:
        raise AssertionError("it only sends")

    def end(self) -> None:
        self._journal.end_life(Mailbox((), self.parker), self.fence)


def outbox_of(cls: type[Any]) -> Outbox[Any]:
    class Owner(Component):
        out = Outbox(cls)

    return Owner.out

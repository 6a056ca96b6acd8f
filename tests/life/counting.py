"""Components that count, for many tests: one that sends numbers, and one that keeps them."""

from __future__ import annotations

from minions import Component, Inbox, Outbox, State
from tests.life.conftest import Number


class Numbers(Component):
    """Sends 0 to count - 1, each exactly once, and finishes."""

    count: int
    sent = State(int)
    out = Outbox(Number)

    def run(self) -> None:
        while self.running and self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


class StayingNumbers(Component):
    """Sends 0 to count - 1, each exactly once, also when it is asked to stop; then it finishes, or sleeps for ever."""

    count: int
    ends: bool = True
    sent = State(int)
    out = Outbox(Number)

    def run(self) -> None:
        while self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1
        while self.running and not self.ends:
            self.sleep(1e6)


class Kept(Component):
    """Keeps what it gets."""

    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        self.values.append(number.value)

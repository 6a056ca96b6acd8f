"""What tests of loops have in common: a source of five numbers, and who is fed by it."""

from __future__ import annotations

from minions import Component, Outbox, Restart, State, System
from tests.life.committing import ONCE_MORE
from tests.life.conftest import Number


class Five(Component):
    """Sends 0 to 4 in one unit."""

    out = Outbox(Number)
    done = State(bool)

    def run(self) -> None:
        with self.unit():
            if not self.done:
                for value in range(5):
                    self.out.send(Number(value))
            self.done = True


def fed_by_five(system: System, component: Component, restart: Restart = ONCE_MORE) -> None:
    five = system.add(Five())
    system.add(component, restart=restart)
    system.connect(five.out, component.numbers)  # type: ignore[attr-defined]

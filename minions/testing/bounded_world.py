"""A world in which so much may happen while time stands still, and no more: a loop that waits for nothing ends it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from minions.testing.process import SimulatedLife
from minions.testing.world import World

__all__ = ["BoundedWorld", "Endless"]


class Endless(Exception):
    """Too much has happened at one moment."""


class BoundedWorld(World):
    """A world in which so much may happen while time stands still, and no more.

    Attributes:
        endless_in: the piece of code that went round in a loop too often; empty while none has.
    """

    def __init__(self, steps: int, **begins: float) -> None:
        super().__init__(_writer_first, **begins)
        self.endless_in = ""
        self._steps = steps
        self._moment_s = self.now_s
        self._first_turn = 0
        self._rounds = 0  # of one life, in the turn of that number
        self._rounds_of = 0

    def begin_to_count(self) -> None:
        """The test does the next thing."""
        self._moment_s, self._first_turn = self.now_s, self.turns

    def count_round(self, life: SimulatedLife) -> None:
        """A loop has gone round once more. One that does so too often within one turn of its thread is left where it is."""
        if self._rounds_of != self.turns:
            self._rounds, self._rounds_of = 0, self.turns
        self._rounds += 1
        if self._rounds >= self._steps and self.current is not None:
            self.endless_in = f"{life.name}.{life.where}"
            while True:  # until the driver drops it
                self.halt()
                self.pause()  # raises Dropped once more where user code has caught that

    def run(self, until: Callable[[], bool] | None = None, *, until_s: float = math.inf) -> bool:
        """See `World.run`. Raises `Endless` where too much happens at one moment."""

        def stops() -> bool:
            if self._moment_s != self.now_s:
                self._moment_s, self._first_turn = self.now_s, self.turns
            elif self.turns - self._first_turn >= self._steps:
                raise Endless
            return until is not None and until()

        return super().run(stops, until_s=until_s)


def _writer_first(ready: Any) -> int:
    """Whatever is whole is on disk before anybody else goes on."""
    return next((index for index, thread in enumerate(ready) if thread.name == "minions-writer"), 0)

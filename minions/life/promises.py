"""When a wish about components has come about, as functions of what the supervision knows. Plain objects."""

from __future__ import annotations

import attrs

from minions.life import commands
from minions.life.lifecycle import Phase
from minions.life.status import Status

__all__ = ["Promise"]


@attrs.frozen(eq=False)
class Promise:
    """A wish whose end somebody waits for.

    Attributes:
        number: under which it is kept or broken.
        wish: what was wished.
        lives: of whom, each with the number of the life that it was in then.
        late: whether it was wished while the system stops, when only that something stops comes about.
    """

    number: int
    wish: commands.Change
    lives: tuple[tuple[Status, int], ...]
    late: bool

    @classmethod
    def of(cls, wish: commands.Change, lives: list[Status], *, stopping: bool) -> Promise:
        late = stopping and not isinstance(wish, commands.Halt)
        return cls(wish.promise, wish, tuple((life, life.epoch) for life in lives), late)

    def answer(self, *, stopping: bool) -> str | None:
        """None: not yet. Empty: it has come about. Otherwise why it will not.

        Args:
            stopping: whether the system stops, and with it every component.
        """
        if stopping and isinstance(self.wish, commands.Halt):
            return "" if all(life.phase.has_ended for life, _ in self.lives) else None
        answers = [self._answer(life, epoch) for life, epoch in self.lives]
        broken = [answer for answer in answers if answer]
        if broken and not self.late:
            return "; ".join(broken)
        if self.late or (stopping and None in answers):
            return "the system is stopping"
        return None if None in answers else ""

    def _answer(self, life: Status, epoch: int) -> str | None:
        match self.wish:
            case commands.Start():
                return _is_up(life)
            case commands.Restart():
                return _is_up(life) if life.epoch > epoch or life.phase.has_ended or not life.wanted else None
            case commands.Halt():
                if life.wanted:
                    return f"{life.name} was started again"
                return "" if life.phase.has_ended else None
            case commands.Pause():
                return None if life.phase is Phase.STARTING else ""
            case _:
                return ""


def _is_up(life: Status) -> str | None:
    if not life.wanted:
        return f"{life.name} was given up" if life.isolated else f"{life.name} was stopped"
    if life.phase.is_up or life.phase is Phase.FINISHED:
        return ""
    return f"{life.name} is {life.phase.value}" if life.phase.has_ended else None

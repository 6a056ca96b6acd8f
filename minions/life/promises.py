"""When a wish about components has come about, as functions of what the supervision knows. Plain objects."""

from __future__ import annotations

import attrs

from minions.life import commands
from minions.life.lifecycle import Phase
from minions.life.status import Status

__all__ = ["Promise"]


@attrs.define(eq=False)
class Promise:
    """A wish whose end somebody waits for.

    What it costs to look after a step of one of those whom it is about does not grow with their number.

    Attributes:
        number: under which it is kept or broken.
        wish: what was wished.
        lives: of whom, each with the number of the life that it was in then.
        late: whether it was wished while the system stops, when only that something stops comes about.
    """

    number: int
    wish: commands.Change
    lives: dict[Status, int]
    late: bool
    _answers: dict[Status, str | None] = attrs.Factory(dict)  # of each life: "" where it has come about
    _open: int = 0  # of how many the answer is None
    _broken: int = 0  # and of how many it is why not

    @classmethod
    def of(cls, wish: commands.Change, lives: list[Status], *, stopping: bool) -> Promise:
        late = stopping and not isinstance(wish, commands.Halt)
        promise = cls(wish.promise, wish, {life: life.epoch for life in lives}, late)
        for life in promise.lives:
            promise._answers[life] = ""
            promise.look(life)
        return promise

    def look(self, life: Status) -> None:
        """Takes note of a life that it is about, of which something has changed."""
        before, now = self._answers[life], self._answer(life, self.lives[life])
        self._answers[life] = now
        self._open += (now is None) - (before is None)
        self._broken += bool(now) - bool(before)

    def answer(self, *, stopping: bool) -> str | None:
        """None: not yet. Empty: it has come about. Otherwise why it will not.

        Args:
            stopping: whether the system stops, and with it every component.
        """
        if stopping and isinstance(self.wish, commands.Halt):
            return "" if all(life.phase.has_ended for life in self.lives) else None
        if self._broken and not self.late:
            return "; ".join(answer for answer in self._answers.values() if answer)
        if self.late or (stopping and self._open):
            return "the system is stopping"
        return None if self._open else ""

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

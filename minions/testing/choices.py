"""The choices of one simulated run: drawn from a seed, noted, and made again. A plain object.

A choice has a label and is one of a few; 0 is always the plain one: go on with the same thread, let nothing happen. So a run is
known by the few choices that are not plain, and every selection of choices makes a run, which is what shrinking rests on.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence

from minions.errors import UsageError

__all__ = ["Choices", "Taken", "said", "understood"]

Taken = Mapping[tuple[str, int], int]
"""The choices that were not plain: what was taken, by label and the number of the choice among those of that label."""


class Choices:
    """What is chosen in one run.

    Attributes:
        taken: the choices so far that were not plain.
    """

    __slots__ = ("_counts", "_draw", "_given", "taken")

    def __init__(self, seed: int, given: Taken | None = None) -> None:
        """Args:
        seed: from which choices are drawn.
        given: makes these choices, and the plain one everywhere else; nothing is drawn.
        """
        self._draw = random.Random(seed).random
        self._given = given
        self._counts: dict[str, int] = defaultdict(int)
        self.taken: dict[tuple[str, int], int] = {}

    def below(self, label: str, count: int) -> int:
        """A number from 0 to `count` - 1."""
        number = self._counts[label]
        self._counts[label] = number + 1
        given = self._given
        choice = int(self._draw() * count) if given is None else min(given.get((label, number), 0), count - 1)
        if choice:
            self.taken[label, number] = choice
        return choice

    def one_of(self, label: str, until: Sequence[float]) -> int:
        """Which of several things happens, counted from 1; 0 where none does.

        Args:
            until: the likelihood of the first, that of the first or the second, and so on.
        """
        number = self._counts[label]
        self._counts[label] = number + 1
        given = self._given
        if given is not None:
            choice = min(given.get((label, number), 0), len(until))
        else:
            drawn = self._draw()
            if not until or drawn >= until[-1]:
                return 0
            choice = 1 + next(index for index, bound in enumerate(until) if drawn < bound)
        if choice:
            self.taken[label, number] = choice
        return choice

    def left_over(self) -> list[str]:
        """Those of the given choices that were not made, each with why, for people."""
        left = []
        for (label, number), choice in (self._given or {}).items():
            made, count = self.taken.get((label, number), 0), self._counts.get(label, 0)
            if made == choice or not choice:
                continue
            if not count:
                why = f"there is no choice {label!r} in this run"
            elif number >= count:
                why = f"there are {count} choices {label!r} in this run, numbered from 0"
            else:
                why = f"it was {made}, the last that there was to choose"
            left.append(f"'{said({(label, number): choice})}': {why}")
        return left


_WRITTEN = str.maketrans({" ": "_", "_": "~"})
_READ = str.maketrans({"_": " ", "~": "_"})


def said(taken: Taken) -> str:
    """The choices in one line, for `understood`."""
    return " ".join(f"{label.translate(_WRITTEN)}:{number}={choice}" for (label, number), choice in taken.items())


def understood(text: str) -> Taken:
    """The choices that `said` has written.

    Raises:
        UsageError: it has not written this.
    """
    taken = {}
    for word in text.split():
        label, colon, rest = word.rpartition(":")
        number, equals, choice = rest.partition("=")
        if not (label and colon and equals and number.isdecimal() and choice.isdecimal()):
            raise UsageError(
                f"choices={text!r}: {word!r} is no choice; give the text that a SimulationFailed has shown"
            )
        taken[label.translate(_READ), int(number)] = int(choice)
    return taken

"""How a simulated run has ended: in order, or with something that must not be. Frozen values, and the error that says it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["Failure", "Result", "SimulationFailed"]


@attrs.frozen(kw_only=True)
class Result:
    """One simulated run in which everything held.

    Attributes:
        seed: from which its choices were drawn.
        turns: how often a thread had its turn.
        units: how many units of work became whole.
        commits: how many commits were made.
        crashes: how often the process died, with power losses.
        errors: how many errors were raised in the place of user code.
        restarts: how many components somebody restarted.
        delays: how often a thread was made to stand still.
        disk_errors: how many commits were made to fail.
        retries: how many dead letters an operator has retried.
        drops: how many it has dropped.
        calls: how many calls from outside were made, each repetition too.
        simulated_s: how much of the simulation's time has passed, in seconds.
        finished: whether nothing could happen any more; otherwise the steps were used up and it was stopped in order.
    """

    seed: int
    turns: int = 0
    units: int = 0
    commits: int = 0
    crashes: int = 0
    errors: int = 0
    restarts: int = 0
    delays: int = 0
    disk_errors: int = 0
    retries: int = 0
    drops: int = 0
    calls: int = 0
    simulated_s: float = 0.0
    finished: bool = True


@attrs.frozen(kw_only=True)
class Failure:
    """What must not be, and was.

    Attributes:
        kind: what tells it from others: two runs that fail with the same kind fail for the same reason.
        text: what is wrong, in a sentence.
    """

    kind: tuple[str, ...]
    text: str
    error: BaseException | None = attrs.field(default=None, eq=False)


class SimulationFailed(AssertionError):
    """A simulated run has shown something that must not be.

    Attributes:
        seed: from which its choices were drawn.
        failure: what is wrong, in a sentence.
        story: what happened, line by line, in the shortest run that was found to end with it.
        choices: makes that run again, as the argument `choices` of `simulate`.
    """

    def __init__(self, failure: str, seed: int, story: Sequence[str], choices: str, call: str) -> None:
        lines = "".join(f"\n{number:4}. {line}" for number, line in enumerate(story, 1))
        again = f"\nagain, from the seed:  simulate({call}, seed={seed}, ...)"
        again += f"\nagain, just as above:  simulate({call}, seed={seed}, choices={choices!r}, ...)"
        super().__init__(f"{failure}\nwhat happened, with seed {seed}:{lines}{again}")
        self.failure = failure
        self.seed = seed
        self.story = tuple(story)
        self.choices = choices

"""A process that makes simulated runs for `explore`, which starts it with `main`.

It reads one line of JSON, what to simulate and with which seeds, and writes lines: how far it has come, the seed that failed,
or why it cannot.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from minions.errors import MinionsError
from minions.testing.faults import Faults
from minions.testing.outcome import Failure, Result
from minions.testing.references import Reference
from minions.testing.run import Scenario, one_after_the_other
from minions.testing.simulation import run_once, scenario_of

__all__ = ["Asked", "Progress", "main", "picture_of", "runs"]

_TELL_EVERY_S = 0.25
_YOUNG_OBJECTS = 20_000  # a run leaves many that are freed at once


@attrs.frozen(kw_only=True)
class Asked:
    """What is to be simulated.

    Attributes:
        system: a system, or what makes one.
        sources, invariants, at_end, allow, calls: see `simulate`; each None where there is nothing, one reference, or a list
            of them.
        faults: the values of `Faults`.
        steps: see `simulate`.
        seeds: the first one, the one after the last, and how far they are apart.
    """

    system: Any
    sources: Any
    invariants: Any
    at_end: Any
    allow: Any
    calls: Any
    faults: Mapping[str, Any]
    steps: int
    seeds: tuple[int, int, int]

    def line(self) -> str:
        return json.dumps(attrs.asdict(self))

    @classmethod
    def of(cls, line: str) -> Asked:
        return cls(**json.loads(line))

    def scenario(self) -> Callable[[], Scenario]:
        """What it asks for, with everything imported."""
        return scenario_of(
            _thing(self.system),
            _thing(self.sources) or {},
            _things(self.invariants),
            _things(self.at_end),
            Faults(**self.faults),
            self.steps,
            _things(self.allow),
            _thing(self.calls) or {},
        )


@attrs.frozen
class Progress:
    """How far a series of runs has come.

    Attributes:
        runs: how many were made.
        turns: how many turns of threads those had.
        next_seed: the first seed that was not tried yet.
        failed: the seed that has failed, with which the series ends; None while none has.
        finished: how many of them came to their end by themselves.
        first: what the first run was like; see `picture_of`.
    """

    runs: int = 0
    turns: int = 0
    next_seed: int = 0
    failed: int | None = None
    finished: int = 0
    first: Sequence[int] = ()


def picture_of(outcome: Result | Failure) -> list[int]:
    """What tells a run from most others; empty where it has failed."""
    return [outcome.turns, outcome.units, outcome.commits] if isinstance(outcome, Result) else []


def runs(make: Callable[[], Scenario], seeds: Iterable[int], every_s: float = _TELL_EVERY_S) -> Iterator[Progress]:
    """Makes one run with each seed until one fails, and says now and then, and at the end, how far it has come."""
    progress, left = Progress(), iter(seeds)
    while progress.failed is None:
        made = progress.runs
        progress = _some_runs(make, left, progress, every_s)
        if progress.runs == made:
            return
        yield progress


def _some_runs(make: Callable[[], Scenario], seeds: Iterator[int], so_far: Progress, for_s: float) -> Progress:
    """Makes runs until one fails or the time is over, one at least; how far the series has come with them."""
    made, turns, finished, first = so_far.runs, so_far.turns, so_far.finished, so_far.first
    until_s = time.monotonic() + for_s
    next_seed, failed = so_far.next_seed, None
    with one_after_the_other(), _young_objects():
        for seed in seeds:
            outcome = run_once(make, seed)
            first = first or picture_of(outcome)
            made += 1
            next_seed = seed + 1
            if isinstance(outcome, Failure):
                next_seed = failed = seed
                break
            turns += outcome.turns
            finished += outcome.finished
            if time.monotonic() >= until_s:
                break
    return Progress(made, turns, next_seed, failed, finished, first)


@contextmanager
def _young_objects() -> Iterator[None]:
    """A block in which the garbage collector lets more objects be made before it looks."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def main() -> int:
    """Blocks until its seeds are tried, or one has failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has started it, and ends it
    asked = Asked.of(sys.stdin.readline())
    out = sys.stdout
    sys.stdout = sys.stderr  # what the components print is no line of ours
    try:
        make = asked.scenario()
        first, end, step = asked.seeds
        for progress in runs(make, range(first, end, step)):
            out.write(json.dumps(attrs.asdict(progress)) + "\n")
            out.flush()
    except MinionsError as error:
        out.write(json.dumps({"refused": str(error)}) + "\n")
        out.flush()
        return 1
    return 0


def _thing(reference: Any) -> Any:
    return None if reference is None else Reference(**reference).thing()


def _things(references: Any) -> Any:
    if isinstance(references, list):
        return [_thing(reference) for reference in references]
    return () if references is None else _thing(references)

"""`simulate`: a system on one thread, with faults, under a scheduler whose choices come from a seed."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from minions.errors import UsageError
from minions.life.plan import Known
from minions.model import checks
from minions.system import System
from minions.testing.arguments import refuse
from minions.testing.callers import Call, calls_of
from minions.testing.choices import Choices, Taken, said, understood
from minions.testing.faults import Faults
from minions.testing.outcome import Failure, Result, SimulationFailed
from minions.testing.process import Process
from minions.testing.run import Invariant, Run, Scenario, one_after_the_other
from minions.testing.scripts import Wait, scripts_of
from minions.testing.shrinking import shrunk
from minions.testing.story import Story

__all__ = ["Calls", "Make", "Sources", "run_once", "scenario_of", "simulate"]

_MOST_KNOWN = 1_000
_NEVER_RUN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)

Make = System | Callable[[], System]
Sources = Mapping[Any, Iterable[Any]]
"""By component, or its name."""
Calls = Mapping[str, Iterable[Call | Wait]]
"""By the name of who calls."""
Invariants = Invariant | Sequence[Invariant]


def simulate(
    system: Make,
    seed: int = 0,
    *,
    sources: Sources = MappingProxyType({}),
    invariants: Invariants = (),
    at_end: Invariants = (),
    calls: Calls = MappingProxyType({}),
    faults: Faults = Faults(),
    steps: int = 5_000,
    allow: Sequence[type[BaseException]] = (),
    choices: str | None = None,
    shrink_s: float = 10.0,
) -> Result:
    """Runs a system on the calling thread, in a time of its own, and looks after each step whether everything holds.

    Who goes on wherever a thread waits or a unit of work or a commit begins or ends, and which faults there are, is drawn from
    the seed; the same seed makes the same run. It is the runtime itself that runs; only its threads, its clock and its disk are
    not real. State is kept in memory, and the system's folder is not touched. The watchdog, plugins and the control socket are
    off.

    What is not under control: `time.time`, real input and output, threads of your own, and random numbers that do not come from
    the module `random`, which is seeded.

    Args:
        system: a system that does not run, or a function that makes one, which is called for each run: then what a component
            reaches outside of the system can be made afresh.
        seed: from 0.
        sources: by component (or its name), what it sends in the place of its own `run`: a list of messages; among them may be
            `Wait(seconds)`, and `Send(outbox, message)` where it has several outboxes. A script goes on where it was, through any
            crash. A source that is not named runs its own `run`.
        invariants: functions of a `View`. One that raises an AssertionError, or returns False, does not hold. They are looked at
            after each unit of work and each commit, and change nothing.
        at_end: the same, once nothing can happen any more; not where the steps were used up before.
        calls: by a name for who calls, its script: a list of `Call`s from outside, which it makes one after the other, each when
            the one before is over, and among them `Wait(seconds)`. Several callers call side by side. They begin once the
            system is up, and outlive crashes; the system stays until all is called. What each was told, `View.called` says.
        faults: what is injected. See `Faults`.
        steps: after so many turns of threads the system is stopped in order.
        allow: classes of errors that handlers may raise. By default an error that no fault explains is a failure; what a method
            raises that was called is its answer, and none.
        choices: in the place of the seed's, those that a `SimulationFailed` has shown.
        shrink_s: how long to look for a shorter run that fails for the same reason, in seconds.

    Returns:
        What there was, if everything held.

    Raises:
        SimulationFailed: something did not hold; with the shortest story that was found.
        TopologyError: see `System.check`.
        UsageError: that cannot be simulated; the message says why, and what to do. Also where nothing has failed and the run has
            not come to all of the choices that it was given.
    """
    refuse_bad_seed(seed)
    refuse_bad_shrink_s(shrink_s)
    make = scenario_of(system, sources, invariants, at_end, faults, steps, allow, calls)
    refuse("simulate()", () if choices is None else checks.text("choices", choices))
    given = None if choices is None else understood(choices)
    choices_made = Choices(seed, given)
    with one_after_the_other():
        outcome = Run(_made(make, seed), seed, choices_made).go()
        strange = "; ".join(choices_made.left_over())
        if isinstance(outcome, Failure):
            failed = _shown(make, seed, outcome, choices_made.taken, shrink_s, _named(system))
            if strange:
                failed.add_note(f"this is not the run that was shown: choices: {strange}")
            raise failed from outcome.error
    if strange:
        raise UsageError(
            f"choices: {strange}: this is not the run that was shown, because the system, what simulate() is given with it, or "
            "Minions has changed since; give seed=... without choices, or explore again"
        )
    return outcome


def scenario_of(
    system: Make,
    sources: Sources,
    invariants: Invariants,
    at_end: Invariants,
    faults: Faults,
    steps: object,
    allow: Sequence[type[BaseException]],
    calls: Calls = MappingProxyType({}),
) -> Callable[[], Scenario]:
    """What `simulate` is asked for, looked at once; to be called for each run.

    Raises:
        TopologyError, UsageError: see `simulate`.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps={steps!r}: this is a number of turns, 1 or more")
    if not isinstance(faults, Faults):
        raise UsageError(f"faults={faults!r}: give Faults(...), such as Faults(crashes=0.1), or Faults.none()")

    _refuse_bad_classes(allow)
    if isinstance(sources, Mapping):  # what can be gone through only once is a script of each run all the same
        sources = {who: list(steps) if isinstance(steps, Iterator) else steps for who, steps in sources.items()}
    if isinstance(calls, Mapping):
        calls = {who: list(steps) if isinstance(steps, Iterator) else steps for who, steps in calls.items()}
    most_steps = steps
    known: Known = {}

    def scenario(made: object) -> Scenario:
        if not isinstance(made, System):
            raise UsageError(f"simulate() takes a System, or a function that returns one, not {made!r}")
        model = Process.model_of(made, known)
        return Scenario(
            system=made,
            model=model,
            calls=calls_of(calls, made._topology, model[0]),
            scripts=scripts_of(sources, made._topology),
            invariants=_functions("invariants", invariants),
            at_end=_functions("at_end", at_end),
            faults=faults,
            steps=most_steps,
            allow=tuple(allow),
        )

    if isinstance(system, System) or not callable(system):
        once = scenario(system)
        return lambda: once

    def fresh() -> Scenario:
        if len(known) > _MOST_KNOWN:  # of classes that the function makes each time
            known.clear()
        return scenario(system())

    return fresh


def _refuse_bad_classes(allow: object) -> None:
    if not isinstance(allow, (list, tuple)):
        raise UsageError(f"allow={allow!r}: give a list of classes of errors, such as [NotCovered]")
    for error in allow:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise UsageError(f"allow: {error!r} is no class of errors; give a list, such as [NotCovered]")


def refuse_bad_seed(seed: object) -> None:
    """Raises UsageError where that is no seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed={seed!r}: a seed is a number, 0 or more")


def refuse_bad_shrink_s(shrink_s: object) -> None:
    """Raises UsageError where that is no time to look for a shorter run."""
    if isinstance(shrink_s, bool) or not isinstance(shrink_s, (int, float)) or not shrink_s >= 0:
        raise UsageError(f"shrink_s={shrink_s!r}: this is a number of seconds, 0 or more")


def _functions(where: str, given: Invariants) -> tuple[Invariant, ...]:
    if not callable(given) and not isinstance(given, (list, tuple)):
        raise UsageError(f"{where}={given!r}: give a function of a view, or a list of them")
    functions = (given,) if callable(given) else tuple(given)
    for function in functions:
        if not callable(function):
            raise UsageError(f"{where}: {function!r} is no function of a view")
        if any(never(function) for never in _NEVER_RUN):
            raise UsageError(
                f"{where}: {function!r} does nothing when it is called, being asynchronous or a generator: it has to be a plain "
                "function of a view"
            )
        if not _takes_one(function):
            raise UsageError(
                f"{where}: {function!r} does not take one argument, the view: {inspect.signature(function)}"
            )
    return functions


def _takes_one(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True  # it does not tell
    return True


def _made(make: Callable[[], Scenario], seed: int) -> Scenario:
    """What is simulated; the global `random` begins anew for it and for its run."""
    random.seed(seed)
    return make()


def _outcome(
    scenario: Scenario, seed: int, given: Taken | None = None, story: Story | None = None
) -> tuple[Result | Failure, Taken]:
    choices = Choices(seed, given)
    return Run(scenario, seed, choices, story).go(), choices.taken


def run_once(make: Callable[[], Scenario], seed: int) -> Result | Failure:
    """One run, in a block of `one_after_the_other`; what has become of it."""
    return _outcome(_made(make, seed), seed)[0]


def _shown(
    make: Callable[[], Scenario], seed: int, failure: Failure, taken: Taken, shrink_s: float, call: str
) -> SimulationFailed:
    """The failure with its story, in as few choices as were found."""

    def fails(candidate: Taken) -> Taken | None:
        outcome, made = _outcome(_made(make, seed), seed, candidate)
        return made if isinstance(outcome, Failure) and outcome.kind == failure.kind else None

    least = shrunk(taken, fails, shrink_s)
    story = Story()
    told, _ = _outcome(_made(make, seed), seed, least, story)
    if not isinstance(told, Failure):
        story.say(
            "told once more, the same choices did not lead there: something in the system is not under the simulation's control, "
            "such as real time, real input and output, or random numbers of its own"
        )
        told = failure
    return SimulationFailed(told.text, seed, story.lines, said(least), call)


def _named(system: Make) -> str:
    return "system" if isinstance(system, System) else getattr(system, "__qualname__", "system")

"""`explore`: many simulated runs, on all cores, until one fails. For continuous integration."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import IO, Any

import attrs

from minions.errors import UsageError
from minions.testing.arguments import function, refuse
from minions.testing.faults import Faults
from minions.testing.references import Reference
from minions.testing.run import Scenario, one_after_the_other
from minions.testing.simulation import (
    Calls,
    Invariants,
    Make,
    Sources,
    refuse_bad_seed,
    refuse_bad_shrink_s,
    run_once,
    scenario_of,
    simulate,
)
from minions.testing.worker import Asked, Progress, picture_of, runs

__all__ = ["Explored", "explore"]

_TELL_EVERY_S = 2.0
_LEAST_RUNS_FOR_OTHERS = 50
"""For fewer runs no further process is started, which takes longer than they do."""


@attrs.frozen(kw_only=True)
class Explored:
    """Many simulated runs in which everything held.

    Attributes:
        runs: how many.
        turns: how often a thread had its turn in them.
        finished: how many of them came to their end before their steps were used up: in these `at_end` was looked at.
        seconds: how long they took.
        processes: how many processes have made them.
    """

    runs: int
    turns: int
    finished: int
    seconds: float
    processes: int

    @property
    def runs_per_s(self) -> float:
        """How many runs a second that were."""
        return self.runs / self.seconds if self.seconds > 0 else 0.0


def explore(
    system: Make,
    runs: int = 1_000,
    *,
    first_seed: int = 0,
    sources: Sources = MappingProxyType({}),
    invariants: Invariants = (),
    at_end: Invariants = (),
    calls: Calls = MappingProxyType({}),
    faults: Faults = Faults(),
    steps: int = 5_000,
    allow: Sequence[type[BaseException]] = (),
    shrink_s: float = 10.0,
    workers: int | None = None,
    progress: Callable[[str], object] | None = None,
) -> Explored:
    """Makes simulated runs with one seed after the other, and stops at the first that fails: the one with the smallest seed.

    The runs are spread over processes, one a core, where these can import what is given: the system or its function, the
    sources, the calls, the invariants each at the top of a module. Otherwise, and for a few runs, they are made on the calling
    thread.
    The module is then imported by these processes too, so a script has to guard what it does with ``if __name__ ==
    "__main__"``. They do not see what a test has changed in the module since, as by a monkeypatch: where the first run is another
    one there, all are made on the calling thread, and with ``workers=1`` they surely are.

    Args:
        system, sources, invariants, at_end, calls, faults, steps, allow, shrink_s: see `simulate`.
        runs: how many.
        first_seed: the smallest seed.
        workers: how many processes; by default as many as there are cores for this process. 1: the calling thread.
        progress: takes a line every two seconds and at the end; by default it is written to standard error.

    Returns:
        What there was, if everything held.

    Raises:
        SimulationFailed: as `simulate` with the seed that failed.
        TopologyError, UsageError: see `simulate`. Also where there is something that has to hold at the end, and no run has come
            to that before its steps were used up.
    """
    refuse_bad_seed(first_seed)
    refuse_bad_shrink_s(shrink_s)
    _refuse_bad_number("runs", runs)
    _refuse_bad_number("workers", 1 if workers is None else workers)
    refuse("explore()", () if progress is None else function("progress", progress, "print"))
    tell = progress if progress is not None else _write
    make = scenario_of(system, sources, invariants, at_end, faults, steps, allow, calls)
    make()  # what is wrong with it is told before anything is started
    seeds = range(first_seed, first_seed + runs)
    wanted = workers if workers is not None else (_cores() if runs >= _LEAST_RUNS_FOR_OTHERS else 1)
    asked = (
        _asked(system, sources, invariants, at_end, faults, steps, allow, calls, _module_of_caller())
        if wanted > 1
        else None
    )
    if asked is None and wanted > 1:
        wanted = 1
        tell("on one core: what is simulated is not at the top of a module that another process can import")
    began_s = time.monotonic()
    series = _here(make, seeds) if asked is None else _elsewhere(asked, seeds, wanted, make)
    latest = (0, 0, 0, 1)
    tell_s = began_s + _TELL_EVERY_S
    if asked is not None:
        series = _or_here(series, make, seeds, tell)
    for made, turns, finished, failed, processes in series:
        latest, now_s = (made, turns, finished, processes), time.monotonic()
        if failed is not None:
            tell(f"seed {failed} fails, after {made:,} runs in {now_s - began_s:.1f} s; looking for a shorter run")
            simulate(
                system,
                failed,
                sources=sources,
                invariants=invariants,
                at_end=at_end,
                calls=calls,
                faults=faults,
                steps=steps,
                allow=allow,
                shrink_s=shrink_s,
            )
            raise UsageError(
                f"seed {failed} has failed once and does not fail again: something in the system is not under the simulation's "
                "control, such as real time, real input and output, or random numbers of its own"
            )
        if now_s >= tell_s:
            tell(f"{made:,} of {runs:,} runs, {made / (now_s - began_s):,.0f} a second")
            tell_s = now_s + _TELL_EVERY_S
    made, turns, finished, processes = latest
    if at_end and not finished:
        raise UsageError(
            f"at_end was looked at in none of {made:,} runs: in each the {steps:,} steps were used up while something could "
            "still happen; give steps=... more, or each component whose run() does not end a script, in sources={...}"
        )
    explored = Explored(
        runs=made, turns=turns, finished=finished, seconds=time.monotonic() - began_s, processes=processes
    )
    cores = "one core" if explored.processes == 1 else f"{explored.processes} cores"
    tell(f"{explored.runs:,} runs held, {explored.runs_per_s:,.0f} a second on {cores}")
    return explored


Step = tuple[int, int, int, "int | None", int]
"""How many runs and turns there were, how many runs came to their end, the seed that failed, how many processes make the runs."""


def _here(make: Callable[[], Scenario], seeds: range) -> Iterator[Step]:
    for progress in runs_of(make, seeds):
        yield progress.runs, progress.turns, progress.finished, progress.failed, 1


runs_of = runs  # `explore` has an argument of that name


def _or_here(
    elsewhere: Iterator[Step], make: Callable[[], Scenario], seeds: range, tell: Callable[[str], object]
) -> Iterator[Step]:
    """Makes the runs on the calling thread where other processes find that they cannot."""
    try:
        yield from elsewhere
    except _Refused as refused:
        tell(f"on one core: {refused}")
        yield from _here(make, seeds)


class _Refused(Exception):
    """Another process cannot make these runs."""


def _elsewhere(asked: Asked, seeds: range, workers: int, make: Callable[[], Scenario]) -> Iterator[Step]:
    """As `_here`, by other processes: each takes every so-many-th seed. The first run is made here, too."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        latest: list[Progress] = []
        for number in range(workers):
            process = _started(attrs.evolve(asked, seeds=(seeds.start + number, seeds.stop, workers)))
            stack.callback(_end, process)
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, (number, process))
            latest.append(Progress(0, 0, seeds.start + number))
        failed: int | None = None
        while selector.get_map():
            for key, _ in selector.select():
                number, process = key.data
                said = _line(key.fileobj, process)
                if said is None:
                    selector.unregister(key.fileobj)
                    continue
                _refuse_another_run(make, seeds.start, latest[number], said)
                latest[number] = said
                if said.failed is not None:
                    failed = said.failed if failed is None else min(failed, said.failed)
            if failed is not None:
                for key in list(selector.get_map().values()):  # whoever is past that seed will find no smaller one
                    if latest[key.data[0]].next_seed >= failed:
                        selector.unregister(key.fileobj)
                if selector.get_map():
                    continue
            made, turns, finished = (
                sum(getattr(each, name) for each in latest) for name in ("runs", "turns", "finished")
            )
            yield made, turns, finished, failed, workers


def _refuse_another_run(make: Callable[[], Scenario], seed: int, before: Progress, said: Progress) -> None:
    """What another process has made with the first seed has to be what is made here; looked at once."""
    is_first = before.next_seed == seed and not before.runs
    if not is_first:
        return
    with one_after_the_other():
        here = picture_of(run_once(make, seed))
    if list(said.first) != here:
        raise _Refused(
            f"with seed {seed} another process makes another run: what is simulated was changed since its module was imported, "
            "as by a monkeypatch, or depends on the process, as the order of a set of strings does"
        )


def _started(asked: Asked) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, minions.testing.worker as worker; sys.exit(worker.main())"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},  # noqa: PTH109
    )
    assert process.stdin is not None
    process.stdin.write(asked.line() + "\n")
    process.stdin.close()
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def _line(stream: Any, process: subprocess.Popen[str]) -> Progress | None:
    """What a process has said next; None where it has ended in order."""
    pipe: IO[str] = stream
    line = pipe.readline()
    if not line:
        if process.wait() != 0:
            raise UsageError(
                f"a process that made simulated runs has ended with exit code {process.returncode}; what it said is above"
            )
        return None
    said = json.loads(line)
    if "refused" in said:
        raise _Refused(said["refused"])
    return Progress(**said)


def _asked(
    system: Make,
    sources: Sources,
    invariants: Invariants,
    at_end: Invariants,
    faults: Faults,
    steps: int,
    allow: Sequence[type[BaseException]],
    calls: Calls,
    caller: str,
) -> Asked | None:
    """What other processes are told; None where they cannot import it."""
    modules = [caller, *(function.__module__ for function in _each(invariants)), getattr(system, "__module__", "")]

    def said(thing: Any) -> Any:
        if not thing and thing is not system:
            return None
        whole = Reference.of(thing, modules)
        if whole is not None:
            return attrs.asdict(whole)
        parts = [Reference.of(each, modules) for each in thing] if isinstance(thing, (list, tuple)) else [None]
        if None in parts:
            raise LookupError
        return [attrs.asdict(part) for part in parts if part is not None]

    try:
        return Asked(
            system=said(system),
            sources=said(sources),
            invariants=said(invariants),
            at_end=said(at_end),
            allow=said(allow),
            calls=said(calls),
            faults=attrs.asdict(faults),
            steps=steps,
            seeds=(0, 0, 1),
        )
    except LookupError:
        return None


def _each(functions: Invariants) -> Iterable[Any]:
    return (functions,) if callable(functions) else functions


def _refuse_bad_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"explore({name}={value!r}): this is a number, 1 or more")


def _module_of_caller() -> str:
    """The name of the module that has called `explore`; a fixture of the pytest plugin only hands on."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == "pytest_minions":
        frame = frame.f_back
    name: str = frame.f_globals.get("__name__", "")
    return name


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _write(line: str) -> None:
    sys.stderr.write(f"explore: {line}\n")
    sys.stderr.flush()

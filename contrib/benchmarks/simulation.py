"""How many simulated runs `minions.testing.explore` makes in a second, on one core and on all, with and without faults."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import cli, disk
from bench.child import Request, in_child
from bench.figure import Figure, as_dicts, spreads
from bench.samples import Sample, in_turns
from bench.table import short, table

_ROUNDS, _RUNS, _QUICK_RUNS = 5, 10_000, 100
_CORES = len(os.sched_getaffinity(0))
_EXAMPLES = """  python simulation.py                     a few minutes
  python simulation.py --quick             does everything work? a few seconds
  python simulation.py --only "pair-*" --rounds 11
"""


FIGURES = [
    Figure("plain_runs_per_s", "runs/s, only the order of events differs", "1/s"),
    Figure("plain_turns_per_s", "turns/s of these, each a choice who goes on", "1/s"),
    Figure("faults_runs_per_s", "runs/s with faults, as they are by default", "1/s"),
    Figure("faults_turns_per_s", "turns/s of these", "1/s"),
]
_CASES = {
    f"{system}-{cores}": (f"peers.minions_simulation:{system}_runs", workers)
    for system in ("pair", "bank")
    for cores, workers in {"one-core": 1, f"{_CORES}-cores": _CORES}.items()
}
_WHAT = {
    "pair": "a source and its consumer, three messages",
    "bank": "a source, two replicas that share an inbox, a consumer, three messages",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES, _ROUNDS, timeout_s=300)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what"], [[name, _WHAT[name.partition("-")[0]]] for name in _CASES])))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, list(_CASES), options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    runs = _QUICK_RUNS if options.quick else _RUNS
    facts = cli.environment(folder, ["minions-runtime", "greenlet"])

    def run(name: str) -> Mapping[str, float]:
        target, workers = _CASES[name]
        with disk.fresh_folder(folder) as own:
            return in_child(Request(target, workers, str(own), capacity=runs, timeout_s=options.timeout))

    measured = cli.measure(in_turns(names, rounds, options.seed), run, _described)
    samples = measured.samples
    return cli.tell(
        measured,
        options,
        lines=lambda: _lines(samples, names, facts, rounds, runs),
        as_dict=lambda: cli.as_dict(
            measured, facts, rounds, options, as_dicts(spreads(samples, list(_CASES), FIGURES))
        ),
        write_csv=lambda path: _write_csv(path, samples),
        draw=lambda path: _draw(path, samples, facts),
    )


def _described(sample: Sample) -> str:
    return ", ".join(f"{short(figure.of(sample))} {figure.title.split(',')[0]}" for figure in FIGURES)


def _lines(
    samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any], rounds: int, runs: int
) -> list[str]:
    rows = [
        [f"{name:<14} {figure.title}", short(found.median), f"{short(found.low)} .. {short(found.high)}"]
        for name, figure, found in spreads(samples, names, FIGURES)
    ]
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds of {runs:,} runs; the start of the other processes is in it; medians",
        "",
        *table(["simulation", "median", "low .. high"], rows),
    ]


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.round_number, sample.position, sample.name, figure.key, f"{figure.of(sample):.1f}"]
        for sample in samples
        for figure in FIGURES
        if not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "figure", "per_s"], rows)


def _draw(path: Path, samples: Sequence[Sample], facts: Mapping[str, Any]) -> None:
    bars = [(name, found) for name in _CASES if (found := FIGURES[2].spread(samples, name)) is not None]
    cli.draw(path, f"Simulated runs with faults, {facts['python']}", "runs a second", {"": bars})


if __name__ == "__main__":
    sys.exit(main())

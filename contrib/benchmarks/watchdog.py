"""What the watchdog costs: CPU time of its ticks, with 10, 100 and 1,000 components that wait for messages."""

import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, in_child
from bench.samples import Sample, Spread, in_turns, spread, values
from bench.table import short, table

_ROUNDS, _TICKS, _QUICK_TICKS = 7, 40, 10
_SIZES = (10, 100, 1_000)
_AT_MOST_PERCENT = 1.0
_EXAMPLES = """  python watchdog.py                       ten to a thousand components: a minute
  python watchdog.py --quick               does everything work? a few seconds
  python watchdog.py --only components-1000 --rounds 21
"""


@attrs.frozen
class Figure:
    """One figure: its key, what it is, its unit, and how many of the unit make one."""

    key: str
    title: str
    unit: str
    factor: float
    at_most: float | None = None


FIGURES = [
    Figure("tick_s", "a tick, every tenth dearer", "ms", 1e3),
    Figure("sample_s", "of which the process and the machine", "ms", 1e3),
    Figure("cpu_ratio", "of one core, at a tick a second", "%", 100, _AT_MOST_PERCENT),
]
_NAMES = [f"components-{size}" for size in _SIZES]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what"], [[name, "components that wait"] for name in _NAMES])))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, _NAMES, options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    ticks = _QUICK_TICKS if options.quick else _TICKS
    facts = cli.environment(folder, ["minions-runtime", "psutil"])

    def run(name: str) -> Mapping[str, float]:
        with disk.fresh_folder(folder) as own:
            size = int(name.removeprefix("components-"))
            return in_child(
                Request("peers.minions_watchdog:ticks", size, str(own), capacity=ticks, timeout_s=options.timeout)
            )

    measured = cli.measure(in_turns(names, rounds, options.seed), run, _described)
    if options.csv is not None:
        _write_csv(options.csv, measured.samples)
    if options.plot is not None:
        _draw(options.plot, measured.samples, facts)
    if options.json:
        cli.print_json(_as_dict(measured, facts, rounds, options))
    else:
        print("\n".join(_lines(measured.samples, names, facts, rounds, ticks)))
    cli.print_problems(measured.problems)
    return measured.exit_code


def _of(figure: Figure) -> Callable[[Sample], float]:
    return lambda sample: sample.figures[figure.key] * figure.factor


def _spread(samples: Sequence[Sample], name: str, figure: Figure) -> Spread | None:
    return spread(list(values(samples, name, _of(figure)).values()))


def _described(sample: Sample) -> str:
    return ", ".join(f"{_exact(_of(figure)(sample))} {figure.unit}" for figure in FIGURES)


def _exact(value: float | None) -> str:
    """As `short`, with one digit more below one: these figures are small."""
    return f"{value:.3f}" if value is not None and value < 1 else short(value)


def _lines(
    samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any], rounds: int, ticks: int
) -> list[str]:
    rows = []
    for name in names:
        for figure in FIGURES:
            found = _spread(samples, name, figure)
            if found is None:
                continue
            met = figure.at_most is None or found.median <= figure.at_most
            rows.append(
                [
                    f"{name:<16} {figure.title}",
                    f"{_exact(found.median)} {figure.unit}",
                    f"{_exact(found.low)} .. {_exact(found.high)}",
                    "-" if figure.at_most is None else f"at most {figure.at_most:g}",
                    "" if figure.at_most is None else "met" if met else "missed",
                ]
            )
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds of {ticks} ticks; CPU time of the watchdog's own thread; medians",
        "",
        *table(["watchdog", "median", "low .. high", "asked", ""], rows),
    ]


def _as_dict(measured: cli.Measured, facts: Mapping[str, Any], rounds: int, options: Namespace) -> dict[str, Any]:
    found = [(name, figure, _spread(measured.samples, name, figure)) for name in _NAMES for figure in FIGURES]
    return {
        "environment": facts,
        "options": {"rounds": rounds, "seed": options.seed, "quick": options.quick},
        "figures": [
            {"case": name, "title": figure.title, "unit": figure.unit, **attrs.asdict(each)}
            for name, figure, each in found
            if each is not None
        ],
        "problems": measured.problems,
        "interrupted": measured.interrupted,
    }


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.round_number, sample.position, sample.name, figure.title, f"{_of(figure)(sample):.6f}", figure.unit]
        for sample in samples
        for figure in FIGURES
        if not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "figure", "value", "unit"], rows)


def _draw(path: Path, samples: Sequence[Sample], facts: Mapping[str, Any]) -> None:
    ratio = FIGURES[-1]
    bars = [(name, found) for name in _NAMES if (found := _spread(samples, name, ratio)) is not None]
    cli.draw(path, f"The watchdog, {facts['python']}", "percent of one core", {"": bars})


if __name__ == "__main__":
    sys.exit(main())

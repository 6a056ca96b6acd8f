"""What the watchdog costs: CPU time of its ticks, with 10, 100 and 1,000 components that wait for messages."""

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

_ROUNDS, _TICKS, _QUICK_TICKS = 7, 40, 10
_SIZES = (10, 100, 1_000)
_AT_MOST_PERCENT = 1.0
_EXAMPLES = """  python watchdog.py                       ten to a thousand components: a minute
  python watchdog.py --quick               does everything work? a few seconds
  python watchdog.py --only components-1000 --rounds 21
"""


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
    samples = measured.samples
    return cli.tell(
        measured,
        options,
        lines=lambda: _lines(samples, names, facts, rounds, ticks),
        as_dict=lambda: cli.as_dict(measured, facts, rounds, options, as_dicts(spreads(samples, _NAMES, FIGURES))),
        write_csv=lambda path: _write_csv(path, samples),
        draw=lambda path: _draw(path, samples, facts),
    )


def _described(sample: Sample) -> str:
    return ", ".join(f"{_exact(figure.of(sample))} {figure.unit}" for figure in FIGURES)


def _exact(value: float | None) -> str:
    """As `short`, with one digit more below one: these figures are small."""
    return f"{value:.3f}" if value is not None and value < 1 else short(value)


def _lines(
    samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any], rounds: int, ticks: int
) -> list[str]:
    rows = [
        [
            f"{name:<16} {figure.title}",
            f"{_exact(found.median)} {figure.unit}",
            f"{_exact(found.low)} .. {_exact(found.high)}",
            "-" if figure.at_most is None else f"at most {figure.at_most:g}",
            figure.verdict(found),
        ]
        for name, figure, found in spreads(samples, names, FIGURES)
    ]
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds of {ticks} ticks; CPU time of the watchdog's own thread; medians",
        "",
        *table(["watchdog", "median", "low .. high", "asked", ""], rows),
    ]


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.round_number, sample.position, sample.name, figure.title, f"{figure.of(sample):.6f}", figure.unit]
        for sample in samples
        for figure in FIGURES
        if not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "figure", "value", "unit"], rows)


def _draw(path: Path, samples: Sequence[Sample], facts: Mapping[str, Any]) -> None:
    bars = [(name, found) for name in _NAMES if (found := FIGURES[-1].spread(samples, name)) is not None]
    cli.draw(path, f"The watchdog, {facts['python']}", "percent of one core", {"": bars})


if __name__ == "__main__":
    sys.exit(main())

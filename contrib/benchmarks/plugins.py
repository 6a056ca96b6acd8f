"""What plugins cost that listen, raise, sleep for ever, flood or compute: time and CPU time for a message with and without."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, in_child
from bench.samples import MedianRange, Sample, median_range
from bench.table import table

_PAIRS, _QUICK_PAIRS = 60, 2
_MESSAGES, _QUICK_MESSAGES = 150_000, 5_000
_KINDS = {
    "none": "no plugin, against none: how far a figure may be off",
    "listens": "a hook for everything that does nothing",
    "raises": "raises in every hook",
    "sleeps": "never returns from its first hook",
    "floods": "writes twenty lines to a file at each event",
    "all": "the three before at once",
    "computes": "computes without end: for comparison, nothing can be promised",
}
_TARGETS = {name: name for name in _KINDS} | {"all": "all_three"}
_AT_MOST = 1.05
_PROMISED = ("listens", "raises", "sleeps", "floods", "all")
_EXAMPLES = """  python plugins.py                      all of them: six minutes
  python plugins.py --quick              does everything work? a few seconds
  python plugins.py --only none all --rounds 200
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES, rounds=_PAIRS, timeout_s=300)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what"], [[name, what] for name, what in _KINDS.items()])))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, list(_KINDS), options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    pairs = options.rounds or (_QUICK_PAIRS if options.quick else _PAIRS)
    messages = _QUICK_MESSAGES if options.quick else _MESSAGES
    facts = cli.environment(folder, ["minions-runtime", "pluggy"])

    def run(name: str) -> Mapping[str, float]:
        target = f"peers.minions_plugins:{_TARGETS[name]}"
        with disk.fresh_folder(folder) as own:
            load = os.getloadavg()[0]
            return in_child(Request(target, messages, str(own), pairs=pairs, timeout_s=options.timeout)) | {
                "load": load
            }

    measured = cli.measure([(1, place, name) for place, name in enumerate(names, 1)], run, _described)
    found = {sample.name: Cost.of(sample) for sample in measured.samples if not sample.problem}
    return cli.tell(
        measured,
        options,
        lines=lambda: _lines(found, facts, pairs, messages),
        as_dict=lambda: _as_dict(found, facts, pairs, measured),
        write_csv=lambda path: _write_csv(path, measured.samples),
    )


@attrs.frozen
class Cost:
    """What plugins have cost, as ratios of pairs: with them to without."""

    wall: MedianRange
    cpu: MedianRange
    none_us: float
    calls: float
    faults: float
    set_aside: float
    load: float

    @classmethod
    def of(cls, sample: Sample) -> "Cost":
        figures = sample.figures
        pairs = sum(name.startswith("wall_us.") for name in figures)

        def ratios(what: str) -> MedianRange:
            return median_range(
                [figures[f"{what}_us.{pair}"] / figures[f"none_{what}_us.{pair}"] for pair in range(pairs)]
            )

        without = median_range([figures[f"none_wall_us.{pair}"] for pair in range(pairs)])
        told = (figures[name] for name in ("calls", "faults", "set_aside", "load"))
        return cls(ratios("wall"), ratios("cpu"), without.median, *told)

    @property
    def verdict(self) -> str:
        """Whether the promise is kept: only where the whole range says so."""
        if self.wall.high <= _AT_MOST:
            return "met"
        return "missed" if self.wall.low > _AT_MOST else "not settled"


def _described(sample: Sample) -> str:
    cost = Cost.of(sample)
    return f"x {_shown(cost.wall)}, CPU x {_shown(cost.cpu)}, {cost.calls:.0f} calls, {cost.faults:.0f} faults"


def _shown(value: MedianRange) -> str:
    return f"{value.median:.3f} ({value.low:.3f} .. {value.high:.3f})"


def _lines(found: Mapping[str, Cost], facts: Mapping[str, Any], pairs: int, messages: int) -> list[str]:
    rows = [
        [
            name,
            _shown(cost.wall),
            _shown(cost.cpu),
            f"{cost.none_us:.2f}",
            f"{cost.calls:.0f}",
            f"{cost.faults:.0f}",
            f"{cost.set_aside:.0f}",
            f"{cost.load:.1f}",
            f"at most {_AT_MOST:g}" if name in _PROMISED else "-",
            cost.verdict if name in _PROMISED else "",
        ]
        for name, cost in found.items()
    ]
    header = ["plugin", "x none", "CPU x none", "us/message", "calls", "faults", "set aside", "load", "asked", ""]
    return [
        *cli.environment_lines(facts),
        f"{pairs} pairs of {messages:,} messages that are not durable, beside 400 events a second; medians with their 95 % range",
        "",
        *table(header, rows),
    ]


def _as_dict(found: Mapping[str, Cost], facts: Mapping[str, Any], pairs: int, measured: cli.Measured) -> dict[str, Any]:
    return {
        "environment": facts,
        "pairs": pairs,
        "figures": [{"case": name, **attrs.asdict(cost), "verdict": cost.verdict} for name, cost in found.items()],
        "problems": measured.problems,
        "interrupted": measured.interrupted,
    }


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.name, *name.split("."), f"{value:.4f}"]
        for sample in samples
        if not sample.problem
        for name, value in sample.figures.items()
        if "." in name
    ]
    cli.write_csv(path, ["name", "figure", "pair", "us"], rows)


if __name__ == "__main__":
    sys.exit(main())

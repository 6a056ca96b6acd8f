"""What a plugin costs: messages a second without one, and with one that listens, raises, sleeps for ever, floods or computes."""

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, in_child
from bench.samples import Sample, Spread, in_turns, ratios, spread, values
from bench.table import short, table

_ROUNDS, _MESSAGES, _QUICK_MESSAGES = 15, 1_000_000, 20_000
_BASE = "none"
_KINDS = {
    _BASE: "no plugin",
    "listens": "a hook for everything that does nothing",
    "raises": "raises in every hook",
    "sleeps": "never returns from its first hook",
    "floods": "writes twenty lines to a file at each event",
    "computes": "computes without end: for comparison, nothing can be promised",
}
_AT_LEAST = 0.95
_PROMISED = ("listens", "raises", "sleeps", "floods")
_EXAMPLES = """  python plugins.py                      all of them, in turns: three minutes
  python plugins.py --quick              does everything work? a few seconds
  python plugins.py --only none raises   these two
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what"], [[name, what] for name, what in _KINDS.items()])))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, list(_KINDS), options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    messages = _QUICK_MESSAGES if options.quick else _MESSAGES
    facts = cli.environment(folder, ["minions-runtime", "pluggy"])

    def run(name: str) -> Mapping[str, float]:
        with disk.fresh_folder(folder) as own:
            return in_child(Request(f"peers.minions_plugins:{name}", messages, str(own), timeout_s=options.timeout))

    measured = cli.measure(in_turns(names, rounds, options.seed), run, _described)
    if options.csv is not None:
        _write_csv(options.csv, measured.samples)
    if options.plot is not None:
        bars = [(name, found) for name in names if (found := _rate(measured.samples, name)) is not None]
        cli.draw(options.plot, f"Plugins, {facts['python']}", "messages/s", {"": bars})
    if options.json:
        cli.print_json(_as_dict(measured, facts, rounds, options))
    else:
        print("\n".join(_lines(measured.samples, names, facts, rounds, messages)))
    cli.print_problems(measured.problems)
    return measured.exit_code


def _per_s(sample: Sample) -> float:
    return sample.figures["per_s"]


def _rate(samples: Sequence[Sample], name: str) -> Spread | None:
    return spread(list(values(samples, name, _per_s).values()))


def _ratio(samples: Sequence[Sample], name: str) -> Spread | None:
    """To the run without a plugin of the same round."""
    return ratios(values(samples, name, _per_s), values(samples, _BASE, _per_s))


def _described(sample: Sample) -> str:
    return f"{short(_per_s(sample))} messages/s, {sample.figures['calls']:.0f} calls, {sample.figures['faults']:.0f} faults"


def _lines(
    samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any], rounds: int, messages: int
) -> list[str]:
    rows = []
    for name in names:
        rate, ratio = _rate(samples, name), _ratio(samples, name)
        if rate is None:
            continue
        promised = name in _PROMISED and ratio is not None
        rows.append(
            [
                name,
                short(rate.median),
                f"{short(rate.low)} .. {short(rate.high)}",
                "-" if ratio is None else f"{ratio.median:.3f}",
                f"at least {_AT_LEAST:g}" if promised else "-",
                ("met" if ratio.median >= _AT_LEAST else "missed") if promised and ratio is not None else "",
            ]
        )
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds of {messages:,} messages that are not durable, beside 400 events a second; medians",
        "",
        *table(["plugin", "messages/s", "low .. high", f"x {_BASE}", "asked", ""], rows),
    ]


def _as_dict(measured: cli.Measured, facts: Mapping[str, Any], rounds: int, options: Namespace) -> dict[str, Any]:
    found = [(name, _rate(measured.samples, name), _ratio(measured.samples, name)) for name in _KINDS]
    return {
        "environment": facts,
        "options": {"rounds": rounds, "seed": options.seed, "quick": options.quick},
        "figures": [
            {"case": name, "per_s": attrs.asdict(rate), "ratio": None if ratio is None else attrs.asdict(ratio)}
            for name, rate, ratio in found
            if rate is not None
        ],
        "problems": measured.problems,
        "interrupted": measured.interrupted,
    }


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.round_number, sample.position, sample.name, f"{_per_s(sample):.1f}", int(sample.figures["calls"])]
        for sample in samples
        if not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "messages_per_s", "calls"], rows)


if __name__ == "__main__":
    sys.exit(main())

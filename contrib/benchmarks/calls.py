"""How long a call to another component takes, there and back, next to two bare threads, a pair of queues, and pykka."""

import importlib.util
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, in_child
from bench.samples import Sample, Spread, in_turns, ratios, spread, values
from bench.table import short, table

_ROUNDS, _REQUESTS, _QUICK_REQUESTS = 9, 20_000, 500
_BASE, _PEER = "locks", "pykka"
_EXAMPLES = """  python calls.py                       half a minute or so
  python calls.py --quick               does everything work? a few seconds
  python calls.py --only locks uses --rounds 31
"""


@attrs.frozen
class Case:
    """Who asks and how, and how many times a bare hand-off it may take."""

    name: str
    title: str
    target: str
    at_most: float | None = None


CASES = [
    Case("locks", "two threads, two locks (the floor)", "peers.requests:locks"),
    Case("queue.Queue", "two threads, two queue.Queue", "peers.requests:queues"),
    Case("pykka", "pykka, ask", "peers.pykka_ask:ask"),
    Case("uses", "Minions, Uses", "peers.requests:uses", 1.5),
    Case("outside", "Minions, System.call", "peers.requests:outside"),
    Case("submit", "Minions, submit", "peers.requests:submit"),
]
_NAMES = [case.name for case in CASES]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES, rounds=_ROUNDS)
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what"], [[case.name, case.title] for case in CASES])))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, _NAMES, options.only)
    if _PEER in names and importlib.util.find_spec(_PEER) is None:
        names.remove(_PEER)
        cli.say(f"left out: {_PEER} is not installed (pip install -r requirements.txt)")
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    requests = _QUICK_REQUESTS if options.quick else _REQUESTS
    facts = cli.environment(folder, ["minions-runtime", "pykka"])
    targets = {case.name: case.target for case in CASES}

    def run(name: str) -> Mapping[str, float]:
        with disk.fresh_folder(folder) as own:
            return in_child(Request(targets[name], requests, str(own), timeout_s=options.timeout))

    measured = cli.measure(in_turns(names, rounds, options.seed), run, _described)
    samples = measured.samples
    return cli.tell(
        measured,
        options,
        lines=lambda: _lines(samples, names, facts, rounds, requests),
        as_dict=lambda: _as_dict(measured, names, facts, rounds, options),
        write_csv=lambda path: _write_csv(path, samples),
        draw=lambda path: _draw(path, samples, names, facts),
    )


def _median_us(sample: Sample) -> float:
    return sample.figures["median_s"] * 1e6


def _p99_us(sample: Sample) -> float:
    return sample.figures["p99_s"] * 1e6


def _per_s(sample: Sample) -> float:
    return sample.figures["requests_per_s"]


def _spread(samples: Sequence[Sample], name: str, of: Callable[[Sample], float]) -> Spread | None:
    return spread(list(values(samples, name, of).values()))


def _ratio(samples: Sequence[Sample], name: str, base: str) -> Spread | None:
    """How many times as long a round trip takes, within each round."""
    return ratios(values(samples, name, _median_us), values(samples, base, _median_us))


def _described(sample: Sample) -> str:
    return f"{short(_median_us(sample))} us, {short(_per_s(sample))}/s"


def _lines(
    samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any], rounds: int, requests: int
) -> list[str]:
    rows = []
    for case in CASES:
        trip = _spread(samples, case.name, _median_us)
        if case.name not in names or trip is None:
            continue
        p99, rate = (_spread(samples, case.name, of) for of in (_p99_us, _per_s))
        against = _ratio(samples, case.name, _BASE)
        met = case.at_most is None or against is None or against.median <= case.at_most
        rows.append(
            [
                f"{case.name:<12} {case.title}",
                short(trip.median),
                f"{short(trip.low)} .. {short(trip.high)}",
                short(p99.median if p99 else None),
                short(rate.median if rate else None),
                short(against.median if against else None),
                short(found.median if (found := _ratio(samples, case.name, _PEER)) else None),
                "" if case.at_most is None else f"{'met' if met else 'missed'} (x {_BASE} at most {case.at_most:g})",
            ]
        )
    header = ["request and reply", "median us", "low .. high", "p99 us", "calls/s", f"x {_BASE}", f"x {_PEER}", ""]
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds of {requests:,} requests; medians, ratios of medians taken within each round",
        "",
        *table(header, rows),
    ]


def _as_dict(
    measured: cli.Measured, names: Sequence[str], facts: Mapping[str, Any], rounds: int, options: Namespace
) -> dict[str, Any]:
    found = {}
    for case in CASES:
        spreads = {
            "median_us": _spread(measured.samples, case.name, _median_us),
            "p99_us": _spread(measured.samples, case.name, _p99_us),
            "calls_per_s": _spread(measured.samples, case.name, _per_s),
            f"x_{_BASE}": _ratio(measured.samples, case.name, _BASE),
            f"x_{_PEER}": _ratio(measured.samples, case.name, _PEER),
        }
        if case.name in names:
            found[case.name] = {name: attrs.asdict(each) for name, each in spreads.items() if each is not None}
    return {
        "environment": facts,
        "options": {"rounds": rounds, "seed": options.seed, "quick": options.quick},
        "cases": found,
        "problems": measured.problems,
        "interrupted": measured.interrupted,
    }


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [
            sample.round_number,
            sample.position,
            sample.name,
            f"{_median_us(sample):.3f}",
            f"{_p99_us(sample):.3f}",
            f"{_per_s(sample):.1f}",
        ]
        for sample in samples
        if not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "median_us", "p99_us", "calls_per_s"], rows)


def _draw(path: Path, samples: Sequence[Sample], names: Sequence[str], facts: Mapping[str, Any]) -> None:
    bars = [(name, found) for name in names if (found := _spread(samples, name, _median_us)) is not None]
    cli.draw(path, f"Request and reply, {facts['python']}", "microseconds, median", {"": bars})


if __name__ == "__main__":
    sys.exit(main())

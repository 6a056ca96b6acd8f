"""How long Minions takes to import, to start and stop components, and to go on after kill -9 with messages waiting."""

import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, RunFailed, environment, in_child
from bench.figure import Figure
from bench.samples import Sample, Spread, in_turns, ratios, values
from bench.table import short, table

_ROUNDS, _WAITING, _QUICK_WAITING = 7, 100_000, 2_000
_BARE = "python"
_EXAMPLES = """  python startup.py                         everything: about two minutes
  python startup.py --quick                 does everything work? a few seconds
  python startup.py --only 'import-*' --rounds 21
  python startup.py --only resume --waiting 1000000
"""


@attrs.frozen
class OfCase(Figure):
    """A figure of one case."""

    case: str = attrs.field(kw_only=True)


_MS = ("ms", 1e3)
FIGURES = [
    OfCase("seconds", "python, nothing imported", *_MS, case=_BARE),
    OfCase("seconds", "import attrs, cattrs", *_MS, case="import-peers"),
    OfCase("seconds", "from minions import System", *_MS, at_most=120, case="import-minions"),
    OfCase("start_s", "1 idle component: start", *_MS, case="idle-1"),
    OfCase("stop_s", "1 idle component: stop", *_MS, case="idle-1"),
    OfCase("start_s", "100 idle components: start", *_MS, case="idle-100"),
    OfCase("stop_s", "100 idle components: stop", *_MS, case="idle-100"),
    OfCase("start_s", "1,000 idle components: start", *_MS, at_most=1_000, case="idle-1000"),
    OfCase("stop_s", "1,000 idle components: stop", *_MS, case="idle-1000"),
    OfCase("size_bytes", "1,000 idle components: resident memory each", "KB", 1e-3, at_most=60, case="idle-1000"),
    OfCase("cpu_ratio", "1,000 idle components: of one core", "%", 100, at_most=1, case="idle-1000"),
    OfCase("restart_s", "restart after a crash, among 1,000: to the next life", *_MS, at_most=5, case="restart-1000"),
    OfCase("first_s", "resume after kill -9: to the first message", *_MS, at_most=1_000, case="resume"),
    OfCase("all_s", "resume after kill -9: to the last, committed", *_MS, case="resume"),
]
_NAMES = list(dict.fromkeys(figure.case for figure in FIGURES))
_IMPORTS = {_BARE: "pass", "import-peers": "import attrs, cattrs", "import-minions": "from minions import System"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES)
    parser.add_argument(
        "--waiting",
        type=int,
        metavar="N",
        help=f"messages that wait when the process is killed (default: {_WAITING:,})",
    )
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "what", "unit"], [[each.case, each.title, each.unit] for each in FIGURES])))
        return cli.OK
    cli.output_checked(parser, options)
    if options.waiting is not None and options.waiting < 1:
        parser.error("--waiting must be 1 or more")
    names = cli.chosen(parser, _NAMES, options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _measure(names, options, folder)


def _measure(names: Sequence[str], options: Namespace, folder: Path) -> int:
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    facts = cli.environment(folder, ["minions-runtime", "attrs", "cattrs"])
    runs = Runs(folder, options)
    measured = cli.measure(in_turns(names, rounds, options.seed), runs.run, _described)
    samples = measured.samples
    return cli.tell(
        measured,
        options,
        lines=lambda: _lines(samples, facts, rounds, runs.waiting),
        as_dict=lambda: cli.as_dict(measured, facts, rounds, options, _as_dicts(samples)),
        write_csv=lambda path: _write_csv(path, samples),
        draw=lambda path: _draw(path, samples, facts),
    )


@attrs.define
class Runs:
    """Runs the cases, each in a fresh process."""

    folder: Path
    options: Namespace
    _killed: Path | None = None  # what a killed process left, made once and copied for each run

    @property
    def waiting(self) -> int:
        waiting: int = self.options.waiting or (_QUICK_WAITING if self.options.quick else _WAITING)
        return waiting

    def run(self, name: str) -> Mapping[str, float]:
        if name in _IMPORTS:
            return _import_time(_IMPORTS[name])
        if name == "resume":
            return self._resume()
        if name.startswith("restart-"):
            return self._in_child("peers.minions_startup:restart", int(name.removeprefix("restart-")))
        return self._in_child("peers.minions_startup:idle", int(name.removeprefix("idle-")))

    def _in_child(self, target: str, size: int, left: Path | None = None) -> dict[str, float]:
        with disk.fresh_folder(self.folder) as own:
            if left is not None:
                shutil.copytree(left, own / "measured")
            return in_child(Request(target, size, str(own), timeout_s=self.options.timeout))

    def _resume(self) -> dict[str, float]:
        if self._killed is None:
            own = self.folder / "killed"
            own.mkdir()
            request = Request("peers.minions_startup:fill", self.waiting, str(own), timeout_s=self.options.timeout)
            in_child(request, killed=True)
            self._killed = own / "measured"
        return self._in_child("peers.minions_startup:resume", self.waiting, self._killed)


def _import_time(statement: str) -> dict[str, float]:
    """The life of an interpreter that does nothing else; a first one, not counted, leaves the byte code behind."""
    _interpret(statement)
    start = perf_counter()
    _interpret(statement)
    return {"seconds": perf_counter() - start}


def _interpret(statement: str) -> None:
    command = [sys.executable, "-c", statement]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(done.stderr.strip())


def _spreads(samples: Sequence[Sample]) -> dict[OfCase, Spread]:
    found = {figure: figure.spread(samples, figure.case) for figure in FIGURES}
    return {figure: each for figure, each in found.items() if each is not None}


def _against_bare(samples: Sequence[Sample], figure: OfCase) -> Spread | None:
    if figure.case not in _IMPORTS:
        return None
    return ratios(values(samples, figure.case, figure.of), values(samples, _BARE, figure.of))


def _described(sample: Sample) -> str:
    return ", ".join(f"{short(figure.of(sample))} {figure.unit}" for figure in FIGURES if figure.case == sample.name)


def _lines(samples: Sequence[Sample], facts: Mapping[str, Any], rounds: int, waiting: int) -> list[str]:
    rows = []
    for figure, found in _spreads(samples).items():
        bare = _against_bare(samples, figure)
        rows.append(
            [
                f"{figure.case:<15} {figure.title}",
                f"{short(found.median)} {figure.unit}",
                f"{short(found.low)} .. {short(found.high)}",
                short(bare.median if bare else None),
                "-" if figure.at_most is None else f"at most {figure.at_most:,g}",
                figure.verdict(found),
            ]
        )
    return [
        *cli.environment_lines(facts),
        f"{rounds} rounds, {waiting:,} messages wait at the kill; medians, ratios taken within each round",
        "",
        *table(["startup", "median", "low .. high", f"x {_BARE}", "asked", ""], rows),
    ]


def _as_dicts(samples: Sequence[Sample]) -> list[Mapping[str, Any]]:
    return [
        {
            "case": figure.case,
            "title": figure.title,
            "unit": figure.unit,
            **attrs.asdict(found),
            "at_most": figure.at_most,
            "met": None if figure.at_most is None else found.median <= figure.at_most,
        }
        for figure, found in _spreads(samples).items()
    ]


def _write_csv(path: Path, samples: Sequence[Sample]) -> None:
    rows = [
        [sample.round_number, sample.position, sample.name, figure.title, f"{figure.of(sample):.4f}", figure.unit]
        for sample in samples
        for figure in FIGURES
        if figure.case == sample.name and not sample.problem
    ]
    cli.write_csv(path, ["round", "position", "name", "figure", "value", "unit"], rows)


def _draw(path: Path, samples: Sequence[Sample], facts: Mapping[str, Any]) -> None:
    bars = [(figure.title, found) for figure, found in _spreads(samples).items() if figure.unit == "ms"]
    cli.draw(path, f"Starting, {facts['python']}", "milliseconds", {"": bars})


if __name__ == "__main__":
    sys.exit(main())

"""What the benchmarks share at the command line: arguments, progress, output files, exit codes."""

import argparse
import csv
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import attrs

from bench import disk
from bench.child import RunFailed
from bench.samples import Sample, Spread

OK, FAILED, INTERRUPTED = 0, 1, 130
EXIT_CODES = """exit codes:
  0    everything asked for was measured; whether a target was met does not matter
  1    a run failed, lost a message or took too long, or nothing could be measured
  2    the command line was wrong
  130  interrupted; what had been measured by then was printed
"""


def parser(description: str, examples: str, rounds: int = 7, timeout_s: int = 60) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--rounds", type=_positive, metavar="N", help=f"how often each is run (default: {rounds})")
    made.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the random order within a round (default: 1)"
    )
    made.add_argument("--only", nargs="+", metavar="NAME", help="these only; * and ? match as in file names")
    made.add_argument("--list", action="store_true", help="print the names and what they are, and end")
    made.add_argument(
        "--quick", action="store_true", help="one short round, to see that everything works; no figures to quote"
    )
    made.add_argument(
        "--timeout", type=_positive, default=timeout_s, metavar="SECONDS", help=f"for one run (default: {timeout_s})"
    )
    made.add_argument(
        "--folder", type=Path, metavar="DIR", help="where runs write (default: a temporary folder on a disk)"
    )
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    made.add_argument("--csv", type=Path, metavar="FILE", help="write every single run")
    made.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the medians, as .png, .svg or .pdf; needs matplotlib"
    )
    return made


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def chosen(made: argparse.ArgumentParser, names: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    """The names that match a pattern, in their own order; a pattern without any is a wrong command line."""
    if patterns is None:
        return list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            made.error(f"--only {pattern}: no such name; there are: {', '.join(names)}")
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def output_checked(made: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Finds out before the run, not after it, what cannot be written."""
    for path in (arguments.csv, arguments.plot):
        if path is not None and not path.resolve().parent.is_dir():
            made.error(f"{path}: the folder {path.resolve().parent} does not exist")
    if arguments.plot is not None and arguments.plot.suffix not in {".png", ".svg", ".pdf"}:
        made.error(f"--plot {arguments.plot}: the name must end in .png, .svg or .pdf")
    if arguments.plot is not None and not _installed("matplotlib"):
        say("no plot will be drawn: matplotlib is not installed (pip install matplotlib)")
        arguments.plot = None
    if arguments.folder is not None and not arguments.folder.is_dir():
        made.error(f"--folder {arguments.folder}: no such folder")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@attrs.define
class Measured:
    """What came of a benchmark so far."""

    samples: list[Sample] = attrs.Factory(list)
    interrupted: bool = False

    @property
    def problems(self) -> dict[str, str]:
        return {sample.name: sample.problem for sample in self.samples if sample.problem}

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return INTERRUPTED
        return FAILED if self.problems or not self.samples else OK


def measure(
    turns: Iterable[tuple[int, int, str]],
    run: Callable[[str], Mapping[str, float]],
    describe: Callable[[Sample], str],
) -> Measured:
    """Runs all turns (round, position, name), with progress on stderr. Who fails once is not run again. Ctrl-C ends it early."""
    measured = Measured()
    turns = list(turns)
    rounds = max((round_number for round_number, _, _ in turns), default=0)
    progress = Progress(len(turns))
    try:
        for round_number, position, name in turns:
            if name in measured.problems:
                progress.step("")
                continue
            progress.show(f"round {round_number}/{rounds}  {name}")
            try:
                sample = Sample(round_number, position, name, run(name))
            except RunFailed as failure:
                sample = Sample(round_number, position, name, {}, str(failure))
            measured.samples.append(sample)
            progress.step(
                f"round {round_number}/{rounds}  {name}: {describe(sample) if not sample.problem else 'failed'}"
            )
    except KeyboardInterrupt:
        measured.interrupted = True
    progress.end()
    return measured


class Progress:
    """One line on a terminal, written over and over; elsewhere one line a run. Always on stderr."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._terminal = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self._terminal:
            self._write(text)

    def step(self, text: str) -> None:
        self._done += 1
        if self._terminal:
            self._write(text)
        elif text:
            print(self._line(text), file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._terminal:
            sys.stderr.write("\r\x1b[K")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{self._line(text)}")
        sys.stderr.flush()

    def _line(self, text: str) -> str:
        return f"[{self._done:>{len(str(self._steps))}}/{self._steps}] {text}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environment(folder: Path, distributions: Iterable[str]) -> dict[str, Any]:
    """What a figure depends on beside the code."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "filesystem": disk.filesystem(folder),
        "fsync_us": round(disk.fsync_us(folder)),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {name: version for name in distributions if (version := _version(name))},
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def environment_lines(facts: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [
        f"{facts['python']} on {facts['system']}, {facts['cpus']} CPUs, load {facts['load_average']}",
        f"{facts['filesystem']}, fsync of 4 KiB {facts['fsync_us']} us" + (f"; {versions}" if versions else ""),
    ]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def draw(path: Path, title: str, unit: str, panels: Mapping[str, Sequence[tuple[str, Spread]]]) -> None:
    """See `bench.plot.draw`; matplotlib is imported only here."""
    importlib.import_module("bench.plot").draw(path, title, unit, panels)
    say(f"drawn: {path}")


def as_dict(
    measured: Measured,
    facts: Mapping[str, Any],
    rounds: int,
    options: argparse.Namespace,
    figures: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What `--json` prints of a benchmark that has figures."""
    return {
        "environment": facts,
        "options": {"rounds": rounds, "seed": options.seed, "quick": options.quick},
        "figures": figures,
        "problems": measured.problems,
        "interrupted": measured.interrupted,
    }


def tell(
    measured: Measured,
    options: argparse.Namespace,
    *,
    lines: Callable[[], Sequence[str]],
    as_dict: Callable[[], Mapping[str, Any]],
    write_csv: Callable[[Path], None],
    draw: Callable[[Path], None] | None = None,
) -> int:
    """Writes, draws and prints what came of a benchmark, as its options say; the exit code. What is not asked for is not made."""
    if options.csv is not None:
        write_csv(options.csv)
    if options.plot is not None and draw is not None:
        draw(options.plot)
    if options.json:
        print_json(as_dict())
    else:
        print("\n".join(lines()))
    print_problems(measured.problems)
    return measured.exit_code


def print_problems(problems: Mapping[str, str]) -> None:
    """What failed, on stderr; the same problem of several names once."""
    by_problem: dict[str, list[str]] = {}
    for name, problem in problems.items():
        by_problem.setdefault(problem, []).append(name)
    for problem, names in by_problem.items():
        say(f"\nfailed: {', '.join(sorted(names))}\n{problem}")

"""Does memory stay bounded? Minions at full speed with one slow consumer, watched from outside, second by second."""

import argparse
import csv
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import attrs
import psutil

from bench import cli, disk
from bench.cells import SIZES, size_text
from bench.child import environment
from bench.table import table

_MARGIN_PERCENT = 5.0
_GRACE_S = 120.0  # to start, and to handle what waits when the time is up
_HEADER = ["second", "rss_bytes", "store_bytes"]
_EXAMPLES = """  python memory.py --minutes 10 --csv memory.csv --plot memory.svg
  python memory.py --minutes 3 --size 100000
  python memory.py --quick                         does everything work? a few seconds
"""


@attrs.frozen
class Moment:
    second: float
    rss_bytes: int
    store_bytes: int  # of all files in the state folder


@attrs.frozen
class Verdict:
    """Medians of the middle and of the last third of a run."""

    middle_bytes: float
    last_bytes: float
    margin_percent: float

    @property
    def growth_percent(self) -> float:
        return (self.last_bytes / self.middle_bytes - 1) * 100

    @property
    def bounded(self) -> bool:
        return self.growth_percent <= self.margin_percent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    cli.output_checked(parser, options)
    seconds = 3.0 if options.quick else options.minutes * 60
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        facts = cli.environment(folder, ["minions-runtime"])
        try:
            moments, counts = watched(folder, seconds, options.size, every_s=0.1 if options.quick else 1.0)
        except RunFailed as failure:
            cli.say(f"failed: {failure}")
            return cli.FAILED
    if options.csv is not None:
        write(options.csv, moments)
    if options.plot is not None:
        draw(
            options.plot, moments, f"Memory at full speed with one slow consumer, CPython {facts['python'].split()[-1]}"
        )
    verdict = judged(moments, options.margin)
    if options.json:
        cli.print_json({"environment": facts, **as_dict(moments, counts, verdict, seconds)})
    else:
        print("\n".join([*cli.environment_lines(facts), *lines(moments, counts, verdict, seconds, options.size)]))
    return cli.OK if verdict.bounded or options.quick else cli.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"examples:\n{_EXAMPLES}\nexit codes: 0 bounded, 1 it grew or the run failed, 2 wrong command line",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the sources send (default: 10)")
    parser.add_argument(
        "--size", type=int, choices=SIZES, default=SIZES[0], help="of a message in bytes (default: 100)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=_MARGIN_PERCENT,
        metavar="PERCENT",
        help=f"by which the last third's median may exceed the middle third's (default: {_MARGIN_PERCENT:g})",
    )
    parser.add_argument("--quick", action="store_true", help="three seconds, to see that everything works; no verdict")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where it writes (default: a temporary folder on a disk)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write every moment")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it, as .png, .svg or .pdf; needs matplotlib")
    return parser


class RunFailed(Exception):
    """The watched process ended badly or too late; the text has the end of what it printed."""


def watched(folder: Path, seconds: float, size_bytes: int, every_s: float) -> tuple[list[Moment], dict[str, int]]:
    """Blocks until the run has ended.

    Raises:
        RunFailed: see there.
    """
    printed = folder / "printed.txt"
    command = [sys.executable, "-m", "peers.minions_memory", str(folder), str(seconds), str(size_bytes)]
    moments: list[Moment] = []
    with printed.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env=environment())
        try:
            process, start = psutil.Process(child.pid), monotonic()
            while child.poll() is None and monotonic() - start < seconds + _GRACE_S:
                moments += _moment(process, folder, monotonic() - start)
                sleep(every_s)
        finally:
            child.kill()
            child.wait()
    answer = folder / "counts.json"
    if child.returncode or not answer.exists():
        raise RunFailed("\n".join(printed.read_text(errors="replace").splitlines()[-40:]) or "it did not end in time")
    return [moment for moment in moments if moment.second <= seconds], json.loads(answer.read_text())


def _moment(process: psutil.Process, folder: Path, second: float) -> list[Moment]:
    try:
        rss_bytes = process.memory_info().rss
    except psutil.NoSuchProcess:
        return []
    return [Moment(second, rss_bytes, sum(_size(file) for file in folder.rglob("*")))]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # gone since it was listed
        return 0


def judged(moments: Sequence[Moment], margin_percent: float = _MARGIN_PERCENT) -> Verdict:
    third = len(moments) // 3
    middle, last = moments[third : 2 * third], moments[2 * third :]
    return Verdict(
        median(moment.rss_bytes for moment in middle), median(moment.rss_bytes for moment in last), margin_percent
    )


def lines(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict, seconds: float, size_bytes: int
) -> list[str]:
    said = "bounded" if verdict.bounded else "NOT BOUNDED"
    head = f"{seconds:g} s, messages of {size_text(size_bytes)}: {said} (at most {verdict.margin_percent:g} % more)"
    return ["", *table([head, ""], rows(moments, counts, verdict, seconds))]


def rows(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict, seconds: float
) -> list[tuple[str, str]]:
    return [
        ("resident memory, middle third", _mb(verdict.middle_bytes)),
        ("resident memory, last third", f"{_mb(verdict.last_bytes)} ({verdict.growth_percent:+.1f} %)"),
        ("resident memory, at most", _mb(max(moment.rss_bytes for moment in moments))),
        ("files of the state, at most", _mb(max(moment.store_bytes for moment in moments))),
        *((f"messages a second, {name}", f"{count / seconds:,.0f}") for name, count in sorted(counts.items())),
    ]


def as_dict(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict, seconds: float
) -> dict[str, object]:
    return {
        "seconds": seconds,
        "bounded": verdict.bounded,
        "growth_percent": verdict.growth_percent,
        "margin_percent": verdict.margin_percent,
        "middle_rss_bytes": verdict.middle_bytes,
        "last_rss_bytes": verdict.last_bytes,
        "largest_rss_bytes": max(moment.rss_bytes for moment in moments),
        "largest_store_bytes": max(moment.store_bytes for moment in moments),
        "messages": counts,
    }


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def write(path: Path, moments: Sequence[Moment]) -> None:
    cli.write_csv(path, _HEADER, [[f"{each.second:.1f}", each.rss_bytes, each.store_bytes] for each in moments])


def read(path: Path) -> list[Moment]:
    """What `write` wrote.

    Raises:
        ValueError: it is not such a file.
    """
    with path.open(newline="") as file:
        found = csv.DictReader(file)
        if found.fieldnames != _HEADER:
            raise ValueError(f"{path} was not written by memory.py --csv: its columns are {found.fieldnames}")
        return [Moment(float(row["second"]), int(row["rss_bytes"]), int(row["store_bytes"])) for row in found]


def draw(path: Path, moments: Sequence[Moment], title: str) -> None:
    minutes = [moment.second / 60 for moment in moments]
    series = {
        "resident memory": [moment.rss_bytes / 1e6 for moment in moments],
        "files of the state": [moment.store_bytes / 1e6 for moment in moments],
    }
    importlib.import_module("bench.curve").draw(path, title, "minutes", "MB", minutes, series)
    cli.say(f"drawn: {path}")


if __name__ == "__main__":
    sys.exit(main())

"""Does memory stay bounded? Minions at full speed with one slow consumer, which notes second by second what it takes.

Two things are judged: how what is in use grows with the messages, and resident memory, of which the C allocator holds a part
free. README.md has the rules and their reasons.
"""

import argparse
import enum
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import attrs

from bench import cli, disk, footprint
from bench.cells import SIZES, size_text
from bench.child import environment
from bench.footprint import Moment
from bench.table import table
from bench.trend import BATCHES, Trend, trend

MARGIN_PERCENT = 5.0
KEPT_RATIO = 1 / 10_000  # of the bytes sent: it stands for every ten-thousandth message
KEPT_BLOCKS_A_MESSAGE = (
    1e-4  # the slow consumer handles one message in 2,000 to 4,000: an object for each of those is too much
)
_GRACE_S = 120.0  # to start, and to handle what waits when the time is up
_EXAMPLES = """  python memory.py --minutes 10 --csv memory.csv --plot memory.svg
  python memory.py --minutes 3 --size 100000
  python memory.py --quick                         does everything work? a few seconds
"""


class Finding(enum.Enum):
    """What a rule says of a run."""

    HELD = "held"
    UNSETTLED = "not settled"
    BROKEN = "BROKEN"


@attrs.frozen
class Rule:
    """One rule, what was found, and what it says."""

    text: str
    figure: str
    finding: Finding


@attrs.frozen
class Verdict:
    """What the rules say of a run, its first third left out."""

    rules: tuple[Rule, ...]

    @property
    def bounded(self) -> bool:
        return all(rule.finding is Finding.HELD for rule in self.rules)

    @property
    def text(self) -> str:
        findings = {rule.finding for rule in self.rules}
        if Finding.BROKEN in findings:
            return "NOT BOUNDED"
        return "bounded" if self.bounded else "not settled: the run was too short, or too uneven"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    cli.output_checked(parser, options)
    seconds = 3.0 if options.quick else options.minutes * 60
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        facts = cli.environment(folder, ["minions-runtime"])
        try:
            moments, counts = watched(folder, seconds, options.size, every_s=0.05 if options.quick else 1.0)
        except RunFailed as failure:
            cli.say(f"failed: {failure}")
            return cli.FAILED
    if options.csv is not None:
        footprint.write(options.csv, moments)
    if options.plot is not None:
        draw(
            options.plot, moments, f"Memory at full speed with one slow consumer, CPython {facts['python'].split()[-1]}"
        )
    verdict = None if options.quick else judged(moments, options.margin, options.size)
    if options.json:
        cli.print_json({"environment": facts, **as_dict(moments, counts, verdict, seconds)})
    else:
        print("\n".join([*cli.environment_lines(facts), *lines(moments, counts, verdict, seconds, options.size)]))
    return cli.OK if verdict is None or verdict.bounded else cli.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"examples:\n{_EXAMPLES}\nexit codes: 0 bounded, 1 not bounded, not settled or failed, 2 wrong command line",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the sources send (default: 10)")
    parser.add_argument(
        "--size", type=int, choices=SIZES, default=SIZES[0], help="of a message in bytes (default: 100)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=MARGIN_PERCENT,
        metavar="PERCENT",
        help=f"by which the last third's median of resident memory may exceed the middle third's (default: {MARGIN_PERCENT:g})",
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
    arguments = [str(folder), str(seconds), str(size_bytes), str(every_s)]
    with printed.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "peers.minions_memory", *arguments], stdout=output, stderr=output, env=environment()
        )
        try:
            child.wait(seconds + _GRACE_S)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"it did not end in {seconds + _GRACE_S:g} s") from None
        finally:
            child.kill()
            child.wait()
    answer = folder / "counts.json"
    if child.returncode or not answer.exists():
        raise RunFailed(
            "\n".join(printed.read_text(errors="replace").splitlines()[-40:]) or "it ended without an answer"
        )
    moments = footprint.read(folder / "moments.csv")
    return [moment for moment in moments if moment.second <= seconds], json.loads(answer.read_text())


def judged(moments: Sequence[Moment], margin_percent: float = MARGIN_PERCENT, size_bytes: int = SIZES[0]) -> Verdict:
    """What the rules say of a run with messages of that size.

    Raises:
        ValueError: the run is too short for any, or sent nothing.
    """
    third = len(moments) // 3
    middle, last = moments[third : 2 * third], moments[2 * third :]
    if third < BATCHES:
        raise ValueError(f"{len(moments)} moments are too few to judge by; {3 * BATCHES} are the least")
    messages = [moment.messages for moment in moments[third:]]
    kept = trend(messages, [moment.kept_bytes for moment in moments[third:]])
    blocks = trend(messages, [moment.blocks for moment in moments[third:]])
    growth = (median(_resident(last)) / median(_resident(middle)) - 1) * 100
    return Verdict(
        (
            Rule(
                f"bytes in use grow by at most {size_bytes * KEPT_RATIO:g} a message",
                f"{kept.slope:+.4f} ± {kept.uncertainty:.4f}",
                _compared(kept, size_bytes * KEPT_RATIO),
            ),
            Rule(
                f"objects in use grow by at most {KEPT_BLOCKS_A_MESSAGE * 1e6:g} a million messages",
                f"{blocks.slope * 1e6:+.0f} ± {blocks.uncertainty * 1e6:.0f}",
                _compared(blocks, KEPT_BLOCKS_A_MESSAGE),
            ),
            Rule(
                f"at most {margin_percent:g} % more resident memory in the last third than in the middle one",
                f"{growth:+.1f} %",
                Finding.HELD if growth <= margin_percent else Finding.BROKEN,
            ),
        )
    )


def _kept(moments: Sequence[Moment]) -> list[int]:
    return [moment.kept_bytes for moment in moments]


def _resident(moments: Sequence[Moment]) -> list[int]:
    return [moment.resident_bytes for moment in moments]


def _compared(found: Trend, bound: float) -> Finding:
    """Held only where the whole range of what the slope may be lies below the bound: noise is no excuse."""
    if found.most <= bound:
        return Finding.HELD
    return Finding.BROKEN if found.least > bound else Finding.UNSETTLED


def lines(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict | None, seconds: float, size_bytes: int
) -> list[str]:
    said = "no verdict on so short a run" if verdict is None else verdict.text
    return [
        "",
        *table(
            [f"{seconds:g} s, messages of {size_text(size_bytes)}: {said}", "", ""],
            rows(moments, counts, verdict, seconds),
        ),
    ]


def rows(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict | None, seconds: float
) -> list[tuple[str, str, str]]:
    """Three columns: what, how much, and what a rule says of it."""
    third = len(moments) // 3
    thirds = (moments[:third], moments[third : 2 * third], moments[2 * third :])

    def by_third(values: Sequence[Sequence[int]]) -> str:
        return ", ".join(f"{median(each) / 1e6:.1f}" for each in values) + " MB"

    return [
        *((rule.text, rule.figure, rule.finding.value) for rule in (verdict.rules if verdict is not None else ())),
        ("in use, by thirds of the run", by_third([_kept(each) for each in thirds]), ""),
        (
            "held free by the allocator, by thirds",
            by_third([[moment.free_bytes for moment in each] for each in thirds]),
            "",
        ),
        (
            "resident memory, by thirds",
            by_third([_resident(each) for each in thirds]),
            "",
        ),
        ("resident memory, at most", _mb(max(_resident(moments))), ""),
        ("files of the state, at most", _mb(max(moment.store_bytes for moment in moments)), ""),
        *((f"messages a second, {name}", f"{count / seconds:,.0f}", "") for name, count in sorted(counts.items())),
    ]


def as_dict(
    moments: Sequence[Moment], counts: Mapping[str, int], verdict: Verdict | None, seconds: float
) -> dict[str, object]:
    return {
        "seconds": seconds,
        "bounded": None if verdict is None else verdict.bounded,
        "rules": [] if verdict is None else [[each.text, each.figure, each.finding.value] for each in verdict.rules],
        "largest_kept_bytes": max(_kept(moments)),
        "largest_resident_bytes": max(_resident(moments)),
        "largest_store_bytes": max(moment.store_bytes for moment in moments),
        "messages": counts,
    }


def _mb(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def draw(path: Path, moments: Sequence[Moment], title: str) -> None:
    minutes = [moment.second / 60 for moment in moments]
    series = {
        "resident memory": [moment.resident_bytes / 1e6 for moment in moments],
        "in use": [moment.kept_bytes / 1e6 for moment in moments],
        "files of the state": [moment.store_bytes / 1e6 for moment in moments],
    }
    importlib.import_module("bench.curve").draw(path, title, "minutes", "MB", minutes, series)
    cli.say(f"drawn: {path}")


if __name__ == "__main__":
    sys.exit(main())

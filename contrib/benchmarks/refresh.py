"""Measures everything that docs/performance.md shows, and writes its tables and pictures anew."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matrix
import memory
import versions
from bench import cells, cli, disk, footprint, report
from bench.cells import Results, size_text
from bench.interpreters import Interpreter, Unusable
from bench.samples import Spread
from bench.table import short

_DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
_PAGE = "performance.md"
_EXAMPLES = """  python refresh.py results                          measures into results/, then writes the page: about an hour
  python refresh.py results --rounds 3 --minutes 3   faster, with more noise
  python refresh.py results --again                  the page only, from what was measured before
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"examples:\n{_EXAMPLES}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="a folder for what is measured; made if need be")
    parser.add_argument("--again", action="store_true", help="measure nothing: take the results that are there")
    parser.add_argument("--rounds", type=int, default=matrix.ROUNDS, help=f"of the matrix (default: {matrix.ROUNDS})")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the memory run (default: 10)")
    parser.add_argument("--python", nargs="+", default=[], metavar="PYTHON", help="as for versions.py")
    parser.add_argument("--quick", action="store_true", help="does everything work? no figures to quote")
    parser.add_argument(
        "--docs", type=Path, default=_DOCS, help="the folder of the page (default: that of this project)"
    )
    options = parser.parse_args(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    if not options.again:
        code = measure(options)
        if code != cli.OK:
            cli.say(f"{_PAGE} was left as it is")
            return code
    try:
        write_page(options.docs, options.results)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"nothing to write the page from, or into: {error}")
    if options.quick or memory.judged(footprint.read(options.results / "memory.csv")).bounded:
        return cli.OK
    cli.say("the page was written, and says that memory did not stay bounded, or that this is not settled")
    return cli.FAILED


def measure(options: argparse.Namespace) -> int:
    """Blocks for as long as it takes; the exit code of what failed, if something did."""
    quick = ["--quick"] if options.quick else []
    try:
        with disk.fresh_folder(disk.real_disk()) as folder:
            (folder / "memory").mkdir()
            _memory(folder / "memory", options)
            made = list(versions.environments(options.python or versions.all_found(), folder))
            interpreters = matrix.looked_at_all(made)
            _write_json(options.results / "facts.json", _facts(interpreters, folder))
            arguments = [
                "--rounds",
                str(1 if options.quick else options.rounds),
                "--csv",
                str(options.results / "matrix.csv"),
            ]
            return matrix.main([*arguments, "--python", *made, *quick])
    except (memory.RunFailed, Unusable) as error:
        cli.say(f"failed: {error}")
        return cli.FAILED


def _memory(folder: Path, options: argparse.Namespace) -> None:
    seconds = 3.0 if options.quick else options.minutes * 60
    cli.say(f"memory: {seconds:g} seconds at full speed")
    moments, counts = memory.watched(folder, seconds, cells.SIZES[0], every_s=0.05 if options.quick else 1.0)
    footprint.write(options.results / "memory.csv", moments)
    _write_json(options.results / "memory.json", {"seconds": seconds, "counts": counts})


def _facts(interpreters: Sequence[Interpreter], folder: Path) -> dict[str, Any]:
    facts = cli.environment(folder, [])
    names = ["pykka", "huey", "persist-queue", "dbos", "orjson"]
    return {
        "cpus": facts["cpus"],
        "filesystem": facts["filesystem"],
        "fsync_us": facts["fsync_us"],
        "pythons": [each.version for each in interpreters],
        "versions": {name: interpreters[0].installed[name] for name in names if name in interpreters[0].installed},
    }


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


# ---------------------------------------------------------------------------------------------------- the page
def write_page(docs: Path, results: Path) -> None:
    """Replaces what stands between the marks of the page, and draws its pictures.

    Raises:
        FileNotFoundError: no results there, or no page.
        ValueError: the page has lost a mark, or a file of results is damaged.
    """
    measured = cells.read(results / "matrix.csv")
    facts = json.loads((results / "facts.json").read_text())
    moments = footprint.read(results / "memory.csv")
    told = json.loads((results / "memory.json").read_text())
    first = measured.only(measured.pythons[0])
    page = docs / _PAGE
    text = page.read_text()
    for mark, lines in {
        "machine": _machine(facts, measured),
        "summary": _summary(measured),
        "targets": report.targets_page(measured),
        "rates": report.rates_page(first, first.pythons[0]),
        "memory": _memory_page(moments, told),
    }.items():
        text = _between_marks(text, mark, lines)
    page.write_text(text)
    report.plot(docs / "performance-matrix.svg", first, report.title(first))
    report.plot(docs / "performance-versions.svg", measured, "The same on several versions of CPython, one pair")
    memory.draw(docs / "performance-memory.svg", moments, "Memory at full speed, with one slow consumer")


def _between_marks(text: str, mark: str, lines: Sequence[str]) -> str:
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found and found_end):
        raise ValueError(f"{_PAGE} has no {begin.strip()} with its {end}")
    return "\n".join([before + begin, *lines, "", end + after])


def _machine(facts: Mapping[str, Any], measured: Results) -> list[str]:
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    cores = {1: "one core", 2: "two cores", 4: "four cores"}.get(facts["cpus"], f"{facts['cpus']} cores")
    machine = f"A virtual machine with {cores}, {facts['filesystem']} on a disk whose fsync of 4 KiB takes {facts['fsync_us']} µs"
    return [f"{machine}; CPython {', '.join(facts['pythons'])}; {libraries}. {measured.rounds} rounds."]


def _summary(measured: Results) -> list[str]:
    """What each target came to with 100 B and one pair, and over all that was measured."""
    small = [each for each in measured.settings if each.size_bytes == 100 and not each.busy]
    lines = ["| ratio | asked | 100 B, one pair, idle: | reached in |", "|---|---|---|---|"]
    for target in cells.TARGETS:
        ours = [f"{each.python}: {_short(measured.target(each, target, 1))}" for each in small]
        all_of = [
            found
            for setting in measured.settings
            for pairs in measured.pairs
            if (found := measured.target(setting, target, pairs)) is not None
        ]
        reached = sum(target.met(found.median) for found in all_of)
        lines.append(f"| {target.text} | {target.asked} | {', '.join(ours)} | {reached} of {len(all_of)} settings |")
    return lines


def _short(found: Spread | None) -> str:
    return short(found.median if found else None)


def _memory_page(moments: Sequence[footprint.Moment], told: Mapping[str, Any]) -> list[str]:
    verdict: memory.Verdict | None
    try:
        verdict = memory.judged(moments)
        said = verdict.text if verdict.bounded else f"**{verdict.text}**"
    except ValueError as error:
        verdict, said = None, f"no verdict: {error}"
    head = f"{told['seconds'] / 60:g} minutes, messages of {size_text(cells.SIZES[0])}"
    rows = memory.rows(moments, told["counts"], verdict, told["seconds"])
    return [f"| {head} | {said} | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    sys.exit(main())

"""What is shown of a matrix: tables for a terminal, tables for a page, plots."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import cli
from bench.cells import TARGETS, Results, Setting, base_of
from bench.contender import Contender
from bench.samples import Spread
from bench.table import short, table

_LABELS = {
    "SimpleQueue": "threads, SimpleQueue (ceiling)",
    "queue.Queue": "threads, queue.Queue",
    "pykka": "pykka tell",
    "minions": "Minions, not durable",
    "dbos": "DBOS on SQLite",
    "persist-queue": "persist-queue",
    "huey": "huey on SQLite",
    "sqlite3-full": "sqlite3 by hand, FULL",
    "sqlite3": "sqlite3 by hand, NORMAL",
    "minions-full": "Minions, FULL",
    "minions-durable": "Minions, NORMAL",
}


def title(results: Results) -> str:
    return f"Messages a second on CPython {', '.join(results.pythons)}"


def lines(results: Results) -> list[str]:
    """Everything for a terminal: a table for each setting, and the targets."""
    made = [f"{results.rounds} rounds; medians, ratios taken within each round"]
    for setting in results.settings:
        rows = [_rate_row(results, setting, contender) for contender in results.contenders([setting])]
        header = [f"{setting.python}, {setting.title}"]
        for pairs in results.pairs:
            header += [f"{pairs} pair{'s' * (pairs > 1)}, msg/s", "low .. high", "x base"]
        made += ["", *table([*header, "base"], rows)]
    made += ["", *_targets(results)]
    return made


def _rate_row(results: Results, setting: Setting, contender: Contender) -> list[str]:
    row = [_LABELS[contender.name]]
    for pairs in results.pairs:
        found = results.spread(setting, contender.name, pairs) if _has(contender, pairs) else None
        against = results.ratio(setting, contender.name, base_of(contender), pairs) if found else None
        row += [
            short(found.median if found else None),
            f"{short(found.low)} .. {short(found.high)}" if found else "-",
            short(against.median if against else None),
        ]
    return [*row, base_of(contender)]


def _has(contender: Contender, pairs: int) -> bool:
    return contender.several_pairs or pairs == 1


def _targets(results: Results) -> list[str]:
    header = ["targets", *(f"{target.text} ({target.asked})" for target in TARGETS)]
    rows = []
    for setting in results.settings:
        for pairs in results.pairs:
            ratios = [results.target(setting, target, pairs) for target in TARGETS]
            if any(ratios):
                verdicts = [_verdict(target.met, ratio) for target, ratio in zip(TARGETS, ratios, strict=True)]
                rows.append([f"{setting.python}, {setting.title}, {pairs} pair{'s' * (pairs > 1)}", *verdicts])
    return table(header, rows) if rows else []


def _verdict(met: Any, ratio: Spread | None) -> str:
    return "-" if ratio is None else f"{short(ratio.median)} {'met' if met(ratio.median) else 'missed'}"


def rates_page(results: Results, python: str) -> list[str]:
    """A table in Markdown for one Python: thousands of messages a second, with the spread of the rounds."""
    settings = [setting for setting in results.settings if setting.python == python]
    made = []
    for setting in settings:
        header = ["", *(f"{pairs} pair{'s' * (pairs > 1)}" for pairs in results.pairs), "x base, 1 pair", "base"]
        rows = []
        for contender in results.contenders([setting]):
            row = [_LABELS[contender.name]]
            for pairs in results.pairs:
                found = results.spread(setting, contender.name, pairs) if _has(contender, pairs) else None
                row.append(f"{short(found.median)} ({short(found.low)} to {short(found.high)})" if found else "")
            against = results.ratio(setting, contender.name, base_of(contender), 1)
            rows.append([*row, short(against.median if against else None), _LABELS[base_of(contender)]])
        made += ["", f"**{setting.title}**, messages/s:", "", *_markdown(header, rows)]
    return made[1:]


def targets_page(results: Results) -> list[str]:
    """A table in Markdown of the ratios that are asked for; bold where they are reached."""
    header = ["Python", "message", "pairs", *(f"{target.text} ({target.asked})" for target in TARGETS)]
    rows = []
    for setting in results.settings:
        for pairs in results.pairs:
            row = []
            for target in TARGETS:
                found = results.target(setting, target, pairs)
                text = short(found.median if found else None)
                row.append(f"**{text}**" if found and target.met(found.median) else text)
            rows.append([setting.python, setting.title, str(pairs), *row])
    return _markdown(header, rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_markdown_row(header), "|---" * len(header) + "|", *map(_markdown_row, rows)]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(path: Path, results: Results, heading: str) -> None:
    """One Python: a dot for each number of pairs. Several: a panel for one pair, a dot for each Python."""
    dots = importlib.import_module("bench.dots")
    several = len(results.pythons) > 1
    settings: dict[tuple[bool, int], Setting] = {}
    for each in results.settings:
        settings.setdefault((each.busy, each.size_bytes), each)  # of the first Python: the ratios are its own
    columns = len({size for _, size in settings})
    panels = [
        dots.Panel(setting.title, _rows(dots, results, setting, several=several))
        for _, setting in sorted(settings.items())
    ]
    dots.draw(path, heading, "CPython" if several else "pairs", "messages/s", columns, panels)
    cli.say(f"drawn: {path}")


def _rows(dots: Any, results: Results, setting: Setting, *, several: bool) -> list[Any]:
    rows = []
    pairs = min(results.pairs)
    alike = [each for each in results.settings if (each.busy, each.size_bytes) == (setting.busy, setting.size_bytes)]
    shown = set.intersection(*({each.name for each in results.contenders([one])} for one in alike))
    for contender in results.contenders([setting]):
        if contender.name not in shown:
            continue
        if several:
            found = {each.python: results.spread(each, contender.name, pairs) for each in alike}
        else:
            found = {
                str(number): results.spread(setting, contender.name, number)
                for number in results.pairs
                if _has(contender, number)
            }
        against = results.ratio(setting, contender.name, base_of(contender), pairs)
        rows.append(
            dots.Row(
                _LABELS[contender.name],
                contender.name.startswith("minions"),
                contender.group,
                {variant: each for variant, each in found.items() if each is not None},
                f"x {short(against.median)}" if against and contender.name != base_of(contender) else "",
            )
        )
    return rows

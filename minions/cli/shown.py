"""How things are shown: tables, with rich where it is installed and there is a terminal, and figures for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal

__all__ = [
    "bytes_text",
    "duration_text",
    "has_rich",
    "latency_text",
    "print_json",
    "print_table",
    "printable",
    "rich_table",
    "sparkline",
    "table_lines",
]

_BARS = "▁▂▃▄▅▆▇█"
_LEAST_WIDTH = 12  # of a column whose text may be folded, in characters
_BETWEEN = 3  # characters between two columns


def has_rich() -> bool:
    """Whether tables are drawn by rich: it is there, and somebody looks."""
    return sys.stdout is not None and sys.stdout.isatty() and find_spec("rich") is not None


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def printable(text: str) -> str:
    """Text for a terminal: what others have written must not move the cursor."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table. A column whose name begins with ``>`` has its figures at the right."""
    if has_rich():
        from rich.console import Console

        console = Console()
        console.print(rich_table(columns, rows, console.width))
        return
    for line in table_lines(columns, rows):
        print(line)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[object]], width: int | None = None) -> Any:
    """The same as an object of rich's.

    Args:
        width: of the terminal, in characters: the last columns are left out that find no room there. None: all are shown.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row] for row in rows]
    widths = [max(map(len, (column.lstrip(">"), *texts))) for column, *texts in zip(columns, *cells, strict=True)]
    least = [
        size if column.startswith(">") else min(size, _LEAST_WIDTH)
        for column, size in zip(columns, widths, strict=True)
    ]
    shown = len(columns)
    while width is not None and shown > 1 and sum(least[:shown]) + _BETWEEN * shown > width:
        shown -= 1
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column, size in zip(columns[:shown], least, strict=False):
        right = column.startswith(">")
        justify: Literal["right", "left"] = "right" if right else "left"
        table.add_column(column.lstrip(">"), justify=justify, no_wrap=right, overflow="fold", min_width=size)
    for row in cells:
        table.add_row(*row[:shown])
    return table


def table_lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The same as lines of plain text."""
    cells = [[printable(str(cell)).replace("\n", " ") for cell in row] for row in rows]
    names = [column.lstrip(">") for column in columns]
    widths = [max(len(line[place]) for line in [names, *cells]) for place in range(len(columns))]
    lines = []
    for line in [names, *cells]:
        parts = [
            text.rjust(width) if column.startswith(">") else text.ljust(width)
            for text, width, column in zip(line, widths, columns, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def duration_text(seconds: float | None) -> str:
    """Seconds for people: ``0.4s``, ``12s``, ``3m05s``, ``4h12m``, ``9d03h``; empty for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3_600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3_600}h{whole % 3_600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3_600:02}h"


def latency_text(times: dict[str, float], which: str) -> str:
    """One of the times of a histogram for people: ``340us``, ``1.2ms``, ``3.4s``; empty where nothing was measured."""
    seconds = times[which]
    if not times["count"]:
        return ""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    return f"{seconds * 1e3:.1f}ms" if seconds < 1 else duration_text(seconds)


def sparkline(values: Iterable[float]) -> str:
    """One character for each value, the highest of them full."""
    values = list(values)
    most = max(values, default=0.0)
    if most <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round(max(0.0, value) / most * 7)] for value in values)


def bytes_text(size_bytes: float | None) -> str:
    """A size for people: ``512 B``, ``3.4 MB``; empty for None."""
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} TB"

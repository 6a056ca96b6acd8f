"""Small multiples: one panel a setting, one line a contender, one dot a variant. Imported only where matplotlib is."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from bench.samples import Spread

_OURS, _PEER = ["#fdae6b", "#f16913", "#a63603"], ["#9ecae1", "#4292c6", "#08519c"]
_MARKERS = ["o", "s", "D"]
_LEAST = 1.0  # where the line of a run that did not end in time begins: a logarithmic axis has no 0


@attrs.frozen
class Row:
    """One line of a panel."""

    label: str
    ours: bool
    group: str
    dots: Mapping[str, Spread]  # by variant
    note: str = ""  # to the right of the panel


@attrs.frozen
class Panel:
    title: str
    rows: Sequence[Row]


def draw(path: Path, title: str, legend: str, unit: str, columns: int, panels: Sequence[Panel]) -> None:
    """Writes `path`, in the format that its suffix names; `columns` panels side by side, all on the same logarithmic axis."""
    with mpl.rc_context({"svg.hashsalt": "minions", "svg.fonttype": "none", "font.size": 8.5}):
        figure = _figure(title, legend, unit, columns, panels)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})


def _count(value: float, _position: int) -> str:
    """1,000 as 1k: short enough for every decade to have its label."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _figure(title: str, legend: str, unit: str, columns: int, panels: Sequence[Panel]) -> Figure:
    lines = -(-len(panels) // columns)
    height = max(len(panel.rows) for panel in panels) * 0.27 + 0.75
    figure = Figure(figsize=(1.6 + 3.4 * columns, 0.9 + height * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    variants = list(dict.fromkeys(variant for panel in panels for row in panel.rows for variant in row.dots))
    for number, axis in enumerate(grid.flat):
        if number >= len(panels):
            axis.set_visible(False)
            continue
        _panel(axis, panels[number], variants, labelled=number % columns == 0)
        if number >= len(panels) - columns:
            axis.set_xlabel(unit)
    if len(variants) > 1:
        handles = [
            mpl.lines.Line2D([], [], linestyle="", marker=_MARKERS[index % 3], color=_OURS[index % 3], label=variant)
            for index, variant in enumerate(variants)
        ]
        figure.legend(handles=handles, title=legend, loc="outside upper right", ncols=len(variants), frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10.5)
    return figure


def _panel(axis: Axes, panel: Panel, variants: Sequence[str], *, labelled: bool) -> None:
    for position, row in enumerate(panel.rows):
        colours = _OURS if row.ours else _PEER
        if row.ours:
            axis.axhspan(position - 0.5, position + 0.5, color="#fff3e6", zorder=0)
        for index, variant in enumerate(variants):
            found = row.dots.get(variant)
            if found is not None and found.median > 0:
                axis.plot(
                    [found.low or _LEAST, found.high], [position] * 2, color=colours[index % 3], linewidth=1, alpha=0.6
                )
                marker = _MARKERS[index % 3]
                axis.plot(found.median, position, marker, color=colours[index % 3], markersize=5, alpha=0.9)
        axis.annotate(
            row.note,
            (1.01, position),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=7.5,
            fontweight="bold" if row.ours else "normal",
        )
    for position in range(1, len(panel.rows)):
        if panel.rows[position].group != panel.rows[position - 1].group:
            axis.axhline(position - 0.5, color="0.5", linewidth=0.8)
    axis.set_yticks(range(len(panel.rows)), [row.label for row in panel.rows] if labelled else [""] * len(panel.rows))
    for text, row in zip(axis.get_yticklabels(), panel.rows, strict=True):
        text.set_fontweight("bold" if row.ours else "normal")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(_count))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(len(panel.rows) - 0.5, -0.5)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", which="both", labelbottom=True, labelsize=7)
    axis.set_title(panel.title, loc="left", fontsize=9)

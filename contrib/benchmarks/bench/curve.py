"""Curves over time. Imported only where matplotlib is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure


def draw(
    path: Path, title: str, x_unit: str, y_unit: str, x: Sequence[float], series: Mapping[str, Sequence[float]]
) -> None:
    """Writes `path`, in the format that its suffix names. Both axes begin at 0: what does not grow looks flat."""
    with mpl.rc_context({"svg.hashsalt": "minions", "svg.fonttype": "none", "font.size": 8.5}):
        figure = Figure(figsize=(7, 2.8), layout="constrained")
        axis = figure.subplots()
        for (label, values), colour in zip(series.items(), ["#f16913", "#41ab5d", "#4292c6"], strict=False):
            axis.plot(x, values, color=colour, label=label, linewidth=1.2)
        axis.set_xlim(0)
        axis.set_ylim(0, 1.25 * max(max(values) for values in series.values()))
        axis.set_xlabel(x_unit)
        axis.set_ylabel(y_unit)
        axis.grid(color="0.9", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, loc="upper right", ncols=len(series))
        axis.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else {})

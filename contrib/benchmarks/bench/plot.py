"""Bars of medians with the smallest and largest value, one panel a group. Imported only where matplotlib is installed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.samples import Spread
from bench.table import short


def draw(path: Path, title: str, unit: str, panels: Mapping[str, Sequence[tuple[str, Spread]]]) -> None:
    """Writes `path`, in the format that its suffix names. Logarithmic, because contenders lie three orders apart."""
    panels = {name: bars for name, bars in panels.items() if bars}
    sizes = [len(bars) for bars in panels.values()]
    figure = Figure(figsize=(9, 1.4 + 0.38 * sum(sizes) + 0.5 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=sizes, squeeze=False)
    for (name, bars), axis in zip(panels.items(), axes[:, 0], strict=True):
        labels = [label for label, _ in bars]
        medians = [spread.median for _, spread in bars]
        errors = [
            [spread.median - spread.low for _, spread in bars],
            [spread.high - spread.median for _, spread in bars],
        ]
        colours = ["tab:orange" if "minions" in label.lower() else "tab:blue" for label in labels]
        drawn = axis.barh(labels, medians, xerr=errors, color=colours, ecolor="0.3", capsize=2)
        axis.bar_label(drawn, [f" {short(value)}" for value in medians], padding=4, fontsize=8)
        axis.set_xscale("log")
        axis.margins(x=0.2)
        axis.invert_yaxis()
        axis.set_title(name, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel(f"{unit}: median, smallest and largest of the rounds")
    figure.suptitle(title)
    figure.savefig(path, dpi=150)

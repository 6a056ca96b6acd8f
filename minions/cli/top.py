"""``minions top``: a running system, live."""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs

from minions.cli.project import add_folder, folder_of
from minions.cli.shown import has_rich, rich_table, table_lines
from minions.cli.status import at_text, headline
from minions.operate.client import Client

__all__ = ["History", "add_arguments", "rows_of", "run"]

_BARS = " ▁▂▃▄▅▆▇█"
_KEPT = 30
_COMPONENTS = ("component", "phase", ">life", ">cpu", "at")
_INBOXES = ("inbox", "filled", ">holds", ">of", ">in/s", ">out/s", "out", ">failed", ">blocked")
_COLOURS = {
    "running": "green",
    "paused": "yellow",
    "starting": "cyan",
    "waiting": "cyan",
    "backoff": "red",
    "stopping": "yellow",
    "abandoned": "bold red",
    "stopped": "dim",
    "finished": "dim",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows a running system and keeps it up to date: components with their CPU, inboxes with how full they are, how many "
        "messages a second come and go, and how that was in the last moments. q or Ctrl-C ends it."
    )
    parser.epilog = "examples:\n  minions top\n  minions top --every 0.5\n  minions top --times 3 --json\n"
    parser.add_argument("--every", metavar="SECONDS", type=_every, default=1.0, help="how often (%(default)g)")
    parser.add_argument("--times", metavar="N", type=int, default=0, help="how many times; 0 for ever")
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    with Client.connect(folder_of(options)) as client, _screen(options) as show:
        history = History()
        shown = 0
        while True:
            history.add(client.ask("status"), time.monotonic())
            show(history)
            shown += 1
            if shown == options.times or _is_asked_to_end(options.every):
                return 0


@attrs.define
class History:
    """The last samples of a system, and what follows from two of them.

    Attributes:
        status: the newest.
        rates: of each inbox, messages in and out a second.
        past: of each inbox, messages out a second in the last samples.
        cpu: of each thread of a component, which share of a core it uses.
    """

    status: dict[str, Any] = attrs.Factory(dict)
    at_s: float = 0.0
    rates: dict[str, tuple[float, float]] = attrs.Factory(dict)
    past: dict[str, deque[float]] = attrs.Factory(dict)
    cpu: dict[str, float] = attrs.Factory(dict)

    def add(self, status: dict[str, Any], at_s: float) -> None:
        """Takes a sample, at a moment in monotonic seconds."""
        before, passed_s = self.status, at_s - self.at_s
        self.status, self.at_s = status, at_s
        if not before or passed_s <= 0:
            return
        for name, inbox in status["inboxes"].items():
            was = before["inboxes"].get(name, inbox)
            into, out = ((inbox[key] - was[key]) / passed_s for key in ("sent", "settled"))
            self.rates[name] = (max(0.0, into), max(0.0, out))
            self.past.setdefault(name, deque(maxlen=_KEPT)).append(max(0.0, out))
        earlier = {component["name"]: component for component in before["components"]}
        self.cpu = {}
        for component in status["components"]:
            was = earlier.get(component["name"])
            now_s, then_s = component["cpu_s"], None if was is None else was["cpu_s"]
            if now_s is not None and then_s is not None and was is not None and was["epoch"] == component["epoch"]:
                self.cpu[component["name"]] = max(0.0, (now_s - then_s) / passed_s)


def rows_of(history: History) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The rows about components, and those about inboxes."""
    components: list[tuple[str, ...]] = []
    for component in history.status["components"]:
        name = component["name"]
        cpu = f"{history.cpu[name]:.0%}" if name in history.cpu else ""
        components.append((name, component["phase"], str(component["epoch"]), cpu, at_text(component)))
    inboxes: list[tuple[str, ...]] = []
    for name, inbox in history.status["inboxes"].items():
        into, out = history.rates.get(name, (0.0, 0.0))
        inboxes.append(
            (
                name,
                bar(inbox["length"] / inbox["capacity"]),
                f"{inbox['length']:,}",
                f"{inbox['capacity']:,}",
                f"{into:,.0f}",
                f"{out:,.0f}",
                sparkline(history.past.get(name, ())),
                f"{inbox['failed']:,}",
                f"{inbox['blocked_s']:,.1f}s",
            )
        )
    return components, inboxes


def bar(ratio: float, width: int = 12) -> str:
    """A bar of so many characters, filled to a share from 0 to 1, in eighths of a character."""
    eighths = round(min(1.0, max(0.0, ratio)) * width * 8)
    if ratio > 0:
        eighths = max(1, eighths)
    whole, rest = divmod(eighths, 8)
    return ("█" * whole + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(width, "·")


def sparkline(values: Any) -> str:
    """One character for each value, the highest of them full."""
    values = list(values)
    most = max(values, default=0.0)
    if not most:
        return _BARS[1] * len(values)
    return "".join(_BARS[1 + round(value / most * 7)] for value in values)


def _every(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a number of seconds from 0.1 up")
    return seconds


def _is_asked_to_end(every_s: float) -> bool:
    """Waits until it is time for the next look, or a key was pressed."""
    if sys.stdin is not None and sys.stdin.isatty():
        ready, _, _ = select.select([sys.stdin], [], [], every_s)
        return bool(ready) and sys.stdin.read(1).lower() in ("q", "")
    threading.Event().wait(every_s)
    return False


@contextlib.contextmanager
def _screen(options: argparse.Namespace) -> Iterator[Any]:
    """What shows the newest sample: as JSON, live on a terminal, or as plain text."""
    if options.json:
        yield lambda history: print(json.dumps(_as_json(history)), flush=True)
    elif has_rich():
        from rich.live import Live

        with _keys_at_once(), Live(screen=options.times == 0, auto_refresh=False) as live:
            yield lambda history: live.update(drawn(history), refresh=True)
    else:
        yield _print_plainly


def drawn(history: History) -> Any:
    """The newest sample as an object of rich's."""
    from rich.console import Group
    from rich.text import Text

    components, inboxes = rows_of(history)
    coloured = [
        (name, Text(phase, _COLOURS.get(phase, "")), life, cpu, at) for name, phase, life, cpu, at in components
    ]
    filled = [(row[0], Text(row[1], _colour_of_bar(row[1])), *row[2:]) for row in inboxes]
    return Group(
        Text(headline(history.status)), Text(), rich_table(_COMPONENTS, coloured), rich_table(_INBOXES, filled)
    )


def _colour_of_bar(bar: str) -> str:
    full = len(bar.rstrip("·")) / len(bar)
    return "red" if full > 0.9 else "yellow" if full > 0.5 else "green"


def _print_plainly(history: History) -> None:
    components, inboxes = rows_of(history)
    lines = [headline(history.status), "", *table_lines(_COMPONENTS, components)]
    if inboxes:
        lines += ["", *table_lines(_INBOXES, inboxes)]
    print("\n".join([*lines, ""]), flush=True)


def _as_json(history: History) -> dict[str, Any]:
    rates = {name: {"in_per_s": into, "out_per_s": out} for name, (into, out) in history.rates.items()}
    return {**history.status, "rates": rates, "cpu": history.cpu}


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Keys are read as they are pressed, and not shown."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

"""``minions top``: a running system, live."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, NoReturn

import attrs

from minions.cli.numbers import count, seconds
from minions.cli.project import add_folder, folder_of
from minions.cli.shown import has_rich, latency_text, rich_table, sparkline, table_lines
from minions.cli.status import at_text, headline, history_of, out_of
from minions.operate.client import Client

__all__ = ["History", "add_arguments", "rows_of", "run"]

_KEPT = 30
_COMPONENTS = ("component", "phase", ">life", ">cpu", "cpu", "at")
_INBOXES = ("inbox", "filled", ">holds", ">in/s", ">out/s", "out", ">wait p95", ">takes p95", ">failed", ">blocked")
_LAST_WORDS = 128  # and the number of the signal, as a shell says it
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
        "messages a second come and go, how long they wait and take, and how that was in the last half minute. q or Ctrl-C "
        "ends it. Where the output is no terminal it shows the system once."
    )
    parser.epilog = "examples:\n  minions top\n  minions top --every 0.5\n  minions top --times 3 --json\n"
    parser.add_argument("--every", metavar="SECONDS", type=_every, default=1.0, help="how often (%(default)g)")
    parser.add_argument(
        "--times",
        metavar="N",
        type=count("for ever"),
        help="how many times; 0 for ever (which it is on a terminal; elsewhere 1)",
    )
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    if options.times is None:
        options.times = 0 if sys.stdout is not None and sys.stdout.isatty() and not options.json else 1
    with Client.connect(folder_of(options)) as client, _Keys() as keys, _screen(options) as show:
        history = History()
        shown = 0
        while True:
            history.add(client.ask("status"), history_of(client, _KEPT), time.monotonic())
            show(history)
            shown += 1
            until_s = time.monotonic() + options.every
            if shown == options.times:
                return 0
            while (left_s := until_s - time.monotonic()) > 0:
                woken_by = keys.wait(left_s)
                if woken_by == "end":
                    return 0
                if woken_by == "size" and has_rich() and not options.json:
                    show(history)


@attrs.define
class History:
    """The last samples of a system, and what follows from two of them; at first from what the system itself has noted.

    Attributes:
        status: the newest.
        past: what the system has noted of its last moments.
        rates: of each inbox, messages in and out a second.
        cpu: of each thread of a component, which share of a core it uses.
    """

    status: dict[str, Any] = attrs.Factory(dict)
    at_s: float = 0.0
    rates: dict[str, tuple[float, float]] = attrs.Factory(dict)
    past: dict[str, Any] = attrs.Factory(dict)
    cpu: dict[str, float] = attrs.Factory(dict)

    def add(self, status: dict[str, Any], past: dict[str, Any], at_s: float) -> None:
        """Takes a sample, and what the system has noted, at a moment in monotonic seconds."""
        before, passed_s = self.status, at_s - self.at_s
        self.status, self.past, self.at_s = status, past, at_s
        if not before or passed_s <= 0:
            noted = past.get("inboxes", {}).items()
            self.rates = {name: (each["in_per_s"][-1], each["out_per_s"][-1]) for name, each in noted if each["length"]}
            self.cpu = {name: values[-1] for name, values in past.get("components", {}).items() if values}
            return
        for name, inbox in status["inboxes"].items():
            was = before["inboxes"].get(name, inbox)
            into, out = ((inbox[key] - was[key]) / passed_s for key in ("sent", "settled"))
            self.rates[name] = (max(0.0, into), max(0.0, out))
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
        curve = sparkline(history.past.get("components", {}).get(name, ()))
        components.append((name, component["phase"], str(component["epoch"]), cpu, curve, at_text(component)))
    inboxes: list[tuple[str, ...]] = []
    for name, inbox in history.status["inboxes"].items():
        into, out = history.rates.get(name, (0.0, 0.0))
        inboxes.append(
            (
                name,
                bar(inbox["length"] / inbox["capacity"]),
                f"{inbox['length']:,}",
                f"{into:,.0f}",
                f"{out:,.0f}",
                sparkline(out_of(history.past, name)),
                latency_text(inbox["waits"], "p95_s"),
                latency_text(inbox["handling"], "p95_s"),
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


def _every(text: str) -> float:
    return seconds(text, least=0.1)


@contextlib.contextmanager
def _screen(options: argparse.Namespace) -> Iterator[Any]:
    """What shows the newest sample: as JSON, live on a terminal, or as plain text."""
    if options.json:
        yield lambda history: print(json.dumps(_as_json(history)), flush=True)
    elif has_rich():
        from rich.live import Live

        with Live(screen=options.times == 0, auto_refresh=False) as live:
            yield lambda history: live.update(drawn(history, live.console.width), refresh=True)
    else:
        yield _print_plainly


def drawn(history: History, width: int | None = None) -> Any:
    """The newest sample as an object of rich's, for a terminal of so many characters; None: as wide as it likes."""
    from rich.console import Group
    from rich.text import Text

    components, inboxes = rows_of(history)
    coloured = [(name, Text(phase, _COLOURS.get(phase, "")), *rest) for name, phase, *rest in components]
    filled = [(row[0], Text(row[1], _colour_of_bar(row[1])), *row[2:]) for row in inboxes]
    return Group(
        Text(headline(history.status)),
        Text(),
        rich_table(_COMPONENTS, coloured, width),
        rich_table(_INBOXES, filled, width),
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
    return {**history.status, "rates": rates, "cpu": history.cpu, "history": history.past}


class _Keys:
    """Keys are read as they are pressed, and not shown; whatever ends the command, the terminal is as it was before."""

    def __init__(self) -> None:
        self._keyboard = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: Any = None
        self._handlers: dict[int, Any] = {}
        self._woken, self._wakes = socket.socketpair()

    def __enter__(self) -> _Keys:
        self._wakes.setblocking(False)
        self._woken.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)
            for number, handler in ((signal.SIGWINCH, lambda *_: None), (signal.SIGTERM, self._end)):
                self._handlers[number] = signal.signal(number, handler)
        if self._keyboard is not None:
            import termios
            import tty

            self._before = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(self._keyboard or 0, termios.TCSADRAIN, self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(-1)
        for end in (self._woken, self._wakes):
            end.close()

    @staticmethod
    def _end(number: int, _: object) -> NoReturn:
        raise SystemExit(_LAST_WORDS + number)

    def wait(self, timeout_s: float) -> Literal["end", "size", ""]:
        """Waits for so long, or until somebody wants to end it, or the terminal has another size."""
        watched: list[Any] = [self._woken] if self._keyboard is None else [self._woken, self._keyboard]
        ready, _, _ = select.select(watched, [], [], timeout_s)
        if self._woken in ready:
            self._woken.recv(64)
        if self._keyboard is not None and self._keyboard in ready:
            pressed = os.read(self._keyboard, 64)
            if not pressed or b"q" in pressed.lower():
                return "end"
        return "size" if self._woken in ready else ""

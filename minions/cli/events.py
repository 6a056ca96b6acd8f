"""``minions events``: what has happened, and what happens."""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path
from typing import Any

import attrs

from minions.cli.numbers import count
from minions.cli.project import add_folder, folder_of, refuse_nothing
from minions.cli.shown import printable
from minions.observe.event_log import logged_events
from minions.operate.client import Client, HungUp, NotRunning
from minions.operate.telling import text_of

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints what has happened in the systems of a state folder, also while none runs; with --follow what happens from now on "
        "in the running one. With --json each event is a line of its own."
    )
    parser.epilog = "examples:\n  minions events --last 50\n  minions events --follow --component average\n"
    parser.add_argument(
        "--last",
        metavar="N",
        type=count("none"),
        default=20,
        help="how many of those that were (%(default)s); 0 for none",
    )
    parser.add_argument("--follow", action="store_true", help="go on with those that come, until the system ends")
    parser.add_argument("--component", metavar="COMPONENT", help="only those about this one")
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    folder = folder_of(options)
    if options.follow:
        return _follow(options, folder)
    refuse_nothing(folder)  # which is not the same as a system of which nothing is to be told
    found: deque[dict[str, Any]] = deque(maxlen=options.last)
    for logged in logged_events(folder):
        time = logged.time.isoformat(timespec="microseconds").replace("+00:00", "Z")
        event = {
            "time": time,
            "event": type(logged.event).__name__,
            "text": text_of(logged.event),
            **attrs.asdict(logged.event),
        }
        if _is_wanted(options, event):
            found.append(event)
    for event in found:
        _print(options, event)
    return 0


def _follow(options: argparse.Namespace, folder: Path) -> int:
    """Prints what the running system still remembers, and then each event as it comes."""
    after, last = 0, options.last
    client = Client.connect(folder)
    pid = client.ask("version")["pid"]
    first = True
    while True:
        try:
            answer = client.ask("events", None, after=after)
        except HungUp:  # nothing happened for long; or the system has ended
            client.close()
            try:
                client = Client.connect(folder)
                if client.ask("version")["pid"] != pid:
                    return 0
            except (NotRunning, HungUp):
                return 0
            continue
        wanted = [event for event in answer["events"] if _is_wanted(options, event)]
        for event in wanted[len(wanted) - last :] if first and last < len(wanted) else wanted:
            _print(options, event)
        after, first = answer["last"], False


def _is_wanted(options: argparse.Namespace, event: dict[str, Any]) -> bool:
    if options.component is None:
        return True
    about = str(event.get("component", ""))
    return options.component in (about, about.partition("#")[0])


def _print(options: argparse.Namespace, event: dict[str, Any]) -> None:
    if options.json:
        print(json.dumps(event), flush=True)
    else:
        time = event["time"].replace("T", " ").partition(".")[0]
        print(f"{time}  {event['event']:20}  {printable(event['text'])}", flush=True)

"""``minions start``, ``stop``, ``restart``, ``pause``, ``resume``: what is wished of a running system, or of its components."""

from __future__ import annotations

import argparse
from typing import Any

from minions.cli.numbers import seconds
from minions.cli.project import add_folder, folder_of
from minions.cli.shown import print_json
from minions.operate.client import Client, HungUp

__all__ = ["add_arguments", "run"]

_WHAT = {
    "start": ("Begins components that are down: stopped, finished or given up.", "all that are down", "up"),
    "stop": (
        "Stops the system in order, or some components between two units of work; their inboxes keep what waits and arrives.",
        "the whole system",
        "stopped",
    ),
    "restart": (
        "Gives components a new life, with what is to be restarted with them.",
        "all that are not down",
        "restarted",
    ),
    "pause": (
        "Has components take nothing more; what they have in work they finish, and their inboxes keep what arrives.",
        "all",
        "paused",
    ),
    "resume": ("Lets components go on that were paused.", "all", "resumed"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    name = parser.prog.rpartition(" ")[2]
    parser.description, everything, _ = _WHAT[name]
    parser.epilog = f"examples:\n  minions {name}\n  minions {name} average database --timeout 5\n"
    parser.add_argument("components", metavar="COMPONENT", nargs="*", help=f"which ones (by default {everything})")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=60.0,
        help="how long to wait until it has come about (%(default)g); what was asked for goes on",
    )
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    asked = "halt" if options.command == "stop" and options.components else options.command
    arguments: dict[str, Any] = {} if asked == "stop" else {"components": options.components}
    with Client.connect(folder_of(options)) as client:
        try:
            found = client.ask(asked, options.timeout, **arguments)
        except HungUp:
            if asked != "stop":
                raise
            found = {}
    done = _WHAT[options.command][2]
    if options.json:
        print_json(found)
    elif asked == "stop":
        print("\n".join(["the system has stopped", *found.get("problems", ())]))
    else:
        print(f"{done}: {', '.join(found['components'])}")
    return 1 if found.get("problems") else 0

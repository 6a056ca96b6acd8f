"""``minions why``: what a component waits for, in a sentence, with its evidence."""

from __future__ import annotations

import argparse
from typing import Any

from minions.cli.project import add_folder, folder_of
from minions.cli.shown import print_json, printable
from minions.operate.client import Client

__all__ = ["add_arguments", "lines_of", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says what a component waits for: a message, room in an inbox, the answer to a call, a lock, a socket, a sleep; and whom "
        "that waits for in turn. Below stands the evidence: the system call, the descriptor, who holds the lock, the stack."
    )
    parser.epilog = "examples:\n  minions why average\n  minions why reader#2 --json\n"
    parser.add_argument(
        "component", metavar="COMPONENT", help="its name, with the number of the replica (reader#2) or without"
    )
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    with Client.connect(folder_of(options)) as client:
        found = client.ask("why", component=options.component)
    if options.json:
        print_json(found)
        return 0
    for place, component in enumerate(found["components"]):
        if place:
            print()
        for line in lines_of(component):
            print(line)
    return 0


def lines_of(component: dict[str, Any]) -> list[str]:
    """What is said of one thread of a component."""
    lines = [printable(component["sentence"]) + "."]
    for look in component["chain"]:
        facts = [f"life {look['epoch']}", look["phase"]]
        if look["system_call"]:
            facts.append(f"system call {look['system_call']}")
        if look["cpu_ratio"] is not None:
            facts.append(f"{look['cpu_ratio']:.0%} of a core just now")
        if look["message_id"]:
            facts.append(f"message {look['message_id']}")
        lines += ["", f"{look['component']} ({', '.join(facts)})"]
        lines += [printable(line) for line in look["stack"].splitlines()]
        if look["failure"] is not None and not look["stack"]:
            lines += [printable(line) for line in look["failure"]["traceback"].splitlines()]
    return lines

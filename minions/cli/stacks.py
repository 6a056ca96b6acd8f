"""``minions stacks``: where the threads of a running system are."""

from __future__ import annotations

import argparse

from minions.cli.project import add_folder, folder_of
from minions.cli.shown import print_json, printable
from minions.operate.client import Client

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints the stack of each thread of the process, or of those of one component. Nothing is stopped."
    )
    parser.epilog = "examples:\n  minions stacks\n  minions stacks average\n"
    parser.add_argument("component", metavar="COMPONENT", nargs="?", help="only the threads of this one")
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    asked = {} if options.component is None else {"component": options.component}
    with Client.connect(folder_of(options)) as client:
        found = client.ask("stacks", **asked)
    if options.json:
        print_json(found)
        return 0
    for thread in found["threads"]:
        cpu = "" if thread["cpu_s"] is None else f", {thread['cpu_s']:.1f} s of CPU time"
        component = f", component {thread['component']}" if thread["component"] else ""
        print(f"thread {printable(thread['thread'])}{component}{cpu}")
        print(printable(thread["stack"]))
    return 0

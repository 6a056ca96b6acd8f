"""``minions plugins``: what is told of everything that happens in a system."""

from __future__ import annotations

import argparse

import attrs

from minions.cli.project import add_folder, folder_of, load_app
from minions.cli.shown import print_json, print_table
from minions.operate.client import Client

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists the plugins of the running system, or of a program, with what they cost and what is wrong with them."
    )
    parser.epilog = "examples:\n  minions plugins\n  minions plugins app.py\n"
    parser.add_argument(
        "app", metavar="APP", nargs="?", help="the program: app.py[:system] (by default the running system)"
    )
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    if options.app is not None:
        system = load_app(options.app)
        system.check()  # reads what minions.toml says of plugins
        system.plugins.load()
        found = [attrs.asdict(plugin) for plugin in system.plugins.list()]
    else:
        with Client.connect(folder_of(options)) as client:
            found = client.ask("plugins")["plugins"]
    if options.json:
        print_json({"plugins": found})
        return 0
    if not found:
        print("there are no plugins")
        return 0
    print_table(
        ("plugin", "version", "source", "hooks", ">calls", ">faults", ">busy s", "problem"),
        [
            (
                plugin["name"],
                plugin["version"],
                plugin["source"],
                ", ".join(plugin["hooks"]),
                f"{plugin['calls']:,}",
                f"{plugin['faults']:,}",
                f"{plugin['busy_s']:.1f}",
                plugin["problem"] or ("set aside" if plugin["set_aside"] else ""),
            )
            for plugin in found
        ],
    )
    return 0

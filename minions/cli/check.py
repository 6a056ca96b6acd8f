"""``minions check``: whether a system can run, without starting anything."""

from __future__ import annotations

import argparse

from minions import MinionsError
from minions.cli.project import load_app
from minions.cli.shown import print_json

__all__ = ["add_arguments", "run"]

EXIT_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Looks at a whole system, and at its minions.toml, without starting anything, and names every problem."
    )
    parser.epilog = "examples:\n  minions check app.py\n  minions check app.py:greenhouse --json\n"
    parser.add_argument(
        "app", metavar="APP", help="the program, and which system where it makes several: app.py[:system]"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    try:
        system = load_app(options.app)
        system.check()
    except MinionsError as error:
        if not options.json:
            raise
        print_json({"ok": False, "problems": list(getattr(error, "problems", (str(error),)))})
        return EXIT_FAILED
    graph = system.graph()
    if options.json:
        print_json({"ok": True, "problems": [], "system": system.name, "components": len(graph.nodes)})
    else:
        print(f"{system.name}: nothing is wrong; {len(graph.nodes)} components, {len(graph.edges)} connections")
    return 0

"""``minions graph``: which components there are, and which sends to which and calls which."""

from __future__ import annotations

import argparse

from minions.cli.project import add_folder, folder_of, load_app
from minions.cli.shown import print_json
from minions.model.graph import Graph
from minions.operate.client import Client

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draws the graph of a system: of a program, or, without one, of the system that runs."
    parser.epilog = (
        "examples:\n  minions graph app.py\n  minions graph --format mermaid\n"
        "  minions graph app.py --format dot | dot -Tsvg > graph.svg\n"
    )
    parser.add_argument(
        "app", metavar="APP", nargs="?", help="the program: app.py[:system] (by default the running system)"
    )
    parser.add_argument("--format", choices=("text", "mermaid", "dot"), default="text", help="(by default %(default)s)")
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    if options.app is not None:
        graph = load_app(options.app).graph()
    else:
        with Client.connect(folder_of(options)) as client:
            graph = Graph.of_json(client.ask("graph"))
    if options.json:
        print_json(graph.as_json())
    else:
        print({"text": graph.as_text, "mermaid": graph.as_mermaid, "dot": graph.as_dot}[options.format]())
    return 0

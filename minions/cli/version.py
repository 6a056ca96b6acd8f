"""``minions version``: that of this command, and of the system that runs."""

from __future__ import annotations

import argparse
import platform
from importlib import metadata

from minions import MinionsError
from minions.cli.project import add_folder, folder_of
from minions.cli.shown import print_json
from minions.operate.client import Client
from minions.operate.protocol import VERSION

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Shows the version of this command, and that of the system of the project where one runs."
    parser.epilog = "examples:\n  minions version\n  minions version --json\n"
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    mine = {"minions": metadata.version("minions-runtime"), "python": platform.python_version(), "protocol": VERSION}
    try:
        with Client.connect(folder_of(options)) as client:
            running = client.ask("version")
    except MinionsError:
        running = None
    if options.json:
        print_json({**mine, "running": running})
        return 0
    print(f"minions {mine['minions']}, Python {mine['python']}, control protocol {VERSION}")
    if running is not None:
        print(
            f"{running['system']} (process {running['pid']}): minions {running['minions']}, Python {running['python']}"
        )
    return 0

"""``minions run``: runs the system that a program makes."""

from __future__ import annotations

import argparse
import sys

from minions.cli.project import load_app
from minions.cli.shown import print_json

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs the system that a program makes, in the foreground, as its own system.run() would. The program is loaded as a "
        'module, so what stands under `if __name__ == "__main__":` does not run. Its state is kept beside it.'
    )
    parser.epilog = (
        "examples:\n  minions run app.py\n  minions run app.py:greenhouse --forever\n\n"
        "exit codes:\n  0  ended in order    1  failed    2  wrong arguments    70  threads were left that could not be ended\n"
    )
    parser.add_argument(
        "app", metavar="APP", help="the program, and which system where it makes several: app.py[:system]"
    )
    parser.add_argument("--forever", action="store_true", help="stay when nothing can happen any more")
    parser.add_argument(
        "--switch-interval",
        metavar="SECONDS",
        type=float,
        help="CPython's switch interval while it runs (0.0005 helps many)",
    )
    parser.add_argument("--json", action="store_true", help="print why it ended as JSON")


def run(options: argparse.Namespace) -> int:
    system = load_app(options.app)
    sys.argv = [options.app]
    reason = system.run(forever=options.forever, switch_interval_s=options.switch_interval)
    if options.json:
        print_json({"system": system.name, "reason": reason})
    return 0

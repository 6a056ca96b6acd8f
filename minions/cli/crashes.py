"""``minions crashes``: what was recorded of components that failed."""

from __future__ import annotations

import argparse
from typing import Any

from minions import CrashRefused
from minions.cli.crash_shown import as_json, as_lines, head_of, time_text
from minions.cli.project import add_folder, folder_of, refuse_nothing
from minions.cli.shown import print_json, print_table, printable
from minions.life.crash import CRASHES, crash_named, crashes_in

__all__ = ["add_arguments", "print_list", "run"]

_EXAMPLES = """\
examples:
  minions crashes
  minions crashes --component average --json
  minions crashes show last
  minions crashes show 20260412T101502.120311Z-average-add --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists what was recorded of components that failed, the newest first, or shows one whole; also while the system runs. "
        "It changes nothing, and needs no program."
    )
    parser.epilog = _EXAMPLES
    parser.add_argument("--component", metavar="COMPONENT", help="only those of this one")
    add_folder(parser)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action")
    show = actions.add_parser(
        "show",
        help="show one whole: what went into the unit that failed, and what it has read of the clock",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("crash", metavar="CRASH", help="its id or the beginning of it, its file, or last for the newest")
    add_folder(show, again=True)


def run(options: argparse.Namespace) -> int:
    return print_list(options, options.component) if options.action is None else _show(options)


def print_list(options: argparse.Namespace, component: str | None) -> int:
    """Lists the crashes of a component, or of all."""
    folder = folder_of(options)
    refuse_nothing(folder)  # which is not the same as a system without crashes
    found = []
    for path, crash in crashes_in(folder):
        if isinstance(crash, CrashRefused):
            if component is None:
                found.append({"id": path.stem, "file": str(path), "unreadable": str(crash)})
        elif component in (None, crash.component, crash.component.partition("#")[0]):
            found.append({**head_of(crash), "file": str(path)})
    if options.json:
        print_json({"crashes": found})
    elif not found:
        print("there are no crashes")
    else:
        print(f"in {folder / CRASHES}:")
        print_table(("id", "component", "failed", "in", "error"), [_row(each) for each in found])
    return 0


def _show(options: argparse.Namespace) -> int:
    crash = crash_named(folder_of(options), options.crash)
    if options.json:
        print_json(as_json(crash))
    else:
        print(f"{crash.id}:")
        for line in as_lines(crash):
            print(printable(line))
    return 0


def _row(crash: dict[str, Any]) -> tuple[str, ...]:
    if "unreadable" in crash:
        return (crash["id"], "", "", "", crash["unreadable"])
    return (crash["id"], crash["component"], time_text(crash["at"]), crash["where"], crash["error"])

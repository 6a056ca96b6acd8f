"""``minions state show``: what is kept of the states of components, as of the last commit."""

from __future__ import annotations

import argparse
import json
from typing import Any

from minions import MinionsError
from minions.cli.project import add_folder, folder_of, refuse_nothing
from minions.cli.shown import print_json, printable
from minions.flow import rows
from minions.flow.store import has_store, read_rows
from minions.operate.protocol import Refused

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows what is kept of the states of components, also while the system does not run. Changes nothing."
    )
    parser.epilog = "examples:\n  minions state show\n  minions state show average\n"
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    show = actions.add_parser("show", help="show states as they are kept", epilog=parser.epilog,
                              formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    show.add_argument("component", metavar="COMPONENT", nargs="?", help="only those of this one")
    add_folder(show)


def run(options: argparse.Namespace) -> int:
    folder = folder_of(options)
    refuse_nothing(folder)
    if not has_store(folder):
        raise MinionsError(f"nothing is kept in {folder}")
    found: dict[str, dict[str, Any]] = {}
    for key, body in read_rows(folder, rows.STATES):
        home = key.removeprefix(rows.STATES)
        if options.component in (None, home, home.partition("@")[0]):
            found[home] = {name: _value(stored) for name, stored in rows.states_of(key, body).items()}
    if options.component is not None and not found:
        homes = sorted(key.removeprefix(rows.STATES) for key, _ in read_rows(folder, rows.STATES))
        raise Refused(
            "no-such-component",
            f"nothing is kept of a component {options.component!r}; of {', '.join(homes) or 'none'} is",
        )
    if options.json:
        print_json(found)
        return 0
    for home, states in found.items():
        for name, value in states.items():
            plain = (
                value["value"] if isinstance(value, dict) and value.keys() == {"type", "version", "value"} else value
            )
            print(printable(f"{home}.{name} = {json.dumps(plain, ensure_ascii=False, indent=2)}"))
    return 0


def _value(stored: bytes) -> Any:
    """A stored form as the JSON that it is."""
    text = stored.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text

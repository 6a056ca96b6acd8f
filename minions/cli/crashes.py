"""``minions crashes``: what was recorded of components that failed."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any

from minions import Crash, CrashRefused
from minions.cli.project import add_folder, folder_of
from minions.cli.shown import print_json, print_table
from minions.life.crash import CRASHES, crashes_in
from minions.operate.client import NotRunning, has_socket

__all__ = ["add_arguments", "run", "time_text"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists what was recorded of components that failed, the newest first; also while the system runs. It changes nothing, "
        "and needs no program."
    )
    parser.epilog = "examples:\n  minions crashes\n  minions crashes --component average --json\n"
    parser.add_argument("--component", metavar="COMPONENT", help="only those of this one")
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    folder = folder_of(options)
    if not (folder.is_dir() or has_socket(folder)):  # which is not the same as a system without crashes
        raise NotRunning(f"no system runs on {folder}, and nothing is kept there")
    found = []
    for path, crash in crashes_in(folder):
        if isinstance(crash, CrashRefused):
            if options.component is None:
                found.append({"id": path.stem, "file": str(path), "unreadable": str(crash)})
        elif options.component in (None, crash.component, crash.component.partition("#")[0]):
            found.append({**_as_json(crash), "file": str(path)})
    if options.json:
        print_json({"crashes": found})
    elif not found:
        print("there are no crashes")
    else:
        print(f"in {folder / CRASHES}:")
        print_table(("id", "component", "failed", "in", "error"), [_row(each) for each in found])
    return 0


def time_text(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _row(crash: dict[str, Any]) -> tuple[str, ...]:
    if "unreadable" in crash:
        return (crash["id"], "", "", "", crash["unreadable"])
    return (crash["id"], crash["component"], time_text(crash["at"]), crash["where"], crash["error"])


def _as_json(crash: Crash) -> dict[str, Any]:
    """What tells it from others; not what went into it."""
    names = (
        "id", "system", "component", "class_name", "epoch", "kind", "where", "error", "traceback", "at", "message_id",
        "attempt", "set_aside", "left_out",
    )  # fmt: skip
    return {name: getattr(crash, name) for name in names}

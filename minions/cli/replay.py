"""``minions replay``: runs the unit of work of a crash once more, offline, and writes it as a test."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from minions import Crash, MinionsError, Replay, System
from minions.cli import crashes
from minions.cli.crash_shown import time_text
from minions.cli.crash_test import written_test
from minions.cli.project import BadApp, add_folder, folder_of, load_app
from minions.cli.shown import print_json, printable
from minions.life.crash import crash_named

__all__ = ["add_arguments", "run"]

EXIT_FAILED = 1
EXIT_CANNOT_TELL = 6

_EPILOG = """\
examples:
  minions replay last
  minions replay 20260412T101502.120311Z-average-add --json
  minions replay last --app app.py:greenhouse
  minions replay last --pytest tests/test_average.py
  minions replay --list

exit codes:
  0  it does not fail any more; with --pytest, the test was written
  1  it has failed again
  2  wrong arguments
  3  there is no system here
  6  it cannot be told: no such crash, a class that is gone, or it came to what was not recorded
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Runs the unit of work of a crash once more, with the code as it is now: the same messages, state, tables and answers. "
        "What it sends and keeps goes nowhere; no system is started. What the code does to the outside world it does again."
    )
    parser.epilog = _EPILOG
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "crash", metavar="CRASH", nargs="?", help="its id or the beginning of it, its file, or last for the newest"
    )
    which.add_argument("--list", action="store_true", help="list them instead, as minions crashes does")
    parser.add_argument(
        "--app", metavar="APP", help="the program, app.py[:system]; by default the one that has crashed"
    )
    parser.add_argument(
        "--pytest", metavar="FILE", type=Path, help="write a test to this file, which fails until the bug is fixed"
    )
    add_folder(parser)


def run(options: argparse.Namespace) -> int:
    folder = folder_of(options)
    if options.list:
        return crashes.print_list(options, None)
    sys.dont_write_bytecode = True  # the project's folder stays as it is
    try:
        crash = crash_named(folder, options.crash)
        app = options.app if options.app is not None else _program_of(crash, folder)
        if options.pytest is not None:
            return _write_test(options, crash, app)
        replay = _system(app, crash).replay(crash)
    except MinionsError as error:
        return _refused(options, error)
    if options.json:
        print_json(_as_json(replay))
    else:
        _print(replay)
    return EXIT_CANNOT_TELL if replay.stopped else EXIT_FAILED if replay.failed else 0


def _refused(options: argparse.Namespace, error: MinionsError) -> int:
    if options.json:
        print_json({"crash": options.crash, "refused": str(error)})
    print(f"minions: {error}", file=sys.stderr)
    return EXIT_CANNOT_TELL


def _system(app: str, crash: Crash) -> System:
    return load_app(app, crash.system)


def _program_of(crash: Crash, folder: Path) -> str:
    """The program that has crashed, where it is in relation to its state folder."""
    path = Path(os.path.normpath(folder.absolute() / crash.program)) if crash.program else None
    if path is None or not path.is_file():
        was = f" ({path} is not there)" if path is not None else ""
        raise BadApp(f"which program has crashed cannot be told{was}: name it with --app app.py")
    return str(path)


def _write_test(options: argparse.Namespace, crash: Crash, app: str) -> int:
    _system(app, crash)  # a test that could not find its system would be red for ever
    file: Path = options.pytest
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(written_test(crash, app, file.absolute().parent))
    except FileExistsError as error:
        raise MinionsError(f"{file} is there already, and is left as it is: name another file") from error
    if options.json:
        print_json({"crash": crash.id, "file": str(file)})
    else:
        print(f"written: {file}; run it with pytest {file}. It holds the message and the state of the crash.")
    return 0


def _as_json(replay: Replay) -> dict[str, object]:
    return {
        "crash": replay.crash.id,
        "component": replay.crash.component,
        "failed": replay.failed,
        "same": replay.same,
        "error": replay.error,
        "traceback": replay.traceback,
        "stopped": replay.stopped,
        "sent": [{"inbox": inbox, "message": repr(message)} for inbox, message in replay.sent],
        "recorded": {"error": replay.crash.error, "traceback": replay.crash.traceback},
    }


def _print(replay: Replay) -> None:
    crash = replay.crash
    what = f"{crash.component}, {crash.where}, {time_text(crash.at)}"
    if replay.stopped:
        print(printable(f"{what}: it cannot be told whether it still fails: {replay.stopped}"))
        return
    if not replay.failed:
        print(printable(f"{what}: does not fail any more; it had failed with {crash.error}"))
        for inbox, message in replay.sent:
            print(printable(f"  sends to {inbox}: {message!r}"))
        return
    if replay.same:
        print(printable(f"{what}: fails again, at the same line"))
    else:
        print(printable(f"{what}: fails otherwise; it had failed with"))
        print(printable(crash.traceback or crash.error))
        print("and fails now with")
    print(printable(replay.traceback), end="")

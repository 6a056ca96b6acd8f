"""The command line, `minions`. One module a command; it is imported when the command is used, so that each starts fast.

A command's module has two functions: `add_arguments(parser)` and `run(options)`, which returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from minions import MinionsError

__all__ = ["main"]

COMMANDS = {
    "demo": "read, count and index a folder of files; kill it and run it again",
}
"""Each command, which is also the name of its module, and what it does."""

EXIT_FAILED = 1

_EXAMPLES = """\
examples:
  minions demo                      read Python's standard library
  minions demo --search raw socket  ask what was read
  minions demo --help               all about the demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code; wrong arguments end the process with exit code 2."""
    _prepare_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        try:
            options = _parser(words).parse_args(words)
            code: int = options.run(options)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except SystemExit as error:
        if not isinstance(error.__cause__, MinionsError):
            raise
        print(f"minions: {error.__cause__}", file=sys.stderr)
        return EXIT_FAILED
    except MinionsError as error:
        print(f"minions: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        _forget_output()
        return EXIT_FAILED
    except OSError as error:
        print(f"minions: {error.filename or 'cannot go on'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"minions {importlib.metadata.version('minions-runtime')}")
        parser.exit()


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="minions",
        description="Long-lived components in managed threads, with durable state, in one process.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in words:
            module = importlib.import_module(f"minions.cli.{name}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _prepare_streams() -> None:
    """Makes the standard streams safe to use: what a terminal cannot show is written out, and none of them is missing.

    Where a program was started with a closed stream, the next file that is opened would get its number, and with it whatever
    is printed there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _forget_output() -> None:
    """Whoever read what is printed is gone: what is still buffered goes nowhere, instead of failing once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

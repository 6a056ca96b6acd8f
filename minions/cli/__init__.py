"""The command line, `minions`. One module a command; it is imported when the command is used, so that each starts fast.

A command's module has two functions: `add_arguments(parser)` and `run(options)`, which returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from minions import MinionsError

__all__ = ["main"]

COMMANDS = {
    "run": "run the system that a program makes",
    "check": "look whether a system can run, without starting anything",
    "graph": "draw the graph of a system: text, Mermaid, DOT",
    "status": "show components, inboxes and process of a running system",
    "top": "the same, live: rates, CPU, how full the inboxes are",
    "why": "say what a component waits for, with its stack and evidence",
    "stacks": "print the stacks of a running system's threads",
    "events": "print what has happened, and what happens",
    "start": "begin components that are down",
    "stop": "stop a system in order, or components of it",
    "restart": "give components a new life",
    "pause": "have components take nothing more",
    "resume": "let components go on that were paused",
    "dead": "list, show, retry or drop messages that were set aside",
    "crashes": "list and show what was recorded of components that failed",
    "replay": "run what has crashed once more, offline; write it as a test",
    "state": "show what is kept of the states of components",
    "plugins": "list the plugins of a system",
    "demo": "read, count and index a folder of files; kill it and run it again",
    "version": "show the versions of this command and of the running system",
}
"""Each command, and what it does. It is also the name of its module, but for those in `_MODULES`."""

_MODULES = dict.fromkeys(("start", "stop", "restart", "pause", "resume"), "change")

EXIT_FAILED = 1
EXIT_NOT_RUNNING = 3
EXIT_NO_SUCH_COMPONENT = 4
EXIT_NO_ANSWER = 5

_EXAMPLES = """\
examples:
  minions run app.py                run the system that app.py makes
  minions status                    what the system of this project is at
  minions why average               what the component average waits for
  minions demo                      read Python's standard library
  minions COMMAND --help            all about a command

The commands find the project from the working directory upward, or by --folder DIR.

exit codes:
  0  done          2  wrong arguments             4  no such component
  1  failed        3  the system does not run     5  no answer in time
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
        if isinstance(error.code, str):  # otherwise it was said already
            print(f"minions: {error.__cause__}", file=sys.stderr)
        return EXIT_FAILED
    except MinionsError as error:
        print(f"minions: {error}", file=sys.stderr)
        return _exit_code_of(error)
    except BrokenPipeError:
        _forget_output()
        return EXIT_FAILED
    except OSError as error:
        print(f"minions: {error.filename or 'cannot go on'}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return code


def _exit_code_of(error: MinionsError) -> int:
    from minions.operate.client import NoAnswer, NotRunning
    from minions.operate.protocol import Refused

    match error:
        case NotRunning():
            return EXIT_NOT_RUNNING
        case NoAnswer():
            return EXIT_NO_ANSWER
        case Refused(kind="no-such-component"):
            return EXIT_NO_SUCH_COMPONENT
        case _:
            return EXIT_FAILED


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"minions {version('minions-runtime')}")
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
            module = importlib.import_module(f"minions.cli.{_MODULES.get(name, name)}")
            module.add_arguments(command)
            command.set_defaults(run=module.run, command=name)
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

"""``minions dead``: the messages that were set aside, and what is done about them."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from minions import DeadLetter, MinionsError, System
from minions.cli.numbers import seconds
from minions.cli.project import add_folder, folder_of, load_app, refuse_nothing
from minions.cli.shown import print_json, print_table, printable
from minions.life.dead_letters import DeadLetters
from minions.operate.client import Client, NotRunning

__all__ = ["add_arguments", "run"]

_EXAMPLES = """\
examples:
  minions dead list
  minions dead show ID
  minions dead retry ID ID
  minions dead retry --of average --app app.py   while the system does not run
  minions dead drop --of average.readings
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Lists dead letters, shows them, sends them once more, or drops them; also while the system does not run."
    )
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    for name, what in (
        ("list", "list what was set aside"),
        ("show", "show letters whole: message, error, traceback"),
        ("retry", "send letters to their inboxes once more"),
        ("drop", "drop letters for good"),
    ):
        action = actions.add_parser(
            name, help=what, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name != "list":
            action.add_argument("ids", metavar="ID", nargs="*", help="the ids of messages")
        action.add_argument("--of", metavar="NAME", help="all of a component, or of an inbox (average.readings)")
        if name in ("retry", "drop"):
            action.add_argument(
                "--app", metavar="APP", help="the program, app.py[:system], where the system does not run"
            )
            action.add_argument(
                "--timeout", metavar="SECONDS", type=seconds, default=60.0, help="how long to wait (%(default)g)"
            )
        add_folder(action)
        action.set_defaults(parser=action)


def run(options: argparse.Namespace) -> int:
    if options.action != "list" and not options.ids and options.of is None:
        options.parser.error("say which: the ids of messages, or --of NAME for all of a component or an inbox")
    folder = folder_of(options)
    refuse_nothing(folder)  # which is not the same as a system without dead letters
    if options.action in ("retry", "drop"):
        return _act(options, folder)
    there = DeadLetters(folder, {}).listed(None)
    letters = [letter for letter in there if options.of in (None, letter.channel, letter.channel.partition(".")[0])]
    none = _none(options.of, there) if not letters else ""
    return _list(options, letters, none) if options.action == "list" else _show(options, letters, none)


def _none(of: str | None, there: list[DeadLetter]) -> str:
    """What to say where there are no letters; with the inboxes that have some, because a name may be misspelled."""
    if of is None:
        return "there are no dead letters"
    inboxes = ", ".join(sorted({letter.channel for letter in there}))
    return f"there are no dead letters of {of!r}" + (
        f"; there are of {inboxes}" if there else ", and none of anything else"
    )


def _list(options: argparse.Namespace, letters: list[DeadLetter], none: str) -> int:
    if options.json:
        print_json({"letters": [_as_json(letter) for letter in letters]})
    elif none:
        print(none)
    else:
        columns = ("id", "inbox", "set aside", ">attempts", "error")
        print_table(
            columns,
            [(each.message_id, each.channel, _time(each.at), f"{each.attempts}", each.error) for each in letters],
        )
    return 0


def _show(options: argparse.Namespace, letters: list[DeadLetter], none: str) -> int:
    if none and not options.ids:
        raise MinionsError(none)
    missing = set(options.ids) - {letter.message_id for letter in letters}
    if missing:
        raise MinionsError(f"no dead letter has the id {', '.join(sorted(missing))}")
    chosen = [letter for letter in letters if not options.ids or letter.message_id in options.ids]
    if options.json:
        print_json({"letters": [_as_json(letter) for letter in chosen]})
        return 0
    for letter in chosen:
        print(f"{letter.message_id} to {letter.channel}, set aside {_time(letter.at)} after {letter.attempts} attempts")
        print(printable(f"{letter.type} {letter.message.decode(errors='replace')}"))
        print(printable(letter.traceback or letter.error))
    return 0


def _act(options: argparse.Namespace, folder: Path) -> int:
    asked: dict[str, Any] = {"ids": options.ids} | ({} if options.of is None else {"of": options.of})
    try:
        with Client.connect(folder) as client:
            done = client.ask(f"dead-{options.action}", options.timeout, **asked)["letters"]
    except NotRunning as error:
        done = _act_apart(options, folder, error)
    if options.json:
        print_json({"letters": done})
    else:
        verb = "sent once more" if options.action == "retry" else "dropped"
        print(f"{verb}: {', '.join(letter['id'] for letter in done) or 'none'}")
    return 0


def _act_apart(options: argparse.Namespace, folder: Path, not_running: NotRunning) -> list[dict[str, str]]:
    """Takes the state folder for a moment. To send a message again its class is needed, and so the program."""
    if options.app is not None:
        system = load_app(options.app)
        if system.folder.resolve() != folder.resolve():
            raise MinionsError(
                f"{options.app} keeps its state in {system.folder}, not in {folder}, which was asked for: "
                "name its own folder with --folder, or leave the program out"
            )
    elif options.action == "drop":
        system = System("dead letters", folder=folder)
    else:
        raise NotRunning(
            f"{not_running}; to send letters once more, name its program with --app app.py"
        ) from not_running
    act = system.retry_dead_letters if options.action == "retry" else system.drop_dead_letters
    return [{"inbox": letter.channel, "id": letter.message_id} for letter in act(*options.ids, of=options.of)]


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    fields = attrs.asdict(letter)
    text = letter.message.decode(errors="replace")
    try:
        fields["message"] = json.loads(text)
    except ValueError:
        fields["message"] = text
    return fields


def _time(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")

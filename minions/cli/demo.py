"""``minions demo``: what can be asked of the demo, and how it answers. The demo itself is `minions.demo`."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import signal
import sqlite3
import sys
import sysconfig
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs

from minions import Component, Inbox, MinionsError, StoreError
from minions.demo import NAMES_KEPT, UNREADABLE, Sums, Totals, assemble
from minions.demo_files import text_of, walk
from minions.flow.folder_lock import LOCK_FILE, FolderLock

__all__ = ["add_arguments", "run"]

EXIT_NOTHING_FOUND = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT

_TYPES_SHOWN = 20
_NAMES_SHOWN = 10
_PAGES_SHOWN = 10
_LINE_EVERY_S = 0.5

_DESCRIPTION = """\
Reads every file of a folder on four threads, counts lines and words by type of file, and keeps a full-text index, without
ever losing its place: interrupt or kill it at any moment and run it again, it goes on where it stopped and ends with
the same totals and the same checksum as if nothing had happened.

Links to folders are not followed, and folders called __pycache__ and site-packages are left out.
"""

_EXAMPLES = """\
examples:
  minions demo                       read Python's standard library (or go on with what was begun)
  minions demo ~/notes --work notes  read another folder, with a working folder of its own
  minions demo --search raw socket   the ten best files in which both words occur
  minions demo --fresh               forget what was done and begin again

exit codes:
  0  done, or stopped by SIGTERM    1  failed, or nothing was found    2  wrong arguments    130  stopped by Ctrl-C
"""


class _Refused(Exception):
    """What was asked for makes no sense; the text says why and what to do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="what to read (by default Python's standard library)"
    )
    parser.add_argument(
        "--work", metavar="DIR", default="minions-demo", help="where the state and the index are kept (%(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs did")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and no progress")
    parser.add_argument("--search", metavar="WORD", nargs="+", help="search what was read, and read nothing")


def run(options: argparse.Namespace) -> int:
    work = Path(options.work).resolve()
    try:
        if options.search:
            return _search(work, options.search, as_json=options.json)
        return _read(options.folder, work, fresh=options.fresh, as_json=options.json)
    except _Refused as refused:
        print(f"minions: {refused}", file=sys.stderr)
        return EXIT_USAGE


# ---------------------------------------------------------------------- reading
@attrs.frozen
class _Run:
    """What this run began with and how it went."""

    folder: str
    resumed: bool
    files_before: int
    seconds: float


class Display(Component):
    """Shows how far it is: as a bar where there is rich and a terminal, else as a line now and then."""

    before: int
    expected: int
    resumes: bool
    progress = Inbox(int, capacity=10, durable=False, overflow="drop_oldest")

    def on_start(self) -> None:
        if self.resumes:
            print(f"resumes: {self.before:,} of {self.expected:,} files are counted", file=sys.stderr)
        self._bar = _bar(self.before, self.expected)
        self._next_line_s = time.monotonic() + _LINE_EVERY_S

    @progress.handler
    def show(self, files: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=files)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + _LINE_EVERY_S
            print(f"{files:,} of {self.expected:,} files", file=sys.stderr)

    def on_stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _bar(completed: int, expected: int) -> Any:
    """A bar of rich's on the terminal, or None."""
    if sys.stderr is None or not sys.stderr.isatty() or find_spec("rich") is None:
        return None
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("", completed=completed, total=expected)
    bar.start()
    bar.console.show_cursor()  # what may be killed at any moment must not take the cursor with it
    return bar


def _read(asked: str | None, work: Path, *, fresh: bool, as_json: bool) -> int:
    folder = _folder(asked, work, fresh=fresh)
    if fresh:
        _forget(work / ".minions")
    # This handler looks up sys.stderr each time, so that a warning appears above the bar and not in it.
    logging.getLogger("minions").addHandler(logging.lastResort or logging.NullHandler())
    demo = assemble(folder, work)
    before, position = demo.counter.totals.files, demo.walker.position
    resumes = position.sent > 0
    if not as_json:
        expected = position.sent if position.done else sum(1 for _ in walk(folder, leave_out=str(work)))
        display = demo.system.add(Display(before=before, expected=expected, resumes=resumes))
        demo.system.connect(demo.counter.progress, display.progress)
    began_s = time.monotonic()
    ended = demo.system.run()
    run = _Run(folder, resumes, before, time.monotonic() - began_s)
    totals = demo.counter.totals
    if ended != "finished":
        print(f"{ended}: {totals.files:,} files are counted; run it again and it goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED if ended == "interrupted" else 0
    print(json.dumps(_as_json(run, totals), indent=2) if as_json else _as_text(run, totals))
    return 0


def _folder(asked: str | None, work: Path, *, fresh: bool) -> str:
    """The folder to read: what was asked for, what was begun, or the standard library."""
    try:
        begun = assemble("", work).walker.position.folder
    except StoreError:
        if not fresh:
            raise
        begun = ""
    folder = Path(asked if asked is not None else begun or sysconfig.get_path("stdlib")).resolve()
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise _Refused(f"{folder} {what}; give the folder that is to be read: minions demo FOLDER")
    if text_of(folder) != str(folder):
        raise _Refused(f"the name of {text_of(folder)} is not UTF-8, and cannot be stored; rename it")
    if begun and str(folder) != begun and not fresh:
        raise _Refused(
            f"{work} belongs to a run over {begun}: leave FOLDER out to go on with that, add --work DIR to read {folder} "
            "beside it, or --fresh to forget it"
        )
    if folder.is_relative_to(work):
        raise _Refused(
            f"{folder} is in the working folder {work}, which changes while it is read; use another --work DIR"
        )
    return str(folder)


def _forget(state: Path) -> None:
    """Deletes what the system has kept. The lock stays, and nobody else has it meanwhile."""
    if not state.is_dir():
        return
    lock = FolderLock.acquire(state)
    try:
        for path in state.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:
                path.unlink()
    finally:
        lock.release()


# ---------------------------------------------------------------------- reporting
def _as_json(run: _Run, totals: Totals) -> dict[str, Any]:
    return {
        "folder": run.folder,
        **attrs.asdict(_summed(totals.kinds.values())),
        "types": {kind: attrs.asdict(sums) for kind, sums in sorted(totals.kinds.items())},
        "unreadable": totals.unreadable,
        "checksum": totals.checksum,
        "resumed": run.resumed,
        "files_before": run.files_before,
        "seconds": round(run.seconds, 3),
    }


def _as_text(run: _Run, totals: Totals) -> str:
    lines = [*_table(totals.kinds), "", f"checksum: {totals.checksum}"]
    unreadable = totals.kinds.get(UNREADABLE, Sums()).files
    if unreadable:
        shown = totals.unreadable[:_NAMES_SHOWN]
        lines += ["", f"{_files(unreadable)} could not be read as text:"]
        lines += [f"  {_printable(name)}" for name in shown]
        if unreadable > len(shown):
            lines.append(f"  and {unreadable - len(shown):,} more (--json lists the first {NAMES_KEPT})")
    now = totals.files - run.files_before
    if run.resumed and not now:
        lines += ["", f"{run.folder}: was complete, nothing was left to do (--fresh reads it again)"]
    else:
        earlier = f", after {run.files_before:,} in earlier runs" if run.resumed else ""
        rate = now / run.seconds
        lines += ["", f"{run.folder}: {_files(now)} in {run.seconds:.1f} s, {rate:,.0f} files/s{earlier}"]
    return "\n".join(lines)


def _table(kinds: dict[str, Sums]) -> list[str]:
    """The sums by type, the most frequent first, as lines of text."""
    ranked = sorted(kinds.items(), key=lambda item: (-item[1].files, item[0]))
    rows = ranked[:_TYPES_SHOWN]
    if rest := ranked[_TYPES_SHOWN:]:
        rows.append((f"{len(rest)} others", _summed(sums for _, sums in rest)))
    rows.append(("total", _summed(kinds.values())))
    lines = [f"{'type':14}{'files':>10}{'lines':>14}{'words':>14}{'bytes':>18}"]
    for kind, sums in rows:
        row = f"{_printable(kind):14}{sums.files:10,}{sums.lines:14,}{sums.words:14,}{sums.size_bytes:18,}"
        lines.append(row)
    return lines


def _summed(all_sums: Iterable[Sums]) -> Sums:
    total = Sums()
    for sums in all_sums:
        total.files += sums.files
        total.lines += sums.lines
        total.words += sums.words
        total.size_bytes += sums.size_bytes
    return total


def _files(number: int) -> str:
    return f"{number:,} file{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    """Text for a terminal: a file may be called anything, and must not move the cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


# ---------------------------------------------------------------------- searching
def _search(work: Path, words: Sequence[str], *, as_json: bool) -> int:
    database = work / "index.db"
    if not " ".join(words).split():
        raise _Refused("--search needs a word to search for")
    nothing_yet = f"there is no index in {work} yet: run minions demo first, or say where it is with --work DIR"
    if not database.is_file():
        raise MinionsError(nothing_yet)
    # Each word in quotes: a word is a word, whatever FTS5 takes it for.
    query = " ".join('"' + word.replace('"', '""') + '"' for word in " ".join(words).split())
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                "SELECT path, snippet(pages, 1, '[', ']', '...', 16) FROM pages WHERE pages MATCH ? ORDER BY rank LIMIT ?",
                (query.encode(errors="replace").decode(), _PAGES_SHOWN),
            ).fetchall()
    except sqlite3.Error as error:
        if "no such table" in str(error):  # the demo ended before it was made
            raise MinionsError(nothing_yet) from error
        raise MinionsError(f"cannot search {database}: {error}; minions demo --fresh makes it anew") from error
    if as_json:
        print(json.dumps([{"path": path, "text": text} for path, text in found], indent=2))
    elif not found:
        print(f"nothing found for {' '.join(words)}", file=sys.stderr)
    for number, (path, text) in enumerate(() if as_json else found, 1):
        print(f"{number:2}  {_printable(path)}\n    {_printable(' '.join(text.split()))}")
    return 0 if found else EXIT_NOTHING_FOUND

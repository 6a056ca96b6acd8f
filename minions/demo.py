"""The demo: read, count and index every file of a folder, and lose nothing when it is killed.

    Walker ──> Reader x 4 ──> Counter
                       └────> Index

A plain script on the public face of Minions: ``python -m minions.demo [FOLDER]``. Kill it at any moment and run it again: it
goes on, and ends with the same totals and the same checksum. ``minions demo`` adds options, progress and a search.
"""

import sqlite3
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import attrs

from minions import Component, Inbox, Outbox, Retry, State, System
from minions.demo_files import Counted, measure, walk, with_one_more

NAMES_KEPT = 100
UNREADABLE = "(unreadable)"
OR_STOP = Retry(then="stop")  # rather stop, and try again when run again, than leave a file out


@attrs.frozen
class File:
    number: int
    path: str  # below the folder


@attrs.frozen
class Page:
    number: int
    path: str
    text: str


@attrs.define
class Position:
    folder: str = ""
    path: str = ""  # of the last file that was sent
    sent: int = 0
    done: bool = False


@attrs.define
class Sums:
    files: int = 0
    lines: int = 0
    words: int = 0
    size_bytes: int = 0


@attrs.define
class Totals:
    files: int = 0
    kinds: dict[str, Sums] = attrs.field(factory=dict)
    unreadable: list[str] = attrs.field(factory=list)  # the first names
    checksum: str = "0" * 64


class Walker(Component):
    """Finds the files, always in the same order, and remembers how far it got."""

    folder: str
    work: str
    files = Outbox(File)
    position = State(Position)

    def run(self) -> None:
        if self.position.done:
            return
        self.position.folder = self.folder
        for path in walk(self.folder, leave_out=self.work):
            if not self.running:
                return
            if self.position.sent and path.split("/") <= self.position.path.split("/"):
                continue
            with self.unit():  # what is sent and what is remembered are kept together, or neither is
                self.position.path = path
                self.position.sent += 1
                self.files.send(File(self.position.sent, path))
        self.position.done = True


class Reader(Component):
    """Reads files with calls that block, on as many threads as it has replicas."""

    folder: str
    files = Inbox(File, capacity=100, retry=OR_STOP)
    counted = Outbox(Counted)
    pages = Outbox(Page)

    @files.handler
    def read(self, file: File) -> None:
        try:
            counted, text = measure(self.folder, file.path)
        except (OSError, UnicodeDecodeError) as error:
            problem = getattr(error, "strerror", None) or "not UTF-8"
            self.counted.send(Counted(file.path, UNREADABLE, problem=problem))
        else:
            self.counted.send(counted)
            self.pages.send(Page(file.number, file.path, text))


class Counter(Component):
    """Adds up. Each message is committed together with the totals that it changed: none is lost, none counts twice."""

    counted = Inbox(Counted, retry=OR_STOP)
    totals = State(Totals)
    progress = Outbox(int, optional=True)

    @counted.handler
    def count(self, file: Counted) -> None:
        totals = self.totals
        totals.files += 1
        sums = totals.kinds.setdefault(file.kind, Sums())
        sums.files += 1
        sums.lines += file.lines
        sums.words += file.words
        sums.size_bytes += file.size_bytes
        if file.problem:
            totals.unreadable = sorted([*totals.unreadable, f"{file.path}: {file.problem}"])[:NAMES_KEPT]
        totals.checksum = with_one_more(totals.checksum, file)
        self.progress.send(totals.files)


class Index(Component):
    """Owns an SQLite connection, which no other thread may use.

    Its file is outside the runtime, and so written at least once, not exactly once: a page that comes again after a crash has
    the same number and replaces itself.
    """

    database: str
    pages = Inbox(Page, capacity=32, retry=OR_STOP)
    begun = State(bool)

    def on_start(self) -> None:
        self._connection = sqlite3.connect(self.database, isolation_level=None)  # each statement is a transaction
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if not self.begun:
            self._connection.execute("DROP TABLE IF EXISTS pages")
            self.begun = True
        self._connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS pages USING fts5 (path, text)")

    @pages.handler
    def index(self, page: Page) -> None:
        row = (page.number, page.path, page.text)
        self._connection.execute("REPLACE INTO pages (rowid, path, text) VALUES (?, ?, ?)", row)

    def on_stop(self) -> None:
        self._connection.close()


class Demo(NamedTuple):
    system: System
    walker: Walker
    counter: Counter


def assemble(folder: str, work: Path) -> Demo:
    """The system that reads `folder` and keeps its state and the index in the folder `work`."""
    system = System("demo", folder=work / ".minions")
    walker = system.add(Walker(folder=folder, work=str(work)))
    reader = system.add(Reader(folder=folder), replicas=4)
    counter = system.add(Counter())
    index = system.add(Index(database=str(work / "index.db")))
    system.connect(walker.files, reader.files)
    system.connect(reader.counted, counter.counted)
    system.connect(reader.pages, index.pages)
    return Demo(system, walker, counter)


if __name__ == "__main__":
    folder = str(Path(sys.argv[1]).resolve()) if sys.argv[1:] else sysconfig.get_path("stdlib")
    demo = assemble(folder, Path("minions-demo").resolve())
    begun = demo.walker.position.folder  # asked outside of a run, it is what the last one left
    if begun not in ("", folder):
        sys.exit(f"the folder minions-demo belongs to a run over {begun}: give that, or move it away")
    demo.system.run()
    for kind, sums in sorted(demo.counter.totals.kinds.items()):
        print(f"{kind:12}{sums.files:9,} files{sums.lines:12,} lines{sums.words:12,} words{sums.size_bytes:14,} bytes")
    print(f"checksum: {demo.counter.totals.checksum}")

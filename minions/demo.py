"""The demo: read every file of a folder, count it, index it, and lose nothing when it is killed.

    Walker ──> Reader × 4 ──> Counter ──> Display
                        └───> Index

A plain script on the public face of Minions. Run it with ``python -m minions.demo [FOLDER]``, or with all its options
with ``minions demo``. Kill it at any moment and run it again: it goes on, and ends with the same totals.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import sqlite3
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import attrs

from minions import Component, Inbox, Outbox, Retry, State, System

SKIPPED = ("__pycache__", "site-packages")
BLOCK_BYTES = 1 << 20  # files are read in blocks, and the first one is what is indexed
NAMES_KEPT = 100
OR_STOP = Retry(then="stop")  # rather stop the demo than leave a file out


# What is sent and what is kept ----------------------------------------------------------------------------------------
@attrs.frozen
class File:
    number: int
    path: str  # in the folder


@attrs.frozen
class Counted:
    path: str
    kind: str
    lines: int = 0
    words: int = 0
    bytes: int = 0
    sha256: str = ""
    problem: str = ""  # why it could not be read


@attrs.frozen
class Page:
    number: int
    path: str
    text: str


@attrs.frozen
class Tally:
    files: int


@attrs.define
class Position:
    folder: str = ""
    number: int = 0  # of the last file that was sent
    path: str = ""
    finished: bool = False


@attrs.define
class Sum:
    files: int = 0
    lines: int = 0
    words: int = 0
    bytes: int = 0

    def add(self, other: Sum | Counted, files: int = 1) -> None:
        self.files += files
        self.lines += other.lines
        self.words += other.words
        self.bytes += other.bytes


@attrs.define
class Totals:
    all: Sum = attrs.field(factory=Sum)
    kinds: dict[str, Sum] = attrs.field(factory=dict)
    unreadable: int = 0
    unreadable_names: list[str] = attrs.field(factory=list)
    checksum: str = "0" * 64


# The components -------------------------------------------------------------------------------------------------------
class Walker(Component):
    """Sends the name of every file, and remembers how far it got."""

    folder: str
    work: str
    files = Outbox(File)
    position = State(Position)

    def on_start(self) -> None:
        self.position.folder = self.folder

    def run(self) -> None:
        if self.position.finished:
            return
        reached = self.position.path.split("/")
        for path in walk(self.folder, self.work):
            if not self.running:
                return
            if self.position.number and path.split("/") <= reached:
                continue
            with self.unit():  # both or neither: what was sent is never sent again, nor left out
                self.position.number += 1
                self.position.path = path
                self.files.send(File(self.position.number, path))
        self.position.finished = True


class Reader(Component):
    """Reads files: blocking calls, on as many threads as there are replicas."""

    folder: str
    files = Inbox(File, capacity=100, retry=OR_STOP)
    counted = Outbox(Counted)
    pages = Outbox(Page)

    @files.handler
    def read(self, file: File) -> None:
        kind = kind_of(file.path)
        try:
            lines, words, size, sha256, text = measure(Path(self.folder, file.path))
        except (OSError, UnicodeDecodeError) as error:
            self.counted.send(Counted(file.path, kind, problem=getattr(error, "strerror", None) or "not UTF-8 text"))
            return
        self.counted.send(Counted(file.path, kind, lines, words, size, sha256))
        self.pages.send(Page(file.number, file.path, text))


class Counter(Component):
    """Adds up. Its state changes and its messages are acknowledged in one commit, or not at all."""

    counted = Inbox(Counted, retry=OR_STOP)
    tallies = Outbox(Tally)
    totals = State(Totals)

    def on_start(self) -> None:
        self.tallies.send(Tally(self.totals.all.files))

    @counted.handler
    def count(self, file: Counted) -> None:
        totals = self.totals
        totals.all.add(file)
        totals.kinds.setdefault(file.kind, Sum()).add(file)
        if file.problem:
            totals.unreadable += 1
            totals.unreadable_names = sorted([*totals.unreadable_names, f"{file.path}: {file.problem}"])[:NAMES_KEPT]
        fingerprint = hashlib.sha256(repr(attrs.astuple(file)).encode()).hexdigest()
        totals.checksum = f"{(int(totals.checksum, 16) + int(fingerprint, 16)) % 2**256:064x}"
        self.tallies.send(Tally(totals.all.files))


class Index(Component):
    """Owns the SQLite connection, which no other thread may use.

    What it writes is outside the runtime, so after a crash it may be asked to write a page again: that replaces the page.
    """

    file: str
    pages = Inbox(Page, capacity=32, retry=OR_STOP)
    begun = State(bool)

    def on_start(self) -> None:
        self._connection = sqlite3.connect(self.file, isolation_level=None)  # each statement is a transaction
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if not self.begun:
            self._connection.execute("DROP TABLE IF EXISTS pages")
            self.begun = True
        self._connection.execute("CREATE VIRTUAL TABLE IF NOT EXISTS pages USING fts5 (path, text)")

    @pages.handler
    def index(self, page: Page) -> None:
        self._connection.execute(
            "REPLACE INTO pages (rowid, path, text) VALUES (?, ?, ?)", (page.number, page.path, page.text)
        )

    def on_stop(self) -> None:
        self._connection.close()


class Display(Component):
    """Shows how far it is: a bar where rich is installed and a terminal is there, a line now and then elsewhere."""

    expected: int
    tallies = Inbox(Tally, capacity=10, durable=False, overflow="drop_oldest")

    def on_start(self) -> None:
        self._show, self.on_stop = progress_bar(self.expected) or progress_lines(self.expected)

    @tallies.handler
    def show(self, tally: Tally) -> None:
        self._show(tally.files)

"""Another process reads the database of a running system, or locks it: commits go on, or wait and go on; nothing is lost."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System
from minions.flow import inspection, plain_cache
from tests.system.conftest import PATIENCE_S

OUTSIDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("there", flush=True)
sys.stdin.read()
"""
READS = ("BEGIN", "SELECT count(*) FROM Cache")
LOCKS = ("BEGIN EXCLUSIVE",)
PAGES_UNTIL_CHECKPOINT = 20

LOCKED = r"\S+cache\.db: another program holds the database locked \(an sqlite3 shell, a backup\?\); let it finish or stop it"


@attrs.frozen
class Number:
    value: int


class Counting(Component):
    """Sends so many numbers in each run; `halt` is called before one in the middle, and `resumed` after the next commit."""

    count: int
    halt: Callable[[], None] = lambda: None
    resumed: Callable[[], None] = lambda: None
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        began = self.sent
        while self.sent < began + self.count:
            if self.sent == began + self.count // 2:
                self.halt()
                self.send_next()
                self.commit()
                self.resumed()
            self.send_next()
            self.commit()

    def send_next(self) -> None:
        with self.unit():
            self.out.send(Number(self.sent))
            self.sent += 1


class Keeping(Component):
    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number: Number) -> None:
        self.values.append(number.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a second takes a moment here, and what takes a thousand pages takes a few."""
    for module in (plain_cache, inspection):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setitem(plain_cache.SETTINGS, "sqlite_wal_autocheckpoint", PAGES_UNTIL_CHECKPOINT)


@contextmanager
def outsider(folder: Path, *statements: str) -> Iterator[Callable[[], None]]:
    """Another process that has the database open and has executed this; it ends when what is yielded is called."""
    command = [sys.executable, "-c", OUTSIDER, str(folder / "cache.db"), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def leave() -> None:
            process.communicate(timeout=PATIENCE_S)

        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            yield leave
        finally:
            process.kill()


def system_over(folder: Path, count: int = 40, **hooks: Callable[[], None]) -> tuple[System, Keeping]:
    system = System("test", folder=folder)
    counting, keeping = system.add(Counting(count=count, **hooks)), system.add(Keeping())
    system.connect(counting.out, keeping.numbers)
    return system, keeping


def log_size(folder: Path) -> int:
    log = folder / "cache.db-wal"
    return log.stat().st_size if log.exists() else 0


def test_a_reader_that_never_ends_lets_the_log_grow_and_delays_nothing(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert system_over(folder)[0].run() == "finished"
    assert log_size(folder) == 0

    with outsider(folder, *READS) as leave:
        for runs in (2, 3):
            system, keeping = system_over(folder)
            assert system.run() == "finished"
            assert keeping.values == list(range(40 * runs))
        assert log_size(folder) > 3 * PAGES_UNTIL_CHECKPOINT * 4096, "nothing could be moved into the database"
        leave()

    system, keeping = system_over(folder)
    assert system.run() == "finished"
    assert keeping.values == list(range(160))
    assert log_size(folder) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_commits_wait_for_a_program_that_has_the_database_locked_and_go_on_when_it_lets_go(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    halted, go_on, resumed = threading.Event(), threading.Event(), threading.Event()

    def halt() -> None:
        halted.set()
        assert go_on.wait(PATIENCE_S)

    refused = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "commit failed" in record.getMessage():
                refused.set()

    listening = Listening()
    logging.getLogger("minions.test").addHandler(listening)
    system, keeping = system_over(folder, halt=halt, resumed=lambda: resumed.set())
    try:
        with system.started():
            assert halted.wait(PATIENCE_S)
            with outsider(folder, *LOCKS) as leave:
                go_on.set()
                assert refused.wait(PATIENCE_S)
                assert not resumed.is_set()
                leave()
            assert resumed.wait(PATIENCE_S)
            assert system.wait(PATIENCE_S)
    finally:
        logging.getLogger("minions.test").removeHandler(listening)

    (said,) = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    assert re.fullmatch(rf"commit failed \(nothing is lost, trying again\): cannot commit to {LOCKED}", said)
    assert keeping.values == list(range(40))


def test_a_start_while_a_program_has_the_database_locked_is_refused_in_one_sentence_and_harms_nothing(
    folder: Path,
) -> None:
    assert system_over(folder)[0].run() == "finished"
    system, keeping = system_over(folder)
    with outsider(folder, *LOCKS) as leave:
        for _ in range(2):
            with pytest.raises(SystemExit) as refused:
                system.run()
            assert re.fullmatch(rf"test: cannot use {LOCKED}", str(refused.value))
        leave()
    assert system.run() == "finished"
    assert keeping.values == list(range(80))


def test_a_program_that_locks_and_dies_leaves_nothing_behind(folder: Path) -> None:
    assert system_over(folder)[0].run() == "finished"
    with outsider(folder, *LOCKS, "DELETE FROM Cache"):
        pass  # killed in the middle of its transaction
    system, keeping = system_over(folder)
    assert system.run() == "finished"
    assert keeping.values == list(range(80))

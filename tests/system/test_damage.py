"""A script whose state folder was damaged says so in one sentence, ends with 1 and overwrites nothing; put right, it goes on."""

from __future__ import annotations

import random
import re
import shutil
import signal
import sqlite3
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from tests.system.conftest import PRELUDE, Child, Launch

SCRIPT = """
    class Sending(Numbers):
        def run(self):
            super().run()
            for _ in range({commits_before_kill}):
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1
                self.commit()
            if {commits_before_kill}:
                os.kill(os.getpid(), signal.SIGKILL)

    sending, kept = system.add(Sending(count={count})), system.add(Kept())
    system.connect(sending.out, kept.numbers)
    say(system.run())
    say(str(kept.values == list(range({count}))))
"""
STOPPED = SCRIPT.format(count=300, commits_before_kill=0)
KILLED = SCRIPT.format(count=300, commits_before_kill=30)
TO_THE_END = SCRIPT.format(count=500, commits_before_kill=0)

REMEDY = r"; restore a snapshot, or move the folder away to start afresh; nothing was overwritten"
LACKS = (
    r"cache\.db lacks the last \d+ of \d+ commits: the database or its write-ahead log was removed, replaced or damaged"
)


@attrs.frozen
class Bases:
    """State folders as a run leaves them that has stopped, and one that was killed a few commits later."""

    stopped: Path
    killed: Path


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    home = tmp_path_factory.mktemp("bases")
    script, folder = home / "script.py", home / ".minions"

    def run(code: str) -> int:
        script.write_text(PRELUDE + textwrap.dedent(code), encoding="utf-8")
        return Child(script).end().returncode

    assert run(STOPPED) == 0
    shutil.copytree(folder, home / "stopped")
    assert run(KILLED) == -signal.SIGKILL
    assert (folder / "cache.db-wal").stat().st_size > 100_000
    return Bases(home / "stopped", folder)


def content(folder: Path) -> dict[str, bytes]:
    """The database, its log unless it is empty (any reader leaves it so), and the mark."""
    paths = [folder / name for name in ("cache.db", "cache.db-wal", "mark")]
    data = {path.name: path.read_bytes() for path in paths if path.exists()}
    return {name: content for name, content in data.items() if content or name != "cache.db-wal"}


def stored_rows(folder: Path) -> list[tuple[object, ...]]:
    """What SQLite finds in the database, whatever it is worth."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection:
        return connection.execute("SELECT * FROM Cache ORDER BY rowid").fetchall()


def overwritten(data: bytes, at: int, by: bytes) -> bytes:
    return data[:at] + by + data[at + len(by) :]


def flipped_in_a_value(data: bytes) -> bytes:
    """In each copy of it: where rows have moved, SQLite leaves the old ones in the space that is free."""
    assert b"[0,1,2,3,4,5,6" in data
    return data.replace(b"[0,1,2,3,4,5,6", b"[0,1,7,3,4,5,6")


SPOILED_DATABASES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "header": (lambda data: overwritten(data, 0, bytes(50)), rf"cache\.db is damaged \(.*\){REMEDY}"),
    "page": (lambda data: overwritten(data, 4096 * 2, b"\xff" * 4096), rf"cache\.db is damaged \((?s:.*)\){REMEDY}"),
    "half": (lambda data: data[: len(data) // 2], rf"cache\.db is damaged \((?s:.*)\){REMEDY}"),
    "empty": (lambda data: b"", rf"{LACKS}{REMEDY}.*"),
}
SPOILED_LOGS: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda log: None,
    "empty": lambda log: b"",
    "torn": lambda log: log[: len(log) // 2 + 100],
    "its header only": lambda log: log[:32],
    "random bytes in the middle": lambda log: overwritten(log, len(log) // 2, random.Random(1).randbytes(5_000)),
    "random bytes from the start": lambda log: random.Random(1).randbytes(len(log)),
    "flipped byte": lambda log: overwritten(log, len(log) - 2_000, bytes([log[-2_000] ^ 1])),
}
SPOILED_MARKS: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda mark: None,
    "empty": lambda mark: b"",
    "cut short": lambda mark: mark[:20],
    "flipped byte": lambda mark: overwritten(mark, 20, bytes([mark[20] ^ 1])),
    "longer": lambda mark: mark + b"more",
}


def replace(path: Path, spoil: Callable[[bytes], bytes | None]) -> None:
    data = spoil(path.read_bytes())
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def refuses_and_goes_on_when_put_right(
    launch: Launch,
    home: Path,
    base: Path,
    name: str,
    spoiled: bytes | None,
    content: Callable[[Path], object] = content,
) -> str:
    """What the script says of a folder of which one file was spoiled; it is put right, and run to its end.

    Args:
        content: of a folder, which has to stay as it is.
    """
    folder = home / ".minions"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("run"))
    replace(folder / name, lambda data: spoiled)
    before, said = content(folder), set()
    for _ in range(2):
        ended = launch(TO_THE_END).end()
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "Traceback" not in ended.stderr
        assert content(folder) == before
        said.add(ended.stderr)
    shutil.copy(base / name, folder / name)
    ended = launch(TO_THE_END).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr
    (sentence,) = said
    return sentence


@pytest.mark.parametrize("kind", SPOILED_DATABASES)
def test_a_damaged_database_is_refused(launch: Launch, tmp_path: Path, bases: Bases, kind: str) -> None:
    spoil, expected = SPOILED_DATABASES[kind]
    spoiled = spoil((bases.stopped / "cache.db").read_bytes())
    said = refuses_and_goes_on_when_put_right(launch, tmp_path, bases.stopped, "cache.db", spoiled)
    assert re.fullmatch(rf"test: {re.escape(str(tmp_path))}/\.minions/{expected}\n", said), said


def test_a_flipped_byte_in_a_value_is_refused(launch: Launch, tmp_path: Path, bases: Bases) -> None:
    """It is found once the database is open, and has been entered in its books; the rows are as they were."""
    spoiled = flipped_in_a_value((bases.stopped / "cache.db").read_bytes())
    said = refuses_and_goes_on_when_put_right(launch, tmp_path, bases.stopped, "cache.db", spoiled, stored_rows)
    assert re.fullmatch(rf"test: \S+cache\.db: row 'state/kept': its checksum does not match .*{REMEDY}\n", said), said


@pytest.mark.parametrize("kind", SPOILED_LOGS)
def test_a_damaged_log_is_refused(launch: Launch, tmp_path: Path, bases: Bases, kind: str) -> None:
    spoiled = SPOILED_LOGS[kind]((bases.killed / "cache.db-wal").read_bytes())
    said = refuses_and_goes_on_when_put_right(launch, tmp_path, bases.killed, "cache.db-wal", spoiled)
    assert re.fullmatch(rf"test: {re.escape(str(tmp_path))}/\.minions/{LACKS}{REMEDY}.*\n", said), said


@pytest.mark.parametrize("kind", SPOILED_MARKS)
def test_a_damaged_mark_is_no_reason_to_refuse(launch: Launch, tmp_path: Path, bases: Bases, kind: str) -> None:
    folder = tmp_path / ".minions"
    shutil.copytree(bases.killed, folder, ignore=shutil.ignore_patterns("run"))
    replace(folder / "mark", SPOILED_MARKS[kind])
    ended = launch(TO_THE_END).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr
    assert (folder / "mark").stat().st_size >= 28


def test_a_log_without_its_database_is_refused(launch: Launch, tmp_path: Path, bases: Bases) -> None:
    folder = tmp_path / ".minions"
    shutil.copytree(bases.killed, folder, ignore=shutil.ignore_patterns("run"))
    (folder / "cache.db").unlink()
    ended = launch(TO_THE_END).end()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.search(r"cache\.db-wal is there, but \S+cache\.db is gone; restore", ended.stderr)
    shutil.copy(bases.killed / "cache.db", folder)
    assert launch(TO_THE_END).end().stdout == "finished\nTrue\n"

"""A folder that is damaged, planted or of another kind is refused with a sentence, and nothing in it is overwritten."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import diskcache
import pytest

from minions.errors import CommitFailed, StoreDamaged, StoreError, StoreTooNew, StoreUnusable
from minions.flow import mark as mark_module
from minions.flow import store as store_module
from minions.flow.inspection import FORMAT_KEY, find_commit_number
from minions.flow.mark import UNKNOWN_LOOKS, Mark
from minions.flow.plain_cache import PlainCache, PlainDisk
from minions.flow.seal import seal
from minions.flow.store import Store, read_rows

ROWS = [(f"state/{letter}", f"body of {letter}".encode() * 10) for letter in "abc"]
REMEDY = "restore a snapshot, or move the folder away to start afresh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of two commits, in order."""
    folder = tmp_path / "state"
    with closing(Store.open(folder)) as store:
        store.commit(ROWS[:1], [])
        store.commit(ROWS[1:], [])
    return folder


@pytest.fixture
def killed_folder(tmp_path: Path) -> Path:
    """A store of two commits whose process was killed: both are in the log only."""
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from minions.flow.store import Store
        store = Store.open(Path(sys.argv[1]))
        store.commit([("state/a", b"1")], [])
        store.commit([("state/b", b"2")], [])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = tmp_path / "killed"
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, and but what any reader of the database leaves: the index of the log, and an empty log."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    data = {path.name: path.read_bytes() for path in files if path.name not in ("lock", "cache.db-shm")}
    return {name: content for name, content in data.items() if content or name != "cache.db-wal"}


def refusal(folder: Path, kind: type[StoreError]) -> str:
    """What `Store.open` says, twice: it overwrites nothing, and it lets go of the folder."""
    before = content(folder)
    said = []
    for _ in range(2):
        with pytest.raises(kind) as refused:
            Store.open(folder)
        assert type(refused.value) is kind
        assert content(folder) == before
        said.append(str(refused.value))
    assert said[0] == said[1]
    return said[0]


def tamper(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def replace_bytes(path: Path, old: bytes, new: bytes, at: Callable[[bytes, bytes], int] = bytes.find) -> None:
    data = path.read_bytes()
    assert old in data
    position = at(data, old)
    path.write_bytes(data[:position] + new + data[position + len(old) :])


# Bytes that changed


def test_a_flipped_byte_in_a_value_is_found_and_the_row_named(folder: Path) -> None:
    replace_bytes(folder / "cache.db", b"body of b", b"body of B")
    with closing(diskcache.Cache(folder)) as plain:
        assert b"body of B" in plain["state/b"]  # neither SQLite nor diskcache notices
    with closing(Store.open(folder)) as store:
        assert store.get("state/a") == ROWS[0][1]
        with pytest.raises(StoreDamaged, match="row 'state/b': its checksum does not match"):
            list(store.rows("state/"))
        with pytest.raises(StoreDamaged, match="row 'state/b'"):
            store.get("state/b")
    with pytest.raises(StoreDamaged, match=f"row 'state/b'.*{REMEDY}"):
        read_rows(folder, "state/")


@pytest.mark.parametrize("at", [bytes.find, bytes.rfind], ids=["index or table", "the other"])
def test_a_flipped_byte_in_a_key_is_found(folder: Path, at: Callable[[bytes, bytes], int]) -> None:
    replace_bytes(folder / "cache.db", b"state/b", b"stbte/b", at)
    assert "is damaged" in refusal(folder, StoreDamaged)


def test_a_row_under_the_key_of_another_is_found(folder: Path) -> None:
    tamper(folder, "UPDATE Cache SET value = (SELECT value FROM Cache WHERE key = 'state/a') WHERE key = 'state/b'")
    with closing(Store.open(folder)) as store, pytest.raises(StoreDamaged, match="row 'state/b'"):
        list(store.rows("state/"))


def test_a_value_too_short_to_have_a_checksum_is_found(folder: Path) -> None:
    tamper(folder, "UPDATE Cache SET value = x'00' WHERE key = 'state/b'")
    with closing(Store.open(folder)) as store, pytest.raises(StoreDamaged, match="row 'state/b'"):
        list(store.rows("state/"))


@pytest.mark.parametrize("key", ["meta/commit", "meta/format"])
def test_a_flipped_byte_in_the_stores_own_rows_is_found(folder: Path, key: str) -> None:
    tamper(folder, f"UPDATE Cache SET value = CAST(value || 'x' AS BLOB) WHERE key = '{key}'")
    assert f"row '{key}'" in refusal(folder, StoreDamaged)


def test_a_lost_commit_number_is_found(folder: Path) -> None:
    tamper(folder, "DELETE FROM Cache WHERE key = 'meta/commit'")
    assert "has lost its row 'meta/commit'" in refusal(folder, StoreDamaged)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"This is no database at all. " * 200,
        lambda data: b"\0" * 100 + data[100:],
        lambda data: data[:100] + b"\xff" * 4000 + data[4100:],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-4096],
        lambda data: data[:1000],
    ],
    ids=["text", "header", "first page", "half", "without the last page", "less than a page"],
)
def test_a_malformed_database_is_refused(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    (folder / "cache.db").write_bytes(spoil((folder / "cache.db").read_bytes()))
    said = refusal(folder, StoreDamaged)
    assert str(folder / "cache.db") in said
    assert REMEDY in said


# Commits that are missing


@pytest.mark.parametrize("name", ["cache.db", "everything"])
def test_a_database_that_is_gone_is_missed(folder: Path, name: str) -> None:
    for path in folder.glob("cache.db*" if name == "everything" else name):
        path.unlink()
    assert "lacks the last 2 of 2 commits" in refusal(folder, StoreDamaged)


def test_an_empty_database_file_is_not_a_new_store(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"")
    assert "lacks the last 2 of 2 commits" in refusal(folder, StoreDamaged)


def test_a_database_of_nothing_but_tables_is_not_a_new_store(folder: Path) -> None:
    tamper(folder, "DELETE FROM Cache")
    assert "lacks the last 2 of 2 commits" in refusal(folder, StoreDamaged)


def test_a_deleted_log_is_missed_and_the_message_counts(killed_folder: Path) -> None:
    for suffix in ("-wal", "-shm"):
        (killed_folder / f"cache.db{suffix}").unlink()
    said = refusal(killed_folder, StoreDamaged)
    assert "lacks the last 2 of 2 commits" in said
    assert str(killed_folder / "mark") in said


def test_a_truncated_log_is_missed(killed_folder: Path) -> None:
    log = killed_folder / "cache.db-wal"
    log.write_bytes(log.read_bytes()[:-4096])
    assert "lacks the last 1 of 2 commits" in refusal(killed_folder, StoreDamaged)


def test_a_damaged_log_is_missed(killed_folder: Path) -> None:
    log = killed_folder / "cache.db-wal"
    data = bytearray(log.read_bytes())
    data[-100] ^= 1
    log.write_bytes(data)
    assert "lacks the last 1 of 2 commits" in refusal(killed_folder, StoreDamaged)


@pytest.mark.parametrize("left", [None, b""], ids=["gone", "empty"])
def test_a_log_without_its_database_is_refused_even_without_a_mark(killed_folder: Path, left: bytes | None) -> None:
    (killed_folder / "mark").unlink()
    (killed_folder / "cache.db").unlink()
    if left is not None:
        (killed_folder / "cache.db").write_bytes(left)
    assert "cache.db-wal is there" in refusal(killed_folder, StoreDamaged)


def test_an_older_database_is_missed_until_the_mark_is_deleted_as_the_message_says(folder: Path) -> None:
    shutil.copy(folder / "cache.db", folder.parent / "older.db")
    with closing(Store.open(folder)) as store:
        store.commit([("state/a", b"newer")], [])
    shutil.copy(folder.parent / "older.db", folder / "cache.db")
    assert f"delete {folder / 'mark'}" in refusal(folder, StoreDamaged)
    (folder / "mark").unlink()
    with closing(Store.open(folder)) as store:
        assert (store.commit_number, store.commits_lost) == (2, 0)


def test_after_a_power_loss_the_store_opens_and_tells_what_is_lost_until_the_next_commit(
    killed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = killed_folder / "cache.db-wal"
    log.write_bytes(log.read_bytes()[:-4096])
    (killed_folder / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", killed_folder / "boot_id")
    for _ in range(2):
        with closing(Store.open(killed_folder)) as store:
            assert (store.commit_number, store.commits_lost) == (1, 1)
            assert list(store.rows("state/")) == [("state/a", b"1")]
    with closing(Store.open(killed_folder)) as store:
        store.commit([], [])
    assert not Mark(killed_folder).at_risk, "it was closed in order, after a commit"
    with closing(Store.open(killed_folder)) as store:
        assert (store.commit_number, store.commits_lost) == (2, 0)


def test_a_store_that_could_not_commit_is_not_said_to_be_whole_when_it_is_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(folder)
    store.commit([("state/a", b"1")], [])
    before = (folder / "mark").read_bytes()

    def malformed(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(store._cache, "commit", malformed)
    with pytest.raises(CommitFailed, match="malformed"):
        store.commit([("state/a", b"2")], [])
    store.close()
    assert (folder / "mark").read_bytes() == before


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
@pytest.mark.parametrize("ended", ["killed", "closed", "closed beside a reader"])
def test_after_the_machine_went_down_a_store_that_was_in_use_says_that_something_may_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronous: str, ended: str
) -> None:
    script = """if True:
        import os, signal, sqlite3, sys
        from pathlib import Path
        from minions.flow import plain_cache
        from minions.flow.store import Store
        plain_cache.BUSY_TIMEOUT_S = 0.01
        folder, synchronous, ended = sys.argv[1:]
        store = Store.open(Path(folder), synchronous=synchronous)
        store.commit([("state/a", b"1")], [])
        if "reader" in ended:
            reader = sqlite3.connect(Path(folder, "cache.db"), isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM Cache").fetchall()
            store.commit([("state/a", b"1")], [])
        if ended != "killed":
            store.close()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = tmp_path / "state"
    subprocess.run([sys.executable, "-c", script, str(folder), synchronous, ended], check=False)
    with closing(Store.open(folder)) as store:
        assert not store.perhaps_lost, "the machine has been up since"
    subprocess.run([sys.executable, "-c", script, str(folder), synchronous, ended], check=False)

    (tmp_path / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", tmp_path / "boot_id")
    for _ in range(2):
        with closing(Store.open(folder)) as store:
            assert (store.commits_lost, store.perhaps_lost) == (0, synchronous == "NORMAL" and ended != "closed")
    with closing(Store.open(folder)) as store:
        store.commit([], [])
    with closing(Store.open(folder)) as store:
        assert not store.perhaps_lost


def test_a_power_loss_does_not_explain_a_database_that_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", folder / "none")
    (folder / "cache.db").unlink()
    assert "lacks the last 2 of 2 commits" in refusal(folder, StoreDamaged)


@pytest.mark.parametrize("mark", [None, b"", b"cut short", bytes(28)], ids=["gone", "empty", "short", "zeros"])
def test_a_store_without_a_whole_mark_opens(folder: Path, mark: bytes | None) -> None:
    (folder / "mark").unlink()
    if mark is not None:
        (folder / "mark").write_bytes(mark)
    with closing(Store.open(folder)) as store:
        assert (store.commit_number, store.commits_lost) == (2, 0)
        assert list(store.rows("state/")) == ROWS


# What need not be read whole


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each opening, whether the database was taken for what had been left; as if none were too small for it to matter."""
    said: list[bool] = []
    look = find_commit_number

    def note(folder: Path, *, trusted: bool = False) -> int | None:
        said.append(trusted)
        return look(folder, trusted=trusted)

    monkeypatch.setattr(store_module, "_SMALL_BYTES", 0)
    monkeypatch.setattr(store_module, "find_commit_number", note)
    return said


ENTRIES = [(f"table/c/t/{number:04}", b"entry") for number in range(300)]


def leave(folder: Path, ended: str) -> None:
    """A store with entries of a table, whose process has closed it or was killed."""
    script = """if True:
        import os, signal, sys, time
        from pathlib import Path
        from minions.flow import store as store_module
        store_module._SMALL_BYTES = 0
        folder, ended = sys.argv[1:]
        store = store_module.Store.open(Path(folder))
        store.commit([(f"table/c/t/{number:04}", b"entry") for number in range(300)], [])
        while store._mark.looks == bytes(16):  # until the last change of the file is a moment ago
            store.commit([], [])
            store._mark = store_module.Mark(Path(folder))
            store._mark.open()
        if ended == "closed":
            store.close()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", script, str(folder), ended], check=False)


def change_boot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", folder.parent / "boot_id")


@pytest.mark.parametrize(
    ("ended", "then", "trusts"),
    [
        ("closed", "nothing", True),
        ("killed", "nothing", True),
        ("closed", "reboot", True),
        ("killed", "reboot", False),
        ("closed", "copy", False),
        ("killed", "copy", False),
        ("closed", "rewrite", False),
        ("killed", "rewrite", False),
        ("closed", "an earlier version", False),
    ],
)
def test_the_database_is_read_whole_where_somebody_else_may_have_written_to_it(
    tmp_path: Path, trusted: list[bool], monkeypatch: pytest.MonkeyPatch, ended: str, then: str, trusts: bool
) -> None:
    folder = tmp_path / "state"
    leave(folder, ended)
    if then == "copy":
        shutil.copytree(folder, tmp_path / "copy")
        folder = tmp_path / "copy"
    elif then == "rewrite":
        (folder / "cache.db").write_bytes((folder / "cache.db").read_bytes())
    elif then == "reboot":
        change_boot(folder, monkeypatch)
    elif then == "an earlier version":
        os.truncate(folder / "mark", 28)
    with closing(Store.open(folder)) as store:
        assert list(store.rows("table/")) == ENTRIES
    with closing(Store.open(folder)) as store:
        assert list(store.rows("table/")) == ENTRIES
    # where the power may have taken commits the mark stays until there is a new one
    assert trusted == [trusts, (ended, then) != ("killed", "reboot")]


def test_where_most_is_not_read_the_rest_is(tmp_path: Path, trusted: list[bool]) -> None:
    """What another program has added since is in the log: the database itself is as it was."""
    folder = tmp_path / "state"
    leave(folder, "closed")
    script = """if True:
        import os, sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute("INSERT INTO Cache(key, raw, mode, value) VALUES ('state/x', 1, 4, x'00')")
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", script, str(folder / "cache.db")], check=True)
    assert "the row 'state/x' as a pickle" in refusal(folder, StoreDamaged)
    assert trusted == [True, True]


def test_a_change_right_after_the_end_is_seen(folder: Path, trusted: list[bool]) -> None:
    """Though it leaves the file with as many bytes and, but for a moment, with the same time."""
    descriptor = os.open(folder / "cache.db", os.O_RDWR)
    with closing(Store.open(folder)) as store:
        store.commit(ENTRIES, [])
    os.pwrite(descriptor, os.pread(descriptor, 1, 5_000), 5_000)
    os.close(descriptor)
    with closing(Store.open(folder)):
        assert trusted == [False, False]


def test_a_database_says_nothing_of_itself_before_a_later_change_would_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "cache.db"
    assert store_module._lasting_looks(database) == UNKNOWN_LOOKS
    database.write_bytes(bytes(100))
    os.utime(database, ns=(1_000_000_007, 1_000_000_007))
    assert store_module._lasting_looks(database) == UNKNOWN_LOOKS  # it is small
    monkeypatch.setattr(store_module, "_SMALL_BYTES", 0)
    looks = store_module._lasting_looks(database)
    assert UNKNOWN_LOOKS != looks != store_module._lasting_looks(database, closed=True) != UNKNOWN_LOOKS
    os.utime(database, ns=(1_000_000_000, 1_000_000_000))
    assert store_module._lasting_looks(database) == UNKNOWN_LOOKS  # this file system knows no fine times
    monkeypatch.setattr(store_module, "_TICK_NS", 10**15)
    os.utime(database)
    assert store_module._lasting_looks(database) == UNKNOWN_LOOKS
    monkeypatch.setattr(store_module, "_TICK_NS", 100_000_000)
    assert store_module._lasting_looks(database, closed=True) != UNKNOWN_LOOKS
    assert time.time_ns() - database.stat().st_mtime_ns >= 100_000_000


def test_a_planted_entry_is_found_where_the_database_was_written_to(folder: Path, trusted: list[bool]) -> None:
    tamper(folder, "INSERT INTO Cache(key, raw, mode, value) VALUES ('table/c/t/x', 1, 4, x'00')")
    assert "the row 'table/c/t/x' as a pickle" in refusal(folder, StoreDamaged)


# What was planted


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("place", ["key", "value", "value in a file"])
def test_a_planted_pickle_is_refused_and_does_not_run(folder: Path, place: str) -> None:
    exploded = folder.parent / "exploded"
    bomb = sqlite3.Binary(pickle.dumps(Bomb(exploded)))
    row = {
        "key": (bomb, 0, 1, None, b"x"),
        "value": ("state/x", 1, 4, None, bomb),
        "value in a file": ("state/x", 1, 4, "x.val", None),
    }[place]
    (folder / "x.val").write_bytes(bytes(bomb))
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("INSERT INTO Cache(key, raw, mode, filename, value) VALUES (?, ?, ?, ?, ?)", row)
    assert "pickle is never loaded" in refusal(folder, StoreDamaged)
    with pytest.raises(StoreDamaged, match="pickle is never loaded"):
        read_rows(folder, "")
    assert not exploded.exists()
    with closing(diskcache.Cache(folder)) as plain:  # what would have happened
        for key in plain:
            plain.get(key)
    assert exploded.is_dir()


def test_the_disk_itself_refuses_pickles_and_files_both_ways(tmp_path: Path) -> None:
    with closing(PlainCache(tmp_path)) as cache:
        for value in (b"bytes", "text", 1, 1.5):
            cache.set(value, value)
            assert cache.get(value) == value
        for other in (None, True, ["list"], bytearray(b"x"), Bomb(tmp_path)):
            with pytest.raises(TypeError, match="cannot be stored"):
                cache.set("key", other)
            with pytest.raises(TypeError, match="cannot be stored"):
                cache.set(other, b"value")
        with (tmp_path / "cache.db").open("rb") as file, pytest.raises(TypeError, match="file"):
            cache.set("key", file, read=True)
        disk = cache.disk
        assert isinstance(disk, PlainDisk)
        for refused in (
            lambda: disk.get(b"", raw=False),
            lambda: disk.fetch(4, None, b"", False),
            lambda: disk.fetch(1, "../file", None, False),
            lambda: disk.remove("../file"),
        ):
            with pytest.raises(StoreError):
                refused()
        with pytest.raises(TypeError):
            disk.filename()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE Cache SET filename = '../../etc/hostname', mode = 3 WHERE key = 'state/a'", "'../../etc/hostname'"),
        ("UPDATE Cache SET expire_time = 1 WHERE key = 'state/a'", "the row 'state/a'"),
        ("UPDATE Cache SET mode = NULL WHERE key = 'state/a'", "the row 'state/a'"),
        ("UPDATE Cache SET tag = 'x' WHERE key = 'state/a'", "the row 'state/a'"),
        ("UPDATE Cache SET value = 'text' WHERE key = 'state/a'", "the row 'state/a'"),
        ("UPDATE Cache SET key = 7 WHERE key = 'state/a'", "the row '7'"),
        ("INSERT INTO Settings VALUES ('sqlite_writable_schema', 1)", "the setting 'sqlite_writable_schema'"),
        ("INSERT INTO Settings VALUES ('disk_x', 1)", "the setting 'disk_x'"),
        ("INSERT INTO Settings VALUES ('close', 1)", "the setting 'close'"),
        ("CREATE TABLE mine (x)", "the table 'mine'"),
        ("CREATE VIEW mine AS SELECT 1", "the view 'mine'"),
        ("CREATE INDEX mine ON Cache (value)", "the index 'mine'"),
        (
            "CREATE TRIGGER mine AFTER INSERT ON Cache BEGIN DELETE FROM Cache WHERE key = NEW.key; END",
            "the trigger 'mine'",
        ),
    ],
)
def test_what_this_runtime_never_writes_is_refused(folder: Path, statement: str, said: str) -> None:
    tamper(folder, statement)
    refused = refusal(folder, StoreDamaged)
    assert said in refused
    assert "which this runtime never writes" in refused
    with pytest.raises(StoreDamaged, match="never writes"):
        read_rows(folder, "")


def test_a_known_trigger_with_another_body_is_refused(folder: Path) -> None:
    tamper(
        folder,
        "DROP TRIGGER Settings_count_insert",
        "CREATE TRIGGER Settings_count_insert AFTER INSERT ON Cache FOR EACH ROW BEGIN"
        ' UPDATE Settings SET value = value + 1 WHERE key = "count"; DELETE FROM Cache; END',
    )
    assert "the trigger 'Settings_count_insert'" in refusal(folder, StoreDamaged)


def test_settings_of_ours_with_other_values_are_put_right(folder: Path) -> None:
    tamper(
        folder,
        "UPDATE Settings SET value = 'least-recently-stored' WHERE key = 'eviction_policy'",
        "UPDATE Settings SET value = 10 WHERE key IN ('cull_limit', 'size_limit')",
        "UPDATE Settings SET value = 0 WHERE key = 'sqlite_synchronous'",
    )
    rows = [(f"chan/{number:04}", bytes(100)) for number in range(2000)]
    with closing(Store.open(folder)) as store:
        store.commit(rows, [])
        assert store._cache.connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert list(store.rows("chan/")) == rows
        assert (store._cache.eviction_policy, store._cache.cull_limit) == ("none", 0)


def test_statistics_that_somebody_gathered_are_no_reason_to_refuse(folder: Path) -> None:
    tamper(folder, "ANALYZE")
    with closing(Store.open(folder)) as store:
        assert list(store.rows("state/")) == ROWS


# Another kind of thing


@pytest.mark.parametrize("name", ["cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal"])
@pytest.mark.parametrize("kind", ["link", "folder", "hard link", "fifo"])
def test_a_database_file_that_is_not_the_folders_own_is_refused(folder: Path, name: str, kind: str) -> None:
    path, elsewhere = folder / name, folder.parent / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.write_bytes(b"precious")
    before = elsewhere.read_bytes()
    if kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "hard link":
        path.hardlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    said = refusal(folder, StoreUnusable)
    assert ("hard links" if kind == "hard link" else "not a regular file") in said
    assert str(path) in said
    assert elsewhere.read_bytes() == before


def test_a_folder_of_diskcache_or_of_something_else_is_refused(tmp_path: Path) -> None:
    with closing(diskcache.Cache(tmp_path / "cache")) as plain:
        plain["x"] = 1
    assert "a database of something else" in refusal(tmp_path / "cache", StoreUnusable)
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / "cache.db")) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    assert "a database of something else" in refusal(tmp_path / "other", StoreUnusable)
    with pytest.raises(StoreUnusable, match="something else"):
        read_rows(tmp_path / "other", "")


@pytest.mark.parametrize(
    "statement", ["SELECT 1", "PRAGMA user_version = 1", "CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value)"]
)
def test_a_database_that_holds_nothing_becomes_a_store(tmp_path: Path, statement: str) -> None:
    (tmp_path / "cache.db").touch()
    tamper(tmp_path, statement)
    with closing(Store.open(tmp_path)) as store:
        store.commit(ROWS, [])
    assert read_rows(tmp_path, "state/") == ROWS


@pytest.mark.parametrize("version", [b"2", b"10"])
def test_a_later_format_is_too_new_whatever_else_is_in_it(folder: Path, version: bytes) -> None:
    tamper(folder, "CREATE TABLE novelty (x)")
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        sealed = seal(FORMAT_KEY, b"minions-store-" + version)
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (sealed, FORMAT_KEY))
    assert "later version of Minions" in refusal(folder, StoreTooNew)
    with pytest.raises(StoreTooNew):
        read_rows(folder, "")


def test_an_unknown_format_is_refused(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (seal(FORMAT_KEY, b"else"), FORMAT_KEY))
    assert "unknown format b'else'" in refusal(folder, StoreUnusable)

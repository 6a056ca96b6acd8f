"""The store: what was committed is there, after any end of the process; what cannot be kept is told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from minions.errors import CommitFailed, StoreLocked, StoreUnusable, UsageError
from minions.flow import inspection, plain_cache
from minions.flow.mark import Mark
from minions.flow.plain_cache import PlainCache
from minions.flow.store import Store, read_rows

ROWS = [("state/a", b"1"), ("state/b", b"2")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="minions-small-disk-") as point:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", point], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("no permission to mount a small file system")
        try:
            yield Path(point)
        finally:
            subprocess.run(["umount", point], check=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (plain_cache, inspection):
        monkeypatch.setattr(module, "BUSY_TIMEOUT_S", 0.01)


def in_child(script: str, *arguments: object, succeeds: bool = True) -> str:
    """What a fresh interpreter prints that runs the script."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not succeeds or result.returncode == 0, result.stderr
    return result.stdout


def stored(folder: Path, prefix: str = "state/") -> list[tuple[str, bytes]]:
    with closing(Store.open(folder)) as store:
        return list(store.rows(prefix))


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the index of the log, which each reader writes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}


# Rows


def test_what_was_committed_is_there_after_closing_and_opening(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
    assert stored(folder) == ROWS


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_synchronous_is_as_asked_at_each_opening(folder: Path, synchronous: str) -> None:
    for _ in range(2):
        with closing(Store.open(folder, synchronous=synchronous)) as store:  # type: ignore[arg-type]
            (level,) = store._cache.connection.execute("PRAGMA synchronous").fetchone()
            assert level == {"NORMAL": 1, "FULL": 2}[synchronous]


def test_commits_are_numbered_on_through_openings(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        assert [store.commit_number, store.commit(ROWS, []), store.commit([], []), store.commit_number] == [0, 1, 2, 2]
    with closing(Store.open(folder)) as store:
        assert [store.commit_number, store.commit([], [])] == [2, 3]


def test_rows_are_those_with_the_prefix_in_key_order(folder: Path) -> None:
    keys = ["chan/z", "chan/ä", "chan/\U0001f40d", "chan/", "chan", "chao/", "chan/a\0b", "cham/x"]
    with closing(Store.open(folder)) as store:
        store.commit([(key, b"") for key in keys], [])
        assert [key for key, _ in store.rows("chan/")] == sorted(key for key in keys if key.startswith("chan/"))


def test_get_finds_the_row_of_just_that_key(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store.commit([("state/ab", b"1"), ("state/b", b"")], [])
        assert [store.get("state/ab"), store.get("state/a"), store.get("state/b")] == [b"1", None, b""]


def test_a_commit_deletes_before_it_writes_and_the_last_of_one_key_wins(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
        store.commit([("state/a", b"old"), ("state/a", b"new")], ["state/a", "state/b", "state/never-there"])
        assert list(store.rows("state/")) == [("state/a", b"new")]


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 511, 1000])
def test_commits_of_any_size_are_whole(folder: Path, count: int) -> None:
    rows = [(f"chan/{number:08}", b"%d" % number) for number in range(count)]
    with closing(Store.open(folder)) as store:
        store.commit(rows, [])
        assert list(store.rows("chan/")) == rows
        store.commit([], [key for key, _ in rows[:-1]])
        assert list(store.rows("chan/")) == rows[-1:]


def test_nothing_is_evicted_and_no_value_goes_to_a_file(folder: Path) -> None:
    rows = [(f"chan/{number:03}", bytes(100_000)) for number in range(100)]
    with closing(Store.open(folder)) as store:
        store.commit(rows, [])
    assert stored(folder, "chan/") == rows
    assert {path.name for path in folder.iterdir()} == {"cache.db", "lock", "mark"}


def test_the_folder_and_its_parents_are_created_for_this_user_only(folder: Path) -> None:
    Store.open(folder / "deep" / "down").close()
    assert (folder / "deep" / "down").stat().st_mode & 0o777 == 0o700


def test_a_store_is_created_though_the_file_that_it_grew_up_in_is_still_open(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a hook for unraisable exceptions keeps a traceback, and with it a statement: SQLite leaves its log, too."""
    held: list[sqlite3.Connection] = []
    checkpoint = PlainCache.checkpoint

    def hold(cache: PlainCache) -> bool:
        done = checkpoint(cache)
        held.append(sqlite3.connect(Path(cache.directory, "cache.db")))
        held[0].execute("SELECT count(*) FROM Cache").fetchall()
        return done

    monkeypatch.setattr(PlainCache, "checkpoint", hold)
    store = Store.open(folder)
    monkeypatch.setattr(PlainCache, "checkpoint", checkpoint)
    store.commit(ROWS, [])
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []
    assert held[0].execute("SELECT count(*) FROM Cache").fetchone() == (2,), "it is another file"
    held[0].close()
    store.close()
    assert stored(folder) == ROWS


def test_a_relative_folder_stays_where_it_was_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    monkeypatch.chdir(folder)
    with closing(Store.open(Path("here"))) as store:
        monkeypatch.chdir("/")
        store.commit(ROWS, [])
    assert stored(folder / "here") == ROWS


@pytest.mark.parametrize("name", ["a b", "ä%41?#x", "~", "$unknown"])
def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    with closing(Store.open(folder / name)) as store:
        store.commit(ROWS, [])
    assert (folder / name / "cache.db").exists()
    assert read_rows(folder / name, "state/") == ROWS


def test_a_folder_name_that_diskcache_would_expand_is_refused(folder: Path) -> None:
    with pytest.raises(StoreUnusable, match=r"\$HOME.*rename"):
        Store.open(folder / "$HOME")
    assert not folder.exists()


# Owner


def test_closing_twice_is_safe_and_a_closed_store_says_so(folder: Path) -> None:
    store = Store.open(folder)
    store.close()
    store.close()
    with pytest.raises(UsageError, match="is closed"):
        store.commit(ROWS, [])
    with pytest.raises(UsageError, match="is closed"):
        store.rows("")


def test_another_thread_is_refused(folder: Path) -> None:
    refused: list[UsageError] = []

    def visit() -> None:
        for call in (lambda: store.commit(ROWS, []), lambda: store.get("x"), store.close):
            try:
                call()
            except UsageError as error:
                refused.append(error)

    with closing(Store.open(folder)) as store:
        thread = threading.Thread(target=visit)
        thread.start()
        thread.join()
        assert len(refused) == 3
        assert store.commit(ROWS, []) == 1


def test_a_forked_child_cannot_use_the_store_and_its_end_does_no_harm(folder: Path) -> None:
    script = """if True:
        import os, sys
        from pathlib import Path
        from minions.errors import UsageError
        from minions.flow.store import Store
        store = Store.open(Path(sys.argv[1]))
        store.commit([("state/a", b"1")], [])
        child = os.fork()
        if child == 0:
            try:
                store.commit([("state/a", b"of the child")], [])
            except UsageError as error:
                print(error, flush=True)
            store.close()
            os._exit(0)
        os.waitpid(child, 0)
        store.commit([("state/b", b"2")], [])
        store.close()
    """
    assert "forked child" in in_child(script, folder)
    assert stored(folder) == ROWS


def test_a_second_store_is_refused_with_the_holder_and_the_folder_is_untouched(folder: Path) -> None:
    script = """if True:
        import sys
        from pathlib import Path
        from minions.flow.store import Store
        store = Store.open(Path(sys.argv[1]))
        store.commit([("state/a", b"1"), ("state/b", b"2")], [])
        print("open", flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        before = content(folder)
        with pytest.raises(StoreLocked, match=f"in use by process {holder.pid}") as refusal:
            Store.open(folder)
        assert refusal.value.pid == holder.pid
        assert content(folder) == before
        assert read_rows(folder, "state/") == ROWS
        holder.kill()
    assert stored(folder) == ROWS


# The end of the process


KILLED_AT_EACH_STEP = """if True:
    import os, signal, sys
    from pathlib import Path
    from minions.flow.store import Store

    def killed(step, prepare, work):
        "Whether a child was killed while it worked, at the given one of its calls and returns of Python and C functions."
        child = os.fork()
        if child == 0:
            subject, left = prepare(), step
            def count(frame, event, argument):
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            sys.setprofile(count)
            try:
                work(subject)
            finally:
                sys.setprofile(None)
                os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
"""


def test_a_first_opening_that_was_killed_at_any_step_leaves_a_folder_that_opens(memory_folder: Path) -> None:
    script = (
        KILLED_AT_EACH_STEP
        + """
    step, kills = 0, 0
    while True:
        folder = Path(sys.argv[1], str(step))
        if not killed(step, lambda: folder, Store.open):
            break
        kills += 1
        for number in (1, 2):
            store = Store.open(folder)
            assert store.commit([("state/a", b"1"), ("state/b", b"2")], []) == number
            store.close()
        step += 97
    print(kills)
    """
    )
    assert int(in_child(script, memory_folder)) > 30


def test_a_first_opening_that_was_killed_inside_sqlite_leaves_a_folder_that_opens(folder: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from minions.flow.store import Store
        kills = 0
        for attempt in range(60):
            folder = Path(sys.argv[1], str(attempt))
            child = os.fork()
            if child == 0:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 * (attempt + 1))  # its signal kills wherever the child is
                Store.open(folder)
                os._exit(0)
            kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
            store = Store.open(folder)
            assert store.commit([("state/a", b"1"), ("state/b", b"2")], []) == 1
            store.close()
        print(kills)
    """
    assert int(in_child(script, folder)) > 5


def test_the_log_of_a_database_in_which_nothing_is_stored_is_not_taken_for_that_of_the_store(
    folder: Path,
) -> None:
    """A database of the same tables, and empty; its process was killed, so that all of it is still in its log."""
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from minions.flow.plain_cache import PlainCache
        Path(sys.argv[1]).mkdir()
        cache = PlainCache(Path(sys.argv[1]))
        cache.commit([("a", b"")], [])
        cache.commit([], ["a"])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    in_child(script, folder, succeeds=False)
    assert (folder / "cache.db-wal").stat().st_size > 0
    for number in (1, 2):
        with closing(Store.open(folder)) as store:
            assert store.commit([("state/a", b"%d" % number)], []) == number
    assert stored(folder) == [("state/a", b"2")]


def test_commits_are_whole_and_acknowledged_ones_kept_when_killed_at_any_step(memory_folder: Path) -> None:
    script = (
        KILLED_AT_EACH_STEP
        + """
    from minions.flow.store import read_rows
    folder, kills, step = Path(sys.argv[1]), 0, 0
    def work(store):
        while True:
            number = store.commit_number + 1
            store.commit([(f"state/{row}", b"%d" % number) for row in range(20)], [])
            os.write(acknowledged[1], b"%d " % number)
    last = 0
    while kills < 60:
        acknowledged = os.pipe()
        kills += killed(step, lambda: Store.open(folder), work)
        os.close(acknowledged[1])
        with open(acknowledged[0]) as numbers:
            last = max([last, *map(int, numbers.read().split())])
        bodies = {body for _, body in read_rows(folder, "state/")} or {b"0"}
        assert len(bodies) == 1, bodies
        assert last <= int(*bodies) <= last + 1
        store = Store.open(folder)
        assert store.commit_number == int(*bodies) and store.commits_lost == 0
        store.close()
        last, step = store.commit_number, step + 13
    print(last)
    """
    )
    assert int(in_child(script, memory_folder)) > 20


def test_a_kill_between_a_commit_and_its_mark_is_no_damage(folder: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from minions.flow.mark import Mark
        from minions.flow.store import Store
        store = Store.open(Path(sys.argv[1]))
        store.commit([("state/a", b"1")], [])
        Mark.write = lambda self, number: os.kill(os.getpid(), signal.SIGKILL)
        store.commit([("state/b", b"2")], [])
    """
    in_child(script, folder, succeeds=False)
    assert Mark(folder).commit_number == 1
    with closing(Store.open(folder)) as store:
        assert store.commit_number == 2
        assert list(store.rows("state/")) == ROWS


# What an outsider does


@pytest.mark.usefixtures("impatient")
def test_a_database_that_an_outsider_locks_fails_the_commit_and_then_takes_the_same_rows(folder: Path) -> None:
    with closing(Store.open(folder)) as store, closing(sqlite3.connect(folder / "cache.db")) as outsider:
        outsider.execute("BEGIN IMMEDIATE")
        with pytest.raises(CommitFailed, match="another program holds the database locked") as failure:
            store.commit(ROWS, [])
        assert not failure.value.permanent
        assert isinstance(failure.value.__cause__, sqlite3.OperationalError)
        outsider.rollback()
        assert store.commit(ROWS, []) == 1
        assert list(store.rows("state/")) == ROWS


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("locking", ["NORMAL", "EXCLUSIVE"])
def test_opening_a_database_that_an_outsider_locks_is_refused_soon(folder: Path, locking: str) -> None:
    Store.open(folder).close()
    with closing(sqlite3.connect(folder / "cache.db")) as outsider:
        outsider.execute(f"PRAGMA locking_mode = {locking}")
        outsider.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnusable, match="another program holds the database locked"):
            Store.open(folder)
    assert stored(folder) == []


@pytest.mark.usefixtures("impatient")
def test_a_reader_that_holds_the_log_delays_neither_commits_nor_closing(folder: Path) -> None:
    with closing(Store.open(folder)) as store, closing(sqlite3.connect(folder / "cache.db")) as outsider:
        store.commit(ROWS[:1], [])
        outsider.execute("BEGIN")
        assert outsider.execute("SELECT count(*) FROM Cache").fetchone() == (3,)
        store.commit(ROWS[1:], [])
        store.close()
        assert outsider.execute("SELECT count(*) FROM Cache").fetchone() == (3,)
    assert stored(folder) == ROWS


def test_closing_empties_the_log_though_somebody_else_has_the_database_open(folder: Path) -> None:
    with closing(Store.open(folder)) as store, closing(sqlite3.connect(folder / "cache.db")) as outsider:
        store.commit(ROWS, [])
        assert outsider.execute("SELECT count(*) FROM Cache").fetchone() == (4,)
        assert (folder / "cache.db-wal").stat().st_size > 0
        store.close()
        assert (folder / "cache.db-wal").stat().st_size == 0


def test_a_row_that_is_too_large_fails_for_good_and_leaves_the_store_as_it_was(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store._cache.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)
        with pytest.raises(CommitFailed, match="a row is larger than SQLite can store") as failure:
            store.commit([*ROWS, ("state/c", bytes(6000))], [])
        assert failure.value.permanent
        assert list(store.rows("state/")) == []
        assert store.commit(ROWS, []) == 1
    assert stored(folder) == ROWS


def test_a_commit_by_somebody_else_is_noticed_and_permanent(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        (folder / "lock").unlink()
        with closing(Store.open(folder)) as other:
            other.commit(ROWS, [])
        for _ in range(2):
            with pytest.raises(CommitFailed, match="lock file deleted") as failure:
                store.commit([("state/a", b"stale")], [])
            assert failure.value.permanent
    assert stored(folder) == ROWS


def test_a_folder_that_is_deleted_under_the_store_is_not_committed_to_silently(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        with pytest.raises(CommitFailed, match="deleted, moved or replaced") as failure:
            store.commit(ROWS, [])
        assert failure.value.permanent


# Disks and permissions


def test_a_full_disk_fails_the_commit_with_the_room_left_and_then_takes_the_same_rows(small_disk: Path) -> None:
    folder = small_disk / "state"
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
        large = [(f"chan/{number}", bytes(100_000)) for number in range(4)]
        (small_disk / "filler").write_bytes(bytes(600_000))
        with pytest.raises(CommitFailed, match=r"the disk is full .* 0\.\d MiB free") as failure:
            store.commit(large, ["state/a"])
        assert not failure.value.permanent
        assert list(store.rows("state/")) == ROWS
        (small_disk / "filler").unlink()
        assert store.commit(large, ["state/a"]) == 2
    assert stored(folder) == ROWS[1:]


def test_a_full_disk_refuses_the_opening_and_then_opens(small_disk: Path) -> None:
    folder = small_disk / "state"
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2**20 - 4096 * 5))
    with pytest.raises(StoreUnusable, match="the disk is full"):
        Store.open(folder)
    filler.unlink()
    assert stored(folder) == []


def test_a_limit_on_file_size_fails_the_commit_and_then_takes_the_same_rows(folder: Path) -> None:
    script = """if True:
        import resource, sys
        from pathlib import Path
        from minions.errors import CommitFailed
        from minions.flow.store import Store
        store = Store.open(Path(sys.argv[1]))
        store.commit([("state/a", b"1")], [])
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, unlimited[1]))
        rows = [("state/a", b"1"), ("state/b", b"2"), ("chan/a", bytes(300_000))]
        try:
            store.commit(rows, [])
        except CommitFailed as failure:
            print(failure.permanent, failure)
        assert [key for key, _ in store.rows("")] == ["meta/commit", "meta/format", "state/a"]
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        store.commit(rows, [])
        store.close()
    """
    assert "False cannot commit" in in_child(script, folder)
    assert stored(folder) == ROWS


def test_a_read_only_file_system_is_refused(small_disk: Path) -> None:
    folder = small_disk / "state"
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreUnusable, match="Read-only file system"):
        Store.open(folder)
    with pytest.raises(StoreUnusable, match="Read-only file system"):
        Store.open(small_disk / "new")
    with pytest.raises(StoreUnusable, match="readable and writable"):
        read_rows(folder, "")


def test_a_folder_below_a_file_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnusable, match=r"cannot create the state folder .*/file/state"):
        Store.open(tmp_path / "file" / "state")
    with pytest.raises(StoreUnusable, match="cannot create"):
        Store.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o000, "Permission denied"), (0o500, "Permission denied"), (0o700, "cannot be written by this user")],
)
def test_what_this_user_may_not_write_is_refused(mode: int, said: str) -> None:
    script = """if True:
        import os, sys
        from pathlib import Path
        from minions.errors import StoreUnusable
        from minions.flow.store import Store, read_rows
        Path("/").as_uri()  # imports what nobody may not read
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        folder = Path(sys.argv[1])
        store = Store.open(folder)
        store.commit([("state/a", b"1"), ("state/b", b"2")], [])
        store.close()
        mode = int(sys.argv[2])
        if mode == 0o500:
            (folder / "lock").unlink()
        if mode == 0o700:
            (folder / "cache.db").chmod(0o400)
        folder.chmod(mode)
        for attempt in (Store.open, lambda folder: read_rows(folder, "") if mode == 0 else Store.open(folder)):
            try:
                attempt(folder)
            except StoreUnusable as refusal:
                print(refusal)
        folder.chmod(0o700)
        (folder / "cache.db").chmod(0o600)
        store = Store.open(folder)
        assert len(list(store.rows("state/"))) == 2
        store.close()
    """
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o777)
        assert in_child(script, Path(parent, "state"), mode).count(said) == 2


# Reading without the lock


def test_rows_are_read_beside_the_process_that_runs_the_store(folder: Path) -> None:
    with closing(Store.open(folder)) as store:
        store.commit(ROWS, [])
        assert read_rows(folder, "state/") == ROWS
        store.commit([], ["state/a"])
        assert read_rows(folder, "state/") == ROWS[1:]


def test_reading_changes_nothing(folder: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from minions.flow.store import Store
        Store.open(Path(sys.argv[1])).commit([("state/a", b"1"), ("state/b", b"2")], [])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    in_child(script, folder, succeeds=False)
    before = content(folder)
    assert len(before["cache.db-wal"]) > 0
    assert read_rows(folder, "state/") == ROWS
    assert content(folder) == before
    assert stored(folder) == ROWS


def test_reading_where_there_is_no_store_is_refused_and_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store"):
        read_rows(tmp_path / "none", "")
    (tmp_path / "cache.db").touch()
    with pytest.raises(StoreUnusable, match="there is no store"):
        read_rows(tmp_path, "")
    assert [path.name for path in tmp_path.iterdir()] == ["cache.db"]

"""The folder lock: one holder at a time, freed by whatever ends it, and the refused one learns who has it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minions.errors import StoreLocked, StoreUnusable
from minions.flow import folder_lock
from minions.flow.folder_lock import FolderLock

HOLDER = """
import os, subprocess, sys
from pathlib import Path
from minions.flow.folder_lock import FolderLock

lock = FolderLock.acquire(Path(sys.argv[1]))
{then}
print("held", flush=True)
sys.stdin.read()
"""
FORK_A_CHILD_THAT_CHECKS = """
child = os.fork()
if child == 0:
    assert not lock.held
    lock.release()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert lock.held
"""
# These live until the pipe is closed that the second argument names.
FORK_A_CHILD = """
running = os.pipe()
if os.fork() == 0:
    os.close(1)
    os.write(running[1], b"x")
    os.read(int(sys.argv[2]), 1)
    os._exit(0)
os.read(running[0], 1)
"""
START_A_PROGRAM = """
child = subprocess.Popen(["cat"], stdin=int(sys.argv[2]), stdout=subprocess.DEVNULL)
"""


@contextmanager
def holder(folder: Path, then: str = "", pipe: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that has the lock, and is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER.format(then=then), str(folder), str(pipe)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[] if pipe is None else [pipe],
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_the_lock_can_be_taken_again_once_it_is_released(tmp_path: Path) -> None:
    for _ in range(2):
        lock = FolderLock.acquire(tmp_path)
        assert lock.held
        lock.release()
        lock.release()
        assert not lock.held


def test_another_process_is_named_and_its_lock_file_is_left_as_it_is(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for _ in range(2):
            with pytest.raises(StoreLocked, match=f"in use by process {process.pid};") as refusal:
                FolderLock.acquire(tmp_path)
            assert refusal.value.pid == process.pid


def test_a_second_lock_in_the_same_process_says_this_process(tmp_path: Path) -> None:
    lock = FolderLock.acquire(tmp_path)
    with pytest.raises(StoreLocked, match=r"already open in this process .*; close that store first") as refusal:
        FolderLock.acquire(tmp_path / ".." / tmp_path.name)
    assert refusal.value.pid == os.getpid()
    lock.release()


def test_a_folder_that_is_taken_is_told_while_another_thread_takes_a_further_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("mine", "theirs", "further")]
    for folder in folders:
        folder.mkdir()
    mine, looks_at, further = FolderLock.acquire(folders[0]), folder_lock._is_file_at, list[FolderLock]()

    def meanwhile(descriptor: int, path: Path) -> bool:
        monkeypatch.undo()
        further.append(FolderLock.acquire(folders[2]))  # to look at a file lets other threads run
        return looks_at(descriptor, path)

    with holder(folders[1]) as process:
        monkeypatch.setattr(folder_lock, "_is_file_at", meanwhile)
        with pytest.raises(StoreLocked) as refusal:
            FolderLock.acquire(folders[1])
        assert refusal.value.pid == process.pid
    for lock in (mine, *further):
        lock.release()


def test_two_folders_are_locked_apart(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    for lock in [FolderLock.acquire(folder) for folder in folders]:
        lock.release()


def test_kill_9_frees_the_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
    FolderLock.acquire(tmp_path).release()


@pytest.mark.parametrize("leave_a_child", [FORK_A_CHILD, START_A_PROGRAM], ids=["forked", "started"])
def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(tmp_path: Path, leave_a_child: str) -> None:
    reading, writing = os.pipe()
    with holder(tmp_path, leave_a_child, reading) as process:
        process.kill()
        process.wait()
        FolderLock.acquire(tmp_path).release()
    os.close(reading)
    os.close(writing)


def test_a_forked_child_neither_has_the_lock_nor_takes_it_away(tmp_path: Path) -> None:
    with holder(tmp_path, FORK_A_CHILD_THAT_CHECKS), pytest.raises(StoreLocked):
        FolderLock.acquire(tmp_path)


def test_a_lock_file_without_a_number_is_another_process(tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / "lock").write_text("")
        with pytest.raises(StoreLocked, match="in use by another process") as refusal:
            FolderLock.acquire(tmp_path)
        assert refusal.value.pid is None


def test_a_lock_file_that_was_deleted_before_it_was_locked_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, opened = folder_lock._lock, []

    def delete_first(descriptor: int, path: Path) -> None:
        opened.append(path.stat().st_ino)
        if len(opened) == 1:
            path.rename(path.with_name("deleted"))
        take(descriptor, path)

    monkeypatch.setattr(folder_lock, "_lock", delete_first)
    lock = FolderLock.acquire(tmp_path)
    assert len(set(opened)) == 2
    assert lock.guards(tmp_path / "lock")
    lock.release()


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_regular_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    victim, lock = tmp_path / "victim", tmp_path / "lock"
    victim.write_text("precious")
    if kind == "link":
        lock.symlink_to(victim)
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(StoreUnusable, match="regular file"):
        FolderLock.acquire(tmp_path)
    assert victim.read_text() == "precious"

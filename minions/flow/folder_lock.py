"""The lock on a state folder: one process, and in it one store, has the folder at a time.

It is a `flock` on a file in the folder, so the kernel releases it whatever the holder dies of. Programs that the holder
starts do not inherit it (close-on-exec); forked children close their copy, for otherwise a child would keep the folder
locked after its parent has died. One thread owns a lock; there is no other lock in here.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from minions.errors import StoreLocked, StoreUnusable
from minions.flow.own_file import open_own_file
from minions.flow.trouble import opening_failure

__all__ = ["FolderLock"]

LOCK_FILE = "lock"

# What a forked child has to close, and how a second store in this process is told from one in another: a pid is not enough,
# since two containers that share a folder may both be process 1. Any thread changes it, by single atomic steps, and goes through
# a copy.
_held: set[FolderLock] = set()


class FolderLock:
    """Held from `acquire` to `release`, by the process that acquired it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def acquire(cls, folder: Path) -> FolderLock:
        """Take the lock; never blocks.

        Raises:
            StoreLocked: somebody has it; the message and `pid` say who.
            StoreUnusable: the lock file cannot be opened or written, or this file system has no locks.
        """
        path = folder / LOCK_FILE
        while True:
            descriptor = open_own_file(path)
            try:
                _lock(descriptor, path)
                if _is_file_at(descriptor, path):
                    _write_pid(descriptor, path)
                    return cls(descriptor)
            except OSError as error:
                os.close(descriptor)
                raise opening_failure(error, path) from error
            except BaseException:  # whatever it is, Ctrl-C too: an open file would keep the folder locked
                os.close(descriptor)
                raise
            os.close(descriptor)  # deleted between our open and our lock: this file guards nothing any more

    @property
    def held(self) -> bool:
        """False once it was released, and in a forked child."""
        return self._descriptor is not None

    def release(self) -> None:
        """Let others have the folder. It is safe to call this twice."""
        descriptor, self._descriptor = self._descriptor, None
        _held.discard(self)
        if descriptor is not None:
            os.close(descriptor)

    def guards(self, path: Path) -> bool:
        """Whether this lock is held and on the file at the path."""
        return self._descriptor is not None and _is_file_at(self._descriptor, path)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _locked(descriptor, path) from error
    except OSError as error:
        why = "this file system has no locks" if error.errno in (errno.ENOLCK, errno.ENOTSUP) else error.strerror
        raise StoreUnusable(f"cannot lock {path}: {why}; keep the state folder on a local disk") from error


def _locked(descriptor: int, path: Path) -> StoreLocked:
    if any(lock.guards(path) for lock in list(_held)):
        return StoreLocked(
            f"the state folder {path.parent} is already open in this process (pid {os.getpid()}); close that store first",
            os.getpid(),
        )
    text = os.pread(descriptor, 20, 0).strip()
    pid = int(text) if text.isdigit() else None
    holder = "another process" if pid is None else f"process {pid}"
    return StoreLocked(
        f"the state folder {path.parent} is in use by {holder}; stop it first, or use another folder", pid
    )


def _write_pid(descriptor: int, path: Path) -> None:
    try:
        os.pwrite(descriptor, b"%-10d\n" % os.getpid(), 0)  # always as long, so that a full disk does not matter later
    except OSError as error:
        raise StoreUnusable(f"cannot write {path}: {error.strerror}") from error


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _release_in_child() -> None:
    for lock in list(_held):
        lock.release()  # only our copy of the descriptor: the parent's lock stays


os.register_at_fork(after_in_child=_release_in_child)

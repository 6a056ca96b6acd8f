"""Where the control socket of a state folder is, and whose it is.

It is ``run/control.sock`` in the state folder. Where that path is too long for a socket (107 bytes on Linux), or a system keeps
nothing and so has no folder, it is in a folder of the user's own, under ``XDG_RUNTIME_DIR`` or the folder for temporary files, by
a name that follows from the path of the state folder; then ``run/control.path``, where there is a state folder, says where.

Beside the socket is a lock, which the system holds as long as its socket is there. The kernel gives it up whatever the process
dies of, so a socket whose lock is free is stale and may be taken over, and one whose lock is held never is.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from minions.errors import StoreUnusable
from minions.flow.folder_lock import LOCK_FILE, FolderLock

__all__ = ["Place", "peer_uid", "places_of"]

SOCKET_FILE = "control.sock"
POINTER_FILE = "control.path"
RUN_FOLDER = "run"
_MOST_PATH_BYTES = 107
_BACKLOG = 128
_CREDENTIALS = struct.Struct("=iII")  # process, user, group


class Place:
    """A control socket that is ours: it listens. Called by one thread at a time.

    Attributes:
        path: of the socket.
        listener: the socket itself; it belongs to whoever has claimed it.
    """

    def __init__(self, path: Path, lock: FolderLock, listener: socket.socket, pointer: Path | None) -> None:
        self.path = path
        self.listener = listener
        self._lock: FolderLock | None = lock
        self._pointer = pointer

    @classmethod
    def claim(cls, folder: Path, *, in_folder: bool) -> Place:
        """Makes the control socket of a state folder, and takes over what a process that was killed has left.

        Args:
            folder: the state folder.
            in_folder: whether there is one.

        Raises:
            StoreLocked: another process, or another system here, has the socket.
            StoreUnusable: there is something in its place that is none, or a folder that others may write to.
            OSError: it cannot be made.
        """
        run = folder.absolute() / RUN_FOLDER
        pointer = None
        if in_folder:
            _make_own(run)
        if in_folder and _fits(run / SOCKET_FILE):
            home = run
        else:
            home = _short_home(folder)
            pointer = run / POINTER_FILE if in_folder else None
        lock = FolderLock.acquire(home)
        listener: socket.socket | None = None
        try:
            path = home / SOCKET_FILE
            _forget_stale(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.setblocking(False)
            listener.bind(str(path))  # its folder is for this user only, so nobody else gets in before the next line
            path.chmod(0o600)
            listener.listen(_BACKLOG)
            if pointer is not None:
                pointer.write_text(str(path), encoding="utf-8", errors="surrogateescape")
        except BaseException:  # whatever it is, Ctrl-C too: the place must not stay taken
            if listener is not None:
                listener.close()
            lock.release()
            raise
        return cls(path, lock, listener, pointer)

    def withdraw(self) -> None:
        """Removes socket and lock, so that the next system may have them; who is connected stays connected. Twice is safe."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if lock.held:  # in a forked child it is the parent's
            for path in (self.path, self._pointer, self.path.with_name(LOCK_FILE)):
                if path is not None:
                    with suppress(OSError):
                        path.unlink()
        lock.release()
        for folder in (self.path.parent, *((self._pointer.parent,) if self._pointer is not None else ())):
            with suppress(OSError):  # somebody else has begun to use it
                folder.rmdir()

    def leave_to_parent(self) -> None:
        """In a forked child: the socket is the parent's, and must not seem alive when the parent has died."""
        self._lock = None
        self.listener.close()


def places_of(folder: Path) -> Iterator[Path]:
    """Where the control socket of a state folder may be; those that are there, the likeliest first."""
    run = folder.absolute() / RUN_FOLDER
    found = [run / SOCKET_FILE]
    with suppress(OSError):
        pointed = Path((run / POINTER_FILE).read_text(encoding="utf-8", errors="surrogateescape"))
        if pointed.parent.name == _short_name(folder):  # in a copy of a folder it is the way to the original
            found.append(pointed)
    found += [home / SOCKET_FILE for home in _short_homes(folder)]
    for path in dict.fromkeys(found):
        with suppress(OSError):
            if _fits(path) and stat.S_ISSOCK(path.lstat().st_mode):
                yield path


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end; None where the machine does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _MOST_PATH_BYTES


def _short_name(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]


def _short_homes(folder: Path) -> Iterator[Path]:
    name = _short_name(folder)
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    for parent in (Path(given) / "minions" if given else None, Path(tempfile.gettempdir()) / f"minions-{os.geteuid()}"):
        if parent is not None and parent.is_absolute() and _fits(parent / name / SOCKET_FILE):
            yield parent / name


def _short_home(folder: Path) -> Path:
    """The first that can be made."""
    problem: Exception | None = None
    for home in _short_homes(folder):
        try:
            _make_own(home.parent)
            _make_own(home)
        except (OSError, StoreUnusable) as error:
            problem = error
            continue
        return home
    raise StoreUnusable(
        f"there is no folder for the control socket of {folder}: set XDG_RUNTIME_DIR to one of this user's own"
        + (f" ({problem})" if problem is not None else "")
    )


def _make_own(folder: Path) -> None:
    """Makes a folder that is for this user only, or sees to it that it is one."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StoreUnusable(f"{folder} is no folder of this user's own; move it away")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def _forget_stale(path: Path) -> None:
    """Removes the socket of a process that is gone: its lock is ours by now."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StoreUnusable(f"{path} is not a socket; move it away")
        path.unlink()

"""Where the control socket of a state folder is, and whose it is.

It is in a folder of its own outside of the state folder, which so remains a folder of plain files that any program can copy:
below ``XDG_RUNTIME_DIR``, or below the folder for temporary files where that is not to be had. ``control.address`` in the state
folder says where, and which folder it was written for, so that a copy does not lead to the system of the original. The name of
the socket's folder is drawn by lot: two systems never meet there, whatever becomes of their state folders. A system that keeps
nothing has no state folder; its socket is at a name that follows from the path.

Beside the socket is a lock, which the system holds as long as its socket is there. The kernel gives it up whatever the process
dies of, so a socket whose lock is free is stale: each start removes those that it finds. One whose lock is held, or at which
somebody listens, is never touched.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from minions.errors import StoreLocked, StoreUnusable
from minions.flow.folder_lock import LOCK_FILE, FolderLock
from minions.flow.own_file import open_own_file

__all__ = ["ADDRESS_FILE", "Place", "addressed", "peer_uid", "places_of"]

SOCKET_FILE = "control.sock"
ADDRESS_FILE = "control.address"
_NEW_ADDRESS_FILE = "control.address.new"
_PARENT = "minions"
_BY_LOT, _BY_PATH = "s-", "p-"
_NAME = re.compile(r"[sp]-[0-9a-f]{24}")
_MOST_PATH_BYTES = 107
_MOST_ADDRESS_BYTES = 65_536
_BACKLOG = 128
_ATTEMPTS = 100
_CREDENTIALS = struct.Struct("=iII")  # process, user, group


class Place:
    """A control socket that is ours: it listens. Called by one thread at a time.

    Attributes:
        path: of the socket.
        listener: the socket itself; it belongs to whoever has claimed it.
    """

    def __init__(self, path: Path, lock: FolderLock, listener: socket.socket, folder: Path | None) -> None:
        self.path = path
        self.listener = listener
        self._lock: FolderLock | None = lock
        self._folder = folder

    @classmethod
    def claim(cls, folder: Path, *, in_folder: bool) -> Place:
        """Makes the control socket of a state folder, and removes what processes that were killed have left.

        Args:
            folder: the state folder.
            in_folder: whether there is one, and this system has its lock.

        Raises:
            StoreLocked: another process, or another system here, that keeps nothing has the socket for this path.
            StoreUnusable: there is something in its place that is none, or nowhere a folder for this user only.
            OSError: it cannot be made.
        """
        left = _socket_named(folder) if in_folder else None
        lock, path = _locked_home(folder, by_lot=in_folder)
        listener: socket.socket | None = None
        is_bound = False
        try:
            _forget_stale(path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.setblocking(False)
            listener.bind(str(path))  # its folder is for this user only, so nobody else gets in before the next line
            is_bound = True
            path.chmod(0o600)
            listener.listen(_BACKLOG)
            if in_folder:
                _write_address(folder, path)
            _sweep(path.parent.parent, *(parent for parent in _parents() if parent != path.parent.parent))
            if left is not None and left.parent.parent != path.parent.parent:  # it was left in another environment
                _remove_stale(left.parent)
        except BaseException:  # whatever it is, Ctrl-C too: the place must not stay taken
            if listener is not None:
                listener.close()
            _remove_home(path, with_socket=is_bound)
            lock.release()
            raise
        return cls(path, lock, listener, folder.absolute() if in_folder else None)

    def withdraw(self) -> None:
        """Removes socket, lock and address; who is connected stays connected. Twice is safe."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if lock.held:  # in a forked child it is the parent's
            if self._folder is not None and addressed(self._folder) == self.path:
                with suppress(OSError):
                    (self._folder / ADDRESS_FILE).unlink()
            _remove_home(self.path)
        lock.release()

    def leave_to_parent(self) -> None:
        """In a forked child: the socket is the parent's, and must not seem alive when the parent has died."""
        self._lock = None
        self.listener.close()


def places_of(folder: Path) -> Iterator[Path]:
    """Where the control socket of a state folder may be; those that are there, the likeliest first."""
    found = [pointed] if (pointed := addressed(folder)) is not None else []
    found += [parent / _name_by_path(folder) / SOCKET_FILE for parent in _parents()]
    for path in dict.fromkeys(found):
        with suppress(OSError):
            if _fits(path) and stat.S_ISSOCK(path.lstat().st_mode):
                yield path


def addressed(folder: Path) -> Path | None:
    """Where the control socket of a state folder is, as it says itself.

    None where it does not say so, and where what it says was written for another folder, of which it is a copy.
    """
    address = _address(folder)
    with suppress(OSError):
        if address is not None and address.get("folder") == _identity(folder):
            return _socket_of(address)
    return None


def peer_uid(connection: socket.socket) -> int | None:
    """The user at the other end; None where the machine does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


# ---------------------------------------------------------------------- the address
def _identity(folder: Path) -> str:
    """What tells a folder from its copies, and stays when it is moved on its file system."""
    status = folder.stat()
    return f"{status.st_dev}:{status.st_ino}"


def _write_address(folder: Path, path: Path) -> None:
    """Says where the socket is, all at once: whoever reads it finds the old one or the new one."""
    address = {"socket": str(path), "folder": _identity(folder)}
    new = folder / _NEW_ADDRESS_FILE
    descriptor = open_own_file(new)
    with os.fdopen(descriptor, "wb") as file:
        file.truncate()  # what a process that was killed has begun
        file.write(json.dumps(address).encode("ascii") + b"\n")
    new.replace(folder / ADDRESS_FILE)


def _address(folder: Path) -> dict[str, object] | None:
    """What is written in the folder, whoever has written it."""
    try:
        # A planted FIFO must not keep us waiting, nor a link lead elsewhere.
        descriptor = os.open(folder / ADDRESS_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = json.loads(file.read(_MOST_ADDRESS_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _socket_of(address: dict[str, object]) -> Path | None:
    """The socket that an address names; None where that is no place of ours."""
    named = address.get("socket")
    if not isinstance(named, str) or "\0" in named:
        return None
    path = Path(named)
    is_ours = path.is_absolute() and path.name == SOCKET_FILE and _NAME.fullmatch(path.parent.name)
    return path if is_ours else None


def _socket_named(folder: Path) -> Path | None:
    """The socket that is named in a folder, also where that is a copy."""
    address = _address(folder)
    return None if address is None else _socket_of(address)


# ---------------------------------------------------------------------- the folder of the socket
def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _MOST_PATH_BYTES


def _name_by_path(folder: Path) -> str:
    return _BY_PATH + hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:24]


def _parents() -> list[Path]:
    """Where the folders of sockets may be, the best first."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    own = f"{_PARENT}-{os.geteuid()}"
    parents = [Path(given) / _PARENT] if given else []
    parents += [Path(tempfile.gettempdir()) / own, Path("/tmp") / own]
    longest = Path(_BY_LOT + 24 * "0") / SOCKET_FILE
    return [parent for parent in dict.fromkeys(parents) if parent.is_absolute() and _fits(parent / longest)]


def _locked_home(folder: Path, *, by_lot: bool) -> tuple[FolderLock, Path]:
    """A folder for a socket, and its lock: the first that can be made."""
    problem: Exception | None = None
    for parent in _parents():
        try:
            return _locked_home_in(parent, None if by_lot else _name_by_path(folder))
        except StoreLocked:
            raise
        except (OSError, StoreUnusable) as error:
            problem = problem or error
    raise StoreUnusable(
        f"there is no folder for the control socket of {folder}: set XDG_RUNTIME_DIR to a short one of this user's own"
        + (f" ({problem})" if problem is not None else "")
    )


def _locked_home_in(parent: Path, name: str | None) -> tuple[FolderLock, Path]:
    """Somebody who has just withdrawn, or who removes what is stale, may take away what was made here: then once more."""
    _refuse_shared(parent.parent)
    for attempt in range(_ATTEMPTS):
        home = parent / (name or _BY_LOT + secrets.token_hex(12))
        try:
            _make_own(parent)
            _make_own(home)
            return FolderLock.acquire(home), home / SOCKET_FILE
        except (OSError, StoreUnusable) as error:
            is_gone = isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError)
            if (not is_gone and not (isinstance(error, StoreLocked) and name is None)) or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _refuse_shared(folder: Path) -> None:
    """Refuses a folder in which somebody else could put another folder in the place of ours."""
    status = folder.stat()
    others_write = status.st_mode & 0o022
    if (others_write and not status.st_mode & stat.S_ISVTX) or status.st_uid not in (os.geteuid(), 0):
        raise StoreUnusable(f"{folder} belongs to somebody else, or others may move what is in it")


def _make_own(folder: Path) -> None:
    """Makes a folder that is for this user only, or sees to it that it is one."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EACCES):
            raise StoreUnusable(f"{folder} is no folder of this user's own; move it away") from error
        raise
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise StoreUnusable(f"{folder} is no folder of this user's own; move it away")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def _forget_stale(path: Path) -> None:
    """Removes the socket of a process that is gone: its lock is ours by now."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise StoreUnusable(f"{path} is not a socket; move it away")
        if _answers(path):  # its lock was deleted, as those do who tidy up among temporary files
            raise StoreLocked(f"another process listens at the control socket {path}", None)
        path.unlink()


def _answers(path: Path) -> bool:
    """Whether somebody listens at a socket. Never blocks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:  # so many wait to be let in that there is no room for one more
            return True
        return True


def _remove_home(path: Path, *, with_socket: bool = True) -> None:
    """Removes a socket with its lock, which the caller holds, and the folders where nothing else is in them."""
    home = path.parent
    for file in (path, home / LOCK_FILE) if with_socket else (home / LOCK_FILE,):
        with suppress(OSError):
            file.unlink()
    for folder in (home, home.parent):
        if folder is home or folder.name.startswith(_PARENT):
            with suppress(OSError):  # somebody else uses it
                folder.rmdir()


def _sweep(*parents: Path) -> None:
    """Removes what is left of systems whose process is gone."""
    for parent in parents:
        with suppress(OSError):
            for name in os.listdir(parent):  # noqa: PTH208 - a list, because what it is made from changes
                if name.startswith(_BY_LOT):
                    _remove_stale(parent / name)


def _remove_stale(home: Path) -> None:
    """Removes the folder of a socket, if it is one, and nobody has its lock or listens."""
    with suppress(OSError, StoreLocked, StoreUnusable):
        status = home.lstat()
        if not _NAME.fullmatch(home.name) or not stat.S_ISDIR(status.st_mode):
            return
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return
        path = home / SOCKET_FILE
        if not os.path.lexists(path) and not os.path.lexists(home / LOCK_FILE):
            home.rmdir()  # whoever was about to use it makes another one
            return
        if os.path.lexists(path) and (not stat.S_ISSOCK(path.lstat().st_mode) or _answers(path)):
            return
        lock = FolderLock.acquire(home)
        try:
            _remove_home(path)
        finally:
            lock.release()

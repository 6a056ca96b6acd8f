"""The client side of the control socket: finds it, asks one thing after the other, and waits for each answer.

No thread; a client belongs to who made it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from minions.errors import MinionsError
from minions.flow.folder_lock import LOCK_FILE
from minions.operate.place import addressed, peer_uid, places_of
from minions.operate.protocol import MOST_ANSWER_BYTES, Lines, Request, answer_of, request_line

__all__ = ["Client", "HungUp", "NoAnswer", "NotRunning", "has_socket"]

_CONNECT_S = 5.0
_AT_ONCE = 64 << 10
_TIMEVAL = struct.Struct("@ll")


class NotRunning(MinionsError):
    """No system runs on the state folder, or none that can be operated."""


class NoAnswer(MinionsError, TimeoutError):
    """The system is there, and has not answered in time."""


class HungUp(MinionsError):
    """The system has closed the connection without an answer: it has ended, or was killed."""


def has_socket(folder: Path) -> bool:
    """Whether there is a control socket for a state folder; it may be stale."""
    return any(True for _ in places_of(folder))


class Client:
    """A connection to a running system. Every method blocks, for as long as it is told at most."""

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self._socket = connection
        self._folder = folder
        self._lines = Lines(MOST_ANSWER_BYTES)
        self._number = 0

    @classmethod
    def connect(cls, folder: Path) -> Client:
        """Connects to the system that runs on a state folder.

        Raises:
            NotRunning: there is none.
            NoAnswer: there is one, and it lets nobody in.
        """
        for path in places_of(folder):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            # With a timeout of Python's own it would be turned away at once where many others wait to be let in.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*_whole_and_rest(_CONNECT_S)))
            try:
                connection.connect(str(path))
                if peer_uid(connection) in (None, os.geteuid(), 0):
                    return cls(connection, folder)
            except (TimeoutError, BlockingIOError) as error:
                connection.close()
                raise NoAnswer(f"the system at {path} lets nobody in, for {_CONNECT_S:g} s") from error
            except OSError:  # a process that was killed has left it behind
                pass
            connection.close()
        raise NotRunning(_why_none(folder))

    def ask(self, do: str, timeout_s: float | None = 10.0, **arguments: Any) -> dict[str, Any]:
        """Asks for something and returns the answer.

        Args:
            do: what.
            timeout_s: how long the answer may take; None: as long as it takes.
            arguments: with what.

        Raises:
            Refused: it was not done.
            NoAnswer: there was none in time. It may be done all the same.
            HungUp: the system has ended.
        """
        self._number += 1
        request = Request(self._number, do, arguments)
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(request_line(request))
            line = self._lines.next()
            while line is None:
                self._socket.settimeout(None if until_s is None else max(0.001, until_s - time.monotonic()))
                data = self._socket.recv(_AT_ONCE)
                if not data:
                    raise HungUp("the system has ended, or has closed the connection, without an answer")
                self._lines.feed(data)
                line = self._lines.next()
        except TimeoutError as error:
            raise NoAnswer(f"the system has not answered {do!r} within {timeout_s:g} s") from error
        except OSError as error:
            raise HungUp(
                f"the system has closed the connection without an answer ({error.strerror or error})"
            ) from error
        return answer_of(line, self._number)

    def close(self) -> None:
        """Ends the connection. Twice is safe."""
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _whole_and_rest(seconds: float) -> tuple[int, int]:
    """Seconds and microseconds."""
    return int(seconds), int(seconds % 1 * 1_000_000)


def _why_none(folder: Path) -> str:
    """What is to be said where nobody answers."""
    pid = _holder(folder)
    if pid is not None:
        path = addressed(folder)
        if path is not None and not path.exists():
            return (
                f"process {pid} has the state folder {folder}, and its control socket {path} is not in reach from here: it "
                "runs in a container or with temporary files of its own, or somebody has deleted it"
            )
        return (
            f"process {pid} has the state folder {folder}, but no control socket: it is just starting or ending, or runs with "
            "control=False"
        )
    if not folder.is_dir():
        return f"no system runs on {folder}, and nothing is kept there"
    return f"no system runs on {folder}"


def _holder(folder: Path) -> int | None:
    """The process that holds the lock of a state folder, without touching the lock: whoever starts just now is to get it."""
    with suppress(OSError, ValueError):
        status = (folder / LOCK_FILE).stat()
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5].endswith(f":{status.st_ino}"):
                return int(words[4])
    return None

"""The event log: what happened in the systems of a state folder, as lines of JSON in a few files of bounded size.

Written on the observer's thread only; read by anybody, also while it is written. No lock: a line is one write at the end of
the file, which may be moved or deleted at any time. Lines are not forced to the disk: they are for people, and nothing is
restored from them.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import logging
import math
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from minions import events
from minions.clock import Clock

if TYPE_CHECKING:
    import cattrs

__all__ = ["EVENT_LOG", "EventLog", "LoggedEvent", "logged_events"]

EVENT_LOG = "events.jsonl"
"""The newest file, in the state folder; the one before it is ``events.jsonl.1``, and so on."""

_MOST_EARLY = 100
_LONGEST_TEXTS = (20_000, 2_000, 200)  # characters; tried in turn until the line is short enough
_LONGEST_LISTS = (1_000, 100, 10)
_KINDS = {name: kind for name in events.__all__ if issubclass(kind := getattr(events, name), events.Event)}


class EventLog:
    """Writes events to the state folder of a system.

    It begins with `StateOpened`, because only then the folder is there and this system's own; what was told before is kept in
    memory until then. A system that keeps nothing has no folder and writes nothing. A disk that is full or read-only hurts
    nobody: the lines that could not be written are counted, and the log of the system says so when it begins and when it is over.

    Attributes:
        lost: how many events could not be written.
    """

    def __init__(
        self, folder: Path, clock: Clock, log: logging.Logger, *, size_bytes: int = 1_000_000, files: int = 5
    ) -> None:
        """Opens nothing yet.

        Args:
            folder: the state folder.
            clock: tells the wall time of each line.
            log: takes what is to be said of the event log itself.
            size_bytes: of one file, after which the next begins; a line is never longer.
            files: how many are kept, the newest among them.
        """
        self.lost = 0
        self._path = folder / EVENT_LOG
        self._clock = clock
        self._log = log
        self._size_bytes = size_bytes
        self._files = files
        self._open = False
        self._stopped = False
        self._file: io.FileIO | None = None  # kept open, so that it can be written when no descriptor is left
        self._early: list[bytes] = []
        self._lost_in_a_row = 0
        self._torn = False  # the last line was written in part: a disk became full in the middle of it

    def __del__(self) -> None:
        self._close()  # where the system has never told that it has stopped

    def write(self, event: events.Event) -> None:
        """Appends an event. Never raises; waits for the disk at most. Called on the observer's thread only."""
        line = self._line(event)
        if isinstance(event, events.StateOpened):
            self._open = True
            for early in self._early:
                self._append(early)
            self._early.clear()
        if self._open:
            self._append(line)
            self._stopped = self._stopped or isinstance(event, events.SystemStopped)
            if self._stopped:  # what comes now comes late, and nobody says that it is the last
                self._close()
        elif len(self._early) < _MOST_EARLY:
            self._early.append(line)

    def _append(self, line: bytes) -> None:
        try:
            self._write(line)
        except OSError as error:
            self.lost += 1
            self._lost_in_a_row += 1
            if self._lost_in_a_row == 1:
                self._log.warning("the event log cannot be written (%s); the system goes on without it", error)
            return
        if self._lost_in_a_row:
            self._log.warning("the event log is written again; %d events are missing in it", self._lost_in_a_row)
            self._lost_in_a_row = 0

    def _write(self, line: bytes) -> None:
        file = self._current()
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes and size_bytes + len(line) > self._size_bytes:
            self._rotate()
            file = self._current()
        if self._torn:
            line = b"\n" + line
        written = file.write(line) or 0
        if written < len(line):
            self._torn = self._torn or written > 0
            raise OSError(errno.ENOSPC, "a line was written in part", str(self._path))
        self._torn = False

    def _current(self) -> io.FileIO:
        """The newest file; another one where somebody has moved or deleted the one before."""
        if self._file is not None:
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                    return self._file
            self._close()
        self._torn = False
        self._file = io.FileIO(_opened(self._path), "ab")
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _rotate(self) -> None:
        """Gives each file the next higher number; the last one goes."""
        for number in range(self._files - 1, 0, -1):
            older, newer = _numbered(self._path, number), _numbered(self._path, number - 1)
            if newer.exists():
                newer.replace(older)
        if self._files == 1:
            self._path.unlink(missing_ok=True)

    def _line(self, event: events.Event) -> bytes:
        time = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        line = b""
        for text, items in zip(_LONGEST_TEXTS, _LONGEST_LISTS, strict=True):
            fields = _bounded(attrs.asdict(event), text, items)
            line = json.dumps({"time": time, "event": type(event).__name__, **fields}, allow_nan=False).encode() + b"\n"
            if len(line) <= self._size_bytes:
                break
        return line


@attrs.frozen
class LoggedEvent:
    """A line of the event log.

    Attributes:
        time: when it was told, UTC.
        event: what happened. Long texts in it may have lost their middle.
    """

    time: datetime
    event: events.Event


def logged_events(folder: Path) -> Iterator[LoggedEvent]:
    """What the event log of a state folder holds, the oldest first. Reads the disk, in any process, also while a system writes.

    Lines that are no events of this version are passed over: half a line from a disk that was full, or a kind that is not known.

    Raises:
        OSError: a file is there and cannot be read.
    """
    path = folder / EVENT_LOG
    numbers = sorted(
        (int(other.suffix[1:]) for other in folder.glob(f"{EVENT_LOG}.*") if other.suffix[1:].isdecimal()), reverse=True
    )
    for file in [*(_numbered(path, number) for number in numbers), path]:
        try:
            lines = file.read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            found = _event_of(line)
            if found is not None:
                yield found


def _event_of(line: bytes) -> LoggedEvent | None:
    try:
        fields = json.loads(line)
        time = datetime.fromisoformat(fields.pop("time"))
        return LoggedEvent(time, _converter().structure(fields, _KINDS[fields.pop("event")]))
    except Exception:  # noqa: BLE001 - whatever is wrong with a line, it is no event of ours
        return None


@functools.cache
def _converter() -> cattrs.Converter:
    """Made with the first line that is read."""
    import cattrs  # noqa: PLC0415 - to follow the events of a system takes none, and is not to wait for it

    return cattrs.Converter()


def _opened(path: Path) -> int:
    """A descriptor for appending; a link is not followed, and a FIFO does not keep us waiting."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _bounded(value: Any, text: int, items: int) -> Any:
    """The same value, as JSON has it, with at most so many characters in a text and items in a list."""
    if isinstance(value, str) and len(value) > text:
        half = text // 2
        return f"{value[:half]} ... {len(value) - 2 * half} characters left out ... {value[-half:]}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # which is read as the number that it is
    if isinstance(value, (list, tuple)):
        return [_bounded(each, text, items) for each in value[:items]]
    if isinstance(value, dict):
        return {name: _bounded(each, text, items) for name, each in value.items()}
    return value

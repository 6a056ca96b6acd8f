"""The board: which messages are in work, noted where the death of the process cannot wipe it.

A small file in the state folder, mapped into memory: to note a message is to store a number, and whatever the process dies
of, the kernel keeps the page. It is written anew at each start, and says then how often the process has died before.

No thread: each life writes the places of its own, on its own thread and without a lock; who ends a life clears them. A place is
one machine word, so a note is there or not, never half of it. A lock is there for the end, which may come from two sides.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import threading
import weakref
from array import array
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias
from zlib import crc32

import attrs

from minions.errors import StoreUnusable
from minions.flow.channel import Channel
from minions.flow.own_file import open_own_file, sync_folder
from minions.flow.trouble import NO_DESCRIPTOR, opening_failure

__all__ = ["BOARD_FILE", "Board", "Held", "Left", "Marks"]

BOARD_FILE = "board"

_BEING_MADE = "board.new"
_MAGIC = b"minions\x01"
_HEADER = struct.Struct(">8sII")  # magic, length of the JSON that follows, its crc32
_WORD_BYTES = 8
_PAIR = 2
"""Each inbox of a life has two words: the number of the message in work, the last one where several are (0: none); and the
number of the first one (0, or more than the last: only the one). Before them there are two pairs: one where nobody looks, and
one of which the first word says whether the system has come to its end."""
_ENDED = 2
_FIRST_PAIR = 2

Words: TypeAlias = "memoryview | array[int]"

_open: weakref.WeakSet[Board] = weakref.WeakSet()  # what a forked child must not write to


@attrs.frozen
class Held:
    """What one life had in work in one channel.

    Attributes:
        life: its name.
        channel: the channel's.
        first: the number of the first message.
        last: the number of the last one.
    """

    life: str
    channel: str
    first: int
    last: int


@attrs.frozen
class Left:
    """What the board of an earlier run says.

    Attributes:
        held: what was in work when its process died.
        ended: whether the process did not die before its system had come to its end.
        deaths: by channel and number, how many processes in a row had died before with that message in work.
        early: by channel, how many in a row had died with a message in work that was not on disk yet.
    """

    held: tuple[Held, ...] = ()
    ended: bool = True
    deaths: Mapping[str, Mapping[int, int]] = attrs.Factory(dict)
    early: Mapping[str, int] = attrs.Factory(dict)

    @classmethod
    def of(cls, raw: bytes) -> Left:
        """What these bytes of a board say; nothing where they are not whole."""
        if not raw:
            return cls()
        try:
            return _read(raw)
        except (ValueError, TypeError, KeyError, AttributeError, struct.error):
            return cls()  # after a loss of power, or of another version


class Marks:
    """Where one life notes what it has in work.

    Attributes:
        words: where it is noted; from `let_go` on, and in a forked child, where nobody looks.
        places: the place of each channel in it; 0, where nobody looks either, for channels that are not durable.
    """

    __slots__ = ("__weakref__", "_nowhere", "places", "words")

    def __init__(self, words: Words, places: Mapping[Channel, int], nowhere: Words) -> None:
        """Args:
        words: where to note.
        places: see above.
        nowhere: as many words that nobody looks at; all lives may share them.
        """
        self.words = words
        self.places = places
        self._nowhere = nowhere

    @classmethod
    def nowhere(cls) -> Marks:
        """For a life whose system has no board."""
        words = array("Q", bytes(_WORD_BYTES * _PAIR))
        return cls(words, {}, words)

    def received(self, channel: Channel, sequence: int) -> None:
        """Notes one more message, in work together with those that were noted since the last `clear`."""
        place, words = self.places.get(channel, 0), self.words
        if not words[place]:
            words[place + 1] = sequence
        words[place] = sequence

    def clear(self) -> None:
        """Notes that nothing is in work."""
        words = self.words
        for place in self.places.values():
            words[place] = 0

    def let_go(self) -> None:
        """Clears the board of what this life has noted, once and for all. Safe to call from any thread.

        A note that its own thread writes in this very moment may still be seen until the next life writes its own.
        """
        self.clear()
        self.look_away()

    def look_away(self) -> None:
        """From now on nothing is noted where anybody looks."""
        self.words = self._nowhere


class Board:
    """The board of this run."""

    def __init__(self, mapped: mmap.mmap | None, memory: memoryview, layout: _Layout) -> None:
        self._mapped = mapped
        self._words = words = memory[layout.begin :].cast("Q")
        self._places = layout.places
        self._nowhere = array("Q", words.tobytes())
        self._lock = threading.Lock()  # guards the two below
        self._marks: weakref.WeakSet[Marks] = weakref.WeakSet()
        self._closed = False
        _open.add(self)

    @classmethod
    def make(
        cls,
        folder: Path,
        lives: Iterable[tuple[str, str]],
        deaths: Mapping[str, Mapping[int, int]],
        early: Mapping[str, int],
    ) -> Board:
        """Puts an empty board in the place of the one that was there; whoever has the folder's lock may do so.

        What is counted is on disk when this returns. All room is taken now: with a full disk this fails, and no note ever does.

        Args:
            lives: the names of each life and of each durable channel that it reads.
            deaths: see `Left`.
            early: see `Left`.

        Raises:
            StoreUnusable: it cannot be written.
        """
        layout = _Layout.of(lives, deaths, early)
        path = folder / _BEING_MADE
        try:
            path.unlink(missing_ok=True)  # of a start that was killed
        except OSError as error:
            raise opening_failure(error, path) from error
        descriptor = open_own_file(path)
        try:
            os.posix_fallocate(descriptor, 0, layout.size)
            os.pwrite(descriptor, layout.header, 0)
            if deaths or early:
                os.fsync(descriptor)
            mapped = mmap.mmap(descriptor, layout.size)
            path.rename(folder / BOARD_FILE)
            if deaths or early:
                sync_folder(folder)
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise opening_failure(error, folder / BOARD_FILE) from error
            raise StoreUnusable(
                f"cannot write {folder / BOARD_FILE}: {error.strerror}; the folder must be writable, and its disk must have "
                f"room for {layout.size:,} bytes more"
            ) from error
        finally:
            os.close(descriptor)
        return cls(mapped, memoryview(mapped), layout)

    @classmethod
    def in_memory(
        cls,
        lives: Iterable[tuple[str, str]],
        deaths: Mapping[str, Mapping[int, int]],
        early: Mapping[str, int],
    ) -> tuple[Board, bytearray]:
        """A board that no file keeps, and what a file would hold, which changes with it; for the arguments see `make`."""
        layout = _Layout.of(lives, deaths, early)
        memory = bytearray(layout.header.ljust(layout.size, b"\0"))
        return cls(None, memoryview(memory), layout), memory

    def marks(self, life: str, channels: Iterable[Channel]) -> Marks:
        """The marks of a new life; the one before it has let go of its own."""
        places = {channel: place for channel in channels if (place := self._places.get((life, channel.name)))}
        marks = Marks(self._words, places, self._nowhere)
        with self._lock:
            self._marks.add(marks)
        return marks

    def end(self) -> None:
        """Notes that nothing is in work any more and that the system has come to its end, whatever threads are left.

        Safe to call from any thread, and after `close`.
        """
        with self._lock:
            self._end_locked()

    def _end_locked(self) -> None:
        if self._closed:
            return
        for marks in list(self._marks):
            marks.let_go()
        self._words[_ENDED] = 1

    def close(self) -> None:
        """As `end`, and lets go of the file."""
        with self._lock:
            self._end_locked()
            self._closed = True
            self._words.release()
            if self._mapped is not None:
                self._mapped.close()
        _open.discard(self)

    def look_away(self) -> None:
        """In a forked child, which has one thread: what it does is not what its parent has in work."""
        for marks in list(self._marks):
            marks.look_away()

    @staticmethod
    def left(folder: Path) -> Left:
        """What the board in a folder says; nothing where there is none, or it is not whole.

        Raises:
            StoreUnusable: it cannot be read.
        """
        path = folder / BOARD_FILE
        try:
            raw = path.read_bytes() if path.is_file() else b""
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise opening_failure(error, path) from error
            raise StoreUnusable(f"cannot read {path}: {error.strerror}; it must be readable for this user") from error
        return Left.of(raw)


@attrs.frozen
class _Layout:
    """How a board lies in memory.

    Attributes:
        header: how it begins, with what does not change.
        begin: where the words begin.
        size: of all of it, in bytes.
        places: the place of each life and channel among the words.
    """

    header: bytes
    begin: int
    size: int
    places: dict[tuple[str, str], int]

    @classmethod
    def of(
        cls,
        lives: Iterable[tuple[str, str]],
        deaths: Mapping[str, Mapping[int, int]],
        early: Mapping[str, int],
    ) -> _Layout:
        slots = list(lives)
        said = json.dumps({"order": sys.byteorder, "slots": slots, "deaths": deaths, "early": early}).encode()
        begin = _begin(len(said))
        return cls(
            header=_HEADER.pack(_MAGIC, len(said), crc32(said)) + said,
            begin=begin,
            size=begin + _WORD_BYTES * _PAIR * (_FIRST_PAIR + len(slots)),
            places={slot: _PAIR * number for number, slot in enumerate(slots, _FIRST_PAIR)},
        )


def _begin(said: int) -> int:
    """Where the words begin."""
    return -(-(_HEADER.size + said) // _WORD_BYTES) * _WORD_BYTES


def _read(raw: bytes) -> Left:
    magic, length, checksum = _HEADER.unpack_from(raw)
    text = raw[_HEADER.size : _HEADER.size + length]
    if magic != _MAGIC or crc32(text) != checksum:
        return Left()
    said = json.loads(text)
    if said["order"] != sys.byteorder:
        return Left()
    slots = said["slots"]
    words = struct.unpack_from(f"={_PAIR * (_FIRST_PAIR + len(slots))}Q", raw, _begin(length))
    pairs = words[_PAIR * _FIRST_PAIR :]
    held = []
    for (life, channel), last, first in zip(slots, pairs[::_PAIR], pairs[1::_PAIR], strict=True):
        if last:
            held.append(Held(life, channel, first if 0 < first < last else last, last))
    deaths = {
        channel: {int(number): int(count) for number, count in counts.items()}
        for channel, counts in said["deaths"].items()
    }
    return Left(
        tuple(held), bool(words[_ENDED]), deaths, {channel: int(count) for channel, count in said["early"].items()}
    )


def _look_away_in_child() -> None:
    for board in list(_open):
        board.look_away()
    _open.clear()


os.register_at_fork(after_in_child=_look_away_in_child)

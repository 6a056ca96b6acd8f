"""The disk of a simulated machine: what a state folder holds, in memory, and what a crash or a loss of power leaves of it.

`MemoryDisk` outlives the processes that use it, one at a time; its `open` gives each a store of its own, with the promises of
`minions.flow.store.Store`. No thread and no lock: everything happens on the one thread of the simulation.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from minions.errors import CommitFailed, StoreLocked, UsageError
from minions.flow.board import Board, Left

__all__ = ["MemoryDisk", "MemoryStore"]

_MOST_UNSYNCED = 64
"""How many commits a loss of power may take at most: then a checkpoint was made (on a real disk after 1,000 pages)."""

_Undo = dict[str, "bytes | None"]


class MemoryDisk:
    """See `minions.flow.storage.Storage`.

    Attributes:
        commit_number: of the last commit.
        changes: how often what is on it has changed.
        before_commit: called before each commit; what it raises is what the commit fails with, and nothing of it is kept.
        after_commit: called after each, when it is on disk and nobody has heard of it.
    """

    def __init__(self) -> None:
        self.commit_number = 0
        self.changes = 0
        self.before_commit: Callable[[], None] = lambda: None
        self.after_commit: Callable[[], None] = lambda: None
        self._rows: dict[str, bytes] = {}
        self._keys: list[str] | None = None  # in order; None where they have changed
        self._unsynced: deque[_Undo] = (
            deque()
        )  # what takes back each commit that a loss of power may take, the last at the end
        self._store: MemoryStore | None = None
        self._board: bytearray | None = None
        self._left: bytes = b""
        self._commits_lost = 0

    # ------------------------------------------------------------------ what a run asks
    def open(self, synchronous: Literal["NORMAL", "FULL"] = "NORMAL") -> MemoryStore:
        """As `Store.open`. Raises StoreLocked where another process, or another system, has it."""
        if self._store is not None:
            raise StoreLocked(
                "the simulated disk is in use: a process has opened it and was neither closed nor crashed"
            )
        self._store = MemoryStore(self, synchronous=synchronous, commits_lost=self._commits_lost)
        return self._store

    def reader(self) -> MemoryReader:
        return MemoryReader(self)

    def read_rows(self, prefix: str) -> list[tuple[str, bytes]]:
        keys = self.keys()
        first = bisect_left(keys, prefix)
        found = []
        for index in range(first, len(keys)):
            key = keys[index]
            if not key.startswith(prefix):
                break
            found.append((key, self._rows[key]))
        return found

    def left_board(self) -> Left:
        return Left.of(self._left)

    def make_board(
        self, lives: Iterable[tuple[str, str]], deaths: Mapping[str, Mapping[int, int]], early: Mapping[str, int]
    ) -> Board:
        board, self._board = Board.in_memory(lives, deaths, early)
        return board

    # ------------------------------------------------------------------ what happens to the machine
    def crash(self) -> None:
        """The process dies, however: what was committed is kept. What the dead process still does, its store does not hear."""
        if self._store is not None:
            self._store.detach()
            self._store = None
        if self._board is not None:
            self._left, self._board = bytes(self._board), None

    def lose_power(self, commits: int) -> int:
        """As `crash`, and takes so many of the last commits that were not safe from that, as far as there are so many.

        Returns:
            How many were taken: none of those that were made with synchronous FULL.
        """
        self.crash()
        self._left = b""  # nothing syncs the board
        lost = 0
        while lost < commits and self._unsynced:
            for key, body in self._unsynced.pop().items():
                if body is None:
                    del self._rows[key]
                else:
                    self._rows[key] = body
            self.commit_number -= 1
            lost += 1
        self._keys = None
        self.changes += 1
        self._commits_lost += lost
        self._unsynced.clear()  # what SQLite has recovered from its log is in the database
        return lost

    @property
    def at_risk(self) -> int:
        """How many of the last commits a loss of power may take."""
        return len(self._unsynced)

    # ------------------------------------------------------------------ what its stores and readers do
    def row(self, key: str) -> bytes | None:
        return self._rows.get(key)

    def keys(self) -> list[str]:
        """All keys in order."""
        if self._keys is None:
            self._keys = sorted(self._rows)
        return self._keys

    def change(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str], *, synced: bool) -> int:
        """Makes one commit; its number."""
        rows = self._rows
        undo: _Undo = {}
        for key in deletes:
            if key in rows:
                undo[key] = rows.pop(key)
                self._keys = None
        for key, body in puts:
            if key not in undo:
                undo[key] = rows.get(key)
            if key not in rows:
                self._keys = None
            rows[key] = bytes(body)
        if synced:
            self._unsynced.clear()
        else:
            self._unsynced.append(undo)
            if len(self._unsynced) > _MOST_UNSYNCED:
                self._unsynced.popleft()
        self._commits_lost = 0
        self.changes += 1
        self.commit_number += 1
        return self.commit_number

    def release(self, store: MemoryStore) -> None:
        """A store was closed: what it wrote is safe from everything."""
        if self._store is store:
            self._store = None
            self._unsynced.clear()
            if self._board is not None:
                self._left, self._board = bytes(self._board), None


class MemoryStore:
    """A store on a simulated disk; see `minions.flow.store.Store`."""

    def __init__(self, disk: MemoryDisk, *, synchronous: Literal["NORMAL", "FULL"], commits_lost: int) -> None:
        self._disk: MemoryDisk | None = disk
        self._synced = synchronous == "FULL"
        self._closed = False
        self.commit_number = disk.commit_number
        self.commits_lost = commits_lost
        self.perhaps_lost = False

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter(self._door().read_rows(prefix))

    def get(self, key: str) -> bytes | None:
        return self._door().row(key)

    def commit(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> int:
        self._door().before_commit()
        disk = self._door()
        self.commit_number = disk.change(puts, deletes, synced=self._synced)
        disk.after_commit()
        return self.commit_number

    def close(self) -> None:
        self._closed = True
        if self._disk is not None:
            self._disk.release(self)
            self._disk = None

    def detach(self) -> None:
        """Its process is dead, and does not reach the disk any more."""
        self._disk = None

    def _door(self) -> MemoryDisk:
        if self._closed:
            raise UsageError("the store on the simulated disk is closed")
        if self._disk is None:
            raise CommitFailed("the process is dead", permanent=True)
        return self._disk


class MemoryReader:
    """Reads single rows of a simulated disk; see `minions.flow.table_reader.TableReader`."""

    def __init__(self, disk: MemoryDisk) -> None:
        self._disk = disk

    def row(self, key: str) -> bytes | None:
        return self._disk.row(key)

    def rows(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bytes]]:
        found = []
        for key in self._range(first, end, after=after)[:most]:
            body = self._disk.row(key)
            assert body is not None
            found.append((key, body))
        return found

    def keys(self, first: str, end: str, most: int, *, after: bool = False) -> list[tuple[str, bool]]:
        return [(key, True) for key in self._range(first, end, after=after)[:most]]

    def count(self, first: str, end: str, known: Mapping[str, bool]) -> int:
        there = set(self._range(first, end, after=False))
        return len(there) + sum(is_there - (key in there) for key, is_there in known.items())

    def close(self) -> None:
        return

    def _range(self, first: str, end: str, *, after: bool) -> list[str]:
        keys = self._disk.keys()
        return keys[(bisect_right if after else bisect_left)(keys, first) : bisect_left(keys, end)]

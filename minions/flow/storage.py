"""The seam between a run and where its state is kept. In production that is a folder; a simulation keeps it in memory.

No thread and no lock of its own: each part says who may call it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

from minions.flow.board import Board, Left
from minions.flow.store import Store, has_store, read_rows
from minions.flow.table_reader import TableReader

__all__ = ["FolderStorage", "OpenStore", "RowReader", "Storage"]


class OpenStore(Protocol):
    """See `Store`."""

    commits_lost: int
    perhaps_lost: bool

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]: ...

    def commit(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> int: ...

    def close(self) -> None: ...


class RowReader(Protocol):
    """See `TableReader`."""

    def row(self, key: str) -> bytes | None: ...

    def rows(self, first: str, end: str, most: int, *, after: bool = False) -> Sequence[tuple[str, bytes]]: ...

    def keys(self, first: str, end: str, most: int, *, after: bool = False) -> Sequence[tuple[str, bool]]: ...

    def count(self, first: str, end: str, known: Mapping[str, bool]) -> int: ...

    def close(self) -> None: ...


class Storage(Protocol):
    """Where the state of one system is kept. Any thread may call it, and then owns what it is given."""

    def open(self, synchronous: Literal["NORMAL", "FULL"]) -> OpenStore:
        """See `Store.open`."""

    def reader(self) -> RowReader:
        """Reads single rows as of the last commit, on any thread."""

    def read_rows(self, prefix: str) -> Sequence[tuple[str, bytes]]:
        """All rows with a prefix as of the last commit; none where nothing was ever stored."""

    def left_board(self) -> Left:
        """What was in work when the last process died."""

    def make_board(
        self,
        lives: Iterable[tuple[str, str]],
        deaths: Mapping[str, Mapping[int, int]],
        early: Mapping[str, int],
    ) -> Board:
        """See `Board.make`."""


class FolderStorage:
    """State in a folder; see `Storage`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, synchronous: Literal["NORMAL", "FULL"]) -> Store:
        return Store.open(self._folder, synchronous=synchronous)

    def reader(self) -> TableReader:
        return TableReader(self._folder)

    def read_rows(self, prefix: str) -> list[tuple[str, bytes]]:
        return read_rows(self._folder, prefix) if has_store(self._folder) else []

    def left_board(self) -> Left:
        return Board.left(self._folder)

    def make_board(
        self,
        lives: Iterable[tuple[str, str]],
        deaths: Mapping[str, Mapping[int, int]],
        early: Mapping[str, int],
    ) -> Board:
        return Board.make(self._folder, lives, deaths, early)

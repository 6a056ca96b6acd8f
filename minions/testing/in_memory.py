"""A system whose state is on a simulated disk, and can be looked at while it does not run."""

from __future__ import annotations

from typing import Any

from minions.flow import rows
from minions.flow.rows import DeadLetter
from minions.life.dead_letters import DeadLetters
from minions.life.kept import Kept
from minions.life.tables import NOTHING_UNSAVED, TableView, table_codecs_of
from minions.model.ports import Table
from minions.model.topology import Node
from minions.system import System
from minions.testing.disk import MemoryDisk

__all__ = ["SystemInMemory"]


class SystemInMemory(System):
    """A system whose state is on a simulated disk, also while it does not run."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__("harness", control=False)
        self._disk = disk
        kept = self._kept = _Kept(self.name, self._topology, lambda: self.folder, lambda: self._running)
        kept.disk = disk

    def dead_letters(self, of: Any = None) -> list[DeadLetter]:
        if self._running is not None:
            return super().dead_letters(of)
        letters = DeadLetters(self.folder, {}, inboxes=self._inboxes(), read=self._disk.read_rows)
        return letters.listed(self._named(of))


class _Kept(Kept):
    """What is kept, on a simulated disk.

    Attributes:
        disk: that one.
    """

    disk: MemoryDisk

    def _states_on_disk(self, home: str) -> dict[str, bytes]:
        key = rows.STATES + home
        body = self.disk.row(key)
        return {} if body is None else rows.states_of(key, body)

    def _table(self, node: Node, table: Table[Any, Any], home: str) -> TableView:
        if self._running() is not None or (node.partition_by is not None and home == node.name):
            return super()._table(node, table, home)
        return TableView(table.name, home, table_codecs_of(table), NOTHING_UNSAVED, self.disk.reader())

"""States and tables as seen from outside of the components. Runs on the caller's thread, any thread; it has no lock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minions.errors import UsageError
from minions.flow import rows
from minions.flow.codec import state_codec_of
from minions.flow.store import has_store, read_rows
from minions.flow.table_reader import TableReader
from minions.life.runtime import Runtime
from minions.life.tables import NOTHING_UNSAVED, TableView, table_codecs_of
from minions.model.component import Component, copy_of
from minions.model.partition import PARTITIONS, home_of, partition_of_key
from minions.model.ports import State, Table
from minions.model.topology import Node, Topology

__all__ = ["Kept"]

C = TypeVar("C", bound=Component)


class Kept:
    """What the last whole unit left while the system runs, and what is on disk while it does not."""

    def __init__(
        self,
        system: str,
        topology: Topology,
        folder: Callable[[], Path],
        running: Callable[[], Runtime | None],
    ) -> None:
        """Args:
        system: its name, for people.
        topology: its components.
        folder: the state folder.
        running: the run that has begun and not ended.
        """
        self._system = system
        self._topology = topology
        self._folder = folder
        self._running = running

    def show_in(self, component: Component, node: Node, home: str) -> None:
        """Lets the states and tables of an object answer what is kept.

        Args:
            component: the object.
            node: the component as it was added.
            home: the name under which its state is kept.
        """
        component._minions.reader = lambda state: self._state(node, state, home)
        component._minions.table_reader = lambda table: self._table(node, table, home)

    def of_key(self, component: C, key: Any) -> C:
        """See `System.partition`."""
        return self._of_partition(component, partition_of_key(key))

    def of_all_partitions(self, component: C) -> tuple[C, ...]:
        """See `System.partitions`."""
        return tuple(self._of_partition(component, number) for number in range(PARTITIONS))

    def _of_partition(self, component: C, number: int) -> C:
        node = self._topology.node_of(component)
        if node is None or node.partition_by is None:
            raise UsageError(f"{self._system}: {component!r} was not added to this system with partition_by=")
        view = copy_of(component)
        self.show_in(view, node, home_of(node.name, number))
        return view

    def _state(self, node: Node, state: State[Any], home: str) -> Any:
        """A copy of a state."""
        _refuse_without_partition(node, state.name, "a value", home)
        runtime = self._running()
        stored = runtime.journal.stored_states(home) if runtime is not None else self._states_on_disk(home)
        if state.name not in stored:
            return state.first_value()
        return state_codec_of(state.type, version=state.version, migrations=state.migrations).decode(stored[state.name])

    def _states_on_disk(self, home: str) -> dict[str, bytes]:
        if not has_store(self._folder()):
            return {}
        key = rows.STATES + home
        found = dict(read_rows(self._folder(), key))
        return rows.states_of(key, found[key]) if key in found else {}

    def _table(self, node: Node, table: Table[Any, Any], home: str) -> TableView:
        """A table, to be read where it is asked."""
        _refuse_without_partition(node, table.name, "entries", home)
        codecs = table_codecs_of(table)
        runtime = self._running()
        if runtime is None or not runtime.plan.durable:
            return TableView(table.name, home, codecs, NOTHING_UNSAVED, TableReader(self._folder(), lasting=False))
        return TableView(table.name, home, codecs, runtime.journal.commits, runtime.disk)


def _refuse_without_partition(node: Node, name: str, what: str, home: str) -> None:
    if node.partition_by is not None and home == node.name:
        raise UsageError(
            f"{node.name}.{name} has {what} for each partition: "
            f"system.partition({node.name}, key).{name}, or system.partitions({node.name})"
        )

"""What a life has in hand of states and tables: those of the partition in work are in their place. Its own thread; no lock."""

from __future__ import annotations

from typing import Any

from minions.errors import UnitTooLarge, UsageError
from minions.flow.journal import Journal
from minions.flow.storage import RowReader
from minions.flow.unit import MOST_BYTES, Unit
from minions.life.capture import Read
from minions.life.plan import NodePlan
from minions.life.states import NO_STATES, States
from minions.life.tables import LiveTable
from minions.model.partition import home_of

__all__ = ["WorkingState"]


class WorkingState:
    """The states and tables of one life.

    Attributes:
        home: the name under which the states are kept that are in place now.
        partition: whose these are; None for the component's own.
        states: these; `NO_STATES` between the messages of two partitions.
        tables: by name; the same for all partitions.
        values: the instance's own attributes, the values of the states among them.
    """

    def __init__(self, name: str, plan: NodePlan, journal: Journal, disk: RowReader, *, notes_reads: bool) -> None:
        """Args:
        name: of the component, with the number of the replica where there are several.
        plan: what it needs.
        journal: knows the last whole unit.
        disk: reads the tables.
        notes_reads: whether the tables note what is read, see `LiveTable`.
        """
        self.home = name
        self.partition: int | None = None
        self.values: dict[str, Any] = {}
        self._name = name
        self._plan = plan
        self._journal = journal
        self._partitions: dict[int, States] = {}
        self.states = NO_STATES if plan.partitioned else self._states_of(name)
        self.tables = {
            table: LiveTable(table, name, codecs, journal.commits, disk, notes_reads=notes_reads)
            for table, codecs in plan.table_codecs.items()
        }
        if plan.partitioned:
            for table in self.tables.values():
                table.leave()

    def _states_of(self, home: str) -> States:
        plan = self._plan
        return States(plan.node.declaration.states, plan.state_codecs, self._journal.stored_states(home))

    def begin(self, values: dict[str, Any]) -> None:
        """Puts states and tables in their place.

        Args:
            values: the attributes of an instance, which get them.
        """
        self.values = values
        self.states.restore(values)
        values.update(self.tables)

    def forget(self) -> None:
        """Lets go of the instance."""
        self.values = {}

    def gather(self, unit: Unit) -> None:
        """Adds to a unit what it has changed of states and tables.

        Raises:
            UnitTooLarge: that is too much for one unit.
            CannotEncode: a value is not what its type says.
        """
        unit.save(self.states.changed(self.values))
        for name, table in self.tables.items():
            for key, body in table.changes().items():
                unit.put(table.prefix, key, body)
            if unit.size_bytes > MOST_BYTES:
                raise UnitTooLarge(
                    f"{self._name}: one unit of work changes more than {MOST_BYTES >> 20} MiB, table {name} among "
                    "others; change it in pieces, from run() each `with self.unit():`"
                )

    def restore(self) -> None:
        """Sets states and tables to what the last whole unit left."""
        self.states.restore(self.values)
        self.restore_tables()

    def restore_tables(self) -> None:
        """The same for tables only."""
        for table in self.tables.values():
            table.restore()

    def seen_of_tables(self) -> dict[str, Read]:
        """What the unit in work has read of tables."""
        return {name: table.seen() for name, table in self.tables.items()}

    # ------------------------------------------------------------------ partitions
    def enter(self, partition: int) -> None:
        """Puts the states of a partition in their place."""
        if partition == self.partition:
            return
        self.leave()
        self.partition, self.home = partition, home_of(self._plan.node.name, partition)
        states = self._partitions.get(partition)
        if states is None:
            states = self._partitions[partition] = self._states_of(self.home)
        states.enter(self.values)
        self.states = states
        for table in self.tables.values():
            table.enter(self.home)

    def leave(self) -> None:
        """Takes the states of a partition out of their place."""
        if self.partition is not None:
            self.states.leave(self.values)
            self.partition, self.home, self.states = None, self._name, NO_STATES
            for table in self.tables.values():
                table.leave()

    def refuse_strays(self, where: str) -> None:
        """Refuses what user code has assigned while no partition is in place.

        Args:
            where: it was at work.

        Raises:
            UsageError: it has assigned a state.
        """
        strays = [name for name in self._plan.state_codecs if name in self.values]
        if strays:
            raise UsageError(
                f"{self._name}.{strays[0]} was assigned in {where}, but it has a value for each partition (partition_by): "
                "assign it in a handler, or say State(..., initial=...)"
            )

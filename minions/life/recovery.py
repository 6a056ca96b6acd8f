"""What an earlier run left is put back into channels, states and schedules, or refused. On the thread that opens the system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from minions.errors import CannotDecode, MessageRefused
from minions.flow.journal import Journal
from minions.flow.ledger import Recovered
from minions.flow.storage import RowReader
from minions.life.plan import NodePlan, Plan
from minions.life.tables import tables_on_disk
from minions.model.partition import node_of

__all__ = ["restore"]


def restore(recovered: Recovered, plan: Plan, journal: Journal, disk: RowReader, folder: Path) -> tuple[str, ...]:
    """Puts back what an earlier run left.

    Args:
        recovered: what that is.
        plan: of the system as it is now; its channels get their messages.
        journal: gets the states and the rows of schedules; not in use yet.
        disk: reads the tables.
        folder: where all that is kept, for people.

    Returns:
        The inboxes in which messages wait and which the system does not have any more.

    Raises:
        CannotDecode: something is not what the classes say; nothing on disk was changed.
        StoreTooNew: a state is of a later version.
    """
    problems = [*_bad_states(recovered, plan), *_strange_tables(plan, disk), *_bad_messages(recovered, plan)]
    if problems:
        raise CannotDecode(f"{folder} holds what cannot be loaded, and was left as it is: {'; '.join(problems)}")
    journal.states = recovered.states
    journal.ticks = dict(recovered.ticks)
    strangers = []
    for name, left in recovered.channels.items():
        channel = plan.channels.get(name)
        if channel is None or channel.codec is None:
            if left.waiting:
                strangers.append(name)
            continue
        try:
            channel.restore(left.next_sequence, left.ack_set(), left.waiting, left.eras, left.ids)
        except MessageRefused as error:
            raise CannotDecode(
                f"{folder}: which replica takes a message that waits cannot be told, and all was left as it is: {error}: let "
                "partition_by take it as before"
            ) from error
    return tuple(strangers)


def _bad_messages(recovered: Recovered, plan: Plan) -> Iterator[str]:
    for name, left in recovered.channels.items():
        channel = plan.channels.get(name)
        if channel is None or channel.codec is None:
            continue
        if other := left.types - {channel.codec.name}:
            yield (
                f"{len(left.waiting)} messages of type {', '.join(sorted(other))} wait for inbox {name}, which now carries "
                f"{channel.codec.name}: let the version that sent them run until they are handled, or give the class its "
                "former name"
            )


def _bad_states(recovered: Recovered, plan: Plan) -> Iterator[str]:
    for home, states in recovered.states.items():
        node = plan.nodes.get(node_of(home)[0])
        if node is None or not states.keys() & node.state_codecs.keys():
            continue
        if problem := _of_other_partitioning(node, "state", home):
            yield problem
            continue
        for name, codec in node.state_codecs.items():
            if name in states:
                try:
                    codec.decode(states[name])
                except CannotDecode as error:
                    yield f"state {home}.{name}: {error}"


def _strange_tables(plan: Plan, disk: RowReader) -> Iterator[str]:
    """What keeps entries of tables from being found; one word for each table, which may have a home for each partition."""
    if not any(node.table_codecs for node in plan.nodes.values()):
        return
    told: set[tuple[str, str]] = set()
    for home, table in tables_on_disk(disk):
        component = node_of(home)[0]
        node = plan.nodes.get(component)
        if node is None or table not in node.table_codecs or (component, table) in told:
            continue
        if problem := _of_other_partitioning(node, "table", f"{home}.{table}"):
            told.add((component, table))
            yield problem


def _of_other_partitioning(node: NodePlan, kind: str, where: str) -> str:
    """Why what is kept at a place cannot be found again, because partitions have come or gone; empty where it can."""
    component, partition = node_of(where.partition(".")[0])
    if node.partitioned is (partition is not None):
        return ""
    kept, now = ("with", "not") if partition is not None else ("without", "now")
    return (
        f"{kind} {where} was kept {kept} partition_by, and {component} is {now} partitioned: add it as before, or under "
        "another name"
    )

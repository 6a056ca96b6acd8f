"""The plan of a run: for each component, which channels it reads and feeds and how its state is stored. Frozen values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import attrs

from minions.errors import CannotStore
from minions.flow.calls import CallQueue
from minions.flow.channel import Channel
from minions.flow.codec import TypeCodec, codec_of, state_codec_of, verify
from minions.flow.keys import key_codec_of
from minions.life.rates import Paces
from minions.life.tables import TableCodecs
from minions.model.component import Component
from minions.model.partition import Partitioning
from minions.model.ports import Inbox, State, Table, type_name
from minions.model.topology import Node, Topology

__all__ = ["Known", "NodePlan", "Plan"]

R = TypeVar("R")

Known = dict[Hashable, Any]
"""What was compiled for the ports of classes, by port."""


@attrs.frozen(eq=False)
class NodePlan:
    """What one component needs to live.

    Attributes:
        node: the component as it was added.
        reads: the channel of each of its inboxes.
        feeds: the channels that each of its outboxes feeds.
        message_codecs: how what an outbox sends is stored; None where no durable inbox is fed.
        state_codecs: how each of its states is stored.
        table_codecs: how each of its tables is stored.
        calls: the calls for it; None where nobody may call it.
        uses: the calls of each component that it uses, and the component's class.
        with_calls: whether components of the system call each other.
        configured: arguments of its class in the place of those that the program gave.
        run_id: of the run.
        paces: of what is limited in it.
    """

    node: Node
    reads: dict[str, Channel]
    feeds: dict[str, tuple[Channel, ...]]
    message_codecs: dict[str, TypeCodec[Any] | None]
    state_codecs: dict[str, TypeCodec[Any]]
    table_codecs: dict[str, TableCodecs] = attrs.Factory(dict)
    calls: CallQueue | None = None
    uses: dict[str, tuple[CallQueue, type[Component]]] = attrs.Factory(dict)
    with_calls: bool = False
    configured: Mapping[str, Any] = attrs.Factory(dict)
    run_id: str = ""
    paces: Paces = attrs.Factory(Paces)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept for it beside its messages."""
        return bool(self.state_codecs or self.table_codecs)

    @property
    def partitioned(self) -> bool:
        """Whether its messages and its state belong to partitions."""
        return self.node.partition_by is not None

    def part_of(self, life: str) -> int:
        """Which of its inboxes' queues a life takes from."""
        return int(life.rpartition("#")[2]) if self.partitioned and self.node.count > 1 else 0


@attrs.frozen(eq=False)
class Plan:
    """What a system is when it runs.

    Attributes:
        nodes: the plan of each component, by its name.
        channels: all channels, by name, in the order of the flow.
        run_id: tells the messages of this run from those of others.
    """

    nodes: dict[str, NodePlan]
    channels: dict[str, Channel]
    run_id: str

    @property
    def durable(self) -> bool:
        """Whether anything is kept at all."""
        return any(channel.durable for channel in self.channels.values()) or any(
            plan.keeps for plan in self.nodes.values()
        )

    @classmethod
    def of(
        cls,
        topology: Topology,
        run_id: str,
        configured: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        known: Known | None = None,
    ) -> tuple[Plan, list[str]]:
        """The plan of a topology whose graph is sound, and every reason why something in it cannot be kept.

        Args:
            run_id: part of the ids of messages, because numbers that were given out just before a crash are given out again.
            configured: for each component that a file configures, the arguments that it gives.
            known: what was compiled for the same classes before, for whoever makes many plans; what is new is added.
        """
        known = {} if known is None else known
        problems: list[str] = []
        channels: dict[str, Channel] = {}
        for node in topology.flow_order():
            for inbox in node.declaration.inboxes.values():
                name = f"{node.name}.{inbox.name}"
                channels[name] = _channel(name, len(channels), node, inbox, run_id, problems, known)
        queues = {node.name: CallQueue(node.name, node.count) for node in topology.nodes if node.answers_calls}
        with_calls = any(node.declaration.uses for node in topology.nodes)
        nodes = {}
        for node in topology.nodes:
            feeds = {
                outbox: tuple(channels[f"{receiver.name}.{inbox}"] for receiver, inbox in topology.fed_by(node, outbox))
                for outbox in node.declaration.outboxes
            }
            states = {
                name: _state_codec(node, state, problems, known) for name, state in node.declaration.states.items()
            }
            tables = {
                name: _table_codecs(node, table, problems, known) for name, table in node.declaration.tables.items()
            }
            nodes[node.name] = NodePlan(
                node=node,
                reads={inbox: channels[f"{node.name}.{inbox}"] for inbox in node.declaration.inboxes},
                feeds=feeds,
                message_codecs={outbox: _first(channel.codec for channel in fed) for outbox, fed in feeds.items()},
                state_codecs={name: codec for name, codec in states.items() if codec is not None},
                table_codecs={name: codecs for name, codecs in tables.items() if codecs is not None},
                configured=configured.get(node.name, {}),
                run_id=run_id,
                calls=queues.get(node.name),
                with_calls=with_calls,
                uses={
                    uses.name: (queues[used.name], type(used.blueprint))
                    for uses in node.declaration.uses.values()
                    for used in topology.used_by(node, uses)
                    if used.name in queues
                },
            )
        return cls(nodes, channels, run_id), problems

    def again(self, run_id: str) -> Plan:
        """The same for another run, which shares nothing with this one that moves: what was compiled once serves for many."""
        channels = {name: _emptied(channel, run_id) for name, channel in self.channels.items()}
        queues = {
            name: CallQueue(plan.calls.name, plan.calls.replicas)
            for name, plan in self.nodes.items()
            if plan.calls is not None
        }
        nodes = {
            name: attrs.evolve(
                plan,
                reads={inbox: channels[channel.name] for inbox, channel in plan.reads.items()},
                feeds={outbox: tuple(channels[each.name] for each in fed) for outbox, fed in plan.feeds.items()},
                calls=queues.get(name),
                uses={use: (queues[queue.name], component) for use, (queue, component) in plan.uses.items()},
                run_id=run_id,
                paces=Paces(),
            )
            for name, plan in self.nodes.items()
        }
        return Plan(nodes, channels, run_id)


def _emptied(channel: Channel, run_id: str) -> Channel:
    return Channel(
        channel.name,
        channel.index,
        capacity=channel.capacity,
        overflow=channel.overflow,
        retry=channel.retry,
        codec=channel.codec,
        shared=channel.shared,
        run_id=run_id,
        partition_of=channel.partition_of,
        parts=len(channel.queues),
        replicas=channel.replicas,
    )


def _channel(
    name: str, index: int, node: Node, inbox: Inbox[Any], run_id: str, problems: list[str], known: Known
) -> Channel:
    codec = None
    if inbox.durable:
        codec = _tried(
            lambda: _compiled(known, inbox, lambda: codec_of(inbox.type)),
            f"inbox {name} of {type_name(inbox.type)}",
            problems,
        )
    return Channel(
        name,
        index,
        capacity=inbox.capacity,
        overflow=inbox.overflow,
        retry=inbox.retry,
        codec=codec,
        shared=node.count > 1 and node.partition_by is None,
        run_id=run_id,
        partition_of=None if node.partition_by is None else Partitioning(name, node.partition_by).partition_of,
        parts=1 if node.partition_by is None else node.count,
        replicas=node.count,
    )


def _state_codec(node: Node, state: State[Any], problems: list[str], known: Known) -> TypeCodec[Any] | None:
    if state in known:
        compiled: TypeCodec[Any] = known[state]
        return compiled
    where = f"state {node.name}.{state.name} of {type_name(state.type)}"
    codec = _tried(
        lambda: state_codec_of(state.type, version=state.version, migrations=state.migrations), where, problems
    )
    if codec is not None:
        _tried(lambda: known.setdefault(state, _verified(state, codec)), where, problems)
    return codec


def _table_codecs(node: Node, table: Table[Any, Any], problems: list[str], known: Known) -> TableCodecs | None:
    where = f"table {node.name}.{table.name} of {type_name(table.key_type)} and {type_name(table.type)}"
    keys = _tried(lambda: _compiled(known, (table, "keys"), lambda: key_codec_of(table.key_type)), where, problems)
    values = _tried(
        lambda: _compiled(
            known,
            (table, "values"),
            lambda: state_codec_of(table.type, version=table.version, migrations=table.migrations),
        ),
        where,
        problems,
    )
    return TableCodecs(keys, values) if keys is not None and values is not None else None


def _compiled(known: Known, what: Hashable, compile_it: Callable[[], R]) -> R:
    """What was compiled for a port of a class, once."""
    if what not in known:
        known[what] = compile_it()
    found: R = known[what]
    return found


def _verified(state: State[Any], codec: TypeCodec[Any]) -> TypeCodec[Any]:
    try:
        first = state.first_value()
    except TypeError as error:
        raise CannotStore(
            f"its first value cannot be made ({error}): give every field a default, or State(..., initial=...)"
        ) from error
    verify(codec, first)
    return codec


def _tried(make: Callable[[], R], where: str, problems: list[str]) -> R | None:
    try:
        return make()
    except CannotStore as error:
        problems.append(f"{where}: {error}")
        return None


def _first(codecs: Iterable[TypeCodec[Any] | None]) -> TypeCodec[Any] | None:
    return next((codec for codec in codecs if codec is not None), None)

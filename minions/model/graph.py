"""The graph of a system as a frozen value, and as text, Mermaid and DOT. No thread, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import attrs

from minions.model.ports import type_name
from minions.model.topology import Node, Topology

__all__ = ["Graph", "GraphEdge", "GraphNode"]


@attrs.frozen(kw_only=True)
class GraphNode:
    """A component of a system.

    Attributes:
        name: of the component.
        class_name: of its class.
        kind: "source": it works by itself; "worker": it receives messages; "service": it is only called.
        replicas: how many threads it has.
        keeps: the names of its states and tables.
        group: in which it is restarted together with others; empty where it is in none.
    """

    name: str
    class_name: str
    kind: Literal["source", "worker", "service"]
    replicas: int
    keeps: tuple[str, ...]
    group: str


@attrs.frozen(kw_only=True)
class GraphEdge:
    """One component sends to another, or calls it.

    Attributes:
        kind: "sends" or "uses".
        source: the component that sends or calls.
        port: its outbox, or its `Uses`.
        target: the component that receives or is called.
        inbox: of that one; empty where it is called.
        type: of the messages; empty where it is called.
        capacity: of the inbox; 0 where it is called.
        durable: whether what is sent is kept on disk.
        overflow: what happens when the inbox is full; empty where it is called.
    """

    kind: Literal["sends", "uses"]
    source: str
    port: str
    target: str
    inbox: str = ""
    type: str = ""
    capacity: int = 0
    durable: bool = False
    overflow: str = ""


@attrs.frozen
class Graph:
    """Which components a system has, and which sends to which and calls which.

    Attributes:
        system: its name.
        nodes: the components, in the order in which they were added.
        edges: what joins them, in the same order.
    """

    system: str
    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]

    @classmethod
    def of(cls, system: str, topology: Topology) -> Graph:
        """The graph of a topology."""
        groups = {id(component): group.name for group in topology.groups for component in group.components}
        return cls(
            system,
            tuple(_node(node, groups.get(id(node.blueprint), "")) for node in topology.nodes),
            tuple(edge for node in topology.nodes for edge in _edges(topology, node)),
        )

    @classmethod
    def of_json(cls, found: Any) -> Graph:
        """The graph that `as_json` has described."""
        nodes = [GraphNode(**{**node, "keeps": tuple(node["keeps"])}) for node in found["nodes"]]
        return cls(found["system"], tuple(nodes), tuple(GraphEdge(**edge) for edge in found["edges"]))

    def below(self, component: str) -> tuple[str, ...]:
        """The components that one sends to or calls, each once."""
        return tuple(dict.fromkeys(edge.target for edge in self.edges if edge.source == component))

    def as_json(self) -> dict[str, Any]:
        """The same as plain data for JSON."""
        return {
            "system": self.system,
            "nodes": [{**attrs.asdict(node), "keeps": list(node.keeps)} for node in self.nodes],
            "edges": [attrs.asdict(edge) for edge in self.edges],
        }

    def as_text(self) -> str:
        """For people: each component, and below it what it sends and whom it calls."""
        lines = [self.system]
        for node in self.nodes:
            about = [node.class_name, node.kind]
            about += [f"{node.replicas} replicas"] if node.replicas > 1 else []
            about += [f"keeps {', '.join(node.keeps)}"] if node.keeps else []
            about += [f"group {node.group}"] if node.group else []
            lines.append(f"  {node.name} ({'; '.join(about)})")
            lines += [f"    {_line(edge)}" for edge in self.edges if edge.source == node.name]
        return "\n".join(lines)

    def as_mermaid(self) -> str:
        """A flowchart in Mermaid."""
        number = {node.name: f"n{place}" for place, node in enumerate(self.nodes)}
        lines = ["flowchart LR"]
        for node in self.nodes:
            begin, end = {"source": ("([", "])"), "worker": ("[", "]"), "service": ("[[", "]]")}[node.kind]
            times = f" x {node.replicas}" if node.replicas > 1 else ""
            lines.append(f'  {number[node.name]}{begin}"{_escaped(node.name)}{times}"{end}')
        for edge in self.edges:
            arrow = "-->" if edge.durable else "-.->"
            label = f"{edge.type}" if edge.kind == "sends" else "calls"
            arrow = arrow if edge.kind == "sends" else "--o"
            lines.append(f'  {number[edge.source]} {arrow}|"{_escaped(label)}"| {number[edge.target]}')
        return "\n".join(lines)

    def as_dot(self) -> str:
        """A graph in the language of Graphviz."""
        lines = [f"digraph {_quoted(self.system)} {{", "  rankdir=LR;", "  node [shape=box];"]
        for node in self.nodes:
            shape = {"source": "ellipse", "worker": "box", "service": "component"}[node.kind]
            times = f" x {node.replicas}" if node.replicas > 1 else ""
            lines.append(f"  {_quoted(node.name)} [shape={shape}, label={_quoted(node.name + times)}];")
        for edge in self.edges:
            label = edge.type if edge.kind == "sends" else "calls"
            style = "solid" if edge.durable else "dashed"
            style = style if edge.kind == "sends" else "dotted"
            ends = f"{_quoted(edge.source)} -> {_quoted(edge.target)}"
            lines.append(f"  {ends} [label={_quoted(label)}, style={style}];")
        return "\n".join([*lines, "}"])


def _node(node: Node, group: str) -> GraphNode:
    declaration = node.declaration
    kind: Literal["source", "worker", "service"] = "worker" if declaration.inboxes else "service"
    return GraphNode(
        name=node.name,
        class_name=declaration.class_name,
        kind="source" if node.is_source else kind,
        replicas=node.replicas,
        keeps=declaration.kept,
        group=group,
    )


def _edges(topology: Topology, node: Node) -> Iterator[GraphEdge]:
    for outbox in node.declaration.outboxes:
        for receiver, name in topology.fed_by(node, outbox):
            inbox = receiver.declaration.inboxes[name]
            yield GraphEdge(
                kind="sends",
                source=node.name,
                port=outbox,
                target=receiver.name,
                inbox=name,
                type=type_name(inbox.type),
                capacity=inbox.capacity,
                durable=inbox.durable,
                overflow=inbox.overflow,
            )
    for uses in node.declaration.uses.values():
        for used in topology.used_by(node, uses):
            yield GraphEdge(kind="uses", source=node.name, port=uses.name, target=used.name)


def _line(edge: GraphEdge) -> str:
    if edge.kind == "uses":
        return f"{edge.port} calls {edge.target}"
    kept = "durable" if edge.durable else "not durable"
    full = "" if edge.overflow == "block" else f", {edge.overflow} when full"
    return f"{edge.port} -> {edge.target}.{edge.inbox} ({edge.type}, {edge.capacity:,}, {kept}{full})"


def _escaped(text: str) -> str:
    """Text inside of a Mermaid label."""
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")


def _quoted(text: str) -> str:
    """A quoted identifier of DOT."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

"""The graph of a system as a value, and as text, Mermaid and DOT."""

from __future__ import annotations

import json

from minions import Component, Graph, Inbox, Outbox, State, System, Uses


class Feeds(Component):
    out = Outbox(int)

    def run(self) -> None:
        pass


class Keeps(Component):
    def put(self, number: int) -> None:
        pass


class Sums(Component):
    numbers = Inbox(int, capacity=5, durable=False, overflow="drop_oldest")
    total = State(int)
    keeps = Uses(Keeps)

    @numbers.handler
    def add(self, number: int) -> None:
        pass


def made() -> Graph:
    system = System('a "system"')
    feeds = system.add(Feeds(), name="feeds")
    sums = system.add(Sums(), name="sums")
    system.add(Keeps(), name="keeps")
    system.connect(feeds.out, sums.numbers)
    system.group("both", [feeds, sums])
    return system.graph()


def test_nodes_and_edges() -> None:
    graph = made()
    assert [(node.name, node.kind, node.keeps, node.group) for node in graph.nodes] == [
        ("feeds", "source", (), "both"),
        ("sums", "worker", ("total",), "both"),
        ("keeps", "service", (), ""),
    ]
    sends, uses = graph.edges
    assert (sends.kind, sends.source, sends.port, sends.target, sends.inbox) == (
        "sends",
        "feeds",
        "out",
        "sums",
        "numbers",
    )
    assert (sends.type, sends.capacity, sends.durable, sends.overflow) == ("int", 5, False, "drop_oldest")
    assert (uses.kind, uses.source, uses.port, uses.target) == ("uses", "sums", "keeps", "keeps")
    assert graph.below("sums") == ("keeps",)


def test_it_survives_json() -> None:
    assert Graph.of_json(json.loads(json.dumps(made().as_json()))) == made()


def test_as_text() -> None:
    assert made().as_text().splitlines() == [
        'a "system"',
        "  feeds (Feeds; source; group both)",
        "    out -> sums.numbers (int, 5, not durable, drop_oldest when full)",
        "  sums (Sums; worker; keeps total; group both)",
        "    keeps calls keeps",
        "  keeps (Keeps; service)",
    ]


def test_as_mermaid() -> None:
    assert made().as_mermaid().splitlines() == [
        "flowchart LR",
        '  n0(["feeds"])',
        '  n1["sums"]',
        '  n2[["keeps"]]',
        '  n0 -.->|"int"| n1',
        '  n1 --o|"calls"| n2',
    ]


def test_as_dot() -> None:
    assert made().as_dot().splitlines() == [
        'digraph "a \\"system\\"" {',
        "  rankdir=LR;",
        "  node [shape=box];",
        '  "feeds" [shape=ellipse, label="feeds"];',
        '  "sums" [shape=box, label="sums"];',
        '  "keeps" [shape=component, label="keeps"];',
        '  "feeds" -> "sums" [label="int", style=dashed];',
        '  "sums" -> "keeps" [label="calls", style=dotted];',
        "}",
    ]

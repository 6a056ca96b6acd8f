"""The graph of a system: which components there are, which outbox feeds which inbox, what starts and stops before what.

Plain values and pure functions; nothing here knows threads, channels or the store.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from typing import Any, get_args

import attrs

from minions.model import checks
from minions.model.component import Component, not_copyable
from minions.model.declaration import Declaration
from minions.model.partition import PARTITIONS, PartitionBy
from minions.model.policy import OnStall, Restart, Strategy
from minions.model.ports import Inbox, Outbox, Uses, classes_of, type_name
from minions.model.schedules import Cron, cron_is_installed
from minions.model.wrapped import Wrapped, serves

__all__ = ["MOST_REPLICAS", "Group", "Link", "Node", "Topology", "default_name"]

MOST_REPLICAS = 10_000
"""The most threads that one component may have. A machine gives a process some ten thousand, and others need theirs."""


def default_name(component: type) -> str:
    """The name of a component that was added without one: its class's, in snake case (``FullTextIndex``: full_text_index)."""
    letters = component.__name__
    spelled = [letters[:1].lower()]
    for before, letter, after in zip(letters, letters[1:], [*letters[2:], ""], strict=False):
        if letter.isupper() and (before.islower() or before.isdigit() or (after and after.islower() and before != "_")):
            spelled.append("_")
        spelled.append(letter.lower())
    return "".join(spelled)


@attrs.frozen(eq=False)
class Node:
    """One component of a system, as it was added.

    Attributes:
        stall_after_s: without progress for so long it is stalled; None: the watchdog's own figure for what is in a unit of work,
            and never for what waits in a `run`.
        on_stall: what follows.
        async_exception: whether an exception may be raised in its thread when nothing else ends it.
        declaration: what its class declares.
        is_source: whether messages begin with a loop of its own.
    """

    name: str
    blueprint: Component
    replicas: int = 1
    restart: Restart = Restart()
    partition_by: PartitionBy | None = None
    stall_after_s: float | None = None
    on_stall: OnStall = "report"
    async_exception: bool = False
    declaration: Declaration = attrs.field(init=False, repr=False)
    is_source: bool = attrs.field(init=False, repr=False)

    @declaration.default
    def _declared(self) -> Declaration:
        return type(self.blueprint).__minions_declaration__

    @is_source.default
    def _begins_by_itself(self) -> bool:
        return self.declaration.is_source

    @property
    def count(self) -> int:
        """How many threads it has. One where `replicas` is no such number, which `Topology.problems` tells."""
        return self.replicas if type(self.replicas) is int and self.replicas <= MOST_REPLICAS else 1

    @property
    def answers_calls(self) -> bool:
        """Whether others may call its methods: its thread has to come round between messages, and its state to be one."""
        return not self.declaration.has_run and self.partition_by is None

    def lives(self) -> tuple[str, ...]:
        """The names of its threads: one a replica."""
        if self.replicas == 1:
            return (self.name,)
        return tuple(f"{self.name}#{number}" for number in range(self.replicas))


@attrs.frozen(eq=False)
class Group:
    """Components that were declared to be restarted together.

    Attributes:
        components: the blueprints, in the order that "rest_for_one" goes by; some may belong to no component of the system.
    """

    name: str
    components: tuple[Component, ...]
    strategy: Strategy


@attrs.frozen(eq=False)
class Link:
    """One connection, as it was asked for; either end may belong to no component of the system."""

    outbox: Outbox[Any]
    inbox: Inbox[Any]


class Topology:
    """All nodes and links of a system. Grows while the system is declared; only read once it runs."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.links: list[Link] = []
        self.groups: list[Group] = []
        self.chosen: list[tuple[Uses[Any], Component]] = []  # which component a `Uses` stands for, where it was said
        self._node_of: dict[int, Node] = {}  # by the id of its blueprint
        self._position: dict[int, int] = {}  # in the order of addition, by the id of the node
        self._links_of: dict[tuple[int, str], list[Link]] = {}  # by the id of the outbox's blueprint and its name
        self._links_to: dict[int, list[Link]] = {}  # by the id of the inbox's blueprint
        self._above: dict[int, list[Node]] = {}  # what `above` has gathered, by the id of the node

    def add(self, node: Node) -> None:
        """Adds a component. The same blueprint cannot be added twice: look it up with `node_of` first."""
        self._position[id(node)] = len(self.nodes)
        self._node_of[id(node.blueprint)] = node
        self.nodes.append(node)
        self._forget_order()

    def connect(self, link: Link) -> None:
        """Adds a connection, as it was asked for."""
        self._links_of.setdefault((id(link.outbox.blueprint), link.outbox.name), []).append(link)
        self._links_to.setdefault(id(link.inbox.blueprint), []).append(link)
        self.links.append(link)
        self._forget_order()

    def node_of(self, blueprint: object) -> Node | None:
        """The node that was made from this very object."""
        return self._node_of.get(id(blueprint))

    def sources(self) -> list[Node]:
        """The components with which messages begin: a loop of their own, or schedules and nobody who feeds or uses them."""
        ticking = [node for node in self.nodes if node.declaration.schedules and not node.declaration.inboxes]
        return [node for node in self.nodes if node.is_source or (node in ticking and not self.above(node))]

    def used_by(self, node: Node, uses: Uses[Any]) -> list[Node]:
        """The components that a `Uses` may stand for: one, where the graph is sound."""
        for asked, component in self.chosen:
            if asked.blueprint is node.blueprint and asked.name == uses.name:
                chosen = self.node_of(component)
                return [] if chosen is None else [chosen]
        return [other for other in self.nodes if isinstance(uses.type, type) and serves(other.blueprint, uses.type)]

    def below(self, node: Node) -> list[Node]:
        """The components that one sends to or uses, each once, in the order of their addition."""
        found = {id(consumer): consumer for consumer in self.consumers(node)}
        for uses in node.declaration.uses.values():
            found |= {id(used): used for used in self.used_by(node, uses)}
        return sorted(found.values(), key=self._place)

    def above(self, node: Node) -> list[Node]:
        """The components that send to one or use it, each once, in the order of their addition. Not to be changed."""
        known = self._above.get(id(node))
        if known is None:
            found = {id(producer): producer for producer in self.producers(node)}
            found |= {id(user): user for user in self._users.get(id(node), ())}
            known = self._above[id(node)] = sorted(found.values(), key=self._place)
        return known

    @functools.cached_property
    def _users(self) -> dict[int, list[Node]]:
        """For each component that is used, those that use it. Asked for once the system is declared."""
        users: dict[int, list[Node]] = {}
        for node in self.nodes:
            for uses in node.declaration.uses.values():
                for used in self.used_by(node, uses):
                    users.setdefault(id(used), []).append(node)
        return users

    def choose(self, uses: Uses[Any], component: Component) -> None:
        """Says which component a `Uses` stands for, as it was asked for; what was said before counts no longer."""
        self.chosen = [
            (asked, other)
            for asked, other in self.chosen
            if asked.blueprint is not uses.blueprint or asked.name != uses.name
        ]
        self.chosen.append((uses, component))
        self._forget_order()

    def _forget_order(self) -> None:
        """Forgets what was gathered, because something is declared that may change it."""
        self.__dict__.pop("_users", None)
        self.__dict__.pop("_order", None)
        self._above.clear()

    def restarted_with(self, node: Node) -> list[Node]:
        """The components that are restarted when one is, itself among them, as its group and `Restart.with_dependents` say."""
        together = {id(node): node}
        ahead = [node]
        while ahead:
            here = ahead.pop()
            others = [*self._grouped_with(here), *(self.dependents(here) if here.restart.with_dependents else ())]
            ahead += [other for other in others if id(other) not in together]
            together |= {id(other): other for other in others}
        return sorted(together.values(), key=self._place)

    def _grouped_with(self, node: Node) -> Iterator[Node]:
        """What its group restarts when it is restarted."""
        for group in self.groups:
            members = [self.node_of(component) for component in group.components]
            if node in members and group.strategy != "one_for_one":
                first = members.index(node) if group.strategy == "rest_for_one" else 0
                yield from (member for member in members[first:] if member is not None)

    def dependents(self, node: Node) -> list[Node]:
        """The components that send to one or use it, directly or through others, each once; never itself."""
        found: dict[int, Node] = {}
        ahead = [node]
        while ahead:
            for above in self.above(ahead.pop()):
                if above is not node and id(above) not in found:
                    found[id(above)] = above
                    ahead.append(above)
        return sorted(found.values(), key=self._place)

    def fed_by(self, node: Node, outbox: str) -> list[tuple[Node, str]]:
        """The inboxes, as node and name, that an outbox feeds."""
        links = self._links_of.get((id(node.blueprint), outbox), ())
        ends = [(self.node_of(link.inbox.blueprint), link.inbox.name) for link in links]
        return [(receiver, inbox) for receiver, inbox in ends if receiver is not None]

    def consumers(self, node: Node) -> list[Node]:
        """The components that a component sends to, each once, in the order of their addition."""
        fed = {
            id(receiver): receiver for outbox in node.declaration.outboxes for receiver, _ in self.fed_by(node, outbox)
        }
        return sorted(fed.values(), key=self._place)

    def producers(self, node: Node) -> list[Node]:
        """The components that send to a component, each once, in the order of their addition."""
        senders = [self.node_of(link.outbox.blueprint) for link in self._links_to.get(id(node.blueprint), ())]
        return sorted({id(sender): sender for sender in senders if sender is not None}.values(), key=self._place)

    def _place(self, node: Node) -> int:
        return self._position[id(node)]

    # ------------------------------------------------------------------ order
    def start_order(self) -> list[list[Node]]:
        """Groups of components, consumers before producers and what is used before its users; several in one are a cycle.

        The reverse is the order in which they stop. Not to be changed.
        """
        return self._order

    @functools.cached_property
    def _order(self) -> list[list[Node]]:
        return list(_components({id(node): [id(c) for c in self.below(node)] for node in self.nodes}, self.nodes))

    def flow_order(self) -> list[Node]:
        """All components, each before those whose inboxes can make it wait."""
        groups = list(_components(self._blocking(), self.nodes))
        return [node for group in reversed(groups) for node in group]

    def _blocking(self) -> dict[int, list[int]]:
        """For each component, those whose inboxes can make it wait; by the identity of the node."""
        return {
            id(node): [
                id(receiver)
                for outbox in node.declaration.outboxes
                for receiver, inbox in self.fed_by(node, outbox)
                if receiver.declaration.inboxes[inbox].overflow == "block"
            ]
            for node in self.nodes
        }

    # ------------------------------------------------------------------ problems
    def problems(self) -> list[str]:
        """Everything that keeps this graph from running, each with component, port and remedy."""
        return [
            *self._node_problems(),
            *self._group_problems(),
            *self._use_problems(),
            *self._link_problems(),
            *self._cycle_problems(),
        ]

    def _node_problems(self) -> Iterator[str]:
        if not self.nodes:
            yield "there is no component: system.add(...) at least one"
        seen: dict[str, Node] = {}
        for node in self.nodes:
            if node.name in seen:
                first, this = type(seen[node.name].blueprint).__qualname__, type(node.blueprint).__qualname__
                yield (
                    f"two components are called {node.name!r} ({first} and {this}), and state is kept under that name: "
                    "give one another, system.add(..., name=...)"
                )
            seen.setdefault(node.name, node)
            if not node.name or not all(letter.isalnum() or letter in "_-" for letter in node.name):
                yield f"component name {node.name!r}: use letters, digits, '_' and '-'"
            for problem in not_copyable(node.blueprint):
                yield f"{node.name}: {problem}"
            for problem in _argument_problems(node):
                yield f"{node.name}: {problem}"
            if type(node.replicas) is int and node.replicas > 1:
                yield from self._replica_problems(node)
            if node.partition_by is not None:
                yield from _partition_problems(node, node.partition_by)
            yield from _schedule_problems(node)

    def _replica_problems(self, node: Node) -> Iterator[str]:
        if node.declaration.kept and node.partition_by is None:
            names = ", ".join(node.declaration.kept)
            yield (
                f"{node.name}: replicas={node.replicas}, but it has state ({names}) and replicas do not share state: give each "
                "the messages and the state of its own keys, system.add(..., partition_by=...), or keep the state in a "
                "component of its own that the replicas send to"
            )
        if node.is_source:
            yield (
                f"{node.name}: replicas={node.replicas}, but it is a source, and replicas are workers that share an inbox: "
                "add the source several times under names of their own"
            )

    def _group_problems(self) -> Iterator[str]:
        names: set[str] = set()
        group_of: dict[int, str] = {}
        for group in self.groups:
            if group.name in names:
                yield f"two groups are called {group.name!r}: give one another name"
            names.add(group.name)
            if group.strategy not in get_args(Strategy):
                yield f"group {group.name!r}: strategy={group.strategy!r} must be one of {', '.join(get_args(Strategy))}"
            if not group.components:
                yield f"group {group.name!r} has no components: give those that are to be restarted together"
            for component in group.components:
                node = self.node_of(component)
                if node is None:
                    yield (
                        f"group {group.name!r}: {component!r} was not added to this system: use what system.add(...) returned"
                    )
                elif id(node) in group_of:
                    other = group_of[id(node)]
                    where = "twice" if other == group.name else f"and in group {other!r}"
                    yield f"{node.name} is in group {group.name!r} {where}: a component belongs to one group, once"
                else:
                    group_of[id(node)] = group.name

    def _use_problems(self) -> Iterator[str]:
        for asked, component in self.chosen:
            owner, chosen = self.node_of(asked.blueprint), self.node_of(component)
            if owner is None or chosen is None:
                yield f"use({asked}, {component!r}): both must have been added to this system: use what system.add(...) returned"
            elif not serves(component, asked.type) and not _may_serve(component, asked.type):
                yield f"use({owner.name}.{asked.name}, {chosen.name}): it uses {type_name(asked.type)}, and {chosen.name} is none"
        sound = True
        for node in self.nodes:
            for uses in node.declaration.uses.values():
                for problem in self._problems_of_use(node, uses):
                    sound = False
                    yield problem
        if sound:
            edges = {
                id(node): [id(self.used_by(node, uses)[0]) for uses in node.declaration.uses.values()]
                for node in self.nodes
            }
            by_id = {id(node): node for node in self.nodes}
            for group in _components(edges, self.nodes):
                if len(group) > 1:
                    way = " uses ".join(by_id[number].name for number in _way_round(id(group[0]), edges))
                    yield (
                        f"{way}: what is used starts before its users, so none of them could start, and calls could only wait "
                        "for each other: let one of them send messages instead"
                    )

    def _problems_of_use(self, node: Node, uses: Uses[Any]) -> Iterator[str]:
        where, kind = f"{node.name}.{uses.name}", type_name(uses.type)
        if not isinstance(uses.type, type):
            yield f"{where} = Uses({kind}): only components can be used"
            return
        found = self.used_by(node, uses)
        if not found and not issubclass(uses.type, Component):
            yield (
                f"{where} = Uses({kind}): only components can be used, and none wraps such an object: "
                f"system.add(wrap.object(..., {kind})), or say which one does, system.use({where}, ...)"
            )
        elif not found:
            yield f"{where} uses {kind}, and there is none: system.add({kind}(...))"
        elif len(found) > 1:
            names = ", ".join(other.name for other in found)
            yield f"{where} uses {kind}, and there are {len(found)} ({names}): say which, system.use({where}, ...)"
        elif found[0] is node:
            yield f"{where} uses {node.name} itself, which would wait for itself: call the method directly"
        elif found[0].declaration.has_run:
            yield (
                f"{where} uses {found[0].name}, which has a run() of its own and answers no calls: calls are answered between "
                "messages, write handlers instead"
            )
        elif found[0].partition_by is not None:
            yield (
                f"{where} uses {found[0].name}, whose state belongs to partitions, and a call has no key: send it messages "
                "instead"
            )

    def _link_problems(self) -> Iterator[str]:
        connected: dict[int, set[str]] = {id(node): set() for node in self.nodes}
        seen: set[tuple[int, str, int, str]] = set()
        for link in self.links:
            sender, receiver = self.node_of(link.outbox.blueprint), self.node_of(link.inbox.blueprint)
            if sender is None or receiver is None:
                yield from self._stranger_problems(link)
                continue
            ends = (id(sender), link.outbox.name, id(receiver), link.inbox.name)
            written = f"{sender.name}.{link.outbox.name} to {receiver.name}.{link.inbox.name}"
            if ends in seen:
                yield f"{written} is connected twice, each message would arrive twice: remove one connect(...)"
            seen.add(ends)
            connected[id(sender)].add(link.outbox.name)
            connected[id(receiver)].add(link.inbox.name)
            if link.outbox.type != link.inbox.type:
                yield (
                    f"{written}: the outbox sends {type_name(link.outbox.type)}, the inbox carries "
                    f"{type_name(link.inbox.type)}: connect ports of one type"
                )
        for node in self.nodes:
            yield from self._loose_ends(node, connected[id(node)])

    def _stranger_problems(self, link: Link) -> Iterator[str]:
        for end in (link.outbox, link.inbox):
            if self.node_of(end.blueprint) is None:
                yield (
                    f"connect({link.outbox}, {link.inbox}): the component of {end} was not added to this system: "
                    "use what system.add(...) returned"
                )

    def _loose_ends(self, node: Node, connected: set[str]) -> Iterator[str]:
        for name, outbox in node.declaration.outboxes.items():
            if name not in connected and not outbox.optional:
                yield (
                    f"{node.name}.{name}: the outbox is not connected: system.connect({node.name}.{name}, ...), or declare "
                    "it with optional=True"
                )
        for name in node.declaration.inboxes:
            if name not in connected:
                yield f"{node.name}.{name}: nothing feeds the inbox: system.connect(..., {node.name}.{name})"

    def _cycle_problems(self) -> Iterator[str]:
        """A cycle in which every inbox blocks its senders ends in a deadlock as soon as all are full at once."""
        blocking = self._blocking()
        by_id = {id(node): node for node in self.nodes}
        for group in _components(blocking, self.nodes):
            if len(group) > 1 or id(group[0]) in blocking[id(group[0])]:
                names = [by_id[member].name for member in _way_round(id(group[0]), blocking)]
                yield (
                    f"{' -> '.join(names)} is a cycle in which every inbox blocks its senders: once all are full, "
                    "all wait for each other; give one inbox in it a way out, "
                    'Inbox(..., overflow="fail"|"drop_oldest"|"drop_newest")'
                )


def _may_serve(component: Component, declared: type) -> bool:
    """Whether a component wraps an object of which nobody can tell yet whether it is what a `Uses` says."""
    return isinstance(component, Wrapped) and component._made.kind is None and not issubclass(declared, Component)


def _argument_problems(node: Node) -> Iterator[str]:
    """What is wrong with what `System.add` was given, but for the name and the component."""
    stall_after_s = 1.0 if node.stall_after_s is None else node.stall_after_s
    yield from checks.whole_number("replicas", node.replicas, 1, most=MOST_REPLICAS)
    yield from checks.kind("restart", node.restart, Restart, "Restart(failures=10)")
    yield from checks.number("stall_after_s", stall_after_s, "a number of seconds, more than 0, or None", above=True)
    yield from checks.choice("on_stall", node.on_stall, get_args(OnStall))
    yield from checks.switch("async_exception", node.async_exception)


def _partition_problems(node: Node, by: Any) -> Iterator[str]:
    where = f"{node.name}: partition_by={by!r}"
    declared = node.declaration
    if not declared.inboxes:
        yield f"{where}, but it has no inbox, and it is messages that are spread: leave it away"
    if not isinstance(by, str) and not callable(by):
        yield f"{where} must be the name of an attribute of the messages, or a function of a message"
    if isinstance(by, str):
        for inbox in declared.inboxes.values():
            if by not in _attributes_of(inbox.type):
                yield (
                    f"{where}, but {type_name(inbox.type)}, which inbox {inbox.name!r} carries, has no attribute of that name: "
                    "name one that it has, or give a function, partition_by=lambda message: ..."
                )
    if declared.kept and declared.has_run:
        yield (
            f"{where}, but it has state and a run() of its own, and a partition's state is there while one of its messages is "
            "handled: write handlers instead of run()"
        )
    if type(node.replicas) is int and node.replicas > PARTITIONS:
        yield f"{where}: replicas={node.replicas}, but there are {PARTITIONS} partitions: ask for {PARTITIONS} at most"


def _schedule_problems(node: Node) -> Iterator[str]:
    schedules = node.declaration.schedules
    if not schedules:
        return
    names = ", ".join(schedules)
    if node.replicas != 1:
        yield (
            f"{node.name}: replicas={node.replicas!r}, but it has schedules ({names}), and each replica would make every tick: "
            "put them into a component of its own"
        )
    if node.partition_by is not None:
        yield (
            f"{node.name}: partition_by={node.partition_by!r}, but it has schedules ({names}), and a tick belongs to no "
            "partition, so that no state is there: put them into a component of its own"
        )
    if any(isinstance(schedule, Cron) for schedule in schedules.values()) and not cron_is_installed():
        yield f"{node.name}: @cron needs the library cronsim: pip install 'minions-runtime[cron]'"


def _attributes_of(declared: Any) -> set[str]:
    """The attributes that every value of a type has, as far as that can be told from the type."""
    members = classes_of(declared)
    return set.intersection(*({*dir(member), *_field_names(member)} for member in members)) if members else set()


def _field_names(member: type) -> list[str]:
    fields = attrs.fields(member) if attrs.has(member) else ()
    return [field.name for field in fields] or list(getattr(member, "__dataclass_fields__", ()))


def _components(edges: dict[int, list[int]], nodes: list[Node]) -> Iterator[list[Node]]:
    """The strongly connected components, those that are pointed at first (Tarjan 1972, without recursion)."""
    by_id = {id(node): node for node in nodes}
    position = {id(node): number for number, node in enumerate(nodes)}
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    for root in by_id:
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        path.append(root)
        on_path.add(root)
        while work:
            here, ahead = work[-1]
            for there in ahead:
                if there not in index:
                    index[there] = low[there] = len(index)
                    path.append(there)
                    on_path.add(there)
                    work.append((there, iter(edges[there])))
                    break
                if there in on_path:
                    low[here] = min(low[here], index[there])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[here])
                if low[here] == index[here]:
                    group: list[int] = []
                    while not group or group[-1] != here:
                        group.append(path.pop())
                        on_path.discard(group[-1])
                    yield [by_id[member] for member in sorted(group, key=position.__getitem__)]


def _way_round(start: int, edges: dict[int, list[int]]) -> list[int]:
    """A shortest way from `start` back to it, both ends included; there is one."""
    before: dict[int, int] = {}
    ahead = deque([start])
    while start not in before:
        here = ahead.popleft()
        for there in edges[here]:
            if there not in before:
                before[there] = here
                ahead.append(there)
    way = [start, before[start]]
    while way[-1] != start:
        way.append(before[way[-1]])
    return way[::-1]

"""The graph of a system: its order, and every reason why it cannot run."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions.model.component import Component
from minions.model.policy import Restart
from minions.model.ports import Inbox, Outbox, State, Uses
from minions.model.topology import Group, Link, Node, Topology, default_name


@attrs.frozen
class Reading:
    celsius: float


@attrs.frozen
class Alarm:
    text: str


class Stage(Component):
    inbox = Inbox(Reading)
    outbox = Outbox(Reading, optional=True)

    @inbox.handler
    def handle(self, reading: Reading) -> None: ...


class Valve(Component):
    inbox = Inbox(Reading, overflow="drop_oldest")
    outbox = Outbox(Reading, optional=True)

    @inbox.handler
    def handle(self, reading: Reading) -> None: ...


class Source(Component):
    outbox = Outbox(Reading)

    def run(self) -> None: ...


class AlarmSource(Component):
    outbox = Outbox(Alarm)

    def run(self) -> None: ...


class Counter(Component):
    inbox = Inbox(Reading)
    total = State(int)

    @inbox.handler
    def handle(self, reading: Reading) -> None: ...


def wired(components: dict[str, Component], *arrows: str) -> Topology:
    """A topology of these components, with an arrow from each outbox to an inbox: ``"a > b"``."""
    topology = Topology()
    for name, component in components.items():
        topology.add(Node(name, component))
    for arrow in arrows:
        sender, receiver = arrow.split(" > ")
        topology.connect(Link(_port(components[sender], "outbox"), _port(components[receiver], "inbox")))
    return topology


def _port(component: Component, name: str) -> Any:
    return getattr(component, name)


def stages(*arrows: str, kinds: dict[str, type[Component]] | None = None) -> Topology:
    names = dict.fromkeys(name for arrow in arrows for name in arrow.split(" > "))
    return wired({name: (kinds or {}).get(name, Stage)() for name in names}, *arrows)


def order(topology: Topology) -> list[list[str]]:
    return [[node.name for node in group] for group in topology.start_order()]


class TestNames:
    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            ("Average", "average"),
            ("FullTextIndex", "full_text_index"),
            ("HTTPServer", "http_server"),
            ("MyHTTP", "my_http"),
            ("Sensor2Reader", "sensor2_reader"),
            ("V2", "v2"),
            ("A", "a"),
            ("snake_case", "snake_case"),
            ("_Private", "_private"),
            ("Mixed_Case", "mixed_case"),
            ("", ""),
        ],
    )
    def test_of_a_component_are_those_of_its_class_in_snake_case(self, written: str, expected: str) -> None:
        assert default_name(type(written, (), {})) == expected

    def test_of_threads_have_the_number_of_the_replica(self) -> None:
        assert Node("a", Stage()).lives() == ("a",)
        assert Node("a", Stage(), replicas=3).lives() == ("a#0", "a#1", "a#2")


class TestTheOrderOfStart:
    def test_has_consumers_before_producers(self) -> None:
        assert order(stages("a > b", "b > c", "a > c")) == [["c"], ["b"], ["a"]]

    def test_has_a_cycle_in_one_group_in_the_order_of_addition(self) -> None:
        assert order(stages("in > a", "a > b", "b > c", "c > a", "c > out")) == [["out"], ["a", "b", "c"], ["in"]]

    def test_has_what_is_not_connected_too(self) -> None:
        assert order(wired({"a": Stage(), "b": Stage()})) == [["a"], ["b"]]

    def test_holds_for_every_link_outside_of_cycles(self) -> None:
        topology = stages("a > d", "b > d", "d > e", "e > f", "c > e", "f > e", "f > g", "b > g")
        place = {node.name: number for number, group in enumerate(topology.start_order()) for node in group}
        for node in topology.nodes:
            for consumer in topology.consumers(node):
                assert place[consumer.name] <= place[node.name]

    def test_knows_who_sends_to_whom_each_once(self) -> None:
        topology = stages("a > c", "b > c", "a > c", "a > b")
        a, c, b = topology.nodes
        assert topology.consumers(a) == [c, b]
        assert topology.producers(c) == [a, b]
        assert topology.producers(a) == []
        assert topology.fed_by(a, "outbox") == [(c, "inbox"), (c, "inbox"), (b, "inbox")]
        assert topology.node_of(a.blueprint) is a
        assert topology.node_of(Stage()) is None


class TestCycles:
    def test_without_a_way_out_are_refused_with_a_way_that_leads_round(self) -> None:
        topology = stages("in > a", "c > b", "a > c", "b > a")
        (said,) = [problem for problem in topology.problems() if "cycle" in problem]
        assert said == (
            "a -> c -> b -> a is a cycle in which every inbox blocks its senders: once all are full, all wait for each "
            'other; give one inbox in it a way out, Inbox(..., overflow="fail"|"drop_oldest"|"drop_newest")'
        )

    def test_are_shown_by_a_shortest_way(self) -> None:
        (said,) = stages("a > b", "b > c", "c > a", "b > a").problems()
        assert said.startswith("a -> b -> a is a cycle")

    def test_of_one_component_with_itself_are_refused(self) -> None:
        (said,) = stages("a > a").problems()
        assert said.startswith("a -> a is a cycle")

    def test_with_a_way_out_are_sound(self) -> None:
        assert stages("a > b", "b > a", kinds={"b": Valve}).problems() == []
        assert stages("a > a", kinds={"a": Valve}).problems() == []

    def test_are_refused_where_another_one_blocks_beside_the_way_out(self) -> None:
        (said,) = stages("a > v", "v > a", "a > b", "b > a", kinds={"v": Valve}).problems()
        assert said.startswith("a -> b -> a is a cycle")

    def test_are_each_told(self) -> None:
        problems = stages("a > b", "b > a", "c > d", "d > c").problems()
        assert [said.partition(" is ")[0] for said in problems] == ["a -> b -> a", "c -> d -> c"]


class TestProblems:
    def test_of_an_empty_system(self) -> None:
        assert Topology().problems() == ["there is no component: system.add(...) at least one"]

    def test_of_a_sound_system_are_none(self) -> None:
        assert wired({"source": Source(), "stage": Stage()}, "source > stage").problems() == []

    def test_all_at_once_with_component_port_and_remedy(self) -> None:
        topology = wired(
            {"s": Source(), "alarms": AlarmSource(), "a": Stage(), "b": Stage(), "lonely": Source()},
            "s > a",
            "s > a",
            "alarms > b",
        )
        topology.add(Node("a", Valve()))
        topology.add(Node("white space", Source(), replicas=2))
        topology.add(Node("counter", Counter(), replicas=0))
        topology.add(Node("counters", Counter(), replicas=3))
        stranger = Stage()
        topology.connect(Link(stranger.outbox, stranger.inbox))
        assert topology.problems() == [
            (
                "two components are called 'a' (Stage and Valve), and state is kept under that name: give one another, "
                "system.add(..., name=...)"
            ),
            "component name 'white space': use letters, digits, '_' and '-'",
            (
                "white space: replicas=2, but it is a source, and replicas are workers that share an inbox: add the source "
                "several times under names of their own"
            ),
            "counter: replicas=0 must be a whole number from 1 to 10,000",
            (
                "counters: replicas=3, but it has state (total) and replicas do not share state: give each the messages and the "
                "state of its own keys, system.add(..., partition_by=...), or keep the state in a component of its own that the "
                "replicas send to"
            ),
            "s.outbox to a.inbox is connected twice, each message would arrive twice: remove one connect(...)",
            "alarms.outbox to b.inbox: the outbox sends Alarm, the inbox carries Reading: connect ports of one type",
            (
                "connect(Stage.outbox, Stage.inbox): the component of Stage.outbox was not added to this system: use what "
                "system.add(...) returned"
            ),
            (
                "connect(Stage.outbox, Stage.inbox): the component of Stage.inbox was not added to this system: use what "
                "system.add(...) returned"
            ),
            "lonely.outbox: the outbox is not connected: system.connect(lonely.outbox, ...), or declare it with optional=True",
            "a.inbox: nothing feeds the inbox: system.connect(..., a.inbox)",
            (
                "white space.outbox: the outbox is not connected: system.connect(white space.outbox, ...), or declare it with "
                "optional=True"
            ),
            "counter.inbox: nothing feeds the inbox: system.connect(..., counter.inbox)",
            "counters.inbox: nothing feeds the inbox: system.connect(..., counters.inbox)",
        ]

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "a.b", "a#1", "../a"])
    def test_of_a_name_that_cannot_be_a_key(self, name: str) -> None:
        assert any("use letters, digits" in said for said in wired({name: Stage()}).problems())

    @pytest.mark.parametrize("name", ["a", "A-1", "über_2"])
    def test_of_a_name_that_can_are_none(self, name: str) -> None:
        assert not any("component name" in said for said in wired({name: Stage()}).problems())

    @pytest.mark.parametrize("replicas", [0, -1, 1.5, "2", True, None, 10_001, 10**30])
    def test_of_a_number_of_replicas_that_is_none(self, replicas: Any) -> None:
        topology = Topology()
        topology.add(Node("a", Stage(), replicas=replicas))
        assert f"a: replicas={replicas!r} must be a whole number from 1 to 10,000" in topology.problems()

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"restart": "always"}, "a Restart, such as Restart(failures=10)"),
            ({"stall_after_s": 0.0}, "a number of seconds, more than 0, or None"),
            ({"stall_after_s": math.nan}, "a number of seconds, more than 0, or None"),
            ({"stall_after_s": "60"}, "a number of seconds, more than 0, or None"),
            ({"on_stall": "kill"}, "one of report, restart, stop"),
            ({"async_exception": 1}, "True or False"),
        ],
    )
    def test_of_an_argument_that_is_none(self, wrong: dict[str, Any], said: str) -> None:
        topology = Topology()
        topology.add(Node("a", Stage(), **wrong))
        [(name, value)] = wrong.items()
        assert f"a: {name}={value!r} must be {said}" in topology.problems()

    def test_of_one_outbox_to_two_inboxes_of_a_component_are_none(self) -> None:
        class Two(Component):
            x = Inbox(Reading)
            y = Inbox(Reading)

            def run(self) -> None: ...

        source, two = Source(), Two()
        topology = wired({"source": source, "two": two})
        topology.connect(Link(source.outbox, two.x))
        topology.connect(Link(source.outbox, two.y))
        assert topology.problems() == []

    def test_of_types_that_look_alike(self) -> None:
        class Sends(Component):
            outbox = Outbox(dict[str, int])

            def run(self) -> None: ...

        class Receives(Component):
            inbox = Inbox(dict[str, float])

            def run(self) -> None: ...

        (said,) = wired({"s": Sends(), "r": Receives()}, "s > r").problems()
        assert "the outbox sends dict[str, int], the inbox carries dict[str, float]" in said

    def test_of_configuration_that_no_life_could_be_made_from(self) -> None:
        class Locked(Component):
            lock: Any

        (said,) = wired({"locked": Locked(lock=threading.Lock())}).problems()
        assert said.startswith("locked: its 'lock' (lock) cannot be copied for each life")


def grouped(topology: Topology, **groups: tuple[Any, ...]) -> Topology:
    """With groups: the strategy and then the names of its components; what is no name is taken as it is."""
    for name, (strategy, *members) in groups.items():
        blueprints = {node.name: node.blueprint for node in topology.nodes}
        topology.groups.append(Group(name, tuple(blueprints.get(member, member) for member in members), strategy))
    return topology


def together(topology: Topology, name: str) -> list[str]:
    [node] = [node for node in topology.nodes if node.name == name]
    return [other.name for other in topology.restarted_with(node)]


class TestWhatIsRestartedTogether:
    def test_dependents_are_those_that_send_to_it_directly_or_through_others(self) -> None:
        topology = stages("a > b", "b > c", "c > d", "e > d", "f > e")
        [c, d] = [node for node in topology.nodes if node.name in "cd"]
        assert [node.name for node in topology.dependents(c)] == ["a", "b"]
        assert [node.name for node in topology.dependents(d)] == ["a", "b", "c", "e", "f"]

    def test_a_component_in_a_cycle_is_no_dependent_of_its_own(self) -> None:
        topology = stages("a > b", "b > c", "c > b")
        [b] = [node for node in topology.nodes if node.name == "b"]
        assert [node.name for node in topology.dependents(b)] == ["a", "c"]

    def test_without_a_group_it_is_the_component_alone(self) -> None:
        assert together(stages("a > b"), "b") == ["b"]

    @pytest.mark.parametrize(
        ("strategy", "name", "expected"),
        [
            ("one_for_one", "b", ["b"]),
            ("one_for_all", "b", ["a", "b", "c"]),
            ("rest_for_one", "c", ["a", "b", "c"]),
            ("rest_for_one", "b", ["a", "b"]),
            ("rest_for_one", "a", ["a"]),
            ("one_for_all", "d", ["d"]),
        ],
    )
    def test_a_group_says_with_what(self, strategy: str, name: str, expected: list[str]) -> None:
        """The order of the group is c, b, a."""
        topology = grouped(stages("a > b", "b > c", "c > d"), group=(strategy, "c", "b", "a"))
        assert together(topology, name) == expected

    def test_groups_and_dependents_go_on_from_each_other(self) -> None:
        topology = stages("a > b", "c > d", "e > f", "g > h")
        for number, node in enumerate(topology.nodes):
            if node.name in ("b", "d"):
                topology.nodes[number] = attrs.evolve(node, restart=Restart(with_dependents=True))
        rebuilt = Topology()
        for node in topology.nodes:
            rebuilt.add(node)
        for link in topology.links:
            rebuilt.connect(link)
        grouped(rebuilt, one=("one_for_all", "a", "d"), two=("rest_for_one", "c", "f"))
        assert together(rebuilt, "b") == ["a", "b", "c", "d", "f"]
        assert together(rebuilt, "f") == ["f"], "it is the last of its group"
        assert together(rebuilt, "g") == ["g"]


class TestProblemsOfGroups:
    def test_a_sound_group_has_none(self) -> None:
        sound = grouped(stages("a > b"), one=("one_for_all", "a"), two=("rest_for_one", "b"))
        assert [problem for problem in sound.problems() if "group" in problem] == []

    @pytest.mark.parametrize(
        ("groups", "problem"),
        [
            (
                {"g": ("all_for_one", "a")},
                "group 'g': strategy='all_for_one' must be one of one_for_one, one_for_all, rest_for_one",
            ),
            ({"g": ("one_for_all",)}, "group 'g' has no components: give those that are to be restarted together"),
            (
                {"g": ("one_for_all", "stranger")},
                "group 'g': 'stranger' was not added to this system: use what system.add(...) returned",
            ),
            ({"g": ("one_for_all", "a", "a")}, "a is in group 'g' twice: a component belongs to one group, once"),
            (
                {"g": ("one_for_all", "a"), "h": ("one_for_one", "b", "a")},
                "a is in group 'h' and in group 'g': a component belongs to one group, once",
            ),
        ],
    )
    def test_what_is_wrong_is_said(self, groups: dict[str, tuple[Any, ...]], problem: str) -> None:
        assert [found for found in grouped(stages("a > b"), **groups).problems() if "group" in found] == [problem]

    def test_two_groups_of_one_name_are_refused(self) -> None:
        topology = grouped(stages("a > b"), g=("one_for_all", "a"))
        grouped(topology, g=("one_for_all", "b"))
        assert "two groups are called 'g': give one another name" in topology.problems()


class TestLargeSystems:
    @staticmethod
    def chain(length: int) -> Topology:
        blueprints = [Stage() for _ in range(length)]
        topology = Topology()
        for number, blueprint in enumerate(blueprints):
            topology.add(Node(f"s{number}", blueprint))
        for before, after in itertools.pairwise(blueprints):
            topology.connect(Link(before.outbox, after.inbox))
        return topology

    def test_a_long_chain_is_put_in_order_without_recursion(self) -> None:
        groups = order(self.chain(5_000))
        assert groups == [[f"s{number}"] for number in reversed(range(5_000))]

    def test_a_long_cycle_is_found_without_recursion(self) -> None:
        topology = self.chain(5_000)
        first, last = topology.nodes[0].blueprint, topology.nodes[-1].blueprint
        topology.connect(Link(_port(last, "outbox"), _port(first, "inbox")))
        (said,) = topology.problems()
        assert said.startswith("s0 -> s1 -> s2 ->")
        assert [len(group) for group in topology.start_order()] == [5_000]

    @pytest.mark.parametrize(
        "work",
        [
            Topology.problems,
            Topology.start_order,
            lambda topology: [topology.producers(node) for node in topology.nodes],
            lambda topology: [topology.consumers(node) for node in topology.nodes],
            lambda topology: [topology.node_of(node.blueprint) for node in topology.nodes],
        ],
    )
    def test_work_grows_with_the_system_and_not_with_its_square(self, work: Callable[[Topology], object]) -> None:
        def cost_s(length: int) -> float:
            topology = self.chain(length)
            best = float("inf")
            for _ in range(3):
                began_s = time.thread_time()
                work(topology)
                best = min(best, time.thread_time() - began_s)
            return best

        assert cost_s(4_000) < 40 * cost_s(400)  # ten times the work; a hundred times where it is quadratic


# ---------------------------------------------------------------------- uses
class Database(Component):
    rows: int = 0

    def insert(self) -> None: ...


class FasterDatabase(Database): ...


class User(Component):
    database = Uses(Database)


class OtherUser(Component):
    user = Uses(User)


def using(**components: Component) -> Topology:
    return wired(components)


def uses_of(component: Component, name: str) -> Any:
    return getattr(component, name)


class TestUses:
    def test_stands_for_the_only_component_of_its_class(self) -> None:
        topology = using(user=User(), database=Database())
        user, database = topology.nodes
        assert topology.problems() == []
        assert topology.used_by(user, user.declaration.uses["database"]) == [database]

    def test_stands_for_one_of_a_subclass_too(self) -> None:
        assert using(user=User(), database=FasterDatabase()).problems() == []

    def test_orders_start_as_sending_does(self) -> None:
        topology = using(other=OtherUser(), user=User(), database=Database())
        assert [[node.name for node in group] for group in topology.start_order()] == [
            ["database"],
            ["user"],
            ["other"],
        ]
        other, user, database = topology.nodes
        assert (topology.below(other), topology.above(database)) == ([user], [user])
        assert topology.dependents(database) == [other, user]

    def test_counts_among_what_is_above_also_after_a_look(self) -> None:
        topology = using(database=Database())
        [database] = topology.nodes
        assert topology.above(database) == []
        user = Node("user", User())
        topology.add(user)
        assert topology.above(database) == [user]

    def test_a_component_that_is_sent_to_and_used_is_below_once(self) -> None:
        class Both(Component):
            outbox = Outbox(Reading)
            stage = Uses(Stage)

        topology = wired({"both": Both(), "stage": Stage()}, "both > stage")
        both, stage = topology.nodes
        assert (topology.below(both), topology.above(stage)) == ([stage], [both])

    def test_is_refused_where_there_is_none(self) -> None:
        assert using(user=User()).problems() == [
            "user.database uses Database, and there is none: system.add(Database(...))"
        ]

    def test_is_refused_where_there_are_several_until_one_is_chosen(self) -> None:
        user, first, second = User(), Database(), FasterDatabase()
        topology = using(user=user, first=first, second=second)
        assert topology.problems() == [
            "user.database uses Database, and there are 2 (first, second): say which, system.use(user.database, ...)"
        ]
        topology.choose(uses_of(user, "database"), second)
        assert topology.problems() == []
        node, _, chosen = topology.nodes
        assert topology.used_by(node, node.declaration.uses["database"]) == [chosen]
        assert (topology.below(node), topology.above(chosen)) == ([chosen], [node])

    def test_what_was_chosen_last_counts(self) -> None:
        user, first, second = User(), Database(), Database()
        topology = using(user=user, first=first, second=second)
        topology.choose(uses_of(user, "database"), first)
        assert topology.above(topology.nodes[1]) == [topology.nodes[0]]
        topology.choose(uses_of(user, "database"), second)
        assert topology.above(topology.nodes[1]) == []
        assert topology.above(topology.nodes[2]) == [topology.nodes[0]]

    def test_what_was_chosen_for_one_user_is_not_for_another(self) -> None:
        user, other, first, second = User(), User(), Database(), Database()
        topology = using(user=user, other=other, first=first, second=second)
        topology.choose(uses_of(user, "database"), first)
        topology.choose(uses_of(other, "database"), second)
        assert topology.problems() == []
        one, another, *databases = topology.nodes
        assert [topology.below(one), topology.below(another)] == [[databases[0]], [databases[1]]]

    def test_is_refused_where_a_stranger_is_chosen(self) -> None:
        user = User()
        topology = using(user=user, database=Database())
        topology.choose(uses_of(user, "database"), Database())
        assert "both must have been added to this system" in topology.problems()[0]

    def test_is_refused_where_a_stranger_is_to_use_it(self) -> None:
        database = Database()
        topology = using(database=database)
        topology.choose(uses_of(User(), "database"), database)
        [problem] = topology.problems()
        assert problem.startswith("use(User.database, ")

    def test_is_refused_where_another_kind_is_chosen(self) -> None:
        user, other = User(), Counter()
        topology = wired({"user": user, "source": Source(), "counter": other}, "source > counter")
        topology.choose(uses_of(user, "database"), other)
        assert topology.problems() == ["use(user.database, counter): it uses Database, and counter is none"]

    def test_is_refused_of_itself(self) -> None:
        class Selfish(Component):
            me = Uses(Component)

        assert using(selfish=Selfish()).problems() == [
            "selfish.me uses selfish itself, which would wait for itself: call the method directly"
        ]

    def test_is_refused_of_what_answers_no_calls(self) -> None:
        class UsesSource(Component):
            source = Uses(Source)

        [problem] = wired({"user": UsesSource(), "source": Source(), "stage": Stage()}, "source > stage").problems()
        assert problem == (
            "user.source uses source, which has a run() of its own and answers no calls: calls are answered between messages, "
            "write handlers instead"
        )

    def test_is_refused_of_what_has_partitions(self) -> None:
        class UsesCounter(Component):
            counter = Uses(Counter)

        counter, source = Counter(), Source()
        topology = using(user=UsesCounter(), source=source)
        topology.add(Node("counter", counter, partition_by="celsius"))
        topology.connect(Link(source.outbox, counter.inbox))
        [problem] = topology.problems()
        assert problem.startswith("user.counter uses counter, whose state belongs to partitions, and a call has no key")

    @pytest.mark.parametrize("kind", [int, list[int], Reading])
    def test_is_refused_of_what_is_no_component(self, kind: Any) -> None:
        class Odd(Component):
            what = Uses(kind)

        [problem] = using(odd=Odd()).problems()
        assert "only components can be used" in problem
        assert "odd.what = Uses(" in problem

    def test_is_refused_in_a_circle(self) -> None:
        class A(Component):
            next = Uses(Component)

        a, b, c = A(), A(), A()
        topology = using(a=a, b=b, c=c)
        topology.choose(uses_of(a, "next"), b)
        topology.choose(uses_of(b, "next"), c)
        topology.choose(uses_of(c, "next"), a)
        [problem] = topology.problems()
        assert problem == (
            "a uses b uses c uses a: what is used starts before its users, so none of them could start, and calls could only "
            "wait for each other: let one of them send messages instead"
        )

    def test_a_circle_is_found_beside_others_that_use_it(self) -> None:
        class Two(Component):
            first = Uses(Component)
            second = Uses(Component)

        a, b, database, outside = Two(), Two(), Database(), User()
        topology = using(outside=outside, a=a, b=b, database=database)
        for user, name, used in [
            (a, "first", database),
            (a, "second", b),
            (b, "first", database),
            (b, "second", a),
        ]:
            topology.choose(uses_of(user, name), used)
        [problem] = topology.problems()
        assert problem.startswith("a uses b uses a: ")

    def test_in_a_circle_with_messages_is_sound(self) -> None:
        """It may come to a deadlock, where an inbox is full, and that is then an error; it need not."""

        class Asks(Stage):
            stage = Uses(Stage)

        asks, stage = Asks(), Stage()
        topology = wired({"asks": asks, "stage": stage, "source": Source()}, "stage > asks", "source > stage")
        topology.choose(uses_of(asks, "stage"), stage)
        assert topology.problems() == []
        assert [sorted(node.name for node in group) for group in topology.start_order()][:1] == [["asks", "stage"]]

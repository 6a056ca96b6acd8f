"""What a replay knows of tables, partitions and other components, and where it stops because it does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import (
    Component,
    Crash,
    CrashRefused,
    Inbox,
    Outbox,
    State,
    System,
    Table,
    UsageError,
    Uses,
    events,
    wrap,
)
from minions.flow.calls import CallQueue
from minions.life.crash import KeptCall
from minions.life.crash_values import CannotRecord, keep_value
from minions.life.replaying import _Answers
from tests.life.conftest import Commits, Number, Start
from tests.life.crashing import ALWAYS, ONCE, Bug, Numbers, run_to_the_end, the_crash


@pytest.fixture
def bug() -> Bug:
    return Bug()


class TestTables:
    @pytest.fixture
    def system(self, system: System, bug: Bug) -> System:
        class Stock(Component):
            numbers = Inbox(Number, retry=ONCE)
            shelf = Table(int, int)

            def on_start(self) -> None:
                for key in range(10):
                    self.shelf[key] = key * key

            @numbers.handler
            def count(self, number: Number) -> None:
                self.commit_first()
                if number.value == 2:
                    self.shelf[3] += 1
                    del self.shelf[8]
                    read = [self.shelf[3], self.shelf.get(77), dict(self.shelf.between(5, 7)), len(self.shelf)]
                    bug.strike(f"{read}")
                    assert self.shelf[6] == 36
                    if number.value != 2:
                        self.shelf[9] = 0
                self.shelf[3] = 30

            def commit_first(self) -> None: ...

        source, stock = system.add(Numbers(last=2)), system.add(Stock())
        system.connect(source.out, stock.numbers)
        return system

    def test_what_was_read_is_read_again(self, system: System, start: Start, bug: Bug) -> None:
        run_to_the_end(system, start)
        crash = the_crash(system)

        again = system.replay(crash)
        bug.is_there = False
        mended = system.replay(crash)

        assert (again.stopped, again.same) == ("", True)
        assert again.error == crash.error == "ValueError: [31, None, {5: 25, 6: 36, 7: 49}, 9]"
        assert (mended.stopped, mended.failed) == ("", False)

    def test_what_was_not_read_ends_the_replay(
        self, system: System, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_to_the_end(system, start)
        crash = the_crash(system)
        went_on: list[str] = []
        stock: Any = next(node.blueprint for node in system._topology.nodes if node.name == "stock")

        for reading, reason in (
            (lambda self: self.shelf[1_000], "reads an entry of table shelf"),
            (lambda self: list(self.shelf), "goes through entries of table shelf"),
            (lambda self: list(self.shelf.between(5, 9)), "goes through more entries of table shelf"),
        ):

            def swallowing(self: Any, reading: Callable[[Any], Any] = reading) -> None:
                try:
                    reading(self)
                except Exception:  # noqa: BLE001 - user code that swallows everything does not swallow the end of a replay
                    went_on.append("swallowed")

            monkeypatch.setattr(type(stock), "commit_first", swallowing)
            replay = system.replay(crash)
            assert reason in replay.stopped
            assert went_on == []
            with pytest.raises(CrashRefused, match=r"reads|goes"):
                replay.check()


def test_entries_that_were_not_on_disk_yet_are_known_too(
    system: System, start: Start, bug: Bug, commits: Commits
) -> None:
    class Stock(Component):
        numbers = Inbox(Number, retry=ONCE)
        shelf = Table(int, int)

        @numbers.handler
        def count(self, number: Number) -> None:
            if number.value == 1:
                self.shelf.update({1: 10, 2: 20, 3: 30})
            elif number.value == 2:
                del self.shelf[2]
            elif number.value == 3:
                bug.strike("the next life knows the table from nowhere but the journal")
            else:
                bug.strike(f"{list(self.shelf)} {len(self.shelf)}")

    source, stock = system.add(Numbers(last=4)), system.add(Stock(), restart=ALWAYS)
    system.connect(source.out, stock.numbers)
    run = start(system).up()
    run.wait_for(events.MessageSetAside, 2)
    commits.open()
    run.stop()

    replay = system.replay(system.crashes()[0])

    assert (replay.stopped, replay.same, replay.error) == ("", True, "ValueError: [1, 3] 2")


def test_the_state_and_the_table_of_a_partition(system: System, start: Start, bug: Bug) -> None:
    @attrs.frozen
    class Order:
        customer: str
        amount: int

    class Orders(Component):
        out = Outbox(Order)
        sent = State(int)

        def run(self) -> None:
            if self.sent == 0:
                with self.unit():
                    self.sent = 1
                    for customer in ("ann", "bob", "ann", "bob", "ann"):
                        self.out.send(Order(customer, 1 if customer == "ann" else 100))

    class Accounts(Component):
        orders = Inbox(Order, retry=ONCE)
        total = State(int)
        seen = Table(int, int)

        @orders.handler
        def add(self, order: Order) -> None:
            self.total += order.amount
            self.seen[self.total] = self.seen.get(self.total - order.amount, 0) + 1
            if self.total == 200:
                bug.strike(f"{self.total} {self.seen[200]}")

    source, accounts = system.add(Orders()), system.add(Accounts(), replicas=2, partition_by="customer")
    system.connect(source.out, accounts.orders)
    run_to_the_end(system, start)

    crash = the_crash(system)
    replay = system.replay(crash)

    assert crash.partition is not None
    assert (replay.stopped, replay.same, replay.error) == ("", True, "ValueError: 200 2")


def test_a_replica(system: System, start: Start, bug: Bug) -> None:
    class Worker(Component):
        numbers = Inbox(Number, retry=ONCE)

        @numbers.handler
        def take(self, number: Number) -> None:
            if number.value == 3:
                bug.strike(f"{self.message_id}")

    source, worker = system.add(Numbers()), system.add(Worker(), replicas=2)
    system.connect(source.out, worker.numbers)
    run_to_the_end(system, start)

    crash = the_crash(system)
    replay = system.replay(crash)

    assert crash.component in ("worker#0", "worker#1")
    assert (replay.stopped, replay.same, replay.error) == ("", True, crash.error)


def test_a_function_that_is_wrapped(system: System, start: Start, bug: Bug) -> None:
    def double(number: Number) -> Number:
        if number.value == 2:
            bug.strike()
        return Number(2 * number.value)

    class Sink(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    source, worker = system.add(Numbers()), system.add(wrap.function(double, Number, Number), name="double")
    sink = system.add(Sink())
    system.connect(source.out, worker.inbox)
    system.connect(worker.out, sink.numbers)
    run = start(system).up()
    run.wait_until_quiet()
    run.stop()

    crash = system.crashes()[0]
    again = system.replay(crash)
    bug.is_there = False

    assert (again.stopped, again.same) == ("", True)
    assert system.replay(crash).sent == (("sink.numbers", Number(4)),)


class TestCalls:
    """What other components answered."""

    @attrs.frozen
    class Row:
        name: str
        sizes: tuple[int, ...]

    @pytest.fixture
    def system(self, system: System, bug: Bug) -> System:
        row = self.Row

        class Database(Component):
            used = State(int)

            def connect(self) -> str:
                return "connected"

            def find(self, number: int, *, deep: bool = False) -> Any:
                self.used += 1
                if number == 13:
                    raise LookupError("no row", number)
                return {"rows": [row(f"row {number}", (1, 2))], "deep": deep, "used": self.used}

            def raw(self) -> Any:
                return object()

        class Client(Component):
            numbers = Inbox(Number, retry=ONCE)
            database = Uses(Database)
            extra: Callable[[Any], object] = lambda client: None

            def on_start(self) -> None:
                self.how = self.database.connect()

            @numbers.handler
            def take(self, number: Number) -> None:
                found = self.database.find(number.value, deep=True)
                missing: Any = None
                try:
                    self.database.find(13)
                except LookupError as error:
                    missing = error.args
                later = self.submit(self.database.find, 4).result()
                self.asked(self)
                bug.strike(f"{self.how} {found} {missing} {later['used']}")

            def asked(self, client: Any) -> None: ...

        source, client = system.add(Numbers(last=1)), system.add(Client())
        database = system.add(Database())
        system.connect(source.out, client.numbers)
        assert database is not None
        return system

    def test_they_answer_the_same(self, system: System, start: Start, bug: Bug) -> None:
        run_to_the_end(system, start)
        crash = the_crash(system, "client")

        again = system.replay(crash)
        bug.is_there = False

        assert (again.stopped, again.error, again.same) == ("", crash.error, True)
        assert "('no row', 13) 2" in crash.error
        assert "connected {'rows': [TestCalls.Row(name='row 1', sizes=(1, 2))]" in crash.error
        assert not system.replay(crash).failed

    @pytest.mark.parametrize(
        ("ask", "reason"),
        [
            (
                lambda client: client.database.find(99),
                "calls database.find() once more, or with other arguments, which it did not before it failed; say what",
            ),
            (
                lambda client: client.database.connect(),
                "calls database.connect(), which it did not before it failed; say what it answers",
            ),
        ],
        ids=["other arguments", "other method"],
    )
    def test_what_it_did_not_ask_then_ends_the_replay(
        self,
        system: System,
        start: Start,
        ask: Callable[[Any], object],
        reason: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run_to_the_end(system, start)
        client: Any = next(node.blueprint for node in system._topology.nodes if node.name == "client")
        monkeypatch.setattr(type(client), "asked", lambda self, client: ask(client))

        assert reason in system.replay(the_crash(system, "client")).stopped

    def test_who_replays_it_may_say_what_others_answer(
        self, system: System, start: Start, monkeypatch: pytest.MonkeyPatch, bug: Bug
    ) -> None:
        run_to_the_end(system, start)
        client: Any = next(node.blueprint for node in system._topology.nodes if node.name == "client")
        bug.is_there = False

        def asked(self: Any, client: Any) -> None:
            raise RuntimeError(f"{client.database.connect()} {client.database.find(9)}")

        monkeypatch.setattr(type(client), "asked", asked)
        crash = the_crash(system, "client")
        replay = system.replay(crash, answers={"database.find": lambda number: number * 2, "database.connect": "anew"})

        assert replay.error == "RuntimeError: anew 18"
        for name, problem in (
            ("nix.find", "name a method of a component that it uses, such as database.find; it uses database"),
            ("database", "name a method"),
            ("database._find", "it cannot be called: it is private"),
        ):
            with pytest.raises(UsageError, match=problem):
                system.replay(crash, answers={name: 1})

    def test_an_answer_is_given_to_the_same_arguments_only(self) -> None:
        answers = _Answers(
            [
                KeptCall("db", "find", (keep_value(number),), answer="returned", returned=keep_value(f"row {number}"))
                for number in (1, 2)
            ],
            True,
            {},
            {},
        )
        queue = CallQueue("db", 1)

        assert answers.to(queue, "find", (2,), {}) == "row 2"
        with pytest.raises(CannotRecord, match="once more, or with other arguments"):
            answers.to(queue, "find", (2,), {})
        with pytest.raises(CannotRecord, match="once more, or with other arguments"):
            answers.to(queue, "find", (1,), {"deep": True})
        assert answers.to(queue, "find", (1,), {}) == "row 1"

    def test_an_answer_that_cannot_be_stored_ends_the_replay(
        self, system: System, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client: Any = next(node.blueprint for node in system._topology.nodes if node.name == "client")
        monkeypatch.setattr(type(client), "asked", lambda self, client: client.database.raw())
        run_to_the_end(system, start)

        stopped = system.replay(the_crash(system, "client")).stopped
        assert stopped.startswith("<object object at ")
        assert stopped.endswith("could not be stored")


class TestNotDurable:
    def crash_of(self, system: System, start: Start, kind: type, message: object, bug: Bug) -> Crash:
        class Sender(Component):
            out = Outbox(kind)  # type: ignore[var-annotated]
            kept = State(int)  # so that the system has a folder

            def run(self) -> None:
                self.out.send(message)

        class Taker(Component):
            inbox = Inbox(kind, durable=False, retry=ONCE)  # type: ignore[var-annotated]

            @inbox.handler
            def take(self, message: object) -> None:
                bug.strike()

        sender, taker = system.add(Sender()), system.add(Taker())
        system.connect(sender.out, taker.inbox)
        run_to_the_end(system, start)
        return the_crash(system)

    def test_a_message_is_recorded_if_it_can_be_stored(self, system: System, start: Start, bug: Bug) -> None:
        crash = self.crash_of(system, start, Number, Number(5), bug)
        assert crash.messages[0].stored == '{"value":5}'
        assert system.replay(crash).same

    def test_otherwise_the_crash_says_why_it_cannot_be_replayed(self, system: System, start: Start, bug: Bug) -> None:
        class Handle:
            pass

        crash = self.crash_of(system, start, Handle, Handle(), bug)
        assert crash.error == "ValueError: the bug"
        with pytest.raises(CrashRefused, match=r"the message to taker\.inbox was not recorded: .*Handle"):
            system.replay(crash)

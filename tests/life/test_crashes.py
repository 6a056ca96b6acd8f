"""What is recorded of a unit that fails, with real systems, and what comes of running it once more."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import (
    Backoff,
    CallFailed,
    Component,
    ConfigurationError,
    Crash,
    Crashes,
    CrashRefused,
    Inbox,
    InboxEmpty,
    Outbox,
    Restart,
    Retry,
    State,
    System,
    Table,
    UsageError,
    Uses,
    events,
    every,
    wrap,
)
from minions.cli.project import load_app
from minions.flow.parker import Parker
from minions.life import commands
from minions.life.crash import crash_in, crashes_in
from minions.life.replaying import _ReplayedClock
from minions.testing import FakeClock
from tests.life.conftest import Gate, Number, Start

ONCE = Retry(attempts=1)
AT_ONCE = Retry(attempts=2, backoff=Backoff(initial_s=0.0))
NEVER = Restart(failures=0)
ALWAYS = Restart(failures=100, backoff=Backoff(initial_s=0.0))


class Bug:
    """A bug that can be mended."""

    def __init__(self) -> None:
        self.is_there = True

    def strike(self, why: str = "the bug") -> None:
        if self.is_there:
            raise ValueError(why)


@pytest.fixture
def bug() -> Bug:
    return Bug()


class Numbers(Component):
    """Sends the numbers from 1 up, each once."""

    out = Outbox(Number)
    sent = State(int)
    last: int = 3

    def run(self) -> None:
        while self.sent < self.last:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))


def the_crash(system: System, component: str = "") -> Crash:
    [crash] = [crash for crash in system.crashes() if component in ("", crash.component)]
    return crash


def run_to_the_end(system: System, start: Start, **options: Any) -> None:
    run = start(system, **options).up()
    run.wait_until_quiet()
    run.stop()


class TestHandler:
    @pytest.fixture
    def system(self, system: System, bug: Bug) -> System:
        class Sum(Component):
            numbers = Inbox(Number, retry=ONCE)
            sums = Outbox(Number, optional=True)
            total = State(int)

            @numbers.handler
            def add(self, number: Number) -> None:
                self.total += number.value
                if number.value == 3:
                    bug.strike(f"three at {self.total} in {self.message_id}")
                self.sums.send(Number(self.total))

        class Sink(Component):
            sums = Inbox(Number)

            @sums.handler
            def take(self, number: Number) -> None: ...

        source, total, sink = system.add(Numbers()), system.add(Sum(), name="sum"), system.add(Sink())
        system.connect(source.out, total.numbers)
        system.connect(total.sums, sink.sums)
        return system

    def test_it_fails_again_with_the_same_state_message_and_traceback(self, system: System, start: Start) -> None:
        run_to_the_end(system, start)

        crash = the_crash(system)
        replay = system.replay(crash)

        assert (crash.component, crash.kind, crash.where, crash.set_aside) == ("sum", "handler", "add", True)
        assert (replay.failed, replay.same, replay.stopped) == (True, True, "")
        assert replay.error == crash.error
        assert "three at 6 in sum.numbers-" in crash.error
        assert replay.traceback == crash.traceback

    def test_it_does_not_fail_once_the_bug_is_mended_and_says_what_it_sends(
        self, system: System, start: Start, bug: Bug
    ) -> None:
        run_to_the_end(system, start)
        bug.is_there = False

        replay = system.replay(the_crash(system))

        assert (replay.failed, replay.stopped, replay.sent) == (False, "", (("sink.sums", Number(6)),))
        replay.check()

    def test_nothing_of_the_system_is_changed_by_a_replay(self, system: System, start: Start, bug: Bug) -> None:
        run_to_the_end(system, start)
        bug.is_there = False
        before = {path: path.read_bytes() for path in system.folder.rglob("*") if path.is_file()}
        threads = threading.active_count()

        system.replay(the_crash(system))

        assert {path: path.read_bytes() for path in system.folder.rglob("*") if path.is_file()} == before
        assert threading.active_count() == threads

    def test_check_raises_what_the_unit_has_raised(self, system: System, start: Start) -> None:
        run_to_the_end(system, start)

        with pytest.raises(ValueError, match="three at 6"):
            system.replay(the_crash(system)).check()

    def test_the_files_are_for_this_user_only(self, system: System, start: Start) -> None:
        run_to_the_end(system, start)

        [(path, _)] = crashes_in(system.folder)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert crash_in(path) == the_crash(system)

    def test_another_error_at_the_same_place_is_not_the_same(
        self, system: System, start: Start, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_to_the_end(system, start)

        def strike(self: Bug, why: str) -> None:
            raise KeyError(why)

        monkeypatch.setattr(Bug, "strike", strike)
        replay = system.replay(the_crash(system))

        assert (replay.failed, replay.same) == (True, False)
        assert replay.error.startswith("KeyError")


def test_each_attempt_is_a_crash_and_the_last_one_says_that_the_message_was_set_aside(
    system: System, start: Start, bug: Bug
) -> None:
    class Picky(Component):
        numbers = Inbox(Number, retry=AT_ONCE)

        @numbers.handler
        def take(self, number: Number) -> None:
            bug.strike()

    source, picky = system.add(Numbers(last=1)), system.add(Picky())
    system.connect(source.out, picky.numbers)
    run_to_the_end(system, start)

    assert [(crash.attempt, crash.set_aside, crash.epoch) for crash in system.crashes()] == [
        (2, True, 2),
        (1, False, 1),
    ]


def test_a_message_that_can_change_is_recorded_as_it_was_sent(system: System, start: Start, bug: Bug) -> None:
    @attrs.define
    class Parcel:
        items: list[int]

    class Sender(Component):
        out = Outbox(Parcel)

        def run(self) -> None:
            self.out.send(Parcel([1, 2]))

    class Unpacker(Component):
        parcels = Inbox(Parcel, retry=ONCE)

        @parcels.handler
        def unpack(self, parcel: Parcel) -> None:
            parcel.items.clear()
            bug.strike()

    sender, unpacker = system.add(Sender()), system.add(Unpacker())
    system.connect(sender.out, unpacker.parcels)
    run_to_the_end(system, start)

    assert the_crash(system).messages[0].stored == '{"items":[1,2]}'


class TestRun:
    def add_reader(self, system: System, reader: Component) -> None:
        source = system.add(Numbers())
        system.add(reader, name="reader", restart=NEVER)
        system.connect(source.out, reader.numbers)  # type: ignore[attr-defined]

    def test_what_a_receive_has_opened_fails_again(self, system: System, start: Start, bug: Bug) -> None:
        class Sum(Component):
            numbers = Inbox(Number, retry=ONCE)
            total = State(int)

            def run(self) -> None:
                for number in self.numbers:
                    self.total += number.value
                    if number.value == 2:
                        bug.strike(f"at {self.total}")

        self.add_reader(system, Sum())
        run_to_the_end(system, start)

        crash = the_crash(system)
        again = system.replay(crash)
        bug.is_there = False
        mended = system.replay(crash)

        assert (again.same, again.error) == (True, "ValueError: at 3")
        assert (mended.failed, mended.stopped) == (False, "")

    def test_a_unit_with_two_receives_fails_again_and_not_once_it_is_mended(
        self, system: System, start: Start, bug: Bug
    ) -> None:
        class Pairs(Component):
            numbers = Inbox(Number)
            total = State(int)

            def run(self) -> None:
                while self.running:
                    with self.unit():
                        self.total += self.numbers.receive().value
                        try:
                            self.total += self.numbers.receive(timeout_s=60.0).value
                        except InboxEmpty:
                            return
                        if self.total == 3:
                            bug.strike(f"at {self.total}")

        self.add_reader(system, Pairs())
        start(system).ended()

        crash = the_crash(system)
        again = system.replay(crash)
        bug.is_there = False

        assert [message.stored for message in crash.messages] == ['{"value":1}', '{"value":2}']
        assert crash.kind == "run"
        assert (again.same, again.error) == (True, "ValueError: at 3")
        assert not system.replay(crash).failed

    def test_what_a_unit_that_was_dropped_had_read_of_a_table_and_asked(
        self, system: System, start: Start, bug: Bug
    ) -> None:
        class Prices(Component):
            def of(self, number: int) -> int:
                return number * 100

        class Ledger(Component):
            numbers = Inbox(Number, retry=ONCE)
            seen = Table(int, int)
            prices = Uses(Prices)

            def on_start(self) -> None:
                self.seen[1] = 10

            def run(self) -> None:
                for attempt in range(2):
                    try:
                        with self.unit():
                            number = self.numbers.receive().value
                            price = self.prices.of(number + attempt)
                            before = self.seen[number]
                            self.seen[number] = price
                            bug.strike(f"{attempt} {before} {self.seen[number]}")
                    except ValueError:
                        if attempt == 1:
                            raise

        system.add(Prices())
        source, ledger = system.add(Numbers(last=1)), system.add(Ledger(), restart=NEVER)
        system.connect(source.out, ledger.numbers)
        run_to_the_end(system, start)

        crash = the_crash(system)
        replay = system.replay(crash)

        # What the first try had asked was of a unit that never was; a replay begins with that, as the next life does.
        assert [call.arguments[0].stored for call in crash.calls] == ["2"]
        assert crash.tables["seen"].known["p111"] == '{"type":"int","version":1,"value":10}'
        assert replay.stopped.startswith("it calls prices.of() once more, or with other arguments")
        assert system.replay(crash, answers={"prices.of": lambda number: number * 100}).error == "ValueError: 1 10 200"

    def test_a_source_that_keeps_nothing_is_run_up_to_the_unit_that_failed(
        self, system: System, start: Start, bug: Bug
    ) -> None:
        class Counting(Component):
            out = Outbox(Number)

            def run(self) -> None:
                for value in range(5):
                    if value == 3:
                        bug.strike()
                    self.out.send(Number(value))

        class Sink(Component):
            numbers = Inbox(Number)

            @numbers.handler
            def take(self, number: Number) -> None: ...

        source = system.add(Counting(), restart=NEVER)
        sink = system.add(Sink())
        system.connect(source.out, sink.numbers)
        start(system).ended()

        crash = the_crash(system)
        again = system.replay(crash)
        bug.is_there = False
        mended = system.replay(crash)

        assert again.same
        assert [message.value for _, message in mended.sent] == [0, 1, 2, 3]


class TestOtherUnits:
    def test_a_tick(self, system: System, start: Start, bug: Bug) -> None:
        class Clockwork(Component):
            ticks = State(int)

            @every(seconds=10)
            def tick(self) -> None:
                self.ticks += 1
                if self.ticks == 2:
                    bug.strike(f"tick {self.ticks}")

        clock = FakeClock()
        system.add(Clockwork(), restart=NEVER)
        run = start(system, clock=clock).up()
        for _ in range(2):
            clock.wait_for_waiters()
            clock.advance(seconds=10)
        run.ended()

        crash = the_crash(system)
        again = system.replay(crash)
        bug.is_there = False

        assert (crash.kind, crash.where, crash.at) == ("tick", "tick", 1_700_000_020.0)
        assert (again.same, again.error) == (True, "ValueError: tick 2")
        assert not system.replay(crash).failed

    def test_a_call(self, system: System, start: Start, bug: Bug) -> None:
        class Ledger(Component):
            entries = State(list[int])

            def enter(self, amount: int, *, twice: bool = False) -> int:
                self.entries = [*self.entries, amount]
                if amount < 0:
                    bug.strike(f"{self.entries} {twice}")
                return len(self.entries)

        ledger = system.add(Ledger())
        run = start(system, clock=FakeClock()).up()
        system.call(ledger).enter(5)
        for _ in range(2):
            with pytest.raises(ValueError, match="-1"):
                system.call(ledger).enter(-1, twice=True)
        run.stop()

        crash = the_crash(system)  # of two within a minute, the first
        again = system.replay(crash)
        bug.is_there = False

        assert crash.kind == "call"
        assert (again.same, again.error) == (True, "ValueError: [5, -1] True")
        assert not system.replay(crash).failed

    def test_on_start_and_on_stop(self, system: System, start: Start, bug: Bug) -> None:
        class Starting(Component):
            starts = State(int)

            def on_start(self) -> None:
                self.starts += 1
                bug.strike(f"start {self.starts}")

        class Stopping(Component):
            stops = State(int)

            def on_start(self) -> None:
                self.stops += 10

            def on_stop(self) -> None:
                self.stops += 1
                bug.strike(f"stop {self.stops}")

        system.add(Stopping(), restart=NEVER)
        system.add(Starting(), restart=NEVER)
        start(system).ended()

        found = {crash.kind: system.replay(crash) for crash in system.crashes()}
        assert {kind: (replay.same, replay.error) for kind, replay in found.items()} == {
            "on_start": (True, "ValueError: start 1"),
            "on_stop": (True, "ValueError: stop 11"),
        }

    def test_what_follows_a_commit(self, system: System, start: Start, bug: Bug) -> None:
        class Mailer(Component):
            numbers = Inbox(Number)
            mails = State(int)

            @numbers.handler
            def take(self, number: Number) -> None:
                self.after_commit(self.mail if number.value == 1 else lambda: self.mail())

            def mail(self) -> None:
                self.mails += 1
                bug.strike(f"mail {self.mails} of {self.message_id[-2:]}")

        source, mailer = system.add(Numbers(last=2)), system.add(Mailer())
        system.connect(source.out, mailer.numbers)
        run_to_the_end(system, start)

        *_, method = system.crashes()
        closure = next(crash for crash in system.crashes() if crash.where == "<lambda>")
        replay = system.replay(method)
        assert (method.kind, replay.same, replay.error) == ("after_commit", True, "ValueError: mail 1 of -1")
        with pytest.raises(CrashRefused, match="hand over a method"):
            system.replay(closure)


def test_the_same_error_from_another_line_is_not_the_same(system: System, start: Start, bug: Bug) -> None:
    class Picky(Component):
        numbers = Inbox(Number, retry=ONCE)
        kept = State(int)

        @numbers.handler
        def take(self, number: Number) -> None:
            bug.strike()
            raise ValueError("the bug")

    source, picky = system.add(Numbers(last=1)), system.add(Picky(), async_exception=True)
    system.connect(source.out, picky.numbers)
    run_to_the_end(system, start)

    crash = the_crash(system)
    again = system.replay(crash)
    bug.is_there = False
    elsewhere = system.replay(crash)

    assert again.same
    assert (elsewhere.failed, elsewhere.same, elsewhere.error) == (True, False, crash.error)


def test_time_is_that_of_the_failure_and_no_wait_takes_any(system: System, start: Start, bug: Bug) -> None:
    class Sleeper(Component):
        numbers = Inbox(Number, retry=ONCE)
        kept = State(int)

        @numbers.handler
        def take(self, number: Number) -> None:
            if not bug.is_there:
                self.sleep(36_000)
            bug.strike()

    source, sleeper = system.add(Numbers(last=1)), system.add(Sleeper())
    system.connect(source.out, sleeper.numbers)
    run_to_the_end(system, start, clock=FakeClock())
    bug.is_there = False

    crash = the_crash(system)
    assert (crash.at, crash.monotonic_s) == (1_700_000_000.0, 1_000.0)
    assert not system.replay(crash).failed

    clock = _ReplayedClock(crash, lambda why: None)
    clock.wait(Parker(), 1_010.0)
    assert (clock.wall(), clock.monotonic()) == (1_700_000_010.0, 1_010.0)


def test_what_waits_for_ever_ends_the_replay(system: System, start: Start, bug: Bug) -> None:
    class Source(Component):
        out = Outbox(Number)
        kept = State(int)

        def run(self) -> None:
            bug.strike()
            while self.running:
                self.sleep(1.0)

    class Sink(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    source, sink = system.add(Source(), restart=NEVER), system.add(Sink())
    system.connect(source.out, sink.numbers)
    start(system).ended()
    bug.is_there = False

    assert system.replay(the_crash(system)).stopped == "it waits for something that never comes in a replay"


def test_what_a_unit_hands_over_for_after_its_commit_is_not_called_in_a_replay(
    system: System, start: Start, bug: Bug
) -> None:
    mails: list[int] = []

    class Mailer(Component):
        numbers = Inbox(Number, retry=ONCE)
        kept = State(int)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.after_commit(lambda: mails.append(number.value))
            self.commit()
            bug.strike()

    source, mailer = system.add(Numbers(last=1)), system.add(Mailer())
    system.connect(source.out, mailer.numbers)
    run_to_the_end(system, start)
    bug.is_there = False

    assert not system.replay(the_crash(system)).failed
    assert mails == []


def test_a_message_that_is_not_what_its_class_says_any_more(new_system: Callable[[], System], start: Start) -> None:
    def add_to(system: System, kind: type) -> None:
        class Sender(Component):
            out = Outbox(kind)  # type: ignore[var-annotated]
            sent = State(int)

            def run(self) -> None:
                if not self.sent:
                    with self.unit():
                        self.sent = 1
                        self.out.send(kind(1))

        class Taker(Component):
            inbox = Inbox(kind, retry=ONCE)  # type: ignore[var-annotated]

            @inbox.handler
            def take(self, message: object) -> None: ...

        sender, taker = system.add(Sender()), system.add(Taker())
        system.connect(sender.out, taker.inbox)

    first, second = new_system(), new_system()
    add_to(first, attrs.make_class("Order", {"number": attrs.field(type=int)}))
    run = start(first)
    run.runtime.change(commands.Pause, ("taker",), "test")
    run.wait_for(events.ComponentFinished)
    run.stop()
    add_to(second, attrs.make_class("Order", {"number": attrs.field(type=int), "of": attrs.field(type=str)}))
    run_to_the_end(second, start)

    crash = the_crash(second)
    replay = second.replay(crash)

    assert (crash.kind, crash.set_aside, crash.component) == ("handler", True, "taker")
    assert (replay.failed, replay.same, replay.error) == (True, True, crash.error)
    assert "Order" in crash.error


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


class Failing(Component):
    """Fails at each message, in every way that a test wants."""

    numbers = Inbox(Number, retry=ONCE)
    kept = State(list[str])

    @numbers.handler
    def take(self, number: Number) -> None:
        if not self.kept:
            self.kept = ["x" * 30_000]
            return
        raise ValueError(f"number {number.value}")


@pytest.fixture
def failing(system: System) -> System:
    source, component = system.add(Numbers(last=6)), system.add(Failing(), restart=ALWAYS)
    system.connect(source.out, component.numbers)
    return system


class TestBounds:
    def test_the_newest_are_kept(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(keep=2))

        assert [crash.error for crash in failing.crashes()] == ["ValueError: number 6", "ValueError: number 5"]

    def test_what_is_too_large_is_left_out_and_told(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(size_bytes=10_000))

        crash = failing.crashes()[0]
        assert crash.left_out == ("states",)
        assert all(path.stat().st_size <= 10_000 for path, _ in crashes_in(failing.folder))
        with pytest.raises(CrashRefused, match=r"states of failing were too large.*raise size_bytes"):
            failing.replay(crash)

    def test_none_is_recorded_when_it_is_switched_off(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(enabled=False))

        assert not (failing.folder / "crashes").exists()

    @pytest.mark.parametrize(
        ("values", "problems"),
        [
            ({"enabled": 1}, ["enabled = 1: must be true or false"]),
            (
                {"keep": 0},
                ["keep = 0: must be a whole number from 1 to 10,000 (files; to record none, enabled = false)"],
            ),
            (
                {"keep": 2.5, "size_bytes": "1 MB"},
                [
                    "keep = 2.5: must be a whole number from 1 to 10,000 (files; to record none, enabled = false)",
                    'size_bytes = "1 MB": must be a whole number from 10,000 to 100,000,000 (bytes of one file)',
                ],
            ),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, values: dict[str, Any], problems: list[str]) -> None:
        with pytest.raises(ConfigurationError) as raised:
            Crashes(**values)
        assert list(raised.value.problems) == problems

    def test_what_is_no_setting_at_all_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"must be a Crashes\(...\); to record none"):
            System("test", folder=tmp_path, crashes=False)  # type: ignore[arg-type]


class TestTrouble:
    """Recording makes nothing worse."""

    def test_a_folder_that_cannot_be_written_is_told_once_and_counted(
        self, failing: System, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        failing.folder.mkdir(parents=True)
        (failing.folder / "crashes").write_text("in the way")
        with caplog.at_level(logging.WARNING, "minions.test"):
            run = start(failing).up()
            run.wait_until_quiet()
            run.stop()

        assert len(run.all(events.MessageSetAside)) == 5
        told = [record.getMessage() for record in caplog.records if "recorded" in record.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("failing: a crash cannot be recorded (")
        assert run.runtime._recorder is not None
        assert run.runtime._recorder.lost == 5

    def test_the_next_life_does_not_wait_for_the_recorder(self, system: System, start: Start) -> None:
        gate = Gate()

        class Slow:
            def __repr__(self) -> str:
                gate.pass_through()
                return "slow"

        class Database(Component):
            kept = State(int)

            def take(self, what: object) -> None: ...

        class Client(Component):
            numbers = Inbox(Number, retry=ONCE)
            database = Uses(Database)

            @numbers.handler
            def take(self, number: Number) -> None:
                self.database.take(Slow())
                raise ValueError("the bug")

        source, client = system.add(Numbers(last=3)), system.add(Client(), restart=ALWAYS)
        system.add(Database())
        system.connect(source.out, client.numbers)
        run = start(system).up()
        gate.wait_reached()

        run.wait_for(events.MessageSetAside, 3)
        run.wait_until_quiet()
        assert system.crashes() == []
        gate.open()
        run.stop()
        assert len(system.crashes()) == 3

    def test_what_does_not_fit_in_the_queue_is_counted(
        self, system: System, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = Gate()

        class Slow:
            def __repr__(self) -> str:
                gate.pass_through()
                return "slow"

        class Database(Component):
            kept = State(int)

            def take(self, what: object) -> None: ...

        class Client(Component):
            numbers = Inbox(Number, retry=ONCE)
            database = Uses(Database)

            @numbers.handler
            def take(self, number: Number) -> None:
                self.database.take(Slow())
                raise ValueError("the bug")

        source, client = system.add(Numbers(last=12)), system.add(Client(), restart=ALWAYS)
        system.add(Database())
        system.connect(source.out, client.numbers)
        with caplog.at_level(logging.WARNING, "minions.test"):
            run = start(system).up()
            gate.wait_reached()
            run.wait_for(events.MessageSetAside, 12)
            run.wait_until_quiet()
            gate.open()
            run.stop()

        assert len(system.crashes()) == 9  # one in work, and eight that wait
        assert "3 crashes were not recorded (too many at once)" in caplog.text

    def test_the_instance_is_freed_before_the_next_life_begins(self, system: System, start: Start) -> None:
        lives: list[weakref.ref[Component]] = []
        alive: list[int] = []

        class Fragile(Component):
            kept = State(int)
            numbers = Inbox(Number, retry=ONCE)

            def on_start(self) -> None:
                alive.append(sum(life() is not None for life in lives))
                lives.append(weakref.ref(self))

            @numbers.handler
            def take(self, number: Number) -> None:
                raise ValueError("the bug")

        source, fragile = system.add(Numbers()), system.add(Fragile(), restart=ALWAYS)
        system.connect(source.out, fragile.numbers)
        run_to_the_end(system, start)

        assert alive == [0, 0, 0, 0]

    def test_an_error_of_the_recorder_itself_leaves_the_failure_as_it_is(
        self, failing: System, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("not even that")

        monkeypatch.setattr("minions.life.life.frames_of", broken)
        run = start(failing).up()
        run.wait_until_quiet()
        run.stop()

        assert [event.error for event in run.all(events.MessageSetAside)][-1] == "ValueError: number 6"
        assert "crashes were not recorded (failing: RuntimeError: not even that)" in caplog.text


KILLED = """
    import os, signal, sys
    from minions import Component, Inbox, Outbox, Retry, State, System

    class Source(Component):
        out = Outbox(int)
        sent = State(int)
        def run(self):
            while self.sent < (2 if len(sys.argv) > 1 else 4):
                with self.unit():
                    self.sent += 1
                    self.out.send(self.sent)

    class Failing(Component):
        numbers = Inbox(int, retry=Retry(attempts=1))
        @numbers.handler
        def take(self, number):
            raise ValueError(number)

    system = System("killed")
    source, failing = system.add(Source()), system.add(Failing())
    system.connect(source.out, failing.numbers)
    if len(sys.argv) > 1:
        import minions.life.recorder as recorder

        class Killing:
            calls = 0
            def __getattr__(self, name):
                return getattr(os, name)
            def fsync(self, descriptor):
                self.calls += 1
                if self.calls == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        recorder.os = Killing()
    if __name__ == "__main__":
        system.run()
"""


def test_a_process_that_is_killed_while_it_writes_leaves_no_half_crash(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    folder = tmp_path / ".minions"

    def run(*arguments: str) -> int:
        command = [sys.executable, "app.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode

    assert run("kill") == -signal.SIGKILL
    left = [path.name for path in (folder / "crashes").iterdir() if path.name.startswith(".")]
    found = [crash for _, crash in crashes_in(folder)]
    assert len(left) == 1
    assert [crash.error for crash in found if isinstance(crash, Crash)] == ["ValueError: 1"]

    (folder / "crashes" / "20200101T000000.000000Z-half.json").write_text('{"type": "Crash", "vers')
    assert run() == 0
    *whole, half = [crash for _, crash in crashes_in(folder)]
    assert all(isinstance(crash, Crash) for crash in whole)
    assert isinstance(half, CrashRefused)
    assert [path for path in (folder / "crashes").iterdir() if path.name.startswith(".")] == []


DEADLY = """
    import os, signal, sys
    from minions import Component, Inbox, Outbox, Retry, State, System

    class Source(Component):
        out = Outbox(int)
        sent = State(int)
        def run(self):
            while self.sent < 3:
                with self.unit():
                    self.sent += 1
                    self.out.send(self.sent)

    class Frail(Component):
        numbers = Inbox(int, retry=Retry(deaths=1))
        total = State(int)
        @numbers.handler
        def take(self, number):
            self.total += number
            if number == 2 and "kill" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)

    system = System("deadly")
    source, frail = system.add(Source()), system.add(Frail())
    system.connect(source.out, frail.numbers)
    if __name__ == "__main__":
        system.run()
"""


def test_a_message_that_processes_have_died_of_is_recorded_with_the_state_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(DEADLY))
    command = [sys.executable, "app.py", "kill"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    codes: list[int] = []
    while not codes or (codes[-1] != 0 and len(codes) < 5):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        codes.append(done.returncode)

    system = load_app(str(tmp_path / "app.py"))
    [crash] = system.crashes()
    replay = system.replay(crash)

    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert codes[-1] == 0
    assert (crash.where, crash.messages[0].stored, crash.set_aside) == ("take", "2", True)
    assert crash.states.keys() == {"total"}  # as it was at the start: 0 or 1, as far as it had come to the disk
    assert "while this message was in work" in crash.error
    assert (replay.failed, replay.stopped) == (False, "")


class TestRefusals:
    """A crash of yesterday, and the program of today."""

    def recorded(self, system: System, start: Start, component: Component) -> Crash:
        source = system.add(Numbers(last=1))
        system.add(component, name="picky")
        system.connect(source.out, component.numbers)  # type: ignore[attr-defined]
        run_to_the_end(system, start)
        return the_crash(system)

    @pytest.fixture
    def crash(self, system: System, start: Start) -> Crash:
        class Picky(Component):
            numbers = Inbox(Number, retry=ONCE)
            seen = State(int, version=2, migrations={1: lambda plain: plain}, initial=lambda: 1)

            def on_start(self) -> None:
                self.seen = 5

            @numbers.handler
            def take(self, number: Number) -> None:
                raise ValueError("the bug")

        return self.recorded(system, start, Picky())

    def today(self, new_system: Callable[[], System], component: Component, name: str = "picky") -> System:
        system = new_system()
        source = system.add(Numbers(last=1))
        system.add(component, name=name)
        system.connect(source.out, component.numbers)  # type: ignore[attr-defined]
        return system

    def test_a_component_that_is_gone(self, crash: Crash, new_system: Callable[[], System]) -> None:
        with pytest.raises(CrashRefused, match="no component of that name; it has numbers, failing"):
            self.today(new_system, Failing(), "failing").replay(crash)

    def test_a_class_that_is_another(self, crash: Crash, new_system: Callable[[], System]) -> None:
        with pytest.raises(CrashRefused, match=r"picky was of class .*Picky, and is of Failing now"):
            self.today(new_system, Failing()).replay(crash)

    def test_a_handler_that_is_gone(self, crash: Crash, new_system: Callable[[], System]) -> None:
        class Picky(Component):
            numbers = Inbox(Number)

            def run(self) -> None: ...

        Picky.__qualname__ = crash.class_name.partition(":")[2]
        with pytest.raises(CrashRefused, match="picky has no handler of numbers any more"):
            self.today(new_system, Picky()).replay(crash)

    def test_a_state_of_a_later_version(self, crash: Crash, new_system: Callable[[], System]) -> None:
        class Picky(Component):
            numbers = Inbox(Number)
            seen = State(int)

            @numbers.handler
            def take(self, number: Number) -> None: ...

        Picky.__qualname__ = crash.class_name.partition(":")[2]
        with pytest.raises(CrashRefused, match=r"state picky\.seen of the crash cannot be loaded: .*version 2"):
            self.today(new_system, Picky()).replay(crash)

    def test_a_message_of_another_type(self, crash: Crash, new_system: Callable[[], System]) -> None:
        other = attrs.evolve(crash, messages=(attrs.evolve(crash.messages[0], type="Parcel"),))

        class Picky(Component):
            numbers = Inbox(Number)

            @numbers.handler
            def take(self, number: Number) -> None: ...

        Picky.__qualname__ = crash.class_name.partition(":")[2]
        system = self.today(new_system, Picky())
        assert not system.replay(crash).failed
        with pytest.raises(CrashRefused, match="is of type Parcel, and the inbox now carries Number"):
            system.replay(other)

    def test_a_file_of_a_later_version(self, crash: Crash, system: System, tmp_path: Path) -> None:
        [(path, _)] = crashes_in(system.folder)
        later = tmp_path / "later.json"
        later.write_text(path.read_text().replace('"version":1', '"version":9', 1))

        with pytest.raises(CrashRefused, match="version 9 of Crash"):
            system.replay(later)

    def test_an_on_start_that_fails_here(self, crash: Crash, new_system: Callable[[], System]) -> None:
        class Picky(Component):
            numbers = Inbox(Number)

            def on_start(self) -> None:
                raise CallFailed("no device")

            @numbers.handler
            def take(self, number: Number) -> None: ...

        Picky.__qualname__ = crash.class_name.partition(":")[2]
        replay = self.today(new_system, Picky()).replay(crash)
        assert replay.stopped == "on_start() fails here, before the unit that had failed: no device"

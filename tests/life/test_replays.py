"""What comes of running a unit that has failed once more: each kind of unit, with a real system that has crashed."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable

import attrs
import pytest

from minions import (
    Component,
    CrashRefused,
    Inbox,
    InboxEmpty,
    Outbox,
    State,
    System,
    Table,
    Uses,
    events,
    every,
)
from minions.flow.parker import Parker
from minions.life import commands
from minions.life.crash import crash_in, crashes_in
from minions.life.replaying import _ReplayedClock
from minions.testing import FakeClock
from tests.life.conftest import Number, Start
from tests.life.crashing import AT_ONCE, NEVER, ONCE, Bug, Numbers, run_to_the_end, the_crash


@pytest.fixture
def bug() -> Bug:
    return Bug()


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

"""What a unit of work reads of the clock: whose time that is, what is recorded of it, and what a replay makes of that."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from minions import (
    Component,
    Crash,
    Crashes,
    Inbox,
    InboxEmpty,
    Outbox,
    State,
    System,
    UsageError,
    Uses,
    events,
    every,
)
from minions.clock import SystemClock
from minions.life.crash import KeptReads, crash_in, crashes_in
from minions.life.trails import MOST_READS
from minions.model.checks import shown
from minions.testing import FakeClock
from tests.life.conftest import Gate, Number, Start
from tests.life.crashing import NEVER, ONCE, Bug, Numbers, run_to_the_end, the_crash

BEGAN = datetime.fromtimestamp(1_700_000_000, UTC)
"""What a `FakeClock` says at first."""


@pytest.fixture
def bug() -> Bug:
    return Bug()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Readings:
    """Reads of the clock between which time goes on."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def of(self, component: Component) -> str:
        """Reads four times, a second apart."""
        return " ".join(
            str(self._a_second_later(read))
            for read in (component.now, component.monotonic, component.monotonic, component.now)
        )

    def _a_second_later(self, read: Callable[[], Any]) -> Any:
        self._clock.jump(seconds=1.0)
        return read()


@pytest.fixture
def readings(clock: FakeClock) -> Readings:
    return Readings(clock)


def values(reads: KeptReads) -> list[tuple[str, float]]:
    return [(read.clock, read.seconds) for read in reads.first]


def add_taker(system: System, component: Component, last: int = 1) -> None:
    source = system.add(Numbers(last=last))
    system.add(component, name="taker", restart=NEVER)
    system.connect(source.out, component.numbers)  # type: ignore[attr-defined]


def reading(what: Callable[[Any], object]) -> Component:
    """A component that does this with each message, and fails with what comes of it."""

    class Taker(Component):
        numbers = Inbox(Number, retry=ONCE)

        @numbers.handler
        def take(self, number: Number) -> None:
            raise ValueError(f"{what(self)}")

    return Taker()


class TestWhoseTimeItIs:
    def test_the_machines_in_production(self, system: System, start: Start) -> None:
        before = datetime.now(UTC), SystemClock.monotonic()
        add_taker(system, reading(lambda taker: f"{taker.now().isoformat()} {taker.monotonic()}"))
        run_to_the_end(system, start)
        after = datetime.now(UTC), SystemClock.monotonic()

        now, monotonic_s = the_crash(system).error.removeprefix("ValueError: ").split()
        assert before[0] - timedelta(seconds=1) <= datetime.fromisoformat(now) <= after[0] + timedelta(seconds=1)
        assert datetime.fromisoformat(now).utcoffset() == timedelta(0)
        assert before[1] <= float(monotonic_s) <= after[1]

    def test_that_of_the_clock_which_the_system_runs_by(self, system: System, start: Start, clock: FakeClock) -> None:
        add_taker(system, reading(lambda taker: (taker.now(), taker.monotonic())))
        run_to_the_end(system, start, clock=clock)
        assert the_crash(system).error == f"ValueError: {(BEGAN, 1_000.0)}"

    def test_there_is_none_on_a_blueprint(self) -> None:
        for name in ("now", "monotonic"):
            with pytest.raises(UsageError, match=rf"Numbers\.{name}\(\) works inside a running component only"):
                getattr(Numbers(), name)()


class TestARecord:
    """What stands in it."""

    def test_has_kind_and_value_of_each_read_in_order(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        add_taker(system, reading(readings.of))
        run_to_the_end(system, start, clock=clock)

        crash = the_crash(system)
        assert values(crash.reads) == [
            ("now", 1_700_000_001.0),
            ("monotonic", 1_002.0),
            ("monotonic", 1_003.0),
            ("now", 1_700_000_004.0),
        ]
        assert crash.reads_at_start == KeptReads()
        [(path, _)] = crashes_in(system.folder)
        stored = json.loads(path.read_text())
        assert stored["version"] == 2
        assert stored["value"]["reads"]["first"][1] == {"clock": "monotonic", "seconds": 1_002.0}

    def test_has_none_of_the_units_before(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE)
            kept = State(str)

            @numbers.handler
            def take(self, number: Number) -> None:
                if number.value == 3:
                    raise ValueError("it has not read the clock")
                self.kept = readings.of(self)

        add_taker(system, Taker(), last=3)
        run_to_the_end(system, start, clock=clock)
        assert the_crash(system).reads == KeptReads()

    @pytest.mark.parametrize("durable", [True, False])
    def test_has_none_of_the_message_before_where_that_has_changed_nothing(
        self, system: System, start: Start, clock: FakeClock, durable: bool
    ) -> None:
        class Source(Component):
            out = Outbox(Number)

            def run(self) -> None:
                for value in range(3):
                    self.out.send(Number(value))

        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE, durable=durable)

            @numbers.handler
            def take(self, number: Number) -> None:
                clock.jump(seconds=1.0)
                self.monotonic()
                if number.value == 2:
                    raise ValueError("the third")

        class Keeping(Component):  # or there would be no folder for crashes
            kept = State(int)

        source, taker = system.add(Source()), system.add(Taker(), restart=NEVER)
        system.add(Keeping())
        system.connect(source.out, taker.numbers)
        run_to_the_end(system, start, clock=clock)
        assert values(the_crash(system).reads) == [("monotonic", 1_003.0)]

    def test_has_none_of_another_thread_which_is_told_the_time_all_the_same(
        self, system: System, start: Start, clock: FakeClock
    ) -> None:
        def elsewhere(taker: Component) -> list[datetime]:
            found: list[datetime] = []
            thread = threading.Thread(target=lambda: found.append(taker.now()))
            thread.start()
            thread.join()
            taker.monotonic()
            return found

        add_taker(system, reading(elsewhere))
        run_to_the_end(system, start, clock=clock)

        crash = the_crash(system)
        replay = system.replay(crash)
        assert crash.error == f"ValueError: {[BEGAN]}"
        assert values(crash.reads) == [("monotonic", 1_000.0)]
        assert (replay.stopped, replay.same) == ("", True)

    def test_is_bounded_and_says_how_many_there_were_beyond(
        self, system: System, start: Start, clock: FakeClock
    ) -> None:
        add_taker(system, reading(lambda taker: [taker.monotonic() for _ in range(MOST_READS + 3)][-1]))
        run_to_the_end(system, start, clock=clock)

        crash = the_crash(system)
        replay = system.replay(crash)
        assert (len(crash.reads.first), crash.reads.more) == (1_000, 3)
        assert replay.stopped.startswith(
            "it reads self.monotonic() once more, and of 1,003 clock reads only the first 1,000 were recorded; say what"
        )

    def test_leaves_them_out_where_it_would_be_too_large(self, system: System, start: Start, clock: FakeClock) -> None:
        add_taker(system, reading(lambda taker: [taker.now() for _ in range(MOST_READS)][-1]))
        run_to_the_end(system, start, clock=clock, crashes=Crashes(size_bytes=10_000))

        crash = the_crash(system)
        replay = system.replay(crash)
        assert crash.left_out == ("tables", "calls", "reads")
        assert crash.reads.first == ()
        assert "what it had read of the clock was not recorded: the file of the crash would have been" in replay.stopped

    def test_has_those_of_a_unit_that_was_refused_at_its_end(
        self, system: System, start: Start, clock: FakeClock
    ) -> None:
        gate = Gate()

        class Prices(Component):
            def of(self, number: int) -> int:
                return number * 100

        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE)
            out = Outbox(Number)
            prices = Uses(Prices)

            @numbers.handler
            def take(self, number: Number) -> None:
                self.monotonic()
                self.out.send(Number(self.prices.of(number.value)))

        class Sink(Component):
            numbers = Inbox(Number, capacity=1, overflow="fail")

            def run(self) -> None:
                gate.pass_through()
                for _ in self.numbers:
                    pass

        add_taker(system, taker := Taker(), last=2)
        sink = system.add(Sink())
        system.add(Prices())
        system.connect(taker.out, sink.numbers)
        run = start(system, clock=clock).up()
        run.wait_for(events.MessageSetAside)
        gate.open()
        run.stop()

        crash = the_crash(system, "taker")
        assert "inbox sink.numbers is full" in crash.error
        assert values(crash.reads) == [("monotonic", 1_000.0)]
        assert len(crash.calls) == 1

    def test_has_those_before_another_thread_has_sent_something(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE)
            out = Outbox(Number)

            @numbers.handler
            def take(self, number: Number) -> None:
                before = readings.of(self)
                thread = threading.Thread(target=lambda: self.out.send(number))
                thread.start()
                thread.join()
                raise ValueError(f"{before} {self.monotonic()}")

        add_taker(system, taker := Taker())
        sink = system.add(Sink())
        system.connect(taker.out, sink.numbers)
        run_to_the_end(system, start, clock=clock)

        assert len(the_crash(system).reads.first) == 5


def test_what_a_unit_has_sent_is_not_kept_for_the_sake_of_its_reads(
    system: System, start: Start, clock: FakeClock
) -> None:
    sent: list[weakref.ref[Number]] = []

    class Sender(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.now()
            other = Number(number.value)
            sent.append(weakref.ref(other))
            self.out.send(other)

    add_taker(system, taker := Sender())
    sink = system.add(Sink())
    system.connect(taker.out, sink.numbers)
    run = start(system, clock=clock).up()
    run.wait_until_quiet()
    assert [message() for message in sent] == [None]
    run.stop()


class Sink(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def take(self, number: Number) -> None: ...


class Around(NamedTuple):
    """What stands around a unit that fails, and `again`, which replays it, with its bug and without."""

    system: System
    start: Start
    clock: FakeClock
    bug: Bug
    readings: Readings
    again: Callable[[str], Crash]


class TestEachKindOfUnit:
    """A unit that depends on the time fails again in the same way, and no more once it is mended."""

    @pytest.fixture
    def around(self, system: System, start: Start, clock: FakeClock, bug: Bug, readings: Readings) -> Around:
        def replayed(kind: str) -> Crash:
            crash = the_crash(system)
            replay = system.replay(crash)
            bug.is_there = False
            mended = system.replay(crash)
            assert (crash.kind, replay.stopped) == (kind, "")
            assert (replay.same, replay.error) == (True, crash.error)
            assert (mended.failed, mended.stopped) == (False, "")
            return crash

        return Around(system, start, clock, bug, readings, replayed)

    def test_a_handler(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE)

            def on_start(self) -> None:
                self.began = readings.of(self)

            @numbers.handler
            def take(self, number: Number) -> None:
                bug.strike(f"{self.began} {readings.of(self)}")

        add_taker(system, Taker())
        run_to_the_end(system, start, clock=clock)

        crash = again("handler")
        assert len(crash.reads_at_start.first) == len(crash.reads.first) == 4
        assert crash.reads_at_start != crash.reads

    def test_on_start(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Starting(Component):
            kept = State(int)

            def on_start(self) -> None:
                bug.strike(readings.of(self))

        system.add(Starting(), restart=NEVER)
        start(system, clock=clock).ended()
        assert again("on_start").reads_at_start == KeptReads()

    def test_on_stop_of_a_run(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Stopping(Component):
            kept = State(int)

            def run(self) -> None:
                readings.of(self)

            def on_stop(self) -> None:
                bug.strike(readings.of(self))

        system.add(Stopping(), restart=NEVER)
        run = start(system, clock=clock).up()
        run.wait_for(events.ComponentFailed)
        run.stop()
        assert len(again("on_stop").reads.first) == 4

    def test_a_tick(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Clockwork(Component):
            kept = State(int)

            @every(seconds=10)
            def tick(self) -> None:
                found = readings.of(self)
                if self.monotonic() > 1_020.0:
                    bug.strike(found)

        system.add(Clockwork(), restart=NEVER)
        run = start(system, clock=clock).up()
        for _ in range(2):
            clock.wait_for_waiters()
            clock.advance(seconds=10)
        run.ended()
        assert len(again("tick").reads.first) == 5

    def test_a_call(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Ledger(Component):
            kept = State(int)

            def enter(self, amount: int) -> str:
                found = readings.of(self)
                if amount < 0:
                    bug.strike(found)
                return found

        ledger = system.add(Ledger())
        run = start(system, clock=clock).up()
        system.call(ledger).enter(5)
        with pytest.raises(ValueError, match="2023"):
            system.call(ledger).enter(-1)
        run.stop()
        assert len(again("call").reads.first) == 4

    def test_what_follows_a_commit(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Mailer(Component):
            numbers = Inbox(Number, retry=ONCE)

            @numbers.handler
            def take(self, number: Number) -> None:
                readings.of(self)
                self.after_commit(self.mail)

            def mail(self) -> None:
                bug.strike(readings.of(self))

        add_taker(system, Mailer())
        run_to_the_end(system, start, clock=clock)
        assert len(again("after_commit").reads.first) == 4

    def test_each_of_two_that_follow_a_commit_in_a_life_that_has_failed(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        class Mailer(Component):
            numbers = Inbox(Number, retry=ONCE)

            @numbers.handler
            def take(self, number: Number) -> None:
                for _ in range(2):
                    self.after_commit(self.mail)

            def mail(self) -> None:
                raise ValueError(readings.of(self))

        add_taker(system, Mailer())
        run_to_the_end(system, start, clock=clock)
        found = [(system.replay(crash).same, len(crash.reads.first)) for crash in system.crashes()]
        assert found == [(True, 4), (True, 4)]

    def test_a_unit_of_a_run(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Source(Component):
            out = Outbox(Number)
            sent = State(int)

            def run(self) -> None:
                while self.running:
                    looked = readings.of(self)
                    with self.unit():
                        self.sent += 1
                        self.out.send(Number(self.sent))
                        found = readings.of(self)
                        if self.sent == 3:
                            bug.strike(f"{looked} {found}")

        source, sink = system.add(Source(), restart=NEVER), system.add(Sink())
        system.connect(source.out, sink.numbers)
        start(system, clock=clock).ended()
        assert len(again("run").reads.first) == 8  # those before the unit, which a replay makes too

    def test_a_unit_of_a_run_that_is_tried_twice(self, around: Around) -> None:
        system, start, clock, bug, readings, _ = around

        class Source(Component):
            out = Outbox(Number)
            sent = State(int)

            def run(self) -> None:
                for attempt in range(2):
                    try:
                        with self.unit():
                            self.sent += 1
                            bug.strike(readings.of(self))
                    except ValueError:
                        if attempt == 1:
                            raise

        source, sink = system.add(Source(), restart=NEVER), system.add(Sink())
        system.connect(source.out, sink.numbers)
        start(system, clock=clock).ended()
        assert len(the_crash(system).reads.first) == 8
        replay = system.replay(the_crash(system))
        assert (replay.same, replay.error) == (True, the_crash(system).error)
        assert replay.error.endswith("2023-11-14 22:13:28+00:00")

    def test_a_unit_of_a_run_after_one_in_which_nothing_happened(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Source(Component):
            out = Outbox(Number)
            sent = State(int)

            def run(self) -> None:
                while self.running:
                    with self.unit():
                        found = readings.of(self)
                        if self.monotonic() > 1_012.0:
                            self.sent += 1
                            bug.strike(found)

        source, sink = system.add(Source(), restart=NEVER), system.add(Sink())
        system.connect(source.out, sink.numbers)
        start(system, clock=clock).ended()
        assert values(again("run").reads)[0] == ("now", 1_700_000_013.0)

    def test_what_a_receive_has_opened(self, around: Around) -> None:
        system, start, clock, bug, readings, again = around

        class Sum(Component):
            numbers = Inbox(Number, retry=ONCE)
            total = State(int)

            def run(self) -> None:
                while self.running:
                    try:
                        self.total += self.numbers.receive(timeout_s=60.0).value
                    except InboxEmpty:
                        return
                    found = readings.of(self)
                    if self.total == 3:
                        bug.strike(found)

        add_taker(system, Sum(), last=2)
        run_to_the_end(system, start, clock=clock)
        assert len(again("run").reads.first) == 4

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_run_from_its_beginning(
        self, system: System, start: Start, clock: FakeClock, readings: Readings, durable: bool
    ) -> None:
        class Counting(Component):
            out = Outbox(Number)

            def run(self) -> None:
                began = readings.of(self)
                for value in range(5):
                    found = readings.of(self)
                    if value == 3:
                        self.after_commit(self.mail)
                    if value == 4:
                        raise ValueError(f"{began} {found}")
                    self.out.send(Number(value))

            def mail(self) -> None:
                readings.of(self)

        class Taker(Component):
            numbers = Inbox(Number, durable=durable)
            kept = State(int)

            @numbers.handler
            def take(self, number: Number) -> None: ...

        source, sink = system.add(Counting(), restart=NEVER), system.add(Taker())
        system.connect(source.out, sink.numbers)
        start(system, clock=clock).ended()

        crash = the_crash(system)
        replay = system.replay(crash)
        assert len(crash.reads.first) == 6 * 4
        assert (replay.stopped, replay.same, replay.error) == ("", True, crash.error)


class TestAReplayThatReadsMore:
    """Than was recorded, or otherwise."""

    def crash_of(self, system: System, start: Start, clock: FakeClock, more: list[Callable[[Any], object]]) -> Crash:
        def read(taker: Component) -> list[object]:
            return [taker.now(), *(each(taker) for each in more)]

        add_taker(system, reading(read))
        run_to_the_end(system, start, clock=clock)
        return the_crash(system)

    @pytest.mark.parametrize(
        ("read", "reason"),
        [
            (Component.now, "once more, which it had not before it failed"),
            (Component.monotonic, "which it had not before it failed"),
        ],
        ids=["now", "monotonic"],
    )
    def test_stops_and_says_so(
        self, system: System, start: Start, clock: FakeClock, read: Callable[[Any], object], reason: str
    ) -> None:
        more: list[Callable[[Any], object]] = []
        crash = self.crash_of(system, start, clock, more)
        more.append(read)
        name = read.__name__
        example = {"now": "datetime(2026, 1, 31, tzinfo=UTC)", "monotonic": "1000.0"}[name]
        stopped = system.replay(crash).stopped
        assert stopped.startswith(f"it reads self.{name}(){' ' if 'once' in reason else ', '}{reason}")
        assert stopped.endswith(f"; say what it reads: replay(..., answers={{{name!r}: {example}}})")

    def test_goes_on_with_what_somebody_says(self, system: System, start: Start, clock: FakeClock) -> None:
        more: list[Callable[[Any], object]] = []
        crash = self.crash_of(system, start, clock, more)
        more += [Component.now, Component.monotonic, Component.monotonic]
        moments = iter([7.0, 8.0])
        east = datetime(2026, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))

        replay = system.replay(crash, answers={"now": east, "monotonic": lambda: next(moments)})
        assert replay.error == f"ValueError: {[BEGAN, east.astimezone(UTC), 7.0, 8.0]}"

    @pytest.mark.parametrize(
        "answers",
        [
            {"now": datetime(2026, 1, 31)},  # noqa: DTZ001 - it has no zone, which is what is wrong with it
            {"now": 3.0},
            {"now": "2026-01-31"},
            {"monotonic": "3"},
            {"monotonic": True},
            {"monotonic": float("nan")},
            {"monotonic": 10**400},
        ],
        ids=shown,
    )
    def test_is_told_what_cannot_be(
        self, system: System, start: Start, clock: FakeClock, answers: dict[str, Any]
    ) -> None:
        more: list[Callable[[Any], object]] = []
        crash = self.crash_of(system, start, clock, more)
        [(name, answer)] = answers.items()
        with pytest.raises(UsageError, match=rf"self\.{name}\(\) cannot read that: say what it reads, such as"):
            system.replay(crash, answers=answers)

        more.append(getattr(Component, name))
        stopped = system.replay(crash, answers={name: lambda: answer}).stopped
        assert stopped.startswith(f"self.{name}() cannot read {shown(answer)}, as answers=")

    def test_is_given_those_of_each_kind_in_their_order_whichever_it_reads_first(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        how: list[Callable[[Component], object]] = [readings.of]
        add_taker(system, reading(lambda taker: how[0](taker)))
        run_to_the_end(system, start, clock=clock)

        how[0] = lambda taker: [taker.monotonic(), taker.monotonic(), taker.now(), taker.now()]
        seconds = timedelta(seconds=1)
        assert system.replay(the_crash(system)).error == (
            f"ValueError: {[1_002.0, 1_003.0, BEGAN + seconds, BEGAN + 4 * seconds]}"
        )

    def test_begins_with_the_first_line_of_a_run(
        self, system: System, start: Start, clock: FakeClock, readings: Readings
    ) -> None:
        class Source(Component):
            out = Outbox(Number)
            sent = State(int)

            def run(self) -> None:
                began_s = self.monotonic()
                while self.running:
                    with self.unit():
                        self.sent += 1
                        self.out.send(Number(self.sent))
                        if self.sent == 2:
                            raise ValueError(f"{began_s}")

        source, sink = system.add(Source(), restart=NEVER), system.add(Sink())
        system.connect(source.out, sink.numbers)
        start(system, clock=clock).ended()

        crash = the_crash(system)
        assert "a replay begins with the first line of run()" in system.replay(crash).stopped
        assert system.replay(crash, answers={"monotonic": 1_000.0}).same


class TestACrashWithoutReads:
    def test_of_an_earlier_version_is_replayed_as_before_and_says_that_none_were_kept_where_it_is_asked(
        self, system: System, start: Start, clock: FakeClock, bug: Bug, tmp_path: Path
    ) -> None:
        class Taker(Component):
            numbers = Inbox(Number, retry=ONCE)

            @numbers.handler
            def take(self, number: Number) -> None:
                if not bug.is_there:
                    self.now()
                bug.strike()

        add_taker(system, Taker())
        run_to_the_end(system, start, clock=clock)
        [(path, _)] = crashes_in(system.folder)
        stored = json.loads(path.read_text())
        stored["version"] = 1
        del stored["value"]["reads"], stored["value"]["reads_at_start"]
        earlier = tmp_path / "earlier.json"
        earlier.write_text(json.dumps(stored))

        again = system.replay(earlier)
        bug.is_there = False
        asked = system.replay(earlier)

        assert crash_in(earlier).reads.missing
        assert (again.same, again.stopped) == (True, "")
        assert asked.stopped.startswith(
            "it reads self.now(), and what it had read of the clock was not recorded: the version that has recorded the crash "
            "kept no clock reads; say what it reads: "
        )

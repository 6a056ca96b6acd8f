"""Units of work as they are told to plugins: where each came from, what it sent, how long it took, and what that costs others."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, Outbox, Restart, Retry, State, System, Uses, events, every
from minions.flow.journal import Journal
from minions.hookspecs import hookimpl
from minions.life.life import Life
from minions.life.traced import TracedJournal, TracedLife
from minions.observe.units import Origin, Units

PATIENCE_S = 20.0


class Told:
    """Everything that is told of units."""

    def __init__(self, ratio: float | None = None) -> None:
        self.units: list[events.UnitEnded] = []
        self.dropped: list[events.EventsDropped] = []
        self.stopped = threading.Event()
        self.go = threading.Event()
        self.go.set()
        if ratio is not None:
            self.unit_ratio = ratio

    @hookimpl
    def unit_ended(self, event: events.UnitEnded) -> None:
        self.go.wait(PATIENCE_S)
        self.units.append(event)

    @hookimpl
    def events_dropped(self, event: events.EventsDropped) -> None:
        self.dropped.append(event)

    @hookimpl(trylast=True)
    def system_stopped(self) -> None:
        self.stopped.set()

    def of(self, component: str, where: str | None = None) -> list[events.UnitEnded]:
        return [unit for unit in self.units if unit.component == component and where in (None, unit.where)]


class Source(Component):
    count: int = 3
    out = Outbox(int)

    def run(self) -> None:
        for number in range(self.count):
            self.out.send(number)


class Relay(Component):
    inbox = Inbox(int)
    out = Outbox(int)
    relayed = State(int)

    @inbox.handler
    def relay(self, number: int) -> None:
        self.relayed += 1
        self.out.send(number)
        self.out.send(number + 100)


class Sink(Component):
    inbox = Inbox(int)

    @inbox.handler
    def take(self, number: int) -> None: ...


class Brief(Component):
    inbox = Inbox(int, durable=False)
    out = Outbox(int)

    @inbox.handler
    def pass_on(self, number: int) -> None:
        self.out.send(number)


class BriefSink(Component):
    inbox = Inbox(int, durable=False)

    @inbox.handler
    def take(self, number: int) -> None: ...


Run = Callable[..., Told]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs components, each connected with the next, until nothing can happen any more."""

    def run_them(*components: Component, told: Told | None = None, **options: Any) -> Told:
        told = told or Told()
        system = System("units", folder=tmp_path / "state")
        for component in components:
            system.add(component, **options)
        for above, below in itertools.pairwise(components):
            system.connect(above.out, below.inbox)  # type: ignore[attr-defined]
        system.plugins.register(told)
        with system.started():
            assert system.wait(PATIENCE_S)
        assert told.stopped.wait(PATIENCE_S)
        return told

    return run_them


@pytest.mark.parametrize("kept", ["durable", "brief", "sheltered"])
def test_a_message_is_followed_across_components(run: Run, kept: str) -> None:
    chain = (Source(), Brief(), BriefSink()) if kept == "brief" else (Source(), Relay(), Sink())
    told = run(*chain, async_exception=kept == "sheltered")
    middle, last = ("brief", "brief_sink") if kept == "brief" else ("relay", "sink")
    sent = told.of("source", "run")
    assert len({unit.trace_id for unit in sent}) == 3
    assert all(not unit.parent_id and len(unit.sent) == 1 and unit.received == () for unit in sent)
    passed = told.of(middle, "pass_on" if kept == "brief" else "relay")
    assert [unit.received for unit in passed] == [unit.sent for unit in sent]
    assert [(unit.trace_id, unit.parent_id) for unit in passed] == [(unit.trace_id, unit.unit_id) for unit in sent]
    took = told.of(last, "take")
    assert [unit.received[0] for unit in took] == [message for unit in passed for message in unit.sent]
    by_message = {message: unit for unit in passed for message in unit.sent}
    for unit in took:
        parent = by_message[unit.received[0]]
        assert (unit.trace_id, unit.parent_id, unit.sent, unit.error) == (parent.trace_id, parent.unit_id, (), "")
    ids = [unit.unit_id for unit in told.units]
    assert len(set(ids)) == len(ids)
    assert {len(unit.trace_id) for unit in told.units} == {32}
    assert {len(unit.unit_id) for unit in told.units} == {16}


def test_the_hooks_of_a_life_are_units_too(run: Run) -> None:
    told = run(Source(count=0), Sink())
    assert [unit.where for unit in told.of("sink")] == ["on_start", "on_stop"]
    assert [unit.where for unit in told.of("source")] == ["on_start", "on_stop"]


class Picky(Component):
    inbox = Inbox(int, retry=Retry(attempts=2, backoff=Backoff(initial_s=0.001, longest_s=0.001)))

    @inbox.handler
    def take(self, number: int) -> None:
        raise ValueError("not\nthis")


def test_each_attempt_is_a_unit_and_a_dead_letter_that_is_retried_keeps_its_parent(tmp_path: Path) -> None:
    told = Told()
    system = System("units", folder=tmp_path / "state")
    often = Restart(backoff=Backoff(initial_s=0.001, longest_s=0.001))
    source, picky = system.add(Source(count=1)), system.add(Picky(), restart=often)
    system.connect(source.out, picky.inbox)
    system.plugins.register(told)
    with system.started():
        assert system.wait(PATIENCE_S)
        [letter] = system.dead_letters()
        system.retry_dead_letters(letter)
        assert system.wait(PATIENCE_S)
    assert told.stopped.wait(PATIENCE_S)
    [sent] = told.of("source", "run")
    failed = told.of("picky", "take")
    assert len(failed) == 4
    assert {(unit.error, unit.parent_id, unit.trace_id, unit.received, unit.sent) for unit in failed} == {
        ("ValueError: not this", sent.unit_id, sent.trace_id, sent.sent, ())
    }
    assert len({unit.unit_id for unit in failed}) == 4
    assert [unit.epoch for unit in failed][:2] == [1, 2]


class Database(Component):
    def insert(self, number: int) -> int:
        if number == 1:
            raise KeyError(number)
        return number


class Calling(Component):
    inbox = Inbox(int)
    database = Uses(Database)

    @inbox.handler
    def take(self, number: int) -> None:
        if number == 1:
            with pytest.raises(KeyError):
                self.database.insert(number)
        else:
            self.database.insert(number)
        self.after_commit(lambda: None)


def test_once_its_plugin_is_gone_nobody_is_told_of_units(tmp_path: Path) -> None:
    class All:
        def __init__(self) -> None:
            self.kinds: set[type] = set()

        @hookimpl
        def event(self, event: events.Event) -> None:
            self.kinds.add(type(event))

    told, everything, system = Told(), All(), System("units", folder=tmp_path / "state")
    ticking, sink = system.add(Ticking()), system.add(Sink())
    system.connect(ticking.out, sink.inbox)
    system.plugins.register(told)
    system.plugins.register(everything)
    with system.started():
        while not told.of("sink", "take"):
            system.status()
        system.plugins.unregister(told)
        settled = system.statistics().inboxes["sink.inbox"].settled
        while system.statistics().inboxes["sink.inbox"].settled < settled + 5:
            system.status()
    assert events.UnitEnded not in everything.kinds


def test_a_call_belongs_to_the_unit_that_calls_and_what_follows_a_commit_is_a_unit(tmp_path: Path) -> None:
    told, system = Told(), System("units", folder=tmp_path / "state")
    source, calling = system.add(Source(count=2)), system.add(Calling())
    system.add(Database())
    system.connect(source.out, calling.inbox)
    system.plugins.register(told)
    with system.started():
        assert system.wait(PATIENCE_S)
    assert told.stopped.wait(PATIENCE_S)
    takes, inserts = told.of("calling", "take"), told.of("database", "insert")
    assert [(unit.parent_id, unit.trace_id) for unit in inserts] == [(unit.unit_id, unit.trace_id) for unit in takes]
    assert [unit.error for unit in inserts] == ["", "KeyError: 1"]
    assert [unit.error for unit in takes] == ["", ""]
    assert all(unit.began_at <= inner.began_at for unit, inner in zip(takes, inserts, strict=True))
    assert all(unit.duration_s >= inner.duration_s > 0 for unit, inner in zip(takes, inserts, strict=True))
    assert len(told.of("calling", "after_commit")) == 2


class Ticking(Component):
    ticks: int = 0
    out = Outbox(int)

    @every(seconds=0.01)
    def tick(self) -> None:
        self.out.send(1)


class Gathering(Component):
    inbox = Inbox(int)
    out = Outbox(int)

    def run(self) -> None:
        while True:
            with self.unit():
                pair = [self.inbox.receive(), self.inbox.receive()]
                self.out.send(sum(pair))


class Receiving(Component):
    inbox = Inbox(int)
    out = Outbox(int)

    def run(self) -> None:
        for number in self.inbox:
            self.out.send(number)


def test_a_run_that_receives_makes_units_with_all_that_led_to_them(run: Run) -> None:
    told = run(Source(count=4), Gathering(), Sink())
    sent = told.of("source", "run")
    gathered = [unit for unit in told.of("gathering", "run") if unit.sent]
    assert [unit.received for unit in gathered] == [sent[0].sent + sent[1].sent, sent[2].sent + sent[3].sent]
    assert [unit.parent_id for unit in gathered] == [sent[0].unit_id, sent[2].unit_id]
    assert [unit.links for unit in gathered] == [((unit.trace_id, unit.unit_id),) for unit in (sent[1], sent[3])]
    assert [unit.parent_id for unit in told.of("sink", "take")] == [unit.unit_id for unit in gathered]


def test_a_loop_over_an_inbox_makes_a_unit_of_each_message(run: Run) -> None:
    told = run(Source(count=3), Receiving(), Sink())
    sent = told.of("source", "run")
    received = told.of("receiving", "run")
    assert [unit.received for unit in received] == [unit.sent for unit in sent]
    assert [unit.parent_id for unit in received] == [unit.unit_id for unit in sent]
    assert [unit.parent_id for unit in told.of("sink", "take")] == [unit.unit_id for unit in received]


def test_a_tick_is_a_unit_that_nothing_has_led_to(tmp_path: Path) -> None:
    told, system = Told(), System("units", folder=tmp_path / "state")
    ticking, sink = system.add(Ticking()), system.add(Sink())
    system.connect(ticking.out, sink.inbox)
    system.plugins.register(told)
    with system.started():
        while not told.of("sink", "take"):
            system.status()
    tick = told.of("ticking", "tick")[0]
    assert (tick.parent_id, tick.received, len(tick.sent)) == ("", (), 1)
    assert told.of("sink", "take")[0].parent_id == tick.unit_id


def test_a_unit_takes_as_long_as_it_waits_for_room(tmp_path: Path) -> None:
    gate = threading.Event()

    class Full(Component):
        inbox = Inbox(int, capacity=1)

        @inbox.handler
        def take(self, number: int) -> None:
            if number == 0:
                gate.wait(PATIENCE_S)

    told, system = Told(), System("units", folder=tmp_path / "state")
    source, full = system.add(Source(count=2)), system.add(Full())
    system.connect(source.out, full.inbox)
    system.plugins.register(told)
    with system.started():
        while system.statistics().inboxes["full.inbox"].senders_waiting == 0:
            system.status()
        threading.Event().wait(0.1)
        gate.set()
        assert system.wait(PATIENCE_S)
    assert told.stopped.wait(PATIENCE_S)
    first, second = told.of("source", "run")
    assert first.duration_s < 0.1 <= second.duration_s


# What is told, and what it costs


def test_without_such_a_hook_nothing_is_in_the_way(tmp_path: Path) -> None:
    class Other:
        @hookimpl
        def event(self, event: events.Event) -> None: ...

    system = System("units", folder=tmp_path / "state")
    source, sink = system.add(Source()), system.add(Sink())
    system.connect(source.out, sink.inbox)
    system.plugins.register(Other())
    with system.started():
        runtime = system._runtime
        assert runtime is not None
        assert {type(life) for life in runtime.lives()} == {Life}
        assert type(runtime.journal) is Journal
        assert system.wait(PATIENCE_S)
    assert not (tmp_path / "state/units.jsonl").exists()
    assert [plugin.faults for plugin in system.plugins.list()] == [0]


def test_what_takes_all_events_is_not_told_of_units(run: Run) -> None:
    class All(Told):
        @hookimpl
        def event(self, event: events.Event) -> None:
            self.seen = {*getattr(self, "seen", ()), type(event)}

    told = All()
    run(Source(), Sink(), told=told)
    assert events.SystemStarted in told.seen
    assert events.UnitEnded not in told.seen
    assert told.of("sink", "take")


def test_a_ratio_of_nothing_tells_nothing(run: Run) -> None:
    assert run(Source(), Relay(), Sink(), told=Told(0.0)).units == []


def test_of_what_is_told_everything_that_follows_is_told(run: Run) -> None:
    told = run(Source(count=400), Relay(), Sink(), told=Told(0.25))
    roots = told.of("source", "run")
    assert 40 < len(roots) < 180
    assert [unit.parent_id for unit in told.of("relay", "relay")] == [unit.unit_id for unit in roots]
    assert len(told.of("sink", "take")) == 2 * len(roots)
    assert all(unit.parent_id for unit in told.of("sink", "take"))


def test_what_does_not_fit_is_dropped_and_counted_and_delays_nobody(tmp_path: Path) -> None:
    told, system = Told(), System("units", folder=tmp_path / "state")
    told.go.clear()
    source, sink = system.add(Source(count=4_000)), system.add(Sink())
    system.connect(source.out, sink.inbox)
    system.plugins.register(told)
    with system.started():
        assert system.wait(PATIENCE_S), "the hook that is held holds nobody up"
        told.go.set()
    assert told.stopped.wait(PATIENCE_S)
    lines = [json.loads(line) for line in (tmp_path / "state/events.jsonl").read_text().splitlines()]
    drops = [line for line in lines if line["event"] == "EventsDropped"]
    assert {line["readers"] for line in drops} == {"units"}
    assert sum(line["dropped"] for line in drops) == drops[-1]["total"]
    assert len(told.units) + drops[-1]["total"] == 4_000 + 4_000 + 4
    assert 2_000 < drops[-1]["total"] <= 3_008


def test_a_hook_that_hangs_is_left_behind_although_nothing_else_happens(tmp_path: Path) -> None:
    class Waiting(Component):
        out = Outbox(int)

        def run(self) -> None:
            begin.wait(PATIENCE_S)
            self.out.send(1)
            while self.running:
                self.sleep(1_000.0)

    class Watching:
        @hookimpl
        def system_started(self) -> None:
            started.set()

        @hookimpl
        def plugin_set_aside(self) -> None:
            told_of.set()

    begin, started, told_of = threading.Event(), threading.Event(), threading.Event()
    told, system = Told(), System("units", folder=tmp_path / "state")
    waiting, sink = system.add(Waiting()), system.add(BriefSink())
    system.connect(waiting.out, sink.inbox)
    system.plugins.hook_timeout_s = 0.05
    system.plugins.register(told)
    system.plugins.register(Watching())
    with system.started():
        assert started.wait(PATIENCE_S)
        while len(told.units) < 2:
            system.status()
        told.go.clear()
        begin.set()
        assert told_of.wait(PATIENCE_S)
        told.go.set()


@pytest.mark.parametrize("bad", ["x", None, 7.0, -3])
def test_a_ratio_that_is_none_does_no_harm(run: Run, bad: Any) -> None:
    told = Told()
    told.unit_ratio = bad
    assert bool(run(Source(), Sink(), told=told).units) is (bad != -3)


# Across restarts


def test_a_message_that_outlives_a_kill_keeps_its_parent(tmp_path: Path) -> None:
    file = tmp_path / "units"
    command = [sys.executable, "-m", "tests.system.traced_child", str(tmp_path / "state"), str(file)]
    first = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "waits\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    relayed = [unit for unit in units_in(file) if unit["where"] == "relay"]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=60)
    units = units_in(file)
    took = [unit for unit in units if unit["where"] == "take"]
    by_message = {message: unit for unit in units if unit["where"] == "relay" for message in unit["sent"]}
    assert len(took) == 6
    for unit in took:
        parent = by_message[unit["received"][0]]
        assert (unit["parent_id"], unit["trace_id"]) == (parent["unit_id"], parent["trace_id"])
    assert [unit["parent_id"] for unit in took[:3]] == [unit["unit_id"] for unit in relayed]


def units_in(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def unit_that_sent(*sent: str, trace_id: str = "t", unit_id: str = "u") -> events.UnitEnded:
    return events.UnitEnded(
        component="c",
        epoch=1,
        where="run",
        trace_id=trace_id,
        unit_id=unit_id,
        parent_id="",
        links=(),
        received=(),
        sent=sent,
        began_at=0.0,
        duration_s=0.0,
        error="",
    )


def test_what_is_written_down_is_read_whatever_else_the_file_has(tmp_path: Path) -> None:
    units = Units(1.0)
    units.durable = frozenset({"c.in", "c-d.in"})
    units.resume(tmp_path)
    units.keep(unit_that_sent("c.in-run-1", "other.in-run-1", "c-d.in-run-7"))
    units.close()
    with (tmp_path / "units.jsonl").open("ab") as file:
        file.write(b'nonsense\n\xff\xfe\n[1]\n{}\n["t", "u", 5]\n["t", "u", "x", "c.in-run-x"]\n["t", "u", "c.in-ru')
    with (tmp_path / "units.jsonl").open("ab") as file:
        file.write(b'\n["t", "u", "c.in-run-' + 5_000 * b"9" + b'"]\n' + 100_000 * b"[" + b"\n")
    again = Units(1.0)
    again.resume(tmp_path)
    assert again.origin_of(("c.in", 1)) == Origin("t", "u")
    assert again.origin_of(("c-d.in", 7)) == Origin("t", "u")
    assert again.origin_of(("other.in", 1)) is None


def test_what_a_unit_has_sent_is_written_down_once_however_many_are_told_of_it(tmp_path: Path) -> None:
    units = Units(1.0)
    units.durable = frozenset({"c.in"})
    units.resume(tmp_path)
    unit = unit_that_sent("c.in-run-1")
    for _ in range(3):
        units.keep(unit)
    units.keep(unit_that_sent("c.in-run-2"))
    units.close()
    assert (tmp_path / "units.jsonl").read_bytes().count(b"\n") == 2


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minions.observe.units._MOST_FILE_BYTES", 1_000)
    units = Units(1.0)
    units.durable = frozenset({"c.in"})
    units.resume(tmp_path)
    for number in range(200):
        units.keep(unit_that_sent(f"c.in-run-{number}"))
    units.close()
    files = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert set(files) == {"units.jsonl", "units.jsonl.1"}
    assert max(files.values()) < 1_100
    again = Units(1.0)
    again.resume(tmp_path)
    assert again.origin_of(("c.in", 199))
    assert again.origin_of(("c.in", 1)) is None


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minions.observe.units._MOST_ORIGINS", 10)
    units = Units(1.0)
    units.note([("c.in", number) for number in range(25)], Origin("t", "u"))
    assert [number for number in range(25) if units.origin_of(("c.in", number))] == list(range(15, 25))
    units.forget([("c.in", 20), ("c.in", 3)])
    assert units.origin_of(("c.in", 20)) is None


def test_to_forget_what_is_too_old_takes_no_longer_the_more_of_it_there_was() -> None:
    """Every message of a system would wait for it, because this is done under the journal's lock."""
    units, origin, numbers = Units(1.0), Origin("t", "u"), itertools.count()
    units.note((("c.in", next(numbers)) for _ in range(100_000)), origin)

    def best_s() -> float:
        def once_s() -> float:
            began_s = time.thread_time()
            units.note([("c.in", next(numbers)) for _ in range(500)], origin)
            return time.thread_time() - began_s

        return min(once_s() for _ in range(10))

    early_s = best_s()
    units.note((("c.in", next(numbers)) for _ in range(60_000)), origin)
    assert best_s() < 5 * early_s


def test_a_disk_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "units.jsonl").mkdir()
    units = Units(1.0)
    units.durable = frozenset({"c.in"})
    units.resume(tmp_path)
    units.keep(unit_that_sent("c.in-run-1"))
    units.close()


def test_lives_are_traced_where_a_plugin_asks_for_units(tmp_path: Path) -> None:
    system = System("units", folder=tmp_path / "state")
    source, sink = system.add(Source()), system.add(Sink())
    system.connect(source.out, sink.inbox)
    told = Told()
    system.plugins.register(told)
    with system.started():
        runtime = system._runtime
        assert runtime is not None
        assert all(isinstance(life, TracedLife) for life in runtime.lives())
        assert system.wait(PATIENCE_S)
    assert isinstance(runtime.journal, TracedJournal)
    assert runtime.journal.lives == {}
    assert told.stopped.wait(PATIENCE_S)
    system.plugins.unregister(told)
    with system.started():
        runtime = system._runtime
        assert runtime is not None
        assert {type(life) for life in runtime.lives()} == {Life}

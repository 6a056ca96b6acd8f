"""Deadlocks between components are errors at once: the wait-for graph against a model, and rings of real threads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minions import Component, Inbox, Outbox, State, System, Uses, events
from minions.clock import SystemClock
from minions.errors import DeadlockError, InboxFull
from minions.fence import Fence, Mode
from minions.flow.call_broker import CallBroker
from minions.flow.calls import Call, CallQueue
from minions.flow.channel import Channel, Ticket
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.wait_graph import WaitGraph, deadlock
from minions.life import commands
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start

# ---------------------------------------------------------------------- the graph against a model
MOST_LIVES = 6


@attrs.define(eq=False)
class Reader:
    fence: Fence
    asleep: bool = False


@attrs.frozen
class Wait:
    """What a life waits for, as the test has chosen it.

    Attributes:
        kind: "queue": a call that nobody has taken; "worker": one that a life has; "channel": room in an inbox.
        target: the number of the component; of the life for "worker".
        free: it will end by itself: the call is answered, the room granted or there.
    """

    kind: str
    target: int
    free: bool


@attrs.frozen
class Topology:
    """Components of one to three lives, some of which are not up or only beginning, and what each life waits for."""

    replicas: list[int]
    up: list[str]  # of each life: "up", "beginning", "down"
    waits: list[Wait | None]
    waiter: int
    waited: Wait

    @property
    def lives_of(self) -> list[list[int]]:
        """The numbers of the lives of each component."""
        first = list(itertools.accumulate(self.replicas, initial=0))
        return [list(range(begin, end)) for begin, end in itertools.pairwise(first)]


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    replicas: list[int] = []
    while sum(replicas) < MOST_LIVES and (not replicas or draw(st.integers(0, 5))):
        replicas.append(draw(st.integers(1, min(3, MOST_LIVES - sum(replicas)))))
    lives = sum(replicas)
    mostly_up = st.sampled_from(["up"] * 6 + ["beginning", "down"])
    wait = st.builds(
        Wait,
        st.sampled_from(["queue", "channel", "worker"]),
        st.integers(0, lives - 1),
        st.sampled_from([False] * 5 + [True]),
    )
    return Topology(
        replicas,
        [draw(mostly_up) for _ in range(lives)],
        [draw(st.one_of(wait, wait, wait, st.none())) for _ in range(lives)],
        draw(st.integers(0, lives - 1)),
        draw(wait),
    )


def servers(topology: Topology, wait: Wait) -> list[int]:
    """Who could end a wait; nobody where that is open."""
    if wait.free:
        return []
    if wait.kind == "worker":
        return [wait.target]
    lives = topology.lives_of[wait.target % len(topology.replicas)]
    return lives if all(topology.up[life] != "down" for life in lives) else []


def stuck_in_model(topology: Topology) -> set[int]:
    """The union of all sets of lives of which each waits for members of the set only."""
    waits = {life: wait for life, wait in enumerate(topology.waits) if wait is not None}
    waits[topology.waiter] = topology.waited
    points_at = {life: servers(topology, wait) for life, wait in waits.items()}
    candidates = [life for life, ends in points_at.items() if ends]
    stuck: set[int] = set()
    for count in range(1, len(candidates) + 1):
        for chosen in itertools.combinations(candidates, count):
            if all(set(points_at[life]) <= set(chosen) for life in chosen):
                stuck |= set(chosen)
    return stuck


class Real:
    """The same with the objects of the runtime."""

    def __init__(self, topology: Topology) -> None:
        self.graph = WaitGraph()
        self.fences = [Fence(f"life{number}", 1) for number in range(len(topology.waits))]
        self.queues: list[CallQueue] = []
        self.channels: list[Channel] = []
        for number, lives in enumerate(topology.lives_of):
            queue, channel = CallQueue(f"c{number}", len(lives)), Channel(f"c{number}.i", number, replicas=len(lives))
            for life in lives:
                if topology.up[life] == "up":
                    reader: Any = Reader(self.fences[life])
                    queue.readers.append(reader)
                    channel.readers.append(reader)
                elif topology.up[life] == "beginning":
                    self.graph.beginning[self.fences[life]] = Mailbox((channel,), Parker(), calls=queue)
            self.queues.append(queue)
            self.channels.append(channel)
        for life, wait in enumerate(topology.waits):
            if wait is not None:
                self.graph.waits[self.fences[life]] = self.waited(life, wait)

    def waited(self, life: int, wait: Wait) -> Call | Ticket:
        number = wait.target % len(self.queues)
        if wait.kind == "channel":
            channel = self.channels[number]
            channel.size = channel.capacity
            if wait.free:
                ticket = Ticket(Parker(), 0.0, channel=channel, need=1)
                ticket.granted = True
                return ticket
            return channel.join_line_locked({}, 1, Parker(), 0.0)
        call = Call(self.queues[number], "method", (), {}, f"life{life}", self.fences[life], self.fences[life])
        if wait.kind == "worker":
            call.worker = self.fences[wait.target]
        if wait.free:
            call.answer_locked(None, None, [])
        return call


@given(topologies())
@settings(max_examples=500, deadline=None)
def test_who_would_never_go_on_is_found_and_nobody_else(topology: Topology) -> None:
    real = Real(topology)
    waiter, expected = real.fences[topology.waiter], stuck_in_model(topology)
    waited = real.waited(topology.waiter, topology.waited)
    stuck = real.graph.stuck_locked(waiter, waited)
    assert (waiter in stuck) == (topology.waiter in expected)
    assert {real.fences.index(life) for life in stuck} <= expected
    if stuck and isinstance(waited, Call):
        components = deadlock(waited, stuck).components
        lives = [next(fence for fence in real.fences if fence.component == name) for name in components]
        assert len(set(lives)) == len(lives)
        assert all(after in stuck[life] for life, after in zip(lives, [*lives[1:], lives[0]], strict=True))


@given(topologies())
@settings(max_examples=300, deadline=None)
def test_when_the_youngest_call_fails_the_waiter_can_go_on(topology: Topology) -> None:
    real = Real(topology)
    waiter = real.fences[topology.waiter]
    real.graph.waits.pop(waiter, None)
    waited = real.waited(topology.waiter, attrs.evolve(topology.waited, kind="channel", free=False))
    call = real.graph.youngest_call_locked(stuck := real.graph.stuck_locked(waiter, waited))
    if call is None:
        assert not any(isinstance(real.graph.waits.get(life), Call) for life in stuck)
        return
    assert call.waiter in stuck
    younger = list(real.graph.waits)[list(real.graph.waits).index(call.waiter) + 1 :]
    assert not any(isinstance(real.graph.waits[life], Call) and life in stuck for life in younger)
    assert deadlock(call, stuck).components
    del real.graph.waits[call.waiter]
    assert real.graph.stuck_locked(waiter, waited) == {}


def test_who_is_kept_waiting_although_there_is_room_is_not_stuck() -> None:
    graph, channel = WaitGraph(), Channel("c.i", 0, capacity=10)
    reader: Any = Reader(Fence("c", 1))
    channel.readers.append(reader)
    channel.size = 8
    first, second = (channel.join_line_locked({}, need, Parker(), 0.0) for need in (2, 1))
    sender = Fence("sender", 1)
    call = graph.waits[reader.fence] = Call(CallQueue("d"), "m", (), {}, "c", None, reader.fence)
    call.worker = sender
    assert graph.stuck_locked(sender, first) == {}
    assert set(graph.stuck_locked(sender, second)) == {sender, reader.fence}
    channel.size = 7
    assert graph.stuck_locked(sender, second) == {}


# ---------------------------------------------------------------------- rings of real threads
class Node:
    """A life with a thread: it calls the next one, and then answers who has called it until it is told to end."""

    def __init__(self, journal: Journal, number: int) -> None:
        self.journal = journal
        self.parker = Parker()
        self.queue = CallQueue(f"n{number}")
        self.fence = Fence(f"n{number}", 1)
        self.mailbox = Mailbox((), self.parker, calls=self.queue)
        self.outcome: Future[Any] = Future()
        journal.join(self.fence, self.parker)
        journal.attach(self.mailbox, self.fence)

    def live(self, following: Node, barrier: threading.Barrier) -> None:
        call = Call(following.queue, "m", (), {}, self.fence.component, self.fence, self.fence, self.parker)
        barrier.wait()
        try:
            self.journal.calls.place(call)
            while self.journal.calls.waits(call, None, None):
                self.parker.park(PATIENCE_S)
            self.outcome.set_result("answered")
        except DeadlockError as error:
            self.outcome.set_result(error)
        while self.journal.take(self.mailbox, self.fence) is not None:
            if self.mailbox.call is not None:
                assert self.mailbox.call.begin()
                self.journal.calls.answer(self.mailbox, self.fence, (None, None))
            else:
                self.parker.park(PATIENCE_S)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize(("size", "rings"), [(2, 200), (3, 160), (8, 100)])
def test_each_ring_of_simultaneous_callers_is_found_and_one_of_them_fails(size: int, rings: int) -> None:
    for _ in range(rings):
        journal = Journal(SystemClock(), durable=False)
        nodes = [Node(journal, number) for number in range(size)]
        barrier = threading.Barrier(size)
        threads = [
            threading.Thread(target=node.live, args=(following, barrier), daemon=True)
            for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True)
        ]
        for thread in threads:
            thread.start()
        outcomes = [node.outcome.result(PATIENCE_S) for node in nodes]
        for node in nodes:
            journal.advance(node.fence, Mode.ENDING)
        for thread in threads:
            thread.join(PATIENCE_S)
        [error] = [outcome for outcome in outcomes if outcome != "answered"]
        assert sorted(error.components) == [f"n{number}" for number in range(size)]
        assert journal.calls.graph.waits == {}


# ---------------------------------------------------------------------- in a running system
GATE = Gate()
LOG = Log()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    global GATE, LOG
    GATE, LOG = Gate(), Log()
    yield
    GATE.open()


class Feed(Component):
    count: int = 1
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.count:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))


class Below(Component):
    """Is called, and sends to who calls it."""

    numbers = Inbox(Number)
    out = Outbox(Number)
    sent = State(int)

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.out.send(Number(100 + number.value))

    def send(self) -> None:
        self.sent += 1
        self.out.send(Number(100))

    def get(self) -> int:
        return self.sent


class Above(Component):
    numbers = Inbox(Number, capacity=1)
    below = Uses(Below)

    @numbers.handler
    def handle(self, number: Number) -> None:
        if number.value >= 100:
            LOG.add(number.value)
            return
        GATE.pass_through()
        try:
            self.below.send()
            LOG.add("answered")
        except DeadlockError as error:
            LOG.add(error)


class Pair:
    """`above` uses `below`, which sends to it: its inbox holds one message."""

    def __init__(self, system: System, numbers_below: int = 0, numbers_above: int = 0, **options: Any) -> None:
        self.system = system
        self.below = system.add(Below(), **options)
        self.above = system.add(Above())
        system.connect(self.below.out, self.above.numbers)
        for count, inbox in ((numbers_below, self.below.numbers), (numbers_above, self.above.numbers)):
            feed = system.add(Feed(count=count), name=f"feed_{inbox.name}_{count}_{len(system._topology.nodes)}")
            system.connect(feed.out, inbox)


def test_a_blocked_send_that_closes_a_circle_fails_the_call_in_it(system: System, start: Start) -> None:
    pair = Pair(system, numbers_above=1)
    run = start(system).up()
    GATE.open()
    error, message = LOG.wait_for_count(2)
    assert isinstance(error, DeadlockError)
    assert error.components == ("above", "below")
    assert str(error) == (
        "above: below.send() can never be answered: above waits for below waits for above; let one of them submit() its call, "
        "or send a message instead"
    )
    assert message == 100  # what had been called has gone on, and its unit is whole
    run.wait_until_quiet()
    assert pair.below.sent == 1
    assert run.all(events.ComponentFailed) == []
    assert run.runtime.journal.calls.graph.waits == {}


def test_a_call_that_closes_a_circle_fails_itself(system: System, start: Start, noted: Log) -> None:
    Pair(system, numbers_below=2, numbers_above=1)
    run = start(system).up()
    GATE.wait_reached()  # what is in work holds the only room
    noted.wait_for(lambda entries: ("below", True) in entries)
    GATE.open()
    entries = LOG.wait_for_count(3)
    [error] = [entry for entry in entries if isinstance(entry, DeadlockError)]
    assert error.components == ("above", "below")
    run.wait_until_quiet()
    # Who is called looks for room again now and then: a call that comes just then is taken, and fails in work.
    assert [entry for entry in LOG.entries if entry is not error] in ([101, 102], [101, 102, 100])
    assert run.runtime.journal.calls.graph.waits == {}


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Log:
    """Which lives wait for room, as it is noted: the name, and whether it begins to wait."""
    log, note = Log(), CallBroker.note_wait

    def note_and_tell(broker: CallBroker, fence: Fence, ticket: Ticket | None) -> None:
        note(broker, fence, ticket)
        log.add((fence.component, ticket is not None))

    monkeypatch.setattr(CallBroker, "note_wait", note_and_tell)
    return log


class Passes(Component):
    """Passes on what it gets, and answers calls meanwhile."""

    numbers = Inbox(Number)
    out = Outbox(Number)

    @numbers.handler
    def handle(self, number: Number) -> None:
        self.out.send(number)

    def get(self) -> int:
        return 7


def test_a_deadlock_with_a_component_that_begins_is_found(system: System, start: Start, noted: Log) -> None:
    """Nobody reads its inbox before `on_start` is over, and `on_start` calls who waits for room there."""

    class Reads(Component):
        numbers = Inbox(Number, capacity=1)
        sends = Uses(Passes)

        def on_start(self) -> None:
            try:
                LOG.add(self.sends.get())
            except DeadlockError as error:
                LOG.add(error)

        @numbers.handler
        def handle(self, number: Number) -> None: ...

    sends, reads, feed = system.add(Passes(), name="sends"), system.add(Reads()), system.add(Feed(count=2))
    system.connect(sends.out, reads.numbers)
    system.connect(feed.out, sends.numbers)
    run = start(system)
    run.runtime.post(commands.Pause(("reads", "feed"), "operator", 0))
    run.up()
    assert LOG.wait_for_count(1) == [7]
    system.pause(reads).result(PATIENCE_S)
    system.resume(feed).result(PATIENCE_S)
    noted.wait_for(lambda entries: ("sends", True) in entries)  # its second message finds the inbox full
    system.restart(reads)
    [error] = LOG.wait_for_count(2)[1:]
    assert isinstance(error, DeadlockError)
    assert error.components == ("reads", "sends")
    system.resume(reads).result(PATIENCE_S)
    run.wait_until_quiet()


def test_a_send_with_a_timeout_is_no_deadlock(system: System, start: Start, noted: Log) -> None:
    """A loop that sends waits for `calls`, which waits for `pushes`, which waits for the loop; but the loop gives up."""

    class Pushes(Component):
        out = Outbox(Number)

        def push(self) -> None:
            self.out.send(Number(1))

    class Calls(Component):
        numbers = Inbox(Number, capacity=1)
        pushes = Uses(Pushes)

        @numbers.handler
        def handle(self, number: Number) -> None:
            GATE.pass_through()
            self.pushes.push()
            LOG.add("answered")

    class Sends(Component):
        numbers = Inbox(Number, capacity=1)
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(1))
            GATE.wait_reached()
            try:
                self.out.send(Number(2), timeout_s=5.0)
            except InboxFull:
                LOG.add("full")
            for _ in self.numbers:
                LOG.add("received")

    clock = FakeClock()
    pushes, calls, sends = system.add(Pushes()), system.add(Calls()), system.add(Sends())
    system.connect(pushes.out, sends.numbers)
    system.connect(sends.out, calls.numbers)
    run = start(system, clock=clock)
    run.up()
    system.call(pushes, timeout_s=None).push()  # and the loop's inbox is full
    clock.wait_for_waiters()
    GATE.open()
    noted.wait_for(lambda entries: ("pushes", True) in entries)
    clock.wait_for_waiters(2)
    clock.advance(5.0)
    LOG.wait_for(lambda entries: {"full", "received", "answered"} <= set(entries))
    run.wait_until_quiet()
    assert run.all(events.ComponentFailed) == []


def test_a_call_goes_to_the_replica_that_is_free(system: System, start: Start, noted: Log) -> None:
    class Asks(Component):
        numbers = Inbox(Number, capacity=1)
        worker = Uses(Passes)

        @numbers.handler
        def handle(self, number: Number) -> None:
            GATE.pass_through()
            LOG.add(self.worker.get())

    worker, asks = system.add(Passes(), replicas=2), system.add(Asks())
    feed = system.add(Feed(count=2))
    system.connect(feed.out, worker.numbers)
    system.connect(worker.out, asks.numbers)
    run = start(system).up()
    GATE.wait_reached()
    noted.wait_for(lambda entries: any(waits for _, waits in entries))  # one of them, for the room that is in work
    GATE.open()
    assert LOG.wait_for_count(2) == [7, 7]
    run.wait_until_quiet()
    assert run.all(events.ComponentFailed) == []


def test_a_deadlock_with_the_replica_at_work_is_found_although_another_is_free(system: System, start: Start) -> None:
    class Worker(Component):
        out = Outbox(Number)

        def send(self) -> None:
            self.out.send(Number(1))

    class Asks(Component):
        numbers = Inbox(Number, capacity=1)
        worker = Uses(Worker)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value:
                LOG.add(number.value)
                return
            try:
                self.worker.send()
            except DeadlockError as error:
                LOG.add(error.components[0])

    class First(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(0))

    worker, asks, first = system.add(Worker(), replicas=2), system.add(Asks()), system.add(First())
    system.connect(worker.out, asks.numbers)
    system.connect(first.out, asks.numbers)
    run = start(system).up()
    assert LOG.wait_for_count(2) == ["asks", 1]
    assert run.all(events.ComponentFailed) == []

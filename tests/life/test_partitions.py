"""Partitions: one key to one replica, in order, with the state of its partition, whatever the number of replicas."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from minions import (
    Backoff,
    CannotDecode,
    Component,
    Inbox,
    MessageRefused,
    Outbox,
    Retry,
    State,
    System,
    TopologyError,
    UsageError,
    events,
)
from minions.model.partition import PARTITIONS
from tests.life.conftest import Gate, Log, Start, dead_letters

KEYS = [f"key-{number}" for number in range(40)]
FAILING = ["key-1", "key-2", "key-3", "key-4"]  # of all parts
SEEN = Log()
WORKERS = Log()
GATE = Gate()
FEED: queue.SimpleQueue[Step | None] = queue.SimpleQueue()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global SEEN, WORKERS, GATE, FEED
    SEEN, WORKERS, GATE, FEED = Log(), Log(), Gate(), queue.SimpleQueue()


@attrs.frozen
class Step:
    """The `number`-th message of a key."""

    key: str
    number: int


class Steps(Component):
    """Sends the next few steps of each key, in turns."""

    count: int
    keys: list[str] = attrs.field(factory=lambda: list(KEYS))
    sent = State(int)
    out = Outbox(Step)

    def run(self) -> None:
        with self.unit():
            for number in range(self.sent, self.sent + self.count):
                for key in self.keys:
                    self.out.send(Step(key, number))
            self.sent += self.count


class Count(Component):
    """Knows how far each of its partition's keys is, and refuses a step that is out of order."""

    steps = Inbox(Step, capacity=100_000, retry=Retry(attempts=1))
    reached = State(dict[str, int])

    @steps.handler
    def count(self, step: Step) -> None:
        if self.reached.get(step.key, 0) != step.number:
            raise ValueError(f"{step} comes after {self.reached.get(step.key)}")
        self.reached[step.key] = step.number + 1
        SEEN.add((threading.current_thread().name, step.key))


class Stuck(Component):
    """Leaves every message to the next start."""

    steps = Inbox(Step, capacity=100_000, retry=Retry(attempts=1, then="stop"))
    reached = State(dict[str, int])

    @steps.handler
    def refuse(self, step: Step) -> None:
        raise ValueError("later")


def wire(system: System, steps: Component, count: Component, replicas: int, by: Any = "key") -> None:
    system.add(steps, name="steps")
    system.add(count, name="count", replicas=replicas, partition_by=by)
    system.connect(steps.out, count.steps)  # type: ignore[attr-defined]


def reached(system: System, count: Count) -> dict[str, int]:
    return {key: system.partition(count, key).reached.get(key, 0) for key in KEYS}


def test_a_key_stays_on_one_replica_and_all_replicas_work(system: System, start: Start) -> None:
    count = Count()
    wire(system, Steps(count=5), count, 4, by=lambda step: step.key)
    run = start(system)
    run.wait_until_quiet()
    replicas = {key: {name for name, other in SEEN.entries if other == key} for key in KEYS}
    assert all(len(names) == 1 for names in replicas.values())
    assert len(set.union(*replicas.values())) == 4
    assert reached(system, count) == dict.fromkeys(KEYS, 5)
    run.stop()
    assert dead_letters(system.folder) == []
    assert reached(system, count) == dict.fromkeys(KEYS, 5)  # on disk, too


def test_messages_and_state_move_with_their_keys(new_system: Callable[[], System], start: Start) -> None:
    number = 0
    for replicas in [4, 1, 7, 2, PARTITIONS, 3]:
        leaving = new_system()
        wire(leaving, Steps(count=2), Stuck(), replicas)
        assert start(leaving).ended().left_messages == len(KEYS) * 2
        working = new_system()
        count = Count()
        wire(working, Steps(count=1), count, replicas % PARTITIONS + 1)
        run = start(working)
        run.wait_until_quiet()
        number += 3
        assert reached(working, count) == dict.fromkeys(KEYS, number)
        assert run.stop().left_messages == 0
        assert dead_letters(working.folder) == []


def test_what_comes_wakes_the_replica_that_it_is_for(system: System, start: Start) -> None:
    count = Count()
    feed = Feed()
    wire(system, feed, count, PARTITIONS)
    run = start(system)
    run.up()
    for key in KEYS:  # one at a time, while the others sleep
        FEED.put(Step(key, 0))
        SEEN.wait_for_count(KEYS.index(key) + 1)
    FEED.put(None)
    run.wait_until_quiet()
    assert reached(system, count) == dict.fromkeys(KEYS, 1)
    [inbox] = system.statistics().inboxes.values()
    assert (inbox.sent, inbox.settled, inbox.waiting, inbox.length, inbox.failed) == (40, 40, 0, 0, 0)
    assert 1 <= inbox.high_water <= 2


class TestAFailingMessage:
    class Picky(Component):
        """Fails twice with one message, and notes the order of each key."""

        steps = Inbox(Step, retry=Retry(attempts=3, backoff=Backoff(initial_s=0.001)))
        tried = State(int)

        @steps.handler
        def count(self, step: Step) -> None:
            SEEN.add((step.key, step.number))
            WORKERS.add((step.key, threading.current_thread().name))
            if step.number == 1 and step.key in FAILING and SEEN.entries.count((step.key, 1)) < 3:
                raise ValueError("not yet")
            self.tried += 1

    @pytest.mark.parametrize("replicas", [1, 3])
    def test_is_tried_again_before_those_behind_it(self, system: System, start: Start, replicas: int) -> None:
        picky = self.Picky()
        wire(system, Steps(count=4), picky, replicas)
        run = start(system)
        run.wait_until_quiet()
        for failing in FAILING:
            assert [number for key, number in SEEN.entries if key == failing] == [0, 1, 1, 1, 2, 3]
        assert sum(part.tried for part in system.partitions(picky)) == 4 * len(KEYS)
        assert len(set(WORKERS.entries)) == len(KEYS)  # one for each key, also after it has failed
        [inbox] = system.statistics().inboxes.values()
        assert (inbox.failed, inbox.settled) == (2 * len(FAILING), 4 * len(KEYS))
        run.stop()


class TestTheState:
    class Early(Count):
        def on_start(self) -> None:
            self.reached = {"key-1": 7}

    class Late(Count):
        def on_stop(self) -> None:
            try:
                self.reached["x"] = 1
            except UsageError as error:
                SEEN.add(str(error))

    def test_cannot_be_assigned_where_there_is_no_message(self, system: System, start: Start) -> None:
        wire(system, Steps(count=0), self.Early(), 2)
        failed = start(system).wait_for(events.ComponentFailed)[0]
        assert failed.where == "on_start"
        assert "count#" in failed.error
        assert "reached was assigned in on_start, but it has a value for each partition" in failed.error

    def test_cannot_be_read_where_there_is_no_message(self, system: System, start: Start) -> None:
        late = self.Late()
        wire(system, Steps(count=1), late, 1)
        run = start(system)
        run.wait_until_quiet()
        assert run.stop().problems == ()
        assert "count.reached has a value for each partition" in SEEN.entries[-1]
        assert reached(system, late) == dict.fromkeys(KEYS, 1)

    def test_as_a_whole_cannot_be_read(self, system: System, start: Start) -> None:
        count = Count()
        wire(system, Steps(count=1), count, 2)
        with pytest.raises(
            UsageError, match=r"count\.reached has a value for each partition: system\.partition\(count, key\)"
        ):
            count.reached  # noqa: B018
        with pytest.raises(UsageError, match="was not added to this system with partition_by="):
            system.partition(Count(), "key-1")
        with pytest.raises(TypeError, match=r"1\.5, and a float cannot be a key"):
            system.partition(count, 1.5)
        assert system.partition(count, "key-1").reached == {}
        run = start(system)
        run.wait_until_quiet()
        assert system.partition(count, "key-1").reached["key-1"] == 1
        whole: dict[str, int] = {}
        for part in system.partitions(count):
            assert not whole.keys() & part.reached.keys()
            whole |= part.reached
        assert whole == dict.fromkeys(KEYS, 1)

    @pytest.mark.parametrize(
        ("first", "then", "word"), [("key", None, "with partition_by"), (None, "key", "without partition_by")]
    )
    def test_of_other_partitions_is_refused(
        self, new_system: Callable[[], System], start: Start, first: Any, then: Any, word: str
    ) -> None:
        before = new_system()
        wire(before, Steps(count=1), Count(), 1, by=first)
        run = start(before)
        run.wait_until_quiet()
        run.stop()
        after = new_system()
        wire(after, Steps(count=1), Count(), 1, by=then)
        with pytest.raises(CannotDecode, match=rf"was kept {word}, and count is (now|not) partitioned"):
            start(after)
        again = new_system()
        wire(again, Steps(count=1), Count(), 1, by=first)
        start(again).wait_until_quiet()


class Feed(Component):
    """Sends what the test hands it."""

    out = Outbox(Step)

    def run(self) -> None:
        while (step := FEED.get()) is not None:
            try:
                self.out.send(step)
            except MessageRefused as refusal:
                SEEN.add(str(refusal))


def test_a_message_without_a_partition_is_refused_where_it_is_sent(system: System, start: Start) -> None:
    count = Count()

    def by(step: Step) -> str:
        if step.number == 7:
            raise ValueError("no key")
        return step.key

    wire(system, Feed(), count, 2, by=by)
    run = start(system)
    FEED.put(Step("key-1", 7))
    FEED.put(Step("key-1", 0))
    SEEN.wait_for_count(2)
    FEED.put(None)
    run.wait_until_quiet()
    assert "count.steps: the partition of Step(key='key-1', number=7) cannot be told" in SEEN.entries[0]
    assert reached(system, count)["key-1"] == 1
    assert system.statistics().inboxes["count.steps"].sent == 1


def test_a_message_that_no_longer_has_a_partition_is_left_where_it_is(
    new_system: Callable[[], System], start: Start
) -> None:
    leaving = new_system()
    wire(leaving, Steps(count=1), Stuck(), 2)
    start(leaving).ended()
    refusing = new_system()
    wire(refusing, Steps(count=0), Count(), 2, by=lambda step: step.number / 2)
    with pytest.raises(
        CannotDecode, match=r"count\.steps: the partition of .* cannot be told: .* cannot be a key.*: let partition_by"
    ):
        start(refusing)
    working = new_system()
    count = Count()
    wire(working, Steps(count=0), count, 2)
    start(working).wait_until_quiet()
    assert reached(working, count) == dict.fromkeys(KEYS, 1)


def test_the_oldest_of_all_partitions_is_dropped(system: System, start: Start) -> None:
    class Dropping(Component):
        steps = Inbox(Step, capacity=10, overflow="drop_oldest", durable=False)

        def on_start(self) -> None:
            GATE.pass_through()

        @steps.handler
        def count(self, step: Step) -> None:
            SEEN.add(step)

    wire(system, Steps(count=1), Dropping(), 3)
    run = start(system)
    for _ in range(3):
        GATE.wait_reached()
    GATE.open()
    run.wait_until_quiet()
    assert {step.key for step in SEEN.entries} == set(KEYS[-10:])
    assert system.statistics().inboxes["count.steps"].sent == 40


class TestCheck:
    class Looping(Component):
        steps = Inbox(Step)
        reached = State(int)

        def run(self) -> None:
            for _ in self.steps:
                self.reached += 1

    @pytest.mark.parametrize(
        ("count", "replicas", "by", "problem"),
        [
            (Count, 2, None, r"count: replicas=2, but it has state \(reached\).*partition_by=\.\.\."),
            (
                Count,
                2,
                "kee",
                r"count: partition_by='kee', but Step, which inbox 'steps' carries, has no attribute of that name",
            ),
            (Count, 129, "key", "replicas=129, but there are 128 partitions: ask for 128 at most"),
            (Count, 2, 7, "partition_by=7 must be the name of an attribute of the messages, or a function"),
            ("Looping", 2, "key", r"it has state and a run\(\) of its own.*write handlers instead of run"),
        ],
    )
    def test_says_what_cannot_be(self, system: System, count: Any, replicas: int, by: Any, problem: str) -> None:
        wire(system, Steps(count=1), self.Looping() if count == "Looping" else count(), replicas, by=by)
        with pytest.raises(TopologyError, match=problem):
            system.check()

    def test_without_an_inbox(self, system: System) -> None:
        system.add(Steps(count=1), partition_by="key")
        with pytest.raises(TopologyError, match="it has no inbox, and it is messages that are spread"):
            system.check()

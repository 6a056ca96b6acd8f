"""The channel against a model of plain lists, with real threads: hypothesis draws who sends, who reads, and what goes wrong.

What happens to the queues is written down where it happens, under the journal's lock, so the log has the one order in which it
took place. The model then replays the log, and at the end everything has to add up: what the senders were told, what the
readers have handled, and what the channel, the journal and the store have counted. Thread timing does not repeat itself, so
nothing is shrunk; the scenario and what was counted are in the message of a failure.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from minions.clock import SystemClock
from minions.errors import InboxFull, StaleComponent
from minions.fence import Fence, Mode
from minions.flow import group_commit
from minions.flow.channel import Channel, Entry, Wakes
from minions.flow.codec import codec_of
from minions.flow.epoch import Sealed
from minions.flow.journal import Journal
from minions.flow.lane import Lane
from minions.flow.mailbox import MOST_AT_ONCE, Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.model.ports import Overflow

INT = codec_of(int)
LIMIT_S = 10.0
"""After so long a thread that has not ended has slept through its wake-up."""

Event = tuple[Literal["sent", "taken", "back", "dropped", "settled"], int, int, int]
"""What happened to one message: its partition, its sequence number, the message itself."""


@attrs.frozen
class Scenario:
    """What hypothesis draws.

    Attributes:
        partitioned: each consumer has its own part of the channel; otherwise all share it.
        timeouts_s: how long a producer waits for room, unit by unit in turn; None for as long as it takes.
        unit_sizes: how many messages a producer sends at once, unit by unit in turn.
        window: how many units may be unsaved.
        cuts: after which of its units which producer cuts the life of which consumer, and whether for good, where others share
            the channel with it.
        failures: at which of its messages which consumer fails.
        put_down_every: a consumer gives back what it has in hand at every so many takes; 0 for never.
        timed: so many of the consumers wake by themselves.
        short_ways: lanes and `settle_effectless` are used where they may be.
    """

    producers: int
    consumers: int
    partitioned: bool
    capacity: int
    overflow: Overflow
    durable: bool
    messages: int
    unit_sizes: list[int]
    timeouts_s: list[float | None]
    window: int
    most: int
    cuts: list[tuple[int, int, int, bool]]
    failures: list[tuple[int, int]]
    put_down_every: int
    timed: int
    short_ways: bool

    @property
    def shared(self) -> bool:
        return self.consumers > 1 and not self.partitioned

    @property
    def parts(self) -> int:
        return self.consumers if self.partitioned else 1


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    producers, consumers = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    producer, consumer = st.integers(0, producers - 1), st.integers(0, consumers - 1)
    return Scenario(
        producers=producers,
        consumers=consumers,
        partitioned=draw(st.booleans()),
        capacity=draw(st.one_of(st.integers(1, 4), st.integers(1, 20))),
        overflow=draw(st.sampled_from(["block", "block", "drop_oldest", "drop_newest", "fail"])),
        durable=draw(st.booleans()),
        messages=draw(st.integers(20, 100)),
        unit_sizes=draw(st.one_of(st.just([1]), st.lists(st.sampled_from([1, 1, 2, 3, 5]), min_size=1, max_size=4))),
        timeouts_s=draw(st.lists(st.sampled_from([None, None, 0.0, 0.0005]), min_size=1, max_size=4)),
        window=draw(st.sampled_from([1, 2, 8_192, 8_192])),
        most=draw(st.sampled_from([1, 3, MOST_AT_ONCE])),
        cuts=draw(st.lists(st.tuples(producer, st.integers(0, 19), consumer, st.booleans()), max_size=8)),
        failures=draw(st.lists(st.tuples(consumer, st.integers(0, 9)), max_size=4, unique=True)),
        put_down_every=draw(st.sampled_from([0, 3])),
        timed=draw(st.integers(0, consumers - 1)),
        short_ways=draw(st.booleans()),
    )


# ------------------------------------------------------------------ what is watched
def message_of(entry: Entry) -> int:
    return entry[2] if isinstance(entry[2], int) else INT.decode(entry[3] or b"")


class Queue(deque[Entry]):
    """A queue that writes down what is sent to it."""

    def __init__(self, log: list[Event]) -> None:
        super().__init__()
        self.log = log

    def append(self, entry: Entry) -> None:
        super().append(entry)
        self.log.append(("sent", entry[4], entry[1], message_of(entry)))

    def extend(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.append(entry)


class WatchedChannel(Channel):
    """A channel that writes down what is sent to it, dropped from it and given back to it."""

    def __init__(self, scenario: Scenario, log: list[Event]) -> None:
        parts = scenario.parts
        super().__init__(
            "box.in",
            0,
            capacity=scenario.capacity,
            overflow=scenario.overflow,
            codec=INT if scenario.durable else None,
            shared=scenario.shared,
            partition_of=(lambda message: message % parts) if scenario.partitioned else None,
            parts=parts,
        )
        self.log = log
        self.queues = tuple(Queue(log) for _ in range(parts))
        self.queue = self.queues[0]

    def _drop_oldest_locked(self) -> Entry:
        before = [entry for queue in self.queues for entry in queue]
        oldest = super()._drop_oldest_locked()
        left = {entry[1] for queue in self.queues for entry in queue}
        [dropped] = [entry for entry in before if entry[1] not in left]
        self.log.append(("dropped", dropped[4], dropped[1], message_of(dropped)))
        return oldest

    def give_back_locked(self, entries: list[Entry], wakes: Wakes) -> None:
        for entry in reversed(entries):
            self.log.append(("back", entry[4], entry[1], message_of(entry)))
        super().give_back_locked(entries, wakes)


class WatchedMailbox(Mailbox):
    """A mailbox that writes down what is taken with it."""

    def __init__(self, channel: Channel, parker: Parker, part: int, log: list[Event]) -> None:
        super().__init__((channel,), parker, part)
        self.log = log

    def take_locked(self, only: Channel | None = None, most: int = MOST_AT_ONCE) -> list[Entry]:
        entries = super().take_locked(only, most)
        for entry in entries:
            self.log.append(("taken", entry[4], entry[1], message_of(entry)))
        return entries


@attrs.frozen(eq=False)
class Life:
    """One life of a consumer, and the numbers of the messages that it has handled, in order."""

    consumer: int
    mailbox: Mailbox
    fence: Fence
    parker: Parker
    handled: list[int] = attrs.Factory(list)


# ------------------------------------------------------------------ the run
class Run:
    """One scenario, with a thread for each producer, for each life of a consumer, and for the writer."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.clock = SystemClock()
        self.journal = Journal(self.clock, durable=scenario.durable)
        self.log: list[Event] = []  # what is settled is added by the consumers; append is atomic
        self.channel = WatchedChannel(scenario, self.log)
        self.accepted: list[list[int]] = [[] for _ in range(scenario.producers)]  # of a producer that has been told so
        self.refused: Counter[int] = Counter()  # by producer, as is the next; each entry is written by one thread
        self.blocked: Counter[int] = Counter()
        self.failed = 0
        self.lives: list[Life] = []
        self.current: dict[int, Life] = {}
        self.failures = set(scenario.failures)
        self.met: Counter[int] = Counter()  # how many messages a consumer has met
        self.stopping = False
        self.lock = threading.RLock()  # guards the six fields above; the journal's lock may be taken under it
        self.sealed: list[Sealed] = []  # of the writer
        self.done = threading.Semaphore(0)  # released for each message that was handled
        self.errors: list[BaseException] = []
        self.threads: list[threading.Thread] = []

    def start(self, name: str, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except StaleComponent:
                return
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def submit(
        self, unit: Unit, fence: Fence, parker: Parker, mailbox: Mailbox | None = None, timeout_s: float | None = None
    ) -> None:
        """Submits a unit until it is whole. Only what sends can wait for room, so a producer counts alone."""
        deadline_s = None if timeout_s is None else self.clock.monotonic() + timeout_s
        number, waits_for_disk = int(fence.component[-1]), False
        try:
            while (ticket := self.journal.submit(unit, fence, parker, mailbox)) is not None:
                waits_for_disk = ticket.channel is None
                if not waits_for_disk:
                    self.blocked[number] += 1
                try:
                    while self.journal.waits(ticket, fence, deadline_s):
                        self.clock.wait(parker, ticket.look_again_s(deadline_s))
                except BaseException:
                    self.journal.withdraw(unit, ticket)
                    raise
                waits_for_disk = False
        except InboxFull:
            if not waits_for_disk:  # otherwise no inbox has refused it
                self.refused[number] += len(unit.sends)
            raise

    # -------------------------------------------------------------- who sends
    def send(self, number: int) -> None:
        scenario = self.scenario
        fence, parker = Fence(f"producer{number}", 1), Parker()
        self.journal.join(fence, parker)
        cuts = [cut[1:] for cut in scenario.cuts if cut[0] == number]
        lane = self.journal.open_lane(self.channel, fence)
        tried = turn = 0
        while tried < scenario.messages:
            size = min(scenario.unit_sizes[turn % len(scenario.unit_sizes)], scenario.messages - tried)
            messages = [number * 1_000 + tried + more for more in range(size)]
            tried += size
            timeout_s = scenario.timeouts_s[turn % len(scenario.timeouts_s)]
            if self.send_along(lane, messages, fence) or self.send_unit(messages, fence, parker, timeout_s):
                self.accepted[number] += messages
            for after, consumer, for_good in cuts:
                if after == turn:
                    self.cut(consumer, for_good=for_good)
                    self.look()
            turn += 1
        self.journal.end_life(Mailbox((), parker), fence)

    def send_along(self, lane: Lane, messages: list[int], fence: Fence) -> bool:
        if not (self.scenario.short_ways and self.channel.takes_lanes and len(messages) == 1):
            return False
        try:
            lane.room.pop()
        except IndexError:
            if not self.journal.lend(self.channel, lane, fence):
                return False
        lane.sent.append(messages[0])
        if self.channel.awaited:
            self.journal.ring(self.channel, lane)
        return True

    def send_unit(self, messages: list[int], fence: Fence, parker: Parker, timeout_s: float | None) -> bool:
        unit = Unit(fence.component)
        for message in messages:
            unit.send((self.channel,), message, True, INT.encode(message) if self.scenario.durable else None)
        try:
            self.submit(unit, fence, parker, timeout_s=timeout_s)
        except InboxFull:
            return False
        return True

    def look(self) -> None:
        """What holds of the counters at any moment."""
        seen = self.journal.statistics([self.channel]).inboxes["box.in"]
        left = seen.sent - seen.settled - (seen.dropped if self.scenario.overflow == "drop_oldest" else 0)
        assert 0 <= seen.waiting <= left <= seen.length <= seen.high_water, seen

    # -------------------------------------------------------------- who reads
    def begin(self, consumer: int) -> None:
        with self.lock:
            parker, fence = Parker(), Fence(f"consumer{consumer}", len(self.lives) + 1)
            part = consumer if self.scenario.partitioned else 0
            life = Life(consumer, WatchedMailbox(self.channel, parker, part, self.log), fence, parker)
            self.lives.append(life)
            self.current[consumer] = life
            self.journal.join(fence, parker)
            self.journal.attach(life.mailbox, fence)
            if self.stopping:
                self.journal.advance(fence, Mode.STOPPING)
            self.start(f"consumer {consumer}, life {fence.epoch}", self.read, life)

    def cut(self, consumer: int, *, for_good: bool) -> None:
        """Ends a life with whatever it has in hand; the next one begins, unless others are to do its work."""
        with self.lock:
            life = self.current.get(consumer)
            if life is None:
                return
            self.journal.end_life(life.mailbox, life.fence)
            if for_good and self.scenario.shared and len(self.current) > 1:
                del self.current[consumer]
            else:
                self.begin(consumer)

    def fail(self, life: Life, entry: Entry) -> None:
        """Ends a life by itself, unless somebody else has ended it."""
        with self.lock:
            if self.current.get(life.consumer) is life:
                self.failed += 1
                self.journal.end_life(life.mailbox, life.fence, failed=entry)
                self.begin(life.consumer)

    def fails_now(self, life: Life) -> bool:
        with self.lock:
            if self.current.get(life.consumer) is not life:
                return False
            self.met[life.consumer] += 1
            return (life.consumer, self.met[life.consumer] - 1) in self.failures

    def read(self, life: Life) -> None:
        timed = life.consumer < self.scenario.timed
        takes = 0
        while True:
            entries = self.journal.take(life.mailbox, life.fence, most=self.scenario.most, timed=timed)
            if entries is None:
                return
            if not entries:
                self.clock.wait(life.parker, self.clock.monotonic() + 0.0005 if timed else None)
                if timed:
                    self.journal.stay_awake(life.mailbox)
                continue
            takes += 1
            if self.scenario.put_down_every and takes % self.scenario.put_down_every == 0:
                self.journal.put_down(life.mailbox, life.fence)
                continue
            for entry in entries:
                if self.fails_now(life):
                    self.fail(life, entry)
                    return
                self.handle(life, entry)

    def handle(self, life: Life, entry: Entry) -> None:
        if self.scenario.short_ways and not self.scenario.durable:
            self.journal.settle_effectless(life.mailbox, life.fence, 1)
        else:
            unit = Unit(life.fence.component)
            unit.settles.append(entry)
            self.submit(unit, life.fence, life.parker, life.mailbox)
        life.handled.append(entry[1])
        self.log.append(("settled", entry[4], entry[1], message_of(entry)))
        self.done.release()

    # -------------------------------------------------------------- who writes, and all of them
    def write(self) -> None:
        parker = Parker()
        while True:
            sealed = self.journal.commits.seal(parker)
            if sealed is not None:
                self.sealed.append(sealed)
                self.journal.commits.committed(sealed)
            elif self.journal.commits.finished:
                return
            else:
                parker.park(None)

    def run(self) -> None:
        self.start("writer", self.write)
        for consumer in range(self.scenario.consumers):
            self.begin(consumer)
        for thread in [self.start(f"producer {n}", self.send, n) for n in range(self.scenario.producers)]:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), self.situation("a producer sleeps for ever")
        # Nobody is asked to stop before everything is handled, because that would wake whoever was forgotten.
        lost = self.channel.dropped
        for _ in range(sum(map(len, self.accepted)) - lost):
            assert self.done.acquire(timeout=LIMIT_S), self.situation("a message that was accepted is never handled")
        with self.lock:
            self.stopping = True
            for life in self.current.values():
                self.journal.advance(life.fence, Mode.STOPPING)
        self.journal.commits.close()
        for thread in self.threads:
            thread.join(LIMIT_S)
            assert not thread.is_alive(), self.situation(f"{thread.name} does not end")
        assert not self.errors, self.situation("a thread has failed")

    def situation(self, what: str) -> str:
        channel = self.channel
        return (
            f"{what}: {self.scenario}; size {channel.size}, waiting {channel.waiting}, in line {len(channel.line)}, delayed "
            f"{len(channel.delayed)}, sent {channel.sent}, settled {channel.settled}, dropped {channel.dropped}, readers "
            f"{[(reader.part, reader.asleep, len(reader.in_hand)) for reader in channel.readers]}; alive: "
            f"{[thread.name for thread in self.threads if thread.is_alive()]}; {self.errors!r}"
        )


# ------------------------------------------------------------------ the model
class Model:
    """What a channel is: a list for each part, and what has been taken from them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.waiting: list[list[tuple[int, int]]] = [[] for _ in range(scenario.parts)]
        self.in_hand: set[tuple[int, int]] = set()
        self.sent: list[tuple[int, int]] = []
        self.settled: list[tuple[int, int]] = []
        self.dropped: list[tuple[int, int]] = []
        self.most_waiting = 0
        self.backs = 0

    def replay(self, log: list[Event]) -> None:
        late: list[tuple[int, int]] = []
        for what, partition, sequence, message in log:
            part, pair = partition % self.scenario.parts, (sequence, message)
            if what == "sent":
                assert sequence == len(self.sent) + 1
                assert part == (message % self.scenario.parts)
                self.sent.append(pair)
                self.waiting[part].append(pair)
                self.most_waiting = max(self.most_waiting, sum(map(len, self.waiting)))
            elif what == "taken":
                assert self.waiting[part][:1] == [pair], f"{pair} was taken, in front was {self.waiting[part][:3]}"
                self.in_hand.add(self.waiting[part].pop(0))
            elif what == "back":
                self.in_hand.remove(pair)
                self.waiting[part].insert(0, pair)
                self.backs += 1
            elif what == "dropped":
                assert sum(map(len, self.waiting)) >= self.scenario.capacity, f"{pair} was dropped where there was room"
                oldest = min(front[0] for front in self.waiting if front)
                assert pair == oldest, f"{pair} was dropped, the oldest was {oldest}"
                self.dropped.append(self.waiting[part].pop(0))
            else:
                late.append(pair)
        for pair in late:  # settled under the lock, and said so afterwards
            self.in_hand.remove(pair)
            self.settled.append(pair)
        assert not self.in_hand, f"in hand for ever: {self.in_hand}"
        assert not any(self.waiting), f"never taken: {self.waiting}"


def check(run: Run) -> None:
    scenario, channel = run.scenario, run.channel
    model = Model(scenario)
    model.replay(run.log)
    # Exactly once, or dropped.
    assert sorted(model.settled + model.dropped) == model.sent
    accepted = [message for messages in run.accepted for message in messages]
    dropped_new = channel.dropped if scenario.overflow == "drop_newest" else 0
    sent = [message for _, message in model.sent]
    assert len(sent) + dropped_new == len(accepted)
    assert set(sent) <= set(accepted)
    if not scenario.overflow.startswith("drop"):
        assert run.refused.total() <= scenario.producers * scenario.messages - len(accepted)
    # First in, first out for each sender; and each life that has a part to itself handles in order.
    for number in range(scenario.producers):
        mine = [message for message in sent if message // 1_000 == number]
        told = [message for message in run.accepted[number] if dropped_new == 0 or message in set(mine)]
        assert mine == told
    for life in run.lives:
        if not scenario.shared or (not model.backs and not run.failed):
            assert life.handled == sorted(life.handled), f"{life.fence.component} has handled out of order"
    # Room.
    largest = max(scenario.unit_sizes)
    if scenario.overflow in {"block", "fail"}:
        assert channel.most <= max(scenario.capacity, largest)
        if largest <= scenario.capacity:
            assert channel.most <= scenario.capacity
    elif scenario.overflow == "drop_newest":
        assert channel.most <= scenario.capacity
    if scenario.overflow == "drop_oldest":
        assert not model.dropped or model.most_waiting >= scenario.capacity
    assert model.most_waiting <= channel.most
    # What was counted.
    statistics = run.journal.statistics([channel])
    inbox = statistics.inboxes["box.in"]
    assert (inbox.sent, inbox.settled) == (len(model.sent), len(model.settled))
    assert inbox.dropped == len(model.dropped) + len(accepted) - len(model.sent)
    assert (inbox.waiting, inbox.length, inbox.senders_waiting) == (0, 0, 0)
    assert (inbox.capacity, inbox.high_water) == (scenario.capacity, channel.most)
    assert (inbox.refused, inbox.failed) == (run.refused.total(), run.failed)
    assert inbox.blocked == run.blocked.total()
    assert (inbox.blocked_s > 0) <= (inbox.blocked > 0)
    assert not channel.attempts
    assert not channel.delayed
    # What is on disk.
    assert (statistics.units_unsaved, statistics.bytes_unsaved) == (0, 0)
    assert statistics.commits == len(run.sealed)
    assert statistics.units_committed == sum(sealed.units for sealed in run.sealed)
    if scenario.durable:
        written = [pair for sealed in run.sealed for pair in sealed.sent["box.in"]]
        assert written == [(sequence, INT.encode(message)) for sequence, message in model.sent]
        assert channel.acks.frozen() == (len(model.sent), ())
        assert not run.sealed or run.sealed[-1].acks["box.in"] == (len(model.sent), ())
    else:
        assert not run.sealed


@contextmanager
def hasty_switches(window: int) -> Iterator[None]:
    """Threads change places at almost every instruction, and so many units may be unsaved."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group_commit, "_MOST_UNSAVED_UNITS", window)
            yield
    finally:
        sys.setswitchinterval(before)


@pytest.mark.timeout(120)
@settings(
    max_examples=150,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(scenario=scenarios())
def test_a_channel_does_what_lists_would_do_whoever_sends_reads_and_dies(scenario: Scenario) -> None:
    run = Run(scenario)
    with hasty_switches(scenario.window):
        run.run()
    check(run)

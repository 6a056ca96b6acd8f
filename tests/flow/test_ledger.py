"""The ledger, against a dictionary as its store: after every commit exactly what is not settled is there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from minions.errors import StoreDamaged
from minions.flow import rows
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.epoch import Epoch
from minions.flow.ledger import Change, Ledger, Recovered

NAMES = ("a.in", "b.in")
TYPES = dict.fromkeys(NAMES, "int")
RUN = "run"


class Rows(dict[str, bytes]):
    """A store in memory."""

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter([(key, self[key]) for key in sorted(self) if key.startswith(prefix)])

    def apply(self, change: Change) -> None:
        for key in change.deletes:
            del self[key]  # a row that is deleted was there
        for key, body in change.puts:
            assert not key.startswith(rows.CHANNELS) or key not in self, "a row of messages was overwritten"
            self[key] = body


class Commits(RuleBasedStateMachine):
    """Random units, commits, failed commits and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Rows()
        self.ledger = Ledger(TYPES, RUN)
        self.channels = {name: Channel(name, number, codec=codec_of(int)) for number, name in enumerate(NAMES)}
        self.epoch = Epoch(1)
        self.open: dict[str, list[int]] = {name: [] for name in NAMES}  # what is not settled now
        self.on_disk: dict[str, list[int]] = {name: [] for name in NAMES}  # what was not settled at the last commit
        self.used: dict[str, int] = dict.fromkeys(NAMES, 0)  # the highest number that ever was on disk
        self.ids: dict[str, dict[int, str]] = {
            name: {} for name in NAMES
        }  # of what has an id of its own, settled or not
        self.states: dict[str, dict[str, bytes]] = {}
        self.states_on_disk: dict[str, dict[str, bytes]] = {}

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4))
    def send(self, name: str, count: int) -> None:
        channel = self.channels[name]
        for _ in range(count):
            number = channel.deliver_locked(0, b"", [])
            self.epoch.sent(channel, number, str(number).encode())
            self.open[name].append(number)

    @rule(name=st.sampled_from(NAMES))
    def send_once_more(self, name: str) -> None:
        """A message that had been set aside."""
        channel = self.channels[name]
        number = channel.next_sequence
        channel.ids[number] = self.ids[name][number] = f"the id of {number}"
        self.send(name, 1)

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 9), count=st.integers(1, 4))
    def settle(self, name: str, which: int, count: int) -> None:
        channel, waiting = self.channels[name], self.open[name]
        for _ in range(min(count, len(waiting))):
            channel.settle_locked(waiting.pop(which % len(waiting)), 0.0, [])
            self.epoch.settled(channel)

    @rule(component=st.sampled_from("xy"), state=st.sampled_from("st"), value=st.binary(max_size=3))
    def change_state(self, component: str, state: str, value: bytes) -> None:
        kept = self.states.setdefault(component, {})
        kept[state] = value
        self.epoch.states[component] = kept

    @rule(attempts=st.integers(0, 2))
    def commit(self, attempts: int) -> None:
        sealed = self.epoch.seal()
        self.epoch = Epoch(sealed.number + 1)
        change = self.ledger.change(sealed)
        for _ in range(attempts):
            assert self.ledger.change(sealed) == change, "to ask again changes nothing"
        self.store.apply(change)
        self.ledger.confirm(change)
        for name in NAMES:
            self.on_disk[name] = list(self.open[name])
            self.used[name] = self.channels[name].next_sequence - 1
        self.states_on_disk = {component: dict(states) for component, states in self.states.items()}

    @rule()
    def restart(self) -> None:
        """What was not committed is gone."""
        self.ledger = Ledger(TYPES, RUN)
        recovered = self.ledger.recover(self.store)
        for number, name in enumerate(NAMES):
            self.channels[name] = Channel(name, number, codec=codec_of(int))
            if name in recovered.channels:
                left = recovered.channels[name]
                self.channels[name].restore(left.next_sequence, left.ack_set(), left.waiting, left.eras, left.ids)
            given_out = self.channels[name].next_sequence
            self.ids[name] = {number: kept for number, kept in self.ids[name].items() if number < given_out}
        self.open = {name: list(numbers) for name, numbers in self.on_disk.items()}
        self.states = {component: dict(states) for component, states in recovered.states.items()}
        self.epoch = Epoch(1)

    @invariant()
    def what_is_on_disk_is_what_was_committed(self) -> None:
        recovered = Ledger(TYPES).recover(self.store)
        assert recovered.states == self.states_on_disk
        for name in NAMES:
            if name not in recovered.channels:
                assert not self.used[name]
                continue
            left = recovered.channels[name]
            assert left.waiting == [(number, str(number).encode()) for number in self.on_disk[name]]
            assert left.next_sequence == self.used[name] + 1
            assert left.types == (frozenset({"int"}) if left.waiting else frozenset())
            ids = self.ids[name]
            assert left.ids == {number: ids[number] for number in self.on_disk[name] if number in ids}
            without_ids = [number for number in self.on_disk[name] if number not in ids]
            assert [run for first, run in left.eras if without_ids and first <= without_ids[0]] == [RUN] * bool(
                without_ids
            )

    @invariant()
    def no_row_is_kept_for_nothing(self) -> None:
        for key, body in self.store.rows(rows.CHANNELS):
            name = key.split("/")[1]
            assert {number for number, _ in rows.messages_of(key, body)[2]} & set(self.on_disk[name]), key


TestCommits = Commits.TestCase
TestCommits.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def sent(ledger: Ledger, *sizes: int) -> tuple[Channel, Change]:
    """One epoch that sends messages of these sizes."""
    channel, epoch = Channel("a.in", 0, codec=codec_of(int)), Epoch(1)
    for size in sizes:
        epoch.sent(channel, channel.deliver_locked(0, b"", []), bytes(size))
    return channel, ledger.change(epoch.seal())


def message_rows(change: Change) -> list[list[int]]:
    return [
        [number for number, _ in rows.messages_of(key, body)[2]]
        for key, body in change.puts
        if key.startswith(rows.CHANNELS)
    ]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([1, 1, 1], [[1, 2, 3]]),
        ([1 << 20], [[1]]),
        ([1 << 20, 1], [[1], [2]]),
        ([600_000] * 5, [[1, 2], [3, 4], [5]]),
        ([3 << 20, 3 << 20, 1], [[1], [2], [3]]),
    ],
)
def test_messages_are_split_into_rows_of_about_a_megabyte(sizes: list[int], expected: list[list[int]]) -> None:
    _, change = sent(Ledger(TYPES), *sizes)
    assert message_rows(change) == expected
    assert [rows.channel_key("a.in", numbers[0]) for numbers in expected] == [
        key for key, _ in change.puts if key.startswith(rows.CHANNELS)
    ]


@pytest.mark.parametrize(
    ("with_ids", "expected"),
    [
        ((), [[1, 2, 3, 4, 5]]),
        ((1,), [[1], [2, 3, 4, 5]]),
        ((3,), [[1, 2], [3], [4, 5]]),
        ((3, 4), [[1, 2], [3], [4], [5]]),
        ((5,), [[1, 2, 3, 4], [5]]),
    ],
)
def test_a_message_with_an_id_of_its_own_is_in_a_row_of_its_own(
    with_ids: tuple[int, ...], expected: list[list[int]]
) -> None:
    channel, epoch = Channel("a.in", 0, codec=codec_of(int)), Epoch(1)
    for number in range(1, 6):
        if number in with_ids:
            channel.ids[number] = f"={number}"
        epoch.sent(channel, channel.deliver_locked(0, b"", []), b"0")
    store = Rows()
    change = Ledger(TYPES, RUN).change(epoch.seal())
    store.apply(change)
    assert message_rows(change) == expected
    left = Ledger(TYPES).recover(store).channels["a.in"]
    assert left.ids == {number: f"={number}" for number in with_ids}
    assert {run for _, run in left.eras} == {RUN}


def test_a_row_goes_when_its_last_message_is_settled_whatever_the_order() -> None:
    ledger, store = Ledger(TYPES), Rows()
    channel, change = sent(ledger, 600_000, 600_000, 1, 1)
    store.apply(change)
    ledger.confirm(change)
    gone = []
    for number in (4, 2, 3, 1):
        channel.acks.add(number)
        epoch = Epoch(2)
        epoch.settled(channel)
        change = ledger.change(epoch.seal())
        store.apply(change)
        ledger.confirm(change)
        gone.append([int(key[-1], 16) for key in change.deletes])
    assert gone == [[], [], [3], [1]]
    assert not list(store.rows(rows.CHANNELS))


def test_what_is_not_confirmed_is_deleted_and_written_again() -> None:
    ledger = Ledger(TYPES)
    channel, change = sent(ledger, 1)
    ledger.confirm(change)
    channel.acks.add(1)
    epoch = Epoch(2)
    epoch.settled(channel)
    sealed = epoch.seal()
    assert ledger.change(sealed) == ledger.change(sealed)
    assert ledger.change(sealed).deletes == [rows.channel_key("a.in", 1)]
    ledger.confirm(ledger.change(sealed))
    assert ledger.change(sealed).deletes == []


def test_dead_letters_are_written_with_their_epoch() -> None:
    epoch = Epoch(1)
    epoch.keep({"dead/a.in/": {"1": b"letter", "2": b"another"}})
    epoch.keep({"dead/a.in/": {"2": None}, "dead/b.in/": {"1": b"third"}})
    change = Ledger(TYPES).change(epoch.seal())
    assert change.puts == [("dead/a.in/1", b"letter"), ("dead/b.in/1", b"third")]
    assert change.deletes == ["dead/a.in/2"]


def test_an_empty_store_leaves_nothing() -> None:
    assert Ledger(TYPES).recover(Rows()) == Recovered({}, {})
    assert Recovered({}, {}).is_empty


def test_the_types_of_what_waits_are_told() -> None:
    store = Rows()
    store[rows.channel_key("a.in", 1)] = rows.messages_body("Old", "r1", [(1, b"1")])
    store[rows.channel_key("a.in", 2)] = rows.messages_body("New", "r2", [(2, b"2"), (4, b"4")])
    recovered = Ledger(TYPES).recover(store).channels["a.in"]
    assert recovered.types == {"Old", "New"}
    assert recovered.next_sequence == 5
    store[rows.ACKS + "a.in"] = rows.acks_body((1, ((6, 9),)))
    recovered = Ledger(TYPES).recover(store).channels["a.in"]
    assert recovered.types == {"New"}
    assert [number for number, _ in recovered.waiting] == [2, 4]
    assert recovered.next_sequence == 10


def test_where_schedules_stand_is_left_to_the_next_run() -> None:
    row = rows.Tick(wall_s=1.0, mono_s=2.0, run_id="r1").body()
    store = Rows({rows.TICKS + rows.tick_key("a", "report"): row})
    recovered = Ledger(TYPES).recover(store)
    assert recovered == Recovered({}, {}, {"a/report": row})
    assert not recovered.is_empty
    store["tick/a/report"] = b"[1]"
    with pytest.raises(StoreDamaged, match=r"row 'tick/a/report' is not laid out"):
        Ledger(TYPES).recover(store)


@given(st.binary(max_size=8))
def test_a_row_that_was_not_written_here_is_told(body: bytes) -> None:
    store = Rows({rows.channel_key("a.in", 1): body})
    with pytest.raises(StoreDamaged):
        Ledger(TYPES).recover(store)

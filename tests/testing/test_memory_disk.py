"""The disk of a simulation keeps the promises of the real one: the same tests for both, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, StoreLocked, System, Table, UsageError
from minions.errors import CommitFailed
from minions.flow.board import Left
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.storage import FolderStorage, OpenStore, Storage
from minions.testing.disk import MemoryDisk
from minions.testing.process import Process
from minions.testing.world import World


class Opened(OpenStore, Protocol):
    """What both stores offer beside what a run asks for."""

    commit_number: int

    def get(self, key: str) -> bytes | None: ...


class Machine:
    """A state folder, or a simulated one, with its storage."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._open: list[Any] = []

    def open(self, synchronous: Literal["NORMAL", "FULL"] = "NORMAL") -> Opened:
        store: Any = self.storage.open(synchronous)
        self._open.append(store)
        opened: Opened = store
        return opened

    def close(self) -> None:
        for store in self._open:
            store.close()


@pytest.fixture(params=["in a folder", "in memory"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    storage: Storage = FolderStorage(tmp_path / "state") if request.param == "in a folder" else MemoryDisk()
    machine = Machine(storage)
    yield machine
    machine.close()


# What both promise ----------------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_when_it_is_opened_again(machine: Machine) -> None:
    store = machine.open()
    assert store.commit([("a/1", b"one"), ("a/2", b"two")], []) == 1
    store.close()
    again = machine.open()
    assert (again.get("a/1"), again.get("a/2"), again.get("a/3")) == (b"one", b"two", None)
    assert again.commit_number == 1


def test_a_commit_deletes_before_it_writes(machine: Machine) -> None:
    store = machine.open()
    store.commit([("a", b"1"), ("b", b"1")], [])
    assert store.commit([("a", b"2")], ["a", "b", "never there"]) == 2
    assert (store.get("a"), store.get("b")) == (b"2", None)


def test_rows_come_in_the_order_of_their_keys_and_only_those_with_the_prefix(machine: Machine) -> None:
    store = machine.open()
    keys = ["b/2", "a/2", "a/10", "a/é", "a/1", "a0", "a/\U0001f600", "a"]
    store.commit([(key, key.encode()) for key in keys], [])
    assert [key for key, _ in store.rows("a/")] == sorted(key for key in keys if key.startswith("a/"))
    assert dict(store.rows(""))["b/2"] == b"b/2"
    assert list(store.rows("c")) == []


def test_a_store_is_opened_by_one_at_a_time(machine: Machine) -> None:
    store = machine.open()
    with pytest.raises(StoreLocked):
        machine.open()
    store.close()
    machine.open()


def test_a_store_that_was_closed_is_used_no_more_and_may_be_closed_again(machine: Machine) -> None:
    store = machine.open()
    store.close()
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.commit([("a", b"1")], [])
    with pytest.raises(UsageError, match="closed"):
        store.get("a")


def test_nothing_was_lost_where_nothing_happened(machine: Machine) -> None:
    store = machine.open()
    store.commit([("a", b"1")], [])
    store.close()
    again = machine.open()
    assert (again.commits_lost, again.perhaps_lost) == (0, False)


def test_all_rows_with_a_prefix_can_be_read_while_it_is_open_and_while_it_is_not(machine: Machine) -> None:
    assert list(machine.storage.read_rows("a/")) == []
    store = machine.open()
    store.commit([("a/2", b"2"), ("a/1", b"1"), ("b", b"3")], [])
    assert list(machine.storage.read_rows("a/")) == [("a/1", b"1"), ("a/2", b"2")]
    store.close()
    assert list(machine.storage.read_rows("a/")) == [("a/1", b"1"), ("a/2", b"2")]


def test_single_rows_and_ranges_are_read_as_of_the_last_commit(machine: Machine) -> None:
    store, reader = machine.open(), machine.storage.reader()
    assert reader.row("a") is None
    assert list(reader.rows("a", "e", 9)) == []
    store.commit([(key, key.encode()) for key in ("a", "b", "c", "d")], [])
    assert reader.row("b") == b"b"
    assert list(reader.rows("b", "d", 9)) == [("b", b"b"), ("c", b"c")]
    assert list(reader.rows("b", "d", 1)) == [("b", b"b")]
    assert list(reader.rows("b", "e", 9, after=True)) == [("c", b"c"), ("d", b"d")]
    assert list(reader.keys("a", "c", 9)) == [("a", True), ("b", True)]
    assert reader.count("a", "d", {}) == 3
    assert reader.count("a", "d", {"b": False, "bb": True, "c": True}) == 3
    store.commit([], ["b"])
    assert reader.row("b") is None
    reader.close()
    assert reader.row("c") == b"c", "also once its system has ended"


def channel() -> Channel:
    return Channel("sink.numbers", 0, codec=codec_of(int))


def test_the_board_is_there_after_the_death_of_a_process_and_not_after_an_orderly_end(machine: Machine) -> None:
    storage = machine.storage
    assert storage.left_board() == Left()
    store = machine.open()
    board = storage.make_board([("sink", "sink.numbers")], {"sink.numbers": {3: 1}}, {})
    inbox = channel()
    marks = board.marks("sink", [inbox])
    marks.received(inbox, 5)
    marks.received(inbox, 6)
    if isinstance(storage, MemoryDisk):
        storage.crash()
    died = storage.left_board()
    assert not died.ended
    assert [(held.channel, held.first, held.last) for held in died.held] == [("sink.numbers", 5, 6)]
    assert died.deaths == {"sink.numbers": {3: 1}}
    board.close()
    store.close()
    board = storage.make_board([("sink", "sink.numbers")], {}, {})
    board.close()
    if isinstance(storage, MemoryDisk):
        storage.crash()
    assert storage.left_board().ended


# What only a simulated one can show -----------------------------------------------------------------------------------


def test_a_dead_process_does_not_reach_the_disk_any_more() -> None:
    disk = MemoryDisk()
    store = disk.open()
    store.commit([("a", b"1")], [])
    disk.crash()
    with pytest.raises(CommitFailed, match="dead"):
        store.commit([("a", b"2")], [])
    store.close()
    again = disk.open()
    assert again.get("a") == b"1"
    store.close()
    with pytest.raises(StoreLocked):
        disk.open()


def test_a_commit_that_fails_leaves_nothing() -> None:
    disk = MemoryDisk()
    store = disk.open()

    def full() -> None:
        raise CommitFailed("full", permanent=False)

    disk.before_commit = full
    with pytest.raises(CommitFailed):
        store.commit([("a", b"1")], [])
    assert (store.get("a"), store.commit_number, disk.commit_number) == (None, 0, 0)


def test_a_process_that_dies_in_a_commit_has_made_it_or_not() -> None:
    class Died(BaseException):
        pass

    def die() -> None:
        disk.crash()
        raise Died

    for when, kept in (("before_commit", None), ("after_commit", b"1")):
        disk = MemoryDisk()
        store = disk.open()
        setattr(disk, when, die)
        with pytest.raises(Died):
            store.commit([("a", b"1")], [])
        assert disk.row("a") == kept


@pytest.mark.parametrize("lost", [0, 1, 2, 9])
def test_a_loss_of_power_takes_the_last_commits_and_the_next_opening_says_so(lost: int) -> None:
    disk = MemoryDisk()
    store = disk.open("NORMAL")
    states: list[dict[str, bytes]] = [{}]
    for puts, deletes in ((("a", "b"), ()), (("a", "c"), ("a", "b")), (("d",), ("a",))):
        store.commit([(key, f"{key}{len(states)}".encode()) for key in puts], list(deletes))
        states.append(dict(disk.read_rows("")))
    gone = disk.lose_power(lost)
    assert gone == min(lost, 3)
    assert dict(disk.read_rows("")) == states[3 - gone]
    again = disk.open()
    assert (again.commits_lost, again.commit_number) == (gone, 3 - gone)
    again.commit([("e", b"1")], [])
    disk.crash()
    assert disk.open().commits_lost == 0, "told until the next commit"


def test_a_loss_of_power_takes_nothing_that_was_committed_with_full_or_was_closed() -> None:
    disk = MemoryDisk()
    store = disk.open("FULL")
    store.commit([("a", b"1")], [])
    assert disk.lose_power(9) == 0
    store = disk.open("NORMAL")
    store.commit([("b", b"1")], [])
    store.close()
    assert disk.lose_power(9) == 0
    assert disk.row("b") == b"1"


def test_a_crash_alone_takes_no_commit_and_leaves_it_at_the_mercy_of_the_power() -> None:
    disk = MemoryDisk()
    disk.open("NORMAL").commit([("a", b"1")], [])
    disk.crash()
    assert disk.row("a") == b"1"
    assert disk.lose_power(1) == 1
    assert disk.row("a") is None


# The two in a whole system --------------------------------------------------------------------------------------------


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        for _ in range(3):
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


class Sink(Component):
    numbers = Inbox(Number)
    total = State(int)
    squares = Table(int, int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value
        self.squares[number.value] = number.value**2


def test_both_hold_the_same_rows_after_the_same_run(tmp_path: Path) -> None:
    system = System("same", folder=tmp_path / "state")
    numbers, sink = system.add(Numbers()), system.add(Sink())
    system.connect(numbers.out, sink.numbers)
    with system.started():
        assert system.wait(20.0)
    folder = FolderStorage(tmp_path / "state")

    disk, world = MemoryDisk(), World()
    process = Process(system, world, disk)
    process.start()
    world.run()
    assert process.over
    process.close()
    for prefix in ("state/", "acks/", "chan/", "table/", "dead/", "tick/"):
        assert disk.read_rows(prefix) == folder.read_rows(prefix)
    assert len(disk.read_rows("table/")) == 3

"""Tables: entries that are read where they are asked for, and written with the unit that changed them, or not at all."""

from __future__ import annotations

import queue
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from minions import (
    CannotDecode,
    CannotEncode,
    Component,
    Inbox,
    Outbox,
    Retry,
    State,
    StoreDamaged,
    System,
    Table,
    TopologyError,
    UsageError,
    events,
)
from minions.flow import rows
from minions.flow.codec import state_codec_of
from minions.flow.keys import key_codec_of
from minions.flow.store import Store, read_rows
from minions.flow.table_reader import TableReader
from minions.life.tables import LiveTable, TableCodecs
from tests.life.conftest import Log, Start, dead_letters

SEEN = Log()
FEED: queue.SimpleQueue[Do | None] = queue.SimpleQueue()


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global SEEN, FEED
    SEEN, FEED = Log(), queue.SimpleQueue()


@attrs.frozen
class Do:
    """What is to be done to one key."""

    key: str
    amount: int = 1
    fails: bool = False


@attrs.define
class Sum:
    amounts: list[int] = attrs.Factory(list)


class Feed(Component):
    out = Outbox(Do)

    def run(self) -> None:
        while (do := FEED.get()) is not None:
            self.out.send(do)


class Sums(Component):
    todo = Inbox(Do, retry=Retry(attempts=1))
    sums = Table(str, Sum)
    done = State(int)

    @todo.handler
    def add(self, do: Do) -> None:
        self.sums.setdefault(do.key, Sum()).amounts.append(do.amount)
        self.done += 1
        SEEN.add(do)
        if do.fails:
            self.sums["other"] = Sum([1])
            raise ValueError("no")


def wire(system: System, sums: Any, **options: Any) -> Any:
    feed = system.add(Feed())
    system.add(sums, name="sums", **options)
    system.connect(feed.out, sums.todo)
    return sums


def feed(*todo: Do) -> None:
    for do in todo:
        FEED.put(do)
    FEED.put(None)


def test_entries_of_a_table_alone_are_told_as_resumed(new_system: Callable[[], System], start: Start) -> None:
    class Fills(Component):
        entries = Table(str, int)

        def run(self) -> None:
            self.entries["a"] = 1

    told = []
    for _ in range(2):
        system = new_system()
        system.add(Fills())
        run = start(system, forever=False)
        run.ended()
        told += [opened.resumed for opened in run.all(events.StateOpened)]
    assert told == [False, True]


def test_what_changes_in_place_is_kept(new_system: Callable[[], System], start: Start) -> None:
    system = new_system()
    sums = wire(system, Sums())
    run = start(system)
    feed(Do("b", 1), Do("a", 2), Do("b", 3))
    run.wait_until_quiet()
    assert dict(sums.sums) == {"a": Sum([2]), "b": Sum([1, 3])}
    assert list(sums.sums) == ["a", "b"]
    assert len(sums.sums) == 2
    run.stop()
    assert dict(sums.sums) == {"a": Sum([2]), "b": Sum([1, 3])}  # on disk, too
    again = new_system()
    sums = wire(again, Sums())
    run = start(again)
    feed(Do("b", 4), Do("c", 5))
    run.wait_until_quiet()
    run.stop()
    assert dict(sums.sums) == {"a": Sum([2]), "b": Sum([1, 3, 4]), "c": Sum([5])}
    with pytest.raises(KeyError, match="d"):
        sums.sums["d"]


def test_a_unit_that_fails_leaves_nothing(system: System, start: Start) -> None:
    sums = wire(system, Sums())
    run = start(system)
    feed(Do("a", 1), Do("a", 2, fails=True), Do("a", 3))
    run.wait_until_quiet()
    assert dict(sums.sums) == {"a": Sum([1, 3])}
    assert sums.done == 2
    run.stop()
    assert len(dead_letters(system.folder)) == 1


def test_only_what_changed_is_written(system: System, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    commit = Store.commit

    def note(store: Store, puts: Any, deletes: Any) -> int:
        written.extend(key for key, _ in puts if key.startswith(rows.TABLES))
        return commit(store, puts, deletes)

    monkeypatch.setattr(Store, "commit", note)

    class Looking(Component):
        sums = Table(str, Sum)

        def run(self) -> None:
            with self.unit():
                self.sums.update({f"{number:03}": Sum() for number in range(500)})
            self.commit()
            written.clear()
            with self.unit():
                for value in self.sums.values():
                    assert value.amounts == []
                self.sums["007"].amounts.append(1)
            self.commit()

    looking = system.add(Looking())
    start(system).wait_until_quiet()
    assert written == [rows.table_prefix("looking", "sums") + key_codec_of(str).encode("007")]
    assert len(looking.sums) == 500


def test_a_unit_in_a_loop_is_whole_or_never_was(system: System, start: Start) -> None:
    class Loop(Component):
        sums = Table(str, Sum)

        def run(self) -> None:
            self.sums["kept"] = Sum([1])
            with pytest.raises(ValueError, match="no"), self.unit():
                self.spoil()
            SEEN.add(dict(self.sums))

        def spoil(self) -> None:
            self.sums["kept"].amounts.append(2)
            del self.sums["kept"]
            self.sums["lost"] = Sum()
            raise ValueError("no")

    loop = system.add(Loop())
    start(system).wait_until_quiet()
    assert SEEN.entries == [{"kept": Sum([1])}]
    assert dict(loop.sums) == {"kept": Sum([1])}


def test_the_current_entry_may_be_deleted_while_iterating(system: System, start: Start) -> None:
    class Sweep(Component):
        sums = Table(int, int)

        def run(self) -> None:
            with self.unit():
                self.sums.update({number: number for number in range(-700, 700)})
            self.commit()
            with self.unit():
                met = []
                for number, value in self.sums.between(-600, 599):
                    met.append(number)
                    if value % 2:
                        del self.sums[number]
                assert met == list(range(-600, 600))
                assert len(self.sums) == 800

    sweep = system.add(Sweep())
    start(system).wait_until_quiet()
    assert list(sweep.sums) == [n for n in range(-700, 700) if n % 2 == 0 or not -600 <= n < 600]


def test_an_iteration_sees_what_a_later_unit_has_changed(system: System, start: Start) -> None:
    """Also where that is on disk by then and the values are too large to be kept in memory: nothing is lost to an old one."""

    class Slow(Component):
        texts = Table(int, list[str])

        def run(self) -> None:
            with self.unit():
                self.texts.update({number: ["old", "x" * 600_000] for number in range(60)})
            self.commit()
            going_on = self.texts.between()
            next(going_on)
            with self.unit():
                self.texts[50][0] = "new"
                del self.texts[51]
            for number, value in going_on:
                value.append("seen")
                if not number % 5:
                    self.commit()

    slow = system.add(Slow())
    start(system).wait_until_quiet()
    assert slow.texts[50][::2] == ["new", "seen"]
    assert 51 not in slow.texts
    assert slow.texts[52][::2] == ["old", "seen"]


def test_keys_are_iterated_and_all_is_deleted_without_reading_a_value(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sweep(Component):
        sums = Table(int, Sum)

        def run(self) -> None:
            with self.unit():
                self.sums.update({number: Sum([number]) for number in range(700)})
            self.commit()
            monkeypatch.setattr(TableReader, "row", None)
            monkeypatch.setattr(TableReader, "rows", None)
            with self.unit():
                del self.sums[5]
                self.sums[1_000] = Sum()
                SEEN.add(list(self.sums))
                self.sums.clear()
                self.sums[7] = Sum([7])
                SEEN.add(list(self.sums))
            monkeypatch.undo()

    sweep = system.add(Sweep())
    start(system).wait_until_quiet()
    assert SEEN.entries == [[*range(5), *range(6, 700), 1_000], [7]]
    assert dict(sweep.sums.items()) == {7: Sum([7])}
    assert list(sweep.sums.values()) == [Sum([7])]


def test_items_and_values_are_read_many_at_a_time(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Look(Component):
        numbers = Table(int, int)

        def run(self) -> None:
            with self.unit():
                self.numbers.update({number: -number for number in range(700)})
            self.commit()

    look = system.add(Look())
    run = start(system)
    run.wait_until_quiet()
    run.stop()
    monkeypatch.setattr(TableReader, "row", None)
    assert list(look.numbers.items()) == [(number, -number) for number in range(700)]
    assert list(look.numbers.values()) == [-number for number in range(700)]


def test_an_iteration_does_not_go_on_in_another_partition(system: System, start: Start) -> None:
    class Scan(Component):
        todo = Inbox(Do, retry=Retry(attempts=1))
        sums = Table(str, int)
        going_on: Any = None

        @todo.handler
        def look(self, do: Do) -> None:
            self.sums.update({f"{do.key}{number}": number for number in range(3)})
            if self.going_on is None:
                self.going_on = iter(self.sums)
            SEEN.add(next(self.going_on))

    wire(system, Scan(), partition_by="key")
    run = start(system)
    feed(Do("a"), Do("a"), Do("b"), Do("a"))
    told = run.wait_for(events.ComponentFailed)
    run.wait_until_quiet()
    assert "sums@" in told[0].error
    assert "this iteration has begun in another partition" in told[0].error
    assert SEEN.entries[:2] == ["a0", "a1"]


def test_whoever_looks_while_the_system_ends_is_answered(system: System, start: Start) -> None:
    sums = wire(system, Sums())
    run = start(system)
    feed(Do("a", 1), Do("b", 2))
    run.wait_until_quiet()
    view = sums.sums
    assert dict(view) == {"a": Sum([1]), "b": Sum([2])}
    run.stop()
    assert dict(view) == {"a": Sum([1]), "b": Sum([2])}
    assert view["a"] == Sum([1])
    assert len(view) == 2


@pytest.mark.parametrize(
    ("first", "then", "word"),
    [("key", None, "with partition_by, and sums is not"), (None, "key", "without partition_by, and sums is now")],
)
def test_where_partitions_come_or_go_the_entries_are_not_left_behind(
    new_system: Callable[[], System], start: Start, first: Any, then: Any, word: str
) -> None:
    class Only(Component):
        todo = Inbox(Do)
        sums = Table(str, int)

        @todo.handler
        def add(self, do: Do) -> None:
            self.sums[do.key] = do.amount

    before = new_system()
    wire(before, Only(), partition_by=first)
    run = start(before)
    feed(Do("a"), Do("b"))
    run.wait_until_quiet()
    run.stop()
    after = new_system()
    wire(after, Only(), partition_by=then)
    with pytest.raises(CannotDecode, match=rf"table sums(@\d+)?\.sums was kept {word} partitioned"):
        start(after)
    again = new_system()
    wire(again, Only(), partition_by=first)
    start(again).up()
    feed()


def test_a_planted_row_of_another_kind_is_told_from_an_entry(tmp_path: Path) -> None:
    key = rows.table_prefix("c", "t") + "a"
    Store.open(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "cache.db")) as connection, connection:
        connection.execute("INSERT INTO Cache(key, raw, mode, filename) VALUES (?, 1, 4, 'x.val')", (key,))
    with pytest.raises(StoreDamaged, match="'table/c/t/a' holds no bytes"):
        TableReader(tmp_path, lasting=False).row(key)


def test_a_partition_has_entries_of_its_own(new_system: Callable[[], System], start: Start) -> None:
    keys = [f"key-{number}" for number in range(30)]
    system, sums = new_system(), Sums()
    for turn, replicas in enumerate([3, 1, 5]):
        system = new_system()
        sums = wire(system, Sums(), replicas=replicas, partition_by="key")
        run = start(system)
        feed(*(Do(key, turn) for key in keys))
        run.wait_until_quiet()
        for key in keys:
            assert system.partition(sums, key).sums[key] == Sum(list(range(turn + 1)))
        assert sum(len(part.sums) for part in system.partitions(sums)) == len(keys)
        run.stop()
    with pytest.raises(UsageError, match="has entries for each partition"):
        sums.sums  # noqa: B018


class TestErrors:
    def test_a_value_that_cannot_be_stored(self, system: System, start: Start) -> None:
        class Wrong(Component):
            numbers = Table(str, int)

            def run(self) -> None:
                self.numbers["a"] = "seven"  # type: ignore[assignment]

        system.add(Wrong())
        failed = start(system).wait_for(events.ComponentFailed)[0]
        assert "CannotEncode" in failed.traceback
        assert "wrong.numbers['a']" in failed.error

    def test_a_key_of_another_type(self, system: System, start: Start) -> None:
        class Wrong(Component):
            numbers = Table(str, int)

            def run(self) -> None:
                with pytest.raises(CannotEncode):
                    self.numbers[7] = 1  # type: ignore[index]
                with pytest.raises(CannotEncode):
                    self.numbers.get(7)  # type: ignore[call-overload]
                with pytest.raises(
                    UsageError, match=r"numbers is a table: assign entries, self\.numbers\[key\] = value"
                ):
                    self.numbers = {}  # type: ignore[assignment]

        system.add(Wrong())
        run = start(system)
        run.wait_until_quiet()
        assert run.all(events.ComponentFailed) == []

    def test_what_cannot_be_kept_is_refused_by_check(self, system: System) -> None:
        class Wrong(Component):
            lists = Table(list[int], int)
            things = Table(str, object)
            todo = Inbox(Do)

            @todo.handler
            def add(self, do: Do) -> None: ...

        wire(system, Wrong(), replicas=2)
        with pytest.raises(TopologyError) as refusal:
            system.check()
        text = str(refusal.value)
        assert "table sums.lists of list[int] and int" in text
        assert "table sums.things of str and object" in text
        assert "has state (lists, things)" in text

    def test_what_was_not_added(self) -> None:
        with pytest.raises(UsageError, match=r"Sums\.sums: a Table has entries inside a running component"):
            Sums().sums  # noqa: B018
        with pytest.raises(UsageError, match="works inside a running component only"):
            Sums.sums["a"]

    def test_a_value_of_a_later_version(self, new_system: Callable[[], System], start: Start) -> None:
        class Once(Component):
            numbers = Table(str, int, version=2, migrations={1: int})

            def run(self) -> None:
                self.numbers["a"] = 1

        class Earlier(Component):
            numbers = Table(str, int)

            def run(self) -> None:
                self.numbers["a"] += 1

        system = new_system()
        system.add(Once(), name="c")
        run = start(system)
        run.wait_until_quiet()
        run.stop()
        later = new_system()
        later.add(Earlier(), name="c")
        told = start(later).wait_for(events.ComponentFailed)[0]
        assert "StoreTooNew" in told.traceback
        assert "c.numbers['a']" in told.error


CODECS = TableCodecs(key_codec_of(str), state_codec_of(list[int]))
KEYS = st.text(alphabet="ab/\0\U0010ffff", max_size=3)


class AgainstADict(RuleBasedStateMachine):
    """A live table over a real store, with units, commits that come late, and lives, against a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.open(self.folder)
        self.disk = TableReader(self.folder)
        self.pending: dict[str, bytes | None] = {}
        self.now: dict[str, list[int]] = {}
        self.whole: dict[str, list[int]] = {}
        self.table = self.new_life()

    def new_life(self) -> LiveTable:
        return LiveTable("t", "c", CODECS, self, self.disk)

    def unsaved(self, prefix: str) -> dict[str, bytes | None]:
        return dict(self.pending)

    def unsaved_row(self, prefix: str, key: str) -> tuple[bytes | None] | None:
        return (self.pending[key],) if key in self.pending else None

    @rule(key=KEYS, value=st.lists(st.integers(0, 9), max_size=2))
    def put(self, key: str, value: list[int]) -> None:
        self.table[key] = list(value)
        self.now[key] = list(value)

    @rule(key=KEYS)
    def change_in_place(self, key: str) -> None:
        if key in self.now:
            self.table[key].append(7)
            self.now[key].append(7)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert (self.table.pop(key, None)) == self.now.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert self.table.get(key) == self.now.get(key)

    @rule(first=st.none() | KEYS, last=st.none() | KEYS)
    def read_a_range(self, first: str | None, last: str | None) -> None:
        expected = [
            (key, self.now[key])
            for key in sorted(self.now)
            if (first is None or key >= first) and (last is None or key <= last)
        ]
        assert list(self.table.between(first, last)) == expected

    @rule()
    def end_unit(self) -> None:
        self.pending.update(self.table.changes())
        self.table.saved()
        self.whole = {key: list(value) for key, value in self.now.items()}

    @rule()
    def fail_unit(self) -> None:
        self.table.restore()
        self.now = {key: list(value) for key, value in self.whole.items()}

    @rule()
    def begin_a_new_life(self) -> None:
        self.table = self.new_life()
        self.now = {key: list(value) for key, value in self.whole.items()}

    @precondition(lambda self: self.pending)
    @rule()
    def commit(self) -> None:
        self.store.commit(
            [(self.table.prefix + key, body) for key, body in self.pending.items() if body is not None],
            [self.table.prefix + key for key, body in self.pending.items() if body is None],
        )
        self.pending.clear()

    @invariant()
    def has_as_many(self) -> None:
        assert len(self.table) == len(self.now)

    def teardown(self) -> None:
        import shutil

        self.disk.close()
        self.store.close()
        shutil.rmtree(self.folder)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


@pytest.fixture
def many(tmp_path: Path) -> int:
    """A store with a table of many entries."""
    count = 100_000
    store = Store.open(tmp_path / "state")
    keys, body = key_codec_of(int), state_codec_of(int).encode(7)
    for begin in range(0, count, 10_000):
        store.commit(
            [(rows.table_prefix("big", "entries") + keys.encode(n), body) for n in range(begin, begin + 10_000)], []
        )
    store.close()
    return count


class Big(Component):
    entries = Table(int, int)

    def run(self) -> None:
        self.entries[77_777] += 1


def test_many_entries_are_not_read_at_the_start(
    system: System, start: Start, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    one = TableReader.row

    def note(reader: TableReader, key: str) -> bytes | None:
        read.append(key)
        return one(reader, key)

    monkeypatch.setattr(TableReader, "row", note)
    monkeypatch.setattr(TableReader, "rows", None)
    monkeypatch.setattr(TableReader, "count", None)
    big = system.add(Big())
    run = start(system)
    run.wait_until_quiet()
    assert read == [rows.table_prefix("big", "entries") + key_codec_of(int).encode(77_777)]
    run.stop()
    monkeypatch.undo()
    assert big.entries[77_777] == 8
    assert len(big.entries) == many
    assert len(read_rows(system.folder, rows.TABLES)) == many

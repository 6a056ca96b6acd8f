"""The journal: units are whole or they never were, nobody sleeps through what it waits for, and no room is lost.

First as a plain object, one call after the other. Then in a simulation, in which senders, readers and the writer are
generators that a seeded scheduler steps through one call at a time, so that a wake-up that is missing is a deadlock that the
test sees. At last with real threads.
"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from minions.clock import Clock, Parkable, SystemClock
from minions.errors import (
    CommitTimeout,
    InboxFull,
    StaleComponent,
    StopRequested,
    StoreUnusable,
    UnitTooLarge,
    UsageError,
)
from minions.fence import Fence, Mode
from minions.flow import journal as journal_module
from minions.flow import rows
from minions.flow import unit as unit_module
from minions.flow.channel import Channel, Entry, Ticket
from minions.flow.codec import codec_of
from minions.flow.epoch import Sealed
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit

INT = codec_of(int)


class Bell:
    """Where a thread would sleep; says whether it was woken."""

    def __init__(self) -> None:
        self.rung = 0

    def park(self, timeout_s: float | None) -> None:
        raise AssertionError("nothing here waits")

    def unpark(self) -> None:
        self.rung += 1


class Time:
    """Time that stands still."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        raise AssertionError("nothing here waits")


class Life:
    """One life on the test's own thread."""

    def __init__(self, journal: Journal, name: str, *reads: Channel, epoch: int = 1) -> None:
        self.journal = journal
        self.name = name
        self.bell = Bell()
        self.fence = Fence(name, epoch)
        self.mailbox = Mailbox(reads, self.bell)
        journal.join(self.fence, self.bell)
        journal.attach(self.mailbox, self.fence)

    def unit(self, *sends: tuple[Channel, int], settles: list[Entry] | None = None, **states: bytes) -> Unit:
        unit = Unit(self.name)
        for channel, message in sends:
            unit.send((channel,), message, True, INT.encode(message) if channel.durable else None)
        unit.settles += settles or []
        unit.save(states)
        return unit

    def submit(self, unit: Unit) -> Ticket | None:
        return self.journal.submit(unit, self.fence, self.bell, self.mailbox if unit.settles else None)

    def put_rows(self, prefix: str, **bodies: bytes | None) -> None:
        unit = self.unit()
        for key, body in bodies.items():
            unit.put(prefix, key, body)
        assert self.submit(unit) is None

    def send(self, *sends: tuple[Channel, int], **states: bytes) -> Ticket | None:
        unit = self.unit(*sends)
        unit.save(states)
        return self.submit(unit)

    def take(self, **options: Any) -> list[Entry] | None:
        return self.journal.take(self.mailbox, self.fence, **options)

    def taken(self, **options: Any) -> list[Entry]:
        entries = self.take(**options)
        assert entries
        return entries

    def take_numbers(self, **options: Any) -> list[int]:
        return [entry[1] for entry in self.take(**options) or ()]

    def settle(self, *entries: Entry) -> None:
        assert self.submit(self.unit(settles=list(entries))) is None

    def waits(self, ticket: Ticket | None, deadline_s: float | None = None) -> bool:
        assert ticket is not None
        return self.journal.waits(ticket, self.fence, deadline_s)

    def end(self, **options: Any) -> None:
        self.journal.end_life(self.mailbox, self.fence, **options)

    def rang(self) -> bool:
        """Whether it was woken since this was asked last."""
        rung, self.bell.rung = self.bell.rung, 0
        return bool(rung)


class Rig:
    """A journal with channels of their own, and time that stands still."""

    def __init__(self) -> None:
        self.time = Time()
        self.journal = Journal(self.time, durable=True)
        self.writer = Bell()
        self.store: dict[str, bytes] = {}
        self.channels = 0

    def channel(self, name: str = "c.in", capacity: int = 2, *, durable: bool = True, **options: Any) -> Channel:
        channel = Channel(name, self.channels, capacity=capacity, codec=INT if durable else None, run_id="r", **options)
        self.channels += 1
        return channel

    def life(self, name: str, *reads: Channel, **options: Any) -> Life:
        return Life(self.journal, name, *reads, **options)

    def seal(self) -> Sealed:
        sealed = self.journal.seal(self.writer)
        assert sealed is not None
        return sealed

    def commit(self) -> None:
        self.journal.committed(self.seal())

    def later(self, seconds: float = 1.0) -> None:
        self.time.now_s += seconds


@pytest.fixture
def rig() -> Rig:
    return Rig()


class TestAMessageThatHadBeenSetAside:
    @staticmethod
    def unit(life: Life, channel: Channel) -> Unit:
        unit = life.unit((channel, 7))
        unit.put("dead/c.in/", "5", None)
        return unit

    def test_goes_to_the_end_of_its_inbox_with_its_id_in_one_step(self, rig: Rig) -> None:
        channel = rig.channel()
        outside, reader = rig.life("outside"), rig.life("r", channel)
        outside.send((channel, 1))
        assert rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell) is None
        sealed = rig.seal()
        assert sealed.units == 2
        assert sealed.keyed == {"dead/c.in/": {"5": None}}
        assert sealed.survivors("c.in") == [(1, b"1"), (2, b"7")]
        assert sealed.ids == {"c.in": {2: "its id"}}
        first, again = reader.taken()
        assert (channel.message_id(first[1]), channel.message_id(again[1])) == ("c.in-r-1", "its id")
        reader.settle(first, again)
        assert (channel.size, channel.ids) == (0, {})

    def test_needs_no_room_and_wakes_a_reader(self, rig: Rig) -> None:
        channel = rig.channel(capacity=1)
        outside, reader = rig.life("outside"), rig.life("r", channel)
        assert reader.take() == []
        outside.send((channel, 1))
        assert reader.rang()
        waiting = outside.send((channel, 2))
        assert outside.waits(waiting)
        reader.take_numbers()
        assert reader.take() == []
        assert rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell) is None
        assert reader.rang()
        assert (channel.size, channel.most) == (2, 2)
        reader.settle(reader.mailbox.in_hand[0])
        assert outside.waits(waiting), "there is no room yet"
        reader.settle(*reader.taken())
        assert not outside.waits(waiting)

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "fail"])
    def test_is_not_dropped_although_its_inbox_is_full(self, rig: Rig, overflow: Any) -> None:
        channel = rig.channel(capacity=1, overflow=overflow)
        outside, reader = rig.life("outside"), rig.life("r", channel)
        outside.send((channel, 1))
        assert rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell) is None
        assert channel.dropped == channel.refused == 0
        assert reader.take_numbers() + reader.take_numbers() == [1, 2]

    def test_that_is_dropped_later_takes_its_id_with_it(self, rig: Rig) -> None:
        channel = rig.channel(capacity=1, overflow="drop_oldest")
        outside = rig.life("outside")
        rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        outside.send((channel, 1))
        assert (channel.dropped, channel.ids) == (1, {})

    def test_keeps_its_id_while_it_is_given_back(self, rig: Rig) -> None:
        channel = rig.channel()
        outside, reader = rig.life("outside"), rig.life("r", channel)
        rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        rig.commit()
        [entry] = reader.taken()
        reader.end(failed=entry)
        assert channel.message_id(entry[1]) == "its id"
        assert rig.journal.attempts(entry) == 1

    def test_waits_for_the_disk_as_any_other(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_UNITS", 1)
        channel = rig.channel()
        outside = rig.life("outside")
        outside.send((channel, 1))
        unit = self.unit(outside, channel)
        ticket = rig.journal.redeliver(unit, "its id", outside.bell)
        assert outside.waits(ticket)
        assert (channel.size, channel.ids) == (1, {})
        rig.commit()
        assert not outside.waits(ticket)
        assert rig.journal.redeliver(unit, "its id", outside.bell) is None
        assert channel.ids == {2: "its id"}

    def test_stays_where_it_is_where_nothing_is_written_any_more(self, rig: Rig) -> None:
        channel = rig.channel()
        outside = rig.life("outside")
        rig.journal.fail(StoreUnusable("the disk is gone"))
        with pytest.raises(StoreUnusable):
            rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        rig.journal.close()
        with pytest.raises(UsageError, match="about to end"):
            rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        assert (channel.size, channel.ids) == (0, {})

    def test_is_seen_as_deleted_before_it_is_on_disk(self, rig: Rig) -> None:
        channel = rig.channel()
        outside = rig.life("outside")
        outside.put_rows("dead/c.in/", **{"5": b"letter", "6": b"other"})
        being_written = rig.seal()
        rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        outside.put_rows("dead/d.in/", **{"1": b"third"})
        outside.put_rows("deadly/", **{"1": b"no letter"})
        expected = {"dead/c.in/5": None, "dead/c.in/6": b"other", "dead/d.in/1": b"third"}
        assert rig.journal.unsaved_beginning("dead/") == expected
        rig.journal.committed(being_written)
        assert rig.journal.unsaved_beginning("dead/") == {"dead/c.in/5": None, "dead/d.in/1": b"third"}


class TestAUnit:
    def test_is_seen_whole(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in")
        sender = rig.life("s")
        assert sender.send((b, 1), (a, 2), (b, 3), state=b"7") is None
        assert [entry[2] for entry in b.queue] == [1, 3]
        assert [entry[2] for entry in a.queue] == [2]
        assert rig.journal.stored_states("s") == {"state": b"7"}
        assert (a.size, b.size) == (1, 2)
        sealed = rig.seal()
        assert sealed.units == 1
        assert sealed.sent == {"a.in": [(1, b"2")], "b.in": [(1, b"1"), (2, b"3")]}
        assert sealed.states == {"s": {"state": b"7"}}

    def test_is_not_seen_at_all_while_it_waits(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in", capacity=1)
        sender = rig.life("s")
        sender.send((b, 0))
        rig.commit()
        unit = sender.unit((a, 1), (b, 1), state=b"7")
        ticket = sender.submit(unit)
        assert sender.waits(ticket)
        assert not a.queue
        assert a.size == 1  # the room that it holds
        assert rig.journal.stored_states("s") == {}
        assert rig.journal.seal(rig.writer) is None

    def test_that_waits_goes_in_once_there_is_room_everywhere(self, rig: Rig) -> None:
        a, b = rig.channel("a.in", capacity=1), rig.channel("b.in", capacity=1)
        sender, reader = rig.life("s"), rig.life("r", a, b)
        sender.send((a, 0))
        sender.send((b, 0))
        unit = sender.unit((b, 1), (a, 1))
        first = sender.submit(unit)
        assert first is not None
        assert first.channel is a, "room is taken in the fixed order of the channels"
        in_a = reader.taken(only=a)[0]
        reader.settle(in_a)
        assert sender.rang()
        assert not sender.waits(first)
        second = sender.submit(unit)
        assert second is not None
        assert second.channel is b
        assert unit.granted == {a: 1}
        in_b = reader.taken(only=b)[0]
        reader.settle(in_b)
        assert not sender.waits(second)
        assert sender.submit(unit) is None
        assert unit.granted == {}
        assert (a.size, b.size) == (1, 1)
        assert reader.take_numbers(most=1) == reader.take_numbers(most=1) == [2]

    def test_settles_what_it_received_in_the_same_step(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in")
        sender, middle = rig.life("s"), rig.life("m", a)
        sender.send((a, 1))
        rig.commit()
        entry = middle.taken()[0]
        assert middle.submit(middle.unit((b, 10), settles=[entry], count=b"1")) is None
        assert not middle.mailbox.in_hand
        assert (a.size, a.settled, b.size) == (0, 1, 1)
        sealed = rig.seal()
        assert sealed.acks == {"a.in": (1, ()), "b.in": (0, ())}
        assert sealed.survivors("b.in") == [(1, b"10")]
        assert sealed.states == {"m": {"count": b"1"}}

    def test_that_was_sent_and_settled_between_two_commits_never_touches_the_disk(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1))
        reader.settle(*reader.taken())
        change = Ledger({"a.in": "int"}).change(rig.seal())
        assert [key for key, _ in change.puts] == [rows.ACKS + "a.in"]
        assert not change.deletes

    def test_without_anything_durable_is_no_business_of_the_writers(self, rig: Rig) -> None:
        a = rig.channel("a.in", durable=False)
        sender, reader = rig.life("s"), rig.life("r", a)
        assert rig.journal.seal(rig.writer) is None
        sender.send((a, 1))
        reader.settle(*reader.taken())
        assert rig.journal.seal(rig.writer) is None
        assert not rig.writer.rung

    def test_with_a_dead_letter_is_written(self, rig: Rig) -> None:
        sender = rig.life("s")
        unit = sender.unit()
        unit.put("dead/a.in/", "1", b"letter")
        assert sender.submit(unit) is None
        assert rig.seal().keyed == {"dead/a.in/": {"1": b"letter"}}

    def test_of_rows_is_to_be_seen_until_it_is_on_disk(self, rig: Rig) -> None:
        sender = rig.life("s")
        sender.put_rows("t/", one=b"1", two=b"2")
        being_written = rig.seal()
        sender.put_rows("t/", two=None, three=b"3")
        sender.put_rows("u/", one=b"other")
        assert rig.journal.unsaved("t/") == {"one": b"1", "two": None, "three": b"3"}
        assert rig.journal.unsaved_row("t/", "one") == (b"1",)
        assert rig.journal.unsaved_row("t/", "two") == (None,)
        assert rig.journal.unsaved_row("t/", "four") is None
        rig.journal.committed(being_written)
        assert rig.journal.unsaved("t/") == {"two": None, "three": b"3"}
        assert rig.journal.unsaved_row("t/", "one") is None
        assert rig.journal.unsaved("v/") == {}

    def test_larger_than_an_inbox_goes_in_alone_when_it_is_empty(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=2)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 0))
        unit = sender.unit(*((a, n) for n in range(5)))
        ticket = sender.submit(unit)
        rig.later()
        assert sender.waits(ticket)
        reader.settle(*reader.taken())
        assert not sender.waits(ticket)
        assert sender.submit(unit) is None
        assert a.size == 5
        assert sender.send((a, 9)) is not None

    def test_larger_than_is_ever_admitted_is_refused(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        a = rig.channel("a.in", capacity=2)
        monkeypatch.setattr(unit_module, "MOST_MESSAGES", 3)
        unit = rig.life("s").unit(*((a, n) for n in range(3)))
        with pytest.raises(UnitTooLarge, match=r"^s: one unit of work sends more than 3 messages"):
            unit.send((a,), 4, True, b"4")
        monkeypatch.setattr(unit_module, "MOST_BYTES", 10)
        with pytest.raises(UnitTooLarge):
            Unit("s").send((a,), 4, True, bytes(11))
        Unit("s").send((a,), 4, True, bytes(10))

    def test_that_is_empty_says_so(self) -> None:
        assert Unit("s").is_empty
        unit = Unit("s")
        unit.save({"state": b"1"})
        assert not unit.is_empty


class TestRoom:
    def test_that_was_held_is_home_when_a_unit_is_withdrawn(self, rig: Rig) -> None:
        a, b = rig.channel("a.in", capacity=1), rig.channel("b.in", capacity=1)
        first, second, third = rig.life("1"), rig.life("2"), rig.life("3")
        first.send((b, 0))
        unit = first.unit((a, 1), (b, 1))
        ticket = first.submit(unit)
        behind_in_b = second.submit(waiting_in_b := second.unit((b, 2)))
        behind_in_a = third.send((a, 3))
        rig.later()
        rig.journal.withdraw(unit, ticket)
        assert unit.granted == {}
        assert third.rang()
        assert not third.waits(behind_in_a)
        assert second.waits(behind_in_b)
        rig.journal.withdraw(waiting_in_b, behind_in_b)
        assert (a.size, b.size) == (1, 1)
        assert not b.line

    def test_goes_to_the_next_in_line_when_the_first_gives_up(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=3)
        filler, large, small = rig.life("f"), rig.life("l"), rig.life("s")
        filler.send((a, 0), (a, 1))
        unit = large.unit((a, 1), (a, 2))
        ticket = large.submit(unit)
        behind = small.send((a, 3))
        rig.later()
        assert small.waits(behind)
        rig.journal.withdraw(unit, ticket)
        assert small.rang()
        assert not small.waits(behind)

    def test_that_was_granted_meanwhile_is_given_back_too(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 0))
        unit = sender.unit((a, 1))
        ticket = sender.submit(unit)
        reader.settle(*reader.taken())
        rig.journal.withdraw(unit, ticket)
        assert a.size == 0

    def test_that_is_kept_back_is_found_by_who_asks_again(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1_000)
        sender, other, reader = rig.life("s"), rig.life("o"), rig.life("r", a)
        for n in range(1_000):
            sender.send((a, n))
        ticket, behind = sender.send((a, 1_000)), other.send((a, 1_001))
        assert ticket is not None
        entry = reader.taken()[0]
        reader.settle(entry)
        assert not sender.rang()
        assert sender.waits(ticket)
        rig.time.now_s = ticket.look_again_s(None) or 0.0
        assert not sender.waits(ticket)
        assert other.waits(behind)
        assert ticket.look_again_s(None) is None
        reader.settle(next(iter(reader.mailbox.in_hand)))
        assert other.rang()

    def test_that_is_free_at_the_deadline_is_used(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1_000)
        sender, other, reader = rig.life("s"), rig.life("o"), rig.life("r", a)
        for n in range(1_000):
            sender.send((a, n))
        ticket, behind = sender.send((a, 1_000)), other.send((a, 1_001))
        taken = reader.taken()
        reader.settle(taken[0], taken[1])
        assert sender.waits(ticket, rig.time.now_s + 0.0001)
        assert not sender.waits(ticket, rig.time.now_s)
        assert other.rang(), "whoever else got room is woken"
        assert not other.waits(behind)

    def test_that_does_not_come_in_time_is_an_error(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1)
        sender = rig.life("s")
        sender.send((a, 0))
        unit = sender.unit((a, 1))
        ticket = sender.submit(unit)
        assert sender.waits(ticket, rig.time.now_s + 1)
        rig.later(1)
        with pytest.raises(InboxFull, match=r"^s: inbox a\.in is full, .*nothing was sent"):
            sender.waits(ticket, rig.time.now_s)
        rig.journal.withdraw(unit, ticket)
        assert (a.size, len(a.line)) == (1, 0)

    def test_in_the_window_of_what_is_not_on_disk_is_waited_for(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_UNITS", 2)
        a = rig.channel("a.in", capacity=100)
        sender, other = rig.life("s"), rig.life("o")
        sender.send((a, 0))
        sealed = rig.seal()
        sender.send((a, 1))
        unit = sender.unit((a, 2))
        ticket, withdrawn = sender.submit(unit), other.submit(other.unit((a, 3)))
        assert ticket is not None
        assert ticket.channel is None
        assert ticket.look_again_s(None) is None
        rig.journal.withdraw(Unit("o"), withdrawn)
        rig.later()
        assert sender.waits(ticket, rig.time.now_s + 1)
        with pytest.raises(InboxFull, match="the disk keeps up with no more"):
            sender.waits(ticket, rig.time.now_s)
        rig.journal.committed(sealed)
        assert sender.rang()
        assert not other.rang()
        assert not sender.waits(ticket)
        assert sender.submit(unit) is None
        assert sender.send((a, 4)) is not None, "one unit was committed, one place was free"

    def test_in_the_window_counts_bytes_too(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_BYTES", 10)
        sender = rig.life("s")
        assert sender.send(state=bytes(9)) is None
        assert sender.send(state=bytes(9)) is None
        assert sender.send(state=b"") is not None
        rig.commit()
        assert sender.send(state=b"") is None

    def test_in_the_window_is_not_needed_where_nothing_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_UNITS", 0)
        journal = Journal(Time(), durable=False)
        channel = Channel("a.in", 0)
        assert Life(journal, "s").send((channel, 1)) is None


class TestOverflow:
    def test_that_fails_sends_nothing_of_the_unit(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in", capacity=1, overflow="fail")
        sender = rig.life("s")
        sender.send((b, 0))
        unit = sender.unit((a, 1), (b, 1))
        with pytest.raises(InboxFull, match=r"^s: inbox b\.in is full \(1 of 1\) and was declared"):
            sender.submit(unit)
        assert (a.size, len(a.queue), unit.granted) == (0, 0, {})

    def test_that_drops_the_oldest_does_not_redeliver_it_after_a_crash(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=2, overflow="drop_oldest")
        sender, ledger = rig.life("s"), Ledger({"a.in": "int"})
        for n in (1, 2):
            sender.send((a, n))
        store = Rows()
        store.apply(ledger, rig.seal())
        for n in (3, 4, 5):
            sender.send((a, n))
        store.apply(ledger, rig.seal())
        (left,) = Ledger({"a.in": "int"}).recover(store).channels.values()
        assert left.waiting == [(4, b"4"), (5, b"5")]
        assert left.next_sequence == 6
        assert [entry[1] for entry in a.queue] == [4, 5]
        assert (a.size, a.dropped) == (2, 3)

    def test_that_drops_the_newest_keeps_what_is_there(self, rig: Rig) -> None:
        a, b = rig.channel("a.in", capacity=1, overflow="drop_newest"), rig.channel("b.in")
        sender = rig.life("s")
        assert sender.send((a, 1), (b, 1)) is None
        assert sender.send((a, 2), (b, 2)) is None
        assert [entry[2] for entry in a.queue] == [1]
        assert [entry[2] for entry in b.queue] == [1, 2]
        assert rig.seal().sent["a.in"] == [(1, b"1")]

    def test_never_makes_a_sender_wait(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=2, overflow="drop_oldest")
        sender = rig.life("s")
        for n in range(10):
            assert sender.send((a, n), (a, n + 100), (a, n + 200)) is None
            assert a.size <= 3
        assert a.size == len(a.queue)


class Rows(dict[str, bytes]):
    """A store in memory."""

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return iter([(key, self[key]) for key in sorted(self) if key.startswith(prefix)])

    def apply(self, ledger: Ledger, sealed: Sealed) -> None:
        change = ledger.change(sealed)
        for key in change.deletes:
            del self[key]
        self.update(change.puts)
        ledger.confirm(change)


class TestReading:
    def test_takes_what_waits_or_sleeps_until_something_does(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=5)
        sender, reader = rig.life("s"), rig.life("r", a)
        assert reader.take() == []
        asleep = [reader.mailbox.asleep]
        sender.send((a, 1), (a, 2))
        assert reader.rang()
        assert [*asleep, reader.mailbox.asleep] == [True, False]
        assert reader.take_numbers() == [1, 2]

    def test_is_not_asleep_when_it_found_something_by_itself(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=5)
        sender, first, second, third = rig.life("s"), *(rig.life(f"r#{n}", a) for n in range(3))
        assert first.take() == second.take() == third.take() == []
        sender.send((a, 1))
        assert first.rang()
        assert second.take_numbers() == [1], "woken by an old permit, it looked before the first did"
        assert first.take() == []
        sender.send((a, 2))
        assert first.rang()
        sender.send((a, 3))
        assert third.rang(), "the second is at work"
        assert not second.rang()

    def test_of_one_inbox_is_not_woken_by_another(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in")
        sender, one, other = rig.life("s"), rig.life("r#0", a, b), rig.life("r#1", a, b)
        assert one.take(only=a) == other.take(only=b) == []
        sender.send((b, 1))
        assert not one.rang()
        assert other.rang()
        assert other.take(only=b)
        assert one.take() == []
        sender.send((b, 2))
        assert one.rang(), "now it waits for all of its inboxes"

    def test_ends_when_it_was_asked_to_and_nothing_waits(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, reader = rig.life("s"), rig.life("r", a)
        assert reader.take() == []
        rig.journal.advance(reader.fence, Mode.STOPPING)
        assert reader.rang()
        sender.send((a, 1))
        assert reader.take_numbers() == [1]
        assert reader.take() is None
        assert not reader.mailbox.asleep
        sender.send((a, 2))
        rig.journal.advance(reader.fence, Mode.ENDING)
        assert reader.take() is None

    def test_passes_a_wake_up_on_when_it_stays_awake(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, one, other = rig.life("s"), rig.life("r#0", a), rig.life("r#1", a)
        assert one.take() == other.take() == []
        sender.send((a, 1))
        assert one.rang()
        rig.journal.stay_awake(one.mailbox)
        assert other.rang()
        assert not one.mailbox.asleep

    def test_announces_that_it_found_nothing_outside_the_lock(self, rig: Rig) -> None:
        reader = rig.life("r", rig.channel("a.in"))
        announced: list[bool] = []
        rig.journal.on_idle = lambda: announced.append(rig.journal.lock.locked())
        reader.take()
        rig.journal.watch_idle(True)
        assert announced == []
        reader.take()
        assert announced == [False]
        rig.journal.watch_idle(False)
        reader.take()
        assert announced == [False]

    def test_is_quiet_when_nothing_waits_or_is_in_work_and_all_are_idle(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, reader = rig.life("s"), rig.life("r", a)

        def quiet() -> bool:
            return rig.journal.quiet([a], [reader.mailbox])

        assert not quiet()
        reader.take()
        assert quiet()
        sender.send((a, 1))
        assert not quiet()
        entries = reader.taken()
        assert not quiet()
        reader.settle(*entries)
        assert not quiet()
        reader.take()
        assert quiet()

    def test_is_quiet_also_while_it_sleeps_on_what_it_has_in_hand(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1))
        assert reader.take_numbers() == [1]
        assert not rig.journal.quiet([a], [reader.mailbox])
        assert reader.take() == []
        assert rig.journal.quiet([a], [reader.mailbox])
        sender.send((a, 2))
        assert not rig.journal.quiet([a], [reader.mailbox])

    def test_is_not_quiet_while_it_works_on_what_it_found_by_itself(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, other, reader = rig.life("s"), rig.life("r#0", a), rig.life("r#1", a)
        assert other.take() == reader.take() == []
        sender.send((a, 1))
        reader.settle(*reader.taken())
        other.take()
        assert not rig.journal.quiet([a], [other.mailbox, reader.mailbox])

    def test_puts_down_what_it_has_in_hand(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=5)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1), (a, 2), (a, 3))
        reader.take()
        rig.journal.put_down(reader.mailbox, reader.fence)
        assert not reader.mailbox.in_hand
        assert reader.take_numbers() == [1, 2, 3]
        assert a.size == 3

    def test_settles_without_effect_what_is_not_durable(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=3, durable=False)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1), (a, 2), (a, 3))
        ticket = sender.send((a, 4))
        reader.take()
        rig.later()
        rig.journal.settle_effectless(reader.mailbox, reader.fence, 2)
        assert [entry[1] for entry in reader.mailbox.in_hand] == [3]
        assert sender.rang()
        assert not sender.waits(ticket)
        assert (a.size, a.settled) == (2, 2)
        reader.end()
        with pytest.raises(StaleComponent):
            rig.journal.settle_effectless(reader.mailbox, reader.fence, 1)
        assert (a.size, a.settled) == (2, 2)


class TestTheEndOfALife:
    @pytest.mark.parametrize(
        "door",
        [
            lambda life, a: life.send((a, 1)),
            lambda life, a: life.send(state=b"1"),
            lambda life, a: life.take(),
            lambda life, a: life.waits(Ticket(life.bell, 0.0)),
            lambda life, a: life.journal.waits_for_commit(Ticket(life.bell, 0.0), life.fence, None),
            lambda life, a: life.journal.put_down(life.mailbox, life.fence),
            lambda life, a: life.journal.attach(life.mailbox, life.fence),
        ],
    )
    def test_closes_every_door(self, rig: Rig, door: Callable[[Life, Channel], object]) -> None:
        a = rig.channel("a.in")
        life = rig.life("r", a, epoch=3)
        door(rig.life("another"), a)
        before = a.size, len(a.queue), rig.journal.stored_states("r")
        life.end()
        with pytest.raises(StaleComponent, match="r, life 3: this life is over"):
            door(life, a)
        assert (a.size, len(a.queue), rig.journal.stored_states("r")) == before

    def test_gives_back_what_was_in_hand_in_order_to_the_next(self, rig: Rig) -> None:
        a, b = rig.channel("a.in", capacity=9), rig.channel("b.in", capacity=9)
        sender, reader = rig.life("s"), rig.life("r", a, b)
        for n in range(4):
            sender.send((a, n), (b, n))
        taken = reader.taken(most=3)
        reader.take(most=2)
        reader.settle(taken[0])
        reader.end()
        assert reader.mailbox not in a.readers
        assert reader.mailbox not in b.readers
        again = rig.life("r", a, b, epoch=2)
        assert again.take_numbers(only=a) == [2, 3, 4]
        assert again.take_numbers(only=b) == [1, 2, 3, 4]
        assert (a.size, b.size) == (3, 4)

    def test_leaves_a_unit_that_comes_too_late_without_any_effect(self, rig: Rig) -> None:
        a, b = rig.channel("a.in"), rig.channel("b.in")
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1))
        unit = reader.unit((b, 1), settles=reader.take(), state=b"1")
        reader.end()
        with pytest.raises(StaleComponent):
            reader.submit(unit)
        assert (a.size, a.settled, b.size, len(b.queue)) == (1, 0, 0, 0)
        assert rig.life("r", a).take_numbers() == [1]

    def test_brings_the_room_home_that_a_waiting_unit_held(self, rig: Rig) -> None:
        a, b = rig.channel("a.in", capacity=1), rig.channel("b.in", capacity=1)
        sender, other = rig.life("s"), rig.life("o")
        other.send((b, 0))
        unit = sender.unit((a, 1), (b, 1))
        ticket = sender.submit(unit)
        sender.end()
        assert sender.rang(), "it sleeps in line and has to be told"
        with pytest.raises(StaleComponent):
            sender.waits(ticket)
        rig.journal.withdraw(unit, ticket)
        assert (a.size, b.size, len(b.line)) == (0, 1, 0)

    def test_brings_the_room_home_of_a_unit_that_was_granted_all_it_needs(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 0))
        unit = sender.unit((a, 1))
        sender.submit(unit)
        reader.settle(*reader.taken())
        sender.end()
        with pytest.raises(StaleComponent):
            sender.submit(unit)
        assert a.size == 0

    def test_passes_its_wake_up_on(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        sender, one, other = rig.life("s"), rig.life("r#0", a), rig.life("r#1", a)
        assert one.take() == other.take() == []
        sender.send((a, 1))
        assert one.rang()
        one.end()
        assert other.rang()
        assert other.take_numbers() == [1]

    def test_wakes_others_for_what_it_gives_back(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=9)
        sender, one = rig.life("s"), rig.life("r#0", a)
        sender.send((a, 1), (a, 2), (a, 3))
        one.take()
        others = [rig.life(f"r#{n}", a) for n in (1, 2)]
        assert [other.take() for other in others] == [[], []]
        one.end()
        assert [other.rang() for other in others] == [True, True]

    def test_counts_the_attempt_that_failed(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        rig.life("s").send((a, 1))
        for number in (1, 2):
            reader = rig.life("r", a, epoch=number)
            entry = reader.taken()[0]
            assert rig.journal.attempts(entry) == number - 1
            reader.end(failed=entry)
            assert rig.journal.attempts(entry) == number

    def test_keeps_what_failed_from_the_other_replicas_until_the_next_life_begins(self, rig: Rig) -> None:
        a = rig.channel("a.in", shared=True)
        one, other = rig.life("r#0", a), rig.life("r#1", a)
        rig.life("s").send((a, 1), (a, 2))
        one.end(failed=one.taken()[0])
        assert other.take_numbers() == [2]
        assert other.take() == []
        assert a.size == 2
        rig.life("r#0", a, epoch=2)
        assert other.rang()
        assert other.take_numbers() == [1]

    def test_happens_once(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        rig.life("s").send((a, 1))
        reader = rig.life("r", a)
        entry = reader.taken()[0]
        reader.end(failed=entry)
        reader.end(failed=entry)
        assert rig.journal.attempts(entry) == 1
        assert a.size == len(a.queue) == 1

    def test_may_come_before_its_begin(self, rig: Rig) -> None:
        a = rig.channel("a.in")
        fence = Fence("r", 1)
        rig.journal.end_life(Mailbox((a,), Bell()), fence)
        assert fence.mode is Mode.CUT

    def test_a_sender_that_was_asked_twice_waits_no_more(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1)
        sender = rig.life("s")
        sender.send((a, 0))
        ticket = sender.send((a, 1))
        rig.journal.advance(sender.fence, Mode.STOPPING)
        assert sender.waits(ticket)
        rig.journal.advance(sender.fence, Mode.ENDING)
        assert sender.rang()
        with pytest.raises(StopRequested):
            sender.waits(ticket)

    def test_every_thread_that_sleeps_for_it_is_woken(self, rig: Rig) -> None:
        life, helper, left = rig.life("r"), Bell(), Bell()
        rig.journal.join(life.fence, helper)
        rig.journal.join(life.fence, left)
        rig.journal.leave(life.fence, left)
        rig.journal.advance(life.fence, Mode.STOPPING)
        life.end()
        assert (life.bell.rung, helper.rung, left.rung) == (2, 2, 0)

    def test_a_mode_only_moves_forward(self, rig: Rig) -> None:
        life = rig.life("r")
        rig.journal.advance(life.fence, Mode.ENDING)
        rig.journal.advance(life.fence, Mode.STOPPING)
        assert life.fence.mode is Mode.ENDING


class TestCommitting:
    def test_is_waited_for_until_everything_so_far_is_on_disk(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=9)
        sender, waiter = rig.life("s"), rig.life("w")
        sender.send((a, 1))
        first = rig.seal()
        sender.send((a, 2))
        ticket = rig.journal.commit_ticket(waiter.bell)
        assert ticket is not None
        rig.journal.committed(first)
        assert not waiter.rang()
        assert rig.journal.waits_for_commit(ticket, waiter.fence, None)
        rig.commit()
        assert waiter.rang()
        assert not rig.journal.waits_for_commit(ticket, waiter.fence, None)

    def test_waits_for_the_epoch_that_is_being_written(self, rig: Rig) -> None:
        sender, waiter = rig.life("s"), rig.life("w")
        sender.send(state=b"1")
        sealed = rig.seal()
        ticket = rig.journal.commit_ticket(waiter.bell)
        assert ticket is not None
        rig.journal.committed(sealed)
        assert not rig.journal.waits_for_commit(ticket, waiter.fence, None)

    def test_waits_for_nothing_where_nothing_is_new(self, rig: Rig) -> None:
        waiter = rig.life("w")
        assert rig.journal.commit_ticket(waiter.bell) is None
        waiter.send(state=b"1")
        rig.commit()
        assert rig.journal.commit_ticket(waiter.bell) is None

    def test_is_given_up_at_the_deadline(self, rig: Rig) -> None:
        waiter = rig.life("w")
        waiter.send(state=b"1")
        ticket = rig.journal.commit_ticket(waiter.bell)
        assert ticket is not None
        assert rig.journal.waits_for_commit(ticket, waiter.fence, rig.time.now_s + 1)
        with pytest.raises(CommitTimeout, match=r"^w: not everything was on disk within the timeout"):
            rig.journal.waits_for_commit(ticket, waiter.fence, rig.time.now_s)
        rig.commit()
        assert not waiter.rang()

    def test_the_writer_is_woken_by_the_first_unit_after_it_found_nothing(self, rig: Rig) -> None:
        sender = rig.life("s")
        sender.send(state=b"1")
        woken = [rig.writer.rung]
        rig.seal()
        assert rig.journal.seal(rig.writer) is None
        for value in (b"2", b"3"):
            sender.send(state=value)
            woken.append(rig.writer.rung)
        assert woken == [0, 1, 1]
        assert rig.seal().states == {"s": {"state": b"3"}}

    def test_is_finished_when_it_was_closed_and_the_last_unit_was_given_to_the_writer(self, rig: Rig) -> None:
        sender = rig.life("s")
        assert rig.journal.seal(rig.writer) is None
        sender.send(state=b"1")
        assert not rig.journal.finished
        rig.journal.close()
        assert rig.writer.rung == 2
        assert not rig.journal.finished, "a unit came between seal() and close()"
        rig.seal()
        assert rig.journal.finished

    def test_that_fails_for_good_wakes_everybody_and_is_told_to_everybody(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_UNITS", 1)
        sender, waiter, late = rig.life("s"), rig.life("w"), rig.life("l")
        sender.send(state=b"1")
        in_window = sender.send(state=b"2")
        for_commit = rig.journal.commit_ticket(waiter.bell)
        assert for_commit is not None
        failure = StoreUnusable("the disk is full")
        rig.journal.fail(failure)
        assert sender.rang()
        assert waiter.rang()
        for ask in (
            lambda: sender.waits(in_window),
            lambda: rig.journal.waits_for_commit(for_commit, waiter.fence, None),
            lambda: late.send(state=b"3"),
            lambda: rig.journal.commit_ticket(late.bell),
        ):
            with pytest.raises(StoreUnusable) as raised:
                ask()
            assert raised.value is failure


class TestWhatIsDoneAfterACommit:
    def test_wakes_its_component_at_each_commit_and_keeps_it_from_being_quiet(self, rig: Rig) -> None:
        sender, owing = rig.life("s"), rig.life("a")
        sender.send(state=b"0")
        rig.journal.owe(owing.fence, owing.bell)
        assert rig.journal.quiet([], [], ["b"])
        for state in (b"1", b"2"):
            sender.send(state=state)
            assert not rig.journal.quiet([], [], ["a", "b"])
            assert not owing.rang()
            rig.commit()
            assert owing.rang()
        rig.journal.pay(owing.fence)
        assert rig.journal.quiet([], [], ["a", "b"])
        sender.send(state=b"3")
        rig.commit()
        assert not owing.rang()

    def test_is_announced_when_it_is_done_where_that_is_asked_for(self, rig: Rig) -> None:
        owing, told = rig.life("a"), Counter[str]()
        rig.journal.on_idle = lambda: told.update(["idle"])
        rig.journal.owe(owing.fence, owing.bell)
        rig.journal.pay(owing.fence)
        assert told.total() == 0
        rig.journal.watch_idle(True)
        rig.journal.pay(owing.fence)
        assert told.total() == 0, "it had nothing to do"
        rig.journal.owe(owing.fence, owing.bell)
        rig.journal.pay(owing.fence)
        assert told.total() == 1

    def test_is_owed_by_a_life_that_has_failed_until_there_is_another(self, rig: Rig) -> None:
        first = rig.life("a")
        rig.journal.owe(first.fence, first.bell)
        rig.journal.end_life(first.mailbox, first.fence)
        with pytest.raises(StaleComponent):
            rig.journal.owe(first.fence, first.bell)
        rig.journal.pay(first.fence)
        assert not rig.journal.quiet([], [], ["a"]), "the supervisor has not heard of it"
        second = rig.life("a", epoch=2)
        assert rig.journal.quiet([], [], ["a"])
        rig.journal.owe(second.fence, second.bell)
        rig.journal.pay(first.fence)
        assert not rig.journal.quiet([], [], ["a"]), "one life cannot pay for another"

    def test_may_be_owed_before_a_life_reads_its_inboxes(self, rig: Rig) -> None:
        life = rig.life("a")
        rig.journal.owe(life.fence, life.bell)
        rig.journal.attach(life.mailbox, life.fence)
        assert not rig.journal.quiet([], [], ["a"])

    def test_follows_the_epoch_with_which_everything_so_far_is_on_disk(self, rig: Rig) -> None:
        sender, journal = rig.life("s"), rig.journal
        assert (journal.last_epoch(), journal.durable_epoch) == (0, 0)
        sender.send(state=b"1")
        assert (journal.last_epoch(), journal.durable_epoch) == (1, 0)
        sealed = rig.seal()
        assert (journal.last_epoch(), journal.durable_epoch) == (1, 0)
        sender.send(state=b"2")
        assert (journal.last_epoch(), journal.durable_epoch) == (2, 0)
        journal.committed(sealed)
        assert (journal.last_epoch(), journal.durable_epoch) == (2, 1)
        rig.commit()
        assert (journal.last_epoch(), journal.durable_epoch) == (2, 2)


# ------------------------------------------------------------------ the simulation
@attrs.frozen
class Sleep:
    """Until its bell rings, or some moment."""

    bell: Bell
    until_s: float | None


Steps = Iterator[Sleep | None]


class Simulation:
    """Sources send numbered messages to workers, who handle each and send one on to a collector.

    Every source keeps how far it is, every worker and the collector what they have handled, as state in the same unit. So
    for every store, at every moment, each message that a source has counted is in exactly one place.
    """

    SOURCES = 3
    WORKERS = 2
    MESSAGES = 12

    def __init__(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.chance = random.Random(seed)
        monkeypatch.setattr(journal_module, "_MOST_UNSAVED_UNITS", self.chance.choice([1, 3, 1_000]))
        self.time = Time()
        self.journal = Journal(self.time, durable=True)
        self.work = [
            Channel(f"work.{n}", n, capacity=self.chance.randint(1, 4), codec=INT, shared=True) for n in range(2)
        ]
        self.done = Channel("done.in", 2, capacity=self.chance.randint(1, 70), codec=INT)
        self.channels = [*self.work, self.done]
        self.ledger = Ledger(dict.fromkeys([channel.name for channel in self.channels], "int"))
        self.store = Rows()
        self.agents: dict[str, Steps] = {}
        self.sleeping: dict[str, Sleep] = {}
        self.lives: dict[str, Life] = {}
        self.epochs: Counter[str] = Counter()
        self.stale = 0
        self.collected: list[int] = []
        self.units_in_line: dict[int, Unit] = {}
        self.cuts_left = 6
        for n in range(self.SOURCES):
            self.begin(f"source{n}")
        for n in range(self.WORKERS):
            self.begin(f"worker{n}")
        self.begin("collector")
        self.agents["writer"] = self.write(Bell())

    # -------------------------------------------------------------- agents
    def begin(self, name: str) -> None:
        self.epochs[name] += 1
        kind = name.rstrip("0123456789")
        reads = {"source": (), "worker": tuple(self.work), "collector": (self.done,)}[kind]
        life = Life(self.journal, name, *reads, epoch=self.epochs[name])
        self.lives[name] = life
        self.agents[f"{name}/{life.fence.epoch}"] = getattr(self, kind)(life)

    def kept(self, name: str) -> list[int]:
        return [*self.journal.stored_states(name).get("kept", b"")]

    def submit(self, life: Life, unit: Unit, *, impatient: bool = False) -> Iterator[Sleep | None]:
        self.units_in_line[id(unit)] = unit
        try:
            ticket = life.submit(unit)
            while ticket is not None:
                try:
                    while life.waits(ticket):
                        yield Sleep(life.bell, ticket.look_again_s(None))
                        if impatient and self.chance.random() < 0.3:
                            raise InboxFull
                except BaseException:
                    self.journal.withdraw(unit, ticket)
                    raise
                yield None
                ticket = life.submit(unit)
        finally:
            del self.units_in_line[id(unit)]

    def source(self, life: Life) -> Steps:
        number = int(life.name[-1])
        while len(sent := self.kept(life.name)) < self.MESSAGES:
            yield None
            count = self.chance.randint(1, min(3, self.MESSAGES - len(sent)))
            fresh = [number * 50 + len(sent) + more for more in range(count)]
            sends = [(self.work[message % 2], message) for message in fresh]
            unit = life.unit(*sends, kept=bytes(sent + fresh))
            try:
                yield from self.submit(life, unit, impatient=True)
            except InboxFull:
                continue

    def worker(self, life: Life) -> Steps:
        while True:
            only = self.chance.choice([None, None, *self.work])
            entries = life.take(only=only, most=self.chance.randint(1, 3))
            assert entries is not None
            if not entries:
                if only is not None and self.chance.random() < 0.5:
                    self.journal.stay_awake(life.mailbox)
                    yield None
                    continue
                if only is not None:
                    yield Sleep(life.bell, self.time.now_s + self.chance.choice([0.0, 0.002]))
                    self.journal.stay_awake(life.mailbox)
                else:
                    yield Sleep(life.bell, None)
                continue
            yield None
            if self.chance.random() < 0.1:
                self.journal.put_down(life.mailbox, life.fence)
                continue
            for entry in entries:
                message = entry[2] if isinstance(entry[2], int) else INT.decode(entry[3] or b"")
                seen = bytes([*self.kept(life.name), message])
                yield from self.submit(life, life.unit((self.done, message), settles=[entry], kept=seen))
                yield None

    def collector(self, life: Life) -> Steps:
        while True:
            entries = life.take()
            assert entries is not None
            if not entries:
                yield Sleep(life.bell, None)
            for entry in entries:
                yield None
                message = entry[2] if isinstance(entry[2], int) else INT.decode(entry[3] or b"")
                kept = bytes([*self.kept(life.name), message])
                yield from self.submit(life, life.unit(settles=[entry], kept=kept))

    def write(self, bell: Bell) -> Steps:
        while True:
            sealed = self.journal.seal(bell)
            if sealed is None:
                yield Sleep(bell, None)
                continue
            yield None
            self.store.apply(self.ledger, sealed)
            self.check_store()
            yield None
            self.journal.committed(sealed)
            yield None

    # -------------------------------------------------------------- what must hold
    def check_store(self) -> None:
        """Whatever the moment of the crash, each message is counted by its source and is in exactly one place."""
        recovered = Ledger(dict.fromkeys([channel.name for channel in self.channels], "int")).recover(self.store)
        kept = {name: [*states["kept"]] for name, states in recovered.states.items()}
        sent = Counter(message for name, messages in kept.items() if "source" in name for message in messages)
        handled = Counter(message for name, messages in kept.items() if "worker" in name for message in messages)
        waiting = {
            channel.name: Counter(int(stored) for _, stored in recovered.channels[channel.name].waiting)
            for channel in self.channels
            if channel.name in recovered.channels
        }
        to_do = sum((waiting.get(channel.name, Counter()) for channel in self.work), Counter[int]())
        assert sent == handled + to_do
        assert handled == Counter(kept.get("collector", [])) + waiting.get("done.in", Counter())

    def check_room(self) -> None:
        in_hand = Counter(entry[0].name for life in self.lives.values() for entry in life.mailbox.in_hand)
        held = Counter[str]()
        for unit in self.units_in_line.values():
            for channel, count in unit.granted.items():
                held[channel.name] += count
        for channel in self.channels:
            assert channel.size == len(channel.queue) + in_hand[channel.name] + held[channel.name]
            assert channel.size <= channel.capacity or channel.capacity < 3, (
                "only a unit larger than the inbox may be more"
            )
            assert channel.size <= max(3, channel.capacity)

    # -------------------------------------------------------------- the scheduler
    def run(self) -> None:
        for _ in range(50_000):
            self.time.now_s += self.chance.choice([0.0, 0.0, 0.0002])
            if self.cuts_left and self.chance.random() < 0.01:
                self.cuts_left -= 1
                self.cut(self.chance.choice(list(self.lives)))
            ready = [name for name in self.agents if self.is_ready(name)]
            if not ready:
                moments = [s.until_s for s in self.sleeping.values() if s.until_s is not None]
                if not moments:
                    break
                self.time.now_s = max(self.time.now_s, *moments) if len(moments) > 1 else moments[0]
                continue
            self.step(self.chance.choice(ready))
            self.check_room()
        assert [len(self.kept(f"source{n}")) for n in range(self.SOURCES)] == [self.MESSAGES] * self.SOURCES, "asleep"
        assert [channel.size for channel in self.channels] == [0, 0, 0], "asleep"
        assert not any(channel.line for channel in self.channels)
        assert Counter(self.kept("collector")) == Counter(
            number * 50 + n for number in range(self.SOURCES) for n in range(self.MESSAGES)
        )
        for n in range(self.WORKERS):
            handled = self.kept(f"worker{n}")
            assert [message for message in self.kept("collector") if message in handled] == handled, "out of order"
        assert all(channel.acks.frozen() == (channel.next_sequence - 1, ()) for channel in self.channels)
        assert set(self.agents) == {"writer", *(f"{n}/{self.epochs[n]}" for n in self.lives if "source" not in n)}
        assert self.store, "the writer never came"

    def is_ready(self, name: str) -> bool:
        sleep = self.sleeping.get(name)
        if sleep is None or sleep.bell.rung:
            return True
        return sleep.until_s is not None and self.time.now_s >= sleep.until_s

    def step(self, name: str) -> None:
        sleep = self.sleeping.pop(name, None)
        if sleep is not None:
            sleep.bell.rung = 0
        try:
            waits = next(self.agents[name])
        except (StopIteration, StaleComponent) as error:
            self.stale += isinstance(error, StaleComponent)
            del self.agents[name]
            return
        if waits is not None:
            self.sleeping[name] = waits

    def cut(self, name: str) -> None:
        life = self.lives[name]
        life.end(failed=next(iter(life.mailbox.in_hand), None))
        self.begin(name)


@pytest.mark.parametrize("block", range(10))
def test_whatever_the_order_of_the_steps_nothing_is_lost_doubled_or_slept_through(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = 0
    for seed in range(block * 20, block * 20 + 20):
        simulation = Simulation(seed, monkeypatch)
        simulation.run()
        stale += simulation.stale
    assert stale > 20, "hardly a life was cut"


# ------------------------------------------------------------------ with real threads
@contextmanager
def contention() -> Iterator[None]:
    """A thread that never gives the interpreter up by itself, and hand-overs at almost every instruction."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            pass

    before, busy = sys.getswitchinterval(), threading.Thread(target=burn, daemon=True)
    sys.setswitchinterval(1e-6)
    busy.start()
    try:
        yield
    finally:
        over.set()
        sys.setswitchinterval(before)
        busy.join(10)


class Crowd:
    """Senders and readers on threads of their own over one journal; readers are cut and replaced while they work."""

    SENDERS = 4
    MESSAGES = 300

    def __init__(self, seed: int, capacity: int, *, replicas: int) -> None:
        self.chance = random.Random(seed)
        self.clock: Clock = SystemClock()
        self.journal = Journal(self.clock, durable=True)
        self.channels = [Channel(f"{n}.in", n, capacity=capacity, codec=INT, shared=replicas > 1) for n in range(2)]
        self.replicas = replicas
        self.handled: list[tuple[str, int, int]] = []  # channel, sequence, message; append is atomic
        self.errors: list[BaseException] = []
        self.done = threading.Semaphore(0)  # released for each message that was handled
        self.threads: list[threading.Thread] = []
        self.readers: dict[str, tuple[Mailbox, Fence]] = {}
        self.epoch = 0

    def start(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                work(*arguments)
            except StaleComponent:
                return
            except BaseException as error:  # noqa: BLE001 - told by the test
                self.errors.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def submit(
        self, unit: Unit, fence: Fence, parker: Parker, mailbox: Mailbox | None, timeout_s: float | None
    ) -> None:
        deadline_s = None if timeout_s is None else self.clock.monotonic() + timeout_s
        ticket = self.journal.submit(unit, fence, parker, mailbox)
        while ticket is not None:
            try:
                while self.journal.waits(ticket, fence, deadline_s):
                    self.clock.wait(parker, ticket.look_again_s(deadline_s))
            except BaseException:
                self.journal.withdraw(unit, ticket)
                raise
            ticket = self.journal.submit(unit, fence, parker, mailbox)

    def send(self, number: int) -> None:
        chance, fence, parker = random.Random(number), Fence(f"sender{number}", 1), Parker()
        self.journal.join(fence, parker)
        sent = 0
        while sent < self.MESSAGES:
            unit = Unit(f"sender{number}")
            for message in range(sent, min(self.MESSAGES, sent + chance.choice([1, 1, 2]))):
                channel = self.channels[message % 2]
                unit.send((channel,), number * 1_000 + message, True, b"%d" % (number * 1_000 + message))
            try:
                self.submit(unit, fence, parker, None, chance.choice([None, 0.0, 0.0005]))
            except InboxFull:
                continue
            sent += len(unit.sends)

    def begin_reader(self, name: str) -> None:
        self.epoch += 1
        parker, fence = Parker(), Fence(name, self.epoch)
        reads = tuple(self.channels) if self.replicas > 1 else (self.channels[int(name)],)
        mailbox = Mailbox(reads, parker)
        self.journal.join(fence, parker)
        self.journal.attach(mailbox, fence)
        self.readers[name] = mailbox, fence
        self.start(self.read, name, mailbox, fence, parker)

    def read(self, name: str, mailbox: Mailbox, fence: Fence, parker: Parker) -> None:
        chance = random.Random(fence.epoch)
        while (entries := self.journal.take(mailbox, fence, most=chance.choice([1, 8]))) is not None:
            if not entries:
                self.clock.wait(parker, None)
            for entry in entries:
                channel, sequence, _, stored, _ = entry
                last = int(self.journal.stored_states(name).get(channel.name, b"0"))
                unit = Unit(name)
                unit.settles.append(entry)
                unit.save({channel.name: b"%d" % sequence})
                self.submit(unit, fence, parker, mailbox, None)
                # Only now: a life that was cut may read what its successor has handled, and learns of it when it submits.
                assert self.replicas > 1 or sequence > last, "out of order"
                self.handled.append((channel.name, sequence, int(stored or b"")))
                self.done.release()

    def write(self) -> None:
        parker = Parker()
        while True:
            sealed = self.journal.seal(parker)
            if sealed is not None:
                self.journal.committed(sealed)
            elif self.journal.finished:
                return
            else:
                parker.park(None)

    def run(self, cuts: int) -> None:
        writer = self.start(self.write)
        names = [str(n) for n in range(self.replicas if self.replicas > 1 else len(self.channels))]
        for name in names:
            self.begin_reader(name)
        for number in range(self.SENDERS):
            self.start(self.send, number)
        work = self.SENDERS * self.MESSAGES
        for _ in range(cuts):
            self.await_handled(work // (cuts + 1))
            name = self.chance.choice(names)
            self.journal.end_life(*self.readers[name])
            self.begin_reader(name)
        self.await_handled(work - cuts * (work // (cuts + 1)))
        for _, fence in self.readers.values():
            self.journal.advance(fence, Mode.STOPPING)
        self.journal.close()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive(), self.situation()
        assert not writer.is_alive()

    def await_handled(self, count: int) -> None:
        for _ in range(count):
            assert self.done.acquire(timeout=20), self.situation()

    def situation(self) -> str:
        sizes = [(channel.size, len(channel.queue), len(channel.line)) for channel in self.channels]
        return f"asleep with {len(self.handled)} handled; size, waiting and line of each inbox: {sizes}; {self.errors}"


@pytest.mark.timeout(100)
@pytest.mark.parametrize(("capacity", "replicas"), [(1, 1), (2, 1), (3, 3), (8, 1), (8, 3)])
def test_with_many_threads_each_message_is_handled_once_and_in_order(capacity: int, replicas: int) -> None:
    crowd = Crowd(capacity, capacity, replicas=replicas)
    with contention():
        crowd.run(cuts=8)
    assert not crowd.errors
    assert len({(channel, sequence) for channel, sequence, _ in crowd.handled}) == len(crowd.handled)
    for number in range(crowd.SENDERS):
        for parity, channel in enumerate(crowd.channels):
            mine = [m for c, _, m in sorted(crowd.handled) if c == channel.name and m // 1_000 == number]
            assert mine == [number * 1_000 + n for n in range(parity, crowd.MESSAGES, 2)]
    for channel in crowd.channels:
        assert (channel.size, len(channel.line), len(channel.queue)) == (0, 0, 0)
        assert channel.most <= capacity
        assert channel.acks.frozen() == (channel.next_sequence - 1, ())

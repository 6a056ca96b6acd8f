"""The journal: units are whole or they never were, nobody sleeps through what it waits for, and no room is lost.

As a plain object, one call after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from minions.errors import (
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
from minions.flow.channel import UNREAD, Channel, Ticket
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger
from minions.flow.mailbox import Mailbox
from minions.flow.unit import Unit
from tests.flow.journal_rig import Bell, Life, Parting, Rig, Rows, Time


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


class TestWhatIsFreed:
    """What an object does as it is freed (`__del__`) is user code, and never runs under the lock."""

    def test_when_the_oldest_is_dropped(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1, durable=False, overflow="drop_oldest")
        sender, under_lock = rig.life("s"), list[bool]()
        for _ in range(4):
            unit = sender.unit()
            unit.send((a,), Parting(rig.journal, under_lock), True, None)
            assert sender.submit(unit) is None
            del unit
        assert under_lock == [False] * 3

    def test_when_the_newest_is_dropped(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1, durable=False, overflow="drop_newest")
        sender, under_lock = rig.life("s"), list[bool]()
        for _ in range(4):
            unit = sender.unit()
            unit.send((a,), Parting(rig.journal, under_lock), True, None)
            assert sender.submit(unit) is None
            del unit
        assert under_lock == [False] * 3

    @pytest.mark.parametrize("way", ["put down", "the end of the life"])
    def test_when_what_is_in_hand_is_to_be_read_afresh(self, rig: Rig, way: str) -> None:
        a, under_lock = rig.channel("a.in"), list[bool]()
        a.codec = codec_of(list[int])  # of messages that can change
        sender, reader = rig.life("s"), rig.life("r", a)
        for _ in range(2):
            unit = sender.unit()
            unit.send((a,), Parting(rig.journal, under_lock), True, b"[]")
            assert sender.submit(unit) is None
            del unit
        assert len(reader.taken()) == 2
        if way == "put down":
            rig.journal.put_down(reader.mailbox, reader.fence)
        else:
            reader.end()
        assert [entry[2] for entry in a.queue] == [UNREAD, UNREAD]
        assert under_lock == [False] * 2


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

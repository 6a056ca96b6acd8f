"""The journal: units are whole or they never were, and what a reader finds is what is there.

As a plain object, one call after the other.
"""

from __future__ import annotations

from typing import Any

import pytest

from minions.errors import StaleComponent, StoreUnusable, UnitTooLarge, UsageError
from minions.fence import Mode
from minions.flow import group_commit, rows
from minions.flow import unit as unit_module
from minions.flow.channel import Channel
from minions.flow.ledger import Ledger
from minions.flow.unit import Unit
from tests.flow.journal_rig import Life, Rig


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
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_UNITS", 1)
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
        rig.journal.commits.fail(StoreUnusable("the disk is gone"))
        with pytest.raises(StoreUnusable):
            rig.journal.redeliver(self.unit(outside, channel), "its id", outside.bell)
        rig.journal.commits.close()
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
        assert rig.journal.commits.unsaved_beginning("dead/") == expected
        rig.journal.commits.committed(being_written)
        assert rig.journal.commits.unsaved_beginning("dead/") == {"dead/c.in/5": None, "dead/d.in/1": b"third"}


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
        assert rig.journal.commits.seal(rig.writer) is None

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
        assert rig.journal.commits.seal(rig.writer) is None
        sender.send((a, 1))
        reader.settle(*reader.taken())
        assert rig.journal.commits.seal(rig.writer) is None
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
        assert rig.journal.commits.unsaved("t/") == {"one": b"1", "two": None, "three": b"3"}
        assert rig.journal.commits.unsaved_row("t/", "one") == (b"1",)
        assert rig.journal.commits.unsaved_row("t/", "two") == (None,)
        assert rig.journal.commits.unsaved_row("t/", "four") is None
        rig.journal.commits.committed(being_written)
        assert rig.journal.commits.unsaved("t/") == {"two": None, "three": b"3"}
        assert rig.journal.commits.unsaved_row("t/", "one") is None
        assert rig.journal.commits.unsaved("v/") == {}

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

    def test_is_not_quiet_while_it_sleeps_and_will_wake_by_itself_to_do_something_with_what_it_has(
        self, rig: Rig
    ) -> None:
        a = rig.channel("a.in")
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1))
        assert reader.take_numbers() == [1]
        assert reader.take(timed=True) == []
        assert not rig.journal.quiet([a], [reader.mailbox])

    def test_is_not_quiet_while_it_sleeps_on_all_that_goes_in_and_somebody_waits_for_room(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=1)
        sender, reader = rig.life("s"), rig.life("r", a)
        sender.send((a, 1))
        assert reader.take_numbers() == [1]
        assert reader.take() == []
        unit = sender.unit((a, 2))
        ticket = sender.submit(unit)
        assert not rig.journal.quiet([a], [reader.mailbox])
        announced: list[bool] = []
        rig.journal.on_idle = lambda: announced.append(rig.journal.quiet([a], [reader.mailbox]))
        rig.journal.watch_idle(True)
        rig.journal.withdraw(unit, ticket)
        assert announced == [True], "whoever gives up says so, because nobody else will"

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

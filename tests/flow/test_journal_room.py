"""The journal: no room is lost, and what overflows does what its inbox says.

As a plain object, one call after the other.
"""

from __future__ import annotations

import pytest

from minions.errors import InboxFull
from minions.flow import group_commit
from minions.flow.channel import UNREAD, Channel
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger
from minions.flow.unit import Unit
from tests.flow.journal_rig import Life, Parting, Rig, Rows, Time


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
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_UNITS", 2)
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
        rig.journal.commits.committed(sealed)
        assert sender.rang()
        assert not other.rang()
        assert not sender.waits(ticket)
        assert sender.submit(unit) is None
        assert sender.send((a, 4)) is not None, "one unit was committed, one place was free"

    def test_in_the_window_counts_bytes_too(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_BYTES", 10)
        sender = rig.life("s")
        assert sender.send(state=bytes(9)) is None
        assert sender.send(state=bytes(9)) is None
        assert sender.send(state=b"") is not None
        rig.commit()
        assert sender.send(state=b"") is None

    def test_in_the_window_is_not_needed_where_nothing_is_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_UNITS", 0)
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

    @pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
    def test_when_a_message_is_dropped(self, rig: Rig, overflow: str) -> None:
        a = rig.channel("a.in", capacity=1, durable=False, overflow=overflow)
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

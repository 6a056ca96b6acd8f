"""The journal and the disk: what is sealed and committed, who waits for it, and what is done after it."""

from __future__ import annotations

from collections import Counter

import pytest

from minions.errors import (
    CommitTimeout,
    StaleComponent,
    StoreUnusable,
)
from minions.flow import group_commit
from tests.flow.journal_rig import Rig


class TestCommitting:
    def test_is_waited_for_until_everything_so_far_is_on_disk(self, rig: Rig) -> None:
        a = rig.channel("a.in", capacity=9)
        sender, waiter = rig.life("s"), rig.life("w")
        sender.send((a, 1))
        first = rig.seal()
        sender.send((a, 2))
        ticket = rig.journal.commits.ticket(waiter.bell)
        assert ticket is not None
        rig.journal.commits.committed(first)
        assert not waiter.rang()
        assert rig.journal.commits.waits(ticket, waiter.fence, None)
        rig.commit()
        assert waiter.rang()
        assert not rig.journal.commits.waits(ticket, waiter.fence, None)

    def test_waits_for_the_epoch_that_is_being_written(self, rig: Rig) -> None:
        sender, waiter = rig.life("s"), rig.life("w")
        sender.send(state=b"1")
        sealed = rig.seal()
        ticket = rig.journal.commits.ticket(waiter.bell)
        assert ticket is not None
        rig.journal.commits.committed(sealed)
        assert not rig.journal.commits.waits(ticket, waiter.fence, None)

    def test_waits_for_nothing_where_nothing_is_new(self, rig: Rig) -> None:
        waiter = rig.life("w")
        assert rig.journal.commits.ticket(waiter.bell) is None
        waiter.send(state=b"1")
        rig.commit()
        assert rig.journal.commits.ticket(waiter.bell) is None

    def test_is_given_up_at_the_deadline(self, rig: Rig) -> None:
        waiter = rig.life("w")
        waiter.send(state=b"1")
        ticket = rig.journal.commits.ticket(waiter.bell)
        assert ticket is not None
        assert rig.journal.commits.waits(ticket, waiter.fence, rig.time.now_s + 1)
        with pytest.raises(CommitTimeout, match=r"^w: not everything was on disk within the timeout"):
            rig.journal.commits.waits(ticket, waiter.fence, rig.time.now_s)
        rig.commit()
        assert not waiter.rang()

    def test_the_writer_is_woken_by_the_first_unit_after_it_found_nothing(self, rig: Rig) -> None:
        sender = rig.life("s")
        sender.send(state=b"1")
        woken = [rig.writer.rung]
        rig.seal()
        assert rig.journal.commits.seal(rig.writer) is None
        for value in (b"2", b"3"):
            sender.send(state=value)
            woken.append(rig.writer.rung)
        assert woken == [0, 1, 1]
        assert rig.seal().states == {"s": {"state": b"3"}}

    def test_is_finished_when_it_was_closed_and_the_last_unit_was_given_to_the_writer(self, rig: Rig) -> None:
        sender = rig.life("s")
        assert rig.journal.commits.seal(rig.writer) is None
        sender.send(state=b"1")
        assert not rig.journal.commits.finished
        rig.journal.commits.close()
        assert rig.writer.rung == 2
        assert not rig.journal.commits.finished, "a unit came between seal() and close()"
        rig.seal()
        assert rig.journal.commits.finished

    def test_that_fails_for_good_wakes_everybody_and_is_told_to_everybody(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(group_commit, "_MOST_UNSAVED_UNITS", 1)
        sender, waiter, late = rig.life("s"), rig.life("w"), rig.life("l")
        sender.send(state=b"1")
        in_window = sender.send(state=b"2")
        for_commit = rig.journal.commits.ticket(waiter.bell)
        assert for_commit is not None
        failure = StoreUnusable("the disk is full")
        rig.journal.commits.fail(failure)
        assert sender.rang()
        assert waiter.rang()
        for ask in (
            lambda: sender.waits(in_window),
            lambda: rig.journal.commits.waits(for_commit, waiter.fence, None),
            lambda: late.send(state=b"3"),
            lambda: rig.journal.commits.ticket(late.bell),
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
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (0, 0)
        sender.send(state=b"1")
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (1, 0)
        sealed = rig.seal()
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (1, 0)
        sender.send(state=b"2")
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (2, 0)
        journal.commits.committed(sealed)
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (2, 1)
        rig.commit()
        assert (journal.commits.last_epoch(), journal.commits.durable_epoch) == (2, 2)

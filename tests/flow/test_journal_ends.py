"""The journal at the end of a life: every door is closed, and all that it had is given back.

As a plain object, one call after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minions.errors import StaleComponent, StopRequested
from minions.fence import Fence, Mode
from minions.flow.channel import Channel, Ticket
from minions.flow.mailbox import Mailbox
from tests.flow.journal_rig import Bell, Life, Rig


class TestTheEndOfALife:
    @pytest.mark.parametrize(
        "door",
        [
            lambda life, a: life.send((a, 1)),
            lambda life, a: life.send(state=b"1"),
            lambda life, a: life.take(),
            lambda life, a: life.waits(Ticket(life.bell, 0.0)),
            lambda life, a: life.journal.commits.waits(Ticket(life.bell, 0.0), life.fence, None),
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

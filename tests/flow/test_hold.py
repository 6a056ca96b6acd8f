"""A life that is paused, or asked to stop without draining: it takes nothing, and nobody waits in vain because of it."""

from __future__ import annotations

import attrs

from minions.fence import Fence, Mode
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.parker import Parker
from minions.flow.unit import Unit
from minions.testing import FakeClock


class Bell(Parker):
    """Where a thread would sleep; says how often it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = 0

    def unpark(self) -> None:
        self.rung += 1


@attrs.define(slots=False)
class Reader:
    """One life on the test's own thread."""

    journal: Journal
    channel: Channel
    epoch: int = 1

    def __attrs_post_init__(self) -> None:
        self.bell = Bell()
        self.fence = Fence("reader", self.epoch)
        self.mailbox = Mailbox((self.channel,), self.bell)
        self.journal.join(self.fence, self.bell)
        self.journal.attach(self.mailbox, self.fence)

    def take(self) -> list[int] | None:
        entries = self.journal.take(self.mailbox, self.fence)
        return None if entries is None else [entry[2] for entry in entries]


def send(journal: Journal, channel: Channel, *messages: int) -> None:
    unit = Unit("sender")
    for message in messages:
        unit.send((channel,), message, True, None)
    assert journal.submit(unit, Fence("sender", 1), Bell()) is None


def made(readers: int = 1) -> tuple[Journal, Channel, list[Reader]]:
    journal = Journal(FakeClock(), durable=False)
    channel = Channel("reader.inbox", 0, shared=readers > 1)
    return journal, channel, [Reader(journal, channel) for _ in range(readers)]


def test_a_paused_reader_takes_nothing_and_goes_on_when_it_may() -> None:
    journal, channel, [reader] = made()
    send(journal, channel, 1, 2)
    journal.hold(reader.fence, True)
    assert reader.bell.rung == 1, "it is to look at its fence"

    assert reader.take() == []
    journal.hold(reader.fence, False)
    assert reader.bell.rung == 2
    assert reader.take() == [1, 2]


def test_a_paused_reader_is_not_woken_for_messages() -> None:
    journal, channel, [reader] = made()
    journal.hold(reader.fence, True)
    assert reader.take() == []
    rung = reader.bell.rung

    send(journal, channel, 1)
    assert reader.bell.rung == rung
    assert not reader.mailbox.asleep


def test_a_wake_up_that_a_paused_reader_was_given_goes_to_another() -> None:
    journal, channel, [paused, other] = made(readers=2)
    assert (paused.take(), other.take()) == ([], [])
    send(journal, channel, 1)
    assert (paused.bell.rung, other.bell.rung) == (1, 0)
    journal.hold(paused.fence, True)

    assert paused.take() == []
    assert other.bell.rung == 1
    assert other.take() == [1]


def test_a_paused_reader_says_that_it_is_idle() -> None:
    journal, _, [reader] = made()
    told: list[bool] = []
    journal.on_idle = lambda: told.append(True)
    journal.watch_idle(True)
    journal.hold(reader.fence, True)
    assert reader.take() == []
    assert told == [True]


def test_a_paused_reader_that_is_asked_to_stop_ends_although_something_waits() -> None:
    journal, channel, [reader] = made()
    send(journal, channel, 1)
    journal.hold(reader.fence, True)
    journal.advance(reader.fence, Mode.STOPPING)
    assert reader.fence.yields, "it does not go on with what it has in hand"
    assert reader.take() is None
    assert [entry[2] for entry in channel.queue] == [1]


def test_a_reader_that_is_asked_to_stop_takes_what_waits_unless_it_is_not_to_drain() -> None:
    journal, channel, [reader] = made()
    send(journal, channel, 1)
    journal.advance(reader.fence, Mode.STOPPING)
    assert not reader.fence.yields, "it goes on with what it has in hand"
    assert reader.take() == [1]
    assert reader.take() is None

    journal, channel, [reader] = made()
    send(journal, channel, 1)
    journal.advance(reader.fence, Mode.STOPPING, drain=False)
    assert reader.fence.yields
    assert reader.bell.rung == 1
    assert reader.take() is None


def test_a_pause_holds_back_what_has_room_of_its_own_to_send() -> None:
    journal, channel, _ = made()
    sender = Fence("sender", 1)
    lane = journal.open_lane(channel, sender)
    assert journal.lend(channel, lane, sender)
    assert lane.room
    journal.hold(sender, True)
    assert not lane.room, "it comes by, and learns of it"
    assert not journal.lend(channel, lane, sender)

    journal.hold(sender, False)
    assert not sender.yields
    assert journal.lend(channel, lane, sender)
    journal.advance(sender, Mode.STOPPING, drain=False)
    assert not lane.room


def test_a_pause_that_is_over_does_not_take_back_that_it_is_to_end() -> None:
    journal, channel, [reader] = made()
    send(journal, channel, 1)
    journal.hold(reader.fence, True)
    journal.advance(reader.fence, Mode.ENDING)
    journal.hold(reader.fence, False)
    assert reader.fence.yields
    assert reader.take() is None
    assert [entry[2] for entry in channel.queue] == [1]


def test_what_is_paused_is_not_asleep_and_what_it_has_in_hand_is_in_work() -> None:
    journal, channel, [reader] = made()
    send(journal, channel, 1)
    assert reader.take() == [1]
    journal.hold(reader.fence, True)
    assert reader.take() == []
    assert not journal.quiet([channel])

    journal.put_down(reader.mailbox, reader.fence)
    assert [entry[2] for entry in channel.queue] == [1]
    assert not journal.quiet([channel])

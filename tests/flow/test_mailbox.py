"""The mailbox, as a plain object on one thread: whose turn it is, and what is in hand."""

from __future__ import annotations

from typing import Any

from minions.flow.channel import Channel, Entry, Wakes
from minions.flow.mailbox import MOST_AT_ONCE, Mailbox


class Bell:
    def park(self, timeout_s: float | None) -> None: ...
    def unpark(self) -> None: ...


def mailbox_of(*channels: Channel) -> Mailbox:
    mailbox = Mailbox(channels, Bell())
    for channel in channels:
        channel.readers.append(mailbox)
    return mailbox


def channel(name: str, messages: int = 0, **options: Any) -> Channel:
    made = Channel(name, 0, capacity=10_000, **options)
    for number in range(messages):
        made.deliver_locked(number, None, [])
    return made


def numbers(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(entry[0].name, entry[1]) for entry in entries]


def test_takes_everything_that_waits_in_one_inbox() -> None:
    mailbox = mailbox_of(channel("a", 3))
    assert numbers(mailbox.take_locked()) == [("a", 1), ("a", 2), ("a", 3)]
    assert mailbox.take_locked() == []
    assert numbers(list(mailbox.in_hand)) == [("a", 1), ("a", 2), ("a", 3)]


def test_takes_no_more_than_was_asked_for() -> None:
    mailbox = mailbox_of(channel("a", 600))
    assert len(mailbox.take_locked(most=2)) == 2
    assert [len(mailbox.take_locked()) for _ in range(4)] == [MOST_AT_ONCE, MOST_AT_ONCE, 600 - 2 - 2 * MOST_AT_ONCE, 0]


def test_gives_each_inbox_its_turn() -> None:
    mailbox = mailbox_of(channel("a", 3), channel("b"), channel("c", 2))
    taken = [numbers(mailbox.take_locked(most=1)) for _ in range(6)]
    assert taken == [[("a", 1)], [("c", 1)], [("a", 2)], [("c", 2)], [("a", 3)], []]


def test_takes_from_one_inbox_only_where_that_is_asked_for() -> None:
    a, b = channel("a", 1), channel("b", 1)
    mailbox = mailbox_of(a, b)
    assert numbers(mailbox.take_locked(only=b)) == [("b", 1)]
    assert mailbox.take_locked(only=b) == []
    assert numbers(mailbox.take_locked()) == [("a", 1)]


def test_takes_one_at_a_time_from_an_inbox_that_it_shares() -> None:
    shared = channel("a", 3, shared=True)
    one, other = mailbox_of(shared), mailbox_of(shared)
    assert numbers(one.take_locked()) == [("a", 1)]
    assert numbers(other.take_locked()) == [("a", 2)]
    assert numbers(one.take_locked()) == [("a", 3)]


def test_takes_one_at_a_time_from_an_inbox_that_drops() -> None:
    assert numbers(mailbox_of(channel("a", 3, overflow="drop_oldest")).take_locked()) == [("a", 1)]


def test_puts_down_what_is_in_hand_in_the_order_in_which_it_came() -> None:
    a, b = channel("a", 3), channel("b", 2)
    mailbox = mailbox_of(a, b)
    mailbox.take_locked(most=2)
    mailbox.take_locked(most=1)
    mailbox.put_down_locked([])
    assert numbers(list(a.queue)) == [("a", 1), ("a", 2), ("a", 3)]
    assert numbers(list(b.queue)) == [("b", 1), ("b", 2)]
    assert not mailbox.in_hand


def test_may_keep_one_in_hand() -> None:
    a = channel("a", 3)
    mailbox = mailbox_of(a)
    first, *_ = mailbox.take_locked()
    mailbox.put_down_locked([], but=first)
    assert list(mailbox.in_hand) == [first]
    assert numbers(list(a.queue)) == [("a", 2), ("a", 3)]


def test_passes_a_wake_up_on_that_it_will_not_use() -> None:
    shared = channel("a")
    one, other = mailbox_of(shared), mailbox_of(shared)
    for mailbox in (one, other):
        mailbox.fall_asleep_locked(None, timed=False)
    wakes: Wakes = []
    shared.deliver_locked("message", None, wakes)
    assert wakes == [one.parker]
    one.put_down_locked(wakes)
    assert wakes == [one.parker, other.parker]
    assert not one.asleep
    assert not other.asleep


def test_is_not_woken_by_what_it_puts_down_itself() -> None:
    mailbox = mailbox_of(channel("a", 1))
    mailbox.take_locked()
    mailbox.asleep = True
    wakes: Wakes = []
    mailbox.put_down_locked(wakes)
    assert wakes == []

"""Messages that were in work when the process died: who has died of what, and what is done about it at the next start.

Before any component runs, on the thread that opens the system. No lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from minions import events
from minions.clock import Clock
from minions.flow import rows
from minions.flow.board import Held, Left
from minions.flow.channel import Channel, Entry
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.flow.unit import Unit
from minions.life.housekeeping import Housekeeping
from minions.threads import Threads

__all__ = ["Deaths", "answer"]

_CAREFUL_MESSAGES = 10_000


class Kept(Protocol):
    """What is on disk of a channel."""

    @property
    def next_sequence(self) -> int: ...

    @property
    def waiting(self) -> list[tuple[int, bytes]]: ...


@attrs.frozen
class Deaths:
    """What is known about the processes that died, the last one among them.

    Attributes:
        counted: by channel and number, how many in a row have died with that message in work.
        early: by channel, how many in a row have died with a message in work that was not on disk yet, and so is not there.
    """

    counted: dict[str, dict[int, int]] = attrs.Factory(dict)
    early: dict[str, int] = attrs.Factory(dict)

    @classmethod
    def of(cls, left: Left, channels: Mapping[str, Kept]) -> Deaths:
        """Counts the death of the process that has left this board, if it died.

        In a row are the times that a message was tried: a process that died before it came to it does not interrupt them, for
        otherwise two such messages could go on for ever in turns. An orderly end does. A message that was not on disk yet is
        taken for the same that gets its number now, because its sender sends it again.
        """
        deaths = cls()
        if left.ended:
            return deaths
        for name, counts in left.deaths.items():
            waiting = {number for number, _ in channels[name].waiting} if name in channels else set()
            if kept := {number: count for number, count in counts.items() if number in waiting}:
                deaths.counted[name] = kept
        for held in left.held:
            deaths._count(held, left, channels.get(held.channel))
        return deaths

    def _count(self, held: Held, left: Left, kept: Kept | None) -> None:
        before = left.deaths.get(held.channel, {})
        next_sequence = kept.next_sequence if kept is not None else 1
        numbers = (
            [number for number, _ in kept.waiting if held.first <= number <= held.last] if kept is not None else []
        )
        numbers += range(max(held.first, next_sequence), held.last + 1)
        for number in numbers:
            self.counted.setdefault(held.channel, {})[number] = before.get(number, 0) + 1
        if held.last >= next_sequence:
            self.early[held.channel] = left.early.get(held.channel, 0) + 1


def answer(
    deaths: Deaths,
    channels: Mapping[str, Channel],
    journal: Journal,
    clock: Clock,
    threads: Threads = OS_THREADS,
    on_set_aside: Callable[[Entry, rows.DeadLetter], None] = lambda entry, letter: None,
) -> list[events.Event]:
    """Sets aside what too many processes have died of, and returns what is to be told. Blocks until that is on disk.

    A message that was not on disk cannot be set aside. Where one was in work when the process died, its inbox is read with
    care for a while: only what is on disk is handled, so that the next death can be put down to its message.

    Args:
        on_set_aside: told of each message that is set aside, and its letter.

    Raises:
        StoreError: it cannot be written.
    """
    told: list[events.Event] = []
    housekeeping = Housekeeping(journal, clock, "start", threads)
    for name, early in deaths.early.items():
        if name in channels:
            channels[name].careful_until = channels[name].next_sequence + _CAREFUL_MESSAGES * 10 ** (early - 1)
    for name, counts in deaths.counted.items():
        channel = channels.get(name)
        for number, count in counts.items():
            if channel is not None and number < channel.next_sequence:
                told.append(_answer_one(channel, number, count, journal, housekeeping, clock, on_set_aside))
    if any(isinstance(event, events.MessageSetAside) for event in told):
        housekeeping.wait_for_commit()
    return told


def _answer_one(
    channel: Channel,
    number: int,
    count: int,
    journal: Journal,
    housekeeping: Housekeeping,
    clock: Clock,
    on_set_aside: Callable[[Entry, rows.DeadLetter], None],
) -> events.Event:
    component, message_id, retry = channel.name.partition(".")[0], channel.message_id(number), channel.retry
    entry = channel.take_out(number) if count >= retry.deaths and retry.then != "stop" else None
    if entry is None:
        return events.MessageOutlivedProcess(component, message_id, count)
    assert channel.codec is not None
    assert entry[3] is not None
    times = f"{count} times in a row" if count > 1 else "once"
    letter = rows.DeadLetter(
        channel=channel.name,
        message_id=message_id,
        type=channel.codec.name,
        message=entry[3],
        attempts=count,
        error=f"the process died {times} while this message was in work",
        traceback="",
        at=clock.wall(),
    )
    unit: Unit = housekeeping.unit()
    unit.settles.append(entry)
    kept = retry.then == "dead_letter"
    if kept:
        unit.put(rows.dead_prefix(channel.name), rows.dead_number(number), letter.body())
    housekeeping.submit(unit)
    journal.count_set_aside(channel)
    on_set_aside(entry, letter)
    return events.MessageSetAside(component, message_id, count, letter.error, kept)

"""The ledger: what is on disk of each channel, and which rows a commit writes and deletes. Owned by the writer; no lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import attrs

from minions.flow import rows
from minions.flow.acks import Acks, AckSet, settled, unsettled
from minions.flow.epoch import Sealed

__all__ = ["Change", "Ledger", "Recovered", "RecoveredChannel", "RowSource"]

_ROW_BYTES = 1 << 20


class RowSource(Protocol):
    """Where rows are read from: a store."""

    def rows(self, prefix: str) -> Iterator[tuple[str, bytes]]: ...


@attrs.frozen
class RecoveredChannel:
    """What an earlier run left in one channel.

    Attributes:
        next_sequence: the number of the next message; numbers are never used twice.
        acks: what is settled.
        waiting: number and stored form of what is not, in order.
        types: the names of the types of these messages.
        eras: from which number on they were sent in the run of which id, ascending.
        ids: the ids of those that had been set aside and were sent once more, by number.
    """

    next_sequence: int
    acks: Acks
    waiting: list[tuple[int, bytes]]
    types: frozenset[str]
    eras: list[tuple[int, str]] = attrs.Factory(list)
    ids: dict[int, str] = attrs.Factory(dict)

    def ack_set(self) -> AckSet:
        return AckSet(*self.acks)


@attrs.frozen
class Recovered:
    """Everything that an earlier run left.

    Attributes:
        states: the stored forms of each component's states.
        channels: what is left in each channel.
        ticks: the row of each schedule, by `rows.tick_key`.
    """

    states: dict[str, dict[str, bytes]]
    channels: dict[str, RecoveredChannel]
    ticks: dict[str, bytes] = attrs.Factory(dict)

    @property
    def is_empty(self) -> bool:
        return not (self.states or self.channels or self.ticks)


Row = tuple[int, int, str]
"""One row of messages on disk: the first number in it, the last one, its key."""


@attrs.frozen
class Change:
    """The rows of one commit.

    Attributes:
        puts: key and body of what is written.
        deletes: the keys of what is deleted.
        rows_left: for each channel that changed, its rows of messages once the commit is made.
    """

    puts: list[tuple[str, bytes]]
    deletes: list[str]
    rows_left: dict[str, list[Row]]


class Ledger:
    """Which rows of messages are on disk, by channel, in the order of their messages.

    Args:
        type_names: the name of the type of each channel's messages.
        run_id: the id of this run, kept beside the messages that it sends.
    """

    def __init__(self, type_names: dict[str, str], run_id: str = "") -> None:
        self._type_names = type_names
        self._run_id = run_id
        self._rows: dict[str, list[Row]] = {}

    def recover(self, source: RowSource) -> Recovered:
        """Reads the whole store.

        Raises:
            StoreDamaged: a row is not what was written.
        """

        def read(prefix: str) -> list[tuple[str, bytes]]:
            return list(source.rows(prefix))  # to its end, so that no error carries an open cursor to another thread

        states = {key.removeprefix(rows.STATES): rows.states_of(key, body) for key, body in read(rows.STATES)}
        acks = {key.removeprefix(rows.ACKS): rows.acks_of(key, body) for key, body in read(rows.ACKS)}
        waiting: dict[str, list[tuple[int, bytes]]] = {channel: [] for channel in acks}
        types: dict[str, set[str]] = {channel: set() for channel in acks}
        eras: dict[str, dict[str, int]] = {}
        ids: dict[str, dict[int, str]] = {}
        for key, body in read(rows.CHANNELS):
            channel = key.removeprefix(rows.CHANNELS).rpartition("/")[0]
            type_name, origin, messages = rows.messages_of(key, body)
            self._rows.setdefault(channel, []).append((messages[0][0], messages[-1][0], key))
            left = set(unsettled(acks.get(channel, (0, ())), (number for number, _ in messages)))
            if left:
                types.setdefault(channel, set()).add(type_name)
                message_id = rows.message_id_of(origin)
                if message_id is None:
                    eras.setdefault(channel, {}).setdefault(origin, messages[0][0])
                else:
                    ids.setdefault(channel, {})[messages[0][0]] = message_id
            waiting.setdefault(channel, []).extend(pair for pair in messages if pair[0] in left)
        channels = {}
        for channel, messages in waiting.items():
            known = acks.get(channel, (0, ()))
            stored = self._rows.get(channel)
            last = max(AckSet(*known).highest, stored[-1][1] if stored else 0)
            channels[channel] = RecoveredChannel(
                next_sequence=last + 1,
                acks=known,
                waiting=messages,
                types=frozenset(types.get(channel, ())),
                eras=[(first, run_id) for run_id, first in eras.get(channel, {}).items()],
                ids=ids.get(channel, {}),
            )
        ticks = {}
        for key, body in read(rows.TICKS):
            rows.tick_of(key, body)  # a row that cannot be read is refused now, not in the middle of a run
            ticks[key.removeprefix(rows.TICKS)] = body
        return Recovered(states, channels, ticks)

    def change(self, sealed: Sealed) -> Change:
        """The rows that make an epoch durable. Notes nothing down, so that it can be asked again."""
        puts = [(rows.STATES + component, rows.states_body(states)) for component, states in sealed.states.items()]
        puts += [(rows.ACKS + channel, rows.acks_body(acks)) for channel, acks in sealed.acks.items()]
        deletes: list[str] = []
        for prefix, bodies in sealed.keyed.items():
            deletes += [prefix + key for key, body in bodies.items() if body is None]
            puts += [(prefix + key, body) for key, body in bodies.items() if body is not None]
        rows_left: dict[str, list[Row]] = {}
        for channel, acks in sealed.acks.items():
            left, gone = _sorted_out(self._rows.get(channel, []), acks)
            deletes += gone
            for first, last, key, body in self._message_rows(sealed, channel):
                puts.append((key, body))
                left.append((first, last, key))
            rows_left[channel] = left
        return Change(puts, deletes, rows_left)

    def confirm(self, change: Change) -> None:
        """Takes note that the rows of a change are on disk."""
        self._rows.update(change.rows_left)

    def _message_rows(self, sealed: Sealed, channel: str) -> Iterator[tuple[int, int, str, bytes]]:
        """First number, last number, key and body of each row of messages: split at about a megabyte, and a message that has
        an id of its own in a row of its own.
        """
        ids = sealed.ids.get(channel, {})
        part: list[tuple[int, bytes]] = []
        size = 0
        for number, stored in sealed.survivors(channel):
            message_id = ids.get(number)
            if part and (message_id is not None or size >= _ROW_BYTES):
                yield self._message_row(channel, self._run_id, part)
                part, size = [], 0
            if message_id is not None:
                yield self._message_row(channel, rows.origin_of(message_id), [(number, stored)])
                continue
            part.append((number, stored))
            size += len(stored)
        if part:
            yield self._message_row(channel, self._run_id, part)

    def _message_row(self, channel: str, origin: str, part: list[tuple[int, bytes]]) -> tuple[int, int, str, bytes]:
        first, last = part[0][0], part[-1][0]
        body = rows.messages_body(self._type_names[channel], origin, part)
        return first, last, rows.channel_key(channel, first), body


def _sorted_out(stored: list[Row], acks: Acks) -> tuple[list[Row], list[str]]:
    """The rows of which something is left, and the keys of those of which nothing is."""
    low, intervals = acks
    begin = 0
    while begin < len(stored) and stored[begin][1] <= low:
        begin += 1
    gone = [key for _, _, key in stored[:begin]]
    if not intervals:
        return stored[begin:], gone
    left = []
    for row in stored[begin:]:
        if settled(acks, row[0], row[1]):
            gone.append(row[2])
        else:
            left.append(row)
    return left, gone

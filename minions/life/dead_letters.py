"""Dead letters: what was set aside in a state folder, and what its owner does about it, whether the system runs or not.

Runs on the caller's thread, any thread; what the main thread wishes is done on one beside it. A lock of its own lets one caller
at a time look and act, so that of two who retry the same letter one wins; nothing else takes it, and it is held while the disk is
read and written. No code of users is run under it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from minions import events
from minions.clock import Clock
from minions.errors import CannotDecode, NoSuchDeadLetter, UsageError
from minions.flow import rows
from minions.flow.channel import UNREAD, Channel
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.flow.rows import DeadLetter
from minions.flow.store import has_store, read_rows
from minions.flow.unit import Unit
from minions.flow.writer import Writer
from minions.life.housekeeping import Housekeeping, undisturbed
from minions.threads import Threads

__all__ = ["DeadLetters", "opened_apart"]

_GIVE_UP_S = 5.0
_MOST_NAMED = 10


class DeadLetters:
    """The dead letters of one state folder."""

    def __init__(
        self,
        folder: Path,
        channels: Mapping[str, Channel],
        journal: Journal | None = None,
        clock: Clock | None = None,
        *,
        inboxes: Collection[str] = (),
        threads: Threads = OS_THREADS,
        read: Callable[[str], Sequence[tuple[str, bytes]]] | None = None,
    ) -> None:
        """Args:
        folder: the state folder.
        channels: those of the system, by name, as far as messages are to be read or retried.
        journal: through which to act; without it there is only something to see.
        clock: for waiting.
        inboxes: the names of further inboxes of the system.
        threads: those of the system.
        read: reads the rows with a prefix; by default those on disk in the folder.
        """
        self._folder = folder
        self._channels = channels
        self._inboxes = {*channels, *inboxes}
        self._journal = journal
        self._read = read or self._read_folder
        self._threads = threads
        self._housekeeping = (
            None if journal is None or clock is None else Housekeeping(journal, clock, "dead letters", threads)
        )
        self._acting = threading.Lock()

    def listed(self, of: str | None = None) -> list[DeadLetter]:
        """All dead letters, or those of a component or an inbox: inbox by inbox, in the order of the messages. Reads the disk.

        Raises:
            UsageError: there is neither a component or inbox of that name, nor a letter to one.
            StoreError: the store cannot be read.
        """
        found = self._found()
        if of is not None:
            self._refuse_strange(of, found)
        return [letter for letter in found.values() if of is None or _is_of(letter.channel, of)]

    def message_of(self, letter: DeadLetter) -> Any:
        """The message itself; see `System.message_of`."""
        channel = self._channels.get(letter.channel)
        if channel is None or channel.codec is None:
            raise UsageError(
                f"dead letter {letter.message_id}: the system has no durable inbox {letter.channel} that could say of which "
                f"class it is; its stored form, of {letter.type}, is letter.message"
            )
        if letter.type != channel.codec.name:
            raise CannotDecode(
                f"dead letter {letter.message_id} is of type {letter.type}, and inbox {letter.channel} now carries "
                f"{channel.codec.name}: give the class its former name, or drop the letter"
            )
        try:
            return channel.codec.decode(letter.message)
        except CannotDecode as error:
            raise CannotDecode(f"dead letter {letter.message_id} cannot be read any more: {error}") from error

    def retry(self, letters: Collection[DeadLetter | str], of: str | None = None) -> list[DeadLetter]:
        """Sends these letters, and all of a component or inbox, to their inboxes once more; see `System.retry_dead_letters`."""
        return self._act(letters, of, self._redeliver)

    def drop(self, letters: Collection[DeadLetter | str], of: str | None = None) -> list[DeadLetter]:
        """Drops these letters, and all of a component or inbox, for good; see `System.drop_dead_letters`."""
        return self._act(letters, of, lambda letter: self._submit)

    def _refuse_strange(self, of: str, found: Mapping[str, DeadLetter]) -> None:
        there = self._inboxes.union(letter.channel for letter in found.values())
        if not any(_is_of(inbox, of) for inbox in there):
            names = ", ".join(sorted(there)) or "none at all"
            raise UsageError(f"there is no inbox and no dead letter of {of!r}; the inboxes are {names}")

    def _found(self) -> dict[str, DeadLetter]:
        """The letters by their keys: those on disk, and what whole units have changed since."""
        unsaved = (
            self._journal.commits.unsaved_beginning(rows.DEAD) if self._journal is not None else {}
        )  # before the disk
        found: dict[str, bytes | None] = dict(self._read(rows.DEAD))
        found |= unsaved
        return {key: DeadLetter.of(key, body) for key, body in sorted(found.items()) if body is not None}

    def _read_folder(self, prefix: str) -> Sequence[tuple[str, bytes]]:
        return read_rows(self._folder, prefix) if has_store(self._folder) else ()

    def _act(
        self,
        letters: Collection[DeadLetter | str],
        of: str | None,
        prepare: Callable[[DeadLetter], Callable[[Unit], None]],
    ) -> list[DeadLetter]:
        """Deletes letters, each in a unit with what else is done about it; nothing at all where one of them is unsuitable."""
        housekeeping = self._housekeeping
        assert housekeeping is not None
        if not letters and of is None:
            raise UsageError(
                "say which dead letters: letters, the ids of their messages, or of=, a component or an inbox"
            )
        message_ids = {letter if isinstance(letter, str) else letter.message_id for letter in letters}
        # To read a message runs code of users, so it is done before the lock is taken; then it is looked once more.
        prepared = {key: prepare(letter) for key, letter in self._chosen(message_ids, of).items()}

        def act() -> list[DeadLetter]:
            with self._acting:
                chosen = {key: letter for key, letter in self._chosen(message_ids, of).items() if key in prepared}
                for key in chosen:
                    prefix, number = rows.dead_place(key)
                    unit = housekeeping.unit()
                    unit.put(prefix, number, None)
                    prepared[key](unit)
                housekeeping.wait_for_commit()
                return list(chosen.values())

        return undisturbed(act, self._threads)

    def _chosen(self, message_ids: Collection[str], of: str | None) -> dict[str, DeadLetter]:
        """The letters that are meant, by their keys. Reads the disk.

        Raises:
            NoSuchDeadLetter: one of those that are named by their ids is not there.
            UsageError: there is nothing of that name.
        """
        found = self._found()
        _refuse_unknown(message_ids, [letter.message_id for letter in found.values()])
        if of is not None:
            self._refuse_strange(of, found)
        return {
            key: letter
            for key, letter in found.items()
            if letter.message_id in message_ids or (of is not None and _is_of(letter.channel, of))
        }

    def _submit(self, unit: Unit) -> None:
        assert self._housekeeping is not None
        self._housekeeping.redeliver(unit, "")

    def _redeliver(self, letter: DeadLetter) -> Callable[[Unit], None]:
        """Raises what tells that it cannot be handled anyway."""
        channel = self._channels.get(letter.channel)
        if channel is None or channel.codec is None:
            raise UsageError(
                f"dead letter {letter.message_id} cannot be retried: the system has no durable inbox {letter.channel}; add the "
                "component under the name that it had, or drop the letter"
            )
        message = self.message_of(letter)
        partition = 0 if channel.partition_of is None else channel.partition_of(message)

        def submit(unit: Unit) -> None:
            assert self._housekeeping is not None
            unit.sends.append((channel, UNREAD, letter.message, partition))
            unit.size_bytes += len(letter.message)
            self._housekeeping.redeliver(unit, letter.message_id)

        return submit


def _is_of(inbox: str, of: str) -> bool:
    """Whether an inbox is the one, or of the component, that is named."""
    return inbox == of or inbox.startswith(f"{of}.")


def _refuse_unknown(message_ids: Collection[str], known: Sequence[str]) -> None:
    unknown = sorted(set(message_ids).difference(known))
    if not unknown:
        return
    there = ", ".join(known[:_MOST_NAMED]) if known else "none at all"
    more = f" and {len(known) - _MOST_NAMED:,} more" if len(known) > _MOST_NAMED else ""
    raise NoSuchDeadLetter(
        f"no dead letter has the id {', '.join(unknown)} (or not any more); nothing was done; there are {there}{more}",
        unknown,
    )


@contextmanager
def opened_apart(
    folder: Path,
    channels: Mapping[str, Channel],
    inboxes: Collection[str],
    clock: Clock,
    synchronous: Literal["NORMAL", "FULL"],
    on_event: Callable[[events.Event], None],
) -> Iterator[DeadLetters]:
    """Opens the store of a system that does not run, to act on its dead letters; it is closed at the end of the block.

    Args:
        channels: those of the system, fresh ones, where messages are to be retried.
        inboxes: the names of all inboxes of the system.
        on_event: told where something is wrong with the store, or was lost with the power.

    Raises:
        StoreError: the folder cannot be used: `StoreLocked` where a process runs on it.
    """
    if not has_store(folder):  # there is nothing to act on, and no folder is made for it
        yield DeadLetters(folder, channels, Journal(clock, durable=False), clock, inboxes=inboxes)
        return
    writer = Writer(
        folder,
        {name: channel.codec.name for name, channel in channels.items() if channel.codec is not None},
        clock,
        synchronous=synchronous,
        give_up_s=_GIVE_UP_S,
        on_trouble=lambda attempt, error, given_up: on_event(events.CommitTrouble(attempt, str(error), given_up)),
        on_resumed=lambda failures: on_event(events.CommitsResumed(failures)),
    )
    recovered = writer.open()
    try:
        if writer.commits_lost or writer.perhaps_lost:  # the next start would not tell: by then there is a new commit
            lost, perhaps = writer.commits_lost, writer.perhaps_lost
            on_event(events.StateOpened(str(folder), False, 0, lost, (), perhaps))
        journal = Journal(clock, durable=True)
        for name, left in recovered.channels.items():
            if name in channels and channels[name].durable:
                # what waits there stays as it is on disk
                channels[name].restore(left.next_sequence, left.ack_set(), ())
        writer.begin(journal)
        yield DeadLetters(folder, channels, journal, clock, inboxes=inboxes)
    finally:
        writer.close()

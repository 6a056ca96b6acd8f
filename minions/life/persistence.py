"""What a run keeps outside of its memory: the store, the board of what is in work, the records of crashes.

It is opened before anything begins, on the thread that starts the system, and closed when all has ended, on the supervisor's;
where a start has come to nothing, on the former. Its fields are written then, and only read in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from minions import events
from minions.clock import Clock
from minions.errors import StoreError
from minions.flow import rows
from minions.flow.board import Board, Marks
from minions.flow.channel import Channel, Entry
from minions.flow.histogram import Histogram
from minions.flow.journal import Journal
from minions.flow.ledger import Recovered
from minions.flow.storage import FolderStorage, Storage
from minions.flow.writer import Writer
from minions.life import deaths
from minions.life.capture import Capture
from minions.life.options import Options
from minions.life.plan import Plan
from minions.life.recorder import Recorder
from minions.life.recovery import restore
from minions.life.tables import tables_on_disk
from minions.model.partition import home_of
from minions.observe.units import Units
from minions.threads import Threads

__all__ = ["Persistence"]


class Persistence:
    """What one run keeps.

    Attributes:
        disk: reads rows as of the last commit, on any thread.
        recorder: of crashes; None where there is no folder for them, or they are not wanted.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        options: Options,
        journal: Journal,
        clock: Clock,
        threads: Threads,
        storage: Storage | None,
        tell: Callable[[events.Event], None],
        on_trouble: Callable[[int, StoreError, bool], None],
    ) -> None:
        """Nothing is opened yet.

        Args:
            name: of the system.
            plan: what each component needs.
            options: how it runs.
            journal: gets what an earlier run left, and gives what is to be written.
            clock: the source of time.
            threads: where the writer's comes from.
            storage: where the state is kept; by default the folder.
            tell: takes an event; any thread, and returns at once.
            on_trouble: as with `Writer`.
        """
        self._storage = storage if storage is not None else FolderStorage(options.folder)
        self.disk = self._storage.reader()
        self.recorder: Recorder | None = None
        if options.crashes.enabled and plan.durable and storage is None:  # otherwise there is no folder
            log = logging.getLogger(f"minions.{name}")
            self.recorder = Recorder(
                name,
                options.folder,
                options.crashes,
                clock,
                log,
                program=options.program,
                module=options.module,
            )
        self._plan = plan
        self._options = options
        self._journal = journal
        self._clock = clock
        self._threads = threads
        self._tell = tell
        self._on_trouble = on_trouble
        self._board: Board | None = None
        self._writer: Writer | None = None

    def open(self, units: Units | None) -> None:
        """Opens the store, puts back what was kept, and tells of it.

        Args:
            units: which units of work are told, which gets what it has to know of those before; None where none are.

        Raises:
            StoreError: the state folder cannot be used; nothing in it was changed.
            CannotDecode: something in it is not what the classes say; nothing in it was changed.
        """
        codecs = {name: channel.codec for name, channel in self._plan.channels.items()}
        writer = Writer(
            self._options.folder,
            {name: codec.name for name, codec in codecs.items() if codec is not None},
            self._clock,
            run_id=self._plan.run_id,
            synchronous=self._options.synchronous,
            give_up_s=self._options.give_up_commit_s,
            on_trouble=self._on_trouble,
            on_resumed=lambda failures: self._tell(events.CommitsResumed(failures)),
            threads=self._threads,
            open_store=lambda: self._storage.open(self._options.synchronous),
        )
        recovered = writer.open()
        try:
            strangers = restore(recovered, self._plan, self._journal, self.disk, self._options.folder)
            writer.begin(self._journal)
            outlived = self._put_up_board(recovered)
            if units is not None:
                units.durable = frozenset(channel.name for channel in self._plan.channels.values() if channel.durable)
                units.resume(self._options.folder)
        except BaseException:  # what is wrong with what was kept, and Ctrl-C: the folder must not stay locked
            self.disk.close()
            writer.close()
            raise
        self._writer = writer
        self._tell(
            events.StateOpened(
                folder=str(self._options.folder),
                resumed=not recovered.is_empty or any(True for _ in tables_on_disk(self.disk)),
                waiting_messages=sum(channel.size for channel in self._plan.channels.values()),
                commits_lost=writer.commits_lost,
                perhaps_lost=writer.perhaps_lost,
                strangers=strangers,
            )
        )
        for event in outlived:
            self._tell(event)

    def _put_up_board(self, recovered: Recovered) -> list[events.Event]:
        """Deals with what earlier processes have died of, and notes from now on what is in work."""
        died = deaths.Deaths.of(self._storage.left_board(), recovered.channels)
        told = deaths.answer(died, self._plan.channels, self._journal, self._clock, self._threads, self._record_death)
        lives = [
            (life, channel.name)
            for plan in self._plan.nodes.values()
            for life in plan.node.lives()
            for channel in plan.reads.values()
            if channel.durable
        ]
        self._board = self._storage.make_board(lives, died.counted, died.early)
        return told

    def _record_death(self, entry: Entry, letter: rows.DeadLetter) -> None:
        """Records a message that processes have died of, with the state that it would meet now; nobody knows at which line."""
        if self.recorder is None:
            return
        component, _, inbox = letter.channel.partition(".")
        node = self._plan.nodes[component].node
        partition = None if node.partition_by is None else entry[4]
        home = component if partition is None else home_of(component, partition)
        self.recorder.take(
            Capture(
                component=component,
                of=type(node.blueprint),
                epoch=0,
                kind="run" if node.declaration.has_run else "handler",
                where=node.declaration.handlers.get(inbox, "run"),
                error=letter.error,
                message_id=letter.message_id,
                at=letter.at,
                monotonic_s=self._clock.monotonic(),
                partition=partition,
                states=self._journal.stored_states(home),
                received=[entry],
                attempt=letter.attempts,
                set_aside=True,
            )
        )

    @property
    def is_open(self) -> bool:
        """Whether the store was opened, and what was kept is back."""
        return self._writer is not None

    def marks(self, life: str, channels: Iterable[Channel]) -> Marks | None:
        """Where a life notes what it has in work; None where nobody does."""
        return None if self._board is None else self._board.marks(life, channels)

    def latencies(self) -> tuple[Histogram, Histogram]:
        """Of commits: from the first unit to the disk, and the writing alone."""
        writer = self._writer
        return (Histogram(), Histogram()) if writer is None else (writer.latency.take(), writer.writing.take())

    def end_at_once(self) -> None:
        """Notes that nothing is in work, because the process is about to end. Any thread."""
        if self._board is not None:
            self._board.end()

    def close_records(self, timeout_s: float) -> None:
        """Closes all but the store; blocks for so long at most."""
        if self.recorder is not None:
            self.recorder.close(timeout_s)
        if self._board is not None:
            self._board.close()
        self.disk.close()

    def close_store(self, timeout_s: float) -> str:
        """Writes what is left, gives up the state folder, and says what is not on disk; empty where all is."""
        if self._writer is None:
            return ""
        in_time = self._writer.close(timeout_s)
        failure = "" if self._writer.failure is None else str(self._writer.failure)
        if in_time:
            return failure
        then = f": {failure}" if failure else "; the next start goes on from before them"
        return f"the last units were not on disk in time{then}"

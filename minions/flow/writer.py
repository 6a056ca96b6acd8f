"""The writer: the one thread that owns the store. It opens it, makes each epoch durable, in order, and closes it.

No lock of its own; it meets the rest of the system in the journal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from minions.clock import Clock
from minions.errors import CommitFailed, StoreError, StoreUnusable
from minions.flow.epoch import Sealed
from minions.flow.histogram import Recorder
from minions.flow.journal import Journal
from minions.flow.ledger import Ledger, Recovered
from minions.flow.os_threads import OS_THREADS
from minions.flow.storage import OpenStore
from minions.flow.store import Store
from minions.model.policy import Backoff
from minions.threads import Threads

__all__ = ["Writer"]

_BACKOFF = Backoff(initial_s=0.05, longest_s=1.0, jitter_ratio=0.0)
_LAST_ATTEMPT_S = 2.0  # longer than SQLite waits for another program's lock
_GIVEN_UP = "what is not committed has not happened, and the next start goes on from the last commit"


class Writer:
    """Drives the store on a thread of its own.

    Attributes:
        commits: how many commits it has made. Written by its thread only.
        units: how many units those held. Written by its thread only.
        latency: of each commit, how long its first unit was whole before it was on disk. Written by its thread only.
        writing: how long each commit took to write, without attempts that failed. Written by its thread only.
        commits_lost, perhaps_lost: as the store says when it is opened.
        failure: why nothing more could be written; read once the thread has ended.
    """

    def __init__(
        self,
        folder: Path,
        type_names: dict[str, str],
        clock: Clock,
        *,
        run_id: str = "",
        synchronous: Literal["NORMAL", "FULL"],
        give_up_s: float,
        on_trouble: Callable[[int, StoreError, bool], None],
        on_resumed: Callable[[int], None] = lambda failures: None,
        threads: Threads = OS_THREADS,
        open_store: Callable[[], OpenStore] | None = None,
    ) -> None:
        """Makes the writer; `open` starts its thread.

        Args:
            folder: where the store is, or will be.
            type_names: the name of the type of each durable channel's messages.
            clock: for the waits between attempts.
            run_id: kept beside the messages that this run sends.
            synchronous: what a commit survives: "NORMAL" the end of the process, "FULL" the loss of power too.
            give_up_s: how long a commit is tried again before the system is stopped.
            on_trouble: told of each failed attempt, on the writer's thread: how many in a row, the error, whether it was
                the last one.
            on_resumed: told, likewise, when a commit is made that had failed: how many times.
            threads: where its thread comes from.
            open_store: opens the store, on the writer's thread; by default the one in the folder.
        """
        self._folder = folder
        self._ledger = Ledger(type_names, run_id)
        self._clock = clock
        self._synchronous: Literal["NORMAL", "FULL"] = synchronous
        self._give_up_s = give_up_s
        self._on_trouble = on_trouble
        self._on_resumed = on_resumed
        self._open_store = open_store or self._open_folder
        self._parker = threads.parker()
        self._journal: Journal | None = None
        self._opened = threads.signal()
        self._go = threads.signal()
        self._recovered: Recovered | None = None
        self._refusal: BaseException | None = None
        self._given_up = False  # set by close(), read by the thread: nobody waits for a commit that fails now
        self._thread = threads.thread(self._live, "minions-writer")
        self.commits = 0
        self.units = 0
        self.latency = Recorder()
        self.writing = Recorder()
        self.commits_lost = 0
        self.perhaps_lost = False
        self.failure: StoreError | None = None

    # ------------------------------------------------------------------ called from elsewhere
    def open(self) -> Recovered:
        """Opens the store and returns what an earlier run left. Blocks until that is read.

        Raises:
            StoreError: the folder cannot be used; nothing in it was changed.
        """
        try:
            self._thread.start()
            self._opened.wait()
            if self._refusal is not None:
                self._thread.join()
                raise self._refusal
            assert self._recovered is not None
            recovered, self._recovered = self._recovered, None
            return recovered
        except BaseException:  # Ctrl-C in a program that handles it itself: the folder must not stay locked
            self._go.set()
            raise

    def begin(self, journal: Journal) -> None:
        """Starts writing what becomes whole in `journal`."""
        self._journal = journal
        self._go.set()

    def close(self, timeout_s: float | None = None) -> bool:
        """Ends the thread once everything is written, and closes the store; False when it did not end in time. Blocks.

        When it did not, a commit that fails is given up at its next attempt, so that others may have the folder.
        """
        if self._journal is not None:
            self._journal.commits.close()
        self._go.set()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            return True
        self._given_up = True
        self._parker.unpark()
        self._thread.join(_LAST_ATTEMPT_S)
        return not self._thread.is_alive() and self.failure is None

    # ------------------------------------------------------------------ the writer's thread
    def _live(self) -> None:
        try:
            store = self._open_store()
        except BaseException as error:  # noqa: BLE001 - reported: open() raises it in the thread that waits there
            self._refusal = error
            self._opened.set()
            return
        try:
            self._serve(store)
        finally:
            store.close()

    def _open_folder(self) -> OpenStore:
        return Store.open(self._folder, synchronous=self._synchronous)

    def _serve(self, store: OpenStore) -> None:
        try:
            self.commits_lost, self.perhaps_lost = store.commits_lost, store.perhaps_lost
            self._recovered = self._ledger.recover(store)
        except BaseException as error:  # noqa: BLE001 - reported: open() raises it in the thread that waits there
            self._refusal = error
            return
        finally:
            self._opened.set()
        self._go.wait()
        journal = self._journal
        if journal is None:
            return
        try:
            while True:
                sealed = journal.commits.seal(self._parker)
                if sealed is not None:
                    self._write(store, journal, sealed)
                elif journal.commits.finished:
                    return
                else:
                    self._parker.park(None)
        except StoreError as error:
            self.failure = error
            journal.commits.fail(error)
        except BaseException as error:  # noqa: BLE001 - reported: the system stops with it
            self.failure = StoreUnusable(f"the writer of {self._folder} failed: {type(error).__name__}: {error}")
            self.failure.__cause__ = error
            self._on_trouble(1, self.failure, True)
            journal.commits.fail(self.failure)

    def _write(self, store: OpenStore, journal: Journal, sealed: Sealed) -> None:
        """Writes one epoch, however often it takes."""
        change = self._ledger.change(sealed)
        give_up_s = self._clock.monotonic() + self._give_up_s
        attempt = 0
        while True:
            began_s = self._clock.monotonic()
            try:
                store.commit(change.puts, change.deletes)
                break
            except CommitFailed as error:
                attempt += 1
                now_s = self._clock.monotonic()
                if error.permanent:
                    self._on_trouble(attempt, error, True)
                    raise
                if self._given_up or now_s >= give_up_s:
                    failure = CommitFailed(f"{error}; {_GIVEN_UP}", permanent=False)
                    self._on_trouble(attempt, failure, True)
                    raise failure from error
                self._on_trouble(attempt, error, False)
                self._wait_until(now_s + _BACKOFF.delay_s(attempt))
        if attempt:
            self._on_resumed(attempt)
        done_s = self._clock.monotonic()
        self.writing.add(done_s - began_s)
        self.latency.add(max(0.0, done_s - sealed.first_s))
        self._ledger.confirm(change)
        self.commits += 1
        self.units += sealed.units
        journal.commits.committed(sealed)

    def _wait_until(self, deadline_s: float) -> None:
        while self._clock.monotonic() < deadline_s and not self._given_up:
            self._clock.wait(self._parker, deadline_s)

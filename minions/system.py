"""`System`: declare, connect, check, run. The one file that knows all the rest, and thin: it hands on."""

from __future__ import annotations

import inspect
import logging
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from minions import events
from minions.clock import Clock, SystemClock
from minions.errors import StoreError, SystemFailed, TopologyError, UsageError
from minions.flow import rows
from minions.flow.codec import state_codec_of
from minions.flow.rows import DeadLetter
from minions.flow.statistics import Statistics
from minions.flow.store import has_store, read_rows
from minions.flow.table_reader import TableReader
from minions.life.dead_letters import DeadLetters, opened_apart
from minions.life.foreground import Foreground, leave_now
from minions.life.plan import Plan
from minions.life.runtime import Options, Runtime
from minions.life.tables import NOTHING_UNSAVED, TableView, table_codecs_of
from minions.model.component import Component, copy_of
from minions.model.partition import PARTITIONS, PartitionBy, home_of, partition_of_key
from minions.model.policy import Restart
from minions.model.ports import Inbox, Outbox, State, Table
from minions.model.topology import Link, Node, Topology, default_name
from minions.observe.logs import log_event, shown_by_default

__all__ = ["System"]

C = TypeVar("C", bound=Component)
T = TypeVar("T")

EXIT_SURVIVORS = 70
"""The process ends with this when threads were left that could not be ended."""


class System:
    """Components, how they are connected, and the folder that their state is kept in.

    Args:
        name: shows up in log lines and names of threads.
        folder: the state folder; by default ``.minions`` beside the script that makes the system.
        synchronous: what a commit survives: "NORMAL" any end of the process; "FULL" the loss of power too, at one fsync a
            commit. With "NORMAL" a loss of power leaves the state consistent, but may take the last commits.
        stop_timeout_s: the one deadline for an orderly stop; what did not stop by then is abandoned and reported.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        stop_timeout_s: float = 10.0,
    ) -> None:
        if synchronous not in ("NORMAL", "FULL"):
            raise UsageError(f"System({name!r}): synchronous={synchronous!r} must be 'NORMAL' or 'FULL'")
        self.name = name
        self.folder = Path(folder) if folder is not None else _beside_the_caller()
        self._synchronous: Literal["NORMAL", "FULL"] = synchronous
        self._stop_timeout_s = stop_timeout_s
        self._topology = Topology()
        self._clock: Clock = SystemClock()
        self._runtime: Runtime | None = None
        self._log = logging.getLogger(f"minions.{name}")

    # ------------------------------------------------------------------ declaring
    def add(
        self,
        component: C,
        *,
        name: str | None = None,
        replicas: int = 1,
        partition_by: PartitionBy | None = None,
        restart: Restart = Restart(),
    ) -> C:
        """Adds a component and returns it, so that its ports can be connected.

        The object is a blueprint: each start of the component makes a fresh copy from the same configuration. Its `State`
        attributes answer what the last whole unit left.

        Args:
            name: under which its state is kept; by default the name of its class in snake case.
            replicas: how many threads share its inboxes, each with an instance of its own. May differ from run to run.
            partition_by: the key of a message: the name of one of its attributes (of its class, in all inboxes), or a function
                of the message. All messages with one key are handled by one replica, in order. Keys are spread over 128
                partitions, and each `State` has a value for each partition, which is there while one of its messages is
                handled; with another number of replicas a partition moves with its messages and its state.
            restart: how often it may fail by itself, and how fast it comes back.
        """
        self._refuse_while_running("add()")
        if not isinstance(component, Component):
            raise UsageError(
                f"System.add() takes a component, such as add(Average()), not {component!r}"
                + ("; add an object of that class" if isinstance(component, type) else "")
            )
        name = name if name is not None else default_name(type(component))
        node = Node(name, component, replicas, restart, partition_by)
        if self._topology.node_of(component) is not None:
            raise UsageError(f"{node.name}: this very object was added before; make another one, or ask for replicas=")
        self._topology.add(node)
        component._minions.reader = lambda state: self._read_state(node, state, node.name)
        component._minions.table_reader = lambda table: self._read_table(node, table, node.name)
        return component

    def connect(self, outbox: Outbox[T], inbox: Inbox[T]) -> None:
        """Feeds an inbox from an outbox of the same type; both may be connected several times.

        Args:
            outbox: of a component that was added: ``thermometer.readings``.
            inbox: of a component that was added: ``average.readings``.
        """
        self._refuse_while_running("connect()")
        for port, kind, expected in ((outbox, Outbox, "first an outbox"), (inbox, Inbox, "then an inbox")):
            if not isinstance(port, kind) or port.blueprint is None:
                raise UsageError(f"System.connect() takes {expected} of a component that was added, not {port!r}")
        self._topology.connect(Link(outbox, inbox))

    def check(self) -> None:
        """Looks at the whole system without starting anything.

        Raises:
            TopologyError: with every problem: which component, which port, and what to do.
        """
        self._plan()

    def _plan(self) -> Plan:
        problems = self._topology.problems()
        plan, unstorable = Plan.of(self._topology, run_id=secrets.token_hex(4))
        if problems or unstorable:
            raise TopologyError(self.name, [*problems, *unstorable])
        return plan

    # ------------------------------------------------------------------ running
    def run(self, *, forever: bool = False) -> str:
        """Runs the system in the foreground, until it is stopped or nothing can happen any more. Blocks.

        Nothing can happen any more when every source has finished and every inbox is empty. On the main thread, Ctrl-C and
        SIGTERM stop in order: sources first, what was sent is handled, then the rest; a second one (not within the same fifth
        of a second) ends at once, and what was committed is kept. SIGUSR1 prints the stacks of all threads.

        Args:
            forever: stay when nothing can happen any more.

        Returns:
            Why it ended: "finished", "stopped", "interrupted" (Ctrl-C) or "terminated" (SIGTERM).

        Raises:
            TopologyError: see `check`.
            CannotDecode: what is kept is not what the classes say; nothing was changed.
            SystemExit: the state folder cannot be used (the cause is a `StoreError`; nothing in it was changed), a component
                failed too often, or something could not be kept: one sentence, exit code 1. Where threads are left that
                cannot be ended, the process ends at once with exit code 70.
        """
        try:
            foreground = Foreground()
        except OSError as error:
            raise SystemExit(
                f"{self.name}: cannot start: {error}; raise the limit on open files (ulimit -n)"
            ) from error
        with shown_by_default(), foreground.handlers():
            runtime = self._make(forever)
            runtime.start_apart(foreground.ended)
            foreground.wait(runtime.stop, self._end_at_once)
        if isinstance(runtime.refusal, StoreError):
            raise SystemExit(f"{self.name}: {runtime.refusal}") from runtime.refusal
        if runtime.refusal is not None:
            raise runtime.refusal
        stopped = runtime.stopped
        assert stopped is not None
        report = f"{self.name} failed: {'; '.join(stopped.problems)}"
        if stopped.survivors:
            leave_now(EXIT_SURVIVORS, report)
        if stopped.problems:
            raise SystemExit(report)  # which Python prints, and ends with exit code 1
        return stopped.reason

    @contextmanager
    def started(self) -> Iterator[System]:
        """Runs the system inside another program: a test, a notebook, a web application.

        It is up when the block is entered, stays until the block is left, and is then stopped in order. No signal handlers are
        installed and the process is never ended.

        Raises:
            TopologyError: see `check`.
            StoreError: the state folder cannot be used; nothing in it was changed.
            SystemFailed: at the end of the block: something failed, or threads are left that cannot be ended.
        """
        runtime = self._make(forever=True)
        try:
            runtime.start()
            was_up = runtime.wait_until_up()
            if was_up:
                yield self
        finally:
            runtime.end()
        self._raise_if_failed(runtime)
        if not was_up:
            raise SystemFailed(f"{self.name} was stopped before all of its components had started")

    def stop(self) -> None:
        """Begins an orderly stop and returns at once; without effect when the system does not run. Any thread may call it."""
        runtime = self._running
        if runtime is not None:
            runtime.stop("stopped")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until nothing can happen any more, or the system has ended; False when that did not happen in time.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.wait() works while the system runs: inside `with system.started():`")
        return runtime.wait_until_quiet(timeout_s)

    def _make(self, forever: bool) -> Runtime:
        self._refuse_while_running("run()")
        options = Options(
            folder=self.folder,
            synchronous=self._synchronous,
            stop_timeout_s=self._stop_timeout_s,
            forever=forever,
        )
        self._runtime = Runtime(self.name, self._topology, self._plan(), options, self._clock, self._on_event)
        return self._runtime

    @property
    def _running(self) -> Runtime | None:
        """The run that has begun and not ended."""
        runtime = self._runtime
        return runtime if runtime is not None and runtime.is_alive else None

    def _raise_if_failed(self, runtime: Runtime) -> None:
        if runtime.stopped is not None and runtime.stopped.problems:
            raise SystemFailed(f"{self.name} failed: {'; '.join(runtime.stopped.problems)}")

    def _end_at_once(self, signal_number: int) -> None:
        if self._runtime is not None:
            self._runtime.end_at_once()
        leave_now(128 + signal_number, f"{self.name}: {signal.Signals(signal_number).name} again, ended at once")

    def _on_event(self, event: events.Event) -> None:
        log_event(self._log, event)

    def _refuse_while_running(self, method: str) -> None:
        if self._running is not None:
            raise UsageError(f"{self.name}: {method} is not possible while the system runs (or is still stopping)")

    # ------------------------------------------------------------------ dead letters
    def dead_letters(self, of: Component | Inbox[Any] | str | None = None) -> list[DeadLetter]:
        """What was set aside, inbox by inbox, in the order of the messages. Any thread, also while the system does not run.

        Reads the disk, and changes nothing.

        Args:
            of: a component that was added, one of its inboxes (``average.readings``), or the name of either (``"average"``,
                ``"average.readings"``), also of one that is no longer part of the system; None for all.

        Raises:
            UsageError: there is nothing of that name.
            StoreError: the state folder cannot be read.
        """
        runtime = self._keeping
        letters = runtime.dead_letters if runtime is not None else DeadLetters(self.folder, {}, inboxes=self._inboxes())
        return letters.listed(self._named(of))

    def message_of(self, letter: DeadLetter) -> Any:
        """The message that a dead letter keeps, as an object of its class.

        Raises:
            UsageError: its inbox is not part of the system, so that the class cannot be told.
            CannotDecode: it is of another class than the inbox now carries, or not what the class says.
        """
        runtime = self._running
        return DeadLetters(self.folder, (self._plan() if runtime is None else runtime.plan).channels).message_of(letter)

    def retry_dead_letters(
        self, *letters: DeadLetter | str, of: Component | Inbox[Any] | str | None = None
    ) -> list[DeadLetter]:
        """Sends dead letters to their inboxes once more, behind what waits there, and returns them once that is on disk.

        They keep their `message_id`, and their attempts begin anew. They need no room: the inbox may hold more than its
        capacity for a while. Through any crash, each is a dead letter or a waiting message, never both and never neither.

        Any thread may call it, also while the system does not run: then it takes the state folder for a moment, and the next
        start handles them. It is no part of the unit of a component that calls it.

        Args:
            letters: which ones: dead letters, or the ids of their messages.
            of: all of a component or an inbox, see `dead_letters`.

        Raises:
            NoSuchDeadLetter: of one of them there is none, or somebody else was faster. Here and below, nothing was done.
            CannotDecode: one cannot be read any more, see `message_of`.
            UsageError: the inbox of one is not part of the system (any more), or the system is just ending.
            StoreError: the state folder cannot be used: `StoreLocked` where another process runs on it.
        """
        with self._dead_letters_in_hand(retrying=True) as in_hand:
            return in_hand.retry(letters, self._named(of))

    def drop_dead_letters(
        self, *letters: DeadLetter | str, of: Component | Inbox[Any] | str | None = None
    ) -> list[DeadLetter]:
        """Drops dead letters for good, and returns them once that is on disk. When and where as `retry_dead_letters`.

        Args:
            letters: which ones: dead letters, or the ids of their messages.
            of: all of a component or an inbox, see `dead_letters`.

        Raises:
            NoSuchDeadLetter: of one of them there is none, or somebody else was faster; nothing was done.
            UsageError: the system is just ending, or there is nothing of that name; nothing was done.
            StoreError: the state folder cannot be used: `StoreLocked` where another process runs on it.
        """
        with self._dead_letters_in_hand(retrying=False) as in_hand:
            return in_hand.drop(letters, self._named(of))

    @contextmanager
    def _dead_letters_in_hand(self, *, retrying: bool) -> Iterator[DeadLetters]:
        runtime = self._keeping
        if runtime is not None:
            yield runtime.dead_letters
            return
        channels = self._plan().channels if retrying else {}
        with opened_apart(
            self.folder, channels, self._inboxes(), self._clock, self._synchronous, self._on_event
        ) as apart:
            yield apart

    def _inboxes(self) -> list[str]:
        return [f"{node.name}.{inbox}" for node in self._topology.nodes for inbox in node.declaration.inboxes]

    @property
    def _keeping(self) -> Runtime | None:
        """The run that has the state folder."""
        runtime = self._running
        return runtime if runtime is not None and runtime.plan.durable else None

    def _named(self, of: Component | Inbox[Any] | str | None) -> str | None:
        if of is None or isinstance(of, str):
            return of
        node = self._topology.node_of(of.blueprint if isinstance(of, Inbox) else of)
        if node is None:
            raise UsageError(f"{self.name}: {of!r} is no component that was added, no inbox of one, and no name")
        return f"{node.name}.{of.name}" if isinstance(of, Inbox) else node.name

    # ------------------------------------------------------------------ looking
    def statistics(self) -> Statistics:
        """What was counted since the system was started: lengths, high-water marks, time blocked, commits. Any thread.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.statistics() works while the system runs")
        return runtime.statistics()

    def partition(self, component: C, key: Any) -> C:
        """A component with `partition_by`, as seen from the partition of a key: its `State` attributes answer that one's values.

        Raises:
            UsageError: the component was not added, or not with `partition_by`.
            TypeError: no value of that type can be a key.
        """
        return self._partition_view(component, partition_of_key(key))

    def partitions(self, component: C) -> tuple[C, ...]:
        """The same for each partition; where nothing was kept, a `State` answers its first value.

        Raises:
            UsageError: the component was not added, or not with `partition_by`.
        """
        return tuple(self._partition_view(component, number) for number in range(PARTITIONS))

    def _partition_view(self, component: C, number: int) -> C:
        node = self._topology.node_of(component)
        if node is None or node.partition_by is None:
            raise UsageError(f"{self.name}: {component!r} was not added to this system with partition_by=")
        view = copy_of(component)
        home = home_of(node.name, number)
        view._minions.reader = lambda state: self._read_state(node, state, home)
        view._minions.table_reader = lambda table: self._read_table(node, table, home)
        return view

    def _read_table(self, node: Node, table: Table[Any, Any], home: str) -> TableView:
        """A table as the last whole unit left it; as it is on disk when the system does not run."""
        if node.partition_by is not None and home == node.name:
            raise UsageError(
                f"{node.name}.{table.name} has entries for each partition: "
                f"system.partition({node.name}, key).{table.name}, or system.partitions({node.name})"
            )
        codecs = table_codecs_of(table)
        runtime = self._keeping
        if runtime is None:
            return TableView(table.name, home, codecs, NOTHING_UNSAVED, TableReader(self.folder, lasting=False))
        return TableView(table.name, home, codecs, runtime.journal, runtime.disk)

    def _read_state(self, node: Node, state: State[Any], home: str) -> Any:
        """A copy of what the last whole unit left of a state; of what is on disk when the system does not run."""
        if node.partition_by is not None and home == node.name:
            raise UsageError(
                f"{node.name}.{state.name} has a value for each partition: "
                f"system.partition({node.name}, key).{state.name}, or system.partitions({node.name})"
            )
        runtime = self._running
        stored = runtime.journal.stored_states(home) if runtime is not None else self._states_on_disk(home)
        if state.name not in stored:
            return state.first_value()
        return state_codec_of(state.type, version=state.version, migrations=state.migrations).decode(stored[state.name])

    def _states_on_disk(self, home: str) -> dict[str, bytes]:
        if not has_store(self.folder):
            return {}
        key = rows.STATES + home
        found = dict(read_rows(self.folder, key))
        return rows.states_of(key, found[key]) if key in found else {}


def _beside_the_caller() -> Path:
    """``.minions`` in the folder of the file that made the system; in the working directory where there is no file."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    script = frame.f_globals.get("__file__") if frame is not None else None
    return (Path(script).absolute().parent if script else Path.cwd()) / ".minions"

"""`System`: declare, connect, check, run. The one file that knows all the rest, and thin: it hands on."""

from __future__ import annotations

import inspect
import logging
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, overload

import attrs

from minions import events
from minions.clock import Clock, SystemClock
from minions.errors import ConfigurationError, StoreError, SystemFailed, TopologyError, UsageError
from minions.flow.os_threads import OS_THREADS
from minions.flow.rows import DeadLetter
from minions.life import commands
from minions.life.calling import Proxy, refuse_bad_seconds
from minions.life.crash import Crash, crash_named, crashes_in
from minions.life.dead_letters import DeadLetters, opened_apart
from minions.life.foreground import Foreground, end_although_somebody_hangs, last_word, leave_now
from minions.life.history import MOST_ROWS, History
from minions.life.kept import Kept
from minions.life.options import Options
from minions.life.plan import Known, Plan
from minions.life.replaying import Replay, replay
from minions.life.runtime import Runtime
from minions.life.settings import Configured, Settings
from minions.life.statistics import Statistics
from minions.life.status import ComponentStatus
from minions.life.switch_interval import switch_interval
from minions.model import checks
from minions.model.component import Component, Exactly
from minions.model.crashes import Crashes
from minions.model.graph import Graph
from minions.model.limits import Watchdog
from minions.model.partition import PartitionBy
from minions.model.policy import OnStall, Restart, Strategy
from minions.model.ports import Inbox, Outbox, Uses
from minions.model.topology import Group, Link, Node, Topology, default_name
from minions.model.wrapped import Wrapped
from minions.observe.event_log import EventLog
from minions.observe.logs import log_event, shown_by_default
from minions.observe.plugins import Plugins
from minions.observe.running import RunningSystem
from minions.operate.answers import Answers
from minions.operate.control import Control
from minions.threads import Threads

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
        watchdog: what is looked at while it runs, and what follows; see `Watchdog`.
        max_zombies: how many threads may be abandoned and still alive; with one more the system stops.
        control: whether there is a control socket while it runs, by which the command line reaches it; for this user only.
        crashes: what is kept of a component that fails, so that it can be looked at again; see `Crashes` and `replay`.

    What ``minions.toml`` beside the script says (in the tables ``[system]``, ``[watchdog]``, ``[crashes]``, ``[plugins]`` and
    ``[components.<name>]``) holds in the place of what the program says.

    Attributes:
        plugins: what is told of everything that happens; see `Plugins`.

    Raises:
        UsageError: naming every argument that is wrong.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        stop_timeout_s: float = 10.0,
        watchdog: Watchdog = Watchdog(),
        max_zombies: int = 16,
        control: bool = True,
        crashes: Crashes = Crashes(),
    ) -> None:
        self.name = name
        script, self._module_name = _script_of_the_caller()
        project = script.parent if script is not None else Path.cwd()
        self.folder = Path(folder) if folder is not None else project / ".minions"
        self._configuration_path = project / "minions.toml"
        self._script = script
        self._settings = Settings(
            synchronous=synchronous,
            stop_timeout_s=stop_timeout_s,
            watchdog=watchdog,
            max_zombies=max_zombies,
            control=control,
            crashes=crashes,
        )
        if problems := [*checks.text("name", name), *self._settings.problems()]:
            raise UsageError(f"System({name!r}): {'; '.join(problems)}")
        self._topology = Topology()
        self._clock: Clock = SystemClock()
        self._runtime: Runtime | None = None
        self._log = logging.getLogger(f"minions.{name}")
        self._answers: Answers | None = (
            None  # of the last run, where it has a control socket; this and the next two likewise
        )
        self._control: Control | None = None
        self._event_log: EventLog | None = None  # of the last run; replaced before its observer's thread is started
        self._watcher: Callable[[events.Event], None] | None = None  # likewise; told of each event, for a test
        self.plugins = Plugins(name)
        self._kept = Kept(name, self._topology, lambda: self.folder, lambda: self._running)

    # ------------------------------------------------------------------ declaring
    def add(
        self,
        component: C,
        *,
        name: str | None = None,
        replicas: int = 1,
        partition_by: PartitionBy | None = None,
        restart: Restart = Restart(),
        stall_after_s: float | None = None,
        on_stall: OnStall = "report",
        async_exception: bool = False,
    ) -> C:
        """Adds a component and returns it, so that its ports can be connected.

        The object is a blueprint: each start of the component makes a fresh copy from the same configuration. Its `State`
        attributes answer what the last whole unit left.

        Args:
            name: under which its state is kept; by default the name of its class in snake case.
            replicas: how many threads share its inboxes, each with an instance of its own; 10,000 at most. May differ from run
                to run.
            partition_by: the key of a message: the name of one of its attributes (of its class, in all inboxes), or a function
                of the message. All messages with one key are handled by one replica, in order. Keys are spread over 128
                partitions, and each `State` has a value for each partition, which is there while one of its messages is
                handled; with another number of replicas a partition moves with its messages and its state.
            restart: whether, how often and how fast it comes back after it has ended by itself.
            stall_after_s: it is stalled when it makes no progress for so long, in seconds. By default a unit of work is after a
                minute, and a `run` that waits outside of one never is, because that is what it is for.
            on_stall: what follows: "report" (an event with what its thread waits for), "restart" (a new life; a thread that
                cannot be ended is abandoned), "stop" (an orderly stop of the system, exit code 1).
            async_exception: when it is to end and neither `on_interrupt` nor what it gave to `blocking` helps, an exception may
                be raised in its thread, where that computes in Python. It can leave locks held and ``finally`` blocks half
                done, so it is for code that holds nothing.
        """
        self._refuse_while_running("add()")
        if not isinstance(component, Component):
            raise UsageError(
                f"System.add() takes a component, such as add(Average()), not {component!r}"
                + ("; add an object of that class" if isinstance(component, type) else "")
            )
        name = name if name is not None else default_name(type(component))
        for problem in checks.text("name", name):
            raise UsageError(f"System.add({component!r}): {problem}")
        node = Node(name, component, replicas, restart, partition_by, stall_after_s, on_stall, async_exception)
        if self._topology.node_of(component) is not None:
            raise UsageError(f"{node.name}: this very object was added before; make another one, or ask for replicas=")
        self._topology.add(node)
        self._kept.show_in(component, node, node.name)
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

    def group(self, name: str, components: Sequence[Component], strategy: Strategy = "one_for_all") -> None:
        """Declares that components are restarted together, whenever the life of one of them ends in a failure or is restarted.

        Those that are up are stopped between two units of work, producers first; once the wait after the failure is over all
        begin again, consumers first. What is sent to them meanwhile waits.

        Args:
            name: of the group.
            components: that were added, each in one group at most.
            strategy: "one_for_all" all of them; "rest_for_one" the one that failed and those named after it; "one_for_one" that
                one only, as without a group.
        """
        self._refuse_while_running("group()")
        self._topology.groups.append(Group(name, tuple(components), strategy))

    @overload
    def use(self, used: T, component: Wrapped[T]) -> None: ...
    @overload
    def use(self, used: Exactly[C], component: C) -> None: ...
    def use(self, used: Any, component: Any) -> None:
        """Says which component a `Uses` stands for, where several may be meant.

        Args:
            used: of a component that was added: ``average.database``.
            component: that was added, of the class that it uses, or that wraps an object of that class.
        """
        self._refuse_while_running("use()")
        if not isinstance(used, Uses) or used.blueprint is None:  # for a type checker it is the other component
            raise UsageError(
                f"System.use() takes first a Uses of a component that was added, such as average.database, not {used!r}"
            )
        self._topology.choose(used, component)

    def check(self) -> None:
        """Looks at the whole system, and at ``minions.toml``, without starting anything.

        Raises:
            TopologyError: with every problem: which component, which port, and what to do; those of the file included.
            ConfigurationError: nothing is wrong but the file: which value, and what to write instead.
        """
        self._plan()

    def _plan(self) -> Plan:
        return self._plan_and_settings()[0]

    def _plan_and_settings(self, known: Known | None = None) -> tuple[Plan, Settings]:
        configured = self._configured()
        problems = self._topology.problems()
        plan, unstorable = Plan.of(self._topology, secrets.token_hex(4), configured.values, known)
        if problems or unstorable:
            misconfigured = [f"{self._configuration_path}: {problem}" for problem in configured.problems]
            raise TopologyError(self.name, [*problems, *unstorable, *misconfigured])
        if configured.problems:
            raise ConfigurationError(str(self._configuration_path), configured.problems)
        return plan, configured.settings

    def _configured(self) -> Configured:
        return Configured.of(self._configuration_path, self._settings, self._topology.nodes, self.plugins.configure)

    # ------------------------------------------------------------------ running
    def run(self, *, forever: bool = False, switch_interval_s: float | None = None) -> str:
        """Runs the system in the foreground, until it is stopped or nothing can happen any more. Blocks.

        Nothing can happen any more when every source has finished, every inbox is empty and no component has a schedule. On the
        main thread, Ctrl-C and SIGTERM stop in order: sources first, what was sent is handled, then the rest; a second one (not
        within the same fifth of a second) ends at once, and what was committed is kept. SIGUSR1 prints the stacks of all threads.

        Args:
            forever: stay when nothing can happen any more.
            switch_interval_s: after how many seconds CPython takes the interpreter from a thread that computes when another
                thread waits for it: from 0.000001 to 1, in all threads of the process, while the system runs. Where several
                systems in the process ask, the shortest holds. None leaves it alone (0.005, if nobody has set it). What it
                brings and costs is on the page about performance.

        Returns:
            Why it ended: "finished", "stopped", "interrupted" (Ctrl-C) or "terminated" (SIGTERM).

        Raises:
            TopologyError: see `check`.
            CannotDecode: what is kept is not what the classes say; nothing was changed.
            UsageError: that is no switch interval; nothing was started.
            RuntimeError: the machine gives no further thread; it may be run later.
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
        with shown_by_default(), foreground.handlers(), switch_interval(self.name, switch_interval_s):
            runtime = self._make(forever)
            try:
                runtime.start_apart(foreground.ended)
                foreground.wait(runtime.stop, self._end_at_once)
            finally:
                self._close_control()
        if isinstance(runtime.refusal, StoreError):
            raise SystemExit(last_word(f"{self.name}: {runtime.refusal}")) from runtime.refusal
        if runtime.refusal is not None:
            raise runtime.refusal
        stopped = runtime.stopped
        assert stopped is not None
        report = f"{self.name} failed: {'; '.join(stopped.problems)}"
        if stopped.survivors:
            leave_now(EXIT_SURVIVORS, report)
        if not runtime.has_told_all:
            end_although_somebody_hangs(int(bool(stopped.problems)))
        if stopped.problems:
            raise SystemExit(last_word(report))
        return stopped.reason

    @contextmanager
    def started(self, *, switch_interval_s: float | None = None) -> Iterator[System]:
        """Runs the system inside another program: a test, a notebook, a web application.

        It is up when the block is entered, stays until the block is left, and is then stopped in order. No signal handlers are
        installed and the process is never ended.

        Args:
            switch_interval_s: see `run`; after the block holds again what held before.

        Raises:
            TopologyError: see `check`.
            UsageError: that is no switch interval; nothing was started.
            StoreError: the state folder cannot be used; nothing in it was changed.
            RuntimeError: the machine gives no further thread; it may be started later.
            SystemFailed: at the end of the block: something failed, or threads are left that cannot be ended.
        """
        with switch_interval(self.name, switch_interval_s):
            runtime = self._make(forever=True)
            try:
                runtime.start()
                was_up = runtime.wait_until_up()
                if was_up:
                    yield self
            finally:
                control = self._control
                if control is not None:  # also where the wait for the end is broken off
                    runtime.when_over().add_done_callback(lambda _: control.close())
                runtime.end()
                self._close_control()
        self._raise_if_failed(runtime)
        if not was_up:
            raise SystemFailed(f"{self.name} was stopped before all of its components had started")

    def stop(self, *components: Component | str) -> Future[None]:
        """Begins an orderly stop, of the system or of some components, and returns at once. Any thread may call it.

        A component is stopped between two units of work, producers first where there are several; it stays down until `start`,
        and its inboxes keep what waits and what arrives. One whose thread does not end is interrupted, and abandoned after
        `stop_timeout_s`. `run()` stays while a component is down that somebody may start again.

        Without effect when the system does not run.

        Args:
            components: that were added, or their names; the whole system without any.

        Returns:
            A future that is done when it has come about, here and in the next four. Its result is None, or a `ChangeFailed`. It
            need not be looked at; what it calls back is called on the supervisor's thread, and must be brief.
        """
        runtime = self._begun
        if runtime is None:
            over: Future[None] = Future()
            over.set_result(None)
            return over
        if components:
            return self._change(commands.Halt, components)
        runtime.stop("stopped")
        return runtime.when_over()

    def start(self, *components: Component | str) -> Future[None]:
        """Begins components that are down: stopped, finished, given up or isolated. Returns at once; see `stop`.

        Args:
            components: that were added, or their names; all without any.

        Raises:
            UsageError: the system does not run: `run` and `started` start it.
        """
        return self._change(commands.Start, components)

    def restart(self, *components: Component | str) -> Future[None]:
        """Gives components a new life, with what is to be restarted with them. Returns at once; see `stop`.

        Args:
            components: that were added, or their names; all that are not down without any.

        Raises:
            UsageError: the system does not run.
        """
        return self._change(commands.Restart, components)

    def pause(self, *components: Component | str) -> Future[None]:
        """Has components take nothing more; what they have in work they finish. Returns at once; see `stop`.

        Inboxes keep what arrives, and senders wait when they are full. A `run()` goes on until it sends, saves or receives. When
        the system stops, what waits for a paused component is left where it is.

        Args:
            components: that were added, or their names; all without any.

        Raises:
            UsageError: the system does not run.
        """
        return self._change(commands.Pause, components)

    def resume(self, *components: Component | str) -> Future[None]:
        """Lets components go on that were paused by `pause`. Returns at once; see `stop`.

        Args:
            components: that were added, or their names; all without any.

        Raises:
            UsageError: the system does not run.
        """
        return self._change(commands.Resume, components)

    @overload
    def call(  # type: ignore[overload-overlap]  # of what is wrapped, and of no other component, the object is called
        self, component: Wrapped[T], *, timeout_s: float | None = 30.0
    ) -> T: ...
    @overload
    def call(self, component: C, *, timeout_s: float | None = 30.0) -> C: ...
    def call(self, component: Any, *, timeout_s: float | None = 30.0) -> Any:
        """A component as seen from outside of the components, to call its methods: ``system.call(database).insert(row)``.

        Each call runs on the component's own thread, between two messages, as one unit of work, and blocks until it has; it
        returns what the method returned, or raises what it raised. Any thread but those of components, which declare a `Uses`.

        Of a component that `wrap.object` made, the methods are those of its object.

        Args:
            component: that was added.
            timeout_s: how long a call may take, in seconds; None: as long as it takes.

        Raises:
            UsageError: the system does not run, or this component answers no calls.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.call() works while the system runs: inside `with system.started():`")
        if timeout_s is not None:
            refuse_bad_seconds(timeout_s, f"{self.name}.call(timeout_s=...)")
        node = self._node_named(component)
        queue = runtime.plan.nodes[node.name].calls
        if queue is None:
            raise UsageError(
                f"{node.name} answers no calls: calls are answered between messages, and it has a run() of its own, or "
                "partitions, to which a call cannot be put down"
            )
        return Proxy(runtime.outsider, queue, type(node.blueprint), timeout_s)

    @overload
    def run_now(self, component: Component | str, method: str) -> Future[None]: ...
    @overload
    def run_now(self, component: Callable[[], None]) -> Future[None]: ...
    def run_now(self, component: Component | str | Callable[[], None], method: str = "") -> Future[None]:
        """Makes a tick of a schedule now: ``system.run_now(average.report)``. Returns at once; any thread may call it.

        It is made on the component's own thread, between two units of work, as soon as it is up and not paused; it neither takes
        the place of the next regular tick nor moves it. If the method raises, the future has what it raised, the unit of work
        never was, and the component goes on.

        Args:
            component: that was added, or its name, with the name of the method; or the method itself, as above.
            method: the name of the method that has the schedule.

        Returns:
            A future that is done when the tick is whole. Its result is None, or the error; a `CallFailed` where the component
            ends before. What it calls back is called on the component's thread, and must be brief.

        Raises:
            UsageError: the system does not run, or there is no schedule of that name.
            CallFailed: the component is down for good.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.run_now() works while the system runs: inside `with system.started():`")
        asked: Any = component
        if not isinstance(component, (Component, str)):
            asked, method = getattr(component, "__self__", component), getattr(component, "__name__", "")
        node = self._node_named(asked)
        schedules = node.declaration.schedules
        queue = runtime.plan.nodes[node.name].calls
        if method not in schedules or queue is None:
            raise UsageError(
                f"{node.name} has no schedule {method!r}: name one of {', '.join(schedules)}"
                if schedules
                else f"{node.name} has no schedules: mark a method with @every(...) or @cron(...)"
            )
        return runtime.outsider.submit_call(queue, method, (), {})

    def _change(self, kind: type[commands.Change], components: tuple[Component | str, ...]) -> Future[None]:
        runtime = self._begun
        if runtime is None:
            raise UsageError(f"{self.name} does not run: `system.run()` or `with system.started():` starts it")
        names = tuple(self._node_named(component).name for component in components)
        return runtime.change(kind, names or None, "operator")

    def _node_named(self, component: Component | str) -> Node:
        names = [node.name for node in self._topology.nodes]
        if isinstance(component, str):
            found = next((node for node in self._topology.nodes if node.name == component), None)
        else:
            found = self._topology.node_of(component)
        if found is None:
            raise UsageError(
                f"{self.name} has no component {component!r}: give what system.add(...) returned, or one of {', '.join(names)}"
            )
        return found

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until nothing can happen any more, or the system has ended; False when that did not happen in time.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.wait() works while the system runs: inside `with system.started():`")
        return runtime.wait_until_quiet(timeout_s)

    def _make(
        self,
        forever: bool,
        threads: Threads = OS_THREADS,
        watcher: Callable[[events.Event], None] | None = None,
        **instead: Any,
    ) -> Runtime:
        """Makes the next run.

        Args:
            forever: stay when nothing can happen any more.
            threads: where its threads come from.
            watcher: told of each event after everybody else, on the observer's thread.
            instead: settings that hold in the place of what the program and the file say.
        """
        self._refuse_while_running("run()")
        plan, settings = self._plan_and_settings()
        settings = attrs.evolve(settings, **instead)
        self._watcher = watcher
        options = Options(
            folder=self.folder,
            synchronous=settings.synchronous,
            stop_timeout_s=settings.stop_timeout_s,
            forever=forever,
            most_zombies=settings.max_zombies,
            watchdog=settings.watchdog,
            crashes=settings.crashes,
            program="" if self._script is None else os.path.relpath(self._script, self.folder),
            module=self._module_name,
        )
        self._event_log = EventLog(self.folder, self._clock, self._log)
        hooks = self.plugins.begin(self._clock, f"{self.name}/plugins")
        self._runtime = Runtime(
            self.name, self._topology, plan, options, self._clock, self._on_event, hooks, threads, units=hooks.units
        )
        hooks.system = RunningSystem(self.name, self._runtime.statistics, self._runtime.call_on_supervisor)
        self._answers = self._control = None
        if settings.control:
            self._open_control(self._runtime)
        return self._runtime

    def _open_control(self, runtime: Runtime) -> None:
        """Has the run open a control socket once the state folder is its own."""
        answers = Answers(runtime, self.folder, self.graph(), self.plugins.list, self._clock)
        control = Control(self.name, self.folder, answers, self._log)
        runtime.on_open = lambda: control.open(in_folder=runtime.plan.durable)
        runtime.on_closing = control.withdraw
        self._answers, self._control = answers, control

    def _close_control(self) -> None:
        if self._control is not None:
            self._control.close()

    @property
    def _running(self) -> Runtime | None:
        """The run that has begun and not ended."""
        runtime = self._runtime
        return runtime if runtime is not None and runtime.is_alive else None

    @property
    def _begun(self) -> Runtime | None:
        """The same, also while it opens its store: what is wished then is dealt with once it runs."""
        runtime = self._runtime
        return runtime if runtime is not None and not runtime.is_over else None

    def _raise_if_failed(self, runtime: Runtime) -> None:
        if runtime.stopped is not None and runtime.stopped.problems:
            raise SystemFailed(f"{self.name} failed: {'; '.join(runtime.stopped.problems)}")

    def _end_at_once(self, signal_number: int) -> None:
        if self._runtime is not None:
            self._runtime.end_at_once()
        if self._control is not None:
            self._control.withdraw()
        leave_now(128 + signal_number, f"{self.name}: {signal.Signals(signal_number).name} again, ended at once")

    def _on_event(self, event: events.Event) -> None:
        """On the observer's thread; on the caller's while `opened_apart` has the folder."""
        log_event(self._log, event)
        if self._event_log is not None:
            self._event_log.write(event)
        if self._answers is not None:
            self._answers.note(event)
        if self._watcher is not None:
            self._watcher(event)

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
            UsageError: the inbox of one is not part of the system (any more); or the system is just ending: then the first of
                several may have been dealt with, see `dead_letters` when it has ended.
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
            UsageError: there is nothing of that name, and nothing was done; or the system is just ending: then the first of
                several may have been dealt with, see `dead_letters` when it has ended.
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
            self.folder, channels, self._inboxes(), self._clock, self._configured().settings.synchronous, self._on_event
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

    # ------------------------------------------------------------------ crashes
    def crashes(self) -> list[Crash]:
        """What was recorded of components that failed, the newest first; files that cannot be read are passed over.

        Reads the disk, and changes nothing. Any thread, also while the system runs or another process runs it.
        """
        return [crash for _, crash in crashes_in(self.folder) if isinstance(crash, Crash)]

    def replay(self, crash: Crash | str | Path, *, answers: Mapping[str, Any] = MappingProxyType({})) -> Replay:
        """Runs the unit of work of a crash once more, offline, with the code as it is now.

        The component gets the messages, the state and the tables that it had, the answers that other components gave it, and what
        it had read of the clock. It is made anew from its configuration, and its `on_start` runs first. What it sends and keeps
        goes nowhere. No thread is started, and nothing of the state folder is written. What its code does to the outside world it
        does again.

        Blocks for as long as the code of the component does; on the caller's thread, also while the system runs.

        Args:
            crash: one of `crashes`; the id of one, or its file.
            answers: what other components answer to calls that the unit had not come to before it failed, by component and
                method: ``{"database.find": None}``; or a function, which gets the arguments of the call. Likewise what the unit
                reads of the clock beyond that, as ``"now"`` (an aware datetime) and ``"monotonic"`` (seconds). Where a call or
                a read is in neither place, the replay stops.

        Returns:
            Whether it has failed again, and how.

        Raises:
            CrashRefused: it cannot be read, or not be replayed: its component, its class or a type of its messages is gone, or
                something was kept by a later version of the program. Here and below, nothing of the component was run.
            UsageError: there is no such call as `answers` says, or it is nothing that could be read of the clock.
            TopologyError: see `check`.
        """
        found = crash if isinstance(crash, Crash) else crash_named(self.folder, str(crash))
        return replay(found, self._plan(), self._log, self._module_name, answers)

    # ------------------------------------------------------------------ looking
    def graph(self) -> Graph:
        """Which components there are, and which sends to which and calls which; also as text, Mermaid and DOT. Any thread."""
        return Graph.of(self.name, self._topology)

    def status(self) -> tuple[ComponentStatus, ...]:
        """Where every thread of a component is in its lifecycle, in the order of their start. Any thread.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.status() works while the system runs")
        return runtime.status()

    def statistics(self) -> Statistics:
        """What was counted and measured since the system was started: messages, times, commits, the process. Any thread.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.statistics() works while the system runs")
        return runtime.statistics()

    def history(self, last: int = MOST_ROWS) -> History:
        """The last moments of the running system: rates, lengths, CPU, memory, one at each tick of its watchdog. Any thread.

        Args:
            last: how many moments at most; 300 are kept, which is five minutes at a tick a second.

        Raises:
            UsageError: the system does not run.
        """
        runtime = self._running
        if runtime is None:
            raise UsageError(f"{self.name}.history() works while the system runs")
        return runtime.history(last)

    def partition(self, component: C, key: Any) -> C:
        """A component with `partition_by`, as seen from the partition of a key: its `State` attributes answer that one's values.

        Raises:
            UsageError: the component was not added, or not with `partition_by`.
            TypeError: no value of that type can be a key.
        """
        return self._kept.of_key(component, key)

    def partitions(self, component: C) -> tuple[C, ...]:
        """The same for each partition; where nothing was kept, a `State` answers its first value.

        Raises:
            UsageError: the component was not added, or not with `partition_by`.
        """
        return self._kept.of_all_partitions(component)


def _script_of_the_caller() -> tuple[Path | None, str]:
    """The file that made the system, None where there is no file; and what its module is called."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    if frame is None:
        return None, ""
    script = frame.f_globals.get("__file__")
    return Path(script).absolute() if script else None, str(frame.f_globals.get("__name__", ""))

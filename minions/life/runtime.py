"""A running system: opens what was kept, lets the supervisor begin and end lives, and closes it all.

Threads: the supervisor's does everything under "actions"; the caller's opens, posts commands and waits. `_ended` is how they
meet; the fields below it are written before it is set and read after.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial

import attrs

from minions import events
from minions.clock import Clock
from minions.errors import StoreError
from minions.fence import Fence, Mode
from minions.flow import rows
from minions.flow.histogram import Histogram
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.flow.statistics import FlowStatistics
from minions.flow.storage import Storage
from minions.life import commands
from minions.life.actions import (
    Abandon,
    Action,
    AskToStop,
    End,
    Hold,
    Keep,
    Launch,
    Notify,
    Quieted,
    Throw,
    Unserved,
    WatchIdle,
)
from minions.life.dead_letters import DeadLetters
from minions.life.history import MOST_ROWS, History
from minions.life.ladder import Ladder
from minions.life.life import Life
from minions.life.machine import thread_cpu_s
from minions.life.options import Options
from minions.life.outsider import Outsider
from minions.life.patrol import Patrol
from minions.life.pending import Pending
from minions.life.persistence import Persistence
from minions.life.plan import NodePlan, Plan
from minions.life.sheltered import ShelteredLife
from minions.life.statistics import ComponentStatistics, ProcessStatistics, Statistics, WatchdogStatistics
from minions.life.status import ComponentStatus, Deadlines
from minions.life.supervision import Supervision
from minions.life.supervisor import Supervisor
from minions.life.thread import ComponentThread
from minions.life.traced import TracedJournal, TracedLife, TracedShelteredLife
from minions.life.traces import describe, stack_of
from minions.life.watchdog import Seen
from minions.model.topology import Node, Topology
from minions.observe.hooks import Hooks
from minions.observe.observer import Observer
from minions.observe.units import Units
from minions.threads import Threads, report_unhandled

__all__ = ["Options", "Runtime"]

_LEAST_TIME_FOR_LAST_COMMIT_S = 2.0
_LAST_WORDS_TIMEOUT_S = 1.0
_OF_THE_PROCESS = tuple(field.name for field in attrs.fields(ProcessStatistics))
_OF_THE_WATCHDOG = tuple(field.name for field in attrs.fields(WatchdogStatistics))


class Runtime:
    """One run of a system, from its start to its end."""

    # What a simulation puts others in the place of, that tell it more.
    journal_class: Callable[..., Journal] = Journal
    observer_class: Callable[..., Observer] = Observer

    def life_class(self, node: Node) -> Callable[..., Life]:
        """Of which class the lives of a component are."""
        if self._units is not None:
            return partial(TracedShelteredLife if node.async_exception else TracedLife, self._units)
        return ShelteredLife if node.async_exception else Life

    def log_of(self, component: str) -> logging.Logger:
        """Where a component logs."""
        return logging.getLogger(f"minions.{self.name}.{component}")

    def __init__(
        self,
        name: str,
        topology: Topology,
        plan: Plan,
        options: Options,
        clock: Clock,
        on_event: Callable[[events.Event], None],
        hooks: Hooks | None = None,
        threads: Threads = OS_THREADS,
        storage: Storage | None = None,
        units: Units | None = None,
    ) -> None:
        """Makes the run; `start` begins it.

        Args:
            name: of the system.
            topology: its graph, which is sound.
            plan: what each component needs.
            options: how it runs.
            clock: the source of time.
            on_event: told of everything that happens, in order, on the observer's thread; may be slow, and may raise.
            hooks: those of plugins, told after it on a thread of their own.
            threads: where its threads come from.
            storage: where its state is kept; by default the folder.
            units: which units of work are told; None where none are.
        """
        self.name = name
        self.plan = plan
        self._threads_from = threads
        self._units = units
        self.journal = (
            self.journal_class(clock, durable=plan.durable, get_ident=threads.get_ident)
            if units is None
            else TracedJournal(clock, durable=plan.durable, get_ident=threads.get_ident, units=units)
        )
        self.outsider = Outsider(name, self.journal, clock, threads)
        self.dead_letters = DeadLetters(
            options.folder,
            plan.channels,
            self.journal,
            clock,
            threads=threads,
            read=None if storage is None else storage.read_rows,
        )
        self._options = options
        self._clock = clock
        self._observer = self.observer_class(
            on_event, self._report_defect, f"{name}/observer", clock, threads.parker(), hooks, threads.thread
        )
        self._ladder = Ladder(name, self._observer.post, threads)
        self._threads: dict[str, ComponentThread] = {}  # supervisor's thread only
        self._began_s = clock.monotonic()
        self._persistence = Persistence(
            name,
            plan,
            options,
            self.journal,
            clock,
            threads,
            storage,
            self._observer.post,
            self._commit_trouble,
        )
        self.disk = self._persistence.disk
        self._supervisor = Supervisor(
            Supervision(
                topology,
                self._is_quiet,
                deadlines=Deadlines.of(options.stop_timeout_s),
                forever=options.forever,
                most_zombies=options.most_zombies,
                chance=random.random,
            ),
            self._act,
            self._end_without_order,
            clock,
            f"{name}/supervisor",
            threads,
        )
        self._patrol = Patrol(
            name,
            options.watchdog,
            options.folder,
            clock,
            sources=tuple(node.name for node in topology.sources()),
            lives=self.lives,
            channels=plan.channels,
            names=tuple(name for each in plan.nodes.values() for name in each.node.lives()),
            post=self.post,
            on_fault=self._report_defect,
            threads=threads,
        )
        self._pending = Pending(name, self._report_defect)
        self._started = False
        self._all_on_disk = True  # supervisor's thread only
        self._ended = threads.signal()
        self._all_told = threads.signal()  # set once whoever waits for the end was answered
        self._up = threads.signal()
        self._quiet = threads.signal()
        self._when_ended: Callable[[], None] = lambda: None
        # Both are set before `start`, are brief and do not raise.
        self.on_open: Callable[[], object] = lambda: None  # called once what was kept is back, before anything begins
        self.on_closing: Callable[[], object] = lambda: None  # called before others may have the state folder
        self.has_told_all = True  # otherwise whoever is told hangs, in standard error for example
        self.stopped: events.SystemStopped | None = None
        self.refusal: BaseException | None = None

    # ------------------------------------------------------------------ the caller's side
    def start(self, when_ended: Callable[[], None] = lambda: None) -> None:
        """Restores what was kept, and begins; returns before the components have started.

        Args:
            when_ended: called once, on the supervisor's thread, when all is over.

        Raises:
            StoreError: the state folder cannot be used; nothing in it was changed.
            CannotDecode: something in it is not what the classes say; nothing in it was changed.
            RuntimeError: the machine gives no further thread; what was opened is closed.
        """
        self._when_ended = when_ended
        try:
            self._observer.start()
            if self.plan.durable:
                self._persistence.open(self._units)
            self.journal.on_idle = lambda: self.post(commands.Idle())
            self.on_open()
            if self._options.watchdog.enabled:
                self._patrol.start()
            self._supervisor.start()
            self._started = True
        except (
            BaseException
        ) as error:  # whatever it is, Ctrl-C too: the folder is free, and who waits for a start is told
            if self._supervisor.has_begun:  # then it runs, and is ended as what runs is: by `end`
                self._started = True
                raise
            try:
                self._let_go(error)
            finally:
                self._refuse(error)
            raise
        self.post(commands.Begin())

    def _let_go(self, error: BaseException) -> None:
        """Closes what was opened for a start that has come to nothing.

        Args:
            error: why. Whoever was told that the state was opened is told of the end too: a plugin may have opened something.
        """
        self._patrol.close(_LAST_WORDS_TIMEOUT_S)
        self._persistence.close_records(_LAST_WORDS_TIMEOUT_S)
        self.on_closing()
        self._persistence.close_store(_LEAST_TIME_FOR_LAST_COMMIT_S)
        if self._persistence.is_open:
            self._observer.post(
                events.SystemStopped(
                    reason="failed",
                    problems=(describe(error),),
                    survivors=(),
                    left_messages=sum(channel.size for channel in self.plan.channels.values() if channel.durable),
                    lost_messages=0,
                )
            )
        self._observer.close(_LAST_WORDS_TIMEOUT_S)

    def start_apart(self, when_ended: Callable[[], None]) -> None:
        """Starts on a thread of its own, because opening a large store takes time; returns at once.

        Args:
            when_ended: called once when all is over, also when it could not be started: then `refusal` says why.

        Raises:
            RuntimeError: the machine gives no further thread.
        """

        def begin() -> None:
            try:
                self.start(when_ended)
            except BaseException as error:  # noqa: BLE001 - reported: whoever waits for the end raises it
                self._refuse(error)
                when_ended()

        try:
            self._threads_from.thread(begin, f"{self.name}/opening").start()
        except RuntimeError as error:
            self._refuse(error)
            raise

    def post(self, command: commands.Command) -> None:
        """Hands a command to the supervisor. Safe to call from any thread."""
        self._supervisor.post(command)

    def statistics(self) -> Statistics:
        """What was counted so far. Any thread; each figure may be older than the next by a moment."""
        threads = list(self._threads.values())
        flow = self.journal.statistics(self.plan.channels.values(), [thread.life.fence for thread in threads])
        cpu_s = {thread.life.name: _cpu_s_of(thread) for thread in threads}
        sample, seen = self.seen.sample, self.seen
        commit_latency, commit_writing = self._persistence.latencies()
        return Statistics(
            up_for_s=self._clock.monotonic() - self._began_s,
            inboxes=flow.inboxes,
            components={name: self._component(plan, flow, cpu_s) for name, plan in self.plan.nodes.items()},
            units_unsaved=flow.units_unsaved,
            bytes_unsaved=flow.bytes_unsaved,
            commits=flow.commits,
            units_committed=flow.units_committed,
            commit_latency=commit_latency,
            commit_writing=commit_writing,
            process=ProcessStatistics()
            if sample is None
            else ProcessStatistics(**{name: getattr(sample, name) for name in _OF_THE_PROCESS}),
            watchdog=WatchdogStatistics(**{name: getattr(seen, name) for name in _OF_THE_WATCHDOG}),
        )

    def _component(self, plan: NodePlan, flow: FlowStatistics, cpu_s: Mapping[str, float]) -> ComponentStatistics:
        names = plan.node.lives()
        inboxes = [flow.inboxes[channel.name] for channel in plan.reads.values()]
        statuses = self._supervisor.supervision.statuses
        return ComponentStatistics(
            sent=sum(flow.sent.get(name, 0) for name in names),
            handled=sum(inbox.handled for inbox in inboxes),
            failed=sum(inbox.failed for inbox in inboxes),
            retried=sum(inbox.retried for inbox in inboxes),
            set_aside=sum(inbox.set_aside for inbox in inboxes),
            failures=sum(self._patrol.failures[name] for name in names),
            restarts=sum(statuses[name].restarts for name in names),
            cpu_s=sum(cpu_s.get(name, 0.0) for name in names),
            waits=Histogram.merged(inbox.waits for inbox in inboxes),
            handling=Histogram.merged(inbox.handling for inbox in inboxes),
        )

    def history(self, last: int = MOST_ROWS) -> History:
        """The last so many ticks of the watchdog. Any thread."""
        return self._patrol.history.take(last)

    def change(self, kind: type[commands.Change], components: tuple[str, ...] | None, by: str) -> Future[None]:
        """Wishes something of some components; returns at once. The future is done when it has come about.

        Args:
            kind: what: `commands.Start`, `Halt`, `Restart`, `Pause` or `Resume`.
            components: the names of components; None for all.
            by: who wishes it.
        """
        number, future = self._pending.change()
        self.post(kind(components, by, number))
        if self.is_over:
            self._tell_that_all_is_over()
        return future

    def status(self) -> tuple[ComponentStatus, ...]:
        """Where every component is, in the order of their start. Blocks for a moment: the supervisor answers."""
        found: list[ComponentStatus] = []
        answered = self._threads_from.signal()

        def look() -> None:
            now_s = self._clock.monotonic()
            found.extend(status.at(now_s) for status in self._supervisor.supervision.statuses.values())
            answered.set()

        if self._supervisor.is_current:  # called back by a future
            look()
        else:
            self.post(commands.Reached(look))
        answered.wait()
        return tuple(found)

    def statuses_within(self, timeout_s: float) -> tuple[tuple[ComponentStatus, ...], bool]:
        """The same for who must not wait for long, and whether the supervisor has answered; else it is as seen without it."""
        now_s = self._clock.monotonic()
        on_time = self.reach(timeout_s)
        return self.statuses_seen(now_s), on_time

    def statuses_seen(self, now_s: float) -> tuple[ComponentStatus, ...]:
        """The same without asking the supervisor, whom that would wake: late, unless it sleeps. Any thread."""
        return tuple(status.at(now_s) for status in list(self._supervisor.supervision.statuses.values()))

    def lives(self) -> list[Life]:
        """The newest life of each thread of a component. Any thread; what it holds changes while it is looked at."""
        return [thread.life for thread in list(self._threads.values())]

    @property
    def seen(self) -> Seen:
        """What the watchdog has seen last."""
        return self._patrol.seen

    def still_for_s(self, component: str, epoch: int) -> float | None:
        """For how long a life has made no progress, in seconds; None where nobody watches that. Any thread."""
        return self._patrol.still_for_s(component, epoch)

    @property
    def stopping(self) -> str:
        """Why it stops; empty while it does not. Any thread."""
        return self._supervisor.supervision.stopping or ""

    @property
    def zombies(self) -> int:
        """How many abandoned threads are alive. Any thread."""
        return self._supervisor.supervision.zombies

    def stop(self, reason: str) -> None:
        """Begins an orderly stop; returns at once. A second call changes nothing."""
        self.post(commands.Stop(reason))

    def when_over(self) -> Future[None]:
        """A future that is done when all is over."""
        future = self._pending.end()
        if self.is_over:
            self._tell_that_all_is_over()
        return future

    def end_at_once(self) -> None:
        """Notes that nothing is in work, because the process is about to end at somebody's wish, whatever its threads do."""
        self._persistence.end_at_once()

    def end(self) -> None:
        """Stops in order and blocks until all is over and was told; returns at once when it was never started."""
        if self._started:
            self.stop("stopped")
            self._all_told.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._started and not self._ended.is_set()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or could not be started; before its start it is not, and what it is told then is kept."""
        return self._ended.is_set() or self.refusal is not None

    def wait_until_up(self) -> bool:
        """Blocks until every component has started, or all is over; False in the latter case."""
        self._up.wait()
        return not self._ended.is_set()

    def wait_until_quiet(self, timeout_s: float | None = None) -> bool:
        """Blocks until nothing can happen any more, or all is over; False when that did not happen in time."""
        self.post(commands.Idle())  # so that what was sent since the supervisor last looked counts
        self.reach()
        return self._quiet.wait(timeout_s)

    def call_on_supervisor(self, callback: Callable[[], None]) -> None:
        """Has the supervisor call something brief once it has dealt with everything posted before; returns at once."""
        self.post(commands.Reached(callback))

    def reach(self, timeout_s: float | None = None) -> bool:
        """Blocks until the supervisor has dealt with everything posted before; False when that did not happen in time."""
        reached = self._threads_from.signal()
        self.post(commands.Reached(reached.set))
        return reached.wait(timeout_s)

    # ------------------------------------------------------------------ actions, on the supervisor's thread
    def _act(self, action: Action) -> None:
        match action:
            case Launch(component, epoch, held):
                self._launch(component, epoch, held)
            case Hold(component, held):
                self.journal.hold(self._threads[component].life.fence, held)
            case AskToStop() | Throw() | Abandon():
                self._end_life(action)
            case Unserved(component):
                self._close_calls(component)
            case Keep(promise, broken):
                self._pending.keep(promise, broken)
            case WatchIdle():
                self._watch_idle()
            case Notify(event):
                self._notify(event)
            case Quieted(quiet):
                (self._quiet.set if quiet else self._quiet.clear)()
            case End(reason, survivors, problems):
                self._finish(reason, survivors, problems)

    def _watch_idle(self) -> None:
        self.journal.watch_idle(True)
        self.post(commands.Idle())

    def _close_calls(self, component: str) -> None:
        queue = self.plan.nodes[component].calls
        if queue is not None:
            self.journal.calls.close(queue, f"{component} has ended")

    def _notify(self, event: events.Event) -> None:
        self._observer.post(event)
        match event:
            case events.SystemStarted():
                self._up.set()
            case events.ComponentFailed():
                self._patrol.failures[event.component] += not event.attempt
                if event.restart_in_s is None:
                    self.journal.release_delayed(self.plan.channels.values())

    def _launch(self, component: str, epoch: int, held: bool) -> None:
        plan = self.plan.nodes[component.partition("#")[0]]
        fence = Fence(component, epoch)
        self.journal.hold(fence, held)
        if plan.calls is not None:
            self.journal.calls.open(plan.calls)
        life = self.life_class(plan.node)(
            plan,
            fence,
            self.journal,
            self._clock,
            self._threads_from.parker(),
            self.log_of(component),
            self._set_aside,
            self.disk,
            self._persistence.marks(component, plan.reads.values()),
            self._threads_from,
            self._persistence.recorder,
        )
        before = self._threads.get(component)
        thread = self._threads[component] = ComponentThread(
            life,
            self.journal,
            self.name,
            self.post,
            self._threads_from,
            cpu_before_s=0.0 if before is None else _cpu_s_of(before),
        )
        try:
            thread.start()
        except RuntimeError as error:  # the machine gives no further thread
            life.give_up()
            self.post(commands.Failed(component, epoch, "on_start", describe(error), ""))

    def _end_life(self, action: AskToStop | Throw | Abandon) -> None:
        match action:
            case AskToStop(component, drain, again):
                self._ask_to_stop(component, drain, again)
            case Throw(component):
                self._ladder.throw(self._threads[component].life)
            case Abandon(component, zombies):
                self._abandon(component, zombies)

    def _ask_to_stop(self, component: str, drain: bool, again: bool) -> None:
        life = self._threads[component].life
        self.journal.advance(life.fence, Mode.ENDING if again else Mode.STOPPING, drain=drain)
        if again:
            self._ladder.interrupt(life)

    def _abandon(self, component: str, zombies: int) -> None:
        thread = self._threads[component]
        stack = stack_of(thread.ident)
        life, epoch = thread.life, thread.life.fence.epoch
        life.give_up()
        self._observer.post(events.ComponentAbandoned(component, epoch, stack, zombies))
        if dropped := life.calls.give_up():
            self._observer.post(events.AfterCommitDropped(component, epoch, dropped))

    def _finish(self, reason: str, survivors: tuple[str, ...], problems: tuple[str, ...]) -> None:
        """Waits for the last threads and the last commit, and tells what is left."""
        for name, thread in self._threads.items():
            if name not in survivors:
                thread.join(1.0)
        self._patrol.close(_LAST_WORDS_TIMEOUT_S)
        left_s = self._supervisor.supervision.stop_by_s - self._clock.monotonic()
        # The other half is for the last commit.
        self._persistence.close_records(max(left_s / 2, _LAST_WORDS_TIMEOUT_S))
        self.on_closing()
        left_s = self._supervisor.supervision.stop_by_s - self._clock.monotonic()
        unwritten = self._persistence.close_store(max(left_s, _LEAST_TIME_FOR_LAST_COMMIT_S))
        self._all_on_disk = not unwritten
        if unwritten and unwritten not in problems:
            problems = (*problems, unwritten)
        self._say_that_all_is_over(reason, survivors, problems)

    def _say_that_all_is_over(self, reason: str, survivors: tuple[str, ...], problems: tuple[str, ...]) -> None:
        """Tells what is left, and wakes whoever waits for the end. A second call changes nothing."""
        if self._ended.is_set():
            return
        self.stopped = events.SystemStopped(
            reason="failed" if problems else reason,
            problems=problems,
            survivors=survivors,
            left_messages=sum(channel.size for channel in self.plan.channels.values() if channel.durable)
            if self._all_on_disk
            else 0,
            lost_messages=sum(channel.size for channel in self.plan.channels.values() if not channel.durable),
        )
        for plan in self.plan.nodes.values():
            if plan.calls is not None:
                self.journal.calls.close(plan.calls, f"{self.name} has ended")
        self._observer.post(self.stopped)
        self.has_told_all = self._observer.close(_LAST_WORDS_TIMEOUT_S)
        self._ended.set()
        self._up.set()
        self._quiet.set()
        try:
            self._tell_that_all_is_over()
        finally:
            self._all_told.set()
            self._when_ended()

    def _refuse(self, error: BaseException) -> None:
        """Notes why it could not be started, and answers whoever wished something of it."""
        self.refusal = error
        self._tell_that_all_is_over()

    def _tell_that_all_is_over(self) -> None:
        """Answers whoever waits for something; on any thread."""
        why = "the system has ended" if self.refusal is None else f"the system has not started: {self.refusal}"
        self._pending.all_is_over(why)

    def _end_without_order(self, error: BaseException) -> None:
        """Ends everything although the supervisor has failed: nobody may act any more, and what was whole is committed."""
        self._report_defect(error)
        alive: tuple[str, ...] = ()
        problems = (f"the supervisor failed: {describe(error)}",)
        try:
            for thread in self._threads.values():
                thread.life.give_up()
            alive = tuple(name for name, thread in self._threads.items() if thread.ident is not None)
            self._finish("failed", alive, problems)
        finally:
            self._say_that_all_is_over("failed", alive, problems)

    @staticmethod
    def _report_defect(error: BaseException) -> None:
        """Reports an error that no component is to blame for."""
        report_unhandled(error)

    # ------------------------------------------------------------------ called from other threads of ours
    def _is_quiet(self, components: list[str], idle: bool) -> bool:
        """On the supervisor's thread."""
        plans = {id(plan): plan for plan in (self.plan.nodes[name.partition("#")[0]] for name in components)}
        channels = [channel for plan in plans.values() for channel in plan.reads.values()]
        loops = [name for name in components if self.plan.nodes[name.partition("#")[0]].node.declaration.has_run]
        lives = [self._threads[name].life for name in loops if name in self._threads] if idle else []
        mailboxes = [life.mailbox for life in lives if not life.fence.held]
        calls = [plan.calls for plan in plans.values() if plan.calls is not None]
        return self.journal.quiet(channels, mailboxes, components, calls)

    def _commit_trouble(self, attempt: int, error: StoreError, given_up: bool) -> None:
        """On the writer's thread."""
        self._observer.post(events.CommitTrouble(attempt, str(error), given_up))
        if given_up:
            self.post(commands.StoreFailed(str(error)))

    def _set_aside(self, letter: rows.DeadLetter, kept: bool) -> None:
        """On the thread of a component."""
        component = letter.channel.partition(".")[0]
        self.journal.count_set_aside(self.plan.channels[letter.channel])
        self.post(
            commands.Noted(
                events.MessageSetAside(component, letter.message_id, letter.attempts, letter.error, kept),
            )
        )


def _cpu_s_of(thread: ComponentThread) -> float:
    """CPU time that a life and those before it have used so far on their own threads, in seconds."""
    life = thread.life
    native_id = life.native_id
    used_s = thread_cpu_s(native_id) if native_id else None
    return thread.cpu_before_s + (life.cpu_s if used_s is None else used_s)  # one that has just ended has left it there

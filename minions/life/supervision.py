"""What the supervisor decides: one command in, a list of actions out. A plain object without threads, clocks or waiting.

The supervisor's thread drives it in production; tests and simulations drive the very same object. It is the one writer of
every component's phase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from minions import events
from minions.life import commands
from minions.life.commands import Command
from minions.life.lifecycle import MOVES, Phase
from minions.model.topology import Node

__all__ = [
    "Abandon",
    "Action",
    "AskToStop",
    "Deadlines",
    "End",
    "Launch",
    "Notify",
    "Quieted",
    "Status",
    "Supervision",
    "WakeAt",
    "WatchIdle",
]


# ---------------------------------------------------------------------- actions
@attrs.frozen
class Action:
    """The root of what the supervisor's thread does on behalf of a decision."""


@attrs.frozen
class Launch(Action):
    """Begin a life. When no thread can be had, that is reported as a failure of the life."""

    component: str
    epoch: int


@attrs.frozen
class AskToStop(Action):
    """Ask a life to stop; `again` also ends what waits, and calls `on_interrupt`."""

    component: str
    again: bool = False


@attrs.frozen
class Abandon(Action):
    """Cut the fence of a life whose thread does not end."""

    component: str


@attrs.frozen
class WakeAt(Action):
    """Send `Due` at this moment, monotonic seconds."""

    at_s: float


@attrs.frozen
class WatchIdle(Action):
    """From now on, components that find nothing to do say so."""


@attrs.frozen
class Quieted(Action):
    """Nothing can happen any more (or, again, something can)."""

    quiet: bool


@attrs.frozen
class Notify(Action):
    """Tell those who watch."""

    event: events.Event


@attrs.frozen
class End(Action):
    """All is over: no component has a thread that could still do anything.

    Attributes:
        reason: why it stopped.
        survivors: the components that had to be abandoned.
        failed: what went wrong, one sentence each; empty after an orderly end.
    """

    reason: str
    survivors: tuple[str, ...]
    failed: tuple[str, ...]


# ---------------------------------------------------------------------- what is known
@attrs.frozen
class Deadlines:
    """How long an orderly stop may take, in seconds since it began.

    Attributes:
        ask_again_s: a component that has not stopped so long after it was asked is asked again.
        drain_s: from here on nothing waits for messages to be handled; what is durable stays for the next start.
        abandon_s: the end of patience.
    """

    ask_again_s: float
    drain_s: float
    abandon_s: float

    @classmethod
    def of(cls, timeout_s: float) -> Deadlines:
        """The stages of one deadline for all."""
        return cls(ask_again_s=0.2 * timeout_s, drain_s=0.6 * timeout_s, abandon_s=timeout_s)


@attrs.define(eq=False)
class Status:
    """What the supervisor knows of one thread of a component. Written by the supervisor only.

    Attributes:
        name: of the component, with the number of the replica where there are several.
        node: the component as it was added.
        group: its place in the order of start.
        phase: where it is in its lifecycle.
        epoch: the number of its life, from 1.
        failed_at: when it failed by itself, monotonic seconds, as far back as its restart policy looks.
        restarts: how many lives have followed a failure.
        due_at: when its next life begins, or when it is asked to stop again.
        asked_again: whether it was.
        was_up: whether some life of it has got through `on_start`.
    """

    name: str
    node: Node
    group: int
    phase: Phase = Phase.WAITING
    epoch: int = 0
    failed_at: tuple[float, ...] = ()
    restarts: int = 0
    due_at: float | None = None
    asked_again: bool = False
    was_up: bool = False

    def move(self, phase: Phase) -> None:
        """Moves to another phase; a move that the table of moves does not have is a defect of the supervisor."""
        assert phase in MOVES[self.phase], f"{self.name}: {self.phase} does not move to {phase}"
        self.phase = phase


class Supervision:
    """All decisions about the life of the components of one system.

    Attributes:
        statuses: by name, in the order of addition.
        stopping: why the system stops; None while it does not.
        quiet: nothing can happen any more: every source has finished and nothing waits or is in work.
    """

    def __init__(
        self,
        order: list[list[Node]],
        upstream: Callable[[Node], list[Node]],
        is_quiet: Callable[[list[str], bool], bool],
        *,
        deadlines: Deadlines,
        forever: bool,
        chance: Callable[[], float],
    ) -> None:
        """Args:
        order: the groups of components, consumers before producers.
        upstream: the components that send to a component.
        is_quiet: whether nothing waits for these components and nothing is in work there; and, if the second argument
            is true, whether those with a `run` of their own sleep until something comes.
        deadlines: for an orderly stop.
        forever: stay when nothing can happen any more.
        chance: numbers from 0 to 1, for jitter.
        """
        self.statuses: dict[str, Status] = {}
        self.stopping: str | None = None
        self.quiet = False
        self._groups = [[name for node in group for name in node.lives()] for group in order]
        for number, group in enumerate(order):
            for node in group:
                for name in node.lives():
                    self.statuses[name] = Status(name, node, number)
        self._upstream = _group_graph(order, upstream)
        self._downstream = [
            {below for below, above in enumerate(self._upstream) if number in above} for number in range(len(order))
        ]
        self._is_quiet = is_quiet
        self._deadlines = deadlines
        self._forever = forever
        self._chance = chance
        self._stop_began_s = 0.0
        self._announced = False
        self._watching = False
        self._ended = False
        self._can_drain = True
        self._problems: list[str] = []

    def handle(self, command: Command, now_s: float) -> list[Action]:
        """What follows from one command at the monotonic moment `now_s`."""
        if self._ended:
            return []
        return list(self._handle(command, now_s))

    def _handle(self, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Stop(reason):
                yield from self._begin_stop(reason, now_s)
            case commands.StoreFailed(error):
                self._problems.append(error)
                self._can_drain = False
                yield from self._begin_stop("failed", now_s)
            case commands.Started() | commands.Finished() | commands.Stopped() | commands.Failed():
                status = self.statuses[command.component]
                if command.epoch != status.epoch or status.phase is Phase.ABANDONED:
                    return  # word of a life that is over already
                yield from self._report(status, command, now_s)
        yield from self._advance(now_s)

    # ------------------------------------------------------------------ reports of lives
    def _report(self, status: Status, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Started():
                if status.phase is Phase.STARTING:
                    status.move(Phase.RUNNING)
                    status.was_up = True
                    yield Notify(events.ComponentStarted(status.name, status.epoch))
            case commands.Finished():
                status.move(Phase.FINISHED)
                yield Notify(events.ComponentFinished(status.name, status.epoch))
            case commands.Stopped():
                status.move(Phase.STOPPED)
                yield Notify(events.ComponentStopped(status.name, status.epoch))
            case commands.Failed():
                yield from self._failed(status, command, now_s)

    def _failed(self, status: Status, failure: commands.Failed, now_s: float) -> Iterator[Action]:
        delay_s: float | None = failure.retry_delay_s
        if not failure.message_id:
            restart = status.node.restart
            status.failed_at = (*restart.recent(status.failed_at, now_s), now_s)
            delay_s = restart.verdict(status.failed_at, now_s, self._chance()).delay_s
        if failure.stop_system or self.stopping is not None:
            gave_up, delay_s = False, None
        else:
            gave_up = delay_s is None
        yield Notify(
            events.ComponentFailed(
                component=status.name,
                epoch=failure.epoch,
                where=failure.where,
                error=failure.error,
                traceback=failure.traceback,
                message_id=failure.message_id,
                attempt=failure.attempt,
                restart_in_s=delay_s,
            )
        )
        if delay_s is not None:
            status.move(Phase.BACKOFF)
            status.due_at = now_s + delay_s
            return
        status.move(Phase.STOPPED)
        status.due_at = None
        if gave_up:
            yield Notify(events.GaveUp(status.name, len(status.failed_at), status.node.restart.within_s))
        if gave_up or failure.stop_system or failure.where == "on_stop":
            self._problems.append(f"{status.name} failed in {failure.where}: {failure.error}")
        if gave_up or failure.stop_system:
            yield from self._begin_stop("failed", now_s)

    # ------------------------------------------------------------------ what follows from where everybody is
    def _advance(self, now_s: float) -> Iterator[Action]:
        if self.stopping is None:
            yield from self._start_ready(now_s)
            yield from self._look_for_end(now_s)
        if self.stopping is not None:
            yield from self._stop_ready(now_s)
            if all(status.phase.has_ended for status in self.statuses.values()):
                self._ended = True
                survivors = [name for name, status in self.statuses.items() if status.phase is Phase.ABANDONED]
                yield End(self.stopping, tuple(survivors), tuple(self._problems))
                return
        moments = [status.due_at for status in self.statuses.values() if status.due_at is not None]
        if self.stopping is not None:
            stages = (self._stop_began_s + self._deadlines.drain_s, self._stop_began_s + self._deadlines.abandon_s)
            moments += [moment for moment in stages if moment > now_s]
        if moments:
            yield WakeAt(min(moments))

    def _start_ready(self, now_s: float) -> Iterator[Action]:
        """Begins every life whose time has come: what it sends to is up, or its wait is over."""
        for status in self.statuses.values():
            ready = status.phase is Phase.WAITING and all(
                below.was_up for below in self.statuses.values() if below.group in self._downstream[status.group]
            )
            again = status.phase is Phase.BACKOFF and status.due_at is not None and status.due_at <= now_s
            if ready or again:
                status.move(Phase.STARTING)
                status.epoch += 1
                status.restarts += again
                status.due_at = None
                yield Launch(status.name, status.epoch)

    def _look_for_end(self, now_s: float) -> Iterator[Action]:
        """Notices that all are up, and that nothing can happen any more."""
        if not self._announced and all(status.was_up for status in self.statuses.values()):
            self._announced = True
            yield Notify(events.SystemStarted(len(self.statuses)))
        alive = [status for status in self.statuses.values() if not status.phase.has_ended]
        quiet = not any(status.phase is not Phase.RUNNING or status.node.is_source for status in alive)
        if quiet:
            if not self._watching:
                self._watching = True
                yield WatchIdle()
            quiet = self._is_quiet([status.name for status in alive], True)
        if quiet is not self.quiet:
            self.quiet = quiet
            yield Quieted(quiet)
        if quiet and not self._forever:
            yield from self._begin_stop("finished", now_s)

    # ------------------------------------------------------------------ stopping
    def _begin_stop(self, reason: str, now_s: float) -> Iterator[Action]:
        if self.stopping is not None:
            return
        self.stopping = reason
        self._stop_began_s = now_s
        if not self._watching:
            self._watching = True
            yield WatchIdle()

    def _stop_ready(self, now_s: float) -> Iterator[Action]:
        """Asks every component to stop whose turn has come, and presses on where one does not."""
        passed_s = now_s - self._stop_began_s
        for number in reversed(range(len(self._groups))):
            members = [self.statuses[name] for name in self._groups[number]]
            for status in members:
                if status.phase in (Phase.WAITING, Phase.BACKOFF):
                    status.move(Phase.STOPPED)
                    status.due_at = None
            if self._may_stop(number, members, passed_s):
                for status in members:
                    if status.phase in (Phase.STARTING, Phase.RUNNING):
                        status.move(Phase.STOPPING)
                        status.due_at = now_s + self._deadlines.ask_again_s
                        yield AskToStop(status.name)
        for status in self.statuses.values():
            if status.phase is Phase.STOPPING:
                yield from self._press_on(status, passed_s, now_s)

    def _press_on(self, status: Status, passed_s: float, now_s: float) -> Iterator[Action]:
        """Asks a component again whose time is up, and abandons it when everybody's is."""
        late = passed_s >= self._deadlines.drain_s or (status.due_at is not None and status.due_at <= now_s)
        if late and not status.asked_again:
            status.asked_again = True
            status.due_at = None
            yield AskToStop(status.name, again=True)
        if passed_s >= self._deadlines.abandon_s:
            status.move(Phase.ABANDONED)
            self._problems.append(f"{status.name} did not stop in time, its thread was abandoned")
            yield Abandon(status.name)

    def _may_stop(self, group: int, members: list[Status], passed_s: float) -> bool:
        """Whether a group may be asked to stop: a source at once; another when nothing more can come to it.

        Nothing more comes when everything upstream has ended and what had been sent is handled. After the time for draining
        all are asked at once.
        """
        if (
            passed_s >= self._deadlines.drain_s
            or not self._can_drain
            or all(status.node.is_source for status in members)
        ):
            return True
        above = (status for status in self.statuses.values() if status.group in self._upstream[group])
        if not all(status.phase.has_ended for status in above):
            return False
        at_work = [status.name for status in members if status.phase.has_thread]
        return not at_work or self._is_quiet(at_work, False)


def _group_graph(order: list[list[Node]], upstream: Callable[[Node], list[Node]]) -> list[set[int]]:
    """For each group, the groups that send to it."""
    group_of = {id(node): number for number, group in enumerate(order) for node in group}
    return [
        {group_of[id(above)] for node in group for above in upstream(node)} - {number}
        for number, group in enumerate(order)
    ]

"""What the supervisor decides: one command in, a list of actions out. A plain object without threads, clocks or waiting.

The supervisor's thread drives it in production; tests and simulations drive the very same object. It is the one writer of
every component's phase.
"""

from __future__ import annotations

import heapq
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


@attrs.define(eq=False)
class _Group:
    """Components that start and stop together: one, or a cycle, which has no order.

    Attributes:
        members: their statuses.
        above: the groups that send to it.
        below: the groups that it sends to.
        not_up_below: how many components below have never been up; the group starts at 0.
        alive_above: how many components above have not ended; the group may stop at 0.
        asked: whether its members were asked to stop.
    """

    members: list[Status]
    above: list[_Group] = attrs.Factory(list)
    below: list[_Group] = attrs.Factory(list)
    not_up_below: int = 0
    alive_above: int = 0
    asked: bool = False

    @property
    def is_source(self) -> bool:
        return all(status.node.is_source for status in self.members)


class Supervision:
    """All decisions about the life of the components of one system.

    What it costs to deal with a command does not grow with the number of components, but for the question whether all is
    quiet, which is asked only when every source has finished.

    Attributes:
        statuses: by name, in the order of their start.
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
        """Knows every component, and has decided nothing yet.

        Args:
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
        self._groups = _groups_of(order, upstream)
        self._group_of: dict[str, _Group] = {}
        for group in self._groups:
            for status in group.members:
                self.statuses[status.name] = status
                self._group_of[status.name] = group
        self._is_quiet = is_quiet
        self._deadlines = deadlines
        self._forever = forever
        self._chance = chance
        self._not_up = self._alive = self._busy = len(self.statuses)
        self._due: list[tuple[float, str]] = []  # a heap; an entry counts while the status still has that moment
        self._to_start: list[_Group] = []
        self._to_stop: list[_Group] = []
        self._stop_began_s = 0.0
        self._watching = False
        self._ended = False
        self._can_drain = True
        self._problems: list[str] = []

    @property
    def stop_by_s(self) -> float:
        """The end of the deadline of a stop that has begun, monotonic seconds."""
        return self._stop_began_s + self._deadlines.abandon_s

    @property
    def _drain_until_s(self) -> float:
        """Moments are compared with moments, never spans: by a rounding, one would be past and the span not over."""
        return self._stop_began_s + self._deadlines.drain_s

    def handle(self, command: Command, now_s: float) -> list[Action]:
        """What follows from one command at the monotonic moment `now_s`."""
        if self._ended:
            return []
        return list(self._handle(command, now_s))

    def _handle(self, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Begin():
                self._to_start = [group for group in self._groups if not group.not_up_below]
            case commands.Stop(reason):
                self._begin_stop(reason, now_s)
            case commands.StoreFailed(error):
                self._problems.append(error)
                self._can_drain = False
                self._begin_stop("failed", now_s)
            case commands.Started() | commands.Finished() | commands.Stopped() | commands.Failed():
                status = self.statuses[command.component]
                if command.epoch != status.epoch or status.phase.has_ended:
                    return  # word of a life that is over already
                yield from self._report(status, command, now_s)
        yield from self._advance(now_s)

    def _move(self, status: Status, phase: Phase) -> None:
        """Moves a component to another phase, and counts what that changes for the others."""
        self._busy -= _is_busy(status)
        status.move(phase)
        self._busy += _is_busy(status)
        status.due_at = None  # a moment of the phase that is over would wake the supervisor again and again
        if phase is Phase.RUNNING and not status.was_up:
            status.was_up = True
            self._not_up -= 1
            for above in self._group_of[status.name].above:
                above.not_up_below -= 1
                if not above.not_up_below:
                    self._to_start.append(above)
        if phase.has_ended:
            self._alive -= 1
            for below in self._group_of[status.name].below:
                below.alive_above -= 1
                if not below.alive_above and self.stopping is not None:
                    self._to_stop.append(below)

    def _wake_at(self, status: Status, at_s: float) -> None:
        status.due_at = at_s
        heapq.heappush(self._due, (at_s, status.name))

    # ------------------------------------------------------------------ reports of lives
    def _report(self, status: Status, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Started():
                if status.phase is Phase.STARTING:
                    first = not status.was_up
                    self._move(status, Phase.RUNNING)
                    yield Notify(events.ComponentStarted(status.name, status.epoch))
                    if first and not self._not_up:
                        yield Notify(events.SystemStarted(len(self.statuses)))
            case commands.Finished():
                self._move(status, Phase.FINISHED)
                yield Notify(events.ComponentFinished(status.name, status.epoch))
                if self._group_of[status.name].alive_above and self.stopping is None:
                    self._problems.append(
                        f"{status.name}.run() returned although components that send to it are at work, and they would wait "
                        "for ever: loop until the inbox ends the loop"
                    )
                    self._begin_stop("failed", now_s)
            case commands.Stopped():
                self._move(status, Phase.STOPPED)
                yield Notify(events.ComponentStopped(status.name, status.epoch))
            case commands.Failed():
                yield from self._failed(status, command, now_s)

    def _failed(self, status: Status, failure: commands.Failed, now_s: float) -> Iterator[Action]:
        delay_s: float | None = failure.retry_delay_s
        if not failure.attempt:
            restart = status.node.restart
            status.failed_at = (*restart.recent(status.failed_at, now_s), now_s)
            delay_s = restart.verdict(status.failed_at, now_s, self._chance()).delay_s
        elif self.stopping is not None:
            delay_s = 0.0
        at_end = failure.where == "on_stop" or failure.at_end
        is_over = failure.stop_system or at_end or not self._may_come_back(status, failure, now_s)
        gave_up = delay_s is None and not is_over
        if is_over:  # also for a source that had finished: it would begin all over again
            delay_s = None
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
            self._move(status, Phase.BACKOFF)
            self._wake_at(status, now_s + delay_s)
            return
        self._move(status, Phase.STOPPED)
        if gave_up:
            yield Notify(events.GaveUp(status.name, len(status.failed_at), status.node.restart.within_s))
        if gave_up or failure.stop_system or at_end:
            self._problems.append(f"{status.name} failed in {failure.where}: {failure.error}")
        if gave_up or failure.stop_system:
            self._begin_stop("failed", now_s)

    def _may_come_back(self, status: Status, failure: commands.Failed, now_s: float) -> bool:
        """Whether a component that has failed gets another life.

        While the system stops only one that failed at a message does, and at once, so that what waits behind that message is
        handled; the message has a limited number of attempts, and so has this.
        """
        if self.stopping is None:
            return True
        drains = self._can_drain and now_s < self._drain_until_s
        return drains and failure.attempt > 0 and status.phase is not Phase.STOPPING

    # ------------------------------------------------------------------ what follows from where everybody is
    def _advance(self, now_s: float) -> Iterator[Action]:
        if self.stopping is None:
            yield from self._start_ready()
            yield from self._look_for_end(now_s)
        yield from self._deal_with_due(now_s)
        if self.stopping is not None:
            if not self._watching:
                self._watching = True
                yield WatchIdle()
            yield from self._stop_ready(now_s)
            if not self._alive:
                self._ended = True
                survivors = [name for name, status in self.statuses.items() if status.phase is Phase.ABANDONED]
                yield End(self.stopping, tuple(survivors), tuple(self._problems))
                return
        yield from self._next_moment(now_s)

    def _deal_with_due(self, now_s: float) -> Iterator[Action]:
        """Deals with every component whose moment has come: a new life after a failure, or a second word to stop."""
        while self._due and self._due[0][0] <= now_s:
            at_s, name = heapq.heappop(self._due)
            status = self.statuses[name]
            if status.due_at != at_s:
                continue  # it has moved on since
            if status.phase is Phase.BACKOFF:
                status.restarts += 1
                yield self._launch(status)
            elif status.phase is Phase.STOPPING:
                yield self._ask_again(status)

    def _start_ready(self) -> Iterator[Action]:
        """Begins the lives of the groups of which all that they send to is up."""
        ready, self._to_start = self._to_start, []
        for group in ready:
            for status in group.members:
                if status.phase is Phase.WAITING:
                    yield self._launch(status)

    def _launch(self, status: Status) -> Launch:
        self._move(status, Phase.STARTING)
        status.epoch += 1
        return Launch(status.name, status.epoch)

    def _look_for_end(self, now_s: float) -> Iterator[Action]:
        """Notices that nothing can happen any more."""
        quiet = False
        if not self._busy:
            if not self._watching:
                self._watching = True
                yield WatchIdle()
            quiet = self._is_quiet([name for name, status in self.statuses.items() if not status.phase.has_ended], True)
        if quiet is not self.quiet:
            self.quiet = quiet
            yield Quieted(quiet)
        if quiet and not self._forever:
            self._begin_stop("finished", now_s)

    def _next_moment(self, now_s: float) -> Iterator[Action]:
        while self._due and self.statuses[self._due[0][1]].due_at != self._due[0][0]:
            heapq.heappop(self._due)
        moments = [self._due[0][0]] if self._due else []
        if self.stopping is not None:
            stages = (self._drain_until_s, self.stop_by_s)
            moments += [moment for moment in stages if moment > now_s]
        if moments:
            yield WakeAt(min(moments))

    # ------------------------------------------------------------------ stopping
    def _begin_stop(self, reason: str, now_s: float) -> None:
        if self.stopping is not None:
            return
        self.stopping = reason
        self._stop_began_s = now_s
        self._to_start.clear()
        for status in self.statuses.values():
            if status.phase is Phase.BACKOFF and self._can_drain and not status.node.is_source:
                self._wake_at(status, now_s)  # a last life, and at once, to handle what was sent to it
            elif status.phase in (Phase.WAITING, Phase.BACKOFF):
                self._move(status, Phase.STOPPED)
        self._to_stop = [group for group in self._groups if group.is_source or not group.alive_above]

    def _stop_ready(self, now_s: float) -> Iterator[Action]:
        """Asks every group to stop whose turn has come, and presses on where time is up."""
        if now_s >= self._drain_until_s or not self._can_drain:
            self._to_stop = list(self._groups)
        looked_at, self._to_stop = self._to_stop, []
        for group in reversed(looked_at):
            if self._may_stop(group, now_s):
                yield from self._ask(group, now_s)
            elif not group.asked:
                self._to_stop.append(group)
        self._to_stop.reverse()
        if now_s < self._drain_until_s:
            return
        for status in self.statuses.values():
            if status.phase is Phase.STOPPING:
                if not status.asked_again:
                    yield self._ask_again(status)
                if now_s >= self.stop_by_s:
                    self._move(status, Phase.ABANDONED)
                    self._problems.append(f"{status.name} did not stop in time, its thread was abandoned")
                    yield Abandon(status.name)

    def _may_stop(self, group: _Group, now_s: float) -> bool:
        """Whether a group may be asked to stop: a source at once; another when nothing more can come to it.

        Nothing more comes when everything above has ended and what had been sent is handled. After the time for draining
        all are asked at once.
        """
        if group.asked:
            return False
        if now_s >= self._drain_until_s or not self._can_drain or group.is_source:
            return True
        alive = [status.name for status in group.members if not status.phase.has_ended]
        return not group.alive_above and (not alive or self._is_quiet(alive, False))

    def _ask(self, group: _Group, now_s: float) -> Iterator[Action]:
        group.asked = True
        for status in group.members:
            if status.phase is Phase.BACKOFF:
                self._move(status, Phase.STOPPED)
            elif status.phase in (Phase.STARTING, Phase.RUNNING):
                self._move(status, Phase.STOPPING)
                self._wake_at(status, now_s + self._deadlines.ask_again_s)
                yield AskToStop(status.name)

    @staticmethod
    def _ask_again(status: Status) -> Action:
        status.asked_again = True
        status.due_at = None
        return AskToStop(status.name, again=True)


def _is_busy(status: Status) -> bool:
    """Whether a component may do something although no message waits: it starts, comes back, or is a source at work."""
    if status.phase.has_ended:
        return False
    return status.phase is not Phase.RUNNING or status.node.is_source


def _groups_of(order: list[list[Node]], upstream: Callable[[Node], list[Node]]) -> list[_Group]:
    """The groups with their neighbours, in the order of start."""
    groups = [_Group([Status(name, node) for node in nodes for name in node.lives()]) for nodes in order]
    group_of = {id(node): group for nodes, group in zip(order, groups, strict=True) for node in nodes}
    for nodes, group in zip(order, groups, strict=True):
        above = {id(group_of[id(node)]): group_of[id(node)] for member in nodes for node in upstream(member)}
        above.pop(id(group), None)
        group.above = list(above.values())
        group.alive_above = sum(len(other.members) for other in group.above)
        for other in group.above:
            other.below.append(group)
            other.not_up_below += len(group.members)
    return groups

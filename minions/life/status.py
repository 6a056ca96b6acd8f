"""What the supervision knows of each thread of a component, and how the graph orders them. Written by the supervisor only."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from minions.life.lifecycle import MOVES, Phase
from minions.model.topology import Node

__all__ = ["ComponentStatus", "Deadlines", "Round", "Stage", "Status", "stages_of"]


@attrs.frozen
class Deadlines:
    """How long an orderly stop may take, in seconds since it began.

    Attributes:
        ask_again_s: a component that has not stopped so long after it was asked is asked again, and interrupted.
        drain_s: from here on nothing waits for messages to be handled; what is durable stays for the next start.
        throw_s: in what still has not stopped an exception is raised, where its component allows that.
        abandon_s: the end of patience.
    """

    ask_again_s: float
    drain_s: float
    throw_s: float
    abandon_s: float

    @classmethod
    def of(cls, timeout_s: float) -> Deadlines:
        """The stages of one deadline for all."""
        return cls(ask_again_s=0.2 * timeout_s, drain_s=0.6 * timeout_s, throw_s=0.8 * timeout_s, abandon_s=timeout_s)


@attrs.frozen(kw_only=True)
class ComponentStatus:
    """Where one thread of a component is in its lifecycle, at one moment.

    Attributes:
        name: of the component, with the number of the replica where there are several: ``worker#3``.
        phase: where it is.
        epoch: the number of its life, counted from 1 since the system started; 0 before the first.
        restarts: how many lives have followed another.
        paused_by: who has paused it: "operator", "watchdog".
        isolated: whether it is down because it, or something that it sends to, was given up.
        up_for_s: for how long it has been up, in seconds; None while it is not.
        next_life_in_s: when its next life begins, in seconds; None where none is due.
    """

    name: str
    phase: Phase
    epoch: int
    restarts: int
    paused_by: tuple[str, ...]
    isolated: bool
    up_for_s: float | None
    next_life_in_s: float | None


@attrs.define(eq=False)
class Status:
    """What the supervisor knows of one thread of a component.

    Attributes:
        name: of the component, with the number of the replica where there are several.
        node: the component as it was added.
        phase: where it is in its lifecycle.
        epoch: the number of its life, from 1.
        wanted: whether it is to be up; False after somebody has stopped it, and for what is isolated.
        isolated: whether it is down because it, or what it sends to, was given up.
        paused_by: who has paused it.
        failed_at: when it failed by itself, monotonic seconds, as far back as its restart policy looks.
        anew_at: when a life ended last that had been healthy for so long that the backoff begins anew; None where none has.
        restarts: how many lives have followed another.
        due_at: when its next life begins, or when the next step is taken to stop it.
        asked_at: when it was asked to stop; this and the next three hold while it is stopping.
        asked_again: whether it was asked again.
        thrown: whether an exception was raised in it.
        returning: whether another life follows.
        up_since: since when its life has been up; None while it is not.
        was_up: whether some life of it has got through `on_start`.
        round: those with which it stops, and starts again, just now.
        stage: its place in the graph.
    """

    name: str
    node: Node
    stage: Stage = attrs.field(repr=False)
    phase: Phase = Phase.WAITING
    epoch: int = 0
    wanted: bool = True
    isolated: bool = False
    paused_by: frozenset[str] = frozenset()
    failed_at: tuple[float, ...] = ()
    anew_at: float | None = None
    restarts: int = 0
    due_at: float | None = None
    asked_at: float | None = None
    asked_again: bool = False
    thrown: bool = False
    returning: bool = False
    up_since: float | None = None
    was_up: bool = False
    round: Round | None = None

    def at(self, now_s: float) -> ComponentStatus:
        """What may be told of it at the monotonic moment `now_s`."""
        is_due = self.phase is Phase.BACKOFF and self.due_at is not None
        return ComponentStatus(
            name=self.name,
            phase=self.phase,
            epoch=self.epoch,
            restarts=self.restarts,
            paused_by=tuple(sorted(self.paused_by)),
            isolated=self.isolated,
            up_for_s=None if self.up_since is None else now_s - self.up_since,
            next_life_in_s=max(0.0, self.due_at - now_s) if is_due and self.due_at is not None else None,
        )

    def move(self, phase: Phase) -> None:
        """Moves to another phase; a move that the table of moves does not have is a defect of the supervisor."""
        assert phase in MOVES[self.phase], f"{self.name}: {self.phase} does not move to {phase}"
        self.phase = phase

    @property
    def is_busy(self) -> bool:
        """Whether it may do something although no message waits: it starts or comes back, is a source at work, has
        a schedule, may be started.
        """
        if self.phase is Phase.STOPPED or self.phase is Phase.ABANDONED:
            return not self.wanted and not self.isolated  # somebody has stopped it, and may start it
        if self.phase is Phase.FINISHED:
            return False
        return not self.phase.is_up or self.node.is_source or bool(self.node.declaration.schedules)


@attrs.define(eq=False)
class Stage:
    """Components that start and stop together: one, or a cycle, which has no order.

    Attributes:
        members: their statuses.
        above: the stages that send to it.
        below: the stages that it sends to.
        level: 0 where it sends to nobody; otherwise one more than the highest that it sends to.
        alive_above: how many components above have not ended; it may stop at 0.
        asked: whether its members were asked to stop because the system stops.
        needs: the statuses of all in the stages below.
        looked_at: where in `needs` the one stands that the stage waits for.
    """

    members: list[Status] = attrs.Factory(list)
    above: list[Stage] = attrs.Factory(list)
    below: list[Stage] = attrs.Factory(list)
    level: int = 0
    alive_above: int = 0
    asked: bool = False
    needs: list[Status] = attrs.Factory(list)
    looked_at: int = 0

    @property
    def is_source(self) -> bool:
        return all(status.node.is_source for status in self.members)


@attrs.define(eq=False)
class Round:
    """Components that stop together, producers first, and then, where it `returns`, start again, consumers first.

    What it costs to take note of a step of one of them does not grow with their number.

    Attributes:
        members: those that are in it still; a later wish takes them away.
        returns: whether they start again once all of them have stopped.
        rising: whether that has begun.
        settled: how many of them are up or have ended.
    """

    members: dict[Status, None]
    returns: bool
    rising: bool = False
    settled: int = 0
    _with_thread: dict[int, int] = attrs.Factory(dict)  # how many members of a level in the graph
    _levels: list[list[Status]] = attrs.Factory(list)  # those that were members at first, the highest level last
    _asked: bool = False  # whether those of the last of these levels were asked to stop

    @classmethod
    def of(cls, lives: Iterable[Status], *, returns: bool) -> Round:
        """A new one, of which nobody was asked anything."""
        round_ = cls(dict.fromkeys(lives), returns)
        levels: dict[int, list[Status]] = {}
        for life in round_.members:
            levels.setdefault(life.stage.level, []).append(life)
            round_._count(life, life.phase, 1)
        round_._levels = [levels[level] for level in sorted(levels)]
        return round_

    def moved(self, life: Status, before: Phase) -> None:
        """Takes note of a member that was in another phase before."""
        self._count(life, before, -1)
        self._count(life, life.phase, 1)

    def leave(self, life: Status) -> None:
        """Takes a member away."""
        del self.members[life]
        self._count(life, life.phase, -1)

    def next_to_ask(self) -> list[Status] | None:
        """Those that are to be asked to stop now: none of the others sends to them; each is returned once.

        None where no member has a thread any more.
        """
        while self._levels and not self._with_thread.get(self._levels[-1][0].stage.level):
            self._levels.pop()
            self._asked = False
        if not self._levels:
            return None
        if self._asked:
            return []
        self._asked = True
        return [life for life in self._levels[-1] if life.round is self and life.phase.has_thread]

    def _count(self, life: Status, phase: Phase, step: int) -> None:
        self.settled += step * (phase.is_up or phase.has_ended)
        if phase.has_thread and not self.rising:  # while it rises nobody asks how many have one
            level = life.stage.level
            self._with_thread[level] = self._with_thread.get(level, 0) + step


def stages_of(order: list[list[Node]], upstream: Callable[[Node], list[Node]]) -> list[Stage]:
    """The stages with their neighbours, in the order of start.

    Args:
        order: the groups of components, consumers before producers.
        upstream: the components that send to a component.
    """
    stages = []
    stage_of: dict[int, Stage] = {}
    for nodes in order:
        stage = Stage()
        stage.members = [Status(name, node, stage) for node in nodes for name in node.lives()]
        stage_of |= {id(node): stage for node in nodes}
        stages.append(stage)
    for nodes, stage in zip(order, stages, strict=True):
        above = {id(stage_of[id(node)]): stage_of[id(node)] for member in nodes for node in upstream(member)}
        above.pop(id(stage), None)
        stage.above = list(above.values())
        stage.alive_above = sum(len(other.members) for other in stage.above)
        for other in stage.above:
            other.below.append(stage)
            other.needs += stage.members
            other.level = max(other.level, stage.level + 1)
    return stages

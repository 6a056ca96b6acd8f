"""What the supervisor decides: one command in, a list of actions out. A plain object without threads, clocks or waiting.

The supervisor's thread drives it in production; tests and simulations drive the very same object. It is the one writer of
every component's phase.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from minions import events
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
    WakeAt,
    WatchIdle,
)
from minions.life.commands import Command
from minions.life.lifecycle import Phase
from minions.life.promises import Promise
from minions.life.status import Deadlines, Round, Stage, Status, stages_of
from minions.model.topology import Topology

__all__ = ["Supervision"]


class Supervision:
    """All decisions about the life of the components of one system.

    What it costs to deal with a command does not grow with the number of components, but for the question whether all is
    quiet, which is asked only when every source has finished, and for wishes, which cost what they name.

    Attributes:
        statuses: by name, in the order of their start.
        stopping: why the system stops; None while it does not.
        quiet: nothing can happen any more: every source has finished and nothing waits or is in work.
    """

    def __init__(
        self,
        topology: Topology,
        is_quiet: Callable[[list[str], bool], bool],
        *,
        deadlines: Deadlines,
        forever: bool,
        most_zombies: int,
        chance: Callable[[], float],
    ) -> None:
        """Knows every component, and has decided nothing yet.

        Args:
            topology: the graph, which is sound.
            is_quiet: whether nothing waits for these components and nothing is in work there; and, if the second argument
                is true, whether those with a `run` of their own sleep until something comes.
            deadlines: for an orderly stop.
            forever: stay when nothing can happen any more.
            most_zombies: how many abandoned threads may be alive; with one more the system stops.
            chance: numbers from 0 to 1, for jitter.
        """
        self.statuses: dict[str, Status] = {}
        self.stopping: str | None = None
        self.quiet = False
        self._topology = topology
        self._stages = stages_of(topology.start_order(), topology.above)
        self._lives_of: dict[str, list[Status]] = defaultdict(list)  # by the name of the component
        for stage in self._stages:
            for status in stage.members:
                self.statuses[status.name] = status
                self._lives_of[status.node.name].append(status)
        self._is_quiet = is_quiet
        self._deadlines = deadlines
        self._forever = forever
        self._most_zombies = most_zombies
        self._chance = chance
        self._alive = self._busy = len(self.statuses)
        self._not_up = set(self.statuses)  # those that are to come up and never were
        self._told_up = False
        self._told_stopping = False
        self._due: list[tuple[float, str]] = []  # a heap; an entry counts while the status still has that moment
        self._to_start: list[Stage] = []
        self._held: dict[str, dict[int, Stage]] = defaultdict(
            dict
        )  # by the name of what they wait for, and by identity
        self._to_stop: list[Stage] = []
        self._rounds: dict[Round, None] = {}
        self._changed: list[Round] = []  # those of which a member has moved since they were looked at
        self._promises: list[Promise] = []
        self._promised: dict[Status, list[Promise]] = defaultdict(list)  # the same, by those whom they are about
        self._unserved: list[str] = []  # components of which the last life has ended, to be told
        self._zombies: set[tuple[str, int]] = set()
        self._stop_began_s = 0.0
        self._watching = False
        self._ended = False
        self._can_drain = True
        self._problems: list[tuple[str, str]] = []  # component (or empty), sentence

    @property
    def stop_by_s(self) -> float:
        """The end of the deadline of a stop that has begun, monotonic seconds."""
        return self._stop_began_s + self._deadlines.abandon_s

    @property
    def zombies(self) -> int:
        """How many abandoned threads are alive."""
        return len(self._zombies)

    @property
    def _drain_until_s(self) -> float:
        """Moments are compared with moments, never spans: by a rounding, one would be past and the span not over."""
        return self._stop_began_s + self._deadlines.drain_s

    @property
    def _throw_at_s(self) -> float:
        return self._stop_began_s + self._deadlines.throw_s

    def handle(self, command: Command, now_s: float) -> list[Action]:
        """What follows from one command at the monotonic moment `now_s`."""
        if self._ended:
            if isinstance(command, commands.Change) and command.promise:
                return [Keep(command.promise, "the system has ended")]
            return []
        return list(self._handle(command, now_s))

    def _handle(self, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Begin():
                self._to_start = list(self._stages)
            case commands.Stop(reason):
                self._begin_stop(reason, now_s)
            case commands.Fail(problem):
                self._fail("", problem, now_s)
            case commands.StoreFailed(error):
                self._problems.append(("", error))
                self._can_drain = False
                self._begin_stop("failed", now_s)
            case commands.Change():
                yield from self._change(command, now_s)
            case commands.ZombieEnded(component, epoch):
                self._zombies.discard((component, epoch))
                return
            case commands.Started() | commands.Finished() | commands.Stopped() | commands.Failed() | commands.Stalled():
                status = self.statuses[command.component]
                if command.epoch != status.epoch or not status.phase.has_thread:
                    if not isinstance(command, commands.Started | commands.Stalled):
                        self._zombies.discard((command.component, command.epoch))
                    return  # word of a life that is over already
                yield from self._report(status, command, now_s)
        yield from self._advance(now_s)

    def _move(self, status: Status, phase: Phase, now_s: float) -> None:
        """Moves a component to another phase, and counts what that changes for the others."""
        before = status.phase
        self._busy -= status.is_busy
        status.move(phase)
        self._busy += status.is_busy
        status.due_at = None  # a moment of the phase that is over would wake the supervisor again and again
        if phase is not Phase.STOPPING:
            status.asked_at, status.asked_again, status.thrown, status.returning = None, False, False, False
        if phase.is_up and not before.is_up:
            status.up_since, status.was_up = now_s, True
        elif not phase.has_thread:
            status.up_since = None
        if phase.is_up or phase.has_ended:
            self._not_up.discard(status.name)
        elif not status.was_up:
            self._not_up.add(status.name)  # it has ended before it ever was up, and is to begin after all
        if phase.has_ended is not before.has_ended:
            self._count(status, -1 if phase.has_ended else 1)
        if status.name in self._held:
            self._to_start += self._held.pop(status.name).values()
        if status.round is not None:
            status.round.moved(status, before)
            self._changed.append(status.round)
        self._look_at_promises(status)

    def _count(self, status: Status, step: int) -> None:
        """Counts a component that has ended, or is to begin again."""
        self._alive += step
        if step < 0 and all(life.phase.has_ended for life in self._lives_of[status.node.name]):
            self._unserved.append(status.node.name)
        for below in status.stage.below:
            below.alive_above += step
            if not below.alive_above and self.stopping is not None:
                self._to_stop.append(below)

    def _want(self, status: Status, wanted: bool, *, isolated: bool = False) -> None:
        self._busy -= status.is_busy
        status.wanted, status.isolated = wanted, isolated
        self._busy += status.is_busy
        self._look_at_promises(status)

    def _look_at_promises(self, status: Status) -> None:
        for promise in self._promised.get(status, ()):
            promise.look(status)

    def _come_back(self, status: Status, now_s: float) -> None:
        """Begins another life as soon as those with which it stops have stopped."""
        self._move(status, Phase.BACKOFF, now_s)
        self._wake_at(status, now_s)

    def _wake_at(self, status: Status, at_s: float) -> None:
        status.due_at = at_s
        heapq.heappush(self._due, (at_s, status.name))

    # ------------------------------------------------------------------ reports of lives
    def _report(self, status: Status, command: Command, now_s: float) -> Iterator[Action]:
        match command:
            case commands.Started():
                if status.phase is Phase.STARTING:
                    self._move(status, Phase.PAUSED if status.paused_by else Phase.RUNNING, now_s)
                    yield Notify(events.ComponentStarted(status.name, status.epoch))
            case commands.Finished():
                yield from self._finished(status, now_s)
            case commands.Stopped():
                comes_back = status.returning and self._lasts(status, now_s)
                yield Notify(events.ComponentStopped(status.name, status.epoch))
                if comes_back:
                    self._come_back(status, now_s)
                else:
                    self._move(status, Phase.STOPPED, now_s)
            case commands.Failed():
                yield from self._failed(status, command, now_s)
            case commands.Stalled():
                yield from self._stalled(status, command, now_s)

    def _finished(self, status: Status, now_s: float) -> Iterator[Action]:
        if status.phase is not Phase.STOPPING and status.node.restart.when == "permanent":
            error = "its run() returned, and it was added with Restart(when='permanent')"
            yield from self._failed(status, commands.Failed(status.name, status.epoch, "run", error, ""), now_s)
            return
        comes_back = status.returning and self._lasts(status, now_s)
        self._move(status, Phase.FINISHED, now_s)
        yield Notify(events.ComponentFinished(status.name, status.epoch))
        if comes_back:
            self._come_back(status, now_s)
        elif status.stage.alive_above and self.stopping is None and status.wanted:
            self._fail(
                status.name,
                f"{status.name}.run() returned although components that send to it are at work, and they would wait "
                "for ever: loop until the inbox ends the loop",
                now_s,
            )

    def _fail(self, component: str, problem: str, now_s: float) -> None:
        """Stops the system, because of a problem."""
        self._problems.append((component, problem))
        self._begin_stop("failed", now_s)

    def _failed(self, status: Status, failure: commands.Failed, now_s: float) -> Iterator[Action]:
        restart = status.node.restart
        delay_s: float | None = failure.retry_delay_s
        if not failure.attempt:
            delay_s = self._delay_s(status, now_s)
        elif self.stopping is not None:
            delay_s = 0.0
        at_end = (failure.where == "on_stop" or failure.at_end) and not status.returning
        is_over = failure.stop_system or at_end or not self._may_come_back(status, failure, now_s)
        gave_up = delay_s is None and not is_over and restart.when != "temporary"
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
            self._move(status, Phase.BACKOFF, now_s)
            self._wake_at(status, now_s + delay_s)
            if self.stopping is None:
                self._take_along(status)
            return
        self._move(status, Phase.STOPPED, now_s)
        if gave_up or failure.stop_system or (at_end and status.wanted):
            self._problems.append((status.name, f"{status.name} failed in {failure.where}: {failure.error}"))
        if gave_up:
            yield Notify(events.GaveUp(status.name, len(status.failed_at), restart.within_s, restart.on_give_up))
        if gave_up and restart.on_give_up == "isolate" and self.stopping is None:
            self._isolate(status)
        elif gave_up or failure.stop_system:
            self._begin_stop("failed", now_s)

    def _delay_s(self, status: Status, now_s: float) -> float | None:
        """The wait after one more failure of a component; None to give up."""
        restart = status.node.restart
        status.failed_at = (*restart.recent(status.failed_at, now_s), now_s)
        if restart.was_healthy(status.up_since, now_s):
            status.anew_at = now_s
        return restart.verdict(status.failed_at, now_s, self._chance(), anew_at=status.anew_at).delay_s

    def _may_come_back(self, status: Status, failure: commands.Failed, now_s: float) -> bool:
        """Whether a component that has failed gets another life.

        While the system stops only one that failed at a message does, and at once, so that what waits behind that message is
        handled; the message has a limited number of attempts, and so has this.
        """
        if self.stopping is None:
            return status.wanted and (status.phase is not Phase.STOPPING or status.returning)
        if status.phase is Phase.STOPPING and not status.returning:
            return False
        return failure.attempt > 0 and self._lasts(status, now_s)

    def _lasts(self, status: Status, now_s: float) -> bool:
        """Whether another life makes sense: while the system stops, only where something that was sent to it is to be handled."""
        if self.stopping is None:
            return True
        if status.node.is_source or not status.wanted or status.paused_by or status.stage.asked:
            return False
        return self._can_drain and now_s < self._drain_until_s

    def _isolate(self, failed: Status) -> None:
        """Leaves a component that was given up down, and stops its other replicas and what sends to it."""
        nodes = [failed.node, *self._topology.dependents(failed.node)]
        lives = [life for node in nodes for life in self._lives_of[node.name] if not life.phase.has_ended]
        for life in (failed, *lives):
            self._want(life, False, isolated=True)
        self._begin_round(lives, returns=False)

    def _stalled(self, status: Status, command: commands.Stalled, now_s: float) -> Iterator[Action]:
        if status.phase is Phase.STOPPING:
            return  # it is being dealt with
        answer = status.node.on_stall
        yield Notify(events.ComponentStalled(status.name, status.epoch, command.evidence, answer))
        problem = f"{status.name} makes no progress: {command.evidence.sentence}"
        if answer == "restart" and self.stopping is None:  # otherwise the deadline of the stop rules
            restart = status.node.restart
            if self._delay_s(status, now_s) is not None or restart.when == "temporary":
                self._restart([status])
                return
            self._problems.append((status.name, problem))
            yield Notify(events.GaveUp(status.name, len(status.failed_at), restart.within_s, restart.on_give_up))
            if restart.on_give_up == "isolate":
                self._isolate(status)
            else:
                self._begin_stop("failed", now_s)
        elif answer == "stop":
            self._fail(status.name, problem, now_s)

    # ------------------------------------------------------------------ wishes
    def _change(self, change: commands.Change, now_s: float) -> Iterator[Action]:
        lives = self._lives(change)
        if isinstance(change, commands.Restart) and change.components is None:
            lives = [life for life in lives if life.wanted and not life.phase.has_ended]
        if change.promise:
            self._remember(Promise.of(change, lives, stopping=self.stopping is not None))
        if self.stopping is not None:
            return
        match change:
            case commands.Start():
                self._start(lives, now_s)
            case commands.Halt():
                for life in lives:
                    self._want(life, False, isolated=life.isolated)
                self._begin_round(lives, returns=False)
            case commands.Restart():
                self._begin_again(lives, now_s)
            case commands.Pause(by=by):
                yield from self._pause(lives, by, now_s)
            case commands.Resume(by=by):
                yield from self._resume(lives, by, now_s)

    def _lives(self, change: commands.Change) -> list[Status]:
        if change.components is None:
            return list(self.statuses.values())
        return [life for name in change.components for life in self._lives_of[name]]

    def _begin_again(self, lives: list[Status], now_s: float) -> None:
        self._start([life for life in lives if life.phase.has_ended or not life.wanted], now_s)
        for life in lives:
            life.failed_at = ()
            if life.phase is Phase.BACKOFF:
                self._wake_at(life, now_s)  # nobody waits any longer
        self._restart(lives)

    def _start(self, lives: Iterable[Status], now_s: float) -> None:
        begun = []
        for life in lives:
            if not life.wanted:
                self._problems = [problem for problem in self._problems if problem[0] != life.name]
            self._want(life, True)
            if life.round is not None and not life.round.returns:
                self._leave_round(life)
            if life.phase.has_ended:
                life.failed_at = ()
                self._move(life, Phase.WAITING, now_s)
                begun.append(life)
            if life.phase is Phase.STOPPING:
                life.returning = True
            elif life.phase is Phase.WAITING:
                self._to_start.append(life.stage)
            elif life.phase is Phase.BACKOFF and life.due_at is None and life.round is None:
                self._wake_at(life, now_s)  # its moment came when it was to stop
        if len(begun) > 1:
            self._begin_round(begun, returns=True)  # so that producers wait for those of them that they send to

    def _pause(self, lives: Iterable[Status], by: str, now_s: float) -> Iterator[Action]:
        for life in lives:
            was_paused = bool(life.paused_by)
            life.paused_by |= {by}
            if was_paused or life.phase not in (Phase.STARTING, Phase.RUNNING):
                continue
            if life.phase is Phase.RUNNING:
                self._move(life, Phase.PAUSED, now_s)
            yield Hold(life.name, True)
            yield Notify(events.ComponentPaused(life.name, life.epoch, by))

    def _resume(self, lives: Iterable[Status], by: str, now_s: float) -> Iterator[Action]:
        for life in lives:
            if by not in life.paused_by:
                continue
            life.paused_by -= {by}
            if life.paused_by or life.phase not in (Phase.STARTING, Phase.PAUSED):
                continue
            if life.phase is Phase.PAUSED:
                self._move(life, Phase.RUNNING, now_s)
            yield Hold(life.name, False)
            yield Notify(events.ComponentResumed(life.name, life.epoch))

    # ------------------------------------------------------------------ stopping and coming back together
    def _restart(self, lives: list[Status]) -> None:
        """Has these stop and begin again, with what is to be restarted with their components."""
        members = {life.name: life for life in lives}
        for node in {id(life.node): life.node for life in lives}.values():
            together = self._topology.restarted_with(node)
            if len(together) > 1:
                members |= {life.name: life for other in together for life in self._lives_of[other.name]}
        self._begin_round(members.values(), returns=True)

    def _take_along(self, failed: Status) -> None:
        """Has those stop, and begin again with it, that are to be restarted when a component is."""
        if len(self._topology.restarted_with(failed.node)) > 1:
            self._restart([failed])

    def _begin_round(self, lives: Iterable[Status], *, returns: bool) -> None:
        members = dict.fromkeys(life for life in lives if not life.phase.has_ended and life.wanted is returns)
        if returns:  # what is about to stop together with one of them, to come back, still does
            about_to_stop = (life.round for life in members if life.round is not None and life.round.returns)
            for other in dict.fromkeys(round_ for round_ in about_to_stop if not round_.rising):
                members |= other.members
        if not members:
            return
        for life in members:
            self._leave_round(life)
        round_ = Round.of(members, returns=returns)
        for life in round_.members:
            life.round = round_
            life.returning = returns and life.phase is Phase.STOPPING
        self._rounds[round_] = None
        self._changed.append(round_)

    def _leave_round(self, life: Status) -> None:
        if life.round is not None:
            life.round.leave(life)
            self._changed.append(life.round)
            life.round = None

    def _advance_rounds(self, now_s: float) -> Iterator[Action]:
        """Takes the next step with each of those of which a member has moved, or whose moment has come."""
        while self._changed:
            round_ = self._changed.pop()
            if round_ in self._rounds:
                yield from self._advance_round(round_, now_s)

    def _advance_round(self, round_: Round, now_s: float) -> Iterator[Action]:
        members = round_.members
        to_ask = None if round_.rising else round_.next_to_ask()
        if to_ask is not None:
            yield from self._ask_to_stop(to_ask, round_.returns, now_s)
        elif not round_.returns:
            self._dissolve(round_)
            for life in members:
                if not life.phase.has_ended:
                    self._move(life, Phase.STOPPED, now_s)
        elif round_.settled == len(members):
            self._dissolve(round_)
        elif not round_.rising and all(life.due_at is None or life.due_at <= now_s for life in members):
            round_.rising = True
            for life in members:
                if life.phase is Phase.BACKOFF:
                    self._move(life, Phase.WAITING, now_s)
                self._to_start.append(life.stage)

    def _ask_to_stop(self, lives: list[Status], returning: bool, now_s: float) -> Iterator[Action]:
        for life in lives:
            if life.phase is not Phase.STOPPING:
                self._move(life, Phase.STOPPING, now_s)
                life.asked_at, life.returning = now_s, returning
                self._wake_at(life, now_s + self._deadlines.ask_again_s)
                yield AskToStop(life.name, drain=False)

    def _dissolve(self, round_: Round) -> None:
        del self._rounds[round_]
        for life in round_.members:
            life.round = None

    # ------------------------------------------------------------------ what follows from where everybody is
    def _advance(self, now_s: float) -> Iterator[Action]:
        if self._due or self._changed:
            yield from self._deal_with_due(now_s)
            yield from self._advance_rounds(now_s)
        if self.stopping is None:
            yield from self._go_on(now_s)
        if self.stopping is not None:
            yield from self._go_on_stopping(self.stopping, now_s)
        if self._unserved or self._promises:
            yield from self._tell_who_waits()
        if self.stopping is not None and not self._alive:
            self._ended = True
            yield self._end(self.stopping)
        elif self._due or self.stopping is not None:
            yield from self._next_moment(now_s)

    def _go_on(self, now_s: float) -> Iterator[Action]:
        """Begins what can begin, while the system does not stop."""
        if not self._not_up and not self._told_up:
            self._told_up = True
            yield Notify(events.SystemStarted(sum(status.was_up for status in self.statuses.values())))
        if self._to_start:
            yield from self._start_ready(now_s)
        if self.quiet or not self._busy:
            yield from self._look_for_end(now_s)

    def _end(self, reason: str) -> End:
        survivors = dict.fromkeys(name for name, _ in sorted(self._zombies))
        for name in survivors:
            if all(name != component for component, _ in self._problems):
                self._problems.append((name, f"{name}: a thread that was abandoned is still alive"))
        return End(reason, tuple(survivors), tuple(problem for _, problem in self._problems))

    def _deal_with_due(self, now_s: float) -> Iterator[Action]:
        """Deals with every component whose moment has come: a new life, or the next step to stop it."""
        while self._due and self._due[0][0] <= now_s:
            at_s, name = heapq.heappop(self._due)
            status = self.statuses[name]
            if status.due_at != at_s:
                continue  # it has moved on since
            status.due_at = None
            if status.phase is Phase.STOPPING:
                yield from self._press(status, now_s)
            elif status.phase is Phase.BACKOFF and status.round is not None and not status.round.rising:
                self._changed.append(status.round)
            elif status.phase is Phase.BACKOFF and self.stopping is None and not status.was_up:
                self._move(status, Phase.WAITING, now_s)  # what it sends to may have to come up first
                self._to_start.append(status.stage)
            elif status.phase is Phase.BACKOFF:
                yield self._launch(status, now_s)

    def _start_ready(self, now_s: float) -> Iterator[Action]:
        """Begins the lives of those for whom all that they send to is up."""
        ready, self._to_start = self._to_start, []
        for stage in {id(stage): stage for stage in ready}.values():
            for status in stage.members:
                if status.phase is not Phase.WAITING or (status.round is not None and not status.round.rising):
                    continue
                blocker = _blocker_of(status)
                if blocker is not None:
                    self._held[blocker.name][id(stage)] = stage
                else:
                    yield self._launch(status, now_s)

    def _launch(self, status: Status, now_s: float) -> Launch:
        self._move(status, Phase.STARTING, now_s)
        status.restarts += status.epoch > 0
        status.epoch += 1
        return Launch(status.name, status.epoch, held=bool(status.paused_by))

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

    def _tell_who_waits(self) -> Iterator[Action]:
        """Tells those who call a component that has ended, and those whose wish has come true or cannot."""
        for component in self._unserved:
            if all(life.phase.has_ended for life in self._lives_of[component]):
                yield Unserved(component)
        self._unserved.clear()
        open_promises = []
        for promise in self._promises:
            answer = promise.answer(stopping=self.stopping is not None)
            if answer is None:
                open_promises.append(promise)
            else:
                self._forget(promise)
                yield Keep(promise.number, answer)
        self._promises = open_promises

    def _remember(self, promise: Promise) -> None:
        self._promises.append(promise)
        for life in promise.lives:
            self._promised[life].append(promise)

    def _forget(self, promise: Promise) -> None:
        for life in promise.lives:
            promised = self._promised[life]
            promised.remove(promise)
            if not promised:
                del self._promised[life]

    def _next_moment(self, now_s: float) -> Iterator[Action]:
        while self._due and self.statuses[self._due[0][1]].due_at != self._due[0][0]:
            heapq.heappop(self._due)
        moments = [self._due[0][0]] if self._due else []
        if self.stopping is not None:
            stages = (self._drain_until_s, self._throw_at_s, self.stop_by_s)
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
        for round_ in list(self._rounds):
            self._dissolve(round_)
        for status in self.statuses.values():
            may_drain = self._can_drain and not status.node.is_source and status.wanted and not status.paused_by
            if status.phase is Phase.BACKOFF and may_drain:
                self._wake_at(status, now_s)  # a last life, and at once, to handle what was sent to it
            elif status.phase is Phase.WAITING and status.was_up and may_drain:
                self._come_back(status, now_s)
            elif status.phase in (Phase.WAITING, Phase.BACKOFF):
                self._move(status, Phase.STOPPED, now_s)
        self._to_stop = [stage for stage in self._stages if stage.is_source or not stage.alive_above]

    def _go_on_stopping(self, reason: str, now_s: float) -> Iterator[Action]:
        if not self._told_stopping:
            self._told_stopping = True
            yield Notify(events.SystemStopping(reason, self._deadlines.abandon_s))
        if not self._watching:
            self._watching = True
            yield WatchIdle()
        yield from self._deal_with_due(now_s)
        yield from self._stop_ready(now_s)

    def _stop_ready(self, now_s: float) -> Iterator[Action]:
        """Asks every stage to stop whose turn has come, and presses on where time is up."""
        if now_s >= self._drain_until_s or not self._can_drain:
            self._to_stop = list(self._stages)
        looked_at, self._to_stop = self._to_stop, []
        for stage in reversed(looked_at):
            if self._may_stop(stage, now_s):
                yield from self._ask(stage, now_s)
            elif not stage.asked:
                self._to_stop.append(stage)
        self._to_stop.reverse()
        if now_s >= self._drain_until_s:
            yield from self._press_on(now_s)

    def _press_on(self, now_s: float) -> Iterator[Action]:
        """Takes the next step with everything that has not stopped when the time for draining is over."""
        for status in [status for status in self.statuses.values() if status.phase is Phase.STOPPING]:
            if not status.asked_again:
                yield self._ask_again(status)
            if now_s >= self._throw_at_s and not status.thrown:
                yield self._throw(status)
            if now_s >= self.stop_by_s:
                self._problems.append((status.name, f"{status.name} did not stop in time, its thread was abandoned"))
                yield self._abandon(status, now_s)

    def _may_stop(self, stage: Stage, now_s: float) -> bool:
        """Whether a stage may be asked to stop: a source at once; another when nothing more can come to it.

        Nothing more comes when everything above has ended and what had been sent is handled; what is paused handles nothing.
        After the time for draining all are asked at once.
        """
        if stage.asked:
            return False
        if now_s >= self._drain_until_s or not self._can_drain or stage.is_source:
            return True
        at_work = [life.name for life in stage.members if not life.phase.has_ended and not life.paused_by]
        return not stage.alive_above and (not at_work or self._is_quiet(at_work, False))

    def _ask(self, stage: Stage, now_s: float) -> Iterator[Action]:
        stage.asked = True
        for status in stage.members:
            if status.phase is Phase.BACKOFF:
                self._move(status, Phase.STOPPED, now_s)
            elif status.phase is Phase.STARTING or status.phase.is_up:
                self._move(status, Phase.STOPPING, now_s)
                status.asked_at = now_s
                self._wake_at(status, now_s + self._deadlines.ask_again_s)
                yield AskToStop(status.name)

    def _press(self, status: Status, now_s: float) -> Iterator[Action]:
        """Takes the next step with a component that was asked to stop and has not; where the system stops, its deadline rules."""
        if not status.asked_again:
            yield self._ask_again(status)
        elif self.stopping is None and not status.thrown:
            yield self._throw(status)
        elif self.stopping is None:
            yield self._abandon(status, now_s)
            if len(self._zombies) > self._most_zombies:
                self._fail(
                    "",
                    f"{len(self._zombies)} threads that could not be ended are alive, and {self._most_zombies} may be "
                    "(most_zombies)",
                    now_s,
                )
            return
        if self.stopping is None and status.asked_at is not None:
            next_s = self._deadlines.abandon_s if status.thrown else self._deadlines.throw_s
            self._wake_at(status, status.asked_at + next_s)

    @staticmethod
    def _ask_again(status: Status) -> Action:
        status.asked_again = True
        status.due_at = None
        return AskToStop(status.name, again=True)

    @staticmethod
    def _throw(status: Status) -> Action:
        status.thrown = True
        return Throw(status.name)

    def _abandon(self, status: Status, now_s: float) -> Action:
        comes_back = status.returning and self._lasts(status, now_s)
        self._zombies.add((status.name, status.epoch))
        self._move(status, Phase.ABANDONED, now_s)
        if comes_back:
            self._come_back(status, now_s)
        return Abandon(status.name, len(self._zombies))


def _blocker_of(status: Status) -> Status | None:
    """The first, from where it was looked last, that a component waits for before it starts."""
    needs, first = status.stage.needs, status.stage.looked_at
    for step in range(len(needs)):
        index = (first + step) % len(needs)
        if _holds_up(needs[index], status):
            status.stage.looked_at = index
            return needs[index]
    return None


def _holds_up(below: Status, status: Status) -> bool:
    """Whether a component waits for another that it sends to: one that never was up, or that comes back together with it."""
    if not below.wanted or below.phase.has_ended or below.phase.is_up:
        return False
    return not below.was_up or (below.round is not None and below.round is status.round)

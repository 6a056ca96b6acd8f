"""Any wishes at any time, while the world does what it likes: order, exactly one life, kept promises, and it all comes up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import attrs
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minions import Backoff, Restart, events
from minions.life import commands
from minions.life.actions import Abandon, Action, AskToStop, End, Hold, Keep, Launch, Notify, Throw, WakeAt
from minions.life.commands import Begin, Command, Due, Failed, Finished, Idle, Started, Stop, Stopped
from minions.life.lifecycle import MOVES, Phase
from minions.life.status import Deadlines, Round, Status
from minions.life.supervision import Supervision
from minions.model.policy import Strategy
from minions.model.topology import Group, Link, Node, Topology
from tests.life.bench import EVIDENCE, Source, Worker

DEADLINES = Deadlines.of(10.0)
MOST_ZOMBIES = 4
LINKS = (
    ("source0", "worker0"),
    ("source1", "worker0"),
    ("worker0", "worker1"),
    ("source1", "worker2"),
    ("worker2", "worker3"),
    ("worker3", "worker2"),
)
NAMES = ("source0", "source1", "worker0", "worker1", "worker2", "worker3")
BACKOFF = Backoff(initial_s=1.0, jitter_ratio=0.0)

restarts = st.builds(
    Restart,
    when=st.sampled_from(["transient", "transient", "transient", "permanent", "temporary"]),
    failures=st.sampled_from([0, 2, 9]),
    within_s=st.just(30.0),
    backoff=st.just(BACKOFF),
    healthy_s=st.sampled_from([None, 5.0]),
    on_give_up=st.sampled_from(["isolate", "isolate", "stop"]),
    with_dependents=st.booleans(),
)
named = st.one_of(st.none(), st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True).map(tuple))
kinds = st.sampled_from(
    [commands.Start, commands.Start, commands.Halt, commands.Restart, commands.Restart, commands.Pause, commands.Resume]
)


@attrs.define
class Thread:
    """The thread of one life, which reports nothing that a real one could not."""

    component: str
    epoch: int
    held: bool
    has_started: bool = False
    is_over: bool = False
    asked: int = 0
    thrown: bool = False
    abandoned: bool = False


class ChangesMachine(RuleBasedStateMachine):
    """Two sources, a cascade with replicas, and a cycle; policies and groups are drawn."""

    @initialize(
        policies=st.lists(restarts, min_size=len(NAMES), max_size=len(NAMES)),
        grouped=st.lists(st.sampled_from(NAMES), max_size=4, unique=True),
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        on_stall=st.sampled_from(["report", "restart", "restart"]),
        begins=st.sampled_from([True, True, True, False]),
        replicated=st.booleans(),
    )
    def set_up(
        self,
        policies: list[Restart],
        grouped: list[str],
        strategy: Strategy,
        on_stall: Any,
        begins: bool,
        replicated: bool,
    ) -> None:
        topology = Topology()
        made: dict[str, Source | Worker] = {}
        for name, restart in zip(NAMES, policies, strict=True):
            made[name] = Source() if name.startswith("source") else Worker()
            replicas = 2 if replicated and name == "worker1" else 1
            topology.add(Node(name, made[name], replicas, restart, on_stall=on_stall))
        for sender, receiver in LINKS:
            end = made[receiver]
            assert isinstance(end, Worker)
            topology.connect(Link(made[sender].out, end.things))
        if grouped:
            topology.groups.append(Group("group", tuple(made[name] for name in grouped), strategy))
        self.topology = topology
        self.now_s = 0.0
        self.wake_at_s: float | None = None
        self.busy = True
        self.threads: dict[str, Thread] = {}
        self.old: list[Thread] = []
        self.asked_for: dict[int, str] = {}  # open promises
        self.promises = 0
        self.ends: list[End] = []
        self.ups: list[int] = []
        self.supervision = Supervision(
            topology,
            lambda components, idle: not self.busy,
            deadlines=DEADLINES,
            most_zombies=MOST_ZOMBIES,
            forever=True,
            chance=lambda: 0.5,
        )
        self.moves = MoveLog(self.supervision)
        self.begun = False
        if begins:
            self.it_begins()

    @rule()
    def it_begins(self) -> None:
        """What is wished before is not lost."""
        if not self.begun:
            self.begun = True
            self.tell(Begin())

    # ------------------------------------------------------------------ the world
    def tell(self, command: Command) -> None:
        for action in self.supervision.handle(command, self.now_s):
            self.carry_out(action)
        for status in self.supervision.statuses.values():
            self.moves.look(status)

    def carry_out(self, action: Action) -> None:
        assert not self.ends or isinstance(action, Keep), "nothing but late wishes follows the end"
        match action:
            case Launch(component, epoch, held):
                self.launch(component, epoch, held)
            case Hold(component, held):
                thread = self.threads[component]
                assert not thread.is_over
                assert thread.held is not held
                thread.held = held
            case AskToStop(component, drain, again):
                self.ask(component, drain, again)
            case Throw() | Abandon():
                self.break_off(action)
            case Keep(promise):
                del self.asked_for[promise]  # a second answer would not find it
            case WakeAt(at_s):
                assert at_s > self.now_s, "a moment that is past would be waited for without end"
                self.wake_at_s = at_s
            case Notify(events.SystemStarted(components)):
                self.ups.append(components)
            case End():
                self.ends.append(action)
                assert not self.asked_for, "nobody waits in vain"

    def break_off(self, action: Throw | Abandon) -> None:
        thread = self.threads[action.component]
        assert not thread.is_over
        assert thread.asked == 2
        assert thread.thrown is isinstance(action, Abandon), "first one, then the other"
        thread.thrown = True
        if isinstance(action, Abandon):
            thread.abandoned = True
            assert action.zombies == self.zombies()

    def zombies(self) -> int:
        return sum(thread.abandoned and not thread.is_over for thread in [*self.threads.values(), *self.old])

    def launch(self, component: str, epoch: int, held: bool) -> None:
        before, status = self.threads.get(component), self.supervision.statuses[component]
        assert before is None or before.is_over or before.abandoned, "never two lives at once"
        assert epoch == (before.epoch + 1 if before else 1)
        assert held is bool(status.paused_by)
        assert status.wanted
        assert not (self.supervision.stopping and component.startswith("source"))
        if self.supervision.stopping is None:
            for below in self.below(status):
                together = below.round is not None and below.round is status.round
                if (
                    below.wanted
                    and not below.phase.has_ended
                    and (not below.was_up or (together and epoch == status.epoch))
                ):
                    assert below.phase.is_up or status.was_up, f"{component} begins before {below.name} is up"
        if before is not None:
            self.old.append(before)
        self.threads[component] = Thread(component, epoch, held)

    def ask(self, component: str, drain: bool, again: bool) -> None:
        thread, status = self.threads[component], self.supervision.statuses[component]
        assert not thread.is_over
        assert thread.asked == int(again), "asked once, and once again"
        thread.asked += 1
        if not drain:
            assert self.supervision.stopping is None or again
            round_ = status.round
            for other in round_.members if round_ is not None else ():
                if status in self.below(other) and other.stage is not status.stage:
                    assert not self.is_alive(other.name), f"{component} is asked before {other.name} has stopped"

    def below(self, status: Status) -> list[Status]:
        nodes = {node.name for node in self.topology.consumers(status.node)}
        return [
            other
            for other in self.supervision.statuses.values()
            if other.node.name in nodes and other.stage is not status.stage
        ]

    def is_alive(self, component: str) -> bool:
        thread = self.threads.get(component)
        return thread is not None and not thread.is_over and not thread.abandoned

    # ------------------------------------------------------------------ what happens
    @rule(kind=kinds, components=named, by=st.sampled_from(["operator", "operator", "watchdog"]))
    def somebody_wishes(self, kind: type[commands.Change], components: tuple[str, ...] | None, by: str) -> None:
        self.promises += 1
        self.asked_for[self.promises] = kind.__name__
        self.tell(kind(components, by, self.promises))
        if self.ends:
            assert self.promises not in self.asked_for
            return
        if self.supervision.stopping is None:
            self.check_wish(kind, components, by)

    def check_wish(self, kind: type[commands.Change], components: tuple[str, ...] | None, by: str) -> None:
        for status in self.supervision.statuses.values():
            if components is not None and status.node.name not in components:
                continue
            match kind:
                case commands.Halt:
                    assert not status.wanted
                    assert status.phase.has_ended or status.round is not None or status.phase is Phase.STOPPING
                case commands.Start:
                    assert status.wanted
                    assert not status.phase.has_ended
                    assert status.round is None or status.round.returns
                case commands.Restart if components is not None:
                    assert status.wanted
                    assert not status.phase.has_ended
                case commands.Pause:
                    assert by in status.paused_by
                    assert status.phase is not Phase.RUNNING
                case commands.Resume:
                    assert by not in status.paused_by
                case _:
                    pass

    @rule(odds=st.integers(0, 14))
    def the_system_is_stopped(self, odds: int) -> None:
        if odds == 0:
            self.tell(Stop("stopped"))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(Due())

    @rule(busy=st.booleans())
    def work_comes_or_goes(self, busy: bool) -> None:
        self.busy = busy
        self.tell(Idle())

    def choose(self, data: st.DataObject, *, asked: bool | None = None) -> Thread | None:
        names = sorted(
            name
            for name, thread in self.threads.items()
            if not thread.is_over and (asked is None or bool(thread.asked) is asked)
        )
        return self.threads[data.draw(st.sampled_from(names))] if names else None

    @rule(data=st.data())
    def one_goes_on(self, data: st.DataObject) -> None:
        """Its start succeeds, or it ends because it was asked to."""
        thread = self.choose(data)
        if thread is not None:
            self.go_on(thread)

    def go_on(self, thread: Thread) -> None:
        if not thread.has_started:
            thread.has_started = True
            self.tell(Started(thread.component, thread.epoch))
        elif thread.asked:
            thread.is_over = True
            self.tell(Stopped(thread.component, thread.epoch))

    @rule(data=st.data())
    def one_finishes(self, data: st.DataObject) -> None:
        """At times just when it is asked to stop."""
        thread = self.choose(data)
        if thread is not None and thread.has_started and thread.component.startswith("source"):
            thread.is_over = True
            self.tell(Finished(thread.component, thread.epoch))

    @rule(data=st.data(), of_message=st.booleans())
    def one_fails(self, data: st.DataObject, of_message: bool) -> None:
        thread = self.choose(data)
        if thread is None:
            return
        report = Failed(thread.component, thread.epoch, "on_start", "E", "T")
        if thread.has_started:
            report = attrs.evolve(report, where="on_stop" if thread.asked and not of_message else "run")
            if of_message and thread.component.startswith("worker"):
                report = attrs.evolve(report, where="handle", message_id="m", attempt=1, retry_delay_s=0.5)
        thread.is_over = True
        self.tell(report)

    @rule(data=st.data())
    def one_stalls(self, data: st.DataObject) -> None:
        thread = self.choose(data)
        if thread is not None:
            self.tell(commands.Stalled(thread.component, thread.epoch, EVIDENCE))

    @rule(data=st.data())
    @precondition(lambda self: any(not thread.is_over for thread in getattr(self, "old", ())))
    def an_abandoned_thread_ends(self, data: st.DataObject) -> None:
        thread = data.draw(st.sampled_from([thread for thread in self.old if not thread.is_over]))
        thread.is_over = True
        self.tell(data.draw(st.sampled_from([commands.ZombieEnded, Stopped, Finished]))(thread.component, thread.epoch))

    @rule()
    def the_world_is_fair_for_a_while(self) -> None:
        """Every start succeeds, whoever was asked ends, time passes: then whatever is wanted is up, and no wish is open."""
        self.it_begins()
        for _ in range(60):
            moving = [
                thread
                for thread in self.threads.values()
                if not thread.is_over and not thread.abandoned and (thread.asked or not thread.has_started)
            ]
            for thread in moving:
                self.go_on(thread)
            if not moving:
                if self.wake_at_s is None or self.wake_at_s <= self.now_s:
                    break
                self.now_s = self.wake_at_s
                self.wake_at_s = None
                self.tell(Due())
        else:
            raise AssertionError("it never comes to rest")
        if self.supervision.stopping is not None:
            return
        for status in self.supervision.statuses.values():
            if status.wanted:
                assert status.phase.is_up or status.phase.has_ended, f"{status.name} is {status.phase} for ever"
            else:
                assert status.phase.has_ended, f"{status.name} is {status.phase} although nobody wants it"
            assert status.round is None
        assert not self.asked_for, f"open for ever: {self.asked_for}"
        assert not self.supervision._rounds

    # ------------------------------------------------------------------ what always holds
    @invariant()
    def the_supervisor_believes_of_each_thread_what_is_so(self) -> None:
        for name, status in self.supervision.statuses.items():
            assert status.phase.has_thread == self.is_alive(name), f"{name} is {status.phase}"
            if status.phase.is_up:
                assert (status.phase is Phase.PAUSED) is bool(status.paused_by), name
                assert self.threads[name].held is bool(status.paused_by)

    @invariant()
    def what_is_counted_is_what_there_is(self) -> None:
        supervision, statuses = self.supervision, list(self.supervision.statuses.values())
        assert supervision._busy == sum(status.is_busy for status in statuses)
        assert supervision._alive == sum(not status.phase.has_ended for status in statuses)
        assert self.ends or supervision.zombies == self.zombies()
        for stage in supervision._stages:
            alive = sum(not status.phase.has_ended for above in stage.above for status in above.members)
            assert stage.alive_above == alive
        for name in supervision._not_up:
            assert not supervision.statuses[name].was_up

    @invariant()
    def nobody_is_forgotten(self) -> None:
        """Whoever has no thread and has not ended is waited for by something that will come."""
        supervision = self.supervision
        if self.ends or not self.begun:
            return
        due = set(supervision._due)
        for status in supervision.statuses.values():
            if status.due_at is not None:
                assert (status.due_at, status.name) in due
            if status.phase is Phase.BACKOFF:
                assert status.due_at is not None or (status.round is not None and not status.round.rising), status
            if status.phase is Phase.STOPPING and supervision.stopping is None:
                assert status.due_at is not None, status
            if status.phase is Phase.WAITING and not (status.round is not None and not status.round.rising):
                held = any(id(status.stage) in stages for stages in supervision._held.values())
                assert held or status.stage in supervision._to_start, status

    @invariant()
    def rounds_know_their_members(self) -> None:
        supervision = self.supervision
        rounds: dict[Round, None] = supervision._rounds
        for status in supervision.statuses.values():
            assert status.round is None or (status.round in rounds and status in status.round.members)
        for round_ in rounds:
            assert all(member.round is round_ for member in round_.members)
            assert supervision.stopping is None
            for member in round_.members:
                assert member.phase.has_ended or member.wanted is round_.returns
            assert round_.settled == sum(each.phase.is_up or each.phase.has_ended for each in round_.members)
            if not round_.rising:
                levels = Counter(each.stage.level for each in round_.members if each.phase.has_thread)
                assert +Counter(round_._with_thread) == levels

    @invariant()
    def what_is_noted_of_promises_is_so(self) -> None:
        for promise in self.supervision._promises:
            answers = {life: promise._answer(life, epoch) for life, epoch in promise.lives.items()}
            assert promise._answers == answers
            assert promise._open == sum(answer is None for answer in answers.values())
            assert promise._broken == sum(bool(answer) for answer in answers.values())
            assert all(promise in self.supervision._promised[life] for life in promise.lives)
        assert self.supervision._promises or not self.supervision._promised

    @invariant()
    def that_all_are_up_is_told_once(self) -> None:
        assert len(self.ups) <= 1

    @invariant()
    def it_ends_once_and_when_all_have(self) -> None:
        stops = self.supervision.stopping is not None
        ended = all(status.phase.has_ended for status in self.supervision.statuses.values())
        assert len(self.ends) == int(stops and ended)

    def teardown(self) -> None:
        if not hasattr(self, "supervision"):
            return
        self.tell(Stop("at last"))
        self.now_s += DEADLINES.abandon_s
        self.tell(Due())
        assert len(self.ends) == 1
        assert not self.asked_for


class MoveLog:
    """Sees to it that every status moves as the table of moves says, also where one command brings several moves."""

    def __init__(self, supervision: Supervision) -> None:
        self._phases = {name: status.phase for name, status in supervision.statuses.items()}

    def look(self, status: Status) -> None:
        before, self._phases[status.name] = self._phases[status.name], status.phase
        reached = {before}
        while more := {phase for passed in reached for phase in MOVES[passed]} - reached:
            reached |= more
        assert status.phase in reached, f"{status.name}: {before} to {status.phase}"


TestChangesMachine: Any = ChangesMachine.TestCase
TestChangesMachine.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)

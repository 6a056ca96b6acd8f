"""Any sequence of commands: whatever happens in whatever order, the supervisor keeps to the table of moves and ends once."""

from __future__ import annotations

import enum
from typing import Any

import attrs
import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from minions import Backoff, Component, Inbox, Outbox, Restart, events
from minions.life.actions import (
    Abandon,
    Action,
    AskToStop,
    End,
    Launch,
    Notify,
    Quieted,
    WakeAt,
)
from minions.life.commands import Begin, Command, Due, Failed, Finished, Idle, Started, Stop, Stopped, StoreFailed
from minions.life.lifecycle import MOVES, Phase
from minions.life.status import Deadlines
from minions.life.supervision import Supervision
from minions.model.topology import Link, Node, Topology

DEADLINES = Deadlines.of(10.0)
RESTART = Restart(failures=2, within_s=30.0, backoff=Backoff(initial_s=1.0, jitter_ratio=0.5))


@attrs.frozen
class Thing:
    value: int = 0


class Source(Component):
    out = Outbox(Thing, optional=True)

    def run(self) -> None: ...


class Worker(Component):
    things = Inbox(Thing)
    out = Outbox(Thing, optional=True)

    @things.handler
    def handle(self, thing: Thing) -> None: ...


class Stage(enum.Enum):
    """What the thread of one life is at, as the outside world knows it."""

    STARTING = 1
    UP = 2
    OVER = 3


@attrs.define
class ModelledLife:
    """The thread of one life, which reports nothing that a real one could not."""

    component: str
    epoch: int
    stage: Stage = Stage.STARTING
    asked: int = 0
    abandoned: bool = False


class SupervisionMachine(RuleBasedStateMachine):
    """Two sources, a cascade with replicas, and a cycle; the world around them does what it likes."""

    def __init__(self) -> None:
        super().__init__()
        topology = Topology()
        sources = [Source(), Source()]
        workers = [Worker() for _ in range(4)]
        for number, source in enumerate(sources):
            topology.add(Node(f"source{number}", source, 1, RESTART))
        for number, worker in enumerate(workers):
            topology.add(Node(f"worker{number}", worker, 2 if number == 1 else 1, RESTART))
        links: list[tuple[Source | Worker, Worker]] = [
            (sources[0], workers[0]),
            (sources[1], workers[0]),
            (workers[0], workers[1]),
            (sources[1], workers[2]),
            (workers[2], workers[3]),
            (workers[3], workers[2]),
        ]
        for sender, receiver in links:
            topology.connect(Link(sender.out, receiver.things))
        self.consumers = {
            name: {other for below in topology.consumers(node) if below is not node for other in below.lives()}
            for node in topology.nodes
            for name in node.lives()
        }
        self.in_cycle = {"worker2", "worker3"}
        self.now_s = 0.0
        self.busy = False
        self.lives: dict[str, ModelledLife] = {}
        self.graves: list[ModelledLife] = []
        self.ever_up: set[str] = set()
        self.stop_told_at_s: float | None = None
        self.ends: list[End] = []
        self.quiet = False
        self.starts_told = 0
        self.chance = 0.5
        self.supervision = Supervision(
            topology,
            lambda components, idle: not self.busy,
            deadlines=DEADLINES,
            most_zombies=3,
            forever=False,
            chance=lambda: self.chance,
        )
        self.phases = self._phases()

    def _phases(self) -> dict[str, Phase]:
        return {name: status.phase for name, status in self.supervision.statuses.items()}

    def tell(self, command: Command) -> None:
        over = bool(self.ends)
        actions = self.supervision.handle(command, self.now_s)
        assert not over or actions == [], "nothing follows the end"
        for action in actions:
            self.carry_out(action)
        after = self._phases()
        for name, phase in after.items():
            before = self.phases[name]
            assert phase is before or reachable(before, phase), f"{name}: {before} to {phase}"
        self.phases = after

    def carry_out(self, action: Action) -> None:
        assert not self.ends, "the end is the last action"
        match action:
            case Launch(component, epoch):
                self.launch(component, epoch)
            case AskToStop(component, again=again):
                life = self.lives[component]
                assert life.stage is not Stage.OVER
                assert life.asked == int(again), "asked once, and once again"
                life.asked += 1
            case Abandon(component):
                life = self.lives[component]
                assert life.stage is not Stage.OVER
                assert life.asked == 2, "nobody is abandoned who was not asked twice"
                life.abandoned = True
            case WakeAt(at_s):
                assert at_s > self.now_s, "a moment that is past would be waited for without end"
            case Quieted(quiet):
                assert quiet is not self.quiet
                self.quiet = quiet
            case Notify(events.SystemStarted()):
                self.starts_told += 1
            case End():
                self.ends.append(action)
                left = {name for name, life in self.lives.items() if life.stage is not Stage.OVER}
                assert left == set(action.survivors)
                assert all(self.lives[name].abandoned for name in left)
            case _:
                return

    def launch(self, component: str, epoch: int) -> None:
        before = self.lives.get(component)
        if self.supervision.stopping is not None:
            assert before is not None, "no component begins once the system stops"
            assert component.startswith("worker"), "no source begins again once the system stops"
        assert before is None or before.stage is Stage.OVER, "never two lives at once"
        assert epoch == (before.epoch + 1 if before else 1)
        needed = self.consumers[component] - (self.in_cycle if component in self.in_cycle else set())
        assert needed <= self.ever_up, "consumers before producers"
        if before is not None:
            self.graves.append(before)
        self.lives[component] = ModelledLife(component, epoch)

    # ------------------------------------------------------------------ what happens
    @initialize(begins=st.sampled_from([True, True, True, False]))
    def begin(self, begins: bool) -> None:
        """Now and then somebody stops a system before it was begun."""
        self.tell(Begin() if begins else Stop("early"))

    @rule(reason=st.sampled_from(["stopped", "interrupted"]))
    def stop(self, reason: str) -> None:
        if self.stop_told_at_s is None:
            self.stop_told_at_s = self.now_s
        self.tell(Stop(reason))

    @rule(odds=st.integers(0, 9))
    def store_fails(self, odds: int) -> None:
        if odds == 0:
            self.tell(StoreFailed("full"))

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.tell(Due())

    @rule(busy=st.booleans())
    def work_comes_or_goes(self, busy: bool) -> None:
        self.busy = busy
        self.tell(Idle())

    @rule(data=st.data())
    @precondition(lambda self: any(life.stage is Stage.STARTING for life in self.lives.values()))
    def one_has_started(self, data: st.DataObject) -> None:
        life = self.choose(data, Stage.STARTING)
        life.stage = Stage.UP
        self.ever_up |= set() if life.asked or life.abandoned else {life.component}
        self.tell(Started(life.component, life.epoch))

    @rule(data=st.data())
    @precondition(lambda self: any(life.stage is Stage.UP for life in self.lives.values()))
    def one_has_ended(self, data: st.DataObject) -> None:
        life = self.choose(data, Stage.UP)
        if not life.asked and not life.component.startswith("source"):
            return  # who has an inbox and was not asked does not end
        life.stage = Stage.OVER
        self.tell((Stopped if life.asked else Finished)(life.component, life.epoch))

    @rule(data=st.data(), of_message=st.booleans(), chance=st.floats(0.0, 1.0), at_stop=st.booleans())
    @precondition(lambda self: any(life.stage is not Stage.OVER for life in self.lives.values()))
    def one_has_failed(self, data: st.DataObject, of_message: bool, chance: float, at_stop: bool) -> None:
        life = self.choose(data, *({Stage.STARTING, Stage.UP} & {other.stage for other in self.lives.values()}))
        self.chance = chance
        if life.stage is Stage.STARTING:
            report = Failed(life.component, life.epoch, "on_start", "E", "T")
        elif life.asked and at_stop:
            report = Failed(life.component, life.epoch, "on_stop", "E", "T")
        elif of_message and life.component.startswith("worker"):
            report = Failed(life.component, life.epoch, "handle", "E", "T", "m", 1, retry_delay_s=chance)
        else:
            report = Failed(life.component, life.epoch, "run", "E", "T")
        life.stage = Stage.OVER
        self.tell(report)

    @rule(data=st.data())
    @precondition(lambda self: bool(self.graves))
    def late_word_of_a_life_that_is_over(self, data: st.DataObject) -> None:
        life = data.draw(st.sampled_from(self.graves))
        before = self._phases()
        self.tell(data.draw(st.sampled_from([Started, Finished, Stopped]))(life.component, life.epoch))
        assert self._phases() == before

    def choose(self, data: st.DataObject, *stages: Stage) -> ModelledLife:
        names = sorted(name for name, life in self.lives.items() if life.stage in stages)
        return self.lives[data.draw(st.sampled_from(names))]

    # ------------------------------------------------------------------ what always holds
    @invariant()
    def the_supervisor_believes_of_each_thread_what_is_so(self) -> None:
        for name, phase in self._phases().items():
            life = self.lives.get(name)
            alive = life is not None and life.stage is not Stage.OVER and not life.abandoned
            assert phase.has_thread == alive, f"{name} is {phase}"

    @invariant()
    def that_all_are_up_is_told_once(self) -> None:
        assert self.starts_told == int(self.ever_up == set(self._phases()))

    @invariant()
    def it_ends_exactly_when_all_have(self) -> None:
        assert len(self.ends) == int(all(phase.has_ended for phase in self._phases().values()) and self._stops())

    @invariant()
    def nobody_outlives_the_deadline(self) -> None:
        if self.stop_told_at_s is not None and self.now_s > self.stop_told_at_s + DEADLINES.abandon_s:
            self.tell(Due())
            assert self.ends

    def _stops(self) -> bool:
        return self.supervision.stopping is not None

    def teardown(self) -> None:
        """However it stands, a stop and patience end it."""
        self.tell(Stop("at last"))
        self.now_s += DEADLINES.abandon_s
        self.tell(Due())
        assert len(self.ends) == 1


def reachable(before: Phase, after: Phase) -> bool:
    """One command may bring several moves."""
    reached = {before}
    while more := {phase for passed in reached for phase in MOVES[passed]} - reached:
        reached |= more
    return after in reached


TestSupervisionMachine: Any = SupervisionMachine.TestCase
TestSupervisionMachine.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)

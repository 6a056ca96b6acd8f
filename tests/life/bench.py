"""A supervision on a bench: one command in, actions out, its time and what it is told of the outside in the test's hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import attrs

from minions import Component, Inbox, Outbox, Restart, events
from minions.life import commands
from minions.life.actions import Action, End, Keep, Notify, Unserved, WakeAt
from minions.life.commands import Begin, Command, Due, Failed, Started, Stopped
from minions.life.lifecycle import Phase
from minions.life.status import Deadlines, Status
from minions.life.supervision import Supervision
from minions.model.policy import OnStall, Strategy
from minions.model.topology import Group, Link, Node, Topology

DEADLINES = Deadlines.of(10.0)

EVIDENCE = events.Evidence("", 0, "run", "", 60.0, 0.0, None, "", "", "", "")


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


class Loop(Component):
    things = Inbox(Thing)
    out = Outbox(Thing, optional=True)

    def run(self) -> None: ...


KINDS: dict[str, type[Source] | type[Worker] | type[Loop]] = {"source": Source, "worker": Worker, "loop": Loop}


class Bench:
    """A supervision of components named after their kind, its time, and what it has been told of the outside.

    Attributes:
        busy: the components for which something waits.
        awake: the components with a loop of their own that do not wait.
        unserved: the components that nobody serves any more, in the order in which that was told.
        answers: what has become of each promise: empty where it was kept, otherwise why not.
        problems: what was found wrong at the end, or None while it has not come.
    """

    def __init__(
        self,
        sends_to: Mapping[str, Iterable[str]],
        *,
        restart: Restart | Mapping[str, Restart] = Restart(),  # noqa: B008 - frozen
        replicas: Mapping[str, int] | None = None,
        groups: Mapping[Strategy, Sequence[str]] | None = None,
        on_stall: OnStall = "restart",
        most_zombies: int = 3,
        forever: bool = False,
        chance: Sequence[float] = (0.5,),
    ) -> None:
        topology = Topology()
        made: dict[str, Source | Worker | Loop] = {}
        for name in sends_to:
            made[name] = KINDS[name.rstrip("0123456789")]()
            policy = restart if isinstance(restart, Restart) else restart.get(name, Restart())
            topology.add(Node(name, made[name], (replicas or {}).get(name, 1), policy, on_stall=on_stall))
        for name, receivers in sends_to.items():
            for receiver in receivers:
                end = made[receiver]
                assert not isinstance(end, Source)
                topology.connect(Link(made[name].out, end.things))
        for strategy, names in (groups or {}).items():
            topology.groups.append(Group(strategy, tuple(made[name] for name in names), strategy))
        self.now_s = 100.0
        self.busy: set[str] = set()
        self.awake: set[str] = set()
        self.wake_at_s: float | None = None
        self.ended = False
        self.unserved: list[str] = []
        self.problems: tuple[str, ...] | None = None
        self.answers: dict[int, str] = {}
        self._promises = itertools.count(1)
        chances = itertools.cycle(chance)
        self.supervision = Supervision(
            topology,
            self._is_quiet,
            deadlines=DEADLINES,
            most_zombies=most_zombies,
            forever=forever,
            chance=lambda: next(chances),
        )

    def _is_quiet(self, components: list[str], idle: bool) -> bool:
        return not self.busy & set(components) and not (idle and self.awake & set(components))

    # ------------------------------------------------------------------ what it is told
    def tell(self, *told: Command) -> list[Action]:
        """What follows, but for the moment to be woken at, which is kept in `wake_at_s`, and for promises (`answers`)."""
        actions: list[Action] = []
        for command in told:
            for action in self.supervision.handle(command, self.now_s):
                match action:
                    case WakeAt(at_s):
                        self.wake_at_s = at_s
                    case Unserved(component):
                        self.unserved.append(component)
                    case Keep(promise, broken):
                        assert promise not in self.answers, "a promise is answered once"
                        self.answers[promise] = broken
                    case End(_, _, problems):
                        self.ended = True
                        self.problems = problems
                        actions.append(action)
                    case _:
                        actions.append(action)
        return actions

    def pass_s(self, seconds: float) -> list[Action]:
        self.now_s += seconds
        return self.tell(Due())

    def bring_up(self) -> list[Action]:
        """Everything up, consumers first; what followed the last report."""
        actions = self.tell(Begin())
        while starting := [name for name, phase in self.phases().items() if phase is Phase.STARTING]:
            actions = self.tell(*(Started(name, self.epoch(name)) for name in starting))
        return actions

    def fail(self, name: str, where: str = "run", error: str = "ValueError: bad") -> list[Action]:
        return self.tell(Failed(name, self.epoch(name), where, error, "Traceback"))

    def fail_message(self, name: str, retry_delay_s: float = 0.0) -> list[Action]:
        report = Failed(name, self.epoch(name), "handle", "E", "T", "m", attempt=1, retry_delay_s=retry_delay_s)
        return self.tell(report)

    def start_of(self, name: str) -> list[Action]:
        return self.tell(Started(name, self.epoch(name)))

    def stop_of(self, name: str) -> list[Action]:
        return self.tell(Stopped(name, self.epoch(name)))

    def stall(self, name: str) -> list[Action]:
        return self.tell(commands.Stalled(name, self.epoch(name), EVIDENCE))

    # ------------------------------------------------------------------ what is wished; each returns what follows
    def wish(self, kind: type[commands.Change], *names: str, by: str = "operator") -> list[Action]:
        """Wishes something of some components, or of all without any; its answer will be in `answers`."""
        self.promise = next(self._promises)
        return self.tell(kind(names or None, by, self.promise))

    def halt(self, *names: str) -> list[Action]:
        return self.wish(commands.Halt, *names)

    def start(self, *names: str) -> list[Action]:
        return self.wish(commands.Start, *names)

    def restart(self, *names: str) -> list[Action]:
        return self.wish(commands.Restart, *names)

    def pause(self, *names: str, by: str = "operator") -> list[Action]:
        return self.wish(commands.Pause, *names, by=by)

    def resume(self, *names: str, by: str = "operator") -> list[Action]:
        return self.wish(commands.Resume, *names, by=by)

    def answered(self) -> str | None:
        """What has become of the last wish: None where that is open."""
        return self.answers.get(self.promise)

    # ------------------------------------------------------------------ how it stands
    def phases(self) -> dict[str, Phase]:
        return {name: status.phase for name, status in self.supervision.statuses.items()}

    def status(self, name: str) -> Status:
        return self.supervision.statuses[name]

    def epoch(self, name: str) -> int:
        return self.status(name).epoch

    def all_up(self) -> bool:
        return all(phase.is_up for phase in self.phases().values())


def doings(actions: Iterable[Action]) -> list[Action]:
    """Without what is only told to those who watch."""
    return [action for action in actions if not isinstance(action, Notify)]


def told(actions: Iterable[Action]) -> list[events.Event]:
    return [action.event for action in actions if isinstance(action, Notify)]

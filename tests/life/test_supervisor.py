"""The supervisor's thread at its end: whoever tells it something too late is answered all the same."""

from __future__ import annotations

import threading

from minions.life import commands
from minions.life.actions import Action, End, Keep
from minions.life.status import Deadlines
from minions.life.supervision import Supervision
from minions.life.supervisor import Supervisor
from minions.model.topology import Node, Topology
from minions.testing import FakeClock
from tests.life.bench import Source
from tests.life.conftest import PATIENCE_S


class Ending:
    """A supervisor that ends as soon as it is told to stop, and what it has had done."""

    def __init__(self) -> None:
        topology = Topology()
        topology.add(Node("source", Source()))
        supervision = Supervision(
            topology,
            lambda components, idle: True,
            deadlines=Deadlines.of(10.0),
            forever=True,
            most_zombies=0,
            chance=lambda: 0.5,
        )
        self.kept: list[Action] = []
        self.called = threading.Event()
        self.errors: list[BaseException] = []
        self.supervisor = Supervisor(supervision, self.act, self.errors.append, FakeClock(), "test/supervisor")

    def act(self, action: Action) -> None:
        match action:
            case Keep():
                self.kept.append(action)
            case End():
                self.supervisor.post(commands.Pause(None, "operator", 7))
                self.supervisor.post(commands.Reached(self.called.set))

    def run(self) -> None:
        self.supervisor.start()
        self.supervisor.post(commands.Stop("stopped"))
        self.supervisor._thread.join(PATIENCE_S)
        assert self.errors == []


def test_what_it_is_told_while_it_ends_is_answered() -> None:
    ending = Ending()
    ending.run()
    assert ending.kept == [Keep(7, "the system has ended")]
    assert ending.called.is_set()


def test_what_it_is_told_when_it_has_ended_is_answered_on_the_thread_that_tells_it() -> None:
    ending = Ending()
    ending.run()
    ending.called.clear()
    ending.supervisor.post(commands.Reached(ending.called.set))
    ending.supervisor.post(commands.Halt(None, "operator", 8))
    assert ending.called.is_set()
    assert ending.kept[1:] == [Keep(8, "the system has ended")]

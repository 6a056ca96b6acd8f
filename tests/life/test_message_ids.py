"""`self.message_id`: the same at every retry, in every life and after `kill -9`."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

from minions import Backoff, Component, Inbox, Outbox, Restart, Retry, State, System, events
from tests.life.conftest import Log, Number, Start, dead_letters

AT_ONCE = Backoff(initial_s=0.0)


class One(Component):
    """Sends one number, once."""

    out = Outbox(Number)
    sent = State(bool)

    def run(self) -> None:
        if not self.sent:
            with self.unit():
                self.sent = True
                self.out.send(Number(1))


def test_it_is_the_same_in_every_life_whatever_the_life_ended_with(system: System, start: Start) -> None:
    ids, starts, tries = Log(), itertools.count(), itertools.count()

    class Failing(Component):
        numbers = Inbox(Number, retry=Retry(attempts=3, backoff=AT_ONCE))

        def on_start(self) -> None:
            if next(starts) in (1, 3):
                raise OSError("not yet")  # between two attempts

        @numbers.handler
        def handle(self, number: Number) -> None:
            ids.add(self.message_id)
            if next(tries) < 2:
                raise ValueError("not yet")

    one, failing = system.add(One()), system.add(Failing(), restart=Restart(failures=2, backoff=AT_ONCE))
    system.connect(one.out, failing.numbers)
    run = start(system, forever=False)
    assert run.ended().problems == ()
    assert ids.entries == [ids.entries[0]] * 3
    assert {failed.message_id for failed in run.all(events.ComponentFailed)} == {ids.entries[0], ""}


def test_it_is_the_same_in_every_life_of_a_replica_and_in_the_dead_letter(system: System, start: Start) -> None:
    ids = Log()

    class Failing(Component):
        numbers = Inbox(Number, retry=Retry(attempts=2, backoff=AT_ONCE))

        @numbers.handler
        def handle(self, number: Number) -> None:
            ids.add(self.message_id)
            raise ValueError("never")

    one, failing = system.add(One()), system.add(Failing(), replicas=2)
    system.connect(one.out, failing.numbers)
    run = start(system)
    [aside] = run.wait_for(events.MessageSetAside)
    assert run.stop().problems == ()
    assert ids.entries == [aside.message_id] * 2
    assert [letter.message_id for letter in dead_letters(system.folder)] == [aside.message_id]


CHILD = """
import os, signal, sys
import attrs
from minions import Backoff, Component, Inbox, Outbox, Retry, State, System

@attrs.frozen
class Number:
    value: int

class One(Component):
    out = Outbox(Number)
    sent = State(bool)

    def run(self):
        with self.unit():
            if not self.sent:
                self.out.send(Number(1))
            self.sent = True

class Killed(Component):
    numbers = Inbox(Number, retry=Retry(attempts=3, backoff=Backoff(initial_s=0.0)))
    ids = State(list[str])

    @numbers.handler
    def handle(self, number):
        self.commit()  # from here on it is the same, come what may
        print(self.message_id, flush=True)
        if not getattr(type(self), "tried", False):
            type(self).tried = True
            raise ValueError("once in each process")
        if sys.argv[2] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

system = System("test", folder=sys.argv[1])
one, killed = system.add(One()), system.add(Killed())
system.connect(one.out, killed.numbers)
system.run()
"""


def test_it_is_the_same_at_every_retry_of_every_process_once_the_message_is_on_disk(tmp_path: Path) -> None:
    def ids(end: str, returncode: int) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, tmp_path / "state", end],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == returncode
        return done.stdout.split()

    told = [*ids("kill", -9), *ids("kill", -9), *ids("go on", 0)]
    assert told == [told[0]] * 6
    assert ids("go on", 0) == [], "it was handled, once"

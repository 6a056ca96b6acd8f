"""The disk is full while a whole system runs, while it stops and when it starts: nothing is lost and nothing is done twice."""

from __future__ import annotations

import logging
import re
import signal
import threading

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System
from minions.clock import Parkable, SystemClock
from minions.flow.store import Store
from tests.system.conftest import PATIENCE_S, Launch, SmallDisk

HOLDING = """
    import functools
    import minions.life.runtime as runtime
    import minions.system

    minions.system.Options = functools.partial(runtime.Options, give_up_commit_s={give_up_s})
    runtime._LEAST_TIME_FOR_LAST_COMMIT_S = 0.1

    @attrs.frozen
    class Parcel:
        value: int
        text: str

    class Sending(Component):
        out = Outbox(Parcel)
        sent = State(int)

        def run(self):
            while self.running and self.sent < 1000:
                with self.unit():
                    self.out.send(Parcel(self.sent, "x" * 4_000))
                    self.sent += 1

    class Holding(Component):
        parcels = Inbox(Parcel, capacity=2_000)
        values = State(list[int])

        @parcels.handler
        def keep(self, parcel):
            self.values.append(parcel.value)
            if {hold}:
                say("holding")
                self.sleep(1e6)  # so that everything piles up behind the first one

    system = System("test", folder={folder!r}, stop_timeout_s={stop_timeout_s})
    sending, holding = system.add(Sending()), system.add(Holding())
    system.connect(sending.out, holding.parcels)
    say(system.run())
    say(str(holding.values == list(range(1000)) and sending.sent == 1000))
"""
FULL = r"cannot commit to \S+cache\.db: the disk is full \(database or disk is full, 0\.\d MiB free\); make room on it"
GIVEN_UP = "; what is not committed has not happened, and the next start goes on from the last commit"


def script(disk: SmallDisk, *, hold: bool, give_up_s: float = 60.0, stop_timeout_s: float = 10.0) -> str:
    folder = str(disk.path / "state")
    return HOLDING.format(folder=folder, hold=hold, give_up_s=give_up_s, stop_timeout_s=stop_timeout_s)


# While it runs --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Number:
    value: int


@attrs.define
class Tally:
    count: int = 0
    in_order: bool = True


class Many(Component):
    count: int
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.sent < self.count:
            if self.sent == 10:
                self.commit()
                BEGUN.set()
                assert GO_ON.wait(PATIENCE_S)
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


class Tallying(Component):
    numbers = Inbox(Number, capacity=100_000)
    tally = State(Tally)

    @numbers.handler
    def add(self, number: Number) -> None:
        if number.value == 10:
            assert TAKE.wait(PATIENCE_S)  # so that what is sent has to be kept on the disk
        self.tally.in_order &= number.value == self.tally.count
        self.tally.count += 1


BEGUN, GO_ON, TAKE = threading.Event(), threading.Event(), threading.Event()


class TellingClock(SystemClock):
    """Tells when a source waits, which it does only where there is no room for what it sends."""

    def __init__(self) -> None:
        self.source_waits = threading.Event()

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        if threading.current_thread().name == "test/many" and GO_ON.is_set():
            self.source_waits.set()
        super().wait(parkable, deadline_s)


def test_components_wait_while_the_disk_is_full_and_go_on_when_there_is_room(
    small_disk: SmallDisk, caplog: pytest.LogCaptureFixture
) -> None:
    count = 20_000  # more than the units that may wait for the disk
    for event in (BEGUN, GO_ON, TAKE):
        event.clear()

    def new_system() -> tuple[System, Many, Tallying]:
        system = System("test", folder=small_disk.path / "state")
        many, tallying = system.add(Many(count=count)), system.add(Tallying())
        system.connect(many.out, tallying.numbers)
        return system, many, tallying

    system, many, tallying = new_system()
    clock = system._clock = TellingClock()
    with caplog.at_level(logging.INFO, "minions"), system.started():
        assert BEGUN.wait(PATIENCE_S)
        small_disk.fill()
        GO_ON.set()
        assert clock.source_waits.wait(PATIENCE_S)
        assert many.sent < count
        TAKE.set()
        small_disk.make_room()
        assert system.wait(PATIENCE_S)

    (said,) = {record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING}
    assert re.fullmatch(rf"commit failed \(nothing is lost, trying again\): {FULL}", said)
    assert any(
        re.fullmatch(r"commits work again, after \d+ failures?", record.getMessage()) for record in caplog.records
    )
    _, many, tallying = new_system()  # which reads what is on disk
    assert (many.sent, tallying.tally) == (count, Tally(count, in_order=True))


# For longer than it is worth waiting ----------------------------------------------------------------------------------


def test_a_disk_that_stays_full_stops_the_system_in_order_and_the_next_start_goes_on_exactly(
    launch: Launch, small_disk: SmallDisk
) -> None:
    ended = launch(script(small_disk, hold=True, give_up_s=2.0)).end()

    assert ended.returncode == 1
    lines = ended.stderr.splitlines()
    assert re.search(rf"WARNING minions\.test: commit failed \(nothing is lost, trying again\): {FULL}$", lines[1])
    assert re.search(
        rf"CRITICAL minions\.test: commit failed \(giving up, the system stops\): {FULL}{GIVEN_UP}$", lines[2]
    )
    assert re.search(r"INFO +minions\.test: stopped \(failed\)$", lines[3]), "what is left is not counted"
    assert re.fullmatch(rf"test failed: {FULL}{GIVEN_UP}", lines[4])
    assert len(lines) == 5, "no traceback, and no component is blamed"

    small_disk.make_room()
    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


def test_a_stop_while_the_disk_is_full_keeps_its_deadline_and_says_why(launch: Launch, small_disk: SmallDisk) -> None:
    child = launch(script(small_disk, hold=True, stop_timeout_s=0.5))
    child.wait_for("holding")
    child.wait_for_error("trying again")
    child.send(signal.SIGTERM)
    ended = child.end()

    assert ended.returncode == 1
    [*_, last] = ended.stderr.splitlines()
    assert re.fullmatch(rf"test failed: the last units were not on disk in time: {FULL}{GIVEN_UP}", last)

    small_disk.make_room()
    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


def test_room_that_is_made_while_it_stops_is_used(launch: Launch, small_disk: SmallDisk) -> None:
    child = launch(script(small_disk, hold=True, stop_timeout_s=1.0))
    child.wait_for("holding")
    child.wait_for_error("trying again")
    small_disk.make_room()
    child.send(signal.SIGTERM)
    ended = child.end()
    assert ended.returncode == 0, ended.stderr

    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


def test_a_kill_while_the_disk_is_full_loses_nothing(launch: Launch, small_disk: SmallDisk) -> None:
    child = launch(script(small_disk, hold=True))
    child.wait_for("holding")
    child.wait_for_error("trying again")
    child.send(signal.SIGKILL)
    assert child.end().returncode == -signal.SIGKILL

    small_disk.make_room()
    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


# At the start ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resumes", [False, True], ids=["the first time", "again"])
def test_a_start_on_a_full_disk_is_refused_in_one_sentence(
    launch: Launch, small_disk: SmallDisk, resumes: bool
) -> None:
    if resumes:
        Store.open(small_disk.path / "state").close()
    small_disk.fill(4096)
    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"test: cannot (use|write) \S+: the disk is full \(.*\); make room on it\n", ended.stderr)

    small_disk.make_room()
    ended = launch(script(small_disk, hold=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr

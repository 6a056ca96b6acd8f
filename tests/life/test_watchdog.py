"""The watchdog's thread: ticks by the clock, survives what it asks, is cheap, and sees a real hog and a real stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import MemoryLimit, Watchdog, events
from minions.life.machine import Sample
from minions.life.vigil import Finding, InboxCounts, PauseSources, Pulse, Stalled, Tell
from minions.life.watchdog import WatchdogThread
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S


class Setup:
    """A watchdog with a clock that stands still; what it asks is set by the test, what it says is kept."""

    def __init__(self, limits: Watchdog) -> None:
        self.clock = FakeClock()
        self.sample = Sample()
        self.pulses: list[Pulse] = []
        self.looked: list[float] = []
        self.found: list[Finding] = []
        self.faults: list[BaseException] = []
        self.on_sample: Callable[[], None] = lambda: None
        self.on_act: Callable[[], None] = lambda: None
        self.on_fault: Callable[[], None] = lambda: None
        self.thread = WatchdogThread(
            limits,
            self.clock,
            sample=self._sample,
            lives=self._lives,
            inboxes=self._inboxes,
            act=self._act,
            on_fault=self._fault,
            name="test/watchdog",
            threads=self.clock.threads,
        )

    def _sample(self, now_s: float) -> Sample:
        self.looked.append(now_s)
        self.on_sample()
        return self.sample

    def _lives(self) -> Iterable[Pulse]:
        return self.pulses

    def _inboxes(self) -> Mapping[str, InboxCounts]:
        return {}

    def _act(self, finding: Finding) -> None:
        self.found.append(finding)
        self.on_act()

    def _fault(self, error: BaseException) -> None:
        self.faults.append(error)
        self.on_fault()

    def start(self) -> Setup:
        self.thread.start()
        self.clock.settle()
        return self

    def tick(self, seconds: float = 1.0) -> None:
        """Moves time on and waits until the watchdog has looked and sleeps again."""
        self.clock.advance(seconds)


@pytest.fixture
def setup() -> Iterator[Callable[..., Setup]]:
    made: list[Setup] = []

    def make(**limits: Any) -> Setup:
        made.append(Setup(Watchdog(**limits)))
        return made[-1]

    yield make
    for each in made:
        assert each.thread.close(PATIENCE_S)


class Planned(Exception):
    """Raised by what a test plants."""


class TestTicks:
    def test_it_looks_at_once_and_then_once_a_tick(self, setup: Callable[..., Setup]) -> None:
        dog = setup(tick_s=2.0).start()
        assert dog.clock.waits() == (2.0,)
        dog.tick(1.9)
        dog.tick(0.1)
        dog.tick(2.0)
        assert [moment - 1_000.0 for moment in dog.looked] == pytest.approx([0.0, 2.0, 4.0])

    def test_a_wake_up_before_its_time_is_no_tick(self, setup: Callable[..., Setup]) -> None:
        dog = setup().start()
        dog.thread._parker.unpark()
        dog.clock.settle()  # it has woken, and waits again
        assert len(dog.looked) == 1

    def test_what_follows_is_handed_on_in_order_on_its_thread(self, setup: Callable[..., Setup]) -> None:
        dog = setup(memory=MemoryLimit(over_ratio=0.5, for_s=0, then="pause_sources"))
        names: list[str] = []
        dog.on_act = lambda: names.append(threading.current_thread().name)
        dog.pulses = [Pulse("a", 1, 1, stall_after_s=1.0)]
        dog.start()
        dog.sample = Sample(memory_ratio=0.9)
        dog.tick()

        stalled, exceeded, paused = dog.found
        assert stalled == Stalled("a", 1, 1.0, None)
        assert isinstance(exceeded, Tell)
        assert isinstance(exceeded.event, events.LimitExceeded)
        assert paused == PauseSources("watchdog: memory")
        assert set(names) == {"test/watchdog"}

    def test_what_it_has_seen_last_can_be_read(self, setup: Callable[..., Setup]) -> None:
        dog = setup()
        assert dog.thread.seen.sample is None
        dog.sample = Sample(rss_bytes=1)
        dog.start()
        dog.sample = Sample(rss_bytes=2)
        dog.tick()

        seen = dog.thread.seen
        assert (seen.sample, seen.at_s, seen.ticks, seen.faults) == (Sample(rss_bytes=2), 1_001.0, 2, 0)
        assert seen.cpu_s > 0
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            seen.ticks = 3  # type: ignore[misc]

    def test_it_is_a_daemon_with_its_name(self, setup: Callable[..., Setup]) -> None:
        setup().start()
        [thread] = [thread for thread in threading.enumerate() if thread.name == "test/watchdog"]
        assert thread.daemon


class TestClosing:
    def test_it_ends_without_another_tick(self, setup: Callable[..., Setup]) -> None:
        dog = setup().start()
        assert dog.thread.close(PATIENCE_S)
        assert dog.clock.waits() == ()
        assert len(dog.looked) == 1

    def test_it_may_be_closed_before_it_was_started_and_twice(self, setup: Callable[..., Setup]) -> None:
        dog = setup()
        assert dog.thread.close(PATIENCE_S)
        dog.thread.start()
        assert dog.thread.close(PATIENCE_S)
        assert dog.thread.close(PATIENCE_S)
        assert dog.looked == []

    def test_a_tick_that_does_not_end_is_not_waited_for(self, setup: Callable[..., Setup]) -> None:
        dog = setup()
        entered, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            entered.set()
            assert let_go.wait(PATIENCE_S)

        dog.on_sample = hold
        dog.thread.start()
        assert entered.wait(PATIENCE_S)
        assert not dog.thread.close(0.01)
        let_go.set()

    def test_a_finding_may_close_it(self, setup: Callable[..., Setup]) -> None:
        dog = setup(memory=MemoryLimit(over_ratio=0.5, for_s=0))
        answers: list[bool] = []
        dog.on_act = lambda: answers.append(dog.thread.close(PATIENCE_S))
        dog.sample = Sample(memory_ratio=0.9)
        dog.thread.start()
        assert dog.thread.close(PATIENCE_S)
        assert answers == [False]  # it is still in the tick that has closed it


class TestFaults:
    @pytest.mark.parametrize("error", [Planned(), SystemExit(3), KeyboardInterrupt()])
    def test_it_survives_what_it_asks_and_reports_it_once(
        self, setup: Callable[..., Setup], error: BaseException
    ) -> None:
        dog = setup()

        def fail() -> None:
            raise error

        dog.on_sample = fail
        dog.start()
        for _ in range(3):
            dog.tick()
        assert dog.faults == [error]
        assert dog.thread.seen.faults == dog.thread.seen.ticks == 4

        dog.on_sample = lambda: None
        dog.sample = Sample(rss_bytes=5)
        dog.tick()
        assert (dog.thread.seen.sample, dog.thread.seen.faults) == (Sample(rss_bytes=5), 4)

    def test_an_error_of_another_class_is_reported_too(self, setup: Callable[..., Setup]) -> None:
        dog = setup()
        planned: list[BaseException] = [Planned(), ValueError(), Planned(), ValueError()]
        raised = list(planned)

        def fail() -> None:
            raise planned.pop(0)

        dog.on_sample = fail
        dog.start()
        for _ in range(3):
            dog.tick()
        assert dog.faults == raised[:2]
        assert dog.thread.seen.faults == 4

    def test_after_a_fault_no_tick_is_late_and_stalls_are_still_found(self, setup: Callable[..., Setup]) -> None:
        dog = setup()
        dog.pulses = [Pulse("a", 1, 1, stall_after_s=5.0)]
        dog.start()

        def fail() -> None:
            raise Planned

        dog.on_sample = fail
        for _ in range(4):
            dog.tick()
        dog.on_sample = lambda: None
        dog.tick()
        assert dog.found == [Stalled("a", 1, 5.0, None)]

    def test_a_finding_that_cannot_be_handed_on_does_not_keep_back_the_next(self, setup: Callable[..., Setup]) -> None:
        dog = setup(memory=MemoryLimit(over_ratio=0.5, for_s=0, then="pause_sources"))

        def fail() -> None:
            raise Planned

        dog.on_act = fail
        dog.sample = Sample(memory_ratio=0.9)
        dog.start()
        assert [type(finding) for finding in dog.found] == [Tell, PauseSources]
        assert len(dog.faults) == 1
        assert dog.thread.seen.faults == 2

    def test_a_report_that_fails_is_counted(self, setup: Callable[..., Setup]) -> None:
        dog = setup()

        def fail() -> None:
            raise Planned

        dog.on_sample = dog.on_fault = fail
        dog.start()
        dog.tick()
        assert dog.thread.seen.faults == 3


CHILD = """
import json, os, sys, threading, time
from pathlib import Path
from minions import LateLimit, Watchdog, events
from minions.clock import SystemClock
from minions.life.machine import Machine
from minions.life.vigil import Tell
from minions.life.watchdog import WatchdogThread

def tell(word, *values):
    os.write(1, (json.dumps([word, *values]) + "\\n").encode())

def act(finding):
    match finding:
        case Tell(events.TickLate(late_s, diagnosis, culprit)):
            tell("late", late_s, diagnosis, culprit)
        case Tell(events.LimitKept("late")):
            tell("kept")

machine = Machine(Path(sys.argv[1]))
looked = threading.Event()

def sample(now_s):
    taken = machine.sample(now_s)
    looked.set()
    return taken

limits = Watchdog(tick_s=0.1, late=LateLimit(over_s=0.5))
WatchdogThread(
    limits, SystemClock(), sample=sample, lives=list, inboxes=dict, act=act, on_fault=print, name="child/watchdog"
).start()

def hog():
    for line in sys.stdin:
        looked.clear()
        looked.wait()
        began_s = time.thread_time()
        while time.thread_time() < began_s + 1.0:
            sum(range(100_000_000))

tell("up")
thread = threading.Thread(target=hog, name="the hog")
thread.start()
thread.join()
"""


class Child:
    """A process with a watchdog and a thread that hogs the interpreter's lock for each line that it reads."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        assert self.next("up") == []

    def next(self, word: str) -> list[Any]:
        """What it says next under that word."""
        for line in self.stdout:
            found, *values = json.loads(line)
            if found == word:
                return list(values)
        raise AssertionError(f"the child has ended without saying {word!r}")

    def until(self, provoke: Callable[[], None], diagnosis: str) -> tuple[float, str]:
        """Provokes late ticks until one is diagnosed so: on a machine with too much to do there may be other reasons."""
        seen = []
        for _ in range(8):
            provoke()
            late_s, found, culprit = self.next("late")
            self.next("kept")
            if found == diagnosis:
                return late_s, culprit
            seen.append(found)
        raise AssertionError(seen)

    def end(self) -> None:
        self.stdin.close()
        self.process.send_signal(signal.SIGCONT)
        self.process.wait(PATIENCE_S)
        self.stdout.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(tmp_path)
    yield made
    made.end()


def test_a_thread_that_keeps_the_interpreters_lock_is_named(child: Child) -> None:
    def hog() -> None:
        child.stdin.write("go\n")
        child.stdin.flush()

    late_s, culprit = child.until(hog, "gil_held")

    assert culprit == "the hog"
    assert late_s > 0.5


def test_a_process_that_was_stopped_is_told_from_one_that_was_busy(child: Child) -> None:
    def stop_for_a_while() -> None:
        child.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
        threading.Event().wait(1.0)  # this is about real time: the child has to miss its ticks
        child.process.send_signal(signal.SIGCONT)

    late_s, culprit = child.until(stop_for_a_while, "stopped")

    assert culprit == ""
    assert late_s > 0.5

"""`running`: real threads in a test, waited for by what happens, and nothing unexpected goes unseen at the end."""

from __future__ import annotations

import gc
import re
import threading
from pathlib import Path
from typing import Any, ClassVar, cast

import attrs
import pytest

from minions import (
    Backoff,
    Component,
    Inbox,
    MessageRefused,
    Outbox,
    Phase,
    Restart,
    Retry,
    State,
    System,
    TopologyError,
    UsageError,
    Uses,
    Watchdog,
    events,
)
from minions.testing import FakeClock, running
from tests.life.conftest import Gate, Log

QUIET = Watchdog(enabled=False)


@attrs.frozen
class Reading:
    celsius: float


class Thermometer(Component):
    """Sends so many readings, and finishes."""

    count: int = 1
    readings = Outbox(Reading)

    def run(self) -> None:
        for number in range(self.count):
            self.readings.send(Reading(float(number)))


class Average(Component):
    readings = Inbox(Reading, retry=Retry(attempts=2, backoff=Backoff(initial_s=5.0, jitter_ratio=0.0)))
    count = State(int)

    @readings.handler
    def add(self, reading: Reading) -> None:
        if reading.celsius < 0:
            raise ValueError("too cold")
        self.count += 1


class Held(Component):
    """Is held by the test at each message, in something that the runtime does not know of."""

    gate: ClassVar[Gate]
    readings = Inbox(Reading)

    @readings.handler
    def add(self, reading: Reading) -> None:
        self.gate.pass_through()


@pytest.fixture
def gate() -> Gate:
    Held.gate = Gate()
    return Held.gate


def greenhouse(count: int = 3) -> tuple[System, Average]:
    system = System("greenhouse")
    thermometer, average = system.add(Thermometer(count=count)), system.add(Average())
    system.connect(thermometer.readings, average.readings)
    return system, average


# The block ------------------------------------------------------------------------------------------------------------


def test_a_system_runs_for_as_long_as_the_block() -> None:
    system, average = greenhouse()
    with running(system) as run:
        run.until_idle()
        assert average.count == 3
        assert run.status(average)[0].phase is Phase.RUNNING
    assert average.count == 3, "as it is on disk"
    assert run.report == ""
    with pytest.raises(UsageError, match="works while the system runs"):
        system.status()


def test_the_folder_is_temporary_and_lasts_as_long_as_what_the_block_was_given() -> None:
    system, average = greenhouse()
    own = system.folder
    with running(system) as run:
        run.until_idle()
    folder = run.folder
    assert folder is not None
    assert folder.exists()
    assert not own.exists()
    with running(system) as run:
        run.until_idle()
        assert average.count == 3, "nothing was left from the time before"
    gc.collect()
    assert not folder.exists()


def test_a_folder_that_is_given_is_kept_from_run_to_run(tmp_path: Path) -> None:
    system, average = greenhouse()
    for count in (3, 6):
        with running(system, folder=tmp_path / "state") as run:
            run.until_idle()
            assert average.count == count


def test_a_system_that_runs_is_not_started_again() -> None:
    system, _ = greenhouse()
    with running(system) as run:
        with (
            pytest.raises(UsageError, match=r"running\('greenhouse'\): the system runs already: end that block first"),
            running(system),
        ):
            pass
        with pytest.raises(UsageError, match=r"this block was entered before; call running\(...\) once for each"), run:
            pass


def test_what_is_not_running_says_so() -> None:
    with pytest.raises(UsageError, match="enter the block first"):
        running(greenhouse()[0]).until_idle()


@pytest.mark.parametrize("what", ["failures", "dead_letters", "zombies", "problems"])
@pytest.mark.parametrize("value", [-1, True, 1.5, "1"])
def test_a_number_that_is_none_is_refused(what: str, value: Any) -> None:
    said = rf"expect_{what}={re.escape(repr(value))} must be a whole number from 0 up, or None"
    with pytest.raises(UsageError, match=said):
        running(greenhouse()[0], **{f"expect_{what}": value})


def test_a_system_that_is_not_sound_is_not_started() -> None:
    system = System("empty")
    with pytest.raises(TopologyError), running(system):
        pass


def test_a_system_may_end_by_itself() -> None:
    system, average = greenhouse()
    with running(system, forever=False) as run:
        assert run.until_over().reason == "finished"
        assert average.count == 3


def test_the_start_is_not_waited_for_for_ever(gate: Gate) -> None:
    class Slow(Component):
        def on_start(self) -> None:
            gate.pass_through()

    system = System("slow")
    slow = system.add(Slow())
    block = running(system, clock=FakeClock(), timeout_s=0.2, expect_zombies=None, expect_problems=None)
    with pytest.raises(TimeoutError, match=r"(?s)slow: starting, life 1, in on_start.*in pass_through"), block:
        pass
    gate.open()
    for thread in threading.enumerate():
        if thread.name == "slow/slow":
            thread.join(10.0)
    gate = Gate()
    with running(system, until_up=False, clock=FakeClock()) as run:
        assert run.status(slow)[0].phase in (Phase.WAITING, Phase.STARTING)
        gate.open()


# Waiting --------------------------------------------------------------------------------------------------------------


def test_a_condition_is_waited_for_by_what_happens() -> None:
    system, average = greenhouse()
    asked = []

    def all_there() -> int:
        asked.append(average.count)
        return average.count if average.count >= 3 else 0

    with running(system) as run:
        assert run.until(all_there) == 3
    assert len(asked) < 100, "it is asked after what has happened, and not again and again"


def test_a_condition_that_does_not_come_true_is_told_with_what_there_is_to_be_seen(gate: Gate) -> None:
    system = System("held")
    held = system.add(Held())
    thermometer = system.add(Thermometer(count=2))
    system.connect(thermometer.readings, held.readings)
    with running(system) as run:
        gate.wait_reached()
        with pytest.raises(TimeoutError) as caught:
            run.until(lambda: False, timeout_s=0.1)
        gate.open()
    text = str(caught.value)
    assert "after 0.1 real seconds it has not come to that" in text
    assert "held: running, life 1, in handling add\n" in text
    assert "in pass_through\n" in text
    assert "held.readings: 2 waiting" in text
    assert "ComponentStarted(component='held', epoch=1)" in text


def test_idle_is_when_nothing_waits_and_everybody_sleeps(gate: Gate) -> None:
    system = System("held")
    held = system.add(Held())
    thermometer = system.add(Thermometer())
    system.connect(thermometer.readings, held.readings)
    with running(system) as run:
        gate.wait_reached()
        with pytest.raises(TimeoutError):
            run.until_idle(timeout_s=0.05)
        with pytest.raises(TimeoutError, match=r"still at work: held/held; .*(?s:.*)in pass_through"):
            run.settle(timeout_s=0.05)
        run.settle(besides=["held"])
        gate.open()
        run.until_idle()
        run.settle()


def test_idle_waits_for_retries_and_for_the_next_life() -> None:
    system, average = greenhouse(count=0)
    clock = FakeClock()
    with running(system, clock=clock, expect_failures=2, expect_dead_letters=1, watchdog=QUIET) as run:
        run.send(average.readings, Reading(-1.0))
        run.settle()
        with pytest.raises(TimeoutError, match=r"(?s)average: backoff, life 1, next life in 5 s.*in 5 s\n"):
            run.until_idle(timeout_s=0.05)
        clock.advance(5.0)
        run.until_idle()
        assert len(run.seen(events.MessageSetAside)) == 1


def test_idle_does_not_wait_for_who_is_stopped_or_paused() -> None:
    system, average = greenhouse(count=0)
    with running(system) as run:
        system.pause(average).result(10.0)
        run.until_idle()
        run.send(average.readings, Reading(1.0))
        with pytest.raises(TimeoutError):
            run.until_idle(timeout_s=0.05)
        system.resume(average).result(10.0)
        run.until_idle()
        system.stop(average).result(10.0)
        run.until_idle()


def test_idle_waits_for_what_a_loop_receives(gate: Gate) -> None:
    seen = Log()

    class Reads(Component):
        readings = Inbox(Reading)

        def run(self) -> None:
            for reading in self.readings:
                gate.pass_through()
                seen.add(reading.celsius)

    system = System("loop")
    reads, thermometer = system.add(Reads()), system.add(Thermometer(count=2))
    system.connect(thermometer.readings, reads.readings)
    with running(system) as run:
        gate.wait_reached()
        gate.open()
        run.until_idle()
        assert seen.entries == [0.0, 1.0]


def test_events_are_waited_for() -> None:
    system, average = greenhouse()
    with running(system) as run:
        assert run.wait_for(events.SystemStarted) == [events.SystemStarted(2)]
        system.restart(average)
        started = run.wait_for(events.ComponentStarted, 3)
        assert [event.epoch for event in started if event.component == "average"] == [1, 2]
    assert isinstance(run.told[-1], events.SystemStopped)


# Sending --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_a_test_may_send_to_an_inbox(durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Average.readings, "durable", durable)
    system, average = greenhouse(count=0)
    with running(system) as run:
        run.send(average.readings, Reading(1.0), Reading(2.0))
        run.until_idle()
        assert average.count == 2


def test_what_cannot_be_sent_is_refused(gate: Gate) -> None:
    system = System("held")
    held = system.add(Held())
    thermometer = system.add(Thermometer(count=0))
    system.connect(thermometer.readings, held.readings)
    stranger = Held()
    with running(system, timeout_s=0.2) as run:
        with pytest.raises(MessageRefused, match=r"held.readings takes Reading, not 1.5 \(float\)"):
            run.send(held.readings, cast(Reading, 1.5))
        with pytest.raises(UsageError, match=r"held: send\(\) takes first an inbox of a component that was added"):
            run.send(stranger.readings, Reading(1.0))
        with pytest.raises(UsageError, match="takes first an inbox"):
            run.send(cast(Inbox[Reading], thermometer.readings), Reading(1.0))
        with pytest.raises(TimeoutError, match=r"held.readings is full \(1000 messages\) after 0.2 real seconds"):
            run.send(held.readings, *[Reading(1.0)] * 2_000)
        gate.open()
        run.until_idle(timeout_s=10.0)


# What was not expected ------------------------------------------------------------------------------------------------


def cold(run: Any, average: Average) -> None:
    """One message that fails twice, and is set aside."""
    run.send(average.readings, Reading(-1.0))
    run.clock.advance(5.0)
    run.until_idle()


@pytest.mark.parametrize(
    ("failures", "dead_letters", "said"),
    [
        (0, 1, "2 failures, expected 0"),
        (1, 1, "2 failures, expected 1"),
        (3, None, "2 failures, expected 3"),
        (2, 0, "1 dead letter, expected 0"),
        (None, 2, "1 dead letter, expected 2"),
    ],
)
def test_what_was_not_expected_fails_the_test(failures: int | None, dead_letters: int | None, said: str) -> None:
    system, average = greenhouse(count=0)
    block = running(
        system, clock=FakeClock(), watchdog=QUIET, expect_failures=failures, expect_dead_letters=dead_letters
    )
    with pytest.raises(AssertionError) as caught, block as run:
        cold(run, average)
    text = str(caught.value)
    assert text.startswith(f"greenhouse: {said}\n")
    assert "ValueError: too cold" in text
    assert "\nevents:\n" in text
    assert "SystemStopped(reason='stopped'" in text
    if "failure" in said:
        assert "in add\n" in text, "the stack"


@pytest.mark.parametrize(("failures", "dead_letters"), [(2, 1), (None, None)])
def test_what_was_expected_does_not(failures: int | None, dead_letters: int | None) -> None:
    system, average = greenhouse(count=0)
    with running(
        system, clock=FakeClock(), watchdog=QUIET, expect_failures=failures, expect_dead_letters=dead_letters
    ) as run:
        cold(run, average)


def test_a_test_that_fails_by_itself_fails_with_that() -> None:
    system, average = greenhouse(count=0)
    block = running(system, clock=FakeClock(), watchdog=QUIET)

    def fail() -> None:
        with block as run:
            cold(run, average)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    [note] = caught.value.__notes__
    assert note.startswith("greenhouse: 2 failures, expected 0\n")
    assert "average: running, life 3, waits for a message\n" in block.report, "as it was before the system was stopped"


def test_a_problem_fails_the_test() -> None:
    class Never(Component):
        def run(self) -> None:
            raise ValueError("no")

    system = System("never")
    system.add(Never(), restart=Restart(failures=0))
    with (
        pytest.raises(AssertionError, match="1 problem, expected 0\n  never failed in run: ValueError: no"),
        running(system, expect_failures=1, until_up=False) as run,
    ):
        assert run.until_over().reason == "failed"
    with running(system, expect_failures=1, expect_problems=1, until_up=False) as run:
        run.until_over()


def test_what_after_commit_raises_counts() -> None:
    class Late(Component):
        def on_start(self) -> None:
            self.after_commit(self.fail)

        def fail(self) -> None:
            raise ValueError("late")

    system = System("late")
    system.add(Late(), restart=Restart(failures=0))
    with running(system, expect_failures=1, expect_problems=None, until_up=False) as run:
        run.until_over()


def test_what_after_commit_raises_in_a_life_that_has_failed_before_counts() -> None:
    told = events.AfterCommitFailed("average", 1, "ValueError: late", "the traceback\n", "")
    with (
        pytest.raises(AssertionError, match=r"1 failure, expected 0\n  AfterCommitFailed\(.*\)\n    the traceback\n"),
        running(greenhouse()[0]) as run,
    ):
        run._watch(told)


def test_a_thread_that_is_left_fails_the_test(gate: Gate) -> None:
    class Forking(Component):
        def on_start(self) -> None:
            threading.Thread(target=gate.pass_through, name="left", daemon=True).start()

    system = System("forking")
    system.add(Forking())
    with (
        pytest.raises(AssertionError, match=r"(?s)thread left is left\n.*in pass_through"),
        running(system, timeout_s=0.2),
    ):
        gate.wait_reached()
    gate.open()


def test_a_thread_that_ends_in_time_does_not(gate: Gate) -> None:
    class Forking(Component):
        def on_start(self) -> None:
            threading.Thread(target=gate.pass_through, name="left", daemon=True).start()

    system = System("forking")
    system.add(Forking())
    with running(system):
        gate.wait_reached()
        gate.open()


def stuck(gate: Gate) -> tuple[System, Held]:
    system = System("stuck")
    held, thermometer = system.add(Held()), system.add(Thermometer())
    system.connect(thermometer.readings, held.readings)
    return system, held


def test_what_does_not_stop_is_abandoned_and_told(gate: Gate) -> None:
    system, _ = stuck(gate)
    with (
        pytest.raises(AssertionError) as caught,
        running(system, clock=FakeClock(), watchdog=QUIET, timeout_s=0.3),
    ):
        gate.wait_reached()
    text = str(caught.value)
    assert "stuck: it had not stopped 0.3 real seconds after it was asked to" in text
    assert "1 zombie, expected 0\n  held, life 1, was abandoned\n" in text
    assert "thread stuck/held is left" in text
    assert text.count("in pass_through") >= 3
    gate.open()


def test_a_zombie_may_be_expected(gate: Gate) -> None:
    system, _ = stuck(gate)
    clock = FakeClock()
    with running(system, clock=clock, watchdog=QUIET, expect_zombies=1, expect_problems=None) as run:
        gate.wait_reached()
        over = system.stop()
        clock.advance(10.0, besides=["held"])
        over.result(10.0)
        [abandoned] = run.seen(events.ComponentAbandoned)
        assert "in pass_through" in abandoned.stack
        gate.open()


def test_a_zombie_that_was_let_go_has_time_to_end(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    system, held = stuck(gate)
    clock = FakeClock()
    has_left_behind = clock.has_left_behind

    def let_go() -> bool:
        gate.open()
        return has_left_behind()

    with running(system, clock=clock, watchdog=QUIET, expect_zombies=1) as run:
        gate.wait_reached()
        system.restart(held)
        clock.advance(10.0, besides=["held"])
        run.wait_for(events.ComponentAbandoned)
        monkeypatch.setattr(clock, "has_left_behind", let_go)


def test_a_zombie_is_not_waited_for_and_its_successor_is(gate: Gate) -> None:
    system, held = stuck(gate)
    clock = FakeClock()
    with running(system, clock=clock, watchdog=QUIET, expect_zombies=1) as run:
        gate.wait_reached()
        restarted = system.restart(held)
        clock.advance(10.0, besides=["held"])
        run.until(restarted.done)
        gate.wait_reached()  # the message came again
        with pytest.raises(TimeoutError, match="still at work: stuck/held;"):
            run.settle(timeout_s=0.05)
        gate.open()
        run.until_idle()
        assert run.status(held)[0].epoch == 2


def test_calls_are_waited_for(gate: Gate) -> None:
    class Database(Component):
        rows = State(int)

        def insert(self) -> int:
            gate.pass_through()
            self.rows += 1
            return self.rows

    class Asks(Component):
        readings = Inbox(Reading)
        database = Uses(Database)
        answers = State(list[int])

        @readings.handler
        def ask(self, reading: Reading) -> None:
            self.answers.append(self.database.insert())

    system = System("calls")
    system.add(Database())
    asks, thermometer = system.add(Asks()), system.add(Thermometer(count=2))
    system.connect(thermometer.readings, asks.readings)
    with running(system) as run:
        gate.wait_reached()
        gate.open()
        run.until_idle()
        assert asks.answers == [1, 2]


def test_a_stop_by_the_test_is_the_end() -> None:
    system, _ = greenhouse()
    with running(system) as run:
        assert run.stop().reason == "stopped"
        assert run.until_over().problems == ()
        run.until_idle()


def test_what_is_sent_once_the_system_has_ended_is_refused() -> None:
    system, average = greenhouse()
    with running(system) as run:
        run.stop()
        with pytest.raises(
            UsageError, match=r"greenhouse has ended: nobody would ever see what is sent to average.readings"
        ):
            run.send(average.readings, Reading(1.0))


def test_what_no_system_no_clock_and_no_event_is_is_refused_by_name() -> None:
    system, _ = greenhouse()
    wrong: Any = running
    with pytest.raises(UsageError, match=r"running\(\) takes a System, not <function greenhouse"):
        wrong(greenhouse)
    with pytest.raises(UsageError, match=r"running\('greenhouse'\): clock=5.0 must be a FakeClock\(\)"):
        wrong(system, clock=5.0)
    with running(system) as run:
        for kind in ("SystemStarted", events, ValueError):
            with pytest.raises(UsageError, match=r"greenhouse: .* is no class of events"):
                run.wait_for(cast(Any, kind))


def test_a_state_that_a_test_assigns_to_is_refused_because_it_would_hide_what_is_kept() -> None:
    system, average = greenhouse()
    with pytest.raises(AssertionError, match=r"greenhouse: average.count was assigned from outside"), running(system):
        average.count = 7
    with pytest.raises(UsageError, match=r"running\('greenhouse'\): average.count was assigned from outside"):
        running(system).__enter__()
    del average.count
    with running(system) as run:
        run.until(lambda: average.count == 3)


def test_what_was_not_told_may_have_been_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def floods(**expected: Any) -> None:
        system, average = greenhouse(0)
        with running(system, **expected) as run, monkeypatch.context() as patch:
            patch.setattr("minions.observe.observer._MOST_WAITING", 0)
            run.send(average.readings, Reading(-1.0))
            run.until(lambda: run.runtime._observer.dropped)

    with pytest.raises(
        AssertionError, match=r"greenhouse: \d+ events were not told, because more happened than could be"
    ):
        floods(expect_failures=1, expect_dead_letters=1)  # of two failures one was told
    floods(expect_failures=None, expect_dead_letters=None, expect_zombies=None, expect_problems=None)


def test_a_stop_takes_the_virtual_time_that_it_needs() -> None:
    class Sleeps(Component):
        def on_stop(self) -> None:
            self.sleep(1.0)  # which the stop cuts short
            self.sleep(1.5)

    system = System("sleeps")
    system.add(Sleeps())
    clock = FakeClock()
    began_s = clock.monotonic()
    with running(system, clock=clock, watchdog=QUIET):
        pass
    assert clock.monotonic() - began_s == 1.5


def test_a_control_socket_is_opened_only_when_asked_for() -> None:
    system, _ = greenhouse()
    opened: list[bool] = []
    for control in (False, True):
        with running(system, control=control):
            opened.append(system._control is not None)
    assert opened == [False, True]


def test_what_the_program_says_of_the_watchdog_holds_unless_the_test_says_otherwise() -> None:
    def has_watchdog() -> bool:
        return any(thread.name == "greenhouse/watchdog" for thread in threading.enumerate())

    system, _ = greenhouse()
    seen = []
    for options in ({}, {"watchdog": QUIET}):
        with running(system, **options):  # type: ignore[arg-type]
            seen.append(has_watchdog())
    assert seen == [True, False]

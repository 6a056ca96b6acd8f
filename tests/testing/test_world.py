"""A world of one thread: who goes on, when time moves, and what is left when it ends."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from minions import Component, Inbox, Outbox, State, System, UsageError, Uses, every
from minions.testing.disk import MemoryDisk
from minions.testing.process import Process
from minions.testing.world import Dropped, SimulatedThread, World


def begin(world: World, target: Callable[[], None], name: str = "t") -> SimulatedThread:
    thread = world.threads.thread(target, name)
    thread.start()
    return thread


# Turns ----------------------------------------------------------------------------------------------------------------


def test_threads_take_turns_where_they_pause_and_the_pick_decides() -> None:
    told: list[str] = []

    def run(pick: Callable[[Sequence[SimulatedThread]], int]) -> list[str]:
        told.clear()
        world = World(pick)

        def talk(name: str) -> Callable[[], None]:
            def say() -> None:
                for number in range(2):
                    told.append(f"{name}{number}")
                    world.pause()

            return say

        for name in ("a", "b"):
            begin(world, talk(name), name)
        assert not world.run()
        return list(told)

    assert run(lambda ready: 0) == ["a0", "b0", "a1", "b1"]
    assert run(lambda ready: len(ready) - 1) == ["b0", "b1", "a0", "a1"]


def test_a_thread_that_waits_without_a_deadline_goes_on_when_it_is_woken_and_not_before() -> None:
    world = World()
    parker, told = world.threads.parker(), []

    def wait() -> None:
        world.clock.wait(parker, None)
        told.append("woken")

    begin(world, wait)
    world.run()
    assert told == []
    assert world.waiting() == ("t waits without a deadline",)
    begin(world, parker.unpark)
    world.run()
    assert told == ["woken"]
    assert world.waiting() == ()


def test_a_wake_up_before_the_wait_is_kept_once() -> None:
    world = World()
    parker, told = world.threads.parker(), []

    def wait() -> None:
        parker.unpark()
        parker.unpark()
        for number in range(2):
            world.clock.wait(parker, None)
            told.append(number)

    begin(world, wait)
    world.run()
    assert told == [0]


def test_others_may_go_between_the_look_and_the_wait() -> None:
    world = World(lambda ready: 0)
    parker, told = world.threads.parker(), []

    def wait() -> None:
        told.append("looks")
        world.clock.wait(parker, None)
        told.append("goes on")

    def wake() -> None:
        told.append("wakes who waits already" if parker.waiter else "wakes who is about to wait")
        parker.unpark()

    begin(world, wait)
    begin(world, wake)
    world.run()
    assert told == ["looks", "wakes who is about to wait", "goes on"]


# Time -----------------------------------------------------------------------------------------------------------------


def test_time_moves_to_the_next_moment_when_nobody_can_go_on() -> None:
    world = World(monotonic_s=10.0)
    told = []

    def sleep(seconds: float) -> Callable[[], None]:
        def until() -> None:
            world.clock.wait(world.threads.parker(), world.now_s + seconds)
            told.append((seconds, world.clock.monotonic()))

        return until

    for seconds in (5.0, 1.0, 3.0):
        begin(world, sleep(seconds))
    world.settle()
    assert (told, world.now_s) == ([], 10.0)
    world.advance(2.0)
    assert (told, world.now_s) == ([(1.0, 11.0)], 12.0)
    world.run()
    assert told == [(1.0, 11.0), (3.0, 13.0), (5.0, 15.0)]
    assert world.clock.wall() - world.clock.monotonic() == pytest.approx(1_700_000_000.0 - 10.0)


def test_who_was_woken_before_its_deadline_is_not_woken_by_it_once_more() -> None:
    world = World()
    parker, waits = world.threads.parker(), []

    def wait() -> None:
        for _ in range(2):
            world.clock.wait(parker, world.now_s + 10.0)
            waits.append(world.now_s)

    begin(world, wait)
    world.settle()
    world.advance(4.0)
    parker.unpark()
    world.run()
    assert waits == [1_004.0, 1_014.0]


def test_a_wake_up_at_the_moment_of_the_deadline_counts_once() -> None:
    world = World()
    parker, waits = world.threads.parker(), []

    def wait() -> None:
        world.clock.wait(parker, world.now_s + 1.0)
        waits.append("first")
        world.clock.wait(parker, world.now_s + 1.0)
        waits.append("second")

    def wake() -> None:
        world.clock.wait(world.threads.parker(), world.now_s + 1.0)
        parker.unpark()

    begin(world, wait)
    begin(world, wake)
    world.run()
    assert waits == ["first", "second"]
    assert world.now_s == 1_001.0, "the wake-up came after the deadline, and is kept for the second wait"


def test_sleep_is_not_cut_short_by_anything() -> None:
    world = World()
    told = []

    def stand_still() -> None:
        world.sleep(5.0)
        told.append(world.now_s)

    begin(world, stand_still)
    world.run()
    assert told == [1_005.0]


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_time_does_not_go_back_nor_to_infinity(seconds: float) -> None:
    with pytest.raises(ValueError, match="time moves on only"):
        World().advance(seconds)


# Signals, joins, locals -----------------------------------------------------------------------------------------------


def test_a_signal_a_join_and_their_time_outs() -> None:
    world = World()
    signal, told = world.threads.signal(), []

    def wait() -> None:
        told.append(signal.wait(1.0))
        told.append(signal.wait())
        other.join(1.0)
        told.append(other.is_alive())
        other.join()
        told.append(other.is_alive())

    other = begin(world, lambda: world.sleep(9.0), "other")
    begin(world, wait)
    world.advance(2.0)
    assert told == [False]
    signal.set()
    world.run()
    assert told == [False, True, True, False]
    signal.clear()
    assert not signal.is_set()


def test_each_thread_has_its_number_and_its_locals() -> None:
    world = World()
    mine = world.threads.local()
    mine.name = "driver"
    seen: list[Any] = [world.threads.get_ident()]

    def look(name: str) -> Callable[[], None]:
        def set_and_look() -> None:
            assert not hasattr(mine, "name")
            mine.name = name
            world.pause()
            seen.append((mine.name, world.threads.get_ident(), world.threads.is_current(threads[name])))

        return set_and_look

    threads = {name: begin(world, look(name)) for name in ("a", "b")}
    world.run()
    assert seen == [threading.get_ident(), ("a", threads["a"].ident, True), ("b", threads["b"].ident, True)]
    assert mine.name == "driver"
    assert not world.threads.is_current(threads["a"])


def test_a_thread_is_started_once() -> None:
    world = World()
    thread = begin(world, lambda: None)
    with pytest.raises(RuntimeError, match="once"):
        thread.start()


# The end --------------------------------------------------------------------------------------------------------------


def test_at_the_end_every_thread_is_dropped_where_it_waits_and_has_no_effect_any_more() -> None:
    world = World()
    parker, told = world.threads.parker(), []

    def live() -> None:
        try:
            world.clock.wait(parker, None)
        finally:
            told.append("finally")
            try:
                world.clock.wait(parker, None)
            except Dropped:
                told.append("dropped again")

    thread = begin(world, live)
    never = begin(world, lambda: told.append("never had a turn"))
    world.pick = lambda ready: 0
    world.run(until=lambda: world.turns == 1)
    world.end()
    assert told == ["finally", "dropped again"]
    assert not thread.is_alive()
    assert not never.is_alive()
    with pytest.raises(RuntimeError, match="dead"):
        begin(world, lambda: None)
    with pytest.raises(UsageError, match="has ended"):
        world.clock.wait(parker, None)


def test_a_thread_that_does_not_let_itself_be_dropped_is_left_behind() -> None:
    world = World()

    def stubborn() -> None:
        while True:
            try:
                world.sleep(1.0)
            except BaseException:  # noqa: BLE001 - that is what it is here for
                continue

    begin(world, stubborn)
    world.settle()
    world.end()
    assert world.waiting() == ()


def test_what_comes_out_of_a_thread_comes_out_of_run() -> None:
    world = World()

    def fail() -> None:
        raise LookupError("mine")

    begin(world, fail)
    with pytest.raises(LookupError, match="mine"):
        world.run()


# Wrong use ------------------------------------------------------------------------------------------------------------


def test_ctrl_c_while_the_next_turn_is_given_comes_to_the_driver_and_to_no_thread() -> None:
    told: list[str] = []

    def pick(ready: Sequence[SimulatedThread]) -> int:
        if told == ["begun"]:
            told.append("interrupted")
            signal.raise_signal(signal.SIGINT)
        return 0

    world = World(pick)

    def take_turns() -> None:
        told.append("begun")
        try:
            world.pause()
        except BaseException as error:
            told.append(type(error).__name__)
            raise
        told.append("went on")

    begin(world, take_turns, "a")
    begin(world, world.pause, "b")
    begin(world, world.pause, "c")
    with pytest.raises(KeyboardInterrupt):
        world.run()
    assert told == ["begun", "interrupted"]
    assert not world.run()
    assert told == ["begun", "interrupted", "went on"]


def test_ctrl_c_while_threads_are_dropped_is_raised_when_all_of_them_are() -> None:
    told: list[str] = []
    world = World()

    def wait(name: str) -> Callable[[], None]:
        def waits() -> None:
            try:
                world.sleep(1.0)
            finally:
                signal.raise_signal(signal.SIGINT)
                told.append(name)

        return waits

    begin(world, wait("a"), "a")
    world.settle()
    with pytest.raises(KeyboardInterrupt):
        world.end()
    assert told == ["a"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    outer, inner = World(), World()

    def wait_inside() -> None:
        try:
            inner.sleep(1.0)
        finally:
            signal.raise_signal(signal.SIGINT)

    def end_inner() -> None:
        inner.end()
        told.append("not interrupted")

    begin(inner, wait_inside)
    inner.settle()
    begin(outer, end_inner)
    with pytest.raises(KeyboardInterrupt):  # from the world that runs
        outer.run()
    assert told == ["a", "not interrupted"]


def test_without_greenlet_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(UsageError, match=r"pip install 'minions-runtime\[testing\]'"):
        World()


def test_a_world_is_not_driven_by_its_own_threads() -> None:
    world = World()
    refused = []

    def drive() -> None:
        with pytest.raises(UsageError, match="driven by the thread that made it"):
            world.run()
        refused.append(True)

    begin(world, drive)
    world.run()
    assert refused == [True]


def test_a_wait_of_the_driver_that_nobody_can_end_is_refused_with_who_waits() -> None:
    world = World()
    begin(world, lambda: world.clock.wait(world.threads.parker(), None), "somebody")
    with pytest.raises(UsageError, match="somebody waits without a deadline"):
        world.threads.signal().wait()
    assert world.threads.signal().wait(5.0) is False
    assert world.now_s == 1_005.0


def test_a_real_thread_that_asks_a_world_is_refused_by_its_name() -> None:
    world = World()
    refused = []

    def ask() -> None:
        with pytest.raises(UsageError, match="'stranger' is a real one") as error:
            world.threads.get_ident()
        refused.append(error.value)

    stranger = threading.Thread(target=ask, name="stranger")
    stranger.start()
    stranger.join()
    assert len(refused) == 1


# A whole system -------------------------------------------------------------------------------------------------------


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    out = Outbox(Number)
    sent = State(int)

    @every(seconds=60)
    def send(self) -> None:
        self.out.send(Number(self.sent))
        self.sent += 1


class Sum(Component):
    numbers = Inbox(Number)
    total = State(int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value

    def so_far(self) -> int:
        return self.total


class Asking(Component):
    numbers = Inbox(Number)
    sums = Uses(Sum)
    answers = State(list[int])

    @numbers.handler
    def ask(self, number: Number) -> None:
        self.answers.append(self.sums.so_far())


def ticking() -> tuple[System, Numbers, Sum, Asking]:
    system = System("ticking")
    numbers, total, asking = system.add(Numbers()), system.add(Sum()), system.add(Asking())
    system.connect(numbers.out, total.numbers)
    system.connect(numbers.out, asking.numbers)
    return system, numbers, total, asking


def test_a_system_goes_by_the_time_of_its_world_and_answers_who_drives_it() -> None:
    before = set(threading.enumerate())
    system, numbers, total, asking = ticking()
    world, disk = World(), MemoryDisk()
    process = Process(system, world, disk, forever=True)
    process.start()
    world.settle()
    assert total.total == 0
    world.advance(60 * 5 + 1)
    assert (numbers.sent, total.total) == (5, 10)
    assert len(asking.answers) == 5
    assert system.call(total).so_far() == 10
    assert {status.name for status in system.status()} == {"numbers", "sum", "asking"}
    stopping = system.stop()
    world.run()
    assert stopping.done()
    assert process.over
    assert process.runtime.stopped is not None
    assert process.runtime.stopped.problems == ()
    process.close()
    assert set(threading.enumerate()) == before, "no real thread was started"


def test_after_a_crash_the_next_process_goes_on_with_what_is_on_disk() -> None:
    system, numbers, total, _ = ticking()
    disk = MemoryDisk()
    world = World()
    process = Process(system, world, disk, forever=True, run_id="first")
    process.start()
    world.advance(60 * 3 + 1)
    process.crash()
    world = World(monotonic_s=world.now_s, wall_s=world.clock.wall())
    process = Process(system, world, disk, forever=True, run_id="second")
    process.start()
    world.advance(60 * 2)
    assert (numbers.sent, total.total) == (5, 10)
    process.crash()


class Interrupted(Component):
    def run(self) -> None:
        try:
            self.sleep(10.0)
        finally:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_while_a_process_dies_leaves_nothing_of_it_behind() -> None:
    system, world = System("interrupted"), World()
    system.add(Interrupted())
    process = Process(system, world, MemoryDisk())
    process.start()
    world.settle()
    assert [each.name for each in system.status()] == ["interrupted"]
    with pytest.raises(KeyboardInterrupt):
        process.crash()
    assert world.waiting() == ()
    with pytest.raises(UsageError):
        system.status()


def test_no_lock_is_held_where_a_thread_gives_its_turn_away() -> None:
    system, *_ = ticking()
    world, disk = World(), MemoryDisk()
    process = Process(system, world, disk, forever=True)
    locks = [process.runtime.journal.lock]
    held: list[object] = []

    def look(ready: Sequence[SimulatedThread]) -> int:
        held.extend(lock for lock in locks if lock.locked())
        return len(held) % len(ready)

    world.pick = look
    process.start()
    world.advance(300)
    process.crash()
    assert held == []
    assert world.turns > 50

"""Which tick is due when, in one life and from one to the next. No thread; time moves when the test says so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import get_args

import pytest

from minions.errors import StoreDamaged
from minions.flow.rows import Tick, tick_of
from minions.life.timetable import Timetable
from minions.model.schedules import Cron, Every, Missed, Schedule
from minions.testing import FakeClock

NOON_S = datetime(2024, 5, 1, 12, tzinfo=UTC).timestamp()


class JumpingClock(FakeClock):
    def jump(self, seconds: float) -> None:
        """Sets the time of day."""
        with self._changed:
            self._wall_s += seconds


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock(wall_s=NOON_S)


def each(seconds: float, missed: Missed = "once", *, jitter_s: float = 0.0, at_start: bool = False) -> Every:
    return Every(parts=(("seconds", seconds),), missed=missed, jitter_s=jitter_s, at_start=at_start)


def at(expression: str, missed: Missed = "once", jitter_s: float = 0.0) -> Cron:
    return Cron(expression=expression, timezone="UTC", missed=missed, jitter_s=jitter_s)


class Lives:
    """Timetables of one component, one life after the other, with what is kept of them."""

    def __init__(self, clock: JumpingClock, *, chances: Iterable[float] = (), **schedules: Schedule) -> None:
        self.clock = clock
        self.schedules = schedules
        self.kept: dict[str, bytes] = {}
        self.chances = iter(chances)
        self.run = 0
        self.start()

    def start(self) -> None:
        """A process begins."""
        self.run += 1
        self.begin()

    def begin(self) -> None:
        """A life begins."""
        chance = lambda: next(self.chances, 0.0)  # noqa: E731
        self.timetable = Timetable("c", self.schedules, self.clock, f"run {self.run}", chance)
        assert self.timetable.due_s == math.inf
        self.kept |= self.timetable.begin(dict(self.kept))

    def tick(self) -> str | None:
        """Makes the tick that is due."""
        method = self.timetable.due()
        if method is not None:
            row = self.timetable.made(method)
            self.timetable.is_whole(method)
            self.kept |= row
        return method

    def ticks(self) -> int:
        """Makes all ticks that are due."""
        count = 0
        while self.tick() is not None:
            count += 1
        return count

    @property
    def in_s(self) -> float:
        """In how many seconds it is to be looked at again; the time of day counts in millionths."""
        return round(self.timetable.due_s - self.clock.monotonic(), 4)


def test_ticks_come_at_equal_distances_and_do_not_drift(clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10))
    assert (lives.tick(), lives.in_s) == (None, 10.0)
    clock.advance(9.0)
    assert lives.tick() is None
    clock.advance(4.0)  # late
    assert (lives.tick(), lives.in_s) == ("report", 7.0)
    clock.advance(7.0)
    assert (lives.tick(), lives.in_s) == ("report", 10.0)


def test_of_several_the_earliest_is_first(clock: JumpingClock) -> None:
    lives = Lives(clock, slow=each(11), fast=each(10), daily=at("0 * * * *"))
    assert lives.in_s == 10.0
    clock.advance(11.0)
    assert [lives.tick() for _ in range(3)] == ["fast", "slow", None]
    assert lives.in_s == 9.0
    clock.advance(3_600 - 11.0)
    assert sorted(str(lives.tick()) for _ in range(3)) == ["daily", "fast", "slow"]


@pytest.mark.parametrize(("missed", "expected"), [("once", 1), ("none", 1), ("all", 5)])
def test_ticks_that_were_held_up_are_made_late(missed: Missed, expected: int, clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10, missed))
    clock.advance(57.0)
    assert (lives.ticks(), lives.in_s) == (expected, 3.0)


@pytest.mark.parametrize(("missed", "expected"), [("once", 1), ("none", 0), ("all", 5)])
def test_ticks_that_were_missed_while_nothing_ran(missed: Missed, expected: int, clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10, missed), daily=at("*/10 * * * *", missed))
    clock.advance(4.0)
    assert lives.ticks() == 0
    clock.advance(53.0)
    lives.start()
    assert (lives.ticks(), lives.in_s) == (expected, 3.0)
    clock.advance(3_000.0)
    lives.start()
    found = [lives.tick() for _ in range(400)]
    assert found.count("daily") == expected
    assert lives.ticks() == 0


def test_no_more_than_a_thousand_are_made_up_for(clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10, "all"), other=at("* * * * *", "all"))
    clock.advance(86_400.0 * 3)
    lives.start()
    made = []
    while (method := lives.tick()) is not None:
        made.append(method)
    assert (made.count("report"), made.count("other")) == (1_000, 1_000)


def test_the_time_to_the_first_tick_goes_on_over_restarts_and_failures(clock: JumpingClock) -> None:
    lives = Lives(clock, weekly=each(100))
    clock.advance(40.0)
    lives.begin()
    assert lives.in_s == 60.0
    clock.advance(20.0)
    lives.start()
    assert lives.in_s == 40.0
    clock.advance(20.0)
    lives.begin()
    assert lives.in_s == 20.0
    clock.advance(21.0)
    assert lives.ticks() == 1


def test_a_tick_that_was_not_made_is_due_in_the_next_life_at_once(clock: JumpingClock) -> None:
    for missed in get_args(Missed):
        lives = Lives(clock, report=each(10, missed))
        clock.advance(10.0)
        assert lives.timetable.due() == "report"
        lives.timetable.made("report")  # and then it failed
        clock.advance(2.0)
        lives.begin()
        assert (lives.ticks(), lives.in_s) == (1, 8.0)
        lives.begin()
        assert (lives.ticks(), lives.in_s) == (0, 8.0)


def test_a_tick_at_each_start(clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10, "none", at_start=True))
    assert (lives.ticks(), lives.in_s) == (1, 10.0)
    clock.advance(4.0)
    lives.begin()
    assert (lives.ticks(), lives.in_s) == (0, 6.0)  # not at the start of another life
    lives.start()
    assert (lives.ticks(), lives.in_s) == (1, 10.0)
    clock.advance(35.0)
    lives.start()
    assert (lives.ticks(), lives.in_s) == (1, 10.0)


def test_a_tick_at_the_start_is_one_of_those_that_were_missed(clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(10, "once", at_start=True))
    lives.ticks()
    clock.advance(35.0)
    lives.start()
    assert (lives.ticks(), lives.in_s) == (1, 5.0)


def test_jitter_makes_single_ticks_later(clock: JumpingClock) -> None:
    lives = Lives(clock, chances=[0.5, 0.25, 0.0], report=each(10, jitter_s=4.0))
    assert lives.in_s == 12.0
    clock.advance(11.0)
    assert lives.tick() is None
    clock.advance(1.0)
    assert (lives.tick(), lives.in_s) == ("report", 9.0)
    clock.advance(9.0)
    assert (lives.tick(), lives.in_s) == ("report", 9.0)


def test_jitter_of_times_of_day(clock: JumpingClock) -> None:
    lives = Lives(clock, chances=[0.5], report=at("* * * * *", jitter_s=20.0))
    assert (lives.tick(), lives.in_s) == (None, 60.0)
    clock.advance(60.0)
    assert (lives.tick(), lives.in_s) == (None, 10.0)
    clock.advance(10.0)
    assert (lives.tick(), lives.in_s) == ("report", 50.0)


# ---------------------------------------------------------------------- the time of day is set
def test_equal_distances_do_not_care_what_the_time_of_day_is(clock: JumpingClock) -> None:
    lives = Lives(clock, report=each(100))
    for hours in (10, -30, 500):
        clock.jump(hours * 3_600)
        assert (lives.tick(), lives.in_s) == (None, 100.0)
        lives.begin()
        assert (lives.tick(), lives.in_s) == (None, 100.0)
    clock.advance(100.0)
    assert lives.ticks() == 1
    clock.jump(-3_600.0)
    clock.advance(60.0)
    lives.start()  # it seems to be in the future: counted anew
    assert lives.in_s == 100.0


def test_times_of_day_are_looked_at_each_minute_and_when_they_were_set(clock: JumpingClock) -> None:
    lives = Lives(clock, report=at("0 15 * * *"))
    assert (lives.tick(), lives.in_s) == (None, 60.0)
    clock.jump(2.5 * 3_600)
    assert (lives.tick(), lives.in_s) == (None, 60.0)
    clock.jump(0.5 * 3_600 - 20.0)
    assert (lives.tick(), lives.in_s) == (None, 20.0)  # without waiting for the minute to be over
    clock.advance(20.0)
    assert lives.ticks() == 1


def test_a_small_step_of_the_clock_is_noticed_when_the_tick_seems_due(clock: JumpingClock) -> None:
    lives = Lives(clock, report=at("* * * * *"))
    assert lives.tick() is None
    clock.jump(-0.4)
    clock.advance(60.0)
    assert (lives.tick(), lives.in_s) == (None, 0.4)
    clock.advance(0.5)
    assert lives.ticks() == 1


def test_a_clock_that_is_put_forward_makes_what_lies_between_late(clock: JumpingClock) -> None:
    for missed, expected in (("once", 1), ("none", 1), ("all", 3)):
        lives = Lives(clock, report=at("0 * * * *", missed))  # type: ignore[arg-type]
        clock.jump(3.5 * 3_600)
        assert lives.ticks() == expected
        clock.jump(-3.5 * 3_600)


def test_a_clock_that_is_put_back_by_little_makes_nothing_twice(clock: JumpingClock) -> None:
    lives = Lives(clock, daily=at("30 12 * * *"), often=at("*/10 * * * *"))
    clock.advance(1_800.0)
    assert sorted(str(lives.tick()) for _ in range(2)) == ["daily", "often"]
    clock.jump(-30.0)
    clock.advance(30.0)
    assert lives.ticks() == 0
    clock.jump(-2 * 3_600.0)  # to 10:30
    assert lives.ticks() == 0
    clock.advance(600.0)
    assert [lives.tick(), lives.tick()] == ["often", None]
    lives.begin()
    clock.advance(6_600.0)  # to 12:30 once more
    assert [lives.tick(), lives.tick()] == ["often", None]
    clock.jump(-30 * 3_600.0)
    clock.advance(1.0)
    assert lives.ticks() == 0
    clock.advance(86_400.0)
    assert sorted({str(lives.tick()) for _ in range(2)}) == ["daily", "often"]


def test_where_a_schedule_stands_is_kept_as_text() -> None:
    tick = Tick(wall_s=1.5, mono_s=-2.0, run_id="r")
    assert tick_of("tick/c/m", tick.body()) == tick
    for body in (b"", b"[]", b"{}", b'{"wall_s": "x", "mono_s": 1, "run_id": "r"}', b'{"wall_s": 1}'):
        with pytest.raises(StoreDamaged, match=r"row 'tick/c/m' is not laid out"):
            tick_of("tick/c/m", body)


def test_another_expression_counts_from_the_last_tick(clock: JumpingClock) -> None:
    lives = Lives(clock, report=at("30 12 * * *"))
    clock.advance(1_800.0)
    assert lives.ticks() == 1
    lives.schedules["report"] = at("0 13 * * *")
    clock.advance(3_600.0)
    lives.start()
    assert lives.ticks() == 1


def test_a_schedule_that_is_never_due_is_waited_for_a_minute_at_a_time(clock: JumpingClock) -> None:
    lives = Lives(clock, never=at("0 0 */29 * MON#2"))
    assert (lives.tick(), lives.in_s) == (None, 60.0)
    clock.advance(60.0)
    assert (lives.tick(), lives.in_s) == (None, 60.0)

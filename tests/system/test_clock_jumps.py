"""The wall clock jumps by hours, back and forth: nothing waits by it, nothing is ordered by it; dead letters say what it said."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import attrs

from minions import Backoff, Component, Inbox, Outbox, Retry, System, Watchdog, cron, every
from minions.testing import FakeClock, running
from tests.life.conftest import dead_letters
from tests.system.conftest import Launch

HOUR_S = 3_600.0
BEGIN_S = 1_700_000_000.0


class JumpingClock(FakeClock):
    """A clock on which somebody sets the time of day."""

    def __init__(self) -> None:
        super().__init__(wall_s=BEGIN_S)

    def set_wall(self, hours: float) -> None:
        """Sets the time of day, wakes everybody who waits for a moment, and blocks until they have found that it has not come."""
        with self._changed:
            self._wall_s += hours * HOUR_S
            waiting = [waiter.parkable for waiter in self._waiters]
        for parkable in waiting:
            parkable.unpark()
        self.settle()


@attrs.frozen
class Number:
    value: int


class Sending(Component):
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(3):
            self.out.send(Number(value))


class Failing(Component):
    numbers = Inbox(Number, retry=Retry(attempts=2, backoff=Backoff(initial_s=5.0, jitter_ratio=0.0)))

    @numbers.handler
    def fail(self, number: Number) -> None:
        if number.value == 2:
            BOTH_FAILED.set()
            return
        raise ValueError("bad")


class Sleeping(Component):
    def run(self) -> None:
        self.sleep(1_000.0)
        AWAKE.set()


AWAKE, BOTH_FAILED = threading.Event(), threading.Event()


def test_waits_end_when_their_time_is_over_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    AWAKE.clear()
    BOTH_FAILED.clear()
    system, clock = System("test"), JumpingClock()
    sending, failing, _ = system.add(Sending()), system.add(Failing()), system.add(Sleeping())
    system.connect(sending.out, failing.numbers)

    folder = tmp_path / "state"
    off = Watchdog(enabled=False)
    with running(system, clock=clock, folder=folder, watchdog=off, expect_failures=4, expect_dead_letters=2) as run:
        for slept_s, jumps in ((0.0, (10, -30, 30)), (5.0, (-100, 100, -100))):
            clock.settle()
            for hours in jumps:
                assert clock.waits() == (5.0, 1_000.0 - slept_s)
                clock.set_wall(hours)
            assert clock.waits() == (5.0, 1_000.0 - slept_s)
            clock.advance(seconds=5.0)
        assert BOTH_FAILED.is_set()
        assert clock.waits() == (990.0,)
        for hours in (1_000, -2_000):
            clock.set_wall(hours)
            assert not AWAKE.is_set()
        clock.advance(seconds=990.0)
        assert AWAKE.is_set()
        run.until_idle()

    first, second = dead_letters(folder)
    assert (first.message_id < second.message_id, first.attempts, second.attempts) == (True, 2, 2)
    assert first.at == BEGIN_S + 5 + 10 * HOUR_S
    assert second.at == BEGIN_S + 10 - 90 * HOUR_S


class Ticking(Component):
    @cron("0 12 * * *")
    def at_noon(self) -> None:
        NOON.release()

    @every(days=1)
    def daily(self) -> None:
        DAY.release()


NOON, DAY = threading.Semaphore(0), threading.Semaphore(0)


def test_ticks_at_times_of_day_follow_when_the_time_is_set_and_others_do_not() -> None:
    """It is a quarter past ten in the evening when it begins."""
    system, clock = System("test"), JumpingClock()
    system.add(Ticking())
    with running(system, clock=clock, watchdog=Watchdog(enabled=False)):
        clock.settle()
        assert 60.0 in clock.waits()
        for hours in (3, -2, 5):  # never past noon
            clock.set_wall(hours)
            assert 60.0 in clock.waits()
        assert not NOON.acquire(blocking=False)
        clock.set_wall(8)
        assert NOON.acquire(blocking=False)
        assert 60.0 in clock.waits()
        clock.set_wall(-1)  # noon comes again, and is not made again
        clock.set_wall(0.5)
        clock.advance(3_600.0)
        assert 60.0 in clock.waits()
        assert not NOON.acquire(blocking=False)
        assert not DAY.acquire(blocking=False)
        clock.advance(86_400.0 - 3_600.0)
        assert DAY.acquire(blocking=False)
        assert not NOON.acquire(blocking=False)
        clock.advance(3_600.0)
        assert NOON.acquire(blocking=False)


JUMPING = """
    import random, time
    import minions.clock

    real, years = time.time, {years}
    time.time = lambda: real() + years * 365 * 86_400 + random.choice((-9, 0, 1, 7)) * 3_600.0
    minions.clock.SystemClock.wall = staticmethod(time.time)
    minions.clock.time.time = time.time

    class Fussy(Kept):
        numbers = Inbox(Number, retry=Retry(attempts=2, backoff=Backoff(initial_s=0.001)))

        @numbers.handler
        def keep(self, number):
            if number.value % 50 == 7:
                raise ValueError("bad")
            super().keep(number)

    class Commits(Numbers):
        def run(self):
            super().run()
            self.commit()
            if {killed}:
                os.kill(os.getpid(), signal.SIGKILL)

    numbers, kept = system.add(Commits(count={count}), name="numbers"), system.add(Fussy(), name="kept")
    system.connect(numbers.out, kept.numbers)
    say(system.run())
    say(str(kept.values == [value for value in range({count}) if value % 50 != 7]))
"""


def test_runs_in_an_order_that_the_wall_clock_denies_go_on_exactly(launch: Launch, tmp_path: Path) -> None:
    """Each run is years before the one before it, and within it the time jumps by hours at every look."""
    for count, years in ((200, 20), (400, -3), (600, -40)):
        child = launch(JUMPING.format(count=count, years=years, killed=True))
        assert child.end().returncode == -signal.SIGKILL
    ended = launch(JUMPING.format(count=700, years=-50, killed=False)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr
    letters = dead_letters(tmp_path / ".minions")
    ids = [letter.message_id for letter in letters]
    assert len(letters) == len(set(ids)) == 700 // 50
    moments = [letter.at for letter in letters]
    assert moments != sorted(moments)
    assert max(moments) - min(moments) > 3_600.0

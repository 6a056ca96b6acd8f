"""The decisions of the watchdog, as tables: what comes in at each tick, what follows. No thread, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions import (
    CpuLimit,
    DescriptorLimit,
    DiskFreeLimit,
    ErrorLimit,
    LagLimit,
    LateLimit,
    MemoryLimit,
    Watchdog,
    events,
)
from minions.life.machine import Sample, ThreadCpu
from minions.life.vigil import (
    Finding,
    InboxCounts,
    PauseSources,
    Pulse,
    Recovered,
    RestartComponent,
    ResumeSources,
    Stalled,
    StopSystem,
    Tell,
    Vigil,
)

GB = 1_000_000_000


@attrs.frozen
class Counts:
    """What an inbox has counted."""

    length: int = 0
    settled: int = 0
    failed: int = 0


class Driver:
    """Ticks a vigil, once a second unless told otherwise."""

    def __init__(self, limits: Watchdog | None = None) -> None:
        self.vigil = Vigil(limits or Watchdog())
        self.now_s = 500.0
        self.sample = Sample()
        self.ticked = False

    def tick(
        self,
        *,
        after_s: float = 1.0,
        lives: Iterable[Pulse] = (),
        inboxes: dict[str, Counts] | None = None,
        **sampled: Any,
    ) -> list[Finding]:
        """The findings of one tick; what was sampled stays as it was unless it is given."""
        if self.ticked:
            self.now_s += after_s
        self.ticked = True
        self.sample = attrs.evolve(self.sample, **sampled)
        counts: dict[str, InboxCounts] = dict(inboxes or {})
        return self.vigil.tick(self.now_s, self.sample, lives, counts)


def told(findings: list[Finding]) -> list[events.Event]:
    return [finding.event for finding in findings if isinstance(finding, Tell)]


def done(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if not isinstance(finding, Tell)]


class TestStalls:
    def drive(self, *pulses: Pulse | None, after_s: float = 1.0) -> list[list[Finding]]:
        driver = Driver()
        return [driver.tick(lives=[] if pulse is None else [pulse], after_s=after_s) for pulse in pulses]

    def test_a_life_without_progress_is_found_once_and_when_it_goes_on(self) -> None:
        stuck, moved = Pulse("a", 1, token=1, stall_after_s=3.0), Pulse("a", 1, token=2, stall_after_s=3.0)
        assert self.drive(stuck, stuck, stuck, stuck, stuck, stuck, moved, moved) == [
            [],
            [],
            [],
            [Stalled("a", 1, 3.0, None)],
            [],
            [],
            [Recovered("a", 1, 6.0, ended=False)],
            [],
        ]

    def test_who_stalls_again_is_found_again(self) -> None:
        one, two = Pulse("a", 1, token=1, stall_after_s=1.0), Pulse("a", 1, token=2, stall_after_s=1.0)
        found = self.drive(one, one, two, two)
        assert found == [
            [],
            [Stalled("a", 1, 1.0, None)],
            [Recovered("a", 1, 2.0, ended=False)],
            [Stalled("a", 1, 1.0, None)],
        ]

    def test_who_is_parked_at_a_door_has_not_stalled(self) -> None:
        parked = Pulse("a", 1, token=1, waits_for="message", stall_after_s=1.0)
        assert self.drive(*[parked] * 5) == [[]] * 5

    def test_time_at_a_door_does_not_count_afterwards(self) -> None:
        parked = Pulse("a", 1, token=1, waits_for="room in b.in", stall_after_s=2.0)
        stuck = parked._replace(waits_for="")
        assert self.drive(stuck, parked, stuck, stuck, stuck)[-2:] == [[Stalled("a", 1, 2.0, None)], []]

    def test_a_unit_that_begins_or_ends_is_progress(self) -> None:
        outside = Pulse("a", 1, token=1, stall_after_s=2.0)
        inside = outside._replace(in_unit=True)
        assert self.drive(outside, outside, inside, inside, outside, outside) == [[]] * 6

    def test_who_may_take_any_time_is_not_watched(self) -> None:
        assert self.drive(*[Pulse("a", 1, token=1)] * 100) == [[]] * 100

    def test_a_stall_ends_with_the_life(self) -> None:
        stuck = Pulse("a", 1, token=1, stall_after_s=1.0)
        after = Pulse("a", 2, token=1, stall_after_s=9.0)
        assert self.drive(stuck, stuck, None, None)[-2:] == [[Recovered("a", 1, 2.0, ended=True)], []]
        assert self.drive(stuck, stuck, after)[-1] == [Recovered("a", 1, 2.0, ended=True)]

    def test_an_abandoned_life_and_the_one_in_its_place_are_two(self) -> None:
        driver = Driver()
        zombie = Pulse("a", 1, token=1, stall_after_s=1.0)
        driver.tick(lives=[zombie])
        driver.tick(lives=[zombie])
        for token in range(5):
            assert driver.tick(lives=[zombie, Pulse("a", 2, token=token, stall_after_s=1.0)]) == []

    def test_the_cpu_time_since_the_last_progress_is_told(self) -> None:
        driver = Driver()
        life = Pulse("a", 1, token=1, stall_after_s=2.0, native_id=7)
        found = []
        for token, cpu_s in ((0, 0.5), (1, 1.0), (1, 1.5), (1, 4.0)):
            found += driver.tick(lives=[life._replace(token=token)], thread_cpu={7: ThreadCpu("a", cpu_s)})
        assert found == [Stalled("a", 1, 2.0, 3.0)]

    def test_a_thread_whose_clock_cannot_be_read_is_found_all_the_same(self) -> None:
        stuck = Pulse("a", 1, token=1, stall_after_s=1.0, native_id=7)
        assert self.drive(stuck, stuck)[-1] == [Stalled("a", 1, 1.0, None)]

    def test_the_time_of_a_late_tick_does_not_count(self) -> None:
        driver = Driver(Watchdog(late=LateLimit(enabled=False)))
        stuck = Pulse("a", 1, token=1, stall_after_s=10.0)
        assert driver.tick(lives=[stuck]) == []
        for _ in range(6):  # nine seconds count
            assert driver.tick(lives=[stuck], after_s=3_600.0) == []
        assert driver.tick(lives=[stuck]) == [Stalled("a", 1, 10.0, None)]

    def test_a_clock_that_goes_back_stalls_nobody(self) -> None:
        driver = Driver()
        stuck = Pulse("a", 1, token=1, stall_after_s=5.0)
        for after_s in (0.0, -100.0, 0.0, 1.0, 1.0, 1.0, 1.0):
            assert driver.tick(lives=[stuck], after_s=after_s) == []
        assert driver.tick(lives=[stuck]) == [Stalled("a", 1, 5.0, None)]

    def test_time_goes_on_while_ticks_are_missed(self) -> None:
        driver = Driver()
        stuck = Pulse("a", 1, token=1, stall_after_s=3.0)
        driver.tick(lives=[stuck])
        for _ in range(2):
            driver.now_s += 1.0
            driver.vigil.missed(driver.now_s)
        assert driver.tick(lives=[stuck]) == [Stalled("a", 1, 3.0, None)]

    @given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.booleans()), max_size=40))
    def test_each_stall_has_one_end(self, steps: list[tuple[int, bool, bool]]) -> None:
        driver = Driver()
        found = []
        for token, parked, there in steps:
            pulse = Pulse("a", 1, token, waits_for="x" if parked else "", stall_after_s=2.0)
            found += driver.tick(lives=[pulse] if there else [])
        found += driver.tick()
        kinds = [type(finding) for finding in found]
        assert kinds == [Stalled, Recovered] * (len(kinds) // 2)


RATIO = MemoryLimit(over_ratio=0.8, back_ratio=0.6, for_s=2.0)


def with_memory(limit: MemoryLimit = RATIO) -> Driver:
    return Driver(Watchdog(memory=limit))


class TestLimits:
    def test_a_limit_is_exceeded_after_its_time_and_kept_at_the_lower_mark(self) -> None:
        driver = with_memory()
        found = [
            driver.tick(rss_bytes=int(ratio * GB), memory_bound_bytes=GB, memory_ratio=ratio)
            for ratio in (0.5, 0.81, 0.9, 0.85, 0.9, 0.7, 0.61, 0.6, 0.7, 0.5)
        ]
        exceeded = events.LimitExceeded(
            limit="memory",
            about="",
            value=0.85,
            mark=0.8,
            unit="ratio",
            for_s=2.0,
            then="report",
            text="resident memory is 850 MB, 85% of the 1,000 MB that the process may use, over the limit of 80% for 2 s",
        )
        assert [told(each) for each in found] == [
            [],
            [],
            [],
            [exceeded],
            [],
            [],
            [],
            [events.LimitKept("memory", "", 0.6, "ratio", 4.0)],
            [],
            [],
        ]
        assert [done(each) for each in found] == [[]] * 10

    def test_a_moment_below_the_mark_begins_the_time_anew(self) -> None:
        driver = with_memory()
        found = [driver.tick(memory_ratio=ratio) for ratio in (0.9, 0.9, 0.8, 0.9, 0.9, 0.9)]
        assert [len(each) for each in found] == [0, 0, 0, 0, 0, 1]

    def test_without_a_time_it_is_exceeded_at_once(self) -> None:
        driver = with_memory(MemoryLimit(over_ratio=0.8, for_s=0.0))
        [event] = told(driver.tick(memory_ratio=0.9))
        assert isinstance(event, events.LimitExceeded)
        assert event.text.endswith("over the limit of 80%")

    def test_what_cannot_be_measured_changes_nothing(self) -> None:
        driver = with_memory(attrs.evolve(RATIO, for_s=1.0))
        found = [driver.tick(memory_ratio=ratio) for ratio in (0.9, None, 0.9, None, None, 0.5)]
        assert [[type(event) for event in told(each)] for each in found] == [
            [],
            [],
            [events.LimitExceeded],
            [],
            [],
            [events.LimitKept],
        ]

    def test_a_limit_that_is_off_is_not_looked_at(self) -> None:
        off = Watchdog(
            memory=MemoryLimit(enabled=False, for_s=0),
            lag=LagLimit(enabled=False, for_s=0, over_s=1),
            errors=ErrorLimit(enabled=False, over_per_minute=1),
            late=LateLimit(enabled=False, over_s=0.1),
        )
        driver = Driver(off)
        for failed in range(10):
            assert driver.tick(after_s=9, memory_ratio=1.0, inboxes={"a.in": Counts(length=5, failed=9 * failed)}) == []

    def test_the_defaults_find_nothing_in_a_process_that_works(self) -> None:
        driver = Driver()
        for second in range(1_000):
            assert (
                driver.tick(
                    after_s=1.1,
                    rss_bytes=GB,
                    memory_ratio=0.7,
                    descriptors=500,
                    descriptors_most=1_024,
                    disk_free_bytes=GB,
                    cpu_ratio=0.9,
                    lives=[Pulse("a", 1, second, stall_after_s=5.0)],
                    inboxes={"a.in": Counts(length=1_000, settled=10 * second, failed=second // 10)},
                )
                == []
            )

    @pytest.mark.parametrize(
        ("limits", "bad", "good", "value", "text"),
        [
            (
                Watchdog(memory=MemoryLimit(over_bytes=2 * GB, for_s=0)),
                {"rss_bytes": 3 * GB},
                {"rss_bytes": GB},
                3 * GB,
                "resident memory is 3,000 MB, over the limit of 2,000 MB",
            ),
            (
                Watchdog(descriptors=DescriptorLimit(for_s=0)),
                {"descriptors": 900, "descriptors_most": 1_000},
                {"descriptors": 720, "descriptors_most": 1_000},
                0.9,
                "900 file descriptors are open, of 1,000 that the process may have, over the limit of 80%",
            ),
            (
                Watchdog(disk_free=DiskFreeLimit(under_bytes=GB, for_s=0)),
                {"disk_free_bytes": GB // 2},
                {"disk_free_bytes": GB * 5 // 4},
                GB // 2,
                "500 MB are free for the state folder, under the limit of 1,000 MB",
            ),
            (
                Watchdog(cpu=CpuLimit(for_s=0)),
                {"cpu_ratio": 0.99, "cores": 1.5},
                {"cpu_ratio": 0.5, "cores": 1.5},
                0.99,
                "the process uses 99% of the 1.5 cores that it may use, over the limit of 95%",
            ),
        ],
    )
    def test_each_figure_of_the_process_has_its_limit(
        self, limits: Watchdog, bad: dict[str, Any], good: dict[str, Any], value: float, text: str
    ) -> None:
        driver = Driver(limits)
        assert driver.tick(**good) == []
        [exceeded] = told(driver.tick(**bad))
        [kept] = told(driver.tick(**good))
        assert isinstance(exceeded, events.LimitExceeded)
        assert isinstance(kept, events.LimitKept)
        assert (exceeded.value, exceeded.text) == (value, text)
        assert (kept.limit, kept.unit, kept.exceeded_s) == (exceeded.limit, exceeded.unit, 1.0)

    def test_pausing_is_taken_back_when_the_limit_is_kept(self) -> None:
        driver = with_memory(MemoryLimit(over_ratio=0.8, for_s=0, then="pause_sources"))
        assert done(driver.tick(memory_ratio=0.9)) == [PauseSources("watchdog: memory")]
        assert done(driver.tick(memory_ratio=0.75)) == []
        assert done(driver.tick(memory_ratio=0.7)) == [ResumeSources("watchdog: memory")]

    def test_stopping_says_why(self) -> None:
        driver = Driver(Watchdog(disk_free=DiskFreeLimit(under_bytes=GB, for_s=0, then="stop")))
        assert done(driver.tick(disk_free_bytes=0)) == [
            StopSystem("0 MB are free for the state folder, under the limit of 1,000 MB")
        ]
        assert done(driver.tick(disk_free_bytes=2 * GB)) == []

    @given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=60), st.sampled_from([0.0, 1.0, 3.0]))
    def test_each_exceeding_has_one_end_and_a_value_between_the_marks_changes_nothing(
        self, ratios: list[float | None], for_s: float
    ) -> None:
        driver = with_memory(MemoryLimit(over_ratio=0.8, back_ratio=0.6, for_s=for_s, then="pause_sources"))
        exceeded = False
        found: list[Finding] = []
        for ratio in ratios:
            now = driver.tick(memory_ratio=ratio)
            found += now
            if now:
                assert ratio is not None
                assert ratio > 0.8 if not exceeded else ratio <= 0.6
                exceeded = not exceeded
        pair = [Tell, PauseSources, Tell, ResumeSources]
        assert [type(each) for each in found] == (pair * len(ratios))[: len(found)]
        assert len(found) % 2 == 0


def lagging(**changes: Any) -> Driver:
    return Driver(Watchdog(lag=LagLimit(**{"over_s": 10.0, "for_s": 0.0, **changes})))


class TestLag:
    def test_nothing_settled_while_something_waits_is_lag(self) -> None:
        driver = lagging()
        found = [driver.tick(inboxes={"a.in": Counts(length=3, settled=7)}) for _ in range(13)]
        [event] = told(found[11])
        assert isinstance(event, events.LimitExceeded)
        assert (event.about, event.value) == ("a.in", 11.0)
        assert event.text == "3 messages in a.in have to wait about 11 s, over the limit of 10 s"
        assert [bool(each) for each in found].count(True) == 1

    def test_an_empty_inbox_has_no_lag_however_long(self) -> None:
        driver = lagging()
        for _ in range(100):
            assert driver.tick(inboxes={"a.in": Counts(settled=7)}) == []
        assert driver.tick(inboxes={"a.in": Counts(length=100, settled=7)}) == []  # they have only just come

    def test_a_long_queue_lags_by_the_rate_at_which_it_is_settled(self) -> None:
        driver = lagging()
        assert driver.tick(inboxes={"a.in": Counts(length=200, settled=0)}) == []
        [event] = told(driver.tick(inboxes={"a.in": Counts(length=200, settled=10)}))
        assert isinstance(event, events.LimitExceeded)
        assert event.value == pytest.approx(20.0)

    def test_a_queue_that_is_settled_fast_enough_does_not_lag(self) -> None:
        driver = lagging()
        for second in range(100):
            assert driver.tick(inboxes={"a.in": Counts(length=99, settled=10 * second)}) == []

    def test_a_component_slower_than_the_tick_is_not_taken_for_stuck(self) -> None:
        driver = lagging()
        for second in range(300):  # a message each four seconds, two wait
            assert driver.tick(inboxes={"a.in": Counts(length=2, settled=second // 4)}) == []

    def test_the_rate_is_that_of_the_last_minute_or_so(self) -> None:
        driver = lagging(over_s=1_000.0)
        for second in range(600):
            assert driver.tick(inboxes={"a.in": Counts(length=500, settled=100 * second)}) == []
        found = [driver.tick(inboxes={"a.in": Counts(length=2_000, settled=60_000 + second)}) for second in range(600)]
        after_s = [bool(each) for each in found].index(True)
        assert 120 < after_s < 480  # at one a second they need 2,000 seconds

    def test_idle_time_does_not_lower_the_rate(self) -> None:
        driver = lagging()
        for second in range(30):
            driver.tick(inboxes={"a.in": Counts(length=50, settled=10 * second)})
        for _ in range(10_000):
            driver.tick(inboxes={"a.in": Counts(settled=340)})
        assert driver.tick(inboxes={"a.in": Counts(length=80, settled=340)}) == []

    def test_each_inbox_lags_by_itself_and_its_component_is_restarted(self) -> None:
        driver = lagging(over_s=2.0, then="restart")
        found: list[Finding] = []
        for second in range(4):
            found += driver.tick(
                inboxes={
                    "a.in": Counts(length=1),
                    "b.in": Counts(length=1, settled=second),
                    "b.other": Counts(length=1),
                }
            )
        assert done(found) == [
            RestartComponent("a", "1 messages in a.in have to wait about 3 s, over the limit of 2 s"),
            RestartComponent("b", "1 messages in b.other have to wait about 3 s, over the limit of 2 s"),
        ]

    def test_two_inboxes_that_pause_the_sources_each_take_back_their_own(self) -> None:
        driver = lagging(over_s=2.0, then="pause_sources")
        one, two = Counts(length=1), Counts(length=1)
        found: list[Finding] = []
        for _ in range(4):
            found += driver.tick(inboxes={"a.in": one, "b.in": two})
        assert done(found) == [PauseSources("watchdog: lag of a.in"), PauseSources("watchdog: lag of b.in")]
        assert done(driver.tick(inboxes={"a.in": Counts(), "b.in": two})) == [ResumeSources("watchdog: lag of a.in")]

    def test_the_time_of_a_late_tick_does_not_count(self) -> None:
        driver = Driver(Watchdog(lag=LagLimit(over_s=10.0, for_s=0.0), late=LateLimit(enabled=False)))
        for _ in range(6):
            assert driver.tick(after_s=1_000.0, inboxes={"a.in": Counts(length=3)}) == []


def failing(**changes: Any) -> Driver:
    return Driver(Watchdog(errors=ErrorLimit(**{"over_per_minute": 5, **changes})))


class TestErrors:
    def test_failures_of_the_last_minute_count(self) -> None:
        driver = failing()
        found = [told(driver.tick(inboxes={"a.in": Counts(failed=second // 2)})) for second in range(14)]
        [event] = found[12]
        assert isinstance(event, events.LimitExceeded)
        assert (event.about, event.value, event.unit) == ("a", 6, "per_minute")
        assert event.text == "a has failed 6 times within a minute, over the limit of 5 a minute"
        assert sum(map(len, found)) == 1

    def test_failures_leave_after_a_minute(self) -> None:
        driver = failing()
        driver.tick()
        assert len(told(driver.tick(inboxes={"a.in": Counts(failed=6)}))) == 1
        found = [told(driver.tick(inboxes={"a.in": Counts(failed=6)})) for _ in range(61)]
        assert [bool(each) for each in found].index(True) == 59
        assert found[59] == [events.LimitKept("errors", "a", 0, "per_minute", 60.0)]

    def test_five_a_minute_for_ever_are_allowed(self) -> None:
        driver = failing()
        for second in range(1_000):
            assert driver.tick(inboxes={"a.in": Counts(failed=second // 12)}) == []

    def test_failures_of_a_component_add_up_over_inboxes_replicas_and_lives(self) -> None:
        driver = failing(then="restart")
        driver.tick()
        found = driver.tick(
            lives=[Pulse("a#0", 1, 0, failures=1), Pulse("a#1", 1, 0, failures=2), Pulse("b", 1, 0, failures=5)],
            inboxes={"a.in": Counts(failed=1), "a.other": Counts(failed=2)},
        )
        assert done(found) == [
            RestartComponent("a", "a has failed 6 times within a minute, over the limit of 5 a minute")
        ]

    def test_a_component_between_two_lives_keeps_its_count(self) -> None:
        driver = failing()
        driver.tick(lives=[Pulse("a", 1, 0, failures=3)])
        driver.tick()
        assert driver.tick(lives=[Pulse("a", 2, 0, failures=4)]) == []

    def test_an_abandoned_life_that_knows_of_fewer_adds_nothing(self) -> None:
        driver = failing()
        for _ in range(20):
            assert driver.tick(lives=[Pulse("a", 1, 0, failures=3), Pulse("a", 2, 0, failures=4)]) == []


def clocks(**cpu_s: float) -> dict[int, ThreadCpu]:
    """Threads by name, numbered in their order from 1."""
    return {number: ThreadCpu(name, used_s) for number, (name, used_s) in enumerate(cpu_s.items(), 1)}


class TestLateTicks:
    @pytest.mark.parametrize(
        ("before", "after", "diagnosis", "culprit", "cpu_s"),
        [
            (
                {"cpu_s": 1.0, "run_wait_s": 0.0, "thread_cpu": clocks(main=0.5, other=0.5)},
                {"cpu_s": 5.5, "run_wait_s": 0.1, "thread_cpu": clocks(main=0.6, other=4.5)},
                "gil_held",
                "other",
                4.0,
            ),
            (  # the thread has begun since
                {"cpu_s": 1.0, "run_wait_s": 0.0, "thread_cpu": {}},
                {"cpu_s": 5.5, "run_wait_s": 4.0, "thread_cpu": clocks(new=3.0)},
                "gil_held",
                "new",
                3.0,
            ),
            (
                {"cpu_s": 1.0, "run_wait_s": 1.0, "thread_cpu": clocks(main=0.5)},
                {"cpu_s": 1.2, "run_wait_s": 1.1, "thread_cpu": clocks(main=0.6)},
                "stopped",
                "",
                0.0,
            ),
            (
                {"cpu_s": 1.0, "run_wait_s": 1.0, "thread_cpu": clocks(main=0.5)},
                {"cpu_s": 1.2, "run_wait_s": 3.0, "thread_cpu": clocks(main=0.6)},
                "starved",
                "",
                0.0,
            ),
            (
                {"cpu_s": 1.0, "run_wait_s": 1.0, "thread_cpu": clocks(one=0, two=0, three=0)},
                {"cpu_s": 4.9, "run_wait_s": 1.1, "thread_cpu": clocks(one=1.3, two=1.3, three=1.3)},
                "unknown",
                "",
                0.0,
            ),
            (  # on a machine with much to do: hardly any time, but it was the lock that was waited for
                {"cpu_s": 1.0, "run_wait_s": 0.0, "sleeps": 100, "thread_cpu": clocks(main=0.5, other=0.5)},
                {"cpu_s": 1.6, "run_wait_s": 3.9, "sleeps": 180, "thread_cpu": clocks(main=0.6, other=1.0)},
                "gil_held",
                "other",
                0.5,
            ),
            (  # no thread alone is to blame
                {"cpu_s": 0.0, "sleeps": 100, "thread_cpu": clocks(one=0, two=0, three=0)},
                {"cpu_s": 3.9, "sleeps": 180, "thread_cpu": clocks(one=1.3, two=1.3, three=1.3)},
                "gil_held",
                "",
                0.0,
            ),
            (
                {"cpu_s": 0.0, "run_wait_s": 0.0, "sleeps": 100, "thread_cpu": clocks(main=0.0)},
                {"cpu_s": 0.6, "run_wait_s": 0.1, "sleeps": 179, "thread_cpu": clocks(main=0.6)},
                "stopped",
                "",
                0.0,
            ),
            ({"cpu_s": None}, {"cpu_s": 4.0}, "unknown", "", 0.0),
        ],
    )
    def test_the_clocks_say_why(
        self, before: dict[str, Any], after: dict[str, Any], diagnosis: str, culprit: str, cpu_s: float
    ) -> None:
        driver = Driver()
        driver.tick(**before)
        assert driver.tick(after_s=5.0, **after) == [Tell(events.TickLate(4.0, diagnosis, culprit, cpu_s, "report"))]

    def test_a_component_is_called_by_its_name(self) -> None:
        driver = Driver()
        life = Pulse("orders#2", 1, 0, native_id=1)
        driver.tick(lives=[life], thread_cpu=clocks(thread=0.0))
        [event] = told(driver.tick(after_s=5.0, lives=[life], thread_cpu=clocks(thread=5.0)))
        assert event == events.TickLate(4.0, "gil_held", "orders#2", 5.0, "report")

    def test_late_ticks_in_a_row_are_told_once_until_they_are_on_time(self) -> None:
        driver = Driver()
        found = [told(driver.tick(after_s=after_s)) for after_s in (1.0, 3.1, 4.0, 2.5, 1.9, 1.0, 3.1)]
        assert [[type(event) for event in each] for each in found] == [
            [],
            [events.TickLate],
            [],
            [],
            [events.LimitKept],
            [],
            [events.TickLate],
        ]

    def test_a_tick_that_is_a_little_late_is_not_told(self) -> None:
        driver = Driver()
        assert [driver.tick(after_s=3.0) for _ in range(9)] == [[]] * 9

    def test_the_first_tick_is_never_late(self) -> None:
        driver = Driver(Watchdog(late=LateLimit(over_s=0.001)))
        driver.now_s = 1e9
        assert driver.tick() == []

    def test_lateness_is_over_the_tick_that_was_asked_for(self) -> None:
        driver = Driver(Watchdog(tick_s=10.0))
        driver.tick()
        assert driver.tick(after_s=12.0) == []
        [event] = told(driver.tick(after_s=13.0))
        assert isinstance(event, events.TickLate)
        assert event.late_s == pytest.approx(3.0)

    def test_sources_can_be_paused_until_ticks_are_on_time(self) -> None:
        driver = Driver(Watchdog(late=LateLimit(then="pause_sources")))
        driver.tick()
        assert done(driver.tick(after_s=9.0)) == [PauseSources("watchdog: late")]
        assert done(driver.tick()) == [ResumeSources("watchdog: late")]

    def test_after_a_missed_tick_the_window_reaches_back_to_the_last_sample(self) -> None:
        driver = Driver()
        driver.tick(cpu_s=0.0, thread_cpu=clocks(hog=0.0))
        driver.now_s += 10.0
        driver.vigil.missed(driver.now_s)
        [event] = told(driver.tick(after_s=4.0, cpu_s=9.0, thread_cpu=clocks(hog=6.9)))
        assert isinstance(event, events.TickLate)
        assert event.diagnosis == "unknown"  # half of 14 seconds, not of 4


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 10), st.integers(0, 5), st.integers(0, 5)),
        max_size=40,
    )
)
def test_whatever_is_exceeded_ends_once_and_whatever_is_paused_goes_on(
    steps: list[tuple[float, int, int, int]],
) -> None:
    driver = Driver(
        Watchdog(
            lag=LagLimit(over_s=5.0, for_s=1.0, then="pause_sources"),
            errors=ErrorLimit(over_per_minute=3, then="pause_sources"),
            late=LateLimit(over_s=3.0, then="pause_sources"),
        )
    )
    settled = failed = 0
    paused: set[str] = set()
    open_limits: set[tuple[str, str]] = set()
    quiet = [(1.0, 0, 0, 0)] * 70
    for after_s, length, more_settled, more_failed in [*steps, *quiet]:
        settled += more_settled
        failed += more_failed
        for finding in driver.tick(after_s=after_s, inboxes={"a.in": Counts(length, settled, failed)}):
            match finding:
                case PauseSources(by):
                    assert by not in paused
                    paused.add(by)
                case ResumeSources(by):
                    paused.remove(by)
                case Tell(events.LimitExceeded(limit, about, value)):
                    assert math.isfinite(value)
                    assert (limit, about) not in open_limits
                    open_limits.add((limit, about))
                case Tell(events.TickLate()):
                    assert ("late", "") not in open_limits
                    open_limits.add(("late", ""))
                case Tell(events.LimitKept(limit, about)):
                    open_limits.remove((limit, about))
    assert not paused
    assert not open_limits

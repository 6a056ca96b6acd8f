"""What a component reads of the clock is the time of the test: in a harness, in a system on a `FakeClock`, in a simulation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from minions import Component, Inbox, Outbox, State, System, UsageError, every
from minions.testing import FakeClock, Faults, SimulationFailed, View, harness, running, simulate

BEGAN = datetime.fromtimestamp(1_700_000_000, UTC)


class Shop(Component):
    """Is open from eight to midnight, UTC."""

    customers = Inbox(str)
    greetings = Outbox(str)
    since = State(list[float])

    @customers.handler
    def greet(self, customer: str) -> None:
        self.since.append(self.monotonic())
        self.greetings.send(f"{customer}: {'open' if self.now().hour >= 8 else 'closed'}")

    def time(self) -> datetime:
        return self.now()

    def busy(self, seconds: float) -> tuple[timedelta, float]:
        began, began_s = self.now(), self.monotonic()
        self.sleep(seconds)
        return self.now() - began, self.monotonic() - began_s


class TestInAHarness:
    def test_it_stands_still_until_the_test_moves_it(self) -> None:
        h = harness(Shop())
        h.send(h.component.customers, "ada")
        h.send(h.component.customers, "bob")
        assert h.component.since == [1_000.0, 1_000.0]
        assert h.call.time() == h.now == BEGAN

        h.advance(seconds=7_200)
        h.send(h.component.customers, "cid")
        assert h.sent(h.component.greetings) == ["ada: open", "bob: open", "cid: closed"]
        assert h.component.since[-1] == h.now_s == 8_200.0
        assert h.now == BEGAN + timedelta(hours=2)
        h.stop()

    def test_it_goes_on_over_a_crash(self) -> None:
        h = harness(Shop())
        h.advance(seconds=60.0)
        h.crash()
        h.restart()
        assert h.call.time() == BEGAN + timedelta(minutes=1)
        h.stop()

    def test_a_sleep_of_the_component_moves_it(self) -> None:
        with harness(Shop()) as h:
            assert h.call.busy(5.0) == (timedelta(seconds=5), 5.0)

    def test_nobody_calls_the_clock_of_a_component(self) -> None:
        with harness(Shop()) as h, pytest.raises(UsageError, match=r"\.now cannot be called .*it is the runtime's"):
            h.call.now()


class TestOnAFakeClock:
    def test_it_is_that_of_the_clock(self) -> None:
        class Ticking(Component):
            ticks = State(list[str])

            @every(minutes=30)
            def tick(self) -> None:
                self.ticks.append(f"{self.now():%H:%M} {self.monotonic()}")

        clock = FakeClock(monotonic_s=0.0, wall_s=datetime(2026, 3, 1, 23, tzinfo=UTC).timestamp())
        system = System("ticking")
        ticking = system.add(Ticking())
        with running(system, clock=clock) as run:
            run.settle()
            clock.advance(seconds=3_600)
            assert ticking.ticks == ["23:30 1800.0", "00:00 3600.0"]


class Numbers(Component):
    out = Outbox(int)

    def run(self) -> None: ...


class Stamps(Component):
    numbers = Inbox(int)
    stamps = State(list[str])
    began_s = State(float)

    def on_start(self) -> None:
        self.began_s = self.monotonic()

    @numbers.handler
    def stamp(self, number: int) -> None:
        self.stamps.append(f"{self.now().isoformat()} {self.monotonic() - self.began_s!r}")


def stamping() -> System:
    system = System("stamping")
    numbers, stamps = system.add(Numbers()), system.add(Stamps())
    system.connect(numbers.out, stamps.numbers)
    return system


def everything_happens_within_a_second(view: View) -> bool:
    return all(float(stamp.split()[1]) < 1.0 for stamp in view["stamps"].stamps)


class TestInASimulation:
    def test_what_depends_on_the_time_fails_again_from_its_seed_and_from_its_choices(self) -> None:
        def failure_of(seed: int, choices: str | None = None) -> SimulationFailed | None:
            try:
                simulate(
                    stamping,
                    seed,
                    sources={"numbers": [1, 2, 3]},
                    invariants=everything_happens_within_a_second,
                    faults=Faults(errors=0.0, restarts=0.0, crashes=0.0, delays=0.2, disk_errors=0.0),
                    choices=choices,
                )
            except SimulationFailed as failure:
                return failure
            return None

        found = [(seed, failure) for seed in range(30) if (failure := failure_of(seed)) is not None]
        assert 0 < len(found) < 30  # some are late, and it is the time of the simulation that says so
        for seed, failure in found[:3]:
            again, same = failure_of(seed), failure_of(seed, failure.choices)
            assert again is not None
            assert same is not None
            assert "2023-11-14T22:13:2" in failure.failure
            assert again.story == failure.story == same.story

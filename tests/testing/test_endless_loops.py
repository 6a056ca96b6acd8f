"""A loop that goes round and round while time stands still ends all the same: in a harness with an error.

In a simulation a moment passes now and then, and it is stopped when the steps are used up.

Each of these components hung the test before there was a bound.
"""

from __future__ import annotations

import pytest

from minions import Backoff, Component, Inbox, Outbox, Restart, State, System, UsageError, Uses
from minions.testing import Faults, harness, simulate

STEPS = 500


class Polls(Component):
    """Looks at a device that never has anything, and waits for nothing."""

    seconds: float = 0.0

    def run(self) -> None:
        while self.running:
            self.sleep(self.seconds)


class PollsWithoutSleep(Component):
    out = Outbox(int, optional=True)

    def run(self) -> None:
        while self.running:
            pass


class PollsForGood(Component):
    """Does not even ask whether it is to go on."""

    def run(self) -> None:
        while True:
            self.sleep(0)


class WatchesTheClock(Component):
    """Waits for a moment by looking at the clock."""

    def run(self) -> None:
        until_s = self.monotonic() + 1.0
        while self.monotonic() < until_s:
            pass


class Commits(Component):
    count = State(int)

    def run(self) -> None:
        while self.running:
            with self.unit():
                self.count += 1
            self.commit()


class ComesBack(Component):
    def run(self) -> None:
        raise ValueError("again")


class SleepsInAHandler(Component):
    numbers = Inbox(int)
    handled = State(int)

    @numbers.handler
    def take(self, number: int) -> None:
        while number and self.running:
            self.sleep(0)
        self.handled += 1


class Sends(Component):
    """Sends as many messages as a harness takes at one moment."""

    numbers = Outbox(int)

    def run(self) -> None:
        for number in range(10_000):
            self.numbers.send(number)


@pytest.mark.parametrize(
    "component", [Polls(), Polls(seconds=-1.0), PollsWithoutSleep(), PollsForGood(), WatchesTheClock()]
)
def test_a_loop_that_waits_for_nothing_is_an_error_that_names_its_component_and_what_to_do(
    component: Component,
) -> None:
    h = harness(component, name="poller", steps=STEPS)
    with pytest.raises(
        UsageError,
        match=r"poller\.run went round 500 times while time stood still.*self\.sleep\(seconds\).*harness\(\.\.\., steps=\.\.\.\)",
    ):
        h.start()
    with pytest.raises(UsageError, match="poller: it does not run"):
        h.settle()


def test_the_same_without_saying_how_often() -> None:
    with pytest.raises(UsageError, match=r"polls\.run went round 100,000 times"), harness(Polls()):
        pass


def test_a_loop_that_gives_its_turn_away_and_lets_no_time_pass_is_one_too() -> None:
    h = harness(Commits(), steps=STEPS)
    with pytest.raises(UsageError, match=r"commits.*500 turns while time stood still.*harness\(\.\.\., steps=\.\.\.\)"):
        h.start()


def test_a_component_that_comes_back_at_once_for_ever_is_one_too() -> None:
    restart = Restart(failures=1_000_000, backoff=Backoff(initial_s=0.0))
    h = harness(ComesBack(), restart=restart, raises=False, steps=STEPS)
    with pytest.raises(UsageError, match=r"comes_back.*500 turns while time stood still"):
        h.start()


def test_a_loop_in_a_handler_is_named_by_the_handler_and_its_message_waits_for_a_restart() -> None:
    h = harness(SleepsInAHandler(), steps=STEPS)
    h.send(h.component.numbers, 0)
    with pytest.raises(UsageError, match=r"sleeps_in_a_handler\.take went round"):
        h.send(h.component.numbers, 1)
    assert h.component.handled == 1


class Device(Component):
    def wait(self) -> None:
        while self.running:
            self.sleep(0)


class Reads(Component):
    device = Uses(Device)
    numbers = Inbox(int)

    @numbers.handler
    def read(self, number: int) -> None:
        self.device.wait()


def test_a_loop_of_a_fake_is_named_by_the_fake() -> None:
    h = harness(Reads(), steps=STEPS)
    h.uses(h.component.device, Device())
    with pytest.raises(UsageError, match=r"device-of-reads\.wait went round"):
        h.send(h.component.numbers, 1)


def test_a_loop_that_lets_time_pass_goes_on_for_as_long_as_the_test_lets_it() -> None:
    with harness(Polls(seconds=0.001), steps=STEPS) as h:
        h.advance(seconds=10 * STEPS * 0.001)


def test_what_is_done_at_one_moment_may_be_a_lot() -> None:
    with harness(Sends()) as h:
        assert len(h.sent(h.component.numbers)) == 10_000


@pytest.mark.parametrize("steps", [0, -1, True, 1.5, None, "many"])
def test_a_bound_that_is_none_is_refused(steps: int) -> None:
    with pytest.raises(UsageError, match=r"harness\(\): steps=.* must be a whole number from 1 up"):
        harness(Polls(), steps=steps)


# In a simulation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", [Polls(), PollsWithoutSleep(), PollsForGood()])
def test_a_simulation_of_such_a_loop_ends_when_its_steps_are_used_up(component: Component) -> None:
    system = System("polling")
    system.add(component)
    for seed in range(3):
        result = simulate(system, seed, steps=200)
        assert not result.finished
        assert result.simulated_s > 0


def test_a_simulation_of_a_loop_that_looks_at_the_clock_comes_to_its_end() -> None:
    system = System("watching")
    system.add(WatchesTheClock())
    result = simulate(system, faults=Faults.none())
    assert result.finished
    assert 1.0 <= result.simulated_s < 1.1


def test_others_have_their_turn_beside_such_a_loop() -> None:
    system = System("polling")
    system.add(Polls())
    sends, takes = system.add(Sends()), system.add(SleepsInAHandler())
    system.connect(sends.numbers, takes.numbers)
    handled = []
    result = simulate(
        system,
        sources={sends: [0, 0, 0]},
        invariants=lambda view: handled.append(view[takes].handled),
        faults=Faults.none(),
        steps=500,
    )
    assert not result.finished
    assert handled[-1] == 3


def test_the_steps_are_those_of_the_whole_run_however_often_the_process_dies() -> None:
    system = System("polling")
    system.add(Commits())
    crashes = Faults(crashes=0.3, errors=0.0, restarts=0.0, delays=0.0, disk_errors=0.0, most=50)
    for seed in range(30):
        result = simulate(system, seed, steps=300, faults=crashes)
        assert not result.finished
        assert 300 <= result.turns < 400


class Stubborn(Component):
    """Whatever happens, it looks at the clock once more."""

    def run(self) -> None:
        while self.running:
            try:
                self.monotonic()
            except:  # noqa: E722 - as people write it
                self.log.warning("the clock has failed")


def test_an_endless_loop_that_catches_everything_is_refused_too() -> None:
    with pytest.raises(UsageError, match=r"stubborn\.run went round 2,001 times"), harness(Stubborn(), steps=2_001):
        pass

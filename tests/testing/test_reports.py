"""What a test that fails says is read by people: no value in it is shown whole that is as large as a store."""

from __future__ import annotations

import pytest

from minions import Component, Inbox, Outbox, Retry, State, System
from minions.events import MessageSetAside
from minions.testing import SimulationFailed, harness, running, simulate

MANY = list(range(50_000))
MOST_CHARACTERS = 12_000


class Source(Component):
    out = Outbox(list[int])

    def run(self) -> None:
        self.out.send(MANY)


class Grumbles(Component):
    numbers = Inbox(list[int], retry=Retry(attempts=1))
    kept = State(list[int])

    @numbers.handler
    def take(self, numbers: list[int]) -> None:
        self.kept = numbers
        raise ValueError(numbers)


class Keeps(Grumbles):
    numbers = Inbox(list[int])

    @numbers.handler
    def take(self, numbers: list[int]) -> None:
        self.kept = numbers


def grumbling(component: Grumbles) -> System:
    system = System("grumbling")
    source, grumbles = system.add(Source()), system.add(component)
    system.connect(source.out, grumbles.numbers)
    return system


@pytest.mark.parametrize("component", [Grumbles(), Keeps()])
def test_the_story_of_a_simulation(component: Grumbles) -> None:
    with pytest.raises(SimulationFailed) as caught:
        simulate(grumbling(component), shrink_s=0.0, at_end=lambda view: view[component].kept == [])
    assert len(str(caught.value)) < MOST_CHARACTERS


def test_what_running_did_not_expect() -> None:
    with pytest.raises(AssertionError) as caught, running(grumbling(Grumbles())) as run:
        run.wait_for(MessageSetAside)
    text = str(caught.value)
    assert len(text) < MOST_CHARACTERS
    assert "ValueError: [0, 1, 2" in text
    assert "characters)" in text


def test_what_there_is_to_be_seen_of_a_harness() -> None:
    with harness(Keeps()) as h:
        h.send(h.component.numbers, MANY)
        assert len(h.look()) < MOST_CHARACTERS
    grumbles = harness(Grumbles(), raises=False)
    grumbles.send(grumbles.component.numbers, MANY)
    assert len(grumbles.look()) < MOST_CHARACTERS
    grumbles.close()

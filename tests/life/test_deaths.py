"""What is concluded from the board of a process that died, as a table."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from minions import Retry
from minions.clock import Parkable
from minions.flow.acks import AckSet
from minions.flow.board import Held, Left
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.journal import Journal
from minions.flow.ledger import RecoveredChannel
from minions.life.deaths import Deaths, answer
from minions.testing import FakeClock

A, B = "a.in", "b.in"
Counts = Mapping[str, Mapping[int, int]]


def waiting(*numbers: int, upto: int = 10) -> RecoveredChannel:
    return RecoveredChannel(upto + 1, (0, ()), [(number, b"") for number in numbers], frozenset())


def held(channel: str, first: int, last: int | None = None, life: str = "life") -> Held:
    return Held(life, channel, first, first if last is None else last)


def died(*in_work: Held, deaths: Counts | None = None, early: Mapping[str, int] | None = None) -> Left:
    return Left(in_work, False, deaths or {}, early or {})


KEPT = {A: waiting(3, 4, 5, 8), B: waiting(3)}


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        pytest.param(Left(), Deaths(), id="never run"),
        pytest.param(died(), Deaths(), id="nothing in work"),
        pytest.param(died(held(A, 3)), Deaths({A: {3: 1}}), id="the first death"),
        pytest.param(died(held(A, 3), deaths={A: {3: 1}}), Deaths({A: {3: 2}}), id="the second one"),
        pytest.param(died(held(A, 3), held(B, 3)), Deaths({A: {3: 1}, B: {3: 1}}), id="in two inboxes"),
        pytest.param(died(held(A, 3), held(A, 5, life="other")), Deaths({A: {3: 1, 5: 1}}), id="in two replicas"),
        pytest.param(died(held(A, 4, 7)), Deaths({A: {4: 1, 5: 1}}), id="all of one unit that still wait"),
        pytest.param(died(held(A, 6)), Deaths(), id="settled"),
        pytest.param(died(deaths={A: {3: 1, 6: 2}}), Deaths({A: {3: 1}}), id="died before it came to it"),
        pytest.param(died(held(B, 3), deaths={A: {3: 2}}), Deaths({A: {3: 2}, B: {3: 1}}), id="in turns"),
        pytest.param(Left((held(A, 3),), True, {A: {3: 2}}, {A: 1}), Deaths(), id="an orderly end"),
        pytest.param(died(held(A, 11)), Deaths({A: {11: 1}}, {A: 1}), id="not on disk"),
        pytest.param(
            died(held(A, 11), deaths={A: {11: 1}}, early={A: 1}), Deaths({A: {11: 2}}, {A: 2}), id="again not on disk"
        ),
        pytest.param(
            died(held(A, 12), deaths={A: {11: 1}}, early={A: 1}),
            Deaths({A: {12: 1}}, {A: 2}),
            id="another, not on disk",
        ),
        pytest.param(died(held(A, 3), deaths={A: {3: 1}}, early={A: 1}), Deaths({A: {3: 2}}), id="now on disk"),
        pytest.param(died(held(A, 4), deaths={A: {3: 1}}, early={A: 1}), Deaths({A: {3: 1, 4: 1}}), id="and another"),
        pytest.param(died(deaths={A: {11: 1}}, early={A: 1}), Deaths(), id="early, and then of something else"),
        pytest.param(died(held(A, 8, 12)), Deaths({A: {8: 1, 11: 1, 12: 1}}, {A: 1}), id="one on disk, two not"),
        pytest.param(died(held("gone.in", 1)), Deaths({"gone.in": {1: 1}}, {"gone.in": 1}), id="nothing on disk"),
        pytest.param(died(deaths={"gone.in": {1: 2}}), Deaths(), id="nothing left of the inbox"),
    ],
)
def test_what_a_process_has_died_of(left: Left, expected: Deaths) -> None:
    before = attrs.asdict(left)
    assert Deaths.of(left, KEPT) == expected
    assert attrs.asdict(left) == before


def test_what_is_set_aside_at_the_start_is_not_counted_as_handled() -> None:
    channel = Channel(A, 0, codec=codec_of(int), retry=Retry(deaths=1), run_id="run")
    channel.restore(3, AckSet(), [(1, b"1"), (2, b"2")], [(1, "before")])
    clock = FakeClock()
    journal = Journal(clock, durable=False)  # so that nobody has to write the dead letter
    answer(Deaths({A: {1: 1}}), {A: channel}, journal, clock)
    found = journal.statistics([channel]).inboxes[A]
    assert (found.settled, found.set_aside, found.handled) == (1, 1, 0)


class Writing(FakeClock):
    """Whoever waits finds that the writer has been there meanwhile."""

    journal: Journal

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        sealed = self.journal.commits.seal(parkable)
        assert sealed is not None
        self.journal.commits.committed(sealed)


def test_what_is_set_aside_at_the_start_is_on_disk_before_anything_runs() -> None:
    channel = Channel(A, 0, codec=codec_of(int), retry=Retry(deaths=1), run_id="run")
    channel.restore(3, AckSet(), [(1, b"1"), (2, b"2")], [(1, "before")])
    clock = Writing()
    journal = clock.journal = Journal(clock, durable=True)
    answer(Deaths({A: {1: 1}}), {A: channel}, journal, clock)
    assert journal.commits.durable_epoch == journal.commits.last_epoch() == 1

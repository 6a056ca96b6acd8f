"""The writer, with a real store: every epoch is on disk, in order, however often it takes, or the failure is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from minions.clock import Parkable, SystemClock
from minions.errors import CommitFailed, StoreDamaged, StoreError, StoreLocked, StoreUnusable
from minions.fence import Fence
from minions.flow import writer as writer_module
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.epoch import Sealed
from minions.flow.group_commit import GroupCommit
from minions.flow.journal import Journal
from minions.flow.ledger import Recovered
from minions.flow.parker import Parker
from minions.flow.store import Store
from minions.flow.unit import Unit
from minions.flow.writer import Writer

INT = codec_of(int)
LONG_S = 20.0

pytestmark = pytest.mark.timeout(60)


class QuickClock(SystemClock):
    """Whoever waits for a moment is there at once; what it waited for is written down."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        assert deadline_s is not None
        self.waits_s.append(round(deadline_s - self.now_s, 3))
        self.now_s = deadline_s


class FailingStore(Store):
    """A store whose commits fail as it is told; everything else is real."""

    failures: list[BaseException] = []  # noqa: RUF012 - set afresh by the fixture
    commits: list[list[str]] = []  # noqa: RUF012

    def commit(self, puts: Sequence[tuple[str, bytes]], deletes: Sequence[str]) -> int:
        self.commits.append([*(key for key, _ in puts), *(f"-{key}" for key in deletes)])
        if self.failures:
            raise self.failures.pop(0)
        return super().commit(puts, deletes)


class Rig:
    """A writer over a folder, and one component that sends to one inbox and keeps one state."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.clock = options.pop("clock", None) or QuickClock()
        self.trouble: list[tuple[int, str, bool]] = []
        self.in_trouble, self.given_up = threading.Event(), threading.Event()
        self.resumed: list[int] = []
        self.journal = options.pop("journal", None) or Journal(self.clock, durable=True)
        self.channel = Channel("a.in", 0, capacity=1_000, codec=INT)
        self.fence = Fence("a", 1)
        self.writer = Writer(
            folder,
            {"a.in": "int"},
            self.clock,
            synchronous="NORMAL",
            give_up_s=options.pop("give_up_s", 1.0),
            on_trouble=self._on_trouble,
            on_resumed=self.resumed.append,
        )

    def _on_trouble(self, attempt: int, error: StoreError, given_up: bool) -> None:
        self.trouble.append((attempt, str(error), given_up))
        self.in_trouble.set()
        if given_up:
            self.given_up.set()

    def unit(self, message: int) -> Unit:
        unit = Unit("a")
        unit.send((self.channel,), message, True, INT.encode(message))
        unit.save({"count": INT.encode(message)})
        return unit

    def send(self, message: int) -> None:
        assert self.journal.submit(self.unit(message), self.fence, Parker()) is None

    def commit(self) -> None:
        parker = Parker()
        ticket = self.journal.commits.ticket(parker)
        while ticket is not None and self.journal.commits.waits(ticket, self.fence, None):
            parker.park(LONG_S)

    def close(self) -> None:
        assert self.writer.close(LONG_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What the next commits fail with."""
    FailingStore.failures, FailingStore.commits = [], []
    monkeypatch.setattr(writer_module, "Store", FailingStore)
    return FailingStore.failures


@pytest.fixture
def rig(folder: Path) -> Iterator[Rig]:
    rig = Rig(folder)
    yield rig
    rig.close()


def transient(text: str = "the disk is full") -> CommitFailed:
    return CommitFailed(text, permanent=False)


def left_in(folder: Path) -> Recovered:
    rig = Rig(folder)
    recovered = rig.writer.open()
    rig.close()
    return recovered


def test_what_is_committed_is_there_for_the_next_run(folder: Path, rig: Rig) -> None:
    assert rig.writer.open().is_empty
    rig.writer.begin(rig.journal)
    for message in (7, 8):
        rig.send(message)
    rig.commit()
    rig.close()
    recovered = left_in(folder)
    assert recovered.states == {"a": {"count": b"8"}}
    assert recovered.channels["a.in"].waiting == [(1, b"7"), (2, b"8")]
    assert rig.writer.commits >= 1
    assert rig.writer.units == 2


def test_what_was_there_before_it_began_is_written_too(folder: Path, rig: Rig) -> None:
    rig.writer.open()
    rig.send(1)
    rig.writer.begin(rig.journal)
    rig.commit()
    assert rig.writer.commits == 1


def test_close_writes_all_that_is_left(folder: Path) -> None:
    rig = Rig(folder)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    for message in range(100):
        rig.send(message)
    rig.close()
    assert len(left_in(folder).channels["a.in"].waiting) == 100


def test_close_without_begin_leaves_the_folder_free(folder: Path) -> None:
    rig = Rig(folder)
    rig.writer.open()
    rig.close()
    assert left_in(folder).is_empty


def test_a_unit_that_comes_just_before_close_is_written(folder: Path) -> None:
    """The writer finds nothing; then a unit comes, and close; then it looks whether it may go."""

    class Late(GroupCommit):
        def seal(self, writer: Parkable) -> Sealed | None:
            sealed = super().seal(writer)
            if sealed is None and not journal.states:
                late.send(1)
                self.close()
            return sealed

    journal = Journal(QuickClock(), durable=True)
    journal.commits = Late(journal.lock, journal.turnstile, QuickClock())
    late = Rig(folder, journal=journal)
    late.writer.open()
    late.writer.begin(late.journal)
    late.close()
    assert left_in(folder).states == {"a": {"count": b"1"}}


def test_commits_are_made_in_the_order_of_their_units(folder: Path, failures: list[BaseException]) -> None:
    rig = Rig(folder)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    for message in range(5):
        rig.send(message)
        rig.commit()
    rig.close()
    firsts = [key for commit in FailingStore.commits for key in commit if key.startswith("chan/")]
    assert firsts == sorted(firsts)
    assert len(firsts) == rig.writer.commits == 5


def test_a_commit_that_failed_is_made_again_with_the_same_rows(folder: Path, failures: list[BaseException]) -> None:
    failures += [transient("full"), transient("still full"), transient("locked")]
    rig = Rig(folder)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    rig.send(1)
    rig.commit()
    rig.close()
    assert FailingStore.commits == [FailingStore.commits[0]] * 4
    assert rig.trouble == [(1, "full", False), (2, "still full", False), (3, "locked", False)]
    assert rig.resumed == [3]
    assert rig.clock.waits_s == [0.05, 0.1, 0.2]
    assert (rig.writer.commits, rig.writer.units) == (1, 1)
    assert left_in(folder).channels["a.in"].waiting == [(1, b"1")]


def test_what_was_settled_meanwhile_is_not_left_behind(folder: Path, failures: list[BaseException]) -> None:
    """The rows of a commit that failed are noted down once, when they are on disk."""
    rig = Rig(folder)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    failures.append(transient())
    rig.send(1)
    rig.commit()
    unit = Unit("a")
    unit.settles.append(rig.channel.queue.popleft())
    assert rig.journal.submit(unit, rig.fence, Parker()) is None
    failures.append(transient())
    rig.commit()
    rig.close()
    assert FailingStore.commits[-1][-1] == "-chan/a.in/0000000000000001"
    left = left_in(folder).channels["a.in"]
    assert (left.waiting, left.next_sequence) == ([], 2)


@pytest.mark.parametrize(
    ("errors", "attempts"),
    [
        ([CommitFailed("malformed", permanent=True)], 1),
        ([transient()] * 20, 6),
        ([transient(), CommitFailed("malformed", permanent=True)], 2),
    ],
)
def test_it_gives_up_in_the_end_and_tells_everybody(
    folder: Path, failures: list[BaseException], errors: list[BaseException], attempts: int
) -> None:
    failures += errors
    rig = Rig(folder, give_up_s=1.0)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    rig.send(1)
    assert rig.given_up.wait(LONG_S)
    rig.close()
    assert [given_up for _, _, given_up in rig.trouble] == [False] * (attempts - 1) + [True]
    asks: list[Callable[[], None]] = [lambda: rig.send(2), rig.commit]
    for ask in asks:
        with pytest.raises(CommitFailed):
            ask()
    assert left_in(folder).is_empty


class StillClock(QuickClock):
    """Time stands still, and who waits is woken by somebody."""

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        parkable.park(LONG_S)


@pytest.mark.parametrize(("count", "left"), [(1, [(1, b"1")]), (2, [])])
def test_what_fails_when_nobody_waits_any_longer_is_tried_once_more(
    folder: Path, failures: list[BaseException], count: int, left: list[tuple[int, bytes]]
) -> None:
    failures += [transient()] * count
    rig = Rig(folder, clock=StillClock())
    rig.writer.open()
    rig.writer.begin(rig.journal)
    rig.send(1)
    assert rig.in_trouble.wait(LONG_S)
    assert rig.writer.close(0.0) is bool(left)
    assert [given_up for _, _, given_up in rig.trouble] == [False, True][:count]
    recovered = left_in(folder)
    assert [waiting for channel in recovered.channels.values() for waiting in channel.waiting] == left


def test_who_waits_for_a_commit_is_woken_when_it_gives_up(folder: Path, failures: list[BaseException]) -> None:
    failures.append(CommitFailed("malformed", permanent=True))
    rig = Rig(folder)
    rig.writer.open()
    rig.send(1)
    parker = Parker()
    ticket = rig.journal.commits.ticket(parker)
    assert ticket is not None
    rig.writer.begin(rig.journal)
    assert rig.given_up.wait(LONG_S)
    parker.park(LONG_S)
    with pytest.raises(CommitFailed, match="malformed"):
        rig.journal.commits.waits(ticket, rig.fence, None)
    rig.close()


def test_an_error_that_nobody_expected_is_told_with_its_cause(folder: Path, failures: list[BaseException]) -> None:
    failures.append(ZeroDivisionError("division by zero"))
    rig = Rig(folder)
    rig.writer.open()
    rig.writer.begin(rig.journal)
    rig.send(1)
    assert rig.given_up.wait(LONG_S)
    rig.close()
    ((attempt, said, given_up),) = rig.trouble
    assert (attempt, given_up) == (1, True)
    assert said.endswith("failed: ZeroDivisionError: division by zero")
    with pytest.raises(StoreUnusable) as raised:
        rig.send(2)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda folder: folder.write_text("a file"), StoreUnusable),
        (lambda folder: _damage(folder), StoreDamaged),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_by_open(
    folder: Path, spoil: Callable[[Path], object], error: type[StoreError]
) -> None:
    spoil(folder)
    rig = Rig(folder)
    with pytest.raises(error):
        rig.writer.open()
    rig.close()


def _damage(folder: Path) -> None:
    store = Store.open(folder)
    store.commit([("acks/a.in", b"not json")], [])
    store.close()


def test_a_folder_is_free_when_its_opening_was_broken_off(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(folder)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rig.writer._opened, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rig.writer.open()
    rig.writer._thread.join(LONG_S)
    assert left_in(folder).is_empty


def test_a_folder_in_use_is_refused_by_open_and_free_once_its_writer_is_closed(folder: Path, rig: Rig) -> None:
    rig.writer.open()
    other = Rig(folder)
    with pytest.raises(StoreLocked):
        other.writer.open()
    other.close()
    rig.close()
    left_in(folder)

"""Dead letters of a system that does not run: the folder is taken for a moment, and the next start goes on from there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import (
    CommitFailed,
    Component,
    DeadLetter,
    Inbox,
    NoSuchDeadLetter,
    Outbox,
    Retry,
    State,
    StoreError,
    StoreLocked,
    System,
    TopologyError,
    UsageError,
)
from minions.flow.board import Board
from minions.flow.folder_lock import FolderLock
from minions.flow.store import Store
from minions.flow.writer import Writer
from tests.system.conftest import Launch


@attrs.frozen
class Number:
    value: int


class Numbers(Component):
    count: int
    out = Outbox(Number)
    sent = State(int)

    def run(self) -> None:
        while self.running and self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1


class Picky(Component):
    refused: tuple[int, ...] = ()
    numbers = Inbox(Number, retry=Retry(attempts=1))
    handled = State(list[tuple[int, str]])

    @numbers.handler
    def handle(self, number: Number) -> None:
        if number.value in self.refused:
            raise ValueError(f"not {number.value}")
        self.handled.append((number.value, self.message_id))


class Declared:
    """The same system as often as it is asked for, as a program makes it each time that it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *refused: int, **options: Any) -> tuple[System, Picky]:
        system = System("test", folder=self.folder, **options)
        numbers, picky = system.add(Numbers(count=5)), system.add(Picky(refused=refused))
        system.connect(numbers.out, picky.numbers)
        return system, picky


@pytest.fixture
def declared(tmp_path: Path) -> Declared:
    return Declared(tmp_path / "state")


@pytest.fixture
def letters(declared: Declared) -> list[DeadLetter]:
    """Two of five messages are set aside, and the system has ended."""
    system, _ = declared(1, 3)
    with system.started():
        system.wait()
    return system.dead_letters()


def run(system: System) -> None:
    with system.started():
        system.wait()


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_what_is_retried_is_handled_by_the_next_start(
    declared: Declared, letters: list[DeadLetter], synchronous: str
) -> None:
    system, picky = declared(synchronous=synchronous)
    assert system.dead_letters() == letters
    assert system.retry_dead_letters(letters[1]) == [letters[1]]
    assert system.dead_letters() == declared()[0].dead_letters() == [letters[0]]
    with pytest.raises(NoSuchDeadLetter):
        system.retry_dead_letters(letters[1])
    assert len(picky.handled) == 3
    run(system)
    assert picky.handled[3:] == [(3, letters[1].message_id)]
    assert system.retry_dead_letters(of=picky) == [letters[0]]
    run(system)
    assert picky.handled[4:] == [(1, letters[0].message_id)]
    assert system.dead_letters() == []


def test_what_waited_before_it_comes_before_it(declared: Declared, letters: list[DeadLetter]) -> None:
    declared()[0].retry_dead_letters(letters[1])
    system, picky = declared()
    system.retry_dead_letters(letters[0])
    run(system)
    assert [value for value, _ in picky.handled] == [0, 2, 4, 3, 1]


def test_what_dies_again_has_the_id_that_it_had(declared: Declared, letters: list[DeadLetter]) -> None:
    system, picky = declared(3)
    system.retry_dead_letters(*letters)
    run(system)
    [again] = system.dead_letters()
    assert attrs.evolve(again, at=0.0, traceback="") == attrs.evolve(letters[1], at=0.0, traceback="")
    assert picky.handled[3:] == [(1, letters[0].message_id)]


def test_what_is_dropped_is_gone_also_where_the_system_cannot_run(
    declared: Declared, letters: list[DeadLetter]
) -> None:
    system = System("test", folder=declared.folder)
    picky = system.add(Picky())  # nothing feeds it
    assert system.dead_letters() == system.dead_letters(picky) == letters
    for act in (system.retry_dead_letters, system.message_of):
        with pytest.raises(TopologyError, match="nothing feeds the inbox"):
            act(letters[0])
    assert system.drop_dead_letters(letters[0].message_id) == [letters[0]]
    assert system.drop_dead_letters(of=picky.numbers) == [letters[1]]
    assert system.dead_letters() == []


def test_letters_to_an_inbox_that_is_gone_can_be_seen_and_dropped(
    declared: Declared, letters: list[DeadLetter]
) -> None:
    system = System("test", folder=declared.folder)
    numbers, other = system.add(Numbers(count=5)), system.add(Picky(), name="other")
    system.connect(numbers.out, other.numbers)
    assert system.dead_letters("picky") == system.dead_letters("picky.numbers") == letters
    assert system.dead_letters(other) == []
    with pytest.raises(UsageError, match=r"cannot be retried: the system has no durable inbox picky\.numbers"):
        system.retry_dead_letters(of="picky")
    assert system.drop_dead_letters(of="picky") == letters
    with pytest.raises(UsageError, match=r"no dead letter of 'picky'; the inboxes are other\.numbers"):
        system.dead_letters("picky")


def test_the_message_is_to_be_had_as_an_object(declared: Declared, letters: list[DeadLetter]) -> None:
    system, _ = declared()
    assert [system.message_of(letter) for letter in letters] == [Number(1), Number(3)]
    assert [letter.message for letter in letters] == [b'{"value":1}', b'{"value":3}']


def test_where_nothing_was_ever_stored_there_is_nothing_and_no_folder_is_made(declared: Declared) -> None:
    system, picky = declared()
    assert system.dead_letters() == system.dead_letters(picky) == []
    for act in (system.retry_dead_letters, system.drop_dead_letters):
        with pytest.raises(NoSuchDeadLetter, match="there are none at all"):
            act("a")
        assert act(of=picky) == []
    assert not declared.folder.exists()


def test_a_folder_that_is_in_use_is_left_alone(declared: Declared, letters: list[DeadLetter]) -> None:
    system, _ = declared()
    lock = FolderLock.acquire(declared.folder)
    try:
        assert system.dead_letters() == letters
        for act in (system.retry_dead_letters, system.drop_dead_letters):
            with pytest.raises(StoreLocked) as caught:
                act(letters[0])
            assert caught.value.pid == os.getpid()
    finally:
        lock.release()
    assert system.retry_dead_letters(letters[0]) == [letters[0]]


def test_another_system_on_the_same_folder_is_told_that_it_is_in_use(
    declared: Declared, letters: list[DeadLetter]
) -> None:
    running, _ = declared()
    system, _ = declared()
    with running.started():
        with pytest.raises(StoreLocked, match="already open in this process"):
            system.retry_dead_letters(letters[0])
        assert running.retry_dead_letters(letters[0]) == [letters[0]]
        assert system.dead_letters() == [letters[1]]


def test_a_disk_on_which_nothing_can_be_written_leaves_all_as_it_was(
    declared: Declared, letters: list[DeadLetter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(store: Store, puts: Any, deletes: Any) -> int:
        raise CommitFailed("the disk is gone", permanent=True)

    system, picky = declared()
    with monkeypatch.context() as broken:
        broken.setattr(Store, "commit", fail)
        with pytest.raises(StoreError, match="the disk is gone"):
            system.retry_dead_letters(letters[0])
    assert system.dead_letters() == letters
    run(system)
    assert len(picky.handled) == 3


def test_of_two_who_retry_the_same_letter_one_wins(declared: Declared, letters: list[DeadLetter]) -> None:
    together = threading.Barrier(4)
    answers: list[object] = []

    def act() -> None:
        system, _ = declared()
        together.wait(30.0)
        try:
            answers.append(system.retry_dead_letters(letters[0]))
        except (StoreLocked, NoSuchDeadLetter) as error:  # another one has the folder just now, or has had it
            answers.append(type(error))

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert len(answers) == 4
    assert [answer for answer in answers if isinstance(answer, list)] == [[letters[0]]]
    system, picky = declared()
    run(system)
    assert [value for value, _ in picky.handled] == [0, 2, 4, 1]


def test_what_waits_on_disk_waits_on_and_the_board_is_left_alone(
    declared: Declared, letters: list[DeadLetter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process has died of a message: to retry others in between is no orderly end of it."""
    before = (declared.folder / "board").read_bytes()
    monkeypatch.setattr(Board, "make", None)
    system, picky = declared()
    for letter in letters:
        system.retry_dead_letters(letter)
    monkeypatch.undo()
    assert (declared.folder / "board").read_bytes() == before
    run(system)
    assert sorted(value for value, _ in picky.handled) == [0, 1, 2, 3, 4]


def test_commits_that_were_lost_with_the_power_are_told_here_because_the_next_start_cannot(
    declared: Declared,
    letters: list[DeadLetter],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with opened(monkeypatch, commits_lost=3):
        declared()[0].retry_dead_letters(letters[0])
    assert "the last 3 commits" in caplog.text


@contextmanager
def opened(monkeypatch: pytest.MonkeyPatch, commits_lost: int) -> Iterator[None]:
    """As if a store that is opened had lost commits."""
    open_writer: Callable[[Writer], Any] = Writer.open

    def lossy(writer: Writer) -> Any:
        recovered = open_writer(writer)
        writer.commits_lost = commits_lost
        return recovered

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "open", lossy)
        yield


SECOND_SIGNAL = """
import minions.life.foreground as foreground
foreground._SAME_KEY_PRESS_S = 0.0

class Stuck(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def handle(self, number):
        self.commit()
        say("in work")
        block()

numbers, stuck = system.add(Numbers(count=1)), system.add(Stuck())
system.connect(numbers.out, stuck.numbers)
system.run()
"""


@pytest.mark.parametrize("last", ["signals", "kill"])
def test_whoever_ends_the_process_at_once_by_hand_puts_it_down_to_no_message(
    launch: Launch, last: str, tmp_path: Path
) -> None:
    child = launch(SECOND_SIGNAL)
    child.wait_for("in work")
    assert [held.last for held in Board.left(tmp_path / ".minions").held] == [1]
    if last == "kill":
        child.send(signal.SIGKILL)
    else:
        child.send(signal.SIGINT)
        child.send(signal.SIGTERM)
    ended = child.end()
    left = Board.left(tmp_path / ".minions")
    if last == "kill":
        assert (len(left.held), left.ended) == (1, False)
    else:
        assert "again, ended at once" in ended.stderr
        assert (left.held, left.ended) == ((), True)

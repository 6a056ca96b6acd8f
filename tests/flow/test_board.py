"""The board: what was noted is there after the death of the process, and what was not noted is not."""

from __future__ import annotations

import errno
import os
import random
import signal
import stat
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest

from minions.errors import StoreUnusable
from minions.flow.board import BOARD_FILE, Board, Held, Left, Marks
from minions.flow.channel import Channel
from minions.flow.codec import codec_of

IN, OTHER, PLAIN = (
    Channel("c.in", 0, codec=codec_of(int)),
    Channel("c.other", 1, codec=codec_of(int)),
    Channel("c.plain", 2),
)
LIVES = [("c#0", "c.in"), ("c#0", "c.other"), ("c#1", "c.in"), ("c#1", "c.other")]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.make(tmp_path, LIVES, {}, {})
    yield board
    board.close()


def held(folder: Path) -> list[Held]:
    """What a process that came after the death of this one would see."""
    left = Board.left(folder)
    assert not left.ended
    return list(left.held)


def test_nothing_is_left_where_there_was_no_board(tmp_path: Path) -> None:
    assert Board.left(tmp_path) == Left()
    assert Board.left(tmp_path).ended


def test_a_new_board_says_what_was_counted_and_that_nothing_is_in_work(tmp_path: Path) -> None:
    board = Board.make(tmp_path, LIVES, {"c.in": {7: 2, 2**60: 1}}, {"c.other": 3})
    assert Board.left(tmp_path) == Left((), False, {"c.in": {7: 2, 2**60: 1}}, {"c.other": 3})
    board.close()


@pytest.mark.parametrize(("deaths", "lasts"), [({}, []), ({"c.in": {7: 2}}, [BOARD_FILE, "."])])
def test_what_was_counted_lasts_and_so_does_the_name_under_which_it_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: dict[str, dict[int, int]], lasts: list[str]
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    Board.make(tmp_path, LIVES, deaths, {}).close()
    assert synced == [(tmp_path / name).stat().st_ino for name in lasts]


def test_what_is_in_work_is_on_the_board_until_it_is_not(board: Board, tmp_path: Path) -> None:
    marks = board.marks("c#1", (IN, OTHER, PLAIN))
    marks.words[marks.places[IN]] = 2**63
    assert held(tmp_path) == [Held("c#1", "c.in", 2**63, 2**63)]
    marks.words[marks.places[IN]] = 0
    assert held(tmp_path) == []


def test_what_is_received_in_one_unit_is_in_work_together(board: Board, tmp_path: Path) -> None:
    marks = board.marks("c#0", (IN, OTHER))
    for channel, sequence in ((IN, 5), (IN, 6), (OTHER, 3), (IN, 9)):
        marks.received(channel, sequence)
    assert held(tmp_path) == [Held("c#0", "c.in", 5, 9), Held("c#0", "c.other", 3, 3)]
    marks.clear()
    assert held(tmp_path) == []
    marks.received(IN, 10)
    assert held(tmp_path) == [Held("c#0", "c.in", 10, 10)]


def test_what_a_handler_has_in_work_is_one_message_whatever_was_received_before(board: Board, tmp_path: Path) -> None:
    marks = board.marks("c#0", (IN,))
    marks.received(IN, 5)
    marks.words[marks.places[IN]] = 4
    assert held(tmp_path) == [Held("c#0", "c.in", 4, 4)]


def test_channels_that_are_not_durable_and_lives_of_others_are_noted_where_nobody_looks(
    board: Board, tmp_path: Path
) -> None:
    for marks in (board.marks("c#0", (PLAIN,)), board.marks("stranger", (IN,)), Marks.nowhere()):
        marks.received(PLAIN, 5)
        marks.received(IN, 6)
        assert marks.places == {}
    assert held(tmp_path) == []


def test_a_life_that_was_ended_clears_its_notes_and_writes_no_more(board: Board, tmp_path: Path) -> None:
    old, other = board.marks("c#0", (IN, OTHER)), board.marks("c#1", (IN,))
    for marks, channel in ((old, IN), (old, OTHER), (other, IN)):
        marks.received(channel, 5)
    old.let_go()
    assert held(tmp_path) == [Held("c#1", "c.in", 5, 5)]
    new = board.marks("c#0", (IN, OTHER))
    new.received(IN, 6)
    old.received(OTHER, 7)
    old.words[old.places[IN]] = 0
    old.clear()
    old.let_go()
    assert held(tmp_path) == [Held("c#0", "c.in", 6, 6), Held("c#1", "c.in", 5, 5)]


@pytest.mark.parametrize("how", ["end", "close"])
def test_after_the_end_nothing_is_in_work_whatever_threads_are_left(how: str, tmp_path: Path) -> None:
    board = Board.make(tmp_path, LIVES, {"c.in": {7: 2}}, {})
    marks = board.marks("c#0", (IN,))
    marks.received(IN, 5)
    getattr(board, how)()
    marks.received(IN, 6)
    assert Board.left(tmp_path) == Left((), True, {"c.in": {7: 2}}, {})
    board.end()
    if how == "end":
        board.close()


def test_the_next_board_takes_the_place_of_the_last_one_and_is_for_this_user_only(board: Board, tmp_path: Path) -> None:
    (tmp_path / "board.new").write_bytes(bytes(9_999))  # a start that was killed
    marks = board.marks("c#0", (IN,))
    Board.make(tmp_path, [], {}, {}).close()
    marks.received(IN, 5)
    assert Board.left(tmp_path) == Left((), True)
    assert [path.name for path in tmp_path.iterdir()] == [BOARD_FILE]
    assert stat.S_IMODE((tmp_path / BOARD_FILE).stat().st_mode) == 0o600


@pytest.mark.usefixtures("board")
def test_room_is_taken_for_real(tmp_path: Path) -> None:
    status = (tmp_path / BOARD_FILE).stat()
    assert status.st_blocks * 512 >= status.st_size > 0


def test_a_full_disk_is_an_error_at_the_start_and_leaves_what_was_there(
    board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.marks("c#0", (IN,)).received(IN, 5)

    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreUnusable, match=r"cannot write .*board: No space left on device; .* room for [\d,]+ bytes"):
        Board.make(tmp_path, LIVES, {}, {})
    assert held(tmp_path) == [Held("c#0", "c.in", 5, 5)]


def test_a_board_that_cannot_be_read_is_told(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(StoreUnusable, match=r"cannot read .*board: Permission denied"):
        Board.left(tmp_path)


def test_a_board_of_which_the_header_is_damaged_says_nothing(tmp_path: Path) -> None:
    board = Board.make(tmp_path, LIVES, {"c.in": {7: 2}}, {"c.in": 1})
    board.marks("c#0", (IN,)).received(IN, 5)
    path = tmp_path / BOARD_FILE
    whole = path.read_bytes()
    board.close()
    chance = random.Random(5)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert Board.left(tmp_path) == Left()
    words = len(whole) - 8 * 2 * (2 + len(LIVES))
    for position in range(words - 8):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        assert Board.left(tmp_path) == Left(), position
    path.write_bytes(whole)
    assert Board.left(tmp_path).held == (Held("c#0", "c.in", 5, 5),)


def test_a_board_of_a_machine_of_the_other_byte_order_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board.make(tmp_path, LIVES, {"c.in": {7: 2}}, {})
    assert not Board.left(tmp_path).ended
    monkeypatch.setattr(sys, "byteorder", "little" if sys.byteorder == "big" else "big")
    assert Board.left(tmp_path) == Left()
    board.close()


CHILD = """
    import os, signal, sys
    from pathlib import Path
    from minions.flow.board import Board
    from minions.flow.channel import Channel
    from minions.flow.codec import codec_of

    channel = Channel("c.in", 0, codec=codec_of(int))
    board = Board.make(Path(sys.argv[1]), [("c", "c.in")], {}, {})
    marks = board.marks("c", (channel,))
    marks.received(channel, 5)
    if child := os.fork():
        os.waitpid(child, 0)
        signal.raise_signal(signal.SIGKILL)
    marks.received(channel, 6)      # as a handler that has forked goes on in its child
    marks.clear()
    marks.let_go()
"""


def test_notes_last_through_a_kill_and_a_forked_child_writes_none(tmp_path: Path) -> None:
    ended = run([sys.executable, "-c", textwrap.dedent(CHILD), tmp_path], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert held(tmp_path) == [Held("c", "c.in", 5, 5)]

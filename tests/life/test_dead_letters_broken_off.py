"""Whoever retries or drops dead letters may break it off, by Ctrl-C on the main thread: each of them was whole, or never was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from minions.clock import SystemClock
from minions.flow import rows
from minions.flow.channel import Channel
from minions.flow.codec import codec_of
from minions.flow.rows import DeadLetter
from minions.flow.store import Store, read_rows
from minions.life.dead_letters import opened_apart
from tests.flow.interrupting import interrupted

NUMBERS = (1, 2)


def folder_with_letters(folder: Path) -> Path:
    letters = [
        (
            rows.dead_prefix("a.in") + rows.dead_number(number),
            DeadLetter("a.in", f"id-{number}", "int", b"%d" % number, 3, "error", "", 0.0).body(),
        )
        for number in NUMBERS
    ]
    with closing(Store.open(folder)) as store:
        store.commit([(rows.ACKS + "a.in", rows.acks_body((2, ()))), *letters], [])
    return folder


def where_each_is(folder: Path) -> list[list[str]]:
    """For each message the places where it is: among the dead letters, or in the inbox."""
    places: dict[bytes, list[str]] = {b"%d" % number: [] for number in NUMBERS}
    for key, body in read_rows(folder, rows.DEAD):
        places[DeadLetter.of(key, body).message].append("dead")
    for key, body in read_rows(folder, rows.CHANNELS):
        for _, stored in rows.messages_of(key, body)[2]:
            places[stored].append("inbox")
    return list(places.values())


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (folder_with_letters(tmp_path / str(number)) for number in itertools.count())


@pytest.mark.parametrize(("how", "then"), [("retry", ["inbox"]), ("drop", [])])
def test_a_letter_is_a_letter_or_what_was_wished_whenever_it_is_broken_off(
    folders: Iterator[Path], how: str, then: list[str]
) -> None:
    step, broken_off = 1, True
    while broken_off:
        folder, found = next(folders), list[Any]()
        channel = Channel("a.in", 0, codec=codec_of(int))
        with opened_apart(folder, {"a.in": channel}, (), SystemClock(), "NORMAL", found.append) as letters:
            broken_off = interrupted(step, getattr(letters, how), ["id-1", "id-2"])
        assert all(places in (["dead"], then) for places in where_each_is(folder)), step
        assert found == []
        if not broken_off:
            assert where_each_is(folder) == [then, then]
        step += 7


def test_a_letter_that_comes_while_others_are_chosen_stays(tmp_path: Path) -> None:
    folder, looks = folder_with_letters(tmp_path / "state"), itertools.count()
    channel = Channel("a.in", 0, codec=codec_of(int))
    with opened_apart(folder, {"a.in": channel}, (), SystemClock(), "NORMAL", lambda event: None) as letters:
        read = letters._read
        letters._read = lambda prefix: list(read(prefix))[: 2 if next(looks) else 1]
        assert [letter.message_id for letter in letters.retry((), of="a.in")] == ["id-1"]
    assert where_each_is(folder) == [["inbox"], ["dead"]]

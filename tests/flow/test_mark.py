"""The mark: it names a commit and the boot, and what is not exactly a mark names nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from minions.errors import StoreUnusable
from minions.flow import mark as mark_module
from minions.flow.mark import UNKNOWN_LOOKS, Mark


def write(folder: Path, commit_number: int) -> None:
    mark = Mark(folder)
    mark.open()
    mark.write(commit_number)
    mark.close()
    mark.close()


def read(folder: Path) -> tuple[int, bool]:
    mark = Mark(folder)
    return mark.commit_number, mark.same_boot


def test_the_last_number_written_is_read_in_the_same_boot(tmp_path: Path) -> None:
    assert read(tmp_path) == (0, False)
    for number in (1, 2**40, 3):
        write(tmp_path, number)
        assert read(tmp_path) == (number, True)
    assert (tmp_path / "mark").stat().st_size == 48


def test_whether_commits_are_at_risk_is_read_and_lasts_as_soon_as_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lasting: list[tuple[int, bool]] = []

    def note(descriptor: int) -> None:
        found = Mark(tmp_path)
        lasting.append((found.commit_number, found.at_risk))

    monkeypatch.setattr(os, "fsync", note)
    mark = Mark(tmp_path)
    mark.open()
    for number, at_risk in ((1, True), (2, True), (3, False), (4, False), (5, True)):
        mark.write(number, at_risk=at_risk)
        found = Mark(tmp_path)
        assert (found.commit_number, found.at_risk) == (number, at_risk)
    mark.close()
    assert lasting == [(1, True), (3, False), (5, True)]


def test_the_looks_of_the_database_are_read_where_they_are_whole(tmp_path: Path) -> None:
    mark = Mark(tmp_path)
    assert mark.looks == UNKNOWN_LOOKS
    mark.open()
    mark.write(7, looks=b"sixteen bytes of")
    assert Mark(tmp_path).looks == b"sixteen bytes of"
    path = tmp_path / "mark"
    whole = path.read_bytes()
    for spoiled in (whole[:28], whole[:-1], whole[:30] + b"!" + whole[31:], whole[:-1] + b"!"):
        path.write_bytes(spoiled)
        found = Mark(tmp_path)
        assert (found.commit_number, found.looks) == (7, UNKNOWN_LOOKS)
    mark.write(8)
    assert Mark(tmp_path).looks == UNKNOWN_LOOKS
    mark.close()


def test_reading_creates_nothing(tmp_path: Path) -> None:
    Mark(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_after_the_next_boot_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 5)
    (tmp_path / "boot_id").write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", tmp_path / "boot_id")
    assert read(tmp_path) == (5, False)


def test_a_machine_that_tells_no_boot_never_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", tmp_path / "none")
    write(tmp_path, 5)
    assert read(tmp_path) == (5, False)


def test_a_boot_that_cannot_be_asked_for_just_now_does_not_pass_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 5)

    class Busy:
        def read_text(self) -> str:
            raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(mark_module, "_BOOT_ID_FILE", Busy())
    with pytest.raises(OSError, match="Too many open files"):
        Mark(tmp_path)


def test_every_truncation_and_every_flipped_byte_counts_as_no_mark(tmp_path: Path) -> None:
    write(tmp_path, 5)
    whole = (tmp_path / "mark").read_bytes()
    spoiled = [whole[:length] for length in range(28)] + [b"x" + whole, bytes(28)]
    spoiled += [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in range(28)]
    for content in spoiled:
        (tmp_path / "mark").write_bytes(content)
        assert read(tmp_path) == (0, False)
        write(tmp_path, 6)
        assert read(tmp_path) == (6, True)


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_what_is_no_regular_file_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    victim, path = tmp_path / "victim", tmp_path / "mark"
    victim.write_text("precious")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert read(tmp_path) == (0, False)
    with pytest.raises(StoreUnusable, match="regular file"):
        Mark(tmp_path).open()
    assert victim.read_text() == "precious"

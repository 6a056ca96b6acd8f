"""The event log: lines of JSON in a few files of bounded size, and a disk that does not do what it should."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import events
from minions.observe.event_log import EVENT_LOG, EventLog, logged_events
from minions.testing import FakeClock

OPENED = events.StateOpened(folder="F", resumed=False, waiting_messages=0, commits_lost=0, strangers=("a.x",))
STOPPED = events.SystemStopped(reason="finished", problems=("p",), survivors=(), left_messages=1, lost_messages=0)
EVIDENCE = events.Evidence("c", 1, "run", "", 1.0, 0.5, None, "", "", "", "  File x\n")


def log_of(folder: Path, **options: Any) -> EventLog:
    return EventLog(folder, FakeClock(wall_s=1_700_000_000.25), logging.getLogger("s"), **options)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def read(folder: Path) -> list[events.Event]:
    return [logged.event for logged in logged_events(folder)]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read_again_as_it_was(tmp_path: Path) -> None:
    told = [
        OPENED,
        events.ComponentStarted("c", 1),
        events.ComponentStalled("c", 1, EVIDENCE, "report"),
        events.ComponentFailed("c", 1, "run", "ValueError: é\udcff\n\u2028", "trace", "", 0, 0.5),
        events.ComponentFailed("c", 1, "run", "e", "trace", "", 0, None),
        events.LimitExceeded("lag", "c.in", float("inf"), 1.0, "s", 2.0, "report", "t"),
        STOPPED,
    ]
    log = log_of(tmp_path)
    for event in told:
        log.write(event)

    assert read(tmp_path) == told
    assert next(logged_events(tmp_path)).time.isoformat() == "2023-11-14T22:13:20.250000+00:00"
    lines = [json.loads(line) for line in (tmp_path / EVENT_LOG).read_text().splitlines()]
    assert lines[1] == {
        "time": "2023-11-14T22:13:20.250000Z",
        "event": "ComponentStarted",
        "component": "c",
        "epoch": 1,
    }
    assert oct((tmp_path / EVENT_LOG).stat().st_mode & 0o777) == "0o600"


def test_nothing_is_written_before_the_folder_is_this_systems_own(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    refused = events.PluginNotLoaded("p", "it is a class", "")
    log.write(refused)
    assert files(tmp_path) == []

    log.write(OPENED)

    assert read(tmp_path) == [refused, OPENED]


def test_a_system_that_keeps_nothing_writes_nothing_and_remembers_little(tmp_path: Path) -> None:
    log = log_of(tmp_path / "none")
    for number in range(1_000):
        log.write(events.ComponentStarted("c", number))
    log.write(STOPPED)

    assert files(tmp_path) == []
    assert len(log._early) == 100
    assert list(logged_events(tmp_path / "none")) == []


def test_files_are_bounded_in_size_and_number_and_the_newest_events_stay(tmp_path: Path) -> None:
    log = log_of(tmp_path, size_bytes=1_000, files=3)
    log.write(OPENED)
    for number in range(200):
        log.write(events.ComponentStarted("c", number))

    assert files(tmp_path) == [EVENT_LOG, f"{EVENT_LOG}.1", f"{EVENT_LOG}.2"]
    assert all(path.stat().st_size <= 1_000 for path in tmp_path.iterdir())
    kept = read(tmp_path)
    assert kept == [events.ComponentStarted("c", number) for number in range(200 - len(kept), 200)]
    assert len(kept) > 15


def test_one_file_is_begun_anew(tmp_path: Path) -> None:
    log = log_of(tmp_path, size_bytes=1_000, files=1)
    log.write(OPENED)
    for number in range(50):
        log.write(events.ComponentStarted("c", number))

    assert files(tmp_path) == [EVENT_LOG]
    assert read(tmp_path)[-1] == events.ComponentStarted("c", 49)


def test_a_later_run_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for _ in range(2):
        log = log_of(tmp_path)
        log.write(OPENED)
        log.write(STOPPED)
    assert read(tmp_path) == [OPENED, STOPPED] * 2


def test_what_comes_after_the_end_is_written_and_no_file_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()
    late = events.PluginSetAside("p", "system_stopped", 1.0, "  File x\n")
    log = log_of(tmp_path)
    log.write(OPENED)
    assert open_descriptors() == before + 1
    log.write(STOPPED)
    log.write(late)
    assert read(tmp_path) == [OPENED, STOPPED, late]
    assert open_descriptors() == before


@pytest.mark.parametrize("what", ["moved", "deleted"])
def test_a_file_that_is_gone_is_begun_anew(tmp_path: Path, what: str) -> None:
    log = log_of(tmp_path)
    log.write(OPENED)
    if what == "moved":
        (tmp_path / EVENT_LOG).rename(tmp_path / "elsewhere")
    else:
        (tmp_path / EVENT_LOG).unlink()
    log.write(STOPPED)
    assert read(tmp_path) == [STOPPED]


def test_long_texts_and_lists_lose_their_middle_so_that_a_line_fits(tmp_path: Path) -> None:
    log = log_of(tmp_path, size_bytes=100_000)
    log.write(OPENED)
    failed = events.ComponentFailed("c", 1, "run", "begin" + "x" * 10_000_000 + "end", "", "", 0, None)
    log.write(failed)
    log.write(attrs.evolve(STOPPED, problems=tuple("\U0001f600" * 30_000 for _ in range(5_000))))

    [_, one, stopped] = read(tmp_path)
    assert isinstance(one, events.ComponentFailed)
    assert one.error.startswith("beginxxx")
    assert one.error.endswith("xxxend")
    assert len(one.error) < 21_000
    assert isinstance(stopped, events.SystemStopped)
    assert stopped.problems
    assert all(path.stat().st_size <= 100_000 for path in tmp_path.iterdir())


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.write(OPENED)
    with (tmp_path / EVENT_LOG).open("ab") as file:
        file.write(b'{"half\n\n[]\n\xff\n{"time": "2023-11-14T22:13:20Z", "event": "OfLaterVersions"}\n')
    log.write(STOPPED)
    assert read(tmp_path) == [OPENED, STOPPED]


def test_a_disk_that_cannot_be_written_is_told_once_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    log = log_of(folder)
    log.write(OPENED)
    log.write(events.SystemStarted(1))
    folder.mkdir()
    log.write(events.SystemStarted(2))

    assert log.lost == 2
    assert read(folder) == [events.SystemStarted(2)]
    [begins, ends] = caplog.messages
    assert begins.startswith("the event log cannot be written ([Errno 2]")
    assert ends == "the event log is written again; 2 events are missing in it"


def test_half_a_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.write(OPENED)

    class Full(io.FileIO):
        room = 10

        def write(self, line: Any) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "no space")
            written = super().write(line[: self.room])
            Full.room = 0
            return written

    full = Full(tmp_path / EVENT_LOG, "ab")
    assert log._file is not None
    log._file.close()
    log._file = full
    log.write(events.SystemStarted(1))
    log.write(events.SystemStarted(2))
    Full.room = 1_000
    log.write(events.SystemStarted(3))

    assert log.lost == 2
    assert read(tmp_path) == [OPENED, events.SystemStarted(3)]


@pytest.mark.parametrize("planted", ["link", "fifo", "folder"])
def test_what_is_planted_in_its_place_is_not_written(tmp_path: Path, planted: str) -> None:
    folder, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_text("mine")
    if planted == "link":
        (folder / EVENT_LOG).symlink_to(elsewhere)
    elif planted == "fifo":
        os.mkfifo(folder / EVENT_LOG)
    else:
        (folder / EVENT_LOG).mkdir()
    log = log_of(folder)
    log.write(OPENED)
    assert log.lost == 1
    assert elsewhere.read_text() == "mine"

"""The recorder by itself: its thread, the order of its files, and what it is handed that is odd."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest

from minions import Component, Crash, Crashes, State, System
from minions.flow.calls import Call, CallQueue
from minions.life.capture import Capture
from minions.life.crash import crashes_in
from minions.life.recorder import Recorder
from minions.life.trails import Trail
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S


class Failing(Component):
    def take(self, what: object) -> None: ...


def capture(error: str, argument: object = None) -> Capture:
    return Capture(
        component="failing",
        of=Failing,
        epoch=1,
        kind="call",
        where="take",
        error=error,
        message_id="",
        at=0.0,
        monotonic_s=0.0,
        partition=None,
        states={},
        received=[],
        called=Call(CallQueue("failing"), "take", (argument,), {}, "test"),
    )


def recorder_of(folder: Path, clock: FakeClock, **settings: Any) -> Recorder:
    return Recorder("test", folder, Crashes(**settings), clock, logging.getLogger("minions.test"))


def errors_in(folder: Path) -> list[str]:
    """What is recorded, the last by its name first."""
    return [crash.error for _, crash in crashes_in(folder) if isinstance(crash, Crash)]


def record(folder: Path, error: str, wall_s: float) -> Recorder:
    recorder = recorder_of(folder, FakeClock(wall_s=wall_s), keep=2)
    recorder.take(capture(error))
    assert recorder.close(PATIENCE_S)
    return recorder


def test_the_newest_crash_is_kept_also_where_the_clock_was_set_back(tmp_path: Path) -> None:
    for error, wall_s in (("one", 10_000.0), ("two", 10_001.0), ("three", 6_000.0)):
        record(tmp_path, error, wall_s)
    assert errors_in(tmp_path) == ["two", "three"]


def test_what_cannot_be_deleted_keeps_nothing_else_from_being_deleted(tmp_path: Path) -> None:
    (tmp_path / "crashes" / "19700101T00-somebody.json").mkdir(parents=True)
    recorders = [record(tmp_path, f"number {number}", 10_000.0 + number) for number in range(5)]
    assert errors_in(tmp_path) == ["number 4", "number 3"]
    assert sum(recorder.lost for recorder in recorders) == 0


class Rude:
    """Ends whatever thread looks at it."""

    def __repr__(self) -> str:
        raise SystemExit


def test_a_value_that_raises_whatever_it_likes_does_not_end_the_recorder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = recorder_of(tmp_path, FakeClock())
    recorder.take(capture("one", Rude()))
    recorder.take(capture("two"))
    assert recorder.close(PATIENCE_S)
    assert errors_in(tmp_path) == ["two"]
    assert recorder.lost == 1
    assert "a crash cannot be recorded (SystemExit)" in caplog.text


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("no log today")


def test_a_handler_of_logs_that_raises_does_not_end_the_recorder(tmp_path: Path) -> None:
    log, handler = logging.getLogger("minions.test"), Broken()
    log.addHandler(handler)
    try:
        recorder = recorder_of(tmp_path, FakeClock())
        recorder.take(capture("one", Rude()))
        recorder.take(capture("two"))
        assert recorder.close(PATIENCE_S)
    finally:
        log.removeHandler(handler)
    assert errors_in(tmp_path) == ["two"]
    assert recorder.lost == 1


def test_a_recorder_that_is_closed_while_its_thread_begins_waits_for_that(
    tmp_path: Path, threads: Callable[[Callable[[], Any]], Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, closing = recorder_of(tmp_path, FakeClock()), list[Future[Any]]()

    class Thread(threading.Thread):
        def start(self) -> None:
            if self.name == "test/crashes":
                closing.append(threads(lambda: recorder.close(PATIENCE_S)))
                wait(closing, 0.1)  # it has come as far as it can
            super().start()

    monkeypatch.setattr("minions.life.recorder.threading.Thread", Thread)
    recorder.take(capture("one"))
    assert closing[0].result(PATIENCE_S) is True
    assert errors_in(tmp_path) == ["one"]


def test_a_crash_for_which_there_is_no_thread_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Thread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    recorder = recorder_of(tmp_path, FakeClock())
    with monkeypatch.context() as machine:
        machine.setattr("minions.life.recorder.threading.Thread", Thread)
        recorder.take(capture("one"))
    assert recorder.lost == 1
    recorder.take(capture("two"))
    recorder.close(PATIENCE_S)
    assert errors_in(tmp_path) == ["two"]
    assert recorder.lost == 1


class Unsized:
    """Cannot say how large it is."""

    def __sizeof__(self) -> int:
        raise ValueError("closed")


def test_an_answer_that_cannot_say_how_large_it_is_is_noted_like_any_other() -> None:
    trail, call, answer = Trail(), Call(CallQueue("failing"), "take", (), {}, "test"), Unsized()
    trail.note(1, None, call, "returned", answer)
    assert trail.of(1, None) == [(call, "returned", answer)]


def test_how_large_an_answer_is_is_not_asked_of_code_of_users() -> None:
    asked = []

    class Slow:
        def __sizeof__(self) -> int:
            asked.append(self)
            return 1 << 30

    Trail().note(1, None, Call(CallQueue("failing"), "take", (), {}, "test"), "returned", Slow())
    assert asked == []


class Hanging(logging.Handler):
    """A handler of logs that does not come back before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.gate.wait(PATIENCE_S)
        self.said.append(record.getMessage())


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    handler, log = Hanging(), logging.getLogger("minions.test")
    log.addHandler(handler)
    yield handler
    handler.gate.set()
    log.removeHandler(handler)


def test_a_handler_of_logs_that_hangs_does_not_keep_it_from_ending(tmp_path: Path, hanging: Hanging) -> None:
    recorder = recorder_of(tmp_path, FakeClock())
    recorder.missed("too many at once")
    closed: list[bool] = []
    closing = threading.Thread(target=lambda: closed.append(recorder.close(0.05)))
    closing.start()
    closing.join(PATIENCE_S / 4)
    assert closed == [False]
    hanging.gate.set()
    closing.join(PATIENCE_S)


def test_what_is_not_written_before_the_end_is_counted_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate, reached = threading.Event(), threading.Event()

    def write(recorder: Recorder, component: str, where: str, stored: bytes) -> Path:
        reached.set()
        gate.wait(PATIENCE_S)
        return tmp_path

    monkeypatch.setattr(Recorder, "_write", write)
    recorder = recorder_of(tmp_path, FakeClock())
    for number in range(3):
        recorder.take(capture(f"{number}"))
    assert reached.wait(PATIENCE_S)
    assert not recorder.close(0.05)
    assert recorder.lost == 3
    assert (
        "3 crashes were not recorded (the disk, or a handler of logs, has not taken them before the end)" in caplog.text
    )
    gate.set()
    thread = recorder._thread
    assert thread is not None
    thread.join(PATIENCE_S)


def test_a_system_that_stops_leaves_the_recorder_half_of_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float] = []
    close = Recorder.close

    def note(recorder: Recorder, timeout_s: float) -> bool:
        timeouts.append(timeout_s)
        return close(recorder, timeout_s)

    monkeypatch.setattr(Recorder, "close", note)

    class Counting(Component):
        count = State(int)

        def run(self) -> None:
            while self.running:
                self.sleep(1_000.0)

    system = System("test", folder=tmp_path / "state", stop_timeout_s=60.0, control=False)
    system.add(Counting())
    with system.started():
        pass
    [timeout_s] = timeouts
    assert 20.0 < timeout_s <= 30.0

"""What is recorded of a unit that fails: within which bounds, and what becomes of it in trouble."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import (
    Component,
    ConfigurationError,
    Crash,
    Crashes,
    CrashRefused,
    Inbox,
    State,
    System,
    UsageError,
    Uses,
    events,
)
from minions.cli.project import load_app
from minions.life.crash import crashes_in
from tests.life.conftest import Gate, Number, Start
from tests.life.crashing import ALWAYS, ONCE, Bug, Numbers, run_to_the_end


@pytest.fixture
def bug() -> Bug:
    return Bug()


class Failing(Component):
    """Fails at each message, in every way that a test wants."""

    numbers = Inbox(Number, retry=ONCE)
    kept = State(list[str])

    @numbers.handler
    def take(self, number: Number) -> None:
        if not self.kept:
            self.kept = ["x" * 30_000]
            return
        raise ValueError(f"number {number.value}")


@pytest.fixture
def failing(system: System) -> System:
    source, component = system.add(Numbers(last=6)), system.add(Failing(), restart=ALWAYS)
    system.connect(source.out, component.numbers)
    return system


def slow_to_record(system: System, failures: int) -> Gate:
    """Adds a component that fails so many times, each time with an argument whose text is held at the gate."""
    gate = Gate()

    class Slow:
        def __repr__(self) -> str:
            gate.pass_through()
            return "slow"

    class Database(Component):
        kept = State(int)

        def take(self, what: object) -> None: ...

    class Client(Component):
        numbers = Inbox(Number, retry=ONCE)
        database = Uses(Database)

        @numbers.handler
        def take(self, number: Number) -> None:
            self.database.take(Slow())
            raise ValueError("the bug")

    source, client = system.add(Numbers(last=failures)), system.add(Client(), restart=ALWAYS)
    system.add(Database())
    system.connect(source.out, client.numbers)
    return gate


class TestBounds:
    def test_the_newest_are_kept(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(keep=2))

        assert [crash.error for crash in failing.crashes()] == ["ValueError: number 6", "ValueError: number 5"]

    def test_what_is_too_large_is_left_out_and_told(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(size_bytes=10_000))

        crash = failing.crashes()[0]
        assert crash.left_out == ("states",)
        assert all(path.stat().st_size <= 10_000 for path, _ in crashes_in(failing.folder))
        with pytest.raises(CrashRefused, match=r"states of failing were too large.*raise size_bytes"):
            failing.replay(crash)

    def test_none_is_recorded_when_it_is_switched_off(self, failing: System, start: Start) -> None:
        run_to_the_end(failing, start, crashes=Crashes(enabled=False))

        assert not (failing.folder / "crashes").exists()

    @pytest.mark.parametrize(
        ("values", "problems"),
        [
            ({"enabled": 1}, ["enabled = 1: must be true or false"]),
            (
                {"keep": 0},
                ["keep = 0: must be a whole number from 1 to 10,000 (files; to record none, enabled = false)"],
            ),
            (
                {"keep": 2.5, "size_bytes": "1 MB"},
                [
                    "keep = 2.5: must be a whole number from 1 to 10,000 (files; to record none, enabled = false)",
                    'size_bytes = "1 MB": must be a whole number from 10,000 to 100,000,000 (bytes of one file)',
                ],
            ),
        ],
    )
    def test_settings_that_cannot_be_are_refused(self, values: dict[str, Any], problems: list[str]) -> None:
        with pytest.raises(ConfigurationError) as raised:
            Crashes(**values)
        assert list(raised.value.problems) == problems

    @pytest.mark.parametrize("values", [{"keep": 1, "size_bytes": 10_000}, {"keep": 10_000, "size_bytes": 100_000_000}])
    def test_settings_may_be_at_their_bounds(self, values: dict[str, Any]) -> None:
        assert attrs.asdict(Crashes(**values)) == {"enabled": True, **values}

    def test_what_is_no_setting_at_all_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="crashes=False must be a Crashes, such as"):
            System("test", folder=tmp_path, crashes=False)  # type: ignore[arg-type]


class TestTrouble:
    """Recording makes nothing worse."""

    def test_a_folder_that_cannot_be_written_is_told_once_and_counted(
        self, failing: System, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        failing.folder.mkdir(parents=True)
        (failing.folder / "crashes").write_text("in the way")
        with caplog.at_level(logging.WARNING, "minions.test"):
            run = start(failing).up()
            run.wait_until_quiet()
            run.stop()

        assert len(run.all(events.MessageSetAside)) == 5
        told = [record.getMessage() for record in caplog.records if "recorded" in record.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("failing: a crash cannot be recorded (")
        assert run.runtime._persistence.recorder is not None
        assert run.runtime._persistence.recorder.lost == 5

    def test_a_disk_that_was_full_for_a_while_is_told_when_it_begins_and_when_it_is_over(
        self, failing: System, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Full:
            left = 2

            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            def fsync(self, descriptor: int) -> None:
                if self.left:
                    self.left -= 1
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("minions.life.recorder.os", Full())
        with caplog.at_level(logging.WARNING, "minions.test"):
            run_to_the_end(failing, start)

        told = [record.getMessage() for record in caplog.records if "recorded" in record.getMessage()]
        assert [crash.error for crash in failing.crashes()] == [f"ValueError: number {number}" for number in (6, 5, 4)]
        assert len(list((failing.folder / "crashes").iterdir())) == 3
        assert told == [
            "failing: a crash cannot be recorded ([Errno 28] No space left on device); the system goes on without that",
            "crashes are recorded again; 2 are missing",
        ]

    def test_the_next_life_does_not_wait_for_the_recorder(self, system: System, start: Start) -> None:
        gate = slow_to_record(system, 3)
        run = start(system).up()
        gate.wait_reached()

        run.wait_for(events.MessageSetAside, 3)
        run.wait_until_quiet()
        assert system.crashes() == []
        gate.open()
        run.stop()
        assert len(system.crashes()) == 3

    def test_what_does_not_fit_in_the_queue_is_counted(
        self, system: System, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate = slow_to_record(system, 12)
        with caplog.at_level(logging.WARNING, "minions.test"):
            run = start(system).up()
            gate.wait_reached()
            run.wait_for(events.MessageSetAside, 12)
            run.wait_until_quiet()
            gate.open()
            run.stop()

        assert len(system.crashes()) == 9  # one in work, and eight that wait
        assert "3 crashes were not recorded (too many at once)" in caplog.text

    def test_the_instance_is_freed_before_the_next_life_begins(self, system: System, start: Start) -> None:
        lives: list[weakref.ref[Component]] = []
        alive: list[int] = []

        class Fragile(Component):
            kept = State(int)
            numbers = Inbox(Number, retry=ONCE)

            def on_start(self) -> None:
                alive.append(sum(life() is not None for life in lives))
                lives.append(weakref.ref(self))

            @numbers.handler
            def take(self, number: Number) -> None:
                raise ValueError("the bug")

        source, fragile = system.add(Numbers()), system.add(Fragile(), restart=ALWAYS)
        system.connect(source.out, fragile.numbers)
        run_to_the_end(system, start)

        assert alive == [0, 0, 0, 0]

    def test_an_error_of_the_recorder_itself_leaves_the_failure_as_it_is(
        self, failing: System, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("not even that")

        monkeypatch.setattr("minions.life.life.frames_of", broken)
        run = start(failing).up()
        run.wait_until_quiet()
        run.stop()

        assert [event.error for event in run.all(events.MessageSetAside)][-1] == "ValueError: number 6"
        assert "crashes were not recorded (failing: RuntimeError: not even that)" in caplog.text


KILLED = """
    import os, signal, sys
    from minions import Component, Inbox, Outbox, Retry, State, System

    class Source(Component):
        out = Outbox(int)
        sent = State(int)
        def run(self):
            while self.sent < (2 if len(sys.argv) > 1 else 4):
                with self.unit():
                    self.sent += 1
                    self.out.send(self.sent)

    class Failing(Component):
        numbers = Inbox(int, retry=Retry(attempts=1))
        @numbers.handler
        def take(self, number):
            raise ValueError(number)

    system = System("killed")
    source, failing = system.add(Source()), system.add(Failing())
    system.connect(source.out, failing.numbers)
    if len(sys.argv) > 1:
        import minions.life.recorder as recorder

        class Killing:
            calls = 0
            def __getattr__(self, name):
                return getattr(os, name)
            def fsync(self, descriptor):
                self.calls += 1
                if self.calls == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        recorder.os = Killing()
    if __name__ == "__main__":
        system.run()
"""


def test_a_process_that_is_killed_while_it_writes_leaves_no_half_crash(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(KILLED))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    folder = tmp_path / ".minions"

    def run(*arguments: str) -> int:
        command = [sys.executable, "app.py", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False).returncode

    assert run("kill") == -signal.SIGKILL
    left = [path.name for path in (folder / "crashes").iterdir() if path.name.startswith(".")]
    found = [crash for _, crash in crashes_in(folder)]
    assert len(left) == 1
    assert [crash.error for crash in found if isinstance(crash, Crash)] == ["ValueError: 1"]

    (folder / "crashes" / "20200101T000000.000000Z-half.json").write_text('{"type": "Crash", "vers')
    assert run() == 0
    *whole, half = [crash for _, crash in crashes_in(folder)]
    assert all(isinstance(crash, Crash) for crash in whole)
    assert isinstance(half, CrashRefused)
    assert [path for path in (folder / "crashes").iterdir() if path.name.startswith(".")] == []


DEADLY = """
    import os, signal, sys
    from minions import Component, Inbox, Outbox, Retry, State, System

    class Source(Component):
        out = Outbox(int)
        sent = State(int)
        def run(self):
            while self.sent < 3:
                with self.unit():
                    self.sent += 1
                    self.out.send(self.sent)

    class Frail(Component):
        numbers = Inbox(int, retry=Retry(deaths=1))
        total = State(int)
        @numbers.handler
        def take(self, number):
            self.total += number
            if "late" in sys.argv:
                self.now()
            if number == 2 and "kill" in sys.argv:
                os.kill(os.getpid(), signal.SIGKILL)

    system = System("deadly")
    source, frail = system.add(Source()), system.add(Frail())
    system.connect(source.out, frail.numbers)
    if __name__ == "__main__":
        system.run()
"""


def test_a_message_that_processes_have_died_of_is_recorded_with_the_state_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text(textwrap.dedent(DEADLY))
    command = [sys.executable, "app.py", "kill"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    codes: list[int] = []
    while not codes or (codes[-1] != 0 and len(codes) < 5):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        codes.append(done.returncode)

    system = load_app(str(tmp_path / "app.py"))
    [crash] = system.crashes()
    replay = system.replay(crash)

    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert codes[-1] == 0
    assert (crash.where, crash.messages[0].stored, crash.set_aside) == ("take", "2", True)
    assert crash.states.keys() == {"total"}  # as it was at the start: 0 or 1, as far as it had come to the disk
    assert "while this message was in work" in crash.error
    assert (replay.failed, replay.stopped) == (False, "")

    monkeypatch.setattr(sys, "argv", [*sys.argv, "late"])
    replay = system.replay(crash)
    assert crash.reads.first == ()
    assert "it reads self.now(), and what it had read of the clock was not recorded: its process died" in replay.stopped

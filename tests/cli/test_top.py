"""``minions top`` on a real terminal: it starts, draws, follows the terminal's size, ends, and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 60.0
MINIONS = (sys.executable, "-m", "minions.cli")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TERM": "xterm-256color"}
ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"

APP = """
from minions import Component, Inbox, Outbox, System, Watchdog

class Source(Component):
    out = Outbox(int)
    def run(self):
        number = 0
        while self.running:
            self.out.send(number)
            number += 1
            self.sleep(0.002)

class Sink(Component):
    numbers = Inbox(int)
    @numbers.handler
    def take(self, number):
        pass

system = System("watched", watchdog=Watchdog(tick_s=0.1))
source, sink = system.add(Source()), system.add(Sink())
system.connect(source.out, sink.numbers)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder in which a system runs."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    child = subprocess.Popen(
        [*MINIONS, "run", "app.py", "--forever"], cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    with child.stderr:
        for line in child.stderr:
            if "started" in line:
                break
        yield tmp_path
        child.terminate()
        assert child.wait(PATIENCE_S) == 0


class Terminal:
    """A terminal of so many lines, and a command that runs on it."""

    def __init__(self, folder: Path, *arguments: str, lines: int = 30, columns: int = 120) -> None:
        self._master, self._slave = os.openpty()
        self.resize(lines, columns)
        self.before = termios.tcgetattr(self._slave)
        self.seen = b""
        self.child = subprocess.Popen(
            [*MINIONS, "top", *arguments],
            cwd=folder,
            env=ENVIRONMENT,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY),  # noqa: PLW1509 - so that keys make signals
        )

    def resize(self, lines: int, columns: int) -> None:
        termios.tcsetwinsize(self._slave, (lines, columns))

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def wait_for(self, *wanted: bytes) -> bytes:
        """Blocks until all that was drawn since the last time, which is returned."""
        until_s, seen = time.monotonic() + PATIENCE_S, b""
        while not all(each in seen for each in wanted):
            ready, _, _ = select.select([self._master], [], [], max(0.0, until_s - time.monotonic()))
            assert ready, (wanted, seen)
            seen += os.read(self._master, 65_536)
        self.seen += seen
        return seen

    def ended(self) -> int:
        """Blocks until the command has ended, and returns its exit code; the terminal has to be as it was."""
        self.wait_for(SHOW_CURSOR)
        code = self.child.wait(PATIENCE_S)
        while select.select([self._master], [], [], 0)[0]:
            self.seen += os.read(self._master, 65_536)
        after = termios.tcgetattr(self._slave)
        os.close(self._master)
        os.close(self._slave)
        assert after == self.before
        assert self.seen.count(ENTER) == self.seen.count(LEAVE) == 1
        assert self.seen.rindex(LEAVE) < len(self.seen)
        assert b"Traceback" not in self.seen
        return code


def test_it_draws_again_and_again_until_q_is_pressed(project: Path) -> None:
    terminal = Terminal(project, "--every", "0.2")
    first = terminal.wait_for(b"watched: running", b"sink.numbers", "█".encode())
    assert ENTER in first
    terminal.wait_for(b"watched: running")
    terminal.press(b"xyq")
    assert terminal.ended() == 0


@pytest.mark.parametrize(
    ("how", "code"), [("Ctrl-C", 128 + signal.SIGINT), ("SIGTERM", 128 + signal.SIGTERM), ("Q", 0)]
)
def test_whatever_ends_it_the_terminal_is_as_it_was(project: Path, how: str, code: int) -> None:
    terminal = Terminal(project, "--every", "30")
    terminal.wait_for(b"sink.numbers")
    match how:
        case "Ctrl-C":
            terminal.press(b"\x03")
        case "SIGTERM":
            terminal.child.send_signal(signal.SIGTERM)
        case _:
            terminal.press(b"Q")
    assert terminal.ended() == code


def test_another_size_of_the_terminal_is_drawn_at_once(project: Path) -> None:
    terminal = Terminal(project, "--every", "600", lines=30, columns=120)
    wide = terminal.wait_for(b"watched: running", b"sink.numbers", b"blocked")
    assert b"process" in wide
    terminal.resize(12, 50)
    narrow = terminal.wait_for(b"watched: running")
    assert len(narrow) < len(wide)
    terminal.press(b"q")
    assert terminal.ended() == 0


def test_it_ends_in_order_when_the_system_does(project: Path) -> None:
    terminal = Terminal(project, "--every", "0.2")
    terminal.wait_for(b"sink.numbers")
    subprocess.run([*MINIONS, "stop"], cwd=project, env=ENVIRONMENT, check=True, capture_output=True)
    assert terminal.ended() in (1, 3)
    assert b"minions: " in terminal.seen


def test_where_nobody_looks_it_shows_the_system_once_with_what_the_watchdog_has_noted(project: Path) -> None:
    def shown(*arguments: str) -> str:
        done = subprocess.run(
            [*MINIONS, *arguments],
            cwd=project,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
        )
        return done.stdout

    assert shown("top").count("watched: running") == 1
    [line] = shown("top", "--json").splitlines()
    found = json.loads(line)
    assert set(found["history"]["inboxes"]["sink.numbers"]) == {"in_per_s", "out_per_s", "length"}
    assert found["inboxes"]["sink.numbers"]["handling"]["count"] > 0
    assert len(shown("top", "--json", "--times", "2", "--every", "0.1").splitlines()) == 2
    assert "takes p95" in shown("status")
    done = subprocess.run(
        [*MINIONS, "top", "--times", "-1"], cwd=project, env=ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == 2

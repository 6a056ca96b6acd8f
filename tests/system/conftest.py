"""Helpers for tests of whole systems: scripts in child processes, and what is left of threads."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ending import no_thread_is_left

PATIENCE_S = 30.0
"""Only a test that fails waits so long."""

PRELUDE = """
import logging, os, signal, sys, threading
import attrs
from minions import *

def say(line):
    os.write(1, (line + "\\n").encode())

def block():
    os.read(BLOCKED, 1)  # nothing is ever written: deaf to everything

BLOCKED, _KEEP = os.pipe()

@attrs.frozen
class Number:
    value: int

class Numbers(Component):
    count: int
    out = Outbox(Number)
    sent = State(int)

    def run(self):
        while self.running and self.sent < self.count:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1

class Kept(Component):
    numbers = Inbox(Number)
    values = State(list[int])

    @numbers.handler
    def keep(self, number):
        self.values.append(number.value)

system = System("test")
"""


class Child:
    """A script in a process of its own; its standard output is read line by line."""

    def __init__(self, script: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", str(script)],
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, line: str) -> None:
        """Blocks until the script has said this."""
        assert self.process.stdout is not None
        said: list[str] = []
        for read in self.process.stdout:
            if read.rstrip("\n") == line:
                return
            said.append(read)
        raise AssertionError(f"it never said {line!r}: {said} {self.end().stderr}")

    def wait_for_error(self, text: str) -> None:
        """Blocks until there was a line with this on its standard error."""
        assert self.process.stderr is not None
        said: list[str] = []
        for read in self.process.stderr:
            if text in read:
                return
            said.append(read)
        raise AssertionError(f"it never complained of {text!r}: {said} {self.end()}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Blocks until the process has ended by itself."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, output, errors)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


Launch = Callable[[str], Child]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts scripts, all in one folder; what they begin with is the prelude above."""
    children: list[Child] = []

    def begin(code: str) -> Child:
        script = tmp_path / "script.py"
        script.write_text(PRELUDE + textwrap.dedent(code), encoding="utf-8")
        child = Child(script)
        children.append(child)
        return child

    yield begin
    for child in children:
        child.close()


class SmallDisk:
    """A file system in memory that is full soon.

    Attributes:
        path: where it is mounted; everybody may write there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, leaving_bytes: int = 0) -> None:
        """Leaves so much room, or (nearly) none."""
        figures = os.statvfs(self.path)
        try:
            (self.path / "filler").write_bytes(bytes(max(0, figures.f_bavail * figures.f_frsize - leaving_bytes)))
        except OSError as error:
            if error.errno != errno.ENOSPC:  # somebody else has written meanwhile: as much as there was is filled
                raise

    def make_room(self, size: str = "32m") -> None:
        """Removes what `fill` has put there, and makes it larger."""
        (self.path / "filler").unlink(missing_ok=True)
        self.remount(f"size={size}")

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    with tempfile.TemporaryDirectory(prefix="minions-small-disk-") as point:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", point], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("no permission to mount a small file system")
        try:
            yield SmallDisk(Path(point))
        finally:
            # lazily: a script that a failed test has left may be in there
            subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left(PATIENCE_S):
        yield

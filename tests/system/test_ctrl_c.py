"""Ctrl-C while `started()` begins: nothing is left of what had begun, and the system can be started again."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from minions import Component, State, System
from minions.operate import place
from tests.ending import no_thread_is_left

PATIENCE_S = 20.0


class Keeping(Component):
    lives = State(int)

    def run(self) -> None:
        self.lives += 1
        while self.running:
            self.sleep(1_000.0)


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    descriptors = len([*Path("/proc/self/fd").iterdir()])
    with no_thread_is_left(PATIENCE_S):
        yield
    assert len([*Path("/proc/self/fd").iterdir()]) == descriptors


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    with tempfile.TemporaryDirectory(prefix="m") as folder:  # a short path, and nobody else's sockets
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        system = System("test", folder=tmp_path / "state")
        system.add(Keeping())
        yield system


def begin(system: System) -> None:
    with pytest.raises(KeyboardInterrupt), system.started():
        raise AssertionError("it was started")


@pytest.mark.parametrize(
    "name",
    ["test/observer", "minions-writer", "test/answers", "test/control", "test/watchdog", "test/supervisor"],
)
def test_while_a_thread_of_its_own_begins(system: System, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    begun = []
    start = threading.Thread.start

    def start_and_press(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == name:
            begun.append(thread)
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", start_and_press)
    begin(system)
    monkeypatch.undo()
    [thread] = begun
    thread.join(PATIENCE_S)
    with system.started():
        """The folder is free."""


def test_while_it_tidies_up_after_systems_that_were_killed(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    homes: list[Path] = []

    def press(parent: Path, *_: Path) -> None:
        homes.extend(parent.glob("s-*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(place, "_sweep", press)
    begin(system)
    monkeypatch.undo()
    assert homes
    assert not any(home.exists() for home in homes)
    with system.started():
        """The folder is free."""

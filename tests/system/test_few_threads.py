"""A machine that gives no further thread while a system starts: it is said, and everything is left as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minions import System, events
from minions.hookspecs import RunningSystem, hookimpl
from tests.life.counting import Kept, Numbers
from tests.system.conftest import PATIENCE_S

NAMES = ["test/observer", "minions-writer", "test/supervisor", "test/watchdog"]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of threads that are not to be had."""
    names: list[str] = []
    begin = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return names


def built(folder: Path) -> tuple[System, Any]:
    system = System("test", folder=folder)
    numbers, kept = system.add(Numbers(count=1)), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    return system, kept


def raised_by(start: Callable[[], object]) -> BaseException:
    """On a thread of its own, because what hangs would hang the tests too."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            start()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    thread = threading.Thread(target=work, name="caller", daemon=True)
    thread.start()
    thread.join(PATIENCE_S / 10)
    assert not thread.is_alive(), "it hangs"
    [error] = raised
    return error


@pytest.mark.parametrize("name", NAMES)
def test_an_embedded_system_says_so_and_can_be_started_later(tmp_path: Path, refused: list[str], name: str) -> None:
    system, kept = built(tmp_path / "state")

    def start() -> None:
        with system.started():
            raise AssertionError("it is up")

    refused.append(name)
    assert "can't start new thread" in str(raised_by(start))
    refused.clear()
    with system.started():
        assert system.wait(PATIENCE_S)
    assert kept.values == [0]


@pytest.mark.parametrize("name", [*NAMES, "test/opening"])
def test_a_system_in_the_foreground_says_so_and_can_be_run_later(tmp_path: Path, refused: list[str], name: str) -> None:
    system, kept = built(tmp_path / "state")
    refused.append(name)
    assert "can't start new thread" in str(raised_by(system.run))
    refused.clear()
    assert system.run() == "finished"
    assert kept.values == [0]


class Serving:
    """A plugin that has something open from `attached` to `system_stopped`."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @hookimpl
    def attached(self, system: RunningSystem) -> None:
        self.told.append(f"{system.name} begins")

    @hookimpl
    def system_stopped(self, event: events.SystemStopped) -> None:
        self.told.append(f"{event.reason}: {'; '.join(event.problems)}")


@pytest.mark.parametrize("name", ["test/supervisor", "test/watchdog"])
def test_a_plugin_that_was_told_of_a_start_is_told_that_it_has_failed(
    tmp_path: Path, refused: list[str], name: str
) -> None:
    system, _ = built(tmp_path / "state")
    plugin = Serving()
    system.plugins.register(plugin)
    refused.append(name)
    assert "can't start new thread" in str(raised_by(system.run))
    assert plugin.told == ["test begins", "failed: RuntimeError: can't start new thread"]
    refused.clear()
    assert system.run() == "finished"
    assert plugin.told[2:] == ["test begins", "finished: "]

"""`System` as its user meets it: run, started, wait, stop, states on the blueprint, two systems, one folder."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minions import (
    Backoff,
    Component,
    Restart,
    State,
    StoreLocked,
    StoreUnusable,
    System,
    SystemFailed,
    TopologyError,
    UsageError,
)
from tests.life.counting import Kept, Numbers
from tests.system.conftest import PATIENCE_S


class Waiting(Component):
    """A source that does nothing until it is stopped."""

    def run(self) -> None:
        while self.running:
            self.sleep(1e6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


def pipeline(folder: Path, count: int = 10, name: str = "test") -> tuple[System, Kept]:
    system = System(name, folder=folder)
    numbers, kept = system.add(Numbers(count=count)), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    return system, kept


def in_thread(function: Callable[[], object]) -> Callable[[], object]:
    """Calls a function on another thread; what is returned waits for its result, or raises what it raised."""
    results: list[object] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again where it is looked at
            results.append(error)

    thread = threading.Thread(target=call)
    thread.start()

    def result() -> object:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    return result


# run ------------------------------------------------------------------------------------------------------------------


def test_run_returns_when_nothing_can_happen_any_more(folder: Path) -> None:
    system, kept = pipeline(folder)
    assert system.run() == "finished"
    assert kept.values == list(range(10))


def test_a_system_can_be_run_again_and_goes_on_where_it_was(folder: Path) -> None:
    system, kept = pipeline(folder)
    for _ in range(3):
        assert system.run() == "finished"
    assert kept.values == list(range(10))

    system, kept = pipeline(folder, count=15)
    system.run()
    assert kept.values == list(range(15))


def test_run_in_another_thread_ends_when_it_is_stopped(folder: Path) -> None:
    system = System("test", folder=folder)
    up = threading.Event()

    class Up(Waiting):
        def on_start(self) -> None:
            up.set()

    system.add(Up())
    result = in_thread(system.run)
    assert up.wait(PATIENCE_S)
    system.stop()
    system.stop()
    assert result() == "stopped"
    system.stop()  # without effect when it does not run


def test_run_forever_stays_when_nothing_can_happen_any_more(folder: Path) -> None:
    system, kept = pipeline(folder)
    quiet: list[bool] = []

    class Observer(Component):
        """Watches from outside, on a thread that is none of the system's."""

        def on_start(self) -> None:
            watch.start()

        def run(self) -> None: ...

    def look() -> None:
        quiet.append(system.wait(PATIENCE_S))
        quiet.append(system.wait(0.0))
        system.stop()

    watch = threading.Thread(target=look)
    system.add(Observer())
    assert system.run(forever=True) == "stopped"
    watch.join(PATIENCE_S)
    assert quiet == [True, True]
    assert kept.values == list(range(10))


def test_run_ends_the_process_with_1_when_a_component_fails_too_often(folder: Path) -> None:
    system, kept = pipeline(folder)

    class Failing(Component):
        runs = State(int)

        def run(self) -> None:
            self.runs += 1
            self.commit()
            raise ValueError("bad")

    failing = system.add(Failing(), restart=Restart(failures=2, backoff=Backoff(initial_s=0.0)))
    with pytest.raises(SystemExit) as caught:
        system.run()
    assert caught.value.code == "test failed: failing failed in run: ValueError: bad"
    assert failing.runs == 3
    assert kept.values == list(range(len(kept.values)))


# started --------------------------------------------------------------------------------------------------------------


def test_inside_of_started_everything_is_up_and_after_it_everything_has_stopped(folder: Path) -> None:
    calls: list[str] = []

    class Slow(Waiting):
        def on_start(self) -> None:
            self.sleep(0.01)
            calls.append("up")

        def on_stop(self) -> None:
            calls.append("stopped")

    system = System("test", folder=folder)
    system.add(Slow())
    with system.started() as same:
        assert same is system
        assert calls == ["up"]
    assert calls == ["up", "stopped"]


def test_started_waits_also_for_a_component_that_comes_up_at_its_second_try(folder: Path) -> None:
    tries = itertools.count(1)

    class Late(Waiting):
        def on_start(self) -> None:
            if next(tries) < 3:
                raise ConnectionError("not yet")

    system = System("test", folder=folder)
    system.add(Late(), restart=Restart(backoff=Backoff(initial_s=0.0)))
    with system.started():
        assert next(tries) == 4


def test_started_stays_up_until_the_block_is_left(folder: Path) -> None:
    system, kept = pipeline(folder)
    with system.started():
        assert system.wait(PATIENCE_S)
        assert system.wait(0.0), "it is quiet and stays so"
        assert kept.values == list(range(10))
        with pytest.raises(UsageError, match="not possible while the system runs"):
            system.run()
    assert kept.values == list(range(10))


def test_wait_says_when_it_did_not_happen_in_time(folder: Path) -> None:
    system = System("test", folder=folder)
    system.add(Waiting())
    with system.started():
        assert not system.wait(0.0)
    with pytest.raises(UsageError, match=r"inside `with system.started\(\):`"):
        system.wait()


def test_an_error_in_the_block_is_the_one_that_is_seen_and_the_system_stops(folder: Path) -> None:
    stopped = threading.Event()

    class Noting(Waiting):
        def on_stop(self) -> None:
            stopped.set()
            raise OSError("cannot close")

    system = System("test", folder=folder)
    system.add(Noting())
    with pytest.raises(KeyError, match="mine"), system.started():
        raise KeyError("mine")
    assert stopped.is_set()


def test_a_system_that_fails_inside_of_started_is_an_error_at_the_end(folder: Path) -> None:
    system = System("test", folder=folder)

    class Failing(Component):
        def run(self) -> None:
            raise ValueError("bad")

    system.add(Failing(), restart=Restart(failures=0))
    with pytest.raises(SystemFailed, match="test failed: failing failed in run: ValueError: bad"), system.started():
        assert system.wait(PATIENCE_S)


def test_a_system_that_does_not_come_up_never_enters_the_block(folder: Path) -> None:
    system = System("test", folder=folder)

    class Failing(Waiting):
        def on_start(self) -> None:
            raise ValueError("bad")

    system.add(Failing(), restart=Restart(failures=0))
    with pytest.raises(SystemFailed, match="failing failed in on_start"), system.started():
        pytest.fail("it is not up")


def test_it_runs_in_another_thread_than_the_main_one(folder: Path) -> None:
    system, kept = pipeline(folder)

    def use() -> list[int]:
        with system.started():
            system.wait(PATIENCE_S)
        return kept.values

    assert in_thread(use)() == list(range(10))


def test_code_without_a_file_keeps_its_state_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = """
import attrs
from minions import Component, State, System

class Counting(Component):
    runs = State(int)
    def run(self):
        self.runs += 1

system = System("notebook")
counting = system.add(Counting())
with system.started():
    system.wait()
"""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for _ in range(2):
        exec(cell, namespace)
    assert (tmp_path / ".minions").is_dir()
    assert namespace["counting"].runs == 2  # type: ignore[attr-defined]


def test_by_default_the_state_is_beside_the_script() -> None:
    assert System("test").folder == Path(__file__).parent / ".minions"


# Several systems ------------------------------------------------------------------------------------------------------


def test_two_systems_live_in_one_process(tmp_path: Path) -> None:
    one, kept_one = pipeline(tmp_path / "one", count=10, name="one")
    two, kept_two = pipeline(tmp_path / "two", count=20, name="two")
    with one.started(), two.started():
        assert one.wait(PATIENCE_S)
        assert two.wait(PATIENCE_S)
        names = {thread.name for thread in threading.enumerate()}
        assert {"one/kept", "two/kept"} <= names
    assert (kept_one.values, kept_two.values) == (list(range(10)), list(range(20)))


def test_two_systems_on_one_folder_are_refused(folder: Path) -> None:
    one, kept = pipeline(folder)
    two, _ = pipeline(folder)
    with one.started():
        with pytest.raises(StoreLocked, match="already open in this process"), two.started():
            pytest.fail("two have it")
        assert one.wait(PATIENCE_S)
    assert kept.values == list(range(10))
    two.run()


def test_a_system_cannot_be_changed_while_it_runs(folder: Path) -> None:
    system, kept = pipeline(folder)
    numbers = Numbers(count=1)
    with system.started():
        for change in (lambda: system.add(numbers), lambda: system.connect(numbers.out, kept.numbers)):
            with pytest.raises(UsageError, match="not possible while the system runs"):
                change()
    system.connect(system.add(numbers, name="more").out, kept.numbers)
    system.run()
    assert sorted(kept.values) == [0, *range(10)]


# States on the blueprint ----------------------------------------------------------------------------------------------


def test_a_state_is_read_before_while_and_after_the_system_runs(folder: Path) -> None:
    system, kept = pipeline(folder)
    assert kept.values == []
    with system.started():
        system.wait(PATIENCE_S)
        values = kept.values
        assert values == list(range(10))
        values.append(99)
        assert kept.values == list(range(10)), "it is a copy"
    assert kept.values == list(range(10))
    _, the_same = pipeline(folder)
    assert the_same.values == list(range(10)), "another program reads it from the folder"


def test_reading_a_state_leaves_no_folder_behind(folder: Path) -> None:
    _, kept = pipeline(folder)
    assert kept.values == []
    assert not folder.exists()
    folder.mkdir()
    assert kept.values == []
    assert list(folder.iterdir()) == []


def test_a_state_of_a_component_that_no_system_has_is_no_value() -> None:
    with pytest.raises(UsageError, match=r"passed to System.add\(\)"):
        print(Kept().values)


# What is refused ------------------------------------------------------------------------------------------------------


def test_what_check_refuses_starts_nothing(folder: Path) -> None:
    system = System("test", folder=folder)
    system.add(Numbers(count=1))
    for begin in (system.check, system.run, lambda: system.started().__enter__()):
        with pytest.raises(TopologyError, match=r"numbers\.out"):
            begin()
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_refused_and_the_system_can_be_run_later(tmp_path: Path) -> None:
    obstacle = tmp_path / "state"
    obstacle.write_text("a file")
    system, _ = pipeline(obstacle / "inner")
    with pytest.raises(SystemExit, match=r"^test: cannot create the state folder .*state/inner") as refused:
        system.run()
    assert isinstance(refused.value.__cause__, StoreUnusable)
    assert obstacle.read_text() == "a file"
    obstacle.unlink()
    assert system.run() == "finished"


@pytest.mark.parametrize("wrong", [{"synchronous": "OFF"}])
def test_options_are_checked(folder: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="must be 'NORMAL' or 'FULL'"):
        System("test", folder=folder, **wrong)  # type: ignore[arg-type]


def test_every_option_that_is_wrong_is_named_at_once(folder: Path) -> None:
    wrong: dict[str, Any] = {
        "stop_timeout_s": -1.0,
        "watchdog": None,
        "max_zombies": "16",
        "control": "no",
    }
    with pytest.raises(UsageError) as refused:
        System("test", folder=folder, **wrong)
    said = str(refused.value)
    assert said.startswith("System('test'): ")
    assert [part.partition(" must be ")[0] for part in said.removeprefix("System('test'): ").split("; ")] == [
        f"{name}={value!r}" for name, value in wrong.items()
    ]
    name: Any = None
    with pytest.raises(UsageError, match="name=None must be a text"):
        System(name)
    with pytest.raises(UsageError, match="name=7 must be a text"):
        System("test", folder=folder).add(Kept(), name=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("replicas", ["2", 2.0, None, 10**9])
def test_a_number_of_replicas_that_is_none_is_told_with_all_other_problems(folder: Path, replicas: Any) -> None:
    system = System("test", folder=folder)
    system.add(Numbers(count=1), replicas=replicas, stall_after_s=-1.0)
    with pytest.raises(TopologyError) as refused:
        system.check()
    assert f"numbers: replicas={replicas!r} must be a whole number from 1 to 10,000" in refused.value.problems
    assert "numbers: stall_after_s=-1.0 must be a number of seconds, more than 0, or None" in refused.value.problems
    assert any(problem.startswith("numbers.out: ") for problem in refused.value.problems)


def test_what_is_added_has_to_be_a_component_and_a_new_one(folder: Path) -> None:
    system = System("test", folder=folder)
    with pytest.raises(UsageError, match="add an object of that class"):
        system.add(Kept)  # type: ignore[type-var]
    kept = system.add(Kept())
    with pytest.raises(UsageError, match="this very object was added before"):
        system.add(kept)
    with pytest.raises(UsageError, match="first an outbox"):
        system.connect(kept.numbers, kept.numbers)  # type: ignore[arg-type]


# Who watches ----------------------------------------------------------------------------------------------------------


def test_a_log_handler_that_raises_harms_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda report: reported.append(report.exc_value))

    class Raising(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("the log is full")

    handler = Raising()
    log = logging.getLogger("minions.raising")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        system, kept = pipeline(folder, name="raising")
        assert system.run() == "finished"
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert kept.values == list(range(10))
    assert {str(error) for error in reported} == {"the log is full"}


def test_what_happens_is_logged_under_the_name_of_the_component(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    system = System("greenhouse", folder=folder)

    class Failing(Component):
        def on_start(self) -> None:
            self.log.info("hello")

        def run(self) -> None:
            raise ValueError("bad")

    system.add(Failing(), restart=Restart(failures=0))
    with caplog.at_level(logging.INFO, "minions"), pytest.raises(SystemExit):
        system.run()
    logged = {(record.name, record.levelname, record.getMessage().splitlines()[0]) for record in caplog.records}
    assert logged >= {
        ("minions.greenhouse.failing", "INFO", "hello"),
        ("minions.greenhouse", "INFO", "started: 1 component"),
        ("minions.greenhouse.failing", "CRITICAL", "failed 1 time within 60 s, the system stops"),
        ("minions.greenhouse", "INFO", "stopped (failed)"),
    }

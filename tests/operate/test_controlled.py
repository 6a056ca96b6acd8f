"""The control socket of a system: it answers whatever the components do, and no client harms anybody."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, Outbox, Restart, State, System, Uses, every
from minions.operate.client import Client, NotRunning
from minions.operate.control import Control
from minions.operate.place import places_of
from minions.operate.protocol import Refused
from tests.operate.conftest import LOG, PATIENCE_S, Answering


class Stuck(Component):
    numbers = Inbox(int, capacity=2)
    gate: Any

    @numbers.handler
    def take(self, number: int) -> None:
        self.gate.wait(PATIENCE_S)


class Feeding(Component):
    out = Outbox(int)

    def run(self) -> None:
        number = 0
        while self.running:
            self.out.send(number)
            number += 1


class Crashing(Component):
    def on_start(self) -> None:
        raise ValueError("again")


class Count(Component):
    numbers = Inbox(int, capacity=100)
    handled = State(int)

    @numbers.handler
    def take(self, number: int) -> None:
        self.handled += 1


class Gate:
    """Copied into each life as itself."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def wait(self, timeout_s: float) -> None:
        self.event.wait(timeout_s)

    def __deepcopy__(self, memo: object) -> Gate:
        return self

    __copy__ = __deepcopy__


def test_it_answers_while_components_are_stuck(folder: Path) -> None:
    gate, system = Gate(), System("test", folder=folder)
    feeding, stuck = system.add(Feeding()), system.add(Stuck(gate=gate))
    system.connect(feeding.out, stuck.numbers)
    with system.started(), Client.connect(folder) as client:
        status = client.ask("status")
        assert [component["name"] for component in status["components"]] == ["stuck", "feeding"]
        sentence = client.ask("why", component="stuck")["components"][0]["sentence"]
        assert "handling take" in sentence
        assert {thread["component"] for thread in client.ask("stacks")["threads"]} >= {"stuck", "feeding"}
        gate.event.set()


def test_it_answers_while_the_system_restarts_in_a_loop(folder: Path) -> None:
    system = System("test", folder=folder)
    system.add(Count(), name="idle")
    feeding = system.add(Feeding())
    system.connect(feeding.out, system._topology.nodes[0].blueprint.numbers)  # type: ignore[attr-defined]
    often = Restart(backoff=Backoff(initial_s=0.001, longest_s=0.001), failures=1_000_000)
    system.add(Crashing(), restart=often)
    runtime = system._make(forever=True)
    runtime.start()
    try:
        with Client.connect(folder) as client:
            restarts = 0
            while restarts < 20:
                [crashing] = [c for c in client.ask("status")["components"] if c["name"] == "crashing"]
                restarts = crashing["restarts"]
            assert "ValueError: again" in client.ask("why", component="crashing")["components"][0]["sentence"]
    finally:
        runtime.end()
        system._close_control()


def test_of_a_component_that_is_starting_again_it_is_said_how_it_failed_last(folder: Path) -> None:
    gate, reached, lives = Gate(), threading.Event(), iter([1, 2])

    class Second(Component):
        def on_start(self) -> None:
            if next(lives) == 1:
                raise ValueError("again")
            reached.set()
            gate.wait(PATIENCE_S)

    system = System("test", folder=folder)
    system.add(Second(), restart=Restart(backoff=Backoff(initial_s=0.001)))
    runtime = system._make(forever=True)
    runtime.start()
    try:
        assert reached.wait(PATIENCE_S)
        runtime.reach()
        with Client.connect(folder) as client:
            [second] = client.ask("why", component="second")["components"]
            assert second["sentence"].startswith("second is in on_start and waits for ")
            assert second["sentence"].endswith("; it failed last in on_start: ValueError: again")
    finally:
        gate.event.set()
        runtime.end()
        system._close_control()


def test_a_component_that_waits_for_its_next_tick_is_at_nothing_and_so_is_one_that_is_paused(folder: Path) -> None:
    class Ticking(Component):
        @every(seconds=1_000.0)
        def tick(self) -> None: ...

    system = System("test", folder=folder)
    system.add(Ticking())
    with system.started(), Client.connect(folder) as client:
        sentence = ""
        while "waits for" not in sentence:
            sentence = client.ask("why", component="ticking")["components"][0]["sentence"]
        assert sentence.startswith("ticking is between two units of work and waits for its next tick")
        client.ask("pause", components=["ticking"])
        assert (
            "its thread is between two units of work"
            in client.ask("why", component="ticking")["components"][0]["sentence"]
        )


def test_what_is_asked_for_comes_about(folder: Path) -> None:
    system = System("test", folder=folder)
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started(), Client.connect(folder) as client:

        def phase() -> str:
            return str(next(c["phase"] for c in client.ask("status")["components"] if c["name"] == "count"))

        assert client.ask("pause", components=["count"]) == {"components": ["count"]}
        assert phase() == "paused"
        client.ask("resume", components=["count"])
        assert phase() == "running"
        client.ask("halt", components=["count"])
        assert phase() == "stopped"
        client.ask("start", components=["count"])
        assert phase() == "running"
        client.ask("restart", components=["count"])
        assert next(c["epoch"] for c in client.ask("status")["components"] if c["name"] == "count") == 3
        for do in ("pause", "why"):
            with pytest.raises(Refused, match="has no component 'nope'; it has feeding, count") as refused:
                client.ask(do, **({"component": "nope"} if do == "why" else {"components": ["nope"]}))
            assert refused.value.kind == "no-such-component"
        with pytest.raises(Refused, match="'stop'"):
            client.ask("halt")
        with pytest.raises(Refused, match="can be asked; that are"):
            client.ask("nonsense")


def test_while_dead_letters_are_dealt_with_for_one_client_the_next_is_told_to_try_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, reached, gate = System("test", folder=folder), threading.Event(), threading.Event()
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    answers: list[dict[str, Any]] = []

    def drop() -> None:
        with Client.connect(folder) as client:
            answers.append(client.ask("dead-drop", of="count"))

    def hold(ids: tuple[str, ...], of: str | None) -> list[Any]:
        reached.set()
        gate.wait(PATIENCE_S)
        return []

    with system.started(), Client.connect(folder) as other:
        runtime = system._runtime
        assert runtime is not None
        monkeypatch.setattr(runtime.dead_letters, "drop", hold)
        dropping = threading.Thread(target=drop)
        dropping.start()
        assert reached.wait(PATIENCE_S)
        with pytest.raises(Refused, match="dead-retry: another one is at work; try again") as refused:
            other.ask("dead-retry", of="count")
        assert refused.value.kind == "busy"
        gate.set()
        dropping.join(PATIENCE_S)
    assert answers == [{"letters": []}]


def test_a_stop_is_answered_when_all_is_over(folder: Path) -> None:
    system = System("test", folder=folder)
    up = threading.Event()

    class Telling(Feeding):
        def on_start(self) -> None:
            up.set()

    feeding, count = system.add(Telling()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(system.run()))
    thread.start()
    assert up.wait(PATIENCE_S)
    client = Client.connect(folder)
    answer = client.ask("stop")
    client.close()
    thread.join(PATIENCE_S)
    assert ended == ["stopped"]
    assert answer["reason"] == "stopped"
    assert not (folder / "control.address").exists()


def test_a_stop_is_answered_before_the_block_in_which_the_system_runs_is_left(folder: Path) -> None:
    gate, asked, is_left = Gate(), threading.Semaphore(0), threading.Event()

    class Slow(Calm):
        def on_stop(self) -> None:
            gate.wait(PATIENCE_S)

    system = System("test", folder=folder)
    system.add(Slow())
    answers: list[dict[str, Any]] = []

    def stop() -> None:
        with Client.connect(folder) as client:
            answers.append(client.ask("stop"))

    stopping = threading.Thread(target=stop)
    with system.started():
        runtime = system._runtime
        assert runtime is not None
        when_over, tell = runtime.when_over, runtime._tell_that_all_is_over

        def wait_for_end() -> Future[None]:
            future = when_over()
            if threading.current_thread() is threading.main_thread():
                gate.event.set()
            asked.release()
            return future

        def tell_late() -> None:
            is_left.wait(0.2)
            tell()

        runtime.when_over = wait_for_end  # type: ignore[method-assign]
        runtime._tell_that_all_is_over = tell_late  # type: ignore[method-assign]
        stopping.start()
        assert asked.acquire(timeout=PATIENCE_S)
    is_left.set()
    stopping.join(PATIENCE_S)
    assert [answer["reason"] for answer in answers] == ["stopped"]


def test_the_place_is_given_up_before_the_next_system_may_have_the_folder(folder: Path) -> None:
    system = System("test", folder=folder)
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started():
        assert (folder / "control.address").exists()
        system.stop().result(PATIENCE_S)
        assert not (folder / "control.address").exists()
        with contextlib.closing(Control("next", folder, Answering(), LOG)) as control:
            assert control.open(in_folder=True)


def test_events_are_told_as_they_come_and_those_that_were(folder: Path) -> None:
    system = System("test", folder=folder)
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started(), Client.connect(folder) as client, Client.connect(folder) as other:
        found = client.ask("events", after=0)
        while "SystemStarted" not in [event["event"] for event in found["events"]]:
            found["events"] += client.ask("events", after=found["last"])["events"]
        last = client.ask("events", after=0)["last"]
        pausing = threading.Thread(target=lambda: other.ask("pause", components=["count"]))
        pausing.start()
        [event] = client.ask("events", after=last)["events"]
        pausing.join(PATIENCE_S)
        assert (event["event"], event["component"], event["text"]) == (
            "ComponentPaused",
            "count",
            "count: paused by the operator",
        )
        other.ask("resume", components=["count"])


@pytest.mark.parametrize("off", ["argument", "file"])
def test_it_can_be_switched_off(folder: Path, off: str) -> None:
    system = System("test", folder=folder, control=off != "argument")
    if off == "file":
        folder.mkdir()
        (folder / "minions.toml").write_text("[system]\ncontrol = false\n")
        system._configuration_path = folder / "minions.toml"
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started():
        assert not (folder / "control.address").exists()
        assert not {thread.name for thread in threading.enumerate()} & {"test/control", "test/answers"}
        with pytest.raises(NotRunning, match=rf"process {os.getpid()} has the state folder .* control=False"):
            Client.connect(folder)


def test_two_systems_in_one_process_have_two(folder: Path) -> None:
    folder.mkdir()
    systems = []
    for name in ("one", "two"):
        system = System(name, folder=folder / name)
        feeding, count = system.add(Feeding()), system.add(Count())
        system.connect(feeding.out, count.numbers)
        systems.append(system)
    with systems[0].started(), systems[1].started():
        for name in ("one", "two"):
            with Client.connect(folder / name) as client:
                assert client.ask("version")["system"] == name


class Calm(Component):
    def run(self) -> None:
        while self.running:
            self.sleep(1_000.0)


def test_a_system_that_keeps_nothing_has_one_too_and_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder.parent))
    system = System("test", folder=folder)
    system.add(Calm())
    with system.started(), Client.connect(folder) as client:
        assert client.ask("status")["system"] == "test"
        assert not folder.exists()
    with pytest.raises(NotRunning):
        Client.connect(folder)


# Under stress


def used_s() -> dict[str, float]:
    """The CPU time that the threads of the control socket have used, in seconds."""
    return {
        thread.name: time.clock_gettime((~thread.native_id << 3) | 6)
        for thread in threading.enumerate()
        if thread.name in ("test/control", "test/answers") and thread.native_id is not None
    }


@contextlib.contextmanager
def fifty_rude_clients(folder: Path) -> Iterator[None]:
    path = next(places_of(folder))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.operate.rude_child", str(path), "50"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"rude\n"
        yield
    finally:
        child.kill()
        child.communicate()


def test_fifty_rude_clients_have_a_share_of_a_core_even_where_nobody_else_wants_it(folder: Path) -> None:
    system = System("test", folder=folder)
    system.add(Calm())
    began_s = time.monotonic()
    with system.started(), fifty_rude_clients(folder), Client.connect(folder) as polite:
        for _ in range(60):
            assert polite.ask("status", PATIENCE_S)["system"] == "test"
        used, since_s = used_s(), time.monotonic() - began_s
    assert set(used) == {"test/control", "test/answers"}
    assert max(used.values()) < 0.1 * since_s + 0.2, "what they take, the components do not have"


def test_fifty_rude_clients_slow_nothing_down_and_keep_nothing_from_stopping(folder: Path) -> None:
    system = System("test", folder=folder)
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started(), fifty_rude_clients(folder):
        settled = system.statistics().inboxes["count.numbers"].settled
        with Client.connect(folder) as polite:
            for _ in range(10):
                assert polite.ask("status", PATIENCE_S)["system"] == "test"
        assert system.statistics().inboxes["count.numbers"].settled > settled
        began_s = time.monotonic()
        system.stop().result(PATIENCE_S)
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert not (folder / "control.address").exists()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("test/")]


def test_json_of_a_status_has_only_what_json_has(folder: Path) -> None:
    system = System("test", folder=folder)
    feeding, count = system.add(Feeding()), system.add(Count())
    system.connect(feeding.out, count.numbers)
    with system.started(), Client.connect(folder) as client:
        for do, arguments in (("status", {}), ("why", {"component": "count"}), ("graph", {}), ("plugins", {})):
            json.dumps(client.ask(do, **arguments), allow_nan=False)  # type: ignore[arg-type]


class Database(Component):
    gate: Any

    def insert(self, row: int) -> int:
        self.gate.wait(PATIENCE_S)
        return row


class Caller(Component):
    database = Uses(Database)

    def run(self) -> None:
        self.database.insert(1)


def test_why_goes_from_a_caller_to_what_the_one_that_is_called_waits_for(folder: Path) -> None:
    gate, system = Gate(), System("test", folder=folder)
    system.add(Database(gate=gate))
    system.add(Caller())
    with system.started(), Client.connect(folder) as client:
        [caller] = client.ask("why", component="caller")["components"]
        while len(caller["chain"]) < 2 or not caller["chain"][1]["waits_for"]:
            [caller] = client.ask("why", component="caller")["components"]
        chain = caller["chain"]
        assert caller["sentence"].startswith(
            "caller is in run and waits for database.insert() to answer; database is answering"
        )
        assert chain[0]["waits_for"] == "database.insert() to answer"
        gate.event.set()

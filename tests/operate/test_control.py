"""The control socket: it answers whatever the components do, and no client harms anybody."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, MinionsError, Outbox, Restart, State, System, Uses
from minions.flow.folder_lock import FolderLock
from minions.operate import client as client_module
from minions.operate import control as control_module
from minions.operate.client import Client, HungUp, NoAnswer, NotRunning
from minions.operate.control import Control, Limits
from minions.operate.place import places_of
from minions.operate.protocol import MOST_REQUEST_BYTES, Refused, Request
from tests.operate.conftest import PATIENCE_S, Raw

LOG = logging.getLogger("test.control")


class Answering:
    """Answers in the place of a system."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.future: Future[Any] = Future()
        self.gate = threading.Event()
        self.reached = threading.Semaphore(0)

    def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        match request.do:
            case "later":
                self.reached.release()
                return self.future
            case "gate":
                self.reached.release()
                assert self.gate.wait(PATIENCE_S)
            case "refuse":
                raise Refused("busy", "not now")
            case "fail":
                raise ValueError("bad")
            case "mishap":
                raise MinionsError("as it is")
            case "large":
                return {"text": "x" * 4_000_000}
        return {"do": request.do}


Open = Callable[..., tuple[Path, Answering, Control]]


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    made: list[tuple[Control, Answering]] = []

    def open_one(**limits: Any) -> tuple[Path, Answering, Control]:
        folder.mkdir(exist_ok=True)
        answering = Answering()
        control = Control("test", folder, answering, LOG, limits=Limits(**limits))
        assert control.open(in_folder=True)
        made.append((control, answering))
        assert control.path is not None
        return control.path, answering, control

    yield open_one
    for control, answering in made:
        answering.gate.set()
        control.close()


# Answers


def test_each_request_is_answered_in_order_with_its_number(opened: Open) -> None:
    path, _, _ = opened()
    with Raw(path) as client:
        for number in range(20):
            client.ask("ping", number)
        assert [client.answer()["id"] for _ in range(20)] == list(range(20))


def test_a_request_may_come_in_pieces(opened: Open) -> None:
    path, _, _ = opened()
    with Raw(path) as client:
        for byte in b'{"v":1,"id":5,"do":"ping"}\n':
            client.send(bytes([byte]))
        assert client.answer() == {"v": 1, "id": 5, "result": {"do": "ping"}}


def test_what_was_asked_is_answered_to_who_has_said_that_nothing_more_comes(opened: Open) -> None:
    path, _, _ = opened()
    with Raw(path) as client:
        client.ask("ping")
        client.ask("ping", 2)
        client.socket.shutdown(socket.SHUT_WR)
        assert [client.answer()["id"], client.answer()["id"]] == [1, 2]
        assert client.is_closed()


@pytest.mark.parametrize(
    ("do", "kind", "text"),
    [("refuse", "busy", "not now"), ("fail", "failed", "ValueError: bad"), ("mishap", "failed", "as it is")],
)
def test_an_error_is_told_to_who_has_asked_and_the_next_request_is_answered(
    opened: Open, do: str, kind: str, text: str
) -> None:
    path, _, _ = opened()
    with Raw(path) as client:
        client.ask(do)
        assert client.answer() == {"v": 1, "id": 1, "error": {"kind": kind, "text": text}}
        client.ask("ping", 2)
        assert client.answer()["result"] == {"do": "ping"}


def test_what_has_to_wait_keeps_nobody_else_waiting(opened: Open) -> None:
    path, answering, _ = opened()
    with Raw(path) as waiting, Raw(path) as other:
        waiting.ask("later")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        other.ask("ping")
        assert other.answer()["result"] == {"do": "ping"}
        answering.future.set_result({"done": True})
        assert waiting.answer()["result"] == {"done": True}


def test_what_fails_later_is_told_too(opened: Open) -> None:
    path, answering, _ = opened()
    with Raw(path) as client:
        client.ask("later")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        answering.future.set_exception(Refused("failed", "it was given up"))
        assert client.answer()["error"] == {"kind": "failed", "text": "it was given up"}


# Rude clients


@pytest.mark.parametrize(
    "garbage",
    [b"\n", b"nonsense\n", b"\0" * 100 + b"\n", b"GET / HTTP/1.1\r\n\r\n", b'{"v":1}\n', b"[" * 50_000 + b"\n"],
    ids=range(6),
)
def test_garbage_is_answered_with_one_error_and_nothing_behind_it_is_read(opened: Open, garbage: bytes) -> None:
    path, answering, _ = opened()
    with Raw(path) as client:
        client.send(garbage + b'{"v":1,"id":5,"do":"ping"}\n')
        assert client.answer()["error"]["kind"] in ("malformed", "version")
        assert client.is_closed()
    assert answering.asked == []


def test_a_line_of_ten_megabytes_is_refused_long_before_its_end(opened: Open) -> None:
    path, answering, _ = opened()
    with Raw(path) as client:
        sent = 0
        with contextlib.suppress(ConnectionError):
            for _ in range(160):
                client.send(b"x" * MOST_REQUEST_BYTES)
                sent += MOST_REQUEST_BYTES
        assert sent < 5_000_000
    assert answering.asked == []
    with Raw(path) as client:
        client.ask("ping")
        assert client.answer()["result"] == {"do": "ping"}


def test_a_client_that_does_not_read_is_closed_and_keeps_nobody_waiting(opened: Open) -> None:
    path, answering, control = opened(stalled_s=0.2)
    with Raw(path) as deaf, Raw(path) as other:
        for number in range(50):
            deaf.ask("large", number)
        other.ask("ping")
        assert other.answer()["result"] == {"do": "ping"}
        received = 0
        with contextlib.suppress(ConnectionError):
            gone = threading.Event()
            while not gone.is_set() and control._clients:
                other.ask("ping")
                if not other._file.readline():
                    break
                received += 1
                if len(control._clients) == 1:
                    gone.set()
        assert len(control._clients) <= 1
    assert sum(request.do == "large" for request in answering.asked) == 1, "of each client one request is at work"


def test_from_who_is_being_answered_no_more_is_read_than_one_answer_needs(opened: Open) -> None:
    path, answering, _ = opened()
    with Raw(path) as client:
        client.ask("later")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        client.socket.setblocking(False)
        sent = 0
        while sent < 20_000_000 and select.select([], [client.socket], [], 0.3)[1]:
            sent += client.socket.send(b"x" * 65_536)
        assert sent < 5_000_000
        answering.future.set_result({})


def test_who_says_nothing_is_closed(opened: Open) -> None:
    path, _, _ = opened(idle_s=0.1)
    with Raw(path) as silent:
        silent.send(b'{"v":1')
        assert silent.is_closed()


def test_who_goes_in_the_middle_leaves_nothing(opened: Open) -> None:
    path, answering, control = opened()
    clients = [Raw(path) for _ in range(10)]
    for client in clients:
        client.ask("later")
    for client in clients:
        assert answering.reached.acquire(timeout=PATIENCE_S)
        client.close()
    answering.future.set_result({})
    with Raw(path) as client:
        client.ask("ping")
        assert client.answer()["result"] == {"do": "ping"}
    assert len(control._clients) <= 1


def test_one_more_than_may_has_the_one_closed_that_was_idle_for_longest(opened: Open) -> None:
    path, _, _ = opened(clients=3)
    clients = [Raw(path) for _ in range(3)]
    for number in (0, 2, 1):  # 0 is now the one that has been idle for longest
        clients[number].ask("ping")
        clients[number].answer()
    newest = Raw(path)
    newest.ask("ping")
    assert newest.answer()["result"] == {"do": "ping"}
    assert clients[0].is_closed()
    for client in (clients[1], clients[2]):
        client.ask("ping")
        assert client.answer()["result"] == {"do": "ping"}
    for client in (*clients, newest):
        client.close()


def test_where_all_are_being_answered_one_more_is_told_so(opened: Open) -> None:
    path, answering, _ = opened(clients=2)
    with Raw(path) as one, Raw(path) as two:
        for client in (one, two):
            client.ask("later")
            assert answering.reached.acquire(timeout=PATIENCE_S)
        with Raw(path) as three:
            assert three.answer()["error"]["kind"] == "busy"
            assert three.is_closed()
        answering.future.set_result({})
        assert one.answer()["result"] == {}


def test_who_has_gone_away_without_waiting_for_the_answer_takes_nobodys_place(opened: Open) -> None:
    path, answering, control = opened(clients=2)
    for number in range(6):
        with Raw(path) as client:
            client.ask("later", number)
            assert answering.reached.acquire(timeout=PATIENCE_S)
    with Raw(path) as stays, Raw(path) as other:
        stays.ask("gate")
        stays.socket.shutdown(socket.SHUT_WR)  # nothing more will come from it, and it waits for the answer
        assert answering.reached.acquire(timeout=PATIENCE_S)
        other.ask("ping", 7)
        answering.gate.set()
        assert other.answer()["id"] == 7
        assert stays.answer()["result"] == {"do": "gate"}
    assert answering.future.cancelled(), "nobody is to be told"
    assert len(control._clients) <= 2


def test_another_user_is_not_answered(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    path, answering, _ = opened()
    monkeypatch.setattr(control_module, "peer_uid", lambda connection: os.geteuid() + 1)
    with Raw(path) as stranger:
        with contextlib.suppress(ConnectionError):
            stranger.ask("ping")
        assert stranger.is_closed()
    assert answering.asked == []


# The end


def test_after_it_is_closed_nothing_is_left(opened: Open, folder: Path) -> None:
    descriptors = set(Path("/proc/self/fd").iterdir())
    path, _, control = opened()
    with Raw(path) as client:
        client.ask("ping")
        client.answer()
        control.close()
        assert client.is_closed()
    control.close()
    assert list(folder.iterdir()) == []
    assert set(Path("/proc/self/fd").iterdir()) == descriptors
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test/")]


def test_who_is_connected_is_served_on_when_the_place_was_given_up(opened: Open, folder: Path) -> None:
    path, _, control = opened()
    with Raw(path) as client:
        client.ask("ping")
        client.answer()
        control.withdraw()
        assert not path.exists()
        _, _, _ = opened()  # the next one has it
        client.ask("ping")
        assert client.answer()["result"] == {"do": "ping"}


def test_the_last_answers_are_sent_before_it_ends(opened: Open) -> None:
    path, answering, control = opened()
    with Raw(path) as client:
        client.ask("later")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        answering.future.set_result({"stopped": True})
        control.close()
        assert client.answer()["result"] == {"stopped": True}


def test_what_is_being_answered_when_it_ends_is_answered(opened: Open) -> None:
    path, answering, control = opened()
    with Raw(path) as client:
        client.ask("gate")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        closing = threading.Thread(target=control.close)
        closing.start()
        [moving] = [thread for thread in control._threads if thread.name == "test/control"]
        moving.join(0.2)  # it must not end before that
        answering.gate.set()
        assert client.answer()["result"] == {"do": "gate"}
        closing.join(PATIENCE_S)


def test_an_answer_that_hangs_does_not_keep_it_from_ending(opened: Open) -> None:
    path, answering, control = opened()
    with Raw(path) as client:
        client.ask("gate")
        assert answering.reached.acquire(timeout=PATIENCE_S)
        control.close()
        assert not path.exists()
        answering.gate.set()


def test_a_forked_child_keeps_nothing_of_it_alive(opened: Open) -> None:
    path, _, control = opened()
    ready = os.pipe()
    child = os.fork()
    if not child:  # pragma: no cover
        os.write(ready[1], b"x")
        signal.pause()
    try:
        os.read(ready[0], 1)
        kept = path.with_name("kept")
        kept.hardlink_to(path)
        control.close()
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(str(kept))
        kept.unlink()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in ready:
            os.close(descriptor)


def test_where_it_cannot_be_the_system_runs_without(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "control.address.new").mkdir(parents=True)
    control = Control("test", folder, Answering(), LOG)
    assert not control.open(in_folder=True)
    assert "test runs without a control socket" in caplog.text
    assert "control.address.new for writing: Is a directory; it must be a regular file" in caplog.text


# The client


def test_the_client_says_that_nothing_runs(folder: Path) -> None:
    with pytest.raises(NotRunning, match="no system runs on"):
        Client.connect(folder)


def addressed_socket(folder: Path) -> Path:
    """Where the socket of a folder is that says where."""
    folder.mkdir()
    home = folder.parent / ("s-" + 24 * "0")
    home.mkdir()
    path, status = home / "control.sock", folder.stat()
    address = {"socket": str(path), "folder": f"{status.st_dev}:{status.st_ino}"}
    (folder / "control.address").write_text(json.dumps(address))
    return path


def test_the_client_says_that_a_socket_is_not_in_reach(folder: Path) -> None:
    path = addressed_socket(folder)
    lock = FolderLock.acquire(folder)
    try:
        with pytest.raises(NotRunning, match=rf"process {os.getpid()} has .* {path} is not in reach from here"):
            Client.connect(folder)
    finally:
        lock.release()


def test_the_client_says_so_at_a_stale_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(addressed_socket(folder)))
        dead.listen()
    with pytest.raises(NotRunning):
        Client.connect(folder)


def test_the_client_loses_patience(opened: Open, folder: Path) -> None:
    opened()
    with Client.connect(folder) as client, pytest.raises(NoAnswer, match=r"'later' within 0.05 s"):
        client.ask("later", 0.05)


def test_the_client_waits_for_a_moment_to_be_let_in_and_then_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = addressed_socket(folder)
    monkeypatch.setattr(client_module, "_CONNECT_S", 0.2)
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket(socket.AF_UNIX))
        deaf.bind(str(path))
        deaf.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(path))
        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match=r"lets nobody in, for 0.2 s"):
            Client.connect(folder)
        assert time.monotonic() - began_s >= 0.1


def test_the_client_says_when_the_system_hangs_up(opened: Open, folder: Path) -> None:
    _, answering, control = opened()
    with Client.connect(folder) as client:

        def end() -> None:
            answering.reached.acquire(timeout=PATIENCE_S)
            control.close()

        threading.Thread(target=end).start()
        with pytest.raises(HungUp):
            client.ask("later")


# A real system


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

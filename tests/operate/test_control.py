"""The control socket: it answers in order, whoever asks, and lets go of all that it has."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from minions.operate import control as control_module
from minions.operate.control import Control
from minions.operate.protocol import MOST_REQUEST_BYTES, Refused
from tests.operate.conftest import LOG, PATIENCE_S, Answering, Open, Raw

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


def test_who_goes_just_before_the_answer_turns_out_to_come_later_has_it_cancelled() -> None:
    one, other = socket.socketpair()
    with one, other:
        client, answer = control_module._Client(one, 0.0), Future[Any]()
        client.is_closed = True  # by the thread that moves bytes, which saw no answer to cancel
        client.wait_for(answer)
    assert answer.cancelled()


def test_where_nobody_can_be_let_in_it_does_not_try_again_and_again(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, _ = opened()
    tried_s: list[float] = []
    accept = socket.socket.accept

    def fail_once(listener: socket.socket) -> Any:
        tried_s.append(time.monotonic())
        if len(tried_s) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail_once)
    with Raw(path) as client:
        client.ask("ping")
        assert client.answer()["result"] == {"do": "ping"}
    assert tried_s[1] - tried_s[0] > 0.9, "a thread that tried at once would take a core"


def test_where_the_machine_gives_only_one_of_its_threads_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    descriptors = set(Path("/proc/self/fd").iterdir())
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "test/control":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    control = Control("test", folder, Answering(), LOG)
    assert not control.open(in_folder=True)
    assert "can't start new thread" in caplog.text
    assert set(Path("/proc/self/fd").iterdir()) == descriptors
    assert list(folder.iterdir()) == []


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

"""What a component has registered wakes its thread, whatever that hangs in."""

from __future__ import annotations

import asyncio
import concurrent.futures
import http.client
import os
import queue
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from minions.errors import UsageError
from minions.life import blocking as blocking_module
from minions.life import descriptors
from minions.life.blocking import Blocking
from tests.life.conftest import PATIENCE_S
from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc


@pytest.fixture
def blocking() -> Blocking:
    return Blocking("greenhouse")


def hang(blocking: Blocking, resource: Any, call: Callable[[], Any], wake: Callable[[], object] | None = None) -> Stuck:
    """A thread that hangs in a call, with the resource registered."""

    def body() -> Any:
        with blocking.on(resource, wake):
            return call()

    return Stuck(body)


def listener(keep: ExitStack) -> socket.socket:
    return keep.enter_context(socket.create_server(("127.0.0.1", 0)))


def pair(keep: ExitStack) -> tuple[socket.socket, socket.socket]:
    server = listener(keep)
    client = keep.enter_context(socket.create_connection(server.getsockname()))
    return client, keep.enter_context(server.accept()[0])


# Sockets


@pytest.mark.parametrize("timeout_s", [None, 1_000.0])
def test_a_receive_ends(blocking: Blocking, keep: ExitStack, timeout_s: float | None) -> None:
    client, _ = pair(keep)
    client.settimeout(timeout_s)
    stuck = hang(blocking, client, lambda: client.recv(1))
    stuck.see("recvfrom", "poll")

    assert blocking.unblock() == []
    assert stuck.result() == b""
    assert client.fileno() >= 0


def test_a_send_ends(blocking: Blocking, keep: ExitStack) -> None:
    client, _ = pair(keep)
    stuck = hang(blocking, client, lambda: client.sendall(bytes(50_000_000)))
    stuck.see("sendto")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, OSError)


def test_an_accept_and_a_datagram_end(blocking: Blocking, keep: ExitStack) -> None:
    server = listener(keep)
    udp = keep.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    accepting = hang(blocking, server, lambda: server.accept())
    receiving = hang(blocking, udp, lambda: udp.recvfrom(1))
    accepting.see("accept4", "accept")
    receiving.see("recvfrom")

    assert blocking.unblock() == []
    accepting.result()
    assert isinstance(accepting.error, OSError)
    assert receiving.result()[0] == b""


def test_a_connect_ends(blocking: Blocking, keep: ExitStack) -> None:
    server = keep.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(2):
        client = keep.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    client = keep.enter_context(socket.socket())
    stuck = hang(blocking, client, lambda: client.connect(server.getsockname()))
    stuck.see("connect")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, OSError)


def test_what_has_the_descriptor_of_a_socket_counts_as_one(blocking: Blocking, keep: ExitStack) -> None:
    client, _ = pair(keep)
    file = keep.enter_context(client.makefile("rb"))
    stuck = hang(blocking, file, lambda: file.readline())
    stuck.see("recvfrom")

    assert blocking.unblock() == []
    assert stuck.result() == b""


def test_tls_is_woken_in_its_handshake_and_after(blocking: Blocking, keep: ExitStack) -> None:
    raw, _ = pair(keep)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = keep.enter_context(context.wrap_socket(raw, do_handshake_on_connect=False))
    stuck = hang(blocking, client, lambda: client.do_handshake())
    stuck.see("read", "recvfrom", "recvmsg")
    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, OSError)

    ends = []
    for side, sock in zip((ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT), pair(keep), strict=True):
        context = ssl.SSLContext(side)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")  # needs no certificate
        ends.append(
            context.wrap_socket(sock, server_side=side is ssl.PROTOCOL_TLS_SERVER, do_handshake_on_connect=False)
        )
    server, client = (keep.enter_context(end) for end in ends)
    greeting = Stuck(lambda: server.do_handshake())
    client.do_handshake()
    greeting.result()
    stuck = hang(blocking, client, lambda: client.recv(1))
    stuck.see("read", "recvfrom", "recvmsg")
    assert blocking.unblock() == []
    stuck.result()
    with pytest.raises(OSError):
        client.sendall(b"never in the clear")


# HTTP


def silent(keep: ExitStack) -> str:
    """A server that takes connections (the kernel does) and never answers."""
    host, port = listener(keep).getsockname()
    return f"{host}:{port}"


def test_a_request_by_http_client_ends(blocking: Blocking, keep: ExitStack) -> None:
    client = http.client.HTTPConnection(silent(keep))
    keep.callback(client.close)

    def ask() -> Any:
        client.request("GET", "/")
        return client.getresponse()

    stuck = hang(blocking, client, ask)
    stuck.see("recvfrom")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, ConnectionError)


@pytest.mark.parametrize("timeout_s", [None, 1_000.0])
def test_a_request_by_requests_ends(blocking: Blocking, keep: ExitStack, timeout_s: float | None) -> None:
    requests = pytest.importorskip("requests")
    address = silent(keep)
    session = keep.enter_context(requests.Session())
    session.trust_env = False
    stuck = hang(blocking, session, lambda: session.get(f"http://{address}/", timeout=timeout_s))
    stuck.see("recvfrom", "poll")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, requests.ConnectionError)


def test_a_request_that_is_still_connecting_ends(blocking: Blocking, keep: ExitStack) -> None:
    server = keep.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    for _ in range(2):
        other = keep.enter_context(socket.socket())
        other.setblocking(False)
        other.connect_ex(server.getsockname())
    client = http.client.HTTPConnection(*server.getsockname())
    stuck = hang(blocking, client, lambda: client.connect())
    stuck.see("connect")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, OSError)


def test_an_answer_that_never_ends_is_given_up(blocking: Blocking, keep: ExitStack) -> None:
    server = listener(keep)
    client = http.client.HTTPConnection(*server.getsockname())
    client.request("GET", "/")
    peer = keep.enter_context(server.accept()[0])
    peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    response = keep.enter_context(client.getresponse())
    assert client.sock is None
    stuck = hang(blocking, response, lambda: response.read())
    stuck.see("recvfrom")

    assert blocking.unblock() == []
    assert stuck.result() == b""


def test_a_session_without_a_request_is_told(blocking: Blocking) -> None:
    requests = pytest.importorskip("requests")
    over = threading.Event()
    with requests.Session() as session:
        stuck = hang(blocking, session, lambda: over.wait())
        stuck.see("futex")
        [problem] = blocking.unblock()
        over.set()
        stuck.result()
    assert problem.startswith("greenhouse: what is blocked in requests.sessions.Session was not woken: ")
    assert "its thread is not in a request" in problem


# Children


def child(keep: ExitStack, script: str, **options: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sh", "-c", f"echo; {script}"], stdout=subprocess.PIPE, bufsize=0, **options)
    keep.enter_context(process)
    assert process.stdout is not None
    process.stdout.read(1)
    return process


@pytest.mark.parametrize("alone", [True, False])
def test_a_wait_for_a_child_ends(blocking: Blocking, keep: ExitStack, alone: bool) -> None:
    process = child(keep, "exec sleep 1000", start_new_session=alone)
    keep.callback(process.kill)
    stuck = hang(blocking, process, lambda: process.wait())
    stuck.see("wait4")

    assert blocking.unblock() == []
    assert stuck.result() == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed_when_asked_again(blocking: Blocking, keep: ExitStack) -> None:
    process = child(keep, "trap '' TERM; echo; while :; do sleep 1000; done", start_new_session=True)
    keep.callback(process.kill)
    process.stdout.read(1)  # type: ignore[union-attr]
    stuck = hang(blocking, process, lambda: process.wait())
    stuck.see("wait4")

    assert blocking.unblock() == []
    stuck.see("wait4")
    assert blocking.unblock(again=True) == []
    assert stuck.result() == -signal.SIGKILL


def test_a_grandchild_that_holds_the_pipe_is_ended_with_the_group(blocking: Blocking, keep: ExitStack) -> None:
    process = child(keep, "sleep 1000 & exit 0", start_new_session=True)
    stuck = hang(blocking, process, lambda: process.communicate())
    stuck.see("read", "poll")

    assert blocking.unblock() == []
    assert stuck.result() == (b"", None)


def test_a_child_that_has_ended_is_told(blocking: Blocking, keep: ExitStack) -> None:
    process = child(keep, "exit 0")
    process.wait()
    with blocking.on(process):
        [problem] = blocking.unblock()
    assert "the child process has ended" in problem


# What Python itself offers to wait for


def test_a_long_query_ends(blocking: Blocking, keep: ExitStack) -> None:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    keep.callback(database.close)
    endless = "with recursive r(x) as (select 1 union all select x + 1 from r) select count(*) from r"
    begun = threading.Event()
    database.create_function("begun", 0, begun.set)
    stuck = hang(blocking, database, lambda: database.execute(f"select begun(), ({endless})").fetchall())
    assert begun.wait(PATIENCE_S)

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, sqlite3.OperationalError)


def test_an_event_and_a_condition_end(blocking: Blocking) -> None:
    event, condition = threading.Event(), threading.Condition()
    waiting = hang(blocking, event, lambda: event.wait())

    def wait() -> None:
        with condition:
            condition.wait()

    conditional = hang(blocking, condition, wait)
    waiting.see("futex")
    while "condition (" not in conditional.see("futex").resource:
        continue

    assert blocking.unblock() == []
    waiting.result()
    conditional.result()


def test_a_condition_whose_lock_is_taken_is_told_and_the_next_is_woken(blocking: Blocking) -> None:
    condition, event = threading.Condition(threading.Lock()), threading.Event()
    with condition, blocking.on(condition), blocking.on(event):
        [problem] = blocking.unblock()
    assert "its lock was not free within 0.5 s" in problem
    assert event.is_set()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues can be shut down from 3.13 on")
def test_a_get_and_a_put_end_and_nothing_is_lost_at_first(blocking: Blocking) -> None:
    empty: queue.Queue[int] = queue.Queue()
    full: queue.Queue[int] = queue.Queue(1)
    full.put(7)
    getting = hang(blocking, empty, lambda: empty.get())
    putting = hang(blocking, full, lambda: full.put(8))
    getting.see("futex")
    putting.see("futex")

    assert blocking.unblock() == []
    for stuck in (getting, putting):
        stuck.result()
        assert type(stuck.error).__name__ == "ShutDown"
    assert full.qsize() == 1
    with blocking.on(full):
        blocking.unblock(again=True)
    assert full.qsize() == 0


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="queues can be shut down from 3.13 on")
def test_a_queue_is_refused_with_the_remedy(blocking: Blocking) -> None:
    with pytest.raises(UsageError, match=r"greenhouse: .* blocked in queue\.Queue; .* wake=lambda: queue\.put\(END\)"):
        blocking.on(queue.Queue())


def test_a_callable_wakes_instead_of_the_resource(blocking: Blocking) -> None:
    items: queue.Queue[str] = queue.Queue()
    stuck = hang(blocking, items, lambda: items.get(), wake=lambda: items.put("end"))
    stuck.see("futex")

    assert blocking.unblock() == []
    assert stuck.result() == "end"


def test_what_is_to_wake_has_to_be_callable(blocking: Blocking) -> None:
    with pytest.raises(UsageError, match=r"greenhouse: blocking\(\.\.\., wake=5\) takes a function without arguments"):
        blocking.on(socket, wake=5)  # type: ignore[arg-type]


def test_any_callable_will_do(blocking: Blocking) -> None:
    reading, writing = os.pipe()
    stuck = hang(blocking, lambda: os.write(writing, b"x"), lambda: os.read(reading, 1))
    stuck.see("read")

    assert blocking.unblock() == []
    assert stuck.result() == b"x"
    os.close(reading)
    os.close(writing)


def test_a_future_is_cancelled_unless_it_is_worked_on(blocking: Blocking) -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    stuck = hang(blocking, future, lambda: future.result())
    stuck.see("futex")
    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, concurrent.futures.CancelledError)

    running: concurrent.futures.Future[int] = concurrent.futures.Future()
    running.set_running_or_notify_cancel()
    with blocking.on(running):
        [problem] = blocking.unblock()
    assert "it is being worked on" in problem
    running.set_result(1)
    with blocking.on(running):
        assert "it has ended" in blocking.unblock()[0]


def test_a_task_is_cancelled_by_way_of_its_loop(blocking: Blocking) -> None:
    begun = threading.Event()

    async def main() -> None:
        task = asyncio.current_task()
        with blocking.on(task):
            begun.set()
            await asyncio.Event().wait()

    stuck = Stuck(lambda: asyncio.run(main()))
    assert begun.wait(PATIENCE_S)
    stuck.see("epoll_wait", "epoll_pwait")

    assert blocking.unblock() == []
    stuck.result()
    assert isinstance(stuck.error, asyncio.CancelledError)


# What is not known, and what goes wrong


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (threading.Lock, "acquire the lock with a timeout"),
        (threading.RLock, "acquire the lock with a timeout"),
        (queue.SimpleQueue, r"wake=lambda: queue.put\(END\)"),
        (object, r"blocking\(resource, wake=function\)"),
        (lambda: object, "wake=function"),
        (lambda: sys.stdout, "wake=function"),
    ],
)
def test_what_cannot_be_woken_is_refused_with_the_remedy(
    blocking: Blocking, make: Callable[[], Any], remedy: str
) -> None:
    with pytest.raises(UsageError, match=f"greenhouse: nothing is known that wakes .* blocked in .*; .*{remedy}"):
        blocking.on(make())


def test_a_closed_socket_is_told(blocking: Blocking) -> None:
    sock = socket.socket()
    with blocking.on(sock):
        sock.close()
        [problem] = blocking.unblock()
    assert problem == "greenhouse: what is blocked in socket.socket was not woken: it is closed"


def test_each_resource_is_tried_whatever_becomes_of_the_others(blocking: Blocking) -> None:
    def broken() -> None:
        raise KeyboardInterrupt("no")

    event = threading.Event()
    with blocking.on(broken), blocking.on(event):
        [problem] = blocking.unblock()

    assert problem.startswith("greenhouse: what is blocked in function ")
    assert problem.endswith("broken was not woken: KeyboardInterrupt: no")
    assert event.is_set()


def test_what_was_left_is_not_touched_any_more(blocking: Blocking, keep: ExitStack) -> None:
    client, peer = pair(keep)
    with blocking.on(client), blocking.on(client):
        pass
    with pytest.raises(ZeroDivisionError), blocking.on(client):
        raise ZeroDivisionError

    assert blocking.unblock() == []
    peer.send(b"x")
    assert client.recv(1) == b"x"


def test_what_is_left_while_another_is_woken_is_not_touched_any_more(blocking: Blocking, keep: ExitStack) -> None:
    client, peer = pair(keep)
    inner = blocking.on(client)
    with blocking.on(lambda: inner.__exit__(None, None, None)):
        inner.__enter__()
        assert blocking.unblock() == []

    peer.send(b"x")
    assert client.recv(1) == b"x"


def test_leaving_waits_for_who_wakes_the_resource(blocking: Blocking, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a socket is never shut down that has meanwhile been given to somebody else."""
    reached, go_on, left = threading.Event(), threading.Event(), threading.Event()
    shut_down = descriptors.shut_down

    def slow(descriptor: int) -> None:
        reached.set()
        assert go_on.wait(PATIENCE_S)
        assert not left.is_set()
        shut_down(descriptor)

    monkeypatch.setattr(blocking_module, "shut_down", slow)
    problems: list[str] = []
    with socket.socket() as sock:
        with blocking.on(sock):
            waker = threading.Thread(target=lambda: problems.extend(blocking.unblock()), name="waker")
            waker.start()
            assert reached.wait(PATIENCE_S)
            assert blocking._lock.locked()
            go_on.set()
        left.set()
        waker.join()
    assert problems == []


def test_how_a_class_of_users_tells_its_descriptor_does_not_keep_the_component_from_leaving(
    blocking: Blocking, keep: ExitStack
) -> None:
    """Its `fileno` is code of users, and may wait for what the component's own thread has."""
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        keep.enter_context(each)
    asked, gate = threading.Event(), threading.Event()

    class Channel:
        registered = False

        def fileno(self) -> int:
            if self.registered:
                asked.set()
                assert gate.wait(PATIENCE_S)
            return ours.fileno()

    channel = Channel()
    problems: list[str] = []
    waking = threading.Thread(target=lambda: problems.extend(blocking.unblock()))
    left = threading.Event()

    def work() -> None:
        with blocking.on(channel):
            channel.registered = True
            waking.start()
            assert asked.wait(PATIENCE_S)
        left.set()

    worker = threading.Thread(target=work)
    worker.start()
    has_left = left.wait(PATIENCE_S / 10)
    gate.set()
    worker.join(PATIENCE_S)
    waking.join(PATIENCE_S)
    assert has_left
    assert problems == []
    theirs.sendall(b"still open")  # it had left before: what it has now is not touched
    assert ours.recv(100) == b"still open"


def test_a_callable_that_hangs_does_not_keep_the_component_from_leaving(blocking: Blocking) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        reached.set()
        assert go_on.wait(PATIENCE_S)

    with blocking.on(slow):
        waker = Stuck(lambda: blocking.unblock())
        assert reached.wait(PATIENCE_S)
    go_on.set()
    assert waker.result() == []


class FakeConnection:
    """Stands for a connection of psycopg, which is known by its module only."""

    def __init__(self, sock: socket.socket) -> None:
        self.fileno = sock.fileno
        self.info = SimpleNamespace(transaction_status=1)  # a statement runs
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def test_a_statement_is_cancelled_and_its_connection_ended_when_asked_again(
    blocking: Blocking, keep: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeConnection, "__module__", "psycopg.connection")
    client, peer = pair(keep)
    connection = FakeConnection(client)
    with blocking.on(connection):
        assert blocking.unblock() == []
        assert connection.cancelled == 1
        assert blocking.unblock(again=True) == []
    assert connection.cancelled == 1
    assert peer.recv(1) == b""


def test_a_connection_on_which_no_statement_runs_is_ended_at_once(
    blocking: Blocking, keep: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that waits for notifications: the server has nothing to cancel."""
    monkeypatch.setattr(FakeConnection, "__module__", "psycopg.connection")
    client, peer = pair(keep)
    connection = FakeConnection(client)
    connection.info = SimpleNamespace(transaction_status=0)
    with blocking.on(connection):
        assert blocking.unblock() == []
    assert connection.cancelled == 0
    assert peer.recv(1) == b""

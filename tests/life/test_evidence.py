"""What is seen of a thread that hangs, from outside."""

from __future__ import annotations

import concurrent.futures
import fcntl
import os
import queue
import select
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions.events import Evidence
from minions.life import system_calls
from minions.life.descriptors import descriptor_text, sockaddr_text
from minions.life.machine import thread_cpu_s
from minions.life.system_calls import Place, memory_at, place_of
from tests.life.conftest import PATIENCE_S
from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc


def listener(keep: ExitStack, backlog: int = 5) -> socket.socket:
    return keep.enter_context(socket.create_server(("127.0.0.1", 0), backlog=backlog))


def connection(keep: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    server = listener(keep)
    client = keep.enter_context(socket.create_connection(server.getsockname()))
    return client, keep.enter_context(server.accept()[0])


def running_child(keep: ExitStack) -> subprocess.Popen[bytes]:
    """A child that runs until it is killed, and is known to run the program already."""
    command = ["cat", "-u"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
    keep.enter_context(child)
    keep.callback(child.kill)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(b"x")
    assert child.stdout.read(1) == b"x"
    return child


def address(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"{host}:{port}"


def connection_that_is_not_taken(keep: ExitStack) -> socket.socket:
    """A listening socket whose queue is full, so that who connects waits."""
    server = listener(keep, backlog=0)
    for _ in range(2):
        client = keep.enter_context(socket.socket())
        client.setblocking(False)
        client.connect_ex(server.getsockname())
    return server


# Sockets


def test_a_receiving_socket_is_named_by_both_addresses(keep: ExitStack) -> None:
    client, peer = connection(keep)
    stuck = Stuck(lambda: client.recv(1))

    seen = stuck.see("recvfrom")

    assert seen.resource == f"socket {address(client)} -> {address(peer)} (descriptor {client.fileno()})"
    assert seen.on_cpu is False
    peer.send(b"x")
    assert stuck.result() == b"x"


def test_a_socket_with_a_timeout_waits_in_poll_and_is_named_too(keep: ExitStack) -> None:
    client, peer = connection(keep)
    client.settimeout(1_000)
    stuck = Stuck(lambda: client.recv(1))

    assert (
        stuck.see("poll", "ppoll").resource
        == f"socket {address(client)} -> {address(peer)} (descriptor {client.fileno()})"
    )
    peer.send(b"x")
    stuck.result()


def test_a_socket_of_the_ipv6_family_is_named(keep: ExitStack) -> None:
    try:
        server = keep.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    except OSError:
        pytest.skip("no IPv6 here")
    port = server.getsockname()[1]
    assert descriptor_text(server.fileno()) == f"listening socket [::1]:{port} (descriptor {server.fileno()})"


def test_a_listening_socket_is_named_as_one(keep: ExitStack) -> None:
    server = listener(keep)
    stuck = Stuck(lambda: server.accept())

    assert (
        stuck.see("accept", "accept4").resource == f"listening socket {address(server)} (descriptor {server.fileno()})"
    )
    keep.enter_context(socket.create_connection(server.getsockname()))
    stuck.result()[0].close()


@pytest.mark.parametrize("timeout_s", [None, 1_000.0])
def test_where_a_socket_wants_to_connect_to_is_told(keep: ExitStack, timeout_s: float | None) -> None:
    server = connection_that_is_not_taken(keep)
    client = keep.enter_context(socket.socket())
    client.settimeout(timeout_s)
    stuck = Stuck(lambda: client.connect(server.getsockname()))

    seen = stuck.see("connect", "poll", "ppoll")

    assert f" -> {address(server)}, not connected yet (descriptor {client.fileno()})" in seen.resource
    client.shutdown(socket.SHUT_RDWR)
    stuck.result()
    assert isinstance(stuck.error, OSError)


def test_udp_and_unix_sockets_are_named(keep: ExitStack, tmp_path: Path) -> None:
    udp = keep.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    udp.bind(("127.0.0.1", 0))
    stuck = Stuck(lambda: udp.recv(1))
    assert stuck.see("recvfrom").resource == f"UDP socket {address(udp)}, not connected (descriptor {udp.fileno()})"
    udp.sendto(b"x", udp.getsockname())
    stuck.result()
    unix = keep.enter_context(socket.socket(socket.AF_UNIX))
    path = str(tmp_path / "s")
    unix.bind(path)
    unix.listen()
    client = keep.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(path)
    assert descriptor_text(unix.fileno()) == f"listening socket {path} (descriptor {unix.fileno()})"
    assert descriptor_text(client.fileno()) == f"unix socket {path} (descriptor {client.fileno()})"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ((2).to_bytes(2, sys.byteorder) + b"\x15\x38\x0a\x00\x00\x07" + bytes(8), "10.0.0.7:5432"),
        ((10).to_bytes(2, sys.byteorder) + b"\x00\x50" + bytes(4) + bytes(15) + b"\x01" + bytes(4), "[::1]:80"),
        ((1).to_bytes(2, sys.byteorder) + b"/run/s\0rest", "/run/s"),
        ((1).to_bytes(2, sys.byteorder) + b"\0name", "@name"),
        ((99).to_bytes(2, sys.byteorder) + bytes(14), ""),
        (b"\x02", ""),
        (b"", ""),
    ],
)
def test_an_address_is_read_as_it_is_handed_to_the_kernel(raw: bytes, text: str) -> None:
    assert sockaddr_text(raw) == text


def test_looking_does_not_touch_the_socket(keep: ExitStack) -> None:
    """A default timeout would make a socket object that is made for the look non-blocking, and with it the owner's socket."""
    client, peer = connection(keep)
    before = len(list(Path("/proc/self/fd").iterdir()))
    socket.setdefaulttimeout(5)
    try:
        descriptor_text(client.fileno())
    finally:
        socket.setdefaulttimeout(None)

    assert os.get_blocking(client.fileno())
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    peer.send(b"x")
    assert client.recv(1) == b"x"


def test_looking_at_a_file_keeps_the_locks_that_the_process_has_on_it(tmp_path: Path) -> None:
    with Path(tmp_path, "f").open("w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        descriptor_text(file.fileno())
        tried = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        assert (
            subprocess.run([sys.executable, "-c", tried, file.name], capture_output=True, check=False).returncode != 0
        )


# Pipes, files, children, sleep


def test_a_pipe_is_named(keep: ExitStack) -> None:
    reading, writing = os.pipe()
    keep.callback(os.close, reading)
    stuck = Stuck(lambda: os.read(reading, 1))

    assert stuck.see("read").resource == f"pipe, descriptor {reading}"
    os.close(writing)
    assert stuck.result() == b""


def test_a_fifo_that_nobody_opens_is_named(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    stuck = Stuck(lambda: os.close(os.open(fifo, os.O_RDONLY)))

    assert stuck.see("openat").resource == f"the opening of file {fifo}"
    os.close(os.open(fifo, os.O_RDWR | os.O_NONBLOCK))
    stuck.result()


def test_a_file_lock_names_the_file(keep: ExitStack, tmp_path: Path) -> None:
    first, second = (keep.enter_context(Path(tmp_path, "lock").open("w")) for _ in range(2))  # noqa: SIM115
    fcntl.flock(first, fcntl.LOCK_EX)
    stuck = Stuck(lambda: fcntl.flock(second, fcntl.LOCK_EX))

    assert stuck.see("flock").resource == f"file {tmp_path / 'lock'}, descriptor {second.fileno()}"
    fcntl.flock(first, fcntl.LOCK_UN)
    stuck.result()


def test_a_child_process_is_named_by_its_command(keep: ExitStack) -> None:
    child = running_child(keep)
    stuck = Stuck(lambda: child.wait())

    assert stuck.see("wait4").resource == f"child process {child.pid} (cat -u)"
    child.kill()
    assert stuck.result() == -9


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (os.P_PID, "child process {} (cat -u)"),
        (os.P_ALL, "any child process"),
        (os.P_PGID, "a child process of a group"),
    ],
)
def test_a_child_that_is_waited_for_by_waitid_is_named(keep: ExitStack, kind: int, text: str) -> None:
    child = running_child(keep)
    stuck = Stuck(lambda: os.waitid(kind, 0 if kind == os.P_ALL else child.pid, os.WEXITED | os.WNOWAIT))

    assert stuck.see("waitid").resource == text.format(child.pid)
    child.kill()
    stuck.result()


def test_a_sleep_says_when_it_ends() -> None:
    asleep = subprocess.Popen(
        [sys.executable, "-c", SLEEPER],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert asleep.communicate()[0].split(" s ")[0] in (
        "the end of a sleep, 1000.0",
        "the end of a sleep, 999.9",
        "the end of a sleep, 999.8",
    )


SLEEPER = """
import os, threading, time
from minions.life.evidence import evidence_of
thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True)
thread.start()
while True:
    about = {"component": "", "epoch": 1, "doing": "", "message_id": "", "for_s": 0.0, "cpu_s": 0.0}
    seen = evidence_of(**about, ident=thread.ident, native_id=thread.native_id)
    if seen.system_call == "clock_nanosleep":
        print(seen.resource, flush=True)
        os._exit(0)
"""


def test_each_descriptor_of_a_select_is_named(keep: ExitStack) -> None:
    reading, writing = os.pipe()
    keep.callback(os.close, reading)
    keep.callback(os.close, writing)
    client, _ = connection(keep)
    stuck = Stuck(lambda: select.select([reading], [], [client]))

    both = stuck.see("select", "pselect6").resource

    assert sorted(both.split("; or ")) == sorted([descriptor_text(reading), descriptor_text(client.fileno())])
    os.write(writing, b"x")
    stuck.result()


def test_of_many_descriptors_a_few_are_named(keep: ExitStack) -> None:
    pipes = [os.pipe() for _ in range(6)]
    for descriptor in (descriptor for pair in pipes for descriptor in pair):
        keep.callback(os.close, descriptor)
    poll = select.poll()
    for reading, _ in pipes:
        poll.register(reading, select.POLLIN)
    stuck = Stuck(lambda: poll.poll())

    resource = stuck.see("poll", "ppoll").resource

    assert resource == "; or ".join([*(f"pipe, descriptor {reading}" for reading, _ in pipes[:4]), "others"])
    os.write(pipes[0][1], b"x")
    stuck.result()


def test_an_epoll_is_named(keep: ExitStack) -> None:
    reading, writing = os.pipe()
    keep.callback(os.close, reading)
    epoll = keep.enter_context(select.epoll())
    epoll.register(reading, select.EPOLLIN)
    stuck = Stuck(lambda: epoll.poll())

    assert stuck.see("epoll_wait", "epoll_pwait").resource == f"epoll, descriptor {epoll.fileno()}"
    os.close(writing)
    stuck.result()


def test_a_descriptor_that_is_not_open_is_said_to_be_none() -> None:
    assert descriptor_text(99_999) == "descriptor 99999, which is not open"


# Locks and what is made of them

GLOBAL_LOCK = threading.Lock()


class Held:
    """Things to wait for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reentrant = threading.RLock()
        self.queue: queue.Queue[int] = queue.Queue(3)
        self.simple: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.event = threading.Event()
        self.condition = threading.Condition()
        self.locks = {"a": threading.Lock(), "b": self.lock}
        self.pair = (1, self.lock)


@attrs.define
class Slotted:
    guard: Any


def held_by(lock: Any, name: str) -> tuple[threading.Thread, threading.Event]:
    """A thread that holds a lock until the event is set."""
    has, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has.set()
            let_go.wait()

    thread = threading.Thread(target=hold, name=name)
    thread.start()
    has.wait()
    return thread, let_go


def test_a_lock_is_named_as_the_code_writes_it() -> None:
    self = Held()
    self.lock.acquire()

    def body() -> None:
        with self.lock:
            pass

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert (seen.resource, seen.holder) == ("lock self.lock (threading.Lock)", "")
    self.lock.release()
    stuck.result()


def test_the_holder_of_a_reentrant_lock_is_named() -> None:
    self = Held()
    holder, let_go = held_by(self.reentrant, "greenhouse/database")

    def body() -> None:
        with self.reentrant:
            pass

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert (seen.resource, seen.holder) == ("lock self.reentrant (threading.RLock)", "greenhouse/database")
    assert (
        "waits for lock self.reentrant (threading.RLock), held by thread greenhouse/database (in futex)"
        in seen.sentence
    )
    let_go.set()
    holder.join()
    stuck.result()


def named(text: str) -> Callable[[Callable[[Held, Any], None]], Any]:
    return lambda body: pytest.param(body, text, id=body.__name__)


@named("lock slotted.guard (threading.Lock)")
def in_a_slot(held: Held, slotted: Any) -> None:
    with slotted.guard:
        pass


@named("lock GLOBAL_LOCK (threading.Lock)")
def global_(held: Held, _: Any) -> None:
    with GLOBAL_LOCK:
        pass


@named("lock held.locks[...] (threading.Lock)")
def in_a_dictionary(held: Held, _: Any) -> None:
    with held.locks["b"]:
        pass


@named("lock held.pair[1] (threading.Lock)")
def in_a_tuple(held: Held, _: Any) -> None:
    with held.pair[1]:
        pass


@pytest.mark.parametrize(("body", "text"), [in_a_slot, global_, in_a_dictionary, in_a_tuple])
def test_a_lock_is_found_where_it_is_kept(body: Callable[[Held, Any], None], text: str) -> None:
    held = Held()
    lock = GLOBAL_LOCK if body is global_.values[0] else held.lock
    slotted = Slotted(held.lock)

    with lock:
        stuck = Stuck(lambda: body(held, slotted))
        assert stuck.see("futex").resource == text
    stuck.result()


WAITS: list[tuple[str, str, Callable[[Held], Any], Callable[[Held], Any]]] = [
    (
        "get",
        "held.queue (queue.Queue, 0 items of at most 3)",
        lambda held: held.queue.get(),
        lambda held: held.queue.put(1),
    ),
    ("event", "held.event (threading.Event, not set)", lambda held: held.event.wait(), lambda held: held.event.set()),
    (
        "event, timed",
        "held.event (threading.Event, not set)",
        lambda held: held.event.wait(99),
        lambda held: held.event.set(),
    ),
]


@pytest.mark.parametrize(("text", "wait", "end"), [row[1:] for row in WAITS], ids=[row[0] for row in WAITS])
def test_what_is_waited_for_is_named(text: str, wait: Callable[[Held], Any], end: Callable[[Held], Any]) -> None:
    held = Held()
    stuck = Stuck(lambda: wait(held))

    assert stuck.see("futex").resource == text
    end(held)
    stuck.result()


def test_a_full_queue_a_condition_a_future_and_a_thread_are_named() -> None:
    full: queue.Queue[int] = queue.Queue(1)
    full.put(1)
    stuck = Stuck(lambda: full.put(2))
    assert stuck.see("futex").resource == "full (queue.Queue, 1 items of at most 1)"
    full.get()
    stuck.result()

    condition = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait()

    stuck = Stuck(wait)
    assert stuck.see("futex").resource == "condition (threading.Condition)"
    thread = stuck._thread
    joining = Stuck(lambda: thread.join())
    assert joining.see("futex").resource == "the end of thread stuck"
    with condition:
        condition.notify()
    stuck.result()
    joining.result()

    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    stuck = Stuck(lambda: future.result())
    assert stuck.see("futex").resource == "future (concurrent.futures._base.Future)"
    future.set_result(1)
    stuck.result()


def test_no_code_of_users_is_run_by_looking() -> None:
    class Counted:
        """What a queue of users keeps its items in."""

        def __init__(self) -> None:
            self.items: list[int] = []

        def __len__(self) -> int:
            ran.append(threading.current_thread())
            return len(self.items)

        def __format__(self, specification: str) -> str:
            ran.append(threading.current_thread())
            return "counted"

    class Own(queue.Queue[int]):
        def _init(self, maxsize: int) -> None:
            self.queue = Counted()
            self.maxsize = Counted()  # type: ignore[assignment]

        def _get(self) -> int:
            items: Any = self.queue
            number: int = items.items.pop()
            return number

        def _put(self, item: int) -> None:
            items: Any = self.queue
            items.items.append(item)

    class Hidden:
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            ran.append(threading.current_thread())
            return {}

    ran: list[threading.Thread] = []
    own, hidden = Own(), Hidden()

    def wait_with_both() -> int:
        assert hidden is not None
        return own.get()

    stuck = Stuck(wait_with_both)
    resource = stuck.see("futex").resource
    with own.mutex:  # as `put` would do it, which asks how many there are
        own._put(7)
        own.not_empty.notify()
    assert stuck.result() == 7
    assert "own (" in resource
    assert threading.current_thread() not in ran


def test_a_thread_that_waits_for_the_mutex_of_a_queue_is_not_said_to_wait_for_items() -> None:
    items: queue.Queue[int] = queue.Queue()
    with items.mutex:
        stuck = Stuck(lambda: items.get_nowait())
        assert stuck.see("futex").resource == "lock _lock of threading.Condition (threading.Lock)"
    stuck.result()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="from 3.13 on, a SimpleQueue has no lock of its own")
def test_a_simple_queue_is_named() -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    stuck = Stuck(lambda: items.get())

    assert stuck.see("futex").resource == "items (queue.SimpleQueue)"
    items.put(1)
    stuck.result()


def test_of_two_locks_the_one_that_is_waited_for_is_named() -> None:
    first, second = threading.Lock(), threading.Lock()

    def body() -> None:
        with first, second:
            pass

    with second:
        stuck = Stuck(body)
        assert stuck.see("futex").resource == "lock second (threading.Lock)"
    stuck.result()


def test_a_thread_that_was_made_for_one_wait_is_not_said_to_wait_for_itself() -> None:
    event = threading.Event()
    stuck = Stuck(event.wait, bare=True)
    assert stuck.see("futex").resource == "a threading.Event, not set"
    event.set()
    stuck.result()


def test_no_code_of_users_is_run_to_find_a_lock() -> None:
    ran = []

    class Nosy:
        def __getattribute__(self, name: str) -> Any:
            ran.append(name)
            return super().__getattribute__(name)

        def __repr__(self) -> str:
            ran.append("repr")
            return "nosy"

        @property
        def guard(self) -> threading.Lock:
            ran.append("property")
            return GLOBAL_LOCK

        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            ran.append("class")
            return Nosy

    nosy = Nosy()
    slotted = Slotted(threading.Lock())

    def body() -> None:
        _ = nosy
        with slotted.guard:
            pass

    with slotted.guard:
        stuck = Stuck(body)
        assert stuck.see("futex").resource == "lock slotted.guard (threading.Lock)"
    stuck.result()
    assert ran == []


def test_nothing_of_the_thread_is_kept_alive() -> None:
    event = threading.Event()

    def body() -> Any:
        held = Held()
        seen = weakref.ref(held)
        event.wait()
        return seen

    stuck = Stuck(body)
    stuck.see("futex")
    event.set()
    assert stuck.result()() is None


# On the CPU


def test_a_thread_that_computes_is_seen_on_the_cpu_among_others_that_compute() -> None:
    """Whoever looks holds the interpreter's lock, so the one that is looked at is often found waiting for just that."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    others = [Stuck(spin) for _ in range(3)]
    stuck = Stuck(spin)
    stuck.see_on_cpu()
    seen = [stuck.look() for _ in range(50)]
    over.set()

    assert all(evidence.on_cpu for evidence in seen)
    assert {evidence.system_call for evidence in seen} == {""}
    assert "it computes, it has used 0.5 s of CPU time since" in seen[0].sentence
    for thread in [stuck, *others]:
        thread.result()


def test_a_long_query_is_seen_on_the_cpu(keep: ExitStack) -> None:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    keep.callback(database.close)
    endless = "with recursive r(x) as (select 1 union all select x + 1 from r) select count(*) from r"
    begun = threading.Event()
    database.create_function("begun", 0, begun.set)
    stuck = Stuck(lambda: database.execute(f"select begun(), ({endless})").fetchall())
    begun.wait(PATIENCE_S)

    assert stuck.see_on_cpu().on_cpu
    database.interrupt()
    stuck.result()
    assert isinstance(stuck.error, sqlite3.OperationalError)


def test_the_cpu_time_of_a_thread_is_its_own() -> None:
    mine = thread_cpu_s(threading.get_native_id())
    assert mine == pytest.approx(time.thread_time(), abs=0.05)
    done = threading.Event()

    def idle() -> None:
        done.wait()

    stuck = Stuck(idle)
    stuck.see("futex")
    before = thread_cpu_s(stuck.native_id)
    sum(range(300_000))
    assert thread_cpu_s(stuck.native_id) == before
    assert thread_cpu_s(threading.get_native_id()) > mine  # type: ignore[operator]
    done.set()
    stuck.result()
    assert thread_cpu_s(2**22 + 1) is None


# Where less can be told


def test_of_a_thread_that_has_ended_it_is_said_so() -> None:
    stuck = Stuck(lambda: None)
    stuck.result()
    while Path(f"/proc/self/task/{stuck.native_id}").exists():
        os.sched_yield()  # the kernel's thread outlives Python's by a moment

    seen = stuck.look()

    assert (seen.stack, seen.on_cpu, seen.system_call, seen.resource) == ("", None, "", "")
    assert seen.sentence.endswith("its thread has ended.")


def test_without_proc_the_stack_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    stuck = Stuck(lambda: event.wait())
    stuck.see("futex")
    monkeypatch.setattr(system_calls, "read_proc", lambda path: "")

    seen = stuck.look()

    assert (seen.on_cpu, seen.system_call, seen.resource) == (None, "", "")
    assert "event.wait()" in seen.stack
    assert "whether it waits or computes cannot be told here" in seen.sentence
    event.set()
    stuck.result()


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"syscall": "running\n"}, Place(True)),
        ({"stat": "7 (a) b) R 1 2"}, Place(True)),
        ({"stat": "7 (a R b) S 1 2"}, Place(False)),
        ({"stat": "7 (nfs) D 1 2"}, Place(False)),
        ({}, Place(None)),
        ({"syscall": "-1 0x7f 0x7f", "wchan": "folio_wait_bit_common"}, Place(False, "folio_wait_bit_common")),
        ({"syscall": "-1 0x7f 0x7f", "wchan": "0"}, Place(False)),
        ({"syscall": "999 0x1 0x2 0x3 0x4 0x5 0x6 0x7f 0x7f"}, Place(False, "system call 999")),
        ({"syscall": "999 0x1 0x2 0x3 0x4 0x5 0x6 0x7f 0x7f", "wchan": "do_wait"}, Place(False, "do_wait")),
    ],
)
def test_what_the_kernel_tells_is_read(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], place: Place) -> None:
    monkeypatch.setattr(system_calls, "read_proc", lambda path: files.get(path.rsplit("/", 1)[-1], ""))
    assert place_of(7) == place


def test_a_thread_that_waits_for_the_lock_of_the_interpreter_counts_as_computing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [number] = [number for number, name in system_calls._NAMES.items() if name == "futex"]
    inside = system_calls._interpreter()
    assert len(inside) > 0
    for address, place in ((inside[0], Place(True)), (inside[-1] + 1, Place(False, "futex", (inside[-1] + 1,)))):
        monkeypatch.setattr(system_calls, "read_proc", lambda path, line=f"{number} {address:#x} 0x7f 0x7f": line)
        assert (place_of(7).on_cpu, place_of(7).args[:1]) == (place.on_cpu, place.args)


def test_memory_that_is_not_there_reads_as_nothing() -> None:
    assert memory_at(0, 16) == b""
    assert memory_at(2**64 - 1, 16) == b""


def test_a_thread_that_never_stands_still_has_a_stack_but_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    stuck = Stuck(lambda: event.wait())
    stuck.see("futex")
    places = iter(Place(False, "read", (number, 0, 0, 0, 0, 0)) for number in range(1_000, 2_000))
    monkeypatch.setattr("minions.life.evidence.place_of", lambda native_id: next(places))

    seen = stuck.look()

    assert (seen.on_cpu, seen.system_call, seen.resource) == (False, "", "")
    assert "event.wait()" in seen.stack
    event.set()
    stuck.result()


def test_the_sentence_says_where_and_for_how_long() -> None:
    seen = Evidence(
        component="average", epoch=2, doing="handling add", message_id="average.readings/7", for_s=12.34, cpu_s=0.0,
        on_cpu=False, system_call="recvfrom", resource="socket a -> b (descriptor 7)", holder="",
        stack='  File "outer.py", line 1, in add\n    call()\n  File "x.py", line 12, in call\n    sock.recv(1)\n',
    )  # fmt: skip

    assert seen.sentence == (
        "average (life 2) has made no progress for 12.3 s in handling add with message average.readings/7: "
        'it waits for socket a -> b (descriptor 7) (in recvfrom), at File "x.py", line 12, in call.'
    )
    assert ": it is blocked in the system call recvfrom, at" in attrs.evolve(seen, resource="", message_id="").sentence


def test_the_stack_begins_with_code_of_users() -> None:
    event = threading.Event()

    def body() -> None:
        event.wait()

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert seen.stack.startswith('  File "')
    assert "_bootstrap" not in seen.stack.splitlines()[0]
    assert seen.stack.rindex("event.wait()") > seen.stack.index("in body")
    event.set()
    stuck.result()

"""What is seen of a thread that hangs in a socket, a pipe, a file, a child process, a sleep: each is named."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from minions.life.descriptors import descriptor_text, sockaddr_text
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

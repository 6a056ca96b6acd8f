"""What a file descriptor of this process is, for people; and shutting a socket down by its number. Safe to call from any thread.

A descriptor is a number, and another thread may close it and get the same number for something else at any time. So what is said
here may be wrong for a descriptor that is not in use. Nothing is ever closed, not even a copy: to close any descriptor of a
file gives up all locks (`fcntl`) that this process has on that file, SQLite's among them.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["descriptor_text", "is_socket", "shut_down", "sockaddr_text"]

_SYN_SENT = 2
_ANONYMOUS = {"eventpoll": "epoll", "eventfd": "eventfd", "timerfd": "timer", "signalfd": "signals", "pidfd": "process"}


def descriptor_text(descriptor: int, goal: str = "") -> str:
    """What an open descriptor is, with its number; of one that is not open, that it is not.

    Args:
        goal: the address that a socket is about to connect to, where that is known.
    """
    try:
        link = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return f"descriptor {descriptor}, which is not open"
    if link.startswith("socket:"):
        return f"{_socket_text(descriptor, link[8:-1], goal)} (descriptor {descriptor})"
    if link.startswith("pipe:"):
        return f"pipe, descriptor {descriptor}"
    if link.startswith("anon_inode:"):
        kind = link[11:].strip("[]")
        return f"{_ANONYMOUS.get(kind, kind)}, descriptor {descriptor}"
    return f"{_file_kind(descriptor)} {link}, descriptor {descriptor}"


def is_socket(descriptor: int) -> bool:
    """Whether a number is the descriptor of an open socket."""
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except (OSError, OverflowError):
        return False


def shut_down(descriptor: int) -> None:
    """Ends both directions of the connection of a socket, which wakes the threads that are blocked in it. Never blocks.

    Raises:
        OSError: the descriptor is not that of an open socket. That the socket is not connected is no error: who waits for a
            connection, or for a datagram, is woken all the same.
    """
    with _borrowed(descriptor) as borrowed:
        try:
            borrowed.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise


def sockaddr_text(raw: bytes) -> str:
    """The address in the form in which a program hands it to the kernel, for people; empty where it is of no known family."""
    if len(raw) < 2:
        return ""
    (family,) = struct.unpack_from("=H", raw)
    if family == socket.AF_INET and len(raw) >= 8:
        return _host_and_port(socket.inet_ntop(family, raw[4:8]), raw[2:4])
    if family == socket.AF_INET6 and len(raw) >= 24:
        return _host_and_port(f"[{socket.inet_ntop(family, raw[8:24])}]", raw[2:4])
    if family == socket.AF_UNIX:
        return _unix_text(raw[2:] if raw[2:3] == b"\0" else raw[2:].split(b"\0")[0])
    return ""


def _host_and_port(host: str, port: bytes) -> str:
    return f"{host}:{int.from_bytes(port, 'big')}"


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that belongs to somebody else.

    Its type is given, and says that it does not block: looked up, it would be given the process's default timeout, which makes
    the owner's socket a non-blocking one.
    """
    if not is_socket(descriptor):
        raise OSError(errno.ENOTSOCK, f"descriptor {descriptor} is not an open socket")
    kind = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
    borrowed = socket.socket(type=kind, proto=0, fileno=descriptor)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def _socket_text(descriptor: int, inode: str, goal: str) -> str:
    try:
        with _borrowed(descriptor) as borrowed:
            return _described(borrowed, inode, goal)
    except OSError:
        return "socket"


def _described(borrowed: socket.socket, inode: str, goal: str) -> str:
    kind = "UDP socket" if _is_udp(borrowed) else "socket"
    here = _address_text(borrowed.family, borrowed.getsockname())
    try:
        there = _address_text(borrowed.family, borrowed.getpeername())
    except OSError:
        if borrowed.getsockopt(socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", 30)):
            return f"listening {kind} {here}"
        goal = goal or _goal(borrowed, inode)
        return f"{kind} {here} -> {goal}, not connected yet" if goal else f"{kind} {here}".rstrip() + ", not connected"
    if borrowed.family == socket.AF_UNIX:
        return f"unix {kind} {here or there}".rstrip()
    return f"{kind} {here} -> {there}"


def _is_udp(borrowed: socket.socket) -> bool:
    kind = borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
    return kind == socket.SOCK_DGRAM and borrowed.family in (socket.AF_INET, socket.AF_INET6)


def _goal(borrowed: socket.socket, inode: str) -> str:
    """Where a TCP socket is about to connect to. Only the table of all connections says so (1.5 ms)."""
    if borrowed.family not in (socket.AF_INET, socket.AF_INET6) or _is_udp(borrowed):
        return ""
    try:
        if borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _SYN_SENT:
            return ""
        table = Path("/proc/self/net", "tcp6" if borrowed.family == socket.AF_INET6 else "tcp").read_text(
            encoding="ascii"
        )
    except (OSError, AttributeError):
        return ""
    rows = (row.split() for row in table.splitlines()[1:])
    return next((_table_address(row[2]) for row in rows if len(row) > 9 and row[9] == inode), "")


def _table_address(text: str) -> str:
    """An address as the kernel's table has it: words of four bytes in the order of the machine, in hexadecimal."""
    host, port = text.split(":")
    words = [int(host[place : place + 8], 16) for place in range(0, len(host), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    name = socket.inet_ntop(family, raw)
    return f"{name}:{int(port, 16)}" if family == socket.AF_INET else f"[{name}]:{int(port, 16)}"


def _address_text(family: int, address: Any) -> str:
    if family == socket.AF_INET:
        return f"{address[0]}:{address[1]}"
    if family == socket.AF_INET6:
        return f"[{address[0]}]:{address[1]}"
    if family == socket.AF_UNIX:
        return _unix_text(address)
    return str(address)


def _unix_text(address: str | bytes) -> str:
    """A path; an abstract name, which begins with a zero byte, as its tools show it."""
    text = address if isinstance(address, str) else os.fsdecode(address)
    return f"@{text[1:]}" if text.startswith("\0") else text


def _file_kind(descriptor: int) -> str:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return "file"
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "device" if stat.S_ISCHR(mode) else "file"

"""What the thread of a component is doing, gathered from outside: its stack, its system call, what it waits for, its CPU time.

Called by any thread but the one in question. It holds no lock, stops no thread and runs no code of users; what it cannot find
out is left empty. Linux tells all of it, other platforms the stack.

A report takes 45 to 80 microseconds of CPU time (CPython 3.11 to 3.13; a thread blocked in a socket or in a lock, few frames),
and 1.5 ms for a TCP socket that waits for its connection with a timeout.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from collections.abc import Callable

from minions.events import Evidence
from minions.life.descriptors import descriptor_text, sockaddr_text
from minions.life.locks import waited_for
from minions.life.system_calls import Place, memory_at, place_of, read_proc
from minions.life.traces import lines_of, print_lines
from minions.threads import reading_frames

__all__ = ["evidence_of"]

_MOST_LOOKS = 3
_MOST_DESCRIPTORS = 4
_SELECT_BYTES = 128  # of a set of 1,024 descriptors, the most that select takes
_P_PID, _P_PGID, _P_PIDFD = 1, 2, 3

Look = tuple[list[tuple[str, int, str]], str, str]
"""The lines of a stack, what the thread waits for, and which thread holds that."""


def evidence_of(
    *,
    component: str,
    epoch: int,
    doing: str,
    message_id: str,
    for_s: float,
    cpu_s: float,
    ident: int,
    native_id: int,
) -> Evidence:
    """Looks at a thread.

    Args:
        component: whose thread it is, as are `epoch`, `doing`, `message_id`, `for_s` and `cpu_s`; see `Evidence`.
        ident: of the thread, as `threading` counts.
        native_id: of the thread, as the kernel counts.
    """
    place, (lines, resource, holder) = _steady_look(ident, native_id)
    return Evidence(
        component=component,
        epoch=epoch,
        doing=doing,
        message_id=message_id,
        for_s=for_s,
        cpu_s=cpu_s,
        on_cpu=place.on_cpu,
        system_call=place.call,
        resource=resource,
        holder=holder,
        stack=print_lines(lines),
    )


def _steady_look(ident: int, native_id: int) -> tuple[Place, Look]:
    """Where the thread is in the kernel and what that means.

    A thread that goes on while it is looked at shows a system call of one moment and a stack of another. So it is looked at again
    until the call is the same before and after; when that does not happen soon, the call and the resource are left empty.
    """
    place = place_of(native_id)
    for _ in range(_MOST_LOOKS):
        look = _look(place, ident)
        after = place_of(native_id)
        if after == place:
            return place, look
        place = after
    lines, _, _ = _look(Place(place.on_cpu), ident)
    return Place(place.on_cpu), (lines, "", "")


def _look(place: Place, ident: int) -> Look:
    """The stack, what the thread waits for, and who has it. No frame outlives the call."""
    with reading_frames():
        frame = sys._current_frames().get(ident)
        if frame is None:
            return [], "", ""
        lines = lines_of(frame)
        if place.call == "futex":
            resource, holder = waited_for(frame, place.args[0])
            return lines, resource, holder
    return lines, _resource_of(place), ""


def _resource_of(place: Place) -> str:
    """What a system call waits for; empty where its arguments do not tell."""
    describe = _DESCRIBERS.get(place.call)
    try:
        return "" if describe is None else describe(place.args)
    except (OSError, ValueError, struct.error):
        return ""


def _int(word: int) -> int:
    """A C int out of a register, of which it fills one half."""
    return (word & 0xFFFF_FFFF) - ((word & 0x8000_0000) << 1)


def _descriptor(args: tuple[int, ...]) -> str:
    return descriptor_text(_int(args[0]))


def _connection(args: tuple[int, ...]) -> str:
    return descriptor_text(_int(args[0]), sockaddr_text(memory_at(args[1], args[2])))


def _polled(args: tuple[int, ...]) -> str:
    """The descriptors of an array of `struct pollfd`, which the call points at."""
    raw = memory_at(args[0], 8 * min(args[1], _MOST_DESCRIPTORS + 1))
    return _one_of([descriptor for descriptor, _, _ in struct.iter_unpack("=ihh", raw)])


def _selected(args: tuple[int, ...]) -> str:
    """The descriptors of the three bit sets that the call points at."""
    wanted = 0
    size = min((args[0] + 7) // 8, _SELECT_BYTES)
    for address in args[1:4]:
        if address:
            wanted |= int.from_bytes(memory_at(address, size), sys.byteorder)
    return _one_of([number for number in range(size * 8) if wanted >> number & 1])


def _one_of(descriptors: list[int]) -> str:
    shown = [descriptor_text(descriptor) for descriptor in descriptors[:_MOST_DESCRIPTORS]]
    more = ["others"] if len(descriptors) > _MOST_DESCRIPTORS else []
    return "; or ".join(shown + more)


def _child(args: tuple[int, ...]) -> str:
    pid = _int(args[0])
    return _process(pid) if pid > 0 else "any child process" if pid == -1 else "a child process of a group"


def _child_by_kind(args: tuple[int, ...]) -> str:
    if args[0] == _P_PID:
        return _process(_int(args[1]))
    return {_P_PGID: "a child process of a group", _P_PIDFD: "the process of a descriptor"}.get(
        args[0], "any child process"
    )


def _process(pid: int) -> str:
    command = " ".join(read_proc(f"/proc/{pid}/cmdline").replace("\0", " ").split())
    return f"child process {pid} ({command[:200]})" if command else f"child process {pid}"


def _sleep(args: tuple[int, ...]) -> str:
    """The end of a sleep that says for how long, or, as those of Python do, until when."""
    seconds, nanoseconds = struct.unpack("=qq", memory_at(args[2], 16))
    until_s = seconds + nanoseconds / 1e9
    left_s = until_s - time.clock_gettime(_int(args[0])) if args[1] else until_s
    return (
        f"the end of a sleep, {max(left_s, 0.0):.1f} s from now" if args[1] else f"the end of a sleep of {left_s:.1f} s"
    )


def _file(args: tuple[int, ...]) -> str:
    name = os.fsdecode(_text_at(args[1]))
    return f"the opening of file {name}" if name else ""


def _text_at(address: int) -> bytes:
    """A C string; what can be read of it may end at a page's end."""
    for size in (4096, 4096 - address % 4096):
        if raw := memory_at(address, size):
            return raw.split(b"\0")[0]
    return b""


_DESCRIBERS: dict[str, Callable[[tuple[int, ...]], str]] = {
    **dict.fromkeys(
        (
            "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "sendfile", "splice", "ioctl",
            "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "accept", "accept4", "fcntl", "flock", "fsync", "fdatasync",
            "ftruncate", "copy_file_range", "epoll_wait", "epoll_pwait", "epoll_pwait2",
        ),
        _descriptor,
    ),
    "connect": _connection,
    "poll": _polled,
    "ppoll": _polled,
    "select": _selected,
    "pselect6": _selected,
    "wait4": _child,
    "waitid": _child_by_kind,
    "clock_nanosleep": _sleep,
    "openat": _file,
}  # fmt: skip

"""What one thread of this process does in the kernel, as `/proc` tells it.

No state but what never changes; safe to call from any thread. Nothing here stops or delays the thread that is looked at, so each
answer is of a moment that is past. Whatever cannot be read (another platform, a hardened container, a thread that has just
ended) makes an answer shorter, never an error.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path

import attrs

__all__ = ["Place", "memory_at", "place_of", "read_proc"]

# Names and numbers of the system calls that block, for the two architectures; the generic table is used by aarch64 and riscv64.
_X86_64 = {
    "read": 0, "write": 1, "open": 2, "stat": 4, "poll": 7, "ioctl": 16, "pread64": 17, "pwrite64": 18, "readv": 19,
    "writev": 20, "select": 23, "msync": 26, "pause": 34, "nanosleep": 35, "sendfile": 40, "connect": 42, "accept": 43,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "wait4": 61, "semop": 65, "msgrcv": 70, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "ftruncate": 77, "rename": 82, "unlink": 87, "rt_sigtimedwait": 128,
    "futex": 202, "io_getevents": 208, "semtimedop": 220, "clock_nanosleep": 230, "epoll_wait": 232, "mq_timedreceive": 243,
    "waitid": 247, "openat": 257, "newfstatat": 262, "pselect6": 270, "ppoll": 271, "splice": 275, "epoll_pwait": 281,
    "accept4": 288, "preadv": 295, "pwritev": 296, "recvmmsg": 299, "copy_file_range": 326, "statx": 332, "epoll_pwait2": 441,
}  # fmt: skip
_GENERIC = {
    "epoll_pwait": 22, "fcntl": 25, "ioctl": 29, "flock": 32, "ftruncate": 46, "openat": 56, "read": 63, "write": 64,
    "readv": 65, "writev": 66, "pread64": 67, "pwrite64": 68, "preadv": 69, "pwritev": 70, "sendfile": 71, "pselect6": 72,
    "ppoll": 73, "splice": 76, "newfstatat": 79, "fsync": 82, "fdatasync": 83, "waitid": 95, "futex": 98, "nanosleep": 101,
    "clock_nanosleep": 115, "rt_sigtimedwait": 137, "mq_timedreceive": 183, "msgrcv": 188, "semtimedop": 192, "semop": 193,
    "accept": 202, "connect": 203, "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "msync": 227,
    "accept4": 242, "recvmmsg": 243, "wait4": 260, "copy_file_range": 285, "statx": 291, "epoll_pwait2": 441,
}  # fmt: skip
_TABLES = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC}
_NAMES = {number: name for name, number in _TABLES.get(platform.machine(), {}).items()}


@attrs.frozen
class Place:
    """Where a thread was in the kernel.

    Attributes:
        on_cpu: whether it ran, was ready to run, or waited for nothing but the interpreter's lock; None where it cannot be told.
        call: the name of the system call that it was blocked in. Where the call is not among those known here, what the kernel
            calls the place that it waited at, or the call's number; empty where it was in none, or it cannot be told.
        args: the arguments of the call, as the kernel received them.
    """

    on_cpu: bool | None
    call: str = ""
    args: tuple[int, ...] = ()


def place_of(native_id: int) -> Place:
    """Where a thread of this process is in the kernel."""
    task = f"/proc/self/task/{native_id}"
    line = read_proc(f"{task}/syscall")
    if line.startswith("running"):
        return Place(True)
    if not line:
        return Place(_state_says_on_cpu(read_proc(f"{task}/stat")))
    number, *words = line.split()
    args = tuple(int(word, 16) for word in words[:6])
    call = _NAMES.get(int(number), "")
    if call == "futex" and args[0] in _interpreter():
        return Place(True)
    return Place(False, call or _where_it_waits(task, int(number)), args if call else ())


def read_proc(path: str) -> str:
    """The beginning of a small file of `/proc`; empty when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def memory_at(address: int, size: int) -> bytes:
    """Bytes out of the memory of this process; empty where there are none.

    What a blocked call points at may be freed at any time by the thread that made it. Read by way of the kernel this gives
    stale bytes or none, where following the pointer would end the process.
    """
    try:
        descriptor = os.open("/proc/self/mem", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, address)
    except (OSError, OverflowError):
        return b""
    finally:
        os.close(descriptor)


def _state_says_on_cpu(stat: str) -> bool | None:
    """Reads the one letter of the thread's state; the name before it, in brackets, may contain anything."""
    fields = stat[stat.rfind(")") + 1 :].split()
    return fields[0] == "R" if fields else None


def _where_it_waits(task: str, number: int) -> str:
    where = read_proc(f"{task}/wchan").strip()
    if where not in ("", "0"):
        return where
    return f"system call {number}" if number >= 0 else ""


@functools.cache
def _interpreter() -> range:
    """The addresses of the interpreter's static data, where its own lock (the GIL) lives; locks made by Python code do not.

    A thread that computes is often found waiting there, if only because whoever looks at it holds that lock.
    """
    if sys.implementation.name != "cpython":
        return range(0)
    try:
        start = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return range(0)
    end = 0
    for line in lines:
        span, _, _, _, _, *name = line.split(maxsplit=5)
        low, high = (int(word, 16) for word in span.split("-"))
        if low <= start < high:
            end = high
        elif end:
            # Zeroed data follows the file's own, in one mapping without a name.
            return range(start, high if low == end and not name else end)
    return range(start, end)

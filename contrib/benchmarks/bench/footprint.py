"""What a process takes of memory, told by the process itself: only it can ask its allocators what they hold."""

import csv
import ctypes
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import attrs


@attrs.frozen
class Moment:
    """What a process takes at one moment.

    Attributes:
        second: since the first message may have been sent.
        messages: sent so far.
        resident_bytes: what the kernel counts, with the pages of files such as libraries, which it may take away at any time.
        private_bytes: resident memory without those pages.
        free_bytes: what of it the C allocator holds and nobody uses; 0 where it cannot be asked (it is glibc that can).
        blocks: objects and parts of objects that Python has allocated and not freed.
        store_bytes: of all files in the state folder.
    """

    second: float
    messages: int
    resident_bytes: int
    private_bytes: int
    free_bytes: int
    blocks: int
    store_bytes: int

    @property
    def kept_bytes(self) -> int:
        """What is in use: private memory without what the allocator holds free."""
        return self.private_bytes - self.free_bytes


_HEADER = [field.name for field in attrs.fields(Moment)]


class _MallocInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def free_asker() -> Callable[[], int]:
    """A function that tells how many bytes the C allocator holds free, in all its arenas."""
    function: Any = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if function is None:
        return lambda: 0
    function.restype = _MallocInfo
    return lambda: int(function().fordblks)


def resident() -> tuple[int, int]:
    """Resident memory of this process and the private part of it, in bytes."""
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssAnon"):
            found[name] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["RssAnon"]


@contextmanager
def noted(file: Path, folder: Path, messages: Callable[[], int], every_s: float) -> Iterator[None]:
    """Writes a moment into `file` each `every_s` seconds, from a thread of its own, until the block is left."""
    over = threading.Event()
    start, free = monotonic(), free_asker()

    def moment() -> Moment:
        resident_bytes, private_bytes = resident()
        free_bytes, blocks = free(), sys.getallocatedblocks()
        stored = sum(_size(each) for each in folder.rglob("*"))
        return Moment(
            round(monotonic() - start, 3), messages(), resident_bytes, private_bytes, free_bytes, blocks, stored
        )

    def note() -> None:
        with file.open("w", newline="") as output:
            rows = csv.writer(output)
            rows.writerow(_HEADER)
            while not over.wait(every_s):
                rows.writerow(attrs.astuple(moment()))
                output.flush()

    thread = threading.Thread(target=note, name="footprint", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:  # gone since it was listed
        return 0


def write(path: Path, moments: Iterable[Moment]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_HEADER)
        rows.writerows(attrs.astuple(moment) for moment in moments)


def read(path: Path) -> list[Moment]:
    """What `write` or `noted` wrote.

    Raises:
        ValueError: it is not such a file.
    """
    with path.open(newline="") as file:
        found = csv.DictReader(file)
        if found.fieldnames != _HEADER:
            raise ValueError(f"{path} was not written by memory.py --csv: its columns are {found.fieldnames}")
        return [
            Moment(float(row["second"]), *(int(row[name]) for name in _HEADER if name != "second")) for row in found
        ]

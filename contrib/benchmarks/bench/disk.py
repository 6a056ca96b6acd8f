"""Where durable contenders write, and what that disk can do."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

_IN_MEMORY = {"tmpfs", "ramfs"}


def filesystem(folder: Path) -> str:
    """The type of the file system that holds `folder`; "unknown" where the kernel has no /proc/self/mounts."""
    found, kind = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return kind
    place = str(folder.resolve()) + "/"
    for mount in mounts:
        _, point, mounted, *_ = mount.split(" ")
        if place.startswith(point.rstrip("/") + "/") and len(point) >= len(found):
            found, kind = point, mounted
    return kind


def in_memory(folder: Path) -> bool:
    return filesystem(folder) in _IN_MEMORY


def real_disk() -> Path:
    """The first usual place for temporary files that is on a disk; the first of all if none is."""
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    return next((place for place in places if os.access(place, os.W_OK) and not in_memory(place)), places[0])


def fsync_us(folder: Path, attempts: int = 50) -> float:
    """Median microseconds of writing 4 KiB and waiting for the disk."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(attempts):
            start = perf_counter()
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
            times.append(perf_counter() - start)
    return median(times) * 1e6


@contextmanager
def fresh_folder(base: Path) -> Iterator[Path]:
    """Gone again afterwards, whatever was left in it."""
    with tempfile.TemporaryDirectory(prefix="minions-benchmark-", dir=base, ignore_cleanup_errors=True) as folder:
        yield Path(folder)

"""What the control groups of this process allow it (cgroup v1 and v2, up to the root). Reads files; no thread and no lock.

A process in a container sees the memory and the cores of the whole machine wherever it asks, and is killed at its own bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

__all__ = ["Allowed", "allowed"]

_MOUNT = re.compile(
    r"\S+ \S+ \S+ (?P<root>\S+) (?P<point>\S+) .*? - (?P<kind>cgroup2?) \S+ (?P<options>\S+)"
)  # a line of mountinfo; between mount options and dash there are any number of optional fields

_NO_BOUND = 1 << 60
"""What version 1 writes for "no bound" is the largest multiple of a page below 2**63; nobody has so much memory."""


@attrs.frozen(kw_only=True)
class Allowed:
    """The least of all bounds; None where there is none.

    Attributes:
        memory_bytes: memory, in bytes.
        cores: CPU time by time, in cores.
    """

    memory_bytes: int | None = None
    cores: float | None = None


def allowed(process: Path = Path("/proc/self")) -> Allowed:
    """What the groups of a process allow it. Where there are none, or they cannot be read, there is no bound.

    Args:
        process: the folder of the process below ``/proc``; it says where the groups are.
    """
    memory: list[int] = []
    cores: list[float] = []
    for folder in _folders(process):
        memory += _bounds_in(folder)
        cores += _quotas_in(folder)
    return Allowed(memory_bytes=min(memory, default=None), cores=min(cores, default=None))


def _folders(process: Path) -> Iterator[Path]:
    """The groups that the process is in, and those around each of them."""
    groups = _groups(_text(process / "cgroup").splitlines())
    for line in _text(process / "mountinfo").splitlines():
        mount = _MOUNT.fullmatch(line)
        if mount is None:
            continue
        controllers = {""} if mount["kind"] == "cgroup2" else set(mount["options"].split(","))
        for controller in sorted(controllers & groups.keys()):
            yield from _up(Path(_plain(mount["point"])), _below(groups[controller], _plain(mount["root"])))


def _groups(lines: Iterable[str]) -> dict[str, str]:
    """The path of the group for each controller that matters; version 2 has one group, under the empty name."""
    found = {}
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller in ("", "memory", "cpu"):
                found[controller] = path
    return found


def _below(path: str, root: str) -> str:
    """The path of a group below the one that is mounted; nothing where it lies elsewhere, as in some containers."""
    parts, roots = [part for part in path.split("/") if part], [part for part in root.split("/") if part]
    if ".." in parts or parts[: len(roots)] != roots:
        return ""
    return "/".join(parts[len(roots) :])


def _up(point: Path, below: str) -> Iterator[Path]:
    folder = point / below
    while folder != point:
        yield folder
        folder = folder.parent
    yield point


def _bounds_in(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdecimal() and int(text) < _NO_BOUND:
            yield int(text)


def _quotas_in(folder: Path) -> Iterator[float]:
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    yield from _cores(quota, period)
    yield from _cores(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _cores(quota: str, period: str) -> Iterator[float]:
    """Microseconds in each so many; "max" and -1 say that there is no quota."""
    if quota.isdecimal() and period.isdecimal() and int(period):
        cores = int(quota) / int(period)
        if 0 < cores < math.inf:
            yield cores


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _plain(escaped: str) -> str:
    """A path of mountinfo, where blanks are written as numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), escaped)

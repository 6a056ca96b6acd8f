"""The mark: the number of the last commit, kept beside the database, to notice when the database has gone back in time.

SQLite opens an older or an empty database silently when its write-ahead log was deleted or damaged. The mark is written
after each commit and never fsynced: it survives the death of the process, though perhaps not a power loss. Hence it says
in which boot of the machine it was written. Owned by the thread that owns the store; no lock.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from zlib import crc32

from minions.flow.own_file import open_own_file

__all__ = ["Mark"]

MARK_FILE = "mark"

_LAYOUT = struct.Struct(">16sQI")  # boot id, commit number, crc32 of the two
_BODY_BYTES = 24
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Mark:
    """The mark file of a folder; reading it leaves no trace, `open` comes before `write`.

    Attributes:
        commit_number: the commit that the mark named when it was read; 0 where there is none. A mark that is cut short or
            fails its own checksum counts as none: a power loss may leave it so beside a database that is whole.
        same_boot: whether the machine has been up since it was written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARK_FILE
        self._descriptor: int | None = None
        self._boot_id = _boot_id()
        self.commit_number = 0
        self.same_boot = False
        raw = self._path.read_bytes()[: _LAYOUT.size] if self._path.is_file() else b""
        if len(raw) == _LAYOUT.size:
            boot_id, commit_number, crc = _LAYOUT.unpack(raw)
            if crc32(raw[:_BODY_BYTES]) == crc:
                self.commit_number = commit_number
                self.same_boot = boot_id == self._boot_id

    def open(self) -> None:
        """Make ready for `write`. Raises StoreUnusable."""
        self._descriptor = open_own_file(self._path)

    def write(self, commit_number: int) -> None:
        """Name a commit. Raises OSError."""
        assert self._descriptor is not None, "the mark is not open"
        body = (self._boot_id or bytes(16)) + commit_number.to_bytes(8, "big")
        os.pwrite(self._descriptor, body + crc32(body).to_bytes(4, "big"), 0)

    def close(self) -> None:
        """It is safe to call this twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _boot_id() -> bytes | None:
    """None where the system does not tell: then no mark counts as of the same boot."""
    try:
        return bytes.fromhex(_BOOT_ID_FILE.read_text().strip().replace("-", ""))
    except (OSError, ValueError):
        return None

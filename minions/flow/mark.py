"""The mark: the number of the last commit, kept beside the database, to notice when the database has gone back in time.

SQLite opens an older or an empty database silently when its write-ahead log was deleted or damaged. The mark is written
after each commit without an fsync: it survives the death of the process, though perhaps not a power loss. Hence it says in which
boot of the machine it was written, and whether there are commits that a power loss may take; that alone is fsynced when it
changes. Beside it stands what the database file looked like from outside, to notice later that nobody else has written to it.
Owned by the thread that owns the store; no lock.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from zlib import crc32

from minions.flow.own_file import open_own_file
from minions.flow.trouble import NO_DESCRIPTOR

__all__ = ["UNKNOWN_LOOKS", "Mark"]

MARK_FILE = "mark"

_LAYOUT = struct.Struct(">16sQI")  # boot id, commit number (and _AT_RISK), crc32 of the two
_AT_RISK = 1 << 63
_BODY_BYTES = 24
_LOOKS = struct.Struct(
    ">16sI"
)  # the looks, crc32 of both; behind the first, which earlier versions read and write alone
UNKNOWN_LOOKS = bytes(16)
_CRC_BYTES = 4
_BYTES = _LAYOUT.size + _LOOKS.size
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class Mark:
    """The mark file of a folder; reading it leaves no trace, `open` comes before `write`.

    Attributes:
        commit_number: the commit that the mark named when it was read; 0 where there is none. A mark that is cut short or
            fails its own checksum counts as none: a power loss may leave it so beside a database that is whole.
        same_boot: whether the machine has been up since it was written.
        at_risk: whether there were, or could be since, commits that a power loss may take.
        looks: what the database file looked like from outside, 16 bytes; or `UNKNOWN_LOOKS`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARK_FILE
        self._descriptor: int | None = None
        self._lasting_risk: bool | None = None  # what was last fsynced since `open`
        self._boot_id = _boot_id()
        self.commit_number = 0
        self.same_boot = False
        self.at_risk = False
        self.looks = UNKNOWN_LOOKS
        raw = self._path.read_bytes()[:_BYTES] if self._path.is_file() else b""
        if len(raw) >= _LAYOUT.size:
            boot_id, number, crc = _LAYOUT.unpack_from(raw)
            if crc32(raw[:_BODY_BYTES]) == crc:
                self.commit_number = number & ~_AT_RISK
                self.at_risk = bool(number & _AT_RISK)
                self.same_boot = boot_id == self._boot_id
                self._read_looks(raw)

    def _read_looks(self, raw: bytes) -> None:
        if len(raw) == _BYTES:
            looks, crc = _LOOKS.unpack_from(raw, _LAYOUT.size)
            if crc32(raw[:-_CRC_BYTES]) == crc:
                self.looks = looks

    def open(self) -> None:
        """Make ready for `write`. Raises StoreUnusable."""
        self._descriptor = open_own_file(self._path)

    def write(self, commit_number: int, *, at_risk: bool = False, looks: bytes = UNKNOWN_LOOKS) -> None:
        """Name a commit. Raises OSError.

        Args:
            at_risk: whether a power loss may take it, or those that follow until the next change of this, which lasts.
            looks: see above.
        """
        assert self._descriptor is not None, "the mark is not open"
        number = commit_number | (_AT_RISK if at_risk else 0)
        body = (self._boot_id or bytes(16)) + number.to_bytes(8, "big")
        body += crc32(body).to_bytes(_CRC_BYTES, "big") + looks
        os.pwrite(self._descriptor, body + crc32(body).to_bytes(_CRC_BYTES, "big"), 0)
        if at_risk != self._lasting_risk:
            os.fsync(self._descriptor)
            self._lasting_risk = at_risk

    def close(self) -> None:
        """It is safe to call this twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _boot_id() -> bytes | None:
    """None where the system does not tell: then no mark counts as of the same boot.

    Raises:
        OSError: it might tell, but there is no descriptor or no memory to ask: damage must not pass for a power loss.
    """
    try:
        return bytes.fromhex(_BOOT_ID_FILE.read_text().strip().replace("-", ""))
    except OSError as error:
        if error.errno in {*NO_DESCRIPTOR, errno.ENOMEM}:
            raise
        return None
    except ValueError:
        return None

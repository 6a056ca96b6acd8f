"""The small files that the store keeps beside its database, and their names. No thread, no lock."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minions.errors import StoreUnusable
from minions.flow.trouble import NO_DESCRIPTOR, opening_failure

__all__ = ["open_own_file", "sync_folder"]


def open_own_file(path: Path) -> int:
    """A descriptor for reading and writing; the file is created, for this user only, where there is none.

    A link is not followed: these files are written over, and a planted link would lead to somebody else's file.

    Raises:
        StoreUnusable: it cannot be opened, or is something other than a regular file.
    """
    try:
        # O_NONBLOCK: a planted FIFO must not keep us waiting
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise opening_failure(error, path) from error
        raise StoreUnusable(
            f"cannot open {path} for writing: {error.strerror}; it must be a regular file, and it and its folder"
            " must be writable for the user who runs this process"
        ) from error
    try:
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        os.close(descriptor)
        raise opening_failure(error, path) from error
    if not is_regular:
        os.close(descriptor)
        raise StoreUnusable(f"{path} is not a regular file; move it away")
    return descriptor


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What the demo does with files: finding, reading and counting them. Nothing here knows of components."""

import codecs
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import attrs

BLOCK_BYTES = 1 << 20  # files are read block by block, and the first block is indexed
SKIPPED = ("__pycache__", "site-packages")  # come and go while Python is used


@attrs.frozen
class Counted:
    path: str
    kind: str
    lines: int = 0
    words: int = 0
    size_bytes: int = 0
    sha256: str = ""
    problem: str = ""


def walk(folder: str, *, leave_out: str) -> Iterator[str]:
    """The paths of all files below a folder, sorted. Links to folders are not followed."""
    top = Path(folder)
    ahead = [top]
    while ahead:
        path = ahead.pop()
        if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir() raises where it may not look
            yield text_of(path.relative_to(top))
        elif path == top or not (path.is_symlink() or path.name in SKIPPED or path == Path(leave_out)):
            try:
                ahead += sorted(path.iterdir(), key=lambda inside: text_of(inside.name), reverse=True)
            except OSError:
                yield text_of(path.relative_to(top))  # will count as a file that cannot be read


def text_of(path: str | Path) -> str:
    """A path as it can be stored: bytes that are not UTF-8 are written out in hexadecimal."""
    return os.fsencode(path).decode(errors="backslashreplace")


def with_one_more(checksum: str, file: Counted) -> str:
    """A sum of hashes: the order of the files does not matter, but each one does, and so does one that is counted twice."""
    fingerprint = hashlib.sha256(repr(attrs.astuple(file)).encode()).hexdigest()
    return f"{(int(checksum, 16) + int(fingerprint, 16)) % 2**256:064x}"


def measure(folder: str, path: str) -> tuple[Counted, str]:
    """What is to be counted of a text file of any size, and its first block."""
    lines = words = size_bytes = 0
    first, in_word = "", False
    digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
    if stat.S_IFMT(Path(folder, path).stat().st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
        raise OSError(errno.EINVAL, "not a regular file")  # to open a pipe would wait for somebody to write
    with Path(folder, path).open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            text = decoder.decode(block)
            first = first or text
            lines += text.count("\n")
            words += len(text.split()) - (in_word and not text[:1].isspace())  # one may go on from block to block
            in_word = not text[-1:].isspace()
            size_bytes += len(block)
            digest.update(block)
    decoder.decode(b"", final=True)
    suffix = Path(path).suffix.lower()
    kind = "(none)" if not suffix else suffix if len(suffix) <= 10 else "(other)"
    return Counted(path, kind, lines, words, size_bytes, digest.hexdigest()), first

"""What a disk may hold after a power loss, drawn from what a process was seen to write and to fsync.

`recorded` runs a program under strace. `Recording.image` builds a folder as of a moment of that run: what was fsynced by then is
there; each later write, truncation, creation, renaming and removal is there, is not, or (a write) is torn at sectors of 512
bytes. A name is there for certain only when its folder was fsynced after it was given, as POSIX has it. What is written to a
mapped file is not seen.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

__all__ = ["Recording", "recorded", "strace_command"]

SECTOR_BYTES = 512
_CALLS = "openat,write,pwrite64,ftruncate,fallocate,fsync,fdatasync,rename,unlink,mkdir,rmdir"
_OTHER_CALLS = "open,creat,writev,pwritev,link,linkat,unlinkat,renameat,renameat2,mkdirat,copy_file_range"
_LINE = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_HALF = re.compile(
    r"(?P<thread>\d+) +(?:<\.\.\. \w+ resumed>(?P<rest>.*)|(?P<begun>.*?)(?P<open> <unfinished \.\.\.>)?)"
)
_FILE = re.compile(r"\d+<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"(?P<text>[^"]*)"')


@attrs.frozen
class Change:
    """Something done to a file's content, or to the names in a folder.

    Attributes:
        subject: the file or folder that has to be fsynced for it to last: its number.
        apply: does it to an image.
        tear: does the part of it to an image that the given chance leaves; None where it is whole or not at all.
    """

    subject: int
    apply: Callable[[_Image], None]
    tear: Callable[[_Image, random.Random], None] | None = None


@attrs.frozen
class Sync:
    """An fsync that has returned; everything before its beginning that was done to its subject lasts."""

    subject: int
    begun_at: int


@attrs.frozen
class Said:
    """What the program wrote to its standard output."""

    text: str


Event = Change | Sync | Said


@attrs.define
class _Image:
    """Files and folders as numbers: what is in them, and under which names."""

    names: dict[Path, int]
    contents: dict[int, bytearray] = attrs.Factory(dict)

    def content(self, number: int) -> bytearray:
        return self.contents.setdefault(number, bytearray())

    def write(self, number: int, data: bytes, offset: int) -> None:
        content = self.content(number)
        content.extend(bytes(max(0, offset + len(data) - len(content))))
        content[offset : offset + len(data)] = data

    def extend(self, number: int, size: int) -> None:
        content = self.content(number)
        content.extend(bytes(max(0, size - len(content))))

    def truncate(self, number: int, size: int) -> None:
        content = self.content(number)
        del content[size:]
        content.extend(bytes(size - len(content)))


@attrs.define
class Recording:
    """What a program did below one folder, in order.

    Attributes:
        root: the folder, which was there and empty before.
        events: what was done and said.
    """

    root: Path
    events: list[Event] = attrs.Factory(list)
    _numbers: dict[Path, int] = attrs.Factory(dict)
    _folders: set[int] = attrs.Factory(set)
    _last_number: int = 0

    def image(self, moment: int, chance: random.Random, target: Path) -> None:
        """Builds what may be left when the power fails after so many events.

        Args:
            target: stands for the root; created.
        """
        image = _Image({self.root: self._number_of(self.root)})
        lasting = self._lasting(moment)
        lucky = chance.choice((0.0, 1.0, chance.random()))  # of what does not last: nothing, everything, some
        for at, event in enumerate(self.events[:moment]):
            if not isinstance(event, Change):
                continue
            if at < lasting.get(event.subject, 0) or chance.random() < lucky:
                event.apply(image)
            elif event.tear is not None and 0.0 < lucky < 1.0 and chance.random() < 0.5:
                event.tear(image, chance)
        self._lay_out(image, target)

    def said(self, moment: int) -> list[str]:
        """What the program had said by then."""
        return [event.text for event in self.events[:moment] if isinstance(event, Said)]

    def _lasting(self, moment: int) -> dict[int, int]:
        """By file or folder, up to which event everything is on disk."""
        lasting: dict[int, int] = {}
        for event in self.events[:moment]:
            if isinstance(event, Sync):
                lasting[event.subject] = max(lasting.get(event.subject, 0), event.begun_at)
        return lasting

    def _lay_out(self, image: _Image, target: Path) -> None:
        target.mkdir()
        for path, number in sorted(image.names.items()):
            here = target / path.relative_to(self.root)
            if path == self.root or not here.parent.is_dir():
                continue
            if number in self._folders:
                here.mkdir()
            else:
                here.write_bytes(image.content(number))

    # ------------------------------------------------------------------ noting down what strace has seen
    def note(self, call: str, arguments: str, result: int, begun_at: int) -> None:
        """Notes down one system call that has succeeded."""
        texts = [_decoded(match["text"]) for match in _TEXT.finditer(arguments)]
        file = _FILE.match(arguments)
        number = self._numbers.get(Path(_decoded(file["path"]).decode())) if file is not None else None
        if call in ("write", "pwrite64"):
            self._note_write(number, texts[0][:result], arguments)
        elif call in ("fsync", "fdatasync"):
            if number is not None:
                self.events.append(Sync(number, begun_at))
        elif call == "fallocate":
            if number is not None:
                mode, offset, length = map(int, arguments.split(",")[1:])
                assert mode == 0, f"fallocate({arguments}) is not understood"
                self.events.append(Change(number, lambda image: image.extend(number, offset + length)))
        elif call == "ftruncate":
            if number is not None:
                size = int(arguments.rpartition(",")[2])
                self.events.append(Change(number, lambda image: image.truncate(number, size)))
        else:
            self._note_names(call, [Path(text.decode()) for text in texts], arguments)

    def _note_write(self, number: int | None, data: bytes, arguments: str) -> None:
        if number is None:
            if data.startswith(b"acked "):
                self.events.append(Said(data.decode().strip()))
            return
        assert data, "an empty write?"
        offset = int(arguments.rpartition(",")[2])

        def tear(image: _Image, chance: random.Random) -> None:
            for start in range(0, len(data), SECTOR_BYTES):
                if chance.random() < 0.5:
                    image.write(number, data[start : start + SECTOR_BYTES], offset + start)

        self.events.append(Change(number, lambda image: image.write(number, data, offset), tear))

    def _note_names(self, call: str, paths: list[Path], arguments: str) -> None:
        path = paths[0]
        if not path.is_relative_to(self.root) or path == self.root:
            return
        assert call != "openat" or "O_TRUNC" not in arguments, f"truncated while it was opened: {path}"
        if call in ("openat", "mkdir"):
            if path not in self._numbers and (call == "mkdir" or "O_CREAT" in arguments):
                number = self._number_of(path)
                if call == "mkdir":
                    self._folders.add(number)
                self._note_name(path, lambda image: image.names.__setitem__(path, number))
        elif call == "rename":
            target, number = paths[1], self._numbers.pop(path)
            self._numbers[target] = number

            def rename(image: _Image) -> None:
                image.names.pop(path, None)
                image.names[target] = number

            self._note_name(target, rename)
        else:
            del self._numbers[path]
            self._note_name(path, lambda image: image.names.pop(path, None))

    def _note_name(self, path: Path, apply: Callable[[_Image], object]) -> None:
        self.events.append(Change(self._number_of(path.parent), lambda image: (apply(image), None)[1]))

    def _number_of(self, path: Path) -> int:
        if path not in self._numbers:
            self._last_number += 1
            self._numbers[path] = self._last_number
        return self._numbers[path]


def strace_command(output: Path) -> list[str | Path]:
    """What a command is put behind to have its writes noted down."""
    options = ["--seccomp-bpf", "-f", "-y", "-xx", "-qq", "-s", "4000000", "-e", "signal=none"]
    return ["strace", *options, "-e", f"trace={_CALLS},{_OTHER_CALLS}", "-o", output]


def recorded(command: Sequence[str | Path], root: Path, scratch: Path) -> Recording:
    """Runs a command, which must succeed, and returns what it did below a folder."""
    subprocess.run(
        [*strace_command(scratch), *command],
        check=True,
        timeout=110,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    recording = Recording(root)
    recording._folders.add(recording._number_of(root))
    for call, arguments, result, begun_at in _calls(scratch, recording.events):
        if result >= 0:
            assert call not in _OTHER_CALLS.split(",") or _is_elsewhere(arguments, root), f"{call} is not understood"
            recording.note(call, arguments, result, begun_at)
    return recording


def _calls(log: Path, events: list[Event]) -> Iterator[tuple[str, str, int, int]]:
    """Name, arguments and result of each system call, and how many events there were when it began."""
    begun: dict[str, tuple[str, int]] = {}
    with log.open() as lines:
        for line in lines:
            half = _HALF.fullmatch(line.rstrip("\n"))
            assert half is not None, line
            if half["open"]:
                begun[half["thread"]] = half["begun"], len(events)
                continue
            first, begun_at = begun.pop(half["thread"]) if half["rest"] is not None else ("", len(events))
            whole = _LINE.match(first + (half["rest"] if half["rest"] is not None else half["begun"]))
            if whole is not None:
                yield whole["call"], whole["arguments"], int(whole["result"]), begun_at


def _is_elsewhere(arguments: str, root: Path) -> bool:
    return str(root).encode() not in _decoded(arguments)


def _decoded(text: str) -> bytes:
    return re.sub(rb"\\x(..)", lambda match: bytes.fromhex(match[1].decode()), text.encode())

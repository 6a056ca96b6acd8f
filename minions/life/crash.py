"""The file of a crash: what it holds, how it is stored, and which of them there are in a folder. No thread, no lock.

It is stored by the codec, as states are: with the name of its class and a version, so that a later one is refused.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from minions.errors import CannotDecode, CrashRefused, StoreTooNew
from minions.flow.codec import TypeCodec, state_codec_of
from minions.life.crash_values import KeptError, KeptValue

__all__ = [
    "CRASHES",
    "Crash",
    "KeptCall",
    "KeptMessage",
    "KeptRead",
    "KeptReads",
    "KeptTable",
    "crash_in",
    "crash_named",
    "crash_of",
    "crashes_in",
    "files_in",
    "stored_form",
]

CRASHES = "crashes"
"""The folder of the files, in the state folder."""

SUFFIX = ".json"
_VERSION = 2
_LARGEST_BYTES = 200_000_000


@attrs.frozen
class KeptMessage:
    """A message that was in work.

    Attributes:
        inbox: its name, in its component.
        number: in its channel.
        type: of which type it is.
        stored: its stored form, JSON; empty where it is not kept.
        missing: why not.
    """

    inbox: str
    number: int
    type: str
    stored: str
    missing: str = ""


@attrs.frozen
class KeptTable:
    """What is known of a table as it was before the unit; see `capture.Read`. Stored forms are JSON."""

    known: dict[str, str | None] = attrs.Factory(dict)
    present: tuple[str, ...] = ()
    ranges: tuple[tuple[str, str | None], ...] = ()
    length: int | None = None


@attrs.frozen
class KeptCall:
    """A call: the one that was in work, or one that the unit has made.

    Attributes:
        component: which was called.
        by: who called, where it is the one in work.
        answer: what has come of it: "returned", "raised", or why there is no answer here.
    """

    component: str
    method: str
    arguments: tuple[KeptValue, ...] = ()
    keywords: dict[str, KeptValue] = attrs.Factory(dict)
    by: str = ""
    answer: str = ""
    returned: KeptValue | None = None
    raised: KeptError | None = None


@attrs.frozen
class KeptRead:
    """A read of the clock.

    Attributes:
        clock: the method of the component: "now" or "monotonic".
        seconds: what it said: since the epoch (UTC), or of the monotonic clock of the process.
    """

    clock: str
    seconds: float


@attrs.frozen
class KeptReads:
    """What a unit had read of the clock.

    Attributes:
        first: the first 1,000 reads, in order.
        more: how many there were beyond these.
        missing: why it is not known; empty where it is.
    """

    first: tuple[KeptRead, ...] = ()
    more: int = 0
    missing: str = ""


_OF_EARLIER_VERSIONS = KeptReads(missing="the version that has recorded the crash kept no clock reads")


@attrs.frozen(kw_only=True)
class Crash:
    """A unit of work that has failed: what went into it, and what came of it.

    Attributes:
        id: the name of its file, without what is behind the dot; by it the commands name it.
        system: the name of the system.
        program: the file that made the system, from the state folder; empty where it is not known.
        module: what its module was called: ``__main__`` where it was run as a script.
        component: the name of the component, with the number of the replica where there are several.
        class_name: its class, ``module:name``.
        epoch: the how manieth life of the component it was.
        kind: of the unit: "on_start", "handler", "run", "tick", "call", "after_commit" or "on_stop".
        where: the method that has failed; "on_start", "run" or "on_stop".
        error: type and text of the error, one line.
        error_kind: its class, ``module:name``.
        traceback: as Python prints it, from the first line of user code on; shortened where it is very long.
        frames: file, function and line of source of each frame of user code, the innermost last.
        at: when it failed, seconds since the epoch (UTC).
        monotonic_s: the same by the monotonic clock of the process.
        message_id: of the message in work; empty where there was none.
        attempt: the how manieth failure of that message it was; 0 where it is not put down to one.
        set_aside: whether the message was set aside with it.
        units: how many units the life had made before.
        partition: whose state was in place; None for the component's own.
        states: the stored forms of the states before the unit, by name; a state that is missing had its first value.
        tables: what is known of tables before the unit.
        messages: what was received.
        called: the call that was in work.
        calls: the calls that the unit had made of other components.
        calls_at_start: those that `on_start` had made in the same life.
        reads: what the unit had read of the clock.
        reads_at_start: what `on_start` had read of it in the same life.
        left_out: what is missing because the file would have been too large: "tables", "calls", "reads", "states", "messages".
        python: the version of Python.
    """

    id: str = ""
    system: str
    program: str = ""
    module: str = ""
    component: str
    class_name: str
    epoch: int
    kind: str
    where: str
    own_method: bool = False
    error: str
    error_kind: str
    traceback: str = ""
    frames: tuple[str, ...] = ()
    at: float
    monotonic_s: float
    message_id: str = ""
    attempt: int = 0
    set_aside: bool = False
    units: int = 0
    partition: int | None = None
    states: dict[str, str] = attrs.Factory(dict)
    tables: dict[str, KeptTable] = attrs.Factory(dict)
    messages: tuple[KeptMessage, ...] = ()
    called: KeptCall | None = None
    calls: tuple[KeptCall, ...] = ()
    calls_at_start: tuple[KeptCall, ...] = ()
    reads: KeptReads = _OF_EARLIER_VERSIONS
    reads_at_start: KeptReads = _OF_EARLIER_VERSIONS
    left_out: tuple[str, ...] = ()
    python: str = ""


@cache
def _codec() -> TypeCodec[Any]:
    # The first version had no clock reads; which of the defaults says so. A reader of that version refuses what has some.
    return state_codec_of(Crash, version=_VERSION, migrations={1: lambda plain: plain})


def stored_form(crash: Crash) -> bytes:
    """The bytes of its file: JSON.

    Raises:
        CannotEncode: something in it is no text that can be stored.
    """
    return _codec().encode(crash)


def crash_of(stored: bytes, name: str) -> Crash:
    """The crash that a file holds.

    Args:
        name: of the file, for people.

    Raises:
        CrashRefused: it is none, or of a later version.
    """
    try:
        crash: Crash = _codec().decode(stored)
    except (CannotDecode, StoreTooNew) as error:
        raise CrashRefused(f"{name} is no crash that this version can read: {error}") from error
    return crash


def crashes_in(folder: Path) -> Iterator[tuple[Path, Crash | CrashRefused]]:
    """The crashes of a state folder, the newest first; for a file that cannot be read, why. Reads the disk, in any process.

    Raises:
        OSError: the folder is there and cannot be listed.
    """
    for path in sorted(files_in(folder), reverse=True):
        try:
            yield path, crash_in(path)
        except CrashRefused as error:
            yield path, error


def crash_in(path: Path) -> Crash:
    """The crash in a file.

    Raises:
        CrashRefused: it cannot be read, is none, or of a later version.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with io.FileIO(descriptor, "rb") as file:
            stored = file.read(_LARGEST_BYTES)
    except OSError as error:
        raise CrashRefused(f"{path} cannot be read: {error.strerror or error}") from error
    return attrs.evolve(crash_of(stored, str(path)), id=path.stem)


def crash_named(folder: Path, name: str) -> Crash:
    """A crash by its id, by the beginning of that, or by the path of a file; ``last`` for the newest one. Reads the disk.

    Raises:
        CrashRefused: there is none, or there are several; or it cannot be read.
    """
    names = sorted(path.stem for path in files_in(folder))
    found = [each for each in names if each == name] or [each for each in names if each.startswith(name)]
    if name == "last":
        found = names[-1:]
    if len(found) == 1:
        return crash_in(folder / CRASHES / f"{found[0]}{SUFFIX}")
    if os.sep in name or name.endswith(SUFFIX):
        return crash_in(Path(name))
    if not name or not found:
        there = f"the newest is {names[-1]}" if names else "there are none"
        raise CrashRefused(f"there is no crash {name!r} in {folder}; {there}: minions crashes lists them")
    raise CrashRefused(f"{name!r} is the beginning of {len(found)} crashes: {', '.join(found[:5])}")


def files_in(folder: Path) -> list[Path]:
    """The files of the crashes of a state folder; none where there is no such folder."""
    try:
        there = list((folder / CRASHES).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path for path in there if path.suffix == SUFFIX and not path.name.startswith(".")]

"""The recorder: writes a file for each crash, on a thread of its own, so that no component waits for the disk or for an encoder.

Its thread is started with the first crash. Captures wait in a queue of bounded length; what does not fit is counted. `_lock`
guards what is counted and whether the thread was started; nothing is written, encoded or logged under it.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import platform
import re
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import attrs

from minions.clock import Clock
from minions.flow.channel import UNREAD, Entry
from minions.flow.codec import TypeCodec, codec_of
from minions.life.capture import Asked, Capture, ClockReads, Read
from minions.life.crash import (
    CRASHES,
    SUFFIX,
    Crash,
    KeptCall,
    KeptMessage,
    KeptRead,
    KeptReads,
    KeptTable,
    files_in,
    stored_form,
)
from minions.life.crash_values import keep_error, keep_value
from minions.life.traces import describe
from minions.model.crashes import Crashes

__all__ = ["Recorder"]

_MOST_WAITING = 8
_LAST_WORDS_TIMEOUT_S = 0.5
_AGAIN_AFTER_S = 60.0
_MOST_METHODS = 1_000
_UNFINISHED = ".tmp"
_LEAVE_OUT = ("tables", "calls", "reads", "states", "messages")
_LEFT_OUT = KeptReads(missing="the file of the crash would have been too large")
_UNKNOWN = KeptReads(missing="its process died with it")


class Recorder:
    """Writes what the components of one system have failed with to its state folder.

    A disk that is full or read-only hurts nobody: crashes that could not be recorded are counted, and the log of the system says
    so when it begins and when it is over.
    """

    def __init__(
        self,
        system: str,
        folder: Path,
        settings: Crashes,
        clock: Clock,
        log: logging.Logger,
        *,
        program: str = "",
        module: str = "",
    ) -> None:
        """Opens nothing yet, and starts no thread.

        Args:
            system: its name.
            folder: the state folder.
            settings: how many files there may be, and how large.
            clock: by which errors of calls are passed over that come too often.
            log: takes what is to be said of the recorder itself.
            program: the file that made the system, from the state folder.
            module: what that is called as a module.
        """
        self._system = system
        self._folder = folder / CRASHES
        self._program = program
        self._module = module
        self._settings = settings
        self._clock = clock
        self._log = log
        self._queue: SimpleQueue[Capture | None] = SimpleQueue()
        self._codecs: dict[Any, TypeCodec[Any] | str] = {}  # recorder's thread only, as the next one
        self._lost_in_a_row = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None  # guarded by _lock, as are all below
        self._closed = False
        self._missed = 0
        self._why = ""
        self._lost = 0
        self._last_s: dict[tuple[str, str, type], float] = {}

    # ------------------------------------------------------------------ any thread
    @property
    def lost(self) -> int:
        """How many crashes could not be recorded."""
        with self._lock:
            return self._lost + self._missed

    def wants(self, component: str, method: str, error: type) -> bool:
        """Whether to record that a method which was called has raised: that may be how it answers, so it is, once in a minute."""
        now_s, key = self._clock.monotonic(), (component, method, error)
        with self._lock:
            last_s = self._last_s.get(key)
            if last_s is not None and now_s - last_s < _AGAIN_AFTER_S:
                return False
            if len(self._last_s) >= _MOST_METHODS:
                self._last_s.clear()
            self._last_s[key] = now_s
        return True

    def take(self, capture: Capture) -> None:
        """Hands over a crash. Returns at once, and never raises."""
        if self._queue.qsize() >= _MOST_WAITING:
            self.missed("too many at once")
            return
        with self._lock:
            if self._closed:
                self._missed += 1
                return
            if self._thread is None:
                thread = threading.Thread(target=self._drive, name=f"{self._system}/crashes", daemon=True)
                try:
                    thread.start()  # under the lock: `close` is to find it begun, and its end behind all that was handed over
                except RuntimeError as error:  # the machine gives no further thread
                    self._missed += 1
                    self._why = describe(error)
                    return
                self._thread = thread
            self._queue.put(capture)

    def missed(self, why: str) -> None:
        """Notes that a crash was not recorded. Returns at once; told with the next one that is looked at."""
        with self._lock:
            self._missed += 1
            self._why = why

    def close(self, timeout_s: float) -> bool:
        """Ends the thread once everything is written; False when that did not happen in time. Blocks."""
        with self._lock:
            self._closed = True
            thread = self._thread
            if thread is not None:
                self._queue.put(None)
            missed = self._missed
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                self.missed("the disk, or a handler of logs, has not taken them before the end")
                self._missed_at_end(self._queue.qsize())
                return False
            return True
        return not missed or self._tell_apart(timeout_s)

    def _missed_at_end(self, waiting: int) -> None:
        """Counts what nobody will write any more, and says so; who hangs in that is left behind."""
        with self._lock:
            self._missed += max(0, waiting - 1)  # the last one is the word for the end
        self._tell_apart(_LAST_WORDS_TIMEOUT_S)

    def _tell_apart(self, timeout_s: float) -> bool:
        """Logs on a thread of its own, because a handler of logs may hang; False when it has not come back in time."""
        helper = threading.Thread(target=self._tell_of_missed, name=f"{self._system}/crashes", daemon=True)
        try:
            helper.start()
        except RuntimeError:  # the machine gives no further thread; `lost` has the number
            return False
        helper.join(timeout_s)
        return not helper.is_alive()

    # ------------------------------------------------------------------ on the recorder's thread
    def _drive(self) -> None:
        while (capture := self._queue.get()) is not None:
            with suppress(
                BaseException
            ):  # a handler of logs that raises: what comes next is to be recorded all the same
                self._record(capture)
            del capture
        self._tell_of_missed()

    def _record(self, capture: Capture) -> None:
        try:
            path = self._write(capture.component, capture.where, self._fitting(capture))
        except BaseException as error:  # noqa: BLE001 - told: a full disk, or whatever the classes of a user's values raise
            with self._lock:
                self._lost += 1
            self._lost_in_a_row += 1
            if self._lost_in_a_row == 1:
                why = str(error) if isinstance(error, OSError | ValueError) else describe(error)
                self._log.warning(
                    "%s: a crash cannot be recorded (%s); the system goes on without that", capture.component, why
                )
            return
        finally:
            self._tell_of_missed()
        lost, self._lost_in_a_row = self._lost_in_a_row, 0
        if lost:
            self._log.warning("crashes are recorded again; %d are missing", lost)
        self._log.info("%s: recorded; look at it again: minions replay %s", capture.component, path.stem)

    def _tell_of_missed(self) -> None:
        with self._lock:
            missed, why, self._missed, self._why = self._missed, self._why, 0, ""
            self._lost += missed
        if missed:
            self._log.warning("%d crashes were not recorded%s", missed, f" ({why})" if why else "")

    # ------------------------------------------------------------------ what is written
    def _fitting(self, capture: Capture) -> bytes:
        """The file of a crash; without what would make it too large."""
        most = self._settings.size_bytes
        crash = attrs.evolve(self._crash_of(capture), traceback=_shortened(capture.traceback, most // 8))
        for part in (None, *_LEAVE_OUT):
            if part is not None:
                crash = _without(crash, part)
            stored = stored_form(crash)
            if len(stored) <= most:
                return stored
        crash = attrs.evolve(crash, error=_shortened(crash.error, most // 8), frames=crash.frames[-5:])
        if crash.called is not None:
            crash = attrs.evolve(crash, called=None, left_out=(*crash.left_out, "the call in work"))
        stored = stored_form(crash)
        if len(stored) > most:
            raise ValueError(f"it would be larger than {most:,} bytes whatever is left out")
        return stored

    def _crash_of(self, capture: Capture) -> Crash:
        """The crash, without what is too large by itself: that is not even encoded, for the other threads' sake."""
        kind, most = capture.of, self._settings.size_bytes
        left_out = []
        states, received = capture.states, capture.received
        if sum(map(len, states.values())) > most:
            states, left_out = {}, ["states"]
        if sum(len(stored or b"") for _, _, _, stored, _ in received) > most:
            received = []
            left_out.append("messages")
        room = _Room(most // 2)
        return Crash(
            system=self._system,
            program=self._program,
            module=self._module,
            component=capture.component,
            class_name=f"{kind.__module__}:{kind.__qualname__}",
            epoch=capture.epoch,
            kind=capture.kind,
            where=capture.where,
            own_method=capture.own_method,
            error=_text(capture.error),
            error_kind=capture.error_kind,
            frames=tuple(_text(frame) for frame in capture.frames),
            at=capture.at,
            monotonic_s=capture.monotonic_s,
            message_id=capture.message_id,
            attempt=capture.attempt,
            set_aside=capture.set_aside,
            units=capture.units,
            partition=capture.partition,
            states={name: stored.decode() for name, stored in states.items()},
            tables={name: _kept_table(read, room) for name, read in capture.tables.items()},
            messages=tuple(self._kept_message(capture, entry) for entry in received),
            called=None
            if capture.called is None
            else _kept_call(
                capture.called.queue.name,
                capture.called.method,
                capture.called.arguments,
                capture.called.keywords,
                by=capture.called.by,
            ),
            calls=_kept_answers(capture.asked, most),
            calls_at_start=_kept_answers(capture.asked_at_start, most),
            reads=_kept_reads(capture.reads),
            reads_at_start=_kept_reads(capture.reads_at_start),
            left_out=tuple(left_out),
            python=platform.python_version(),
        )

    def _kept_message(self, capture: Capture, entry: Entry) -> KeptMessage:
        channel, number, message, stored, _ = entry
        inbox = channel.name.partition(".")[2]
        if stored is not None and channel.codec is not None:
            return KeptMessage(inbox, number, channel.codec.name, stored.decode())
        if message is UNREAD:
            return KeptMessage(inbox, number, "", "", "it was not at hand any more")
        codec = self._codec_of(capture.of.__minions_declaration__.inboxes[inbox].type)
        if isinstance(codec, str):
            return KeptMessage(inbox, number, "", "", codec)
        try:
            return KeptMessage(inbox, number, codec.name, codec.encode(message).decode())
        except Exception as error:  # noqa: BLE001 - told: it is one that no codec can keep
            return KeptMessage(inbox, number, codec.name, "", describe(error))

    def _codec_of(self, declared: Any) -> TypeCodec[Any] | str:
        """How messages of an inbox that is not durable are stored, or why they cannot be."""
        key = repr(declared)
        if key not in self._codecs:
            try:
                self._codecs[key] = codec_of(declared)
            except Exception as error:  # noqa: BLE001 - told
                self._codecs[key] = describe(error)
        return self._codecs[key]

    # ------------------------------------------------------------------ the file
    def _write(self, component: str, where: str, stored: bytes) -> Path:
        """Writes a file, which is there as a whole or not at all, and deletes those that are too many."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._free_path(component, where)
        unfinished = path.with_name(f".{path.stem}{_UNFINISHED}")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with io.FileIO(os.open(unfinished, flags, 0o600), "wb") as file:
                if file.write(stored) < len(stored):
                    raise OSError(errno.ENOSPC, "it was written in part", str(path))
                os.fsync(file.fileno())
            unfinished.rename(path)
        except BaseException:  # whatever it is, no half file is left; it is raised on, and counted by who calls
            with suppress(OSError):
                unfinished.unlink()
            raise
        self._tidy_up(path)
        return path

    def _free_path(self, component: str, where: str) -> Path:
        """A path of which the name tells the moment first, so that the newest file is the last by its name."""
        moment = datetime.fromtimestamp(self._clock.wall(), UTC)
        name = re.sub(r"[^A-Za-z0-9_#]+", "-", f"{component}-{where}")[:100]
        while True:
            path = self._folder / f"{moment:%Y%m%dT%H%M%S.%f}Z-{name}{SUFFIX}"
            if not path.exists():
                return path
            moment += timedelta(microseconds=1)

    def _tidy_up(self, newest: Path) -> None:
        """Deletes the oldest crashes, and what a process left that was killed while it wrote.

        Args:
            newest: stays, whatever its name says: the clock may have been set back.
        """
        names = sorted(path for path in files_in(self._folder.parent) if path != newest)
        left = [path for path in self._folder.iterdir() if path.name.startswith(".") and path.suffix == _UNFINISHED]
        for path in [*names[: max(0, len(names) + 1 - self._settings.keep)], *left]:
            with suppress(OSError):  # somebody else's, which cannot be deleted; the crash is written all the same
                path.unlink()


def _without(crash: Crash, part: str) -> Crash:
    left_out = (*crash.left_out, part)
    match part:
        case "tables":
            return attrs.evolve(crash, tables={}, left_out=left_out)
        case "calls":
            return attrs.evolve(crash, calls=(), calls_at_start=(), left_out=left_out)
        case "reads":
            return attrs.evolve(crash, reads=_LEFT_OUT, reads_at_start=_LEFT_OUT, left_out=left_out)
        case "states":
            return attrs.evolve(crash, states={}, left_out=left_out)
        case _:
            return attrs.evolve(crash, messages=(), left_out=left_out)


@attrs.define
class _Room:
    """How many bytes there is still room for."""

    left_bytes: int

    def take(self, size_bytes: int) -> bool:
        self.left_bytes -= size_bytes
        return self.left_bytes >= 0


def _kept_table(read: Read, room: _Room) -> KeptTable:
    """The entries that were read last, as many as there is room for."""
    known: dict[str, str | None] = {}
    for text, stored in read.known.items():
        if not room.take(len(text) + len(stored or b"")):
            break
        known[text] = None if stored is None else stored.decode()
    if len(known) < len(read.known):  # what was left out must not look as if it had not been there
        return KeptTable(known, tuple(sorted(read.present | (read.known.keys() - known.keys()))), (), read.length)
    return KeptTable(known, tuple(sorted(read.present)), read.ranges, read.length)


def _kept_answers(asked: list[Asked], most_bytes: int) -> tuple[KeptCall, ...]:
    """As many as there is room for; of the others it is known that they were made."""
    room = _Room(most_bytes)
    kept: list[KeptCall] = []
    for call, answered, what in asked:
        each = _kept_answer((call, "too large" if room.left_bytes < 0 else answered, what))
        room.take(0 if each.returned is None else len(each.returned.stored))
        kept.append(each)
    return tuple(kept)


def _kept_reads(reads: ClockReads | None) -> KeptReads:
    if reads is None:
        return _UNKNOWN
    return KeptReads(tuple(KeptRead(*read) for read in reads.first), reads.more)


def _kept_answer(asked: Asked) -> KeptCall:
    call, answered, what = asked
    kept = _kept_call(call.queue.name, call.method, call.arguments, call.keywords)
    if answered == "submitted":
        answered, what = _come_of(what)
    if answered == "raised":
        kind, arguments = what
        return attrs.evolve(kept, answer="raised", raised=keep_error(kind, arguments))
    if answered == "returned":
        return attrs.evolve(kept, answer="returned", returned=keep_value(what))
    return attrs.evolve(kept, answer=answered)


def _come_of(future: Future[Any]) -> tuple[Any, Any]:
    if not future.done() or future.cancelled():
        return "it was not answered yet when the unit failed", None
    error = future.exception()
    return ("returned", future.result()) if error is None else ("raised", (type(error), error.args))


def _kept_call(
    component: str, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any], by: str = ""
) -> KeptCall:
    return KeptCall(
        component,
        method,
        tuple(keep_value(each) for each in arguments),
        {name: keep_value(each) for name, each in keywords.items()},
        by,
    )


def _shortened(text: str, most: int) -> str:
    text = _text(text)
    half = most // 2
    return (
        text
        if len(text) <= most
        else f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    )


def _text(text: str) -> str:
    """Text that can be stored: what no UTF-8 has is written out."""
    return text.encode(errors="backslashreplace").decode()

"""The component that `wrap.command` makes: a child process of which each line is a message.

The component's thread does it all: it waits for output, for the end of the process and for its own stop in one wait. What
ends the child when this process is killed is a process of its own, see `_Guard`.
"""

from __future__ import annotations

import codecs
import math
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import attrs

from minions.errors import MessageRefused
from minions.model import checks
from minions.model.component import Component
from minions.model.ports import Outbox, type_name

__all__ = ["Command"]

T = TypeVar("T")

MOST_BYTES_A_LINE = 16 << 20
_MOST_BYTES_SHOWN = 80
_MOST_BYTES_LOGGED = 8 << 10
_READ_BYTES = 64 << 10
_LAST_LINES = 10
_SHELL = "/bin/sh"


def _words(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(word, str) and "\0" not in word for word in value)
    ):
        raise ValueError(
            f"{field.name}={value!r} must be a list of words, the program first: ['tail', '-F', path]; "
            "for a line of the shell ['sh', '-c', line]"
        )
    if not value[0]:
        raise ValueError(f"{field.name}={value!r} must begin with the name of a program")


def _folder(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field.name}={value!r} must be the path of a folder, or None for that of this process")


def _variables(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, dict) or not all(isinstance(word, str) for pair in value.items() for word in pair):
        raise ValueError(f"{field.name}={value!r} must be a dict of texts: {{'TZ': 'UTC'}}")


def _known_encoding(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    try:
        end_of_line = "\n".encode(value)
    except (LookupError, TypeError):
        raise ValueError(f"{field.name}={value!r} is no encoding that Python knows, such as 'utf-8'") from None
    if end_of_line != b"\n":
        raise ValueError(
            f"{field.name}={value!r}: lines of bytes cannot be told apart in it; have the program write utf-8"
        )


def _known_errors(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    try:
        codecs.lookup_error(value)
    except (LookupError, TypeError):
        raise ValueError(
            f"{field.name}={value!r} must be what open(errors=...) knows, such as 'strict' or 'replace'"
        ) from None


def _above_zero(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not checks.is_number(value) or not value > 0:
        raise ValueError(f"{field.name}={checks.shown(value)} must be above 0 (seconds)")


class Command(Component, Generic[T]):
    """What `wrap.command` makes: it runs a child process and sends each line that this writes.

    It has finished when the process has exited with 0. With another code it has failed, unless it was asked to stop.

    Attributes:
        out: what it sends.
        command: the program and its arguments.
        cwd: the folder that it runs in; None: that of this process.
        environment: variables, in addition to those of this process.
        encoding: of its lines.
        errors: what becomes of bytes that are not in that encoding, as `open` has it.
        kill_after_s: how long it may take to end after SIGTERM, in seconds; then follows SIGKILL.
    """

    command: list[str] = attrs.field(validator=_words)
    cwd: str | None = attrs.field(default=None, validator=_folder)
    environment: dict[str, str] = attrs.field(factory=dict, validator=_variables)
    encoding: str = attrs.field(default="utf-8", validator=_known_encoding)
    errors: str = attrs.field(default="strict", validator=_known_errors)
    kill_after_s: float = attrs.field(default=5.0, validator=_above_zero)

    _type: ClassVar[Any] = str
    _parse: ClassVar[Any] = None

    if TYPE_CHECKING:

        @property
        def out(self) -> Outbox[T]: ...

    def run(self) -> None:
        message_of = self._reader()
        with ExitStack() as stack:
            child = stack.enter_context(_Child(self))
            stack.enter_context(self._minions.woken_at_stop(child.doorbell))
            stack.enter_context(self.blocking(child.process))
            self._send_all(child, message_of)
            child.end()
            code = child.process.returncode
            if code and self.running:
                failure = subprocess.CalledProcessError(code, self.command, stderr="\n".join(child.last_errors))
                if child.last_errors:
                    failure.add_note("\n".join(["the end of its stderr:", *child.last_errors]))
                raise failure

    def _send_all(self, child: _Child, message_of: Callable[[bytes], Any]) -> None:
        number = 0
        while (lines := child.next_lines(self.running)) is not None:
            for line in lines:
                number += 1
                try:
                    message = message_of(line)
                except Exception as error:  # whatever the user's parser, or the codec, raises; told with the line
                    raise MessageRefused(
                        f"line {number} of {self.command[0]} is no {type_name(self._type)}: {_shown(line)}: "
                        f"{type(error).__name__}: {error}"
                    ) from error
                if message is not None:
                    self.out.send(message)

    def _reader(self) -> Callable[[bytes], Any]:
        """What makes a message of a line."""
        parse, encoding, errors = self._parse, self.encoding, self.errors
        if parse is not None:
            return lambda line: parse(line.decode(encoding, errors))
        if self._type is bytes:
            return lambda line: line
        if self._type is str:
            return lambda line: line.decode(encoding, errors)
        decode: Callable[[bytes], Any] = self._minions.decoder_of(self._type)
        return lambda line: decode(line.decode(encoding, errors).encode())


class _Child:
    """One run of the command, in a process group of its own. Used by the component's thread; the doorbell by any.

    Attributes:
        process: the child. It is reaped last, so that until then its number is nobody else's.
        doorbell: rung when the component is asked to stop.
        last_errors: the last lines of its stderr.
    """

    def __init__(self, asked: Command[Any]) -> None:
        self._asked = asked
        self._log = asked.log
        self._stack = ExitStack()
        self._lines, self._error_lines = _Lines(), _Lines()
        self._pid_descriptor: int | None = None
        self._kill_at_s: float | None = None  # set when it is asked to end; infinite once it was killed
        self._has_exited = False
        self.last_errors: deque[str] = deque(maxlen=_LAST_LINES)

    def __enter__(self) -> Self:
        asked = self._asked
        with self._stack as stack:
            self.doorbell = stack.enter_context(_Doorbell())
            guard = stack.enter_context(_Guard(self._log))
            self.process = subprocess.Popen(
                asked.command,
                cwd=asked.cwd,
                env={**os.environ, **asked.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
            stack.callback(self._close)
            stack.callback(self._kill)  # where what follows fails
            guard.watch(self.process.pid)
            self._selector = stack.enter_context(selectors.DefaultSelector())
            self._listen(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self.end()

    def _listen(self, stack: ExitStack) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for stream, read in ((self.process.stdout, self._read_line), (self.process.stderr, self._read_error)):
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, read)
        self._selector.register(self.doorbell, selectors.EVENT_READ, self.doorbell.answer)
        with suppress(OSError, AttributeError):  # where the kernel has none, the end of the output has to do
            self._pid_descriptor = os.pidfd_open(self.process.pid)
            stack.callback(os.close, self._pid_descriptor)
            self._selector.register(self._pid_descriptor, selectors.EVENT_READ, self._note_exit)

    # ------------------------------------------------------------------ what it writes
    def next_lines(self, wanted: bool) -> list[bytes] | None:
        """Waits until something happens and returns the lines that have come; None after the last one.

        Args:
            wanted: whether the process is to go on; it is ended where not.
        """
        if self._has_exited:
            return None
        if not wanted:
            self._press_on()
        for key, _ in self._selector.select(self._patience_s()):
            key.data()
        if self._pid_descriptor is None and self._lines.has_ended:
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            self._has_exited = True
        if self._has_exited:
            self._gather_rest()
        return self._lines.take()

    def _gather_rest(self) -> None:
        """Ends what is left of the group, and reads what is left in the pipes."""
        self.end()
        for lines, read in ((self._lines, self._read_line), (self._error_lines, self._read_error)):
            while not lines.has_ended and read():
                pass
        self._error_lines.finish()
        self._log_errors()
        if self.process.returncode == 0:
            self._lines.finish()  # of a process that was killed, the last line may be half a line

    def _read_line(self) -> bool:
        there_was_more = self._read(self.process.stdout, self._lines)
        if self._lines.rest_bytes > MOST_BYTES_A_LINE:
            raise MessageRefused(
                f"{self._asked.command[0]} has written more than {MOST_BYTES_A_LINE >> 20} MiB without an end of line: "
                "its output is no text of lines"
            )
        return there_was_more

    def _read_error(self) -> bool:
        there_was_more = self._read(self.process.stderr, self._error_lines)
        if self._error_lines.rest_bytes > _MOST_BYTES_LOGGED:
            self._error_lines.finish()
        self._log_errors()
        return there_was_more

    def _read(self, stream: Any, lines: _Lines) -> bool:
        """Reads a piece; whether there may be more at once."""
        try:
            piece = os.read(stream.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        lines.feed(piece)
        if not piece:
            self._selector.unregister(stream)
        return bool(piece)

    def _log_errors(self) -> None:
        for line in self._error_lines.take():
            text = line.decode(errors="backslashreplace")
            self.last_errors.append(text)
            self._log.info("stderr: %s", text)

    # ------------------------------------------------------------------ its end
    def _note_exit(self) -> None:
        self._has_exited = True

    def _patience_s(self) -> float | None:
        """How long to wait for its end; None: as long as it takes."""
        if self._kill_at_s is None or self._kill_at_s == math.inf:
            return None
        return max(0.0, self._kill_at_s - time.monotonic())

    def _press_on(self) -> None:
        """Asks the group to end, and kills it when it was asked long enough ago."""
        if self._kill_at_s is None:
            self._kill_at_s = time.monotonic() + self._asked.kill_after_s
            self._signal(signal.SIGTERM)
        elif time.monotonic() >= self._kill_at_s:
            self._kill_at_s = math.inf
            self._signal(signal.SIGKILL)

    def end(self) -> None:
        """Ends the process and all of its group, reaps it, and returns. Does nothing the second time."""
        if self.process.returncode is not None:
            return
        if not self._has_exited and self._pid_descriptor is not None:
            self._press_on()
            with selectors.DefaultSelector() as selector:
                selector.register(self._pid_descriptor, selectors.EVENT_READ)
                selector.select(self._patience_s())
        self._kill()

    def _kill(self) -> None:
        """Ends, at once, the process and what it has left behind in its group, and reaps it."""
        if self.process.returncode is None:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _close(self) -> None:
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class _Lines:
    """Cuts what comes in pieces into lines, and knows no encoding.

    Attributes:
        has_ended: whether no more will come.
        rest_bytes: how much there is of a line whose end has not come yet.
    """

    def __init__(self) -> None:
        self._whole: list[bytes] = []
        self._rest: list[bytes] = []
        self.rest_bytes = 0
        self.has_ended = False

    def feed(self, piece: bytes) -> None:
        """Takes the next piece; an empty one is the end."""
        *whole, rest = piece.split(b"\n")
        for line in whole:
            self._rest.append(line)
            self._whole.append(b"".join(self._rest).removesuffix(b"\r"))
            self._rest, self.rest_bytes = [], 0
        self._rest.append(rest)
        self.rest_bytes += len(rest)
        self.has_ended = not piece

    def finish(self) -> None:
        """Takes what there is of a line whose end has not come for a whole one."""
        if self.rest_bytes:
            self._whole.append(b"".join(self._rest))
            self._rest, self.rest_bytes = [], 0

    def take(self) -> list[bytes]:
        """The whole lines since the last time."""
        whole, self._whole = self._whole, []
        return whole


class _Doorbell:
    """Wakes a thread that waits for descriptors too: a pipe that can be waited for. See `Parkable`.

    Its lock guards the writing end: a late ring must not go to another file that has got its number.
    """

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._is_open = True
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_open = False
            os.close(self._writing)
        os.close(self._reading)

    def fileno(self) -> int:
        return self._reading

    def park(self, timeout_s: float | None) -> None:
        """Waits until it is rung, at most `timeout_s` seconds."""
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            selector.select(timeout_s)
        self.answer()

    def unpark(self) -> None:
        """Rings. Any thread, also when the doorbell is gone."""
        with self._lock, suppress(BlockingIOError):  # it is full of rings that nobody has answered
            if self._is_open:
                os.write(self._writing, b"!")

    def answer(self) -> None:
        """Forgets how often it was rung."""
        with suppress(BlockingIOError):
            os.read(self._reading, _READ_BYTES)


class _Guard:
    """Kills the group of the child when this process ends without having said that all is well, whatever it dies of.

    It is a process of its own that waits for the end of a pipe, because nobody else outlives a SIGKILL. The kernel's parent death
    signal would reach the child alone, not what it has started, and would have to be set between fork and exec.
    """

    _SCRIPT = 'read -r group && { read -r over || kill -s KILL -- "-$group"; }'

    def __init__(self, log: Any) -> None:
        self._log = log

    def __enter__(self) -> Self:
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                [_SHELL, "-c", self._SCRIPT, "minions-guard"],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._log.warning("if this process is killed, what it has started will go on: there is no guard: %s", error)
        return self

    def watch(self, group: int) -> None:
        """From now on the group is killed with this process."""
        self._say(b"%d\n" % group)

    def __exit__(self, *_: object) -> None:
        self._say(b"over\n")
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()

    def _say(self, line: bytes) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):  # somebody has killed it
                self._process.stdin.write(line)


def _shown(line: bytes) -> str:
    return repr(line) if len(line) <= _MOST_BYTES_SHOWN else f"{line[:_MOST_BYTES_SHOWN]!r}..."

"""Tells systemd when a system is up, that it is alive, what it is at, and that it stops.

Hooks are called on one thread of the system's own. Where systemd watches the service, there is one thread more, which asks the
supervisor again and again and tells systemd each time that it has answered. The two share the socket, which either may use.

systemd knows the process, and of several systems in it nothing. What they tell is put together by `_Process`, under its lock.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping

import attrs

from minions import ConfigurationError, events
from minions.hookspecs import RunningSystem, hookimpl

__all__ = ["Settings", "Systemd"]
__version__ = "0.1.0"

_SEND_TIMEOUT_S = 1.0
_MOST_STATUS_BYTES = 1_000


@attrs.frozen(kw_only=True)
class Settings:
    """What ``[plugins.systemd]`` in ``minions.toml`` may say.

    Attributes:
        status: whether ``systemctl status`` shows what the system is at.
        stop_margin_s: how many seconds more than the deadline of its stop the system is left, for the last commit.

    Raises:
        ConfigurationError: a value is out of range.
    """

    status: bool = True
    stop_margin_s: float = 5.0

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.stop_margin_s < float("inf"):
            raise ConfigurationError(
                "Settings", [f"stop_margin_s = {self.stop_margin_s!r}: must be 0 or more (seconds)"]
            )


class Systemd:
    """The plugin. Without ``NOTIFY_SOCKET`` in the environment, which systemd sets, it does nothing at all.

    Attributes:
        settings: replaced by what ``minions.toml`` says.
    """

    def __init__(self, settings: Settings = Settings()) -> None:
        self.settings = settings
        self._socket: _NotifySocket | None = None
        self._pings: _Pings | None = None
        self._part = _Part("")
        self._components = 0
        self._troubles: dict[str, str] = {}  # by component, in the order in which they came

    @hookimpl
    def attached(self, system: RunningSystem) -> None:
        """Looks what systemd wants.

        Raises:
            ConfigurationError: the environment says what cannot be.
        """
        _process.leave(self._part)  # of a run of which the end was not told
        self._socket = self._pings = None
        self._components, self._troubles = 0, {}
        address = os.environ.get("NOTIFY_SOCKET")
        if not address:
            return
        interval_s = _watchdog_interval_s(os.environ)
        self._socket = _NotifySocket(address)
        self._part = _Part(system.name)
        _process.join(self._part)
        if interval_s is not None:
            self._pings = _Pings(system, self._socket, interval_s, self._part)

    @hookimpl
    def system_started(self, event: events.SystemStarted) -> None:
        """The service is up."""
        self._components = event.components
        try:
            self._tell("READY=1", self._status())
        finally:
            if self._pings is not None:
                self._pings.start()

    @hookimpl
    def system_stopping(self, event: events.SystemStopping) -> None:
        """The service stops, unless another system of the process goes on; it asks for as long as its stop may take."""
        allowed_s = event.timeout_s + self.settings.stop_margin_s
        says = ("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round(allowed_s * 1_000_000)}")
        self._tell(*(says if _process.stops(self._part) else ()), self._status(f"stops ({event.reason})"))

    @hookimpl(trylast=True)
    def system_stopped(self, event: events.SystemStopped) -> None:
        """The system has ended, and the process is about to."""
        problems = f": {'; '.join(event.problems)}" if event.problems else ""
        try:
            self._tell(self._status(f"stopped ({event.reason}){problems}"))
        finally:
            _process.leave(self._part)
            if self._pings is not None:
                self._pings.end()
            elif self._socket is not None:
                self._socket.close()
            self._socket = self._pings = None

    @hookimpl
    def component_failed(self, event: events.ComponentFailed) -> None:
        """Shown until it is up again."""
        again = "" if event.restart_in_s is None else f", restarts in {event.restart_in_s:.1f} s"
        self._trouble(event.component, f"failed ({event.error}){again}")

    @hookimpl
    def gave_up(self, event: events.GaveUp) -> None:
        """Shown until somebody starts it again."""
        self._trouble(event.component, "was given up")

    @hookimpl
    def component_stalled(self, event: events.ComponentStalled) -> None:
        """Shown until it goes on."""
        self._trouble(event.component, "makes no progress")

    @hookimpl
    def component_paused(self, event: events.ComponentPaused) -> None:
        """Shown until it is resumed."""
        self._trouble(event.component, f"is paused by the {event.by}")

    @hookimpl
    def component_started(self, event: events.ComponentStarted) -> None:
        """Whatever was wrong with it is over."""
        self._trouble(event.component, "")

    @hookimpl
    def component_recovered(self, event: events.ComponentRecovered) -> None:
        """It goes on."""
        self._trouble(event.component, "")

    @hookimpl
    def component_resumed(self, event: events.ComponentResumed) -> None:
        """It goes on."""
        self._trouble(event.component, "")

    # ------------------------------------------------------------------ what is told
    def _trouble(self, component: str, trouble: str) -> None:
        before = dict(self._troubles)
        self._troubles.pop(component, None)
        if trouble:
            self._troubles[component] = trouble
        if self._components and self._troubles != before:
            self._tell(self._status())

    def _status(self, says: str = "") -> str:
        """The line with the status; empty where none is wanted."""
        if not self.settings.status:
            return ""
        up = f"{self._components} component{'' if self._components == 1 else 's'}"
        troubles = [f"{component} {trouble}" for component, trouble in self._troubles.items()]
        text = _process.status(self._part, says or "; ".join([up, *troubles]))
        # One line, and short: the whole message must fit into a datagram.
        one_line = " ".join(text.split()).encode("utf-8", "replace")
        return "STATUS=" + one_line[:_MOST_STATUS_BYTES].decode("utf-8", "ignore")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None and any(lines):
            self._socket.send(*filter(None, lines))


@attrs.define(eq=False)
class _Part:
    """What one system of this process has told; guarded by the lock of `_process`.

    Attributes:
        system: its name.
        status: what it is at.
        stops: whether it has begun to stop.
        watched: whether it pings.
        answered_s: when its supervisor has answered last, monotonic seconds.
    """

    system: str
    status: str = ""
    stops: bool = False
    watched: bool = False
    answered_s: float = 0.0


class _Process:
    """The systems that run in this process just now: systemd hears of them as of one. Any thread; its lock guards all of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[_Part, None] = {}

    def join(self, part: _Part) -> None:
        with self._lock:
            self._parts[part] = None

    def leave(self, part: _Part) -> None:
        with self._lock:
            self._parts.pop(part, None)

    def status(self, part: _Part, text: str) -> str:
        """Notes what a system is at; returns what all of them are at."""
        with self._lock:
            part.status = text
            if len(self._parts) < 2:
                return text
            return "; ".join(f"{each.system}: {each.status}" for each in self._parts if each.status)

    def stops(self, part: _Part) -> bool:
        """Notes that a system stops; whether no other goes on."""
        with self._lock:
            part.stops = True
            return all(each.stops for each in self._parts)

    def answers(self, part: _Part, now_s: float, within_s: float) -> bool:
        """Notes that the supervisor of a system has answered; whether those of all have within the last so many seconds."""
        with self._lock:
            part.watched, part.answered_s = True, now_s
            return all(now_s - each.answered_s <= within_s for each in self._parts if each.watched)


_process = _Process()


class _NotifySocket:
    """The way to systemd. Any thread may send."""

    def __init__(self, address: str) -> None:
        if address[0] not in "/@":
            raise ConfigurationError(
                "NOTIFY_SOCKET",
                [f"NOTIFY_SOCKET={address}: must be an absolute path, or the name of an abstract socket (@name)"],
            )
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_SEND_TIMEOUT_S)

    def send(self, *lines: str) -> None:
        """Sends one message. Blocks for a second at most, where systemd does not read.

        Raises:
            OSError: it did not arrive.
        """
        self._socket.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), self._address)

    def close(self) -> None:
        self._socket.close()


class _Pings:
    """Says that the service is alive, each time that the supervisor has answered, twice in each interval."""

    def __init__(self, system: RunningSystem, notify: _NotifySocket, interval_s: float, part: _Part) -> None:
        self._system = system
        self._notify = notify
        self._part = part
        self._interval_s = interval_s
        self._pause_s = interval_s / 2
        self._ending = threading.Event()
        self._begun = False
        self._thread = threading.Thread(target=self._drive, name=f"{system.name}/systemd", daemon=True)

    def start(self) -> None:
        self._begun = True
        self._thread.start()

    def end(self) -> None:
        """Has the thread end, and close the socket. It is not waited for: it may itself wait for the supervisor, which ends."""
        self._ending.set()
        if not self._begun:
            self._notify.close()

    def _drive(self) -> None:
        was_lost = False
        while not self._ending.is_set():
            began_s = time.monotonic()
            if self._system.supervisor_answers(self._pause_s) and _process.answers(
                self._part, time.monotonic(), self._interval_s
            ):
                try:
                    self._notify.send("WATCHDOG=1")
                    was_lost = False
                except OSError as error:
                    if not was_lost:
                        log = logging.getLogger(f"minions.{self._system.name}.systemd")
                        log.warning("systemd cannot be told that the service is alive: %s", error)
                    was_lost = True
            self._ending.wait(max(0.0, began_s + self._pause_s - time.monotonic()))
        self._notify.close()


def _watchdog_interval_s(environment: Mapping[str, str]) -> float | None:
    """How often systemd wants to hear of this process, in seconds; None where it does not watch it."""
    text, pid = environment.get("WATCHDOG_USEC"), environment.get("WATCHDOG_PID")
    if not text or (pid and pid != str(os.getpid())):
        return None
    if not text.isdigit() or not int(text):
        raise ConfigurationError(
            "WATCHDOG_USEC", [f"WATCHDOG_USEC={text}: must be a whole number of microseconds above 0"]
        )
    return int(text) / 1_000_000

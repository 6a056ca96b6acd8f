"""The managed thread of one life: it drives the life from its first frame to its last, and reports how it ended.

A daemon thread that never prints: whoever cannot be ended must not keep the process from ending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from minions.errors import StaleComponent, StopRequested, StoreError
from minions.flow.journal import Journal
from minions.life.commands import Command, Failed, Finished, Started, Stopped
from minions.life.life import Life
from minions.life.traces import describe, trace_of

__all__ = ["ComponentThread"]


class ComponentThread:
    """The thread of one life.

    Attributes:
        life: what it drives.
    """

    def __init__(self, life: Life, journal: Journal, system: str, post: Callable[[Command], None]) -> None:
        """Args:
        system: the name of the system, for the name of the thread.
        post: takes the reports; called on the thread itself.
        """
        self.life = life
        self._journal = journal
        self._post = post
        self._thread = threading.Thread(target=self._drive, name=f"{system}/{life.name}", daemon=True)

    def start(self) -> None:
        """Starts the thread.

        Raises:
            RuntimeError: the machine gives no further thread; make a new object to try again.
        """
        self._thread.start()

    @property
    def ident(self) -> int | None:
        """The thread's identifier, while it is alive."""
        return self._thread.ident if self._thread.is_alive() else None

    def join(self, timeout_s: float) -> None:
        """Waits for the thread to end, at most that long."""
        self._thread.join(timeout_s)

    # ------------------------------------------------------------------ on the thread
    def _drive(self) -> None:
        life = self.life
        _name_os_thread(life.name)
        try:
            report = self._live(life)
        except StaleComponent:
            return  # abandoned: another life has its place, and nobody waits for word of this one
        except BaseException as error:  # noqa: BLE001 - reported: the supervisor decides
            report = self._report_failure(life, error)
        life.give_up(failed=isinstance(report, Failed) and bool(report.attempt) and not report.set_aside)
        self._post(report)

    def _live(self, life: Life) -> Command:
        name, epoch = life.name, life.fence.epoch
        try:
            life.begin()
            self._post(Started(name, epoch))
            if life.running or not life.is_source:
                life.work()
        except StopRequested:
            if life.running:
                raise  # nobody has asked it to stop: user code has raised this itself, and that is a failure
            if life.has_begun:
                life.end(interrupted=True)
            return Stopped(name, epoch)
        finished = life.running
        life.end()
        return Finished(name, epoch) if finished else Stopped(name, epoch)

    def _report_failure(self, life: Life, error: BaseException) -> Failed:
        """What the supervisor is told of a failure; the message in work is set aside here when it has had its attempts."""
        entry = None if isinstance(error, StoreError) else life.current
        trace = trace_of(error)
        where, attempt, answer, message_id = life.where, 0, "again", ""
        if entry is not None:
            channel = entry[0]
            message_id = life.message_id
            attempt = self._journal.attempts(entry) + 1
            answer = channel.retry.answer(attempt)
            try:
                life.flush()
                if answer in ("dead_letter", "skip"):
                    life.set_aside(entry, attempt, error, trace, keep=answer == "dead_letter")
            except (StaleComponent, StopRequested, StoreError):
                answer = "again"  # it could not be settled: it stays where it is, for the next life or the next start
        return Failed(
            component=life.name,
            epoch=life.fence.epoch,
            where=where,
            error=describe(error),
            traceback=trace,
            message_id=message_id,
            attempt=attempt,
            retry_delay_s=entry[0].retry.backoff.delay_s(attempt) if entry is not None and answer == "again" else 0.0,
            set_aside=answer in ("dead_letter", "skip"),
            stop_system=answer == "stop" or isinstance(error, StoreError),
        )


def _name_os_thread(name: str) -> None:
    """Shows the component's name in `top -H` and `ps -T` (Linux keeps 15 bytes). Where that is not to be had, nothing is lost."""
    try:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name.encode()[:15].decode(errors="ignore"))
    except OSError:
        return

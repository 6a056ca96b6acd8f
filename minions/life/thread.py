"""The managed thread of one life: it drives the life from its first frame to its last, and reports how it ended.

A daemon thread that never prints: whoever cannot be ended must not keep the process from ending.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import attrs

from minions import events
from minions.errors import Interrupted, StaleComponent, StopRequested, StoreError, UsageError
from minions.fence import Mode
from minions.flow.channel import Entry
from minions.flow.journal import Journal
from minions.flow.os_threads import OS_THREADS
from minions.life.commands import Command, Failed, Finished, Noted, Started, Stopped, ZombieEnded
from minions.life.life import Life
from minions.life.traces import describe, trace_of
from minions.threads import Threads

__all__ = ["ComponentThread"]


class ComponentThread:
    """The thread of one life.

    Attributes:
        life: what it drives.
        cpu_before_s: CPU time of the lives before it. Here, so that whoever adds both has each once.
    """

    def __init__(
        self,
        life: Life,
        journal: Journal,
        system: str,
        post: Callable[[Command], None],
        threads: Threads = OS_THREADS,
        *,
        cpu_before_s: float = 0.0,
    ) -> None:
        """Args:
        system: the name of the system, for the name of the thread.
        post: takes the reports; called on the thread itself.
        threads: where it comes from.
        cpu_before_s: CPU time of the lives before it.
        """
        self.life = life
        self.cpu_before_s = cpu_before_s
        self._journal = journal
        self._post = post
        self._threads = threads
        self._thread = threads.thread(self._drive, f"{system}/{life.name}")

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
        """Waits for the thread to end, at most that long; returns at once when it has never started."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    # ------------------------------------------------------------------ on the thread
    def _drive(self) -> None:
        life = self.life
        self._threads.show_name(life.name)
        failed: Entry | None = None
        try:
            report = self._live(life)
        except BaseException as error:  # noqa: BLE001 - reported: the supervisor decides
            if life.fence.mode is Mode.CUT:  # abandoned: another life has its place, and what this one has met is over
                self._drop_calls()
                life.forget()
                self._post(ZombieEnded(life.name, life.fence.epoch))
                return
            report, failed = self._last_word(life, error)
            life.call_last(self._tell_of_call)
        life.give_up(failed=failed)
        self._drop_calls()
        life.forget()
        self._post(report)

    def _live(self, life: Life) -> Command:
        name, epoch = life.name, life.fence.epoch
        try:
            life.begin()
            self._post(Started(name, epoch))
            if life.running or not life.is_source:
                life.work()
            finished = life.running
            life.end()
        except (StopRequested, Interrupted):
            if life.running:
                raise  # nobody has asked it to stop: user code has raised this itself, and that is a failure
            self._end_interrupted(life)
            return Stopped(name, epoch)
        except StoreError as error:
            if not self._journal.commits.has_failed_with(error):
                raise
            # The system stops because nothing can be written any more; the component that meets it is not to blame.
            if life.has_begun and not life.is_ending:
                with suppress(StoreError, StopRequested):
                    life.end(interrupted=True)
            return Stopped(name, epoch)
        except Exception as error:  # whatever a call raises that somebody else has broken off
            if life.running or not life.interrupted or life.is_ending or life.fence.mode is Mode.CUT:
                raise
            # The call that was broken off has raised this: the unit that it belongs to never was, and nobody is to blame.
            self._post(Noted(events.ComponentInterrupted(name, epoch, life.where, describe(error))))
            self._end_interrupted(life)
            return Stopped(name, epoch)
        return Finished(name, epoch) if finished else Stopped(name, epoch)

    @staticmethod
    def _end_interrupted(life: Life) -> None:
        """Ends a life in order that was left in the middle of a unit."""
        if life.has_begun and not life.is_ending:
            # What an on_stop that had to wait did never was; the component has stopped all the same.
            with suppress(StopRequested, Interrupted):
                life.end(interrupted=True)

    def _last_word(self, life: Life, error: BaseException) -> tuple[Failed, Entry | None]:
        """What is reported of a failure, come what may: a thread that ended without a word would be waited for for ever."""
        try:
            return self._failure(life, error)
        except BaseException as second:  # noqa: BLE001 - reported
            return Failed(life.name, life.fence.epoch, life.where, describe(second), trace_of(second)), None

    def _drop_calls(self) -> None:
        if dropped := self.life.calls.drop():
            self._post(Noted(events.AfterCommitDropped(self.life.name, self.life.fence.epoch, dropped)))

    def _tell_of_call(self, error: BaseException, message_id: str) -> None:
        name, epoch, trace = self.life.name, self.life.fence.epoch, trace_of(error)
        self.life.record(self.life.captured(error, trace))
        self._post(Noted(events.AfterCommitFailed(name, epoch, describe(error), trace, message_id)))

    def _failure(self, life: Life, error: BaseException) -> tuple[Failed, Entry | None]:
        """What the supervisor is told of a failure, and the message that has failed and is to be tried again."""
        trace = trace_of(error)
        capture = life.captured(error, trace)
        failure, failed = self._judged(life, error, trace)
        life.record(capture, attempt=failure.attempt, set_aside=bool(failure.attempt) and failed is None)
        return failure, failed

    def _judged(self, life: Life, error: BaseException, trace: str) -> tuple[Failed, Entry | None]:
        call = life.calls.failed(error)
        where = life.where if call is None else "after_commit"
        failure = Failed(life.name, life.fence.epoch, where, describe(error), trace)
        if isinstance(error, StoreError):
            return attrs.evolve(failure, stop_system=True), None
        if call is not None:
            return attrs.evolve(failure, message_id=call.message_id, at_end=life.has_worked), None
        life.flush()
        entry = life.blamed
        if entry is None:
            return failure, None
        retry = entry[0].retry
        attempt = self._journal.attempts(entry) + 1
        answer = retry.answer(attempt)
        failure = attrs.evolve(failure, message_id=life.message_id, attempt=attempt)
        if answer in ("dead_letter", "skip") and self._set_aside(life, entry, attempt, error, trace, answer):
            self._journal.count_failure(entry[0])
            return failure, None
        delay_s = retry.backoff.delay_s(attempt) if answer == "again" else 0.0
        return attrs.evolve(failure, retry_delay_s=delay_s, stop_system=answer == "stop"), entry

    def _set_aside(self, life: Life, entry: Entry, attempt: int, error: BaseException, trace: str, answer: str) -> bool:
        """Sets a message aside; False when that cannot be kept either, then it stays where it is."""
        life.drop_unit()
        try:
            life.set_aside(entry, attempt, error, trace, keep=answer == "dead_letter")
        except (StaleComponent, StopRequested, StoreError, UsageError):
            return False
        return True

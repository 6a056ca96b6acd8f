"""How a life is broken off that was asked to stop and does not: step by step, on threads of their own, because each may hang.

What a thread hangs in is woken by what its component has registered with `blocking` and by its `on_interrupt`; a loop in pure
Python by an exception, where the component allows that. What then still hangs is abandoned, by the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from minions import events
from minions.errors import Interrupted
from minions.flow.os_threads import OS_THREADS
from minions.life.life import Life
from minions.life.sheltered import ShelteredLife
from minions.life.traces import describe, trace_of
from minions.model.component import Component
from minions.threads import Threads

__all__ = ["Ladder"]

_MOST_LOOKS = 1_000
"""How often it is looked whether a thread computes, before it is let be: at most 50 ms of CPU time."""


class Ladder:
    """Breaks off what the threads of a system are at. Its methods return at once; any thread may call them. No lock."""

    def __init__(self, system: str, tell: Callable[[events.Event], None], threads: Threads = OS_THREADS) -> None:
        """Args:
        system: its name, for the names of threads.
        tell: told of what could not be done; called on the threads that do it.
        threads: where these come from.
        """
        self._system = system
        self._tell = tell
        self._threads = threads

    def interrupt(self, life: Life) -> None:
        """Wakes what it has registered, and calls `on_interrupt`."""
        self._apart(life, self._interrupt)

    def throw(self, life: Life) -> None:
        """The same once more and sterner, and raises an exception in its thread where its component allows that."""
        self._apart(life, self._throw)

    def _apart(self, life: Life, step: Callable[[Life], None]) -> None:
        helper = self._threads.thread(partial(step, life), f"{self._system}/interrupt {life.name}")
        try:
            helper.start()
        except RuntimeError as error:  # the machine gives no further thread
            self._failed(life, describe(error), "")

    def _interrupt(self, life: Life) -> None:
        instance = getattr(life, "instance", None)
        for problem in life.blocked_in.unblock(before=life.interrupt):
            self._failed(life, problem, "")
        if instance is None or type(instance).on_interrupt is Component.on_interrupt:
            return
        life.interrupt()
        try:
            instance.on_interrupt()
        except BaseException as error:  # noqa: BLE001 - reported
            self._failed(life, describe(error), trace_of(error))

    def _throw(self, life: Life) -> None:
        for problem in life.blocked_in.unblock(again=True, before=life.interrupt):
            self._failed(life, problem, "")
        if isinstance(life, ShelteredLife):
            # A thread that mostly computes may be in a system call, or in code of the runtime, at the one moment.
            any(life.injection.throw(Interrupted) for _ in range(_MOST_LOOKS))

    def _failed(self, life: Life, error: str, trace: str) -> None:
        self._tell(
            events.ComponentFailed(
                component=life.name,
                epoch=life.fence.epoch,
                where="on_interrupt",
                error=error,
                traceback=trace,
                message_id="",
                attempt=0,
                restart_in_s=None,
            )
        )

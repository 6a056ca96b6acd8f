"""The supervisor's thread: takes one command after the other, asks the supervision what follows, and has it done.

No lock: commands are handed over in a deque, whose `append` and `popleft` are atomic, so that even a signal handler may post
one. Everything else belongs to the thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from minions.clock import Clock
from minions.flow.os_threads import OS_THREADS
from minions.life.actions import Action, End, Keep, Notify, WakeAt
from minions.life.commands import Change, Command, Due, Idle, Noted, Reached
from minions.life.supervision import Supervision
from minions.threads import Threads

__all__ = ["Supervisor"]


class Supervisor:
    """Drives a `Supervision` on a thread of its own, until it says that all is over."""

    def __init__(
        self,
        supervision: Supervision,
        act: Callable[[Action], None],
        on_defect: Callable[[BaseException], None],
        clock: Clock,
        name: str,
        threads: Threads = OS_THREADS,
    ) -> None:
        """Makes the supervisor; `start` starts its thread.

        Args:
            supervision: what decides.
            act: does what was decided; called on the supervisor's thread. Must not block for long.
            on_defect: called there, last, when the supervisor itself has failed; has to end everything.
            clock: the source of time.
            name: of the thread.
            threads: where it comes from.
        """
        self.supervision = supervision
        self._act = act
        self._on_defect = on_defect
        self._clock = clock
        self._threads = threads
        self._parker = threads.parker()
        self._waiting: deque[Command] = deque()
        self._idle_waits = False  # an Idle is among them; cleared before it is dealt with
        self._wake_at_s: float | None = None
        self._ended = False
        self._over = False  # the thread takes no further command
        self._thread = threads.thread(self._drive, name)

    def start(self) -> None:
        self._thread.start()

    @property
    def has_begun(self) -> bool:
        """Whether its thread was started."""
        return self._thread.ident is not None

    @property
    def is_current(self) -> bool:
        """Whether the caller is on the supervisor's thread, where nothing may wait for it."""
        return self._threads.is_current(self._thread)

    def post(self, command: Command) -> None:
        """Hands a command over. Returns at once; safe to call from any thread, and from a signal handler."""
        if isinstance(command, Idle):
            if self._idle_waits:
                return  # the look at all components that is still to come serves for both
            self._idle_waits = True
        self._waiting.append(command)
        self._parker.unpark()
        if self._over:
            self._answer_the_late()

    def _drive(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # noqa: BLE001 - reported: without a supervisor everything has to end
            self._on_defect(error)
        self._over = True
        self._answer_the_late()

    def _answer_the_late(self) -> None:
        """Nobody waits in vain for a supervisor that has ended."""
        while self._waiting:
            try:
                command = self._waiting.popleft()
            except IndexError:
                return  # another late one was faster
            if isinstance(command, Reached):
                command.callback()
            elif isinstance(command, Change) and command.promise:
                self._act(Keep(command.promise, "the system has ended"))

    def _serve(self) -> None:
        while not self._ended:
            command = self._next()
            match command:
                case Reached(callback):
                    callback()
                case Noted(event):
                    self._act(Notify(event))
                case _:
                    for action in self.supervision.handle(command, self._clock.monotonic()):
                        self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        match action:
            case WakeAt(at_s):
                self._wake_at_s = at_s
            case _:
                self._ended = isinstance(action, End)
                self._act(action)

    def _next(self) -> Command:
        while True:
            if self._waiting:
                command = self._waiting.popleft()
                if isinstance(command, Idle):
                    self._idle_waits = False
                return command
            due_s = self._wake_at_s
            if due_s is not None and self._clock.monotonic() >= due_s:
                self._wake_at_s = None
                return Due()
            self._clock.wait(self._parker, due_s)

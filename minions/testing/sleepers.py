"""Who sleeps: threads and parkers that tell when one goes to sleep and when it is woken, and waiting for that without asking.

One condition guards everything here, the parkers included. So a thread is awake from the very moment in which another one wakes
it: while all sleep at one moment, nothing is under way between them, and nothing happens until time goes on or somebody outside
does something. The lock is held for a few operations on plain values only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from typing import Final, TypeVar

from minions.flow.os_threads import OsThreads
from minions.flow.parker import Parker
from minions.life.traces import stack_of
from minions.testing.arguments import function, names, patience, refuse

__all__ = ["PATIENCE_S", "Sleepers", "WatchedThreads", "is_of_another"]

PATIENCE_S = 10.0
"""How long a test waits for something to happen, in real seconds, unless it says otherwise."""

_PREDICATE = "lambda: average.summary.count == 2"

V = TypeVar("V")


class Sleepers:
    """The base of clocks that know who sleeps. Every method may be called from any thread.

    Attributes:
        threads: where the threads come from of which it knows that.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0  # guarded by _changed, as all below; counts what has happened
        self._alive: dict[_Thread, bool] = {}  # started and not ended; whether it was left behind
        self.threads: Final = WatchedThreads(self)

    def settle(self, *, besides: Collection[str] = (), timeout_s: float = PATIENCE_S) -> None:
        """Blocks until every thread of the systems that `running` has started sleeps: nothing more happens by itself.

        They sleep when they wait for a message, a tick, a retry, room, a commit, a call that they have made, or for
        `self.sleep` to end. One that waits for something outside of the runtime is awake, and has to be named.

        Args:
            besides: the names of components whose threads need not sleep, such as one that a test holds at a gate. A name
                stands for all replicas.
            timeout_s: how long to wait for that, in real seconds.

        Raises:
            UsageError: the arguments do not fit.
            TimeoutError: with the names and the stacks of those that are awake.
        """
        refuse("settle()", names("besides", besides), patience("timeout_s", timeout_s))
        apart = frozenset(besides)
        with self._changed:
            if self._changed.wait_for(lambda: not self._awake_locked(apart), timeout_s):
                return
            awake = self._awake_locked(apart)
        stacks = "".join(f"{thread.name}:\n{stack_of(thread.ident)}" for thread in awake)
        raise TimeoutError(
            f"after {timeout_s:g} real seconds there is still at work: {', '.join(thread.name for thread in awake)}; a component "
            f"that waits for something outside of the runtime is to be named: settle(besides=[...])\n{stacks}"
        )

    def is_settled(self, *, besides: Collection[str] = ()) -> bool:
        """Whether every thread sleeps now; see `settle`."""
        refuse("is_settled()", names("besides", besides))
        with self._changed:
            return not self._awake_locked(frozenset(besides))

    def until(self, predicate: Callable[[], V], *, timeout_s: float = PATIENCE_S) -> V:
        """Blocks until `predicate` answers something true, and returns that.

        It is asked on this thread: now, and whenever a thread of a system has gone to sleep or ended. So it may look at what
        components keep, and at what they have told the test. It must not wake anybody, or it is asked again and again:
        `Running.status` does not, `System.status` does.

        Args:
            predicate: without arguments.
            timeout_s: how long to wait for that, in real seconds.

        Raises:
            UsageError: the arguments do not fit.
            TimeoutError: it did not come to that.
        """
        refuse("until()", function("predicate", predicate, _PREDICATE), patience("timeout_s", timeout_s))
        give_up_s = time.monotonic() + timeout_s
        while True:
            with self._changed:
                version = self._version
            if found := predicate():
                return found
            with self._changed:
                left_s = give_up_s - time.monotonic()
                if not self._changed.wait_for(lambda: self._version != version, max(0.0, left_s)):  # noqa: B023 - waits here
                    raise TimeoutError(f"after {timeout_s:g} real seconds it has not come to that")

    def happened(self) -> None:
        """Has whoever waits in `until` look again."""
        with self._changed:
            self._happened_locked()

    def leave_behind(self, name: str) -> None:
        """Waits no longer for the oldest thread of that name that is awake: it was abandoned."""
        with self._changed:
            for thread, left in self._alive.items():
                if thread.name == name and not left and not thread.asleep:
                    self._alive[thread] = True
                    break
            self._happened_locked()

    def has_left_behind(self) -> bool:
        """Whether a thread is alive that was abandoned."""
        with self._changed:
            return any(self._alive.values())

    def _happened_locked(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _awake_locked(self, apart: frozenset[str]) -> list[_Thread]:
        return [
            thread
            for thread, left in self._alive.items()
            if not (thread.asleep or left or thread.component in apart or thread.replica in apart)
        ]


class WatchedThreads(OsThreads):
    """The threads of the operating system, of which `Sleepers` knows who sleeps. See `minions.threads.Threads`.

    Attributes:
        is_open: whether a block of `running` is open that has its threads from here, and will look whether one is left.
    """

    def __init__(self, sleepers: Sleepers) -> None:
        self.is_open = False  # written by the thread of the test
        self._sleepers = sleepers

    def thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        thread = _Thread(self._sleepers, target, name)
        thread.made_by = self
        return thread

    def parker(self) -> Parker:
        return _Parker(self._sleepers)


class _Thread(threading.Thread):
    """A thread that counts as awake from the moment in which it is started until it ends, but while it sleeps at a parker.

    Attributes:
        asleep: guarded by the condition of `Sleepers`.
        replica: the name of the component, with the number of the replica where there are several.
        component: its name.
        made_by: where it comes from.
    """

    made_by: WatchedThreads

    def __init__(self, sleepers: Sleepers, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self.asleep = False
        self.replica = name.rpartition("/")[2]
        self.component = self.replica.partition("#")[0]
        self._sleepers = sleepers

    def start(self) -> None:
        with self._sleepers._changed:
            self._sleepers._alive[self] = False
        try:
            super().start()
        except BaseException:  # whatever it is, a thread that has not begun is not waited for; it is raised on
            self._end()
            raise

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._end()

    def _end(self) -> None:
        with self._sleepers._changed:
            self._sleepers._alive.pop(self, None)
            self._sleepers._happened_locked()


def is_of_another(thread: threading.Thread, threads: WatchedThreads) -> bool:
    """Whether a thread is of another block of `running`, which is still open."""
    return isinstance(thread, _Thread) and thread.made_by is not threads and thread.made_by.is_open


class _Parker(Parker):
    """Where one thread sleeps. The lock is free from the moment in which the sleeper is woken until it has got up."""

    __slots__ = ("_is_in", "_sleeper", "_sleepers", "_was_woken")

    def __init__(self, sleepers: Sleepers) -> None:
        super().__init__()
        self._sleepers = sleepers
        self._was_woken = False  # before it came; guarded by the condition of `Sleepers`, as the next two
        self._is_in = False  # whether a thread sleeps here that nobody has woken
        self._sleeper: _Thread | None = None  # that thread, where it is one of those that count

    def park(self, timeout_s: float | None) -> None:
        """Waits for a wake-up, at most `timeout_s` real seconds. Called by one thread only."""
        thread = threading.current_thread()
        with self._sleepers._changed:
            if self._was_woken:
                self._was_woken = False
                return
            self._is_in = True
            if isinstance(thread, _Thread):
                self._sleeper = thread
                thread.asleep = True
                self._sleepers._happened_locked()
        if timeout_s is None:
            self._permit.acquire()
        elif not self._permit.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX)):
            with self._sleepers._changed:
                was_woken = not self._is_in
                self._wake_locked()
            if was_woken:  # in the last moment
                self._permit.acquire()

    def unpark(self) -> None:
        """Wakes its thread, now or at its next wait. Safe to call from any thread."""
        with self._sleepers._changed:
            if self._is_in:
                self._wake_locked()
                self._permit.release()
            else:
                self._was_woken = True

    def _wake_locked(self) -> None:
        self._is_in = False
        if self._sleeper is not None:
            self._sleeper.asleep = False
            self._sleeper = None

"""The watchdog's thread: it looks at everything once a tick, and hands on what follows. What follows, `Vigil` decides.

A daemon thread that never prints. It has no lock: what it has seen is one frozen value, replaced as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import attrs

from minions.clock import Clock
from minions.flow.os_threads import OS_THREADS
from minions.life.machine import Sample
from minions.life.vigil import Finding, InboxCounts, Pulse, Vigil
from minions.model.limits import Watchdog
from minions.threads import Threads

__all__ = ["Seen", "WatchdogThread"]


@attrs.frozen(kw_only=True)
class Seen:
    """What the watchdog has seen last.

    Attributes:
        sample: of the process and the machine; None before the first tick.
        at_s: when that was, monotonic seconds.
        ticks: how often it has looked.
        faults: how often it could not, because of an error of its own or of what it asks.
        cpu_s: CPU time that all its ticks have used, in seconds.
        late_s: how much later than it should the last tick came, in seconds.
        late_most_s: the same of the latest one of all.
    """

    sample: Sample | None = None
    at_s: float = 0.0
    ticks: int = 0
    faults: int = 0
    cpu_s: float = 0.0
    late_s: float = 0.0
    late_most_s: float = 0.0


class WatchdogThread:
    """Looks once a tick. `start` and `close` may be called from any thread, once.

    Attributes:
        seen: what it has seen last; written by its thread only, and may be read by any.
    """

    def __init__(
        self,
        limits: Watchdog,
        clock: Clock,
        *,
        sample: Callable[[float], Sample],
        lives: Callable[[], Iterable[Pulse]],
        inboxes: Callable[[], Mapping[str, InboxCounts]],
        act: Callable[[Finding], None],
        on_fault: Callable[[BaseException], None],
        name: str,
        threads: Threads = OS_THREADS,
    ) -> None:
        """Makes it; `start` starts its thread. All callables are called on that thread, and none may block.

        Args:
            limits: what to look at, and how often.
            clock: by which it ticks.
            sample: what the process and the machine say, at a moment in monotonic seconds.
            lives: the pulse of each life that has a thread.
            inboxes: the counters of each inbox, by ``<component>.<inbox>``.
            act: takes what follows from a tick, one finding after the other.
            on_fault: takes an error of one of these, the first of each class; the others are counted.
            name: of the thread.
            threads: where it comes from.
        """
        self.seen = Seen()
        self._tick_s = limits.tick_s
        self._vigil = Vigil(limits)
        self._clock = clock
        self._sample = sample
        self._lives = lives
        self._inboxes = inboxes
        self._act = act
        self._on_fault = on_fault
        self._reported: set[type[BaseException]] = set()  # its own thread only
        self._threads = threads
        self._parker = threads.parker()
        self._closing = False  # written before the parker is woken
        self._thread = threads.thread(self._drive, name)

    def start(self) -> None:
        """Starts the thread, which looks for the first time at once.

        Raises:
            RuntimeError: the machine gives no further thread.
        """
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Ends the thread after the tick that it is in; False when that did not happen in time. Blocks.

        It may be called before `start`, and by a finding of its own: then it returns at once.
        """
        self._closing = True
        self._parker.unpark()
        if self._thread.ident is None:
            return True
        if not self._threads.is_current(self._thread):
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def still_for_s(self, component: str, epoch: int) -> float | None:
        """See `Vigil.still_for_s`. Any thread."""
        return self._vigil.still_for_s(component, epoch)

    # ------------------------------------------------------------------ on the thread
    def _drive(self) -> None:
        while not self._closing:
            now_s = self._clock.monotonic()
            self._tick(now_s)
            self._wait_until(now_s + self._tick_s)

    def _wait_until(self, moment_s: float) -> None:
        while not self._closing and self._clock.monotonic() < moment_s:
            self._clock.wait(self._parker, moment_s)

    def _tick(self, now_s: float) -> None:
        began_s, faults, sample = time.thread_time(), self.seen.faults, self.seen.sample
        late_s = max(0.0, now_s - self.seen.at_s - self._tick_s) if self.seen.ticks else 0.0
        try:
            sample = self._sample(now_s)
            findings = self._vigil.tick(now_s, sample, self._lives(), self._inboxes())
        except BaseException as error:  # noqa: BLE001 - reported: a watchdog that has ended would watch no more
            self._vigil.missed(now_s)
            findings = []
            faults += self._fault(error)
        for finding in findings:
            try:
                self._act(finding)
            except BaseException as error:  # noqa: BLE001 - reported, and the next finding is to be handed on all the same
                faults += self._fault(error)
        self.seen = Seen(
            sample=sample,
            at_s=now_s,
            ticks=self.seen.ticks + 1,
            faults=faults,
            cpu_s=self.seen.cpu_s + time.thread_time() - began_s,
            late_s=late_s,
            late_most_s=max(late_s, self.seen.late_most_s),
        )

    def _fault(self, error: BaseException) -> int:
        if type(error) not in self._reported:
            self._reported.add(type(error))
            try:
                self._on_fault(error)
            except BaseException:  # noqa: BLE001 - nobody is left to tell; both are counted
                return 2
        return 1

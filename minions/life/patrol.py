"""The watchdog's round: what it is shown of a running system, and what is done with what it finds.

Everything here is called on the watchdog's thread and looks at what other threads write, without a lock: each figure may be older
than the next by a moment, which a watchdog that looks once a second does not mind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from minions import events
from minions.clock import Clock
from minions.flow.channel import Channel
from minions.flow.os_threads import OS_THREADS
from minions.life import commands, vigil
from minions.life.evidence import evidence_of
from minions.life.history import Ring
from minions.life.life import Life
from minions.life.machine import Machine, Sample
from minions.life.vigil import Finding, Pulse
from minions.life.watchdog import Seen, WatchdogThread
from minions.model.limits import Watchdog
from minions.threads import Threads

__all__ = ["Patrol"]

_STALL_AFTER_S = 60.0
"""A unit of work that makes no progress for so long is stalled, unless its component says otherwise."""


class Patrol:
    """Shows the watchdog the lives of a system, and posts what follows to its supervisor.

    Attributes:
        history: what it has seen in the last minutes.
        failures: how often each thread of a component has failed by itself, over all its lives; counted by the supervisor.
    """

    def __init__(
        self,
        system: str,
        limits: Watchdog,
        folder: Path,
        clock: Clock,
        *,
        sources: tuple[str, ...],
        lives: Callable[[], Iterable[Life]],
        channels: Mapping[str, Channel],
        names: Iterable[str],
        post: Callable[[commands.Command], None],
        on_fault: Callable[[BaseException], None],
        threads: Threads = OS_THREADS,
    ) -> None:
        """Makes it; `start` starts the watchdog's thread.

        Args:
            system: its name.
            limits: what is looked at.
            folder: the state folder.
            clock: by which it ticks.
            sources: the names of the components that are sources.
            lives: the newest life of each thread of a component.
            channels: each inbox, by its name; their counters are read without the lock.
            names: of all threads of components.
            post: takes commands for the supervisor.
            on_fault: takes errors of the watchdog itself.
            threads: where its thread comes from.
        """
        self.failures: Counter[str] = Counter()
        self.history = Ring(names, channels)
        self._sources = sources
        self._channels = channels
        self._clock = clock
        self._machine = Machine(folder)
        self._lives = lives
        self._post = post
        self._stalled: set[tuple[str, int]] = set()  # the lives of which that was told; watchdog's thread only
        self._watchdog = WatchdogThread(
            limits,
            clock,
            sample=self._sample,
            lives=self._pulses,
            inboxes=lambda: channels,
            act=self._act,
            on_fault=on_fault,
            name=f"{system}/watchdog",
            threads=threads,
        )

    def start(self) -> None:
        """Raises:
        RuntimeError: the machine gives no further thread.
        """
        self._watchdog.start()

    def close(self, timeout_s: float) -> bool:
        """Ends the thread; False when that did not happen in time. Blocks."""
        return self._watchdog.close(timeout_s)

    @property
    def seen(self) -> Seen:
        """What the watchdog has seen last."""
        return self._watchdog.seen

    def still_for_s(self, component: str, epoch: int) -> float | None:
        """For how long a life had made no progress at the last tick, in seconds; None where that is not watched. Any thread."""
        return self._watchdog.still_for_s(component, epoch)

    def _sample(self, now_s: float) -> Sample:
        sample = self._machine.sample(now_s)
        threads = {life.name: life.native_id for life in self._lives()}
        self.history.add(now_s, self._clock.wall(), sample, threads, self._channels)
        return sample

    def _pulses(self) -> list[Pulse]:
        return [self._pulse(life) for life in self._lives() if life.native_id]

    def _pulse(self, life: Life) -> Pulse:
        in_unit = life.open_unit is not None
        declared_s = life.stall_after_s
        return Pulse(
            component=life.name,
            epoch=life.fence.epoch,
            token=life.progress,
            waits_for=life.waits_for,
            in_unit=in_unit,
            stall_after_s=declared_s if declared_s is not None or not in_unit else _STALL_AFTER_S,
            native_id=life.native_id,
            failures=self.failures[life.name],
        )

    def _act(self, finding: Finding) -> None:
        match finding:
            case vigil.Stalled(component, epoch, for_s, cpu_s):
                self._look_closely(component, epoch, for_s, cpu_s or 0.0)
            case vigil.Recovered(component, epoch, for_s, ended):
                if (component, epoch) in self._stalled:
                    self._stalled.remove((component, epoch))
                    self._post(commands.Noted(events.ComponentRecovered(component, epoch, for_s, ended)))
            case vigil.PauseSources(by):
                self._post(commands.Pause(self._sources, by=by))
            case vigil.ResumeSources(by):
                self._post(commands.Resume(self._sources, by=by))
            case vigil.RestartComponent(component):
                self._post(commands.Restart((component,), by="watchdog"))
            case vigil.StopSystem(reason):
                self._post(commands.Fail(reason))
            case vigil.Tell(event):
                self._post(commands.Noted(event))

    def _look_closely(self, component: str, epoch: int, for_s: float, cpu_s: float) -> None:
        for life in self._lives():
            is_it = life.name == component and life.fence.epoch == epoch
            if is_it and life.native_id and life.running:  # one that was asked to stop is being dealt with
                evidence = evidence_of(
                    component=component,
                    epoch=epoch,
                    doing=life.doing,
                    message_id=life.message_id_seen,
                    for_s=for_s,
                    cpu_s=cpu_s,
                    ident=life.ident,
                    native_id=life.native_id,
                )
                self._stalled.add((component, epoch))
                self._post(commands.Stalled(component, epoch, evidence))

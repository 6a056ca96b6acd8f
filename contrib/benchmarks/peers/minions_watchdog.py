"""Minions: the watchdog's ticks over the threads, inboxes and files of a running system."""

import threading
from collections.abc import Mapping
from time import thread_time

from bench.contender import Options
from minions import System, Watchdog
from minions.clock import SystemClock
from minions.life.machine import Machine, Sample
from minions.life.vigil import InboxCounts, Pulse
from minions.life.watchdog import WatchdogThread
from peers.minions_startup import Idle, Silent

_TICK_S = 0.01  # as fast as it goes, nearly: CPU time is what is measured, and each tick is the same


def ticks(components: int, options: Options) -> dict[str, float]:
    """CPU time of a tick over so many components that wait; `options.capacity` is the number of ticks."""
    wanted, done = options.capacity, threading.Event()
    machine = Machine(options.folder)
    sampled: list[float] = []

    def sample(now_s: float) -> Sample:
        began_s = thread_time()
        taken = machine.sample(now_s)
        sampled.append(thread_time() - began_s)
        if len(sampled) > wanted:
            done.set()
        return taken

    system = System("idle", folder=options.folder)
    source = system.add(Silent(), name="source")
    for number in range(components - 1):
        system.connect(source.readings, system.add(Idle(), name=f"idle-{number}").readings)
    with system.started():
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("idle/")]

        def lives() -> list[Pulse]:
            return [
                Pulse(thread.name, 1, 0, waits_for="message", stall_after_s=30.0, native_id=thread.native_id)
                for thread in threads
            ]

        counts: Mapping[str, InboxCounts] = system.statistics().inboxes  # in a run these are the channels themselves

        watchdog = WatchdogThread(
            Watchdog(tick_s=_TICK_S),
            SystemClock(),
            sample=sample,
            lives=lives,
            inboxes=lambda: counts,
            act=lambda finding: None,
            on_fault=_raise_from,
            name="bench/watchdog",
        )
        watchdog.start()
        done.wait()
        watchdog.close(10.0)
        seen = watchdog.seen
    if seen.faults:
        raise AssertionError(f"{seen.faults} ticks failed")
    tick_s = (seen.cpu_s - sampled[0]) / (seen.ticks - 1)  # the first sample loads a library
    return {"tick_s": tick_s, "sample_s": sum(sampled[1:]) / (len(sampled) - 1), "cpu_ratio": tick_s / 1.0}


def _raise_from(error: BaseException) -> None:
    raise error

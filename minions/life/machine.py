"""What the process and the machine say of themselves, as frozen samples. Reads files and clocks; no lock.

A sample is taken by one thread, the watchdog's. What cannot be had here is None: no reading is worth an error.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import attrs

from minions.life.cgroups import Allowed, allowed

__all__ = ["Machine", "Sample", "ThreadCpu", "thread_cpu_s"]

_DEARER_EVERY = 10

T = TypeVar("T")


class ThreadCpu(NamedTuple):
    """One thread of Python's.

    Attributes:
        name: of the thread.
        cpu_s: the CPU time that it has used so far, in seconds.
    """

    name: str
    cpu_s: float


@attrs.frozen(kw_only=True)
class Sample:
    """The process and its machine at one moment; None for what cannot be had.

    Attributes:
        rss_bytes: resident memory of the process.
        memory_bound_bytes: the memory that it may use: the least of the bounds of its control groups and the machine's memory.
        memory_ratio: the one as a share of the other. Version 1 of the control groups counts the page cache as used, which can be
            taken back; here it is resident memory alone.
        descriptors: open file descriptors.
        descriptors_most: how many it may have.
        disk_free_bytes: free space on the file system of the state folder.
        cpu_s: CPU time of the process so far.
        cores: how many cores it may use, by its affinity and the quotas of its control groups.
        cpu_ratio: CPU time since the sample before, as a share of those cores; None in the first one.
        run_wait_s: how long the thread that takes the samples has waited for a core so far.
        sleeps: how often that thread has gone to sleep so far. Who waits for the interpreter's lock wakes every few milliseconds.
        load: the load average of the machine over the last minute.
        threads: how many threads the process has, those of libraries included.
        thread_cpu: the threads that Python knows, by the number that the machine has for them.
    """

    rss_bytes: int | None = None
    memory_bound_bytes: int | None = None
    memory_ratio: float | None = None
    descriptors: int | None = None
    descriptors_most: int | None = None
    disk_free_bytes: int | None = None
    cpu_s: float | None = None
    cores: float | None = None
    cpu_ratio: float | None = None
    run_wait_s: float | None = None
    sleeps: int | None = None
    load: float | None = None
    threads: int | None = None
    thread_cpu: Mapping[int, ThreadCpu] = attrs.Factory(dict)


@attrs.frozen(kw_only=True)
class _Dearer:
    """What is read at every tenth sample only."""

    memory_bound_bytes: int | None = None
    descriptors: int | None = None
    descriptors_most: int | None = None
    disk_free_bytes: int | None = None
    cores: float | None = None
    threads: int | None = None


class Machine:
    """Takes the samples, all on one thread."""

    def __init__(self, folder: Path, process: Path = Path("/proc/self")) -> None:
        """Reads nothing yet.

        Args:
            folder: the state folder. It need not exist.
            process: where the machine tells of this process.
        """
        self._folder = folder
        self._process = process
        self._psutil: Any = (
            None  # the module, and the process: loaded with the first sample, because that takes a while
        )
        self._self: Any = None
        self._taken = 0
        self._dearer = _Dearer()
        self._before: tuple[float, float] | None = None  # when the last sample was taken, and the CPU time until then

    def sample(self, now_s: float) -> Sample:
        """Looks around. Takes a tenth of a millisecond, every tenth time three tenths; a millisecond with 1,000 threads.

        Args:
            now_s: monotonic seconds.
        """
        if self._psutil is None:
            import psutil  # noqa: PLC0415 - 15 ms that only a running system has to pay

            self._psutil = psutil
            self._self = self._or_none(psutil.Process)
        if self._taken % _DEARER_EVERY == 0:
            self._dearer = self._look_deeper()
        self._taken += 1
        dearer, cpu_s = self._dearer, time.process_time()
        rss_bytes = self._or_none(lambda: int(self._self.memory_info().rss))
        bound = dearer.memory_bound_bytes
        return Sample(
            rss_bytes=rss_bytes,
            memory_bound_bytes=bound,
            memory_ratio=rss_bytes / bound if rss_bytes is not None and bound else None,
            descriptors=dearer.descriptors,
            descriptors_most=dearer.descriptors_most,
            disk_free_bytes=dearer.disk_free_bytes,
            cpu_s=cpu_s,
            cores=dearer.cores,
            cpu_ratio=self._cpu_ratio(now_s, cpu_s, dearer.cores),
            run_wait_s=self._or_none(self._run_wait_s),
            sleeps=self._or_none(lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw),
            load=self._or_none(lambda: os.getloadavg()[0]),
            threads=dearer.threads,
            thread_cpu=_thread_cpu(),
        )

    def _cpu_ratio(self, now_s: float, cpu_s: float, cores: float | None) -> float | None:
        before, self._before = self._before, (now_s, cpu_s)
        if before is None or cores is None or now_s <= before[0]:
            return None
        return (cpu_s - before[1]) / (now_s - before[0]) / cores

    def _look_deeper(self) -> _Dearer:
        allows = allowed(self._process)
        return _Dearer(
            memory_bound_bytes=self._memory_bound_bytes(allows),
            descriptors=self._or_none(lambda: int(self._self.num_fds())),
            descriptors_most=self._or_none(_descriptors_most),
            disk_free_bytes=self._or_none(lambda: int(self._psutil.disk_usage(str(self._folder)).free)),
            cores=_cores(allows),
            threads=self._or_none(lambda: int(self._self.num_threads())),
        )

    def _memory_bound_bytes(self, allows: Allowed) -> int | None:
        machine = self._or_none(lambda: int(self._psutil.virtual_memory().total))
        bounds = [bound for bound in (allows.memory_bytes, machine) if bound is not None]
        return min(bounds, default=None)

    def _run_wait_s(self) -> float:
        """The second number of schedstat: nanoseconds on the run queue."""
        path = self._process / "task" / str(threading.get_native_id()) / "schedstat"
        return int(path.read_text(encoding="ascii").split()[1]) / 1e9

    def _or_none(self, reading: Callable[[], T]) -> T | None:
        try:
            return reading()
        except (OSError, ValueError, LookupError, AttributeError, self._psutil.Error):
            return None


def thread_cpu_s(native_id: int) -> float | None:
    """The CPU time that a thread of this process has used, in seconds; None when it has ended, or where this cannot be told.

    Asks the kernel by the number of the thread, which may since have been given to another one. `time.pthread_getcpuclockid` asks
    by the address of a structure that is gone when the thread is, and may end the process. Takes 0.4 microseconds and does not
    give up the interpreter's lock.
    """
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime((~native_id << 3) | 6)  # 4: of a thread, 2: time on a core
    except (OSError, OverflowError):
        return None


def _thread_cpu() -> dict[int, ThreadCpu]:
    found = {}
    for thread in threading.enumerate():
        native_id = thread.native_id
        cpu_s = None if native_id is None else thread_cpu_s(native_id)
        if native_id is not None and cpu_s is not None:  # otherwise it has not begun, or has just ended
            found[native_id] = ThreadCpu(thread.name, cpu_s)
    return found


def _descriptors_most() -> int | None:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if most == resource.RLIM_INFINITY else most


def _cores(allows: Allowed) -> float | None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = [float(each) for each in (cores, allows.cores) if each]
    return min(known, default=None)

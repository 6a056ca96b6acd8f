"""The last minutes of a system, for curves: one row a tick of the watchdog, and a fixed number of rows.

The watchdog's thread writes a row at each tick; any thread may take them. The lock guards the rows, and is held to add one or to
copy the list of them.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

import attrs

from minions.life.machine import Sample

__all__ = ["History", "InboxHistory", "Ring"]

MOST_ROWS = 300
"""Five minutes at a tick a second."""


@attrs.frozen
class InboxHistory:
    """One inbox, at each moment of a `History`.

    Attributes:
        in_per_s: messages a second that came, since the moment before.
        out_per_s: messages a second that were settled, since the moment before.
        length: messages that waited, or were in work.
    """

    in_per_s: tuple[float, ...]
    out_per_s: tuple[float, ...]
    length: tuple[int, ...]


@attrs.frozen(kw_only=True)
class History:
    """The last moments of a running system, at most 300, one at each tick of its watchdog.

    Attributes:
        moments: when they were, seconds since the epoch (UTC), ascending. What follows has one value for each.
        cpu_ratio: CPU time of the process, as a share of the cores that it may use; 0 where it cannot be had.
        rss_bytes: resident memory of the process; 0 where it cannot be had.
        components: of each thread of a component, which share of a core it used.
        inboxes: each inbox, by ``<component>.<inbox>``.
    """

    moments: tuple[float, ...] = ()
    cpu_ratio: tuple[float, ...] = ()
    rss_bytes: tuple[int, ...] = ()
    components: dict[str, tuple[float, ...]] = attrs.Factory(dict)
    inboxes: dict[str, InboxHistory] = attrs.Factory(dict)


class Counts(Protocol):
    """What is asked of an inbox, without a lock."""

    @property
    def sent(self) -> int: ...

    @property
    def settled(self) -> int: ...

    @property
    def length(self) -> int: ...


class Ring:
    """Keeps the rows. A row is an array of floats: the CPU of each thread, then three figures of each inbox."""

    def __init__(self, lives: Iterable[str], inboxes: Iterable[str]) -> None:
        """Args:
        lives: the names of all threads of components.
        inboxes: the names of all inboxes.
        """
        self._lives = tuple(lives)
        self._inboxes = tuple(inboxes)
        self._lock = threading.Lock()
        self._rows: deque[tuple[float, float, int, array[float]]] = deque(maxlen=MOST_ROWS)  # guarded by _lock
        self._before_s = 0.0  # the watchdog's thread only, as all below
        self._counted: list[tuple[int, int]] | None = None
        self._cpu_s: dict[str, tuple[int, float]] = {}  # the number of the thread, and its CPU time

    def add(
        self, now_s: float, wall_s: float, sample: Sample, threads: Mapping[str, int], inboxes: Mapping[str, Counts]
    ) -> None:
        """Adds a row. On the watchdog's thread.

        Args:
            now_s: the moment of the tick, monotonic seconds.
            wall_s: the same, as people count.
            sample: what the process says.
            threads: the number that the machine has for each thread, by the name of the component's.
            inboxes: the counters of each inbox.
        """
        passed_s, self._before_s = now_s - self._before_s, now_s
        if passed_s <= 0:
            return
        row = array("f", self._cpu(passed_s, sample, threads))
        counted = []
        before = self._counted
        for number, name in enumerate(self._inboxes):
            inbox = inboxes[name]
            sent, settled = counts = inbox.sent, inbox.settled
            counted.append(counts)
            if before is not None:
                was_sent, was_settled = before[number]
                row.extend(((sent - was_sent) / passed_s, (settled - was_settled) / passed_s, inbox.length))
        self._counted = counted
        if before is not None:
            with self._lock:
                self._rows.append((wall_s, sample.cpu_ratio or 0.0, sample.rss_bytes or 0, row))

    def _cpu(self, passed_s: float, sample: Sample, threads: Mapping[str, int]) -> list[float]:
        found = []
        for name in self._lives:
            native_id = threads.get(name, 0)
            cpu = sample.thread_cpu.get(native_id)
            was_id, was_s = self._cpu_s.get(name, (0, 0.0))
            now_s = 0.0 if cpu is None else cpu.cpu_s
            found.append(max(0.0, now_s - was_s) / passed_s if cpu is not None and was_id == native_id else 0.0)
            self._cpu_s[name] = native_id, now_s
        return found

    def take(self, last: int = MOST_ROWS) -> History:
        """The last so many rows. Any thread."""
        with self._lock:
            rows = list(self._rows)
        rows = rows[max(0, len(rows) - last) :] if last > 0 else []
        columns = list(zip(*(row for *_, row in rows), strict=True)) or [()] * (
            len(self._lives) + 3 * len(self._inboxes)
        )
        of_inboxes = columns[len(self._lives) :]
        return History(
            moments=tuple(wall_s for wall_s, *_ in rows),
            cpu_ratio=tuple(ratio for _, ratio, *_ in rows),
            rss_bytes=tuple(rss_bytes for _, _, rss_bytes, _ in rows),
            components=dict(zip(self._lives, columns, strict=False)),
            inboxes={
                name: InboxHistory(into, out, tuple(map(int, length)))
                for name, into, out, length in zip(
                    self._inboxes, of_inboxes[::3], of_inboxes[1::3], of_inboxes[2::3], strict=True
                )
            },
        )

"""What a system counts, as observable instruments. Read on the thread of the reader.

`_lock` guards the last look; the system is asked under it, which is brief and runs no user code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from minions.hookspecs import RunningSystem

__all__ = ["Metrics"]

_SAME_LOOK_S = 0.05
"""The instruments are read one after the other, and are to fit together: one look at the system serves for all."""


@attrs.frozen
class _Instrument:
    """One instrument.

    Attributes:
        name: under ``minions.``.
        unit: after UCUM.
        description: for people.
        attribute: of the statistics, or of those of an inbox.
        grows: whether it only ever grows while the system runs.
    """

    name: str
    unit: str
    description: str
    attribute: str
    grows: bool = True


_OF_INBOXES = (
    _Instrument("inbox.sent", "{message}", "Messages sent to the inbox", "sent"),
    _Instrument("inbox.settled", "{message}", "Messages that were handled, set aside or skipped", "settled"),
    _Instrument("inbox.failed", "{failure}", "Failures of the handler", "failed"),
    _Instrument("inbox.dropped", "{message}", "Messages that the overflow policy has dropped", "dropped"),
    _Instrument("inbox.refused", "{message}", "Messages that were refused because the inbox was full", "refused"),
    _Instrument("inbox.blocked", "{wait}", "How often a sender had to wait for room", "blocked"),
    _Instrument("inbox.blocked_time", "s", "How long senders have waited for room, all together", "blocked_s"),
    _Instrument("inbox.capacity", "{message}", "How many messages the inbox holds", "capacity", grows=False),
    _Instrument("inbox.length", "{message}", "Messages that wait or are in work, and room held", "length", grows=False),
    _Instrument("inbox.waiting", "{message}", "Messages that wait", "waiting", grows=False),
    _Instrument("inbox.high_water", "{message}", "The highest length since the start", "high_water", grows=False),
    _Instrument("inbox.senders_waiting", "{sender}", "Senders that wait for room", "senders_waiting", grows=False),
)
_OF_SYSTEM = (
    _Instrument("commits", "{commit}", "Commits that were made", "commits"),
    _Instrument("units_committed", "{unit}", "Units of work that these held", "units_committed"),
    _Instrument("units_unsaved", "{unit}", "Units of work that are not on disk yet", "units_unsaved", grows=False),
    _Instrument("bytes_unsaved", "By", "Bytes that these add to what is kept", "bytes_unsaved", grows=False),
)

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Metrics:
    """The instruments of one run.

    Attributes:
        units_dropped: how many units of work were not told, and so have no span. Written by the thread of the hooks.
    """

    def __init__(self, system: RunningSystem, resource: Resource, reader: MetricReader) -> None:
        """Args:
        system: what is looked at.
        resource: what the metrics are of.
        reader: reads the instruments when it likes; it is shut down with this.
        """
        self._system = system
        self.units_dropped = 0
        self._lock = threading.Lock()
        self._seen: Any = None
        self._seen_s = 0.0
        self._provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._make()

    def close(self) -> None:
        """Reads the instruments once more, and ends. Blocks for as long as the reader does."""
        self._provider.shutdown()

    def _make(self) -> None:
        meter = self._provider.get_meter("minions_opentelemetry")
        makers: dict[bool, Callable[..., object]] = {
            True: meter.create_observable_counter,
            False: meter.create_observable_gauge,
        }
        for callback_of, instruments in ((self._of_inboxes, _OF_INBOXES), (self._of_system, _OF_SYSTEM)):
            for each in instruments:
                makers[each.grows](f"minions.{each.name}", [callback_of(each.attribute)], each.unit, each.description)
        meter.create_observable_counter(
            "minions.units_dropped",
            [lambda options: [Observation(self.units_dropped, {"minions.system": self._system.name})]],
            "{unit}",
            "Units of work that have no span because too many ended at once",
        )

    def _look(self) -> Any:
        with self._lock:
            now_s = time.monotonic()
            if self._seen is None or now_s - self._seen_s > _SAME_LOOK_S:
                self._seen, self._seen_s = self._system.statistics(), now_s
            return self._seen

    def _of_inboxes(self, attribute: str) -> _Callback:
        def observe(options: CallbackOptions) -> list[Observation]:
            return [
                Observation(
                    getattr(inbox, attribute),
                    {
                        "minions.system": self._system.name,
                        "minions.component": name.partition(".")[0],
                        "minions.inbox": name,
                    },
                )
                for name, inbox in self._look().inboxes.items()
            ]

        return observe

    def _of_system(self, attribute: str) -> _Callback:
        return lambda options: [Observation(getattr(self._look(), attribute), {"minions.system": self._system.name})]

"""pykka: one actor on its own thread, told every message. Its mailbox is unbounded."""

from time import perf_counter
from typing import Any

import pykka

from bench.contender import Options
from bench.message import Tally, stream

_REPORT = object()


class Sink(pykka.ThreadingActor):
    def __init__(self) -> None:
        super().__init__()
        self._tally = Tally()

    def on_receive(self, message: Any) -> Tally | None:
        if message is _REPORT:
            return self._tally
        self._tally.add(message)
        return None


def tell(messages: int, options: Options) -> float:
    sink = Sink.start()
    try:
        start = perf_counter()
        for reading in stream(messages):
            sink.tell(reading)
        tally = sink.ask(_REPORT)  # answered after all that was told before
        seconds = perf_counter() - start
    finally:
        sink.stop()
    assert isinstance(tally, Tally)
    tally.check(messages)
    return seconds

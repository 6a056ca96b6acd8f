"""pykka: actors, each on its own thread, told every message. Their mailboxes are unbounded."""

from functools import partial
from typing import Any

import pykka

from bench.contender import Options
from bench.message import Tally, WrongResult, stream
from bench.pair import time_threads

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
    """For each pair an actor and a thread that tells it; the last question is answered after all that was told before."""
    each = messages // options.pairs
    sinks = [Sink.start() for _ in range(options.pairs)]
    tallies: list[Any] = []

    def produce(sink: pykka.ActorRef[Sink]) -> None:
        for reading in stream(each, options.size_bytes):
            sink.tell(reading)
        tallies.append(sink.ask(_REPORT))

    try:
        seconds = time_threads([partial(produce, sink) for sink in sinks])
    finally:
        pykka.ActorRegistry.stop_all()
    if len(tallies) != options.pairs:
        raise WrongResult(f"{options.pairs} actors were asked, {len(tallies)} answered")
    for tally in tallies:
        tally.check(each)
    return seconds

"""pykka: an actor is asked, and whoever asks blocks until it has answered."""

from typing import Any

import pykka

from bench.contender import Options
from peers.requests import timed


class Actor(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message + 1


def ask(requests: int, _: Options) -> dict[str, float]:
    """`ActorRef.ask`."""
    actor = Actor.start()
    try:
        return timed(requests, actor.ask)
    finally:
        pykka.ActorRegistry.stop_all()

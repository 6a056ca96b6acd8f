"""The steps by which a life is broken off: each is sterner than the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from minions import Component, events
from minions.life.ladder import Ladder
from tests.life.conftest import PATIENCE_S


class Hanging:
    """In the place of a life, and of what it has registered."""

    def __init__(self) -> None:
        self.name = "hanging"
        self.fence = type("Fence", (), {"epoch": 3})
        self.blocked_in = self
        self.instance: Any = Component.__new__(Component)
        self.asked: list[bool] = []
        self.interrupted = threading.Event()

    def unblock(self, *, again: bool = False, before: Callable[[], None]) -> list[str]:
        before()
        self.asked.append(again)
        return ["it was not woken"]

    def interrupt(self) -> None:
        self.interrupted.set()


def test_the_second_step_is_sterner_than_the_first_and_what_goes_wrong_is_told() -> None:
    told: list[events.Event] = []
    heard = threading.Semaphore(0)
    life: Any = Hanging()

    def tell(event: events.Event) -> None:
        told.append(event)
        heard.release()

    ladder = Ladder("test", tell)
    for step in (ladder.interrupt, ladder.throw):
        step(life)
        assert heard.acquire(timeout=PATIENCE_S)
    assert life.asked == [False, True]
    assert life.interrupted.is_set()
    assert [(event.where, event.epoch, event.error) for event in told if isinstance(event, events.ComponentFailed)] == [
        ("on_interrupt", 3, "it was not woken"),
        ("on_interrupt", 3, "it was not woken"),
    ]

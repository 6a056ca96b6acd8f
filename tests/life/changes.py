"""What tests of wishes and restarts have in common: a system that is up, and who is asked to stop."""

from __future__ import annotations

from minions import Restart
from minions.life.actions import AskToStop
from tests.life.bench import Bench

CHAIN = {"source": ["worker1"], "worker1": ["worker2"], "worker2": []}
STOPPING = "the system is stopping"


def up(sends_to: dict[str, list[str]] = CHAIN, **options: object) -> Bench:
    bench = Bench(sends_to, **options)  # type: ignore[arg-type]
    bench.bring_up()
    return bench


def asks(*names: str) -> list[AskToStop]:
    return [AskToStop(name, drain=False) for name in names]


THREE = {"worker1": [], "worker2": [], "worker3": ["worker1"], "source": ["worker1", "worker2", "worker3"]}


ISOLATING = Restart(failures=0, on_give_up="isolate")

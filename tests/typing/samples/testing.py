"""The harness knows the component that is under it: its ports, its methods, what it uses; `running` knows its inboxes."""

from typing import assert_type

from minions import Component, Inbox, Outbox, State, System, Uses, every, wrap
from minions.testing import Call, Called, FakeClock, Harness, Running, View, Wait, explore, harness, running, simulate


class Camera:
    def shoot(self) -> bytes:
        return b""


class FakeCamera(Camera): ...


class Database(Component):
    path: str = "rows.db"

    def insert(self, row: str) -> int:
        return len(row)


class FakeDatabase(Database):
    def insert(self, row: str) -> int:
        return 0


class Archive(Component):
    def keep(self, row: str) -> None: ...


class Average(Component):
    readings = Inbox(float)
    averages = Outbox(float)
    names = Outbox(str)
    count = State(int)
    database = Uses(Database)
    camera = Uses(Camera)

    @readings.handler
    def add(self, reading: float) -> None: ...

    @every(hours=1)
    def flush(self) -> None: ...

    def mean(self, *, digits: int = 1) -> float:
        return 0.0


h = harness(Average())
assert_type(h, Harness[Average])
assert_type(h.component, Average)
assert_type(h.component.count, int)
h.send(h.component.readings, 1.0, 2.0)
h.send(h.component.readings, "warm")  # E: mypy pyright
h.send(h.component.averages, 1.0)  # E: mypy pyright
assert_type(h.sent(h.component.averages), list[float])
assert_type(h.sent(h.component.names), list[str])
assert_type(h.waiting(h.component.readings), list[float])
h.sent(h.component.readings)  # E: mypy pyright
h.tick("flush")
h.tick(h.component.flush)
h.tick(h.component.add)  # E: mypy pyright
h.crash_in(h.component.add, nth=2)
h.crash_in(3)  # E: mypy pyright
assert_type(h.call.mean(digits=3), float)
h.call.mean(3)  # E: mypy pyright
h.call.nothing()  # E: mypy pyright
h.uses(h.component.database, FakeDatabase())
h.uses(h.component.database, Archive())  # E: mypy pyright
h.uses(h.component.database, "database")  # E: mypy pyright
h.uses(h.component.camera, wrap.object(lambda: FakeCamera(), Camera))
h.uses(h.component.camera, wrap.object(lambda: FakeDatabase(), Database))  # E: mypy pyright
harness(Average)  # E: mypy pyright
harness("average")  # E: mypy pyright

with harness(Average()) as block:
    assert_type(block, Harness[Average])

system = System("typing")
average = system.add(Average())
clock = FakeClock()
with running(system, clock=clock, expect_dead_letters=1, expect_failures=None) as run:
    assert_type(run, Running)
    run.send(average.readings, 1.0)
    run.send(average.readings, "warm")  # E: mypy pyright
    assert_type(run.until(lambda: average.count), int)
    clock.advance(seconds=60.0)
    clock.advance("a minute")  # E: mypy pyright
running("system")  # E: mypy pyright

Call("average", Average.mean, digits=2)
Call(average, Average.mean, digits=2).until_answered()
Call(average.mean, digits=2)
Call("average", Average.mean, digits="two")  # E: mypy pyright
Call("average", Average.mean, 2)  # E: mypy pyright
Call("average", "mean")  # E: mypy pyright
Call(average.mean, 2)  # E: mypy pyright
simulate(system, calls={"web": [Wait(1.0), Call("average", Average.mean)]})
simulate(system, calls={"web": [Average.mean]})  # E: mypy pyright


def looks(view: View) -> None:
    assert_type(view.called("web"), tuple[Called, ...])


explore(lambda: system, calls={"web": [Call("average", Average.mean)]}, invariants=looks)

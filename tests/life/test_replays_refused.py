"""A crash of yesterday, and the program of today: what is refused, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from minions import (
    CallFailed,
    Component,
    Crash,
    CrashRefused,
    Inbox,
    State,
    System,
)
from minions.life.crash import crashes_in
from tests.life.conftest import Number, Start
from tests.life.crashing import ONCE, Numbers, run_to_the_end, the_crash


def recorded(system: System, start: Start, component: Component) -> Crash:
    source = system.add(Numbers(last=1))
    system.add(component, name="picky")
    system.connect(source.out, component.numbers)  # type: ignore[attr-defined]
    run_to_the_end(system, start)
    return the_crash(system)


class Other(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def take(self, number: Number) -> None: ...


@pytest.fixture
def crash(system: System, start: Start) -> Crash:
    class Picky(Component):
        numbers = Inbox(Number, retry=ONCE)
        seen = State(int, version=2, migrations={1: lambda plain: plain}, initial=lambda: 1)

        def on_start(self) -> None:
            self.seen = 5

        @numbers.handler
        def take(self, number: Number) -> None:
            raise ValueError("the bug")

    return recorded(system, start, Picky())


def today(new_system: Callable[[], System], component: Component, name: str = "picky") -> System:
    system = new_system()
    source = system.add(Numbers(last=1))
    system.add(component, name=name)
    system.connect(source.out, component.numbers)  # type: ignore[attr-defined]
    return system


def test_a_component_that_is_gone(crash: Crash, new_system: Callable[[], System]) -> None:
    with pytest.raises(CrashRefused, match="no component of that name; it has numbers, other"):
        today(new_system, Other(), "other").replay(crash)


def test_a_class_that_is_another(crash: Crash, new_system: Callable[[], System]) -> None:
    with pytest.raises(CrashRefused, match=r"picky was of class .*Picky, and is of Other now"):
        today(new_system, Other()).replay(crash)


def test_a_handler_that_is_gone(crash: Crash, new_system: Callable[[], System]) -> None:
    class Picky(Component):
        numbers = Inbox(Number)

        def run(self) -> None: ...

    Picky.__qualname__ = crash.class_name.partition(":")[2]
    with pytest.raises(CrashRefused, match="picky has no handler of numbers any more"):
        today(new_system, Picky()).replay(crash)


def test_a_state_of_a_later_version(crash: Crash, new_system: Callable[[], System]) -> None:
    class Picky(Component):
        numbers = Inbox(Number)
        seen = State(int)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    Picky.__qualname__ = crash.class_name.partition(":")[2]
    with pytest.raises(CrashRefused, match=r"state picky\.seen of the crash cannot be loaded: .*version 2"):
        today(new_system, Picky()).replay(crash)


def test_a_message_of_another_type(crash: Crash, new_system: Callable[[], System]) -> None:
    other = attrs.evolve(crash, messages=(attrs.evolve(crash.messages[0], type="Parcel"),))

    class Picky(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def take(self, number: Number) -> None: ...

    Picky.__qualname__ = crash.class_name.partition(":")[2]
    system = today(new_system, Picky())
    assert not system.replay(crash).failed
    with pytest.raises(CrashRefused, match="is of type Parcel, and the inbox now carries Number"):
        system.replay(other)


def test_a_file_of_a_later_version(crash: Crash, system: System, tmp_path: Path) -> None:
    [(path, _)] = crashes_in(system.folder)
    later = tmp_path / "later.json"
    later.write_text(path.read_text().replace('"version":2', '"version":9', 1))

    with pytest.raises(CrashRefused, match="version 9 of Crash"):
        system.replay(later)


def test_an_on_start_that_fails_here(crash: Crash, new_system: Callable[[], System]) -> None:
    class Picky(Component):
        numbers = Inbox(Number)

        def on_start(self) -> None:
            raise CallFailed("no device")

        @numbers.handler
        def take(self, number: Number) -> None: ...

    Picky.__qualname__ = crash.class_name.partition(":")[2]
    replay = today(new_system, Picky()).replay(crash)
    assert replay.stopped == "on_start() fails here, before the unit that had failed: no device"

"""`harness`: what stands in for the components that the one under it uses."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import create_autospec

import pytest

from minions import Component, Inbox, Outbox, State, UsageError, Uses, wrap
from minions.testing import harness
from minions.testing.fakes import misfit
from tests.testing.averaging import Archive, Average, Database, FakeDatabase, Reading


def test_a_fake_component_stands_in() -> None:
    h = harness(Archive())
    fake = FakeDatabase()
    h.uses(h.component.database, fake)
    h.send(h.component.readings, Reading(1.0), Reading(2.0))
    assert fake.rows == [1.0, 2.0]
    assert h.component.count == 2
    h.stop()


def test_any_object_that_fits_stands_in() -> None:
    class Plain:
        def __init__(self) -> None:
            self.rows: list[Reading] = []

        def insert(self, reading: Reading, **keywords: bool) -> int:
            self.rows.append(reading)
            return len(self.rows)

    plain, mock = Plain(), create_autospec(Database, instance=True)
    mock.insert.return_value = 7
    for fake, count in ((plain, 1), (mock, 7), (wrap.object(lambda: plain, cast(type[Plain], Database)), 2)):
        h = harness(Archive())
        h.uses(h.component.database, cast(Database, fake))
        h.send(h.component.readings, Reading(1.0))
        assert h.component.count == count
        h.stop()
    mock.insert.assert_called_once_with(Reading(1.0), twice=True)


def test_what_a_fake_raises_comes_to_its_caller() -> None:
    class Broken(FakeDatabase):
        def insert(self, reading: Reading, *, twice: bool = False) -> int:
            raise OSError("disk full")

    h = harness(Archive())
    h.uses(h.component.database, Broken())
    with pytest.raises(OSError, match="disk full"):
        h.send(h.component.readings, Reading(1.0))
    assert h.dead_letters[0].error == "OSError: disk full"
    assert len(h.raised) == 1
    h.stop()


def test_a_fake_may_have_ports_of_its_own() -> None:
    class Echoing(FakeDatabase):
        wishes = Inbox(int)
        echoes = Outbox(int)

        @wishes.handler
        def echo(self, wish: int) -> None:
            self.echoes.send(wish)

    h = harness(Archive())
    fake = Echoing()
    h.uses(h.component.database, fake)
    h.send(fake.wishes, 3)
    assert h.sent(fake.echoes) == [3]
    h.stop()


def test_what_is_used_needs_a_fake_and_one_that_fits() -> None:
    h = harness(Archive())
    for step in (h.start, h.settle, lambda: h.send(h.component.readings, Reading(1.0))):
        with pytest.raises(
            UsageError,
            match=r"archive.database uses Database, and nothing stands in for it: say what, h.uses\(h.component.database",
        ):
            step()

    class Empty: ...

    class Other:
        def insert(self, reading: Reading) -> int:
            return 0

    for fake, problem in (
        (Empty(), r"it has no method insert\(\); give it one, or make it of a subclass of Database"),
        (
            Other(),
            r"insert\(reading: .*Reading.*\) -> .*int.* does not take what Database.insert\(\) is given: got an unexpected",
        ),
        (FakeDatabase, r"it is a class: give an object, FakeDatabase\(\)"),
        (Average(), r"it has no method insert\(\)"),
    ):
        with pytest.raises(UsageError, match=rf"archive.database uses Database, and .* does not fit: {problem}"):
            h.uses(h.component.database, cast(Database, fake))
    with pytest.raises(
        UsageError, match=r"archive: uses\(\) takes first a Uses of the component \(h.component.database\), not 'db'"
    ):
        h.uses(cast(Database, "db"), FakeDatabase())
    with pytest.raises(UsageError, match="takes first a Uses of the component"):
        h.uses(Archive().database, FakeDatabase())
    h.uses(h.component.database, FakeDatabase())
    h.start()
    with pytest.raises(UsageError, match="before the harness has started"):
        h.uses(h.component.database, FakeDatabase())
    h.stop()


class Chimes:
    """No component, so that its methods may be called what they like."""

    def now(self) -> int:
        raise NotImplementedError


class Tower(Component):
    rings = Inbox(int)
    chimes = Uses(Chimes)
    hour = State(int)

    @rings.handler
    def ring(self, ring: int) -> None:
        self.hour = self.chimes.now()


def test_a_method_of_an_object_may_have_a_name_that_is_the_runtimes_on_components() -> None:
    class Twelve(Chimes):
        def now(self) -> int:
            return 12

    h = harness(Tower())
    with pytest.raises(UsageError, match=r"it has no method now\(\); give it one"):
        h.uses(h.component.chimes, cast(Any, object()))
    h.uses(h.component.chimes, wrap.object(Twelve, Chimes))
    h.send(h.component.rings, 1)
    assert h.component.hour == 12
    h.stop()


def test_a_static_method_has_no_self_to_leave_out() -> None:
    class Parser:
        @staticmethod
        def parse(text: str, strict: bool) -> str:
            return text

    class Fake:
        def parse(self, text: str, strict: bool) -> str:
            return text

    class Short:
        def parse(self, text: str) -> str:
            return text

    assert misfit(Fake(), Parser) == ""
    assert "does not take what" in misfit(Short(), Parser)

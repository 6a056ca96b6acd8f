"""`harness`: what it refuses, in words that say what to do."""

from __future__ import annotations

import gc
import sys
import threading
from typing import cast

import pytest

from minions import Component, Inbox, InboxFull, MessageRefused, Retry, System, TopologyError, UsageError
from minions.testing import harness
from tests.testing.averaging import Average, Averaging, Lock, Reading, Summary


def test_only_a_component_of_its_own_goes_under_a_harness() -> None:
    with pytest.raises(
        UsageError, match=r"harness\(\) takes a component, such as harness\(Average\(\)\), not <class .*Average'>; give"
    ):
        harness(cast(Average, Average))
    with pytest.raises(UsageError, match=r"not 'average'$"):
        harness(cast(Average, "average"))
    system = System("other")
    with pytest.raises(
        UsageError, match=r"harness\(Average\): this object belongs to a system \(or a harness\) already"
    ):
        harness(system.add(Average()))
    component = Average()
    harness(component)
    with pytest.raises(UsageError, match="belongs to a system"):
        harness(component)


def test_a_component_that_is_not_sound_is_not_started() -> None:
    class Unsound(Component):
        locks = Inbox(Lock)

        @locks.handler
        def handle(self, lock: Lock) -> None: ...

    with pytest.raises(TopologyError, match="durable=False"):
        harness(Unsound()).start()


def test_a_port_that_is_none_is_refused(h: Averaging) -> None:
    stranger = Average()
    for port in (stranger.readings, h.component.averages, Average.readings, "readings"):
        with pytest.raises(
            UsageError, match=r"average: send\(\) takes an inbox of the component \(h.component.readings\), not"
        ):
            h.send(cast(Inbox[Reading], port), Reading(1.0))
    for method in ("sent", "waiting"):
        with pytest.raises(UsageError, match=rf"average: {method}\(\) takes an (in|out)box of the component"):
            getattr(h, method)(stranger.readings)


def test_a_message_of_another_class_is_refused(h: Averaging) -> None:
    with pytest.raises(MessageRefused, match=r"average.readings takes Reading, not 1.0 \(float\)"):
        h.send(h.component.readings, cast(Reading, 1.0))


def test_a_tick_of_what_has_no_schedule_is_refused(h: Averaging) -> None:
    for method in ("mean", h.component.mean, "nothing", len):
        with pytest.raises(UsageError, match=r"average has no schedule '\w+': name one of flush, fail"):
            h.tick(cast(str, method))


def test_an_inbox_that_is_full_says_so() -> None:
    class Sleeping(Component):
        some = Inbox(int, capacity=2)
        failing = Inbox(int, capacity=2, overflow="fail")

        @some.handler
        def handle(self, number: int) -> None:
            self.sleep(100.0)

        @failing.handler
        def take(self, number: int) -> None: ...

    with harness(Sleeping()) as h:
        h.send(h.component.some, 1, 2)
        with pytest.raises(UsageError, match=r"sleeping.some is full \(2 messages\): have its component handle some"):
            h.send(h.component.some, 3)
        with pytest.raises(InboxFull):
            h.send(h.component.failing, 1, 2, 3)
        h.advance(100.0)


def test_a_thread_of_its_own_is_refused() -> None:
    class Forking(Component):
        numbers = Inbox(int, retry=Retry(attempts=1))

        @numbers.handler
        def handle(self, number: int) -> None:
            thread = threading.Thread(target=gate.wait, name="own")
            thread.start()

    gate = threading.Event()
    with harness(Forking(), raises=False) as h:
        h.send(h.component.numbers, 1)
        assert "has started the thread 'own'" in h.dead_letters[0].error
    gate.set()
    for thread in threading.enumerate():
        if thread.name == "own":
            thread.join(10.0)


def test_without_greenlet_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(UsageError, match=r"needs the library greenlet, .* pip install 'minions-runtime\[testing\]'"):
        harness(Average())


def test_a_harness_that_nobody_stops_lets_go_of_its_process() -> None:
    h = harness(Average())
    h.send(h.component.readings, Reading(1.0))
    process = h._process
    component = h.component
    del h
    gc.collect()
    assert process.over or process._world.over
    assert component is not None


def test_a_state_that_a_test_assigns_to_is_refused_because_it_would_hide_what_is_kept() -> None:
    with harness(Average()) as h:
        h.send(h.component.readings, Reading(1.0))
        h.component.summary = Summary(count=7)
        with pytest.raises(UsageError, match=r"average.summary was assigned from outside, which changes nothing"):
            h.send(h.component.readings, Reading(1.0))
        del h.component.summary
        assert h.component.summary.count == 1

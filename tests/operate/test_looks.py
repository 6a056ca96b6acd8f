"""What is said of a component that does not go on: pure sentences."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from minions.events import ComponentFailed, Evidence
from minions.life.lifecycle import Phase
from minions.life.status import ComponentStatus
from minions.operate.looks import Look, chain_of, sentence_of

STACK = '  File "app.py", line 3, in run\n    outer()\n  File "app.py", line 7, in outer\n    inner()\n'
FAILURE = ComponentFailed("a", 1, "add", "ValueError: bad", "", "", 0, 1.0)


def status(name: str = "a", phase: Phase = Phase.RUNNING, **fields: Any) -> ComponentStatus:
    known: dict[str, Any] = {
        "name": name,
        "phase": phase,
        "epoch": 1,
        "restarts": 0,
        "paused_by": (),
        "isolated": False,
        "up_for_s": 1.0,
        "next_life_in_s": None,
    }
    return ComponentStatus(**(known | fields))


def evidence(**fields: Any) -> Evidence:
    known: dict[str, Any] = {
        "component": "a",
        "epoch": 1,
        "doing": "handling add",
        "message_id": "",
        "for_s": 0.0,
        "cpu_s": 0.0,
        "on_cpu": False,
        "system_call": "",
        "resource": "",
        "holder": "",
        "stack": STACK,
    }
    return Evidence(**(known | fields))


def look(name: str = "a", **fields: Any) -> Look:
    known: dict[str, Any] = {"status": status(name), "doing": "handling add"}
    return Look(**(known | fields))


def said(*looks: Look, rooms: dict[str, tuple[int, int]] | None = None) -> str:
    """The sentence about the first, where the others are the other components."""
    by_name: dict[str, list[Look]] = {}
    for each in looks:
        by_name.setdefault(each.name.partition("#")[0], []).append(each)
    return sentence_of(chain_of(looks[0], lambda name: by_name.get(name, []), rooms or {}, "system"))


AT = 'at "app.py", line 7, in outer'


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (look(door="a message"), "a has nothing to do: it waits for a message"),
        (
            look(door="a message in a.numbers", waiting=3),
            "a has nothing to do: it waits for a message in a.numbers, though 3 are there",
        ),
        (look(door="a commit", still_for_s=2.5), "a is handling add and waits for a commit, for 2.5 s"),
        (look(evidence=evidence(on_cpu=True)), f"a is handling add and computes, {AT}"),
        (look(evidence=evidence(), cpu_ratio=0.9), f"a is handling add and computes, {AT}"),
        (
            look(evidence=evidence(resource="pipe, descriptor 3", system_call="read"), cpu_ratio=0.1),
            f"a is handling add and waits for pipe, descriptor 3 in read, {AT}",
        ),
        (
            look(evidence=evidence(resource="lock L (threading.RLock)", system_call="futex", holder="other")),
            f"a is handling add and waits for lock L (threading.RLock), which thread other holds, {AT}",
        ),
        (
            look(evidence=evidence(system_call="io_getevents")),
            f"a is handling add and is blocked in the system call io_getevents, {AT}",
        ),
        (look(evidence=evidence()), f"a is handling add, {AT}"),
        (look(doing="run", evidence=evidence(stack="")), "a is in run, at no line of Python"),
        (look(status=status(phase=Phase.WAITING)), "a is about to start"),
        (
            look(status=status(phase=Phase.WAITING), failure=FAILURE),
            "a is about to start; it failed last in add: ValueError: bad",
        ),
        (
            look(status=status(phase=Phase.WAITING), failure=FAILURE, not_up=("b",)),
            "a has not started, because b is not up; it failed last in add: ValueError: bad",
        ),
        (
            look(status=status(phase=Phase.STARTING), doing="on_start", evidence=evidence(), failure=FAILURE),
            f"a is in on_start, {AT}; it failed last in add: ValueError: bad",
        ),
        (look(failure=FAILURE, evidence=evidence()), f"a is handling add, {AT}"),
        (
            look(status=status(phase=Phase.STARTING), doing="", failure=FAILURE),
            "a is starting; it failed last in add: ValueError: bad",
        ),
        (
            look(status=status(phase=Phase.WAITING), not_up=("b",)),
            "a has not started, because b is not up",
        ),
        (
            look(status=status(phase=Phase.BACKOFF, next_life_in_s=1.5), failure=FAILURE),
            "a is down, and its next life begins in 1.5 s; it failed last in add: ValueError: bad",
        ),
        (
            look(status=status(phase=Phase.BACKOFF)),
            "a is down, and its next life begins as soon as those that restart with it have stopped",
        ),
        (look(status=status(phase=Phase.STOPPED)), "a was stopped, and stays down until somebody starts it"),
        (
            look(status=status(phase=Phase.STOPPED, isolated=True)),
            "a was given up, or sends to what was, and stays down until somebody starts it",
        ),
        (look(status=status(phase=Phase.ABANDONED)), "a was abandoned, because its thread could not be ended"),
        (
            look(status=status(phase=Phase.FINISHED)),
            "a has finished: its run() has returned, and there is nothing more to do for it",
        ),
        (
            look(status=status(phase=Phase.PAUSED, paused_by=("operator", "watchdog"))),
            "a is paused by operator and watchdog, and takes nothing more (its thread is handling add)",
        ),
        (
            look(status=status(phase=Phase.STOPPING), door="a commit"),
            "a was asked to stop, and is handling add and waits for a commit",
        ),
    ],
)  # fmt: skip
def test_a_sentence_for_each_state(seen: Look, sentence: str) -> None:
    assert said(seen) == sentence


def test_from_a_full_inbox_it_goes_on_to_who_takes_from_it() -> None:
    full = look(door="room in b.numbers")
    taking = look("b", evidence=evidence(resource="pipe, descriptor 3", system_call="read"))
    assert said(full, taking, rooms={"b.numbers": (10, 10)}) == (
        "a is handling add and waits for room in b.numbers; b.numbers holds 10 of 10 messages; b, which takes from it, is "
        f"handling add and waits for pipe, descriptor 3 in read, {AT}"
    )


def test_from_a_call_it_goes_on_to_who_is_called() -> None:
    calling = look(door="b.insert() to answer")
    assert said(calling, look("b", door="a commit")) == (
        "a is handling add and waits for b.insert() to answer; b is handling add and waits for a commit"
    )


def test_from_a_lock_it_goes_on_to_the_component_that_holds_it() -> None:
    locked = look(evidence=evidence(resource="lock L (RLock)", system_call="futex", holder="system/b"))
    assert said(locked, look("b", door="a commit")).endswith(
        "; b, which holds it, is handling add and waits for a commit"
    )


def test_of_replicas_the_one_that_is_at_work_is_named() -> None:
    full = look(door="room in b.numbers")
    idle = look("b#0", door="a message")
    busy = look("b#1", door="a commit")
    assert [each.name for each, _ in chain_of(full, lambda name: [idle, busy], {}, "system")] == ["a", "b#1"]


def test_who_waits_for_each_other_is_told_so_and_it_ends() -> None:
    one, other = look(door="b.ask() to answer"), look("b", door="a.ask() to answer")
    assert said(one, other).endswith(
        "b is handling add and waits for a.ask() to answer; a is a again: they wait for each other"
    )


def test_a_circle_is_gone_round_once() -> None:
    one, other = look(door="b.ask() to answer"), look("b", door="a.ask() to answer")
    chain = chain_of(one, lambda name: [one if name == "a" else other], {}, "system")
    assert [each.name for each, _ in chain] == ["a", "b", "a"]


def test_a_component_that_is_gone_ends_the_chain() -> None:
    assert said(look(door="b.ask() to answer")) == "a is handling add and waits for b.ask() to answer"


def test_what_has_to_be_up_first_is_followed() -> None:
    waiting = look(status=status(phase=Phase.WAITING), not_up=("b",))
    failing = look(
        "b", status=status("b", phase=Phase.BACKOFF, next_life_in_s=1.0), failure=attrs.evolve(FAILURE, component="b")
    )
    assert said(waiting, failing) == (
        "a has not started, because b is not up; b, which has to be up before it, is down, and its next life begins in 1.0 s; it "
        "failed last in add: ValueError: bad"
    )

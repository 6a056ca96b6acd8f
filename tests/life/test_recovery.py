"""What an earlier run left on disk, read by a later one: each message once, with the id that it had."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import CannotDecode, Component, Inbox, Outbox, Retry, State, System, events
from tests.life.conftest import Gate, Log, Number, Start, dead_letters

REFUSED: set[int] = set()


@attrs.frozen
class Strict:
    """A message whose class becomes stricter."""

    value: int = attrs.field()

    @value.validator
    def _check(self, field: object, value: int) -> None:
        if value in REFUSED:
            raise ValueError("not any more")


class Source(Component):
    """Sends so many messages, all at once, in its first run."""

    count: int
    done = State(bool)
    out = Outbox(Strict)

    def run(self) -> None:
        with self.unit():
            for value in range(0 if self.done else self.count):
                self.out.send(Strict(value))
            self.done = True


class Later(Component):
    """Leaves its messages to the next start."""

    messages = Inbox(Strict, retry=Retry(attempts=1, then="stop"))

    @messages.handler
    def refuse(self, message: Strict) -> None:
        raise ValueError("later")


class Handling(Component):
    messages = Inbox(Strict)
    taken = State(list[int])

    @messages.handler
    def take(self, message: Strict) -> None:
        self.taken.append(message.value)


class Looping(Component):
    messages = Inbox(Strict)
    taken = State(list[int])

    def run(self) -> None:
        for message in self.messages:
            self.taken.append(message.value)


class Pairing(Component):
    messages = Inbox(Strict)
    taken = State(list[int])

    def run(self) -> None:
        while True:
            with self.unit():
                for _ in range(2):
                    self.taken.append(self.messages.receive().value)


def leave(count: int, new_system: Callable[[], System], start: Start) -> None:
    """So many messages wait on disk for `taking.messages`."""
    system = new_system()
    source, later = system.add(Source(count=count)), system.add(Later(), name="taking")
    system.connect(source.out, later.messages)
    assert start(system, forever=False).ended().left_messages == count


@pytest.mark.parametrize("refused", [{0}, {2}, {1, 2, 3}])
@pytest.mark.parametrize("kind", [Handling, Looping, Pairing])
def test_messages_that_can_no_longer_be_read_are_set_aside_once_and_their_neighbours_handled_once(
    new_system: Callable[[], System],
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Handling] | type[Looping] | type[Pairing],
    refused: set[int],
) -> None:
    leave(5, new_system, start)
    monkeypatch.setattr(f"{__name__}.REFUSED", refused)
    for letters in (len(refused), 0):  # the second run finds nothing to do
        system = new_system()
        source, taking = system.add(Source(count=5)), system.add(kind(), name="taking")
        system.connect(source.out, taking.messages)
        run = start(system, forever=False)
        stopped = run.ended()

        assert (stopped.problems, stopped.left_messages) == ((), 0)
        assert taking.taken == [value for value in range(5) if value not in refused]
        channel = run.runtime.plan.channels["taking.messages"]
        assert (channel.size, channel.acks.frozen()) == (0, (5, ()))
        assert len(run.all(events.MessageSetAside)) == letters
        assert run.all(events.ComponentFailed) == []
        assert [letter.message for letter in dead_letters(system.folder)] == [b'{"value":%d}' % n for n in refused]


def test_replicas_share_what_an_earlier_run_left(new_system: Callable[[], System], start: Start) -> None:
    leave(12, new_system, start)
    gate, holders = Gate(), Log()

    class Taking(Component):
        messages = Inbox(Strict)

        @messages.handler
        def take(self, message: Strict) -> None:
            holders.add((self.log.name, message.value))
            gate.pass_through()

    system = new_system()
    source, taking = system.add(Source(count=12)), system.add(Taking(), replicas=4)
    system.connect(source.out, taking.messages)
    run = start(system, forever=False)

    first = holders.wait_for_count(4)
    assert {name for name, _ in first} == {f"minions.test.taking#{number}" for number in range(4)}
    assert sorted(value for _, value in first) == [0, 1, 2, 3]
    gate.open()
    assert run.ended().left_messages == 0
    assert sorted(value for _, value in holders.entries) == list(range(12))


CHILD = """
import sys, threading
import attrs
from minions import Component, Inbox, Outbox, System
from minions.flow.store import Store

for_ever = threading.Event()
if sys.argv[2] == "before its first commit":
    Store.commit = lambda *arguments: for_ever.wait()

@attrs.frozen
class Number:
    value: int

class One(Component):
    out = Outbox(Number)

    def run(self):
        self.out.send(Number(111))
        self.commit()
        print("committed", flush=True)

class Telling(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def tell(self, number):
        print(self.message_id, flush=True)
        for_ever.wait()

system = System("test", folder=sys.argv[1])
one, telling = system.add(One()), system.add(Telling())
system.connect(one.out, telling.numbers)
system.run()
"""


@pytest.mark.parametrize("moment", ["before its first commit", "after its first commit"])
def test_an_id_never_names_another_message_and_one_that_waits_keeps_its_id_when_the_process_is_killed(
    new_system: Callable[[], System], start: Start, tmp_path: Path, moment: str
) -> None:
    is_kept, told = moment.startswith("after"), Log()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, tmp_path / "state", moment], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        lines = {child.stdout.readline().strip() for _ in range(2 if is_kept else 1)}
    finally:
        child.kill()
        child.communicate()
    [before] = lines - {"committed"}

    class One(Component):
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(222))

    class Telling(Component):
        numbers = Inbox(Number)

        @numbers.handler
        def tell(self, number: Number) -> None:
            told.add((self.message_id, number.value))

    system = new_system()
    one, telling = system.add(One()), system.add(Telling())
    system.connect(one.out, telling.numbers)
    start(system, forever=False).ended()

    (first, value), *rest = told.entries
    if is_kept:
        assert (first, value) == (before, 111)
        assert [value for _, value in rest] == [222]
        assert rest[0][0] != before
    else:
        assert (value, rest) == (222, [])
        assert before.endswith("-1"), "the number is given out again"
        assert first.endswith("-1"), "the number is given out again"
        assert first != before


@attrs.frozen
class Parcel2:
    """Of another class than what waits."""

    value: int


def test_everything_that_is_kept_and_not_what_the_classes_say_is_told_at_once_and_left_as_it_is(
    new_system: Callable[[], System], start: Start
) -> None:
    class Counting(Component):
        left, right = Outbox(Number), Outbox(Number)
        count = State(int)

        def run(self) -> None:
            with self.unit():
                if not self.count:
                    self.left.send(Number(1))
                    self.right.send(Number(2))
                    self.count += 1

    def sink(kind: Any, handled: Log) -> Any:
        class Sink(Component):
            left, right = Inbox(kind), Inbox(kind)

            @left.handler
            def take_left(self, message: Any) -> None:
                handled.add(message.value)

            @right.handler
            def take_right(self, message: Any) -> None:
                handled.add(message.value)

        return Sink()

    def built(kind: Any, handled: Log, source: Any) -> System:
        system = new_system()
        counting, taking = system.add(source, name="counting"), system.add(sink(kind, handled), name="sink")
        system.connect(counting.left, taking.left)
        system.connect(counting.right, taking.right)
        return system

    handled = Log()
    first = built(Number, handled, Counting())
    run = start(first)
    first.pause("sink")
    run.up()
    run.stop()

    class Other(Component):
        left, right = Outbox(Parcel2), Outbox(Parcel2)
        count = State(str)

        def run(self) -> None: ...

    with pytest.raises(CannotDecode) as refused:
        start(built(Parcel2, handled, Other()))
    said = str(refused.value)
    assert "state counting.count: " in said
    for inbox in ("sink.left", "sink.right"):
        assert f"1 messages of type Number wait for inbox {inbox}, which now carries Parcel2: " in said

    start(built(Number, handled, Counting()), forever=False).ended()
    assert sorted(handled.entries) == [1, 2]

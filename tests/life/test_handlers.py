"""Handlers: one message is one unit of work, which is whole or it never was, also where it fails."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from minions import (
    Backoff,
    CannotEncode,
    Component,
    Inbox,
    MessageRefused,
    Outbox,
    Phase,
    Restart,
    Retry,
    State,
    StopRequested,
    System,
    UsageError,
    events,
)
from minions.testing import harness, running
from tests.life.conftest import Gate, Log, Number, Parcel, Start, dead_letters
from tests.life.counting import Kept, Numbers

AT_ONCE = Backoff(initial_s=0.0)
RETRY = Retry(attempts=3, backoff=AT_ONCE)


# A handler that raises ------------------------------------------------------------------------------------------------


def test_a_handler_that_raises_has_sent_nothing_changed_nothing_and_gets_its_message_again(
    system: System, start: Start
) -> None:
    failures = itertools.count(1)
    seen = Log()

    class Doubler(Component):
        numbers = Inbox(Number, retry=RETRY)
        out = Outbox(Number)
        handled = State(list[int])

        @numbers.handler
        def double(self, number: Number) -> None:
            seen.add((number.value, list(self.handled), self.message_id))
            self.handled.append(number.value)
            self.out.send(Number(2 * number.value))
            if number.value == 1 and next(failures) <= 2:
                raise ValueError("not yet")
            self.out.send(Number(2 * number.value))

    numbers = system.add(Numbers(count=4))
    doubler = system.add(Doubler())
    kept = system.add(Kept())
    system.connect(numbers.out, doubler.numbers)
    system.connect(doubler.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().reason == "finished"
    assert kept.values == [0, 0, 2, 2, 4, 4, 6, 6]
    assert doubler.handled == [0, 1, 2, 3]
    tries = [entry for entry in seen.entries if entry[0] == 1]
    assert tries == [(1, [0], tries[0][2])] * 3, "the same state and the same id at each try"
    assert len({message_id for _, _, message_id in seen.entries}) == 4, "and each message has its own"
    assert [(failed.attempt, failed.where) for failed in run.all(events.ComponentFailed)] == [
        (1, "double"),
        (2, "double"),
    ]


def poisoned(system: System, retry: Retry) -> tuple[Kept, Log]:
    """Of the numbers 0 to 4, number 2 cannot be handled."""
    tried = Log()

    class Picky(Component):
        numbers = Inbox(Number, retry=retry)
        out = Outbox(Number)

        @numbers.handler
        def pick(self, number: Number) -> None:
            tried.add(number.value)
            self.out.send(number)
            if number.value == 2:
                raise ValueError("two\nis bad")

    numbers = system.add(Numbers(count=5))
    picky = system.add(Picky())
    kept = system.add(Kept())
    system.connect(numbers.out, picky.numbers)
    system.connect(picky.out, kept.numbers)
    return kept, tried


def test_a_message_is_tried_three_times_and_then_kept_as_a_dead_letter_while_those_behind_it_go_on(
    system: System, start: Start
) -> None:
    kept, tried = poisoned(system, RETRY)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert tried.entries == [0, 1, 2, 2, 2, 3, 4]
    assert kept.values == [0, 1, 3, 4]
    [letter] = dead_letters(system.folder)
    assert (letter.channel, letter.type) == ("picky.numbers", "Number")
    assert (letter.message, letter.attempts, letter.error) == (b'{"value":2}', 3, "ValueError: two is bad")
    assert letter.traceback.endswith("ValueError: two\nis bad\n")
    assert "raise ValueError" in letter.traceback
    assert "minions/life" not in letter.traceback, "it begins where user code does"
    [aside] = run.all(events.MessageSetAside)
    assert aside == events.MessageSetAside("picky", letter.message_id, 3, "ValueError: two is bad", True)
    assert [failed.attempt for failed in run.all(events.ComponentFailed)] == [1, 2, 3]


def test_a_message_can_be_dropped_instead(system: System, start: Start) -> None:
    kept, tried = poisoned(system, Retry(attempts=1, then="skip"))
    run = start(system, forever=False)

    run.ended()
    assert tried.entries == [0, 1, 2, 3, 4]
    assert kept.values == [0, 1, 3, 4]
    assert dead_letters(system.folder) == []
    assert [aside.kept for aside in run.all(events.MessageSetAside)] == [False]


def test_a_message_can_stop_the_system_instead_and_is_there_at_the_next_start(
    new_system: Callable[[], System], start: Start
) -> None:
    first = new_system()
    kept, tried = poisoned(first, Retry(attempts=2, backoff=AT_ONCE, then="stop"))

    stopped = start(first, forever=False).ended()

    assert stopped.reason == "failed"
    assert stopped.problems == ("picky failed in pick: ValueError: two is bad",)
    assert tried.entries == [0, 1, 2, 2]
    assert kept.values == [0, 1]
    assert dead_letters(first.folder) == []

    again = new_system()
    kept, tried = poisoned(again, Retry(attempts=1, then="skip"))
    start(again, forever=False).ended()
    assert tried.entries == [2, 3, 4]
    assert kept.values == [0, 1, 3, 4]


def test_a_message_that_is_not_durable_is_retried_too_and_then_dropped(system: System, start: Start) -> None:
    tried = Log()

    class Picky(Component):
        numbers = Inbox(Number, durable=False, retry=RETRY)

        @numbers.handler
        def pick(self, number: Number) -> None:
            tried.add(number.value)
            if number.value == 2:
                raise ValueError("two")

    numbers = system.add(Numbers(count=5))
    picky = system.add(Picky())
    system.connect(numbers.out, picky.numbers)
    run = start(system, forever=False)

    assert run.ended().lost_messages == 0
    assert tried.entries == [0, 1, 2, 2, 2, 3, 4], "those before it are not handled again"
    assert [aside.kept for aside in run.all(events.MessageSetAside)] == [False]
    assert dead_letters(system.folder) == []


def test_each_message_has_attempts_of_its_own() -> None:
    class Flaky(Component):
        numbers = Inbox(Number, retry=RETRY)
        handled = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            if next(tries[number.value]) < 2:
                raise ValueError(number.value)
            self.handled.append(number.value)

    tries = {value: itertools.count() for value in range(6)}
    with harness(Flaky(), raises=False) as h:
        h.send(h.component.numbers, *map(Number, range(6)))
        assert h.status.phase is Phase.RUNNING, "failures of messages do not use up the restarts"
        assert h.component.handled == list(range(6))
        assert [error.args for error in h.raised] == [(value,) for value in range(6) for _ in range(2)]
        assert h.dead_letters == []


def test_messages_that_come_while_a_component_is_down_wait_in_their_order(system: System, start: Start) -> None:
    gate, fail = Gate(), itertools.count()

    class Slow(Component):
        numbers = Inbox(Number)
        handled = State(list[int])

        def on_start(self) -> None:
            if next(fail):
                gate.pass_through()  # its second life comes up late

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value == 0 and not self.handled and not gate_was_passed():
                raise ValueError("the first life ends")
            self.handled.append(number.value)

    def gate_was_passed() -> bool:
        return next(lives) > 0

    lives = itertools.count()
    numbers = system.add(Numbers(count=10))
    slow = system.add(Slow())
    system.connect(numbers.out, slow.numbers)
    run = start(system, forever=False)

    gate.wait_reached()
    run.wait_for(events.ComponentFinished)  # all ten were sent meanwhile
    gate.open()
    assert run.ended().left_messages == 0
    assert slow.handled == list(range(10))


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopRequested("mine"), GeneratorExit()])
def test_whatever_a_handler_raises_is_a_failure_of_its_message(system: System, error: BaseException) -> None:
    class Leaving(Component):
        numbers = Inbox(Number, retry=Retry(attempts=1))
        values = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            self.values.append(number.value)
            if number.value == 1:
                raise error

    numbers = system.add(Numbers(count=3))
    leaving = system.add(Leaving())
    system.connect(numbers.out, leaving.numbers)
    with running(system, folder=system.folder, forever=False, expect_failures=1, expect_dead_letters=1) as run:
        run.until_over()
    assert leaving.values == [0, 2]
    assert len(dead_letters(system.folder)) == 1


# on_start, on_stop ----------------------------------------------------------------------------------------------------


def test_on_start_that_raises_never_was_and_is_tried_again(system: System, start: Start) -> None:
    lives = itertools.count(1)

    class Starter(Component):
        begun = State(int)
        out = Outbox(Number)

        def on_start(self) -> None:
            self.begun += 1
            self.out.send(Number(self.begun))
            if next(lives) < 3:
                raise ConnectionError("not there yet")

        def run(self) -> None: ...

    starter = system.add(Starter(), restart=Restart(backoff=AT_ONCE))
    kept = system.add(Kept())
    system.connect(starter.out, kept.numbers)
    run = start(system, forever=False)

    assert run.ended().problems == ()
    assert kept.values == [1]
    assert starter.begun == 1
    failures = run.all(events.ComponentFailed)
    assert [(failed.where, failed.epoch, failed.error) for failed in failures] == [
        ("on_start", 1, "ConnectionError: not there yet"),
        ("on_start", 2, "ConnectionError: not there yet"),
    ]


def test_on_stop_is_one_unit_whose_messages_are_still_handled(system: System, start: Start) -> None:
    class Closing(Component):
        stops = State(int)
        out = Outbox(Number)

        def run(self) -> None:
            self.sleep(1e6)

        def on_stop(self) -> None:
            self.out.send(Number(-1))
            self.stops += 1

    closing = system.add(Closing())
    kept = system.add(Kept())
    system.connect(closing.out, kept.numbers)
    run = start(system).up()

    assert run.stop().left_messages == 0
    assert (closing.stops, kept.values) == (1, [-1])


def test_on_stop_that_raises_never_was_and_makes_the_end_a_failure(system: System, start: Start) -> None:
    runs = itertools.count(1)

    class Closing(Component):
        stops = State(int)
        out = Outbox(Number)

        def run(self) -> None:
            self.out.send(Number(next(runs)))

        def on_stop(self) -> None:
            self.out.send(Number(-1))
            self.stops += 1
            raise OSError("cannot close")

    closing = system.add(Closing(), restart=Restart(backoff=AT_ONCE))
    kept = system.add(Kept())
    system.connect(closing.out, kept.numbers)

    stopped = start(system, forever=False).ended()

    assert stopped.problems == ("closing failed in on_stop: OSError: cannot close",)
    assert kept.values == [1], "a run() that has finished does not run again"
    assert closing.stops == 0


def test_hooks_are_called_once_in_each_life_and_on_the_components_thread(system: System, start: Start) -> None:
    import threading

    calls = Log()

    class Hooked(Component):
        numbers = Inbox(Number, retry=Retry(attempts=2, backoff=AT_ONCE))

        def on_start(self) -> None:
            calls.add(("on_start", threading.current_thread().name))

        def on_stop(self) -> None:
            calls.add(("on_stop", threading.current_thread().name))

        @numbers.handler
        def handle(self, number: Number) -> None:
            calls.add(("handle", threading.current_thread().name))
            if len(calls.entries) < 3:
                raise ValueError("once")

    numbers = system.add(Numbers(count=1))
    hooked = system.add(Hooked())
    system.connect(numbers.out, hooked.numbers)
    start(system, forever=False).ended()

    assert [what for what, _ in calls.entries] == ["on_start", "handle", "on_start", "handle", "on_stop"]
    assert {thread for _, thread in calls.entries} == {"test/hooked"}


def test_nothing_leaks_from_one_life_to_the_next() -> None:
    seen = Log()

    class Cached(Component):
        start_with: list[int]
        numbers = Inbox(Number, retry=Retry(attempts=2, backoff=AT_ONCE))

        def on_start(self) -> None:
            seen.add((list(self.start_with), hasattr(self, "cache")))
            self.cache = "set"
            self.start_with.append(99)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if len(seen.entries) < 2:
                raise ValueError("once")

    with harness(Cached(start_with=[1]), raises=False) as h:
        h.send(h.component.numbers, Number(0))
    assert seen.entries == [([1], False)] * 2
    assert h.component.start_with == [1]
    assert [str(error) for error in h.raised] == ["once"]


# What is sent ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_handler() -> Callable[[Callable[..., None]], object]:
    """Runs a function in a handler and returns what it returned or raised."""

    def call(function: Callable[..., object]) -> object:
        results: list[object] = []

        class Caller(Component):
            numbers = Inbox(Number)
            out = Outbox(Number)
            parcels = Outbox(Parcel)

            @numbers.handler
            def handle(self, number: Number) -> None:
                try:
                    results.append(function(self))
                except Exception as error:  # noqa: BLE001 - what the test is about
                    results.append(error)

        with harness(Caller()) as h:
            h.send(h.component.numbers, Number(0))
        [result] = results
        return result

    return call


class SpecialNumber(Number):
    """A subclass, of which fields could be lost in the store."""


def test_a_value_of_another_class_is_refused_at_the_sending_line(in_handler: Callable[..., object]) -> None:
    error = in_handler(lambda caller: caller.out.send("7"))
    assert isinstance(error, MessageRefused)
    assert str(error) == "caller.out sends Number, not '7' (str)"


def test_a_value_of_a_subclass_is_refused_at_the_sending_line(in_handler: Callable[..., object]) -> None:
    error = in_handler(lambda caller: caller.out.send(SpecialNumber(7)))
    assert isinstance(error, MessageRefused)
    assert "not its subclass SpecialNumber" in str(error)


def test_a_value_that_cannot_be_stored_is_refused_at_the_sending_line(in_handler: Callable[..., object]) -> None:
    error = in_handler(lambda caller: caller.parcels.send(Parcel([1, "two"])))  # type: ignore[list-item]
    assert isinstance(error, CannotEncode)
    assert "items" in str(error)


@pytest.mark.parametrize("method", ["unit", "receive", "iterate"])
def test_what_belongs_into_run_is_refused_in_a_handler(in_handler: Callable[..., object], method: str) -> None:
    calls: dict[str, Callable[..., object]] = {
        "unit": lambda caller: caller.unit().__enter__(),
        "receive": lambda caller: caller.numbers.receive(timeout_s=0.0),
        "iterate": lambda caller: next(iter(caller.numbers)),
    }
    error = in_handler(calls[method])
    assert isinstance(error, UsageError), error


def test_a_sender_may_change_its_message_after_it_was_sent(system: System, start: Start) -> None:
    class Reusing(Component):
        out = Outbox(Parcel)

        def run(self) -> None:
            parcel = Parcel([1])
            with self.unit():
                self.out.send(parcel)
                parcel.items.append(2)
                self.out.send(parcel)

    class Collecting(Component):
        parcels = Inbox(Parcel)
        contents = State(list[list[int]])

        @parcels.handler
        def collect(self, parcel: Parcel) -> None:
            self.contents.append(parcel.items)

    reusing = system.add(Reusing())
    collecting = system.add(Collecting())
    system.connect(reusing.out, collecting.parcels)
    start(system, forever=False).ended()

    assert collecting.contents == [[1], [1, 2]]


def test_each_receiver_has_its_own_copy_of_what_can_change_and_shares_what_cannot(system: System, start: Start) -> None:
    got = Log()

    class Sending(Component):
        parcels = Outbox(Parcel)
        numbers = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                parcel, number = Parcel([1]), Number(1)
                got.add(("sent", parcel, number))
                self.parcels.send(parcel)
                self.numbers.send(number)

    class Taking(Component):
        parcels = Inbox(Parcel)
        numbers = Inbox(Number)

        @parcels.handler
        def take(self, parcel: Parcel) -> None:
            parcel.items.append(2)
            got.add(("parcel", parcel))

        @numbers.handler
        def count(self, number: Number) -> None:
            got.add(("number", number))

    sending = system.add(Sending())
    for name in ("left", "right"):
        taking = system.add(Taking(), name=name)
        system.connect(sending.parcels, taking.parcels)
        system.connect(sending.numbers, taking.numbers)
    start(system, forever=False).ended()

    [(_, sent_parcel, sent_number)] = [entry for entry in got.entries if entry[0] == "sent"]
    parcels = [entry[1] for entry in got.entries if entry[0] == "parcel"]
    numbers = [entry[1] for entry in got.entries if entry[0] == "number"]
    assert sent_parcel.items == [1]
    assert [parcel.items for parcel in parcels] == [[1, 2], [1, 2]]
    assert len({id(parcel) for parcel in (sent_parcel, *parcels)}) == 3
    assert all(number is sent_number for number in numbers)


def test_a_message_that_can_change_is_fresh_at_each_try(system: System, start: Start) -> None:
    seen = Log()

    class Sending(Component):
        out = Outbox(Parcel)

        def run(self) -> None:
            self.out.send(Parcel([1]))

    class Spoiling(Component):
        parcels = Inbox(Parcel, retry=RETRY)

        @parcels.handler
        def spoil(self, parcel: Parcel) -> None:
            seen.add(list(parcel.items))
            parcel.items.append(2)
            raise ValueError("after the change")

    sending = system.add(Sending())
    spoiling = system.add(Spoiling())
    system.connect(sending.out, spoiling.parcels)
    start(system, forever=False).ended()

    assert seen.entries == [[1]] * 3
    assert dead_letters(system.folder)[0].message == b'{"items":[1]}'

"""Dead letters of a running system: listed, retried and dropped, as part of what happens and not beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import (
    Backoff,
    CannotDecode,
    CommitFailed,
    Component,
    DeadLetter,
    Inbox,
    NoSuchDeadLetter,
    Outbox,
    Retry,
    State,
    StoreError,
    System,
    UsageError,
    events,
)
from minions.flow.store import Store, read_rows
from minions.flow.writer import Writer
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Parcel, Start, Threads
from tests.life.conftest import dead_letters as on_disk
from tests.life.counting import Numbers

AT_ONCE = Backoff(initial_s=0.0)
ONCE = Retry(attempts=1)


class Picky(Component):
    """Refuses what it is told to refuse, and notes what it has handled, under which id."""

    numbers = Inbox(Number, retry=Retry(attempts=2, backoff=AT_ONCE))
    handled = State(list[tuple[int, str]])

    @numbers.handler
    def handle(self, number: Number) -> None:
        if number.value in REFUSED:
            raise ValueError(f"not {number.value}")
        self.handled.append((number.value, self.message_id))


REFUSED: set[int] = set()


@pytest.fixture(autouse=True)
def _nothing_is_refused_in_the_end() -> Any:
    yield
    REFUSED.clear()


def picky(system: System, count: int, refused: set[int], *, name: str = "picky", **options: Any) -> Picky:
    REFUSED.update(refused)
    numbers, handling = system.add(Numbers(count=count), name=f"to_{name}"), system.add(Picky(), name=name, **options)
    system.connect(numbers.out, handling.numbers)
    return handling


def values(system: System, letters: list[DeadLetter]) -> list[int]:
    return [system.message_of(letter).value for letter in letters]


def test_what_is_retried_is_handled_once_under_the_id_that_it_had(system: System, start: Start) -> None:
    handling = picky(system, 5, {1, 3})
    run = start(system).up()
    run.wait_until_quiet()
    letters = system.dead_letters()
    assert values(system, letters) == [1, 3]
    assert [(letter.attempts, letter.error) for letter in letters] == [
        (2, "ValueError: not 1"),
        (2, "ValueError: not 3"),
    ]
    before = list(handling.handled)

    REFUSED.clear()
    assert system.retry_dead_letters(letters[1]) == [letters[1]]
    assert on_disk(system.folder) == [letters[0]], "it is on disk when the call returns"
    assert system.dead_letters() == [letters[0]]
    assert system.retry_dead_letters(letters[0].message_id) == [letters[0]]
    run.wait_until_quiet()
    assert handling.handled == [*before, (3, letters[1].message_id), (1, letters[0].message_id)]
    assert system.dead_letters() == on_disk(system.folder) == []
    assert run.stop().left_messages == 0


def test_what_dies_again_is_the_same_dead_letter_with_its_attempts_counted_anew(system: System, start: Start) -> None:
    picky(system, 2, {1})
    run = start(system).up()
    run.wait_until_quiet()
    [letter] = system.dead_letters()
    for _ in range(3):
        assert (letter.attempts, letter.error) == (2, "ValueError: not 1")
        system.retry_dead_letters(letter)
        run.wait_until_quiet()
        [again] = system.dead_letters()
        assert attrs.evolve(again, at=letter.at, traceback=letter.traceback) == letter
    assert [event.message_id for event in run.wait_for(events.MessageSetAside, 4)] == [letter.message_id] * 4


def test_what_is_dropped_is_gone(system: System, start: Start) -> None:
    handling = picky(system, 4, {1, 2})
    run = start(system).up()
    run.wait_until_quiet()
    first, second = system.dead_letters()
    assert system.drop_dead_letters(first) == [first]
    assert on_disk(system.folder) == system.dead_letters() == [second]
    run.wait_until_quiet()
    assert [value for value, _ in handling.handled] == [0, 3]


def test_letters_can_be_seen_before_they_are_on_disk(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, commit = Gate(), Store.commit

    def held(store: Store, puts: Any, deletes: Any) -> int:
        if any(key.startswith("dead/") for key, _ in puts):
            gate.pass_through()
        return commit(store, puts, deletes)

    monkeypatch.setattr(Store, "commit", held)
    picky(system, 3, {1})
    run = start(system).up()
    gate.wait_reached()
    run.wait_until_quiet()
    assert on_disk(system.folder) == []
    assert values(system, system.dead_letters()) == [1]
    gate.open()
    run.stop()
    assert values(system, system.dead_letters()) == [1]


def test_what_was_retried_is_no_longer_seen_before_that_is_on_disk(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, commit = Gate(), Store.commit
    picky(system, 3, {0, 1})
    run = start(system).up()
    run.wait_until_quiet()
    system.drop_dead_letters(system.dead_letters()[0])  # from now on all the rest is on disk

    def held(store: Store, puts: Any, deletes: Any) -> int:
        if any(key.startswith("dead/") for key in deletes):
            gate.pass_through()
        return commit(store, puts, deletes)

    monkeypatch.setattr(Store, "commit", held)
    [letter] = system.dead_letters()
    REFUSED.clear()
    retrying = threading.Thread(target=system.retry_dead_letters, args=(letter,))
    retrying.start()
    gate.wait_reached()
    assert on_disk(system.folder) == [letter]
    assert system.dead_letters() == []
    gate.open()
    retrying.join(PATIENCE_S)
    assert on_disk(system.folder) == []


def test_of_many_who_retry_one_letter_one_wins(system: System, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    handling = picky(system, 3, {1})
    run = start(system).up()
    run.wait_until_quiet()
    [letter] = system.dead_letters()
    REFUSED.clear()
    together, answers = threading.Barrier(8), Log()
    first = threading.Barrier(2)

    def read_slowly(folder: Path, prefix: str) -> list[tuple[str, bytes]]:
        found = read_rows(folder, prefix)
        with suppress(threading.BrokenBarrierError):
            first.wait(0.2)  # two that looked before either had acted would meet here
        return found

    monkeypatch.setattr("minions.life.dead_letters.read_rows", read_slowly)

    def act(number: int) -> None:
        together.wait(PATIENCE_S)
        method = system.retry_dead_letters if number % 2 else system.drop_dead_letters
        try:
            answers.add((method.__name__, len(method(letter.message_id))))
        except NoSuchDeadLetter as error:
            answers.add(error.message_ids)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    run.wait_until_quiet()
    lost = [answer for answer in answers.entries if answer == (letter.message_id,)]
    [(won, count)] = [answer for answer in answers.entries if answer != (letter.message_id,)]
    assert (len(lost), count) == (7, 1)
    assert len(handling.handled) == 2 + (won == "retry_dead_letters")


def test_what_is_not_known_is_named_with_what_there_is_and_nothing_is_done(system: System, start: Start) -> None:
    picky(system, 30, set(range(12)))
    run = start(system).up()
    run.wait_until_quiet()
    letters = system.dead_letters()
    REFUSED.clear()
    for act in (system.retry_dead_letters, system.drop_dead_letters):
        with pytest.raises(NoSuchDeadLetter) as caught:
            act(letters[0], "a", "b")
        assert caught.value.message_ids == ("a", "b")
        text = str(caught.value)
        assert text.startswith(
            "no dead letter has the id a, b (or not any more); nothing was done; there are picky.numbers-"
        )
        assert text.endswith("-10 and 2 more")
        with pytest.raises(UsageError, match="say which dead letters"):
            act()
        with pytest.raises(
            UsageError, match=r"there is no inbox and no dead letter of 'pick'; the inboxes are picky.numbers"
        ):
            act(of="pick")
        with pytest.raises(UsageError, match="is no component that was added"):
            act(of=Picky())
    with pytest.raises(UsageError, match=r"there is no inbox and no dead letter of 'picky.other'"):
        system.dead_letters("picky.other")
    assert system.dead_letters() == letters
    system.drop_dead_letters(of="picky")
    with pytest.raises(NoSuchDeadLetter, match=r"there are none at all$"):
        system.drop_dead_letters(letters[0])


@pytest.mark.parametrize("by", ["component", "inbox", "name", "inbox's name", "letters", "ids"])
def test_many_at_once(system: System, start: Start, by: str) -> None:
    one, other = picky(system, 6, {1, 3, 4}, name="one"), picky(system, 6, set(), name="one_more")
    run = start(system).up()
    run.wait_until_quiet()
    mine = system.dead_letters(one)
    of: dict[str, Any] = {"component": one, "inbox": one.numbers, "name": "one", "inbox's name": "one.numbers"}
    assert values(system, mine) == [1, 3, 4]
    assert [letter.channel for letter in mine] == ["one.numbers"] * 3
    if by in of:
        assert system.dead_letters(of[by]) == mine
    REFUSED.clear()
    chosen: list[Any] = mine if by == "letters" else [letter.message_id for letter in mine]
    assert (system.retry_dead_letters(of=of[by]) if by in of else system.retry_dead_letters(*chosen)) == mine
    run.wait_until_quiet()
    assert [value for value, _ in one.handled] == [0, 2, 5, 1, 3, 4]
    assert [letter.channel for letter in system.dead_letters()] == ["one_more.numbers"] * 3
    assert system.retry_dead_letters(of=one) == []
    assert len(other.handled) == 3


def test_retrying_more_than_the_inbox_holds_waits_for_nobody(system: System, start: Start) -> None:
    gate, taken = Gate(), Log()

    class Small(Component):
        numbers = Inbox(Number, capacity=2, retry=ONCE)

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value in REFUSED:
                raise ValueError("no")
            if number.value == 20:
                gate.pass_through()
            taken.add(number.value)

    REFUSED.update(range(20))
    numbers, small = system.add(Numbers(count=21)), system.add(Small())
    system.connect(numbers.out, small.numbers)
    run = start(system).up()
    gate.wait_reached()
    REFUSED.clear()
    assert len(system.retry_dead_letters(of=small)) == 20
    assert system.statistics().inboxes["small.numbers"].length == 21
    gate.open()
    run.wait_until_quiet()
    assert taken.entries == [20, *range(20)]
    assert run.stop().left_messages == 0


def test_what_can_change_is_made_afresh_for_whoever_asks(system: System, start: Start) -> None:
    class Parcels(Component):
        out = Outbox(Parcel)

        def run(self) -> None:
            self.out.send(Parcel([1]))

    class Spoiling(Component):
        parcels = Inbox(Parcel, retry=ONCE)
        received = State(list[list[int]])

        @parcels.handler
        def take(self, parcel: Parcel) -> None:
            self.received.append(list(parcel.items))
            parcel.items.append(2)
            if REFUSED:
                raise ValueError("no")

    REFUSED.add(0)
    parcels, spoiling = system.add(Parcels()), system.add(Spoiling())
    system.connect(parcels.out, spoiling.parcels)
    run = start(system).up()
    run.wait_until_quiet()
    [letter] = system.dead_letters()
    system.message_of(letter).items.append(9)
    assert system.message_of(letter) == Parcel([1])
    assert letter.message == b'{"items":[1]}'
    REFUSED.clear()
    system.retry_dead_letters(letter)
    run.wait_until_quiet()
    assert spoiling.received == [[1]]


def test_what_is_retried_goes_to_the_replica_of_its_partition(system: System, start: Start) -> None:
    class Counting(Component):
        numbers = Inbox(Number, retry=ONCE)
        seen = State(list[int])

        @numbers.handler
        def count(self, number: Number) -> None:
            if number.value in REFUSED:
                raise ValueError("no")
            self.seen.append(number.value)

    REFUSED.update({1, 5, 6})
    numbers = system.add(Numbers(count=8))
    counting = system.add(Counting(), replicas=3, partition_by=lambda number: number.value % 4)
    system.connect(numbers.out, counting.numbers)
    run = start(system).up()
    run.wait_until_quiet()
    REFUSED.clear()
    assert len(system.retry_dead_letters(of=counting)) == 3
    run.wait_until_quiet()
    assert [system.partition(counting, key).seen for key in range(4)] == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_a_loop_that_sleeps_is_woken_by_what_is_retried(system: System, start: Start) -> None:
    class Looping(Component):
        numbers = Inbox(Number, retry=ONCE)
        seen = State(list[int])

        def run(self) -> None:
            for number in self.numbers:
                if number.value in REFUSED:
                    raise ValueError("no")
                self.seen.append(number.value)

    REFUSED.add(1)
    numbers, looping = system.add(Numbers(count=3)), system.add(Looping())
    system.connect(numbers.out, looping.numbers)
    run = start(system).up()
    run.wait_until_quiet()
    REFUSED.clear()
    system.retry_dead_letters(of=looping)
    run.wait_until_quiet()
    assert looping.seen == [0, 2, 1]


def test_a_component_may_retry_its_own_dead_letters(system: System, start: Start) -> None:
    class Stubborn(Component):
        numbers = Inbox(Number, retry=ONCE)
        seen = State(list[int])

        @numbers.handler
        def handle(self, number: Number) -> None:
            if number.value in REFUSED:
                raise ValueError("no")
            if number.value == 4:
                REFUSED.clear()
                system.retry_dead_letters(of="stubborn")
            self.seen.append(number.value)

    REFUSED.update({0, 2})
    numbers, stubborn = system.add(Numbers(count=5)), system.add(Stubborn())
    system.connect(numbers.out, stubborn.numbers)
    run = start(system).up()
    run.wait_until_quiet()
    assert stubborn.seen == [1, 3, 4, 0, 2]


def test_where_nothing_can_be_written_whoever_retries_is_told(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky(system, 2, {0, 1})
    run = start(system).up()
    run.wait_until_quiet()
    system.drop_dead_letters(system.dead_letters()[0])  # from now on all the rest is on disk

    def fail(store: Store, puts: Any, deletes: Any) -> int:
        raise CommitFailed("the disk is gone", permanent=True)

    monkeypatch.setattr(Store, "commit", fail)
    with pytest.raises(StoreError, match="the disk is gone"):
        system.retry_dead_letters(of="picky")
    assert run.ended().problems == ("the disk is gone",)
    assert len(on_disk(system.folder)) == 1


def test_what_is_retried_while_the_system_stops_is_a_dead_letter_or_waits_for_the_next_start(
    new_system: Callable[[], System], start: Start
) -> None:
    """As often as there is a moment in between: whatever the answer is, each letter is in one place."""
    system = new_system()
    picky(system, 40, set(range(40)))
    run = start(system).up()
    run.wait_until_quiet()
    letters = system.dead_letters()
    go, answers = threading.Barrier(2), Log()

    def retry() -> None:
        go.wait(PATIENCE_S)
        for letter in letters:
            try:
                answers.add(len(system.retry_dead_letters(letter)))
            except (UsageError, StoreError) as error:
                answers.add(error)

    REFUSED.clear()
    retrying = threading.Thread(target=retry)
    retrying.start()
    go.wait(PATIENCE_S)
    run.stop()
    retrying.join(PATIENCE_S)
    left = len(on_disk(system.folder))
    assert left == sum(not isinstance(answer, int) for answer in answers.entries)

    system = new_system()
    handling = picky(system, 40, set())
    assert start(system, forever=False).ended().left_messages == 0
    assert len(handling.handled) == 40 - left


def test_what_is_dropped_when_nothing_is_written_any_more_is_refused(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever dropped it would wait for a commit that never comes."""
    picky(system, 2, {0, 1})
    run = start(system).up()
    run.wait_until_quiet()
    writer_ended, refused = Gate(), Log()
    close = Writer.close

    def hold(writer: Writer, timeout_s: float | None = None) -> bool:
        closed = close(writer, timeout_s)
        writer_ended.pass_through()
        return closed

    def drop() -> None:
        with pytest.raises(UsageError, match="about to end") as told:
            system.drop_dead_letters(of="picky")
        refused.add(told)

    monkeypatch.setattr(Writer, "close", hold)
    run.runtime.stop("stopped")
    writer_ended.wait_reached()
    threading.Thread(target=drop, daemon=True).start()
    try:
        refused.wait_for_count(1)
    finally:
        writer_ended.open()
    run.ended()
    assert len(on_disk(system.folder)) == 2


# What an earlier run left ---------------------------------------------------------------------------------------------


def leave(new_system: Callable[[], System], start: Start, refused: set[int], count: int = 4) -> list[DeadLetter]:
    system = new_system()
    picky(system, count, refused)
    start(system, forever=False).ended()
    REFUSED.clear()
    return system.dead_letters()


def test_ids_last_through_restarts_and_through_dying_again(new_system: Callable[[], System], start: Start) -> None:
    class Later(Component):
        """Leaves its messages to the next start."""

        numbers = Inbox(Number, retry=Retry(attempts=1, then="stop"))

        @numbers.handler
        def refuse(self, number: Number) -> None:
            gate.pass_through()
            raise ValueError("later")

    gate = Gate()
    letters = leave(new_system, start, {1, 2})
    system = new_system()
    numbers, later = system.add(Numbers(count=4), name="to_picky"), system.add(Later(), name="picky")
    system.connect(numbers.out, later.numbers)
    run = start(system).up()
    system.retry_dead_letters(*letters)
    gate.open()
    assert run.ended().left_messages == 2
    for _ in range(2):
        REFUSED.add(2)
        system = new_system()
        handling = picky(system, 6, set())
        start(system, forever=False).ended()
        REFUSED.clear()
        assert (1, letters[0].message_id) in handling.handled
        [again] = system.dead_letters()
        assert (again.message_id, values(system, [again])) == (letters[1].message_id, [2])
        system.retry_dead_letters(again)
    system = new_system()
    handling = picky(system, 6, set())
    start(system, forever=False).ended()
    assert sorted(value for value, _ in handling.handled) == [0, 1, 2, 3, 4, 5]
    assert len({message_id for _, message_id in handling.handled}) == 6
    assert (2, letters[1].message_id) in handling.handled


def test_letters_to_an_inbox_that_is_gone_can_be_seen_and_dropped(
    new_system: Callable[[], System], start: Start
) -> None:
    letters = leave(new_system, start, {1, 2})
    system = new_system()
    picky(system, 2, set(), name="other")
    run = start(system).up()
    assert system.dead_letters() == system.dead_letters("picky") == letters
    for look in (system.message_of, system.retry_dead_letters):
        with pytest.raises(UsageError, match=r"the system has no durable inbox picky.numbers"):
            look(letters[0])
    with pytest.raises(UsageError, match=r"cannot be retried: the system has no durable inbox picky.numbers"):
        system.retry_dead_letters(*letters)
    assert system.drop_dead_letters(letters[0]) == [letters[0]]
    assert system.dead_letters("picky") == [letters[1]]
    assert run.stop().problems == ()


@attrs.frozen
class Renamed:
    value: int


@attrs.frozen
class Stricter:
    value: int = attrs.field(validator=attrs.validators.ge(100))


Stricter.__qualname__ = "Number"  # the class by its former name


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (Renamed, "is of type Number, and inbox picky.numbers now carries Renamed"),
        (Stricter, "cannot be read any more"),
    ],
)
def test_letters_that_can_no_longer_be_read_stay_where_they_are(
    new_system: Callable[[], System], start: Start, kind: type[Any], problem: str
) -> None:
    letters = leave(new_system, start, {1, 2})

    class Changed(Component):
        numbers = Inbox(kind)

        @numbers.handler
        def handle(self, number: Any) -> None: ...

    class Silent(Component):
        out = Outbox(kind)

        def run(self) -> None: ...

    system = new_system()
    silent, changed = system.add(Silent()), system.add(Changed(), name="picky")
    system.connect(silent.out, changed.numbers)
    start(system).up()
    for act in (system.retry_dead_letters, system.message_of):
        with pytest.raises(CannotDecode, match=problem):
            act(letters[0])
    assert system.dead_letters() == letters
    assert system.drop_dead_letters(of=changed) == letters


SLOW = Gate()
SLOW.open()


@attrs.frozen
class Slow:
    """Is made slowly, by code of users."""

    value: int = attrs.field()

    @value.validator
    def _wait(self, field: object, value: int) -> None:
        if value == 1:
            SLOW.pass_through()


Slow.__qualname__ = "Number"


def test_a_message_that_is_slow_to_read_keeps_nobody_from_the_other_letters(
    new_system: Callable[[], System], start: Start, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = leave(new_system, start, {1, 2})

    class Taking(Component):
        numbers = Inbox(Slow)
        values = State(list[int])

        @numbers.handler
        def handle(self, number: Slow) -> None:
            self.values.append(number.value)

    class Silent(Component):
        out = Outbox(Slow)

        def run(self) -> None: ...

    system = new_system()
    silent, taking = system.add(Silent()), system.add(Taking(), name="picky")
    system.connect(silent.out, taking.numbers)
    run = start(system).up()

    monkeypatch.setattr(f"{__name__}.SLOW", Gate())
    retried = threads(lambda: system.retry_dead_letters(one))
    SLOW.wait_reached()
    dropped = threads(lambda: system.drop_dead_letters(two))
    twice = threads(lambda: system.retry_dead_letters(one))
    try:
        assert dropped.result(PATIENCE_S / 4) == [two]
    finally:
        SLOW.open()
    outcomes = [future.exception(PATIENCE_S) for future in (retried, twice)]
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoSuchDeadLetter", "NoneType"], "one wins"
    run.wait_until_quiet()
    assert taking.values == [1]
    assert system.dead_letters() == []

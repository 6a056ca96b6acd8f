"""Calls, their queues and the journal's part in them, as plain objects on one thread: no thread waits here."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import attrs
import pytest

from minions.clock import Parkable
from minions.errors import CallFailed, CallTimeout, DeadlockError, StaleComponent, StopRequested
from minions.fence import Fence, Mode
from minions.flow.calls import MOST_WAITING, Call, CallQueue
from minions.flow.channel import Channel
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.unit import Unit
from minions.testing import FakeClock
from tests.flow.interrupting import interrupted
from tests.flow.journal_rig import Parting


class Bell:
    """A parker that counts how often it was rung."""

    def __init__(self) -> None:
        self.rings = 0

    def park(self, timeout_s: float | None) -> None:
        raise AssertionError("nobody waits here")

    def unpark(self) -> None:
        self.rings += 1


@attrs.define(eq=False)
class Reader:
    """A life that takes calls."""

    rig: Any
    mailbox: Mailbox
    fence: Fence
    bell: Bell

    def take(self, **options: Any) -> Any:
        return self.rig.journal.take(self.mailbox, self.fence, **options)

    def begin(self) -> Call:
        """Takes the next call and begins it."""
        if self.mailbox.call is None:
            assert self.take() == []
        call = self.mailbox.call
        assert call is not None
        assert call.begin()
        return call

    def answer(self, result: object = None, error: BaseException | None = None) -> None:
        self.rig.journal.calls.answer(self.mailbox, self.fence, (result, error))

    def cut(self) -> None:
        self.rig.journal.end_life(self.mailbox, self.fence)


class Rig:
    """A journal, and a queue of calls for the component `callee`."""

    def __init__(self, replicas: int = 1) -> None:
        self.clock = FakeClock()
        self.journal = Journal(self.clock, durable=False)
        self.queue = CallQueue("callee", replicas)

    def reader(self, *channels: Channel, name: str = "callee") -> Reader:
        bell, fence = Bell(), Fence(name, 1)
        reader = Reader(self, Mailbox(channels, bell, calls=self.queue), fence, bell)
        self.journal.join(fence, bell)
        self.journal.attach(reader.mailbox, fence)
        return reader

    def caller(self, name: str = "caller") -> tuple[Fence, Bell]:
        fence, bell = Fence(name, 1), Bell()
        self.journal.join(fence, bell)
        return fence, bell

    def call(self, fence: Fence | None = None, parker: Parkable | None = None, *, own: bool = False) -> Call:
        """A call that somebody waits for; `own`: with the own thread of its life."""
        by = "outside" if fence is None else fence.component
        call = Call(self.queue, "method", (1,), {"two": 2}, by, fence, fence if own else None, parker or Bell())
        self.journal.calls.place(call)
        return call

    def submit(self, fence: Fence | None = None) -> tuple[Call, Future[Any]]:
        future: Future[Any] = Future()
        call = Call(self.queue, "method", (), {}, "caller", fence, future=future)
        self.journal.calls.place(call)
        return call, future

    def waits(self, call: Call, deadline_s: float | None = None, timeout_s: float | None = None) -> bool:
        return self.journal.calls.waits(call, deadline_s, timeout_s)

    def quiet(self) -> bool:
        return self.journal.quiet([], calls=[self.queue])

    def leftovers(self) -> tuple[int, ...]:
        """What must be nothing when all calls are over."""
        graph = self.journal.calls.graph
        return len(graph.waits), len(graph.beginning), len(self.queue.waiting), self.queue.in_work


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ---------------------------------------------------------------------- the way of a call
def test_a_call_is_taken_answered_and_forgotten(rig: Rig) -> None:
    fence, bell = rig.caller()
    reader = rig.reader()
    call = rig.call(fence, bell, own=True)
    assert rig.waits(call)
    assert reader.begin() is call
    assert rig.waits(call)
    assert bell.rings == 0
    reader.answer("result")
    assert bell.rings == 1
    assert not rig.waits(call)
    assert (call.result, call.error) == ("result", None)
    assert rig.leftovers() == (0, 0, 0, 0)


@pytest.mark.parametrize("asleep", [True, False])
def test_a_call_that_is_broken_off_while_it_is_made_never_was(asleep: bool) -> None:
    """By Ctrl-C on the main thread, at any step: no life sleeps on with a call in hand, and none is counted that nobody has."""
    step = 1
    while True:
        rig = Rig()
        reader, (fence, bell) = rig.reader(), rig.caller()
        assert not asleep or reader.take() == []
        call = Call(rig.queue, "method", (), {}, "caller", fence, fence, bell)
        if not interrupted(step, rig.journal.calls.place, call):
            break
        assert not rig.journal.lock.locked()
        assert reader.mailbox.asleep or reader.bell.rings == asleep
        assert reader.take() == []
        if reader.mailbox.call is not None:
            assert not reader.mailbox.call.begin(), "nobody waits for it"
            reader.answer()
        assert rig.leftovers() == (0, 0, 0, 0)
        again = rig.call()
        assert reader.begin() is again
        step += 1
    assert step > 5


def test_arguments_are_handed_over_as_they_are(rig: Rig) -> None:
    argument = object()
    rig.journal.calls.place(Call(rig.queue, "method", (argument,), {"key": argument}, "outside", parker=Bell()))
    call = rig.reader().begin()
    assert call.arguments[0] is argument
    assert call.keywords["key"] is argument


def test_calls_are_answered_in_the_order_in_which_they_came(rig: Rig) -> None:
    reader = rig.reader()
    calls = [rig.call() for _ in range(3)]
    begun = []
    for _ in calls:
        begun.append(reader.begin())
        reader.answer()
    assert begun == calls


def test_a_reader_that_sleeps_is_handed_the_call_and_needs_no_further_look(rig: Rig) -> None:
    reader = rig.reader()
    assert reader.take() == []
    was_asleep = reader.mailbox.asleep
    call = rig.call()
    assert reader.mailbox.call is call
    assert (was_asleep, reader.mailbox.asleep) == (True, False)
    assert reader.bell.rings == 1
    second = rig.call()
    assert reader.take() == []  # also who has woken by itself keeps it
    assert reader.mailbox.call is call
    assert list(rig.queue.waiting) == [second]


def test_a_call_wakes_one_reader_and_the_next_call_another(rig: Rig) -> None:
    readers = [rig.reader(name=f"callee#{number}") for number in range(3)]
    for reader in readers:
        reader.take()
    rig.call()
    assert [reader.bell.rings for reader in readers] == [1, 0, 0]
    rig.call()
    assert [reader.bell.rings for reader in readers] == [1, 1, 0]


def test_a_call_never_overtakes_one_that_waits(rig: Rig) -> None:
    busy = rig.reader()
    rig.journal.hold(busy.fence, True)
    first = rig.call()
    other = rig.reader()
    other.mailbox.asleep = True  # as it stands when it was attached, and has not looked
    second = rig.call()
    assert other.begin() is first
    other.answer()
    assert other.begin() is second


def test_an_answer_can_be_told_with_the_next_look(rig: Rig) -> None:
    bell = Bell()
    reader = rig.reader()
    first = rig.call(None, bell)
    reader.begin()
    second = rig.call()
    assert reader.take(answer=("result", None)) == []
    assert bell.rings == 1
    assert first.result == "result"
    assert reader.mailbox.call is second


def test_the_answer_is_told_also_by_a_life_that_is_about_to_end(rig: Rig) -> None:
    reader = rig.reader()
    call = rig.call()
    reader.begin()
    rig.journal.advance(reader.fence, Mode.ENDING)
    assert reader.take(answer=("result", None)) is None
    assert call.is_done
    assert call.result == "result"


# ---------------------------------------------------------------------- calls and messages
def channel(messages: int) -> Channel:
    made = Channel("callee.things", 0)
    for number in range(messages):
        assert made.take_room_locked(1)
        made.deliver_locked(number, None, [])
    return made


def settle(reader: Reader, entries: list[Any]) -> None:
    unit = Unit("callee")
    unit.settles += entries
    assert reader.rig.journal.submit(unit, reader.fence, reader.bell, reader.mailbox) is None


def test_calls_and_messages_take_turns(rig: Rig) -> None:
    reader = rig.reader(channel(6))
    for _ in range(3):
        rig.call()
    turns = []
    for _ in range(6):
        entries = reader.take(most=2)
        if reader.mailbox.call is not None:
            turns.append("call")
            reader.answer()
        else:
            turns.append(f"{len(entries)} messages")
            settle(reader, entries)
    assert turns == ["call", "2 messages"] * 3


def test_after_a_call_that_was_handed_over_it_is_the_turn_of_messages(rig: Rig) -> None:
    things = channel(0)
    reader = rig.reader(things)
    reader.take()
    rig.call()
    rig.call()
    assert things.take_room_locked(1)
    things.deliver_locked("message", None, [])
    reader.begin()
    assert len(reader.take(answer=(None, None))) == 1
    assert reader.mailbox.call is None


def test_calls_do_not_wait_for_messages_that_are_not_there(rig: Rig) -> None:
    reader = rig.reader(channel(0))
    for _ in range(3):
        rig.call()
        reader.begin()
        reader.answer()


# ---------------------------------------------------------------------- giving up
def test_a_call_that_was_not_taken_in_time_is_not_taken_any_more(rig: Rig) -> None:
    fence, bell = rig.caller()
    call = rig.call(fence, bell, own=True)
    deadline_s = rig.clock.monotonic() + 2.0
    assert rig.waits(call, deadline_s, 2.0)
    rig.clock.advance(2.0)
    with pytest.raises(CallTimeout, match=r"^caller: callee.method\(\) did not answer within 2 s: it was not called$"):
        rig.waits(call, deadline_s, 2.0)
    reader = rig.reader()
    assert reader.take() == []
    assert reader.mailbox.call is None
    assert rig.leftovers() == (0, 0, 0, 0)


def test_a_call_in_work_that_is_late_goes_on_and_its_answer_is_dropped(rig: Rig) -> None:
    fence, bell = rig.caller()
    reader = rig.reader()
    call = rig.call(fence, bell, own=True)
    reader.begin()
    with pytest.raises(CallTimeout, match="its component is at work on it and goes on; the answer is dropped"):
        rig.waits(call, rig.clock.monotonic(), 0.0)
    assert not rig.quiet()
    later = rig.call(fence, bell, own=True)
    reader.answer("too late")
    assert rig.journal.calls.graph.waits == {fence: later}  # the next call of the same caller is untouched
    assert bell.rings == 0
    assert call.result is None


def test_an_answer_that_came_in_the_last_moment_counts(rig: Rig) -> None:
    reader = rig.reader()
    call = rig.call()
    reader.begin()
    reader.answer("result")
    assert not rig.waits(call, rig.clock.monotonic() - 1.0, 1.0)


def test_a_call_that_was_given_up_after_it_was_handed_over_is_not_run(rig: Rig) -> None:
    reader = rig.reader()
    reader.take()
    call = rig.call()
    rig.journal.calls.give_up(call)
    assert reader.mailbox.call is call
    assert not call.begin()


def test_giving_up_twice_or_after_the_answer_changes_nothing(rig: Rig) -> None:
    reader = rig.reader()
    call = rig.call()
    rig.journal.calls.give_up(call)
    rig.journal.calls.give_up(call)
    other = rig.call()
    reader.begin()
    reader.answer("result")
    rig.journal.calls.give_up(other)
    assert other.result == "result"
    assert rig.leftovers() == (0, 0, 0, 0)


def test_a_caller_that_was_asked_twice_to_stop_waits_no_longer(rig: Rig) -> None:
    fence, bell = rig.caller()
    call = rig.call(fence, bell, own=True)
    rig.journal.advance(fence, Mode.STOPPING)
    assert rig.waits(call)
    rig.journal.advance(fence, Mode.ENDING)
    assert bell.rings == 2
    with pytest.raises(StopRequested):
        rig.waits(call)
    with pytest.raises(StopRequested):
        rig.call(fence, bell, own=True)
    assert rig.leftovers() == (0, 0, 0, 0)


@pytest.mark.parametrize("own", [True, False], ids=["own thread", "another thread"])
def test_what_a_life_waits_for_that_is_cut_is_not_run(rig: Rig, own: bool) -> None:
    fence, bell = rig.caller()
    call = rig.call(fence, bell, own=own)
    rig.journal.end_life(Mailbox((), bell), fence)
    assert bell.rings == 1
    assert rig.quiet() is own  # of what waits on other threads the journal learns when it is taken, or from the thread
    reader = rig.reader()
    assert reader.take() == []
    assert reader.mailbox.call is None
    assert rig.quiet()
    with pytest.raises(StaleComponent):
        rig.waits(call)
    with pytest.raises(StaleComponent):
        rig.call(fence, bell, own=own)
    assert rig.leftovers() == (0, 0, 0, 0)


def test_a_thread_that_learns_that_its_life_is_cut_takes_its_call_back(rig: Rig) -> None:
    fence, bell = rig.caller()
    call = rig.call(fence, bell)
    rig.journal.end_life(Mailbox((), bell), fence)
    with pytest.raises(StaleComponent):
        rig.waits(call)
    assert rig.quiet()


def test_a_send_that_closes_a_circle_fails_the_call_and_forgets_it(rig: Rig) -> None:
    inbox = Channel("caller.things", 0, capacity=1)
    assert inbox.take_room_locked(1)
    fence, bell = rig.caller()
    rig.journal.attach(Mailbox((inbox,), bell), fence)
    reader = rig.reader()
    call = rig.call(fence, bell, own=True)
    reader.begin()
    ticket = inbox.join_line_locked({}, 1, reader.bell, rig.clock.monotonic())
    rig.journal.calls.note_wait(reader.fence, ticket)
    assert isinstance(call.error, DeadlockError)
    assert bell.rings == 1
    assert rig.journal.calls.graph.waits == {reader.fence: ticket}
    rig.journal.calls.note_wait(reader.fence, None)
    reader.answer("dropped")
    assert rig.leftovers() == (0, 0, 0, 0)


def test_what_a_life_has_submitted_is_run_although_the_life_is_over(rig: Rig) -> None:
    fence, bell = rig.caller()
    call, future = rig.submit(fence)
    rig.journal.end_life(Mailbox((), bell), fence)
    reader = rig.reader()
    assert reader.begin() is call
    reader.answer("result")
    assert future.result(0) == "result"


# ---------------------------------------------------------------------- the life that is called
def test_who_is_cut_in_the_middle_answers_nothing_and_the_caller_is_told(rig: Rig) -> None:
    fence, bell = rig.caller()
    reader = rig.reader()
    call = rig.call(fence, bell, own=True)
    reader.begin()
    reader.cut()
    assert bell.rings == 1
    assert not rig.waits(call)
    assert isinstance(call.error, CallFailed)
    assert "caller: callee.method() was not answered: the life of callee that was at work on it has ended" in str(
        call.error
    )
    for tell in (reader.answer, lambda: reader.take(answer=("late", None))):
        with pytest.raises(StaleComponent):
            tell()
    assert call.result is None
    assert rig.leftovers() == (0, 0, 0, 0)


def test_what_a_life_was_handed_and_did_not_begin_goes_to_another(rig: Rig) -> None:
    one, other = rig.reader(name="callee#0"), rig.reader(name="callee#1")
    one.take()
    first = rig.call()
    rig.journal.hold(other.fence, True)
    second = rig.call()
    rig.journal.hold(other.fence, False)
    other.mailbox.asleep = True
    rings = other.bell.rings
    one.cut()
    assert other.bell.rings == rings + 1
    assert other.begin() is first
    other.answer()
    assert other.begin() is second


@pytest.mark.parametrize("told", ["at once", "with the next look"])
def test_what_was_given_with_a_call_that_was_given_up_is_not_freed_under_the_lock(rig: Rig, told: str) -> None:
    """What an object does as it is freed (`__del__`) is user code."""
    reader, under_lock = rig.reader(), list[bool]()
    call = Call(rig.queue, "method", (Parting(rig.journal, under_lock),), {}, "outside", parker=Bell())
    rig.journal.calls.place(call)
    reader.begin()
    rig.journal.calls.give_up(call)
    del call
    if told == "at once":
        reader.answer(1)
    else:
        assert reader.take(answer=(1, None)) == []
    assert under_lock == [False]


def test_a_life_that_has_to_end_gives_back_what_it_was_handed(rig: Rig) -> None:
    one, other = rig.reader(name="callee#0"), rig.reader(name="callee#1")
    one.take()
    other.take()
    call = rig.call()
    rig.journal.advance(one.fence, Mode.ENDING)
    assert one.take() is None
    assert (one.mailbox.call, other.bell.rings) == (None, 1)
    assert other.begin() is call


def test_what_was_given_up_meanwhile_is_not_given_back(rig: Rig) -> None:
    reader = rig.reader()
    reader.take()
    call = rig.call()
    rig.journal.calls.give_up(call)
    reader.cut()
    assert rig.leftovers() == (0, 0, 0, 0)


def test_a_wake_up_that_a_paused_reader_cannot_use_is_passed_on(rig: Rig) -> None:
    one, other = rig.reader(name="callee#0"), rig.reader(name="callee#1")
    other.take()
    one.take()
    rig.journal.hold(other.fence, True)  # and its thread has not come round to see it
    call = rig.call()
    assert one.mailbox.call is call
    rig.journal.hold(one.fence, True)
    second = rig.call()
    assert other.mailbox.call is None
    assert other.take() == []
    rig.journal.hold(other.fence, False)
    assert other.begin() is second


def test_a_paused_reader_takes_no_call_and_the_others_are_woken_for_it(rig: Rig) -> None:
    one, other = rig.reader(name="callee#0"), rig.reader(name="callee#1")
    one.take()
    other.take()
    rig.queue.readers.reverse()
    rig.journal.hold(other.fence, True)
    rig.queue.readers.remove(one.mailbox)  # asleep, and not among those who would be handed it
    call = rig.call()
    rig.queue.readers.append(one.mailbox)
    assert other.take() == []
    assert other.mailbox.call is None
    assert one.bell.rings == 1
    assert one.begin() is call


def test_who_puts_down_what_it_has_passes_a_wake_up_on(rig: Rig) -> None:
    one, other = rig.reader(name="callee#0"), rig.reader(name="callee#1")
    rig.call()
    other.mailbox.asleep = True
    rings = other.bell.rings
    rig.journal.put_down(one.mailbox, one.fence)
    assert other.bell.rings == rings + 1


def test_a_component_that_is_down_for_good_fails_what_waits_and_what_comes(rig: Rig) -> None:
    fence, bell = rig.caller()
    call = rig.call(fence, bell, own=True)
    _, future = rig.submit()
    rig.journal.calls.close(rig.queue, "callee has ended")
    assert str(call.error) == "caller: callee.method() was not called: callee has ended"
    assert bell.rings == 1
    assert isinstance(future.exception(0), CallFailed)
    assert rig.leftovers() == (0, 0, 0, 0)
    with pytest.raises(CallFailed, match="callee has ended"):
        rig.call(fence, bell, own=True)
    assert rig.leftovers() == (0, 0, 0, 0)
    rig.journal.calls.open(rig.queue)
    rig.call()


# ---------------------------------------------------------------------- futures
def test_a_future_is_cancelled_while_it_waits_and_not_in_work(rig: Rig) -> None:
    reader = rig.reader()
    call, future = rig.submit()
    assert future.cancel()
    assert reader.take() == []
    assert not call.begin()
    reader.answer()
    assert future.cancelled()
    call, future = rig.submit()
    reader.begin()
    assert not future.cancel()
    reader.answer("result")
    assert future.result(0) == "result"
    assert rig.leftovers() == (0, 0, 0, 0)


def test_a_future_gets_what_was_raised(rig: Rig) -> None:
    reader = rig.reader()
    _, future = rig.submit()
    reader.begin()
    error = ValueError("bad")
    reader.answer(None, error)
    assert future.exception(0) is error


def test_a_future_is_told_when_the_life_at_work_is_cut(rig: Rig) -> None:
    reader = rig.reader()
    _, future = rig.submit()
    reader.begin()
    reader.cut()
    assert isinstance(future.exception(0), CallFailed)


def test_a_future_that_was_cancelled_is_left_alone_when_nobody_will_answer(rig: Rig) -> None:
    _, future = rig.submit()
    assert future.cancel()
    rig.journal.calls.close(rig.queue, "it has ended")
    assert future.cancelled()


@pytest.mark.filterwarnings("ignore")
def test_a_future_on_which_others_have_set_a_result_harms_nobody(rig: Rig) -> None:
    reader = rig.reader()
    call, future = rig.submit()
    future.set_result("somebody else's")
    assert reader.take() == []
    assert not call.begin()
    reader.answer()
    assert future.result(0) == "somebody else's"


@pytest.mark.parametrize("error", [ValueError("bad"), StaleComponent("gone"), StopRequested("stop")])
def test_what_a_callback_raises_is_reported_and_does_not_reach_who_answers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: reported.append(hook.exc_value))
    reader = rig.reader()
    _, future = rig.submit()

    def call_back(_: Future[Any]) -> None:
        raise error

    future.add_done_callback(call_back)
    reader.begin()
    reader.answer("result")
    assert future.result(0) == "result"
    assert reported == ([] if isinstance(error, Exception) else [error])  # `concurrent.futures` logs an Exception


def test_no_more_than_a_bound_of_submitted_calls_wait_and_who_waits_is_let_in(rig: Rig) -> None:
    for _ in range(MOST_WAITING):
        rig.submit()
    with pytest.raises(CallFailed, match="caller: 1,000 calls wait for callee already; call it without submit"):
        rig.submit()
    rig.call()
    assert len(rig.queue.waiting) == MOST_WAITING + 1


# ---------------------------------------------------------------------- whether all is quiet
def test_all_is_quiet_when_no_call_waits_or_is_in_work(rig: Rig) -> None:
    assert rig.quiet()
    reader = rig.reader()
    rig.submit()
    assert not rig.quiet()
    reader.begin()
    assert not rig.quiet()
    reader.answer()
    assert rig.quiet()


def test_who_has_answered_and_finds_nothing_says_so(rig: Rig) -> None:
    told: list[bool] = []
    rig.journal.on_idle = lambda: told.append(rig.quiet())
    rig.journal.watch_idle(True)
    reader = rig.reader()
    rig.call()
    reader.begin()
    assert told == []
    assert reader.take(answer=(None, None)) == []
    assert told == [True]


def test_what_a_callback_raises_reaches_nobody_where_it_cannot_be_reported_either(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise BrokenPipeError("standard error is closed")

    monkeypatch.setattr(threading, "excepthook", refuse)
    reader = rig.reader()
    _, future = rig.submit()

    def call_back(_: Future[Any]) -> None:
        raise StopRequested("stop")

    future.add_done_callback(call_back)
    reader.begin()
    reader.answer("result")
    assert future.result(0) == "result"


# ---------------------------------------------------------------------- races that are held open
class CancelledLate(Future[Any]):
    """Is cancelled just after it was looked at."""

    def done(self) -> bool:
        done = super().done()
        self.cancel()
        return done


def test_a_future_that_is_cancelled_in_the_very_moment_harms_nobody(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda hook: reported.append(hook.exc_value))
    future = CancelledLate()
    rig.journal.calls.place(Call(rig.queue, "method", (), {}, "caller", future=future))
    rig.journal.calls.close(rig.queue, "it has ended")
    assert future.cancelled()
    assert reported == []


def test_a_life_that_ends_before_it_reads_leaves_nothing(rig: Rig) -> None:
    fence, bell = Fence("callee", 1), Bell()
    mailbox = Mailbox((), bell, calls=rig.queue)
    rig.journal.begin_life(mailbox, fence)
    assert rig.journal.threads == {threading.get_ident(): fence}
    assert rig.leftovers() == (0, 1, 0, 0)
    rig.journal.end_life(mailbox, fence)
    rig.journal.forget_thread()
    assert rig.journal.threads == {}
    assert rig.leftovers() == (0, 0, 0, 0)
    rig.journal.begin_life(mailbox, fence)  # its thread has come late
    assert rig.leftovers() == (0, 0, 0, 0)


def test_an_error_is_left_for_who_waits_for_it(rig: Rig) -> None:
    reader = rig.reader()
    call = rig.call()
    reader.begin()
    error = ValueError("bad")
    reader.answer(None, error)  # at once, and not with the next look
    assert not rig.waits(call)
    assert call.error is error


def test_a_call_that_fails_in_a_circle_before_it_was_taken_is_not_run(rig: Rig) -> None:
    inbox = Channel("caller.things", 0, capacity=1)
    assert inbox.take_room_locked(1)
    fence, bell = rig.caller()
    rig.journal.attach(Mailbox((inbox,), bell), fence)
    reader = rig.reader()
    call = rig.call(fence, bell, own=True)  # while the other one handles a message
    rig.journal.calls.note_wait(reader.fence, inbox.join_line_locked({}, 1, reader.bell, rig.clock.monotonic()))
    assert isinstance(call.error, DeadlockError)
    rig.journal.calls.note_wait(reader.fence, None)
    assert reader.take() == []
    assert reader.mailbox.call is None
    assert rig.leftovers() == (0, 0, 0, 0)

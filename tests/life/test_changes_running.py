"""What is wished of components while real threads are at work: nothing is lost, nothing is done twice, everybody is answered."""

from __future__ import annotations

import random
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from minions import Backoff, Component, Inbox, Outbox, Restart, State, System, events
from minions.errors import ChangeFailed, InboxFull, StoreError, UsageError
from minions.life import commands
from minions.life.life import Life
from minions.life.lifecycle import Phase
from minions.life.persistence import Persistence
from tests.life.conftest import PATIENCE_S, Gate, Log, Number, Start
from tests.system.conftest import PRELUDE, Child

DURABLE = pytest.mark.parametrize("durable", [True, False])


def done(wish: Future[None]) -> None:
    """Blocks until a wish has come about."""
    wish.result(PATIENCE_S)


def phases(system: System) -> dict[str, Phase]:
    return {status.name: status.phase for status in system.status()}


def pipeline(system: System, count: int, durable: bool, handled: Log, *, replicas: int = 1) -> tuple[Any, Any, Any]:
    """Numbers, which are passed on, and kept."""

    class Numbers(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.running and self.sent < count:
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1

    class Passing(Component):
        numbers = Inbox(Number, capacity=4, durable=durable)
        out = Outbox(Number)

        @numbers.handler
        def pass_on(self, number: Number) -> None:
            self.out.send(number)

    class Keeping(Component):
        numbers = Inbox(Number, capacity=4, durable=durable)
        kept = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.kept = [*self.kept, number.value]
            handled.add(number.value)

    numbers, passing, keeping = system.add(Numbers()), system.add(Passing(), replicas=replicas), system.add(Keeping())
    system.connect(numbers.out, passing.numbers)
    system.connect(passing.out, keeping.numbers)
    return numbers, passing, keeping


# Under load -----------------------------------------------------------------------------------------------------------


@DURABLE
@pytest.mark.usefixtures("hurry")
def test_restarts_under_load_lose_nothing_and_do_nothing_twice(system: System, start: Start, durable: bool) -> None:
    handled = Log()
    numbers, passing, keeping = pipeline(system, 400, durable, handled)
    run = start(system).up()  # for as long as something is wished

    for round_ in range(8):
        handled.wait_for_count(min(400, 20 * round_))
        done(system.restart(*[(numbers,), (passing,), (keeping,), (passing, keeping), ()][round_ % 5]))

    run.wait_until_quiet()
    assert run.stop().problems == ()
    assert keeping.kept == list(range(400))
    assert sorted(handled.entries) == list(range(400))
    assert len(run.all(events.ComponentStopped)) > 8


@DURABLE
@pytest.mark.usefixtures("hurry")
def test_pauses_under_load_lose_nothing_and_leave_nothing(system: System, start: Start, durable: bool) -> None:
    handled = Log()
    numbers, passing, keeping = pipeline(system, 400, durable, handled, replicas=3)
    run = start(system).up()  # for as long as something is wished

    for round_ in range(24):
        handled.wait_for_count(min(400, 10 * round_))
        paused = [(numbers,), (passing,), (keeping,), (numbers, passing), ()][round_ % 5]
        done(system.pause(*paused))
        done(system.resume(*paused))

    run.wait_until_quiet()
    assert run.stop().problems == ()
    assert sorted(keeping.kept) == list(range(400))
    assert len(keeping.kept) == 400


@pytest.mark.usefixtures("hurry")
def test_partitions_keep_their_order_through_pauses_and_restarts(system: System, start: Start) -> None:
    handled, count = Log(), 300

    class Numbers(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self) -> None:
            while self.running and self.sent < count:
                with self.unit():
                    self.out.send(Number(self.sent))
                    self.sent += 1

    class Keeping(Component):
        numbers = Inbox(Number, capacity=8)
        kept = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.kept = [*self.kept, number.value]
            handled.add(number.value)

    numbers, keeping = (
        system.add(Numbers()),
        system.add(Keeping(), replicas=3, partition_by=lambda number: number.value % 10),
    )
    system.connect(numbers.out, keeping.numbers)
    run = start(system).up()  # for as long as something is wished
    for round_ in range(12):
        handled.wait_for_count(min(count, 20 * round_))
        match round_ % 3:
            case 0:
                done(system.restart(keeping))
            case 1:
                done(system.pause(keeping))
                done(system.resume(keeping))
            case _:
                done(system.stop(keeping))
                done(system.start(keeping))

    run.wait_until_quiet()
    assert run.stop().problems == ()
    assert sorted(handled.entries) == list(range(count))
    for key in range(10):
        assert system.partition(keeping, key).kept == list(range(key, count, 10))


class Burst(Component):
    """Sends so many, as fast as there is room, and says before each that it is about to."""

    count: int
    out = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            SENDING.add(value)
            self.out.send(Number(value))


class Sink(Component):
    """Keeps what it is sent, in an inbox that holds two."""

    numbers = Inbox(Number, capacity=2, durable=False)

    @numbers.handler
    def keep(self, number: Number) -> None:
        GATES["handler"].pass_through()
        KEPT.add(number.value)


SENDING = Log()
KEPT = Log()
GATES: dict[str, Gate] = {}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global SENDING, KEPT
    SENDING, KEPT = Log(), Log()
    GATES.clear()
    GATES["handler"] = Gate()


def burst(system: System, count: int, *, replicas: int = 1) -> tuple[Burst, Sink]:
    source, sink = system.add(Burst(count=count)), system.add(Sink(), replicas=replicas)
    system.connect(source.out, sink.numbers)
    return source, sink


def test_a_consumer_is_stopped_and_started_while_its_producer_waits_for_room(system: System, start: Start) -> None:
    _, sink = burst(system, 6)
    run = start(system, forever=False).up()
    GATES["handler"].wait_reached()
    SENDING.wait_for_count(3)  # one in work, which holds its room, one that waits, and one for which there is none

    stopped = system.stop(sink)
    run.reach()
    assert not stopped.done(), "it has a message in work"
    GATES["handler"].open()
    done(stopped)
    assert KEPT.entries == [0]
    assert phases(system) == {"sink": Phase.STOPPED, "burst": Phase.RUNNING}
    assert len(SENDING.entries) <= 5
    assert not system.wait(0.0), "it stays while a component is down that may be started"

    done(system.start(sink))
    assert run.ended().problems == ()
    assert KEPT.entries == list(range(6))


def test_what_is_paused_finishes_what_is_in_work_and_takes_nothing_more(system: System, start: Start) -> None:
    _, sink = burst(system, 6)
    run = start(system, forever=False).up()
    GATES["handler"].wait_reached()
    done(system.pause(sink))
    GATES["handler"].open()
    KEPT.wait_for_count(1)
    SENDING.wait_for_count(4)  # there was room for one more
    assert not system.wait(0.0)
    assert KEPT.entries == [0]

    done(system.resume(sink))
    assert run.ended().problems == ()
    assert KEPT.entries == list(range(6))


def test_a_batch_in_hand_is_given_back_when_a_pause_is_over_before_that_was_noticed(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handling of a batch is broken off because of the pause; when the thread looks again, the pause is over."""
    handled, broken_off = Log(), Gate()
    handle_all = Life.handle_all

    def handle_all_and_wait(life: Life, entries: Any) -> None:
        handle_all(life, entries)
        broken_off.pass_through()

    monkeypatch.setattr(Life, "handle_all", handle_all_and_wait)

    class Numbers(Component):
        out = Outbox(Number)

        def run(self) -> None:
            with self.unit():
                for value in range(5):
                    self.out.send(Number(value))

    class Keeping(Component):
        numbers = Inbox(Number)
        kept = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            GATES["handler"].pass_through()
            self.kept = [*self.kept, number.value]
            handled.add(number.value)

    numbers, keeping = system.add(Numbers()), system.add(Keeping())
    system.connect(numbers.out, keeping.numbers)
    run = start(system, forever=False).up()
    GATES["handler"].wait_reached()
    done(system.pause(keeping))
    GATES["handler"].open()
    broken_off.wait_reached()
    assert handled.entries == [0]
    done(system.resume(keeping))
    broken_off.open()

    assert run.ended().problems == ()
    assert handled.entries == list(range(5))


def test_a_paused_loop_waits_where_it_sends_and_where_it_receives(system: System, start: Start) -> None:
    turns = Log()

    class Loop(Component):
        numbers = Inbox(Number)
        out = Outbox(Number)

        def run(self) -> None:
            for number in self.numbers:
                GATES["handler"].pass_through()
                turns.add("in")
                try:
                    self.out.send(number, timeout_s=0.0)
                except InboxFull as error:
                    turns.add(str(error))
                    self.out.send(number)
                turns.add("out")

    class Last(Component):
        numbers = Inbox(Number)
        kept = State(list[int])

        @numbers.handler
        def keep(self, number: Number) -> None:
            self.kept = [*self.kept, number.value]

    source, loop, last = system.add(Burst(count=2)), system.add(Loop()), system.add(Last())
    system.connect(source.out, loop.numbers)
    system.connect(loop.out, last.numbers)
    run = start(system, forever=False).up()
    GATES["handler"].wait_reached()
    done(system.pause(loop))
    GATES["handler"].open()
    refused = "loop is paused, and did not go on within the timeout; nothing was sent"
    # what follows a receive() is one unit, which is sent whole when it ends: nothing is refused before
    assert turns.wait_for_count(2) in (["in", "out"], ["in", refused])
    assert not system.wait(0.0)
    assert last.kept == []

    done(system.resume(loop))
    assert run.ended().problems == ()
    assert last.kept == [0, 1]


def test_a_paused_source_waits_where_it_sends_and_gives_up_when_it_will_not_wait(system: System, start: Start) -> None:
    told, gate, again = Log(), Gate(), Gate()

    class Impatient(Component):
        out = Outbox(Number)

        def run(self) -> None:
            gate.pass_through()
            try:
                self.out.send(Number(0), timeout_s=0.0)
            except InboxFull as error:
                told.add(str(error))
            again.pass_through()
            self.out.send(Number(1))

    source, sink = system.add(Impatient()), system.add(Sink())
    system.connect(source.out, sink.numbers)
    GATES["handler"].open()
    run = start(system, forever=False).up()
    gate.wait_reached()
    done(system.pause(source))
    gate.open()
    again.wait_reached()
    assert told.entries == ["impatient is paused, and did not go on within the timeout; nothing was sent"]
    again.open()
    assert not system.wait(0.0)
    assert KEPT.entries == []

    done(system.resume(source))
    assert run.ended().problems == ()
    assert KEPT.entries == [1]


# Escalation -----------------------------------------------------------------------------------------------------------


def test_a_group_restarts_whole_and_each_goes_on_with_its_last_whole_state(system: System, start: Start) -> None:
    lives, gate = Log(), Gate()

    class Numbers(Component):
        out = Outbox(Number)
        sent = State(int)

        def on_start(self) -> None:
            lives.add(("numbers", self.sent))

        def run(self) -> None:
            with self.unit():
                self.out.send(Number(self.sent))
                self.sent += 1
            while self.running:
                self.sleep(PATIENCE_S)

    class Failing(Component):
        numbers = Inbox(Number)
        received = State(int)

        def on_start(self) -> None:
            lives.add(("failing", self.received))

        def run(self) -> None:
            for _ in self.numbers:
                self.received += 1
                break
            self.commit()
            if self.received == 1:
                gate.pass_through()
                raise ValueError("once")
            for _ in self.numbers:
                pass

    restart = Restart(backoff=Backoff(initial_s=0.0))
    numbers, failing = system.add(Numbers()), system.add(Failing(), restart=restart)
    system.connect(numbers.out, failing.numbers)
    system.group("all", [numbers, failing])
    run = start(system, forever=True).up()
    gate.wait_reached()
    assert lives.entries == [("failing", 0), ("numbers", 0)]
    gate.open()
    lives.wait_for_count(4)
    assert lives.entries[2][0] == "failing", "consumers first"
    assert lives.entries[3] == ("numbers", 1)
    assert run.stop().problems == ()


ISOLATED = """
GOES_ON, GO = os.pipe()

class Source(Component):
    out = Outbox(Number)

    def run(self):
        while self.running:
            self.sleep(30.0)
            self.out.send(Number(0))

    def on_stop(self):
        say("source stopped")
        os.write(GO, b"x")

class Broken(Component):
    numbers = Inbox(Number)

    def run(self):
        raise ValueError("broken for good")

class Later(Component):
    out = Outbox(Number)

    def run(self):
        os.read(GOES_ON, 1)
        for value in range(3):
            self.out.send(Number(value))

class Last(Component):
    numbers = Inbox(Number)

    @numbers.handler
    def keep(self, number):
        say(f"kept {number.value}")

isolating = Restart(failures=1, on_give_up="isolate", backoff=Backoff(initial_s=0.0))
source, broken, later, last = Source(), Broken(), Later(), Last()
system.add(source)
system.add(broken, restart=isolating)
system.add(later)
system.add(last)
system.connect(source.out, broken.numbers)
system.connect(later.out, last.numbers)
system.run()
"""


def test_an_isolated_part_stops_and_the_rest_goes_on_and_the_exit_code_tells(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + textwrap.dedent(ISOLATED), encoding="utf-8")
    child = Child(script)
    try:
        child.wait_for("source stopped")
        child.wait_for("kept 2")
        ended = child.end()
    finally:
        child.close()
    assert ended.returncode == 1, ended.stderr
    assert "test failed: broken failed in run: ValueError: broken for good" in ended.stderr


# From anywhere, at any time -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurry")
def test_wishes_of_many_threads_are_all_answered_and_no_message_suffers(system: System, start: Start) -> None:
    handled, count = Log(), 1_500
    numbers, passing, keeping = pipeline(system, count, True, handled, replicas=2)
    run = start(system, forever=False).up()
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def wish(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(60):
            kind = chance.choice(["start", "stop", "restart", "pause", "resume"])
            components = chance.sample([numbers, passing, keeping], chance.choice([1, 2, 3]))
            answer = getattr(system, kind)(*components)
            error = answer.exception(PATIENCE_S) if chance.random() < 0.5 else None
            with lock:
                answers[kind] += error is None
            assert error is None or isinstance(error, ChangeFailed)

    threads = [threading.Thread(target=wish, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    done(system.resume())
    done(system.start())

    assert run.ended().problems == ()
    assert sorted(keeping.kept) == list(range(count))
    assert sorted(handled.entries) == list(range(count))
    assert sum(answers.values()) > 100


def test_a_component_may_restart_itself(system: System, start: Start) -> None:
    wishes: list[Future[None]] = []
    lives = Log()

    class Sinking(Component):
        numbers = Inbox(Number, durable=False)

        def on_start(self) -> None:
            lives.add(1)

        @numbers.handler
        def keep(self, number: Number) -> None:
            if number.value == 1 and not wishes:
                wishes.append(system.restart("sinking"))
            KEPT.add(number.value)

    source, sink = system.add(Burst(count=4)), system.add(Sinking())
    system.connect(source.out, sink.numbers)
    run = start(system).up()
    lives.wait_for_count(2)
    done(wishes[0])

    assert KEPT.wait_for_count(4) == [0, 1, 2, 3]
    assert run.stop().problems == ()


def test_what_a_future_calls_back_may_look_and_wish_and_fail(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported = Log()
    monkeypatch.setattr(threading, "excepthook", lambda hook: reported.add(hook.exc_type))
    _, sink = burst(system, 3)
    GATES["handler"].open()
    run = start(system, forever=True).up()
    seen = Log()

    def look(_: Future[None]) -> None:
        seen.add(phases(system)["sink"])
        system.start(sink).add_done_callback(lambda _: seen.add("started"))

    def leave(_: Future[None]) -> None:
        raise SystemExit("a callback has no say in that")

    stopped = system.stop(sink)
    stopped.add_done_callback(look)
    stopped.add_done_callback(leave)

    assert seen.wait_for_count(2) == [Phase.STOPPED, "started"]
    assert reported.wait_for_count(1) == [SystemExit]
    over = system.stop()
    over.add_done_callback(leave)
    assert run.ended().problems == ()
    done(over)


def test_a_wish_after_the_end_is_answered(system: System, start: Start) -> None:
    _, sink = burst(system, 1)
    GATES["handler"].open()
    run = start(system, forever=False)
    runtime = run.runtime
    run.ended()

    late = runtime.change(commands.Restart, ("sink",), "operator")
    with pytest.raises(ChangeFailed, match="test: the system has ended"):
        done(late)
    done(system.stop(sink))
    with pytest.raises(UsageError, match="test does not run"):
        system.restart(sink)


def test_open_wishes_are_answered_when_the_run_ends_by_itself_or_the_supervisor_fails(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda hook: None)
    _, sink = burst(system, 1)
    run = start(system, forever=True).up()
    GATES["handler"].wait_reached()
    open_wish = system.restart(sink)
    run.reach()
    monkeypatch.setattr(run.runtime._supervisor.supervision, "handle", None)
    late = system.restart(sink)

    for wish in (open_wish, late):
        with pytest.raises(ChangeFailed, match="test: the system has ended"):
            done(wish)
    GATES["handler"].open()
    run.ended()


class Opening:
    """Holds a system where it opens its store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.gate = Gate()
        really = Persistence.open

        def open_(persistence: Persistence, *rest: Any) -> None:
            self.gate.pass_through()
            if error is not None:
                raise error
            really(persistence, *rest)

        monkeypatch.setattr(Persistence, "open", open_)


@contextmanager
def running_in_a_thread(system: System) -> Iterator[Callable[[], Any]]:
    """`run` on a thread of its own; what is given back waits for its end, and returns its result or what it has raised."""
    ends: list[Any] = []

    def run() -> None:
        try:
            ends.append(system.run())
        except BaseException as error:  # noqa: BLE001 - given back
            ends.append(error)

    def end() -> Any:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        return ends[0]

    thread = threading.Thread(target=run)
    thread.start()
    yield end
    end()


def kept(system: System) -> None:
    pipeline(system, 10, True, Log())


def test_a_stop_that_comes_while_the_system_opens_its_store_is_honoured(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Opening(monkeypatch)
    numbers, _, _ = pipeline(system, sys.maxsize, True, Log())
    with running_in_a_thread(system) as end:
        opening.gate.wait_reached()
        stopped = system.stop()
        assert not stopped.done()
        opening.gate.open()
        assert end() == "stopped"
        done(stopped)
    assert numbers.sent == 0


def test_a_component_that_is_stopped_while_the_system_opens_its_store_never_starts(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Opening(monkeypatch)
    numbers, _, _ = pipeline(system, sys.maxsize, True, Log())
    with running_in_a_thread(system) as end:
        opening.gate.wait_reached()
        stopped = system.stop(numbers)
        opening.gate.open()
        done(stopped)
        done(system.restart("passing"))
        system.stop()
        assert end() == "stopped"
    assert numbers.sent == 0


def test_wishes_of_a_system_that_cannot_open_its_store_are_answered(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = Opening(monkeypatch, StoreError("no such disk"))
    kept(system)
    with running_in_a_thread(system) as end:
        opening.gate.wait_reached()
        stopped, restarted = system.stop(), system.restart("passing")
        opening.gate.open()
        assert isinstance(end(), SystemExit)
        done(stopped)
        with pytest.raises(ChangeFailed, match="test: the system has not started: no such disk"):
            done(restarted)
    done(system.stop())
    runtime = system._runtime
    assert runtime is not None
    with pytest.raises(ChangeFailed, match="the system has not started: no such disk"):  # by who had it before
        done(runtime.change(commands.Pause, None, "operator"))
    with pytest.raises(UsageError, match="does not run"):
        system.start()


def test_a_stop_of_a_system_that_cannot_be_started_inside_another_program_is_answered(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, raised = Opening(monkeypatch, StoreError("no such disk")), []
    kept(system)

    def begin() -> None:
        try:
            with system.started():
                """It cannot be."""
        except StoreError as error:
            raised.append(error)

    beginning = threading.Thread(target=begin)
    beginning.start()
    opening.gate.wait_reached()
    stopped = system.stop()
    opening.gate.open()
    done(stopped)
    beginning.join(PATIENCE_S)
    assert [str(error) for error in raised] == ["no such disk"]


def stop_start_and_stop(system: System, part: Component, barrier: threading.Barrier) -> None:
    barrier.wait()
    done(system.stop(part))
    done(system.start(part))
    system.stop()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.usefixtures("hurry")
def test_a_stop_in_the_moment_of_the_start_is_never_lost(
    new_system: Callable[[], System], start: Start, seed: int
) -> None:
    for turn in range(10):
        system = new_system()
        numbers, passing, keeping = pipeline(system, sys.maxsize, False, Log())
        run = start(system)
        barrier = threading.Barrier(2)

        part = (numbers, passing, keeping)[(turn + seed) % 3]
        stopping = threading.Thread(target=stop_start_and_stop, args=(system, part, barrier))
        stopping.start()
        barrier.wait()
        assert run.ended().problems == ()
        stopping.join(PATIENCE_S)
        assert not stopping.is_alive()

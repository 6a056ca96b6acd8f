"""`harness`: one component on its own, without threads. What a test does with it has happened when the call returns.

The component runs in the runtime that runs it in production, on the one thread of a `World` and on a `MemoryDisk`: its units,
its restarts, its retries, its store are the real ones. Time stands still unless the test moves it.
"""

from __future__ import annotations

import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from minions.errors import CallFailed, CallTimeout, MinionsError, UsageError
from minions.events import Event
from minions.fence import Fence
from minions.flow.calls import CallQueue
from minions.flow.channel import Channel
from minions.flow.rows import DeadLetter
from minions.flow.unit import Unit
from minions.life.calling import Proxy
from minions.life.ports import message_of
from minions.life.status import ComponentStatus
from minions.model import checks, wrap
from minions.model.component import Component, Exactly
from minions.model.partition import PartitionBy
from minions.model.policy import Restart
from minions.model.ports import Inbox, Outbox, Port, Uses, type_name
from minions.model.topology import Node
from minions.model.wrapped import Wrapped
from minions.testing.arguments import refuse, refuse_other_times
from minions.testing.bounded_world import BoundedWorld, Endless
from minions.testing.disk import MemoryDisk
from minions.testing.fakes import misfit
from minions.testing.feeder import Feeder
from minions.testing.in_memory import SystemInMemory
from minions.testing.looking import HIDES, hidden_states, last_events, look_at
from minions.testing.process import NO_FAILURES, Probe, Process, SimulatedLife
from minions.testing.surroundings import surround

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Harness", "harness"]

C = TypeVar("C", bound=Component)
T = TypeVar("T")

_PATIENCE_S = 30.0
"""How much virtual time an answer may take, as with `System.call`."""


def harness(
    component: C,
    *,
    name: str | None = None,
    restart: Restart = Restart(),
    partition_by: PartitionBy | None = None,
    raises: bool = True,
    steps: int = 100_000,
) -> Harness[C]:
    """Puts one component under test, on its own: ``h = harness(Average())``.

    It starts with the first thing that is done with it, or with `Harness.start`. As a context manager it is stopped at the end of
    the block, with its `on_stop`.

    Args:
        component: that belongs to no system.
        name: as with `System.add`; this and the next two.
        restart: whether, how often and how fast it comes back after it has ended by itself.
        partition_by: the key of a message.
        raises: whether what the component raises is raised where the test has caused it: by `Harness.send`, for example. The
            runtime has dealt with it by then: the unit of work never was. Otherwise it is in `Harness.raised` only.
        steps: after so many turns at one moment, or so many rounds of a loop within one turn, it is refused as one that would
            never come to an end: its loop lets no time pass. A loop that asks the runtime nothing is not seen.

    Raises:
        UsageError: that is no component, or it belongs to a system; or the library greenlet is not installed.
    """
    given: object = component
    if not isinstance(given, Component):
        hint = "; give an object of that class" if isinstance(given, type) else ""
        raise UsageError(f"harness() takes a component, such as harness(Average()), not {given!r}{hint}")
    if component._minions.reader is not None:
        raise UsageError(
            f"harness({type(component).__qualname__}): this object belongs to a system (or a harness) already: give the harness "
            "an object of its own"
        )
    refuse("harness()", checks.switch("raises", raises), checks.whole_number("steps", steps, 1))
    return Harness(component, name, restart, partition_by, raises, steps)


class Harness(Generic[C]):
    """One component under test; see `harness`. For the thread that made it.

    Its methods return when the component, and whatever it uses, has nothing more to do until time goes on.

    Attributes:
        component: as the test sees it: its ports are what `send` and `sent` take, its `State` attributes answer what the last
            whole unit left, also while it is down.
        raised: what its code has raised so far, but for what was raised to a caller.
        told: what the runtime has told so far.
        crashed: whether its process has died and was not started again.
        commits: how many of its units of work have changed anything on disk; each is there as soon as it is whole.
    """

    def __init__(
        self,
        component: C,
        name: str | None,
        restart: Restart,
        partition_by: PartitionBy | None,
        raises: bool,
        steps: int,
    ) -> None:
        self.component = component
        self.raised: list[BaseException] = []
        self.told: list[Event] = []
        self.crashed = False
        self.commits = 0
        self._raises = raises
        self._disk = MemoryDisk()
        self._system = SystemInMemory(self._disk)
        self._system.add(component, name=name, restart=restart, partition_by=partition_by)
        self._node = self._system._node_named(component)
        self._steps = steps
        self._world = BoundedWorld(steps)
        self._probe = _Probe(self)
        self._running: dict[str, Process] = {}  # the one that runs; an object that outlives this one
        self._is_wired = False
        self._is_dying = False
        self._crash_in: tuple[str, int] | None = None
        weakref.finalize(self, _let_go, self._running, threading.get_ident())

    # ------------------------------------------------------------------ its life
    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.close()
            return
        self.stop()
        if self._crash_in is not None:
            name, missing = self._crash_in
            raise UsageError(
                f"{self._node.name}: crash_in({name!r}): it never came to that: {missing} more would have had to end"
            )

    def start(self) -> Self:
        """Starts it, if it does not run, with what is on disk.

        Raises:
            TopologyError: it is not sound.
            UsageError: something that it uses has no fake.
            CannotDecode: what is on disk is not what its class says.
            Exception: what its `on_start` has raised.
        """
        if self._running:
            return self
        self._wire()
        if self._world.over:
            before = self._world
            self._world = BoundedWorld(self._steps, monotonic_s=before.now_s, wall_s=before.now_s + before.wall_ahead_s)
        process = Process(self._system, self._world, self._disk, self._probe, forever=True)
        self._running["process"] = process
        self.crashed = False
        process.start()
        self._go(self._world.settle)
        refusal = process.runtime.refusal
        if refusal is not None:
            self.close()
            raise refusal
        return self

    def stop(self) -> None:
        """Stops it in order, with its `on_stop`. What waits for it stays on disk. Without effect where it is down.

        Raises:
            Exception: what its `on_stop` has raised.
        """
        process = self._running.get("process")
        if process is None:
            return
        try:
            if not process.over:
                process.runtime.stop("stopped")
                self._go(lambda: self._world.run(lambda: process.over))
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of it as it is, without its `on_stop`. What it keeps is on disk. Without effect where it is down."""
        process = self._running.pop("process", None)
        if process is not None:
            process.close()

    def crash(self) -> None:
        """Its process dies here and now, as by ``kill -9``: nothing more of it runs, not even its `on_stop`.

        Raises:
            UsageError: it does not run.
        """
        self._process.crash()
        self._running.clear()
        self.crashed = True
        self._is_dying = False

    def crash_in(self, where: str | Callable[..., Any], *, nth: int = 1) -> None:
        """Its process dies in a piece of its code: at the end of that, when the unit of work is about to become whole.

        So all that the code does was done, and none of it is kept. Afterwards `crashed` is true, and `restart` goes on from what
        is on disk.

        Args:
            where: a handler, a method with a schedule or one that is called, "on_start", "on_stop" or "run"; or its name.
            nth: at which time from now on, counted from 1.

        Raises:
            UsageError: it has no such method.
        """
        name = where if isinstance(where, str) else getattr(where, "__name__", repr(where))
        if not inspect.isfunction(inspect.getattr_static(type(self.component), name, None)):
            raise UsageError(
                f"{self._node.name} has no method {name!r} to crash in: name one of {', '.join(self._methods())}"
            )
        count: Any = nth
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UsageError(f"{self._node.name}: crash_in({name!r}, nth={nth!r}): must be a whole number from 1 up")
        self._crash_in = (name, nth)

    def restart(self) -> None:
        """Starts it again: after a crash; where it runs, after it was stopped in order.

        Raises:
            Exception: as `stop` and `start`.
        """
        self.stop()
        self.start()

    @overload
    def uses(self, used: T, fake: Wrapped[T]) -> None: ...
    @overload
    def uses(self, used: Exactly[C_used], fake: C_used) -> None: ...
    def uses(self, used: Any, fake: Any) -> None:
        """Says what stands in for a component that it uses: ``h.uses(average.database, FakeDatabase())``. Before it starts.

        Calls go the way that they go in production, one by one, each a unit of work of the fake.

        Args:
            used: a `Uses` of the component.
            fake: a component of a subclass, of which every start makes a fresh copy, so that the test looks at its `State`
                attributes; or any other object, such as a mock, which is called itself.

        Raises:
            UsageError: it has started; that is no `Uses` of it; or the fake lacks a method, or takes other arguments.
        """
        if self._is_wired:
            raise UsageError(f"{self._node.name}: uses() says what stands in for what before the harness has started")
        if not isinstance(used, Uses) or used.blueprint is not self.component:
            names = ", ".join(f"h.component.{name}" for name in self._node.declaration.uses) or "none"
            raise UsageError(f"{self._node.name}: uses() takes first a Uses of the component ({names}), not {used!r}")
        where = f"{self._node.name}.{used.name}"
        is_component = issubclass(type(fake), Component)
        if not isinstance(fake, Wrapped) and (problem := misfit(fake, used.type)):
            raise UsageError(f"{where} uses {type_name(used.type)}, and {fake!r} does not fit: {problem}")
        stands_in = fake if is_component else wrap.object(lambda: fake, used.type)
        self._system.add(stands_in, name=f"{used.name}-of-{self._node.name}")
        self._system.use(used, stands_in)

    # ------------------------------------------------------------------ what a test does with it
    def send(self, inbox: Inbox[T], *messages: T) -> None:
        """Sends messages to an inbox, each as a unit of work of its own: ``h.send(h.component.readings, Reading(1.0))``.

        Args:
            inbox: of the component, or of a fake that is one.
            messages: of its class. Where one is not, those before it are sent.

        Raises:
            UsageError: that is no such inbox; it has ended; or the inbox is full.
            MessageRefused: a message is of another class.
            CannotEncode: it cannot be stored.
            InboxFull: the inbox refuses what does not fit.
            Exception: what the handler has raised.
        """
        channel = self._channel_of(inbox, Inbox, "send")
        for message in messages:
            feeder = Feeder(self._alive().journal, channel, inbox)
            if not feeder.offer(feeder.unit(message)):
                raise UsageError(feeder.full(""))
            self.settle()
            if self.crashed:
                return

    def tick(self, schedule: str | Callable[[], None]) -> None:
        """Makes a tick of a schedule now: ``h.tick("flush")`` or ``h.tick(h.component.flush)``.

        Args:
            schedule: the method that has it, or its name.

        Raises:
            UsageError: it has no such schedule.
            Exception: what the method has raised.
        """
        self._alive()
        name = schedule if isinstance(schedule, str) else getattr(schedule, "__name__", repr(schedule))
        self._answer_of(self._system.run_now(self.component, name), name)

    @property
    def call(self) -> C:
        """The component as seen by who calls it: ``h.call.insert(row)`` runs on it, as a unit of work, and answers.

        Time moves on where the method sleeps, 30 seconds at most.

        Raises:
            UsageError: it answers no calls.
        """
        self._alive()
        self._system.call(self.component)  # which says why not
        queue = self._process.plan.nodes[self._node.name].calls
        assert queue is not None
        caller: Any = Proxy(_Caller(self), queue, type(self.component), None)
        return caller  # type: ignore[no-any-return]

    def settle(self) -> None:
        """Lets it go on until nothing more happens by itself. Whatever else is done with it does this, too.

        Raises:
            Exception: what it has raised.
        """
        self._alive()
        self._go(self._world.settle)

    def advance(self, seconds: float) -> None:
        """Lets time pass: ticks, retries, sleeps, rate limits come at their moments.

        Raises:
            UsageError: that is no number.
            ValueError: time does not go back, nor to infinity.
            Exception: the first of what it has raised meanwhile.
        """
        refuse_other_times("advance", seconds)
        self._alive()
        self._go(partial(self._world.advance, seconds))

    # ------------------------------------------------------------------ what a test looks at
    def sent(self, outbox: Outbox[T]) -> list[T]:
        """What it has sent by an outbox so far, in order: of whole units only, for nobody has seen anything else.

        Args:
            outbox: of the component, or of a fake that is one.

        Raises:
            UsageError: that is no such outbox; or it is down: start it again.
        """
        return self._messages_in(self._channel_of(outbox, Outbox, "sent"))

    def waiting(self, inbox: Inbox[T]) -> list[T]:
        """What waits in an inbox: for its retry, for a rate limit, for the next life.

        Raises:
            UsageError: that is no such inbox; or it is down: start it again.
        """
        return self._messages_in(self._channel_of(inbox, Inbox, "waiting"))

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What was set aside; see `System.dead_letters`."""
        return self._system.dead_letters(self.component)

    def message_of(self, letter: DeadLetter) -> Any:
        """The message that a dead letter keeps; see `System.message_of`.

        Raises:
            UsageError: that is no dead letter, or there is no inbox any more that says of which class it is.
            CannotDecode: it cannot be read any more.
        """
        refuse(f"{self._node.name}: message_of()", checks.kind("letter", letter, DeadLetter, "one of h.dead_letters"))
        return self._system.message_of(letter)

    @property
    def status(self) -> ComponentStatus:
        """Where it is in its lifecycle. Of several that it uses, this one.

        Raises:
            UsageError: it is down.
        """
        return next(
            status
            for status in self._process.runtime.statuses_seen(self._world.now_s)
            if status.name == self._node.name
        )

    def partition(self, key: Any) -> C:
        """The component as seen from the partition of a key; see `System.partition`.

        Raises:
            UsageError: it has no partitions, or that is no key.
        """
        try:
            return self._system.partition(self.component, key)
        except TypeError as error:
            raise UsageError(f"{self._node.name}: partition(key): {error}") from error

    def look(self) -> str:
        """What there is to be seen, for people: the component with what it is at, what waits, the last events."""
        process = self._running.get("process")
        if process is None:
            state = f"{self._node.name} has crashed" if self.crashed else f"{self._node.name} does not run"
        else:
            state = look_at(process.runtime, self._world.now_s)
        return f"{state}\n{last_events(self.told)}"

    @property
    def now_s(self) -> float:
        """Its time: monotonic seconds, as `self.monotonic()` reads them in the component."""
        return self._world.now_s

    @property
    def now(self) -> datetime:
        """Its time of day, with the zone UTC, as `self.now()` reads it in the component."""
        return datetime.fromtimestamp(self._world.clock.wall(), UTC)

    # ------------------------------------------------------------------ within
    @property
    def _process(self) -> Process:
        process = self._running.get("process")
        if process is None:
            how = "its process has crashed" if self.crashed else "it does not run"
            raise UsageError(f"{self._node.name}: {how}: h.restart() starts it")
        return process

    def _alive(self) -> Any:
        """The runtime, which runs; it is started where it never was."""
        if not self._is_wired:
            self.start()
        process = self._process
        if process.over:
            stopped = process.runtime.stopped
            assert stopped is not None
            raise UsageError(
                f"{self._node.name} has ended for good ({'; '.join(stopped.problems) or stopped.reason}): h.restart() starts it "
                "again"
            )
        return process.runtime

    def _go(self, step: Callable[[], object]) -> None:
        """Drives the world, and deals with what came of it."""
        if hidden := hidden_states(self._system):
            raise UsageError(f"{hidden[0]} {HIDES}")
        heard = len(self.raised)
        self._world.begin_to_count()
        try:
            step()
            if self._world.endless_in:
                raise Endless
        except Endless:
            refusal = self._too_many_steps()
            self.close()
            raise refusal from None
        if self._is_dying:
            self.crash()
        if self._raises and len(self.raised) > heard:
            raise self.raised[heard]

    def _too_many_steps(self) -> UsageError:
        where, steps = self._world.endless_in, f"{self._steps:,}"
        what = f"{where} went round {steps} times" if where else f"{self._node.name}: there were {steps} turns"
        return UsageError(
            f"{what} while time stood still, and so for ever: have the loop wait for something, as by self.sleep(seconds) with "
            "more than 0, which h.advance() lets end; where it does come to an end, give it more, harness(..., "
            f"steps=...)\n{self.look()}"
        )

    def _answer_of(self, future: Future[Any], method: str) -> Any:
        until_s = self._world.now_s + _PATIENCE_S
        self._go(lambda: self._world.run(future.done, until_s=until_s))
        if self.crashed:
            if self._probe.has_crashed_in == method:
                return None
            raise CallFailed(f"{self._node.name} has crashed before it has answered {method}()")
        if not future.done():
            raise CallTimeout(
                f"{self._node.name}.{method}() was not answered within {_PATIENCE_S:g} s of its time; it is "
                f"{self.status.phase.value}: {'; '.join(self._world.waiting())}"
            )
        result = future.result()
        self.settle()
        return result

    def _wire(self) -> None:
        """Connects every port to one of the other side, once."""
        if not self._is_wired:
            self._refuse_unmet()
            surround(self._system)
            self._is_wired = True

    def _refuse_unmet(self) -> None:
        """Refuses to go on while nothing stands in for something that it uses."""
        met = {asked.name for asked, _ in self._system._topology.chosen}
        for uses in self._node.declaration.uses.values():
            if uses.name not in met:
                kind = type_name(uses.type)
                raise UsageError(
                    f"{self._node.name}.{uses.name} uses {kind}, and nothing stands in for it: say what, "
                    f"h.uses(h.component.{uses.name}, Fake{kind}()), before anything else is done"
                )

    def _channel_of(self, port: Port[Any], kind: type[Port[Any]], method: str) -> Channel:
        given: object = port
        node: Node | None = None
        if isinstance(given, kind) and given.blueprint is not None:
            node = self._system._topology.node_of(given.blueprint)
        if node is None:
            ports = self._node.declaration.inboxes if kind is Inbox else self._node.declaration.outboxes
            names = ", ".join(f"h.component.{name}" for name in ports) or "it has none"
            raise UsageError(
                f"{self._node.name}: {method}() takes an {kind.__name__.lower()} of the component ({names}), not {port!r}"
            )
        if not self._is_wired:
            self.start()
        nodes = self._process.plan.nodes
        if kind is Inbox:
            return nodes[node.name].reads[port.name]
        return nodes[node.name].feeds[port.name][0]

    def _messages_in(self, channel: Channel) -> list[Any]:
        journal = self._process.runtime.journal
        with journal.turnstile, journal.lock:
            channel.gather_locked()
            entries = [entry for queue in channel.queues for entry in queue]
        return [message_of(entry) for entry in sorted(entries, key=lambda entry: entry[1])]

    def _methods(self) -> list[str]:
        declared = self._node.declaration
        return [
            *declared.handlers.values(),
            *declared.schedules,
            *(["run"] if declared.has_run else []),
            "on_start",
            "on_stop",
        ]


C_used = TypeVar("C_used", bound=Component)


class _Probe(Probe):
    """Sees what the component does, and ends the process where the test has asked for it."""

    log_level = logging.DEBUG

    def __init__(self, of: Harness[Any]) -> None:
        self._of = weakref.proxy(of)
        self._name = of._node.name
        self.has_crashed_in = ""

    def refuse(self, error: MinionsError) -> None:
        self._of.raised.append(error)
        raise error

    def goes_round(self, life: SimulatedLife) -> None:
        self._of._world.count_round(life)

    def around(self, life: SimulatedLife, where: str, message: Any, run: Callable[[], Any]) -> Any:
        try:
            result = run()
        except NO_FAILURES:
            raise
        except BaseException as error:  # to the runtime an exit is a failure like any other
            if life._called != where:
                self._of.raised.append(error)
            raise
        if life.name.partition("#")[0] == self._name:
            self._crash_if_asked(where)
        return result

    def _crash_if_asked(self, where: str) -> None:
        of = self._of
        if of._crash_in is None or of._crash_in[0] != where:
            return
        name, nth = of._crash_in
        of._crash_in = (name, nth - 1) if nth > 1 else None
        if nth > 1:
            return
        of._is_dying = True
        self.has_crashed_in = where
        while True:  # until the driver drops it
            of._world.halt()

    def unit_is_whole(self, unit: Unit, fence: Fence) -> None:
        if fence.component.partition("#")[0] != self._name:
            return
        durable = any(entry[0].codec is not None for entry in unit.settles)
        if durable or unit.states or unit.keyed or any(stored is not None for _, _, stored, _ in unit.sends):
            self._of.commits += 1

    def after_unit(self, unit: Unit, fence: Fence) -> None:
        self._of._world.pause()  # the writer goes first

    def on_event(self, event: Event) -> None:
        self._of.told.append(event)

    def on_log(self, record: logging.LogRecord) -> None:
        log = logging.getLogger("minions.harness")
        if log.isEnabledFor(record.levelno):
            log.handle(record)


class _Caller:
    """Who calls the component: the test."""

    name = "the test"

    def __init__(self, of: Harness[Any]) -> None:
        self._of = of

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any:
        return self._of._answer_of(self.submit_call(queue, method, arguments, keywords), method)

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]:
        future: Future[Any] = self._of._alive().outsider.submit_call(queue, method, arguments, keywords)
        return future


def _let_go(running: dict[str, Process], ident: int) -> None:
    process = running.pop("process", None)
    if process is not None and threading.get_ident() == ident:
        process.close()

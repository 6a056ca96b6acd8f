"""`running`: a system with real threads for as long as a test needs it, and nothing unexpected goes unseen.

No thread of its own. What the system tells comes in on the observer's thread; everything else belongs to the thread of the test.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from minions import events
from minions.errors import UsageError
from minions.life.lifecycle import Phase
from minions.life.runtime import Runtime
from minions.life.status import ComponentStatus
from minions.life.traces import stack_of
from minions.model import checks
from minions.model.component import Component
from minions.model.limits import Watchdog
from minions.model.ports import Inbox
from minions.system import System
from minions.testing.arguments import names, path, patience, refuse
from minions.testing.clock import FakeClock, RealClock
from minions.testing.feeder import Feeder
from minions.testing.looking import HIDES, hidden_states, indented, last_events, line_of, look_at
from minions.testing.sleepers import PATIENCE_S, WatchedThreads, is_of_another
from minions.testing.story import clipped

__all__ = ["Running", "running"]

E = TypeVar("E", bound=events.Event)
T = TypeVar("T")
V = TypeVar("V")


def running(
    system: System,
    *,
    clock: FakeClock | None = None,
    folder: str | Path | None = None,
    forever: bool = True,
    until_up: bool = True,
    timeout_s: float = PATIENCE_S,
    watchdog: Watchdog | None = None,
    stop_timeout_s: float | None = None,
    control: bool = False,
    expect_failures: int | None = 0,
    expect_dead_letters: int | None = 0,
    expect_zombies: int | None = 0,
    expect_problems: int | None = 0,
) -> Running:
    """Runs a system inside a test: ``with running(system) as run:``.

    The system is up when the block begins, and is stopped in order when it ends. The test then fails if anything has happened
    that it did not expect: a component has failed, a message was set aside, a thread was abandoned, or one is alive that was not
    there before. It says what, with stacks and the last events.

    Where a number is expected, exactly so many have to come; None stands for any number.

    Args:
        system: that is declared, and does not run.
        clock: its time; by default that of the machine.
        folder: where its state is kept, also afterwards; by default a temporary folder, which is there for as long as the object
            that the block is given. The system keeps that folder in the place of its own.
        forever: stay when nothing can happen any more.
        until_up: whether the block begins only when every component has started.
        timeout_s: how long to wait for the start, for the end, and in the methods where nothing else is said; in real seconds.
        watchdog: in the place of the system's own.
        stop_timeout_s: likewise.
        control: whether there is a control socket.
        expect_failures: how often a component fails: each try of a message counts, and what `after_commit` or `on_interrupt`
            raises.
        expect_dead_letters: how many messages are set aside, whether they are kept or not.
        expect_zombies: how many threads are abandoned. They have to have ended at the end of the block all the same.
        expect_problems: how many problems the system names when it has ended, as where it has given a component up.

    Raises:
        UsageError: the system runs already, or the arguments do not fit.
        TopologyError, ConfigurationError, StoreError, CannotDecode: when the block is entered; see `System.started`.
        AssertionError: at the end of the block: something has happened that was not expected. An error that the test has raised
            itself goes before, and bears that as a note.
    """
    given: object = system
    if not isinstance(given, System):
        raise UsageError(f"running() takes a System, not {given!r}")
    time_of: object = clock
    if not isinstance(time_of, FakeClock | None):
        raise UsageError(
            f"running({system.name!r}): clock={clock!r} must be a FakeClock(), or None for the machine's time"
        )
    refuse(
        f"running({system.name!r})",
        path("folder", "" if folder is None else folder, "the folder of its state"),
        checks.switch("forever", forever),
        checks.switch("until_up", until_up),
        patience("timeout_s", timeout_s),
        checks.kind("watchdog", Watchdog() if watchdog is None else watchdog, Watchdog, "Watchdog(enabled=False)"),
        _time_to_stop(stop_timeout_s),
        checks.switch("control", control),
        _expected("failures", expect_failures),
        _expected("dead_letters", expect_dead_letters),
        _expected("zombies", expect_zombies),
        _expected("problems", expect_problems),
    )
    instead = {"watchdog": watchdog, "stop_timeout_s": stop_timeout_s}
    return Running(
        system,
        clock if clock is not None else RealClock(),
        None if folder is None else Path(folder),
        forever=forever,
        until_up=until_up,
        timeout_s=timeout_s,
        settings={"control": control, **{name: value for name, value in instead.items() if value is not None}},
        expected={
            "failure": expect_failures,
            "dead letter": expect_dead_letters,
            "zombie": expect_zombies,
            "problem": expect_problems,
        },
    )


class Running:
    """A system that runs for a test; see `running`. For one block. Its methods are for the thread of the test.

    Attributes:
        system: that runs.
        clock: its time.
        folder: where its state is kept; None before the block.
        report: what there was to be seen when the block was left with an error; empty otherwise.
    """

    def __init__(
        self,
        system: System,
        clock: FakeClock | RealClock,
        folder: Path | None,
        *,
        forever: bool,
        until_up: bool,
        timeout_s: float,
        settings: dict[str, Any],
        expected: dict[str, int | None],
    ) -> None:
        self.system = system
        self.clock = clock
        self.folder = folder
        self.report = ""
        self._forever = forever
        self._until_up = until_up
        self._timeout_s = timeout_s
        self._settings = settings
        self._expected = expected
        self._told: list[events.Event] = []  # appended to by the observer's thread only
        self._runtime: Runtime | None = None
        self._before: set[threading.Thread] = set()
        self._threads = WatchedThreads(clock)

    # ------------------------------------------------------------------ the block
    def __enter__(self) -> Running:
        if self._runtime is not None:
            raise UsageError(
                f"running({self.system.name!r}): this block was entered before; call running(...) once for each"
            )
        if self.system._running is not None:
            raise UsageError(
                f"running({self.system.name!r}): the system runs already: end that block first, or make another system"
            )
        if hidden := hidden_states(self.system):
            raise UsageError(f"running({self.system.name!r}): {hidden[0]} {HIDES}")
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="minions-test-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._before = set(threading.enumerate())
        self._threads.is_open = True
        self.system.folder = self.folder
        self.system._clock = self.clock
        runtime = self._runtime = self.system._make(
            self._forever, threads=self._threads, watcher=self._watch, **self._settings
        )
        runtime.start(self.clock.happened)
        if self._until_up:
            try:
                self.until(lambda: self.seen(events.SystemStarted) or runtime.is_over)
            except BaseException as error:  # whatever it is, the system is stopped; it is raised on
                self.__exit__(type(error), error, error.__traceback__)
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self.report = self.look()
        wrong = [*self._end(), *self._unexpected()]
        if not wrong:
            return
        text = f"{self.system.name}: " + "\n".join(wrong) + "\n" + last_events(self.told)
        if error is not None:
            error.add_note(text)
            return
        self.report = self.report or self.look()
        raise AssertionError(text)

    @property
    def runtime(self) -> Runtime:
        """The run of the system, for tests of the runtime itself.

        Raises:
            UsageError: the block was not entered.
        """
        if self._runtime is None:
            raise UsageError(f"running({self.system.name!r}): enter the block first: `with running(system) as run:`")
        return self._runtime

    # ------------------------------------------------------------------ waiting
    def until(self, predicate: Callable[[], V], *, timeout_s: float | None = None) -> V:
        """Blocks until `predicate` answers something true, and returns that. Nobody asks it again and again: see below.

        It is asked on this thread: now, and whenever a thread of the system has gone to sleep or ended, or an event was told.
        It must not wake a component or the supervisor (`system.status()` does, `status()` here does not).

        Raises:
            TimeoutError: it did not come to that within so many real seconds; with what there is to be seen.
        """
        try:
            return self.clock.until(predicate, timeout_s=self._patience_s(timeout_s))
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.look()}") from None

    def wait_for(self, kind: type[E], count: int = 1, *, timeout_s: float | None = None) -> list[E]:
        """Blocks until so many events of a kind were told, and returns all of them.

        Raises:
            UsageError: that is no class of events, or the other arguments do not fit.
            TimeoutError: there were fewer within so many real seconds.
        """
        refuse(f"{self.system.name}: wait_for()", checks.whole_number("count", count, 0))
        self.until(lambda: len(self.seen(kind)) >= count, timeout_s=timeout_s)
        return self.seen(kind)

    def until_idle(self, *, besides: Collection[str] = (), timeout_s: float | None = None) -> None:
        """Blocks until nothing more happens by itself: every thread sleeps, no message or call waits, nobody is to come back.

        A schedule, or a component that sleeps, does not keep it from that. A message whose retry is still to come does, and so
        does a component that waits to be started again.

        Args:
            besides: the names of components whose threads need not sleep: those that wait for something outside.
            timeout_s: how long to wait for that, in real seconds.

        Raises:
            UsageError: there is no component of such a name, or that is no time to wait.
            TimeoutError: it did not come to that; with what there is to be seen.
        """
        self._refuse_strangers("until_idle", besides)
        self.until(
            lambda: self.clock.is_settled(besides=besides) and (self._is_idle() or self.runtime.is_over),
            timeout_s=timeout_s,
        )

    def settle(self, *, besides: Collection[str] = (), timeout_s: float | None = None) -> None:
        """Blocks until every thread of the system sleeps; see `FakeClock.settle`.

        Raises:
            UsageError: there is no component of such a name, or that is no time to wait.
            TimeoutError: somebody is still at work.
        """
        self._refuse_strangers("settle", besides)
        self.clock.settle(besides=besides, timeout_s=self._patience_s(timeout_s))

    def until_over(self, *, timeout_s: float | None = None) -> events.SystemStopped:
        """Blocks until the system has ended by itself or was stopped, and returns how.

        Raises:
            TimeoutError: it runs.
        """
        runtime = self.runtime
        self.until(lambda: runtime.is_over, timeout_s=timeout_s)
        assert runtime.stopped is not None
        return runtime.stopped

    def stop(self) -> events.SystemStopped:
        """Stops the system in order, and blocks until it has ended. The end of the block does the same.

        Where time stands still, it moves on as far as the stop needs it.

        Raises:
            AssertionError: it has not ended in time.
        """
        if late := self._end():
            raise AssertionError(f"{self.system.name}: {late[0]}")
        stopped = self.runtime.stopped
        assert stopped is not None
        return stopped

    # ------------------------------------------------------------------ acting and looking
    def send(self, inbox: Inbox[T], *messages: T) -> None:
        """Sends messages to an inbox, each as a unit of work of its own: ``run.send(average.readings, Reading(1.0))``.

        Args:
            inbox: of a component that was added.
            messages: of its class.

        Raises:
            UsageError: that is no inbox of a component of the system; or the system has ended.
            MessageRefused: a message is of another class; those before it are sent.
            TimeoutError: there is no room.
        """
        given: object = inbox
        node = None
        if isinstance(given, Inbox) and given.blueprint is not None:
            node = self.system._topology.node_of(given.blueprint)
        if node is None:
            raise UsageError(
                f"{self.system.name}: send() takes first an inbox of a component that was added, such as average.readings, "
                f"not {inbox!r}"
            )
        runtime = self.runtime
        if runtime.is_over:
            raise UsageError(
                f"{self.system.name} has ended: nobody would ever see what is sent to {node.name}.{inbox.name}"
            )
        feeder = Feeder(runtime.journal, runtime.plan.nodes[node.name].reads[inbox.name], inbox)
        for message in messages:
            unit = feeder.unit(message)
            try:
                self.clock.until(partial(feeder.offer, unit), timeout_s=self._timeout_s)
            except TimeoutError:
                raise TimeoutError(feeder.full(f" after {self._timeout_s:g} real seconds")) from None

    @property
    def told(self) -> tuple[events.Event, ...]:
        """All that the system has told so far, in order."""
        return tuple(self._told)

    def seen(self, kind: type[E]) -> list[E]:
        """The events of a kind that the system has told so far.

        Raises:
            UsageError: that is no class of events: it would be waited for in vain.
        """
        given: object = kind
        if not (isinstance(given, type) and issubclass(given, events.Event)):
            raise UsageError(f"{self.system.name}: {kind!r} is no class of events, such as events.ComponentFailed")
        return [event for event in self.told if isinstance(event, kind)]

    def status(self, component: Component | str | None = None) -> tuple[ComponentStatus, ...]:
        """Where each thread of a component is in its lifecycle, of one component or of all; wakes nobody.

        Exact while everybody sleeps (`settle`, `until_idle`), and may be late otherwise.
        """
        found = self.runtime.statuses_seen(self.clock.monotonic())
        if component is None:
            return found
        name = self.system._node_named(component).name
        return tuple(status for status in found if status.name.partition("#")[0] == name)

    def look(self) -> str:
        """What there is to be seen, for people: each component with what it is at, each inbox, the last events."""
        runtime = self._runtime
        if runtime is None:
            return f"{self.system.name} was not started"
        parts = [look_at(runtime, self.clock.monotonic())]
        if isinstance(self.clock, FakeClock) and (moments := self.clock.waits()):
            parts.append(f"time stands still; the next moment that somebody waits for comes in {moments[0]:.3g} s")
        return "\n".join([*parts, last_events(self.told)])

    # ------------------------------------------------------------------ the end
    def _end(self) -> list[str]:
        """Stops the system; returns what was wrong with that."""
        runtime, clock = self.runtime, self.clock
        stop_timeout_s = runtime._options.stop_timeout_s
        patience_s = self._timeout_s + (0.0 if isinstance(clock, FakeClock) else stop_timeout_s)
        late: list[str] = []
        if self._expected["zombie"] != 0:  # those that a test has just let go
            with suppress(TimeoutError):
                clock.until(lambda: not clock.has_left_behind(), timeout_s=self._timeout_s)
        runtime.stop("stopped")
        try:
            self._until_over(patience_s)
        except TimeoutError:
            late.append(f"it had not stopped {patience_s:g} real seconds after it was asked to\n{self.look()}")
            if isinstance(clock, FakeClock):
                clock.jump(stop_timeout_s)  # so that what hangs is abandoned
                with suppress(TimeoutError):
                    self._until_over(patience_s)
        self.system._close_control()
        self.system._watcher = None
        return late

    def _until_over(self, timeout_s: float) -> None:
        """Blocks until the system has ended. Where time stands still, it goes on while everybody sleeps."""
        runtime, clock = self.runtime, self.clock
        if not isinstance(clock, FakeClock):
            clock.until(lambda: runtime.is_over, timeout_s=timeout_s)
            return
        while not runtime.is_over:
            clock.until(lambda: runtime.is_over or (clock.is_settled() and clock.waits()), timeout_s=timeout_s)
            if not runtime.is_over:
                clock.jump(clock.waits()[0])

    def _unexpected(self) -> Iterable[str]:
        """What has happened that the test did not expect."""
        told = self.told
        failures = [event for event in told if isinstance(event, (events.ComponentFailed, events.AfterCommitFailed))]
        stopped = self.runtime.stopped
        for what, found in (
            ("failure", [f"{line_of(event)}\n{indented(event.traceback)}" for event in failures]),
            ("dead letter", [line_of(event) for event in told if isinstance(event, events.MessageSetAside)]),
            (
                "zombie",
                [
                    f"{event.component}, life {event.epoch}, was abandoned\n{indented(event.stack)}"
                    for event in told
                    if isinstance(event, events.ComponentAbandoned)
                ],
            ),
            ("problem", [] if stopped is None else [clipped(problem) for problem in stopped.problems]),
        ):
            expected = self._expected[what]
            if expected is not None and len(found) != expected:
                lines = "".join(f"\n  {line.rstrip()}" for line in found)
                yield f"{len(found)} {_plural(what, len(found))}, expected {expected}{lines}"
        not_told = sum(
            event.dropped for event in told if isinstance(event, events.EventsDropped) and event.readers == "logs"
        )
        if (not_told or not self.runtime.has_told_all) and any(count is not None for count in self._expected.values()):
            yield (
                f"{not_told or 'the last'} events were not told, because more happened than could be: nobody knows what was "
                "among them, unless everything is expected (None)"
            )
        yield from (f"{hidden} {HIDES}" for hidden in hidden_states(self.system))
        yield from self._leaked()

    def _leaked(self) -> Iterable[str]:
        give_up_s = time.monotonic() + self._timeout_s
        self._threads.is_open = False
        for thread in set(threading.enumerate()) - self._before:
            if is_of_another(thread, self._threads):
                continue  # which looks for its threads itself
            if not isinstance(thread, threading._DummyThread):  # which is none of Python's, and cannot be waited for
                # One that just begins cannot be joined yet.
                thread._started.wait(max(0.0, give_up_s - time.monotonic()))  # type: ignore[attr-defined]
                thread.join(max(0.0, give_up_s - time.monotonic()))
            if thread.is_alive():
                yield f"thread {thread.name} is left\n{indented(stack_of(thread.ident))}".rstrip()

    # ------------------------------------------------------------------ within
    def _watch(self, event: events.Event) -> None:
        """On the observer's thread."""
        self._told.append(event)
        if isinstance(event, events.ComponentAbandoned):
            self.clock.leave_behind(f"{self.system.name}/{event.component}")
        self.clock.happened()

    def _refuse_strangers(self, method: str, besides: Collection[str]) -> None:
        where = f"{self.system.name}: {method}()"
        refuse(where, names("besides", besides))
        plans = self.runtime.plan.nodes
        if unknown := sorted(set(besides).difference(plans, *(plan.node.lives() for plan in plans.values()))):
            raise UsageError(
                f"{where}: besides={besides!r}: there is no component {', '.join(unknown)}; there are {', '.join(plans)}"
            )

    def _patience_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _is_idle(self) -> bool:
        """Whether nothing waits and nobody is to come back; exact while everybody sleeps."""
        runtime = self.runtime
        up = []
        for status in runtime.statuses_seen(self.clock.monotonic()):
            if status.phase in (Phase.WAITING, Phase.STARTING, Phase.BACKOFF, Phase.STOPPING):
                return False
            if not status.phase.has_ended:
                up.append(status.name)
        plans = runtime.plan.nodes
        readers = {name for name, plan in plans.items() if plan.node.declaration.has_run and plan.reads}
        loops = [
            life.mailbox
            for life in runtime.lives()
            if life.name in up and life.name.partition("#")[0] in readers and not life.fence.held
        ]
        calls = [plan.calls for plan in plans.values() if plan.calls is not None]
        return runtime.journal.quiet(runtime.plan.channels.values(), loops, up, calls)


def _expected(what: str, count: object) -> Iterator[str]:
    if count is not None and (type(count) is not int or count < 0):
        yield f"expect_{what}={count!r} must be a whole number from 0 up, or None"


def _time_to_stop(seconds: object) -> Iterator[str]:
    if seconds is not None:
        yield from checks.number(
            "stop_timeout_s", seconds, "a finite number of seconds, more than 0", most=threading.TIMEOUT_MAX, above=True
        )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"

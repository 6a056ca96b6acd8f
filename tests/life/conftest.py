"""Helpers for tests of running components: a run with its events in hand, and gates that hold a thread where it is."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import attrs
import pytest

from minions import System, Watchdog, events, testing
from minions.clock import Clock, SystemClock
from minions.flow import rows
from minions.flow.os_threads import OS_THREADS
from minions.flow.store import Store, read_rows
from minions.life.options import Options
from minions.life.runtime import Runtime
from minions.testing import FakeClock
from minions.testing.clock import RealClock
from tests.ending import no_thread_is_left

PATIENCE_S = 20.0
"""Only a test that fails waits so long."""

E = TypeVar("E", bound=events.Event)


@attrs.frozen
class Number:
    """A message that cannot change."""

    value: int


@attrs.define
class Parcel:
    """A message that can change."""

    items: list[int] = attrs.Factory(list)


class Gate:
    """Where a thread of a component is held until the test lets it through."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()

    def pass_through(self) -> None:
        """In the component: says that it is here, and waits."""
        self._reached.release()
        assert self._open.wait(PATIENCE_S), "nobody opened the gate"

    def wait_reached(self) -> None:
        """In the test: blocks until the component is here, once more."""
        assert self._reached.acquire(timeout=PATIENCE_S), "nobody came to the gate"

    def open(self) -> None:
        """In the test: lets everybody through, from now on."""
        self._open.set()

    def close(self) -> None:
        """Before a test: holds who comes from now on; who came before is not counted."""
        self._reached, self._open = threading.Semaphore(0), threading.Event()


class Log:
    """What happened, in order, told by any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: list[Any] = []

    def add(self, entry: Any) -> None:
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def wait_for(self, predicate: Callable[[list[Any]], Any]) -> list[Any]:
        """Blocks until the entries are as wished, and returns them."""
        with self._changed:
            assert self._changed.wait_for(lambda: predicate(self._entries), PATIENCE_S), self._entries
            return list(self._entries)

    def clear(self) -> None:
        with self._changed:
            self._entries.clear()

    def wait_for_count(self, count: int) -> list[Any]:
        return self.wait_for(lambda entries: len(entries) >= count)

    @property
    def entries(self) -> list[Any]:
        with self._changed:
            return list(self._entries)


class Running:
    """One run of a system, and everything that it has told."""

    def __init__(self, system: System, clock: Clock | None, *, watched: bool = False, **options: Any) -> None:
        """Args:
        clock: the time; by default the machine's.
        watched: whether the clock knows who sleeps. Then it waits for all when it advances.
        options: see `Options`.
        """
        self.system = system
        self.clock = RealClock() if clock is None and watched else clock
        self.told = Log()
        self.components = [node.name for node in system._topology.nodes]
        if clock is not None:  # its ticks are no part of the time that such a test lets pass
            options.setdefault("watchdog", Watchdog(enabled=False))
        self.runtime = Runtime(
            system.name,
            system._topology,
            system._plan(),
            Options(**{"folder": system.folder, "forever": True, **options}),
            self.clock or SystemClock(),
            self.told.add,
            threads=self.clock.threads if watched and isinstance(self.clock, (FakeClock, RealClock)) else OS_THREADS,
        )
        system._runtime = self.runtime  # so that states are read as of the last whole unit
        try:
            self.runtime.start()
        except BaseException:
            system._runtime = None
            raise

    def wait_for(self, kind: type[E], count: int = 1) -> list[E]:
        """Blocks until there were so many events of a kind, and returns them."""
        self.told.wait_for(lambda told: sum(isinstance(event, kind) for event in told) >= count)
        return self.all(kind)

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.told.entries if isinstance(event, kind)]

    def up(self) -> Running:
        assert self.runtime.wait_until_up(), self.told.entries
        return self

    def wait_until_quiet(self) -> None:
        assert self.runtime.wait_until_quiet(PATIENCE_S), self.told.entries

    def reach(self) -> None:
        assert self.runtime.reach(PATIENCE_S)

    def ended(self) -> events.SystemStopped:
        """Blocks until all is over."""
        [stopped] = self.wait_for(events.SystemStopped)
        self.runtime.end()
        self.system._runtime = None
        return stopped

    def end_by_force(self) -> None:
        """After a test that failed: also where time stands still."""
        self.runtime.stop("stopped")
        for _ in range(2):
            self.reach()
            if isinstance(self.clock, FakeClock):
                self.clock.jump(seconds=1_000.0)
        self.runtime.end()

    def stop(self, reason: str = "stopped") -> events.SystemStopped:
        """Stops in order and blocks until all is over."""
        self.runtime.stop(reason)
        return self.ended()


def in_virtual_time(system: System, clock: FakeClock, **options: Any) -> testing.Running:
    """A system that runs in its own folder for a block, without a watchdog, whose ticks would be moments of time too."""
    options.setdefault("watchdog", Watchdog(enabled=False))
    return testing.running(system, clock=clock, folder=system.folder, **options)


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts systems, and stops at the end what still runs."""
    runs: list[Running] = []

    def begin(system: System, *, clock: Clock | None = None, **options: Any) -> Running:
        run = Running(system, clock, **options)
        runs.append(run)
        return run

    yield begin
    for run in runs:
        if run.runtime.stopped is None:
            run.end_by_force()


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System("test", folder=tmp_path / "state")


@pytest.fixture
def new_system(tmp_path: Path) -> Callable[[], System]:
    """Systems on one folder, as a program makes them each time that it is started."""
    return lambda: System("test", folder=tmp_path / "state")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left(PATIENCE_S):
        yield


class Commits:
    """The disk, held until the test lets it write."""

    def __init__(self) -> None:
        self._permits = threading.Semaphore(0)
        self._reached = threading.Semaphore(0)
        self._open = threading.Event()
        self.error: Exception | None = None

    def pass_through(self) -> None:
        self._reached.release()
        if not self._open.is_set():
            assert self._permits.acquire(timeout=PATIENCE_S), "nobody lets the writer write"
        if self.error is not None:
            raise self.error

    def wait_reached(self) -> None:
        """Blocks until the writer has one more commit to make."""
        assert self._reached.acquire(timeout=PATIENCE_S), "there is nothing to commit"

    def let_one(self) -> None:
        self._permits.release()

    def open(self) -> None:
        """Lets everything be written, from now on."""
        self._open.set()
        self._permits.release()


Threads = Callable[[Callable[[], Any]], Future[Any]]


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Runs a function on a thread of its own, and gives a future of what comes of it."""
    started: list[threading.Thread] = []

    def begin(function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                future.set_exception(error)

        thread = threading.Thread(target=work, daemon=True)
        started.append(thread)
        thread.start()
        return future

    yield begin
    for thread in started:
        thread.join(PATIENCE_S)


@pytest.fixture
def hurry() -> Iterator[None]:
    """Threads change places at nearly every bytecode."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def keep() -> Iterator[ExitStack]:
    """What is closed when the test is over."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Commits]:
    held, commit = Commits(), Store.commit

    def wait_and_commit(store: Store, *change: Any) -> Any:
        held.pass_through()
        return commit(store, *change)

    monkeypatch.setattr(Store, "commit", wait_and_commit)
    yield held
    held.open()


def dead_letters(folder: Path) -> list[rows.DeadLetter]:
    """What was set aside, as it is on disk."""
    return [rows.DeadLetter.of(key, body) for key, body in read_rows(folder, rows.DEAD)]

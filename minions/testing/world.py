"""A world of one thread: the threads of a runtime as greenlets, its waits as switches, its time as a number.

Who drives it (a test, `simulate`) makes a `World`, hands its `clock` and its `threads` to a runtime, and lets it run::

    world = World()
    runtime = Runtime(..., clock=world.clock, threads=world.threads, storage=MemoryDisk())
    runtime.start()              # blocks for its writer, so the world runs meanwhile
    world.settle()               # runs until nobody can go on without time moving; time stands still
    world.advance(seconds=60)    # lets time pass: whatever is due on the way happens in its order
    world.run()                  # runs, and moves time whenever nobody can go on, until nothing is left to happen
    world.end()                  # drops all threads, as the death of the process does

`minions.testing.process.Process` does the first two lines for a whole system. What the driver calls of a running system
(`system.call(...)`, `system.status()`, `runtime.reach()`) works as usual: where it would block, the world runs until it need not
block any more; where that can never be, it is refused with a list of who waits for what.

One thread of the operating system does everything, so there is no lock. Threads are switched where they wait, and where somebody
calls `pause`; `pick` decides who goes on. Nothing else decides anything: the same picks make the same run.
"""

from __future__ import annotations

import heapq
import math
import signal
import threading
from collections.abc import Callable, Sequence
from itertools import count
from types import FrameType
from typing import Any

from minions.clock import Parkable
from minions.errors import UsageError
from minions.threads import Thread

__all__ = ["Dropped", "SimulatedClock", "SimulatedThread", "SimulatedThreads", "World", "hearing_interrupts"]

Pick = Callable[[Sequence["SimulatedThread"]], int]

_MOST_REFUSALS = 100
"""How often a dropped thread may come back for more before it is left where it is."""

_left: list[object] = []  # greenlets that cannot be ended: to free one would be to run it once more


class Dropped(BaseException):
    """Raised in a thread of a world that has ended: its process is dead, and whatever it still does has no effect."""


class World:
    """Threads that take turns, and the time that they see. To be driven by the thread that made it.

    Attributes:
        clock: a `minions.clock.Clock`; its time moves as said at each method.
        threads: a `minions.threads.Threads`.
        now_s: the time, monotonic seconds.
        current: who has the turn; None while the driver has.
        pick: which of those who may go on has the next turn; asked only where there are several.
        turns: how many turns there were.
        over: whether it has ended.
        on_idle: called by `run` when nobody can go on, before time moves.
    """

    def __init__(
        self,
        pick: Pick | None = None,
        *,
        monotonic_s: float = 1_000.0,
        wall_s: float = 1_700_000_000.0,
    ) -> None:
        """Nobody is there yet.

        Args:
            pick: see above; by default whoever has waited longest.
            monotonic_s: what its clock begins with.
            wall_s: likewise, seconds since the epoch (UTC).

        Raises:
            UsageError: the library greenlet is not installed.
        """
        self._make, self._running = _greenlets()
        self._hub = self._running()
        self.os_ident = threading.get_ident()
        self.pick: Pick = pick if pick is not None else lambda ready: 0
        self.now_s = monotonic_s
        self.wall_ahead_s = wall_s - monotonic_s
        self.clock = SimulatedClock(self)
        self.threads = SimulatedThreads(self)
        self.current: SimulatedThread | None = None
        self.turns = 0
        self.over = False
        self.on_idle: Callable[[], None] = lambda: None
        self._halted = False
        self._until: Callable[[], bool] | None = None  # what `run` was given
        self._interrupted = False  # by Ctrl-C, while a thread had the turn
        self._idents = count(1)
        self._orders = count()
        self._ready: list[SimulatedThread] = []
        self._alive: dict[SimulatedThread, None] = {}  # in the order of their start
        # A heap of who waits until when, and on what; an entry is void where its number is not the thread's any more.
        self._timers: list[tuple[float, int, int, SimulatedThread, SimulatedParker]] = []

    # ------------------------------------------------------------------ the driver's side
    def run(self, until: Callable[[], bool] | None = None, *, until_s: float = math.inf) -> bool:
        """Lets the threads run, and moves time to the next moment that somebody waits for whenever nobody can go on.

        Args:
            until: looked at between two turns.
            until_s: the moment beyond which time does not move.

        Returns:
            Whether it was ended by `until` or `halt`; otherwise nobody can go on.

        Raises:
            UsageError: the caller is not who made the world.
            KeyboardInterrupt: there was a Ctrl-C. No thread meets it, which would take it for a failure of its own; a second one
                comes where the first finds no end.
            BaseException: what came out of a thread.
        """
        if self._running() is not self._hub:
            raise UsageError("a World is driven by the thread that made it, and not by one of its own")
        self._halted = False
        with hearing_interrupts():
            if self.os_ident != _ears.os_ident:
                return self._take_turns(until, until_s)
            before, _ears.world = _ears.world, self
            try:
                return self._take_turns(until, until_s)
            finally:
                _ears.world = before

    def _take_turns(self, until: Callable[[], bool] | None, until_s: float) -> bool:
        ready = self._ready
        outer, self._until = self._until, until
        try:
            while not self._stops():
                if not ready:
                    self.on_idle()
                    if not (ready or self._stops() or self._move_time(until_s)):
                        return False
                    continue
                thread = self._picked()
                if thread is not None:
                    self.current = thread
                    try:
                        thread.greenlet.switch()
                    finally:
                        self.current = None
                if self._interrupted:
                    self._interrupted = False
                    raise KeyboardInterrupt
            return True
        finally:
            self._until = outer

    def interrupt(self) -> bool:
        """Has the driver raise KeyboardInterrupt between two turns. By a signal handler, while the world runs.

        Returns:
            Whether it will: otherwise no thread has the turn, or the one that has it had finds no end.
        """
        # Where nobody has the turn and the driver does not run, a thread gives its own to the next one.
        if self._interrupted or (self.current is None and self._running() is self._hub):
            return False
        self._interrupted = self._halted = True
        return True

    def settle(self) -> None:
        """Lets the threads run until nobody can go on. Time stands still."""
        self.run(until_s=self.now_s)

    def advance(self, seconds: float) -> None:
        """Lets time pass. Whatever is due on the way is done at its moment.

        Raises:
            ValueError: time does not go back, nor to infinity.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"advance(seconds={seconds!r}): time moves on only")
        target_s = self.now_s + seconds
        self.run(until_s=target_s)
        self.now_s = target_s

    def end(self) -> None:
        """Drops every thread. In each that has begun, `Dropped` is raised where it waits; what it does then has no effect here.

        A thread that goes on all the same is left where it is, for good.

        Raises:
            KeyboardInterrupt: there was a Ctrl-C; raised when all are dropped, because what comes out of the dead is not heard.
        """
        self.over = True
        self._halted = True
        self._ready.clear()
        self._timers.clear()
        with hearing_interrupts():
            before, hears = _ears.world, threading.get_ident() == _ears.os_ident
            if hears:
                _ears.world = self
            try:
                for thread in list(self._alive):
                    self.current = thread
                    thread.drop()
            finally:
                self.current = None
                if hears:
                    _ears.world = before
        self._alive.clear()
        if self._interrupted:
            self._interrupted = False
            if before is None or not before.interrupt():  # in one of whose threads garbage was collected
                raise KeyboardInterrupt

    def waiting(self) -> tuple[str, ...]:
        """Who is there and until when each waits, for people."""
        until = {thread: moment for moment, _, number, thread, _ in self._timers if number == thread.waits}
        return tuple(
            f"{thread.name} waits"
            + (f" for {until[thread] - self.now_s:g} s at most" if thread in until else " without a deadline")
            for thread in self._alive
            if thread not in self._ready
        )

    # ------------------------------------------------------------------ on the threads
    def pause(self) -> None:
        """Lets others go first. By the driver it does nothing."""
        thread = self.current
        if self.over:
            self._refuse(thread)
        if thread is not None and self._ready:
            self._ready.append(thread)
            self._pass_on()

    def halt(self) -> None:
        """Gives the driver the turn, at once; a thread that calls it goes on when the driver lets the world run again."""
        self._halted = True
        thread = self.current
        if thread is not None and not self.over:
            self._ready.append(thread)
            self._hub.switch()

    def halt_next(self) -> None:
        """Gives the driver the turn as soon as the thread that has it waits or ends."""
        self._halted = True

    def sleep(self, seconds: float) -> None:
        """Keeps the calling thread from going on for that time, whatever wakes it."""
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.park(SimulatedParker(self), until_s)

    def park(self, parker: SimulatedParker, deadline_s: float | None) -> None:
        """Waits for a wake-up until that moment at most. Others may go first, also where it need not wait."""
        thread = self.current
        if self.over:
            self._refuse(thread)
        if thread is None:
            self._park_driver(parker, deadline_s)
            return
        if self._ready:
            self._ready.append(thread)
            self._pass_on()
        if parker.permit:
            parker.permit = False
            return
        if deadline_s is not None:
            if deadline_s <= self.now_s:
                return
            heapq.heappush(self._timers, (deadline_s, next(self._orders), thread.waits, thread, parker))
        parker.waiter = thread
        self._pass_on()

    def wake(self, thread: SimulatedThread) -> None:
        """Says that a thread that waits may go on."""
        if not self.over:
            thread.waits += 1  # its timer is void
            self._ready.append(thread)

    def begin(self, thread: SimulatedThread) -> int:
        """Takes in a thread, whose first turn is still to come; its number."""
        if self.over:
            raise RuntimeError("the process is dead and starts no thread")
        self._alive[thread] = None
        self._ready.append(thread)
        return next(self._idents)

    def leave(self, thread: SimulatedThread) -> None:
        """Says that a thread has ended."""
        self._alive.pop(thread, None)

    def greenlet(self, run: Callable[[], None]) -> Any:
        """A greenlet that gives its turn back to the driver when it ends."""
        return self._make(run, self._hub)

    # ------------------------------------------------------------------ inside
    def _stops(self) -> bool:
        return self._halted or (self._until is not None and self._until())

    def _picked(self) -> SimulatedThread | None:
        """Takes out of those who may go on the one that has the next turn; None where, asked for that, the driver halts."""
        ready = self._ready
        if len(ready) == 1:
            self.turns += 1
            return ready.pop()
        index = self.pick(ready)
        if self._halted:
            return None
        self.turns += 1
        return ready.pop(index)

    def _pass_on(self) -> None:
        """Gives the turn of the thread that has it to the next one: past the driver, where that has nothing to do in between."""
        me = self.current
        if self._halted or self._until is not None or not self._ready:
            self._hub.switch()
            return
        self.current = None  # `pick` is the driver's
        thread = self._picked()
        self.current = thread
        if thread is None:
            self._hub.switch()
        elif thread is not me:
            thread.greenlet.switch()

    def _move_time(self, until_s: float) -> bool:
        """Moves time to the next moment that somebody waits for; False where there is none that may come."""
        timers = self._timers
        while timers:
            moment_s, _, number, thread, _ = timers[0]
            if number != thread.waits:
                heapq.heappop(timers)
                continue
            if moment_s > until_s:
                break
            self.now_s = max(self.now_s, moment_s)
            while timers and timers[0][0] <= self.now_s:
                _, _, number, thread, parker = heapq.heappop(timers)
                if number == thread.waits:
                    parker.waiter = None
                    self.wake(thread)
            return True
        return False

    def _park_driver(self, parker: SimulatedParker, deadline_s: float | None) -> None:
        self.run(lambda: parker.permit, until_s=math.inf if deadline_s is None else deadline_s)
        if not parker.permit:
            if deadline_s is None:
                raise UsageError(f"this would wait for ever, because nobody can go on: {'; '.join(self.waiting())}")
            self.now_s = max(self.now_s, deadline_s)
        parker.permit = False

    def _refuse(self, thread: SimulatedThread | None) -> None:
        if thread is None:
            raise UsageError("this world has ended: its process is dead")
        thread.refusals += 1
        if thread.refusals > _MOST_REFUSALS:
            self._hub.switch()  # for good
        raise Dropped(f"{thread.name} belongs to a process that is dead")


class hearing_interrupts:  # noqa: N801 - said like a function
    """A block in which Ctrl-C halts the world that runs: no thread of it meets the KeyboardInterrupt. Blocks may be nested.

    Outside of the main thread, and where somebody else has taken the signal, it does nothing.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before: Any = None  # what heard before; None where this block has changed nothing
        if _ears.os_ident or threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, _ears.hear)
            _ears.os_ident = threading.get_ident()

    def __exit__(self, *raised: object) -> None:
        if self._before is not None:
            _ears.os_ident = 0
            signal.signal(signal.SIGINT, self._before)


class _Ears:
    """Who hears of Ctrl-C. Of the main thread only.

    Attributes:
        world: that runs; None while none does.
        os_ident: of the main thread while it hears; otherwise 0.
    """

    def __init__(self) -> None:
        self.world: World | None = None
        self.os_ident = 0

    def hear(self, number: int, frame: FrameType | None) -> None:
        if self.world is None or not self.world.interrupt():
            signal.default_int_handler(number, frame)


_ears = _Ears()


class SimulatedThread:
    """A `minions.threads.Thread` of a world.

    Attributes:
        name: for people.
        greenlet: what runs it; None before it is started, and once it was dropped.
        ident: its number; None before it is started.
        waits: a number that is another one after each wait.
        refusals: how often it wanted to wait although its world has ended.
        locals: what `SimulatedThreads.local` keeps for it, by the identity of what was asked for.
    """

    __slots__ = ("_alive", "_ended", "_target", "_world", "greenlet", "ident", "locals", "name", "refusals", "waits")

    def __init__(self, world: World, target: Callable[[], None], name: str) -> None:
        self._world = world
        self._target: Callable[[], None] | None = target
        self._ended = SimulatedSignal(world)
        self._alive = False
        self.greenlet: Any = None
        self.name = name
        self.ident: int | None = None
        self.waits = 0
        self.refusals = 0
        self.locals: dict[int, dict[str, Any]] = {}

    def start(self) -> None:
        if self.ident is not None:
            raise RuntimeError("threads can only be started once")
        self.ident = self._world.begin(self)
        self.greenlet = self._world.greenlet(self._run)
        self._alive = True

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)

    def is_alive(self) -> bool:
        return self._alive

    def drop(self) -> None:
        """Ends it where it is. By the driver."""
        doomed, self.greenlet, self._target, self._alive = self.greenlet, None, None, False
        if not doomed:  # it was never given a turn, or has ended
            return
        doomed.parent = self._world._running()  # perhaps a thread of another world, in which garbage was collected
        doomed.throw(Dropped(f"{self.name} belongs to a process that is dead"))
        if not doomed.dead:
            _left.append(doomed)

    def _run(self) -> None:
        target, self._target = self._target, None
        assert target is not None
        try:
            target()
        except Dropped:
            if not self._world.over:
                raise
        except BaseException:  # whatever it is: raised on, unless all is over, when what the dead say is not heard
            if not self._world.over:
                raise
        finally:
            del target
            self._alive = False
            if not self._world.over:
                self._world.leave(self)
                self._ended.set()

    def __repr__(self) -> str:
        return f"<simulated thread {self.name}>"


class SimulatedParker:
    """A `minions.clock.Parkable` of a world.

    Attributes:
        permit: whether a wake-up is kept for the next wait.
        waiter: who waits.
    """

    __slots__ = ("_world", "permit", "waiter")

    def __init__(self, world: World) -> None:
        self._world = world
        self.permit = False
        self.waiter: SimulatedThread | None = None

    def park(self, timeout_s: float | None) -> None:
        world = self._world
        world.park(self, None if timeout_s is None else world.now_s + timeout_s)

    def unpark(self) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is None:
            self.permit = True
        else:
            self._world.wake(waiter)


class SimulatedSignal:
    """A `minions.threads.Signal` of a world."""

    __slots__ = ("_set", "_waiters", "_world")

    def __init__(self, world: World) -> None:
        self._world = world
        self._set = False
        self._waiters: list[SimulatedParker] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.unpark()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        world = self._world
        until_s = None if timeout is None else world.now_s + timeout
        while not self._set and (until_s is None or world.now_s < until_s):
            parker = SimulatedParker(world)
            self._waiters.append(parker)
            world.park(parker, until_s)
        return self._set


class SimulatedClock:
    """A `minions.clock.Clock` of a world."""

    __slots__ = ("_world",)

    def __init__(self, world: World) -> None:
        self._world = world

    def monotonic(self) -> float:
        return self._world.now_s

    def wall(self) -> float:
        return self._world.now_s + self._world.wall_ahead_s

    def wait(self, parkable: Parkable, deadline_s: float | None) -> None:
        assert isinstance(parkable, SimulatedParker), "a thread of a world waits on what the world has made"
        self._world.park(parkable, deadline_s)


class SimulatedThreads:
    """A `minions.threads.Threads` of a world."""

    __slots__ = ("_world",)

    def __init__(self, world: World) -> None:
        self._world = world

    def get_ident(self) -> int:
        world = self._world
        os_ident = threading.get_ident()
        if os_ident != world.os_ident:
            raise UsageError(
                f"the thread {threading.current_thread().name!r} is a real one, and this system runs in a simulation, on one "
                "thread: start no threads in a component that is simulated, make a component of what they do"
            )
        thread = world.current
        if thread is None:
            return os_ident
        assert thread.ident is not None
        return thread.ident

    def get_native_id(self) -> int:
        return 0

    def thread(self, target: Callable[[], None], name: str) -> SimulatedThread:
        return SimulatedThread(self._world, target, name)

    def is_current(self, thread: Thread) -> bool:
        return self._world.current is thread

    def parker(self) -> SimulatedParker:
        return SimulatedParker(self._world)

    def signal(self) -> SimulatedSignal:
        return SimulatedSignal(self._world)

    def local(self) -> Any:
        return _Local(self._world)

    def show_name(self, name: str) -> None:
        return


class _Local:
    """Attributes of each thread of a world."""

    def __init__(self, world: World) -> None:
        object.__setattr__(self, "_mine", (world, {}))

    def __getattribute__(self, name: str) -> Any:
        world, of_driver = object.__getattribute__(self, "_mine")
        mine = of_driver if world.current is None else world.current.locals.setdefault(id(self), {})
        if name == "__dict__":
            return mine
        try:
            return mine[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value


def _greenlets() -> tuple[Any, Callable[[], Any]]:
    """The class, and what answers the one that runs."""
    try:
        from greenlet import getcurrent, greenlet  # noqa: PLC0415 - an extra: who does not simulate does without
    except ImportError as error:
        raise UsageError(
            "a simulation needs the library greenlet, which is not installed: pip install 'minions-runtime[testing]'"
        ) from error
    return greenlet, getcurrent

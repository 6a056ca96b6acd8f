"""A process of a simulated machine: the runtime of one system in a `World`, on a `MemoryDisk`.

The runtime is the one that runs in production; what is put in its place are its threads, its clock and its disk. Beside that a
`Probe` is asked and told at the seams where something may happen to a process: around each unit of work, each commit and each
piece of user code. It runs where the thread in question is, and may let the others go first, or end the process there.
"""

from __future__ import annotations

import _thread
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from minions.clock import Clock, Parkable
from minions.errors import Interrupted, MinionsError, StaleComponent, StopRequested, UsageError
from minions.events import Event
from minions.fence import Fence, Mode
from minions.flow.calls import Call
from minions.flow.channel import Ticket
from minions.flow.journal import Journal
from minions.flow.mailbox import Mailbox
from minions.flow.unit import Unit
from minions.life.after_commit import Call as AfterCommit
from minions.life.capture import ClockName
from minions.life.life import Life
from minions.life.plan import Known, Plan
from minions.life.runtime import Options, Runtime
from minions.life.settings import Settings
from minions.model.limits import Watchdog
from minions.model.topology import Node
from minions.observe.observer import Observer
from minions.system import System
from minions.testing.disk import MemoryDisk
from minions.testing.world import Dropped, World

__all__ = ["NO_FAILURES", "OPERATOR", "Probe", "Process"]

NO_FAILURES = (Dropped, Interrupted, StaleComponent, StopRequested)
"""What ends a piece of user code without being an error of it."""

OPERATOR = "the operator"
"""Who deals with dead letters, for people."""

_NOWHERE = Path("simulated")
_UNWATCHED = Watchdog(enabled=False)

Model = tuple[Plan, Settings]


class Probe:
    """What a process tells, and asks, while it runs. Here nothing follows from anything."""

    def before_unit(self, unit: Unit, fence: Fence) -> None:
        """A unit of work is about to become whole. On the thread of its component."""

    def unit_is_whole(self, unit: Unit, fence: Fence) -> None:
        """It is; nobody else has had a turn since. What it received, `unit.settles`, and sent, `unit.sends`, are in it."""

    def after_unit(self, unit: Unit, fence: Fence) -> None:
        """The same, once everything that belongs to that moment was looked at: others may have their turn."""

    def around(self, life: SimulatedLife, where: str, message: Any, run: Callable[[], Any]) -> Any:
        """Runs a piece of user code, and answers what it answers. What is raised counts as raised by that code.

        Args:
            life: whose it is.
            where: "on_start", "run", "on_stop", "after_commit", or the name of the method.
            message: that is handled, or the `Call` that is answered; None where there is neither.
            run: the code.
        """
        return run()

    def expects_more(self) -> bool:
        """Whether something may still come from outside, so that the system stays although nothing happens in it."""
        return False

    def goes_round(self, life: SimulatedLife) -> None:
        """A component has asked whether it is to go on, or what time it is, or sleeps: perhaps in a loop that never waits.

        On its thread.
        """

    def refuse(self, error: MinionsError) -> None:
        """A component does what cannot be simulated. On its thread."""
        raise error

    def script_of(self, component: str) -> Callable[[SimulatedLife], None] | None:
        """What a component does in the place of its own `run`; None where nothing is in its place."""
        return None

    def on_event(self, event: Event) -> None:
        """What the runtime tells; on its observer's thread."""

    def on_log(self, record: logging.LogRecord) -> None:
        """What a component logs."""

    @property
    def log_level(self) -> int:
        """From which level on that is asked for."""
        return logging.CRITICAL + 1


class Process:
    """One process. Whoever drives the world drives it.

    Attributes:
        runtime: the runtime; `runtime.stopped` says how it has ended.
        plan: what it runs.
        over: whether it has come to its end.
        kept: how far the scripts of its sources have come, where nothing is kept on disk.
    """

    def __init__(
        self,
        system: System,
        world: World,
        disk: MemoryDisk,
        probe: Probe | None = None,
        *,
        model: Model | None = None,
        run_id: str = "simulated",
        forever: bool = False,
    ) -> None:
        """Makes it; `start` starts it.

        Args:
            system: what runs; no other process may run it meanwhile.
            world: where its threads live.
            disk: where its state is.
            probe: see above.
            model: what `Process.model_of` says of the system, to be asked once for many processes.
            run_id: what the ids of its messages say.
            forever: stay when nothing can happen any more.

        Raises:
            UsageError: the system runs.
            TopologyError: see `System.check`.
        """
        if system._running is not None:
            raise UsageError(
                f"{system.name} runs: a system that is simulated must not be running, nor still be stopping"
            )
        plan, settings = model if model is not None else system._plan_and_settings()
        self.plan = plan.again(run_id)
        self.over = False
        self.kept: dict[str, int] = {}
        self._system = system
        self._disk = disk
        self._world = world
        options = Options(
            folder=_NOWHERE,
            synchronous=settings.synchronous,
            stop_timeout_s=settings.stop_timeout_s,
            forever=forever,
            most_zombies=settings.max_zombies,
            watchdog=_UNWATCHED,
        )
        self.runtime = SimulatedRuntime(
            system, self.plan, options, world, disk, probe if probe is not None else Probe()
        )
        system._runtime = (
            self.runtime
        )  # so that what is asked of the system and its components is asked of this process

    @staticmethod
    def model_of(system: System, known: Known | None = None) -> Model:
        """What a process makes of a system; the same for all of its processes.

        Args:
            system: that is sound.
            known: what was compiled for the same classes before; what is new is added.

        Raises:
            TopologyError: see `System.check`.
        """
        return system._plan_and_settings(known)

    def start(self) -> None:
        """Starts it, on a thread of its own; returns at once. What it cannot start with is in `runtime.refusal`."""
        self.runtime.start_apart(self._ended)

    def crash(self) -> None:
        """The process dies where it is. Its world ends with it; what it has committed is on the disk."""
        self._disk.crash()
        self.close()

    def close(self) -> None:
        """Lets go of everything; the world ends."""
        self.runtime.die()
        try:
            self._world.end()
        finally:  # also after Ctrl-C
            if self._system._runtime is self.runtime:
                self._system._runtime = None

    def _ended(self) -> None:
        self.over = True
        self._world.halt_next()


class _Told(Observer):
    """An observer without a thread: nobody waits for it, so that nothing is to be found in when it has its turn."""

    def start(self) -> None:
        return

    def post(self, event: Event) -> None:
        self._pass_on(event)

    def close(self, timeout_s: float) -> bool:
        return True


class SimulatedRuntime(Runtime):
    """The runtime of a simulated process."""

    observer_class = _Told

    def __init__(
        self, system: System, plan: Plan, options: Options, world: World, disk: MemoryDisk, probe: Probe
    ) -> None:
        self._world = world
        self._probe = probe
        self.faults: list[BaseException] = []  # errors that no component is to blame for
        self.journal_class = partial(SimulatedJournal, probe)
        self._life_log = _log_of(probe)
        super().__init__(
            system.name,
            system._topology,
            plan,
            options,
            world.clock,
            probe.on_event,
            threads=world.threads,
            storage=disk,
        )

    def life_class(self, node: Node) -> Callable[..., Life]:
        """Of which class the lives of a component are: no exception is thrown into one, which would hit whoever has the turn."""
        return partial(SimulatedLife, self._probe)

    def log_of(self, component: str) -> logging.Logger:
        return self._life_log

    def die(self) -> None:
        """Cuts all that lives, so that nothing is done about it when its threads are dropped."""
        for life in self.lives():
            life.fence.advance_locked(Mode.CUT)

    def _is_quiet(self, components: list[str], idle: bool) -> bool:
        return super()._is_quiet(components, idle) and not self._probe.expects_more()

    def _end_without_order(self, error: BaseException) -> None:
        if not self._world.over:
            super()._end_without_order(error)

    def _report_defect(self, error: BaseException) -> None:  # type: ignore[override]  # likewise
        if not self._world.over:
            self.faults.append(error)


class SimulatedJournal(Journal):
    """A journal that tells of each unit."""

    def __init__(self, probe: Probe, clock: Clock, *, durable: bool, get_ident: Callable[[], int]) -> None:
        super().__init__(clock, durable=durable, get_ident=get_ident)
        self._probe = probe
        self._of_operator = Fence(OPERATOR, 0)

    def submit(self, unit: Unit, fence: Fence, parker: Parkable, mailbox: Mailbox | None = None) -> Ticket | None:
        probe = self._probe
        probe.before_unit(unit, fence)
        ticket = super().submit(unit, fence, parker, mailbox)
        if ticket is None:
            probe.unit_is_whole(unit, fence)
            probe.after_unit(unit, fence)
        return ticket

    def redeliver(self, unit: Unit, message_id: str, parker: Parkable) -> Ticket | None:
        probe, fence = self._probe, self._of_operator
        probe.before_unit(unit, fence)
        ticket = super().redeliver(unit, message_id, parker)
        if ticket is None:
            probe.unit_is_whole(unit, fence)
            probe.after_unit(unit, fence)
        return ticket


class SimulatedLife(Life):
    """A life that tells of each piece of user code, and whose `run` may follow a script."""

    def __init__(self, probe: Probe, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._probe = probe

    @property
    def running(self) -> bool:
        self._probe.goes_round(self)
        return super().running

    def sleep(self, seconds: float) -> None:
        self._probe.goes_round(self)
        super().sleep(seconds)

    def _read_clock(self, clock: ClockName) -> float:
        self._probe.goes_round(self)
        return super()._read_clock(clock)

    def begin(self) -> None:
        super().begin()
        self._ticks = {name: partial(self._around, name, None, tick) for name, tick in self._ticks.items()}

    def _method(self, name: str) -> Callable[[Any], None]:
        handler = super()._method(name)

        def handle(message: Any) -> None:
            self._around(name, message, partial(handler, message))

        handle.__name__ = name
        return handle

    def _whole(self, hook: Callable[[], None], ticks: Mapping[str, bytes] = MappingProxyType({})) -> None:
        if hook in (self.instance.on_start, self.instance.on_stop):
            super()._whole(partial(self._around, self._hook, None, hook), ticks)
        else:
            super()._whole(hook, ticks)

    def _run(self) -> None:
        script = self._probe.script_of(self.name)
        if script is not None:
            script(self)
        else:
            self._around("run", None, self.instance.run)

    def _run_called(self, call: Call) -> Any:
        return self._around(call.method, call, partial(super()._run_called, call))

    def _call(self, call: AfterCommit) -> None:
        super()._call(attrs.evolve(call, function=partial(self._around, "after_commit", None, call.function)))

    def _is_own_thread(self) -> bool:
        return self._threads.get_ident() == self.ident

    def _around(self, where: str, message: Any, run: Callable[[], Any]) -> Any:
        threads = _thread._count()
        try:
            return self._probe.around(self, where, message, run)
        finally:
            if _thread._count() > threads:
                self._refuse_real_threads(where)

    def _refuse_real_threads(self, where: str) -> None:
        started = threading.enumerate()[-1]
        self._probe.refuse(
            UsageError(
                f"{self.name}.{where} has started the thread {started.name!r}: a simulation has one thread only, and cannot "
                "decide when that one runs; make a component of what it does"
            )
        )


class _Telling(logging.Handler):
    def __init__(self, tell: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record)


def _log_of(probe: Probe) -> logging.Logger:
    """A logger that nobody else knows."""
    log = logging.Logger("minions.simulated", probe.log_level)  # noqa: LOG001 - nobody else may find it
    if probe.log_level <= logging.CRITICAL:
        log.addHandler(_Telling(probe.on_log))
    return log

"""One simulated run: processes one after the other on one disk, faults between them, and invariants looked at after each step."""

from __future__ import annotations

import inspect
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import attrs

from minions import events
from minions.errors import (
    CallFailed,
    CommitFailed,
    CommitTimeout,
    InboxEmpty,
    InboxFull,
    MinionsError,
    StoreError,
    UsageError,
)
from minions.fence import Fence, Mode
from minions.flow.calls import Call
from minions.flow.channel import Channel
from minions.flow.unit import Unit
from minions.life import commands
from minions.life.life import Life
from minions.system import System
from minions.testing.callers import Caller, CallScript
from minions.testing.choices import Choices
from minions.testing.disk import MemoryDisk
from minions.testing.faults import KINDS, OPERATIONS, Faults, InjectedError
from minions.testing.outcome import Failure, Result
from minions.testing.process import NO_FAILURES, OPERATOR, Model, Probe, Process, SimulatedLife
from minions.testing.scripts import Script
from minions.testing.story import Story, clipped, short
from minions.testing.view import View, changed_in
from minions.testing.world import Dropped, SimulatedThread, World, hearing_interrupts

__all__ = ["Invariant", "Run", "Scenario", "one_after_the_other"]

Invariant = Callable[[View], object]

_AT_BOUNDARIES = ("crashes", "delays", "restarts")
_WITHOUT_ERRORS = ("on_stop", "after_commit")
_BOOLS = ("bool", "bool_")
_DELAYS_S = (0.01, 1.0)
_HANGS_FOR = 2.0
"""Stops: who hangs for so long is abandoned when somebody asks it to stop."""
_MOST_DISK_ERRORS = 3
_TIMES = (1.0, 1.0, 3.0, 10.0)
"""How much more likely faults are in one run than they were said to be: in some they are rare, in some they come in swarms."""
_DOWN_S = 1.0
_MOST_CHARACTERS = 4_000
_TURNS_TO_STOP = 20_000
_MOST_ROUNDS = 100
"""How often a loop may go round within one turn of its thread; then it has to let the others go on, and a moment of time."""
_ROUND_S = 0.001
_OF_FAULTS = (CallFailed, CommitTimeout, InboxEmpty, InboxFull, StoreError)
"""What user code may see raised where faults were, or while the system stops: of the runtime's errors these are no mistake of its
own."""


@attrs.frozen(kw_only=True)
class Scenario:
    """What is simulated, whatever the seed.

    Attributes:
        system: what runs.
        model: what `Process.model_of` says of it.
        scripts: of its sources, by name.
        invariants: what has to hold after each step.
        at_end: what has to hold once nothing can happen any more.
        faults: what is injected.
        calls: of who calls from outside.
        steps: how many turns of threads there are at most, before it is stopped in order.
        allow: errors of user code that are as they should be.
    """

    system: System
    model: Model
    scripts: Mapping[str, Script] = attrs.Factory(dict)
    calls: Sequence[CallScript] = ()
    invariants: Sequence[Invariant] = ()
    at_end: Sequence[Invariant] = ()
    faults: Faults = attrs.Factory(Faults)
    steps: int = 5_000
    allow: tuple[type[BaseException], ...] = ()


@contextmanager
def one_after_the_other() -> Iterator[None]:
    """A block of runs: the global `random`, which is seeded for each, is left as it was, and Ctrl-C comes between two turns."""
    before = random.getstate()
    try:
        with hearing_interrupts():
            yield
    finally:
        random.setstate(before)


class Run(Probe):
    """One run. Make it, call `go` once, in a block of `one_after_the_other`.

    Attributes:
        choices: those that it has made.
    """

    def __init__(self, scenario: Scenario, seed: int, choices: Choices, story: Story | None = None) -> None:
        self.choices = choices
        self._scenario = scenario
        self._seed = seed
        self._story = story
        self._disk = MemoryDisk()
        self._disk.before_commit = self._before_commit
        self._disk.after_commit = self._after_commit
        self._cache: dict[Any, Any] = {}
        self._counted: Counter[str] = Counter()
        self._errors_of: Counter[str] = Counter()  # by message, or by component and where: those that were injected
        self._failing = 0  # how many of the next commits fail
        self._has_failed = False  # whether the last one did
        self._failure: Failure | None = None
        self._misuse: MinionsError | None = None
        self._death = ""  # what the process dies of
        self._stopping = False
        self._steps = scenario.steps  # that are left to the process that runs
        self._choose = choices.below
        self._units = 0
        self._turns = 0
        self._rounds = 0  # of a loop, in the turn of that number
        self._rounds_of = 0
        self._callers = [Caller(script) for script in scenario.calls]
        self._outside = 0  # how many threads from outside, callers and operators, have something to do
        self._has_dead_letters = False  # perhaps: some were set aside
        self._likely_operations: Sequence[float] | None = None  # made when there is the first one
        self._operator_is_busy = False
        self._process: Process
        self._world: World
        self._view: View
        faults = scenario.faults
        likely = dict.fromkeys(KINDS, 0.0)
        # How likely each kind is, and whether it is left out.
        if faults.most:
            times = _TIMES[choices.below("without calm", len(_TIMES))]
            likely = {
                kind: 0.0 if choices.below(f"without {kind}", 3) else min(1.0, times * getattr(faults, kind))
                for kind in KINDS
            }
        self._likely_errors = (likely["errors"],)
        self._likely_disk_errors = (likely["disk_errors"],)
        self._likely_power_losses = (likely["power_losses"],)
        self._likely_here = tuple(accumulate(likely[kind] for kind in _AT_BOUNDARIES))
        self._left = faults.most
        self._may_restart = likely["restarts"] > 0
        self._hang_s = _HANGS_FOR * scenario.model[1].stop_timeout_s
        self._names = list(scenario.model[0].nodes)
        inboxes = scenario.model[0].channels.values()
        deaths = min((channel.retry.deaths for channel in inboxes if channel.durable), default=faults.most + 1)
        self._most_crashes = deaths - 1 if faults.spare else faults.most

    def go(self) -> Result | Failure:
        """Runs it to its end. Blocks.

        Returns:
            What has become of it.

        Raises:
            MinionsError: the simulation is not used as it can be.
        """
        now_s = 1_000.0
        while True:
            ended = self._one_process(now_s)
            if ended is not None:
                return ended
            now_s = self._world.now_s + _DOWN_S

    # ------------------------------------------------------------------ processes
    def _one_process(self, now_s: float) -> Result | Failure | None:
        """Runs one process; None where the next one goes on."""
        world = self._world = World(self._pick, monotonic_s=now_s, wall_s=1_700_000_000.0 + now_s - 1_000.0)
        world.on_idle = self._look_for_lost_wake_ups
        number = self._counted["crashes"] + 1
        process = self._process = Process(
            self._scenario.system, world, self._disk, self, model=self._scenario.model, run_id=f"run{number}"
        )
        self._view = View(self._scenario.system._topology, process.runtime, self._disk, self._cache, self._callers)
        self._death = ""
        self._steps = max(0, self._scenario.steps - self._turns)
        try:
            process.start()
            self._have_called(process)
            goes_on = world.run()
            self._turns += world.turns
            if self._misuse is not None:
                raise self._misuse
            if self._failure is None and process.over:
                self._judge_end()
            elif self._failure is None and not self._death:
                assert not goes_on
                self._fail(("stuck",), f"nobody can go on, and nothing will ever happen: {'; '.join(world.waiting())}")
        finally:
            died = bool(self._death)
            process.crash()
        if self._misuse is not None:
            raise self._misuse
        if self._failure is None and died:
            self._come_back()
            return None
        if changed := changed_in(self._cache):
            raise UsageError(
                f"an invariant has changed what it was shown, a State of {changed}, so that the next look is at what it has made "
                "of that: copy it first, as by list(...) or sorted(...)"
            )
        return self._failure or self._result()

    def _judge_end(self) -> None:
        runtime = self._process.runtime
        if runtime.refusal is not None:
            error = runtime.refusal
            self._fail(("refused", type(error).__name__), f"the system could not be started: {error}", error)
        elif runtime.faults:
            self._fail_with_defect(runtime.faults[0])
        elif (
            runtime.stopped is not None and runtime.stopped.survivors and self._counted["delays"] and not self._stopping
        ):
            # As it should be: a thread that stood still for too long was abandoned, and a service manager starts it again.
            self._death = "with a thread that had been abandoned and was still alive"
            self._say(f"the system ended {self._death}")
        elif (
            runtime.stopped is not None and runtime.stopped.problems and self._gave_up_for_faults and not self._stopping
        ):
            self._death = f"because something was given up ({'; '.join(runtime.stopped.problems)})"
            self._say(f"the system ended {self._death}")
        elif runtime.stopped is not None and runtime.stopped.problems and not runtime.stopped.survivors:
            self._fail(("ended",), f"the system has ended and not in order: {'; '.join(runtime.stopped.problems)}")
        else:
            self._look_at_all(at_end=True)

    @property
    def _gave_up_for_faults(self) -> bool:
        """Whether there were so many faults that it is in order to give up a component, or the disk."""
        return not self._scenario.faults.spare and self._counted["errors"] + self._counted["disk_errors"] > 0

    def _come_back(self) -> None:
        if self.choices.one_of("power loss", self._likely_power_losses):
            lost = self._disk.lose_power(1 + self.choices.below("its commits", self._disk.at_risk or 1))
            self._say(f"with the process the power was lost, and {lost} commits with it")
        self._say("the process starts again, with what is on disk")

    def _result(self) -> Result:
        counted = self._counted
        return Result(
            seed=self._seed,
            turns=self._turns,
            units=self._units,
            commits=self._disk.commit_number,
            crashes=counted["crashes"],
            errors=counted["errors"],
            restarts=counted["restarts"],
            delays=counted["delays"],
            disk_errors=counted["disk_errors"],
            retries=counted["retries"],
            drops=counted["drops"],
            calls=sum(caller.made for caller in self._callers),
            simulated_s=self._world.now_s - 1_000.0,
            finished=not self._stopping,
        )

    def _have_called(self, process: Process) -> None:
        """Begins a thread for each caller from outside that has something to do."""
        self._outside = 0
        self._operator_is_busy = False
        for caller in self._callers:
            if caller.has_more:
                go_on = partial(caller.go_on, process, self._world, self.choices, self._story)
                self._begin_outside(go_on, f"{caller.name}, from outside,")

    def _begin_outside(self, act: Callable[[], None], name: str) -> None:
        """Begins a thread of somebody outside of the system, which stays for as long as there is one."""
        process = self._process

        def run() -> None:
            act()
            self._outside -= 1
            process.runtime.post(commands.Idle())  # perhaps now nothing can happen any more

        self._outside += 1
        self._world.threads.thread(run, name).start()

    def expects_more(self) -> bool:
        return self._outside > 0

    def refuse(self, error: MinionsError) -> None:
        self._misuse = self._misuse or error
        self._world.halt()

    # ------------------------------------------------------------------ who goes on
    def _pick(self, ready: Sequence[SimulatedThread]) -> int:
        """The plain choice is who was the last to come: mostly the one that had the last turn."""
        if self._world.turns >= self._steps:
            self._stop()
            return 0  # in turn, so that everybody comes to an end
        count = len(ready)
        return count - 1 - self._choose("turn", count)

    def _stop(self) -> None:
        turns = self._world.turns
        if not self._stopping or not self._process.runtime.stopping:
            self._stopping = True
            self._process.runtime.stop("the steps are used up")
        if turns > self._steps + _TURNS_TO_STOP:
            waiting = "; ".join(self._world.waiting())
            self._fail(("endless",), f"it was stopped after {self._scenario.steps} steps, and does not end: {waiting}")

    # ------------------------------------------------------------------ seams
    def script_of(self, component: str) -> Callable[[SimulatedLife], None] | None:
        script = self._scenario.scripts.get(component.partition("#")[0])
        return None if script is None else lambda life: script.play(self._process, life)

    def before_unit(self, unit: Unit, fence: Fence) -> None:
        self._anything_may_happen("before a unit of {} was whole", fence.component)

    def unit_is_whole(self, unit: Unit, fence: Fence) -> None:
        self._units += 1
        if self._story is not None:
            lives = {life.name: life for life in self._process.runtime.lives()}
            life = lives.get(fence.component)
            self._story.unit(unit, life.where if life is not None else "", self._process.plan)
        self._look_at_all()

    def after_unit(self, unit: Unit, fence: Fence) -> None:
        self._anything_may_happen("after a unit of {}", fence.component)

    def _before_commit(self) -> None:
        if not (self._failing or (self._has_failed and self._scenario.faults.spare)) and self._may(
            "disk error", self._likely_disk_errors
        ):
            self._counted["disk_errors"] += 1
            self._failing = 1 + self.choices.below("its length", _MOST_DISK_ERRORS)
        self._has_failed = self._failing > 0
        if self._failing:
            self._failing -= 1
            raise CommitFailed("the disk is full (injected)", permanent=False)
        self._anything_may_happen("before a commit", "writer")

    def _after_commit(self) -> None:
        if self._story is not None:
            self._say(f"commit {self._disk.commit_number}: what was whole when it began is on disk")
        self._look_at_all()
        self._anything_may_happen("when a commit was on disk and nobody had heard of it", "writer")

    def around(self, life: SimulatedLife, where: str, message: Any, run: Callable[[], Any]) -> Any:
        call = message if isinstance(message, Call) else None
        fault = self._error_of(life, where) if call is None and where not in _WITHOUT_ERRORS else 0
        if fault == 1:
            raise InjectedError(f"injected at the beginning of {life.name}.{where}")
        try:
            answer = run()
        except NO_FAILURES:
            raise
        except BaseException as error:  # to the runtime an exit is a failure like any other
            if call is not None:
                if self._story is not None:
                    self._story.call(life.name, call, f"raised {short(error)}")
            elif not self._is_allowed(error):
                shown = f" with {short(message)}" if message is not None else ""
                text = f"{life.name}.{where}{shown} raised {type(error).__name__}: {error}"
                self._fail(("raised", life.name, where, type(error).__name__), text, error)
            raise
        if call is not None and self._story is not None:
            self._story.call(life.name, call, short(answer))
        if fault:
            raise InjectedError(f"injected at the end of {life.name}.{where}")
        return answer

    def _is_allowed(self, error: BaseException) -> bool:
        if isinstance(error, (InjectedError, *self._scenario.allow)):
            return True
        may_be_of_one = self._counted.total() > 0 or bool(self._process.runtime.stopping)
        return may_be_of_one and isinstance(error, _OF_FAULTS)

    def goes_round(self, life: SimulatedLife) -> None:
        world = self._world
        if self._rounds_of != world.turns:
            self._rounds, self._rounds_of = 0, world.turns
        self._rounds += 1
        if self._rounds > _MOST_ROUNDS:
            if world.turns >= self._steps:
                self._stop()  # there may be nobody else, so that nobody is picked
            world.sleep(_ROUND_S)

    def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.MessageSetAside) and event.kept:
            self._has_dead_letters = True
        if self._story is not None and not self._world.over:
            self._story.event(event)

    def on_log(self, record: logging.LogRecord) -> None:
        if self._story is not None and not self._world.over:
            self._story.log(record)

    @property
    def log_level(self) -> int:
        return logging.DEBUG if self._story is not None else super().log_level

    # ------------------------------------------------------------------ faults
    def _may(self, label: str, until: Sequence[float]) -> int:
        """Which of the faults that may happen here does; 0: none."""
        if not self._left or self._stopping:
            return 0
        which = self.choices.one_of(label, until)
        if which:
            self._left -= 1
        return which

    def _anything_may_happen(self, when: str, who: str) -> None:
        """At a boundary: of a unit of work, or of a commit.

        Args:
            when: for people, with the name in the place of ``{}``.
            who: the component, or "writer".
        """
        world = self._world
        if world.over:
            world.pause()  # which ends the thread
        if self._left and (which := self._may(who, self._likely_here)):
            self._happens(_AT_BOUNDARIES[which - 1], when.format(who), who)
        if self._has_dead_letters and not self._operator_is_busy and not self._process.runtime.stopping:
            self._operator_may_act()
        world.pause()

    def _happens(self, kind: str, when: str, who: str) -> None:
        if kind == "crashes":
            if self._counted[kind] < self._most_crashes:
                self._counted[kind] += 1
                self._die(when)
            return
        self._counted[kind] += 1
        if kind == "delays":
            self._stand_still(when, who)
        else:
            self._restart(self._names[self.choices.below("its component", len(self._names))], when)

    def _stand_still(self, when: str, who: str) -> None:
        # Only a component may stand still for longer than a stop takes: the writer would have missed its last commit.
        may_hang = who.partition("#")[0] in self._names and not self._process.runtime.stopping
        delays_s = (*_DELAYS_S, self._hang_s) if may_hang else _DELAYS_S
        seconds = delays_s[self.choices.below("its seconds", len(delays_s))]
        self._say(f"{who} stood still for {seconds:g} s, {when}")
        if seconds == self._hang_s and self._left and self._may_restart and self.choices.below("its restart", 2):
            self._left -= 1
            self._counted["restarts"] += 1
            self._restart(who.partition("#")[0], "because it hung")
        self._world.sleep(seconds)

    def _restart(self, name: str, why: str) -> None:
        self._say(f"somebody restarted {name}, {why}")
        self._process.runtime.change(commands.Restart, (name,), "simulation")

    def _operator_may_act(self) -> None:
        """While there are dead letters: somebody may retry one, or drop one."""
        if self._likely_operations is None:
            faults = self._scenario.faults
            self._likely_operations = tuple(
                accumulate(
                    0.0 if self.choices.below(f"without {kind}", 3) else getattr(faults, kind) for kind in OPERATIONS
                )
            )
        if which := self._may("operator", self._likely_operations):
            self._operator_is_busy = True
            self._begin_outside(partial(self._operate, OPERATIONS[which - 1]), OPERATOR)

    def _operate(self, kind: str) -> None:
        """On a thread of its own: it waits for the disk."""
        dead_letters = self._process.runtime.dead_letters
        letters = dead_letters.listed()
        self._has_dead_letters = bool(letters)
        if letters:
            letter = letters[self.choices.below("its letter", len(letters))]
            does, done = (dead_letters.retry, "retried") if kind == "retries" else (dead_letters.drop, "dropped")
            self._counted[kind] += 1
            self._say(f"{OPERATOR} {done} the dead letter {letter.message_id} of {letter.channel}")
            try:
                does([letter])
            except MinionsError as error:  # the disk fails, the system stops, or the letter cannot be handled any more
                self._say(f"{OPERATOR} was told: {error}")
        self._operator_is_busy = False

    def _die(self, when: str) -> None:
        self._death = when
        self._say(f"the process died {when}; what was not on disk is lost")
        self._world.halt()

    def _error_of(self, life: Life, where: str) -> int:
        """0: none; 1: at the beginning of this piece of user code; 2: when it is done."""
        if not self._left or not self._likely_errors[0]:
            return 0
        if self._scenario.faults.spare and not self._bears(life, where):
            return 0
        if not self._may(f"error in {life.name}.{where}", self._likely_errors):
            return 0
        self._counted["errors"] += 1
        self._errors_of[self._culprit(life, where)] += 1
        return 1 + self.choices.below("its moment", 2)

    @staticmethod
    def _culprit(life: Life, where: str) -> str:
        """What a failure is put down to: a message, or a component."""
        return life.message_id_seen or life.name

    def _bears(self, life: Life, where: str) -> bool:
        """Whether one more error leaves the message, or the component, another attempt."""
        failures = self._errors_of[self._culprit(life, where)]
        if life.current is not None:
            return failures + 1 < life.current[0].retry.attempts
        restart = self._process.plan.nodes[life.name.partition("#")[0]].node.restart
        return restart.when != "temporary" and failures < restart.failures

    # ------------------------------------------------------------------ what must not be
    def _look_at_all(self, *, at_end: bool = False) -> None:
        if self._failure is not None:
            return
        invariants = self._scenario.invariants
        for invariant in (*invariants, *self._scenario.at_end) if at_end and not self._stopping else invariants:
            self._look_at(invariant, at_end)

    def _look_at(self, invariant: Invariant, at_end: bool) -> None:
        view = self._view
        view.look(crashes=self._counted["crashes"], now_s=self._world.now_s, at_end=at_end)
        try:
            answer = invariant(view)
        except MinionsError as error:
            self.refuse(error)
            return
        except (Dropped, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - reported: that is how an invariant says no, `pytest.fail` too
            reason: BaseException | None = error
            said = f": {error}" if str(error) else ""
            said = said if isinstance(error, AssertionError) else f" ({type(error).__name__}){said}"
        else:
            if answer is None or answer is True:
                return
            if inspect.isawaitable(answer):
                if inspect.iscoroutine(answer):
                    answer.close()  # or Python says one more time that nobody has waited for it
                self.refuse(
                    UsageError(
                        f"the invariant {_named(invariant)} is asynchronous: it has to be a plain function of a view"
                    )
                )
                return
            if not _says_no(answer):
                return
            said, reason = "", None
        name = _named(invariant)
        values = "; ".join(f"{what} = {short(value)}" for what, value in view.read.items())
        self._fail(("invariant", name), f"the invariant {name} does not hold{said} [{values}]", reason)

    def _look_for_lost_wake_ups(self) -> None:
        """Called when nobody can go on. Who has something to take does not sleep."""
        if self._world.turns >= self._steps and not self._process.over:
            self._stop()
            if self._world.current is None and self._failure is not None:
                return
        for life in self._process.runtime.lives():
            if not life.waits_for.startswith("a message") or life.fence.held or life.fence.mode is not Mode.LIVE:
                continue
            for channel in life.mailbox.channels:
                if self._could_take(life, channel):
                    self._fail(
                        ("lost wake-up", channel.name),
                        f"{life.name} sleeps although {len(channel.queues[life.mailbox.part])} messages wait for it in "
                        f"{channel.name}, and nobody will wake it",
                    )
            calls = life.mailbox.calls
            if calls is not None and calls.waiting:
                self._fail(("lost wake-up", calls.name), f"{life.name} sleeps although calls wait for it")
        if self._process.runtime.faults:
            self._fail_with_defect(self._process.runtime.faults[0])

    @staticmethod
    def _could_take(life: Life, channel: Channel) -> bool:
        mailbox = life.mailbox
        only = mailbox.only if mailbox.asleep else None
        return bool(
            channel.queues[mailbox.part] and channel not in mailbox.held_back and (only is None or only is channel)
        )

    def _fail_with_defect(self, error: BaseException) -> None:
        self._fail(("defect", type(error).__name__), f"the runtime failed: {type(error).__name__}: {error}", error)

    def _fail(self, kind: tuple[str, ...], text: str, error: BaseException | None = None) -> None:
        if self._failure is None:
            text = clipped(text, _MOST_CHARACTERS)
            self._failure = Failure(kind=kind, text=text, error=error)
            self._say(text)
        self._world.halt()

    # ------------------------------------------------------------------ telling
    def _say(self, line: str) -> None:
        if self._story is not None:
            self._story.say(line)


def _named(invariant: Invariant) -> str:
    return getattr(invariant, "__name__", type(invariant).__name__)


def _says_no(answer: object) -> bool:
    """Whether that is False, or the False of numpy, which is what a comparison of numbers out of an array answers."""
    return answer is False or (type(answer).__module__ == "numpy" and type(answer).__name__ in _BOOLS and not answer)

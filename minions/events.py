"""What happened, as frozen values: posted by the supervisor, read by logs, tests and hooks. No thread, no lock."""

from __future__ import annotations

import attrs

__all__ = [
    "AfterCommitDropped",
    "AfterCommitFailed",
    "CommitTrouble",
    "CommitsResumed",
    "ComponentAbandoned",
    "ComponentFailed",
    "ComponentFinished",
    "ComponentInterrupted",
    "ComponentPaused",
    "ComponentRecovered",
    "ComponentResumed",
    "ComponentStalled",
    "ComponentStarted",
    "ComponentStopped",
    "Event",
    "EventsDropped",
    "Evidence",
    "GaveUp",
    "LimitExceeded",
    "LimitKept",
    "MessageOutlivedProcess",
    "MessageSetAside",
    "PluginFailed",
    "PluginNotLoaded",
    "PluginSetAside",
    "StateOpened",
    "SystemStarted",
    "SystemStopped",
    "SystemStopping",
    "TickLate",
    "UnitEnded",
]


@attrs.frozen
class Event:
    """The root of all events."""


@attrs.frozen
class StateOpened(Event):
    """The state folder is open, and what an earlier run left is back in its place.

    Attributes:
        folder: where it is.
        resumed: whether an earlier run had left anything.
        waiting_messages: how many messages wait in the channels.
        commits_lost: how many of the last commits, at least, were lost with the power; only with synchronous NORMAL.
        strangers: the inboxes for which messages are kept, but which the system does not have (any more).
        perhaps_lost: whether the machine went down while the state was in use, and it cannot be seen whether commits were lost;
            only with synchronous NORMAL.
    """

    folder: str
    resumed: bool
    waiting_messages: int
    commits_lost: int
    strangers: tuple[str, ...]
    perhaps_lost: bool = False


@attrs.frozen
class SystemStarted(Event):
    """Every component has started.

    Attributes:
        components: how many threads of components there are.
    """

    components: int


@attrs.frozen
class SystemStopping(Event):
    """The system begins to stop: nothing new is started, sources end, and what was sent is handled.

    Attributes:
        reason: "finished", "stopped", "interrupted", "terminated" or "failed".
        timeout_s: after so many seconds what has not ended is abandoned. What is not on disk yet may take a few seconds more.
    """

    reason: str
    timeout_s: float


@attrs.frozen
class SystemStopped(Event):
    """The system has ended.

    Attributes:
        reason: "finished", "stopped", "interrupted", "terminated" or "failed".
        problems: what went wrong, one sentence each; empty after an orderly end.
        survivors: the components whose threads could not be ended.
        left_messages: how many messages wait in the store for the next start. 0 where the last units could not be committed:
            those in memory are not what is on disk, and the next start counts them.
        lost_messages: how many messages of inboxes that are not durable were dropped.
    """

    reason: str
    problems: tuple[str, ...]
    survivors: tuple[str, ...]
    left_messages: int
    lost_messages: int


@attrs.frozen
class ComponentStarted(Event):
    component: str
    epoch: int


@attrs.frozen
class ComponentFinished(Event):
    """`run()` has returned: there is nothing more to do for it, and it has not failed."""

    component: str
    epoch: int


@attrs.frozen
class ComponentStopped(Event):
    component: str
    epoch: int


@attrs.frozen
class ComponentInterrupted(Event):
    """What a component was at when it was to stop was broken off; the unit of work that it belonged to never was.

    Attributes:
        where: "on_start", "run" or the name of the handler.
        error: what that has raised, one line.
    """

    component: str
    epoch: int
    where: str
    error: str


@attrs.frozen
class ComponentPaused(Event):
    """It takes nothing more; its inboxes keep what arrives.

    Attributes:
        by: who wishes it: "operator", "watchdog".
    """

    component: str
    epoch: int
    by: str


@attrs.frozen
class ComponentResumed(Event):
    """It goes on after a pause."""

    component: str
    epoch: int


@attrs.frozen
class ComponentFailed(Event):
    """A life ended with an error.

    Attributes:
        where: "on_start", "run", "on_stop", "after_commit" or the name of the handler.
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
        message_id: the message that was being handled, or in whose unit what failed was handed to `after_commit`; or empty.
        attempt: the how manieth failure of that message this was; 0 where the failure is not put down to a message.
        restart_in_s: when a new life begins, or None when none will.
    """

    component: str
    epoch: int
    where: str
    error: str
    traceback: str
    message_id: str
    attempt: int
    restart_in_s: float | None


@attrs.frozen
class AfterCommitFailed(Event):
    """A function that `after_commit` had taken raised in a life that had failed before; those behind it are called.

    Attributes:
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
        message_id: the message in whose unit it was handed over, or empty.
    """

    component: str
    epoch: int
    error: str
    traceback: str
    message_id: str


@attrs.frozen
class AfterCommitDropped(Event):
    """A life ended before it could call what `after_commit` had taken: asked again to stop, abandoned, or nothing can be written.

    Attributes:
        functions: how many functions were not called.
    """

    component: str
    epoch: int
    functions: int


@attrs.frozen
class MessageOutlivedProcess(Event):
    """At the start: an earlier process died, not in order, while this message was in work. It is tried again.

    Attributes:
        deaths: how many processes in a row.
    """

    component: str
    message_id: str
    deaths: int


@attrs.frozen
class MessageSetAside(Event):
    """A message failed as often as its inbox allows and is kept as a dead letter (or dropped: `kept` is False).

    Attributes:
        attempts: how often it has failed; where the process died of it, how many times in a row.
    """

    component: str
    message_id: str
    attempts: int
    error: str
    kept: bool


@attrs.frozen
class GaveUp(Event):
    """A component failed too often within the window of its restart policy.

    Attributes:
        then: "stop": the system stops; "isolate": the component and what sends to it stay down, the rest goes on.
    """

    component: str
    failures: int
    within_s: float
    then: str = "stop"


@attrs.frozen
class ComponentAbandoned(Event):
    """A thread did not end in time; its fence is cut and it can do nothing any more.

    Attributes:
        stack: where the thread is, as Python prints it.
        zombies: how many abandoned threads of this system are alive, this one among them.
    """

    component: str
    epoch: int
    stack: str
    zombies: int = 1


@attrs.frozen
class Evidence:
    """What one thread is doing, as far as it can be seen from outside. No event by itself: events carry it.

    Attributes:
        component: whose thread it is.
        epoch: which life of it.
        doing: what the thread was last known to begin: "handling add", "run", "on_start".
        message_id: the message in work, or empty.
        for_s: for how long there has been no progress.
        cpu_s: how much CPU time the thread has used in that time, in seconds.
        on_cpu: whether it runs, or would run if it had the interpreter's lock (GIL); None where that cannot be told.
        system_call: the system call that it is blocked in; empty when it runs, or where that cannot be told.
        resource: what it waits for, for people, such as "socket 127.0.0.1:49152 -> 127.0.0.1:5432 (descriptor 7)"; or empty.
        holder: the name of the thread that holds the lock it waits for; empty where there is none or the lock does not know.
        stack: where it is, as Python prints it, the innermost call last; empty once it has ended.
    """

    component: str
    epoch: int
    doing: str
    message_id: str
    for_s: float
    cpu_s: float
    on_cpu: bool | None
    system_call: str
    resource: str
    holder: str
    stack: str

    @property
    def sentence(self) -> str:
        """What it waits for, in one plain sentence."""
        message = f" with message {self.message_id}" if self.message_id else ""
        return (
            f"{self.component} (life {self.epoch}) has made no progress for {self.for_s:.1f} s in {self.doing}{message}: "
            f"{self._state}{self._place}."
        )

    @property
    def _state(self) -> str:
        used = f"it has used {self.cpu_s:.1f} s of CPU time since"
        if not self.stack:
            return "its thread has ended"
        if self.on_cpu:
            return f"it computes, {used}"
        if self.resource:
            held = f", held by thread {self.holder}" if self.holder else ""
            call = f" (in {self.system_call})" if self.system_call else ""
            return f"it waits for {self.resource}{held}{call}"
        if self.system_call:
            return f"it is blocked in the system call {self.system_call}"
        return f"whether it waits or computes cannot be told here, {used}"

    @property
    def _place(self) -> str:
        """The innermost line of the stack that names a file: where in the code it is."""
        for line in reversed(self.stack.splitlines()):
            if line.startswith('  File "'):
                return f", at {line.strip()}"
        return ""


@attrs.frozen
class CommitTrouble(Event):
    """A commit failed and is tried again; nothing is lost, components wait once the window is full.

    Attributes:
        attempt: how many times this commit has failed.
        error: what is wrong, and with which file.
        given_up: whether this was the last attempt, so that the system stops.
    """

    attempt: int
    error: str
    given_up: bool


@attrs.frozen
class CommitsResumed(Event):
    """A commit that had failed is made: what was wrong with the disk has passed, and nothing was lost.

    Attributes:
        failures: how many times it had failed.
    """

    failures: int


@attrs.frozen
class ComponentStalled(Event):
    """A thread makes no progress, and does not wait for anything of the runtime's own.

    Attributes:
        evidence: what it is doing, as far as it can be seen from outside.
        answer: what follows: "report", "restart" or "stop".
    """

    component: str
    epoch: int
    evidence: Evidence
    answer: str


@attrs.frozen
class ComponentRecovered(Event):
    """A thread that was reported as stalled goes on, or its life is over.

    Attributes:
        stalled_s: for how long it had made no progress.
        ended: whether its life is over; otherwise it goes on.
    """

    component: str
    epoch: int
    stalled_s: float
    ended: bool


@attrs.frozen
class LimitExceeded(Event):
    """Something that the watchdog measures has been past its mark for as long as its limit allows.

    Attributes:
        limit: "memory", "descriptors", "disk_free", "cpu", "lag" or "errors".
        about: the inbox ("lag") or the component ("errors") that it is about; empty for the whole process.
        value: what was measured last.
        mark: the mark.
        unit: of both: "bytes", "ratio" (from 0 to 1), "s" or "per_minute".
        for_s: for how long the mark has been passed.
        then: what follows: "report", "pause_sources", "restart" or "stop".
        text: all that in one plain sentence.
    """

    limit: str
    about: str
    value: float
    mark: float
    unit: str
    for_s: float
    then: str
    text: str


@attrs.frozen
class LimitKept(Event):
    """What had exceeded a limit is back below its lower mark; follows each `LimitExceeded` and each `TickLate` once.

    Attributes:
        limit, about, value, unit: as in `LimitExceeded`; also "late", after `TickLate`.
        exceeded_s: how long ago it was told that the limit is exceeded.
    """

    limit: str
    about: str
    value: float
    unit: str
    exceeded_s: float


@attrs.frozen
class TickLate(Event):
    """The watchdog ran later than it should have; nothing else in Python ran on time either.

    Attributes:
        late_s: how late the last tick was.
        diagnosis: "gil_held": the interpreter's lock (GIL) was not to be had; "stopped": the process hardly ran and did not wait
            for a core: it was stopped, throttled by a quota, or the whole machine was suspended; "starved": it wanted to run, and
            no core was free; "unknown".
        culprit: the name of the thread that ran in the meantime ("gil_held"), which is that of the component where it is one;
            empty where there was no such thread.
        culprit_cpu_s: CPU time of that thread since the tick before.
        then: what follows: "report", "pause_sources" or "stop".
    """

    late_s: float
    diagnosis: str
    culprit: str
    culprit_cpu_s: float
    then: str


@attrs.frozen
class PluginNotLoaded(Event):
    """A plugin is not used: it cannot be loaded, or did not want to be attached. The system runs without it.

    Attributes:
        plugin: the name of its entry point, or what it was registered as.
        problem: what is wrong with it, and what to do.
        traceback: the whole traceback as Python prints it, where it or its `attached` has raised; or empty.
    """

    plugin: str
    problem: str
    traceback: str


@attrs.frozen
class PluginFailed(Event):
    """A hook of a plugin raised. Told once for each hook of a plugin while the system runs; all are counted.

    Attributes:
        hook: the name of the hook.
        error: type and text of the error, one line.
        traceback: the whole traceback as Python prints it.
    """

    plugin: str
    hook: str
    error: str
    traceback: str


@attrs.frozen
class PluginSetAside(Event):
    """A hook of a plugin did not return in time, and no hook of that plugin is called any more while the system runs.

    Attributes:
        hook: the name of the hook; "import" where the plugin was being imported.
        hung_s: for how long it had not returned.
        stack: where its thread is, as Python prints it.
    """

    plugin: str
    hook: str
    hung_s: float
    stack: str


@attrs.frozen
class EventsDropped(Event):
    """More happened than could be told. Told when it begins, and once more when there is room again, where there were more.

    Attributes:
        readers: who was not told: "logs" (and all others), "plugins", or "units" (the hook `unit_ended`).
        dropped: how many events, since this was told last.
        total: how many while the system runs.
        plugin: whose hook was just being called, for "plugins"; or empty.
    """

    readers: str
    dropped: int
    total: int
    plugin: str = ""


@attrs.frozen(kw_only=True)
class UnitEnded(Event):
    """A unit of work has ended: a message was handled, a tick made, a call answered, something sent, a hook of a life run.

    Told only to the hook `unit_ended`, and only where a plugin that was there at the start has it: not in logs, not to `event`.

    A unit begins when the runtime is about to call user code with it (in `run()`: where it is opened, where its first message is
    received, or where a message is sent by itself). It ends when it is whole: what it has changed and sent is seen by others,
    for which it may have waited for room, but is not on disk yet; or when it has failed. What `after_commit` was handed is a
    unit of its own.

    Attributes:
        component: in the life `epoch` of which it was done.
        where: the handler, the method of a schedule or of a call, "run", "on_start", "on_stop" or "after_commit".
        trace_id: 32 hexadecimal digits, the same for all units that follow from the same one.
        unit_id: 16 hexadecimal digits, another one for each unit and each attempt.
        parent_id: the unit that has sent its (first) message, or has called it, also in an earlier run; empty where there is none
            or it is not known.
        links: the units that have sent its further messages, each with its trace.
        received: the ids of the messages that it has received.
        sent: the ids of the messages that it has sent, for each inbox in order. Empty where it has failed.
        began_at: by the wall clock, in seconds since 1970.
        duration_s: how long it took, by the monotonic clock.
        error: type and text of the error with which it has failed, one line; empty where it is whole.
    """

    component: str
    epoch: int
    where: str
    trace_id: str
    unit_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    received: tuple[str, ...]
    sent: tuple[str, ...]
    began_at: float
    duration_s: float
    error: str

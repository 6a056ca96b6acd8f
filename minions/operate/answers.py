"""What is asked at the control socket, and how a running system answers.

A request is answered on the thread of the control socket, which must not wait for anything but the supervisor, and for that not
long. What has to wait for more (a component that is to stop, a commit, an event that is yet to come) is a future. `note` is
called on the observer's thread; `_lock` guards what the two share.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs

from minions import events
from minions.clock import Clock
from minions.errors import MinionsError
from minions.flow.histogram import Histogram
from minions.flow.parker import Parker
from minions.flow.rows import DeadLetter
from minions.life import commands
from minions.life.evidence import evidence_of
from minions.life.history import MOST_ROWS
from minions.life.life import Life
from minions.life.machine import thread_cpu_s
from minions.life.runtime import Runtime
from minions.life.status import ComponentStatus
from minions.life.traces import lines_of, print_lines
from minions.model.graph import Graph
from minions.operate.looks import Look, chain_of, sentence_of
from minions.operate.protocol import VERSION, Refused, Request
from minions.operate.telling import text_of
from minions.threads import reading_frames

__all__ = ["Answers"]

_SUPERVISOR_S = 1.0
_LOOK_TWICE_S = 0.05
_MOST_EVENTS = 1_000
_CALL = '  File "'  # how each call in a stack begins
_OURS = str(Path(__file__).parent.parent)

_OF_THE_FLOW = ("units_unsaved", "bytes_unsaved", "commits", "units_committed")

T = TypeVar("T")
Result = Mapping[str, Any]

_CHANGES: dict[str, type[commands.Change]] = {
    "start": commands.Start,
    "halt": commands.Halt,
    "restart": commands.Restart,
    "pause": commands.Pause,
    "resume": commands.Resume,
}


class Answers:
    """Answers for one run of a system."""

    def __init__(
        self,
        runtime: Runtime,
        folder: Path,
        graph: Graph,
        plugins: Callable[[], Iterable[Any]],
        clock: Clock,
    ) -> None:
        """Args:
        runtime: the run.
        folder: the state folder.
        graph: of the system.
        plugins: the status of each plugin, as attrs values.
        clock: the system's.
        """
        self._runtime = runtime
        self._folder = folder
        self._graph = graph
        self._plugins = plugins
        self._clock = clock
        self._began_s = clock.monotonic()
        self._answers: dict[str, Callable[[Request], Result | Future[Result]]] = {
            "version": self._version,
            "status": self._status,
            "history": self._history,
            "why": self._why,
            "stacks": self._stacks,
            "graph": lambda request: self._graph.as_json(),
            "plugins": lambda request: {"plugins": [attrs.asdict(plugin) for plugin in self._plugins()]},
            "events": self._events_after,
            "stop": self._stop,
            "dead-retry": self._dead,
            "dead-drop": self._dead,
            **dict.fromkeys(_CHANGES, self._change),
        }
        self._lock = threading.Lock()
        self._events: deque[tuple[int, float, events.Event]] = deque(maxlen=_MOST_EVENTS)
        self._count = 0  # of all events
        self._failures: dict[str, events.ComponentFailed] = {}  # the last of each thread of a component
        self._listeners: list[tuple[int, Future[Result]]] = []
        self._at_dead_letters: threading.Thread | None = None  # answering thread only

    def __call__(self, request: Request) -> Result | Future[Result]:
        """Answers a request.

        Raises:
            Refused: it is not to be answered so.
        """
        answer = self._answers.get(request.do)
        if answer is None:
            known = ", ".join(sorted(self._answers))
            raise Refused("unknown", f"{request.do[:100]!r} is nothing that can be asked; that are {known}")
        return answer(request)

    def note(self, event: events.Event) -> None:
        """Takes note of what has happened. Brief; called on the observer's thread."""
        with self._lock:
            self._count += 1
            self._events.append((self._count, self._clock.wall(), event))
            if isinstance(event, events.ComponentFailed):
                self._failures[event.component] = event
            listeners, self._listeners = self._listeners, []
        for after, future in listeners:
            _settle(future, partial(self._events_since, after))

    # ------------------------------------------------------------------ looking
    def _version(self, request: Request) -> Result:
        return {
            "system": self._runtime.name,
            "pid": os.getpid(),
            "protocol": VERSION,
            "minions": _version_of_minions(),
            "python": platform.python_version(),
            "folder": str(self._folder.absolute()),
        }

    def _status(self, request: Request) -> Result:
        statuses, on_time = self._runtime.statuses_within(_SUPERVISOR_S)
        statistics = self._runtime.statistics()
        lives = self._lives()
        sample = self._runtime.seen.sample
        process = {} if sample is None else attrs.asdict(sample, filter=lambda field, _: field.name != "thread_cpu")
        flow = {name: getattr(statistics, name) for name in _OF_THE_FLOW}
        return {
            "system": self._runtime.name,
            "pid": os.getpid(),
            "folder": str(self._folder.absolute()),
            "state": self._runtime.stopping or "running",
            "up_for_s": self._clock.monotonic() - self._began_s,
            "supervisor_answers": on_time,
            "zombies": self._runtime.zombies,
            "components": [self._component(status, lives.get(status.name)) for status in statuses],
            "statistics": {name: _counts(each) for name, each in statistics.components.items()},
            "inboxes": {name: _counts(inbox) for name, inbox in statistics.inboxes.items()},
            "flow": {
                **flow,
                "commit_latency": _times(statistics.commit_latency),
                "commit_writing": _times(statistics.commit_writing),
            },
            "process": process,
            "watchdog": attrs.asdict(statistics.watchdog),
        }

    def _history(self, request: Request) -> Result:
        """The last moments, as many as are asked for: one list of values for each curve."""
        last = request.number_of("last") if "last" in request.arguments else MOST_ROWS
        found = self._runtime.history(last)
        return {
            "system": self._runtime.name,
            "moments": [round(moment, 3) for moment in found.moments],
            "process": {"cpu_ratio": _rounded(found.cpu_ratio), "rss_bytes": list(found.rss_bytes)},
            "components": {name: _rounded(values) for name, values in found.components.items()},
            "inboxes": {
                name: {
                    "in_per_s": _rounded(inbox.in_per_s),
                    "out_per_s": _rounded(inbox.out_per_s),
                    "length": list(inbox.length),
                }
                for name, inbox in found.inboxes.items()
            },
        }

    def _component(self, status: ComponentStatus, life: Life | None) -> dict[str, Any]:
        """What is told of one thread of a component."""
        has_thread = life is not None and bool(life.native_id)
        failure = self._failure_of(status.name)
        return {
            **attrs.asdict(status),
            "phase": status.phase.value,
            "doing": life.doing if life is not None and has_thread else "",
            "waits_for": life.waits_for if life is not None and has_thread else "",
            "still_for_s": self._runtime.still_for_s(status.name, status.epoch) if has_thread else None,
            "cpu_s": thread_cpu_s(life.native_id) if life is not None and has_thread else None,
            "failure": "" if failure is None else failure.error,
        }

    def _why(self, request: Request) -> Result:
        asked = request.text("component")
        statuses = {status.name: status for status in self._runtime.statuses_within(_SUPERVISOR_S)[0]}
        rooms = {name: (channel.size, channel.capacity) for name, channel in self._runtime.plan.channels.items()}
        used = self._cpu_used_now()

        def looks(component: str) -> list[Look]:
            return [self._look(statuses[name], statuses, used) for name in _of(component, statuses)]

        found = []
        for look in looks(self._known(asked)):
            chain = chain_of(look, looks, rooms, self._runtime.name)
            found.append(
                {
                    "component": look.name,
                    "sentence": sentence_of(chain),
                    "chain": [{**_shown(each), "because": how} for each, how in chain],
                }
            )
        return {"system": self._runtime.name, "components": found}

    def _look(
        self, status: ComponentStatus, statuses: Mapping[str, ComponentStatus], used: Mapping[int, float]
    ) -> Look:
        name = status.name
        life = self._lives().get(name)
        waiting = sum(channel.size for channel in self._runtime.plan.nodes[_component(name)].reads.values())
        look = Look(status=status, failure=self._failure_of(name), waiting=waiting, not_up=self._not_up(name, statuses))
        if life is None or not status.phase.has_thread or not life.native_id:
            return look
        native_id, ident = life.native_id, life.ident
        still_for_s = self._runtime.still_for_s(name, status.epoch)
        door = life.waits_for
        evidence = evidence_of(
            component=name,
            epoch=status.epoch,
            doing=life.doing,
            message_id=life.message_id_seen,
            for_s=still_for_s or 0.0,
            cpu_s=used.get(native_id, 0.0),
            ident=ident,
            native_id=native_id,
        )
        return attrs.evolve(
            look,
            doing=evidence.doing,
            door=door,
            evidence=evidence,
            cpu_ratio=used.get(native_id, 0.0) / _LOOK_TWICE_S,
            still_for_s=still_for_s,
        )

    def _not_up(self, name: str, statuses: Mapping[str, ComponentStatus]) -> tuple[str, ...]:
        below = self._graph.below(_component(name))
        return tuple(
            other for component in below for other in _of(component, statuses) if not statuses[other].phase.is_up
        )

    def _cpu_used_now(self) -> dict[int, float]:
        """How much CPU time each component's thread uses just now, in seconds, by its number; takes a moment."""
        numbers = [life.native_id for life in self._lives().values() if life.native_id]
        before = {number: thread_cpu_s(number) for number in numbers}
        until_s, parker = self._clock.monotonic() + _LOOK_TWICE_S, Parker()
        parker.park(until_s - self._clock.monotonic())
        found = {}
        for number, before_s in before.items():
            after_s = thread_cpu_s(number)
            if before_s is not None and after_s is not None:
                found[number] = max(0.0, after_s - before_s)
        return found

    def _stacks(self, request: Request) -> Result:
        wanted = set(_of(self._known(request.text("component")), self._lives())) if request.arguments else None
        names = {life.ident: life.name for life in self._lives().values() if life.ident}
        with reading_frames():
            frames = sys._current_frames()
            found = [
                (thread, lines_of(frames[thread.ident]))
                for thread in threading.enumerate()
                if thread.ident in frames and (wanted is None or names.get(thread.ident) in wanted)
            ]
            frames.clear()
        return {
            "system": self._runtime.name,
            "threads": [
                {
                    "thread": thread.name,
                    "component": names.get(thread.ident or 0, ""),
                    "cpu_s": None if thread.native_id is None else thread_cpu_s(thread.native_id),
                    "stack": print_lines(lines),
                }
                for thread, lines in found
            ],
        }

    # ------------------------------------------------------------------ events
    def _events_after(self, request: Request) -> Result | Future[Result]:
        """What has happened after the event of that number; where there is nothing yet, as soon as there is."""
        after = request.number_of("after")
        with self._lock:
            if self._count <= after:
                future: Future[Result] = Future()
                self._listeners = [(since, other) for since, other in self._listeners if not other.done()]
                self._listeners.append((after, future))
                return future
        return self._events_since(after)

    def _events_since(self, after: int) -> Result:
        with self._lock:
            found = [(number, at, event) for number, at, event in self._events if number > after]
            last = self._count
        return {
            "last": last,
            "missed": max(0, (found[0][0] if found else last + 1) - after - 1),
            "events": [_event(at, event) for _, at, event in found],
        }

    # ------------------------------------------------------------------ changing
    def _change(self, request: Request) -> Future[Result]:
        asked = request.texts("components")
        names = tuple(dict.fromkeys(self._component_named(name) for name in asked))
        if request.do == "halt" and not names:
            raise Refused("arguments", "halt: 'components' must name some; to stop the whole system is 'stop'")
        future = self._runtime.change(_CHANGES[request.do], names or None, "operator")
        return _then(future, lambda: {"components": list(names) or list(self._runtime.plan.nodes)})

    def _stop(self, request: Request) -> Future[Result]:
        self._runtime.stop("stopped")
        return _then(self._runtime.when_over(), self._end)

    def _end(self) -> Result:
        stopped = self._runtime.stopped
        return {} if stopped is None else attrs.asdict(stopped)

    def _dead(self, request: Request) -> Future[Result]:
        """Retries or drops dead letters, on a thread of its own, because that waits for a commit."""
        ids, of = request.texts("ids"), request.text("of") if "of" in request.arguments else None
        if self._at_dead_letters is not None and self._at_dead_letters.is_alive():
            raise Refused("busy", f"{request.do}: another one is at work; try again")
        letters = self._runtime.dead_letters
        act = letters.retry if request.do == "dead-retry" else letters.drop
        future: Future[Result] = Future()
        future.set_running_or_notify_cancel()
        self._at_dead_letters = threading.Thread(
            target=lambda: _settle(future, lambda: _letters(act(ids, of))),
            name=f"{self._runtime.name}/dead-letters",
            daemon=True,
        )
        self._at_dead_letters.start()
        return future

    # ------------------------------------------------------------------ names
    def _lives(self) -> dict[str, Life]:
        """The newest life of each thread of a component, by its name."""
        return {life.name: life for life in self._runtime.lives()}

    def _failure_of(self, name: str) -> events.ComponentFailed | None:
        with self._lock:
            return self._failures.get(name)

    def _known(self, name: str) -> str:
        """A name as it was asked for, of a component or of one of its threads.

        Raises:
            Refused: there is none.
        """
        lives = [life for plan in self._runtime.plan.nodes.values() for life in plan.node.lives()]
        if name not in self._runtime.plan.nodes and name not in lives:
            raise Refused(
                "no-such-component",
                f"{self._runtime.name} has no component {name[:100]!r}; it has {', '.join(self._runtime.plan.nodes)}",
            )
        return name

    def _component_named(self, name: str) -> str:
        """The component of that name; of one of its threads it is no name.

        Raises:
            Refused: there is none.
        """
        if name not in self._runtime.plan.nodes and self._known(name):
            raise Refused("arguments", f"{name} is one of the threads of {_component(name)}: name the component")
        return name


def _shown(look: Look) -> dict[str, Any]:
    evidence = look.evidence
    return {
        "component": look.name,
        "phase": look.status.phase.value,
        "epoch": look.status.epoch,
        "doing": look.doing,
        "waits_for": look.door or (evidence.resource if evidence is not None else ""),
        "holder": "" if evidence is None else evidence.holder,
        "system_call": "" if evidence is None else evidence.system_call,
        "on_cpu": None if evidence is None else evidence.on_cpu,
        "cpu_ratio": look.cpu_ratio,
        "still_for_s": look.still_for_s,
        "message_id": "" if evidence is None else evidence.message_id,
        "stack": "" if evidence is None else _of_user(evidence.stack) if look.door else evidence.stack,
        "failure": None if look.failure is None else attrs.asdict(look.failure),
    }


def _of_user(stack: str) -> str:
    """A stack that ends at a door of the runtime, up to the line of user code that came to it; empty where that has returned."""
    calls = stack.split(_CALL)
    while len(calls) > 1 and calls[-1].startswith(_OURS):
        calls.pop()
    return _CALL.join(calls)


def _event(at: float, event: events.Event) -> dict[str, Any]:
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"time": time, "event": type(event).__name__, "text": text_of(event), **attrs.asdict(event)}


def _letters(letters: Sequence[DeadLetter]) -> Result:
    return {"letters": [{"inbox": letter.channel, "id": letter.message_id} for letter in letters]}


def _of(component: str, names: Iterable[str]) -> list[str]:
    """The names that are those of threads of a component, or of one of them."""
    return [name for name in names if component in (name, _component(name))]


def _component(name: str) -> str:
    return name.partition("#")[0]


def _settle(future: Future[T], make: Callable[[], T]) -> None:
    try:
        future.set_result(make())
    except BaseException as error:  # noqa: BLE001 - it is the answer
        if not future.done():
            future.set_exception(error)


def _then(future: Future[None], make: Callable[[], Result]) -> Future[Result]:
    """What is to be told once something has come about."""
    answer: Future[Result] = Future()
    answer.set_running_or_notify_cancel()  # it comes about whether anybody is told or not

    def done(future: Future[None]) -> None:
        error = future.exception()
        if isinstance(error, MinionsError):
            answer.set_exception(Refused("failed", str(error)))
        elif error is not None:
            answer.set_exception(error)
        else:
            _settle(answer, make)

    future.add_done_callback(done)
    return answer


def _version_of_minions() -> str:
    from importlib import metadata  # noqa: PLC0415 - slow to import, and rarely needed

    return metadata.version("minions-runtime")


def _times(histogram: Histogram) -> dict[str, float]:
    """What is told of a histogram."""
    return {
        "count": histogram.count,
        "total_s": histogram.total_s,
        "p50_s": histogram.p50_s,
        "p95_s": histogram.p95_s,
        "p99_s": histogram.p99_s,
        "max_s": histogram.max_s,
    }


def _counts(statistics: Any) -> dict[str, Any]:
    """What is told of an inbox or a component: its counters, and of each histogram what follows from it."""
    found = {field.name: getattr(statistics, field.name) for field in attrs.fields(type(statistics))}
    return {name: _times(value) if isinstance(value, Histogram) else value for name, value in found.items()}


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]

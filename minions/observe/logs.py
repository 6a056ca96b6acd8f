"""Events as log lines. By default a system shows its start, its stop and what went wrong, on standard error."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minions import events
from minions.observe.field_logger import FieldLogger

__all__ = ["log_event", "shown_by_default"]

_SHOWN = "minions_shown"  # marks the records of lower levels that are shown all the same


def log_event(log: logging.Logger, event: events.Event) -> None:  # noqa: C901 - one short case for each kind of event
    """Logs one event of the system whose logger is `log`, under the name of the component that it is about.

    The records have the fields `event` (the name of its class), `component`, `epoch` and `message_id`, where it has them.
    """
    log = FieldLogger(log, functools.partial(_fields_of, event))
    match event:
        case events.StateOpened():
            _state_opened(log, event)
        case events.SystemStarted(components):
            _shown(log, "started: %s", _count(components, "component"))
        case events.SystemStopping(reason, timeout_s):
            log.info("stops (%s), within %g s", reason, timeout_s)
        case events.SystemStopped():
            _system_stopped(log, event)
        case events.ComponentStarted(component, epoch):
            log.getChild(component).debug("started, life %d", epoch)
        case events.ComponentFinished(component):
            log.getChild(component).debug("finished")
        case events.ComponentStopped(component):
            log.getChild(component).debug("stopped")
        case events.ComponentInterrupted(component, _, where, error):
            log.getChild(component).info("was broken off in %s: %s", where, error)
        case events.ComponentPaused(component, _, by):
            log.getChild(component).info("paused by the %s", by)
        case events.ComponentResumed(component):
            log.getChild(component).info("goes on")
        case events.ComponentFailed():
            _component_failed(log, event)
        case events.AfterCommitFailed(component, _, error, traceback, message_id):
            log.getChild(component).error(
                "what after_commit() was handed%s failed in a life that had failed before: %s\n%s",
                f" at message {message_id}" if message_id else "",
                error,
                traceback.rstrip(),
            )
        case events.AfterCommitDropped(component, _, functions):
            log.getChild(component).warning(
                "%s of after_commit() %s not called: the component had to end first",
                _count(functions, "function"),
                "was" if functions == 1 else "were",
            )
        case events.MessageOutlivedProcess(component, message_id, deaths):
            log.getChild(component).log(
                logging.WARNING if deaths > 1 else logging.INFO,  # a kill is nothing out of the ordinary
                "message %s was in work when the process died%s; it is tried again",
                message_id,
                f", {deaths} times in a row" if deaths > 1 else "",
            )
        case events.MessageSetAside(component, message_id, attempts, error, kept):
            log.getChild(component).error(
                "message %s failed %s and was %s: %s",
                message_id,
                _count(attempts, "time"),
                "set aside as a dead letter" if kept else "dropped",
                error,
            )
        case events.GaveUp(component, failures, within_s, then):
            follows = "the system stops" if then == "stop" else "it stays down, with what sends to it; the rest goes on"
            log.getChild(component).critical("failed %s within %g s, %s", _count(failures, "time"), within_s, follows)
        case events.ComponentAbandoned(component, _, stack, zombies):
            log.getChild(component).critical(
                "did not stop in time, its thread was abandoned%s here:\n%s",
                f" (one of {zombies} that are alive)" if zombies > 1 else "",
                stack.rstrip(),
            )
        case (
            events.LimitExceeded()
            | events.LimitKept()
            | events.TickLate()
            | events.ComponentStalled()
            | events.ComponentRecovered()
        ):
            _watched(log, event)
        case events.CommitTrouble(attempt, error, given_up):
            follows = "giving up, the system stops" if given_up else "nothing is lost, trying again"
            if attempt == 1 or given_up or attempt % 10 == 0:
                log.log(logging.CRITICAL if given_up else logging.WARNING, "commit failed (%s): %s", follows, error)
        case events.CommitsResumed(failures):
            _shown(log, "commits work again, after %s", _count(failures, "failure"))
        case events.PluginNotLoaded() | events.PluginFailed() | events.PluginSetAside() | events.EventsDropped():
            _of_plugins(log, event)


def _of_plugins(
    log: logging.Logger,
    event: events.PluginNotLoaded | events.PluginFailed | events.PluginSetAside | events.EventsDropped,
) -> None:
    match event:
        case events.PluginNotLoaded(plugin, problem, traceback):
            log.error("plugin %s is not used: %s%s", plugin, problem, f"\n{traceback.rstrip()}" if traceback else "")
        case events.PluginFailed(plugin, hook, error, traceback):
            log.error(
                "plugin %s failed in its hook %s (further errors there are counted only): %s\n%s",
                plugin,
                hook,
                error,
                traceback.rstrip(),
            )
        case events.PluginSetAside(plugin, hook, hung_s, stack):
            log.error(
                "plugin %s was set aside: its hook %s has not returned for %.1f s; it hangs here:\n%s",
                plugin,
                hook,
                hung_s,
                stack.rstrip(),
            )
        case events.EventsDropped("units", dropped, total):
            log.warning(
                "%s of work could not be told to plugins, which are too slow; %s so far",
                _count(dropped, "unit"),
                f"{total:,}",
            )
        case events.EventsDropped(readers, dropped, _, plugin):
            log.warning(
                "%s could not be told to the %s, which are too slow%s",
                _count(dropped, "event"),
                readers,
                f" (plugin {plugin})" if plugin else "",
            )


def _fields_of(event: events.Event) -> dict[str, Any]:
    found: dict[str, Any] = {"event": type(event).__name__}
    for name in ("component", "epoch", "message_id"):
        value = getattr(event, name, "")
        if value != "":
            found[name] = value
    return found


_WHY_LATE = {
    "gil_held": "the interpreter's lock (GIL) was kept",
    "stopped": "the process was stopped, throttled by a quota, or the whole machine was suspended",
    "starved": "no core was free for it: other processes have taken them",
    "unknown": "the reason is not known",
}
_THEN = {
    "report": "",
    "pause_sources": "; sources are paused",
    "restart": "; the component is restarted",
    "stop": "; the system stops",
}


def _watched(
    log: logging.Logger,
    event: events.LimitExceeded
    | events.LimitKept
    | events.TickLate
    | events.ComponentStalled
    | events.ComponentRecovered,
) -> None:
    match event:
        case events.LimitExceeded(then=then, text=text):
            log.warning("%s%s", text, _THEN[then])
        case events.LimitKept(limit, about, exceeded_s=exceeded_s):
            of = f" of {about}" if about else ""
            log.info("%s%s is back below its limit, after %.0f s", limit, of, exceeded_s)
        case events.TickLate(late_s, diagnosis, culprit, culprit_cpu_s, then):
            why = _WHY_LATE[diagnosis]
            if culprit:
                why = f"{why} by {culprit}, which has used {culprit_cpu_s:.1f} s of CPU time"
            log.warning("nothing ran for %.1f s: %s%s", late_s, why, _THEN[then])
        case events.ComponentStalled(component, _, evidence, answer):
            log.getChild(component).warning("%s%s\n%s", evidence.sentence, _THEN[answer], evidence.stack.rstrip())
        case events.ComponentRecovered(component, _, stalled_s, ended):
            log.getChild(component).info("%s after %.0f s without progress", "ended" if ended else "goes on", stalled_s)


def _state_opened(log: logging.Logger, event: events.StateOpened) -> None:
    if event.resumed:
        _shown(log, "resumes from %s: %s waiting", event.folder, _count(event.waiting_messages, "message"))
    if event.commits_lost:
        log.warning(
            "the power was lost, and with it the last %s of %s; what is there is consistent (synchronous='FULL' loses none)",
            _count(event.commits_lost, "commit"),
            event.folder,
        )
    if event.perhaps_lost:
        log.warning(
            "the machine went down while %s was in use: the last commits may be lost; what is there is consistent "
            "(synchronous='FULL' loses none)",
            event.folder,
        )
    for inbox in event.strangers:
        log.warning("%s holds messages for %s, which is not part of the system; they are kept", event.folder, inbox)


def _system_stopped(log: logging.Logger, event: events.SystemStopped) -> None:
    left = f"; {_count(event.left_messages, 'message')} kept for the next start" if event.left_messages else ""
    _shown(log, "stopped (%s)%s", event.reason, left)
    if event.lost_messages:
        log.warning("%s in inboxes that are not durable were dropped", _count(event.lost_messages, "message"))


def _component_failed(log: logging.Logger, event: events.ComponentFailed) -> None:
    again = "" if event.restart_in_s is None else f"; a new life begins in {event.restart_in_s:.1f} s"
    about = f" at message {event.message_id}" if event.message_id else ""
    about += f", attempt {event.attempt}" if event.attempt else ""
    log.getChild(event.component).error(
        "failed in %s%s%s: %s\n%s", event.where, about, again, event.error, event.traceback.rstrip()
    )


def _shown(log: logging.Logger, text: str, *values: object) -> None:
    log.info(text, *values, extra={_SHOWN: True})


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


@contextmanager
def shown_by_default() -> Iterator[None]:
    """While this lasts, warnings and the lines for start and stop are shown, unless the program has set up logging itself."""
    log = logging.getLogger("minions")
    if logging.getLogger().handlers or log.handlers:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or hasattr(record, _SHOWN))
    before = log.level
    log.addHandler(handler)
    log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)

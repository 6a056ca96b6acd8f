"""The hooks: one for each kind of event, and `event` for all of them. Public as `minions.hookspecs`.

A plugin is a module or an object with functions that are marked with `hookimpl` and named after a hook. Each takes the event,
which is a frozen value of the class in `minions.events` that its hook is named after, or nothing::

    from minions.hookspecs import hookimpl

    @hookimpl
    def component_failed(event):
        page_somebody(f"{event.component}: {event.error}")

What holds for all of them:

- **When.** After it has happened, in the order in which it happened. Nothing waits for a hook.
- **On which thread.** All on one thread of the system's own, ``<system>/plugins``, one after the other; never on that of a
  component. So a hook needs no lock against other hooks, and must not take long: others wait behind it. All together
  use a hundredth of a core at most, apart from bursts; beyond that they wait. When 10,000 events wait, further ones are dropped
  and counted (`events_dropped`).
- **May it raise?** It had better not, but nobody is harmed: the first error of each hook of a plugin is told with its traceback
  (`plugin_failed`), further ones are counted. A hook that does not return within the timeout (10 seconds, by the clock of the
  system) is told with its stack (`plugin_set_aside`); no hook of that plugin is called any more while the system runs.
- **What it returns** is not looked at. A hook is a plain function: ``async def``, generators and pluggy's wrappers are refused.
- **Order.** As in pluggy: what was registered last is called first, ``@hookimpl(tryfirst=True)`` before and
  ``@hookimpl(trylast=True)`` after the others; for one event, first the hooks of its kind and then `event`.
"""

from __future__ import annotations

import pluggy

from minions import events
from minions.observe.running import RunningSystem

__all__ = ["PROJECT", "hookimpl"]

PROJECT = "minions"
"""The name of the hook markers, and of the entry-point group."""

_hookspec = pluggy.HookspecMarker(PROJECT)

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as a hook: ``@hookimpl``, ``@hookimpl(tryfirst=True)``, ``@hookimpl(optionalhook=True)``."""


@_hookspec
def event(event: events.Event) -> None:
    """Anything at all has happened; called after the hook of its kind."""


@_hookspec
def attached(system: RunningSystem) -> None:
    """The plugin belongs to a run of a system: called once in each run, before any other hook of the plugin.

    The one hook that is not about an event, and the one that takes ``system``: what a plugin may ask of the system that runs.
    When it raises, the plugin is not used in this run, and that is told (`plugin_not_loaded`): a `ConfigurationError` with its
    problems, anything else with its traceback. What it starts ends with `system_stopped`.
    """


# ---------------------------------------------------------------------- the system
@_hookspec
def state_opened(event: events.StateOpened) -> None:
    """The state folder is open, before anything starts; not for a system that keeps nothing."""


@_hookspec
def system_started(event: events.SystemStarted) -> None:
    """Every component has started."""


@_hookspec
def system_stopping(event: events.SystemStopping) -> None:
    """The system begins to stop."""


@_hookspec
def system_stopped(event: events.SystemStopped) -> None:
    """The system has ended, in order or not; the last event there is. The process waits for a second at most before it ends."""


# ---------------------------------------------------------------------- components
@_hookspec
def component_started(event: events.ComponentStarted) -> None:
    """A life of a component has begun: its `on_start` has returned."""


@_hookspec
def component_finished(event: events.ComponentFinished) -> None:
    """The `run()` of a source has returned."""


@_hookspec
def component_stopped(event: events.ComponentStopped) -> None:
    """A life of a component has ended in order, because it was asked to."""


@_hookspec
def component_interrupted(event: events.ComponentInterrupted) -> None:
    """What a component was at when it was to stop was broken off."""


@_hookspec
def component_paused(event: events.ComponentPaused) -> None:
    """A component takes nothing more until it is resumed."""


@_hookspec
def component_resumed(event: events.ComponentResumed) -> None:
    """A component goes on after a pause."""


@_hookspec
def component_failed(event: events.ComponentFailed) -> None:
    """A life has ended with an error; the event says whether and when another one begins."""


@_hookspec
def component_abandoned(event: events.ComponentAbandoned) -> None:
    """A thread did not end in time and was cut off; it may be alive for as long as the process."""


@_hookspec
def gave_up(event: events.GaveUp) -> None:
    """A component failed too often and is not started again by itself."""


# ---------------------------------------------------------------------- messages and commits
@_hookspec
def message_set_aside(event: events.MessageSetAside) -> None:
    """A message failed as often as its inbox allows, and is a dead letter now, or dropped."""


@_hookspec
def message_outlived_process(event: events.MessageOutlivedProcess) -> None:
    """At the start: an earlier process died while a message was in work."""


@_hookspec
def after_commit_failed(event: events.AfterCommitFailed) -> None:
    """A function that was handed to `after_commit` raised in a life that had failed before."""


@_hookspec
def after_commit_dropped(event: events.AfterCommitDropped) -> None:
    """Functions that were handed to `after_commit` were not called, because the life had to end."""


@_hookspec
def commit_trouble(event: events.CommitTrouble) -> None:
    """A commit failed and is tried again; told at each attempt."""


@_hookspec
def commits_resumed(event: events.CommitsResumed) -> None:
    """A commit that had failed is made."""


@_hookspec
def unit_ended(event: events.UnitEnded) -> None:
    """A unit of work is whole or has failed.

    Where no plugin has this hook, it costs nothing. Where one has, each message takes the long way through the runtime: a message
    that is not durable some 15 microseconds instead of one, a durable one a few more than without; a unit that is told takes 20.

    A plugin has it from the start of a system on, or not at all: it is registered by the program, or ``minions.toml`` names it
    (in ``load``, or with a table of its own). An attribute ``unit_ratio`` of the plugin, from 0 to 1, says of how many of the
    units that no message has led to it is told; it is told of all that follow from these, and of no others. When 5,000 wait,
    further ones are dropped and counted (`events_dropped`).
    """


# ---------------------------------------------------------------------- the watchdog
@_hookspec
def component_stalled(event: events.ComponentStalled) -> None:
    """A thread makes no progress; the event has the evidence."""


@_hookspec
def component_recovered(event: events.ComponentRecovered) -> None:
    """A thread that was reported as stalled goes on, or its life is over."""


@_hookspec
def limit_exceeded(event: events.LimitExceeded) -> None:
    """Something that the watchdog measures has been past its mark for as long as its limit allows."""


@_hookspec
def limit_kept(event: events.LimitKept) -> None:
    """What had exceeded a limit is back below its lower mark."""


@_hookspec
def tick_late(event: events.TickLate) -> None:
    """The watchdog ran late, and with it everything else in Python."""


# ---------------------------------------------------------------------- plugins
@_hookspec
def plugin_not_loaded(event: events.PluginNotLoaded) -> None:
    """An installed plugin is not used, because it cannot be imported or is not what a plugin must be."""


@_hookspec
def plugin_failed(event: events.PluginFailed) -> None:
    """A hook of a plugin raised for the first time."""


@_hookspec
def plugin_set_aside(event: events.PluginSetAside) -> None:
    """A hook did not return in time; no hook of that plugin is called any more."""


@_hookspec
def events_dropped(event: events.EventsDropped) -> None:
    """More happened than could be told."""

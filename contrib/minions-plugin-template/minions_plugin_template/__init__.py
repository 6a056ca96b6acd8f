"""A plugin to begin with: it counts what happens in a system, and writes the counts to a file when the system has stopped.

Hooks are called on a thread of the system's own, one after the other, so there is no lock here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from minions import events
from minions.hookspecs import hookimpl

__all__ = ["Counting"]
__version__ = "0.1.0"


class Counting:
    """Counts events by their kind, and failures by their component.

    Args:
        path: of the file that is written.
    """

    def __init__(self, path: Path = Path("events-counted.json")) -> None:
        self.path = path
        self.kinds: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    @hookimpl
    def event(self, event: events.Event) -> None:
        """Called for everything that happens, after the hook of its kind."""
        self.kinds[type(event).__name__] += 1

    @hookimpl
    def component_failed(self, event: events.ComponentFailed) -> None:
        """Called when a life of a component has ended with an error."""
        self.failures[event.component] += 1

    @hookimpl(trylast=True)
    def system_stopped(self, event: events.SystemStopped) -> None:
        """Called last; the process waits for a second at most."""
        counted = {"reason": event.reason, "kinds": dict(self.kinds), "failures": dict(self.failures)}
        self.path.write_text(json.dumps(counted, indent=2), encoding="utf-8")

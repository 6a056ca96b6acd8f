"""Events in words, the same as in the log. No thread; safe to call from any."""

from __future__ import annotations

import logging

from minions import events
from minions.observe.logs import log_event

__all__ = ["text_of"]


def text_of(event: events.Event) -> str:
    """What the log says of an event, in one line: with the component that it is about, and without stacks."""
    said: list[str] = []
    log_event(_Listener("", said), event)
    return said[0] if said else " ".join(type(event).__name__.split())


class _Listener(logging.Logger):
    """A logger that is part of no tree, and keeps what it is told."""

    def __init__(self, name: str, said: list[str]) -> None:
        super().__init__(name, logging.DEBUG)
        self._said = said

    def getChild(self, suffix: str) -> _Listener:  # noqa: N802 - the name is the standard library's
        return _Listener(suffix, self._said)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - likewise
        return True

    def handle(self, record: logging.LogRecord) -> None:
        line = record.getMessage().partition("\n")[0].rstrip(":")
        self._said.append(f"{self.name}: {line}" if self.name else line)

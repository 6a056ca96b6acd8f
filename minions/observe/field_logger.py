"""A logger that puts fields on its records: which component, which life, which message. No thread, no lock of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["FieldLogger"]

_ASKED_OF_THE_BASE = (
    "isEnabledFor",  # so that a line that is not logged costs what it costs without fields
    "getEffectiveLevel",
    "setLevel",
    "handle",
    "hasHandlers",
    "addHandler",
    "removeHandler",
    "addFilter",
    "removeFilter",
)


class FieldLogger(logging.Logger):
    """Everything of another logger, its level, filters and handlers, with attributes on each record.

    It is a `logging.Logger`, and no `logging.LoggerAdapter`, because user code hands it to libraries that take one; it is not
    known to `logging.getLogger`, because two lives log under one name.

    Args:
        base: the logger that has this name.
        fields: gives the attributes, on the thread that logs, for each record that is made; ``extra=`` of the call goes first.
    """

    def __init__(self, base: logging.Logger, fields: Callable[[], Mapping[str, Any]]) -> None:
        super().__init__(base.name)
        self._base = base
        self._fields = fields
        self.parent = base
        for name in _ASKED_OF_THE_BASE:
            setattr(self, name, getattr(base, name))

    def makeRecord(self, *arguments: Any, **keywords: Any) -> logging.LogRecord:  # noqa: N802 - so named by the library
        record = super().makeRecord(*arguments, **keywords)
        for name, value in self._fields().items():
            record.__dict__.setdefault(name, value)
        return record

    def getChild(self, suffix: str) -> FieldLogger:  # noqa: N802 - so named by the library
        return FieldLogger(self._base.getChild(suffix), self._fields)

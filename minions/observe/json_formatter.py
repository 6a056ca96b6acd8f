"""Log records as JSON, one object a line. No thread, no lock."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonFormatter"]

_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "minions_shown"}


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON, for a handler of the standard library: ``handler.setFormatter(JsonFormatter())``.

    The keys are `time` (UTC, with milliseconds), `level`, `logger`, `message`, and `error` (the traceback) where there is one;
    then what else the record carries: `component`, `epoch` and `message_id` where it comes from a component, `event` where it
    tells of one, and what was given by ``extra=``. What JSON does not know is written as its text.
    """

    def __init__(self) -> None:
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """One line, without a line break in it."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(
                record.exc_info
            )  # kept there for other handlers, as the library does
        error = "\n".join(text for text in (record.exc_text, record.stack_info) if text)
        if error:
            line["error"] = error
        for name, value in vars(record).items():
            if name not in _OF_EVERY_RECORD:
                line.setdefault(name, value)
        try:
            return json.dumps(line, allow_nan=False, default=_text)
        except (TypeError, ValueError, RecursionError):  # a key that is no text, a float that JSON has not, a circle
            return json.dumps({str(name): _plain(value) for name, value in line.items()}, default=_text)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - an object that cannot be described; the line is worth more than it is
        return f"<{type(value).__name__} that cannot be described>"

"""An exception that comes from outside, as KeyboardInterrupt does on the main thread, at a step that the test chooses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from minions.flow import journal

__all__ = ["Interrupt", "interrupted"]

_OURS = journal.__file__.removesuffix("flow/journal.py")


class Interrupt(BaseException):
    """What comes."""


def interrupted(step: int, action: Callable[[], object]) -> bool:
    """Runs an action, and lets an exception come at one of its steps, counted from 1; False where it has none so far.

    A step is where CPython looks for signals: where a function of the runtime begins, or has called one that is made in C. Not in
    a generator: that it is closed is an event too.
    """
    steps = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        code = frame.f_code
        if event in ("call", "c_return") and code.co_filename.startswith(_OURS) and not code.co_flags & inspect.CO_GENERATOR:
            steps += 1
            if steps == step:
                raise Interrupt

    sys.setprofile(look)
    try:
        action()
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False

"""An exception that comes from outside, as KeyboardInterrupt does on the main thread, at a step that the test chooses."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, ParamSpec

from minions.flow import journal

__all__ = ["Interrupt", "interrupted"]

P = ParamSpec("P")

_OURS = journal.__file__.removesuffix("flow/journal.py")


class Interrupt(BaseException):
    """What comes."""


def interrupted(step: int, action: Callable[P, object], *args: P.args, **keywords: P.kwargs) -> bool:
    """Runs an action, and lets an exception come at one of its steps, counted from 1; False where it has none so far.

    A step is where CPython looks for signals: where a function of the runtime begins, or has called one that is made in C. Not in
    a generator: that it is closed is an event too.
    """
    steps = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        code = frame.f_code
        is_ours = code.co_filename.startswith(_OURS) and not code.co_flags & inspect.CO_GENERATOR
        if event in ("call", "c_return") and is_ours:
            steps += 1
            if steps == step:
                raise Interrupt

    sys.setprofile(look)
    try:
        action(*args, **keywords)
    except Interrupt:
        return True
    finally:
        sys.setprofile(None)
    return False

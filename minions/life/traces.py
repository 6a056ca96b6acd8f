"""Errors and stacks as text for people: what user code did, without the frames of the runtime that called it."""

from __future__ import annotations

import linecache
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from minions.errors import MinionsError
from minions.model import wrapped
from minions.threads import reading_frames

__all__ = ["describe", "frames_of", "lines_of", "print_lines", "stack_of", "trace_of"]

_MOST_FRAMES = 100
_OURS = (str(Path(__file__).parent), str(Path(wrapped.__file__)), str(threading.__file__))


def describe(error: BaseException) -> str:
    """Type and text of an error, one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the error's own way of describing itself; that it has none is said
        text = "<it cannot be described>"
    name = type(error).__name__
    if not text:
        return name
    return text if isinstance(error, MinionsError) else f"{name}: {text}"


def trace_of(error: BaseException) -> str:
    """The traceback of an error as Python prints it, from the first frame of user code on."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    except Exception:  # noqa: BLE001 - as above
        return "".join(traceback.format_tb(trace or error.__traceback__)) + describe(error)


def stack_of(ident: int | None) -> str:
    """Where a thread is, as Python prints it, from the first frame of user code on; empty when the thread has ended."""
    with reading_frames():
        frame = sys._current_frames().get(ident) if ident is not None else None
        lines = [] if frame is None else lines_of(frame)
    return print_lines(lines)


def lines_of(frame: FrameType) -> list[tuple[str, int, str]]:
    """File, line and function of each call that led to a frame, the innermost last, from the first frame of user code on.

    Fast and free of side effects, so that the frames of a running thread can be let go of before anything slow is done. For those
    of another thread inside of ``with reading_frames():``, see there.
    """
    stack = list(traceback.walk_stack(frame))[::-1]
    begin = next((index for index, (frame, _) in enumerate(stack) if not _is_ours(frame)), 0)
    return [(frame.f_code.co_filename, line or 0, frame.f_code.co_name) for frame, line in stack[begin:]]


def print_lines(lines: list[tuple[str, int, str]]) -> str:
    """Lines as Python prints a stack, with the source where it can be read."""
    for name in {name for name, _, _ in lines}:
        linecache.checkcache(name)
    return "".join(traceback.format_list(traceback.StackSummary.from_list([(*line, None) for line in lines])))


def _is_ours(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_OURS)


def frames_of(error: BaseException) -> tuple[str, ...]:
    """What user code was at when it raised an error: ``file: function: line of source`` for each frame, the innermost last.

    From the first frame of user code up to the runtime, where that was asked for something. No line numbers and no folders, so
    that two of them can be compared although the file was edited above, or moved. The last hundred of them: an endless recursion
    does not always end at the same depth.
    """
    found: list[str] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_ours(frame):
            if found:
                break
            continue
        name = frame.f_code.co_filename
        text = linecache.getline(name, line, frame.f_globals).strip()
        found.append(f"{Path(name).name}: {frame.f_code.co_name}: {text}")
    return tuple(found[-_MOST_FRAMES:])

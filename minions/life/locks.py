"""Which lock, queue, event or thread a blocked thread waits for, found by looking at its frames.

No state; safe to call from any thread.

Nothing of user code is run: attributes are read from where they are kept, and only objects of known classes are described.
In CPython 3.11 and 3.12, to look at the local variables of a frame makes a copy that lives as long as the frame.
"""

from __future__ import annotations

import _queue
import _thread
import ctypes
import re
import sys
import threading
from collections import deque
from collections.abc import Iterator
from types import FrameType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

__all__ = ["waited_for"]

_LIBRARY = {"threading", "queue", "concurrent.futures._base"}
_HEAD = object.__basicsize__
"""Where in a lock the pointer to the operating system's lock is: behind what every object begins with."""
_KEEPERS = tuple(
    kind
    for kind in (_thread.LockType, _thread.RLock, _queue.SimpleQueue)
    if sys.implementation.name == "cpython" and kind.__basicsize__ >= _HEAD + ctypes.sizeof(ctypes.c_void_p)
)
_THREADS_OWN = {"run", "_bootstrap", "_bootstrap_inner"}
_MOST_FRAMES = 4
_MOST_VISITS = 1_000
_MOST_ITEMS = 64
_MOST_STEPS = 3

Named = tuple[str, Any]
"""An object, and how the code at hand would write it."""


def waited_for(frame: FrameType, address: int | None) -> Named:
    """What a thread waits for that is blocked in a lock of the operating system, and which thread has it.

    Args:
        frame: the innermost frame of the thread.
        address: of the operating system's lock; None where it cannot be told.

    Returns:
        what it is, for people, and the name of the thread that holds it; each empty where that cannot be told.
    """
    owners, outer = _library_objects(frame)
    if not owners or frame.f_code.co_name == "__enter__":
        found = next((found for found in _locks_near(owners, outer) if _pointer_of(found[1]) == address), None)
        if found is not None:
            name, lock = found
            return f"{'' if type(lock) is _queue.SimpleQueue else 'lock '}{name} ({_kind(lock)})", _holder_of(lock)
    if not owners:
        return "", ""
    owner = owners[-1]
    name = next((name for name, value in _values_near(outer) if value is owner), "")
    return _described(owner, name, frame.f_code.co_name), ""


def _library_objects(frame: FrameType) -> tuple[list[Any], FrameType]:
    """The objects of the standard library in whose methods the thread is, the outermost last, and the frame that has called."""
    owners: list[Any] = []
    while (
        frame.f_globals.get("__name__") in _LIBRARY
        and frame.f_code.co_name not in _THREADS_OWN
        and frame.f_code.co_varnames[:1] == ("self",)
        and frame.f_back is not None
    ):
        owners.append(frame.f_locals.get("self"))
        frame = frame.f_back
    return owners, frame


def _described(owner: Any, name: str, method: str) -> str:
    """What is waited for when it is an object of the standard library.

    Args:
        name: how the code at hand would write it; or empty.
        method: that is blocked.
    """
    if isinstance(owner, threading.Thread):
        return f"the {'start' if method == 'wait' else 'end'} of thread {_attribute(owner, '_name')}"
    text = _kind(owner)
    items, most = _attribute(owner, "queue"), _attribute(owner, "maxsize")
    if type(items) in (deque, list) and type(most) is int and _attribute(owner, "mutex") is not None:
        text += f", {len(items)} items of at most {most or 'any number'}"
    elif _attribute(owner, "_flag") is False:
        text += ", not set"
    return f"{name} ({text})" if name else f"a {text}"


def _locks_near(owners: list[Any], frame: FrameType) -> Iterator[Named]:
    """The locks of the objects of the library, then those that the code of the frames can name."""
    for owner in owners:
        for name, value in _own(owner).items():
            if type(value) in _KEEPERS:
                yield f"{name} of {_kind(owner)}", value
    here: FrameType | None = frame
    for _ in range(_MOST_FRAMES):
        if here is None:
            return
        yield from ((name, value) for name, value in _values_near(here) if type(value) in _KEEPERS)
        here = here.f_back


def _values_near(frame: FrameType) -> Iterator[Named]:
    """What the code of a frame can reach by names that it uses: its variables, their attributes, and theirs, a few steps far.

    The nearest come first, and each object comes once. Items of a few plain containers count as attributes.
    """
    words, globals_ = frame.f_code.co_names, frame.f_globals
    level: list[Named] = list(frame.f_locals.items())
    level += [(word, globals_[word]) for word in words if word in globals_]
    seen: set[int] = set()
    for step in range(_MOST_STEPS):
        following: list[Named] = []
        for name, value in level:
            if id(value) in seen or len(seen) >= _MOST_VISITS:
                continue
            seen.add(id(value))
            yield name, value
            if step + 1 < _MOST_STEPS:
                following += _within(name, value, words)
        level = following


def _within(name: str, value: Any, words: tuple[str, ...]) -> Iterator[Named]:
    kind = type(value)
    if kind is dict:
        if len(value) <= _MOST_ITEMS:
            yield from ((f"{name}[...]", item) for item in list(value.values()))
    elif kind in (list, tuple):
        yield from ((f"{name}[{index}]", item) for index, item in enumerate(value[:_MOST_ITEMS]))
    else:
        for word in words:
            if (found := _attribute(value, word)) is not None:
                yield f"{name}.{word}", found


def _attribute(value: Any, name: str) -> Any:
    """An attribute as it is kept, in the instance, in a slot or in the class; None where it would have to be computed."""
    own = _own(value)
    if name in own:
        return own[name]
    for kind in type(value).__mro__:
        if name in kind.__dict__:
            found = kind.__dict__[name]
            if type(found) is not MemberDescriptorType:
                return found
            try:
                return found.__get__(value)
            except AttributeError:
                return None
    return None


def _own(value: Any) -> dict[str, Any]:
    for kind in type(value).__mro__:
        keeper = kind.__dict__.get("__dict__")
        if (
            type(keeper) is GetSetDescriptorType
        ):  # a class may make of this what it likes; then there is nothing to be seen
            own = keeper.__get__(value)
            return own if type(own) is dict else {}
        if keeper is not None:
            break  # a class may make of this what it likes; then there is nothing to be seen
    return {}


def _pointer_of(lock: Any) -> int | None:
    """The address of the operating system's lock inside of a lock; the caller holds a reference to it."""
    if type(lock) not in _KEEPERS:
        return None
    return ctypes.c_void_p.from_address(id(lock) + _HEAD).value


def _holder_of(lock: Any) -> str:
    """The name of the thread that holds a lock which knows it. Asks no lock, so that whoever hangs in one cannot stop us too."""
    owner = re.search(r"owner=(\d+)", repr(lock)) if type(lock) is _thread.RLock else None
    if owner is None or owner[1] == "0":
        return ""
    thread = getattr(threading, "_active", {}).get(int(owner[1]))
    return str(_attribute(thread, "_name")) if thread is not None else f"{owner[1]}, which has ended or is not Python's"


def _kind(value: Any) -> str:
    kind = type(value)
    if kind is _thread.LockType:
        return "threading.Lock"
    if kind is _thread.RLock:
        return "threading.RLock"
    return f"{'queue' if kind is _queue.SimpleQueue else kind.__module__}.{kind.__qualname__}"

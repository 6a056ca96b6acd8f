"""What a shape is, and how the place of a fault is found with it. No thread, no lock.

A shape is built once, when a type is declared, and never changes afterwards, so any thread may use it. It is strict in
both directions: `unstructure` raises for a value that could not be loaded again as it is, `structure` for data that
`unstructure` did not write. Neither says where in a large value the fault is: that would cost time on every value. It is
found afterwards, by `fault`, for the one value in a million that has one.

The class of a value must be the declared one exactly. An instance of a subclass would come back as an instance of the
declared class, so it is refused.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

Direction = Literal["unstructure", "structure"]
Part = tuple[str, "Shape", Any]  # where it is, what it should be, what it is

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_OBVIOUS = (str, int, float, bool, type(None), bytes, list, dict, tuple, set)


class Unfit(Exception):
    """A value, or a piece of stored data, that its shape does not take; the text says why."""


class NoExample(Exception):
    """No example can be made up here: the type contains itself."""


def shown(value: object) -> str:
    """A short text for an error message, whatever the value's own `repr` does."""
    cls = type(value)
    try:
        text = _REPR.repr(value)
    except Exception:  # noqa: BLE001 - some builtins refuse too: an int of 5,000 digits
        return f"<{cls.__name__} instance>"
    return text if cls in _OBVIOUS or text.startswith(f"{cls.__name__}(") else f"{text} of {cls.__name__}"


class Shape:
    """One declared type.

    `unstructure` and `structure` run for every value; the rest is for declaration and for error messages.
    """

    name: str
    takes: tuple[type, ...]  # the exact classes of its values; no two members of a union share one
    children: Sequence[Shape] = ()
    fixed = True  # cannot change by itself; whether its parts can is theirs to say
    by_value = True  # `==` and `hash` go by content, so that a set or a dict finds it again
    finished = True  # False while the fields of a class are still being read
    unbounded = False  # values may nest without end
    runs_code = False  # loading runs code of the class, which might change what was stored
    validates = False  # loading runs validators of the class, which might refuse what has changed since it was made
    text = False  # the plain form is always a str
    inline: str | None = None  # a Python expression in {v}: true when the value is its own plain form

    unstructure: Callable[[Any], Any]
    structure: Callable[..., Any]  # cattrs calls it with a second argument

    def parts(self, value: Any) -> Iterator[Part]:
        """What is inside a value. Only called with a value of a class that this shape takes."""
        return iter(())

    def stored_parts(self, plain: Any) -> Iterator[Part]:
        """What is inside plain data, which may be anything."""
        return iter(())

    def complaint(self, value: object, error: BaseException, direction: Direction) -> str:
        """Why this shape refused, where none of its parts did."""
        if isinstance(error, Unfit):
            return str(error)
        if direction == "unstructure" and self.text and type(value) in self.takes:
            return f"{shown(value)} holds a lone surrogate, which is no text; store bytes"
        return f"expected {self.name}, got {shown(value)}"

    def example(self, within: frozenset[Shape] = frozenset()) -> Any:
        """Plain data that this shape takes; `within` are the classes that it is part of. Raises NoExample."""
        raise NotImplementedError

    def unfit(self, value: object) -> Unfit:
        return Unfit(f"expected {self.name}, got {shown(value)}")


def reachable(shape: Shape) -> list[Shape]:
    """The shape and everything that its values can hold."""
    found: dict[Shape, None] = {}
    waiting = [shape]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found[current] = None
            waiting.extend(current.children)
    return list(found)


def is_immutable(shape: Shape) -> bool:
    """Whether nothing in a value can change."""
    return all(part.fixed for part in reachable(shape))


def is_key(shape: Shape) -> bool:
    """Whether a set or a dict finds such a value again after it was loaded."""
    return all(part.fixed and part.by_value for part in reachable(shape))


Attempt = Callable[[Callable[..., Any], Any], object]


def fault(shape: Shape, value: Any, direction: Direction, path: str, attempt: Attempt) -> tuple[str, str]:
    """The path of the innermost part that is refused, and why it is.

    Args:
        value: what was refused: a value to unstructure, or plain data to structure.
        path: what to call the whole.
        attempt: what failed, to be tried on one part: it is handed the part's function and the part.
    """
    while error := _raised(attempt, shape, value, direction):
        if direction == "structure":
            parts = shape.stored_parts(value)
        else:
            parts = shape.parts(value) if type(value) in shape.takes else iter(())
        for where, part, inner in parts:
            if _raised(attempt, part, inner, direction):
                path, shape, value = path + where, part, inner
                break
        else:
            return path, shape.complaint(value, error, direction)
    return path, "it was changed by another thread meanwhile; send a copy, or a frozen class"


def _raised(attempt: Attempt, shape: Shape, value: Any, direction: Direction) -> Exception | None:
    try:
        attempt(getattr(shape, direction), value)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was looked for
        return error
    return None


# For those that generate code -----------------------------------------------------------------------------------------


def hook(shape: Shape, direction: Direction) -> Callable[..., Any]:
    """The shape's function; looked up at each call for a shape that is still being read: a class that contains itself."""
    if shape.finished:
        function: Callable[..., Any] = getattr(shape, direction)
        return function
    return lambda value, _=None: getattr(shape, direction)(value)


def plain_form(shape: Shape, variable: str, function: str) -> str:
    """An expression for a variable's plain form, which spares the call where the value is plain as it is."""
    call = f"{function}({variable})"
    return f"{variable} if {shape.inline.format(v=variable)} else {call}" if shape.inline else call


def compiled(lines: Sequence[str], names: Mapping[str, Any], title: str) -> Callable[..., Any]:
    """The function `run` that the lines define. What they are made of are our own words and names of fields."""
    namespace = dict(names)
    exec(compile("\n".join(lines), f"<codec of {title}>", "exec"), namespace)  # noqa: S102 - half the time of closures
    run: Callable[..., Any] = namespace["run"]
    return run

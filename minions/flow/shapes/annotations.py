"""What annotations say: the names of types, and the types of a class's fields. No thread, no lock."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs


def name_of(declared: Any) -> str:
    """A type in words, classes without their module: `Reading`, `dict[str, int]`, `Reading | None`."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in (None, type(None)):
        return "None"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(name_of, arguments))
    if origin is None or origin is typing.Literal or not isinstance(origin, type):
        name = getattr(declared, "__qualname__", None) or getattr(declared, "__name__", None) or str(declared)
        return str(name).rpartition("<locals>.")[2]
    return f"{name_of(origin)}[{', '.join('...' if a is Ellipsis else name_of(a) for a in arguments)}]"


def full_name_of(declared: Any) -> str:
    """A type as its user imports it: `socket.socket`, `typing.Any`."""
    if not isinstance(declared, type):
        return str(declared)
    return (
        declared.__qualname__ if declared.__module__ == "builtins" else f"{declared.__module__}.{declared.__qualname__}"
    )


def origin_of(declared: Any) -> Any:
    """The class of a type with arguments, or the type itself."""
    return typing.get_origin(declared) or declared


def field_types(declared: Any) -> dict[str, Any]:
    """The types of a class's fields by name; what a generic class was declared with stands for its type variables.

    Raises:
        NameError: an annotation names what cannot be found.
    """
    cls = origin_of(declared)
    # A class that was made inside a function is found by the name that it has for itself.
    hints = typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    variables = _variables(declared)
    if typing.is_typeddict(cls):  # its bases are not among its ancestors
        return {name: _bound(hint, variables[cls]) for name, hint in hints.items()}
    found = {
        name: _bound(hints[name], variables.get(base, {}))
        for base in reversed(cls.__mro__)
        for name in inspect.get_annotations(base)
        if name in hints
    }
    if attrs.has(cls):
        for field in attrs.fields(cls):
            if field.type is not None:
                found.setdefault(field.name, field.type)
    return found


def _variables(declared: Any) -> dict[Any, dict[Any, Any]]:
    """For each class among the ancestors, what its type variables stand for."""
    found: dict[Any, dict[Any, Any]] = {}
    waiting = [declared]
    while waiting:
        current = waiting.pop()
        cls = origin_of(current)
        found[cls] = dict(zip(getattr(cls, "__parameters__", ()), typing.get_args(current), strict=False))
        bases = vars(cls).get("__orig_bases__", cls.__bases__)
        classes = [
            base for base in bases if isinstance(origin_of(base), type) and origin_of(base) is not typing.Generic
        ]
        waiting += [_bound(base, found[cls]) for base in classes]
    return found


def _bound(declared: Any, variables: Mapping[Any, Any]) -> Any:
    if isinstance(declared, TypeVar):
        return variables.get(declared, declared)
    if isinstance(declared, type):  # a generic class without its types: they stay open, and are refused
        return declared
    parameters = getattr(declared, "__parameters__", ())
    return declared[tuple(variables.get(parameter, parameter) for parameter in parameters)] if parameters else declared

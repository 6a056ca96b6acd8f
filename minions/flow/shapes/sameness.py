"""Whether a value came back as it was. No thread, no lock."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from collections import defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from minions.flow.shapes.numpy_array import is_same_array
from minions.flow.shapes.scalars import moment_to_text


def is_same(one: Any, other: Any) -> bool:
    """Whether two values have the same class and the same contents, whatever their `==` says.

    It is stricter than `==` (1.0 and 1.00, -0.0 and 0.0, fields with `eq=False`), and milder with NaN, which is the same
    as NaN. An int is the same as the float that it came back as.
    """
    cls = type(one)
    if cls is not type(other):
        return cls is int and type(other) is float and one == other
    if (same := _SAME_BY_CLASS.get(cls)) is not None:
        return same(one, other)
    if attrs.has(cls):
        return all(is_same(getattr(one, a.name), getattr(other, a.name)) for a in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return all(is_same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(cls))
    if issubclass(cls, tuple):
        return _same_items(one, other)
    if issubclass(cls, dict):
        return _same_items(one, other) and _same_items(one.values(), other.values())
    array = is_same_array(one, other)
    return bool(one == other) if array is None else array


def _same_items(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(is_same, one, other))


def _same_floats(one: float, other: float) -> bool:
    if math.isnan(one):
        return math.isnan(other)
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def _same_sets(one: Any, other: Any) -> bool:
    if one == other:
        return True
    return len(one) == len(other) and all(any(is_same(a, b) for b in other) for a in one)


_SAME_BY_CLASS: dict[type, Callable[[Any, Any], bool]] = {
    float: _same_floats,
    complex: lambda one, other: _same_floats(one.real, other.real) and _same_floats(one.imag, other.imag),
    Decimal: lambda one, other: one.as_tuple() == other.as_tuple(),  # a signalling NaN cannot be compared
    dt.datetime: lambda one, other: moment_to_text(one) == moment_to_text(other),
    dt.time: lambda one, other: moment_to_text(one) == moment_to_text(other),
    list: _same_items,
    deque: lambda one, other: one.maxlen == other.maxlen and _same_items(one, other),
    defaultdict: lambda one, other: (
        one.default_factory is other.default_factory
        and _same_items(one, other)
        and _same_items(one.values(), other.values())
    ),
    set: _same_sets,
    frozenset: _same_sets,
}

"""Values of no declared type, as a crash keeps them: arguments and results of calls. Plain functions, no thread, no lock.

A scalar is itself, a collection is marked as what it is, and any other value is stored by the codec of its own class, under the
name of that class. To load one, its class has to be in a module that is loaded already: nothing is imported, and only a class
that the codec can store is ever made.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import attrs

from minions.errors import CannotStore, CodecError
from minions.flow.codec import TypeCodec, codec_of

__all__ = ["CannotRecord", "KeptError", "KeptValue", "class_named", "error_of", "keep_error", "keep_value", "value_of"]

_MOST_DEEP = 50
_LONGEST_SHOWN = 200
_COLLECTIONS: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAKERS: dict[str, Callable[[Any], Any]] = {name: kind for kind, name in _COLLECTIONS.items()}


class CannotRecord(Exception):
    """Why a value cannot be kept, or made again of what was kept."""


@attrs.frozen
class KeptValue:
    """A value.

    Attributes:
        stored: its stored form, JSON; empty where it cannot be stored.
        shown: what it looks like, for people; shortened.
    """

    stored: str
    shown: str


@attrs.frozen
class KeptError:
    """An error that a call has raised.

    Attributes:
        kind: its class, ``module:name``.
        arguments: what the error was made with.
        shown: class and text, for people.
    """

    kind: str
    arguments: tuple[KeptValue, ...]
    shown: str


def keep_value(value: Any) -> KeptValue:
    """A value as it is kept. Runs code of its class; what that raises is no failure: the value is then not recorded."""
    shown = _shown(value)
    try:
        return KeptValue(json.dumps(_plain(value, 0), allow_nan=False), shown)
    except Exception:  # noqa: BLE001 - whatever stands in the way: that it is not recorded is told when it is asked for
        return KeptValue("", shown)


def keep_error(kind: type[BaseException], arguments: tuple[Any, ...]) -> KeptError:
    """The same of an error, of which the class is known and what it was made with."""
    shown = ", ".join(_shown(each) for each in arguments)
    return KeptError(_name_of(kind), tuple(keep_value(each) for each in arguments), f"{kind.__name__}({shown})")


def value_of(kept: KeptValue, aliases: Mapping[str, str] = {}) -> Any:
    """The value again.

    Args:
        aliases: modules that are called otherwise now: the program was run as ``__main__`` then.

    Raises:
        CannotRecord: it was not recorded, or its class is gone or is another one now.
    """
    if not kept.stored:
        raise CannotRecord(f"{kept.shown} could not be stored")
    try:
        return _made(json.loads(kept.stored), aliases)
    except (CodecError, KeyError, TypeError, ValueError) as error:
        raise CannotRecord(f"{kept.shown} cannot be made again: {error}") from error


def error_of(kept: KeptError, aliases: Mapping[str, str] = {}) -> BaseException:
    """The error again.

    Raises:
        CannotRecord: its class is gone, or does not take what it was made with.
    """
    kind = class_named(kept.kind, aliases)
    if not issubclass(kind, BaseException):
        raise CannotRecord(f"{kept.kind} is no error any more")
    arguments = [value_of(each, aliases) for each in kept.arguments]
    try:
        error: BaseException = kind(*arguments)
    except Exception as raised:  # because of what the class of a user's error may want
        raise CannotRecord(f"{kept.shown} cannot be made again: {raised}") from raised
    return error


def class_named(name: str, aliases: Mapping[str, str] = {}) -> type:
    """A class of a module that is loaded.

    Raises:
        CannotRecord: there is none.
    """
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(aliases.get(module, module))
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        raise CannotRecord(f"there is no class {name} any more")
    return found


def _name_of(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _shown(value: Any) -> str:
    try:
        text = repr(value).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001 - its own way of showing itself; that it has none is said
        return f"<a {type(value).__qualname__} that cannot be shown>"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _plain(value: Any, depth: int) -> Any:
    kind: Any = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if depth > _MOST_DEEP:
        raise CannotRecord("nested too deep")
    if kind in _COLLECTIONS:
        return {_COLLECTIONS[kind]: [_plain(each, depth + 1) for each in value]}
    if kind is dict:
        return {"dict": [[_plain(key, depth + 1), _plain(each, depth + 1)] for key, each in value.items()]}
    if class_named(_name_of(kind)) is not kind:
        raise CannotRecord("its class would not be found again")
    codec: TypeCodec[Any] = _codec_of(kind)
    return {"of": _name_of(kind), "value": json.loads(codec.encode(value))}


def _made(plain: Any, aliases: Mapping[str, str]) -> Any:
    if type(plain) is not dict:
        return plain
    if "of" in plain:
        return _codec_of(class_named(plain["of"], aliases)).decode(json.dumps(plain["value"]).encode())
    [(kind, parts)] = plain.items()
    if kind == "dict":
        return {_made(key, aliases): _made(each, aliases) for key, each in parts}
    return _MAKERS[kind](_made(each, aliases) for each in parts)


@lru_cache(maxsize=256)
def _codec_of(kind: Any) -> TypeCodec[Any]:
    if kind is object or kind in _COLLECTIONS or kind is dict:
        raise CannotStore(f"{kind!r} says nothing of what is in it")
    return codec_of(kind)

"""What `minions.toml` says: a text in, values and problems out. No thread; the one function that reads a file says so.

What the file says holds, whatever the program says: it is where a system is set up for the place that it runs in.
"""

from __future__ import annotations

import abc
import dataclasses
import datetime
import decimal
import difflib
import enum
import functools
import inspect
import json
import re
import threading
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import attrs
import cattrs
from cattrs.errors import (
    AttributeValidationNote,
    ClassValidationError,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.strategies import configure_union_passthrough

from minions.errors import ConfigurationError
from minions.model.component import Component
from minions.model.crashes import Crashes
from minions.model.limits import Watchdog

__all__ = [
    "FILE_NAME",
    "Configuration",
    "Configured",
    "PluginSettings",
    "SystemSettings",
    "configuration_of",
    "configured",
    "read",
    "replaced",
    "unknown",
]

FILE_NAME = "minions.toml"
"""Its name, beside the script."""

_TABLES = ("watchdog", "crashes", "system", "plugins", "components")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class SystemSettings:
    """The table ``[system]``; None for what it does not say.

    Attributes:
        stop_timeout_s: the one deadline for an orderly stop, in seconds.
        synchronous: what a commit survives: "NORMAL" or "FULL".
        max_zombies: how many threads may be abandoned and still alive before the system stops.
        control: whether there is a control socket, by which the command line reaches the system.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    stop_timeout_s: float | None = None
    synchronous: Literal["NORMAL", "FULL"] | None = None
    max_zombies: int | None = None
    control: bool | None = None

    def __attrs_post_init__(self) -> None:
        problems = []
        if self.stop_timeout_s is not None and not 0 < self.stop_timeout_s < float("inf"):
            problems.append(f"stop_timeout_s = {self.stop_timeout_s!r}: must be above 0 (seconds)")
        if self.max_zombies is not None and self.max_zombies < 0:
            problems.append(f"max_zombies = {self.max_zombies!r}: must be 0 or more")
        if problems:
            raise ConfigurationError("SystemSettings", problems)


@attrs.frozen(kw_only=True)
class PluginSettings:
    """The table ``[plugins]``.

    Attributes:
        load: the plugins of the project: modules, or objects or classes in modules (``"package.module:Class"``).
        disabled: the names of installed plugins that are not used.
        installed: whether installed plugins are used at all.
        hook_timeout_s: how long a hook may take, in seconds; None: as the program says, or 10.
        hook_cpu_ratio: how much of one core all hooks together may use for long; None: as the program says, or 0.01.

    Raises:
        ConfigurationError: naming the value that is wrong.
    """

    load: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    installed: bool = True
    hook_timeout_s: float | None = None
    hook_cpu_ratio: float | None = None

    def __attrs_post_init__(self) -> None:
        problems = []
        if self.hook_timeout_s is not None and not 0 < self.hook_timeout_s < float("inf"):
            problems.append(f"hook_timeout_s = {self.hook_timeout_s!r}: must be above 0 (seconds)")
        if self.hook_cpu_ratio is not None and not 0 < self.hook_cpu_ratio <= 1:
            problems.append(f"hook_cpu_ratio = {self.hook_cpu_ratio!r}: must be above 0 and at most 1 (of a core)")
        if problems:
            raise ConfigurationError("PluginSettings", problems)


@attrs.frozen(kw_only=True)
class Configuration:
    """What a file says, but for the components: what theirs may be depends on their classes, see `configured`.

    Attributes:
        watchdog: the watchdog that the program asks for, with what the file says in its place.
        crashes: likewise what is kept of crashes.
        system: the settings of the system.
        plugins: which plugins there are, and how long their hooks may take.
        plugin_tables: for each plugin that the file names, its table as it stands there: what its settings may be it says itself.
        components: for each component that the file names, its table as it stands there.
    """

    watchdog: Watchdog = Watchdog()
    crashes: Crashes = Crashes()
    system: SystemSettings = SystemSettings()
    plugins: PluginSettings = PluginSettings()
    plugin_tables: Mapping[str, Mapping[str, Any]] = attrs.Factory(dict)
    components: Mapping[str, Mapping[str, Any]] = attrs.Factory(dict)


@attrs.frozen
class Configured:
    """What a file says of one component.

    Attributes:
        values: arguments of its class, instead of those that the program gives.
        problems: what is wrong, one sentence each. What is not wrong is in `values` all the same.
    """

    values: Mapping[str, Any]
    problems: tuple[str, ...]


def read(path: Path) -> str | None:
    """The text of a file; None where there is none. Reads the disk.

    Raises:
        ConfigurationError: it is there and cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise ConfigurationError(str(path), [f"it is not UTF-8 ({error}): save it as UTF-8"]) from error
    except OSError as error:
        raise ConfigurationError(str(path), [f"it cannot be read ({error}): change that, or move it away"]) from error


def configuration_of(
    text: str, watchdog: Watchdog = Watchdog(), crashes: Crashes = Crashes()
) -> tuple[Configuration, list[str]]:
    """What a text in TOML says, and everything that is wrong with it, one sentence each.

    Args:
        text: of the file.
        watchdog: the one that the program asks for. A key of ``[watchdog]`` replaces one of its values, and a table such as
            ``[watchdog.memory]`` the whole limit: what it does not say has the default of its class.
        crashes: likewise; a key of ``[crashes]`` replaces one of its values.
    """
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # not its own alone: of a number with 5,000 digits, Python's
        return Configuration(watchdog=watchdog, crashes=crashes), [f"this is no TOML: {error}"]
    problems = [
        f"{_top(name, table)}: there is no such table; {_nearest(name, _TABLES)}"
        for name, table in tables.items()
        if name not in _TABLES
    ]
    found = {name: tables.get(name, {}) for name in _TABLES}
    for name, table in found.items():
        if not isinstance(table, dict):
            problems.append(
                f"{name} = {_shown(table)}: must be a table: write [{name}], and its values in the lines below"
            )
            found[name] = {}
    components = {}
    for name, table in found["components"].items():
        if isinstance(table, dict):
            components[name] = table
        else:
            problems.append(f"[components] {name} = {_shown(table)}: must be a table: write [components.{_key(name)}]")
    watched = _structured(functools.partial(attrs.evolve, watchdog), Watchdog, found["watchdog"], ("watchdog",))
    kept = _structured(functools.partial(attrs.evolve, crashes), Crashes, found["crashes"], ("crashes",))
    settings = _structured(SystemSettings, SystemSettings, found["system"], ("system",))
    own = _fields_of(PluginSettings)
    of_plugins = {
        name: table for name, table in found["plugins"].items() if isinstance(table, dict) and name not in own
    }
    others = {name: value for name, value in found["plugins"].items() if name not in of_plugins}
    plugins = _structured(PluginSettings, PluginSettings, others, ("plugins",))
    configuration = Configuration(
        watchdog=watched.value or watchdog,
        crashes=kept.value or crashes,
        system=settings.value or SystemSettings(),
        plugins=plugins.value or PluginSettings(),
        plugin_tables=of_plugins,
        components=components,
    )
    return configuration, [
        *problems,
        *watched.problems,
        *kept.problems,
        *settings.problems,
        *plugins.problems,
    ]


def unknown(components: Iterable[str], known: Iterable[str]) -> list[str]:
    """A problem for each component that a file names and the system does not have."""
    names = list(known)
    return [
        f"[components.{_key(name)}]: there is no such component; {_nearest(name, names)}"
        for name in components
        if name not in names
    ]


def configured(blueprint: Component, name: str, table: Mapping[str, Any]) -> Configured:
    """What the table of a component says, as values of its fields; each is tried on the class of the component.

    Args:
        blueprint: the component, as it was added.
        name: under which it was added.
        table: what stands under ``[components.<name>]``.
    """
    path, fields, cls = ("components", name), _fields_of(type(blueprint)), type(blueprint)
    given: dict[str, Any] = blueprint.__dict__["_minions_arguments"]
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in table.items():
        if key not in fields:
            known = _nearest(key, fields) if fields else f"{cls.__name__} has no configuration"
            problems.append(f"{_at(path)} {_key(key)}: there is no such field; {known}")
            continue
        made = _value_of(fields[key], value, (*path, key))
        wrong = made.problems
        if not wrong:
            wrong = list(_refusals(cls, given | {key: made.value}, f"{_at(path)} {_key(key)} = {_shown(value)}"))
        if not wrong:
            values[key] = made.value
        problems += wrong
    if not problems and len(values) > 1:
        problems += _refusals(cls, given | values, _at(path))
    return Configured(values, tuple(problems))


def replaced(settings: T, table: Mapping[str, Any], path: tuple[str, ...]) -> tuple[T | None, list[str]]:
    """Settings with what a table says in the place of some of their values, and what is wrong with it; None where anything is.

    Args:
        settings: an object of an attrs class.
        table: as it stands in the file.
        path: of the table.
    """

    def make(**values: Any) -> T:
        try:
            return attrs.evolve(settings, **values)  # type: ignore[misc]
        except ConfigurationError:
            raise
        except Exception as error:  # whatever the class of a plugin raises is what is wrong
            raise ConfigurationError(type(settings).__name__, [_said(error)]) from error

    made = _structured(make, type(settings), table, path)
    return made.value, made.problems


# ---------------------------------------------------------------------- tables of ours
def _structured(make: Callable[..., T], cls: type[T], table: Mapping[str, Any], path: tuple[str, ...]) -> _Made[T]:
    """An object of a class of ours as a table says it; none where anything is wrong with the table.

    Args:
        make: the class, or what puts the values in the place of those of another object.
    """
    fields = _fields_of(cls)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in table.items():
        if key not in fields:
            kind, where = (
                ("table", _at((*path, key))) if isinstance(value, dict) else ("key", f"{_at(path)} {_key(key)}")
            )
            problems.append(f"{where}: there is no such {kind}; {_nearest(key, fields)}")
            continue
        made = _field_structured(fields[key], value, (*path, key))
        problems += made.problems
        if made.value is not None:
            values[key] = made.value
    try:
        value = make(**values)
    except ConfigurationError as error:
        problems += [f"{_at(path)} {problem}" for problem in error.problems]
    return _Made(None if problems else value, problems)


def _field_structured(field: _Field, value: Any, path: tuple[str, ...]) -> _Made[Any]:
    if not attrs.has(field.type):
        return _value_of(field, value, path)
    if isinstance(value, dict):
        return _structured(field.type, field.type, value, path)
    return _Made(None, [f"{_at(path[:-1])} {path[-1]} = {_shown(value)}: must be a table: write {_at(path)}"])


# ---------------------------------------------------------------------- fields
@attrs.frozen
class _Made(Generic[T]):
    """What was made of a table or a value; None where something is wrong with it."""

    value: T | None
    problems: list[str]


@attrs.frozen
class _Field:
    """One field that can be set: the type of its values, or why that cannot be told."""

    type: Any
    unresolved: str = ""


def _fields_of(cls: type) -> dict[str, _Field]:
    """The fields that the class takes as arguments, by the names of these."""
    fields: tuple[attrs.Attribute[Any], ...] = getattr(cls, "__attrs_attrs__", ())
    return {field.alias: _field_of(cls, field) for field in fields if field.init and field.alias is not None}


def _field_of(cls: type, field: attrs.Attribute[Any]) -> _Field:
    """A field with its type, which is looked up by itself: another one may have a type that only a type checker can see."""
    annotation: Any = field.type
    if not isinstance(annotation, str):
        return _Field(Any if annotation is None else annotation)
    owner = next((base for base in cls.__mro__ if field.name in inspect.get_annotations(base)), cls)
    alone = type(owner.__name__, (), {"__annotations__": {field.name: annotation}, "__module__": owner.__module__})
    try:
        return _Field(typing.get_type_hints(alone, localns=dict(vars(owner)), include_extras=True)[field.name])
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        return _Field(Any, f"its type {annotation!r} cannot be told ({error}): set it in the program")


def _value_of(field: _Field, value: Any, path: tuple[str, ...]) -> _Made[Any]:
    """A value as an object of the type of its field."""
    *table, key = path
    if field.unresolved:
        return _Made(None, [f"{_at(table)} {_key(key)}: {field.unresolved}"])
    try:
        return _Made(_converter.get_structure_hook(field.type)(value, field.type), [])
    except Exception as error:  # noqa: BLE001 - whatever cattrs, or the class of a value, raises is what is wrong with it
        return _Made(None, list(_Place(tuple(table), (key,), value, field.type).problems(error)))


def _refusals(cls: type[Component], arguments: Mapping[str, Any], where: str) -> Iterator[str]:
    """What the class itself says against its arguments: its validators and converters."""
    try:
        cls(**arguments)
    except Exception as error:  # noqa: BLE001 - whatever the user's class raises is what is wrong; it is reported
        yield f"{where}: {_said(error)}"


# ---------------------------------------------------------------------- what is wrong, and where
_MISSING = object()


class _Mismatch(ValueError):
    """A value of another type than its field; what was expected says it all."""


@attrs.frozen
class _Place:
    """Where a value stands: the path of its table, the way from there, the value, and the type that it should have."""

    table: tuple[str, ...]
    way: tuple[Any, ...]
    value: Any
    expected: Any

    def problems(self, error: BaseException) -> Iterator[str]:
        """Each problem in or below an error of cattrs."""
        if isinstance(error, (ClassValidationError, IterableValidationError)):
            noted, plain = error.group_exceptions()
            for inner, note in noted:
                yield from self._below(note).problems(inner)
            for inner in plain:
                yield from self._plain(inner)
        elif self.value is _MISSING:
            yield f"{self}: is missing; write {_type_name(self.expected)}"
        elif isinstance(error, StructureHandlerNotFoundError):
            yield f"{self}: a value of type {_type_name(self.expected)} cannot be written here: set it in the program"
        else:
            why = "" if _says_all(self.expected) or isinstance(error, _Mismatch) else f" ({_said(error)})"
            yield f"{self} = {_shown(self.value)}: expected {_type_name(self.expected)}{why}"

    def _below(self, note: AttributeValidationNote | IterableValidationNote) -> _Place:
        key = note.index if isinstance(note, IterableValidationNote) else note.name
        try:
            value = self.value[key]
        except (LookupError, TypeError):
            value = _MISSING
        return _Place(self.table, (*self.way, key), value, note.type)

    def _plain(self, error: BaseException) -> Iterator[str]:
        """What is wrong with a table or a list as a whole."""
        if isinstance(error, ForbiddenExtraKeysError):
            known = _fields_of(error.cl)
            for key in sorted(error.extra_fields):
                yield f"{self}.{_key(key)}: there is no such key; {_nearest(key, known)}"
        else:
            yield f"{self}: {_said(error)}"

    def __str__(self) -> str:
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{_key(step)}" for step in self.way)
        return f"{_at(self.table)} {steps.removeprefix('.')}"


def _said(error: BaseException) -> str:
    """What an error says; the sentence alone where it comes from a validator of attrs, which adds objects of its own."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else str(error)
    return text or type(error).__name__


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, 1)
    if close:
        return f"did you mean {_key(close[0])}?"
    return f"there are: {', '.join(map(_key, names))}" if names else "there are none"


def _top(name: str, value: Any) -> str:
    return _at((name,)) if isinstance(value, dict) else f"{_key(name)} = {_shown(value)}"


def _at(path: Iterable[str]) -> str:
    return f"[{'.'.join(map(_key, path))}]"


def _key(name: str) -> str:
    """A key as it is written in TOML."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _shown(value: Any) -> str:
    """A value as it is written in TOML, so far as it fits."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list):
        text = f"[{', '.join(map(_shown, value))}]"
    elif isinstance(value, dict):
        text = f"{{{', '.join(f'{_key(key)} = {_shown(inner)}' for key, inner in value.items())}}}"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


_LONGEST_SHOWN = 60


# ---------------------------------------------------------------------- types
_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path, as a text",
    decimal.Decimal: "a number, as a text",
    datetime.datetime: "a date with a time",
    datetime.date: "a date",
    datetime.time: "a time of day",
}


def _type_name(expected: Any) -> str:
    """A type, for people who write TOML."""
    if _is_union(expected):
        return " or ".join(_type_name(each) for each in typing.get_args(expected) if each is not type(None))
    if typing.get_origin(expected) is Literal:
        return f"one of {', '.join(map(_shown, typing.get_args(expected)))}"
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return f"one of {', '.join(_shown(member.value) for member in expected)}"
    if _is_list(expected):
        return f"a list ({_spelled(expected)})"
    if _is_table(expected):
        return f"a table ({_spelled(expected)})"
    return _NAMES.get(expected) or _spelled(expected)


def _spelled(expected: Any) -> str:
    spelled = expected.__name__ if type(expected) in (type, abc.ABCMeta) else str(expected)
    return spelled.replace("typing.", "").replace("collections.abc.", "")


def _says_all(expected: Any) -> bool:
    """Whether a type, with the value that is not of it, says everything."""
    choices = typing.get_origin(expected) is Literal or (isinstance(expected, type) and issubclass(expected, enum.Enum))
    return choices or _is_union(expected) or expected in _NAMES


def _is_union(expected: Any) -> bool:
    return typing.get_origin(expected) in (typing.Union, types.UnionType)


def _is_list(expected: Any) -> bool:
    kind = typing.get_origin(expected) or expected
    return isinstance(kind, type) and issubclass(kind, (Sequence, Set)) and not issubclass(kind, (str, bytes))


def _is_table(expected: Any) -> bool:
    kind = typing.get_origin(expected) or expected
    return attrs.has(kind) or dataclasses.is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Mapping))


class _Looking(threading.local):
    """The types for which a thread is just looking up what cattrs itself would do."""

    def __init__(self) -> None:
        self.types: set[Any] = set()


def _containers_only(converter: cattrs.Converter) -> None:
    """Takes a list for a list only, and a table for a table: to Python, a text is a sequence too, and a table one of its keys."""
    looking = _Looking()

    def applies(expected: Any) -> bool:
        return (_is_list(expected) or _is_table(expected)) and expected not in looking.types

    def make(expected: Any, converter: cattrs.BaseConverter) -> Any:
        kind = list if _is_list(expected) else dict
        looking.types.add(expected)
        try:
            hook = converter.get_structure_hook(expected, cache_result=False)
        finally:
            looking.types.discard(expected)

        def structure(value: Any, expected: Any) -> Any:
            if not isinstance(value, kind):
                raise _Mismatch
            return hook(value, expected)

        return structure

    converter.register_structure_hook_factory(applies, make)


def _taking(*kinds: type, make: Callable[[Any], Any] | None = None) -> Any:
    """A hook that takes values of exactly these types: TOML knows them, and nothing is guessed."""

    def structure(value: Any, _: Any) -> Any:
        if type(value) not in kinds:
            raise _Mismatch
        return value if make is None else make(value)

    return structure


def _untold(_: Any, expected: Any) -> Any:
    raise StructureHandlerNotFoundError("", type_=expected)


def _strict_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    _containers_only(converter)
    configure_union_passthrough(
        str | int | float | bool | datetime.datetime | datetime.date | datetime.time | None, converter
    )
    hooks = {
        int: _taking(int),
        float: _taking(float, int, make=float),
        str: _taking(str),
        bool: _taking(bool),
        Path: _taking(str, make=Path),
        decimal.Decimal: _taking(str, int, make=decimal.Decimal),
        datetime.datetime: _taking(datetime.datetime),
        datetime.date: _taking(datetime.date),
        datetime.time: _taking(datetime.time),
        bytes: _untold,
        bytearray: _untold,
    }
    for kind, hook in hooks.items():
        converter.register_structure_hook(kind, hook)
    return converter


_converter = _strict_converter()

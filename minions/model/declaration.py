"""Reads a component class when it is defined: its ports, handlers and states, and everything that is wrong with it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import attrs

from minions.errors import DeclarationError
from minions.model import checks
from minions.model.policy import Retry
from minions.model.ports import OVERFLOWS, Inbox, Outbox, Port, State, Table, Uses, type_name
from minions.model.rates import Rate, rates_of, unlimited
from minions.model.schedules import Schedule, schedules_of

__all__ = ["FRAMEWORK_NAMES", "HOOKS", "Declaration", "declare"]

HOOKS = ("on_start", "run", "on_stop", "on_interrupt")
"""The methods that a component may define; each takes no argument but self."""

FRAMEWORK_NAMES = (
    "after_commit",
    "blocking",
    "call_timeout",
    "commit",
    "log",
    "message_id",
    "monotonic",
    "now",
    "running",
    "sleep",
    "submit",
    "unit",
)
"""The names that belong to the runtime on every component: a class that defines one of them is refused."""

_CLASS_VARIABLES = ("ClassVar", "typing.ClassVar", "t.ClassVar", "typing_extensions.ClassVar")
"""How the annotations begin that make no configuration, for attrs as for us."""

_FIELDS_OF_OURS = ("_minions", "_minions_arguments", "__minions_declaration__")


@attrs.frozen
class Declaration:
    """What a component class declares.

    Attributes:
        class_name: the class's qualified name.
        inboxes, outboxes, states, tables, uses: the ports by name, in the order of their declaration.
        handlers: for each inbox that has one, the name of its handler.
        schedules: by the name of the method that is called.
        rates: for each inbox that has any, those at which its messages may be handled.
        has_run: whether the class has a loop of its own.
    """

    class_name: str
    inboxes: dict[str, Inbox[Any]] = attrs.Factory(dict)
    outboxes: dict[str, Outbox[Any]] = attrs.Factory(dict)
    states: dict[str, State[Any]] = attrs.Factory(dict)
    tables: dict[str, Table[Any, Any]] = attrs.Factory(dict)
    uses: dict[str, Uses[Any]] = attrs.Factory(dict)
    handlers: dict[str, str] = attrs.Factory(dict)
    schedules: dict[str, Schedule] = attrs.Factory(dict)
    rates: dict[str, tuple[Rate, ...]] = attrs.Factory(dict)
    has_run: bool = False

    @property
    def kept(self) -> tuple[str, ...]:
        """The names of what is kept for it beside its messages: states and tables."""
        return (*self.states, *self.tables)

    @property
    def is_source(self) -> bool:
        """Whether it works by itself: a loop of its own that receives nothing."""
        return self.has_run and not self.inboxes


def declare(cls: type, root: type) -> Declaration:
    """Makes `cls` an attrs class and returns what it declares.

    Raises:
        DeclarationError: naming every problem of the class.
    """
    found = list(_names(cls, root)) + list(_hooks(cls, root)) + list(_fields(cls))
    ports = _ports(cls)
    has_run = _overrides(cls, "run", root)
    found += _port_problems(cls, ports)
    handlers: dict[str, str] = {}
    for inbox in (port for port in ports.values() if isinstance(port, Inbox)):
        found += _handler_problems(cls, inbox, has_run)
        if len(inbox.handlers) == 1:
            handlers[inbox.name] = inbox.handlers[0]
    schedules = _schedules(cls)
    found += _schedule_problems(cls, schedules, handlers, has_run)
    found += _rate_problems(cls, ports)
    if not found:
        found += _become_attrs(cls)
    if found:
        _forget_handlers(cls)
        raise DeclarationError(cls.__qualname__, found)
    return Declaration(
        class_name=cls.__qualname__,
        inboxes={name: port for name, port in ports.items() if isinstance(port, Inbox)},
        outboxes={name: port for name, port in ports.items() if isinstance(port, Outbox)},
        states={name: port for name, port in ports.items() if isinstance(port, State)},
        tables={name: port for name, port in ports.items() if isinstance(port, Table)},
        uses={name: port for name, port in ports.items() if isinstance(port, Uses)},
        handlers=handlers,
        schedules={name: marks[0] for name, marks in schedules.items()},
        rates=dict(_rates(cls, ports, {} if has_run else handlers)),
        has_run=has_run,
    )


def _names(cls: type, root: type) -> Iterator[str]:
    mixins = [base for base in cls.__mro__[1 : cls.__mro__.index(root)] if not issubclass(base, root)]
    taken = {name for base in (cls, *mixins) for name in (*vars(base), *_annotations(base))}
    for name in FRAMEWORK_NAMES:
        if name in taken:
            yield f"{name!r} is a name of the runtime (Component.{name}): choose another name"
    for name in _FIELDS_OF_OURS:
        if name in taken and name != "__minions_declaration__":
            yield f"{name!r} is a name of the runtime: choose another name"
    if "__init__" in vars(cls):
        yield "it defines __init__: declare configuration as annotated names (path: str) and prepare the rest in on_start()"
    if "__new__" in vars(cls):
        yield "it defines __new__: declare configuration as annotated names and prepare the rest in on_start()"


def _hooks(cls: type, root: type) -> Iterator[str]:
    for name in HOOKS:
        if name in _annotations(cls):
            yield f"{name!r} is a method of the runtime's: it cannot be configuration, choose another name"
        if not _overrides(cls, name, root):
            continue
        hook = inspect.getattr_static(cls, name)
        if not inspect.isfunction(hook):
            yield f"{name} must be a plain method: def {name}(self) -> None"
        elif reason := _not_callable_with(hook, 1):
            yield f"{name} {reason}: write def {name}(self) -> None"


def _fields(cls: type) -> Iterator[str]:
    for name, annotation in _annotations(cls).items():
        if str(annotation).strip("'\"").startswith(_CLASS_VARIABLES):
            continue
        value = vars(cls).get(name)
        if isinstance(value, Port):
            yield f"{name!r} is annotated, which would make the port configuration: write {name} = {type(value).__name__}(...)"
        if isinstance(value, (list, dict, set, bytearray)):
            kind = type(value).__name__
            yield f"the default of {name!r} is a {kind} that all components would share: use attrs.field(factory={kind})"


def _ports(cls: type) -> dict[str, Port[Any]]:
    """All ports by name, those of base classes first; what a subclass sets to something else is gone."""
    ports: dict[str, Port[Any]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if isinstance(value, Port) and name == value.name:
                ports[name] = value
            else:
                ports.pop(name, None)
    return ports


def _port_problems(cls: type, ports: dict[str, Port[Any]]) -> Iterator[str]:
    for port in ports.values():
        kind = type(port).__name__
        if port.extra_names:
            names = ", ".join(map(repr, port.extra_names))
            yield f"{port.name!r} and {names} are the same {kind} object: make one for each name"
        if not _is_type(port.type):
            place = "second" if isinstance(port, Table) else "first"
            yield f"{port.name} = {kind}({port.type!r}): the {place} argument must be a type"
        if isinstance(port, Table) and not _is_type(port.key_type):
            yield f"{port.name} = {kind}({port.key_type!r}, ...): the first argument must be a type"
        for problem in _argument_problems(port):
            yield f"{port.name}: {problem}"


def _argument_problems(port: Port[Any]) -> Iterator[str]:
    """What is wrong with what a port was given, but for its type."""
    if isinstance(port, Inbox):
        yield from checks.whole_number("capacity", port.capacity, 1)
        yield from checks.choice("overflow", port.overflow, OVERFLOWS)
        yield from checks.switch("durable", port.durable)
        yield from checks.kind("retry", port.retry, Retry, "Retry(attempts=5)")
    if isinstance(port, Outbox):
        yield from checks.switch("optional", port.optional)
    if isinstance(port, Uses):
        yield from checks.number("timeout_s", port.timeout_s, "a number of seconds above 0", above=True)
    if isinstance(port, (State, Table)):
        yield from checks.whole_number("version", port.version, 1)


def _handler_problems(cls: type, inbox: Inbox[Any], has_run: bool) -> Iterator[str]:
    written = type_name(inbox.type)
    if has_run and inbox.handlers:
        yield (
            f"inbox {inbox.name!r} has the handler {inbox.handlers[0]!r}, but the class has run(), which keeps the thread: "
            f"receive in run() with `for message in self.{inbox.name}:`, or drop run()"
        )
    elif len(inbox.handlers) > 1:
        yield (
            f"inbox {inbox.name!r} has {len(inbox.handlers)} handlers ({', '.join(inbox.handlers)}): keep one and call the "
            "others from it"
        )
    elif not inbox.handlers and not has_run:
        yield (
            f"inbox {inbox.name!r} has no handler: write @{inbox.name}.handler above a method "
            f"def ...(self, message: {written}) -> None, or receive from it in run()"
        )
    if len(inbox.handlers) == 1 and not has_run:
        name = inbox.handlers[0]
        method = inspect.getattr_static(cls, name, None)
        if not inspect.isfunction(method):
            yield f"the handler of inbox {inbox.name!r} must be a method of the class"
        elif reason := _not_callable_with(method, 2):
            yield f"handler {name} of inbox {inbox.name!r} {reason}: write def {name}(self, message: {written}) -> None"
        elif mismatch := _other_type(method, inbox.type):
            yield f"handler {name} takes {mismatch}, but inbox {inbox.name!r} carries {written}: make them the same"


def _schedules(cls: type) -> dict[str, tuple[Schedule, ...]]:
    """What each method was marked with, those of base classes first; what a subclass sets to something else is gone."""
    schedules: dict[str, tuple[Schedule, ...]] = {}
    for base in reversed(cls.__mro__):
        for name, value in vars(base).items():
            if marks := schedules_of(value):
                schedules[name] = marks
            elif not inspect.isfunction(value):
                schedules.pop(name, None)
    return schedules


def _schedule_problems(
    cls: type, schedules: dict[str, tuple[Schedule, ...]], handlers: dict[str, str], has_run: bool
) -> Iterator[str]:
    for name, marks in schedules.items():
        method = inspect.getattr_static(cls, name)
        if name in HOOKS:
            yield f"{name} has the schedule {marks[0]}, but the runtime calls it: write another method that is called then"
        elif name in handlers.values():
            yield f"{name} has the schedule {marks[0]}, but it is a handler: write another method that is called then"
        elif has_run:
            yield (
                f"{name} has the schedule {marks[0]}, but the class has run(), which keeps the thread: put {name} into a "
                "component of its own, or do it in run()"
            )
        if len(marks) > 1:
            written = ", ".join(map(str, marks))
            yield f"{name} has {len(marks)} schedules ({written}): write a method for each, which may call a common one"
        if not inspect.isfunction(method):
            yield f"{name} has the schedule {marks[0]}, but is no plain method: write def {name}(self) -> None"
        elif name not in handlers.values() and (reason := _not_callable_with(method, 1)):
            yield f"{name} has the schedule {marks[0]}, but {reason}: write def {name}(self) -> None"
        for schedule in marks:
            yield from (f"{name}: {problem}" for problem in schedule.problems())


def _rates(cls: type, ports: dict[str, Port[Any]], handlers: dict[str, str]) -> Iterator[tuple[str, tuple[Rate, ...]]]:
    """For each inbox that has any, its own rate and those of its handler."""
    for inbox in ports.values():
        if isinstance(inbox, Inbox):
            own = () if inbox.rate is None else (inbox.rate,)
            handler = inspect.getattr_static(cls, handlers[inbox.name]) if inbox.name in handlers else None
            if rates := (*own, *rates_of(handler)):
                yield inbox.name, rates


def _rate_problems(cls: type, ports: dict[str, Port[Any]]) -> Iterator[str]:
    for port in ports.values():
        if isinstance(port, Inbox) and port.rate is not None:
            rate: object = port.rate
            if isinstance(rate, Rate):
                yield from (f"{port.name}: rate: {problem}" for problem in rate.problems())
            else:
                yield f"{port.name}: rate={rate!r} must be a Rate, such as rate=Rate(10, per_s=1.0)"
    for name, value in vars(cls).items():
        for limit in rates_of(value):
            yield from (f"{name}: @limit: {problem}" for problem in limit.problems())
        if rates_of(value) and not inspect.isfunction(unlimited(value)):
            yield f"{name}: @limit: is no plain method: write def {name}(self, ...)"
        elif rates_of(value) and (reason := _never_run(unlimited(value))):
            yield f"{name}: @limit: {reason}"


def _forget_handlers(cls: type) -> None:
    """Takes the handlers of a refused class from the inboxes that it inherits, so that its next version can do better."""
    for base in cls.__bases__:
        inherited: Declaration = getattr(base, "__minions_declaration__", Declaration(base.__qualname__))
        for name, inbox in inherited.inboxes.items():
            inbox.handlers = (inherited.handlers[name],) if name in inherited.handlers else ()


def _not_callable_with(method: Any, arguments: int) -> str:
    """Why `method` is not a plain method of that many positional arguments (self included), or an empty string."""
    if reason := _never_run(unlimited(method)):
        return reason
    try:
        inspect.signature(method).bind(*range(arguments))
    except TypeError:
        return f"takes {inspect.signature(method)}"
    return ""


def _never_run(method: Any) -> str:
    """Why to call a method does not run it, or an empty string."""
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return "is async, but components run on threads and may simply block"
    if inspect.isgeneratorfunction(method):
        return "is a generator, and would never be run: it must not yield"
    return ""


def _other_type(method: Any, declared: Any) -> str:
    """The annotated type of the message where it can never be that of the inbox, or an empty string."""
    try:
        hints = typing.get_type_hints(method)
    except (NameError, TypeError, AttributeError):
        return ""  # a name that only a type checker can see; it checks the rest
    parameters = list(inspect.signature(method).parameters)[1:]
    annotated = hints.get(parameters[0]) if parameters else None
    if annotated in (None, Any, declared) or not isinstance(annotated, type) or not isinstance(declared, type):
        return ""
    try:
        return "" if issubclass(declared, annotated) else type_name(annotated)
    except TypeError:
        return ""


def _become_attrs(cls: type) -> list[str]:
    try:
        attrs.define(cls, slots=False, kw_only=True, eq=False, auto_attribs=True)
    except (TypeError, ValueError, attrs.exceptions.UnannotatedAttributeError) as error:
        return [f"{error} (every annotated name becomes configuration, an attrs field)"]
    return []


def _annotations(cls: type) -> dict[str, Any]:
    return dict(inspect.get_annotations(cls))


def _overrides(cls: type, name: str, root: type) -> bool:
    return inspect.getattr_static(cls, name) is not inspect.getattr_static(root, name)


def _is_type(declared: Any) -> bool:
    return isinstance(declared, type) or typing.get_origin(declared) is not None

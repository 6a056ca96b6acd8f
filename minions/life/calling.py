"""What stands in a running component under the name of a `Uses`: each attribute is a method of the other component."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn, Protocol

from minions.clock import Clock
from minions.errors import UsageError
from minions.flow.call_broker import CallBroker
from minions.flow.calls import Call, CallQueue, Stage
from minions.model import checks
from minions.model.component import Component
from minions.model.declaration import FRAMEWORK_NAMES, HOOKS
from minions.model.wrapped import Wrapped

__all__ = ["Caller", "Proxy", "RemoteMethod", "lazy", "refuse_bad_seconds", "told_where", "wait_for_answer"]

_DONE = Stage.DONE
_LAZY = frozenset({GeneratorType, CoroutineType, AsyncGeneratorType})


class Caller(Protocol):
    """Who calls: a life, or somebody outside of the system.

    Attributes:
        name: for people.
    """

    name: str

    def call(
        self,
        queue: CallQueue,
        method: str,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        timeout_s: float | None,
    ) -> Any: ...

    def submit_call(
        self, queue: CallQueue, method: str, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Future[Any]: ...


class RemoteMethod:
    """One method of another component. To call it is to wait until it has run on that one's thread."""

    __slots__ = ("_caller", "_method", "_queue", "_timeout_s")

    def __init__(self, caller: Caller, queue: CallQueue, method: str, timeout_s: float | None) -> None:
        self._caller = caller
        self._queue = queue
        self._method = method
        self._timeout_s = timeout_s

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._caller.call(self._queue, self._method, arguments, keywords, self._timeout_s)

    def submit(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Future[Any]:
        """Has it run and does not wait."""
        return self._caller.submit_call(self._queue, self._method, arguments, keywords)

    def __repr__(self) -> str:
        return f"<{self._queue.name}.{self._method}(), called on the thread of {self._queue.name}>"


class Proxy:
    """Another component, as a caller sees it: its public methods, and nothing else."""

    def __init__(self, caller: Caller, queue: CallQueue, component: type[Component], timeout_s: float | None) -> None:
        self.__dict__["_minions_target"] = (caller, queue, component, timeout_s)

    def __getattr__(self, name: str) -> RemoteMethod:
        caller, queue, component, timeout_s = self.__dict__["_minions_target"]
        if name.startswith("__"):
            raise AttributeError(name)
        if reason := not_callable(component, name):
            raise UsageError(f"{caller.name}: {queue.name}.{name} cannot be called from another component: {reason}")
        method = self.__dict__[name] = RemoteMethod(caller, queue, name, timeout_s)
        return method

    def __setattr__(self, name: str, value: object) -> NoReturn:
        caller, queue, _, _ = self.__dict__["_minions_target"]
        raise UsageError(
            f"{caller.name}: {queue.name}.{name} belongs to another component; give it a method that sets it"
        )

    def __repr__(self) -> str:
        return f"<calls to {self.__dict__['_minions_target'][1].name}>"


def not_callable(component: type[Component], name: str) -> str:
    """Why an attribute of a component cannot be called from another one; empty where it can."""
    if issubclass(component, Wrapped):
        return _not_callable_of(component._made.kind, name)
    method = inspect.getattr_static(component, name, None)
    if name in FRAMEWORK_NAMES or name in HOOKS:
        return "it is the runtime's"
    if name.startswith("_"):
        return "it is private"
    if method is None and not any(name == field.name for field in getattr(component, "__attrs_attrs__", ())):
        return f"{component.__qualname__} has no such method"
    if name in component.__minions_declaration__.handlers.values():
        return "it is a handler; send a message"
    if not inspect.isfunction(method):
        return "only plain methods can be called, not attributes: write a method that returns it"
    return _lazy_function(inspect.unwrap(method))


def _not_callable_of(kind: type | None, name: str) -> str:
    """The same for an object that is wrapped, of which the class may not be known before the object is made."""
    if name.startswith("_"):
        return "it is private"
    found = inspect.getattr_static(kind, name, None)
    if found is None:
        return ""  # an attribute that the object may have all the same; otherwise its own error says so
    method = found.__func__ if isinstance(found, (staticmethod, classmethod)) else found
    if not callable(method):
        return "only methods can be called, not attributes: wrap an object that has a method which returns it"
    return _lazy_function(inspect.unwrap(method))


def _lazy_function(method: Any) -> str:
    if inspect.isgeneratorfunction(method):
        return "it is a generator (or a context manager), which would run on the caller's thread: return a list"
    if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
        return "it is async, and components run on threads"
    return ""


def wait_for_answer(
    call: Call, calls: CallBroker, clock: Clock, deadline_s: float | None, timeout_s: float | None
) -> Any:
    """Blocks until a call that was made is answered; returns what its method returned, or raises what it raised."""
    parker = call.parker
    assert parker is not None
    try:
        clock.wait(parker, deadline_s)
        while call.stage is not _DONE and calls.waits(call, deadline_s, timeout_s):
            clock.wait(parker, deadline_s)
    except BaseException:  # Ctrl-C, too
        calls.give_up(call)
        raise
    error, call.error = call.error, None  # its traceback has the frames of both sides, which hold the call
    if error is None:
        return call.result
    try:
        raise error
    finally:
        del error


def told_where(error: BaseException, call: Call, epoch: int) -> BaseException:
    """An error that a called method has raised, with a note that says which and where. Once, however often it is raised."""
    note = f"raised in {call}, life {epoch}, called by {call.by}"
    with suppress(Exception):  # there are classes of errors that bear no note
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
    return error


def refuse_bad_seconds(value: object, where: str) -> None:
    """Refuses what is no time that a call may take.

    Raises:
        UsageError: it is not.
    """
    if not checks.is_number(value) or not value > 0:  # type: ignore[operator] # it is a number
        raise UsageError(f"{where}: {checks.shown(value)} must be a number of seconds above 0")


def lazy(result: object) -> str:
    """Why a result cannot be handed to another thread; empty where it can."""
    kind = type(result)
    if kind in _LAZY:
        return f"it returned a {kind.__name__}, which would run on the caller's thread: return a list"
    if kind.__module__ == "contextlib" and isinstance(result, AbstractContextManager):
        return "it returned a context manager, which would run on the caller's thread: return what it guards"
    return ""

"""Components made of what exists: an iterable, a function, an object, a command. Each call returns a blueprint.

What is returned is added to a system as any other component is, and is supervised, restarted, stopped and persisted like one.
What is given to these functions is called in each life, on the component's own thread; it is code, and is not copied.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_origin, overload

from minions.errors import DeclarationError
from minions.model.policy import Retry
from minions.model.ports import Inbox, Outbox, Overflow, State
from minions.model.wrapped import (
    Iterated,
    Made,
    Resumable,
    Sink,
    Source,
    Worker,
    Wrapped,
    class_of_what_it_makes,
    class_with,
    handler_of,
    name_of,
)
from minions.model.wrapped_command import Command

__all__ = [
    "Command",
    "Resumable",
    "Sink",
    "Source",
    "Worker",
    "Wrapped",
    "command",
    "function",
    "iterable",
    "object",
]

T = TypeVar("T")
P = TypeVar("P")
In = TypeVar("In")
Out = TypeVar("Out")


@overload
def iterable(
    factory: Callable[[], Iterable[T]],
    type: type[T],
    *,
    blocking: Callable[[Any], Any] | None = None,
    on_interrupt: Callable[[Any], Any] | None = None,
) -> Source[T]: ...
@overload
def iterable(
    factory: Callable[[], Iterable[T]],
    type: type[T],
    *,
    resume: Callable[[int], Iterable[T]],
    position: Callable[[T], int] | None = None,
    blocking: Callable[[Any], Any] | None = None,
    on_interrupt: Callable[[Any], Any] | None = None,
) -> Resumable[T, int]: ...
@overload
def iterable(
    factory: Callable[[], Iterable[T]],
    type: type[T],
    *,
    resume: Callable[[P], Iterable[T]],
    position: Callable[[T], P],
    position_type: type[P],
    blocking: Callable[[Any], Any] | None = None,
    on_interrupt: Callable[[Any], Any] | None = None,
) -> Resumable[T, P]: ...
def iterable(
    factory: Callable[[], Iterable[Any]],
    type: type[Any],  # noqa: A002 - the word that a user expects
    *,
    resume: Callable[[Any], Iterable[Any]] | None = None,
    position: Callable[[Any], Any] | None = None,
    position_type: Any = int,
    blocking: Callable[[Any], Any] | None = None,
    on_interrupt: Callable[[Any], Any] | None = None,
) -> Any:
    """Makes a source of an iterable: each item is sent, as one unit of work, and waits for room where an inbox is full.

    It has finished when the iterable has come to its end. An item that the iterable gives after the component was asked to
    stop is sent still; one that a call gives which had to be broken off is not. At the end of a life, in order or not, what was
    made is closed where it has a `close()`, on the component's own thread: a generator runs its ``finally`` there.

    With `resume` the position is kept in one unit of work with each item. So after a restart, or after the process was killed,
    the source goes on exactly behind the last item that was sent whole; asked on the blueprint, `position` says where that is.

    Args:
        factory: makes the iterable, in each life a fresh one.
        type: the class of the items.
        resume: makes the iterable of what follows a position. It is called in place of `factory` once there is a position.
        position: the position of an item. By default it is how many items were sent: ``resume(3)`` gives the fourth and on.
        position_type: the class of the positions.
        blocking: gives, of what the factory made, the resource in which the iterable may hang, as `Component.blocking` takes it.
        on_interrupt: is called with what the factory made, from another thread, when the component was asked to stop and does
            not: it breaks the call in which the iterable hangs.

    Raises:
        DeclarationError: something that was given cannot be used so; all problems are named.
    """
    problems = [
        *_problems_of("the first argument", factory, 0, "wrap.iterable(lambda: ..., Type), a fresh iterable each time")
    ]
    if resume is not None:
        problems += _problems_of("resume=", resume, 1, "resume=lambda position: ...")
    elif position is not None:
        problems.append("position= says where the source is, and nothing would go on from there: give resume= as well")
    if position is not None:
        problems += _problems_of("position=", position, 1, "position=lambda item: item.offset")
    if not _is_type(position_type):
        problems.append(f"position_type={position_type!r} must be a type")
    problems += _problems_of("blocking=", blocking, 1, "blocking=lambda made: made.socket", optional=True)
    problems += _problems_of("on_interrupt=", on_interrupt, 1, "on_interrupt=lambda made: made.cancel()", optional=True)
    _refuse("iterable", factory, problems)
    namespace = {
        "_iterated": Iterated(factory, resume, position, blocking, on_interrupt),
        "out": Outbox(type),
    }
    if resume is None:
        return class_with(Source, "iterable", name_of(factory), namespace)()
    kept: State[Any] = State(position_type | None, initial=_nowhere)
    return class_with(Resumable, "iterable", name_of(factory), {**namespace, "position": kept})()


@overload
def function(
    function: Callable[[In], Out | None],
    message: type[In],
    result: type[Out],
    *,
    many: Literal[False] = False,
    capacity: int = 1_000,
    durable: bool = True,
    overflow: Overflow = "block",
    retry: Retry = Retry(),
    on_interrupt: Callable[[], Any] | None = None,
) -> Worker[In, Out]: ...
@overload
def function(
    function: Callable[[In], Iterable[Out] | None],
    message: type[In],
    result: type[Out],
    *,
    many: Literal[True],
    capacity: int = 1_000,
    durable: bool = True,
    overflow: Overflow = "block",
    retry: Retry = Retry(),
    on_interrupt: Callable[[], Any] | None = None,
) -> Worker[In, Out]: ...
@overload
def function(
    function: Callable[[In], Any],
    message: type[In],
    *,
    capacity: int = 1_000,
    durable: bool = True,
    overflow: Overflow = "block",
    retry: Retry = Retry(),
    on_interrupt: Callable[[], Any] | None = None,
) -> Sink[In]: ...
def function(
    function: Callable[[Any], Any],
    message: type[Any],
    result: type[Any] | None = None,
    *,
    many: bool = False,
    capacity: int = 1_000,
    durable: bool = True,
    overflow: Overflow = "block",
    retry: Retry = Retry(),
    on_interrupt: Callable[[], Any] | None = None,
) -> Any:
    """Makes a worker of a function: it is called with each message, and what it returns is sent, as one unit of work.

    Add it with ``replicas=8`` and eight threads share the inbox: the function is then called by all of them at once.

    Args:
        function: takes one message. Where it returns None nothing is sent.
        message: the class of the messages.
        result: the class of what it returns; without it the component sends nothing, and what the function returns is not
            looked at.
        many: each item of what it returns (a list, a generator) is sent, all in one unit of work.
        capacity: of the inbox, as in `Inbox`, and so are `durable`, `overflow` and `retry`.
        on_interrupt: is called, from another thread, when the component was asked to stop and does not: it breaks the call in
            which the function hangs.

    Raises:
        DeclarationError: something that was given cannot be used so; all problems are named.
    """
    problems = [*_problems_of("the first argument", function, 1, "wrap.function(lambda message: ..., In, Out)")]
    if result is None and many:
        problems.append(
            "many=True: each item of what it returns is sent, but as what? Give the class of the items as third argument"
        )
    if not problems and result is not None and not many and inspect.isgeneratorfunction(inspect.unwrap(function)):
        problems.append("the first argument is a generator: say many=True, and each item that it yields is sent")
    if not problems and result is None and inspect.isgeneratorfunction(inspect.unwrap(function)):
        problems.append(
            "the first argument is a generator, and would never be run: give the class of its items, and many=True"
        )
    problems += _problems_of("on_interrupt=", on_interrupt, 0, "on_interrupt=connection.cancel", optional=True)
    problems += _problems_of_class("retry=", retry, Retry)
    _refuse("function", function, problems)
    name, handle = name_of(function), handler_of(function, answers=result is not None, many=many)
    handle.__name__ = "handle"
    inbox: Inbox[Any] = Inbox(message, capacity=capacity, durable=durable, overflow=overflow, retry=retry)
    namespace: dict[str, Any] = {"inbox": inbox, "handle": inbox.handler(handle)}
    if on_interrupt is not None:
        namespace["_on_interrupt"] = staticmethod(on_interrupt)
    if result is not None:
        namespace["out"] = Outbox(result)
    made = class_with(Sink if result is None else Worker, "function", name, namespace)()
    handle.__name__ = name  # only now: what is said of it names the user's function
    return made


def object(  # noqa: A001 - the word that a user expects
    factory: Callable[[], T],
    type: type[T] | None = None,  # noqa: A002
    *,
    on_interrupt: Callable[[T], Any] | None = None,
    close: Callable[[T], Any] | None = None,
) -> Wrapped[T]:
    """Makes a component that owns an object: it is made, called and closed on the component's own thread.

    Its methods are called as ``system.call(wrapped).method(...)`` from outside, and by other components that declare
    ``camera = Uses(Camera)``, with the class of the object; each call is one unit of work. Where the class cannot be told,
    because the factory is a lambda, ``system.use(component.camera, wrapped)`` says which one is meant, or `type` does.

    Args:
        factory: makes the object, in each life a fresh one.
        type: the class of the object; by default the factory itself, or what it is annotated to return.
        on_interrupt: is called with the object, from another thread, when the component was asked to stop and does not: it
            breaks the call in which a method hangs.
        close: is called with the object at the end of a life that ends in order.

    Raises:
        DeclarationError: something that was given cannot be used so; all problems are named.
    """
    problems = [*_problems_of("the first argument", factory, 0, "wrap.object(lambda: Camera(path), Camera)")]
    if type is not None:
        problems += _problems_of_class("the second argument", type, _CLASS)
    problems += _problems_of("on_interrupt=", on_interrupt, 1, "on_interrupt=lambda made: made.cancel()", optional=True)
    problems += _problems_of("close=", close, 1, "close=lambda made: made.close()", optional=True)
    _refuse("object", factory, problems)
    kind = type if type is not None else class_of_what_it_makes(factory)
    made: Wrapped[T] = class_with(
        Wrapped, "object", name_of(factory), {"_made": Made(factory, kind, on_interrupt, close)}
    )()
    return made


@overload
def command(
    command: Sequence[str | os.PathLike[str]],
    type: type[T],
    *,
    parse: Callable[[str], T | None] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] = {},
    encoding: str = "utf-8",
    errors: str = "strict",
    kill_after_s: float = 5.0,
) -> Command[T]: ...
@overload
def command(
    command: Sequence[str | os.PathLike[str]],
    *,
    cwd: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] = {},
    encoding: str = "utf-8",
    errors: str = "strict",
    kill_after_s: float = 5.0,
) -> Command[str]: ...
def command(
    command: Sequence[str | os.PathLike[str]],
    type: Any = str,  # noqa: A002
    *,
    parse: Callable[[str], Any] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] = {},
    encoding: str = "utf-8",
    errors: str = "strict",
    kill_after_s: float = 5.0,
) -> Any:
    """Makes a source of a child process: each line that it writes to its stdout is a message, as one unit of work.

    Its stderr goes to the component's log, line by line; its stdin is empty. When it exits with 0 the source has finished; with
    another code it has failed, with a `subprocess.CalledProcessError`. While an inbox is full nothing is read, and the process
    waits at its pipe.

    It leads a process group of its own. At a stop the group gets SIGTERM at once, what it still writes is sent, and
    `kill_after_s` later it gets SIGKILL. Nothing is left of it: what the process leaves behind in its group when it exits is
    killed, so is the group when this process is killed, and the process is reaped.

    Args:
        command: the program and its arguments, a list of words. No shell sees them.
        type: the class of the messages.
        parse: makes a message of a line, without its end; None sends nothing. By default a line is itself the message where the
            class is str, its bytes where that is bytes, and otherwise JSON of the class.
        cwd: the folder that it runs in; by default that of this process.
        environment: variables, in addition to those of this process.
        encoding: of its lines; one in which each line ends with a byte 10, as UTF-8 and Latin-1.
        errors: what becomes of bytes that are not in that encoding, as `open` has it; "strict" is a failure, which says which
            line.
        kill_after_s: how long it may take to end after SIGTERM, in seconds.

    Raises:
        DeclarationError: something that was given cannot be used so.
    """
    problems = _problems_of("parse=", parse, 1, "parse=lambda line: ...", optional=True)
    words, folder, variables = _plain(command), _plain(cwd), _plain(environment)
    name = os.path.basename(str(words[0])) if isinstance(words, list) and words else "command"  # noqa: PTH119 - no path of ours
    if problems:
        raise DeclarationError(f"wrap.command({name})", problems)
    arguments: dict[str, Any] = {
        "command": words,
        "cwd": folder,
        "environment": variables,
        "encoding": encoding,
        "errors": errors,
        "kill_after_s": kill_after_s,
    }
    try:
        Command(**arguments)
    except ValueError as error:
        raise DeclarationError(f"wrap.command({name})", [str(error)]) from None
    parsed = staticmethod(parse) if parse is not None else None
    return class_with(Command, "command", name, {"_type": type, "_parse": parsed, "out": Outbox(type)})(**arguments)


_CLASS = type
"""The builtin, where an argument has its name."""


def _nowhere() -> None:
    """The position before the first item."""


def _refuse(call: str, wrapped: Any, problems: list[str]) -> None:
    if problems:
        name = name_of(wrapped) if callable(wrapped) else ""
        raise DeclarationError(f"wrap.{call}({name})", problems)


def _problems_of(what: str, given: Any, arguments: int, example: str, *, optional: bool = False) -> list[str]:
    """Why something that was given cannot be called with so many arguments."""
    if given is None and optional:
        return []
    if not callable(given):
        return [f"{what} must be a function, {example}, not {given!r}"]
    called = given if inspect.isroutine(given) or inspect.isclass(given) else _CLASS(given).__call__
    if any(inspect.iscoroutinefunction(found) or inspect.isasyncgenfunction(found) for found in (given, called)):
        return [f"{what} is async, but components run on threads and may simply block: give a plain function"]
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):
        return []  # it is written in C and does not say
    try:
        signature.bind(*range(arguments))
    except TypeError:
        wanted = ("no argument", "one argument")[arguments]
        return [f"{what} is called with {wanted}, and {name_of(given)}{signature} takes others: {example}"]
    return []


def _plain(given: Any) -> Any:
    """Paths as texts, sequences as lists and mappings as dicts; anything else as it is."""
    if isinstance(given, os.PathLike):
        return os.fspath(given)
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        return [_plain(part) for part in given]
    return given


def _problems_of_class(what: str, given: Any, expected: Any) -> list[str]:
    if isinstance(given, expected):
        return []
    return [f"{what} must be {'a class' if expected is _CLASS else 'a Retry(...)'}, not {given!r}"]


def _is_type(declared: Any) -> bool:
    return isinstance(declared, _CLASS) or get_origin(declared) is not None

"""The components that `wrap` makes of functions and of objects. They use nothing that a user's own component could not use.

What is wrapped is code, and is shared by all lives: it is an attribute of the class, of which each call of `wrap` makes one.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs

from minions.errors import MessageRefused, UsageError
from minions.model.component import Component
from minions.model.ports import Inbox, Outbox

__all__ = [
    "Iterated",
    "Made",
    "Resumable",
    "Sink",
    "Source",
    "Worker",
    "Wrapped",
    "called_on",
    "class_of_what_it_makes",
    "class_with",
    "handler_of",
    "name_of",
    "serves",
]

T = TypeVar("T")
P = TypeVar("P")
In = TypeVar("In")
Out = TypeVar("Out")


@attrs.frozen
class Iterated:
    """What a source iterates over.

    Attributes:
        factory: makes the iterable.
        resume: makes what follows a position.
        position: the position of an item; None: how many items there were so far.
        blocking: gives, of what was made, the resource in which it may hang.
        on_interrupt: called with what was made.
    """

    factory: Callable[[], Iterable[Any]]
    resume: Callable[[Any], Iterable[Any]] | None = None
    position: Callable[[Any], Any] | None = None
    blocking: Callable[[Any], Any] | None = None
    on_interrupt: Callable[[Any], Any] | None = None


class Source(Component, Generic[T]):
    """What `wrap.iterable` makes: it sends each item of an iterable, one item a unit of work, and has finished after the last.

    Attributes:
        out: what it sends.
    """

    _iterated: ClassVar[Iterated]

    if TYPE_CHECKING:

        @property
        def out(self) -> Outbox[T]: ...

    def run(self) -> None:
        wrapped = self._iterated
        with ExitStack() as stack:
            made = self._make()
            stack.callback(_close, made)
            iterator = self._iterator_of(made)
            if iterator is not made:
                stack.callback(_close, iterator)
            if wrapped.blocking is not None:
                stack.enter_context(self.blocking(wrapped.blocking(made)))
            self._iterable = made
            stack.callback(self._forget_iterable)
            for item in iterator:
                self._send(item)  # what a call returns that was broken off may be half an item: it is refused then
                if not self.running:
                    return

    def _send(self, item: Any) -> None:
        self.out.send(item)

    def _make(self) -> Any:
        return self._iterated.factory()

    def _iterator_of(self, made: Any) -> Iterator[Any]:
        if not hasattr(made, "__iter__") and not hasattr(made, "__getitem__"):
            raise UsageError(f"{type(self).__qualname__}: it made {made!r}, which cannot be iterated over")
        return iter(made)

    def _forget_iterable(self) -> None:
        del self._iterable

    def on_interrupt(self) -> None:
        made = getattr(self, "_iterable", None)
        if made is not None and self._iterated.on_interrupt is not None:
            self._iterated.on_interrupt(made)


class Resumable(Source[T], Generic[T, P]):
    """What `wrap.iterable` makes with ``resume=``: a source that goes on behind the last item that was sent.

    Attributes:
        position: the position of that item; None before the first. Kept in one unit of work with it.
    """

    if TYPE_CHECKING:

        @property
        def position(self) -> P | None: ...

    def _make(self) -> Any:
        wrapped = self._iterated
        assert wrapped.resume is not None
        return wrapped.factory() if self.position is None else wrapped.resume(self.position)

    def _send(self, item: Any) -> None:
        position = self._iterated.position
        with self.unit():
            self.out.send(item)
            reached: Any = (self.position or 0) + 1 if position is None else position(item)  # type: ignore[operator]
            self.position = reached  # type: ignore[misc]


class Sink(Component, Generic[In]):
    """What `wrap.function` makes of a function that answers nothing: it is called with each message, as one unit of work.

    Attributes:
        inbox: what it is called with.
    """

    _on_interrupt: ClassVar[Any] = None

    if TYPE_CHECKING:

        @property
        def inbox(self) -> Inbox[In]: ...

    def on_interrupt(self) -> None:
        if self._on_interrupt is not None:
            self._on_interrupt()


class Worker(Sink[In], Generic[In, Out]):
    """What `wrap.function` makes: it is called with each message and sends what it returns, as one unit of work.

    Attributes:
        out: what it sends.
    """

    if TYPE_CHECKING:

        @property
        def out(self) -> Outbox[Out]: ...


def handler_of(function: Callable[[Any], Any], *, answers: bool, many: bool) -> Callable[[Any, Any], None]:
    """The handler that calls a function: a plain method of the class that is made for it."""

    def handle(self: Any, message: Any) -> None:
        function(message)

    def handle_and_send(self: Any, message: Any) -> None:
        result = function(message)
        if result is None:
            return
        try:
            self.out.send(result)
        except MessageRefused as error:
            if not isinstance(result, (Iterator, list, tuple)):
                raise
            raise MessageRefused(
                f"{error}; to send each item of what {name_of(function)} returns, say wrap.function(..., many=True)"
            ) from None

    def handle_and_send_each(self: Any, message: Any) -> None:
        results = function(message)
        if results is not None:
            for result in results:
                self.out.send(result)

    if not answers:
        return handle
    return handle_and_send_each if many else handle_and_send


@attrs.frozen
class Made:
    """What a component wraps whose methods are called.

    Attributes:
        factory: makes the object.
        kind: the class of what it makes; None where that cannot be told.
        on_interrupt: called with the object.
        close: called with the object.
    """

    factory: Callable[[], Any]
    kind: type | None = None
    on_interrupt: Callable[[Any], Any] | None = None
    close: Callable[[Any], Any] | None = None


class Wrapped(Component, Generic[T]):
    """What `wrap.object` makes: a component that owns an object, whose methods run on the component's thread.

    They are called as ``system.call(wrapped).method(...)``, and by components that declare a `Uses` of the object's class.
    """

    _made: ClassVar[Made]

    def on_start(self) -> None:
        self._object = self._made.factory()

    def on_interrupt(self) -> None:
        if self._made.on_interrupt is not None and hasattr(self, "_object"):
            self._made.on_interrupt(self._object)

    def on_stop(self) -> None:
        made = self.__dict__.pop("_object")
        if self._made.close is not None:
            self._made.close(made)


def called_on(instance: Component) -> Any:
    """What the methods of a component are called on: itself, or the object that it wraps."""
    return instance._object if isinstance(instance, Wrapped) else instance


def serves(component: Component, declared: Any) -> bool:
    """Whether a component is, or wraps, what a `Uses` says."""
    if isinstance(component, declared):
        return True
    kind = component._made.kind if isinstance(component, Wrapped) else None
    return kind is not None and issubclass(kind, declared)


def class_of_what_it_makes(factory: Any) -> type | None:
    """The class of what a factory makes: itself, or what it is annotated with; None where that cannot be told."""
    if isinstance(factory, functools.partial):
        return class_of_what_it_makes(factory.func)
    if isinstance(factory, type):
        return factory
    try:
        made = typing.get_type_hints(factory).get("return")
    except (NameError, TypeError, AttributeError):
        return None  # a name that only a type checker can see
    return made if isinstance(made, type) and made is not type(None) else None


def name_of(function: Any) -> str:
    """A function as its user wrote it."""
    if isinstance(function, functools.partial):
        return name_of(function.func)
    name: str = getattr(function, "__name__", type(function).__name__)
    return name


def class_with(base: type[Component], call: str, name: str, namespace: Mapping[str, Any]) -> type[Any]:
    """A class of its own for one call of `wrap`, which is named after what is wrapped.

    Args:
        call: the function of `wrap`.
        name: of what is wrapped.
        namespace: its attributes.
    """
    plain = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name).strip("_-")
    if name == "<lambda>" or not plain:
        plain = call
    module = {"__module__": __name__, "__qualname__": f"wrap.{call}({_printed(name)})"}
    return type(plain, (base,), {**module, **namespace})


def _printed(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _close(made: Any) -> None:
    close = getattr(made, "close", None)
    if callable(close) and not inspect.isclass(made):
        close()

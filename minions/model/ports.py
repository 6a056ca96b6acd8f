"""The typed descriptors of a component: `Inbox`, `Outbox`, `State`, `Table` and `Uses`.

None of them but `Table` defines `__set__`: the runtime puts what is alive (a sender, a receiver, a value) into the instance's own
dictionary under the port's name, so that inside a running component `self.readings.send` and `self.summary.count += 1` are
plain attribute accesses at full speed. What a descriptor answers itself is asked on a class or on a blueprint.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from minions.errors import UsageError
from minions.model.policy import Retry
from minions.model.rates import Rate

if TYPE_CHECKING:
    from typing import Self

__all__ = ["OVERFLOWS", "Inbox", "Outbox", "Overflow", "Port", "State", "Table", "Uses", "classes_of", "type_name"]

T = TypeVar("T")
C = TypeVar("C")
K = TypeVar("K")

Overflow = Literal["block", "drop_oldest", "drop_newest", "fail"]
OVERFLOWS = ("block", "drop_oldest", "drop_newest", "fail")


def type_name(declared: Any) -> str:
    """A declared type as a user wrote it: ``Reading``, ``dict[str, int]``."""
    return declared.__qualname__ if isinstance(declared, type) and not hasattr(declared, "__args__") else str(declared)


def classes_of(declared: Any) -> frozenset[type]:
    """The classes that the values of a declared type are of: those of all members of a union, ``dict`` for ``dict[str, int]``."""
    origin = typing.get_origin(declared)
    if origin in (typing.Union, types.UnionType):
        return frozenset().union(*(classes_of(member) for member in typing.get_args(declared)))
    if origin is typing.Literal:
        return frozenset(type(value) for value in typing.get_args(declared))
    found = origin if isinstance(origin, type) else declared
    return frozenset({found}) if isinstance(found, type) else frozenset({object})


class Port(Generic[T]):
    """What the descriptors share: a type, a name, and the blueprint that they were asked on.

    Attributes:
        type: the declared type of what passes or is kept.
        name: the attribute's name in the class.
        blueprint: the component object that the port was asked on, or None on the class itself.
    """

    def __init__(self, type: type[T]) -> None:  # noqa: A002 - the word that a user expects
        self.type: Any = type
        self.name = ""
        self.extra_names: tuple[str, ...] = ()  # further names of the same object, which a declaration refuses
        self.blueprint: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name:
            self.extra_names += (name,)
        else:
            self.name = name

    def _of(self, blueprint: object) -> Self:
        """This port as asked on one blueprint, so that it can be connected."""
        bound = object.__new__(type(self))
        bound.__dict__.update(self.__dict__)
        bound.blueprint = blueprint
        return bound

    def _needs_a_life(self, method: str) -> NoReturn:
        raise UsageError(
            f"{self}.{method} works inside a running component only; this object is a blueprint: "
            "pass it to System.add(), connect it, and run the system"
        )

    def __str__(self) -> str:
        owner = "" if self.blueprint is None else f"{type(self.blueprint).__qualname__}."
        return f"{owner}{self.name}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self} of {type_name(self.type)}>"


class Outbox(Port[T]):
    """Where a component sends messages of one type; connected to one or several inboxes of that type.

    Args:
        type: the class of the messages.
        optional: an outbox that is not connected is an error at `check()` unless this is set; what is sent to it is
            then dropped.
    """

    def __init__(self, type: type[T], *, optional: bool = False) -> None:  # noqa: A002
        super().__init__(type)
        self.optional = optional

    def __get__(self, instance: object, owner: type) -> Outbox[T]:
        return self if instance is None else self._of(instance)

    def send(self, message: T, *, timeout_s: float | None = None) -> None:
        """Sends one message to every connected inbox.

        In a handler, in `on_start`, `on_stop` and inside ``with self.unit():`` the message becomes part of the unit of work
        and is seen by others when the unit is whole; this call then does not block. In `run()` each call is a unit of
        its own (with the state as it is) and blocks while a connected inbox is full.

        Called from a thread that is not the component's (a callback of a library), it is a unit of its own without state.

        Args:
            message: an object of the outbox's class, exactly (of a subclass, fields could be lost in the store).
            timeout_s: how long to wait for room, in seconds; None waits as long as it takes.

        Raises:
            MessageRefused: the value is not of the outbox's class (or is of a subclass, and might have to be stored).
            CannotEncode: the value would not survive being stored.
            InboxFull: no room within `timeout_s`, or the inbox was declared with ``overflow="fail"``. Nothing was sent.
        """
        self._needs_a_life("send()")


class Inbox(Port[T]):
    """Where a component receives messages of one type, in the order in which each sender sent them.

    Args:
        type: the class of the messages.
        capacity: how many messages may wait here or be in work; senders block beyond that. Dead letters that are retried need
            no room: they come on top of it.
        durable: messages survive a crash. With False they live in memory only and may be of any class; receivers then share
            the object that was sent, so do not change it.
        overflow: what happens to a message that finds the inbox full: "block" the sender, "drop_oldest" waiting message,
            "drop_newest" (the message itself) or "fail" (the sender gets `InboxFull`).
        retry: what happens to a message whose handler raises, or that kills the process.
        rate: how often a message may be handled, or received in a `run()`; None as often as it goes. What waits for that stays
            in the inbox; other messages of the component wait too, its ticks do not.
    """

    def __init__(
        self,
        type: type[T],  # noqa: A002
        *,
        capacity: int = 1_000,
        durable: bool = True,
        overflow: Overflow = "block",
        retry: Retry = Retry(),
        rate: Rate | None = None,
    ) -> None:
        super().__init__(type)
        self.rate = rate
        self.capacity = capacity
        self.durable = durable
        self.overflow = overflow
        self.retry = retry
        self.handlers: tuple[str, ...] = ()  # the names of the methods that were declared as handlers

    def __get__(self, instance: object, owner: type) -> Inbox[T]:
        return self if instance is None else self._of(instance)

    def handler(self, method: Callable[[C, T], None]) -> Callable[[C, T], None]:
        """Declares the method that handles each message: one message, one unit of work, on the component's own thread."""
        self.handlers += (getattr(method, "__name__", repr(method)),)
        return method

    def receive(self, *, timeout_s: float | None = None) -> T:
        """Takes the next message, in a component with a `run()` of its own; blocks until there is one.

        The message, and what is sent and changed until the next `receive`, are one unit of work; inside
        ``with self.unit():`` the message belongs to that unit.

        Args:
            timeout_s: how long to wait, in seconds; None waits until there is a message or the component is stopped.

        Raises:
            InboxEmpty: there was none within `timeout_s`.
            UnitTooLarge: the open unit has received as many as the inbox holds, so that none can follow.
            StopRequested: the component was asked to stop and nothing is left to receive; let it pass.
        """
        self._needs_a_life("receive()")

    def __iter__(self) -> Iterator[T]:
        """Receives until the component is stopped and nothing is left; each turn of the loop is one unit of work."""
        self._needs_a_life("__iter__()")


class State(Port[T]):
    """Durable state: restored after a crash, saved in the same unit as the message that changed it.

    Inside a running component the attribute *is* the value: read it, change it, or assign a new one. Asked on the
    blueprint, which `System.add` returned, it is a copy of what the last whole unit left.

    Args:
        type: an attrs class, a dataclass, or a builtin such as ``dict[str, int]``.
        initial: makes the value of the first start; by default the type is called without arguments.
        version: the version of the class, stored beside the value; a store with a later one is refused.
        migrations: for each earlier version a function from its plain JSON value to that of the next version.
    """

    def __init__(
        self,
        type: type[T],  # noqa: A002
        *,
        initial: Callable[[], T] | None = None,
        version: int = 1,
        migrations: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> None:
        super().__init__(type)
        self.initial = initial
        self.version = version
        self.migrations = dict(migrations or {})

    def first_value(self) -> T:
        """The value of a component that has never run."""
        if self.initial is not None:
            return self.initial()
        made: T = self.type()
        return made

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> T: ...

        def __set__(self, instance: object, value: T) -> None: ...

    else:

        def __get__(self, instance, owner):
            return self if instance is None else instance._minions.read_state(self)


class Uses(Port[T]):
    """Another component, whose public methods this one may call: each call runs on that component's own thread.

    Inside a running component the attribute stands for the other one: ``self.database.insert(row)`` waits until the method has
    run there, between two messages, as one unit of work, and returns what it returned, or raises what it raised. Arguments and
    results are handed over as they are. While the other one restarts the call waits, within its time.

    The unit of the call is whole before the call returns, whatever becomes of the caller's own unit.

    Args:
        type: the class of the other component (or a base of it).
        timeout_s: how long a call may take, in seconds, if the caller does not say otherwise (`Component.call_timeout`).
    """

    def __init__(self, type: type[T], *, timeout_s: float = 30.0) -> None:  # noqa: A002
        super().__init__(type)
        self.timeout_s = timeout_s

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: type) -> T: ...

    else:

        def __get__(self, instance, owner):
            return self if instance is None else self._of(instance)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"{self}.{name} works inside a running component only; from outside: system.call(component).{name}(...)"
        )


class Table(Port[T], MutableMapping[K, T], Generic[K, T]):
    """Durable entries, too many to be saved whole at every unit: only those that a unit has changed are written with it.

    Inside a running component it is a mapping, in the order of its keys, of which nothing is read before it is asked for.
    Asked on the blueprint, which `System.add` returned, it is the same to be read: what the last whole unit left.

    A key is a str, int, float, bytes, bool, date, datetime, UUID, a member of an enumeration, or a tuple of these. What is true
    of `State` is true of the values: one that can change may be changed in place, and the unit that looked at it saves it.
    Entries that are added while the table is iterated may or may not be met; the current one may be deleted.

    Args:
        key: the type of the keys.
        value: the type of the values: an attrs class, a dataclass, or a builtin.
        version: the version of the value's class, stored beside each value; a later one is refused when it is read.
        migrations: for each earlier version a function from its plain JSON value to that of the next version.
    """

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(
        self,
        key: type[K],
        value: type[T],
        *,
        version: int = 1,
        migrations: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> None:
        super().__init__(value)
        self.key_type: Any = key
        self.version = version
        self.migrations = dict(migrations or {})

    def __get__(self, instance: object, owner: type) -> Table[K, T]:
        if instance is None:
            return self
        table: Table[K, T] | None = instance.__dict__.get(self.name)
        if table is None:
            table = instance._minions.read_table(self)  # type: ignore[attr-defined]
        return table

    def __set__(self, instance: object, value: NoReturn) -> None:
        raise UsageError(
            f"{type(instance).__qualname__}.{self.name} is a table: assign entries, self.{self.name}[key] = value"
        )

    def __getitem__(self, key: K) -> T:
        self._needs_a_life("__getitem__()")

    def __setitem__(self, key: K, value: T) -> None:
        self._needs_a_life("__setitem__()")

    def __delitem__(self, key: K) -> None:
        self._needs_a_life("__delitem__()")

    def __iter__(self) -> Iterator[K]:
        """The keys, in their order. Reads a few rows at a time."""
        self._needs_a_life("__iter__()")

    def __len__(self) -> int:  # noqa: PLE0303 - it raises
        """How many entries there are. Counts keys on disk, so it takes longer the more there are (a million: some 50 ms)."""
        self._needs_a_life("__len__()")

    def between(self, first: K | None = None, last: K | None = None) -> Iterator[tuple[K, T]]:
        """Keys and values from `first` to `last`, both included, in the order of the keys; None where there is no such end."""
        self._needs_a_life("between()")

    def __bool__(self) -> bool:
        return True  # the descriptor itself; a table in a component is true where it holds something

"""`Component`: what users subclass. It decides nothing: a declaration is read off the class, and whatever needs a running
system is asked of the context that the runtime gives to each life.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, Protocol, Self, TypeVar, dataclass_transform

import attrs

from minions.clock import Parkable
from minions.errors import UsageError
from minions.model.declaration import Declaration, declare
from minions.model.ports import State, Table
from minions.model.rates import Rate

__all__ = ["Blueprint", "Component", "Context", "Exactly", "copy_of", "not_copyable"]

C = TypeVar("C", bound="Component")
K = TypeVar("K")
P = ParamSpec("P")
R = TypeVar("R")


class Context(Protocol):
    """What a component asks of the life that it is in (or of the blueprint, which mostly refuses)."""

    @property
    def log(self) -> logging.Logger: ...
    @property
    def running(self) -> bool: ...
    @property
    def message_id(self) -> str: ...
    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    def blocking(self, resource: Any, wake: Callable[[], object] | None) -> AbstractContextManager[None]: ...
    def call_timeout(self, seconds: float) -> AbstractContextManager[None]: ...
    def submit(self, method: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Future[Any]: ...
    def sleep(self, seconds: float) -> None: ...
    def unit(self) -> AbstractContextManager[None]: ...
    def commit(self, timeout_s: float | None) -> None: ...
    def after_commit(self, function: Callable[[], object]) -> None: ...
    def decoder_of(self, declared: Any) -> Callable[[bytes], Any]: ...
    def woken_at_stop(self, parkable: Parkable) -> AbstractContextManager[None]: ...
    def keep_pace(self, method: Callable[..., Any], rates: tuple[Rate, ...]) -> None: ...
    def read_state(self, state: State[Any]) -> Any: ...
    def read_table(self, table: Table[Any, Any]) -> Any: ...


class Blueprint:
    """The context of a component that runs nowhere: it refuses everything but what a system lends it.

    Attributes:
        reader: answers for a `State` what was last kept; set by `System.add`, None before.
        table_reader: the same for a `Table`.
    """

    def __init__(self, component: str) -> None:
        self._component = component
        self.reader: Any = None
        self.table_reader: Any = None

    def read_state(self, state: State[Any]) -> Any:
        if self.reader is None:
            raise UsageError(
                f"{self._component}.{state.name}: a State has a value inside a running component, and on a component that "
                "was passed to System.add()"
            )
        return self.reader(state)

    def read_table(self, table: Table[Any, Any]) -> Any:
        if self.table_reader is None:
            raise UsageError(
                f"{self._component}.{table.name}: a Table has entries inside a running component, and on a component that was "
                "passed to System.add()"
            )
        return self.table_reader(table)

    def _refuse(self, name: str) -> NoReturn:
        raise UsageError(
            f"{self._component}.{name} works inside a running component only; this object is a blueprint: "
            "pass it to System.add() and run the system"
        )

    @property
    def log(self) -> logging.Logger:
        self._refuse("log")

    @property
    def running(self) -> bool:
        return False

    @property
    def message_id(self) -> str:
        self._refuse("message_id")

    def now(self) -> datetime:
        self._refuse("now()")

    def monotonic(self) -> float:
        self._refuse("monotonic()")

    def blocking(self, resource: Any, wake: Callable[[], object] | None) -> AbstractContextManager[None]:
        self._refuse("blocking()")

    def call_timeout(self, seconds: float) -> AbstractContextManager[None]:
        self._refuse("call_timeout()")

    def submit(self, method: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Future[Any]:
        self._refuse("submit()")

    def sleep(self, seconds: float) -> None:
        self._refuse("sleep()")

    def unit(self) -> AbstractContextManager[None]:
        self._refuse("unit()")

    def commit(self, timeout_s: float | None) -> None:
        self._refuse("commit()")

    def after_commit(self, function: Callable[[], object]) -> None:
        self._refuse("after_commit()")

    def decoder_of(self, declared: Any) -> Callable[[bytes], Any]:
        self._refuse("run()")

    def woken_at_stop(self, parkable: Parkable) -> AbstractContextManager[None]:
        self._refuse("run()")

    def keep_pace(self, method: Callable[..., Any], rates: tuple[Rate, ...]) -> None:
        self._refuse(f"{method.__name__}(), which has a limit,")


class Exactly(Protocol[K]):
    """For a type checker: a component of the class `K` itself, so that a second argument has to be one of that class, too."""

    def _minions_exactly(self) -> list[K]: ...


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(attrs.field,))
class Component:
    """A long-lived part of a system, with a managed thread of its own.

    A subclass becomes an attrs class by being defined: annotated names are its configuration, given by keyword. What is
    made from it is a blueprint; every start of the component gets a fresh copy, made from the same arguments.

    Write either handlers (``@inbox.handler``) and schedules (``@every``, ``@cron``), or `run()`. All methods are
    called on the component's own thread, one at a time, so component code needs no locks.

    Raises:
        DeclarationError: when the class is defined, naming everything that is wrong with it and what to do.
    """

    __minions_declaration__: Declaration = Declaration(class_name="Component")
    _minions: Any  # the Context; not annotated as one, because a user's type checker must not see it as a field

    if not TYPE_CHECKING:

        def __new__(cls, *args, **configuration):
            self = super().__new__(cls)
            self.__dict__["_minions_arguments"] = configuration
            self.__dict__["_minions"] = Blueprint(cls.__qualname__)
            return self

    if TYPE_CHECKING:

        def _minions_exactly(self) -> list[Self]:  # a list, because its type has to be the very same
            """See `Exactly`."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.__minions_declaration__ = declare(cls, Component)

    # ------------------------------------------------------------------ what a subclass may define
    def on_start(self) -> None:
        """Called first in each life, as one unit of work: open connections, take what is needed."""

    def run(self) -> None:
        """The component's own loop, instead of handlers. Loop ``while self.running:`` and return to end."""

    def on_stop(self) -> None:
        """Called last in a life that ends in order, as one unit of work: close what `on_start` opened.

        Not called in a life that failed; its object is freed before the next life begins.
        """

    def on_interrupt(self) -> None:
        """Called from another thread when the component was asked to stop and does not: break the call that blocks it.

        What is needed for common libraries `blocking` does by itself.
        """

    # ------------------------------------------------------------------ what the runtime offers
    @property
    def log(self) -> logging.Logger:
        """The logger of this component, ``minions.<system>.<component>``."""
        log: logging.Logger = self._minions.log
        return log

    @property
    def running(self) -> bool:
        """Whether the component has not been asked to stop."""
        running: bool = self._minions.running
        return running

    @property
    def message_id(self) -> str:
        """The id of the message in work, the same at every retry, in every life of the component.

        It is also the same after a crash of the process where the message is durable and was on disk. A handler may see a message
        before that; if the process is killed then, the message never was, and what its sender sends instead has an id of its
        own. So call `commit()` before an effect that is to be known by this id.

        Raises:
            UsageError: no message is in work.
        """
        message_id: str = self._minions.message_id
        return message_id

    def now(self) -> datetime:
        """The time of day, with the zone UTC: of the runtime's clock, so that a test decides what it says.

        In production that is the machine's time, which somebody may set back; for durations take `monotonic`. Where a
        `FakeClock`, a harness or a simulation holds the time, it is theirs.

        On any thread of the component; does not block. What its own thread reads, the first 1,000 times in one unit of work,
        is recorded when the unit fails, and a replay reads the same again; other threads are told the time, and nothing is
        recorded.

        Raises:
            UsageError: outside of a running component, where there is no such clock.
        """
        now: datetime = self._minions.now()
        return now

    def monotonic(self) -> float:
        """Seconds since some moment in the past, for durations: it never goes back. Otherwise as `now`, and recorded with it.

        To be compared with what the same process has read; a process that starts later may begin anywhere.

        Raises:
            UsageError: outside of a running component, where there is no such clock.
        """
        monotonic_s: float = self._minions.monotonic()
        return monotonic_s

    def blocking(self, resource: Any, wake: Callable[[], object] | None = None) -> AbstractContextManager[None]:
        """Says in what a call inside ``with self.blocking(connection):`` may hang, so that it can be woken at a stop.

        When the component was asked to stop and does not, this is done from another thread: a socket, an HTTP connection or
        session is shut down, a child process is ended (its whole group where it leads one, ``start_new_session=True``), an
        SQLite query is interrupted, a PostgreSQL statement cancelled, an event set, a future cancelled. Then `on_interrupt` is
        called. Nothing is closed: the call that is woken raises or returns, the unit of work that it belongs to never was, and
        what it had received is handled again by the next life.

        On any thread of the component; may be nested.

        Args:
            resource: a socket or whatever has the descriptor of one, `subprocess.Popen`, `sqlite3.Connection`,
                `threading.Event` or `Condition`, a `Future` or task, an HTTP connection or session, a PostgreSQL connection, or
                a callable without arguments that wakes the thread.
            wake: called to wake the thread instead of what would be done with the resource.

        Raises:
            UsageError: nothing is known that wakes what hangs in such a thing; `wake` is the remedy.
        """
        blocking: AbstractContextManager[None] = self._minions.blocking(resource, wake)
        return blocking

    def call_timeout(self, seconds: float) -> AbstractContextManager[None]:
        """Gives each call inside ``with self.call_timeout(2.0):`` so many seconds, instead of what `Uses` says.

        For the calls of the thread that enters it; the innermost counts.
        """
        timeout: AbstractContextManager[None] = self._minions.call_timeout(seconds)
        return timeout

    def submit(self, method: Callable[P, R], /, *arguments: P.args, **keywords: P.kwargs) -> Future[R]:
        """Has a method of another component run, as ``self.submit(self.database.insert, row)``, and does not wait for it.

        It runs on that component's thread, whatever becomes of the unit of work that is open here. On any thread of this one.

        Returns:
            A future of what it returns or raises. What the future calls back is called on the other component's thread, and must
            be brief. To wait for it is not seen as a call: it has no time of its own, and a deadlock is not found.

        Raises:
            UsageError: it is no method of a component that this one uses.
            CallFailed: that component is down for good, or too many submitted calls wait for it.
        """
        future: Future[R] = self._minions.submit(method, arguments, keywords)
        return future

    def sleep(self, seconds: float) -> None:
        """Waits; the one wait during which (or before which) the component is asked to stop ends early.

        Raises:
            StopRequested: the component was asked to stop a while ago; let it pass.
        """
        self._minions.sleep(seconds)

    def unit(self) -> AbstractContextManager[None]:
        """In `run()`: everything received, changed and sent inside ``with self.unit():`` is whole or it never was.

        Blocks at its end while an inbox that it sends to is full. If the block raises, its messages were never sent and the
        state is as it was before.

        Raises:
            UsageError: inside a handler, which is one unit already, or inside another unit.
            StopRequested: the component was asked to stop a while ago; let it pass.
        """
        unit: AbstractContextManager[None] = self._minions.unit()
        return unit

    def commit(self, timeout_s: float | None = None) -> None:
        """Returns when every unit so far, of all components, is on disk. Blocks.

        In `run()` the state as it is now is included; in a handler what the handler itself has sent and changed is not:
        its unit is whole when it returns.

        Raises:
            CommitTimeout: it was not on disk within `timeout_s` seconds.
        """
        self._minions.commit(timeout_s)

    def after_commit(self, function: Callable[[], object]) -> None:
        """Has `function` called once the unit of work that is open is on disk; at most once. Returns at once.

        In a handler, in `on_start`, after a `receive()` and inside ``with self.unit():`` it belongs to that unit: if the unit
        fails it is forgotten. In `run()` outside a unit it is called once everything so far is on disk, the state as it is
        now included.

        It is called on the component's own thread, between two units: before the next message is handled or received, in
        `sleep`, after a `send`, a `commit` or a ``with self.unit():`` of a `run()`, and before `on_stop`. Those of one component
        are called in the order in which they were handed over. It is one unit of work itself: what it sends and changes is whole
        or never was. `message_id` is that of the message in whose unit it was handed over.

        If it raises, the component has failed, in "after_commit", which counts for its `Restart`; the message stays handled. A
        process that is killed between the commit and the call never calls it, nor does a life that is abandoned or that had to
        end before the commit. No more than 8,192 wait: a component that outruns the disk waits for it between two units.

        Args:
            function: takes no arguments; what it returns is not looked at.

        Raises:
            UsageError: on another thread than the component's, or `function` cannot be called so.
            UnitTooLarge: one unit hands over more than 8,192 functions.
        """
        self._minions.after_commit(function)


def copy_of(blueprint: C, context: Context | None = None, configured: Mapping[str, Any] = MappingProxyType({})) -> C:
    """A fresh component made from the arguments of `blueprint`, for one life. Deep copies, so nothing leaks into the next.

    Args:
        configured: arguments in the place of those of the blueprint.
    """
    arguments = {**blueprint.__dict__["_minions_arguments"], **configured}
    made = type(blueprint)(**copy.deepcopy(arguments)) if arguments else type(blueprint)()
    for name in _defaulted(blueprint):
        made.__dict__[name] = copy.deepcopy(made.__dict__[name])
    if context is not None:
        made.__dict__["_minions"] = context
    return made


def not_copyable(blueprint: Component) -> Iterator[str]:
    """Each part of the configuration that no copy can be made of, with what to do."""
    values = {name: blueprint.__dict__[name] for name in _defaulted(blueprint)}
    for name, value in (blueprint.__dict__["_minions_arguments"] | values).items():
        try:
            copy.deepcopy(value)
        except Exception as error:  # noqa: BLE001 - whatever the value's own way of being copied raises; it is reported
            yield (
                f"its {name!r} ({type(value).__qualname__}) cannot be copied for each life ({error}): configure what it is "
                "made from, and make it in on_start()"
            )


def _defaulted(blueprint: Component) -> Iterator[str]:
    """The names of the fields whose value is a default, the same object for all components."""
    fields: tuple[attrs.Attribute[Any], ...] = getattr(type(blueprint), "__attrs_attrs__", ())
    for field in fields:
        made_anew = field.default is attrs.NOTHING or hasattr(field.default, "takes_self")  # an attrs.Factory
        if not made_anew and field.alias not in blueprint.__dict__["_minions_arguments"]:
            yield field.name

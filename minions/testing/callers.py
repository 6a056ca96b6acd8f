"""Calls from outside of a simulated system: scripts of who calls what, and what each was told.

Who calls is outside of the process, as the client of a web server is: it outlives every crash, and goes on where it was. A call
that the process died under was never answered. Everything happens on the one thread of the simulation.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, overload

import attrs

from minions.errors import CallFailed, CallTimeout, UsageError
from minions.life.calling import not_callable
from minions.life.outsider import Outsider
from minions.life.plan import Plan
from minions.model.component import Component
from minions.model.topology import Topology
from minions.model.wrapped import Wrapped
from minions.testing.choices import Choices
from minions.testing.process import Process
from minions.testing.scripts import Wait
from minions.testing.story import Story, short
from minions.testing.world import World

__all__ = ["Call", "CallScript", "Called", "Caller", "calls_of"]

P = ParamSpec("P")

_PATIENCE_S = 30.0
"""How long a call may take, in the simulation's time, as with `System.call`."""
_MOST_TRIES = 10
_TRY_AGAIN_S = 1.0
_NAME = re.compile(r"[\w.-]+( [\w.-]+)*")  # which stands in choices
_MOST_LATE = 5
_NOBODY_KNOWS = (CallFailed, CallTimeout)
"""Told where a call was not answered: whether it was done, nobody knows."""


class Call:
    """In a script of calls from outside: one call of one method, as by ``system.call(bank).withdraw("ada", 60)``.

    ``Call("bank", Bank.withdraw, "ada", 60)``, or ``Call(bank.withdraw, "ada", 60)`` where ``bank`` is what `System.add` has
    returned. A type checker knows what the method takes. The arguments are copied for each call.

    A call that the process dies under is not answered, and its caller goes on with the next. One that is said with
    `until_answered` is made again then.
    """

    @overload
    def __init__(
        self,
        component: Component | str,
        method: Callable[Concatenate[Any, P], object],
        /,
        *arguments: P.args,
        **keywords: P.kwargs,
    ) -> None: ...
    @overload
    def __init__(self, method: Callable[P, object], /, *arguments: P.args, **keywords: P.kwargs) -> None: ...
    def __init__(self, component: Any, /, *arguments: Any, **keywords: Any) -> None:
        """Args:
            component: that was added, or its name.
            method: of its class.
            arguments, keywords: of the method.

        Raises:
            UsageError: that is no method, or it does not take these arguments.
        """
        method = component
        if isinstance(component, (Component, str)):
            method, arguments = (arguments[0], arguments[1:]) if arguments else (None, ())
        else:
            component = getattr(method, "__self__", None)
        if not (callable(method) and isinstance(getattr(method, "__name__", None), str)) or isinstance(method, type):
            raise UsageError(
                f'Call(...): {method!r} is no method: say which component is called and what, such as Call("bank", '
                'Bank.withdraw, "ada", 60), or Call(bank.withdraw, "ada", 60) of what system.add(...) returned'
            )
        if not isinstance(component, (Component, str)):
            raise UsageError(
                f"Call({method.__qualname__}, ...): say first which component is called, such as "
                f'Call("bank", {method.__qualname__}, ...)'
            )
        self.component: Component | str = component
        self.method: str = method.__name__
        self.arguments: tuple[Any, ...] = arguments
        self.keywords: Mapping[str, Any] = keywords
        self.is_repeated = False

    def until_answered(self) -> Call:
        """The same, made again a second later where it was not answered, ten times at most: after the process has died, and
        where the runtime tells a `CallFailed` or a `CallTimeout`. So it may be done twice. What the method raises is an answer.
        """
        again = copy.copy(self)
        again.is_repeated = True
        return again

    def __repr__(self) -> str:
        return _shown(self.method, self.arguments, self.keywords)


@attrs.frozen(kw_only=True, repr=False)
class Called:
    """A call from outside that is over, as its caller knows it.

    Attributes:
        component: the name of the component that was called.
        method: the name of the method.
        arguments: as they were given, those by position.
        keywords: likewise, those by name.
        answer: what the method returned.
        error: what it raised; a `CallFailed` or a `CallTimeout` where there was no answer, so that nobody knows whether it was
            done. None where it returned.
    """

    component: str
    method: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    answer: Any = None
    error: BaseException | None = None

    def __repr__(self) -> str:
        outcome = f"raised {short(self.error)}" if self.error is not None else short(self.answer)
        return f"{self.component}.{_shown(self.method, self.arguments, self.keywords)}: {outcome}"


@attrs.frozen
class CallScript:
    """What one caller does, one after the other; each call with the name of its component."""

    caller: str
    steps: Sequence[tuple[str, Call] | Wait]


class Caller:
    """One caller in one run.

    Attributes:
        called: its calls that are over.
        made: how many calls it has made, each repetition too.
    """

    def __init__(self, script: CallScript) -> None:
        self.called: list[Called] = []
        self.made = 0
        self._name = script.caller
        self._steps = script.steps
        self._at = 0
        self._tries = 0  # of the step at which it is
        self._is_open = False  # a call of it was made and is not over
        self._until_s = 0.0  # until when it waits
        self._waits = False  # for a `Wait`

    @property
    def name(self) -> str:
        return self._name

    @property
    def has_more(self) -> bool:
        """Whether it has not come to its end."""
        return self._at < len(self._steps)

    def go_on(self, process: Process, world: World, choices: Choices, story: Story | None) -> None:
        """Does what is still to be done. On a thread of the world, one for each process; ends when the system stops."""
        runtime = process.runtime
        if not runtime.wait_until_up():
            return
        if self._is_open:  # the process before has died under it
            self._not_answered(CallFailed(f"{self._name}: the process has died before it has answered"), world, story)
        outsider = Outsider(self._name, runtime.journal, world.clock, world.threads)
        while self.has_more and not runtime.stopping:
            step = self._steps[self._at]
            if world.now_s < self._until_s:
                world.sleep(self._until_s - world.now_s)  # and then it may be stopping
            elif not isinstance(step, Wait):
                self._let_others_go_first(world, choices)
                self._make(outsider, process.plan, *step, world, story)
            elif self._waits:
                self._next()
            else:
                self._waits, self._until_s = True, world.now_s + step.seconds

    def _let_others_go_first(self, world: World, choices: Choices) -> None:
        """It may call at once, or when others have had many turns."""
        late = choices.below(f"pause of {self._name}", _MOST_LATE)
        for _ in range(late and 4 ** (late - 1)):
            world.pause()

    def _make(
        self, outsider: Outsider, plan: Plan, component: str, call: Call, world: World, story: Story | None
    ) -> None:
        queue = plan.nodes[component].calls
        assert queue is not None
        arguments, keywords = copy.deepcopy((call.arguments, dict(call.keywords)))
        self.made += 1
        self._is_open = True
        try:
            answer = outsider.call(queue, call.method, arguments, keywords, _PATIENCE_S)
        except _NOBODY_KNOWS as error:
            self._not_answered(error, world, story)
        except Exception as error:  # noqa: BLE001 - kept: what a method raises is its answer
            self._over(None, error)
        else:
            self._over(answer, None)

    def _not_answered(self, error: BaseException, world: World, story: Story | None) -> None:
        step = self._steps[self._at]
        assert not isinstance(step, Wait)
        component, call = step
        again = call.is_repeated and self._tries + 1 < _MOST_TRIES
        if story is not None:
            then = "calls again" if again else "goes on"
            story.say(f"{self._name} has no answer to {component}.{call!r}, and {then}: {error}")
        if not again:
            self._over(None, error)
            return
        self._is_open = False
        self._tries += 1
        self._until_s = world.now_s + _TRY_AGAIN_S

    def _over(self, answer: Any, error: BaseException | None) -> None:
        step = self._steps[self._at]
        assert not isinstance(step, Wait)
        component, call = step
        self.called.append(
            Called(
                component=component,
                method=call.method,
                arguments=call.arguments,
                keywords=call.keywords,
                answer=answer,
                error=error,
            )
        )
        self._is_open = False
        self._next()

    def _next(self) -> None:
        self._at += 1
        self._tries, self._waits = 0, False


def calls_of(calls: Mapping[str, Iterable[Any]], topology: Topology, plan: Plan) -> list[CallScript]:
    """The scripts of the callers.

    Args:
        calls: by the name of the caller: `Call`s, and `Wait`s.

    Raises:
        UsageError: there is no such component, or it does not answer that; or that is no script.
    """
    if not isinstance(calls, Mapping):
        raise UsageError(
            f'calls={calls!r}: give a dictionary: by a name for who calls, the list of its calls, such as {{"web": '
            '[Call("bank", Bank.withdraw, "ada", 60)]}'
        )
    return [CallScript(_name(who), tuple(_steps(who, steps, topology, plan))) for who, steps in calls.items()]


def _name(who: object) -> str:
    if not isinstance(who, str) or not _NAME.fullmatch(who):
        raise UsageError(
            f"calls={{{who!r}: ...}}: say by a name who calls, such as \"web\": of letters, digits, '_', '-', '.' and spaces "
            "between them"
        )
    return who


def _steps(who: str, steps: Any, topology: Topology, plan: Plan) -> Iterator[tuple[str, Call] | Wait]:
    if isinstance(steps, (str, bytes)) or not isinstance(steps, Iterable):
        raise UsageError(f"calls={{{who!r}: {steps!r}}}: a script is a list of Call(...) and Wait(...)")
    for step in steps:
        if isinstance(step, Wait):
            yield step
        elif isinstance(step, Call):
            yield _component_of(who, step, topology, plan), step
        else:
            raise UsageError(f"calls={{{who!r}: [{step!r}]}}: a script is a list of Call(...) and Wait(...)")


def _component_of(who: str, call: Call, topology: Topology, plan: Plan) -> str:
    """The name of the component that is called, which answers that."""
    where = f"calls={{{who!r}: [{call!r}]}}"
    named = call.component
    nodes = {name: each.node for name, each in plan.nodes.items()}
    node = topology.node_of(named) if isinstance(named, Component) else nodes.get(named)
    if node is None:
        raise UsageError(f"{where}: there is no component {named!r} in the system; there are {', '.join(plan.nodes)}")
    if plan.nodes[node.name].calls is None:
        raise UsageError(
            f"{where}: {node.name} answers no calls: calls are answered between messages, and it has a run() of its own, or "
            "partitions, to which a call cannot be put down"
        )
    kind = type(node.blueprint)
    if reason := not_callable(kind, call.method):
        raise UsageError(f"{where}: {node.name}.{call.method} cannot be called: {reason}")
    if not issubclass(kind, Wrapped):
        try:
            inspect.signature(getattr(kind, call.method)).bind(None, *call.arguments, **call.keywords)
        except TypeError as error:
            raise UsageError(f"{where}: {node.name}.{call.method} does not take that: {error}") from error
    try:
        copy.deepcopy((call.arguments, dict(call.keywords)))
    except Exception as error:  # whatever the values' own ways of being copied raise; it is told with the reason
        raise UsageError(
            f"{where}: the arguments cannot be copied, which they are for each call, so that one run leaves nothing for the "
            f"next: {type(error).__name__}: {error}"
        ) from error
    return node.name


def _shown(method: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    shown = [short(each) for each in arguments]
    shown += [f"{name}={short(each)}" for name, each in keywords.items()]
    return f"{method}({', '.join(shown)})"

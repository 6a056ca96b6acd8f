"""Declaring a component: what is refused, and with which words."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import attrs
import pytest

from minions.model.component import Component
from minions.model.declaration import FRAMEWORK_NAMES, HOOKS
from minions.model.ports import Inbox, Outbox, Overflow, State
from tests.model.declaring import Alarm, Precise, Reading, Summary, defined, problem, refusal


class TestAClassIsRefused:
    @pytest.mark.parametrize("name", FRAMEWORK_NAMES)
    def test_when_a_method_has_a_name_of_the_runtime(self, name: str) -> None:
        assert problem(lambda: defined(**{name: lambda self: None})) == (
            f"{name!r} is a name of the runtime (Component.{name}): choose another name"
        )

    @pytest.mark.parametrize("name", FRAMEWORK_NAMES)
    def test_when_configuration_has_a_name_of_the_runtime(self, name: str) -> None:
        assert f"{name!r} is a name of the runtime" in problem(lambda: defined(__annotations__={name: int}))

    @pytest.mark.parametrize("name", FRAMEWORK_NAMES)
    def test_when_a_port_has_a_name_of_the_runtime(self, name: str) -> None:
        assert f"{name!r} is a name of the runtime" in problem(lambda: defined(**{name: Outbox(Reading)}))

    @pytest.mark.parametrize("name", ["_minions", "_minions_arguments"])
    def test_when_it_takes_what_the_runtime_keeps_on_the_object(self, name: str) -> None:
        assert problem(lambda: defined(**{name: 1})) == f"{name!r} is a name of the runtime: choose another name"

    def test_when_a_mixin_hides_a_name_of_the_runtime(self) -> None:
        class Logging:
            def log(self) -> str:
                return "mine"

        assert "'log' is a name of the runtime" in problem(lambda: type("Mixed", (Logging, Component), {}))

    def test_when_every_name_of_the_runtime_is_on_component(self) -> None:
        public = {name for name in vars(Component) if not name.startswith("_")}
        assert public - set(HOOKS) == set(FRAMEWORK_NAMES)

    @pytest.mark.parametrize("method", ["__init__", "__new__"])
    def test_when_it_makes_its_objects_itself(self, method: str) -> None:
        said = problem(lambda: defined(**{method: lambda self: None}))
        assert f"it defines {method}" in said
        assert "on_start()" in said

    def test_when_an_inbox_has_two_handlers(self) -> None:
        def define() -> None:
            class Average(Component):
                readings = Inbox(Reading)

                @readings.handler
                def add(self, reading: Reading) -> None: ...

                @readings.handler
                def check(self, reading: Reading) -> None: ...

        assert problem(define) == ("inbox 'readings' has 2 handlers (add, check): keep one and call the others from it")

    def test_when_an_inbox_has_neither_handler_nor_loop(self) -> None:
        assert problem(lambda: defined(readings=Inbox(Reading))) == (
            "inbox 'readings' has no handler: write @readings.handler above a method "
            "def ...(self, message: Reading) -> None, or receive from it in run()"
        )

    def test_when_it_has_both_a_handler_and_a_loop(self) -> None:
        def define() -> None:
            class Average(Component):
                readings = Inbox(Reading)

                @readings.handler
                def add(self, reading: Reading) -> None: ...

                def run(self) -> None: ...

        said = problem(define)
        assert "inbox 'readings' has the handler 'add', but the class has run()" in said
        assert "for message in self.readings:" in said

    @pytest.mark.parametrize(
        ("handler", "said"),
        [
            (lambda self: None, "takes (self)"),
            (lambda self, reading, other: None, "takes (self, reading, other)"),
            (lambda self, *, reading: None, "takes (self, *, reading)"),
            (lambda: None, "takes ()"),
        ],
    )
    def test_when_a_handler_cannot_be_called_with_a_message(self, handler: Callable[..., None], said: str) -> None:
        readings = Inbox(Reading)
        handler.__name__ = "add"
        assert problem(lambda: defined(readings=readings, add=readings.handler(handler))) == (
            f"handler add of inbox 'readings' {said}: write def add(self, message: Reading) -> None"
        )

    def test_when_a_handler_is_async_or_a_generator(self) -> None:
        async def coroutine(self: Any, reading: Reading) -> None: ...

        async def stream(self: Any, reading: Reading) -> AsyncIterator[int]:
            yield 1

        def generator(self: Any, reading: Reading) -> Iterator[int]:
            yield 1

        for method, said in ((coroutine, "is async"), (stream, "is async"), (generator, "is a generator")):
            readings: Inbox[Reading] = Inbox(Reading)
            body = {"readings": readings, method.__name__: readings.handler(method)}  # type: ignore[arg-type]
            assert said in problem(lambda body=body: defined(**body))  # type: ignore[misc]

    @pytest.mark.parametrize("annotation", [Alarm, "Alarm", Precise, str])
    def test_when_a_handler_takes_another_type(self, annotation: Any) -> None:
        readings = Inbox(Reading)

        def add(self: Any, reading: Any) -> None: ...

        add.__annotations__["reading"] = annotation
        said = problem(lambda: defined(readings=readings, add=readings.handler(add)))
        assert said.startswith("handler add takes ")
        assert said.endswith("but inbox 'readings' carries Reading: make them the same")

    @pytest.mark.parametrize("wrap", [staticmethod, classmethod, functools.cache])
    def test_when_a_handler_is_no_method(self, wrap: Callable[[Any], Any]) -> None:
        readings = Inbox(Reading)

        def add(self: Any, reading: Reading) -> None: ...

        assert problem(lambda: defined(readings=readings, add=readings.handler(wrap(add)))) == (
            "the handler of inbox 'readings' must be a method of the class"
        )

    @pytest.mark.parametrize("hook", HOOKS)
    def test_when_a_hook_takes_arguments_it_never_gets(self, hook: str) -> None:
        assert problem(lambda: defined(**{hook: lambda self, more: None})) == (
            f"{hook} takes (self, more): write def {hook}(self) -> None"
        )

    @pytest.mark.parametrize("hook", HOOKS)
    def test_when_a_hook_is_async_or_a_generator(self, hook: str) -> None:
        async def coroutine(self: Any) -> None: ...

        def generator(self: Any) -> Iterator[None]:
            yield

        assert f"{hook} is async" in problem(lambda: defined(**{hook: coroutine}))
        assert f"{hook} is a generator" in problem(lambda: defined(**{hook: generator}))

    @pytest.mark.parametrize("hook", HOOKS)
    def test_when_a_hook_is_no_method(self, hook: str) -> None:
        for value in (3, staticmethod(lambda: None), property(lambda self: None), Outbox(Reading)):
            assert f"{hook} must be a plain method" in problem(lambda value=value: defined(**{hook: value}))  # type: ignore[misc]

    @pytest.mark.parametrize("hook", HOOKS)
    def test_when_a_hook_is_configuration(self, hook: str) -> None:
        assert f"{hook!r} is a method of the runtime's" in problem(lambda: defined(__annotations__={hook: int}))

    def test_when_a_mixin_brings_a_hook_that_cannot_be_called(self) -> None:
        class Looping:
            def run(self, forever: bool) -> None: ...

        assert "run takes (self, forever: 'bool')" in problem(lambda: type("Mixed", (Looping, Component), {}))

    @pytest.mark.parametrize("port", [Outbox(Reading), State(Summary)])
    def test_when_a_port_is_annotated(self, port: Any) -> None:
        kind = type(port).__name__
        said = problem(lambda: defined(out=type(port)(port.type), __annotations__={"out": kind}))
        assert said == f"'out' is annotated, which would make the port configuration: write out = {kind}(...)"

    @pytest.mark.parametrize("default", [[], {}, set(), bytearray()])
    def test_when_a_default_would_be_shared(self, default: Any) -> None:
        kind = type(default).__name__
        assert problem(lambda: defined(paths=default, __annotations__={"paths": kind})) == (
            f"the default of 'paths' is a {kind} that all components would share: use attrs.field(factory={kind})"
        )

    def test_when_a_field_has_no_annotation(self) -> None:
        assert "lack a type annotation: path" in problem(lambda: defined(path=attrs.field(default=1)))

    def test_when_one_port_has_two_names(self) -> None:
        out = Outbox(Reading)
        assert problem(lambda: defined(out=out, also=out)) == (
            "'out' and 'also' are the same Outbox object: make one for each name"
        )

    @pytest.mark.parametrize("declared", ["Reading", 3, None, Reading(1.0)])
    def test_when_a_port_is_not_given_a_type(self, declared: Any) -> None:
        assert "the first argument must be a type" in problem(lambda: defined(out=Outbox(declared)))
        assert "the first argument must be a type" in problem(lambda: defined(kept=State(declared)))

    @pytest.mark.parametrize("capacity", [0, -1, 1.5, "10", None, True])
    def test_when_a_capacity_is_no_number_of_messages(self, capacity: Any) -> None:
        assert problem(lambda: defined(readings=Inbox(Reading, capacity=capacity), run=lambda self: None)) == (
            f"readings: capacity={capacity!r} must be a whole number from 1 up"
        )

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [({"durable": "no"}, "True or False"), ({"retry": 5}, "a Retry, such as Retry(attempts=5)")],
    )
    def test_when_an_inbox_is_given_what_is_none(self, wrong: dict[str, Any], said: str) -> None:
        [(name, value)] = wrong.items()
        assert problem(lambda: defined(readings=Inbox(Reading, **wrong), run=lambda self: None)) == (
            f"readings: {name}={value!r} must be {said}"
        )

    def test_when_it_cannot_be_told_whether_an_outbox_is_optional(self) -> None:
        optional: Any = "yes"
        assert problem(lambda: defined(out=Outbox(Reading, optional=optional))) == (
            "out: optional='yes' must be True or False"
        )

    @pytest.mark.parametrize("overflow", ["drop", "", None])
    def test_when_an_overflow_is_not_known(self, overflow: Any) -> None:
        assert problem(lambda: defined(readings=Inbox(Reading, overflow=overflow), run=lambda self: None)) == (
            f"readings: overflow={overflow!r} must be one of block, drop_oldest, drop_newest, fail"
        )

    @pytest.mark.parametrize("overflow", ["block", "drop_oldest", "drop_newest", "fail"])
    def test_but_not_when_it_is(self, overflow: Overflow) -> None:
        defined(readings=Inbox(Reading, overflow=overflow), run=lambda self: None)

    @pytest.mark.parametrize("version", [0, -3, "2", 1.0, True])
    def test_when_a_version_is_no_number(self, version: Any) -> None:
        assert problem(lambda: defined(kept=State(Summary, version=version))) == (
            f"kept: version={version!r} must be a whole number from 1 up"
        )

    def test_with_all_problems_at_once(self) -> None:
        def define() -> None:
            class Average(Component):
                log: str  # type: ignore[assignment]
                readings = Inbox(Reading, capacity=0)
                alarms: Any = Inbox(Alarm)
                kept = State(Summary, version=0)

                def __init__(self) -> None: ...

                @readings.handler  # type: ignore[arg-type]
                async def add(self, reading: Alarm) -> None: ...

                def on_start(self, now: bool) -> None: ...  # type: ignore[override]

        error = refusal(define)
        assert error.component.endswith("Average")
        assert len(error.problems) == 8
        said = str(error)
        assert "Average was refused, 8 problems:" in said
        for number, part in enumerate(error.problems, 1):
            assert f"\n  {number}. {part}" in said
        for part in (
            "'log' is a name",
            "it defines __init__",
            "on_start takes (self, now: 'bool')",
            "'alarms' is annotated",
            "readings: capacity=0",
            "kept: version=0",
            "handler add of inbox 'readings' is async",
            "inbox 'alarms' has no handler",
        ):
            assert part in said

    def test_and_the_error_is_also_a_type_error(self) -> None:
        assert isinstance(refusal(lambda: defined(log=1)), TypeError)

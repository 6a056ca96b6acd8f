"""Declaring a component: what a class becomes, what is refused and with which words."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import attrs
import pytest

from minions.errors import DeclarationError, UsageError
from minions.model.component import Blueprint, Component, copy_of, not_copyable
from minions.model.declaration import FRAMEWORK_NAMES, HOOKS, Declaration
from minions.model.policy import Retry
from minions.model.ports import Inbox, Outbox, Overflow, State, Uses


@attrs.frozen
class Reading:
    celsius: float


class Precise(Reading):
    pass


@attrs.frozen
class Alarm:
    text: str


@attrs.define
class Summary:
    count: int = 0


def declaration_of(component: type[Component]) -> Declaration:
    return component.__minions_declaration__


def refusal(define: Callable[[], object]) -> DeclarationError:
    with pytest.raises(DeclarationError) as refused:
        define()
    return refused.value


def problem(define: Callable[[], object]) -> str:
    """The one problem for which a class is refused."""
    problems = refusal(define).problems
    assert len(problems) == 1, problems
    return problems[0]


def defined(**body: Any) -> type[Component]:
    """A component class with this body, as a class statement would make it."""
    return type("Defined", (Component,), {"__module__": __name__, **body})


class TestAClassThatIsWellDeclared:
    def test_says_which_ports_it_has_in_the_order_of_their_declaration(self) -> None:
        class Average(Component):
            b = Inbox(Reading)
            a = Inbox(Alarm)
            out = Outbox(Reading)
            summary = State(Summary)

            @b.handler
            def on_b(self, reading: Reading) -> None: ...

            @a.handler
            def on_a(self, alarm: Alarm) -> None: ...

        declared = declaration_of(Average)
        assert list(declared.inboxes) == ["b", "a"]
        assert list(declared.outboxes) == ["out"]
        assert list(declared.states) == ["summary"]
        assert declared.handlers == {"b": "on_b", "a": "on_a"}
        assert not declared.has_run
        assert not declared.is_source
        assert declared.class_name.endswith("Average")

    def test_is_a_source_when_it_runs_and_receives_nothing(self) -> None:
        class Source(Component):
            out = Outbox(Reading)

            def run(self) -> None: ...

        class Loop(Component):
            readings = Inbox(Reading)

            def run(self) -> None: ...

        assert declaration_of(Source).is_source
        assert declaration_of(Loop).has_run
        assert not declaration_of(Loop).is_source

    def test_may_be_empty_of_ports(self) -> None:
        class Idle(Component):
            pass

        assert declaration_of(Idle).inboxes == {}

    def test_knows_its_ports_by_name_type_and_options(self) -> None:
        retry = Retry(attempts=1, then="skip")

        class Average(Component):
            readings = Inbox(Reading, capacity=5, durable=False, overflow="fail", retry=retry)
            out = Outbox(dict[str, int], optional=True)
            summary = State(Summary, version=3, initial=lambda: Summary(7), migrations={2: dict})

            @readings.handler
            def add(self, reading: Reading) -> None: ...

        readings, out = Average.readings, Average.out
        assert (readings.name, readings.type, readings.capacity, readings.durable) == ("readings", Reading, 5, False)
        assert (readings.overflow, readings.retry) == ("fail", retry)
        assert (out.name, out.optional) == ("out", True)
        assert repr(readings) == "<Inbox readings of Reading>"
        assert repr(out) == "<Outbox out of dict[str, int]>"
        state = declaration_of(Average).states["summary"]
        assert (state.version, state.first_value(), state.migrations) == (3, Summary(7), {2: dict})

    def test_makes_the_first_value_of_a_state_by_calling_its_type(self) -> None:
        class Counts(Component):
            counts = State(dict[str, int])

        assert declaration_of(Counts).states["counts"].first_value() == {}

    def test_may_have_a_handler_whose_annotation_only_a_type_checker_can_see(self) -> None:
        class Average(Component):
            readings = Inbox(Reading)

            @readings.handler
            def add(self, reading: NotToBeSeenHere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        assert declaration_of(Average).handlers == {"readings": "add"}

    @pytest.mark.parametrize("annotation", [Reading, "Reading", object, Any, Reading | Alarm])
    def test_may_have_a_handler_that_takes_more_than_what_comes(self, annotation: Any) -> None:
        readings = Inbox(Precise)

        def add(self: Any, reading: Any) -> None: ...

        add.__annotations__["reading"] = annotation
        assert declaration_of(defined(readings=readings, add=readings.handler(add))).handlers == {"readings": "add"}

    def test_may_have_a_handler_with_defaults_and_decorators(self) -> None:
        def logged(method: Callable[[Any, Reading], None]) -> Callable[[Any, Reading], None]:
            @functools.wraps(method)
            def wrapper(self: Any, reading: Reading) -> None:
                method(self, reading)

            return wrapper

        class Average(Component):
            readings = Inbox(Reading)

            @readings.handler
            @logged
            def add(self, reading: Reading, twice: bool = False) -> None: ...

        assert declaration_of(Average).handlers == {"readings": "add"}

    def test_may_have_class_variables_constants_and_helpers(self) -> None:
        from typing import ClassVar

        class Worker(Component):
            LIMIT = 5
            seen: ClassVar[list[int]] = []

            @property
            def half(self) -> float:
                return self.LIMIT / 2

            @staticmethod
            def parse(line: str) -> str:
                return line

        assert Worker().half == 2.5


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


class TestInheritance:
    def test_a_subclass_overrides_the_method_that_handles(self) -> None:
        class Base(Component):
            readings = Inbox(Reading)

            @readings.handler
            def add(self, reading: Reading) -> None: ...

        class Loud(Base):
            def add(self, reading: Reading) -> None: ...

        assert declaration_of(Loud).handlers == {"readings": "add"}
        assert declaration_of(Loud).inboxes == declaration_of(Base).inboxes

    def test_a_method_that_overrides_a_handler_is_looked_at_like_one(self) -> None:
        class Base(Component):
            readings = Inbox(Reading)

            @readings.handler
            def add(self, reading: Reading) -> None: ...

        def define() -> None:
            class Wrong(Base):
                def add(self, reading: Reading, times: int) -> None: ...  # type: ignore[override]

        assert "handler add of inbox 'readings' takes (self, reading" in problem(define)

    def test_a_subclass_adds_ports_and_overrides_others(self) -> None:
        class Base(Component):
            out = Outbox(Reading)
            spare = Outbox(Reading)

            def run(self) -> None: ...

        class More(Base):
            out = Outbox(Alarm)  # type: ignore[arg-type]
            spare = None  # type: ignore[assignment]
            readings = Inbox(Reading)

        declared = declaration_of(More)
        assert {name: port.type for name, port in declared.outboxes.items()} == {"out": Alarm}
        assert list(declared.inboxes) == ["readings"]
        assert declared.has_run
        assert not declared.is_source
        assert list(declaration_of(Base).outboxes) == ["out", "spare"]

    def test_an_overridden_inbox_needs_a_handler_of_its_own(self) -> None:
        class Base(Component):
            readings = Inbox(Reading)

            @readings.handler
            def add(self, reading: Reading) -> None: ...

        assert "inbox 'readings' has no handler" in problem(lambda: type("More", (Base,), {"readings": Inbox(Reading)}))

    def test_a_second_handler_in_a_subclass_is_refused_and_forgotten(self) -> None:
        class Base(Component):
            readings = Inbox(Reading)

            @readings.handler
            def add(self, reading: Reading) -> None: ...

        def define() -> None:
            class Two(Base):
                @Base.readings.handler
                def other(self, reading: Reading) -> None: ...

        assert "has 2 handlers (add, other)" in problem(define)
        assert "has 2 handlers (add, other)" in problem(define)

        class Another(Base):
            pass

        assert declaration_of(Another).handlers == {"readings": "add"}

    def test_configuration_is_inherited(self) -> None:
        class Base(Component):
            path: str
            size: int = 1

        class More(Base):
            size: int = 2
            name: str = "x"

        more = More(path="p")
        assert (more.path, more.size, more.name) == ("p", 2, "x")

    def test_a_mixin_may_bring_ports_and_hooks(self) -> None:
        class Sending:
            out = Outbox(Reading)

            def run(self) -> None: ...

        class Source(Sending, Component):
            pass

        assert declaration_of(Source).is_source
        assert list(declaration_of(Source).outboxes) == ["out"]


class TestConfiguration:
    def test_is_given_by_keyword_only(self) -> None:
        class Reader(Component):
            path: str

        assert Reader(path="a").path == "a"
        with pytest.raises(TypeError):
            Reader("a")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="path"):
            Reader()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="paht"):
            Reader(path="a", paht="b")  # type: ignore[call-arg]

    def test_may_have_converters_validators_factories_and_private_names(self) -> None:
        class Reader(Component):
            port: int = attrs.field(converter=int, validator=attrs.validators.ge(0))
            paths: list[str] = attrs.field(factory=list)
            _token: str = attrs.field(default="", alias="token")
            made: str = attrs.field(init=False, default="here")

        reader = Reader(port="7", token="secret")  # type: ignore[arg-type]  # mypy: converters only of attrs itself
        assert (reader.port, reader.paths, reader._token, reader.made) == (7, [], "secret", "here")
        with pytest.raises(ValueError, match="port"):
            Reader(port=-1)
        copy = copy_of(reader)
        assert isinstance(copy, Reader)
        assert (copy.port, copy._token) == (7, "secret")
        assert copy.paths is not reader.paths

    def test_a_private_name_is_given_without_its_underscore(self) -> None:
        class Reader(Component):
            _token: str

        copy = copy_of(Reader(token="secret"))  # type: ignore[call-arg]  # PEP 681 does not know this rule of attrs
        assert isinstance(copy, Reader)
        assert copy._token == "secret"

    def test_is_shown_and_two_of_one_configuration_are_two(self) -> None:
        class Reader(Component):
            path: str

        assert repr(Reader(path="a")).endswith("Reader(path='a')")
        assert Reader(path="a") != Reader(path="a")
        assert len({Reader(path="a"), Reader(path="a")}) == 2


class TestACopyForOneLife:
    def test_shares_nothing_with_the_blueprint_or_with_the_next_life(self) -> None:
        class Reader(Component):
            paths: list[list[str]]

        blueprint = Reader(paths=[["a"]])
        first = copy_of(blueprint)
        assert isinstance(first, Reader)
        first.paths[0].append("b")
        first.found = 1  # type: ignore[attr-defined]
        second = copy_of(blueprint)
        assert isinstance(second, Reader)
        assert second.paths == [["a"]]
        assert blueprint.paths == [["a"]]
        assert not hasattr(second, "found")

    def test_is_made_from_the_arguments_and_not_from_what_became_of_them(self) -> None:
        class Reader(Component):
            port: int = attrs.field(converter=lambda text: int(text) + 1)

        assert getattr(copy_of(copy_of(Reader(port="1"))), "port", None) == 2  # type: ignore[arg-type]

    def test_keeps_what_two_arguments_share(self) -> None:
        class Reader(Component):
            a: list[int]
            b: list[int]

        shared = [1]
        copy = copy_of(Reader(a=shared, b=shared))
        assert isinstance(copy, Reader)
        assert copy.a is copy.b
        assert copy.a is not shared

    def test_does_not_share_a_default_with_the_next_life(self) -> None:
        class Reader(Component):
            summary: Summary = Summary()
            made: Summary = attrs.field(default=Summary(), init=False)

        blueprint = Reader()
        first = copy_of(blueprint)
        assert isinstance(first, Reader)
        first.summary.count = first.made.count = 5
        second = copy_of(blueprint)
        assert isinstance(second, Reader)
        assert (second.summary.count, second.made.count) == (0, 0)

    def test_gets_its_context(self) -> None:
        context = Blueprint("somewhere")
        assert copy_of(defined()(), context).__dict__["_minions"] is context


class TestConfigurationThatCannotBeCopied:
    def test_is_named_with_what_to_do(self) -> None:
        class Reader(Component):
            lock: Any
            path: str = "p"
            other: Any = threading.Lock()

        problems = list(not_copyable(Reader(lock=threading.Lock())))
        assert len(problems) == 2
        for name, said in zip(("lock", "other"), problems, strict=True):
            assert f"its {name!r} (lock) cannot be copied for each life" in said
            assert "on_start()" in said


class TestABlueprint:
    @pytest.fixture
    def blueprint(self) -> Any:
        class Average(Component):
            readings = Inbox(Reading)
            out = Outbox(Reading)
            summary = State(Summary)

            def run(self) -> None: ...

        return Average()

    @pytest.mark.parametrize(
        ("ask", "name"),
        [
            (lambda it: it.log, "log"),
            (lambda it: it.message_id, "message_id"),
            (lambda it: it.sleep(1), "sleep()"),
            (lambda it: it.unit(), "unit()"),
            (lambda it: it.commit(), "commit()"),
            (lambda it: it.after_commit(print), "after_commit()"),
            (lambda it: it.out.send(Reading(1.0)), "out.send()"),
            (lambda it: it.readings.receive(), "readings.receive()"),
            (lambda it: list(it.readings), "readings.__iter__()"),
        ],
    )
    def test_refuses_what_only_a_running_component_can(
        self, blueprint: Any, ask: Callable[[Any], object], name: str
    ) -> None:
        with pytest.raises(UsageError, match=re.escape(f"{name} works inside a running component only")) as refused:
            ask(blueprint)
        assert "System.add()" in str(refused.value)
        assert "Average" in str(refused.value)

    def test_does_not_run(self, blueprint: Any) -> None:
        assert blueprint.running is False

    def test_has_ports_that_know_whose_they_are(self, blueprint: Any) -> None:
        assert blueprint.out.blueprint is blueprint
        assert str(blueprint.out).endswith("Average.out")
        assert type(blueprint).out.blueprint is None
        assert str(type(blueprint).out) == "out"

    def test_has_no_value_of_a_state_before_it_was_added(self, blueprint: Any) -> None:
        with pytest.raises(UsageError, match=r"Average\.summary: a State has a value inside a running component"):
            _ = blueprint.summary

    def test_answers_for_a_state_what_it_was_lent(self, blueprint: Any) -> None:
        blueprint._minions.reader = lambda state: Summary(count=len(state.name))
        assert blueprint.summary == Summary(7)

    def test_has_hooks_that_do_nothing(self) -> None:
        component = defined()()
        for hook in HOOKS:
            getattr(component, hook)()


class Clock(Component):
    def now(self) -> int:
        return 1


class TestUses:
    def test_is_declared_with_its_time(self) -> None:
        class Asks(Component):
            clock = Uses(Clock)
            slow = Uses(Clock, timeout_s=120)

        uses = declaration_of(Asks).uses
        assert [(name, port.type, port.timeout_s) for name, port in uses.items()] == [
            ("clock", Clock, 30.0),
            ("slow", Clock, 120),
        ]

    def test_is_inherited_and_can_be_taken_away(self) -> None:
        class Asks(Component):
            clock = Uses(Clock)

        class AsksToo(Asks): ...

        class AsksNot(Asks):
            clock = None  # type: ignore[assignment]

        assert list(declaration_of(AsksToo).uses) == ["clock"]
        assert list(declaration_of(AsksNot).uses) == []

    def test_is_no_configuration(self) -> None:
        class Asks(Component):
            clock = Uses(Clock)
            name: str = "asks"

        assert [field.name for field in attrs.fields(cast("type[attrs.AttrsInstance]", Asks))] == ["name"]

    def test_of_a_blueprint_knows_whose_it_is_and_calls_nothing(self) -> None:
        class Asks(Component):
            clock = Uses(Clock)

        asks = Asks()
        uses: Any = asks.clock
        assert uses.blueprint is asks
        with pytest.raises(
            UsageError, match=r"Asks\.clock\.now works inside a running component only; from outside: system.call"
        ):
            asks.clock.now()
        assert not hasattr(uses, "__wrapped__")

    @pytest.mark.parametrize("bad", [0, -1, float("nan"), None, "30", True])
    def test_is_refused_with_a_time_that_is_none(self, bad: Any) -> None:
        with pytest.raises(DeclarationError) as refused:
            type("Asks", (Component,), {"clock": Uses(Clock, timeout_s=bad)})
        assert f"clock: timeout_s={bad!r} must be a number of seconds above 0" in str(refused.value)

    def test_is_refused_of_what_is_no_type(self) -> None:
        with pytest.raises(DeclarationError, match=r"clock = Uses\(3\): the first argument must be a type"):
            type("Asks", (Component,), {"clock": Uses(3)})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("ask", "name"),
        [
            (lambda blueprint: blueprint.call_timeout(2.0), "call_timeout()"),
            (lambda blueprint: blueprint.submit(print), "submit()"),
        ],
    )
    def test_what_has_to_do_with_calls_works_in_a_running_component_only(
        self, ask: Callable[[Any], object], name: str
    ) -> None:
        with pytest.raises(UsageError, match=re.escape(f"{name} works inside a running component only")):
            ask(Clock())

"""Declaring a component: what a class becomes, what it inherits, and what a copy for one life has of it."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest

from minions.errors import DeclarationError, UsageError
from minions.model.component import Blueprint, Component, copy_of, not_copyable
from minions.model.declaration import HOOKS
from minions.model.policy import Retry
from minions.model.ports import Inbox, Outbox, State, Uses
from tests.model.declaring import Alarm, Precise, Reading, Summary, declaration_of, defined, problem


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
    def time(self) -> int:
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
            UsageError, match=r"Asks\.clock\.time works inside a running component only; from outside: system.call"
        ):
            asks.clock.time()
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

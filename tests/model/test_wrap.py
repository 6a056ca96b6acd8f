"""What `wrap` makes of functions is a component like any other, and what cannot be one is refused at the call."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import minions
from minions import Component, DeclarationError, Inbox, Outbox, Retry, System, TopologyError, Uses, wrap
from minions.model.component import copy_of, not_copyable
from minions.model.configuration import configured
from minions.model.declaration import Declaration


@attrs.frozen
class Line:
    text: str


@attrs.frozen
class Record:
    value: int


def read_lines() -> Iterator[Line]:
    yield Line("a")


def parse(line: Line) -> Record:
    return Record(len(line.text))


def read_from(position: int) -> Iterator[Line]:
    yield Line(str(position))


class Camera:
    """A library that must stay on one thread."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.shutter = self.snap

    @property
    def frames(self) -> int:
        return 0

    def snap(self) -> str:
        return self.path

    def stream(self) -> Iterator[str]:
        yield self.path

    @staticmethod
    def models() -> list[str]:
        return []

    def __enter__(self) -> None: ...


def make_camera() -> Camera:
    return Camera()


async def later() -> None: ...


async def stream() -> AsyncIterator[int]:
    yield 1


class Asynchronous:
    async def __call__(self) -> None: ...


def refused(make: Callable[[], object]) -> list[str]:
    with pytest.raises(DeclarationError) as caught:
        make()
    return list(caught.value.problems)


def declared(component: Component) -> Declaration:
    return type(component).__minions_declaration__


# What they are


def test_it_is_part_of_the_public_face() -> None:
    assert minions.wrap is wrap
    assert list(wrap.__all__) == sorted(wrap.__all__)
    assert [name for name in wrap.__all__ if not hasattr(wrap, name)] == []


def test_an_iterable_becomes_a_source() -> None:
    source = wrap.iterable(read_lines, Line)
    assert isinstance(source, wrap.Source)
    assert declared(source).is_source
    assert {name: port.type for name, port in declared(source).outboxes.items()} == {"out": Line}
    assert declared(source).kept == ()
    assert source.out.blueprint is source


def test_an_iterable_that_can_be_resumed_keeps_its_position() -> None:
    source = wrap.iterable(read_lines, Line, resume=read_from)
    assert isinstance(source, wrap.Resumable)
    assert declared(source).kept == ("position",)
    state = declared(source).states["position"]
    assert state.type == int | None
    assert state.first_value() is None


def test_a_position_may_be_of_another_type() -> None:
    source = wrap.iterable(
        read_lines, Line, resume=lambda text: [Line(text)], position=lambda line: line.text, position_type=str
    )
    assert declared(source).states["position"].type == str | None


def test_a_function_becomes_a_worker_with_the_inbox_that_is_asked_for() -> None:
    retry = Retry(attempts=1)
    worker = wrap.function(parse, Line, Record, capacity=7, durable=False, overflow="drop_oldest", retry=retry)
    assert isinstance(worker, wrap.Worker)
    inbox = declared(worker).inboxes["inbox"]
    assert (inbox.type, inbox.capacity, inbox.durable, inbox.overflow, inbox.retry) == (
        Line,
        7,
        False,
        "drop_oldest",
        retry,
    )
    assert {name: port.type for name, port in declared(worker).outboxes.items()} == {"out": Record}


def test_a_function_that_answers_nothing_becomes_a_sink() -> None:
    sink = wrap.function(print, Line)
    assert type(sink).__mro__[1] is wrap.Sink
    assert declared(sink).outboxes == {}
    assert not hasattr(sink, "out")


def test_each_has_ports_and_functions_of_its_own() -> None:
    lines, numbers = wrap.iterable(read_lines, Line), wrap.iterable(lambda: [1], int)
    assert declared(lines).outboxes["out"].type is Line
    assert declared(numbers).outboxes["out"].type is int


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: wrap.iterable(read_lines, Line), "read_lines"),
        (lambda: wrap.iterable(functools.partial(read_from, 3), Line), "read_from"),
        (lambda: wrap.iterable(lambda: [Line("")], Line), "iterable"),
        (lambda: wrap.function(parse, Line, Record), "parse"),
        (lambda: wrap.function(list[Line]().append, Line), "append"),
        (lambda: wrap.object(Camera), "camera"),
        (lambda: wrap.object(lambda: Camera()), "object"),
        (lambda: wrap.command(["/usr/bin/tail-log.sh", "-F"], str), "tail-log_sh"),
        (lambda: wrap.command(["!"], str), "command"),
    ],
)
def test_it_is_called_after_what_it_wraps(make: Callable[[], Component], name: str, tmp_path: Path) -> None:
    system = System("test", folder=tmp_path)
    component = system.add(make())
    assert [node.name for node in system._topology.nodes] == [name]
    assert system._topology.node_of(component) is not None
    assert not [problem for problem in system._topology.problems() if "component name" in problem]


def test_what_is_wrapped_is_not_copied() -> None:
    """A bound method would take its object along, and each life would have another one."""

    class Collector:
        def __deepcopy__(self, memo: object) -> None:
            raise AssertionError("it was copied")

        def take(self, line: Line) -> None: ...

        def lines(self) -> list[Line]:
            return []

    collector = Collector()
    for component in (wrap.function(collector.take, Line), wrap.iterable(collector.lines, Line)):
        assert list(not_copyable(component)) == []
        copy_of(component)


def test_it_is_wired_like_any_other(tmp_path: Path) -> None:
    system = System("test", folder=tmp_path)
    source = system.add(wrap.iterable(read_lines, Line), name="lines")
    worker = system.add(wrap.function(parse, Line, Record), name="parse", replicas=8)
    sink = system.add(wrap.function(print, Record))
    system.connect(source.out, worker.inbox)
    system.connect(worker.out, sink.inbox)
    system.check()


def test_a_wrong_wire_is_refused(tmp_path: Path) -> None:
    system = System("test", folder=tmp_path)
    source = system.add(wrap.iterable(read_lines, Line), name="lines")
    sink = system.add(wrap.function(print, Record))
    ports: Any = (source.out, sink.inbox)
    system.connect(*ports)
    with pytest.raises(
        TopologyError, match=r"lines.out to print.inbox: the outbox sends Line, the inbox carries Record"
    ):
        system.check()


def test_a_source_that_keeps_its_position_cannot_be_replicated(tmp_path: Path) -> None:
    system = System("test", folder=tmp_path)
    system.add(wrap.iterable(read_lines, Line), name="lines", replicas=2)
    with pytest.raises(TopologyError, match=r"lines: replicas=2, but it is a source"):
        system.check()


# What is refused at the call

FRESH = "wrap.iterable(lambda: ..., Type), a fresh iterable each time"


def test_an_iterable_must_be_made_afresh_for_each_life() -> None:
    lines: Any = [1, 2]
    assert refused(lambda: wrap.iterable(lines, int)) == [f"the first argument must be a function, {FRESH}, not [1, 2]"]
    generator: Any = read_lines()
    [problem] = refused(lambda: wrap.iterable(generator, Line))
    assert problem.startswith(f"the first argument must be a function, {FRESH}, not <generator object read_lines")


def test_a_factory_takes_nothing_and_a_function_one_message() -> None:
    factory: Any = read_from
    assert refused(lambda: wrap.iterable(factory, Line)) == [
        "the first argument is called with no argument, and read_from(position: 'int') -> 'Iterator[Line]' takes others: "
        + FRESH
    ]
    function: Any = read_lines
    [problem] = refused(lambda: wrap.function(function, Line, Record))
    assert problem.startswith(
        "the first argument is called with one argument, and read_lines() -> 'Iterator[Line]' takes others"
    )


@pytest.mark.parametrize("given", [later, stream, Asynchronous(), functools.partial(later)])
def test_async_code_is_refused(given: Any) -> None:
    expected = [
        "the first argument is async, but components run on threads and may simply block: give a plain function"
    ]
    assert refused(lambda: wrap.iterable(given, int)) == expected
    assert refused(lambda: wrap.object(given)) == expected


def test_a_function_in_c_that_does_not_say_what_it_takes_is_believed() -> None:
    wrap.function(dict[str, int].fromkeys, str)
    wrap.object(dict)


def test_all_problems_of_an_iterable_are_told_at_once() -> None:
    nothing: Any = 5
    assert refused(
        lambda: wrap.iterable(
            nothing,
            int,
            resume=nothing,
            position=nothing,
            position_type=nothing,
            blocking=nothing,
            on_interrupt=nothing,
        )
    ) == [
        f"the first argument must be a function, {FRESH}, not 5",
        "resume= must be a function, resume=lambda position: ..., not 5",
        "position= must be a function, position=lambda item: item.offset, not 5",
        "position_type=5 must be a type",
        "blocking= must be a function, blocking=lambda made: made.socket, not 5",
        "on_interrupt= must be a function, on_interrupt=lambda made: made.cancel(), not 5",
    ]


def test_a_position_is_of_no_use_where_nothing_resumes() -> None:
    iterable: Any = wrap.iterable
    assert refused(lambda: iterable(read_lines, Line, position=lambda line: 1)) == [
        "position= says where the source is, and nothing would go on from there: give resume= as well"
    ]


def test_a_generator_function_needs_many() -> None:
    function: Any = wrap.function

    def words(line: Line) -> Iterator[Record]:
        yield Record(1)

    assert refused(lambda: function(words, Line, Record)) == [
        "the first argument is a generator: say many=True, and each item that it yields is sent"
    ]
    assert refused(lambda: function(words, Line)) == [
        "the first argument is a generator, and would never be run: give the class of its items, and many=True"
    ]
    assert refused(lambda: function(words, Line, many=True)) == [
        "many=True: each item of what it returns is sent, but as what? Give the class of the items as third argument"
    ]
    wrap.function(words, Line, Record, many=True)


def test_all_problems_of_a_function_are_told_at_once() -> None:
    function: Any = wrap.function
    with pytest.raises(DeclarationError) as caught:
        function(3, Line, Record, retry=3, on_interrupt=3)
    assert caught.value.component == "wrap.function()"
    assert list(caught.value.problems) == [
        "the first argument must be a function, wrap.function(lambda message: ..., In, Out), not 3",
        "on_interrupt= must be a function, on_interrupt=connection.cancel, not 3",
        "retry= must be a Retry(...), not 3",
    ]


def test_what_an_inbox_refuses_names_the_function() -> None:
    function: Any = wrap.function
    with pytest.raises(DeclarationError) as caught:
        function(parse, 3, Record, capacity=0, overflow="drop")
    assert caught.value.component == "wrap.function(parse)"
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "inbox = Inbox(3)",
        "inbox",
        "inbox",
    ]


def test_all_problems_of_an_object_are_told_at_once() -> None:
    object_: Any = wrap.object
    assert refused(lambda: object_(3, 3, on_interrupt=3, close=lambda: None)) == [
        "the first argument must be a function, wrap.object(lambda: Camera(path), Camera), not 3",
        "the second argument must be a class, not 3",
        "on_interrupt= must be a function, on_interrupt=lambda made: made.cancel(), not 3",
        "close= is called with one argument, and <lambda>() takes others: close=lambda made: made.close()",
    ]


WORDS = "must be a list of words, the program first: ['tail', '-F', path]; for a line of the shell ['sh', '-c', line]"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"command": "tail -F log"}, f"command='tail -F log' {WORDS}"),
        ({"command": []}, f"command=[] {WORDS}"),
        ({"command": ["tail", 3]}, f"command=['tail', 3] {WORDS}"),
        ({"command": ["a\0b"]}, f"command=['a\\x00b'] {WORDS}"),
        ({"command": [""]}, "command=[''] must begin with the name of a program"),
        ({"cwd": 3}, "cwd=3 must be the path of a folder, or None for that of this process"),
        ({"environment": {"A": 1}}, "environment={'A': 1} must be a dict of texts: {'TZ': 'UTC'}"),
        ({"environment": "A=1"}, "environment='A=1' must be a dict of texts: {'TZ': 'UTC'}"),
        ({"encoding": "klingon"}, "encoding='klingon' is no encoding that Python knows, such as 'utf-8'"),
        (
            {"encoding": "utf-16"},
            "encoding='utf-16': lines of bytes cannot be told apart in it; have the program write utf-8",
        ),
        ({"errors": "guess"}, "errors='guess' must be what open(errors=...) knows, such as 'strict' or 'replace'"),
        ({"kill_after_s": 0}, "kill_after_s=0 must be above 0 (seconds)"),
        ({"kill_after_s": 10**5_000}, "kill_after_s=<int> must be above 0 (seconds)"),
        ({"parse": 3}, "parse= must be a function, parse=lambda line: ..., not 3"),
    ],
)
def test_a_command_is_refused_with_the_value_and_the_remedy(arguments: dict[str, Any], problem: str) -> None:
    command: Any = wrap.command
    given = {"command": ["tail"], **arguments}
    assert refused(lambda: command(given.pop("command"), str, **given)) == [problem]


def test_a_command_takes_paths_and_its_class_is_text_by_default(tmp_path: Path) -> None:
    made = wrap.command((tmp_path / "read", "-F"), cwd=tmp_path, environment={"A": "1"})
    assert (made.command, made.cwd, made.environment) == ([str(tmp_path / "read"), "-F"], str(tmp_path), {"A": "1"})
    assert declared(made).outboxes["out"].type is str


def test_a_command_may_be_set_in_minions_toml() -> None:
    made = configured(wrap.command(["tail", "-F", "a"]), "tail", {"command": ["tail", "-F", "b"]})
    assert (made.values, made.problems) == ({"command": ["tail", "-F", "b"]}, ())
    [problem] = configured(wrap.command(["tail"]), "tail", {"command": []}).problems
    assert "must be a list of words" in problem


def test_nothing_runs_before_a_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)

    def never() -> Any:
        raise AssertionError("it was called")

    wrap.command(["tail"])
    wrap.iterable(never, int)
    wrap.object(never)


# Which object a `Uses` means


class Photographer(Component):
    camera = Uses(Camera)
    lines = Inbox(Line)

    @lines.handler
    def take(self, line: Line) -> None: ...


class Lines(Component):
    lines = Outbox(Line)


@pytest.fixture
def studio(tmp_path: Path) -> System:
    return System("studio", folder=tmp_path)


def photographer_in(studio: System) -> Photographer:
    photographer, lines = studio.add(Photographer()), studio.add(Lines())
    studio.connect(lines.lines, photographer.lines)
    return photographer


@pytest.mark.parametrize(
    "make",
    [
        lambda: wrap.object(Camera),
        lambda: wrap.object(functools.partial(Camera, "a")),
        lambda: wrap.object(make_camera),
        lambda: wrap.object(lambda: Camera("a"), Camera),
    ],
)
def test_a_uses_finds_the_object_by_its_class(studio: System, make: Callable[[], wrap.Wrapped[Camera]]) -> None:
    photographer = photographer_in(studio)
    wrapped = studio.add(make(), name="camera")
    studio.check()
    [found] = studio._topology.used_by(
        studio._topology.nodes[0], type(photographer).__minions_declaration__.uses["camera"]
    )
    assert found.blueprint is wrapped


def test_a_uses_of_a_base_class_finds_it_and_one_of_another_class_does_not(studio: System) -> None:
    class Better(Camera):
        pass

    photographer_in(studio)
    studio.add(wrap.object(Better))
    studio.add(wrap.object(lambda: 3, int), name="number")
    studio.check()


def test_an_object_that_nobody_wraps_is_said_with_the_remedy(studio: System) -> None:
    photographer_in(studio)
    studio.add(wrap.object(lambda: Camera()), name="camera")
    with pytest.raises(TopologyError) as caught:
        studio.check()
    [problem] = caught.value.problems
    assert problem == (
        "photographer.camera = Uses(Camera): only components can be used, and none wraps such an object: "
        "system.add(wrap.object(..., Camera)), or say which one does, system.use(photographer.camera, ...)"
    )


def test_one_of_several_may_be_said_also_where_its_class_cannot_be_told(studio: System) -> None:
    photographer = photographer_in(studio)
    studio.add(wrap.object(Camera), name="first")
    second = studio.add(wrap.object(lambda: Camera()), name="second")
    studio.use(photographer.camera, second)
    studio.check()
    assert studio._topology.start_order()[0][0].blueprint is not photographer


def test_an_object_of_another_class_cannot_be_said(studio: System) -> None:
    photographer = photographer_in(studio)
    number: Any = studio.add(wrap.object(lambda: 3, int), name="number")
    studio.use(photographer.camera, number)
    with pytest.raises(TopologyError, match=r"use\(photographer.camera, number\): it uses Camera, and number is none"):
        studio.check()


def test_a_component_is_not_found_in_a_wrapped_object_of_unknown_class(studio: System) -> None:
    class Assistant(Component):
        photographer = Uses(Photographer)

    assistant = studio.add(Assistant())
    other: Any = studio.add(wrap.object(lambda: 3), name="other")
    studio.use(assistant.photographer, other)
    with pytest.raises(TopologyError, match="it uses Photographer, and other is none"):
        studio.check()

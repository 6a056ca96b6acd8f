"""What is wrapped is typed from end to end: what goes in, what comes out, and whose methods are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import attrs

import minions
from minions import Component, Inbox, Outbox, Retry, System, Uses, wrap


@attrs.frozen
class Line:
    text: str
    offset: int = 0


@attrs.frozen
class Record:
    value: int


def read_lines(path: str) -> Iterator[Line]:
    yield Line(path)


def read_behind(offset: int) -> Iterator[Line]:
    yield Line("", offset)


def parse(line: Line) -> Record:
    return Record(len(line.text))


def parse_some(line: Line) -> Record | None:
    return None


def parse_all(line: Line) -> list[Record]:
    return [Record(1)]


def print_record(record: Record) -> None: ...


class Camera:
    def snap(self, count: int) -> bytes:
        return b""

    def close(self) -> None: ...


def make_camera() -> Camera:
    return Camera()


class Photographer(Component):
    camera = Uses(Camera)

    def run(self) -> None:
        assert_type(self.camera.snap(1), bytes)
        self.camera.snap("1")  # E: mypy pyright
        self.camera.snpa(1)  # E: mypy pyright


system = System("wrapped")

source = system.add(wrap.iterable(lambda: read_lines("a"), Line), name="lines")
worker = system.add(wrap.function(parse, Line, Record), name="parse", replicas=8)
sink = system.add(wrap.function(print_record, Record))
assert_type(source, wrap.Source[Line])
assert_type(worker, wrap.Worker[Line, Record])
assert_type(sink, wrap.Sink[Record])
assert_type(source.out, Outbox[Line])
assert_type(worker.inbox, Inbox[Line])
assert_type(worker.out, Outbox[Record])
system.connect(source.out, worker.inbox)
system.connect(worker.out, sink.inbox)
system.connect(source.out, sink.inbox)  # E: mypy pyright
system.connect(worker.out, worker.inbox)  # E: mypy pyright
system.connect(sink.out, worker.inbox)  # E: mypy pyright

some = wrap.function(parse_some, Line, Record, durable=False, capacity=5, retry=Retry(attempts=1))
assert_type(some.out, Outbox[Record])
each = minions.wrap.function(parse_all, Line, Record, many=True)
assert_type(each.out, Outbox[Record])
print(minions.no_such_name)  # E: mypy pyright
wrap.function(parse, Record, Record)  # E: mypy pyright
wrap.function(parse, Line, Record, many=True)  # E: mypy pyright
wrap.function(parse, Line, Record, overflow="drop")  # E: mypy pyright
wrap.function(parse, Line, many=True)  # E: mypy pyright
wrap.function(parse)  # E: mypy pyright
wrap.function(read_lines, Line, Line)  # E: mypy pyright

resumed = wrap.iterable(lambda: read_behind(0), Line, resume=read_behind, position=lambda line: line.offset)
assert_type(resumed, wrap.Resumable[Line, int])
assert_type(resumed.position, int | None)
system.connect(resumed.out, worker.inbox)
counted = wrap.iterable(lambda: read_behind(0), Line, resume=read_behind)
assert_type(counted.position, int | None)
named = wrap.iterable(
    lambda: read_lines(""), Line, resume=read_lines, position=lambda line: line.text, position_type=str
)
assert_type(named.position, str | None)
wrap.iterable(lambda: read_lines(""), Line, resume=read_lines)  # E: mypy pyright
wrap.iterable(lambda: read_lines(""), Line, position=lambda line: line.offset)  # E: mypy pyright
wrap.iterable(read_lines, Line)  # E: mypy pyright
wrap.iterable(read_lines("a"), Line)  # E: mypy pyright
wrong = wrap.iterable(lambda: [1, 2], Line)  # E: mypy
system.connect(wrong.out, worker.inbox)  # E: pyright

camera = system.add(wrap.object(Camera, on_interrupt=Camera.close, close=lambda made: made.close()))
assert_type(camera, wrap.Wrapped[Camera])
assert_type(system.call(camera), Camera)
assert_type(system.call(camera, timeout_s=1.0).snap(1), bytes)
system.call(camera).snap("1")  # E: mypy pyright
system.call(camera).snpa(1)  # E: mypy pyright
made = system.add(wrap.object(make_camera, Camera))
photographer = system.add(Photographer())
system.use(photographer.camera, made)
system.use(photographer.camera, wrap.object(dict[str, int]))  # E: mypy pyright
assert_type(system.call(worker), wrap.Worker[Line, Record])
wrap.object(Camera, on_interrupt=lambda: None)  # E: mypy pyright
wrap.object(Camera, close=Line)  # E: mypy pyright
wrap.object(Camera())  # E: mypy pyright

child = system.add(wrap.command(["tail", "-F", "log"], Line, parse=Line, environment={"TZ": "UTC"}))
assert_type(child, wrap.Command[Line])
assert_type(wrap.command(["ls"]).out, Outbox[str])
system.connect(child.out, worker.inbox)
system.connect(wrap.command(["ls"]).out, worker.inbox)  # E: mypy pyright
system.connect(wrap.command(["ls"], Line, parse=len).out, worker.inbox)  # E: mypy pyright
wrap.command(["ls", 3])  # E: mypy pyright

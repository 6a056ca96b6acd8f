"""The plugin in real systems, with the in-memory exporter and reader of the SDK."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed: pip install opentelemetry-sdk")

from opentelemetry import context, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from minions import Backoff, Component, ConfigurationError, Inbox, Outbox, Restart, Retry, System
from minions.hookspecs import RunningSystem, hookimpl

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs where the package is not installed

from minions_opentelemetry import OpenTelemetry, Settings

PATIENCE_S = 20.0


class Source(Component):
    count: int = 3
    out = Outbox(int)

    def run(self) -> None:
        for number in range(self.count):
            self.out.send(number)


class Relay(Component):
    inbox = Inbox(int, retry=Retry(attempts=2, backoff=Backoff(initial_s=0.001, longest_s=0.001)))
    out = Outbox(int)

    @inbox.handler
    def relay(self, number: int) -> None:
        if number == 1:
            raise ValueError("not this")
        self.out.send(number)


class Sink(Component):
    inbox = Inbox(int)

    @inbox.handler
    def take(self, number: int) -> None: ...


class Pairs(Component):
    inbox = Inbox(int)

    def run(self) -> None:
        while True:
            with self.unit():
                self.inbox.receive()
                self.inbox.receive()


class Told:
    def __init__(self) -> None:
        self.stopped = threading.Event()

    @hookimpl(trylast=True)
    def system_stopped(self) -> None:
        self.stopped.set()


@pytest.fixture(autouse=True)
def _nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    threads, provider = set(threading.enumerate()), trace.get_tracer_provider()
    yield
    for thread in set(threading.enumerate()) - threads:
        thread._started.wait(PATIENCE_S)  # type: ignore[attr-defined]  # one that just begins cannot be joined yet
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), thread.name
    assert trace.get_tracer_provider() is provider


def system_of(folder: Path, plugin: OpenTelemetry, *components: Component) -> System:
    system = System("telemetry", folder=folder / "state")
    system._configuration_path = folder / "minions.toml"
    often = Restart(backoff=Backoff(initial_s=0.001, longest_s=0.001), failures=1_000)
    for component in components:
        system.add(component, restart=often)
    for above, below in itertools.pairwise(components):
        system.connect(above.out, below.inbox)  # type: ignore[attr-defined]
    system.plugins.configure(installed=False)
    system.plugins.register(plugin, name="opentelemetry")
    return system


def run(system: System) -> None:
    """Runs it until nothing can happen any more, and waits until its plugins know that it has ended."""
    told = Told()
    system.plugins.register(told)
    with system.started():
        assert system.wait(PATIENCE_S)
    assert told.stopped.wait(PATIENCE_S)
    while next(plugin for plugin in system.plugins.list() if plugin.name == "opentelemetry").calls == 0:
        """The hook of the other plugin may be called first."""
    system.plugins.unregister(told)


def attached(system: System) -> None:
    """Waits until the plugin has made what it needs."""
    while not next(plugin for plugin in system.plugins.list() if plugin.name == "opentelemetry").calls:
        system.status()


def spans_of(folder: Path, *components: Component, settings: Settings | None = None) -> list[ReadableSpan]:
    memory = InMemorySpanExporter()
    plugin = OpenTelemetry(settings or Settings(), span_processor=lambda: SimpleSpanProcessor(memory))
    system = system_of(folder, plugin, *components)
    run(system)
    assert [(each.faults, each.problem) for each in system.plugins.list()] == [(0, "")]
    return list(memory.get_finished_spans())


def named(spans: list[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def test_a_message_is_a_trace_across_components(tmp_path: Path) -> None:
    spans = spans_of(tmp_path, Source(), Relay(), Sink())
    sent, relayed, took = named(spans, "source run"), named(spans, "relay relay"), named(spans, "sink take")
    assert (len(sent), len(relayed), len(took)) == (3, 4, 2)
    assert all(span.parent is None and span.kind is trace.SpanKind.PRODUCER for span in sent)
    by_id = {span.context.span_id: span for span in spans if span.context is not None}
    assert len(by_id) == len(spans)
    for span in (*relayed, *took):
        assert span.parent is not None
        assert span.context is not None
        parent = by_id[span.parent.span_id]
        assert parent.context is not None
        assert span.context.trace_id == parent.context.trace_id == span.parent.trace_id
        assert span.kind is trace.SpanKind.CONSUMER
        assert parent.attributes is not None
        assert span.attributes is not None
        assert span.attributes["messaging.message.id"] in parent.attributes["minions.sent"]  # type: ignore[operator]
        assert parent.start_time is not None
        assert span.start_time is not None
        assert span.end_time is not None
        assert parent.start_time <= span.start_time <= span.end_time
    failed = [span for span in relayed if not span.status.is_ok]
    assert [span.status.description for span in failed] == ["ValueError: not this"] * 2
    assert [dict(span.attributes or {})["error.type"] for span in failed] == ["ValueError"] * 2
    assert {(span.attributes or {})["minions.epoch"] for span in failed} == {1, 2}
    assert {span.resource.attributes["service.name"] for span in spans} == {"telemetry"}
    assert {(span.attributes or {})["minions.system"] for span in spans} == {"telemetry"}
    assert len(named(spans, "sink on_start")) == len(named(spans, "sink on_stop")) == 1
    assert named(spans, "sink on_start")[0].kind is trace.SpanKind.INTERNAL


def test_further_messages_of_a_unit_are_links(tmp_path: Path) -> None:
    spans = spans_of(tmp_path, Source(count=4), Pairs())
    sent = [span.context for span in named(spans, "source run")]
    pairs = [span for span in named(spans, "pairs run") if span.parent is not None]
    assert [span.parent.span_id for span in pairs if span.parent] == [each.span_id for each in sent[::2] if each]
    linked = [[link.context.span_id for link in span.links] for span in pairs]
    assert linked == [[each.span_id] for each in sent[1::2] if each]


def test_a_span_that_is_current_on_the_thread_of_the_hooks_is_no_parent(tmp_path: Path) -> None:
    class Tracing:
        @hookimpl
        def attached(self) -> None:
            current = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
            context.attach(trace.set_span_in_context(current))

    memory = InMemorySpanExporter()
    plugin = OpenTelemetry(span_processor=lambda: SimpleSpanProcessor(memory))
    system = system_of(tmp_path, plugin, Source(count=1), Sink())
    system.plugins.register(Tracing())
    run(system)
    assert [span.parent for span in named(list(memory.get_finished_spans()), "source run")] == [None]


def test_the_sampler_of_the_environment_does_not_cut_a_trace_in_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert len(named(spans_of(tmp_path, Source(), Sink()), "sink take")) == 3


def test_a_ratio_samples_whole_traces(tmp_path: Path) -> None:
    spans = spans_of(tmp_path, Source(count=300), Sink(), settings=Settings(ratio=0.2))
    roots = {span.context.trace_id for span in named(spans, "source run") if span.context}
    assert 20 < len(roots) < 110
    assert {span.context.trace_id for span in named(spans, "sink take") if span.context} == roots


def test_a_child_finds_its_parent_across_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "spans"
    command = [sys.executable, str(Path(__file__).with_name("telemetry_child.py")), str(tmp_path / "state"), str(file)]
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "waits\n"
    first.send_signal(signal.SIGKILL)
    first.communicate()
    [sent] = [span for span in spans_in(file) if span[0] == "source run"]
    assert not [span for span in spans_in(file) if span[0] == "sink take"]
    subprocess.run(command, env=env, check=True, capture_output=True, timeout=60)
    [took] = [span for span in spans_in(file) if span[0] == "sink take"]
    assert (took[1], took[3]) == (sent[1], sent[2])


def spans_in(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def points_of(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_metrics_are_what_the_system_counts(tmp_path: Path) -> None:
    readers: list[InMemoryMetricReader] = []

    def reader() -> InMemoryMetricReader:
        readers.append(InMemoryMetricReader())
        return readers[-1]

    system = system_of(tmp_path, OpenTelemetry(metric_reader=reader), Source(), Relay(), Sink())
    for _ in range(2):
        with system.started():
            assert system.wait(PATIENCE_S)
            attached(system)
            points = points_of(readers.pop())
            statistics = system.statistics()
        assert {point.attributes["minions.inbox"]: point.value for point in points["minions.inbox.settled"]} == {
            "relay.inbox": 3,
            "sink.inbox": 2,
        }
        [failed] = [
            point for point in points["minions.inbox.failed"] if point.attributes["minions.component"] == "relay"
        ]
        assert failed.value == 2
        assert dict(failed.attributes) == {
            "minions.system": "telemetry",
            "minions.component": "relay",
            "minions.inbox": "relay.inbox",
        }
        assert {point.value for point in points["minions.inbox.capacity"]} == {1_000}
        assert {point.value for point in points["minions.inbox.length"]} == {0}
        assert points["minions.commits"][0].value <= statistics.commits
        assert points["minions.units_dropped"][0].value == 0
        assert len(points) == 17


def test_the_instruments_of_one_reading_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minions_opentelemetry.metrics._SAME_LOOK_S", 60.0)
    readers: list[InMemoryMetricReader] = []

    def reader() -> InMemoryMetricReader:
        readers.append(InMemoryMetricReader())
        return readers[-1]

    system = system_of(tmp_path, OpenTelemetry(metric_reader=reader), Source(), Sink())
    looks: list[Any] = []
    statistics = RunningSystem.statistics

    def look(running: RunningSystem) -> Any:
        looks.append(statistics(running))
        return looks[-1]

    monkeypatch.setattr(RunningSystem, "statistics", look)
    with system.started():
        attached(system)
        points_of(readers[0])
        assert len(looks) == 1


def test_without_an_exporter_it_does_nothing(tmp_path: Path) -> None:
    plugin = OpenTelemetry()
    assert plugin.unit_ratio == 0.0
    system = system_of(tmp_path, plugin, Source(), Sink())
    run(system)
    assert [(each.faults, each.problem) for each in system.plugins.list()] == [(0, "")]


@pytest.mark.parametrize("kind", ["traces", "metrics"])
def test_an_exporter_that_cannot_be_made_is_told_and_the_system_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def fail() -> Any:
        raise ValueError("no endpoint")

    made: dict[str, Any] = {"span_processor": fail} if kind == "traces" else {"metric_reader": fail}
    memory = InMemorySpanExporter()
    if kind == "metrics":
        made["span_processor"] = lambda: SimpleSpanProcessor(memory)
    system = system_of(tmp_path, OpenTelemetry(**made), Source(), Sink())
    with system.started():
        assert system.wait(PATIENCE_S)
        assert system.statistics().inboxes["sink.inbox"].settled == 3
    assert "plugin opentelemetry is not used: it cannot be used: ValueError: no endpoint" in caplog.text
    assert memory._stopped is (kind == "metrics"), "what was begun is ended"


def test_settings_that_cannot_be_are_refused_before_the_start(tmp_path: Path) -> None:
    system = system_of(tmp_path, OpenTelemetry(), Source(), Sink())
    (tmp_path / "minions.toml").write_text(
        '[plugins]\ninstalled = false\n[plugins.opentelemetry]\ntraces = "otlb"\nmetrics = "consol"\nratio = 1.5\n'
        "metrics_interval_s = 0\n"
    )
    with pytest.raises(ConfigurationError) as refused:
        system.check()
    traces, metrics, ratio, interval = refused.value.problems
    assert traces.startswith(
        '[plugins.opentelemetry] traces = "otlb": there is no exporter of that name; install its package'
    )
    assert "console, none" in traces
    assert metrics.startswith('[plugins.opentelemetry] metrics = "consol": there is no exporter of that name')
    assert ratio == "[plugins.opentelemetry] ratio = 1.5: must be from 0 to 1"
    assert interval == "[plugins.opentelemetry] metrics_interval_s = 0.0: must be above 0 (seconds)"


def test_the_installed_plugin_exports_what_the_file_says(tmp_path: Path) -> None:
    package, source = Path(__file__).parent.parent, tmp_path / "source"
    shutil.copytree(package, source, ignore=shutil.ignore_patterns("build", "__pycache__", "*.egg-info"))
    # What `pip install -e .` leaves behind, without a network: the metadata beside the package.
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (tmp_path / "minions.toml").write_text(
        '[plugins.opentelemetry]\ntraces = "console"\nmetrics = "console"\nservice_name = "greenhouse"\n'
    )
    (tmp_path / "app.py").write_text(
        "from minions import Component, System, Outbox, Inbox\n"
        "class Source(Component):\n"
        "    out = Outbox(int)\n"
        "    def run(self):\n"
        "        self.out.send(1)\n"
        "class Sink(Component):\n"
        "    inbox = Inbox(int)\n"
        "    @inbox.handler\n"
        "    def take(self, number: int) -> None: ...\n"
        "system = System('app')\n"
        "source, sink = system.add(Source()), system.add(Sink())\n"
        "system.connect(source.out, sink.inbox)\n"
        "system.run()\n"
    )
    ended = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(source), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert '"name": "sink take"' in ended.stdout, ended.stderr
    assert '"name": "minions.inbox.settled"' in ended.stdout
    assert '"service.name": "greenhouse"' in ended.stdout

"""The plugin in real systems, scraped over HTTP."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed: pip install prometheus-client")
sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs where the package is not installed

from minions_prometheus import Prometheus, Settings, StatisticsCollector
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from minions import Component, ConfigurationError, Histogram, Inbox, Outbox, Retry, Statistics, System, events
from minions.hookspecs import hookimpl
from minions.life.watchdog import WatchdogThread

PACKAGE = Path(__file__).parent.parent
PATIENCE_S = 20.0


@attrs.frozen
class Number:
    value: int


class Source(Component):
    numbers = Outbox(Number)

    def run(self) -> None:
        for value in range(50):
            self.numbers.send(Number(value))
        self.commit()


class Picky(Component):
    numbers = Inbox(Number, retry=Retry(attempts=1))

    @numbers.handler
    def take(self, number: Number) -> None:
        if number.value == 7:
            raise ValueError("not this one")


def scraped(url: str, accept: str = "*/*") -> tuple[str, str]:
    """The body, and what kind it is."""
    asked = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def samples(text: str) -> dict[tuple[str, str], float]:
    """Each value by its name and its labels."""
    return {
        (sample.name, ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def made(folder: Path, name: str = "counted") -> System:
    system = System(name, folder=folder)
    source, picky = system.add(Source()), system.add(Picky())
    system.connect(source.numbers, picky.numbers)
    return system


class Ready:
    """A plugin that says when the hooks of others have been called for the start, and what was told of plugins."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.refused = threading.Event()
        self.told: list[events.PluginNotLoaded] = []

    @hookimpl(trylast=True)
    def system_started(self) -> None:
        self.started.set()

    @hookimpl
    def plugin_not_loaded(self, event: events.PluginNotLoaded) -> None:
        if event.plugin == "prometheus":
            self.told.append(event)
            self.refused.set()


@contextmanager
def served(folder: Path) -> Iterator[tuple[System, Prometheus]]:
    """A running system that has handled everything, and whose watchdog has looked at the process."""
    system, plugin, ready = made(folder), Prometheus(Settings(port=0)), Ready()
    system.plugins.register(plugin, "prometheus")
    system.plugins.register(ready)
    looked, tick = threading.Event(), WatchdogThread._tick

    def tick_and_tell(watchdog: WatchdogThread, now_s: float) -> None:
        tick(watchdog, now_s)
        looked.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WatchdogThread, "_tick", tick_and_tell)
        with system.started():
            assert ready.started.wait(PATIENCE_S)
            assert system.wait(PATIENCE_S)
            assert looked.wait(PATIENCE_S)
            yield system, plugin


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("minions-prometheus")]


# What is served -------------------------------------------------------------------------------------------------------


def test_a_scrape_says_what_the_statistics_say(tmp_path: Path) -> None:
    with served(tmp_path) as (system, plugin):
        text, kind = scraped(plugin.url)
        said = system.statistics()
    assert kind.startswith("text/plain; version=")
    found = samples(text)
    inbox, of = said.inboxes["picky.numbers"], "component=picky,inbox=numbers"
    assert found["minions_messages_received_total", of] == inbox.sent == 50
    assert found["minions_messages_handled_total", of] == inbox.handled == 49
    assert found["minions_messages_failed_total", of] == found["minions_messages_set_aside_total", of] == 1
    assert found["minions_inbox_capacity", of] == 1_000
    assert found["minions_message_handling_seconds_count", of] == inbox.handling.count == 50
    assert found["minions_message_handling_seconds_sum", of] == pytest.approx(inbox.handling.total_s)
    assert found["minions_message_wait_seconds_count", of] == inbox.waits.count
    assert found["minions_messages_sent_total", "component=source"] == 50
    assert found["minions_component_restarts_total", "component=picky"] == 1
    assert found["minions_component_cpu_seconds_total", "component=picky"] > 0
    assert found["minions_commits_total", ""] >= 1
    assert found["minions_commit_latency_seconds_count", ""] >= 1
    assert found["minions_info", "system=counted"] == 1
    assert found["process_resident_memory_bytes", ""] > 1_000_000


def test_the_buckets_of_a_histogram_are_cumulative_and_hold_every_case(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin):
        text, _ = scraped(plugin.url)
    [family] = [family for family in parse(text) if family.name == "minions_message_handling_seconds"]
    buckets = [(float(sample.labels["le"]), sample.value) for sample in family.samples if "le" in sample.labels]
    assert [bound for bound, _ in buckets] == sorted({bound for bound, _ in buckets})
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert buckets[-1] == (float("inf"), 50.0)
    assert buckets[0][0] == 1e-6
    assert len(buckets) == 32


def test_a_bucket_holds_what_took_as_long_as_its_bound_at_most(tmp_path: Path) -> None:
    with served(tmp_path) as (system, _):
        said = system.statistics()
    counts = [0] * (len(Histogram.bounds_s) + 1)
    counts[0], counts[1], counts[4], counts[5], counts[-1] = (
        1,
        10,
        100,
        1_000,
        10_000,
    )  # of 1, 1.2, 2, 2.4 microseconds, and more
    histogram = Histogram(tuple(counts), 5.0, 2_000.0)
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("counted", lambda: attrs.evolve(said, commit_latency=histogram)))
    found = samples(generate_latest(registry).decode())
    bucket = "minions_commit_latency_seconds_bucket"
    assert [found[bucket, f"le={bound}"] for bound in ("1e-06", "2e-06", "4e-06", "+Inf")] == [1, 111, 1_111, 11_111]


def test_who_asks_for_open_metrics_gets_them(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin):
        text, kind = scraped(plugin.url, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"minions_messages_handled", "minions_inbox_length"}


def test_the_names_follow_the_conventions(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin):
        text, _ = scraped(plugin.url)
    families = list(parse(text))
    assert len(families) > 30
    for family in families:
        assert re.fullmatch(r"(minions|process)_[a-z_]+", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert not re.search(r"_(ms|us|milli|micro|kb|mb|percent|count|total)", family.name), family.name
        assert (family.type == "counter") is any(sample.name.endswith("_total") for sample in family.samples)
        for sample in family.samples:
            assert set(sample.labels) <= {"component", "inbox", "system", "le"}, sample
    promtool = shutil.which("promtool")
    if promtool is not None:
        subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True)


def test_what_cannot_be_had_is_left_out(tmp_path: Path) -> None:
    with served(tmp_path) as (system, _):
        said = system.statistics()
    unseen: Statistics = attrs.evolve(said, process=attrs.evolve(said.process, rss_bytes=None, cores=None))
    registry = CollectorRegistry()
    registry.register(StatisticsCollector("counted", lambda: unseen))
    found = samples(generate_latest(registry).decode())
    assert ("process_resident_memory_bytes", "") not in found
    assert ("process_cpu_seconds_total", "") in found


def test_other_paths_and_methods_are_told_so(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin):
        with pytest.raises(urllib.error.HTTPError, match="404") as wrong:
            scraped(plugin.url.removesuffix("metrics"))
        with wrong.value:
            assert wrong.value.read() == b"the metrics are at /metrics\n"
        with pytest.raises(urllib.error.HTTPError, match="501") as posted:
            urllib.request.urlopen(plugin.url, data=b"", timeout=PATIENCE_S)
        posted.value.close()
        assert "minions_info" in scraped(plugin.url + "?name=all")[0]


# The port -------------------------------------------------------------------------------------------------------------


def test_nothing_is_left_when_the_system_has_stopped_whoever_is_connected(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin):
        url = plugin.url
        host, port = "127.0.0.1", int(url.rpartition(":")[2].partition("/")[0])
        silent = [socket.create_connection((host, port)) for _ in range(3)]
        assert "minions_info" in scraped(url)[0]
        assert threads_of_ours()
    assert (threads_of_ours(), plugin.url) == ([], "")
    for client in silent:
        with client:
            assert client.recv(1) == b""
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((host, port))


def silent_clients(plugin: Prometheus, count: int, stack: ExitStack) -> list[socket.socket]:
    """Connections that ask for nothing, until the stack is left."""
    port = int(plugin.url.rpartition(":")[2].partition("/")[0])
    return [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(count)]


def test_silent_clients_do_not_keep_others_out(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin), ExitStack() as stack:
        silent_clients(plugin, 7, stack)
        assert "minions_info" in scraped(plugin.url)[0]


def test_there_are_eight_clients_at_most(tmp_path: Path) -> None:
    with served(tmp_path) as (_, plugin), ExitStack() as stack:
        ninth = silent_clients(plugin, 9, stack)[-1]
        ninth.settimeout(5.0)  # sooner than the server loses patience
        assert ninth.recv(1) == b"", "it is turned away"


def test_a_system_that_starts_again_is_served_again(tmp_path: Path) -> None:
    system, plugin, ready = made(tmp_path), Prometheus(Settings(port=0)), Ready()
    system.plugins.register(plugin, "prometheus")
    system.plugins.register(ready)
    for _ in range(2):
        ready.started.clear()
        with system.started():
            assert ready.started.wait(PATIENCE_S)
            assert samples(scraped(plugin.url)[0])["minions_info", "system=counted"] == 1
        assert threads_of_ours() == []


def test_a_port_in_use_is_told_and_the_system_runs_without_metrics(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        system, ready = made(tmp_path), Ready()
        system.plugins.register(Prometheus(Settings(port=port)), "prometheus")
        system.plugins.register(ready)
        with system.started():
            assert ready.refused.wait(PATIENCE_S)
            assert system.wait(PATIENCE_S)
            [status] = [plugin for plugin in system.plugins.list() if plugin.name == "prometheus"]
    [told] = ready.told
    assert told.problem.startswith(
        f"port = {port}: another program, or another system, answers at 127.0.0.1 already; set"
    )
    assert status.problem == told.problem
    assert threads_of_ours() == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"port": -1}, "port = -1: must be a number from 0 to 65535"),
        ({"port": 65_536}, "port = 65536: must be a number from 0 to 65535"),
        ({"host": "everywhere"}, "host = 'everywhere': must be an address such as"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_what_to_write(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        Settings(**settings)


def test_an_address_that_is_not_this_machines_is_told(tmp_path: Path) -> None:
    system, ready = made(tmp_path), Ready()
    system.plugins.register(Prometheus(Settings(host="192.0.2.1", port=0)), "prometheus")
    system.plugins.register(ready)
    with system.started():
        assert ready.refused.wait(PATIENCE_S)
    assert "this machine has no such address" in ready.told[0].problem


# As a package ---------------------------------------------------------------------------------------------------------

APP = """
import sys, urllib.request
from minions import Component, System
from minions.hookspecs import hookimpl

class Idle(Component):
    def run(self):
        while self.running:
            self.sleep(60)

class Scraping:
    @hookimpl
    def system_started(self, event):
        [plugin] = [plugin for plugin in system.plugins._plugins if plugin.name == "prometheus"]
        with urllib.request.urlopen(plugin.found.url, timeout=20) as answer:
            print(plugin.found.url, answer.read().count(b"minions_info{"), flush=True)
        system.stop()

system = System("app")
system.add(Idle())
system.plugins.register(Scraping())
if __name__ == "__main__":
    system.run()
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a program, in an environment in which the package is installed."""
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("build", "__pycache__", "*.egg-info"))
    # What `pip install -e .` leaves behind, without a network: the metadata beside the package.
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder / "source"), *(each for each in sys.path if each != str(PACKAGE))])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_an_installed_one_serves_where_minions_toml_says(installed: Path) -> None:
    (installed / "minions.toml").write_text('[plugins.prometheus]\nport = 0\nhost = "127.0.0.1"\n')
    ended = run(installed, "app.py")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics 1\n", ended.stdout), ended.stderr
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    listed = run(installed, "-m", "minions.cli", "plugins", "app.py", "--json")
    [plugin] = [plugin for plugin in json.loads(listed.stdout)["plugins"] if plugin["name"] == "prometheus"]
    assert (plugin["version"], plugin["source"], plugin["problem"]) == ("0.1.0", "installed", "")


def test_a_file_that_is_wrong_keeps_the_system_from_starting(installed: Path) -> None:
    (installed / "minions.toml").write_text("[plugins.prometheus]\nport = 99999\nhots = '::1'\n")
    ended = run(installed, "-m", "minions.cli", "check", "app.py")
    assert ended.returncode == 1
    assert "[plugins.prometheus] port = 99999: must be a number from 0 to 65535" in ended.stderr
    assert "[plugins.prometheus] hots: there is no such key; did you mean host?" in ended.stderr

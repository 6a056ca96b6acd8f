"""Plugins of real systems: where they come from, what goes wrong with them, and that no component notices."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions import Component, ConfigurationError, Inbox, Outbox, State, System, events
from minions.hookspecs import RunningSystem, hookimpl
from minions.observe.event_log import logged_events

PATIENCE_S = 20.0


@attrs.frozen
class Number:
    value: int


class Source(Component):
    count: int = 100
    numbers = Outbox(Number)

    def run(self) -> None:
        for value in range(self.count):
            self.numbers.send(Number(value))


class Sum(Component):
    numbers = Inbox(Number)
    total = State(int)

    @numbers.handler
    def add(self, number: Number) -> None:
        self.total += number.value
        self.log.info("added", extra={"value": number.value})


class Noting:
    def __init__(self) -> None:
        self.told: list[events.Event] = []
        self.stopped = threading.Event()

    @hookimpl(trylast=True)
    def event(self, event: events.Event) -> None:
        self.told.append(event)
        if isinstance(event, events.SystemStopped):
            self.stopped.set()


class Raising:
    """Raises in every hook."""

    @hookimpl
    def event(self, event: events.Event) -> None:
        raise ValueError(type(event).__name__)

    @hookimpl
    def system_started(self, event: events.SystemStarted) -> None:
        raise ValueError(type(event).__name__)


class Hanging:
    def __init__(self) -> None:
        self.go = threading.Event()

    @hookimpl
    def system_started(self) -> None:
        self.go.wait(PATIENCE_S)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules can be imported and whose packages are installed; they are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", "") or ""):
            del sys.modules[name]


def install(project: Path, name: str, entry_point: str, code: str) -> None:
    """What pip leaves behind: the module, and the metadata with the entry point."""
    module = entry_point.partition(":")[0]
    (project / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    metadata = project / f"{module}-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(f"[minions]\n{name} = {entry_point}\n")


def make(folder: Path, count: int = 100) -> tuple[System, Sum]:
    system = System("test", folder=folder / "state")
    system._configuration_path = folder / "minions.toml"
    source, total = system.add(Source(count=count)), system.add(Sum())
    system.connect(source.numbers, total.numbers)
    return system, total


def run(system: System) -> None:
    with system.started():
        assert system.wait(PATIENCE_S)


def status_of(system: System, name: str) -> Any:
    return next(plugin for plugin in system.plugins.list() if plugin.name == name)


GOOD = """
    from minions.hookspecs import RunningSystem, hookimpl
    __version__ = "7"
    told = []
    @hookimpl
    def system_stopped(event):
        told.append(event)
    class Plugin:
        @hookimpl
        def system_stopped(self, event):
            told.append(event)
    """


def test_a_plugin_is_told_everything_in_order(project: Path) -> None:
    system, total = make(project)
    noting = Noting()
    system.plugins.register(noting)
    run(system)

    assert noting.stopped.wait(PATIENCE_S)
    assert [
        type(event).__name__ for event in noting.told if isinstance(event, (events.StateOpened, events.SystemStarted))
    ] == [
        "StateOpened",
        "SystemStarted",
    ]
    assert isinstance(noting.told[-1], events.SystemStopped)
    assert total.total == sum(range(100))
    assert [logged.event for logged in logged_events(system.folder)] == noting.told


def test_faults_are_seen_and_neither_the_work_nor_the_end_is_affected(project: Path) -> None:
    system, total = make(project, 1_000)
    noting, hanging = Noting(), Hanging()
    for name, plugin in {"noting": noting, "raising": Raising(), "hanging": hanging}.items():
        system.plugins.register(plugin, name)
    try:
        run(system)
        assert noting.stopped.wait(PATIENCE_S)
    finally:
        hanging.go.set()

    assert total.total == sum(range(1_000))
    assert status_of(system, "hanging").set_aside
    assert status_of(system, "hanging").faults == 1
    raising = status_of(system, "raising")
    assert raising.faults == raising.calls > 3
    told = [logged.event for logged in logged_events(system.folder)]
    failed = [event for event in told if isinstance(event, events.PluginFailed)]
    assert sorted(event.hook for event in failed) == ["event", "system_started"]
    assert [event.plugin for event in told if isinstance(event, events.PluginSetAside)] == ["hanging"]


def test_an_installed_plugin_is_found_by_its_entry_point(project: Path) -> None:
    install(project, "good", "good_plugin:Plugin", GOOD)
    system, _ = make(project)
    run(system)
    import good_plugin  # type: ignore[import-not-found]

    [stopped] = good_plugin.told
    assert isinstance(stopped, events.SystemStopped)
    status = status_of(system, "good")
    assert (status.version, status.source, status.hooks, status.calls) == ("1.2", "installed", ("system_stopped",), 1)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("raise OSError('no such device')", "it cannot be imported: OSError: no such device"),
        ("raise SystemExit(3)", "it cannot be imported: SystemExit: 3"),
        ("syntax error", "it cannot be imported: SyntaxError"),
        (
            GOOD.replace("system_stopped", "system_stoped"),
            "there is no hook system_stoped; did you mean system_stopped?",
        ),
        ("class Plugin:\n    def __init__(self, needed): ...", "it cannot be imported: TypeError"),
    ],
    ids=["raises", "exits", "syntax", "unknown hook", "needs arguments"],
)
def test_an_installed_plugin_that_is_broken_is_named_and_the_system_runs_without_it(
    project: Path, code: str, problem: str
) -> None:
    install(project, "broken", "broken_plugin:Plugin", code)
    system, total = make(project)
    for _ in range(2):
        run(system)
    told = [logged.event for logged in logged_events(system.folder)]
    refused = [event for event in told if isinstance(event, events.PluginNotLoaded)]
    assert [event.plugin for event in refused] == ["broken"] * 2
    assert all(problem in event.problem for event in refused)
    assert total.total == 2 * sum(range(100))
    status = status_of(system, "broken")
    assert (status.hooks, bool(status.problem)) == ((), True)


def test_what_is_installed_can_be_looked_at_without_a_start(project: Path) -> None:
    install(project, "good", "good_plugin:Plugin", GOOD)
    install(project, "broken", "broken_plugin", "raise OSError")
    system, _ = make(project)
    system.plugins.load()
    system.plugins.load()
    found = {plugin.name: plugin for plugin in system.plugins.list() if plugin.version == "1.2"}
    assert found["good"].hooks == ("system_stopped",)
    assert found["broken"].problem == "it cannot be imported: OSError"


def test_an_installed_plugin_with_the_name_of_another_is_refused(project: Path) -> None:
    install(project, "good", "good_plugin:Plugin", GOOD)
    system, _ = make(project)
    system.plugins.register(Noting(), "good")
    system.plugins.load()
    assert [
        "there is a plugin of that name" in plugin.problem for plugin in system.plugins.list() if plugin.version
    ] == [True]


# minions.toml ---------------------------------------------------------------------------------------------------------


def test_the_file_names_plugins_and_leaves_installed_ones_out(project: Path) -> None:
    install(project, "good", "good_plugin:Plugin", GOOD)
    (project / "own.py").write_text(textwrap.dedent(GOOD))
    (project / "minions.toml").write_text(
        '[plugins]\nload = ["own", "own:Plugin"]\ndisabled = ["good"]\nhook_timeout_s = 2.5\n'
    )
    system, _ = make(project)
    run(system)
    import own  # type: ignore[import-not-found]

    assert len(own.told) == 2
    found = [
        (plugin.name, plugin.version, plugin.source) for plugin in system.plugins.list() if plugin.source != "installed"
    ]
    assert found == [("own", "7", "configured"), ("own:Plugin", "7", "configured")]
    assert "good" not in [plugin.name for plugin in system.plugins.list()]
    assert system.plugins.hook_timeout_s == 2.5

    (project / "minions.toml").write_text("[plugins]\ninstalled = false\n")
    system.check()
    assert system.plugins.list() == ()
    assert system.plugins.hook_timeout_s == 10.0


def test_everything_that_is_wrong_with_the_plugins_of_the_file_is_told_at_once(project: Path) -> None:
    (project / "own.py").write_text(textwrap.dedent(GOOD.replace("system_stopped", "stopped")))
    (project / "minions.toml").write_text(
        '[plugins]\nload = ["own", "none_such", "own:Nothing", "json", "json"]\nhook_timout_s = 3\n'
    )
    system, _ = make(project)
    with pytest.raises(ConfigurationError) as caught:
        system.check()
    assert len(caught.value.problems) == 1
    assert "did you mean hook_timeout_s?" in caught.value.problems[0]

    (project / "minions.toml").write_text('[plugins]\nload = ["own", "none_such", "own:Nothing", "json", "json"]\n')
    with pytest.raises(ConfigurationError) as caught:
        system.check()
    problems = [problem.partition(": ") for problem in caught.value.problems]
    assert [where for where, _, _ in problems] == [
        '[plugins] load[0] = "own"',
        '[plugins] load[1] = "none_such"',
        '[plugins] load[2] = "own:Nothing"',
        '[plugins] load[3] = "json"',
        '[plugins] load[4] = "json"',
    ]
    for (_, _, said), expected in zip(
        problems,
        [
            "stopped() is marked as a hook, and there is no hook stopped",
            "ModuleNotFoundError",
            "AttributeError",
            "it has no hook",
            "it is named twice",
        ],
        strict=True,
    ):
        assert expected in said


# What a plugin may ask, and its settings


class Asking:
    """Asks what it may, once it is attached."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @hookimpl
    def attached(self, system: RunningSystem) -> None:
        self.heard.append(system)

    @hookimpl
    def event(self, event: events.Event) -> None:
        self.heard.append(type(event).__name__)


def test_a_plugin_is_attached_once_in_each_run_before_anything_else(project: Path) -> None:
    system, _ = make(project)
    asking, noting = Asking(), Noting()
    system.plugins.register(asking)
    system.plugins.register(noting)
    for _ in range(2):
        run(system)
        assert noting.stopped.wait(PATIENCE_S)
        first, *rest = asking.heard
        assert isinstance(first, RunningSystem)
        assert first.name == "test"
        assert rest[0] == "StateOpened"
        assert rest[-2:] == ["ComponentStopped", "SystemStopped"]
        assert "SystemStopping" in rest
        assert first.statistics().inboxes["sum.numbers"].settled == 100
        asking.heard.clear()
        noting.stopped.clear()
    assert status_of(system, "Asking").faults == 0


def test_one_that_is_registered_later_is_attached_before_its_first_event(project: Path) -> None:
    system, _ = make(project)
    asking = Asking()
    with system.started():
        assert system.wait(PATIENCE_S)
        system.plugins.register(asking)
    assert isinstance(asking.heard[0], RunningSystem)
    assert asking.heard[-1] == "SystemStopped"


def test_a_plugin_asks_whether_the_supervisor_answers(project: Path) -> None:
    system, _ = make(project)
    asking, held, go = Asking(), threading.Event(), threading.Event()
    system.plugins.register(asking)
    with system.started():
        assert system.wait(PATIENCE_S)
        while not asking.heard:
            system.status()
        runtime, view = system._runtime, asking.heard[0]
        assert runtime is not None
        assert view.supervisor_answers(PATIENCE_S)

        def hold() -> None:
            held.set()
            go.wait(PATIENCE_S)

        runtime.call_on_supervisor(hold)
        assert held.wait(PATIENCE_S)
        for _ in range(50):
            assert not view.supervisor_answers(0.001)
        assert len(runtime._supervisor._waiting) <= 2, "what is asked of it does not pile up"
        go.set()
        assert view.supervisor_answers(PATIENCE_S)
        assert view.supervisor_answers(PATIENCE_S)
    assert view.supervisor_answers(PATIENCE_S), "nobody waits for a supervisor that has ended"


@pytest.mark.parametrize("kind", [ConfigurationError("Asking", ["port = 0: must be above 0"]), ValueError("no")])
def test_one_that_does_not_want_to_be_attached_is_not_used_and_the_system_runs(
    project: Path, kind: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    class Unwilling(Asking):
        @hookimpl
        def attached(self, system: RunningSystem) -> None:
            raise kind

    system, total = make(project)
    unwilling, noting = Unwilling(), Noting()
    system.plugins.register(unwilling)
    system.plugins.register(noting)
    run(system)
    assert noting.stopped.wait(PATIENCE_S)
    assert total.total == 4_950
    assert unwilling.heard == []
    [told] = [event for event in noting.told if isinstance(event, events.PluginNotLoaded)]
    expected = (
        "port = 0: must be above 0" if isinstance(kind, ConfigurationError) else "it cannot be used: ValueError: no"
    )
    assert (told.plugin, told.problem) == (unwilling.__class__.__qualname__, expected)
    assert ("raise kind" in told.traceback) is not isinstance(kind, ConfigurationError)
    assert status_of(system, told.plugin).problem == expected


@attrs.frozen
class Settings:
    port: int = 9_000
    hosts: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.port < 1:
            raise ValueError("port must be above 0")


class Set(Asking):
    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings(hosts=("a",))


def test_the_file_sets_the_settings_of_a_plugin_for_as_long_as_it_says_so(project: Path) -> None:
    system, _ = make(project)
    plugin = Set()
    system.plugins.register(plugin, name="set")
    (project / "minions.toml").write_text("[plugins]\nhook_timeout_s = 5\n[plugins.set]\nport = 80\n")
    system.check()
    system.check()
    assert plugin.settings == Settings(80, ("a",))
    (project / "minions.toml").write_text("[plugins.set]\nhosts = []\n")
    system.check()
    assert plugin.settings == Settings(9_000, ())
    (project / "minions.toml").unlink()
    system.check()
    assert plugin.settings == Settings(9_000, ("a",))


def test_an_installed_plugin_that_the_file_names_is_loaded_before_the_start_with_its_settings(project: Path) -> None:
    code = """
        import attrs
        from minions.hookspecs import RunningSystem, hookimpl
        @attrs.frozen
        class Settings:
            port: int = 1
        class Plugin:
            settings = Settings()
            @hookimpl
            def system_stopped(self): ...
        plugin = Plugin()
        """
    install(project, "planted", "planted_settings:plugin", code)
    (project / "minions.toml").write_text("[plugins.planted]\nport = 5\n")
    system, _ = make(project)
    system.check()
    assert (status_of(system, "planted").source, status_of(system, "planted").problem) == ("installed", "")
    assert sys.modules["planted_settings"].plugin.settings.port == 5
    run(system)
    assert [plugin.name for plugin in system.plugins.list()].count("planted") == 1


def test_what_is_wrong_with_the_settings_of_plugins_is_told_at_once_and_again(project: Path) -> None:
    install(project, "broken", "planted_broken:plugin", "raise ValueError('bad')")
    system, _ = make(project)
    system.plugins.register(Set(), name="set")
    system.plugins.register(Noting(), name="noting")
    (project / "minions.toml").write_text(
        "[plugins]\ndisabled = ['off']\n[plugins.set]\nport = 'x'\nhost = 'a'\n[plugins.noting]\na = 1\n[plugins.off]\na = 1\n"
        "[plugins.missing]\na = 1\n[plugins.broken]\na = 1\n"
    )
    for _ in range(2):
        with pytest.raises(ConfigurationError) as refused:
            system.check()
        assert refused.value.problems == (
            '[plugins.set] port = "x": expected a whole number',
            "[plugins.set] host: there is no such key; did you mean hosts?",
            "[plugins.noting]: this plugin has no settings; delete the table",
            "[plugins.off]: it is disabled; enable it, or delete the table",
            "[plugins.missing]: there is no plugin of that name, registered or installed: install it, or delete the table",
            "[plugins.broken]: it cannot be imported: ValueError",
        )
    (project / "minions.toml").write_text("[plugins.set]\nport = 0\n")
    with pytest.raises(ConfigurationError) as refused:
        system.check()
    assert refused.value.problems == ("[plugins.set] port must be above 0",)


@pytest.mark.parametrize("value", ["0", "1.5", '"x"'])
def test_a_share_of_hooks_that_cannot_be_is_refused(project: Path, value: str) -> None:
    (project / "minions.toml").write_text(f"[plugins]\nhook_cpu_ratio = {value}\n")
    with pytest.raises(ConfigurationError, match=r"hook_cpu_ratio.*(must be above 0 and at most 1|expected a number)"):
        make(project)[0].check()
    system = System("test")
    with pytest.raises(ConfigurationError, match=r"hook_cpu_ratio = .*: must be above 0 and at most 1"):
        system.plugins.hook_cpu_ratio = ast.literal_eval(value)


@pytest.mark.parametrize(("value", "said"), [("0", "must be above 0"), ('"x"', "expected a number")])
def test_a_timeout_that_cannot_be_is_refused(project: Path, value: str, said: str) -> None:
    (project / "minions.toml").write_text(f"[plugins]\nhook_timeout_s = {value}\n")
    with pytest.raises(ConfigurationError, match=said):
        make(project)[0].check()


# Logs -----------------------------------------------------------------------------------------------------------------


def test_what_a_component_logs_has_component_life_and_message(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "minions")
    system, _ = make(project, 2)
    run(system)
    added: list[Any] = [record for record in caplog.records if record.getMessage() == "added"]
    assert [(record.name, record.component, record.epoch, record.value) for record in added] == [
        ("minions.test.sum", "sum", 1, 0),
        ("minions.test.sum", "sum", 1, 1),
    ]
    assert len({record.message_id for record in added}) == 2
    assert all(record.message_id.startswith("sum.numbers-") for record in added)


def test_pluggy_is_not_imported_before_there_is_a_plugin() -> None:
    code = "import sys, minions; minions.System('s').plugins.list(); print('pluggy' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"

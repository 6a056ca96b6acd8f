"""The plugin in real systems, with a real datagram socket in the place of systemd's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from minions import Component, Restart, System, SystemFailed

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs where the package is not installed

from minions_systemd import Settings, Systemd

PATIENCE_S = 20.0


class Manager:
    """What systemd has: a datagram socket that services send to."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(PATIENCE_S)

    def hear(self, within_s: float = PATIENCE_S) -> list[str] | None:
        """The lines of the next message; None when none comes."""
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(65_536).decode().splitlines()
        except TimeoutError:
            return None

    def hear_until(self, line: str) -> list[list[str]]:
        """All messages up to the first that has a line."""
        heard = []
        while (message := self.hear()) is not None:
            heard.append(message)
            if any(each.startswith(line) for each in message):
                return heard
        raise AssertionError(f"{line} was not heard, but {heard}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="m") as folder:
        name = f"{folder}/notify"
        manager = Manager(name if request.param == "path" else "@" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield manager
        manager.close()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), len([*Path("/proc/self/fd").iterdir()])
    yield
    for thread in set(threading.enumerate()) - threads:
        thread._started.wait(PATIENCE_S)  # type: ignore[attr-defined]  # one that just begins cannot be joined yet
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), thread.name
    assert len([*Path("/proc/self/fd").iterdir()]) == descriptors


class Gate(threading.Event):
    """Copied into each life as itself."""

    def __deepcopy__(self, memo: object) -> Gate:
        return self

    def __copy__(self) -> Gate:
        return self


class Idle(Component):
    def run(self) -> None:
        while self.running:
            self.sleep(1_000.0)


Make = Callable[..., System]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make_one(component: Component | None = None, settings: Settings | None = None, **options: Any) -> System:
        system = System("greenhouse", folder=tmp_path / "state", **options)
        system.plugins.configure(installed=False)
        system.plugins.register(Systemd(settings or Settings()), name="systemd")
        system.add(component or Idle(), name="idle", restart=Restart(on_give_up="isolate", failures=1))
        return system

    return make_one


def test_it_says_when_the_system_is_up_and_when_it_stops(manager: Manager, make: Make) -> None:
    with make(stop_timeout_s=7.0).started():
        assert manager.hear() == ["READY=1", "STATUS=1 component"]
    assert manager.hear() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=12000000", "STATUS=stops (stopped)"]
    assert manager.hear() == ["STATUS=stopped (stopped)"]
    assert manager.hear(0.1) is None


def test_the_settings_say_what_is_told(manager: Manager, make: Make) -> None:
    with make(settings=Settings(status=False, stop_margin_s=0.5)).started():
        assert manager.hear() == ["READY=1"]
    assert manager.hear() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=10500000"]
    assert manager.hear(0.1) is None


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_the_status_names_what_is_wrong(manager: Manager, make: Make) -> None:
    class Failing(Component):
        fails: Gate

        def run(self) -> None:
            self.fails.wait(PATIENCE_S)
            raise ValueError("two\nlines " + "x" * 5_000)

    fails = Gate()
    system = make(Failing(fails=fails))
    with pytest.raises(SystemFailed, match="idle failed in run"), system.started():  # noqa: PT012 - raised when it is left
        assert manager.hear() == ["READY=1", "STATUS=1 component"]
        idle = system._node_named("idle").blueprint
        system.pause(idle).result(PATIENCE_S)
        assert manager.hear() == ["STATUS=1 component; idle is paused by the operator"]
        system.resume(idle).result(PATIENCE_S)
        assert manager.hear() == ["STATUS=1 component"]
        fails.set()
        [status] = manager.hear() or []
        assert status.startswith("STATUS=1 component; idle failed (ValueError: two lines xxx")
        assert len(status) == 1_007
        assert manager.hear_until("STATUS=1 component; idle was given up")


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_pings_come_from_a_supervisor_that_answers(
    manager: Manager, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    system = make()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(PATIENCE_S)

    with system.started():
        manager.hear_until("READY=1")
        for _ in range(3):
            assert manager.hear() == ["WATCHDOG=1"]
        runtime = system._runtime
        assert runtime is not None
        runtime.call_on_supervisor(hold)
        assert held.wait(PATIENCE_S)
        while manager.hear(0.05) is not None:
            """Those that were on their way."""
        assert manager.hear(0.6) is None, "three intervals without a ping: systemd has ended the process by now"
        go.set()
        assert manager.hear() == ["WATCHDOG=1"]
    heard = manager.hear_until("STATUS=stopped")
    assert ["STOPPING=1" in message for message in heard].count(True) == 1


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_pings_go_on_while_it_drains(manager: Manager, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Component):
        go: Gate

        def run(self) -> None:
            self.go.wait(PATIENCE_S)

    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    go = Gate()
    system = make(Slow(go=go))
    with system.started():
        manager.hear_until("READY=1")
        stopped = system.stop()
        manager.hear_until("STOPPING=1")
        for _ in range(3):
            assert manager.hear() == ["WATCHDOG=1"]
        go.set()
        stopped.result(PATIENCE_S)


@pytest.mark.parametrize("manager", ["path"], indirect=True)
@pytest.mark.parametrize("pid", ["other", None])
def test_only_the_process_that_is_watched_pings(
    manager: Manager, make: Make, monkeypatch: pytest.MonkeyPatch, pid: str | None
) -> None:
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_USEC", "50000")
        monkeypatch.setenv("WATCHDOG_PID", "1")
    with make().started():
        manager.hear_until("READY=1")
        assert manager.hear(0.3) is None
        assert "greenhouse/systemd" not in [thread.name for thread in threading.enumerate()]


@pytest.fixture
def two(tmp_path: Path) -> tuple[System, System]:
    systems = []
    for name in ("one", "two"):
        system = System(name, folder=tmp_path / name)
        system.plugins.configure(installed=False)
        system.plugins.register(Systemd(), name="systemd")
        system.add(Idle(), name="idle")
        systems.append(system)
    return systems[0], systems[1]


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_of_two_systems_in_one_process_systemd_hears_as_of_one(manager: Manager, two: tuple[System, System]) -> None:
    with two[0].started():
        assert manager.hear() == ["READY=1", "STATUS=1 component"]
        with two[1].started():
            assert manager.hear() == ["READY=1", "STATUS=one: 1 component; two: 1 component"]
        assert manager.hear() == ["STATUS=one: 1 component; two: stops (stopped)"], "the service goes on"
        assert manager.hear() == ["STATUS=one: 1 component; two: stopped (stopped)"]
        two[0].pause("idle").result(PATIENCE_S)
        assert manager.hear() == ["STATUS=1 component; idle is paused by the operator"]
    assert manager.hear() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=15000000", "STATUS=stops (stopped)"]
    assert manager.hear() == ["STATUS=stopped (stopped)"]


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_system_that_does_not_answer_is_not_kept_alive_by_the_other(
    manager: Manager, two: tuple[System, System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(PATIENCE_S)

    with two[0].started(), two[1].started():
        for _ in range(2):
            manager.hear_until("READY=1")
        manager.hear_until("WATCHDOG=1")
        runtime = two[1]._runtime
        assert runtime is not None
        runtime.call_on_supervisor(hold)
        assert held.wait(PATIENCE_S)
        while manager.hear(0.25) is not None:
            """Those of the last interval."""
        assert manager.hear(0.6) is None, "three intervals without a ping: systemd has ended the process by now"
        go.set()
        assert manager.hear() == ["WATCHDOG=1"]


def test_without_a_socket_nothing_happens(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "nonsense")
    monkeypatch.setattr("minions_systemd.socket", None)
    system = make()
    with system.started():
        assert "greenhouse/systemd" not in [thread.name for thread in threading.enumerate()]
    [plugin] = system.plugins.list()
    assert (plugin.problem, plugin.faults, plugin.calls > 3) == ("", 0, True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "NOTIFY_SOCKET",
            "vsock:2:1234",
            "NOTIFY_SOCKET=vsock:2:1234: must be an absolute path, or the name of an abstract",
        ),
        ("WATCHDOG_USEC", "1.5", "WATCHDOG_USEC=1.5: must be a whole number of microseconds above 0"),
        ("WATCHDOG_USEC", "0", "WATCHDOG_USEC=0: must be a whole number of microseconds above 0"),
        ("NOTIFY_SOCKET", "/missing/notify", "FileNotFoundError: [Errno 2] No such file or directory"),
    ],
)
@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_what_is_wrong_is_told_and_the_system_runs(
    manager: Manager,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    system = make()
    with system.started():
        assert [status.phase.value for status in system.status()] == ["running"]
    assert said in caplog.text
    assert (system.plugins.list()[0].problem.startswith(name), name in said) in [(True, True), (False, False)]


def test_settings_that_cannot_be_are_refused(make: Make, tmp_path: Path) -> None:
    system = make()
    system._configuration_path = tmp_path / "minions.toml"
    (tmp_path / "minions.toml").write_text("[plugins.systemd]\nstop_margin_s = -1\n")
    with pytest.raises(Exception, match=r"\[plugins.systemd\] stop_margin_s = -1.0: must be 0 or more"):
        system.check()


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_service_with_the_installed_plugin(manager: Manager, tmp_path: Path) -> None:
    package, source = Path(__file__).parent.parent, tmp_path / "source"
    shutil.copytree(package, source, ignore=shutil.ignore_patterns("build", "__pycache__", "*.egg-info"))
    # What `pip install -e .` leaves behind, without a network: the metadata beside the package.
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    (tmp_path / "app.py").write_text(
        "from minions import Component, System\n"
        "class Idle(Component):\n"
        "    def run(self):\n"
        "        while self.running:\n"
        "            self.sleep(1_000.0)\n"
        "system = System('app')\n"
        "system.add(Idle())\n"
        "system.run()\n"
    )
    service = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": os.pathsep.join([str(source), *sys.path]),
            "NOTIFY_SOCKET": manager.address,
            "WATCHDOG_USEC": "200000",
        },
        stderr=subprocess.PIPE,
    )
    try:
        assert manager.hear_until("READY=1") == [["READY=1", "STATUS=1 component"]]
        assert manager.hear() == ["WATCHDOG=1"]
        service.send_signal(signal.SIGTERM)
        manager.hear_until("STOPPING=1")
        manager.hear_until("STATUS=stopped (terminated)")
        _, said = service.communicate(timeout=PATIENCE_S)
        assert service.returncode == 0, said
    finally:
        service.kill()
        service.communicate()

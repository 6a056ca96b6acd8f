"""The commands that operate a system: child processes with a real program, found from the working directory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MINIONS = (sys.executable, "-m", "minions.cli")
PATIENCE_S = 60.0

APP = """
import os, socket, sys, threading, time
from minions import Component, Inbox, Outbox, Retry, State, System, Uses

LOCK = threading.Lock()
doze = vars(time)["sleep"]

class Socket(Component):
    def run(self):
        ours, self._theirs = socket.socketpair()
        with self.blocking(ours):
            ours.recv(1)

class Holder(Component):
    def run(self):
        with LOCK:
            self.sleep(10_000)

class Locked(Component):
    def run(self):
        while LOCK.acquire(blocking=False):
            LOCK.release()
        with self.blocking(self._free):
            with LOCK:
                pass

    def _free(self):
        pass

class Source(Component):
    out = Outbox(int)
    def run(self):
        for number in range(1_000_000):
            self.out.send(number)

class Slow(Component):
    numbers = Inbox(int, capacity=10)
    seen = State(int)
    @numbers.handler
    def take(self, number):
        self.seen = number + 41
        if number == 1:
            doze(10_000)

class Piped(Component):
    def wait(self) -> None:
        read, self._write = os.pipe()
        os.read(read, 1)

class Caller(Component):
    piped = Uses(Piped, timeout_s=10_000)
    def run(self):
        self.piped.wait()

class Picky(Component):
    orders = Inbox(int, retry=Retry(attempts=1))
    done = State(int)
    @orders.handler
    def take(self, order):
        if order == 7 and not os.path.exists("fixed"):
            raise ValueError("seven is refused")
        self.done += 1

class Orders(Component):
    out = Outbox(int)
    sent = State(int)
    def run(self):
        while self.sent < 10:
            with self.unit():
                self.out.send(self.sent)
                self.sent += 1

system = System("five", stop_timeout_s=1.0)
orders, picky = system.add(Orders()), system.add(Picky())
system.connect(orders.out, picky.orders)
stuck = os.environ.get("STUCK")
if stuck:
    for component in (Socket(), Holder(), Locked(), Piped(), Caller()):
        system.add(component)
    source, slow = system.add(Source()), system.add(Slow())
    system.connect(source.out, slow.numbers)

if __name__ == "__main__":
    sys.exit("the main guard has run")
"""


class Project:
    """A folder with a program, and what runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        (folder / "app.py").write_text(textwrap.dedent(APP))

    def minions(self, *arguments: str, cwd: Path | None = None, code: int = 0) -> str:
        """What a command prints on the stream for its outcome; it has to end with this code."""
        done = subprocess.run(
            [*MINIONS, *arguments],
            cwd=cwd or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.minions(*arguments, "--json"))

    def start(self, *, stuck: bool = False, forever: bool = True) -> subprocess.Popen[str]:
        """Runs the program, and returns when it is up."""
        child = subprocess.Popen(
            [*MINIONS, "run", "app.py", *(("--forever",) if forever else ())],
            cwd=self.folder,
            env=self.environment | ({"STUCK": "1"} if stuck else {}),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.children.append(child)
        assert child.stderr is not None
        said = []
        for line in child.stderr:
            said.append(line)
            if "started" in line:
                return child
        raise AssertionError(said)

    def until(self, condition: Any) -> Any:
        """Asks for the status until something holds of it. Each look is a process of its own, so this is no busy wait."""
        status = self.json("status")
        for _ in range(100):
            if condition(status):
                return status
            status = self.json("status")
        raise AssertionError(status)

    def end(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait(PATIENCE_S)
            if child.stderr is not None:
                child.stderr.close()


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("p"))
    yield project
    project.end()


# What a command loads

LOADED = """
import sys
from minions.cli import main
try:
    sys.exit(main(sys.argv[1:]))
finally:
    print(*sys.modules, file=sys.stderr)
"""


def test_a_command_that_asks_the_running_system_loads_neither_the_runtime_nor_the_store(project: Project) -> None:
    project.start()
    commands = ["status", "top", "why picky", "stacks", "pause picky", "resume picky", "restart picky", "stop orders"]
    for command in [*commands, "start orders", "graph", "plugins", "version", "stop", "status --help", "events --help"]:
        done = subprocess.run(
            [sys.executable, "-c", LOADED, *command.split()],
            cwd=project.folder,
            env=project.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        loaded = set(done.stderr.split())
        assert "minions.operate.client" in loaded
        heavy = {"minions.system", "minions.life", "minions.flow.store", "cattrs", "diskcache", "asyncio"}
        assert heavy & loaded == set(), command


# Blocked in five ways


def component(status: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status["components"] if each["name"] == name)
    return found


def test_why_names_what_a_component_is_blocked_in(project: Project) -> None:
    project.start(stuck=True)
    project.until(lambda status: component(status, "source")["waits_for"] and component(status, "caller")["waits_for"])

    socket_ = project.minions("why", "socket")
    assert re.match(
        r"socket is in run and waits for unix socket \(descriptor \d+\) in recvfrom, at .*app.py\"", socket_
    )
    assert "ours.recv(1)" in socket_

    locked = project.minions("why", "locked")
    assert re.match(r"locked is in run and waits for lock LOCK \(threading.Lock\), at .*app.py\"", locked)

    source = project.minions("why", "source")
    assert re.match(
        r"source is in run and waits for room in slow.numbers.*; slow.numbers holds 10 of 10 messages; slow, which takes from "
        r"it, is handling take and waits for the end of a sleep, [\d.]+ s from now, at .*app.py\"",
        source,
    )
    assert "doze(10_000)" in source

    caller = project.minions("why", "caller")
    assert re.match(
        r"caller is in run and waits for piped.wait\(\) to answer; piped is answering wait and waits for pipe, descriptor \d+ in "
        r"read, at .*app.py\"",
        caller,
    )
    assert "self.piped.wait()" in caller
    assert "parker.py" not in caller, "the runtime's own calls say nothing"

    picky = project.minions("why", "picky")
    assert picky.startswith("picky has nothing to do: it waits for a message.")

    found = project.json("why", "piped")["components"][0]["chain"][0]
    assert (found["doing"], found["system_call"], found["on_cpu"]) == ("answering wait", "read", False)


def test_what_is_stuck_can_be_stopped_and_the_code_says_how_it_went(project: Project) -> None:
    child = project.start(stuck=True)
    project.until(lambda status: component(status, "source")["waits_for"])
    said = project.minions("restart", "socket")
    assert said == "restarted: socket\n"
    assert component(project.json("status"), "socket")["epoch"] == 2
    assert "No such" not in project.minions("stacks", "socket")
    project.minions("stop", code=1)
    assert child.wait(PATIENCE_S) != 0
    assert not (project.folder / ".minions/run").exists()


# The whole round


def test_a_project_from_check_to_stop(project: Project) -> None:
    assert project.minions("check", "app.py") == "five: nothing is wrong; 2 components, 1 connections\n"
    assert not (project.folder / ".minions").exists()
    assert "out -> picky.orders (int, 1,000, durable)" in project.minions("graph", "app.py")
    child = project.start()
    below = project.folder / "deep/down"
    below.mkdir(parents=True)
    status = project.until(lambda status: status["inboxes"]["picky.orders"]["settled"] == 10)
    assert status["system"] == "five"
    assert status["pid"] == child.pid
    text = project.minions("status", cwd=below)
    assert re.match(r"five: running, up [\d.]+s, process \d+", text)
    assert re.search(r"^picky +running +\d+ +\d+ ", text, re.MULTILINE)
    assert project.minions("status", "--folder", str(project.folder), cwd=Path("/")) != ""
    assert '-->|"int"|' in project.minions("graph", "--format", "mermaid")
    assert '"orders" -> "picky" [label="int", style=solid];' in project.minions("graph", "--format", "dot")
    assert project.json("graph") == project.json("graph", "app.py")
    assert "picky.orders" in project.minions("top", "--times", "1")
    assert json.loads(project.minions("top", "--times", "1", "--json"))["system"] == "five"
    assert "MainThread" in project.minions("stacks")
    assert "component picky" in project.minions("stacks", "picky")
    assert project.minions("plugins") == "there are no plugins\n"
    assert "five (process" in project.minions("version")
    assert project.minions("pause", "picky") == "paused: picky\n"
    assert "paused by operator" in project.minions("status")
    assert "picky is paused by operator" in project.minions("why", "picky")
    assert project.minions("resume") == "resumed: orders, picky\n"
    assert project.minions("stop", "picky") == "stopped: picky\n"
    assert "picky was stopped, and stays down until somebody starts it" in project.minions("why", "picky")
    assert project.minions("start", "picky") == "up: picky\n"
    assert project.minions("stop") == "the system has stopped\n"
    assert child.wait(PATIENCE_S) == 0
    events = project.minions("events", "--last", "100")
    assert "SystemStarted         started: 2 components" in events
    assert "SystemStopped" in events
    last = [json.loads(line) for line in project.minions("events", "--json", "--component", "picky").splitlines()]
    assert {event["component"] for event in last} == {"picky"}


def test_run_returns_when_nothing_can_happen_any_more(project: Project) -> None:
    child = project.start(forever=False)
    assert child.wait(PATIENCE_S) == 0
    assert project.json("state", "show", "picky")["picky"]["done"]["value"] == 9


def test_dead_letters_while_it_runs_and_while_it_does_not(project: Project) -> None:
    project.start()
    project.until(lambda status: status["inboxes"]["picky.orders"]["settled"] == 10)
    [letter] = project.json("dead", "list")["letters"]
    assert (letter["channel"], letter["message"], letter["error"]) == (
        "picky.orders",
        7,
        "ValueError: seven is refused",
    )
    name = letter["message_id"]
    assert name in project.minions("dead", "list")
    assert "raise ValueError" in project.minions("dead", "show", name)
    (project.folder / "fixed").touch()
    assert project.minions("dead", "retry", name) == f"sent once more: {name}\n"
    project.until(lambda status: status["inboxes"]["picky.orders"]["settled"] == 11)
    assert project.minions("dead", "list") == "there are no dead letters\n"
    assert "no dead letter has the id" in project.minions("dead", "drop", name, code=1)
    project.minions("stop")

    assert "there are no dead letters" in project.minions("dead", "list")
    assert "picky.done = 10" in project.minions("state", "show")


def test_dead_letters_of_a_system_that_does_not_run_are_retried_with_its_program_and_dropped_without(
    project: Project,
) -> None:
    project.start(forever=False).wait(PATIENCE_S)
    [letter] = project.json("dead", "list")["letters"]
    name = letter["message_id"]
    assert "name its program with --app app.py" in project.minions("dead", "retry", name, code=3)
    assert project.minions("dead", "retry", name, "--app", "app.py") == f"sent once more: {name}\n"
    assert project.minions("dead", "list") == "there are no dead letters\n"
    project.start(forever=False).wait(PATIENCE_S)
    assert project.minions("dead", "drop", "--of", "picky") == f"dropped: {name}\n"
    assert project.minions("dead", "list") == "there are no dead letters\n"


def test_a_program_acts_on_the_folder_that_was_asked_for_or_not_at_all(project: Project) -> None:
    project.start(forever=False).wait(PATIENCE_S)
    other = project.folder / "copy" / ".minions"
    other.mkdir(parents=True)
    for action in ("retry", "drop"):
        refused = project.minions("dead", action, "--of", "picky", "--folder", "copy", "--app", "app.py", code=1)
        assert f"app.py keeps its state in {project.folder / '.minions'}, not in copy/.minions" in refused
    assert len(project.json("dead", "list")["letters"]) == 1
    assert project.minions("dead", "drop", "--of", "picky", "--folder", ".", "--app", "app.py").startswith("dropped: ")


def test_a_name_of_which_there_are_no_dead_letters_is_said_with_those_of_which_there_are(project: Project) -> None:
    assert project.minions("dead", "list", "--folder", ".", "--of", "pikcy") == (
        "there are no dead letters of 'pikcy', and none of anything else\n"
    )
    project.start(forever=False).wait(PATIENCE_S)
    assert project.minions("dead", "list", "--of", "pikcy") == (
        "there are no dead letters of 'pikcy'; there are of picky.orders\n"
    )
    assert "there are no dead letters of 'pikcy'; there are of picky.orders" in project.minions(
        "dead", "show", "--of", "pikcy", code=1
    )
    assert project.json("dead", "list", "--of", "pikcy") == {"letters": []}


def test_events_of_a_folder_that_is_not_there_are_not_none(project: Project) -> None:
    said = project.minions("events", "--folder", "nowhere", code=3)
    assert "no system runs on nowhere, and nothing is kept there" in said


def test_events_are_followed_until_the_system_ends(project: Project) -> None:
    project.start()
    following = subprocess.Popen(
        [*MINIONS, "events", "--follow", "--last", "0", "--json"],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stdout is not None
    with contextlib.closing(following.stdout):
        seen: list[str] = []
        while "ComponentPaused" not in seen:  # until it listens
            project.minions("pause", "picky")
            project.minions("resume", "picky")
            seen.append(json.loads(following.stdout.readline())["event"])
        project.minions("stop")
        rest = [json.loads(line)["event"] for line in following.stdout]
    assert following.wait(PATIENCE_S) == 0
    assert rest != []


# Nothing runs


@pytest.mark.parametrize(
    "command",
    [
        *(
            (name,)
            for name in ("status", "top", "stacks", "start", "stop", "restart", "pause", "resume", "plugins", "graph")
        ),
        ("why", "picky"),
        ("events", "--follow"),
    ],
    ids=" ".join,
)
def test_a_command_says_that_nothing_runs_and_ends_with_3(project: Project, command: tuple[str, ...]) -> None:
    assert re.match(
        r"minions: there is no system in .* name it with --folder DIR\n$", project.minions(*command, code=3)
    )
    (project.folder / ".minions").mkdir()
    assert re.match(r"minions: no system runs on .*/\.minions\n$", project.minions(*command, code=3))


def test_a_component_that_is_not_there_ends_with_4(project: Project) -> None:
    project.start()
    for command in ("why", "stacks", "restart"):
        said = project.minions(command, "nobody", code=4)
        assert said == "minions: five has no component 'nobody'; it has orders, picky\n"
    assert "nothing is kept of a component 'nobody'" in project.minions("state", "show", "nobody", code=4)


def test_a_program_that_cannot_be_loaded_is_named_with_what_is_wrong(project: Project) -> None:
    assert "there is no file nothing.py" in project.minions("check", "nothing.py", code=1)
    assert "has no System called 'other'; it has system" in project.minions("check", "app.py:other", code=1)
    (project.folder / "empty.py").write_text("")
    assert "makes no System" in project.minions("run", "empty.py", code=1)
    (project.folder / "two.py").write_text("from minions import System\na, b = System('a'), System('b')\n")
    assert "two.py has a, b: say which, two.py:NAME" in project.minions("graph", "two.py", code=1)
    assert project.minions("graph", "two.py:b") == "b\n"
    assert "there is no component" in project.minions("check", "two.py:a", code=1)
    said = json.loads(
        subprocess.run(
            [*MINIONS, "check", "two.py:a", "--json"],
            cwd=project.folder,
            env=project.environment,
            capture_output=True,
            check=False,
        ).stdout
    )
    assert not said["ok"]


# Killed


def test_after_a_kill_the_next_start_takes_the_socket_over(project: Project) -> None:
    child = project.start()
    child.send_signal(signal.SIGKILL)
    child.wait(PATIENCE_S)
    assert (project.folder / ".minions/control.address").exists()
    assert "no system runs on" in project.minions("status", code=3)
    second = project.start()
    assert project.json("status")["pid"] == second.pid
    project.minions("stop")
    assert second.wait(PATIENCE_S) == 0
    assert not (project.folder / ".minions/run").exists()


def test_a_second_start_is_refused_and_leaves_the_socket_of_the_first_alone(project: Project) -> None:
    child = project.start()
    assert f"in use by process {child.pid}" in project.minions("run", "app.py", code=1)
    assert project.json("status")["pid"] == child.pid


def test_two_signals_in_a_row_leave_no_socket(project: Project) -> None:
    child = project.start(stuck=True)
    project.until(lambda status: component(status, "slow")["doing"])
    child.send_signal(signal.SIGTERM)
    child.wait(PATIENCE_S)
    assert not (project.folder / ".minions/run").exists()

"""The process always ends, whatever a component hangs in: in time, and with a code that says whether all was in order."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from minions.flow import rows
from minions.flow.folder_lock import FolderLock
from minions.flow.store import read_rows
from tests.system.conftest import Child, Launch

SLACK_S = 8.0
"""How much longer than its grace period an end may take on a busy machine; less than the ten seconds of the default grace."""

HANGS = """
import ctypes, fcntl, http.client, socket, sqlite3, subprocess, urllib.request
from contextlib import nullcontext
from pathlib import Path

class Hanging(Component):
    numbers = Inbox(Number)
    taken = State(list[int])

    def prepare(self):
        pass

    def on_start(self):
        self.prepare()

    @numbers.handler
    def take(self, number):
        self.taken.append(number.value)
        if number.value == 2 and len(self.taken) == 3 and not os.path.exists("RESUMED"):
            with self.blocking(*self.registered()) if self.registered() else nullcontext():
                say("hangs")
                self.hang()

    def registered(self):
        return ()

class TcpReceive(Hanging):
    def prepare(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.client = socket.create_connection(self.server.getsockname())

    def registered(self):
        return (self.client,)

    def hang(self):
        self.client.recv(1)
        raise ConnectionResetError

    def on_stop(self):
        self.client.close()
        self.server.close()

class Request(Hanging):
    def prepare(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.connection = http.client.HTTPConnection(*self.server.getsockname())

    def registered(self):
        return (self.connection,)

    def hang(self):
        self.connection.request("GET", "/")
        self.connection.getresponse()

    def on_stop(self):
        self.connection.close()
        self.server.close()

class PipeRead(Hanging):
    def prepare(self):
        self.reading, self.writing = os.pipe()

    def hang(self):
        os.read(self.reading, 1)
        raise EOFError

    def on_interrupt(self):
        os.write(self.writing, b"x")

class ChildProcess(Hanging):
    def prepare(self):
        self.process = subprocess.Popen(["sleep", "1000"], start_new_session=True)

    def registered(self):
        return (self.process,)

    def hang(self):
        say(str(self.process.wait()))
        raise ChildProcessError

    def on_stop(self):
        self.process.kill()
        self.process.wait()

class Query(Hanging):
    def prepare(self):
        self.connection = sqlite3.connect(":memory:", check_same_thread=False)
        self.connection.set_progress_handler(self.at_it, 100_000)

    def at_it(self):
        self.connection.set_progress_handler(None, 0)
        say("is at it")

    def registered(self):
        return (self.connection,)

    def hang(self):
        self.connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        ).fetchone()

    def on_stop(self):
        self.connection.close()

class Loop(Hanging):
    def hang(self):
        while True:
            pass

class Lock(Hanging):
    def hang(self):
        LOCK.acquire()

class FileLock(Hanging):
    def hang(self):
        with open(LOCKED) as file:
            fcntl.flock(file, fcntl.LOCK_EX)

class SleepInC(Hanging):
    def hang(self):
        ctypes.CDLL(None).sleep(1000)

LOCK = threading.Lock()
LOCK.acquire()
"""

RUN = """
system = System("test", stop_timeout_s={grace_s}{options})
numbers, hanging = system.add(Numbers(count=5)), system.add({kind}(), name="hanging"{component})
system.connect(numbers.out, hanging.numbers)
"""


def program(kind: str, grace_s: float, *, options: str = "", component: str = "") -> str:
    return HANGS + RUN.format(kind=kind, grace_s=grace_s, options=options, component=component)


def stored_state(folder: Path, component: str, state: str) -> bytes:
    [(key, body)] = read_rows(folder / ".minions", rows.STATES + component)
    return rows.states_of(key, body)[state]


def end_in_time(child: Child, grace_s: float) -> subprocess.CompletedProcess[str]:
    began_s = time.monotonic()
    ended = child.end()
    assert time.monotonic() - began_s < grace_s + SLACK_S
    return ended


# Woken, and all is in order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("kind", "grace_s", "component"),
    [
        ("TcpReceive", 2.0, ""),
        ("Request", 2.0, ""),
        ("PipeRead", 2.0, ""),
        ("ChildProcess", 2.0, ""),
        ("Query", 2.0, ""),
        ("Loop", 4.0, ", async_exception=True"),
    ],
)
def test_what_can_be_woken_ends_in_order_and_its_message_is_kept_for_the_next_start(
    launch: Launch, tmp_path: Path, number: signal.Signals, kind: str, grace_s: float, component: str
) -> None:
    child = launch(program(kind, grace_s, component=component) + "say(system.run())\n")
    child.wait_for("is at it" if kind == "Query" else "hangs")
    child.send(number)
    ended = end_in_time(child, grace_s)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == ("interrupted" if number is signal.SIGINT else "terminated")
    if kind == "ChildProcess":
        assert ended.stdout.splitlines()[0] == str(-signal.SIGTERM)
    assert "abandoned" not in ended.stderr
    assert re.search(r"stopped \((interrupted|terminated)\); 3 messages kept for the next start", ended.stderr)
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1]}")

    again = launch(program(kind, grace_s).replace('os.path.exists("RESUMED")', "True") + "say(system.run())\n")
    ended = again.end()
    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "finished"), ended.stderr
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1,2,3,4]}")


# Abandoned, and the process ends all the same -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["Lock", "FileLock", "SleepInC", "Loop"])
def test_what_cannot_be_woken_is_reported_with_its_stack_and_the_process_ends_with_70(
    launch: Launch, tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    locked = tmp_path / "locked"
    with locked.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        child = launch(program(kind, 1.0) + f"LOCKED = {str(locked)!r}\nsystem.run()\nsay('never said')\n")
        child.wait_for("hangs")
        child.send(number)
        ended = end_in_time(child, 1.0)

    assert ended.returncode == 70, ended.stderr
    assert ended.stdout == ""
    assert re.search(
        r"CRITICAL +minions\.test\.hanging: did not stop in time, its thread was abandoned here:", ended.stderr
    )
    assert re.search(r'script\.py", line \d+, in hang\n', ended.stderr)
    assert ended.stderr.endswith("test failed: hanging did not stop in time, its thread was abandoned\n")
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1]}")


def test_a_second_signal_ends_at_once_although_a_thread_hangs(launch: Launch, tmp_path: Path) -> None:
    child = launch(
        program("Lock", 1_000.0)
        + """
import minions.life.foreground as foreground
foreground._SAME_KEY_PRESS_S = 0.0

class Tells(Component):
    def run(self):
        while self.running:
            self.sleep(1e6)
        self.commit()  # what was handled before the other has hung
        say("asked")

system.add(Tells())
system.run()
"""
    )
    child.wait_for("hangs")
    child.send(signal.SIGINT)
    child.wait_for("asked")
    child.send(signal.SIGINT)
    ended = end_in_time(child, 0.0)
    assert ended.returncode == 128 + signal.SIGINT
    assert ended.stderr.endswith("test: SIGINT again, ended at once\n")
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1]}")


def test_many_hanging_threads_share_one_grace_period(launch: Launch) -> None:
    child = launch(
        program("Lock", 1.0)
        + """
class Hangs(Component):
    def run(self):
        say("hangs")
        LOCK.acquire()

for number in range(30):
    system.add(Hangs(), name=f"hangs{number}")
system.run()
"""
    )
    for _ in range(31):
        child.wait_for("hangs")
    child.send(signal.SIGTERM)
    ended = end_in_time(child, 1.0)
    assert ended.returncode == 70
    assert ended.stderr.count("its thread was abandoned (one of ") == 30


# Output that nobody reads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_pipe_does_not_keep_the_process_from_its_end(launch: Launch, stream: str) -> None:
    """What it prints goes into a pipe that is full and that nobody reads."""
    child = launch(
        program("Lock", 0.5)
        + f"""
reading, writing = os.pipe()
os.set_blocking(writing, False)
try:
    while True:
        os.write(writing, bytes(65536))
except BlockingIOError:
    os.set_blocking(writing, True)
OUTSIDE = os.dup(1)

def say(line):
    os.write(OUTSIDE, (line + "\\n").encode())

os.dup2(writing, {1 if stream == "stdout" else 2})
sys.stdout = open(1, "w", buffering=65536, closefd=False)
print("kept in a buffer")
system.run()
"""
    )
    child.wait_for("hangs")
    child.send(signal.SIGTERM)
    assert end_in_time(child, 0.5).returncode == 70


FULL_STANDARD_ERROR = """
reading, writing = os.pipe()
for size in (4096, 1):
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(size))
    except BlockingIOError:
        os.set_blocking(writing, True)
OUTSIDE = os.dup(1)
os.dup2(writing, 2)
"""
"""Standard error is a pipe that is full to its last byte; `OUTSIDE` is where the program says what it does."""


def test_a_full_standard_error_does_not_keep_a_process_from_its_end_that_was_stopped_in_order(launch: Launch) -> None:
    """Whoever logs hangs there, and Python would wait for it."""
    child = launch(
        """
class Waiting(Component):
    def run(self):
        os.write(OUTSIDE, b"up\\n")
        while self.running:
            self.sleep(60)

"""
        + FULL_STANDARD_ERROR
        + """
system.add(Waiting())
os.write(OUTSIDE, system.run().encode() + b"\\n")
"""
    )
    child.wait_for("up")
    child.send(signal.SIGTERM)
    child.wait_for("terminated")
    assert end_in_time(child, 2.0).returncode == 0


@pytest.mark.parametrize("caught", [False, True])
def test_a_full_standard_error_does_not_keep_a_process_from_its_end_of_which_the_system_has_failed(
    launch: Launch, caught: bool
) -> None:
    """What Python would print at the end hangs there too."""
    run = "system.run()"
    child = launch(
        """
class Failing(Component):
    def run(self):
        os.write(OUTSIDE, b"fails\\n")
        raise ValueError("bad")

"""
        + FULL_STANDARD_ERROR
        + """
system.add(Failing(), restart=Restart(failures=0))
"""
        + (f"try:\n    {run}\nexcept SystemExit:\n    os.write(OUTSIDE, b'goes on\\n')\n" if caught else f"{run}\n")
    )
    child.wait_for("fails")
    if caught:
        child.wait_for("goes on")
    assert end_in_time(child, 2.0).returncode == 1


def test_a_full_standard_error_does_not_keep_a_process_from_its_end_that_was_not_started(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / ".minions").mkdir()
    lock = FolderLock.acquire(tmp_path / ".minions")
    try:
        child = launch(
            """
class Keeping(Component):
    kept = State(int)

    def run(self) -> None: ...

"""
            + FULL_STANDARD_ERROR
            + """
os.write(OUTSIDE, b"starts\\n")
system.add(Keeping())
system.run()
"""
        )
        child.wait_for("starts")
        assert end_in_time(child, 2.0).returncode == 1
    finally:
        lock.release()


# Stalled --------------------------------------------------------------------------------------------------------------

WATCHED = ", watchdog=Watchdog(tick_s=0.05)"


def test_a_stall_that_is_to_stop_the_system_ends_the_process_with_1(launch: Launch, tmp_path: Path) -> None:
    component = ', stall_after_s=0.3, on_stall="stop"'
    child = launch(program("PipeRead", 2.0, options=WATCHED, component=component) + "system.run()\nsay('never said')\n")
    ended = end_in_time(child, 2.0)
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == "hangs\n"
    assert re.search(
        r"test failed: hanging makes no progress: hanging \(life 1\) has made no progress for \d\.\d s in handling take with "
        r"message hanging\.numbers.+-3: it waits for pipe.+ \(in read\), at File \".+script\.py\", line \d+, in hang\.\n$",
        ended.stderr,
    ), ended.stderr
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1]}")


@pytest.mark.parametrize(("kind", "code"), [("PipeRead", 0), ("Lock", 70)])
def test_a_stall_that_is_to_restart_the_component_loses_nothing(
    launch: Launch, tmp_path: Path, kind: str, code: int
) -> None:
    component = ', stall_after_s=0.3, on_stall="restart"'
    again = 'os.path.exists("RESUMED")', "self._minions.fence.epoch > 1"
    child = launch(program(kind, 1.0, options=WATCHED, component=component).replace(*again) + "system.run()\n")
    ended = child.end()
    assert ended.returncode == code, ended.stderr
    assert stored_state(tmp_path, "hanging", "taken").endswith(b"[0,1,2,3,4]}")
    if code:
        assert ended.stderr.endswith("test failed: hanging: a thread that was abandoned is still alive\n")


def test_too_many_zombies_stop_the_system_and_that_is_said(launch: Launch) -> None:
    child = launch(
        HANGS
        + """
class Hangs(Component):
    def run(self):
        LOCK.acquire()

system = System("test", stop_timeout_s=0.2, max_zombies=2, watchdog=Watchdog(tick_s=0.05))
system.add(Hangs(), stall_after_s=0.1, on_stall="restart")
system.run()
"""
    )
    ended = child.end()
    assert ended.returncode == 70
    assert "its thread was abandoned (one of 3 that are alive) here:" in ended.stderr
    assert "test failed: 3 threads that could not be ended are alive, and 2 may be (most_zombies)" in ended.stderr


# Embedded -------------------------------------------------------------------------------------------------------------


def test_embedded_it_raises_and_leaves_the_program_as_it_was(launch: Launch) -> None:
    child = launch(
        program("Lock", 0.5)
        + """
def mine(number, frame):
    say("mine")

signal.signal(signal.SIGTERM, mine)
before = [signal.getsignal(number) for number in signal.valid_signals()]
hangs = threading.Event()
tell, say_before = say, say

def say(line):
    tell(line)
    if line == "hangs":
        hangs.set()

try:
    with system.started():
        hangs.wait()
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before
        assert signal.set_wakeup_fd(-1) == -1
except SystemFailed as error:
    say(str(error))
assert [signal.getsignal(number) for number in signal.valid_signals()] == before
os.kill(os.getpid(), signal.SIGTERM)
say("alive")
LOCK.release()  # the zombie wakes, and ends
for thread in threading.enumerate():
    if thread.name == "test/hanging":
        thread.join()
say(str(any("hanging" in thread.name for thread in threading.enumerate())))
say(str(hanging.taken))
"""
    )
    ended = end_in_time(child, 0.5)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "hangs",
        "test failed: hanging did not stop in time, its thread was abandoned",
        "mine",
        "alive",
        "False",
        "[0, 1]",
    ]


def test_embedded_a_program_with_a_zombie_ends_as_it_likes(launch: Launch) -> None:
    child = launch(
        program("SleepInC", 0.5)
        + """
import atexit
atexit.register(say, "at the end")
tell, hangs = say, threading.Event()

def say(line):
    tell(line)
    hangs.set()

try:
    with system.started():
        hangs.wait()
except SystemFailed:
    sys.exit(7)
"""
    )
    ended = end_in_time(child, 0.5)
    assert (ended.returncode, ended.stdout) == (7, "hangs\nat the end\n"), ended.stderr

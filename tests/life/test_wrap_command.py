"""A child process that `wrap.command` has made a source: its lines are messages, and it ends with its component.

The processes are real, and know no other time than the real one.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from minions import (
    Restart,
    System,
    events,
    wrap,
)
from minions.model import wrapped_command
from minions.testing import FakeClock
from tests.life.conftest import PATIENCE_S, Gate, Log, Running, Start
from tests.life.wrapping import AT_ONCE, STOP_TIMEOUT_S, Reading, kept, stop_begins, stopped_in_order, wait_for_thread

# ---------------------------------------------------------------------- commands


@pytest.fixture(params=["pidfd", "no pidfd"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a descriptor for the end of a process."""
    if request.param == "no pidfd":

        def refuse(pid: int) -> int:
            raise OSError("Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", refuse)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Neither a child, nor a zombie, nor a guard."""
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) - before == set()


_pidfd_open = getattr(os, "pidfd_open", None)


@contextmanager
def watched(pid: int) -> Iterator[Callable[[], bool]]:
    """Tells of a process, which may be no child, whether it ends; blocks for that."""
    assert _pidfd_open is not None
    descriptor = _pidfd_open(pid)

    def ends() -> bool:
        return bool(select.select([descriptor], [], [], PATIENCE_S)[0])

    try:
        yield ends
    finally:
        os.close(descriptor)


def shell(script: str, *arguments: Any, **options: Any) -> wrap.Command[Any]:
    command: wrap.Command[Any] = wrap.command(["sh", "-c", script], *arguments, **options)
    return command


def run_command(system: System, start: Start, command: wrap.Command[Any], kind: Any = str) -> tuple[Running, list[Any]]:
    """To its end, in one life."""
    source = system.add(command, name="child", restart=Restart(failures=0))
    log = kept(system, source, kind)
    run = start(system, forever=False)
    run.ended()
    return run, log.entries


def failure(run: Running) -> events.ComponentFailed:
    [failed] = run.all(events.ComponentFailed)
    return failed


@pytest.mark.usefixtures("kernel")
def test_each_line_is_a_message(system: System, start: Start) -> None:
    run, lines = run_command(system, start, shell(r"printf 'one\r\n\ntwo\tä\nthree'"))
    assert lines == ["one", "", "two\tä", "three"]
    assert run.all(events.ComponentFailed) == []


def test_a_line_may_come_in_pieces_and_many_at_once() -> None:
    text = b"one\n\ntwo\r\nthree\n" * 3 + b"rest"
    for size in range(1, len(text) + 1):
        lines = wrapped_command._Lines()
        found: list[bytes] = []
        for at in range(0, len(text), size):
            lines.feed(text[at : at + size])
            found += lines.take()
        ended = [lines.has_ended]
        assert lines.rest_bytes == 4
        lines.feed(b"")
        assert [*ended, lines.has_ended] == [False, True]
        assert found == [b"one", b"", b"two", b"three"] * 3
        lines.finish()
        lines.finish()
        assert lines.take() == [b"rest"]
        assert lines.rest_bytes == 0


def test_a_long_output_arrives_whole(system: System, start: Start) -> None:
    _, lines = run_command(system, start, shell("seq 1 30000; seq 1 5 >&2"))
    assert lines == [str(number) for number in range(1, 30_001)]


def test_a_line_of_a_class_is_json(system: System, start: Start) -> None:
    _, readings = run_command(
        system, start, shell("""echo '{"celsius": 21.5}'; echo '{"celsius":-3}'""", Reading), Reading
    )
    assert readings == [Reading(21.5), Reading(-3.0)]


def test_a_line_of_bytes_is_left_alone(system: System, start: Start) -> None:
    _, lines = run_command(system, start, shell(r"printf '\377\n'", bytes), bytes)
    assert lines == [b"\xff"]


def test_a_parser_makes_the_message_and_leaves_out_what_it_does_not_want(system: System, start: Start) -> None:
    def parse(line: str) -> Reading | None:
        return None if line.startswith("#") else Reading(float(line))

    _, readings = run_command(
        system, start, shell("echo '# C'; echo 3; echo '#'; echo 4", Reading, parse=parse), Reading
    )
    assert readings == [Reading(3.0), Reading(4.0)]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("script", "arguments", "options", "error"),
    [
        (
            r"echo a; printf '\377\376\n'; exec sleep 1000",
            (str,),
            {},
            r"line 2 of sh is no str: b'\xff\xfe': UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0",
        ),
        (
            'echo \'{"celsius": "hot"}\'; exec sleep 1000',
            (Reading,),
            {},
            'line 1 of sh is no Reading: b\'{"celsius": "hot"}\': CannotDecode: Reading.celsius: ',
        ),
        (
            "echo 1; echo x; exec sleep 1000",
            (Reading,),
            {"parse": lambda line: Reading(float(line))},
            "line 2 of sh is no Reading: b'x': ValueError: could not convert string to float: 'x'",
        ),
    ],
)
def test_a_line_that_is_no_message_is_a_failure_that_says_which_and_ends_the_process(
    system: System, start: Start, script: str, arguments: Any, options: Any, error: str
) -> None:
    run, _ = run_command(system, start, shell(script, *arguments, **options), arguments[0])
    assert failure(run).error.startswith(error)


def test_what_is_not_in_the_encoding_may_be_replaced(system: System, start: Start) -> None:
    _, lines = run_command(system, start, shell(r"printf 'a\377\n'", str, errors="replace"))
    assert lines == ["a\ufffd"]


def test_json_may_come_in_another_encoding(system: System, start: Start) -> None:
    command = shell(r"""printf '["\344"]\n'""", list[str], encoding="latin-1")
    _, lines = run_command(system, start, command, list[str])
    assert lines == [["ä"]]


def test_a_long_bad_line_is_shown_in_part() -> None:
    assert wrapped_command._shown(b"x" * 81) == f"b'{'x' * 80}'..."
    assert wrapped_command._shown(b"x" * 80) == f"b'{'x' * 80}'"


def test_an_output_without_lines_is_refused_before_it_fills_the_memory(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapped_command, "MOST_BYTES_A_LINE", 2 << 20)
    run, lines = run_command(system, start, shell("exec cat /dev/zero"))
    assert failure(run).error == (
        "sh has written more than 2 MiB without an end of line: its output is no text of lines"
    )
    assert lines == []


def test_its_stderr_goes_to_the_log(system: System, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "minions.test.child")
    run_command(system, start, shell(r"printf 'hm\n\377' >&2"))
    assert [record.getMessage() for record in caplog.records if record.name == "minions.test.child"] == [
        "stderr: hm",
        r"stderr: \xff",
    ]


def test_a_long_line_of_stderr_is_logged_in_pieces(
    system: System, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minions.test.child")
    run_command(system, start, shell("head -c 300000 /dev/zero | tr '\\0' x >&2"))
    pieces = [
        record.getMessage().removeprefix("stderr: ") for record in caplog.records if "stderr" in record.getMessage()
    ]
    assert "".join(pieces) == "x" * 300_000
    assert max(map(len, pieces)) <= (8 << 10) + (64 << 10)


@pytest.mark.usefixtures("kernel")
def test_another_exit_code_is_a_failure_with_the_end_of_stderr(system: System, start: Start) -> None:
    run, lines = run_command(system, start, shell("echo one; printf half; echo 'no such device' >&2; exit 3"))
    failed = failure(run)
    assert failed.error == (
        "CalledProcessError: Command '['sh', '-c', \"echo one; printf half; echo 'no such device' >&2; exit 3\"]' "
        "returned non-zero exit status 3."
    )
    assert failed.traceback.endswith("the end of its stderr:\nno such device\n")
    assert lines == ["one"]


def test_only_the_end_of_a_long_stderr_is_kept(system: System, start: Start) -> None:
    run, _ = run_command(system, start, shell("seq 1 100 >&2; exit 1"))
    assert failure(run).traceback.endswith("stderr:\n" + "".join(f"{number}\n" for number in range(91, 101)))


def test_it_is_restarted_as_any_other(system: System, start: Start, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/lives; test $(wc -l < {tmp_path}/lives) = 3"
    source = system.add(shell(script), name="child", restart=AT_ONCE)
    kept(system, source, str)
    run = start(system, forever=False)
    assert run.ended().problems == ()
    assert len(run.all(events.ComponentFailed)) == 2


def test_a_program_that_is_not_there_is_a_failure(system: System, start: Start) -> None:
    run, _ = run_command(system, start, wrap.command(["no-such-program", "-x"]))
    assert failure(run).error == "FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program'"


def test_nothing_is_left_of_one_that_cannot_be_waited_for(
    system: System, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    run, lines = run_command(system, start, shell("echo one; exec sleep 1000"))
    assert "Too many open files" in failure(run).error
    assert lines == []


def test_it_runs_where_and_with_what_it_was_told(
    system: System, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPE", "round")
    command = shell("pwd; echo $SHAPE $COLOUR; cat", str, cwd=tmp_path, environment={"COLOUR": "blue"})
    _, lines = run_command(system, start, command)
    assert lines == [str(tmp_path.resolve()), "round blue"]


POLITE = """
import signal, sys
def end(*_):
    print("bye")
    print("half", end="", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.usefixtures("kernel")
def test_a_stop_ends_it_at_once_and_its_last_words_are_sent(system: System, start: Start) -> None:
    """No time passes: nobody waits for the supervisor's patience."""
    source = system.add(wrap.command([sys.executable, "-S", "-c", POLITE]), name="child")
    log = kept(system, source, str)
    run = start(system, clock=FakeClock())
    log.wait_for_count(1)
    run.runtime.stop("stopped")
    stopped_in_order(run)
    assert log.entries == ["ready", "bye"]


@pytest.mark.usefixtures("kernel")
def test_one_that_does_not_listen_is_killed(system: System, start: Start) -> None:
    source = system.add(shell("trap '' TERM; echo $$; while :; do sleep 1000; done", kill_after_s=0.1), name="child")
    log = kept(system, source, str)
    run = start(system, clock=FakeClock())
    [pid] = log.wait_for_count(1)
    with watched(int(pid)) as ends:
        run.runtime.stop("stopped")
        stopped_in_order(run)
        assert ends()


def test_the_ladder_kills_one_that_would_take_too_long(system: System, start: Start) -> None:
    clock = FakeClock()
    source = system.add(shell("trap '' TERM; echo $$; while :; do sleep 1000; done", kill_after_s=1000.0), name="child")
    log = kept(system, source, str)
    run = start(system, clock=clock, stop_timeout_s=STOP_TIMEOUT_S)
    log.wait_for_count(1)
    stop_begins(run)
    for _ in range(4):
        clock.advance(0.2 * STOP_TIMEOUT_S)
        run.reach()
    stopped_in_order(run)


STUBBORN = """
trap "" TERM
sh -c 'echo $$; exec >&- 2>&-; while :; do sleep 1000; done' &
read go < go
"""


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("how", ["stopped", "finished", "failed"])
def test_what_it_has_started_is_ended_with_it(system: System, start: Start, tmp_path: Path, how: str) -> None:
    """Also where that does not listen to SIGTERM."""
    os.mkfifo(tmp_path / "go")
    source = system.add(
        shell(STUBBORN + "exit $go", cwd=tmp_path, kill_after_s=0.1), name="child", restart=Restart(failures=0)
    )
    log = kept(system, source, str)
    run = start(system, forever=False)
    [pid] = log.wait_for_count(1)
    with watched(int(pid)) as ends:
        if how == "stopped":
            run.runtime.stop("stopped")
        else:
            (tmp_path / "go").write_text("0\n" if how == "finished" else "3\n")
        run.ended()
        assert ends()
    assert len(run.all(events.ComponentFailed)) == (how == "failed")


TALKATIVE = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
print(os.getpid(), flush=True)
print(*range(100_000), sep="\\n")
"""


@pytest.mark.usefixtures("kernel")
def test_what_it_wrote_last_is_sent_also_where_it_has_ended_long_before(system: System, start: Start) -> None:
    gate, pids = Gate(), Log()

    def parse(line: str) -> str | None:
        if pids.entries:
            return line if line == "99999" else None
        pids.add(int(line))
        gate.pass_through()
        return None

    source = system.add(wrap.command([sys.executable, "-S", "-c", TALKATIVE], str, parse=parse), name="child")
    log = kept(system, source, str)
    run = start(system, forever=False)
    gate.wait_reached()
    with watched(pids.entries[0]) as ends:
        assert ends()
        gate.open()
        stopped_in_order(run)
    assert log.entries == ["99999"]


def test_a_guard_harms_nobody_who_is_there_when_all_is_well() -> None:
    """By then the number of the group may be somebody else's."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        with wrapped_command._Guard(logging.getLogger("test")) as guard:
            guard.watch(process.pid)
        assert process.poll() is None
        process.kill()
        assert process.wait() == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="else the end of the output is its end")
def test_it_is_over_when_the_program_has_exited_whoever_holds_the_pipe(system: System, start: Start) -> None:
    run, lines = run_command(system, start, shell("sleep 1000 & echo one"))
    assert lines == ["one"]
    assert run.all(events.ComponentFailed) == []


@pytest.mark.usefixtures("kernel")
def test_a_closed_output_is_not_its_end(system: System, start: Start) -> None:
    run, lines = run_command(system, start, shell("echo one; exec >&-; read x < /dev/null; sleep 0.1; exit 4"))
    assert lines == ["one"]
    assert failure(run).error.endswith("exit status 4.")


def test_it_waits_while_an_inbox_is_full(system: System, start: Start) -> None:
    gate = Gate()
    source = system.add(wrap.command(["yes", "x" * 1000]), name="child")
    handled: list[str] = []

    def handle(line: str) -> None:
        gate.pass_through()
        handled.append(line)

    system.connect(source.out, system.add(wrap.function(handle, str, capacity=2), name="sink").inbox)
    run = start(system, watched=True)
    gate.wait_reached()
    wait_for_thread(run, "child", "room in sink.inbox")
    stop_begins(run)
    gate.open()
    stopped_in_order(run)
    assert 2 <= len(handled) <= 2 + 3 * (64 << 10)
    assert set(handled) == {"x" * 1000}


def test_one_that_nobody_can_guard_runs_all_the_same_and_says_so(
    system: System, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapped_command, "_SHELL", "/no/such/shell")
    _, lines = run_command(system, start, shell("echo one"))
    assert lines == ["one"]
    [warned] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == (
        "if this process is killed, what it has started will go on: there is no guard: "
        "[Errno 2] No such file or directory: '/no/such/shell'"
    )


def test_a_guard_that_was_killed_is_not_missed(system: System, start: Start) -> None:
    source = system.add(shell("echo $$; exec sleep 1000"), name="child")
    log = kept(system, source, str)
    run = start(system, clock=FakeClock())
    [pid] = log.wait_for_count(1)
    [guard] = [child for child in psutil.Process().children() if child.pid != int(pid)]
    guard.kill()
    with watched(guard.pid) as ends:
        assert ends()
    run.runtime.stop("stopped")
    stopped_in_order(run)


def test_a_doorbell_is_heard_also_when_it_was_rung_before_and_forgets(keep: ExitStack) -> None:
    doorbell = keep.enter_context(wrapped_command._Doorbell())
    for _ in range(100_000):  # more than a pipe holds
        doorbell.unpark()
    doorbell.park(PATIENCE_S)
    while select.select([doorbell], [], [], 0)[0]:
        doorbell.answer()
    doorbell.answer()
    began_s = time.monotonic()
    doorbell.park(0.05)
    assert time.monotonic() - began_s >= 0.05
    descriptor = doorbell._writing
    keep.close()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb") as late, os.fdopen(writing, "wb"):
        assert descriptor in (reading, writing)
        doorbell.unpark()
        assert late.read(1) is None


def test_a_signal_from_elsewhere_is_a_failure_and_it_comes_back(system: System, start: Start) -> None:
    source = system.add(shell("echo $$; exec sleep 1000"), name="child", restart=AT_ONCE)
    log = kept(system, source, str)
    run = start(system)
    [pid] = log.wait_for_count(1)
    os.kill(int(pid), signal.SIGKILL)
    log.wait_for_count(2)
    run.wait_for(events.ComponentFailed)
    assert failure(run).error.endswith("died with <Signals.SIGKILL: 9>.")
    run.stop()


def test_a_python_program_can_be_a_command(system: System, start: Start) -> None:
    _, lines = run_command(system, start, wrap.command([sys.executable, "-S", "-c", "for n in range(3): print(n)"]))
    assert lines == ["0", "1", "2"]

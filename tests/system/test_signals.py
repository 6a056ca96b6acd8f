"""A system in the foreground of a process of its own: Ctrl-C, SIGTERM, threads that do not end, kills, and what is printed."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from minions.flow import rows
from minions.flow.store import read_rows
from tests.system.conftest import Launch

SOURCE = """
    class Endless(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self):
            while self.running:
                with self.unit():
                    self.sent += 1
                    self.out.send(Number(self.sent))
                if self.sent == 100:
                    say("at work")

        def on_stop(self):
            say("closed")

    endless = system.add(Endless())
    kept = system.add(Kept())
    system.connect(endless.out, kept.numbers)
"""

STUCK = """
    others_are_done, is_stuck = threading.Event(), threading.Event()

    class Stuck(Component):
        done = State(int)

        def run(self):
            others_are_done.wait()
            self.done = 1
            self.commit()
            say("stuck")
            is_stuck.set()
            block()
"""

LOG_LINE = r"\d\d:\d\d:\d\d {} +{}: {}\n"


def stored_state(folder: Path, component: str, state: str) -> bytes:
    [(key, body)] = read_rows(folder / ".minions", rows.STATES + component)
    return rows.states_of(key, body)[state]


def lines_of(level: str, logger: str, *texts: str) -> str:
    return "".join(LOG_LINE.format(level, logger, text) for text in texts)


# Stopping in order ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_one_signal_stops_in_order_with_everything_drained(
    launch: Launch, tmp_path: Path, number: signal.Signals, reason: str
) -> None:
    child = launch(
        SOURCE
        + """
    say(system.run())
    say(str(kept.values == list(range(1, endless.sent + 1)) and endless.sent >= 100))
    """
    )
    child.wait_for("at work")
    child.send(number)
    ended = child.end()

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"closed\n{reason}\nTrue\n"
    assert re.fullmatch(
        lines_of("INFO", "minions.test", "started: 2 components", rf"stopped \({reason}\)"), ended.stderr
    ), ended.stderr


def test_a_second_signal_ends_at_once_and_the_next_start_goes_on_exactly(launch: Launch, tmp_path: Path) -> None:
    resumable = """
    import minions.life.foreground as foreground
    foreground._SAME_KEY_PRESS_S = 0.0
    HANG = {hang}

    class Slow(Kept):
        def on_start(self):
            self.handled = 0

        def on_stop(self):
            say("stopping")

    class Held(Numbers):
        def on_stop(self):
            if HANG:
                self.commit()  # so that there is something to resume from
                say("asked")
                block()

    numbers = system.add(Held(count=300))
    kept = system.add(Slow())
    system.connect(numbers.out, kept.numbers)
    """
    child = launch(resumable.format(hang=True) + "\n    system.run()\n")
    child.wait_for("asked")
    child.send(signal.SIGINT)
    child.send(signal.SIGTERM)
    ended = child.end()
    assert ended.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM), "whichever the kernel gave second"
    assert re.search(r"test: SIG(INT|TERM) again, ended at once\n$", ended.stderr), ended.stderr

    again = launch(
        resumable.format(hang=False) + "\n    say(system.run())\n    say(str(kept.values == list(range(300))))\n"
    )
    ended = again.end()
    assert (ended.returncode, ended.stdout) == (0, "stopping\nfinished\nTrue\n"), ended.stderr
    assert re.search(lines_of("INFO", "minions.test", r"resumes from /.+: [\d,]+ messages? waiting"), ended.stderr)


def test_an_interrupt_breaks_a_read_that_blocks(launch: Launch) -> None:
    child = launch("""
    class Reader(Component):
        closed = State(bool)

        def on_start(self):
            self.reading, self.writing = os.pipe()

        def run(self):
            say("reading")
            assert os.read(self.reading, 1) == b""

        def on_interrupt(self):
            os.close(self.writing)

        def on_stop(self):
            os.close(self.reading)
            self.closed = True

    reader = system.add(Reader())
    system._settings = attrs.evolve(system._settings, stop_timeout_s=5.0)
    say(system.run())
    say(str(reader.closed))
    """)
    child.wait_for("reading")
    child.send(signal.SIGINT)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "interrupted\nTrue\n"), ended.stderr


# What does not stop ---------------------------------------------------------------------------------------------------


def test_a_thread_that_does_not_end_is_reported_with_its_stack_and_the_process_ends(
    launch: Launch, tmp_path: Path
) -> None:
    child = launch(
        STUCK
        + """
    system = System("test", stop_timeout_s=0.5)
    class Telling(Kept):
        def keep(self, number):
            super().keep(number)
            if number.value == 4:
                others_are_done.set()

    system.add(Stuck())
    numbers, kept = system.add(Numbers(count=5)), system.add(Telling(), name="kept")
    system.connect(numbers.out, kept.numbers)
    system.run()
    say("never said")
    """
    )
    child.wait_for("stuck")
    child.send(signal.SIGTERM)
    ended = child.end()

    assert ended.returncode == 70
    assert "never said" not in ended.stdout
    assert re.search(
        LOG_LINE.format("CRITICAL", r"minions\.test\.stuck", "did not stop in time, its thread was abandoned here:"),
        ended.stderr,
    ), ended.stderr
    assert "os.read(BLOCKED, 1)  # nothing is ever written" in ended.stderr
    assert ended.stderr.endswith("test failed: stuck did not stop in time, its thread was abandoned\n")
    assert stored_state(tmp_path, "kept", "values").endswith(b"[0,1,2,3,4]}")
    assert stored_state(tmp_path, "stuck", "done").endswith(b":1}")


def test_an_embedded_system_reports_it_as_an_error_and_the_process_lives_on(launch: Launch) -> None:
    child = launch(
        STUCK
        + """
    others_are_done.set()
    system = System("test", stop_timeout_s=0.2)
    system.add(Stuck())
    try:
        with system.started():
            is_stuck.wait()
    except SystemFailed as error:
        say(str(error))
    os._exit(0)
    """
    )
    ended = child.end()
    assert ended.returncode == 0
    assert ended.stdout == "stuck\ntest failed: stuck did not stop in time, its thread was abandoned\n"


def test_sigusr1_prints_the_stacks_and_nothing_stops(launch: Launch) -> None:
    child = launch("""
    class Waiting(Component):
        def run(self):
            say("waiting")
            self.sleep(1e6)

    system.add(Waiting())
    say(system.run())
    """)
    child.wait_for("waiting")
    child.send(signal.SIGUSR1)
    child.send(signal.SIGINT)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "interrupted\n")
    assert "Current thread" in ended.stderr
    assert re.search(r'script\.py", line \d+ in run', ended.stderr), ended.stderr


def test_stacks_are_printed_again_and_again_while_everybody_works(launch: Launch) -> None:
    child = launch(SOURCE + "    say(system.run())")
    child.wait_for("at work")
    for _ in range(200):  # a look at what runs that very moment would bring it down after some 30 to 100
        child.send(signal.SIGUSR1)
        child.wait_for_error("Current thread")
    child.send(signal.SIGINT)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "closed\ninterrupted\n"), ended.stderr


# Failing --------------------------------------------------------------------------------------------------------------


def test_a_component_that_fails_too_often_ends_the_process_with_1(launch: Launch) -> None:
    child = launch("""
    class Failing(Component):
        def run(self):
            raise ConnectionError("no route")

    system.add(Failing(), restart=Restart(failures=1, backoff=Backoff(initial_s=0.0)))
    system.run()
    say("never said")
    """)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith("test failed: failing failed in run: ConnectionError: no route\n")
    assert re.search(
        LOG_LINE.format("ERROR", r"minions\.test\.failing", r"failed in run; .*: ConnectionError: no route"),
        ended.stderr,
    ), ended.stderr
    assert ended.stderr.count("Traceback (most recent call last):") == 2, "one for each failure, none of our own"


def test_a_second_process_on_the_same_folder_is_refused_in_one_sentence(launch: Launch, tmp_path: Path) -> None:
    code = (
        SOURCE
        + """
    try:
        system.run()
    except StoreError as error:
        sys.exit(str(error))
    """
    )
    first = launch(code)
    first.wait_for("at work")
    refused = launch(code).end()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert len(refused.stderr.splitlines()) == 1
    assert f"in use by process {first.pid}" in refused.stderr
    first.send(signal.SIGINT)
    assert first.end().returncode == 0


# Kills ----------------------------------------------------------------------------------------------------------------


def test_what_was_before_a_commit_is_there_after_a_kill(launch: Launch, tmp_path: Path) -> None:
    child = launch("""
    class Sending(Component):
        out = Outbox(Number)
        sent = State(int)

        def run(self):
            for value in range(50):
                with self.unit():
                    self.out.send(Number(value))
                    self.sent += 1
            self.commit()
            os.kill(os.getpid(), signal.SIGKILL)

    class Slow(Component):
        numbers = Inbox(Number)
        handled = State(int)

        @numbers.handler
        def handle(self, number):
            self.handled += 1
            if number.value == 10:
                threading.Event().wait()

    sending, slow = system.add(Sending()), system.add(Slow())
    system.connect(sending.out, slow.numbers)
    system.run()
    """)
    assert child.end().returncode == -signal.SIGKILL
    assert stored_state(tmp_path, "sending", "sent").endswith(b":50}")
    [(key, body)] = list(read_rows(tmp_path / ".minions", rows.ACKS))
    settled, above = rows.acks_of(key, body)[:2]
    assert above == ()
    stored = [
        number for key, body in read_rows(tmp_path / ".minions", rows.CHANNELS) for number, _ in messages(key, body)
    ]
    assert [number for number in stored if number > settled] == list(range(settled + 1, 51))


def messages(key: str, body: bytes) -> list[tuple[int, bytes]]:
    return list(rows.messages_of(key, body)[-1])


# What is printed ------------------------------------------------------------------------------------------------------


def test_by_default_one_line_for_the_start_one_for_the_stop_and_warnings_are_printed(launch: Launch) -> None:
    child = launch("""
    class Chatty(Numbers):
        def on_start(self):
            self.log.debug("hidden")
            self.log.info("hidden as well")
            self.log.warning("the disk is old")

    numbers, kept = system.add(Chatty(count=3)), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    say(system.run())
    """)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "finished\n")
    pattern = lines_of("WARNING", "minions.test.chatty", "the disk is old") + lines_of(
        "INFO", "minions.test", "started: 2 components", r"stopped \(finished\)"
    )
    assert re.fullmatch(pattern, ended.stderr), ended.stderr


def test_a_program_that_sets_up_logging_itself_is_left_alone(launch: Launch) -> None:
    child = launch("""
    logging.basicConfig(level=logging.ERROR, format="mine %(levelname)s %(message)s")
    numbers, kept = system.add(Numbers(count=3)), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    say(system.run())
    logging.getLogger("minions").error("after")
    """)
    ended = child.end()
    assert (ended.stdout, ended.stderr) == ("finished\n", "mine ERROR after\n")


def test_what_run_sets_up_it_takes_down_again(launch: Launch) -> None:
    child = launch("""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    numbers, kept = system.add(Numbers(count=3)), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    system.run()
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert logging.getLogger("minions").handlers == []
    assert logging.getLogger("minions").level == logging.NOTSET
    left = set(threading.enumerate()) - {threading.main_thread()}
    for thread in left:
        thread.join(10)
    say(str(not any(thread.is_alive() for thread in left)))
    """)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr


def test_signals_that_a_shell_has_set_aside_stay_so(launch: Launch) -> None:
    child = launch("""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    class Signalled(Component):
        def run(self):
            os.kill(os.getpid(), signal.SIGINT)
            say("still here")

    system.add(Signalled())
    say(system.run())
    """)
    ended = child.end()
    assert (ended.returncode, ended.stdout) == (0, "still here\nfinished\n"), ended.stderr


def test_a_forked_child_may_be_terminated_without_its_parent_hearing_of_it(launch: Launch) -> None:
    child = launch("""
    import multiprocessing, warnings
    warnings.simplefilter("ignore")  # what Python 3.12 says of forks beside threads

    class Forking(Kept):
        def on_start(self):
            forks = multiprocessing.get_context("fork")
            up = forks.Event()

            def child():
                up.set()
                block()

            process = forks.Process(target=child)
            process.start()
            up.wait(20)
            process.terminate()
            process.join(20)
            say(f"the child ended with {process.exitcode}")

    numbers = system.add(Numbers(count=3))
    kept = system.add(Forking())
    system.connect(numbers.out, kept.numbers)
    if __name__ == "__main__":
        say(system.run())
    """)
    ended = child.end()
    assert ended.stdout == f"the child ended with {-signal.SIGTERM}\nfinished\n", ended.stderr


def test_ctrl_c_is_heard_while_the_store_is_being_opened(launch: Launch) -> None:
    child = launch("""
    from minions.flow.store import Store

    def hang(*arguments, **options):
        say("opening")
        block()

    Store.open = hang
    import minions.life.foreground as foreground
    foreground._SAME_KEY_PRESS_S = 0.0
    system.add(Kept())
    numbers = system.add(Numbers(count=3))
    system.connect(numbers.out, system._topology.nodes[0].blueprint.numbers)
    if __name__ == "__main__":
        system.run()
    """)
    child.wait_for("opening")
    child.send(signal.SIGINT)
    child.send(signal.SIGTERM)
    ended = child.end()
    assert ended.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM), ended.stderr

"""A component that leaks inside a real memory limit: the system does in order what the kernel would do without."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Launch

LIMIT_BYTES = 160 * 1024 * 1024

SYSTEM = """
class Source(Component):
    sends: bool
    out = Outbox(Number)
    sent = State(int)

    def run(self):
        while self.running and self.sends:
            with self.unit():
                self.sent += 1
                self.out.send(Number(self.sent))

class Leaky(Component):
    leaks: bool
    numbers = Inbox(Number, capacity=100, rate=Rate(300, per_s=1.0))  # 30 MB/s: from the mark to the limit is over a second
    handled = State(int)

    def on_start(self):
        self.leak = []

    @numbers.handler
    def take(self, number):
        self.handled += 1
        assert number.value == self.handled, "in order, each once"
        if self.leaks:
            self.leak.append(os.urandom(1_000) * 100)

class Told:
    @hookspecs.hookimpl
    def component_paused(self, event):
        say("paused by " + event.by)

def wired(watchdog, works):
    system = System("test", watchdog=watchdog)
    source, leaky = system.add(Source(sends=works)), system.add(Leaky(leaks=works))
    system.connect(source.out, leaky.numbers)
    system.plugins.register(Told())
    return system, source, leaky
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with a limit, which a process joins by writing its number to ``cgroup.procs``."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    path = Path("/sys/fs/cgroup", "" if unified else "memory", f"minions-{uuid.uuid4().hex}")
    try:
        path.mkdir()
        (path / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(LIMIT_BYTES))
    except OSError as error:
        pytest.skip(
            f"no control group can be made here ({error}): run the tests as root, or in a container of their own"
        )
    yield path
    path.rmdir()


def leaking(group: Path, then: str) -> str:
    return f"""
from minions import Rate, hookspecs
open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))  # from here on the limit holds
{SYSTEM}
limit = MemoryLimit(over_ratio=0.7, for_s=0.0, then={then!r})
system, source, leaky = wired(Watchdog(tick_s=0.02, memory=limit), True)
system.run()
"""


AFTERWARDS = f"""
from minions import Rate, hookspecs
{SYSTEM}
system, source, leaky = wired(Watchdog(), False)
system.run()
say("nothing is lost" if 100 < source.sent == leaky.handled else f"sent {{source.sent}}, handled {{leaky.handled}}")
"""


def test_the_system_stops_in_order_before_the_kernel_ends_it(launch: Launch, group: Path) -> None:
    ended = launch(leaking(group, "stop")).end()
    assert ended.returncode == 1, ended.stderr
    assert "resident memory is" in ended.stderr
    assert "over the limit of 70%" in ended.stderr
    launch(AFTERWARDS).wait_for("nothing is lost")


def test_sources_are_paused_and_the_process_lives_on_within_the_limit(launch: Launch, group: Path) -> None:
    child = launch(leaking(group, "pause_sources"))
    child.wait_for("paused by watchdog: memory")
    child.send(signal.SIGTERM)
    assert child.end().returncode == 0
    launch(AFTERWARDS).wait_for("nothing is lost")


def test_without_the_watchdog_the_kernel_ends_it(launch: Launch, group: Path) -> None:
    """The control: the limit is real."""
    code = leaking(group, "report").replace("Watchdog(tick_s=0.02, memory=limit)", "Watchdog(enabled=False)")
    assert launch(code).end().returncode == -signal.SIGKILL
    launch(AFTERWARDS).wait_for("nothing is lost")

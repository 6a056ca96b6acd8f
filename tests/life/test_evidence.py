"""What is seen of a thread that hangs, from outside: whether it computes, and where less can be told."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest

from minions.events import Evidence
from minions.life import system_calls
from minions.life.machine import thread_cpu_s
from minions.life.system_calls import Place, memory_at, place_of
from tests.life.conftest import PATIENCE_S
from tests.life.stuck import Stuck, needs_proc

pytestmark = needs_proc


# On the CPU


def test_a_thread_that_computes_is_seen_on_the_cpu_among_others_that_compute() -> None:
    """Whoever looks holds the interpreter's lock, so the one that is looked at is often found waiting for just that."""
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            pass

    others = [Stuck(spin) for _ in range(3)]
    stuck = Stuck(spin)
    stuck.see_on_cpu()
    seen = [stuck.look() for _ in range(50)]
    over.set()

    assert all(evidence.on_cpu for evidence in seen)
    assert {evidence.system_call for evidence in seen} == {""}
    assert "it computes, it has used 0.5 s of CPU time since" in seen[0].sentence
    for thread in [stuck, *others]:
        thread.result()


def test_a_long_query_is_seen_on_the_cpu(keep: ExitStack) -> None:
    database = sqlite3.connect(":memory:", check_same_thread=False)
    keep.callback(database.close)
    endless = "with recursive r(x) as (select 1 union all select x + 1 from r) select count(*) from r"
    begun = threading.Event()
    database.create_function("begun", 0, begun.set)
    stuck = Stuck(lambda: database.execute(f"select begun(), ({endless})").fetchall())
    begun.wait(PATIENCE_S)

    assert stuck.see_on_cpu().on_cpu
    database.interrupt()
    stuck.result()
    assert isinstance(stuck.error, sqlite3.OperationalError)


def test_the_cpu_time_of_a_thread_is_its_own() -> None:
    mine = thread_cpu_s(threading.get_native_id())
    assert mine == pytest.approx(time.thread_time(), abs=0.05)
    done = threading.Event()

    def idle() -> None:
        done.wait()

    stuck = Stuck(idle)
    stuck.see("futex")
    before = thread_cpu_s(stuck.native_id)
    sum(range(300_000))
    assert thread_cpu_s(stuck.native_id) == before
    assert thread_cpu_s(threading.get_native_id()) > mine  # type: ignore[operator]
    done.set()
    stuck.result()
    assert thread_cpu_s(2**22 + 1) is None


# Where less can be told


def test_of_a_thread_that_has_ended_it_is_said_so() -> None:
    stuck = Stuck(lambda: None)
    stuck.result()
    while Path(f"/proc/self/task/{stuck.native_id}").exists():
        os.sched_yield()  # the kernel's thread outlives Python's by a moment

    seen = stuck.look()

    assert (seen.stack, seen.on_cpu, seen.system_call, seen.resource) == ("", None, "", "")
    assert seen.sentence.endswith("its thread has ended.")


def test_without_proc_the_stack_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    stuck = Stuck(lambda: event.wait())
    stuck.see("futex")
    monkeypatch.setattr(system_calls, "read_proc", lambda path: "")

    seen = stuck.look()

    assert (seen.on_cpu, seen.system_call, seen.resource) == (None, "", "")
    assert "event.wait()" in seen.stack
    assert "whether it waits or computes cannot be told here" in seen.sentence
    event.set()
    stuck.result()


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"syscall": "running\n"}, Place(True)),
        ({"stat": "7 (a) b) R 1 2"}, Place(True)),
        ({"stat": "7 (a R b) S 1 2"}, Place(False)),
        ({"stat": "7 (nfs) D 1 2"}, Place(False)),
        ({}, Place(None)),
        ({"syscall": "-1 0x7f 0x7f", "wchan": "folio_wait_bit_common"}, Place(False, "folio_wait_bit_common")),
        ({"syscall": "-1 0x7f 0x7f", "wchan": "0"}, Place(False)),
        ({"syscall": "999 0x1 0x2 0x3 0x4 0x5 0x6 0x7f 0x7f"}, Place(False, "system call 999")),
        ({"syscall": "999 0x1 0x2 0x3 0x4 0x5 0x6 0x7f 0x7f", "wchan": "do_wait"}, Place(False, "do_wait")),
    ],
)
def test_what_the_kernel_tells_is_read(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], place: Place) -> None:
    monkeypatch.setattr(system_calls, "read_proc", lambda path: files.get(path.rsplit("/", 1)[-1], ""))
    assert place_of(7) == place


def test_a_thread_that_waits_for_the_lock_of_the_interpreter_counts_as_computing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [number] = [number for number, name in system_calls._NAMES.items() if name == "futex"]
    inside = system_calls._interpreter()
    assert len(inside) > 0
    for address, place in ((inside[0], Place(True)), (inside[-1] + 1, Place(False, "futex", (inside[-1] + 1,)))):
        monkeypatch.setattr(system_calls, "read_proc", lambda path, line=f"{number} {address:#x} 0x7f 0x7f": line)
        assert (place_of(7).on_cpu, place_of(7).args[:1]) == (place.on_cpu, place.args)


def test_memory_that_is_not_there_reads_as_nothing() -> None:
    assert memory_at(0, 16) == b""
    assert memory_at(2**64 - 1, 16) == b""


def test_a_thread_that_never_stands_still_has_a_stack_but_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    stuck = Stuck(lambda: event.wait())
    stuck.see("futex")
    places = iter(Place(False, "read", (number, 0, 0, 0, 0, 0)) for number in range(1_000, 2_000))
    monkeypatch.setattr("minions.life.evidence.place_of", lambda native_id: next(places))

    seen = stuck.look()

    assert (seen.on_cpu, seen.system_call, seen.resource) == (False, "", "")
    assert "event.wait()" in seen.stack
    event.set()
    stuck.result()


def test_the_sentence_says_where_and_for_how_long() -> None:
    seen = Evidence(
        component="average", epoch=2, doing="handling add", message_id="average.readings/7", for_s=12.34, cpu_s=0.0,
        on_cpu=False, system_call="recvfrom", resource="socket a -> b (descriptor 7)", holder="",
        stack='  File "outer.py", line 1, in add\n    call()\n  File "x.py", line 12, in call\n    sock.recv(1)\n',
    )  # fmt: skip

    assert seen.sentence == (
        "average (life 2) has made no progress for 12.3 s in handling add with message average.readings/7: "
        'it waits for socket a -> b (descriptor 7) (in recvfrom), at File "x.py", line 12, in call.'
    )
    assert ": it is blocked in the system call recvfrom, at" in attrs.evolve(seen, resource="", message_id="").sentence


def test_the_stack_begins_with_code_of_users() -> None:
    event = threading.Event()

    def body() -> None:
        event.wait()

    stuck = Stuck(body)
    seen = stuck.see("futex")

    assert seen.stack.startswith('  File "')
    assert "_bootstrap" not in seen.stack.splitlines()[0]
    assert seen.stack.rindex("event.wait()") > seen.stack.index("in body")
    event.set()
    stuck.result()

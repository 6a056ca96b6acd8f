"""What the process and the machine say: bounds of control groups from trees of files, the rest from this process and children."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from minions.life.cgroups import Allowed, allowed
from minions.life.machine import Machine, thread_cpu_s
from tests.life.conftest import Gate

UNLIMITED_V1 = "9223372036854771712\n"


class Tree:
    """A folder as ``/proc/self`` is one, and the mounted control groups that it tells of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = folder / "proc"
        self.process.mkdir()
        self.mounts: list[str] = ["22 1 0:21 / /proc rw,relatime - proc proc rw"]

    def mount(self, name: str, *, version: int, controllers: str = "", root: str = "/") -> Path:
        point = self.folder / name
        point.mkdir(parents=True)
        written = str(point).replace(" ", "\\040")
        kind = "cgroup2 cgroup2 rw,nsdelegate" if version == 2 else f"cgroup cgroup rw,{controllers}"
        self.mounts.append(f"3{len(self.mounts)} 23 0:29 {root} {written} rw,nosuid shared:9 master:3 - {kind}")
        return point

    def put(self, *lines: str) -> Path:
        """Says in which groups the process is; returns its folder."""
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))
        (self.process / "mountinfo").write_text("".join(f"{line}\n" for line in self.mounts))
        return self.process


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


class TestControlGroups:
    def test_version_1_bounds_memory_and_cores(self, tree: Tree) -> None:
        memory = tree.mount("memory", version=1, controllers="memory")
        cpu = tree.mount("cpu,cpuacct", version=1, controllers="cpu,cpuacct")
        write(memory / "mine", memory__limit_in_bytes="1000000\n", memory__usage_in_bytes="999999\n")
        write(cpu / "other", cpu__cfs_quota_us="150000\n", cpu__cfs_period_us="100000\n")

        process = tree.put("4:memory:/mine", "2:cpu,cpuacct:/other", "9:name=systemd:/mine")

        assert allowed(process) == Allowed(memory_bytes=1_000_000, cores=1.5)

    def test_version_2_bounds_memory_and_cores(self, tree: Tree) -> None:
        point = tree.mount("unified", version=2)
        write(point / "a/b", memory__max="2000000\n", cpu__max="50000 100000\n")

        assert allowed(tree.put("0::/a/b")) == Allowed(memory_bytes=2_000_000, cores=0.5)

    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("tightest", ["", "a", "a/b", "a/b/c"])
    def test_the_tightest_group_on_the_way_to_the_root_counts(self, tree: Tree, version: int, tightest: str) -> None:
        point = tree.mount("groups", version=version, controllers="memory,cpu")
        for place in ("", "a", "a/b", "a/b/c", "a/other"):
            write(point / place, **bounds(version, 500 if place in (tightest, "a/other") else 1_000))
        write(point / "a/other", **bounds(version, 1))

        process = tree.put("0::/a/b/c" if version == 2 else "4:cpu,memory:/a/b/c")

        assert allowed(process) == Allowed(memory_bytes=500, cores=5.0)

    @pytest.mark.parametrize("version", [1, 2])
    def test_no_bound_is_none(self, tree: Tree, version: int) -> None:
        point = tree.mount("groups", version=version, controllers="memory,cpu")
        if version == 1:
            write(point, memory__limit_in_bytes=UNLIMITED_V1, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
        else:
            write(point, memory__max="max\n", cpu__max="max 100000\n")
        assert allowed(tree.put("0::/" if version == 2 else "4:cpu,memory:/")) == Allowed()

    def test_both_versions_side_by_side(self, tree: Tree) -> None:
        memory = tree.mount("memory", version=1, controllers="memory")
        unified = tree.mount("unified", version=2)
        write(memory / "mine", memory__limit_in_bytes="3000")
        write(unified / "mine", cpu__max="200000 100000", memory__max="4000")

        assert allowed(tree.put("4:memory:/mine", "0::/mine")) == Allowed(memory_bytes=3_000, cores=2.0)

    def test_a_container_sees_its_own_group_as_the_root_of_the_mount(self, tree: Tree) -> None:
        point = tree.mount("memory", version=1, controllers="memory", root="/docker/1234")
        write(point, memory__limit_in_bytes="700")
        write(point / "inner", memory__limit_in_bytes="600")

        assert allowed(tree.put("4:memory:/docker/1234")).memory_bytes == 700
        assert allowed(tree.put("4:memory:/docker/1234/inner")).memory_bytes == 600
        assert allowed(tree.put("4:memory:/docker/12345")).memory_bytes == 700  # not below the root

    @pytest.mark.parametrize("path", ["/../elsewhere", "/gone/and/gone"])
    def test_a_group_that_cannot_be_seen_leaves_those_around_it(self, tree: Tree, path: str) -> None:
        point = tree.mount("unified", version=2)
        write(point, memory__max="800")
        write(tree.folder / "elsewhere", memory__max="1")

        assert allowed(tree.put(f"0::{path}")).memory_bytes == 800

    def test_a_mount_point_may_have_blanks(self, tree: Tree) -> None:
        point = tree.mount("with a blank", version=2)
        write(point, memory__max="800")
        assert allowed(tree.put("0::/")).memory_bytes == 800

    @pytest.mark.parametrize("text", ["", "nonsense", "-5", "0x10", "1 2 3"])
    def test_what_cannot_be_understood_is_no_bound(self, tree: Tree, text: str) -> None:
        point = tree.mount("unified", version=2)
        write(point, memory__max=text, cpu__max=text, cpu__cfs_quota_us=text, cpu__cfs_period_us="0")
        assert allowed(tree.put("0::/")) == Allowed()

    def test_a_machine_without_control_groups_has_no_bound(self, tree: Tree, tmp_path: Path) -> None:
        assert allowed(tree.put()) == Allowed()
        assert allowed(tmp_path / "nothing") == Allowed()

    def test_those_of_this_process_can_be_read(self) -> None:
        bound = allowed().memory_bytes
        assert bound is None or bound > 10_000_000


def bounds(version: int, size: int) -> dict[str, str]:
    """So many bytes, and a hundredth of it in cores."""
    if version == 1:
        quota = {"cpu__cfs_quota_us": str(size * 1_000), "cpu__cfs_period_us": "100000"}
        return {"memory__limit_in_bytes": str(size), **quota}
    return {"memory__max": str(size), "cpu__max": f"{size * 1_000} 100000"}


class TestSamples:
    def test_a_sample_says_what_the_process_uses(self, tmp_path: Path) -> None:
        sample = Machine(tmp_path).sample(time.monotonic())

        assert sample.rss_bytes is not None
        assert sample.rss_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
        assert sample.memory_bound_bytes is not None
        assert sample.memory_bound_bytes <= psutil.virtual_memory().total
        assert sample.memory_ratio == sample.rss_bytes / sample.memory_bound_bytes
        assert sample.descriptors == pytest.approx(psutil.Process().num_fds(), abs=3)
        assert sample.descriptors_most == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert sample.disk_free_bytes == pytest.approx(psutil.disk_usage(str(tmp_path)).free, rel=0.1)
        assert sample.cores is not None
        assert 0 < sample.cores <= len(os.sched_getaffinity(0))
        assert sample.load is not None
        assert sample.run_wait_s is not None
        assert sample.sleeps is not None
        assert sample.threads == pytest.approx(psutil.Process().num_threads(), abs=3)
        assert sample.thread_cpu[threading.get_native_id()].name == threading.current_thread().name

    def test_the_bound_is_the_tightest_of_group_and_machine(self, tmp_path: Path, tree: Tree) -> None:
        point = tree.mount("unified", version=2)
        write(point, memory__max="1000000000000000", cpu__max="25000 100000")
        process = tree.put("0::/")
        assert Machine(tmp_path, process).sample(0.0).memory_bound_bytes == psutil.virtual_memory().total
        assert Machine(tmp_path, process).sample(0.0).cores == 0.25

        write(point, memory__max="100000000")
        sample = Machine(tmp_path, process).sample(0.0)
        assert sample.memory_bound_bytes == 100_000_000
        assert sample.memory_ratio == (sample.rss_bytes or 0) / 100_000_000

    def test_cpu_time_is_a_share_of_the_cores_between_two_samples(
        self, tmp_path: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tree.mount("unified", version=2), cpu__max="50000 100000")
        used_s = iter([10.0, 10.5, 10.5, 11.0])
        machine = Machine(tmp_path, tree.put("0::/"))
        monkeypatch.setattr(time, "process_time", lambda: next(used_s))

        assert [machine.sample(now_s).cpu_ratio for now_s in (100.0, 102.0, 104.0, 104.0)] == [None, 0.5, 0.0, None]

    def test_what_is_dearer_is_read_at_every_tenth_sample(self, tmp_path: Path, tree: Tree) -> None:
        point = tree.mount("unified", version=2)
        write(point, memory__max="1000")
        machine = Machine(tmp_path, tree.put("0::/"))
        bounds_seen = []
        for number in range(21):
            bounds_seen.append(machine.sample(float(number)).memory_bound_bytes)
            write(point, memory__max=str(2_000 + number))
        assert bounds_seen == [1_000] * 10 + [2_009] * 10 + [2_019]

    def test_what_cannot_be_had_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> Any:
            raise OSError("not here")

        monkeypatch.setattr(os, "getloadavg", refuse)
        monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        monkeypatch.setattr(psutil.Process, "memory_info", refuse)
        monkeypatch.setattr(psutil.Process, "num_fds", lambda _: refuse())
        sample = Machine(tmp_path / "gone", tmp_path / "no-proc").sample(0.0)

        assert sample.disk_free_bytes is None
        assert sample.run_wait_s is None
        assert sample.load is None
        assert sample.descriptors_most is None
        assert sample.descriptors is None
        assert sample.rss_bytes is None
        assert sample.memory_ratio is None
        assert sample.memory_bound_bytes == psutil.virtual_memory().total

    def test_a_process_that_may_not_be_looked_at_has_a_sample_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> Any:
            raise psutil.AccessDenied

        monkeypatch.setattr(psutil, "Process", refuse)
        sample = Machine(tmp_path).sample(0.0)
        assert (sample.rss_bytes, sample.threads) == (None, None)
        assert sample.cpu_s is not None

    def test_the_limit_of_descriptors_is_that_of_the_process(self, tmp_path: Path) -> None:
        script = (
            "import json, os, resource, sys\n"
            "from pathlib import Path\n"
            "from minions.life.machine import Machine\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (77, 77))\n"
            "machine, folder = Machine(Path(sys.argv[1])), Path(sys.argv[1])\n"
            "before = machine.sample(0.0)\n"
            "files = [open(os.devnull) for _ in range(40)]\n"
            "after = [machine.sample(float(n)) for n in range(1, 11)][-1]\n"
            "print(json.dumps([before.descriptors, after.descriptors, after.descriptors_most]))\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        before, after, most = json.loads(done.stdout)
        assert most == 77
        assert after == before + 40


def cpu_s(thread: threading.Thread) -> float:
    assert thread.native_id is not None
    found = thread_cpu_s(thread.native_id)
    assert found is not None
    return found


class TestThreadClocks:
    def test_a_thread_that_works_uses_time_and_one_that_waits_does_not(self) -> None:
        gate = Gate()
        waiting = threading.Thread(target=gate.pass_through)
        waiting.start()
        gate.wait_reached()
        idle_s, own_s = cpu_s(waiting), cpu_s(threading.current_thread())
        worked = time.thread_time()
        while time.thread_time() < worked + 0.05:
            pass
        assert cpu_s(threading.current_thread()) - own_s == pytest.approx(0.05, abs=0.04)
        assert cpu_s(waiting) - idle_s < 0.02
        gate.open()
        waiting.join()

    def test_a_number_that_is_no_thread_of_this_process_has_no_clock(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
            assert thread_cpu_s(child.pid) is None
            child.communicate(b"\n")
        assert thread_cpu_s(child.pid) is None

    def test_a_thread_that_ends_while_one_looks_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended, new, own = threading.Thread(), threading.Thread(), threading.current_thread()
        ended._native_id = 1  # type: ignore[attr-defined] # no thread of this process has it any more
        monkeypatch.setattr(threading, "enumerate", lambda: [ended, new, own])
        assert list(Machine(tmp_path).sample(0.0).thread_cpu) == [threading.get_native_id()]

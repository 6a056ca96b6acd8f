"""The plugin in a real system: registered by the program, and found by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs

from minions import Component, Inbox, Outbox, Retry, System

sys.path.insert(0, str(Path(__file__).parent.parent))  # so that it runs where the package is not installed

from minions_plugin_template import Counting


@attrs.frozen
class Number:
    value: int


class Source(Component):
    numbers = Outbox(Number)

    def run(self) -> None:
        for value in range(3):
            self.numbers.send(Number(value))


class Picky(Component):
    numbers = Inbox(Number, retry=Retry(attempts=1))

    @numbers.handler
    def take(self, number: Number) -> None:
        if number.value == 1:
            raise ValueError("not this one")


def test_it_counts_what_happens_and_writes_it_at_the_end(tmp_path: Path) -> None:
    counting = Counting(tmp_path / "counted.json")
    system = System("counted", folder=tmp_path / "state")
    source, picky = system.add(Source()), system.add(Picky())
    system.connect(source.numbers, picky.numbers)
    system.plugins.register(counting)
    with system.started():
        system.wait()

    counted = json.loads(counting.path.read_text(encoding="utf-8"))
    assert counted["reason"] == "stopped"
    assert counted["failures"] == {"picky": 1}
    assert counted["kinds"]["MessageSetAside"] == 1
    [status] = [plugin for plugin in system.plugins.list() if plugin.name == "Counting"]
    assert (status.faults, status.hooks) == (0, ("component_failed", "event", "system_stopped"))


def test_an_installed_one_is_found_by_its_entry_point(tmp_path: Path) -> None:
    package, source = Path(__file__).parent.parent, tmp_path / "source"
    shutil.copytree(package, source, ignore=shutil.ignore_patterns("build", "__pycache__", "*.egg-info"))
    # What `pip install -e .` leaves behind, without a network: the metadata beside the package.
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info"],
        cwd=source,
        capture_output=True,
        check=True,
    )
    script = tmp_path / "app.py"
    script.write_text(
        "from minions import Component, System\n"
        "class Idle(Component):\n"
        "    def run(self): ...\n"
        "system = System('app')\n"
        "system.add(Idle())\n"
        "system.run()\n"
        "print(*[(p.name, p.version, p.source, p.faults, p.problem) for p in system.plugins.list() if p.name == 'template'])\n"
    )
    ended = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={"PYTHONPATH": os.pathsep.join([str(source), *sys.path]), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "('template', '0.1.0', 'installed', 0, '')\n", ended.stderr
    assert json.loads((tmp_path / "events-counted.json").read_text())["kinds"]["SystemStarted"] == 1

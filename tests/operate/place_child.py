"""A child of the tests of the control socket: a system that is up until it is killed, or asked to stop.

Usage: place_child.py FOLDER NAME KEEPS
"""

from __future__ import annotations

import sys
from pathlib import Path

from minions import Component, State, System


class Idle(Component):
    def run(self) -> None:
        while self.running:
            self.sleep(1_000.0)


class Keeping(Idle):
    value = State(int)

    def on_start(self) -> None:
        self.value += 1


def main(folder: Path, name: str, keeps: str) -> None:
    system = System(name, folder=folder)
    system.add(Keeping() if keeps == "keeps" else Idle())
    with system.started():
        print("up", flush=True)
        sys.stdin.readline()
    print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])

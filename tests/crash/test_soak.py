"""Random systems are killed with SIGKILL at random moments, again and again, and end as if nothing had happened.

A seed draws the system (see soak_child.py) and the moments. What the store has to hold in the end is computed here from what the
system consists of, without the runtime. A few seeds always run; for more of them:

    pytest -m soak tests/crash/test_soak.py                                # 60 seeds
    SOAK_FROM=1000 SOAK_SEEDS=500 pytest -m soak tests/crash/test_soak.py  # 500 others
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import pytest

from minions.flow import rows
from minions.flow.store import read_rows

_CHILD = Path(__file__).with_name("soak_child.py")
_FROM = int(os.environ.get("SOAK_FROM", "0"))
_SEEDS = int(os.environ.get("SOAK_SEEDS", "60"))
_LONGEST_S = 60.0  # a child that lives for 50 s prints its stacks and ends

Part = dict[str, Any]
"""A component, as the child describes it."""

Facts = dict[str, Any]
"""What a store holds, by key; for a state that tallies, by key and trail."""


# What is expected -----------------------------------------------------------------------------------------------------
@attrs.frozen
class Trail:
    """One way that the messages of one source take.

    Attributes:
        name: the outboxes on the way.
        source: whose messages they are.
        ordered: whether they stay in order, because no replicas overtake each other.
    """

    name: str
    source: str
    ordered: bool


def arrivals(parts: list[Part]) -> dict[str, list[Trail]]:
    """By which trails messages come to each component that is fed. Each part stands before those that it feeds."""
    coming: dict[str, list[Trail]] = {part["name"]: [] for part in parts}
    for part in parts:
        name = part["name"]
        here = [Trail("", name, ordered=True)] if part["total"] else coming[name]
        for way in part["ways"]:
            for trail in here:
                longer = f"{trail.name} {name}.{way['name']}".lstrip()
                for receiver in way["receivers"]:
                    coming[receiver].append(Trail(longer, trail.source, trail.ordered and part["replicas"] == 1))
    return {name: trails for name, trails in coming.items() if trails}


def checksum(source: Part) -> int:
    size = source["size_bytes"]
    payloads = ((f"{number} " * size)[:size] for number in range(source["total"]))
    return sum(zlib.crc32(f"{number}:{payload}".encode()) for number, payload in enumerate(payloads))


def expected(parts: list[Part]) -> Facts:
    """Every message has come once to every consumer, in order where there is one; nothing waits and nothing is set aside."""
    sources = {part["name"]: part for part in parts if part["total"]}
    facts: Facts = {f"state/{name} position": source["total"] for name, source in sources.items()}
    sums = {name: checksum(source) for name, source in sources.items()}
    keeping = {part["name"] for part in parts if part["keeps"]}
    for name, trails in arrivals(parts).items():
        facts[f"acks/{name}.inbox"] = (sum(sources[trail.source]["total"] for trail in trails), ())
        for trail in trails if name in keeping else ():
            total = sources[trail.source]["total"]
            tally = {"count": total, "checksum": sums[trail.source]}
            facts[f"state/{name} {trail.name}"] = tally | ({"last": total - 1, "late": 0} if trail.ordered else {})
    return facts


def found(folder: Path, parts: list[Part]) -> Facts:
    """The same of a store. Where messages may overtake each other, which one was the last says nothing."""
    unordered = {trail.name for trails in arrivals(parts).values() for trail in trails if not trail.ordered}
    facts: Facts = {}
    for key, body in read_rows(folder, ""):
        if key.startswith(rows.ACKS):
            facts[key] = rows.acks_of(key, body)
        elif key.startswith(rows.STATES):
            for state, stored in rows.states_of(key, body).items():
                value = json.loads(stored)["value"]
                tallies = value if state == "tallies" else {state: value}
                facts |= {f"{key} {name}": fact for name, fact in tallies.items()}
        elif not key.startswith("meta/"):
            facts[key] = body
    for key, fact in facts.items():
        if key.partition(" ")[2] in unordered:
            del fact["last"], fact["late"]
    return facts


# Killing --------------------------------------------------------------------------------------------------------------
Moment = Callable[["subprocess.Popen[bytes]"], None]
"""Waits for a moment in the life of a child, or for its end."""


def after_lines(number: int | None, then_s: float = 0.0) -> Moment:
    """So many lines of the child's, or all of them, and a while longer."""

    def wait(child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None
        for _ in islice(child.stdout, number):
            pass
        after_seconds(then_s)(child)

    return wait


def after_seconds(seconds: float) -> Moment:
    def wait(child: subprocess.Popen[bytes]) -> None:
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=seconds)

    return wait


at_its_end = after_lines(None, then_s=_LONGEST_S)


def any_moments(seed: int) -> Iterator[Moment]:
    """Around a commit, or anywhere: while it starts, recovers, works, drains or ends. Without end."""
    chance = random.Random(f"moments {seed}")
    while True:
        if chance.random() < 0.5:
            yield after_lines(round(2 ** chance.uniform(0, 7)), chance.choice((0.0, 0.001, 0.01)))
        else:
            yield after_seconds(chance.uniform(0.1, 0.8))


@attrs.define
class Soak:
    """One system in one folder, run in as many lives as it takes.

    Attributes:
        kills: how often it was killed so far.
    """

    seed: int
    work: Path
    defect: str = ""
    kills: int = 0

    def run(self, moments: Iterable[Moment]) -> None:
        """Kills it at each of these moments, until it has ended by itself."""
        for life, moment in enumerate((*moments, at_its_end)):
            if self._has_ended(life, moment):
                return
        pytest.fail(f"{self}: it had to be killed in its last life")

    def wrong(self) -> list[str]:
        """In what the store differs from what is expected."""
        parts: list[Part] = json.loads((self.work / "store.json").read_text())
        wanted, got = expected(parts), found(self.work / "store", parts)
        return [
            f"{key}: {got.get(key, 'nothing')!r:.200}, not {wanted.get(key, 'anything')!r}"
            for key in sorted(wanted.keys() | got.keys())
            if wanted.get(key) != got.get(key)
        ]

    def _has_ended(self, life: int, moment: Moment) -> bool:
        """Runs it in a life of its own, up to a moment."""
        self.work.mkdir(exist_ok=True)
        errors = self.work / f"errors-{life}"
        with errors.open("wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, _CHILD, str(self.seed), self.work / "store", str(life)],
                env=os.environ | {"SOAK_BREAK": self.defect},
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        try:
            moment(child)
        finally:
            child.kill()
            child.communicate(timeout=_LONGEST_S)
        if child.returncode == -signal.SIGKILL:
            self.kills += 1
        elif child.returncode != 0:
            pytest.fail(f"{self}: life {life} ended with exit code {child.returncode}:\n{errors.read_text()}")
        return child.returncode == 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, after {self.kills} kills, in {self.work}\n"
            f"again: SOAK_FROM={self.seed} SOAK_SEEDS=1 pytest -m soak tests/crash/{Path(__file__).name}"
        )


def soak(seed: int, work: Path, moments: int, note: Callable[[str, object], None]) -> int:
    """Kills a system at so many moments, unless it has ended by then, and compares; how often it was killed."""
    run = Soak(seed, work)
    run.run(islice(any_moments(seed), moments))
    note("kills", run.kills)
    wrong = run.wrong()
    assert not wrong, "\n".join((str(run), *wrong))
    return run.kills


@pytest.mark.parametrize("seed", [12, 17, 19, 24])
def test_a_random_system_that_is_killed_ends_as_if_nothing_had_happened(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    assert soak(seed, tmp_path, 4, record_property) > 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(_FROM, _FROM + _SEEDS))
def test_many_random_systems_that_are_killed_end_as_if_nothing_had_happened(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    soak(seed, tmp_path, 5 + seed % 6, record_property)


@pytest.mark.parametrize("defect", ["ack_early", "state_outside"])
def test_a_runtime_that_loses_or_doubles_messages_is_caught(defect: str, tmp_path: Path) -> None:
    seed = 16  # crowded: at any moment several components have messages in hand and wait for room
    killed, undisturbed = (Soak(seed, tmp_path / name, defect) for name in ("killed", "undisturbed"))

    killed.run([after_lines(4), after_lines(6)])
    undisturbed.run([])

    assert killed.kills == 2
    assert killed.wrong()
    assert not undisturbed.wrong()

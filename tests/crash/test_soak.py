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
from minions.flow.keys import key_codec_of
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
_KEYS = 13
_SIFT = 3
_SLOTS = 3 * _KEYS


@attrs.frozen
class Trail:
    """One way that the messages of one source take.

    Attributes:
        name: the outboxes on the way.
        source: whose messages they are.
        order: what stays in order: "all" of them, those of one "key" where partitions are on the way, or nothing ("") where
            replicas overtake each other.
        sifted: whether some were sent back, which only the numbers are that can be divided.
        dropped_at: the component that the last inbox belongs to into which not all are sent back, because it drops them or is
            full, and by which trail they came there.
        may_be_empty: whether that inbox can be full each time: one that sends to itself does it while it has a message in work.
    """

    name: str
    source: str
    order: str = "all"
    sifted: bool = False
    dropped_at: tuple[str, str] | None = None
    may_be_empty: bool = False

    def onward(self, part: Part, way: Facts, back: str) -> Trail | None:
        """The trail behind that outbox; None where none of the messages is sent there."""
        step = f"{part['name']}.{way['name']}"
        if way["rounds"] and self.name.split().count(step) >= way["rounds"]:
            return None
        order = "" if part["replicas"] > 1 and not part["partition_by"] else self.order
        name = f"{self.name} {step}".lstrip()
        return Trail(
            name=name,
            source=self.source,
            order="key" if order and part["partition_by"] else order,
            sifted=self.sifted or way["rounds"] > 0,
            dropped_at=(way["receivers"][0], name)
            if way["rounds"] and back in ("drop_newest", "full")
            else self.dropped_at,
            may_be_empty=self.may_be_empty or (way["rounds"] > 0 and back == "full"),
        )


def arrivals(parts: list[Part]) -> dict[tuple[str, str], list[Trail]]:
    """By which trails messages come to each inbox, told by the names of its component and its own."""
    by_name = {part["name"]: part for part in parts}
    coming: dict[tuple[str, str], list[Trail]] = {}
    afoot = [(part, Trail("", part["name"])) for part in parts if part["total"]]
    while afoot:
        part, trail = afoot.pop()
        for way in part["ways"]:
            for receiver in way["receivers"]:
                if longer := trail.onward(part, way, by_name[receiver]["back"]):
                    coming.setdefault((receiver, way["into"]), []).append(longer)
                    afoot.append((by_name[receiver], longer))
    return coming


def tally_of(source: Part, step: int) -> Facts:
    """What a state tallies that has seen every `step`-th message of a source, in order."""
    numbers = range(0, source["total"], step)
    sizes = source["sizes_bytes"]
    sums = 0
    for number in numbers:
        size = sizes[zlib.crc32(str(number).encode()) % len(sizes)]
        sums += zlib.crc32(f"{number}:{(f'{number} ' * size)[:size]}".encode())
    return {
        "count": len(numbers),
        "checksum": sums,
        "last": numbers[-1],
        "late": 0,
        "last_of_key": {f"key-{number % _KEYS}": number for number in numbers},
        "late_of_key": 0,
    }


def in_order(tally: Facts, order: str) -> Facts:
    """The same without what says nothing, as which one was the last where messages may overtake each other."""
    told = {"all": ("last", "late", "last_of_key", "late_of_key"), "key": ("last_of_key", "late_of_key"), "": ()}[order]
    return {name: fact for name, fact in tally.items() if name in ("count", "checksum", *told)}


def expected(parts: list[Part], got: Facts) -> Facts:
    """Every message has come once to every consumer, in order where there is one; nothing waits and nothing is set aside.

    How many an inbox dropped cannot be known. What its component has seen of these is taken from what was found there, where it
    is no more than was sent to it, and in order; and is what all that follow must have seen.
    """
    by_name = {part["name"]: part for part in parts}
    coming = arrivals(parts)
    facts: Facts = {f"state/{name}": {"position": part["total"]} for name, part in by_name.items() if part["total"]}
    whole = {name: tally_of(by_name[name], 1) for name in by_name if by_name[name]["total"]}
    sifted = {name: tally_of(by_name[name], _SIFT) for name in whole}

    def seen(trail: Trail) -> Facts:
        most = (sifted if trail.sifted else whole)[trail.source]
        if trail.dropped_at is None:
            return most
        home, name = trail.dropped_at
        kept: Facts = got.get(f"state/{home}", {}).get(name, {})
        sound = (
            kept.keys() >= most.keys() - {"last", "late", "last_of_key", "late_of_key"}
            and kept["count"] <= most["count"]
        )
        if not kept and trail.may_be_empty:
            return {"count": 0}
        return most | kept if sound and kept.get("late", 0) == kept.get("late_of_key", 0) == 0 else most

    for (name, inbox), trails in coming.items():
        part = by_name[name]
        facts[f"acks/{name}.{inbox}"] = (sum(seen(trail)["count"] for trail in trails), ())
        if part["keeps"]:
            tallies = {trail.name: in_order(seen(trail), trail.order) for trail in trails if seen(trail)["count"]}
            facts[f"state/{name}"] = facts.get(f"state/{name}", {"differences": 0}) | tallies
            if part["table"] == "str":
                facts[f"table/{name}"] = facts.get(f"table/{name}", {}) | tallies
            elif part["table"]:
                facts[f"table/{name}"] = merged(facts.get(f"table/{name}", {}), counted(part["table"], trails, by_name))
    return facts | odd({f"table/{part['name']}" for part in parts if part["table"] == "slots"}, facts)


def odd(tables: Iterable[str], facts: Facts) -> Facts:
    """These tables, with an entry for each count that is odd."""
    return {table: {slot: 1 for slot, count in facts[table].items() if count % 2} for table in tables}


def counted(table: str, trails: list[Trail], by_name: dict[str, Part]) -> Facts:
    """How many messages come of each number, or in each slot."""
    counts: Facts = {}
    for trail in trails:
        for number in range(0, by_name[trail.source]["total"], _SIFT if trail.sifted else 1):
            entry = str(number % _SLOTS if table == "slots" else number)
            counts[entry] = counts.get(entry, 0) + 1
    return counts


def merged(one: Facts, other: Facts) -> Facts:
    """What two partitions hold, as if it were one. No key is in both."""
    both = one | other
    for name in one.keys() & other.keys():
        first, second = one[name], other[name]
        if isinstance(first, dict):
            shared = first["last_of_key"].keys() & second["last_of_key"].keys()
            both[name] = {key: first[key] + second[key] for key in ("count", "checksum", "late", "late_of_key")} | {
                "last": max(first["last"], second["last"]),
                "last_of_key": {"in two partitions": sorted(shared)}
                if shared
                else first["last_of_key"] | second["last_of_key"],
            }
        else:
            both[name] = first + second
    return both


def gathered(holdings: Iterable[tuple[str, Facts]], parts: list[Part]) -> Facts:
    """What the components hold, of which some have it in partitions."""
    orders = {trail.name: trail.order for trails in arrivals(parts).values() for trail in trails}
    facts: Facts = {}
    for key, holding in holdings:
        facts[key] = merged(facts.get(key, {}), holding)
    return {
        key: {name: in_order(fact, orders[name]) if isinstance(fact, dict) else fact for name, fact in holding.items()}
        for key, holding in facts.items()
    }


def found(folder: Path, parts: list[Part]) -> Facts:
    """The same of a store."""
    facts: Facts = {}
    holdings: list[tuple[str, Facts]] = []
    types: dict[str, type] = {"str": str, "int": int, "slots": int}
    tables = {part["name"]: key_codec_of(types[part["table"]]) for part in parts if part["table"]}
    for key, body in read_rows(folder, ""):
        kind, _, rest = key.partition("/")
        home, _, place = rest.partition("/")
        component = home.partition("@")[0]
        if kind == "acks":
            facts[key] = rows.acks_of(key, body)
        elif kind == "state":
            values = {name: json.loads(stored)["value"] for name, stored in rows.states_of(key, body).items()}
            holdings.append((f"state/{component}", values.pop("tallies", {}) | values))
        elif kind == "table" and component in tables:
            entry = tables[component].decode(place.partition("/")[2])
            holdings.append((f"table/{component}", {str(entry): json.loads(body)["value"]}))
        elif kind != "meta":
            facts[key] = body
    return facts | gathered(holdings, parts)


def details(facts: Facts) -> Facts:
    """The same with a key for each state, trail and entry."""
    flat: Facts = {}
    for key, fact in facts.items():
        flat |= {f"{key} {name}": value for name, value in fact.items()} if isinstance(fact, dict) else {key: fact}
    return flat


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


def differences(wanted: Facts, got: Facts) -> list[str]:
    return [
        f"{key}: {got.get(key, 'nothing')!r:.300}, not {wanted.get(key, 'anything')!r:.300}"
        for key in sorted(wanted.keys() | got.keys())
        if wanted.get(key) != got.get(key)
    ]


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
        held = found(self.work / "store", parts)
        told = gathered(json.loads((self.work / "store.read.json").read_text()), parts)
        wanted = details(expected(parts, held))
        kept = {
            key: fact for key, fact in wanted.items() if key.startswith(("state/", "table/")) and " position" not in key
        }
        return differences(wanted, details(held)) + differences(kept, details(told))

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


@pytest.mark.parametrize("seed", [2, 7])
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


@pytest.mark.parametrize("defect", ["ack_early", "state_outside", "table_outside"])
def test_a_runtime_that_loses_or_doubles_messages_is_caught(defect: str, tmp_path: Path) -> None:
    seed = 15  # without injected errors: a new life would read tables that the defect holds back, killed or not
    killed, undisturbed = (Soak(seed, tmp_path / name, defect) for name in ("killed", "undisturbed"))

    hung = ""
    try:
        killed.run([after_lines(4), after_lines(6)])
    except pytest.fail.Exception as failure:  # what is lost or doubled may also keep a cycle from coming to its end
        hung = str(failure)
    assert "Timeout" in hung if hung else killed.wrong()
    undisturbed.run([])

    assert killed.kills == 2
    assert not undisturbed.wrong()

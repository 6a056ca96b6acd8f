"""What the matrix is made of, and what was measured in it. Pure values; reads and writes one CSV file."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import attrs

from bench.contender import Contender
from bench.contenders import CONTENDERS, DURABLE
from bench.samples import Spread, ratios, spread

# Of the durable peers with several settings, those that people get or should choose; the rest is in throughput.py.
IN_MATRIX = [
    "SimpleQueue",
    "queue.Queue",
    "pykka",
    "minions",
    "dbos",
    "persist-queue",
    "huey",
    "sqlite3-full",
    "sqlite3",
    "minions-full",
    "minions-durable",
]
# What the targets compare: enough on every further Python.
IN_TARGETS = ["queue.Queue", "pykka", "minions", "huey", "minions-full", "minions-durable"]
PAIRS = [1, 4, 16]
SIZES = [100, 1_000, 100_000]
BY_NAME: Mapping[str, Contender] = {contender.name: contender for contender in CONTENDERS}


@attrs.frozen(order=True)
class Setting:
    """What stays the same within one panel."""

    python: str  # "3.11"
    size_bytes: int
    busy: bool

    @property
    def title(self) -> str:
        return f"{size_text(self.size_bytes)}{', beside a busy thread' if self.busy else ''}"


@attrs.frozen(order=True)
class Cell:
    """One contender under one setting; its name is what progress, problems and samples go by."""

    setting: Setting
    contender: str
    pairs: int

    @property
    def name(self) -> str:
        busy = " busy" if self.setting.busy else ""
        return f"{self.setting.python} {size_text(self.setting.size_bytes)}{busy} {self.contender} x{self.pairs}"


def size_text(size_bytes: int) -> str:
    return f"{size_bytes} B" if size_bytes < 1_000 else f"{size_bytes / 1_000:g} KB"


def capacity(size_bytes: int) -> int:
    """Of every bounded queue: at most 10 MB may wait in one."""
    return max(10, min(1_000, 10_000_000 // size_bytes))


def blocks(
    settings: Iterable[Setting], contenders: Mapping[str, Sequence[str]], pairs: Sequence[int]
) -> list[list[Cell]]:
    """The cells by setting; a contender that is one thread by nature has one cell there, whatever `pairs` says.

    Args:
        contenders: the names for each Python.
    """
    return [
        [
            Cell(setting, name, number)
            for name in contenders[setting.python]
            for number in (pairs if BY_NAME[name].several_pairs else [1])
        ]
        for setting in settings
    ]


@attrs.frozen
class Target:
    """A ratio that DESIGN.md section 6 asks for, in one setting with one number of pairs."""

    text: str
    over: str
    under: str
    factor: float = 1.0
    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)

    @property
    def asked(self) -> str:
        return f"≥ {self.at_least:g}" if self.at_least is not None else f"≤ {self.at_most:g}"


# 60,000 units/s where huey does 2,000 tasks/s: a message of a pair is two units, so the factor.
TARGETS = [
    Target("not durable / queue.Queue", "minions", "queue.Queue", at_least=2),
    Target("not durable / pykka", "minions", "pykka", at_least=5),
    Target("durable units / huey tasks", "minions-durable", "huey", factor=2, at_least=30),
    Target("not durable / durable", "minions", "minions-durable", at_most=2.5),
]


@attrs.frozen
class Run:
    """One run; one that did not end in time has endless seconds, and the rate 0."""

    round_number: int
    cell: Cell
    messages: int
    seconds: float

    @property
    def messages_per_s(self) -> float:
        return self.messages / self.seconds


@attrs.frozen
class Results:
    """The runs of a matrix, and what is worked out from them: medians, and ratios within a round."""

    runs: Sequence[Run]

    @cached_property
    def _rates(self) -> dict[Cell, dict[int, float]]:
        rates: dict[Cell, dict[int, float]] = {}
        for run in self.runs:
            rates.setdefault(run.cell, {})[run.round_number] = run.messages_per_s
        return rates

    @property
    def settings(self) -> list[Setting]:
        """In the order in which they are shown."""
        return sorted({cell.setting for cell in self._rates}, key=lambda each: (_version(each.python), each))

    @property
    def pythons(self) -> list[str]:
        return list(dict.fromkeys(setting.python for setting in self.settings))

    @property
    def pairs(self) -> list[int]:
        return sorted({cell.pairs for cell in self._rates})

    def only(self, python: str) -> "Results":
        return Results([run for run in self.runs if run.cell.setting.python == python])

    @property
    def rounds(self) -> int:
        return len({run.round_number for run in self.runs})

    def contenders(self, settings: Iterable[Setting]) -> list[Contender]:
        wanted = set(settings)
        present = {cell.contender for cell in self._rates if cell.setting in wanted}
        return [BY_NAME[name] for name in IN_MATRIX if name in present]

    def spread(self, setting: Setting, contender: str, pairs: int) -> Spread | None:
        return spread(list(self._of(setting, contender, pairs).values()))

    def ratio(self, setting: Setting, over: str, under: str, pairs: int) -> Spread | None:
        """Between the two within each round; one that is a single thread by nature stands for every number of pairs."""
        return ratios(self._of(setting, over, pairs), self._of(setting, under, pairs))

    def target(self, setting: Setting, target: Target, pairs: int) -> Spread | None:
        found = self.ratio(setting, target.over, target.under, pairs)
        if found is None:
            return None
        return Spread(found.median * target.factor, found.low * target.factor, found.high * target.factor)

    def _of(self, setting: Setting, contender: str, pairs: int) -> Mapping[int, float]:
        number = pairs if BY_NAME[contender].several_pairs else 1
        return self._rates.get(Cell(setting, contender, number), {})


def base_of(contender: Contender) -> str:
    """What its rate is given as a multiple of."""
    return "huey" if contender.group == DURABLE else "queue.Queue"


def _version(python: str) -> list[int]:
    return [int(part) for part in python.removesuffix("t").split(".")]


HEADER = ["round", "python", "size_bytes", "busy", "pairs", "contender", "messages", "seconds", "messages_per_s"]


def write(path: Path, results: Results) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for run in results.runs:
            setting = run.cell.setting
            writer.writerow(
                [
                    run.round_number,
                    setting.python,
                    setting.size_bytes,
                    int(setting.busy),
                    run.cell.pairs,
                    run.cell.contender,
                    run.messages,
                    repr(run.seconds),  # in full: what is read back gives the same ratios
                    f"{run.messages_per_s:.1f}",
                ]
            )


def read(path: Path) -> Results:
    """What `write` wrote.

    Raises:
        ValueError: it is not such a file.
    """
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != HEADER:
            raise ValueError(f"{path} was not written by matrix.py --csv: its columns are {rows.fieldnames}")
        return Results([_run(row) for row in rows])


def _run(row: Mapping[str, str]) -> Run:
    setting = Setting(row["python"], int(row["size_bytes"]), row["busy"] == "1")
    cell = Cell(setting, row["contender"], int(row["pairs"]))
    return Run(int(row["round"]), cell, int(row["messages"]), float(row["seconds"]))

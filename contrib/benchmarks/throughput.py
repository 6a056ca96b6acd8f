"""Messages a second from one producer to one consumer: Minions and its peers, side by side in one run."""

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bench import cli, disk
from bench.child import Request, in_child
from bench.contender import Contender
from bench.contenders import BASES, CONTENDERS, DURABLE, TARGETS, Target
from bench.samples import Sample, in_turns, ratios, spread, values
from bench.table import short, table

_BY_NAME = {contender.name: contender for contender in CONTENDERS}
_MESSAGES, _QUICK_MESSAGES, _ROUNDS = 500_000, 10_000, 7
_EXAMPLES = """  python throughput.py                              the whole comparison: about two minutes
  python throughput.py --quick                      does everything work? a few seconds
  python throughput.py --only 'minions*' queue.Queue --rounds 15
  python throughput.py --busy --csv busy.csv        with a thread that computes in Python beside it
  python throughput.py --capacity 128 --plot throughput.svg --json > throughput.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES)
    parser.add_argument(
        "--messages", type=int, metavar="N", help=f"for queue.Queue; others in proportion (default: {_MESSAGES:,})"
    )
    parser.add_argument("--capacity", type=int, default=1_000, metavar="N", help="of bounded queues (default: 1,000)")
    parser.add_argument("--busy", action="store_true", help="adds a thread that computes in pure Python to every run")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(table(["name", "group", "what"], [[each.name, each.group, each.title] for each in CONTENDERS])))
        return cli.OK
    cli.output_checked(parser, options)
    if options.capacity < 1 or (options.messages is not None and options.messages < 1):
        parser.error("--messages and --capacity must be 1 or more")
    names = _available(cli.chosen(parser, list(_BY_NAME), options.only))
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return _compare(names, options, folder)


def _available(names: Sequence[str]) -> list[str]:
    """Without those whose library is missing, which are named on stderr."""
    present = []
    for name in names:
        wanted = _BY_NAME[name].requires
        if wanted in {"", "minions-runtime"} or _is_installed(wanted):
            present.append(name)
        else:
            cli.say(f"left out: {name} (pip install {wanted})")
    return present


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _compare(names: Sequence[str], options: argparse.Namespace, folder: Path) -> int:
    base = options.messages or (_QUICK_MESSAGES if options.quick else _MESSAGES)
    rounds = options.rounds or (1 if options.quick else _ROUNDS)
    if disk.in_memory(folder):
        cli.say("warning: runs write to memory, not to a disk; durable contenders look too fast (--folder DIR)")
    facts = cli.environment(folder, dict.fromkeys(each.requires for each in CONTENDERS if each.requires))

    def run(name: str) -> dict[str, float]:
        messages = _messages(name, base, options.busy)
        with disk.fresh_folder(folder) as own:
            request = Request(
                _BY_NAME[name].target,
                messages,
                str(own),
                capacity=options.capacity,
                busy=options.busy,
                warm_up_size=0 if options.quick else _messages(name, base // 20, options.busy),
                timeout_s=options.timeout,
            )
            return {"messages": messages, **in_child(request)}

    measured = cli.measure(in_turns(names, rounds, options.seed), run, lambda sample: f"{short(_rate(sample))} msg/s")
    report = Report(measured, options, facts, base, rounds)
    return cli.tell(
        measured, options, lines=report.lines, as_dict=report.as_dict, write_csv=report.write_csv, draw=report.draw
    )


def _messages(name: str, base: int, busy: bool) -> int:
    """Beside a busy thread each call into SQLite waits for the GIL up to its switch interval: a twentieth is enough."""
    contender = _BY_NAME[name]
    return contender.messages(base // 20 if busy and contender.group == DURABLE else base)


def _rate(sample: Sample) -> float:
    return sample.figures["messages"] / sample.figures["seconds"]


@attrs.frozen
class Report:
    measured: cli.Measured
    options: argparse.Namespace
    facts: dict[str, Any]
    base: int
    rounds: int

    def _rates(self, name: str) -> dict[int, float]:
        return values(self.measured.samples, name, _rate)

    def _measured_of(self, group: str) -> list[Contender]:
        return [each for each in CONTENDERS if each.group == group and self._rates(each.name)]

    def _target_ratio(self, target: Target) -> float | None:
        factor = _BY_NAME[target.over].units_per_message if target.in_units else 1
        found = ratios(self._rates(target.over), self._rates(target.under))
        return None if found is None else found.median * factor

    def lines(self) -> list[str]:
        busy = ", with a busy thread" if self.options.busy else ""
        lines = [
            *cli.environment_lines(self.facts),
            f"{self.rounds} rounds, capacity {self.options.capacity}{busy}; medians, ratios taken within each round",
        ]
        for group in BASES:
            lines += self._group_lines(group)
        targets = [(target, ratio) for target in TARGETS if (ratio := self._target_ratio(target)) is not None]
        if targets:
            rows = [
                [target.text, short(ratio), target.asked, "met" if target.met(ratio) else "missed"]
                for target, ratio in targets
            ]
            lines += ["", *table(["targets", "measured", "asked", ""], rows)]
        return lines

    def _group_lines(self, group: str) -> list[str]:
        contenders = self._measured_of(group)
        if not contenders:
            return []
        with_units = group == DURABLE
        rows = []
        for contender in contenders:
            rates = self._rates(contender.name)
            found = spread(list(rates.values()))
            assert found is not None
            row = [
                f"{contender.name:<16} {contender.title}",
                f"{_messages(contender.name, self.base, self.options.busy):,}",
                short(found.median),
                f"{short(found.low)} .. {short(found.high)}",
            ]
            if with_units:
                row.append(short(found.median * contender.units_per_message))
            for base in BASES[group]:
                against = ratios(rates, self._rates(base))
                row.append(short(against.median if against else None))
            rows.append(row)
        header = [group, "messages", "msg/s", "low .. high", *(["units/s"] if with_units else [])]
        return ["", *table([*header, *(f"x {base}" for base in BASES[group])], rows)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "environment": self.facts,
            "options": {
                "rounds": self.rounds,
                "seed": self.options.seed,
                "capacity": self.options.capacity,
                "busy": self.options.busy,
                "quick": self.options.quick,
            },
            "contenders": {
                contender.name: self._contender_dict(contender)
                for group in BASES
                for contender in self._measured_of(group)
            },
            "targets": [
                {"text": target.text, "asked": target.asked, "ratio": ratio, "met": target.met(ratio)}
                for target in TARGETS
                if (ratio := self._target_ratio(target)) is not None
            ],
            "problems": self.measured.problems,
            "interrupted": self.measured.interrupted,
        }

    def _contender_dict(self, contender: Contender) -> dict[str, Any]:
        rates = self._rates(contender.name)
        found = spread(list(rates.values()))
        assert found is not None
        against = {base: ratios(rates, self._rates(base)) for base in BASES[contender.group]}
        return {
            "title": contender.title,
            "group": contender.group,
            "messages": _messages(contender.name, self.base, self.options.busy),
            "messages_per_s": attrs.asdict(found),
            "units_per_s": found.median * contender.units_per_message,
            "ratios": {base: attrs.asdict(ratio) for base, ratio in against.items() if ratio is not None},
            "messages_per_s_by_round": rates,
        }

    def write_csv(self, path: Path) -> None:
        header = ["round", "position", "name", "group", "messages", "seconds", "messages_per_s"]
        rows = [
            [
                sample.round_number,
                sample.position,
                sample.name,
                _BY_NAME[sample.name].group,
                round(sample.figures["messages"]),
                f"{sample.figures['seconds']:.6f}",
                f"{_rate(sample):.1f}",
            ]
            for sample in self.measured.samples
            if not sample.problem
        ]
        cli.write_csv(path, header, rows)

    def draw(self, path: Path) -> None:
        panels = {
            group: [
                (contender.title, found)
                for contender in self._measured_of(group)
                if (found := spread(list(self._rates(contender.name).values()))) is not None
            ]
            for group in BASES
        }
        cli.draw(path, f"Messages a second, {self.facts['python']}", "messages/s", panels)


if __name__ == "__main__":
    sys.exit(main())

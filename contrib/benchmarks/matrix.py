"""Messages a second by size of the message, number of pairs, with and without a busy thread; for one Python or several."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import attrs

from bench import cells, cli, disk, report
from bench.cells import BY_NAME, IN_MATRIX, IN_TARGETS, PAIRS, SIZES, Cell, Results, Run, Setting
from bench.child import Request, TookTooLong, in_child
from bench.interpreters import Interpreter, Unusable, looked_at
from bench.samples import Sample, in_turns_by_block
from bench.table import short, table

ROUNDS = 5
_TIMED_S, _PILOT_S = 0.25, 0.1
TIMEOUT_S = 20  # of a run that is made to last a fraction of a second
_BUSY_FACTOR = (
    2  # beside a busy thread a run is longer: each wait for the GIL takes milliseconds, and there should be many
)
_QUICK_MESSAGES = 32
_EXAMPLES = """  python matrix.py                                  everything on this Python: about 20 minutes
  python matrix.py --quick                          does everything work? one short round
  python matrix.py --only 'minions*' queue.Queue --sizes 100 --busy no
  python matrix.py --csv matrix.csv --plot matrix.svg
  python matrix.py --python python3.12 venv-3.13/bin/python --rounds 3
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES, rounds=ROUNDS, timeout_s=TIMEOUT_S)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    if options.list:
        shown = [[name, BY_NAME[name].group, BY_NAME[name].title] for name in IN_MATRIX]
        print("\n".join(table(["name", "group", "what"], shown)))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, IN_MATRIX, options.only)
    try:
        interpreters = looked_at_all(options.python)
    except Unusable as unusable:
        parser.error(str(unusable))
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        return measured_and_shown(interpreters, names, options, folder)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, nargs="+", choices=PAIRS, default=PAIRS, metavar="N", help="1, 4, 16")
    parser.add_argument(
        "--sizes", type=int, nargs="+", choices=SIZES, metavar="BYTES", help="100, 1000, 100000; with --quick only 100"
    )
    parser.add_argument(
        "--busy",
        choices=["both", "no", "only"],
        default="both",
        help="beside a thread that computes in pure Python (default: both, without it and with it)",
    )
    parser.add_argument("--seconds", type=float, default=_TIMED_S, help=f"of one timed part (default: {_TIMED_S})")
    parser.add_argument(
        "--python",
        nargs="+",
        default=[sys.executable],
        metavar="PYTHON",
        help="interpreters that have what Minions needs installed; the first is measured with every contender, the "
        "others with those that the targets compare (default: this one)",
    )


def looked_at_all(commands: Sequence[str]) -> list[Interpreter]:
    """Raises: Unusable: one of them cannot be used, or two have the same version."""
    distributions = [contender.requires for contender in BY_NAME.values() if contender.requires]
    found = [looked_at(command, [*distributions, "orjson"]) for command in commands]
    labels = [each.label for each in found]
    if len(set(labels)) < len(labels):
        raise Unusable(f"two interpreters of one version: {', '.join(labels)}")
    return found


def measured_and_shown(
    interpreters: Sequence[Interpreter], names: Sequence[str], options: argparse.Namespace, folder: Path
) -> int:
    if disk.in_memory(folder):
        cli.say("warning: runs write to memory, not to a disk; durable contenders look too fast (--folder DIR)")
    facts = cli.environment(folder, [])
    facts |= {"python": ", ".join(each.version for each in interpreters), "versions": interpreters[0].installed}
    measured, results = Matrix(interpreters, names, options, folder).measure()
    return cli.tell(
        measured,
        options,
        lines=lambda: [*cli.environment_lines(facts), *report.lines(results)],
        as_dict=lambda: {"environment": facts, "runs": _as_dicts(results), "problems": measured.problems},
        write_csv=lambda path: cells.write(path, results),
        draw=(lambda path: report.plot(path, results, report.title(results))) if results.runs else None,
    )


@attrs.define
class Matrix:
    """Runs the cells: first each once to find out how many messages it needs, then all of them in turns."""

    interpreters: Sequence[Interpreter]
    names: Sequence[str]
    options: argparse.Namespace
    folder: Path

    def measure(self) -> tuple[cli.Measured, Results]:
        blocks = cells.blocks(self._settings(), self._contenders(), self.options.pairs)
        by_name = {cell.name: cell for block in blocks for cell in block}
        commands = {each.label: each.command for each in self.interpreters}
        rounds = self.options.rounds or (1 if self.options.quick else ROUNDS)
        piloted = cli.Measured() if self.options.quick else self._piloted(by_name, commands)
        if piloted.interrupted:
            return piloted, Results([])
        sizes = dict.fromkeys(by_name, _QUICK_MESSAGES)
        for sample in piloted.samples:
            seconds = self.options.seconds * (_BUSY_FACTOR if by_name[sample.name].setting.busy else 1)
            if sample.problem:
                del sizes[sample.name]
            else:
                sizes[sample.name] = _a_multiple_of_16(sample.figures["messages_per_s"] * seconds)

        def run(name: str) -> Mapping[str, float]:
            size = sizes[name]
            warm_up = 0 if self.options.quick else _a_multiple_of_16(size / 20)
            try:
                figures = self._child(by_name[name], commands, size=size, warm_up_size=warm_up)
            except TookTooLong:
                figures = {"seconds": inf}  # a finding, not a defect of the run: its rate is shown as 0
            return {"messages": size} | figures

        turns = in_turns_by_block(
            [[cell.name for cell in block if cell.name in sizes] for block in blocks], rounds, self.options.seed
        )
        measured = cli.measure(turns, run, lambda sample: f"{short(_rate(sample))} msg/s")
        runs = [_run(sample, by_name) for sample in measured.samples if not sample.problem]
        measured.samples += [sample for sample in piloted.samples if sample.problem]
        return measured, Results(runs)

    def _piloted(self, by_name: Mapping[str, Cell], commands: Mapping[str, str]) -> cli.Measured:
        cli.say("first, how many messages each needs:")
        return cli.measure(
            [(1, number, name) for number, name in enumerate(by_name, start=1)],
            lambda name: self._child(by_name[name], commands, size=16, pilot_s=_PILOT_S),
            lambda sample: f"about {short(sample.figures['messages_per_s'])} msg/s",
        )

    def _settings(self) -> list[Setting]:
        """Pythons innermost: their order is shuffled with the rest, so that none is measured in a quieter hour."""
        busy = {"both": [False, True], "no": [False], "only": [True]}[self.options.busy]
        return [
            Setting(interpreter.label, size, each)
            for size in self.options.sizes or (SIZES[:1] if self.options.quick else SIZES)
            for each in busy
            for interpreter in self.interpreters
        ]

    def _contenders(self) -> dict[str, list[str]]:
        """By Python; without those whose library is not installed there, which are named on stderr."""
        chosen: dict[str, list[str]] = {}
        for interpreter in self.interpreters:
            wanted = self.names if interpreter is self.interpreters[0] else [x for x in self.names if x in IN_TARGETS]
            chosen[interpreter.label] = []
            for name in wanted:
                requires = BY_NAME[name].requires
                if requires in {"", "minions-runtime"} or requires in interpreter.installed:
                    chosen[interpreter.label].append(name)
                else:
                    cli.say(f"left out on {interpreter.label}: {name} (pip install {requires})")
        return chosen

    def _child(self, cell: Cell, commands: Mapping[str, str], size: int, **more: Any) -> dict[str, float]:
        with disk.fresh_folder(self.folder) as own:
            request = Request(
                BY_NAME[cell.contender].target,
                size,
                str(own),
                capacity=cells.capacity(cell.setting.size_bytes),
                pairs=cell.pairs,
                size_bytes=cell.setting.size_bytes,
                busy=cell.setting.busy,
                timeout_s=self.options.timeout,
                **more,
            )
            return in_child(request, python=commands[cell.setting.python])


def _a_multiple_of_16(messages: float) -> int:
    """So that pairs get equal parts; at least 16."""
    return max(1, round(messages / 16)) * 16


def _rate(sample: Sample) -> float:
    return sample.figures["messages"] / sample.figures["seconds"]


def _run(sample: Sample, by_name: Mapping[str, Cell]) -> Run:
    figures = sample.figures
    return Run(sample.round_number, by_name[sample.name], round(figures["messages"]), figures["seconds"])


def _as_dicts(results: Results) -> list[dict[str, Any]]:
    return [attrs.asdict(run) | {"messages_per_s": run.messages_per_s} for run in results.runs]


if __name__ == "__main__":
    sys.exit(main())

"""The benchmarks run, print what they promise and catch a contender that cheats. Nothing here is timed."""

import csv
import json
import os
import random
import subprocess
import sys
from math import inf
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE))  # so that it runs from any folder

import matrix  # noqa: E402
import memory  # noqa: E402
from bench import cells, footprint, report, samples  # noqa: E402
from bench.child import TookTooLong  # noqa: E402
from bench.samples import Spread  # noqa: E402
from bench.trend import trend  # noqa: E402

_WITHOUT_LIBRARIES = ["queue.Queue", "SimpleQueue", "sqlite3", "sqlite3-full"]


def _run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_HERE / script), *arguments], capture_output=True, text=True, check=False, timeout=100
    )


def test_the_table_has_a_line_for_each_contender_and_a_column_for_each_ratio() -> None:
    done = _run("throughput.py", "--quick", "--only", *_WITHOUT_LIBRARIES)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for name in _WITHOUT_LIBRARIES:
        assert sum(line.startswith(name + " ") for line in lines) == 1
    header = next(line for line in lines if line.startswith("not durable"))
    assert header.split("  ")[-2:] == ["x queue.Queue", "x pykka"]
    own = next(line for line in lines if line.startswith("queue.Queue"))
    assert own.split()[-2:] == ["1.00", "-"]  # itself; pykka took no part


def test_json_and_csv_hold_every_round_and_nothing_else_is_printed(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    done = _run(
        "throughput.py",
        "--quick",
        "--rounds",
        "3",
        "--only",
        "queue.Queue",
        "SimpleQueue",
        "--json",
        "--csv",
        str(file),
    )

    assert done.returncode == 0, done.stderr
    contenders = json.loads(done.stdout)["contenders"]
    ceiling, queue = (contenders[name]["messages_per_s_by_round"] for name in ("SimpleQueue", "queue.Queue"))
    each = sorted(ceiling[number] / queue[number] for number in ("1", "2", "3"))
    assert contenders["SimpleQueue"]["ratios"]["queue.Queue"]["median"] == pytest.approx(each[1])
    with file.open() as rows:
        assert sorted((row["round"], row["name"]) for row in csv.DictReader(rows)) == [
            (number, name) for number in "123" for name in ("SimpleQueue", "queue.Queue")
        ]


def test_a_name_that_does_not_exist_is_a_wrong_command_line() -> None:
    done = _run("throughput.py", "--only", "nobody")

    assert done.returncode == 2
    assert "there are: queue.Queue, SimpleQueue," in done.stderr


@pytest.mark.parametrize("defect", ["messages - 1, total", "messages, total + 0.25"])
def test_a_contender_that_loses_or_changes_a_message_gets_no_figure(tmp_path: Path, defect: str) -> None:
    (tmp_path / "cheat.py").write_text(
        "from bench.message import check, stream\n"
        "def run(messages, options):\n"
        "    total = sum(reading.celsius for reading in stream(messages))\n"
        f"    check(messages, {defect})\n"
        "    return 1.0\n"
    )
    request = {"target": "cheat:run", "size": 100, "folder": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "bench.child", json.dumps(request)],
        env={**os.environ, "PYTHONPATH": f"{_HERE}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1
    assert "WrongResult: 100 messages" in done.stderr
    assert not (tmp_path / "answer.json").exists()


def test_minions_carries_every_message_in_every_arrangement() -> None:
    done = _run("throughput.py", "--quick", "--only", "minions*", "--json")

    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["contenders"]) == {
        "minions",
        "minions-durable",
        "minions-full",
        "minions-pairs",
        "minions-chain",
    }


def test_startup_shows_every_figure() -> None:
    done = _run("startup.py", "--quick", "--json")

    assert done.returncode == 0, done.stderr
    cases = {figure["case"] for figure in json.loads(done.stdout)["figures"]}
    assert cases == {
        "python",
        "import-peers",
        "import-minions",
        "idle-1",
        "idle-100",
        "idle-1000",
        "restart-1000",
        "resume",
    }


def test_watchdog_shows_what_a_tick_costs_for_each_number_of_components() -> None:
    done = _run("watchdog.py", "--quick", "--only", "components-10", "components-100", "--json")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert [(figure["case"], figure["unit"]) for figure in figures] == [
        (case, unit) for case in ("components-10", "components-100") for unit in ("ms", "ms", "%")
    ]
    assert all(figure["median"] > 0 for figure in figures)


def test_simulation_counts_runs_and_turns_on_one_core_and_on_all() -> None:
    done = _run("simulation.py", "--quick", "--only", "pair-*", "--json")

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert {figure["case"].partition("-")[0] for figure in figures} == {"pair"}
    assert len(figures) == 4 * len({figure["case"] for figure in figures})
    assert all(figure["median"] > 0 for figure in figures)


def test_calls_are_measured_against_a_bare_hand_off() -> None:
    done = _run("calls.py", "--quick", "--only", "locks", "queue.Queue", "uses", "outside", "submit", "--json")

    assert done.returncode == 0, done.stderr
    cases = json.loads(done.stdout)["cases"]
    assert list(cases) == ["locks", "queue.Queue", "uses", "outside", "submit"]
    assert cases["locks"]["x_locks"]["median"] == 1.0
    for figures in cases.values():
        assert 0 < figures["median_us"]["median"] <= figures["p99_us"]["median"]
        assert figures["x_locks"]["median"] > 0
        assert figures["calls_per_s"]["median"] > 0


def test_the_matrix_measures_every_cell_and_its_file_gives_the_same_ratios_again(tmp_path: Path) -> None:
    file = tmp_path / "matrix.csv"
    done = _run(
        "matrix.py",
        "--quick",
        "--rounds",
        "2",
        "--only",
        "queue.Queue",
        "minions",
        "sqlite3",
        "--sizes",
        "1000",
        "--pairs",
        "1",
        "4",
        "--csv",
        str(file),
    )

    assert done.returncode == 0, done.stderr
    results = cells.read(file)
    measured = {(run.cell.setting.busy, run.cell.contender, run.cell.pairs) for run in results.runs}
    several, one = ["queue.Queue", "minions"], "sqlite3"
    assert measured == {
        (busy, name, pairs)
        for busy in (False, True)
        for name, pairs in [*((name, pairs) for name in several for pairs in (1, 4)), (one, 1)]
    }
    assert len(results.runs) == 2 * len(measured)
    idle = results.settings[0]
    assert report.lines(results)[-4:] == done.stdout.splitlines()[-4:]
    ratio = results.target(idle, cells.TARGETS[0], 4)
    assert ratio is not None
    each = sorted(_rate(results, "minions", number) / _rate(results, "queue.Queue", number) for number in (1, 2))
    assert ratio.median == pytest.approx(sum(each) / 2)


def _rate(results: cells.Results, contender: str, round_number: int) -> float:
    (found,) = (
        run.messages_per_s
        for run in results.runs
        if (run.round_number, run.cell.contender, run.cell.pairs) == (round_number, contender, 4)
        and not run.cell.setting.busy
    )
    return found


def test_a_run_that_does_not_end_in_time_counts_as_nothing_and_is_told_apart_from_a_failure(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import threading\ndef run(messages, options):\n    threading.Event().wait()\n"
        "def wrong(messages, options):\n    raise SystemExit(1)\n"
    )
    path = f"{_HERE}{os.pathsep}{tmp_path}"
    script = (
        "import sys\nfrom bench.child import *\n"
        "try:\n    in_child(Request(sys.argv[1], 1, sys.argv[2], timeout_s=0.5))\n"
        "except RunFailed as failure:\n    print(type(failure).__name__)\n"
    )
    told = []
    for target in ("slow:run", "slow:wrong"):
        done = subprocess.run(
            [sys.executable, "-c", script, target, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        told.append(done.stdout.strip())
    assert told == ["TookTooLong", "RunFailed"]

    setting = cells.Setting("3.11", 100, busy=False)
    results = cells.Results([cells.Run(1, cells.Cell(setting, "minions", 1), 16, inf)])
    file = tmp_path / "endless.csv"
    cells.write(file, results)
    assert cells.read(file) == results
    assert results.spread(setting, "minions", 1) == Spread(0, 0, 0)


def _moments(
    seconds: int = 180,
    *,
    bytes_a_message: float = 0.0,
    blocks_a_message: float = 0.0,
    noise: float = 0.0,
    free: int = 0,
) -> list[footprint.Moment]:
    """A run that sends 100,000 messages a second and holds 50 MB; `free` is what the allocator holds more from the middle on."""
    chance, moments = random.Random(1), []
    for second in range(seconds):
        messages, idle = 100_000 * second, free * (second >= seconds // 2)
        kept = round(50_000_000 + bytes_a_message * messages + chance.gauss(0, noise))
        blocks = round(100_000 + blocks_a_message * messages + chance.gauss(0, 1_000))
        moments.append(footprint.Moment(second, messages, kept + idle, kept + idle, idle, blocks, 1_000))
    return moments


@pytest.mark.parametrize(
    ("moments", "findings"),
    [
        (_moments(), "held held held"),
        (_moments(noise=50_000), "held held held"),
        (_moments(bytes_a_message=-1), "held held held"),
        (_moments(bytes_a_message=0.02), "BROKEN held held"),
        (_moments(blocks_a_message=0.0003), "held BROKEN held"),
        (_moments(bytes_a_message=0.02, noise=3_000_000), "not settled held held"),
        (_moments(free=2_000_000), "held held held"),
        (_moments(free=10_000_000), "held held BROKEN"),
    ],
)
def test_a_run_is_bounded_only_where_no_rule_is_broken_and_each_is_settled(
    moments: list[footprint.Moment], findings: str
) -> None:
    verdict = memory.judged(moments)

    assert " ".join(rule.finding.value for rule in verdict.rules) == findings
    assert verdict.bounded == (findings == "held held held")


def test_the_margin_is_that_of_resident_memory_from_third_to_third() -> None:
    moments = _moments(free=5_000_000)  # 10 %, half of which the middle third has already in its median

    assert [memory.judged(moments, margin).rules[2].finding.value for margin in (4.0, 11.0)] == ["BROKEN", "held"]


def test_a_run_that_is_too_short_gets_no_verdict() -> None:
    with pytest.raises(ValueError, match="59 moments are too few to judge by; 60 are the least"):
        memory.judged(_moments(59))


def test_a_trend_knows_how_far_it_can_be_trusted() -> None:
    chance, x = random.Random(2), list(range(400))
    off = 0
    for _ in range(200):
        found = trend(x, [0.5 * each + chance.gauss(0, 10) for each in x])
        off += not found.least <= 0.5 <= found.most
    assert 2 <= off <= 22  # 5 % of 200, and what chance does to it


def test_what_is_kept_is_in_use_and_what_was_freed_is_not() -> None:
    script = (
        "import gc\nfrom bench.footprint import free_asker, resident\nfree = free_asker()\n"
        "def in_use():\n    return resident()[1] - free()\n"
        "before = in_use()\nkept = [bytearray(10_000) for _ in range(2_000)]\nafter = in_use()\n"
        "last = kept[-1]\ndel kept\nprint(after - before, in_use() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(_HERE)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    grown, left = map(int, done.stdout.split())
    assert 19_000_000 < grown < 25_000_000
    assert left < 2_000_000


def test_memory_is_noted_while_every_stream_flows(tmp_path: Path) -> None:
    file = tmp_path / "memory.csv"
    done = _run("memory.py", "--quick", "--json", "--csv", str(file))

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["messages"]) == 7
    assert all(told["messages"].values())
    moments = footprint.read(file)
    assert max(moment.resident_bytes for moment in moments) == told["largest_resident_bytes"]
    assert max(moment.store_bytes for moment in moments) > 0
    assert [moment.messages for moment in moments] == sorted(moment.messages for moment in moments)
    assert all(0 < moment.free_bytes < moment.private_bytes < moment.resident_bytes for moment in moments)
    assert moments[-1].messages > 0 < moments[-1].blocks


def test_versions_lists_this_interpreter_when_it_is_given() -> None:
    done = _run("versions.py", "--list", "--python", sys.executable)

    assert done.stdout.splitlines() == [sys.executable]


def test_the_page_is_written_anew_from_results_and_only_between_its_marks(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    names = ["queue.Queue", "pykka", "minions", "huey", "minions-durable"]
    runs = [
        cells.Run(number, cells.Cell(cells.Setting(python, 100, busy=False), name, 1), 100, number / (index + 1))
        for python in ("3.11", "3.13")
        for number in (1, 2, 3)
        for index, name in enumerate(names)
    ]
    cells.write(results / "matrix.csv", cells.Results(runs))
    footprint.write(results / "memory.csv", _moments())
    (results / "memory.json").write_text(json.dumps({"seconds": 9, "counts": {"sent": 90}}))
    facts = {"cpus": 2, "filesystem": "ext4", "fsync_us": 200, "pythons": ["3.11.7"], "versions": {"huey": "3"}}
    (results / "facts.json").write_text(json.dumps(facts))
    marks = ["machine", "summary", "targets", "rates", "memory"]
    page = docs / "performance.md"
    page.write_text(
        "Before.\n" + "".join(f"<!-- {each}: begin -->\nold\n<!-- {each}: end -->\n" for each in marks) + "After.\n"
    )

    for _ in range(2):  # the second time over what the first one wrote
        done = _run("refresh.py", str(results), "--again", "--docs", str(docs))
        assert done.returncode == 0, done.stderr

    text = page.read_text()
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "| 3.13 | 100 B | 1 | **3.00** | 1.50 | 2.50 | **0.60** |" in text
    assert "| messages a second, sent | 10 |  |" in text
    assert len(list(docs.glob("*.svg"))) == 3

    assert "messages of 100 B | bounded | |" in text

    footprint.write(results / "memory.csv", _moments(bytes_a_message=1.0))
    done = _run("refresh.py", str(results), "--again", "--docs", str(docs))
    assert done.returncode == 1
    assert "messages of 100 B | **NOT BOUNDED** | |" in page.read_text()

    page.write_text("No marks.")
    done = _run("refresh.py", str(results), "--again", "--docs", str(docs))
    assert done.returncode == 2
    assert page.read_text() == "No marks."


def test_a_matrix_shows_a_run_that_did_not_end_in_time_as_a_rate_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_arguments: object, **_options: object) -> dict[str, float]:
        raise TookTooLong("did not end")

    monkeypatch.setattr(matrix, "in_child", too_long)
    file = tmp_path / "matrix.csv"
    wanted = ["--quick", "--only", "queue.Queue", "--pairs", "1", "--busy", "no", "--csv", str(file)]

    assert matrix.main(wanted) == 0
    assert [run.messages_per_s for run in cells.read(file).runs] == [0]


def test_plugins_that_misbehave_are_measured_beside_none() -> None:
    done = _run("plugins.py", "--quick", "--only", "none", "raises", "sleeps", "--json")

    assert done.returncode == 0, done.stderr
    figures = {figure["case"]: figure for figure in json.loads(done.stdout)["figures"]}
    assert set(figures) == {"none", "raises", "sleeps"}
    assert figures["raises"]["faults"] == figures["raises"]["calls"] > 0
    assert figures["none"]["calls"] == figures["none"]["faults"] == 0
    assert all(
        figure["wall"]["low"] <= figure["wall"]["median"] <= figure["wall"]["high"] for figure in figures.values()
    )


def test_the_range_of_a_median_is_that_of_the_order_of_the_values() -> None:
    assert samples.median_range([3.0, 1.0, 2.0]) == samples.MedianRange(2.0, 1.0, 3.0)
    found = samples.median_range([float(number) for number in range(1, 21)])
    assert (found.median, found.low, found.high) == (10.5, 6.0, 15.0), (
        "as tables of the sign test have it for 20 values"
    )

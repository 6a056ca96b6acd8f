"""The benchmarks run, print what they promise and catch a contender that cheats. Nothing here is timed."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent
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
    assert cases == {"python", "import-peers", "import-minions", "idle-1", "idle-100", "idle-1000", "resume"}

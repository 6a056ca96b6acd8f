"""What is wrong with a component or its wiring is seen by mypy and pyright, and what is right is not complained about.

In `samples/` the comment ``# E: mypy pyright`` marks each line that these checkers have to refuse. Nothing else may be refused.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(__file__).parent / "samples"
TIMEOUT_S = 300

Place = tuple[str, int]
"""A file of the samples, and a line in it."""

pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


def expected(checker: str) -> set[Place]:
    return {
        (path.name, number)
        for path in SAMPLES.glob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if checker in line.partition("# E:")[2].split()
    }


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def compare(checker: str, found: dict[Place, str]) -> None:
    wanted = expected(checker)
    assert wanted, "the samples are gone"
    missed = sorted(wanted - found.keys())
    false = sorted(f"{place}: {found[place]}" for place in found.keys() - wanted)
    assert not missed, f"{checker} accepts what is wrong"
    assert not false, f"{checker} refuses what is right"


def test_mypy_refuses_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    result = run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary", "--follow-imports=silent"),
            *("--config-file", os.devnull, "--cache-dir", str(tmp_path), str(SAMPLES)),
        ],
        MYPYPATH=str(ROOT),  # mypy does not see what is installed editable
    )
    assert result.returncode in (0, 1), result.stdout + result.stderr
    errors = re.findall(r"^(.+?):(\d+): error: (.+)$", result.stdout, re.MULTILINE)
    compare("mypy", {(Path(path).name, int(line)): said for path, line, said in errors})


def test_pyright_refuses_what_is_wrong_and_nothing_else() -> None:
    try:
        result = run(
            [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(SAMPLES)],
            PYRIGHT_PYTHON_IGNORE_WARNINGS="1",
        )
        report = json.loads(result.stdout)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        pytest.skip(f"pyright does not start, it needs node once from the network: {error}")
    assert report["summary"]["filesAnalyzed"] == len(list(SAMPLES.glob("*.py")))
    found = {
        (Path(diagnostic["file"]).name, diagnostic["range"]["start"]["line"] + 1): diagnostic["message"]
        for diagnostic in report["generalDiagnostics"]
        if diagnostic["severity"] == "error"
    }
    compare("pyright", found)

"""The house as DESIGN draws it: imports only go down, one public face, one home for each fact."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import minions
import minions.testing

HOUSE = Path(__file__).parent.parent
PACKAGE = HOUSE / "minions"
LINT_IMPORTS = Path(sysconfig.get_path("scripts")) / "lint-imports"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def files_of_the_project() -> Iterator[Path]:
    """Every text file that is, or is about to be, tracked."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: what belongs to the project cannot be told")
    paths = [HOUSE / name for name in listed.stdout.split("\0") if name]
    return (path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192])


def lines_that_match(pattern: str, paths: Iterator[Path]) -> list[str]:
    expression = re.compile(pattern)
    return [
        f"{path.relative_to(HOUSE)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if expression.search(line)
    ]


# Floors


def test_imports_only_go_down() -> None:
    result = lint_imports(HOUSE)
    assert result.returncode == 0, result.stdout + result.stderr


DOWN = "Imports only go down"
FACE = "The public face is for users"
TESTING = "Nothing imports the tools of the tests"
CIRCLE = "No import goes in a circle"

CONTRABAND = {
    "upward": (DOWN, "model/planted.py", "import minions.flow"),
    "upward, relative": (DOWN, "model/planted.py", "from ..flow import planted"),
    "upward, lazy": (DOWN, "flow/planted.py", "def later() -> None:\n    from minions import life"),
    "upward, for types only": (
        DOWN,
        "flow/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from minions.system import System",
    ),
    "from the ground": (DOWN, "events.py", "import minions.model"),
    "in a room without a floor": (DOWN, "planted.py", ""),
    "through the public face": (FACE, "model/planted.py", "from minions import System"),
    "into testing, from the face": (TESTING, "__init__.py", "import minions.testing"),
    "into testing, from the top": (TESTING, "cli/planted.py", "import minions.testing"),
    "in a circle within a room": (CIRCLE, "flow/planted.py", "import minions.flow.planted_too"),
}


@pytest.mark.parametrize(("contract", "module", "code"), CONTRABAND.values(), ids=CONTRABAND)
def test_the_contract_refuses_an_import(contract: str, module: str, code: str, tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "minions", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    (tmp_path / "minions/flow/planted_too.py").write_text("import minions.flow.planted" if "too" in code else "")
    with (tmp_path / "minions" / module).open("a") as planted:
        planted.write(f"\n{code}\n")

    result = lint_imports(tmp_path)

    assert f"{contract} BROKEN" in result.stdout, result.stdout + result.stderr
    assert result.returncode == 1


# The public face


def test_the_public_names_are_sorted_and_exist() -> None:
    assert list(minions.__all__) == sorted(minions.__all__)
    assert [name for name in minions.__all__ if not hasattr(minions, name)] == []


def test_the_reference_has_each_public_name_once_and_no_other() -> None:
    pages = "".join((HOUSE / "docs" / page).read_text(encoding="utf-8") for page in ("reference.md", "errors.md"))
    documented = re.findall(r"^\.\. auto\w+:: minions\.([\w.]+)$", pages, flags=re.MULTILINE)
    named = [name for name in minions.__all__ if name != "wrap"] + [f"wrap.{name}" for name in minions.wrap.__all__]
    named += [f"testing.{name}" for name in minions.testing.__all__]
    assert sorted(documented) == sorted(named)


def test_every_module_says_what_it_is() -> None:
    modules = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert [str(path.relative_to(HOUSE)) for path, module in modules.items() if not ast.get_docstring(module)] == []


# One home for each fact


def test_what_is_true_of_the_package_stands_only_in_setup_cfg() -> None:
    settings = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))
    metadata = configparser.ConfigParser()
    metadata.read(HOUSE / "setup.cfg")

    assert set(settings) == {"build-system", "tool"}
    assert "setuptools" not in settings["tool"]
    assert [name for name in metadata.sections() if not name.startswith(("metadata", "options"))] == []
    assert not (HOUSE / "setup.py").exists()


# What no file may hold


def test_no_file_names_a_folder_of_one_machine() -> None:
    assert lines_that_match(r"(?<![\w.])/(root|work|farm|home/\w+|Users/\w+)/", files_of_the_project()) == []


def test_nothing_left_to_do_is_kept_in_a_comment() -> None:
    assert lines_that_match(r"\b(TO[D]O|FIX[M]E|XX[X]|HA[C]K)\b", files_of_the_project()) == []


def test_no_test_waits_by_sleeping() -> None:
    tests = (path for path in files_of_the_project() if path.suffix == ".py" and "tests" in path.parts)
    assert lines_that_match(r"\btime\.sleep\(|from time import .*\bsleep\b", tests) == []

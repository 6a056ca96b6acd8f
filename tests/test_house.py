"""The house as DESIGN draws it: imports only go down, one public face, one home for each fact."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
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


def test_each_public_name_is_listed_mapped_and_shown_to_type_checkers_with_the_same_home() -> None:
    face = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    values = {
        node.targets[0].id: node.value
        for node in face.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    listed = ast.literal_eval(values["__all__"])
    modules = ast.literal_eval(values["_MODULES"])
    mapped = [(module, name) for module, names in ast.literal_eval(values["_HOMES"]).items() for name in names]
    mapped += [(module.rpartition(".")[0], name) for name, module in modules.items() if name in listed]
    [for_types] = (node for node in face.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    imported = [
        (node.module, name.asname or name.name)
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    assert sorted(mapped) == sorted(imported)
    assert sorted(name for _, name in mapped) == listed


def in_a_new_process(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", minions.__all__)
def test_a_public_name_is_the_same_however_it_is_asked_for(name: str) -> None:
    namespace: dict[str, object] = {}
    exec(f"from minions import {name}", namespace)
    assert namespace[name] is getattr(minions, name) is vars(minions)[name]


def test_importing_the_face_loads_nothing_and_all_of_it_can_be_had() -> None:
    loaded = "sorted(name for name in sys.modules if name.startswith('minions.'))"
    assert in_a_new_process(f"import sys, minions; print({loaded})") == "[]\n"
    assert in_a_new_process("import minions; print(minions.errors.MinionsError is minions.MinionsError)") == "True\n"
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    apart = {"__init__", "cli", "demo", "demo_files", "hookspecs", "testing"}
    for room in sorted(rooms - apart):
        assert in_a_new_process(f"import minions; print(minions.{room}.__name__)") == f"minions.{room}\n"
    assert in_a_new_process("import minions; print(set(minions.__all__) - set(dir(minions)))") == "set()\n"
    star = "from minions import *; print(sorted(set(minions.__all__) - set(globals())))"
    assert in_a_new_process(f"import minions; {star}") == "[]\n"


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match=r"^module 'minions' has no attribute 'Sytem'$") as caught:
        getattr(minions, "Sytem")  # noqa: B009 - a type checker refuses the attribute itself
    assert caught.value.name == "Sytem"
    with pytest.raises(ImportError, match="cannot import name 'Sytem' from 'minions'"):
        exec("from minions import Sytem")


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

"""Other interpreters: which they are, what is installed for them, and virtual environments with the peers."""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

_PROBE = """
import importlib.metadata, json, sys, sysconfig
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
label = f"{sys.version_info[0]}.{sys.version_info[1]}{free}"
full = ".".join(map(str, sys.version_info[:3])) + free
print(json.dumps([label, full, {name: version(name) for name in sys.argv[1:]}]))
"""
_NEEDED_BY_MINIONS = ["attrs", "cattrs", "diskcache", "psutil", "pluggy"]


class Unusable(Exception):
    """An interpreter that cannot run the benchmarks; the text names it and says why."""


@attrs.frozen
class Interpreter:
    command: str
    label: str  # "3.11", with a "t" behind it when it is free-threaded
    version: str
    installed: dict[str, str]  # versions by distribution; without what is not installed


def looked_at(command: str, distributions: Iterable[str]) -> Interpreter:
    """Runs it once, briefly.

    Raises:
        Unusable: it does not run, or something is missing that Minions needs.
    """
    wanted = [*dict.fromkeys([*_NEEDED_BY_MINIONS, *distributions])]
    try:
        done = subprocess.run([command, "-c", _PROBE, *wanted], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unusable(f"{command}: does not run as a Python: {error}") from error
    label, version, versions = json.loads(done.stdout)
    missing = [name for name in _NEEDED_BY_MINIONS if not versions[name]]
    if missing:
        raise Unusable(
            f"{command}: {', '.join(missing)} not installed there; versions.py makes an environment that has it"
        )
    return Interpreter(command, label, version, {name: found for name, found in versions.items() if found})


def make_environment(python: str, folder: Path, requirements: Sequence[str]) -> tuple[str, list[str]]:
    """A virtual environment in `folder`, with as many of the requirements as can be had there; one that exists is kept.

    Blocks for the installation, a minute or so.

    Returns:
        its interpreter, and the requirements that could not be installed.

    Raises:
        Unusable: no environment can be made, or something that Minions needs cannot be installed.
    """
    inside = folder / "bin" / "python"
    if not inside.exists():
        _run([python, "-m", "venv", str(folder)])
    try:
        _run([str(inside), "-m", "pip", "install", "--quiet", *_NEEDED_BY_MINIONS, *requirements])
    except Unusable:
        _run([str(inside), "-m", "pip", "install", "--quiet", *_NEEDED_BY_MINIONS])
        return str(inside), [each for each in requirements if not _installs(inside, each)]
    return str(inside), []


def _installs(python: Path, requirement: str) -> bool:
    try:
        _run([str(python), "-m", "pip", "install", "--quiet", requirement])
    except Unusable:
        return False
    return True


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unusable(f"{error}") from error

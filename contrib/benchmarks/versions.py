"""The matrix on several versions of CPython: makes an environment for each, and measures all of them in turns."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matrix
from bench import cli, disk
from bench.cells import IN_MATRIX
from bench.interpreters import Unusable, make_environment

_WANTED = ["3.11", "3.12", "3.13", "3.13t", "3.14", "3.14t"]  # "t": free-threaded
_HERE = Path(__file__).resolve().parent
_EXAMPLES = """  python versions.py --csv versions.csv --plot versions.svg      all that are found: about 40 minutes
  python versions.py --pairs 1 --sizes 100 --rounds 7            about 3 minutes
  python versions.py --python python3.11 python3.13t             these two
  python versions.py --environments DIR                          keeps the environments there, and uses them again
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__ or "", _EXAMPLES, rounds=matrix.ROUNDS, timeout_s=matrix.TIMEOUT_S)
    matrix.add_arguments(parser)
    parser.add_argument("--environments", type=Path, metavar="DIR", help="default: a temporary folder")
    parser.set_defaults(python=[])
    options = parser.parse_args(arguments)
    commands = options.python or all_found()
    if options.list:
        print("\n".join(commands))
        return cli.OK
    cli.output_checked(parser, options)
    names = cli.chosen(parser, IN_MATRIX, options.only)
    with disk.fresh_folder(options.folder or disk.real_disk()) as folder:
        try:
            made = list(environments(commands, options.environments or folder))
            return matrix.measured_and_shown(matrix.looked_at_all(made), names, options, folder)
        except Unusable as unusable:
            parser.error(str(unusable))


def environments(commands: Sequence[str], folder: Path) -> Iterator[str]:
    """The interpreters of environments that have the peers; what could not be installed in one is named on stderr."""
    wanted = [line.strip() for line in (_HERE / "requirements.txt").read_text().splitlines()]
    requirements = [line for line in wanted if line and not line.startswith(("#", "matplotlib"))]
    for command in commands:
        cli.say(f"making an environment for {command}")
        inside, missing = make_environment(command, folder / _file_name(command), requirements)
        for requirement in missing:
            cli.say(f"  without {requirement}: it cannot be installed there")
        yield inside


def all_found() -> list[str]:
    return [command for version in _WANTED if (command := found(version))]


def found(version: str) -> str:
    """An interpreter of this version, on the path or where pyenv keeps its own; "" when there is none."""
    places = [shutil.which(f"python{version}") or ""]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    number, free = version.removesuffix("t"), version.endswith("t")
    if versions.is_dir():
        kept = sorted(versions.glob(f"{number}.*/bin/python"), reverse=True)
        places += [str(each) for each in kept if each.parent.parent.name.endswith("t") == free]
    return next((place for place in places if place and _runs(place)), "")


def _runs(command: str) -> bool:
    """False for what only stands in for an interpreter that is not there, as pyenv's shims do."""
    return subprocess.run([command, "-c", ""], capture_output=True, check=False).returncode == 0


def _file_name(command: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in command)[-80:]


if __name__ == "__main__":
    sys.exit(main())

"""Which project a command is about: its state folder, found from the working directory, and its program."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import minions
from minions.errors import MinionsError
from minions.operate.client import NotRunning, has_socket

__all__ = ["BadApp", "add_folder", "folder_of", "load_app", "refuse_nothing"]

STATE_FOLDER = ".minions"


class BadApp(MinionsError):
    """A program that cannot be used as it was named; the text says why."""


def add_folder(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Adds ``--folder`` and ``--json``, which every command about a project has.

    Args:
        again: to an action of a command that has them too: what stands before the action counts.
    """
    default: Any = argparse.SUPPRESS if again else None
    parser.add_argument(
        "--folder",
        metavar="DIR",
        type=Path,
        default=default,
        help="the project, or its state folder (by default the nearest from the working directory upward)",
    )
    parser.add_argument("--json", action="store_true", default=default or False, help="print JSON")


def folder_of(options: argparse.Namespace) -> Path:
    """The state folder that a command is about.

    Raises:
        NotRunning: there is none from the working directory upward.
    """
    if options.folder is not None:
        below = options.folder / STATE_FOLDER
        return below if _is_there(below) else Path(options.folder)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_there(folder / STATE_FOLDER):
            return folder / STATE_FOLDER
    raise NotRunning(
        f"there is no system in {here} or above it (no folder {STATE_FOLDER}, and none that runs): change to the folder of the "
        "project, or name it with --folder DIR"
    )


def refuse_nothing(folder: Path) -> None:
    """Refuses a folder that was named and is none.

    Raises:
        NotRunning: nothing is kept there, and no system runs on it.
    """
    if not _is_there(folder):
        raise NotRunning(f"no system runs on {folder}, and nothing is kept there")


def _is_there(folder: Path) -> bool:
    return folder.is_dir() or has_socket(folder)


def load_app(named: str, called: str = "") -> minions.System:
    """The system that a program makes, which is run for that, as an import would.

    Args:
        named: the program's path, and behind a colon what the system is called in it: ``app.py``, ``app.py:system``.
        called: the name of the system itself, by which one of several is chosen.

    Raises:
        BadApp: there is no such file or system, or the program fails.
    """
    path, colon, name = named.rpartition(":") if ":" in named else (named, "", "")
    file = Path(path).absolute()
    if not file.is_file():
        raise BadApp(
            f"there is no file {path}: name the program that makes the system, such as app.py or app.py:system"
        )
    module = _run(file)
    if colon:
        found = getattr(module, name, None)
        if not isinstance(found, minions.System):
            raise BadApp(f"{path} has no System called {name!r}; it has {_names(module)}")
        return found
    systems = {id(value): value for value in vars(module).values() if isinstance(value, minions.System)}
    if len(systems) > 1:
        systems = {key: system for key, system in systems.items() if system.name == called} or systems
    if len(systems) != 1:
        raise BadApp(
            f"{path} has {_names(module)}: say which, {path}:NAME"
            if systems
            else f"{path} makes no System at its top level"
        )
    return systems.popitem()[1]


def _names(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, minions.System))
    return ", ".join(names) or "none"


def _run(file: Path) -> ModuleType:
    """The module of a program; its main guard does not run, and it finds what is beside it."""
    name = file.stem
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        name = "_minions_app"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadApp(f"{file} is no Python program: name a file that ends with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except MinionsError:
        raise
    except SystemExit as error:
        if isinstance(error.__cause__, MinionsError):
            raise
        raise BadApp(
            f"{file} ended itself while it was loaded (SystemExit: {error.code}): put what is to be done when it is run "
            'under `if __name__ == "__main__":`'
        ) from error
    except Exception as error:  # whatever a program raises is what is wrong with it
        trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
        while trace is not None and trace.tb_frame.f_code.co_filename != str(file):
            trace = trace.tb_next
        print("".join(traceback.format_exception(type(error), error, trace)), end="", file=sys.stderr)
        raise BadApp(f"{file} cannot be loaded: {type(error).__name__}: {error}") from error
    return module

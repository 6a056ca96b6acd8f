"""A recorded crash in a test: see `System.replay`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from minions import Replay
from minions.cli.project import load_app
from minions.life.crash import crash_in, crash_of
from minions.testing.arguments import mapping, path, refuse

__all__ = ["replay"]


def replay(crash: str | Path, *, app: str | Path, answers: Mapping[str, Any] = MappingProxyType({})) -> Replay:
    """Runs the unit of work of a crash once more, offline, with the program as it is now; ``replay(...).check()`` is a test.

    The program is loaded as a module, so what stands under its main guard does not run; the system is the one of the name that
    was recorded. Blocks for as long as the code of the component does; starts no thread, and writes nothing.

    Args:
        crash: the text of a crash, as ``minions replay --pytest`` writes it, or the path of its file.
        app: the program, ``app.py`` or ``app.py:system``.
        answers: what calls answer that the unit had not come to before it failed; see `System.replay`.

    Raises:
        UsageError: the arguments do not fit; or there is no such call as `answers` says.
        CrashRefused: it cannot be read, or not be replayed with this program.
        BadApp: there is no such program or system, or the program fails.
    """
    refuse(
        "replay()",
        path("crash", crash, "the text of a crash, or its file"),
        path("app", app, 'the program, such as "app.py"'),
        mapping("answers", answers, '{"database.find": None}'),
    )
    is_text = isinstance(crash, str) and crash.lstrip().startswith("{")
    found = crash_of(str(crash).encode(), "the text") if is_text else crash_in(Path(crash))
    return load_app(str(app), found.system).replay(found, answers=answers)

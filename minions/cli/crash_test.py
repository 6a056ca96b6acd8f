"""A crash as a test for pytest: a file that holds the crash and finds the program from where it is itself."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import attrs

from minions import Crash
from minions.life.crash import stored_form

__all__ = ["written_test"]

_FILE = '''\
"""{component} failed in {where} on {day}: {error}

Red until the bug is fixed. Written by `minions replay --pytest`; CRASH holds the message and the state of that moment.
"""

from pathlib import Path

from minions.testing import replay

APP = Path(__file__).parent / {app}
CRASH = r\'\'\'
{crash}
\'\'\'


def test_{name}() -> None:
    replay(CRASH, app={named}).check()
'''


def written_test(crash: Crash, app: str, folder: Path) -> str:
    """The text of the test.

    Args:
        app: the program, ``app.py`` or ``app.py:system``.
        folder: where the test is going to be.
    """
    path, colon, system = app.rpartition(":") if ":" in app else (app, "", "")
    # No traceback: it would name folders of the machine on which it was recorded.
    stored = stored_form(attrs.evolve(crash, traceback="", program=""))
    text = json.dumps(json.loads(stored), indent=1)
    return _FILE.format(
        component=_plain(crash.component),
        where=_plain(crash.where),
        day=f"{datetime.fromtimestamp(crash.at, UTC):%Y-%m-%d}",
        error=_plain(crash.error),
        app=ascii(Path(os.path.relpath(path, folder)).as_posix()),
        crash=text.replace("'", "\\u0027"),  # which JSON reads as the same, and which does not end the string
        name=re.sub(r"\W+", "_", f"{crash.component}_{crash.where}_does_not_fail").lower(),
        named=f'f"{{APP}}:{system}"' if colon else "APP",
    )


def _plain(text: str) -> str:
    """Text for a docstring."""
    return text[:200].encode("unicode_escape").decode().replace("\\", "/").replace('"', "'")

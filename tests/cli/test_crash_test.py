"""The text of the test that a crash is written as."""

from __future__ import annotations

from pathlib import Path

import pytest

from minions import Crash
from minions.cli.crash_test import written_test


def crash(error: str) -> Crash:
    return Crash(
        error_kind="builtins:ValueError",
        system="test",
        component="failing",
        class_name="app:Failing",
        epoch=1,
        kind="handler",
        where="take",
        error=error,
        at=0.0,
        monotonic_s=0.0,
    )


@pytest.mark.parametrize(
    "error", ["nul \0 in it", "two\nlines", "\"\"\" and '''", "\\", "right \u202e to left", "\x1b[31m red", "\r"]
)
def test_whatever_an_error_says_it_is_python(tmp_path: Path, error: str) -> None:
    text = written_test(crash(f"ValueError: {error}"), "app.py", tmp_path)
    code = compile(text, "test_failing.py", "exec")
    assert "test_failing_take_does_not_fail" in code.co_names
    assert text.isascii()
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert text.splitlines()[0].startswith('"""failing failed in take on 1970-01-01: ValueError: ')

"""What is wrong on the command line, or in the program that it names: each has its exit code and says what to write instead."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from minions.cli import change, main, status
from minions.cli.shown import rich_table
from minions.operate.client import HungUp


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, and what was printed."""
    try:
        code = main(words)
    except SystemExit as error:
        code = int(error.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("restart --timeout x", "'x' must be a number of seconds above 0"),
        ("restart --timeout 0", "'0' must be a number of seconds above 0"),
        ("stop --timeout nan", "'nan' must be a number of seconds above 0"),
        ("dead retry --of a --timeout inf", "'inf' must be a number of seconds above 0"),
        ("dead drop --of a --timeout -1", "'-1' must be a number of seconds above 0"),
        ("top --every 0.05", "'0.05' must be a number of seconds from 0.1 up"),
        ("top --every soon", "'soon' must be a number of seconds from 0.1 up"),
        ("top --times -1", "'-1' must be a whole number from 0 (for ever) up"),
        ("events --last -5", "'-5' must be a whole number from 0 (none) up"),
        ("events --last 1.5", "'1.5' must be a whole number from 0 (none) up"),
        ("dead show", "say which: the ids of messages, or --of NAME"),
        ("dead retry", "say which: the ids of messages, or --of NAME"),
        ("dead drop", "say which: the ids of messages, or --of NAME"),
    ],
)
def test_wrong_arguments_are_told_with_what_to_write_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    code, out, err = run(capsys, *words.split())
    assert (code, out) == (2, "")
    assert said in err


@pytest.mark.parametrize("words", ["events", "crashes", "dead list", "dead drop --of a", "state show", "status"])
def test_a_folder_that_is_not_there_is_no_system_without_anything_to_show(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str
) -> None:
    code, out, err = run(capsys, *words.split(), "--folder", str(tmp_path / "nope"))
    assert (code, out) == (3, "")
    assert f"no system runs on {tmp_path}/nope, and nothing is kept there" in err
    assert not (tmp_path / "nope").exists()


def test_a_program_that_ends_itself_while_it_is_loaded_is_told_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    app = tmp_path / "app.py"
    app.write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    code, _, err = run(capsys, "check", str(app))
    assert code == 1, "3 would say that the system does not run"
    assert (
        f"{app} ended itself while it was loaded (SystemExit: 3): put what is to be done when it is run under `if"
        in err
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [("import no_such_module\n", "No module named 'no_such_module'"), ("a = 1\n", "makes no System at its top level")],
)
def test_what_is_wrong_with_a_program_is_told_as_json_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    app = tmp_path / "app.py"
    app.write_text(text, encoding="utf-8")
    code, out, _ = run(capsys, "check", str(app), "--json")
    found = json.loads(out)
    assert (code, found["ok"]) == (1, False)
    assert problem in found["problems"][0]


class Gone(contextlib.nullcontext[Any]):
    """In the place of a connection to a system that ends while it is asked."""

    @classmethod
    def connect(cls, folder: Path) -> Gone:
        return cls()

    def __enter__(self) -> Gone:
        return self

    def ask(self, *_: Any, **__: Any) -> Any:
        raise HungUp("the system has ended")


@pytest.mark.parametrize(("words", "code"), [("stop", 0), ("stop a", 1), ("restart", 1), ("pause a", 1)])
def test_a_system_that_ends_while_it_is_asked_has_stopped_and_done_nothing_else(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, code: int
) -> None:
    monkeypatch.setattr(change, "Client", Gone)
    found, out, err = run(capsys, *words.split(), "--folder", str(tmp_path))
    assert found == code
    assert (out, err) == (("the system has stopped\n", "") if code == 0 else ("", "minions: the system has ended\n"))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 300])
def test_a_narrow_terminal_shows_fewer_columns_and_those_whole(width: int) -> None:
    row = ("average.readings", "1,234", "1,000", "999", "55,555", "44,444", "3", "0", "1.5", "4.0ms", "61us", "▁▂▃")
    console = pytest.importorskip("rich.console", reason="without rich no table is cut to the terminal")
    file = io.StringIO()
    console.Console(file=file, width=width).print(rich_table(status.INBOXES, [row], width))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    shown = lines[1].split()
    text = "".join(line[:17] for line in lines[3:]).replace(" ", "")
    assert text.startswith("average.read"), "the name of the inbox is what matters most"
    figures = lines[3].split()[1:]
    assert figures == [each for each in row[1:] if each in figures], "none is cut off"
    assert (len(figures) == len(row) - 1) is (width == 300 or width == 120)
    assert shown[0] == "inbox"

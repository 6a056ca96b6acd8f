"""What a user sees of the demo: what it counts, what it finds, what it says of a folder that is not as expected."""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minions import demo_files

Demo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """Runs ``minions demo`` with some arguments, in an empty folder that stays the same during a test."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minions.cli", "demo", *arguments]
        return subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False, **options)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "a/b").mkdir(parents=True)
    (folder / "one.py").write_text("import sys\n\nprint(sys.path)\n")
    (folder / "a/two.PY").write_text("no end of line")
    (folder / "a/b/header.txt").write_text("the header, and ünïcode\n")
    (folder / "a/b/empty").touch()
    (folder / "image.png").write_bytes(b"\x89PNG\xff")
    return folder


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert (done.returncode, done.stderr) == (0, "")
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def checksum(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    (found,) = re.findall(r"^checksum: ([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    return str(found)


# Counting -------------------------------------------------------------------------------------------------------------


def test_lines_words_and_bytes_are_counted_by_type(demo: Demo, folder: Path) -> None:
    printed = report(demo(folder, "--json"))

    assert printed["types"] == {
        ".py": {"files": 2, "lines": 3, "words": 7, "size_bytes": 42},
        ".txt": {"files": 1, "lines": 1, "words": 4, "size_bytes": 26},
        "(none)": {"files": 1, "lines": 0, "words": 0, "size_bytes": 0},
        "(unreadable)": {"files": 1, "lines": 0, "words": 0, "size_bytes": 0},
    }
    assert (printed["files"], printed["lines"], printed["words"], printed["size_bytes"]) == (5, 4, 11, 68)
    assert printed["unreadable"] == ["image.png: not UTF-8"]
    assert printed["resumed"] is False


def test_the_table_has_a_line_for_each_type_and_names_what_could_not_be_read(demo: Demo, folder: Path) -> None:
    printed = demo(folder).stdout

    assert re.search(r"^\.py +2 +3 +7 +42$", printed, re.MULTILINE)
    assert re.search(r"^total +5 +4 +11 +68$", printed, re.MULTILINE)
    assert "1 file could not be read as text:\n  image.png: not UTF-8\n" in printed


def test_a_second_run_finds_nothing_to_do_and_prints_the_same(demo: Demo, folder: Path) -> None:
    first = demo(folder)
    second = demo()  # it remembers the folder

    assert checksum(first) == checksum(second)
    assert first.stdout.partition("checksum")[0] == second.stdout.partition("checksum")[0]
    assert second.stderr == "resumes: 5 of 5 files are counted\n"
    assert "was complete, nothing was left to do" in second.stdout


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "one.py").unlink(),
        lambda folder: (folder / "two.py").write_text("import sys\n\nprint(sys.path)\n"),
        lambda folder: (folder / "one.py").write_text("import Sys\n\nprint(sys.path)\n"),
        lambda folder: (folder / "one.py").rename(folder / "two.py"),
        lambda folder: (folder / "other.png").write_bytes(b"\xff"),
    ],
    ids=["one file less", "the same file twice", "another letter", "another name", "one more that cannot be read"],
)
def test_the_checksum_tells(change: Callable[[Path], object], demo: Demo, folder: Path) -> None:
    first = demo(folder)
    change(folder)

    assert checksum(demo(folder)) == checksum(first)  # what was counted stays counted
    assert checksum(demo(folder, "--fresh")) != checksum(first)


def test_the_checksum_is_the_same_in_any_order_and_another_when_a_file_counts_twice() -> None:
    one, two = (demo_files.Counted(path=name, kind=".py") for name in ("one.py", "two.py"))

    def summed(*files: demo_files.Counted) -> str:
        return functools.reduce(demo_files.with_one_more, files, "0" * 64)

    assert summed(one, two) == summed(two, one)
    assert len({summed(), summed(one), summed(one, one), summed(one, one, one), summed(two)}) == 5


def test_the_plain_script_counts_the_same(demo: Demo, folder: Path, tmp_path: Path) -> None:
    def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "minions.demo", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    first = script(folder)
    assert checksum(first) == checksum(demo(folder)) == checksum(script(folder))
    other = script(folder / "a")
    assert (other.returncode, other.stdout) == (1, "")
    assert f"belongs to a run over {folder}" in other.stderr


def test_what_is_no_ordinary_file_is_counted_and_listed_with_the_reason(demo: Demo, folder: Path) -> None:
    (folder / "gone").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"caf\xe9")).write_text("")
    (folder / "a/up").symlink_to("..", target_is_directory=True)  # not followed, not counted

    assert report(demo(folder, "--json"))["unreadable"] == [
        f"caf\\xe9: {os.strerror(errno.ENOENT)}",
        f"gone: {os.strerror(errno.ENOENT)}",
        "image.png: not UTF-8",
        f"loop: {os.strerror(errno.ELOOP)}",
        "pipe: not a regular file",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_counted_and_listed(demo: Demo, folder: Path) -> None:
    (folder / "one.py").chmod(0)
    (folder / "a/b").chmod(0)
    try:
        unreadable = report(demo(folder, "--json"))["unreadable"]
    finally:
        (folder / "a/b").chmod(0o700)

    denied = os.strerror(errno.EACCES)
    assert unreadable == [f"a/b: {denied}", "image.png: not UTF-8", f"one.py: {denied}"]


def test_a_name_does_not_reach_the_terminal_as_a_command(demo: Demo, folder: Path) -> None:
    (folder / "\x1b[2J\n.\x07").write_bytes(b"\xff")

    printed = demo(folder).stdout
    assert "\\x1b[2J\\n.\\x07: not UTF-8" in printed
    assert "\x1b" not in printed


def test_caches_installed_packages_and_the_working_folder_are_left_out(demo: Demo, folder: Path) -> None:
    for name in ("__pycache__", "site-packages"):
        (folder / "a" / name).mkdir()
        (folder / "a" / name / "module.py").touch()
    work = folder / "work"

    assert report(demo(folder, "--work", work, "--json"))["files"] == 5
    assert report(demo(folder, "--work", work, "--json"))["files"] == 5


def test_an_empty_folder_ends_with_an_empty_table(demo: Demo, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    first = demo(empty)
    assert checksum(first) == "0" * 64
    assert re.search(r"^total +0 +0 +0 +0$", first.stdout, re.MULTILINE)
    assert "could not be read" not in first.stdout
    assert checksum(demo()) == "0" * 64


def test_a_file_that_is_gone_when_its_turn_comes_is_unreadable(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        demo_files.measure(str(folder), "never-there.py")


@given(st.text(alphabet=" \n\taé€𝄞\u2003", max_size=60), st.integers(min_value=4, max_value=9))
def test_a_file_is_measured_in_blocks_as_it_would_be_in_one(text: str, block_bytes: int) -> None:
    raw = text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_files, "BLOCK_BYTES", block_bytes)
        patch.setattr(Path, "open", lambda path, mode: io.BytesIO(raw))
        patch.setattr(Path, "stat", lambda path: os.stat(__file__))  # noqa: PTH116 - Path.stat is what is replaced
        counted, first = demo_files.measure("", "text.md")

    assert attrs.astuple(counted) == (
        "text.md",
        ".md",
        text.count("\n"),
        len(text.split()),
        len(raw),
        hashlib.sha256(raw).hexdigest(),
        "",
    )
    assert text.startswith(first)
    assert first or not text


def test_what_is_cut_off_within_a_letter_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "cut.txt").write_bytes("€".encode()[:2])

    with pytest.raises(UnicodeDecodeError):
        demo_files.measure(str(tmp_path), "cut.txt")


def test_the_order_of_the_walk_is_that_of_its_cursor(tmp_path: Path) -> None:
    for name in (
        "a.txt",
        "a/1",
        "a/b.c",
        "a/b/2",
        "a-b/3",
        "B/4",
        "ä/5",
        "z",
        os.fsdecode(b"\xff/6"),
        os.fsdecode(b"\xfe"),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()

    walked = [path.split("/") for path in demo_files.walk(str(tmp_path), leave_out="")]
    assert walked == sorted(walked)
    assert len(walked) == 10


# Which folder ---------------------------------------------------------------------------------------------------------


def test_another_folder_is_refused_while_the_first_is_remembered(demo: Demo, folder: Path) -> None:
    first = demo(folder)
    other = demo(folder / "a")

    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr.count("\n") == 1
    assert f"belongs to a run over {folder}" in other.stderr
    assert "--work" in other.stderr
    assert "--fresh" in other.stderr
    assert checksum(demo(folder)) == checksum(first)
    assert report(demo(folder / "a", "--fresh", "--json"))["files"] == 3


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("folder/one.py", "is not a folder"),
        ("folder/nowhere", "does not exist"),
        ("here/minions-demo", "does not exist"),
        ("here", None),
    ],
)
def test_what_cannot_be_read_as_a_folder_is_refused(
    asked: str, complaint: str | None, demo: Demo, folder: Path, tmp_path: Path
) -> None:
    done = demo(tmp_path / asked)

    if complaint is None:
        assert checksum(done) == "0" * 64
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert re.fullmatch(rf"minions: .*{complaint}.*\n", done.stderr)


def test_the_working_folder_itself_is_refused(demo: Demo, folder: Path) -> None:
    done = demo(folder, "--work", folder)

    assert done.returncode == 2
    assert "is in the working folder" in done.stderr
    assert not (folder / ".minions").exists()


def test_a_folder_whose_name_is_not_text_is_refused(demo: Demo, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff")
    odd.mkdir()

    done = demo(odd)
    assert done.returncode == 2
    assert "is not UTF-8" in done.stderr


def test_the_state_cannot_be_kept_below_a_file(demo: Demo, folder: Path) -> None:
    done = demo(folder, "--work", folder / "one.py")

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"minions: cannot create the state folder .*\n", done.stderr)


def test_a_damaged_store_is_named_and_left_as_it_is(demo: Demo, folder: Path, tmp_path: Path) -> None:
    first = demo(folder)
    database = tmp_path / "here/minions-demo/.minions/cache.db"
    damaged = b"no database" * 1_000
    database.write_bytes(damaged)

    done = demo(folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"minions: {re.escape(str(database))}.*\n", done.stderr)
    assert database.read_bytes() == damaged
    assert checksum(demo(folder, "--fresh")) == checksum(first)


# Searching ------------------------------------------------------------------------------------------------------------


def test_a_search_prints_the_files_in_which_all_words_occur(demo: Demo, folder: Path) -> None:
    demo(folder)
    found = demo("--search", "HEADER", "ünïcode")

    assert found.returncode == 0
    assert found.stdout == " 1  a/b/header.txt\n    the [header], and [ünïcode]\n"


def test_the_index_of_a_fresh_run_has_nothing_of_the_one_before(demo: Demo, folder: Path) -> None:
    demo(folder)
    demo(folder / "a", "--fresh")

    assert json.loads(demo("--search", "sys", "--json").stdout) == []
    assert [found["path"] for found in json.loads(demo("--search", "header", "--json").stdout)] == ["b/header.txt"]


@pytest.mark.parametrize("words", ["nowhere", '"', "NOT", "NEAR(", "*", "x:y", "-x", "'; DROP", os.fsdecode(b"\xff")])
def test_what_is_not_found_is_an_exit_code_and_no_traceback(words: str, demo: Demo, folder: Path) -> None:
    demo(folder)
    done = demo(f"--search={words}")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nothing found for")


def test_a_search_for_nothing_is_refused(demo: Demo) -> None:
    assert demo("--search", " ").returncode == 2


def test_a_search_before_the_first_run_says_what_to_do(demo: Demo, tmp_path: Path) -> None:
    done = demo("--search", "header")

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"minions: there is no index in .*: run minions demo first.*\n", done.stderr)
    assert list((tmp_path / "here").iterdir()) == []

    (tmp_path / "here/minions-demo").mkdir()
    (tmp_path / "here/minions-demo/index.db").touch()
    assert demo("--search", "header").stderr == done.stderr


# Showing --------------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_a_bar_and_keeps_its_cursor(demo: Demo, folder: Path) -> None:
    pytest.importorskip("rich")
    shown = on_a_terminal(demo, folder)

    assert "/5" in shown
    assert "files" in shown
    hidden, shown_again = shown.count("\x1b[?25l"), shown.count("\x1b[?25h")
    assert 1 <= hidden < shown_again  # by the bar at its end, and before by us: it may be killed in between


def test_without_rich_a_terminal_shows_plain_text(demo: Demo, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "without/rich").mkdir(parents=True)
    (tmp_path / "without/sitecustomize.py").write_text("import sys\nsys.modules['rich'] = None\n")
    search = os.pathsep.join([str(tmp_path / "without"), *filter(None, [os.environ.get("PYTHONPATH")])])

    assert "\x1b" not in on_a_terminal(demo, folder, env={**os.environ, "PYTHONPATH": search})


def on_a_terminal(demo: Demo, folder: Path, env: dict[str, str] | None = None) -> str:
    """What one run shows on a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "minions.cli", "demo", str(folder)]
        child = subprocess.Popen(
            command,
            cwd=folder.parent,
            env={"TERM": "xterm", **(env or os.environ)},
            stdout=subprocess.PIPE,
            stderr=theirs,
        )
    finally:
        os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65_536):
            shown += block
    except OSError:
        pass  # how Linux says that the other end is closed
    finally:
        os.close(ours)
    printed, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert b"checksum" in printed
    return shown.decode()

"""A state folder that cannot be written, as a whole script meets it: one sentence, exit code 1, and it goes on once it can."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import Launch, SmallDisk

SCRIPT = """
    system = System("test", folder={folder!r})
    numbers, kept = system.add(Numbers(count={count})), system.add(Kept())
    system.connect(numbers.out, kept.numbers)
    say(system.run())
    say(str(kept.values == list(range({count}))))
"""

AS_NOBODY = """
    import contextlib
    import urllib.parse  # as is what else nobody may not read: pathlib imports it late

    warm = System("warm", folder={warm!r})
    numbers, kept = warm.add(Numbers(count=1)), warm.add(Kept())
    warm.connect(numbers.out, kept.numbers)
    logging.disable(logging.CRITICAL)
    warm.run()  # imports what nobody may not read
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    def attempt(count):
        system = System("test", folder={folder!r})
        numbers, kept = system.add(Numbers(count=count)), system.add(Kept())
        system.connect(numbers.out, kept.numbers)
        try:
            system.run()
            say(f"run: {{kept.values == list(range(count))}}")
        except SystemExit as refusal:
            say(f"refused: {{refusal}}")

    attempt(10)
    for left in ("cache.db-wal", "cache.db-shm"):  # by the reading of a state; they would do for a folder of mode 500
        with contextlib.suppress(FileNotFoundError, PermissionError):
            os.unlink(os.path.join({folder!r}, left))
    for path, mode in {modes!r}.items():
        os.chmod(path, mode)
    attempt(20)
    for path in {modes!r}:
        os.chmod(path, 0o700)
    attempt(20)
"""


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that everybody may write to, with all folders above it open to everybody."""
    with tempfile.TemporaryDirectory(prefix="minions-common-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.parametrize("resumes", [False, True], ids=["the first time", "again"])
def test_a_file_system_that_is_mounted_read_only(launch: Launch, small_disk: SmallDisk, resumes: bool) -> None:
    small_disk.remount("size=4m")
    folder = str(small_disk.path / "state")
    if resumes:
        assert launch(SCRIPT.format(folder=folder, count=10)).end().returncode == 0
    small_disk.remount("ro")

    ended = launch(SCRIPT.format(folder=folder, count=20)).end()
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"test: cannot (open|create) .*: Read-only file system; .*\n", ended.stderr)

    small_disk.remount("rw")
    ended = launch(SCRIPT.format(folder=folder, count=20)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


def test_a_folder_that_is_bound_read_only(launch: Launch, small_disk: SmallDisk, tmp_path: Path) -> None:
    """As a volume of a container may be."""
    small_disk.remount("size=4m")
    folder, bound = small_disk.path / "state", tmp_path / "bound"
    assert launch(SCRIPT.format(folder=str(folder), count=10)).end().returncode == 0
    bound.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(bound)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(bound)], check=True)
        ended = launch(SCRIPT.format(folder=str(bound), count=20)).end()
    finally:
        subprocess.run(["umount", str(bound)], check=True)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"test: cannot open \S+/bound/lock for writing: Read-only file system; .*\n", ended.stderr)
    ended = launch(SCRIPT.format(folder=str(folder), count=20)).end()
    assert (ended.returncode, ended.stdout) == (0, "finished\nTrue\n"), ended.stderr


@pytest.mark.parametrize(
    ("modes", "said"),
    [
        (
            {"": 0o000},
            r"cannot open \S+/lock for writing: Permission denied; it must be a regular file, and .* writable",
        ),
        ({"lock": 0o400}, r"cannot open \S+/lock for writing: Permission denied; .* writable for the user who runs"),
        ({"cache.db": 0o400}, r"\S+/cache\.db cannot be written by this user; change its owner or its permissions"),
        ({"mark": 0o400}, r"cannot open \S+/mark for writing: Permission denied; .* writable for the user who runs"),
        ({"": 0o500}, r"cannot (use|open) \S+: .*writable.*"),
    ],
    ids=["no folder", "lock", "database", "mark", "folder"],
)
def test_what_this_user_may_not_write(launch: Launch, common: Path, modes: dict[str, int], said: str) -> None:
    folder = common / "state"
    by_path = {str(folder / name): mode for name, mode in modes.items()}
    ended = launch(AS_NOBODY.format(folder=str(folder), warm=str(common / "warm"), modes=by_path)).end()
    assert ended.returncode == 0, ended.stderr
    first, refused, last = ended.stdout.splitlines()
    assert (first, last) == ("run: True", "run: True")
    assert re.fullmatch(rf"refused: test: {said}.*", refused), refused


def test_a_folder_that_this_user_may_not_create(launch: Launch, common: Path) -> None:
    above = common / "above"
    above.mkdir(mode=0o511)
    ended = launch(AS_NOBODY.format(folder=str(above / "state"), warm=str(common / "warm"), modes={})).end()
    assert ended.returncode == 0, ended.stderr
    for said in ended.stdout.splitlines():
        assert re.fullmatch(r"refused: test: cannot create the state folder \S+: Permission denied; .*", said)


def test_a_folder_below_one_that_this_user_may_enter_but_not_list(launch: Launch, common: Path) -> None:
    """As a home may be below a folder of homes."""
    home = common / "homes" / "nobody"
    home.mkdir(parents=True)
    if os.getuid() != 0:
        pytest.skip("only root can give a folder to somebody else")
    shutil.chown(home, 65534, 65534)
    home.parent.chmod(0o711)
    ended = launch(AS_NOBODY.format(folder=str(home), warm=str(common / "warm"), modes={})).end()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "run: True\n" * 3

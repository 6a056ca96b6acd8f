"""Where the control socket is, whose it is, and who may take it over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minions.errors import StoreLocked, StoreUnusable
from minions.operate import place as place_module
from minions.operate.client import Client, NotRunning
from minions.operate.place import Place, addressed, places_of
from tests.operate.conftest import PATIENCE_S


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's, which that of a test's own does not."""
    with tempfile.TemporaryDirectory(prefix="m") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def runtime_folder(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = short / "xdg"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def temporary(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder for sockets, without one of the user's own: a stand-in for that of temporary files."""
    folder = short / "tmp"
    folder.mkdir()
    own = folder / f"minions-{os.geteuid()}"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr(place_module, "_parents", lambda: [own])
    return own


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


Claim = Callable[..., Place]


@pytest.fixture
def claim() -> Iterator[Claim]:
    made: list[Place] = []

    def claim_one(folder: Path, *, in_folder: bool = True) -> Place:
        made.append(Place.claim(folder, in_folder=in_folder))
        return made[-1]

    yield claim_one
    for place in made:
        place.withdraw()
        place.listener.close()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def test_it_is_outside_of_the_state_folder_and_for_its_owner_only(
    claim: Claim, folder: Path, runtime_folder: Path
) -> None:
    path = claim(folder).path
    assert path.is_relative_to(runtime_folder / "minions")
    modes = [mode_of(each) for each in (path, path.parent, path.parent.parent, folder / "control.address")]
    assert modes == [0o600, 0o700, 0o700, 0o600]
    assert [file.name for file in folder.iterdir()] == ["control.address"]
    assert list(places_of(folder)) == [path]
    assert connects(path)


def test_nothing_is_left_of_it(claim: Claim, folder: Path, runtime_folder: Path) -> None:
    place = claim(folder)
    place.withdraw()
    place.withdraw()
    assert list(folder.iterdir()) == []
    assert list(runtime_folder.iterdir()) == []
    assert list(places_of(folder)) == []


@pytest.mark.parametrize("in_folder", [True, False])
def test_two_folders_have_two_places(claim: Claim, tmp_path: Path, in_folder: bool) -> None:
    paths = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths.append(claim(tmp_path / name, in_folder=in_folder).path)
        assert list(places_of(tmp_path / name)) == paths[-1:]
    assert paths[0] != paths[1]
    assert connects(paths[0])


def test_a_live_one_that_keeps_nothing_is_never_taken_over(claim: Claim, folder: Path) -> None:
    path = claim(folder, in_folder=False).path
    inode = path.stat().st_ino
    with pytest.raises(StoreLocked):
        claim(folder, in_folder=False)
    assert path.stat().st_ino == inode
    assert connects(path)


def test_nor_when_somebody_who_tidies_up_has_deleted_its_lock(claim: Claim, folder: Path) -> None:
    path = claim(folder, in_folder=False).path
    path.with_name("lock").unlink()
    with pytest.raises(StoreLocked, match="another process listens"):
        claim(folder, in_folder=False)
    assert connects(path)


def test_a_live_one_of_another_folder_is_not_swept_away(claim: Claim, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    path = claim(tmp_path / "one").path
    path.with_name("lock").unlink()
    claim(tmp_path / "two")
    assert connects(path)


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_what_is_no_socket_is_left_alone(claim: Claim, folder: Path, what: str) -> None:
    path = claim(folder, in_folder=False).path
    path.unlink()
    path.with_name("lock").unlink()
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        path.symlink_to(folder)
    else:
        path.mkdir()
    with pytest.raises(StoreUnusable, match="not a socket; move it away"):
        claim(folder, in_folder=False)
    assert os.path.lexists(path)
    assert not os.path.lexists(path.with_name("lock"))
    if what == "folder":
        path.rmdir()
    else:
        path.unlink()
    assert connects(claim(folder, in_folder=False).path)


def test_a_folder_that_others_may_enter_is_closed_to_them(claim: Claim, folder: Path, runtime_folder: Path) -> None:
    (runtime_folder / "minions").mkdir()
    (runtime_folder / "minions").chmod(0o755)
    assert claim(folder).path.is_relative_to(runtime_folder)
    assert mode_of(runtime_folder / "minions") == 0o700


def test_a_link_in_its_place_is_not_followed(claim: Claim, folder: Path, temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    temporary.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnusable, match=r"set XDG_RUNTIME_DIR .* is no folder of this user's own"):
        claim(folder)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert mode_of(tmp_path / "elsewhere") == 0o755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(claim: Claim, folder: Path, temporary: Path) -> None:
    temporary.mkdir(mode=0o777)
    os.chown(temporary, 12_345, 12_345)
    with pytest.raises(StoreUnusable, match="is no folder of this user's own"):
        claim(folder)
    assert list(temporary.iterdir()) == []


def test_a_folder_in_which_others_may_move_things_is_not_used(
    claim: Claim, folder: Path, runtime_folder: Path, temporary: Path
) -> None:
    temporary.parent.chmod(0o777)
    with pytest.raises(StoreUnusable, match="others may move what is in it"):
        claim(folder)
    temporary.parent.chmod(0o1777)
    assert claim(folder).path.is_relative_to(temporary)


@pytest.mark.parametrize("given", ["missing", "too long", "relative", ""])
def test_without_a_runtime_folder_it_is_among_the_temporary_files(
    claim: Claim, folder: Path, short: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (short / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short / "tmp"))
    runtime = {"missing": str(short / "missing"), "too long": str(short / ("long" * 30)), "relative": ".", "": ""}[
        given
    ]
    if given == "too long":
        Path(runtime).mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    place = claim(folder)
    assert place.path.is_relative_to(short / f"tmp/minions-{os.geteuid()}")
    assert connects(place.path)


def test_where_all_paths_are_too_long_it_is_at_a_short_one(
    claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    place = claim(folder)
    assert len(os.fsencode(place.path)) <= 107
    assert list(places_of(folder)) == [place.path]
    assert connects(place.path)


def test_it_is_found_by_who_has_another_environment(
    claim: Claim, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = claim(folder)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert list(places_of(folder)) == [place.path]


@pytest.mark.parametrize("how", ["copied", "linked", "in its place"])
def test_a_copy_of_a_folder_does_not_lead_to_the_original(claim: Claim, folder: Path, tmp_path: Path, how: str) -> None:
    place, copy = claim(folder), tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=os.link if how == "linked" else shutil.copy2)
    if how == "in its place":
        folder.rename(tmp_path / "moved")
        copy.rename(folder)
        copy = folder
        assert list(places_of(tmp_path / "moved")) == [place.path], "a folder keeps its system when it is moved"
    assert (copy / "control.address").exists()
    assert addressed(copy) is None
    assert list(places_of(copy)) == []
    assert connects(claim(copy).path)
    assert connects(place.path)


def test_a_system_that_keeps_nothing_gets_no_folder(claim: Claim, tmp_path: Path, runtime_folder: Path) -> None:
    folder = tmp_path / "state"
    place = claim(folder, in_folder=False)
    assert place.path.is_relative_to(runtime_folder / "minions")
    assert list(places_of(folder)) == [place.path]
    place.withdraw()
    assert not folder.exists()
    assert list(runtime_folder.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "\0",
        "[" * 60_000,
        '{"folder": "ID", "socket": 5}',
        '{"folder": "ID", "socket": "s-000000000000000000000000/control.sock"}',
        '{"folder": "ID", "socket": "/etc/passwd"}',
        '{"folder": "ID", "socket": "/a\\u0000b/s-000000000000000000000000/control.sock"}',
        "x" * 1_000_000,
    ],
    ids=range(10),
)
def test_an_address_that_is_none_leads_nowhere_and_is_written_over(claim: Claim, folder: Path, text: str) -> None:
    status = folder.stat()
    (folder / "control.address").write_text(text.replace("ID", f"{status.st_dev}:{status.st_ino}"))
    assert addressed(folder) is None
    path = claim(folder).path
    assert list(places_of(folder)) == [path]


@pytest.mark.parametrize("what", ["link", "fifo", "folder"])
def test_what_is_planted_in_the_place_of_the_address_is_not_read(folder: Path, tmp_path: Path, what: str) -> None:
    status, planted = folder.stat(), folder / "control.address"
    home = tmp_path / ("s-" + 24 * "0")
    if what == "link":
        elsewhere = {"socket": str(home / "control.sock"), "folder": f"{status.st_dev}:{status.st_ino}"}
        (tmp_path / "elsewhere").write_text(json.dumps(elsewhere))
        planted.symlink_to(tmp_path / "elsewhere")
    elif what == "fifo":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    assert addressed(folder) is None


def test_an_address_does_not_have_anything_removed_that_is_no_socket_of_ours(
    claim: Claim, folder: Path, short: Path
) -> None:
    home = short / "theirs" / ("s-" + 24 * "0")
    home.mkdir(parents=True, mode=0o700)
    (home / "lock").touch()
    (home / "control.sock").write_text("dear")
    (folder / "control.address").write_text(json.dumps({"socket": str(home / "control.sock"), "folder": "0:0"}))
    claim(folder)
    assert (home / "control.sock").read_text() == "dear"
    assert (home / "lock").exists()


# Processes that are killed


class Child:
    """A system in a process of its own."""

    def __init__(self, folder: Path, name: str, keeps: bool) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.operate.place_child",
            str(folder),
            name,
            "keeps" if keeps else "nothing",
        ]
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.says() == "up"

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self) -> None:
        self.process.communicate("\n", PATIENCE_S)
        assert self.process.returncode == 0


Run = Callable[..., Child]


@pytest.fixture
def run() -> Iterator[Run]:
    children: list[Child] = []

    def run_one(folder: Path, name: str = "original", *, keeps: bool = True) -> Child:
        children.append(Child(folder, name, keeps))
        return children[-1]

    yield run_one
    for child in children:
        child.process.kill()
        child.process.communicate()


def name_at(folder: Path) -> str:
    """Which system answers for a state folder."""
    with Client.connect(folder) as client:
        return str(client.ask("status", PATIENCE_S)["system"])


def test_the_folder_of_a_system_that_was_killed_can_be_copied_and_the_copy_is_a_system_of_its_own(
    run: Run, folder: Path, tmp_path: Path, runtime_folder: Path
) -> None:
    run(folder).kill()
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for each in (folder, copy):
        with pytest.raises(NotRunning):
            Client.connect(each)
    original, copied = run(folder), run(copy, "copied")
    assert (name_at(folder), name_at(copy)) == ("original", "copied")
    original.stop()
    assert name_at(copy) == "copied"
    with pytest.raises(NotRunning):
        Client.connect(folder)
    copied.stop()
    assert list(runtime_folder.iterdir()) == []


def test_the_folder_of_a_system_that_runs_can_be_copied_and_the_copy_does_not_speak_to_it(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    run(folder)
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(NotRunning):
        Client.connect(tmp_path / "copy")
    assert name_at(folder) == "original"


def test_what_a_kill_leaves_is_taken_over_by_the_next_start_and_nothing_is_left_then(
    run: Run, folder: Path, runtime_folder: Path
) -> None:
    for _ in range(3):
        run(folder).kill()
        assert len(list((runtime_folder / "minions").iterdir())) == 1
    (folder / "control.address.new").write_text("begun" * 1_000)
    child = run(folder, "next")
    assert name_at(folder) == "next"
    child.stop()
    assert list(runtime_folder.iterdir()) == []
    assert not list(folder.glob("control*"))


def test_the_same_for_a_system_that_keeps_nothing(run: Run, folder: Path, runtime_folder: Path) -> None:
    run(folder, keeps=False).kill()
    with pytest.raises(NotRunning):
        Client.connect(folder)
    child = run(folder, "next", keeps=False)
    assert name_at(folder) == "next"
    child.stop()
    assert list(runtime_folder.iterdir()) == []
    assert list(folder.iterdir()) == []


def test_what_was_left_in_another_environment_is_removed_too(
    run: Run, folder: Path, runtime_folder: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder).kill()
    (short / "other").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short / "other"))
    child = run(folder)
    assert list(runtime_folder.iterdir()) == []
    child.stop()


def test_a_folder_that_was_moved_while_its_system_was_down_has_its_system(
    run: Run, folder: Path, tmp_path: Path, runtime_folder: Path
) -> None:
    run(folder).kill()
    folder.rename(tmp_path / "moved")
    child = run(tmp_path / "moved", "moved")
    assert name_at(tmp_path / "moved") == "moved"
    with pytest.raises(NotRunning):
        Client.connect(folder)
    child.stop()
    assert list(runtime_folder.iterdir()) == []


def test_a_folder_that_is_made_anew_under_a_system_that_runs_on_does_not_meet_it(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    run(folder, "old")
    folder.rename(tmp_path / "old")
    shutil.rmtree(tmp_path / "old", ignore_errors=True)  # its system may write another file just now
    folder.mkdir()
    child = run(folder, "new")
    assert name_at(folder) == "new"
    child.stop()


def test_the_address_of_another_socket_is_left_where_it_is(folder: Path) -> None:
    place = Place.claim(folder, in_folder=True)
    address = json.loads((folder / "control.address").read_text())
    elsewhere = place.path.parent.with_name("s-" + 24 * "0") / place.path.name
    (folder / "control.address").write_text(json.dumps({**address, "socket": str(elsewhere)}))
    place.withdraw()
    place.listener.close()
    assert addressed(folder) == elsewhere
    assert not place.path.exists()


def test_a_folder_beside_it_that_is_none_of_these_is_left_where_it_is(folder: Path, runtime_folder: Path) -> None:
    others = runtime_folder / "minions" / "s-somebody-elses"
    others.mkdir(parents=True, mode=0o700)
    place = Place.claim(folder, in_folder=True)
    assert others.is_dir()
    place.withdraw()
    place.listener.close()
    assert others.is_dir()

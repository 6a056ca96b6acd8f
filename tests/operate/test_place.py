"""Where the control socket is, whose it is, and who may take it over."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minions.errors import StoreLocked, StoreUnusable
from minions.operate.place import Place, places_of


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
def folder(short: Path) -> Path:
    folder = short / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def claimed(folder: Path) -> Iterator[Place]:
    place = Place.claim(folder, in_folder=True)
    yield place
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


def test_it_is_in_the_state_folder_and_for_its_owner_only(claimed: Place, folder: Path) -> None:
    assert claimed.path == folder / "run/control.sock"
    assert (mode_of(claimed.path), mode_of(claimed.path.parent)) == (0o600, 0o700)
    assert list(places_of(folder)) == [claimed.path]
    assert connects(claimed.path)


def test_nothing_is_left_of_it(folder: Path) -> None:
    place = Place.claim(folder, in_folder=True)
    place.withdraw()
    place.withdraw()
    place.listener.close()
    assert list(folder.iterdir()) == []
    assert list(places_of(folder)) == []


def test_a_live_one_is_never_taken_over(claimed: Place, folder: Path) -> None:
    inode = claimed.path.stat().st_ino
    with pytest.raises(StoreLocked):
        Place.claim(folder, in_folder=True)
    assert claimed.path.stat().st_ino == inode
    assert connects(claimed.path)


def test_a_stale_one_is_taken_over(folder: Path) -> None:
    (folder / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "run/control.sock"))
    (folder / "run/lock").write_text("1234567890\n")
    assert not connects(folder / "run/control.sock")
    place = Place.claim(folder, in_folder=True)
    assert connects(place.path)
    place.withdraw()
    place.listener.close()


@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_what_is_no_socket_is_left_alone(folder: Path, what: str) -> None:
    (folder / "run").mkdir()
    path = folder / "run/control.sock"
    if what == "file":
        path.write_text("mine")
    elif what == "link":
        path.symlink_to(folder)
    else:
        path.mkdir()
    with pytest.raises(StoreUnusable, match="not a socket; move it away"):
        Place.claim(folder, in_folder=True)
    assert os.path.lexists(path)


def test_after_it_was_refused_it_can_be_claimed(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run/control.sock").write_text("mine")
    with pytest.raises(StoreUnusable):
        Place.claim(folder, in_folder=True)
    (folder / "run/control.sock").unlink()
    place = Place.claim(folder, in_folder=True)
    place.withdraw()
    place.listener.close()


def test_a_folder_that_others_may_enter_is_closed_to_them(folder: Path) -> None:
    (folder / "run").mkdir(mode=0o777)
    (folder / "run").chmod(0o777)
    place = Place.claim(folder, in_folder=True)
    assert mode_of(folder / "run") == 0o700
    place.withdraw()
    place.listener.close()


def test_a_link_in_its_place_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (folder / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreUnusable, match="no folder of this user's own"):
        Place.claim(folder, in_folder=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_where_the_path_is_too_long_it_is_at_a_short_one_that_the_folder_names(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    place = Place.claim(folder, in_folder=True)
    assert len(os.fsencode(place.path)) <= 107
    assert (folder / "run/control.path").read_text() == str(place.path)
    assert list(places_of(folder)) == [place.path]
    assert connects(place.path)
    place.withdraw()
    place.listener.close()
    assert list(folder.iterdir()) == []
    assert not place.path.parent.exists()


def test_it_is_found_by_who_has_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    place = Place.claim(folder, in_folder=True)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert list(places_of(folder)) == [place.path]
    place.withdraw()
    place.listener.close()


def test_a_copy_of_a_folder_does_not_lead_to_the_original(tmp_path: Path) -> None:
    folder, copy = tmp_path / ("long" * 30), tmp_path / ("copy" * 30)
    folder.mkdir()
    place = Place.claim(folder, in_folder=True)
    shutil.copytree(folder, copy)
    assert (copy / "run/control.path").exists()
    assert list(places_of(copy)) == []
    place.withdraw()
    place.listener.close()


def test_a_system_that_keeps_nothing_gets_no_folder(tmp_path: Path, runtime_folder: Path) -> None:
    folder = tmp_path / "state"
    place = Place.claim(folder, in_folder=False)
    assert place.path.is_relative_to(runtime_folder / "minions")
    assert mode_of(runtime_folder / "minions") == 0o700
    assert list(places_of(folder)) == [place.path]
    place.withdraw()
    place.listener.close()
    assert not folder.exists()
    assert list((runtime_folder / "minions").iterdir()) == []


def test_two_folders_have_two_places(tmp_path: Path) -> None:
    places = [Place.claim(tmp_path / name, in_folder=False) for name in ("one", "two")]
    assert places[0].path != places[1].path
    for place in places:
        place.withdraw()
        place.listener.close()


def test_without_a_runtime_folder_it_is_among_the_temporary_files(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(short / "tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short / "missing" / "one"))
    place = Place.claim(tmp_path / "state", in_folder=False)
    assert place.path.is_relative_to(short / f"tmp/minions-{os.geteuid()}")
    place.withdraw()
    place.listener.close()


def test_a_folder_among_the_temporary_files_that_was_planted_is_refused(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (short / "tmp").mkdir()
    (short / "tmp" / f"minions-{os.geteuid()}").symlink_to(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(short / "tmp"))
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(StoreUnusable, match="set XDG_RUNTIME_DIR"):
        Place.claim(tmp_path / "state", in_folder=False)

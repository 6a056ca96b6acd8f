"""The client of the control socket says what it meets: nothing that runs, nobody who answers, an end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from minions.flow.folder_lock import FolderLock
from minions.operate import client as client_module
from minions.operate.client import Client, HungUp, NoAnswer, NotRunning
from tests.operate.conftest import PATIENCE_S, Open


def test_the_client_says_that_nothing_runs(folder: Path) -> None:
    with pytest.raises(NotRunning, match="no system runs on"):
        Client.connect(folder)


def addressed_socket(folder: Path) -> Path:
    """Where the socket of a folder is that says where."""
    folder.mkdir()
    home = folder.parent / ("s-" + 24 * "0")
    home.mkdir()
    path, status = home / "control.sock", folder.stat()
    address = {"socket": str(path), "folder": f"{status.st_dev}:{status.st_ino}"}
    (folder / "control.address").write_text(json.dumps(address))
    return path


def test_the_client_says_that_a_socket_is_not_in_reach(folder: Path) -> None:
    path = addressed_socket(folder)
    lock = FolderLock.acquire(folder)
    try:
        with pytest.raises(NotRunning, match=rf"process {os.getpid()} has .* {path} is not in reach from here"):
            Client.connect(folder)
    finally:
        lock.release()


def test_the_client_says_so_at_a_stale_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(addressed_socket(folder)))
        dead.listen()
    with pytest.raises(NotRunning):
        Client.connect(folder)


def test_the_client_loses_patience(opened: Open, folder: Path) -> None:
    opened()
    with Client.connect(folder) as client, pytest.raises(NoAnswer, match=r"'later' within 0.05 s"):
        client.ask("later", 0.05)


def test_the_client_waits_for_a_moment_to_be_let_in_and_then_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = addressed_socket(folder)
    monkeypatch.setattr(client_module, "_CONNECT_S", 0.2)
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.socket(socket.AF_UNIX))
        deaf.bind(str(path))
        deaf.listen(0)
        first = stack.enter_context(socket.socket(socket.AF_UNIX))
        first.connect(str(path))
        began_s = time.monotonic()
        with pytest.raises(NoAnswer, match=r"lets nobody in, for 0.2 s"):
            Client.connect(folder)
        assert time.monotonic() - began_s >= 0.1


def test_the_client_says_when_the_system_hangs_up(opened: Open, folder: Path) -> None:
    _, answering, control = opened()
    with Client.connect(folder) as client:

        def end() -> None:
            answering.reached.acquire(timeout=PATIENCE_S)
            control.close()

        threading.Thread(target=end).start()
        with pytest.raises(HungUp):
            client.ask("later")

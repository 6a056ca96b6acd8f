"""Helpers for tests of what acts on a running system: short folders, sockets without a system, clients that speak bytes."""

from __future__ import annotations

import json
import logging
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from minions import MinionsError
from minions.operate.control import Control, Limits
from minions.operate.protocol import Refused, Request
from tests.ending import no_thread_is_left

PATIENCE_S = 20.0
"""Only a test that fails waits so long."""

LOG = logging.getLogger("test.control")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A state folder beside which there is room for a socket, as there is not beside that of a test's own."""
    with tempfile.TemporaryDirectory(prefix="m") as folder:
        yield Path(folder) / "state"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    with no_thread_is_left(PATIENCE_S):
        yield


class Raw:
    """A client that sends what it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, do: str, number: int | None = 1, **arguments: Any) -> None:
        self.send(json.dumps({"v": 1, "id": number, "do": do, "with": arguments}).encode() + b"\n")

    def answer(self) -> dict[str, Any]:
        """Blocks until a whole line has come."""
        line = self._file.readline()
        assert line.endswith(b"\n"), line
        found: dict[str, Any] = json.loads(line)
        return found

    def is_closed(self) -> bool:
        """Blocks until the other end has closed the connection; False when anything comes instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Answering:
    """Answers in the place of a system."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.future: Future[Any] = Future()
        self.gate = threading.Event()
        self.reached = threading.Semaphore(0)

    def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        match request.do:
            case "later":
                self.reached.release()
                return self.future
            case "gate":
                self.reached.release()
                assert self.gate.wait(PATIENCE_S)
            case "refuse":
                raise Refused("busy", "not now")
            case "fail":
                raise ValueError("bad")
            case "mishap":
                raise MinionsError("as it is")
            case "large":
                return {"text": "x" * 4_000_000}
        return {"do": request.do}


Open = Callable[..., tuple[Path, Answering, Control]]


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Opens control sockets in the folder, behind each of which somebody answers in the place of a system."""
    made: list[tuple[Control, Answering]] = []

    def open_one(**limits: Any) -> tuple[Path, Answering, Control]:
        folder.mkdir(exist_ok=True)
        answering = Answering()
        control = Control("test", folder, answering, LOG, limits=Limits(**limits))
        assert control.open(in_folder=True)
        made.append((control, answering))
        assert control.path is not None
        return control.path, answering, control

    yield open_one
    for control, answering in made:
        answering.gate.set()
        control.close()

"""Helpers for tests of what acts on a running system: short folders, and clients that speak bytes."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ending import no_thread_is_left

PATIENCE_S = 20.0
"""Only a test that fails waits so long."""


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

"""Fixtures for tests of the journal and of the codec."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.flow.codec_samples import JSONS
from tests.flow.journal_rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be: what a kill leaves behind is the same there, and a hundred kills take no fsync."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as parent:
        yield Path(parent, "state")


@pytest.fixture(params=JSONS)
def either_json(request: pytest.FixtureRequest) -> Literal["orjson", "stdlib"]:
    library: Literal["orjson", "stdlib"] = request.param
    return library

"""Fixtures for tests of the journal and of the codec."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.flow.codec_samples import JSONS
from tests.flow.journal_rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture(params=JSONS)
def either_json(request: pytest.FixtureRequest) -> Literal["orjson", "stdlib"]:
    library: Literal["orjson", "stdlib"] = request.param
    return library

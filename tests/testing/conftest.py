"""A component under a harness, for each test of its own."""

from __future__ import annotations

from typing import Any

import pytest

from minions.testing import harness
from tests.testing.averaging import Average


@pytest.fixture
def h() -> Any:
    with harness(Average(), raises=True) as made:
        yield made

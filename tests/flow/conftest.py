"""Fixtures for tests of the journal."""

from __future__ import annotations

import pytest

from tests.flow.journal_rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()

"""How many crashes a system keeps, and how large each may be: a frozen value. No thread."""

from __future__ import annotations

from typing import Any

import attrs

from minions.errors import ConfigurationError
from minions.model.limits import shown

__all__ = ["Crashes"]

_MOST_KEPT = 10_000
_LEAST_BYTES, _MOST_BYTES = 10_000, 100_000_000


@attrs.frozen(kw_only=True)
class Crashes:
    """What a system keeps of its crashes, in the folder ``crashes`` of its state folder; see `System.replay`.

    Args:
        enabled: whether crashes are recorded.
        keep: how many files are kept, the newest ones; from 1 to 10,000.
        size_bytes: how large one file may be, in bytes, from 10,000 to 100,000,000. What does not fit is left out, and the file
            says what: the tables first, then the answers of other components, what was read of the clock, states and messages.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    enabled: bool = True
    keep: int = 50
    size_bytes: int = 1_000_000

    def __attrs_post_init__(self) -> None:
        problems = []
        enabled: Any = self.enabled
        if not isinstance(enabled, bool):
            problems.append(f"enabled = {shown(enabled)}: must be true or false")
        for name, least, most, what in (
            ("keep", 1, _MOST_KEPT, "files; to record none, enabled = false"),
            ("size_bytes", _LEAST_BYTES, _MOST_BYTES, "bytes of one file"),
        ):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                problems.append(f"{name} = {shown(value)}: must be a whole number from {least:,} to {most:,} ({what})")
        if problems:
            raise ConfigurationError("Crashes", problems)

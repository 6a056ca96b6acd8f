"""How a system runs, as values."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from minions.model.crashes import Crashes
from minions.model.limits import Watchdog

__all__ = ["Options"]


@attrs.frozen(kw_only=True)
class Options:
    """How a system runs.

    Attributes:
        folder: where its state is kept.
        synchronous: what a commit survives: "NORMAL" the end of the process, "FULL" the loss of power too.
        stop_timeout_s: the one deadline for an orderly stop.
        give_up_commit_s: how long a commit that fails (a full disk) is tried again before the system stops.
        forever: stay when nothing can happen any more.
        most_zombies: how many abandoned threads may be alive.
        watchdog: what is looked at while it runs.
        crashes: what is kept of those that fail.
        program: the file that made the system, from the state folder; empty where it is not known.
        module: what that is called as a module; likewise.
    """

    folder: Path
    synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
    stop_timeout_s: float = 10.0
    give_up_commit_s: float = 60.0
    forever: bool = False
    most_zombies: int = 16
    watchdog: Watchdog = Watchdog()
    crashes: Crashes = Crashes()
    program: str = ""
    module: str = ""

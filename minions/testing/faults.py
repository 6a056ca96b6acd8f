"""Which faults a simulation injects, and how likely each is. Frozen values."""

from __future__ import annotations

import attrs

from minions.errors import UsageError

__all__ = ["KINDS", "OPERATIONS", "Faults", "InjectedError"]

OPERATIONS = ("retries", "drops")
KINDS = ("errors", "restarts", "crashes", "power_losses", "delays", "disk_errors")


class InjectedError(Exception):
    """Raised by a simulation in the place of user code, or after it."""


def _likely(faults: Faults, field: attrs.Attribute[float], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(f"Faults({field.name}={value!r}): a likelihood is a number from 0 to 1")


def _counted(faults: Faults, field: attrs.Attribute[int], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"Faults({field.name}={value!r}): this is a number of faults, 0 or more")


def _a_switch(faults: Faults, field: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"Faults({field.name}={value!r}): this is True or False")


@attrs.frozen(kw_only=True)
class Faults:
    """Faults of one simulated run. Each run leaves out some kinds, so that a few of one kind meet, too.

    What is injected is what a sound system bears: no message is given up for it and no component. Errors spare the last
    attempt of a message, crashes spare a message that the next death of the process would set aside, disk errors end in time.

    Attributes:
        errors: how likely user code raises, each time that it is called: at its beginning, or when it is done.
        restarts: how likely somebody restarts a component, at each unit of work.
        crashes: how likely the process dies, before and after each unit of work and each commit.
        power_losses: how likely a crash is a loss of power, which takes commits that were made with synchronous "NORMAL".
        delays: how likely a thread stands still for a while before and after each unit and commit: for 10 ms, a second, or twice
            as long as a stop takes, and then somebody may restart its component.
        disk_errors: how likely a commit fails, once or a few times in a row.
        retries: how likely an operator retries a dead letter, while there is one, after each unit and commit.
        drops: how likely an operator drops one then, for good, so that its message is lost.
        most: how many of all of these there are in one run.
        spare: whether faults are kept to what a sound system bears, as said above. If not, messages may be set aside, which
            the invariants have to know, and components given up: then the system ends, and is started again.
    """

    errors: float = attrs.field(default=0.02, validator=_likely)
    restarts: float = attrs.field(default=0.01, validator=_likely)
    crashes: float = attrs.field(default=0.02, validator=_likely)
    power_losses: float = attrs.field(default=0.0, validator=_likely)
    delays: float = attrs.field(default=0.02, validator=_likely)
    disk_errors: float = attrs.field(default=0.02, validator=_likely)
    retries: float = attrs.field(default=0.02, validator=_likely)
    drops: float = attrs.field(default=0.0, validator=_likely)
    most: int = attrs.field(default=6, validator=_counted)
    spare: bool = attrs.field(default=True, validator=_a_switch)

    @classmethod
    def none(cls) -> Faults:
        """No faults: only the order in which threads run is chosen."""
        return cls(most=0)

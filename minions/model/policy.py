"""How failures are answered, as pure functions of history and now. No thread, no clock: both are handed in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

import attrs
from attrs import validators

__all__ = ["Backoff", "Restart", "Retry", "Verdict"]

_not_negative = validators.ge(0.0)


@attrs.frozen(kw_only=True)
class Backoff:
    """Waits that grow: `initial_s`, then `factor` times the one before, never over `longest_s`.

    Attributes:
        initial_s: the first wait, in seconds.
        factor: by how much each wait is longer than the one before.
        longest_s: the cap, before jitter.
        jitter_ratio: each wait is made longer or shorter by up to this part of itself, so that components that failed
            together do not come back together.
    """

    initial_s: float = attrs.field(default=0.1, validator=_not_negative)
    factor: float = attrs.field(default=2.0, validator=validators.ge(1.0))
    longest_s: float = attrs.field(default=30.0, validator=_not_negative)
    jitter_ratio: float = attrs.field(default=0.1, validator=[_not_negative, validators.le(1.0)])

    def delay_s(self, failures: int, chance: float = 0.5) -> float:
        """The wait after the `failures`-th failure in a row, in seconds.

        Args:
            failures: counted from 1.
            chance: a number from 0 to 1 that decides the jitter; 0.5 means none.
        """
        try:
            grown = float(self.factor) ** (failures - 1)
        except OverflowError:
            grown = sys.float_info.max  # finite, so that a first wait of 0 stays 0
        plain = min(self.initial_s * grown, self.longest_s)
        return plain * (1.0 + self.jitter_ratio * (2.0 * chance - 1.0))


@attrs.frozen(kw_only=True)
class Retry:
    """What happens to a message whose handler raises, or with which in work the whole process dies.

    Attributes:
        attempts: how often the message is tried in all while the process lives.
        backoff: the wait before each further attempt.
        then: what follows the last one: "dead_letter" keeps the message, the error and its traceback in the store;
            "skip" drops it; "stop" stops the system and leaves the message where it is.
        deaths: how often in a row the process may die (a segmentation fault, out of memory, ``kill -9``) while the message is in
            work. After the last one, the next start does what `then` says before anything runs; with "stop" it leaves the
            message where it is, and tries it again.
    """

    attempts: int = attrs.field(default=3, validator=validators.ge(1))
    backoff: Backoff = Backoff()
    then: Literal["dead_letter", "skip", "stop"] = attrs.field(
        default="dead_letter", validator=validators.in_(("dead_letter", "skip", "stop"))
    )
    deaths: int = attrs.field(default=3, validator=validators.ge(1))

    def answer(self, failures: int) -> Literal["again", "dead_letter", "skip", "stop"]:
        """What happens to a message that has failed that many times."""
        return "again" if failures < self.attempts else self.then


@attrs.frozen
class Verdict:
    """What the supervisor does with a component that failed.

    Attributes:
        delay_s: the wait before the new life, or None to give up.
    """

    delay_s: float | None


@attrs.frozen(kw_only=True)
class Restart:
    """How often a component may fail by itself (in `on_start` or `run`), and how fast it comes back.

    A failure that belongs to a message is answered by the `Retry` of its inbox and does not count here: a message that
    cannot be handled must not stop those behind it.

    Attributes:
        failures: this many within the window are answered by a new life; one more and the supervisor gives up.
        within_s: the window, in seconds.
        backoff: the wait before each new life; it begins anew once the window holds no earlier failure.
    """

    failures: int = attrs.field(default=5, validator=validators.ge(0))
    within_s: float = attrs.field(default=60.0, validator=validators.gt(0.0))
    backoff: Backoff = Backoff()

    def recent(self, failed_at: Sequence[float], now: float) -> tuple[float, ...]:
        """The moments of `failed_at` that still count."""
        return tuple(moment for moment in failed_at if now - moment <= self.within_s)

    def verdict(self, failed_at: Sequence[float], now: float, chance: float = 0.5) -> Verdict:
        """What to do about the last of the failures at `failed_at` (monotonic seconds, the newest last)."""
        counted = len(self.recent(failed_at, now))
        if counted > self.failures:
            return Verdict(delay_s=None)
        return Verdict(delay_s=self.backoff.delay_s(max(1, counted), chance))

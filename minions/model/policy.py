"""How failures are answered, as pure functions of history and now. No thread, no clock: both are handed in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal

import attrs

from minions.errors import ConfigurationError
from minions.model import checks

__all__ = ["Backoff", "OnStall", "Restart", "Retry", "Strategy", "Verdict"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
"""What else of a group is restarted with one of its components: nothing, everything, or those named after it."""

OnStall = Literal["report", "restart", "stop"]
"""What follows when a component makes no progress: an event only, a new life for it, an orderly stop of the system."""


def _refuse(policy: Any, *problems: str) -> None:
    if problems:
        raise ConfigurationError(type(policy).__name__, problems)


@attrs.frozen(kw_only=True)
class Backoff:
    """Waits that grow: `initial_s`, then `factor` times the one before, never over `longest_s`.

    Attributes:
        initial_s: the first wait, in seconds.
        factor: by how much each wait is longer than the one before.
        longest_s: the cap, before jitter.
        jitter_ratio: each wait is made longer or shorter by up to this part of itself, so that components that failed
            together do not come back together.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    initial_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 30.0
    jitter_ratio: float = 0.1

    def __attrs_post_init__(self) -> None:
        most = sys.float_info.max  # finite, so that every wait is
        _refuse(
            self,
            *checks.number("initial_s", self.initial_s, "a number of seconds, from 0 up", most=most),
            *checks.number("factor", self.factor, "a number from 1 up", least=1.0, most=most),
            *checks.number("longest_s", self.longest_s, "a number of seconds, from 0 up", most=most),
            *checks.number("jitter_ratio", self.jitter_ratio, "a share from 0 to 1", most=1.0),
        )

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

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    attempts: int = 3
    backoff: Backoff = Backoff()
    then: Literal["dead_letter", "skip", "stop"] = "dead_letter"
    deaths: int = 3

    def __attrs_post_init__(self) -> None:
        _refuse(
            self,
            *checks.whole_number("attempts", self.attempts, 1),
            *checks.kind("backoff", self.backoff, Backoff, "Backoff(initial_s=1.0)"),
            *checks.choice("then", self.then, ("dead_letter", "skip", "stop")),
            *checks.whole_number("deaths", self.deaths, 1),
        )

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
    """Whether, how often and how fast a component that has ended by itself comes back, and what follows when it cannot.

    A failure that belongs to a message is answered by the `Retry` of its inbox and does not count here: a message that
    cannot be handled must not stop those behind it.

    Attributes:
        when: "transient": after a failure (in `on_start` or `run`); a `run` that returns has finished. "permanent": also after a
            `run` that returned, which counts as a failure does. "temporary": never; the rest of the system goes on without
            it, and its inboxes keep what arrives.
        failures: this many within the window are answered by a new life; one more and the supervisor gives up.
        within_s: the window, in seconds.
        backoff: the wait before each new life; it grows with each failure within the window.
        healthy_s: after a life that was up for so long, in seconds, the backoff begins anew; None: once the window holds no
            earlier failure. Giving up goes by the window alone.
        on_give_up: "stop": the system stops in order and the process ends with a non-zero exit code, so that a service
            manager starts it again. "isolate": the component stays down, and what sends to it, directly or through others, is
            stopped in order; the rest goes on. The exit code at the end is non-zero all the same.
        with_dependents: whether what sends to it, directly or through others, is restarted with it: stopped first, and started
            again in order once it is up. Otherwise its inboxes keep what they send meanwhile.

    Raises:
        ConfigurationError: naming every value that is wrong.
    """

    when: Literal["transient", "permanent", "temporary"] = "transient"
    failures: int = 5
    within_s: float = 60.0
    backoff: Backoff = Backoff()
    healthy_s: float | None = None
    on_give_up: Literal["stop", "isolate"] = "stop"
    with_dependents: bool = False

    def __attrs_post_init__(self) -> None:
        healthy_s = 1.0 if self.healthy_s is None else self.healthy_s
        _refuse(
            self,
            *checks.choice("when", self.when, ("transient", "permanent", "temporary")),
            *checks.whole_number("failures", self.failures, 0),
            *checks.number("within_s", self.within_s, "a number of seconds, more than 0", above=True),
            *checks.kind("backoff", self.backoff, Backoff, "Backoff(initial_s=1.0)"),
            *checks.number("healthy_s", healthy_s, "a number of seconds, more than 0, or None", above=True),
            *checks.choice("on_give_up", self.on_give_up, ("stop", "isolate")),
            *checks.switch("with_dependents", self.with_dependents),
        )

    def recent(self, failed_at: Sequence[float], now: float) -> tuple[float, ...]:
        """The moments of `failed_at` that still count."""
        return tuple(moment for moment in failed_at if now - moment <= self.within_s)

    def was_healthy(self, up_since: float | None, now: float) -> bool:
        """Whether a life that fails `now` was up for so long that the backoff begins anew.

        Args:
            up_since: since when it was up, monotonic seconds; None where it was not.
        """
        return self.healthy_s is not None and up_since is not None and now - up_since >= self.healthy_s

    def verdict(
        self, failed_at: Sequence[float], now: float, chance: float = 0.5, *, anew_at: float | None = None
    ) -> Verdict:
        """What to do about the last of the failures at `failed_at` (monotonic seconds, the newest last).

        Args:
            anew_at: the failure with which the last healthy life ended; None where there was none. Those before it count for
                giving up, and no longer for the backoff.
        """
        counted = self.recent(failed_at, now)
        if self.when == "temporary" or len(counted) > self.failures:
            return Verdict(delay_s=None)
        in_a_row = sum(anew_at is None or moment >= anew_at for moment in counted)
        return Verdict(delay_s=self.backoff.delay_s(max(1, in_a_row), chance))

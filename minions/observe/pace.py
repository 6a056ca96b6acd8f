"""How fast a thread may work that serves outsiders, or calls hooks. A plain object, without a thread or a clock of its own."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Lets a thread use a share of one core, and a little more for a moment; whoever asks for too much has to wait."""

    def __init__(self, *, share: float = 0.1, burst_s: float = 0.05, longest_pause_s: float = 0.5) -> None:
        """Args:
        share: of one core, from 0 to 1.
        burst_s: CPU time that may be used at once, in seconds.
        longest_pause_s: of which a pause is never longer; what is owed then stays owed.
        """
        self._share = share
        self._burst_s = burst_s
        self._longest_pause_s = longest_pause_s
        self._owed_s = 0.0
        self._at_s: float | None = None

    def spent(self, used_s: float, now_s: float) -> float:
        """Takes note of CPU time that was used, and tells how long the thread is to pause, in seconds.

        Args:
            used_s: since the last time.
            now_s: monotonic seconds.
        """
        passed_s = 0.0 if self._at_s is None else max(0.0, now_s - self._at_s)
        self._at_s = now_s
        self._owed_s = max(0.0, self._owed_s - passed_s * self._share) + used_s
        over_s = self._owed_s - self._burst_s
        return min(over_s / self._share, self._longest_pause_s) if over_s > 0 else 0.0

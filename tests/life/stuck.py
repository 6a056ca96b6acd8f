"""A thread that hangs in a real call, for tests of what is seen of it and of what wakes it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from minions.events import Evidence
from minions.life.evidence import evidence_of
from tests.life.conftest import PATIENCE_S

needs_proc = pytest.mark.skipif(
    not os.access(f"/proc/self/task/{threading.get_native_id()}/syscall", os.R_OK), reason="Linux tells it, in /proc"
)


class Stuck:
    """A thread in a call that does not return by itself."""

    def __init__(self, body: Callable[[], Any], *, bare: bool = False) -> None:
        """Args:
        bare: the body is the thread's own target, with no frame of a test above it, and its result is lost.
        """
        self._body = body
        self._result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=body if bare else self._run, name="stuck", daemon=True)
        self._thread.start()
        assert self._thread.ident is not None
        assert self._thread.native_id is not None
        self.ident, self.native_id = self._thread.ident, self._thread.native_id

    def _run(self) -> None:
        try:
            self._result = self._body()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def look(self) -> Evidence:
        return evidence_of(
            component="average",
            epoch=2,
            doing="handling add",
            message_id="average.readings/7",
            for_s=12.34,
            cpu_s=0.5,
            ident=self.ident,
            native_id=self.native_id,
        )

    def see(self, *calls: str) -> Evidence:
        """Blocks until the thread hangs in one of these system calls within its body, and returns what is seen then.

        Nobody but the kernel knows when a thread has gone to sleep in it, and the kernel tells only who asks. So this asks again
        and again, with no rest but what asking takes, and not for ever.
        """
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            evidence = self.look()
            if evidence.system_call in calls and f"in {self._body.__name__}\n" in evidence.stack:
                return evidence
            assert time.monotonic() < give_up_s, (evidence, self.error)
            assert self._thread.is_alive(), (self.error, self._result)

    def see_on_cpu(self) -> Evidence:
        """The same for a thread that computes."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not (evidence := self.look()).on_cpu or f"in {self._body.__name__}\n" not in evidence.stack:
            assert time.monotonic() < give_up_s, evidence
        return evidence

    def result(self) -> Any:
        """Blocks until the thread has ended, and returns what its body has returned; None where it has raised `error`."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), sys._current_frames()[self.ident]
        return self._result

"""The threads of the operating system, as the runtime uses them. No lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from minions.flow.parker import Parker
from minions.threads import Thread, Threads

__all__ = ["OS_THREADS", "OsThreads"]


class OsThreads:
    """See `Threads`."""

    get_ident = staticmethod(threading.get_ident)
    get_native_id = staticmethod(threading.get_native_id)
    signal = threading.Event

    def thread(self, target: Callable[[], None], name: str) -> threading.Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    def parker(self) -> Parker:
        return Parker()

    def is_current(self, thread: Thread) -> bool:
        return threading.current_thread() is thread

    def local(self) -> Any:
        return threading.local()

    def show_name(self, name: str) -> None:
        """In `top -H` and `ps -T` (Linux keeps 15 bytes). Where that is not to be had, nothing is lost."""
        try:
            task = Path(f"/proc/self/task/{threading.get_native_id()}")
            (task / "comm").write_text(name.encode()[:15].decode(errors="ignore"))
        except OSError:
            return


OS_THREADS: Final[Threads] = OsThreads()

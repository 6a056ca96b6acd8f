"""What the tests of the examples share: an example in a folder of its own, run as a process whose lines are its events."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "contrib/examples"
PATIENCE_S = 60.0
"""Only a test that fails waits so long."""

STOP_TIMEOUT_S = 5.0
"""What hangs in a source is woken after a fifth of it, what hangs in a handler after three fifths."""

_END = "\0"


class Moments:
    """Counts what happens at the other side: in a server's log, on a line. Any thread may tell, wait and ask."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards the rest
        self._counts = Counter[str]()
        self._asked: tuple[str, int, Child] | None = None

    def happened(self, what: str) -> None:
        """Tells that something has happened; kills, if this was the moment."""
        with self._changed:
            self._counts[what] += 1
            if self._asked is not None and self._asked[:2] == (what, self._counts[what]):
                self._asked[2].kill_at_once()
                self._asked = None
            self._changed.notify_all()

    def wait_for(self, what: str, times: int) -> None:
        """Waits until something has happened so many times."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._counts[what] >= times, PATIENCE_S), f"{what}: {self._counts}"

    def kill_at(self, child: Child, what: str, times: int) -> None:
        """Kills the child when something happens so many times from now on, and waits for its end."""
        with self._changed:
            self._asked = (what, self._counts[what] + times, child)
        assert child.end() == -9, child.written


class Example:
    """A copy of an example in an empty folder.

    Attributes:
        folder: that folder, in which it is run.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        for path in (EXAMPLES / name).glob("*.py"):
            shutil.copy(path, folder)

    def configure(self, **components: dict[str, str | int | float]) -> None:
        """Says in `minions.toml` what is different here: ports, addresses."""
        lines = ["[system]", f"stop_timeout_s = {STOP_TIMEOUT_S}"]
        for component, values in components.items():
            lines.append(f"[components.{component}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        (self.folder / "minions.toml").write_text("\n".join(lines), encoding="utf-8")

    def change(self, text: str, other: str) -> None:
        """Changes the script, to see what becomes of it then."""
        script = (self.folder / "app.py").read_text(encoding="utf-8")
        assert script.count(text) == 1, f"{text!r} is {script.count(text)} times in the example"
        (self.folder / "app.py").write_text(script.replace(text, other), encoding="utf-8")

    @contextmanager
    def changed(self, text: str, other: str) -> Iterator[None]:
        """Changes the script for a block."""
        self.change(text, other)
        yield
        self.change(other, text)

    def run_until(self, pattern: str) -> str:
        """Runs it until it has written a line in which the pattern is found, and presses Ctrl-C; its last line."""
        with self.running() as child:
            child.see(pattern)
            assert child.interrupt() == 0, child.written
            return child.lines[-1]

    @contextmanager
    def running(self, *options: str) -> Iterator[Child]:
        """Runs it; at the end of the block it is killed, if it is still there, with all that it has left behind."""
        child = Child(self.folder, *options)
        try:
            yield child
        finally:
            child.kill_group()


class Child:
    """An example that runs. What it writes and logs is read as it comes; its lines are what a test waits for.

    Attributes:
        lines: all that were looked at so far.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("logged.py")), *options, "app.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._coming: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._coming.put(line.rstrip("\n"))
        self._coming.put(_END)

    def see(self, pattern: str) -> str:
        """Waits for a line in which the pattern is found, and returns what was found."""
        for line in self._rest():
            if match := re.search(pattern, line):
                return match.group()
        raise AssertionError(f"it has ended without {pattern!r}:\n{self.written}")

    def see_all(self, *patterns: str) -> None:
        """Waits for lines in which the patterns are found, in whatever order."""
        missing = set(patterns)
        while missing:
            found = self.see("|".join(missing))
            missing = {pattern for pattern in missing if not re.search(pattern, found)}

    def interrupt(self) -> int:
        """Presses Ctrl-C and waits for the end; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> int:
        """Waits until it ends by itself; the exit code."""
        for _ in self._rest():
            pass
        self._reader.join()
        return self._process.wait(PATIENCE_S)

    def kill_at_once(self) -> None:
        """Kills it with -9. Any thread may call this."""
        self._process.kill()

    def kill(self) -> None:
        """Kills it with -9, if it is still there, and waits for its end."""
        self._process.kill()
        self.end()

    def kill_group(self) -> None:
        """Kills what is still there of it and of its children, and waits for the end."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self.end()

    @property
    def written(self) -> str:
        """All that was looked at so far."""
        return "\n".join(self.lines)

    def _rest(self) -> Iterator[str]:
        while True:
            try:
                line = self._coming.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f"nothing more is written:\n{self.written}") from None
            if line == _END:
                self._coming.put(_END)
                return
            self.lines.append(line)
            yield line

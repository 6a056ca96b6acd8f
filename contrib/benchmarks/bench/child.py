"""Every run gets a fresh process: no contender warms, slows, leaks into or hangs another.

The parent calls `in_child`; the child is this module run as a script. Its answer is a file, so whatever a library
prints cannot be taken for it.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import attrs

from bench.busy import busy_thread
from bench.contender import Options, load

_BENCHMARKS = Path(__file__).resolve().parent.parent
_CHECKOUT = _BENCHMARKS.parent.parent
_GRACE_S = 10.0


class RunFailed(Exception):
    """A run ended without figures; the text says why, with the end of what the child printed."""


@attrs.frozen
class Request:
    target: str
    size: int
    folder: str
    capacity: int = 1_000
    busy: bool = False
    warm_up_size: int = 0
    timeout_s: float = 60.0


def in_child(request: Request, *, killed: bool = False) -> dict[str, float]:
    """The figures of one run. Blocks until the child has ended, at most `timeout_s` and a little.

    Args:
        killed: the run is expected to end its own process with SIGKILL once it has left its figures.

    Raises:
        RunFailed: the run raised, ended early or took too long; then with the stacks of its threads.
    """
    folder = Path(request.folder)
    answer, printed = folder / "answer.json", folder / "printed.txt"
    command = [sys.executable, "-m", "bench.child", json.dumps(attrs.asdict(request))]
    with printed.open("wb") as output:
        try:
            code = subprocess.run(
                command,
                stdout=output,
                stderr=output,
                env=environment(),
                timeout=request.timeout_s + _GRACE_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
    expected = -signal.SIGKILL if killed else 0
    if code != expected or not answer.exists():
        tail = printed.read_text(errors="replace").strip().splitlines()[-40:]
        raise RunFailed("\n".join([_meaning(code), *tail]))
    figures: dict[str, float] = json.loads(answer.read_text())
    return figures


def environment() -> dict[str, str]:
    """The environment of a child: it finds these modules and, in a checkout, the Minions of this checkout."""
    paths = [str(_BENCHMARKS), str(_CHECKOUT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def leave_answer(folder: Path, figures: dict[str, float]) -> None:
    """For a run that kills its process: what `in_child` shall return."""
    (folder / "answer.json").write_text(json.dumps(figures))


def _meaning(code: int) -> str:
    if code < 0:
        return f"the process was ended by {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"


def _run(request: Request) -> dict[str, float]:
    contestant = load(request.target)
    folder = Path(request.folder)
    with busy_thread(request.busy):
        if request.warm_up_size:
            contestant(request.warm_up_size, Options(_fresh(folder / "warm-up"), request.capacity))
        result = contestant(request.size, Options(_fresh(folder / "measured"), request.capacity))
    return result if isinstance(result, dict) else {"seconds": result}


def _fresh(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def main(argument: str) -> int:
    request = Request(**json.loads(argument))
    faulthandler.dump_traceback_later(request.timeout_s, exit=True)
    try:
        leave_answer(Path(request.folder), _run(request))
    except BaseException:  # noqa: BLE001 - SystemExit included: a run that ends the process has failed
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # Not sys.exit: threads that a contender left behind must not keep the process, and need not be joined.
    code = main(sys.argv[1])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

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
from bench.contender import Contestant, Options, load

_BENCHMARKS = Path(__file__).resolve().parent.parent
_CHECKOUT = _BENCHMARKS.parent.parent
_GRACE_S = 10.0


class RunFailed(Exception):
    """A run ended without figures; the text says why, with the end of what the child printed."""


class TookTooLong(RunFailed):
    """A run was ended at its timeout."""


@attrs.frozen
class Request:
    target: str
    size: int
    folder: str
    capacity: int = 1_000
    pairs: int = 1
    size_bytes: int = 100
    busy: bool = False
    warm_up_size: int = 0
    pilot_s: float = 0.0  # above 0: not one run of `size`, but ever larger ones until one takes so long
    timeout_s: float = 60.0


def in_child(request: Request, *, killed: bool = False, python: str = sys.executable) -> dict[str, float]:
    """The figures of one run. Blocks until the child has ended, at most `timeout_s` and a little.

    Args:
        killed: the run is expected to end its own process with SIGKILL once it has left its figures.
        python: the interpreter that runs it.

    Raises:
        RunFailed: the run raised or ended early.
        TookTooLong: it did not end in time; with the stacks of its threads.
    """
    folder = Path(request.folder)
    answer, printed = folder / "answer.json", folder / "printed.txt"
    command = [python, "-m", "bench.child", json.dumps(attrs.asdict(request))]
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
        lines = printed.read_text(errors="replace").strip().splitlines()
        if code == -signal.SIGKILL or any(line.startswith("Timeout (") for line in lines):  # as faulthandler prints it
            raise TookTooLong("\n".join([f"did not end within {request.timeout_s:g} s", *lines[-40:]]))
        raise RunFailed("\n".join([_meaning(code), *lines[-40:]]))
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
        if request.pilot_s:
            return _pilot(contestant, request)
        if request.warm_up_size:
            contestant(request.warm_up_size, _options(request, folder / "warm-up"))
        result = contestant(request.size, _options(request, folder / "measured"))
    return result if isinstance(result, dict) else {"seconds": result}


def _pilot(contestant: Contestant, request: Request) -> dict[str, float]:
    """About how many messages a second, to choose the size of the real runs; every size starts from nothing."""
    size = request.size
    while True:
        seconds = contestant(size, _options(request, Path(request.folder, f"pilot-{size}")))
        if isinstance(seconds, dict):
            raise RunFailed(f"{request.target} brings several figures: there is nothing to pilot")
        if seconds >= request.pilot_s:
            return {"messages_per_s": size / seconds}
        size *= 2 if seconds > request.pilot_s / 4 else 8


def _options(request: Request, folder: Path) -> Options:
    return Options(_fresh(folder), request.capacity, request.pairs, request.size_bytes)


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

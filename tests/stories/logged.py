"""Runs a script with everything logged: `python logged.py app.py`. With `--no-commits` before the script, no commit ever ends."""

import logging
import runpy
import sys
import threading

from minions.flow.store import Store


def never_ends(*_: object) -> None:
    threading.Event().wait()


if __name__ == "__main__":
    # A line is one write, also where PYTHONUNBUFFERED is set: what is logged goes the same way, and must not come in its middle.
    sys.stdout.reconfigure(line_buffering=True, write_through=False)  # type: ignore[union-attr]
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    if "--no-commits" in sys.argv:
        Store.commit = never_ends  # type: ignore[method-assign, assignment]
    sys.argv[:] = sys.argv[-1:]
    runpy.run_path(sys.argv[0], run_name="__main__")

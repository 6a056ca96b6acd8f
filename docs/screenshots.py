"""Makes the pictures of the page about the command line: ``python docs/screenshots.py``.

They show ``minions demo`` while it runs. It reads several copies of Python's standard library, so that there is half a minute to
be looked at.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from minions.cli import status, top, why
from minions.cli.shown import rich_table
from minions.operate.client import Client

DOCS = Path(__file__).parent
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
COPIES = 20
SAMPLES_OF_STATUS, SAMPLES_OF_TOP = 15, 30  # as the commands show them
WAITING = "walker"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        first, *more = (folder / "files" / str(number) for number in range(COPIES))
        ignored = shutil.ignore_patterns("__pycache__", "site-packages", "config-*")
        shutil.copytree(STANDARD_LIBRARY, first, symlinks=True, ignore=ignored)
        for copy in more:
            shutil.copytree(first, copy, symlinks=True, copy_function=os.link)
        with demo(folder) as progress:
            take_pictures(folder, progress)


@contextmanager
def demo(folder: Path) -> Iterator[Iterator[str]]:
    """Runs ``minions demo`` below a folder. What it yields are the lines in which the demo says how far it is."""
    command = (sys.executable, "-m", "minions.cli", "demo", "files")
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            yield iter(process.stderr)
        finally:
            process.terminate()


def take_pictures(folder: Path, progress: Iterator[str]) -> None:
    """Looks at the demo whenever it says how far it is, and takes the pictures once there is something to be seen."""
    next(progress)
    with Client.connect(folder / "minions-demo" / ".minions") as client:
        history = top.History()
        for _ in progress:
            history.add(client.ask("status"), status.history_of(client, SAMPLES_OF_TOP), time.monotonic())
            if len(status.out_of(history.past, "reader.files")) == SAMPLES_OF_TOP:
                break
        else:
            sys.exit(f"the demo has ended before it was looked at for long enough: raise COPIES above {COPIES}")
        picture("top", "minions top --folder minions-demo", top.drawn(history))
        noted = status.history_of(client, SAMPLES_OF_STATUS)
        picture("status", "minions status --folder minions-demo", *drawn_status(client.ask("status"), noted))
        for _ in progress:
            [component] = client.ask("why", component=WAITING)["components"]
            if len(component["chain"]) > 1:
                break
        else:
            sys.exit(
                f"the demo has ended, and {WAITING} was never seen to wait for somebody: raise COPIES above {COPIES}"
            )
        text = "\n".join(why.lines_of(component))
        picture("why", f"minions why {WAITING} --folder minions-demo", Text(without_machine(text, folder)))


def drawn_status(found: dict[str, Any], noted: dict[str, Any]) -> tuple[object, ...]:
    """What ``minions status`` shows, as objects of rich's."""
    components = [status.component_row(component) for component in found["components"]]
    inboxes = [status.inbox_row(name, inbox, status.out_of(noted, name)) for name, inbox in found["inboxes"].items()]
    tables = (rich_table(status.COMPONENTS, components), rich_table(status.INBOXES, inboxes))
    return (Text(status.headline(found)), *tables)


def without_machine(text: str, folder: Path) -> str:
    """The text without the folders of the machine that it comes from."""
    for path, instead in ((folder, ""), (DOCS.parent, ""), (STANDARD_LIBRARY.parent, "")):
        text = text.replace(f"{path}{os.sep}", instead)
    return text


def picture(name: str, title: str, *shown: object) -> None:
    """Saves what rich shows as a picture."""
    console = Console(record=True, width=134, file=io.StringIO(), force_terminal=True)
    for each in shown:
        console.print(each)
    path = DOCS / f"cli-{name}.svg"
    console.save_svg(str(path), title=title, unique_id=name)
    path.write_text(
        "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()

"""Every Python block of README.md and docs/ is a test: those of one page run in order, in a module of their own."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import settings
from sybil import Document, Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# How long one example may take says more of what else the machine does; a test that hangs meets the timeout of all.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


class Page(Document):
    """A page whose blocks share one importable module, as the code of one script does.

    Classes are looked up by their module (by cattrs for their annotations, by the codec for their names), so the
    namespace of a page has to be a real one. Its `__name__` is not `__main__`: a main guard does not run.
    """

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text, path)
        name = "page_" + Path(path).stem.lower().replace("-", "_")
        module = ModuleType(name, doc=f"The Python blocks of {path}.")
        sys.modules[name] = module
        self.namespace = vars(module)


def enter_empty_folder(namespace: dict[str, Any]) -> None:
    """What a page writes, its `.minions/` included, goes to a folder that is thrown away."""
    cleanup = namespace["cleanup_of_page"] = contextlib.ExitStack()
    folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="minions-docs-"))
    cleanup.enter_context(contextlib.chdir(folder))
    namespace["__file__"] = str(Path(folder, namespace["__name__"] + ".py"))


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and remove what the page wrote."""
    namespace.pop("cleanup_of_page").close()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    document_types={".md": Page},
    setup=enter_empty_folder,
    teardown=leave_folder,
).pytest()

"""Every Python block of README.md, docs/ and the README.md of each plugin is a test: those of one page run in order, in a module
of their own. What such a README says for minions.toml has to be what the plugin takes.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import tempfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

from hypothesis import settings
from sybil import Document, Example, Sybil
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser, SkipParser

_PLUGINS = {
    "minions-opentelemetry": "opentelemetry.sdk",
    "minions-plugin-template": "",
    "minions-prometheus": "prometheus_client",
    "minions-systemd": "",
}
"""Each plugin, and the library without which its page is left out."""

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
        self.folder = Path(path).absolute().parent
        page = f"{self.folder.name}_{Path(path).stem}" if self.folder.name in _PLUGINS else Path(path).stem
        name = "page_" + page.lower().replace("-", "_")
        module = ModuleType(name, doc=f"The Python blocks of {path}.")
        sys.modules[name] = module
        self.namespace = vars(module)
        self.namespace["folder_of_page"] = self.folder


def enter_empty_folder(namespace: dict[str, Any]) -> None:
    """What a page writes, its `.minions/` included, goes to a folder that is thrown away."""
    cleanup = namespace["cleanup_of_page"] = contextlib.ExitStack()
    folder = cleanup.enter_context(tempfile.TemporaryDirectory(prefix="minions-docs-"))
    cleanup.enter_context(contextlib.chdir(folder))
    namespace["__file__"] = str(Path(folder, namespace["__name__"] + ".py"))
    if namespace["folder_of_page"].name in _PLUGINS:  # so that it runs where the package is not installed
        sys.path.insert(0, str(namespace["folder_of_page"]))
        cleanup.callback(sys.path.remove, str(namespace["folder_of_page"]))


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and remove what the page wrote."""
    namespace.pop("cleanup_of_page").close()


def has(library: str) -> bool:
    """Whether a library can be imported."""
    try:
        return not library or importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:  # what it is in is not there either
        return False


def take_settings(example: Example) -> None:
    """Looks whether each table of a plugin says what there is to be set, and each value is of the kind of the one by default."""
    for name, table in tomllib.loads(example.parsed).get("plugins", {}).items():
        if isinstance(table, dict):
            default = importlib.import_module(f"minions_{name}").Settings()
            for key, value in table.items():
                assert isinstance(value, type(getattr(default, key)) | None), f"{name}.{key} = {value!r}"


pages = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    excludes=["contrib/*/README.md"],
    document_types={".md": Page},
    setup=enter_empty_folder,
    teardown=leave_folder,
)
pages_of_plugins = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("toml", take_settings)],
    patterns=[f"contrib/{plugin}/README.md" for plugin, library in _PLUGINS.items() if has(library)],
    document_types={".md": Page},
    setup=enter_empty_folder,
    teardown=leave_folder,
)
pytest_collect_file = (pages + pages_of_plugins).pytest()

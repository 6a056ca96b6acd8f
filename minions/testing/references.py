"""How one process says to another, without pickling anything, what both can import: a module, its file, and a name in it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from minions.errors import UsageError

__all__ = ["Reference"]

_MAIN = "__main__"
_LOADED_MAIN = "__minions_main__"  # so that a main guard in it does not run


@attrs.frozen
class Reference:
    """Something at the top of a module.

    Attributes:
        module: its name.
        file: where it is.
        name: of the thing, in the module.
    """

    module: str
    file: str
    name: str

    @classmethod
    def of(cls, thing: object, modules: Iterable[str]) -> Reference | None:
        """The reference to a thing; None where another process could not follow one.

        Args:
            modules: the names of modules in which it may have a name, beside that which it names itself.
        """
        said = getattr(thing, "__module__", None), getattr(thing, "__qualname__", "")
        for name, called in (said, *((module, "") for module in modules)):
            module = sys.modules.get(name) if isinstance(name, str) else None
            file = getattr(module, "__file__", None)
            if module is None or not file or not Path(file).is_file():
                continue
            path = called if called and _found(module, called) is thing else _name_of(thing, module)
            if path:
                return cls(module.__name__, str(Path(file).absolute()), path)
        return None

    def thing(self) -> Any:
        """What it refers to, in this process; the module is imported where it is not.

        Raises:
            UsageError: there is no such thing here.
        """
        module = self._module()
        try:
            return attrgetter(self.name)(module)
        except AttributeError as error:
            raise UsageError(f"{self.file} has no {self.name!r} when it is imported by another process") from error

    def _module(self) -> ModuleType:
        name = _LOADED_MAIN if self.module == _MAIN else self.module
        loaded = sys.modules.get(name)
        if loaded is not None:
            return loaded
        if name != _LOADED_MAIN:
            try:
                module = importlib.import_module(name)
            except ImportError:
                pass  # a test that pytest has loaded from its file
            else:
                if Path(module.__file__ or "").absolute() == Path(self.file):
                    return module
        spec = importlib.util.spec_from_file_location(name, self.file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{self.file} cannot be imported by another process")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def _found(module: ModuleType, path: str) -> object:
    try:
        return attrgetter(path)(module)
    except AttributeError:
        return None


def _name_of(thing: object, module: ModuleType) -> str:
    return next((name for name, value in vars(module).items() if value is thing), "")

"""Whether an object can stand in for one of a class, as far as its methods tell. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minions.model.component import Component
from minions.model.declaration import FRAMEWORK_NAMES, HOOKS
from minions.model.ports import type_name

__all__ = ["misfit"]


def misfit(fake: object, kind: type) -> str:
    """Why an object cannot stand in for one of a class; empty where it can."""
    if isinstance(fake, type):
        return f"it is a class: give an object, {fake.__qualname__}()"
    if isinstance(fake, kind):
        return ""
    of_runtime = (*FRAMEWORK_NAMES, *HOOKS) if issubclass(kind, Component) else ()
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if name.startswith("_") or name in of_runtime:
            continue
        own = getattr(fake, name, None)
        if not callable(own):
            return f"it has no method {name}(); give it one, or make it of a subclass of {type_name(kind)}"
        is_static = isinstance(inspect.getattr_static(kind, name), staticmethod)
        if problem := _other_arguments(method, own, bound=not is_static):
            return f"{name}{problem}"
    return ""


def _other_arguments(method: Callable[..., Any], own: Callable[..., Any], *, bound: bool) -> str:
    """How the arguments of a method differ from those of the one that it stands for; empty where it takes all of them."""
    try:
        wanted = list(inspect.signature(method).parameters.values())[bound:]  # without `self`
        taken = inspect.signature(own)
        taken.bind(
            *(None for each in wanted if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)),
            **{each.name: None for each in wanted if each.kind is each.KEYWORD_ONLY},
        )
    except ValueError:
        return ""  # it does not tell
    except TypeError as error:
        return f"{inspect.signature(own)} does not take what {method.__qualname__}() is given: {error}"
    return ""
